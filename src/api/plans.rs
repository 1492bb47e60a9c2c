//! `/orgs/{orgId}/plan`: what an org may have of its own.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Turns};
use super::extract::{Json, Path, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::own_webhooks::refused;
use super::problem::{FieldError, Problem};
use super::state::ApiState;
use crate::dialect::Dialect;
use crate::identifier::OrgId;
use crate::webhook::own::{Plan, PlanChanged, PlanRequest, PlanUse};

/// The routes of plans.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(read, set))
}

/// What an org may have of its own, and what it has. Extensions' webhooks count in none of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlanBody {
    /// The org.
    org_id: String,
    /// How many own webhooks.
    webhooks: u32,
    /// How many of them for one event.
    webhooks_per_event: u32,
    /// How many deliveries of one own webhook begin in a minute; null where there is no limit.
    invocations_per_minute: Option<u32>,
    /// The dialects; null where all are allowed.
    dialects: Option<Vec<&'static str>>,
    /// Whether the org is for development: see `/orgs/{orgId}/development`.
    is_development: bool,
    /// How much of it is used.
    used: UsedBody,
    /// The webhooks that this change switched off, since there is no room for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<Vec<Uuid>>,
}

/// How much of a plan is used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UsedBody {
    /// Own webhooks, those that are switched off too.
    webhooks: u32,
    /// Those that are switched on.
    enabled: u32,
    /// For each event, as `dialect:name`, how many webhooks are for it.
    per_event: BTreeMap<String, u32>,
}

impl PlanBody {
    fn new(
        org: &OrgId,
        plan: Plan,
        used: PlanUse,
        is_development: bool,
        disabled: Option<Vec<Uuid>>,
    ) -> Self {
        Self {
            org_id: org.to_string(),
            webhooks: plan.webhooks,
            webhooks_per_event: plan.webhooks_per_event,
            invocations_per_minute: plan.invocations_per_minute,
            dialects: plan
                .dialects
                .map(|dialects| dialects.into_iter().map(Dialect::as_str).collect()),
            is_development,
            used: UsedBody {
                webhooks: used.webhooks,
                enabled: used.enabled,
                per_event: used.per_event,
            },
            disabled,
        }
    }
}

/// Reads the plan of an org.
#[utoipa::path(
    get, path = "/api/v1/orgs/{orgId}/plan", tag = "webhooks", params(("orgId" = String, Path)),
    responses((status = 200, description = "The plan", body = PlanBody), (status = 404, description = "Another org"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(org): Path<OrgId>,
) -> Result<Response, Problem> {
    if caller.org.as_ref().is_some_and(|own| *own != org) {
        return Err(Problem::not_found("org"));
    }
    let own = &state.services()?.own_webhooks;
    let (plan, used) = own.plan(org.as_str()).await?;
    let is_development = own.development(org.as_str()).await?.is_some();
    let body = PlanBody::new(&org, plan, used, is_development, None);
    Ok(json_response(StatusCode::OK, &body))
}

/// Sets the plan of an org, as a whole. What it leaves no room for is switched off: the newest own
/// webhooks first, with a notice each, and never an extension's.
#[utoipa::path(
    put, path = "/api/v1/orgs/{orgId}/plan", tag = "webhooks", params(("orgId" = String, Path)),
    request_body = PlanRequest,
    responses((status = 200, description = "The plan, and what it switched off", body = PlanBody))
)]
async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    Path(org): Path<OrgId>,
    Json(request): Json<PlanRequest>,
) -> Result<Response, Problem> {
    let wanted = request
        .check()
        .map_err(|faults| Problem::invalid(faults.into_iter().map(FieldError::from)))?;
    let mut turns = Turns::default();
    loop {
        let done = set_once(&state, &caller, &org, &wanted).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn set_once(
    state: &ApiState,
    caller: &Caller,
    org: &OrgId,
    wanted: &Plan,
) -> Result<Response, Problem> {
    let services = state.services()?;
    let mut work = services.lifecycle.begin().await?;
    let set = services
        .own_webhooks
        .set_plan(&mut work, org.as_str(), wanted.clone(), &caller.actor())
        .await;
    let PlanChanged { plan, used, disabled } = match set {
        Ok(set) => set,
        Err(refusal) => return Err(refused(work, refusal).await),
    };
    let is_development = services.own_webhooks.development(org.as_str()).await?.is_some();
    let body = PlanBody::new(org, plan, used, is_development, Some(disabled));
    Effect::default().finish(state, work, StatusCode::OK, &body).await
}
