//! `/webhooks/{id}/secret`: another signing secret for an own webhook.

use std::time::Duration;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::refused;
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use super::webhooks::changeable;
use crate::crypto::SecretText;
use crate::dialect::Dialect;
use crate::identifier::WebhookId;
use crate::webhook::own::{LONGEST_OVERLAP, SecretRotated};

/// The routes of signing secrets.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(rotate))
}

/// Which secret, and how it takes the place of the present one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateSecretRequest {
    /// What signs from now on: 1 to 256 bytes, or `whsec_…`. Made, and told once, where it is left
    /// out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    secret: Option<SecretText>,
    /// For how long the former secret signs too; a day where it is left out, 30 days at the most. Zero
    /// ends all former ones at once.
    #[serde(default = "one_day")]
    overlap_seconds: u64,
}

const fn one_day() -> u64 {
    24 * 60 * 60
}

/// A secret that took the place of another.
#[derive(Debug, Serialize, ToSchema)]
struct RotatedSecretBody {
    /// What it signs with from now on, where that was made here: told once, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Former secrets that sign a while longer.
    expiring: Vec<ExpiringSecretBody>,
    /// What is worth knowing: which headers have room for one signature, and so switched at once.
    warnings: Vec<String>,
}

/// A former secret.
#[derive(Debug, Serialize, ToSchema)]
struct ExpiringSecretBody {
    /// Until when it signs.
    until: String,
}

/// The header of a dialect that has room for one signature.
const fn single_header(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::Zendesk => Some("X-Zendesk-Webhook-Signature"),
        Dialect::Dzdesk => Some("X-DZDESK-Signature"),
        Dialect::Desk | Dialect::Standard | Dialect::Assist => None,
    }
}

impl From<SecretRotated> for RotatedSecretBody {
    fn from(rotated: SecretRotated) -> Self {
        let header = single_header(rotated.dialect).filter(|_| !rotated.expiring.is_empty());
        let warnings = header.map(|header| {
            format!(
                "{header} has room for one signature: it is made with the new secret from now on. \
                 `webhook-signature` has one of each."
            )
        });
        Self {
            secret: rotated.secret.map(|secret| secret.expose().to_owned()),
            expiring: rotated
                .expiring
                .into_iter()
                .map(|until| ExpiringSecretBody { until: until.rfc3339() })
                .collect(),
            warnings: warnings.into_iter().collect(),
        }
    }
}

/// Has an own webhook sign with another secret. The former one signs beside it for a while, so that the
/// receiver can be told of the new one meanwhile.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/secret", tag = "webhooks", params(("id" = String, Path)),
    request_body = RotateSecretRequest,
    responses(
        (status = 200, description = "It signs with the new one; told once where it was made", body = RotatedSecretBody),
        (status = 403, description = "The webhook belongs to an extension"),
        (status = 404, description = "No such webhook"),
        (status = 409, description = "Too many former secrets sign still"),
    )
)]
async fn rotate(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    changeable(&state, &caller, id, "rotate-secret").await?;
    let request = Idempotent::<RotateSecretRequest>::from_request(request, &state).await?;
    let RotateSecretRequest { secret, overlap_seconds } = request.value;
    let overlap = Duration::from_secs(overlap_seconds);
    if overlap > LONGEST_OVERLAP {
        let message = "must be at most 2592000 (30 days)";
        let error = FieldError::new("/overlapSeconds", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![error]));
    }
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = rotate_once(&state, &caller, id, secret.clone(), overlap, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn rotate_once(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
    secret: Option<SecretText>,
    overlap: Duration,
    effect: &Effect,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let own = &services.own_webhooks;
    let rotated = own.rotate_secret(&mut work, id.0, secret, overlap, &caller.actor()).await;
    let rotated = match rotated {
        Ok(rotated) => rotated,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    effect.finish(state, work, StatusCode::OK, &RotatedSecretBody::from(rotated)).await
}
