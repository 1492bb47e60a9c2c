//! `/reconcile`, `/doctor` and `/hold`: the operator looks whether everything is as it should be.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Json, Query};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::audit::{AuditPosition, NoAuditPosition};
use crate::doctor::{self, AuditStretch, Check};
use crate::lifecycle::{NoPosition, PassLimits, PassPosition, Report, last_report};
use crate::store::hold;

/// How long a pass may take that somebody waits for: less than callers wait at the most.
const PASS_LIMIT: Duration = Duration::from_secs(20);

/// The routes of this file.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(last))
        .routes(routes!(reconcile))
        .routes(routes!(examine))
        .routes(routes!(release))
}

fn faulty(field: &'static str, message: String) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

/// What the last kept pass found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LastBody {
    /// Who asked for it: `system:reconciler` for the periodic one.
    requested_by: Option<String>,
    /// The report; null where there was no pass yet.
    report: Option<Report>,
    /// Since when all deliveries are held, where they are: a backup was restored.
    held_since: Option<String>,
}

/// What the last comparison found
///
/// Of the periodic passes and of those that were allowed to repair; a dry run keeps nothing.
#[utoipa::path(
    get, path = "/api/v1/reconcile", tag = "operation",
    responses((status = 200, body = LastBody))
)]
async fn last(State(state): State<ApiState>) -> Result<Json<LastBody>, Problem> {
    let (requested_by, report) = last_report(state.store()).await?.unzip();
    let held_since = hold::held(state.store()).await?.map(|hold| hold.since().rfc3339());
    Ok(Json(LastBody { requested_by, report, held_since }))
}

/// How to compare.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReconcileRequest {
    /// Whether to repair what is found; otherwise nothing is written.
    #[serde(default)]
    repair: bool,
    /// The `next` of a pass that did not come to the end.
    #[serde(default)]
    after: Option<String>,
}

/// Compare what is there with what should be
///
/// Webhooks, tokens, secrets, states and queued deliveries of every installation. Repairs are in
/// place, one installation at a time, with history and audit. A pass takes 20 s at the most; one that
/// did not come to the end says where to go on.
#[utoipa::path(
    post, path = "/api/v1/reconcile", tag = "operation", request_body = ReconcileRequest,
    responses((status = 200, body = Report))
)]
async fn reconcile(
    State(state): State<ApiState>,
    caller: Caller,
    request: Idempotent<ReconcileRequest>,
) -> Result<Response, Problem> {
    let after = match &request.value.after {
        Some(text) => {
            text.parse().map_err(|error: NoPosition| faulty("after", error.to_string()))?
        }
        None => PassPosition::default(),
    };
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let limits = PassLimits { time: Some(PASS_LIMIT), pause: Duration::ZERO, after };
    let actor = caller.actor();
    let report = if request.value.repair {
        services.reconciler.kept_pass(&actor, limits).await?
    } else {
        services.reconciler.pass(false, &actor, limits).await?
    };
    let work = services.lifecycle.begin().await?;
    effect.finish(&state, work, StatusCode::OK, &report).await
}

/// What the doctor found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DoctorBody {
    /// The single checks.
    pub(crate) checks: Vec<Check>,
    /// How many chains of the audit were read to their end.
    pub(crate) audit_chains: u64,
    /// Where the check of the audit goes on: give it as `auditAfter`. Null where all was read.
    pub(crate) audit_next: Option<String>,
}

/// How the audit is read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DoctorQuery {
    /// The `auditNext` of an answer: goes on with the check of the audit, and checks nothing else.
    audit_after: Option<String>,
    /// How many links of the audit are read at the most, 1 to 100000.
    audit_links: Option<u64>,
}

/// Check configuration, database, keys, clock, nodes and audit
///
/// Of a long audit an answer reads as much as it has time for: `auditNext` goes on.
#[utoipa::path(
    get, path = "/api/v1/doctor", tag = "operation", params(DoctorQuery),
    responses((status = 200, body = DoctorBody))
)]
async fn examine(
    State(state): State<ApiState>,
    Query(query): Query<DoctorQuery>,
) -> Result<Json<DoctorBody>, Problem> {
    let links = query.audit_links.unwrap_or(doctor::MOST_LINKS);
    if !(1..=doctor::MOST_LINKS).contains(&links) {
        let message = format!("auditLinks may be 1 to {}", doctor::MOST_LINKS);
        return Err(faulty("auditLinks", message));
    }
    let (checks, stretch) = if let Some(text) = &query.audit_after {
        let after: AuditPosition = text
            .parse()
            .map_err(|error: NoAuditPosition| faulty("auditAfter", error.to_string()))?;
        doctor::examine_audit(state.store(), state.seam(), &after, links).await
    } else {
        let (config, store, seam) = (state.config(), state.store(), state.seam());
        doctor::examine_briefly(config, store, seam, links).await
    };
    let AuditStretch { chains: audit_chains, next: audit_next } = stretch;
    Ok(Json(DoctorBody { checks, audit_chains, audit_next }))
}

/// Nothing is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReleaseRequest {}

/// Whether something was held.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReleasedBody {
    /// Whether deliveries were held until now.
    pub(crate) released: bool,
}

/// Let deliveries go that a restored backup holds
///
/// Every node delivers within a second or two.
#[utoipa::path(
    post, path = "/api/v1/hold/release", tag = "operation", request_body = ReleaseRequest,
    responses((status = 200, body = ReleasedBody))
)]
async fn release(
    State(state): State<ApiState>,
    caller: Caller,
    request: Idempotent<ReleaseRequest>,
) -> Result<Response, Problem> {
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let ReleaseRequest {} = request.value;
    let services = state.services()?;
    let work = services.lifecycle.begin().await?;
    let released = doctor::release(&work, &services.board, &caller.actor(), state.seam()).await?;
    effect.finish(&state, work, StatusCode::OK, &ReleasedBody { released }).await
}
