//! The platform's keys over HTTP: an operator sees and rotates them.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Json, Path};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::crypto::{
    DataKeyView, KeyStoreError, NewSigningKey, Purpose, SigningKeyView, SigningPurpose, data_keys,
    rotate_signing_key,
};
use crate::rotation::{RotationError, RotationState, RotationView};
use crate::seam::Timestamp;

/// The longest time for which former keys stay published, in seconds.
pub(crate) const LONGEST_OVERLAP: u64 = 30 * 24 * 60 * 60;

/// The longest time for which a securityContext of a former key opens, in seconds.
pub(crate) const LONGEST_CONTEXT_OVERLAP: u64 = 365 * 24 * 60 * 60;

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
            expires_time: view.expires_at.map(Timestamp::rfc3339),
        }
    }
}

/// A data key. It seals what is kept, and never leaves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DataKeyBody {
    /// `vault`, `securityContext` or `answers`.
    pub(crate) purpose: String,
    /// Its number; a later key has a higher one.
    pub(crate) key_id: u32,
    /// When it was made.
    pub(crate) created_time: String,
    /// `seals` for the one that seals, `opens` for an older one, `introduced` for one that is being made
    /// known.
    pub(crate) state: String,
    /// For an older key: how many values are to be looked at still before it goes. Null for the others,
    /// where that is not counted yet, and for `securityContext`, which is not stored.
    pub(crate) rows_left: Option<i64>,
}

/// A rotation of a data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RotationBody {
    /// `vault`, `securityContext` or `answers`.
    pub(crate) purpose: String,
    /// The new key.
    pub(crate) key_id: u32,
    /// `introducing`, `resealing`, `overlapping`, `retiring` or `done`.
    pub(crate) state: String,
    /// How many sealed values there were to look at; null where they are not counted yet.
    pub(crate) total: Option<i64>,
    /// How many were looked at.
    pub(crate) processed: i64,
    /// How many were sealed anew.
    pub(crate) resealed: i64,
    /// How many do not open. As long as there are any, the old key is kept.
    pub(crate) unreadable: i64,
    /// What it waits for.
    pub(crate) reason: Option<String>,
    /// When it began.
    pub(crate) created_time: String,
    /// Since when the new key seals.
    pub(crate) activated_time: Option<String>,
    /// Until when a `securityContext` of the old key opens.
    pub(crate) overlap_until: Option<String>,
    /// When nothing was left of the old key.
    pub(crate) finished_time: Option<String>,
}

impl From<&RotationView> for RotationBody {
    fn from(view: &RotationView) -> Self {
        Self {
            purpose: view.purpose.as_str().to_owned(),
            key_id: view.key_id.0,
            state: view.state.name().to_owned(),
            total: view.total,
            processed: view.processed,
            resealed: view.resealed,
            unreadable: view.unreadable,
            reason: view.reason.clone(),
            created_time: view.created_at.rfc3339(),
            activated_time: view.activated_at.map(Timestamp::rfc3339),
            overlap_until: view.overlap_until.map(Timestamp::rfc3339),
            finished_time: view.finished_at.map(Timestamp::rfc3339),
        }
    }
}

/// The data keys with what their rotations say of them.
pub(crate) fn data_key_bodies(
    keys: &[DataKeyView],
    rotations: &[RotationView],
) -> Vec<DataKeyBody> {
    let body = |key: &DataKeyView| {
        let newest = keys.iter().find(|one| one.purpose == key.purpose && one.seals);
        let is_newest = newest.is_some_and(|newest| newest.id == key.id);
        let state = match (is_newest, key.seals) {
            (true, _) => "seals",
            (false, true) => "opens",
            (false, false) => "introduced",
        };
        let rotation = rotations.iter().find(|one| {
            one.purpose == key.purpose && one.key_id > key.id && one.state != RotationState::Done
        });
        let rows_left = rotation
            .filter(|one| one.purpose != Purpose::SecurityContext)
            .and_then(|one| Some((one.total? - one.processed).max(one.unreadable)));
        DataKeyBody {
            purpose: key.purpose.as_str().to_owned(),
            key_id: key.id.0,
            created_time: key.created_at.rfc3339(),
            state: state.to_owned(),
            rows_left,
        }
    };
    keys.iter().map(body).collect()
}

/// The live signing keys, the data keys, and the last rotations of these.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysBody {
    /// The newest of each purpose first.
    pub(crate) data: Vec<KeyBody>,
    /// Always null: there are never many.
    #[schema(value_type = Option<String>)]
    pub(crate) next_cursor: Option<String>,
    /// The data keys, the newest of each purpose first.
    pub(crate) data_keys: Vec<DataKeyBody>,
    /// The last rotations of data keys, the newest first.
    pub(crate) rotations: Vec<RotationBody>,
}

