//! Suspending and resuming one installation, by whoever may hold it: the holder is the caller's role.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::callbacks::shown;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{Code, Problem};
use super::role::Role;
use super::services::installation_scope;
use super::shapes::InstallationBody;
use super::state::ApiState;
use crate::audit::Actor;
use crate::identifier::InstallationId;
use crate::lifecycle::{self, Hold, HoldRequest, state::Holder};

/// The routes of suspension.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(suspend)).routes(routes!(resume))
}

/// In whose name a caller suspends and resumes.
pub(super) fn holder_of(caller: &Caller) -> Result<Holder, Problem> {
    match caller.role {
        Role::Operator => Ok(Holder::Operator),
        Role::Marketplace => Ok(Holder::Marketplace),
        Role::Vendor => Ok(Holder::Vendor),
        Role::Admin => Ok(Holder::Admin),
        Role::Host | Role::Viewer => Err(Problem::new(Code::Forbidden)),
    }
}

/// Why somebody suspends or resumes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HoldBody {
    /// Shown in the history.
    #[serde(default)]
    reason: Option<String>,
    /// A lower one than the live one changes nothing.
    #[serde(default)]
    generation: Option<i32>,
}

/// Suspends or resumes, and answers the installation as that leaves it.
pub(super) async fn hold(
    state: &ApiState,
    request: &HoldRequest,
    hold: Hold,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let mut turns = Turns::default();
    loop {
        let done = hold_once(state, request, hold, actor, effect).await;
        if let Some(done) = turns.over(state, done).await {
            return done;
        }
    }
}

async fn hold_once(
    state: &ApiState,
    request: &HoldRequest,
    hold: Hold,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let id: Uuid = lifecycle.hold(&mut work, request, hold, actor).await?;
    let body = shown(&work, id).await?;
    effect.finish(state, work, StatusCode::OK, &body).await
}

async fn hold_by_path(
    state: ApiState,
    caller: Caller,
    id: InstallationId,
    request: Request,
    make: fn(Holder) -> Hold,
) -> Result<Response, Problem> {
    use axum::extract::FromRequest as _;
    let scope = installation_scope(state.store(), &caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let holder = holder_of(&caller)?;
    let request = Idempotent::<HoldBody>::from_request(request, &state).await?;
    let HoldBody { reason, generation } = request.value;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let request = HoldRequest { installation_id: id, reason, generation };
    hold(&state, &request, make(holder), &caller.actor(), &effect).await
}

/// Suspends an installation in the caller's name: nothing is delivered, what is queued is held.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/suspend", tag = "lifecycle",
    params(("id" = String, Path)), request_body = HoldBody,
    responses(
        (status = 200, description = "Suspended", body = InstallationBody),
        (status = 404, description = "No such installation"),
        (status = 409, description = "It is uninstalled"),
    )
)]
async fn suspend(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Request,
) -> Result<Response, Problem> {
    hold_by_path(state, caller, id, request, Hold::Suspend).await
}

/// Lifts the caller's suspension. It is active again when nobody else holds it.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/resume", tag = "lifecycle",
    params(("id" = String, Path)), request_body = HoldBody,
    responses(
        (status = 200, description = "Lifted", body = InstallationBody),
        (status = 404, description = "No such installation"),
        (status = 409, description = "Others hold it; `heldBy` names them"),
    )
)]
async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Request,
) -> Result<Response, Problem> {
    hold_by_path(state, caller, id, request, Hold::Resume).await
}
