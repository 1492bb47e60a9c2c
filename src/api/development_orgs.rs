//! `/orgs/{orgId}/development`: whether an org is for development, as its operator says.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Turns};
use super::extract::{Json, Path, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::refused;
use super::problem::Problem;
use super::state::ApiState;
use crate::identifier::OrgId;
use crate::webhook::own::{DevelopmentChanged, DevelopmentMark};

/// The routes of orgs for development.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(read, set))
}

/// Whether an org is to be for development.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DevelopmentRequest {
    /// True: its own webhooks may call private addresses, by plain http too, and pin a certificate
    /// that signed itself.
    is_development: bool,
}

/// Whether an org is for development.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DevelopmentBody {
    /// The org.
    org_id: String,
    /// Whether it is.
    is_development: bool,
    /// Who marked it.
    marked_by: Option<String>,
    /// When.
    marked_time: Option<String>,
    /// The webhooks that this change switched off, since their addresses are not allowed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<Vec<Uuid>>,
}

impl DevelopmentBody {
    fn new(org: &OrgId, mark: Option<DevelopmentMark>, disabled: Option<Vec<Uuid>>) -> Self {
        Self {
            org_id: org.to_string(),
            is_development: mark.is_some(),
            marked_time: mark.as_ref().map(|mark| mark.marked_at.rfc3339()),
            marked_by: mark.map(|mark| mark.marked_by),
            disabled,
        }
    }
}

/// Says whether an org is for development.
#[utoipa::path(
    get, path = "/api/v1/orgs/{orgId}/development", tag = "webhooks", params(("orgId" = String, Path)),
    responses((status = 200, description = "Whether it is", body = DevelopmentBody), (status = 404, description = "Another org"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(org): Path<OrgId>,
) -> Result<Response, Problem> {
    if caller.org.as_ref().is_some_and(|own| *own != org) {
        return Err(Problem::not_found("org"));
    }
    let mark = state.services()?.own_webhooks.development(org.as_str()).await?;
    Ok(json_response(StatusCode::OK, &DevelopmentBody::new(&org, mark, None)))
}

/// Marks an org as being for development, or lifts that: then the own webhooks that may not be called
/// any more are switched off, with a notice each.
#[utoipa::path(
    put, path = "/api/v1/orgs/{orgId}/development", tag = "webhooks", params(("orgId" = String, Path)),
    request_body = DevelopmentRequest,
    responses((status = 200, description = "As it is now, and what was switched off", body = DevelopmentBody))
)]
async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    Path(org): Path<OrgId>,
    Json(request): Json<DevelopmentRequest>,
) -> Result<Response, Problem> {
    let mut turns = Turns::default();
    loop {
        let done = set_once(&state, &caller, &org, request.is_development).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn set_once(
    state: &ApiState,
    caller: &Caller,
    org: &OrgId,
    is_development: bool,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let own = &services.own_webhooks;
    let set = own.set_development(&mut work, org.as_str(), is_development, &caller.actor()).await;
    let DevelopmentChanged { mark, disabled } = match set {
        Ok(set) => set,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let body = DevelopmentBody::new(org, mark, Some(disabled));
    Effect::default().finish(state, work, StatusCode::OK, &body).await
}
