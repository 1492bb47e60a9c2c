//! The platform's signing keys over HTTP: an operator sees and rotates them.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::access::Caller;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Json, Path};
use super::openapi::ApiRouter;
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::crypto::{
    KeyStoreError, NewSigningKey, SigningKeyView, SigningPurpose, rotate_signing_key,
};

/// The longest time for which former keys stay published, in seconds.
pub(crate) const LONGEST_OVERLAP: u64 = 30 * 24 * 60 * 60;

/// The routes of keys.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rotate))
}

/// A signing key; its public half is at `/.well-known/jwks.json`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyBody {
    /// `jwt` (`X-ZDesk-JWT`) or `ed25519` (`v1a`).
    pub(crate) purpose: String,
    /// Its `kid`.
    pub(crate) key_id: String,
    /// When it was made.
    pub(crate) created_time: String,
    /// Until when it is published; null for the one that signs.
    pub(crate) expires_time: Option<String>,
}

impl From<SigningKeyView> for KeyBody {
    fn from(view: SigningKeyView) -> Self {
        Self {
            purpose: view.purpose.as_str().to_owned(),
            key_id: view.key_id,
            created_time: view.created_at.rfc3339(),
            expires_time: view.expires_at.map(crate::seam::Timestamp::rfc3339),
        }
    }
}

/// The live signing keys.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysBody {
    /// The newest of each purpose first.
    pub(crate) data: Vec<KeyBody>,
    /// Always null: there are never many.
    #[schema(value_type = Option<String>)]
    pub(crate) next_cursor: Option<String>,
}

/// List the platform's signing keys
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys", responses((status = 200, body = KeysBody))
)]
async fn list(State(state): State<ApiState>) -> Json<KeysBody> {
    let views = state.keys().signing.views(state.seam().clock.now());
    Json(KeysBody { data: views.into_iter().map(KeyBody::from).collect(), next_cursor: None })
}

/// How a key is rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateKeyRequest {
    /// For how long former keys stay published; a day where it is left out, 30 days at the most. With
    /// 0 they end at once, and what they signed does not count any more.
    #[serde(default = "one_day")]
    overlap_seconds: u64,
}

const fn one_day() -> u64 {
    24 * 60 * 60
}

/// What a rotation came to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RotatedBody {
    /// The purpose.
    pub(crate) purpose: String,
    /// The `kid` of the key that signs now.
    pub(crate) key_id: String,
    /// Until when the former ones are published.
    pub(crate) former_until: String,
}

/// Replace a signing key
///
/// When the answer is there, every node signs with the new key and publishes it. The former ones
/// stay published through the overlap.
#[utoipa::path(
    post, path = "/api/v1/keys/{purpose}/rotate", tag = "keys",
    params(("purpose" = String, Path, description = "`jwt` or `ed25519`")),
    request_body = RotateKeyRequest,
    responses((status = 200, body = RotatedBody), (status = 404, description = "No such purpose"))
)]
async fn rotate(
    State(state): State<ApiState>,
    caller: Caller,
    Path(purpose): Path<String>,
    request: Idempotent<RotateKeyRequest>,
) -> Result<Response, Problem> {
    let purpose: SigningPurpose =
        purpose.parse().map_err(|_| Problem::not_found("purpose of signing keys"))?;
    if request.value.overlap_seconds > LONGEST_OVERLAP {
        let message = "must be at most 2592000 (30 days)";
        let error = FieldError::new("/overlapSeconds", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![error]));
    }
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let overlap = Duration::from_secs(request.value.overlap_seconds);
    let new = NewSigningKey::generate(purpose, state.seam()).await?;
    let mut work = state.services()?.lifecycle.begin().await?;
    let now = state.seam().clock.now();
    let rotated = rotate_signing_key(
        &mut work,
        state.keys(),
        &new,
        overlap,
        &caller.actor(),
        now,
        state.seam(),
    )
    .await?;
    let body = RotatedBody {
        purpose: purpose.as_str().to_owned(),
        key_id: rotated.key_id,
        former_until: rotated.former_until.rfc3339(),
    };
    effect.finish(&state, work, StatusCode::OK, &body).await
}

impl From<KeyStoreError> for Problem {
    fn from(error: KeyStoreError) -> Self {
        match error {
            KeyStoreError::Store(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}