/// List signing keys and data keys, and rotations with their progress
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys", responses((status = 200, body = KeysBody))
)]
async fn list(State(state): State<ApiState>) -> Result<Json<KeysBody>, Problem> {
    let views = state.keys().signing.views(state.seam().clock.now());
    let rotations = state.services()?.rotations.list().await?;
    let keys = data_keys(state.store()).await?;
    Ok(Json(KeysBody {
        data: views.into_iter().map(KeyBody::from).collect(),
        next_cursor: None,
        data_keys: data_key_bodies(&keys, &rotations),
        rotations: rotations.iter().map(RotationBody::from).collect(),
    }))
}

/// How a key is rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateKeyRequest {
    /// For how long former keys count. Signing keys stay published: a day where it is left out, 30 days
    /// at the most. A `securityContext` of the former key opens: 30 days where it is left out, 365 at the
    /// most. With 0 they end at once. Other data keys have none: what they sealed is sealed anew.
    overlap_seconds: Option<u64>,
}

/// The overlap of signing keys where nobody says otherwise, in seconds.
const ONE_DAY: u64 = 24 * 60 * 60;

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

/// Replace a signing key, or a data key with all that it sealed
///
/// Signing keys: when the answer is there, every node signs with the new key and publishes it. The
/// former ones stay published through the overlap.
///
/// Data keys: the answer is the rotation, which goes on by itself; `GET /keys` shows how far it is. While
/// one of the purpose runs, it is that one, and a shorter overlap counts from then on.
#[utoipa::path(
    post, path = "/api/v1/keys/{purpose}/rotate", tag = "keys",
    params(("purpose" = String, Path, description = "`jwt` or `ed25519`; `vault`, `securityContext` or `answers`")),
    request_body = RotateKeyRequest,
    responses(
        (status = 200, body = RotatedBody), (status = 202, body = RotationBody),
        (status = 404, description = "No such purpose")
    )
)]
async fn rotate(
    State(state): State<ApiState>,
    caller: Caller,
    Path(purpose): Path<String>,
    request: Idempotent<RotateKeyRequest>,
) -> Result<Response, Problem> {
    if let Ok(purpose) = purpose.parse::<Purpose>() {
        return rotate_data_key(&state, &caller, purpose, request).await;
    }
    let purpose: SigningPurpose =
        purpose.parse().map_err(|_| Problem::not_found("purpose of keys"))?;
    let overlap = request.value.overlap_seconds.unwrap_or(ONE_DAY);
    if overlap > LONGEST_OVERLAP {
        return Err(unfit_overlap("must be at most 2592000 (30 days)"));
    }
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let overlap = Duration::from_secs(overlap);
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

async fn rotate_data_key(
    state: &ApiState,
    caller: &Caller,
    purpose: Purpose,
    request: Idempotent<RotateKeyRequest>,
) -> Result<Response, Problem> {
    let overlap = request.value.overlap_seconds;
    match purpose {
        Purpose::SecurityContext if overlap.is_some_and(|span| span > LONGEST_CONTEXT_OVERLAP) => {
            return Err(unfit_overlap("must be at most 31536000 (365 days)"));
        }
        Purpose::Vault | Purpose::Answers if overlap.is_some() => {
            let message = "is for signing keys and securityContext only: what this key sealed is \
                           sealed anew";
            return Err(unfit_overlap(message));
        }
        _ => {}
    }
    let effect = match Effect::start(state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let overlap = overlap.map(Duration::from_secs);
    let rotation = services.rotations.start(&mut work, purpose, overlap, &caller.actor()).await?;
    let body = RotationBody::from(&rotation);
    let answer = effect.finish(state, work, StatusCode::ACCEPTED, &body).await;
    services.rotations.poke();
    answer
}

fn unfit_overlap(message: &str) -> Problem {
    let error = FieldError::new("/overlapSeconds", FieldErrorKind::Invalid, message);
    Problem::invalid(vec![error])
}

impl From<RotationError> for Problem {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Store(error) => error.into(),
            RotationError::Keys(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<KeyStoreError> for Problem {
    fn from(error: KeyStoreError) -> Self {
        match error {
            KeyStoreError::Store(error) => error.into(),
            // The operator put another file there, or not yet the one that wraps the keys now.
            KeyStoreError::OtherMasterKey { .. } => {
                Self::new(Code::StateConflict).detail(error.to_string())
            }
            other => Self::internal(&other),
        }
    }
}
