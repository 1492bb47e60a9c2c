//! `/callbacks/upgrade` and `/callbacks/consent`: another version is to serve an installation.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::callbacks::{Callback, shown};
use super::effect::{Effect, Start, Turns};
use super::extract::{Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::Problem;
use super::shapes::{InstallationBody, moment};
use super::state::ApiState;
use crate::audit::Actor;
use crate::lifecycle::{ConsentRequest, UpgradeOutcome, UpgradeRequest, WaitingUpgrade};
use crate::manifest::{Growth, Plan};
use crate::seam::{Timestamp, crash_point};

/// The routes of upgrades.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(upgrade)).routes(routes!(consent))
}

/// Whether it is meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpgradeQuery {
    /// True: says what would happen, and writes nothing at all.
    #[serde(default)]
    dry_run: bool,
}

/// What an upgrade does, or would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpgradeBody {
    /// The installation.
    installation_id: Uuid,
    /// Its generation.
    generation: i32,
    /// `pendingAuthorization`, `active` or `suspended`.
    state: String,
    /// The version that serves, or waits to be authorised, after this call.
    version: String,
    /// The version that was asked for.
    target_version: String,
    /// The digest of the version that was asked for: consent is bound to it.
    digest: String,
    /// What happens to each resource.
    plan: Plan,
    /// What the version asks for beyond the present one.
    growth: Vec<Growth>,
    /// Whether the upgrade waits for consent; the version before it serves until then.
    consent_required: bool,
    /// Whether consent must be an authorisation, since scopes grow.
    authorization_required: bool,
    /// What it waits for; null in a dry run.
    consent_id: Option<Uuid>,
    /// Until when it waits; null means as long as it takes.
    deadline: Option<String>,
    /// The provider's address, where an authorisation can follow.
    authorization_url: Option<String>,
    /// Our one-time address for the browser, where an authorisation can follow.
    start_url: Option<String>,
    /// Whether this was a dry run.
    dry_run: bool,
}

impl UpgradeBody {
    fn new(outcome: UpgradeOutcome, dry_run: bool) -> Self {
        Self {
            installation_id: outcome.installation_id,
            generation: outcome.generation,
            state: outcome.state.to_owned(),
            version: outcome.version,
            target_version: outcome.target_version,
            digest: outcome.digest,
            plan: outcome.plan,
            growth: outcome.growth,
            consent_required: outcome.consent_required,
            authorization_required: outcome.authorization_required,
            consent_id: outcome.consent_id,
            deadline: outcome.deadline.map(Timestamp::rfc3339),
            authorization_url: outcome.authorization_url.map(String::from),
            start_url: outcome.start_url.map(String::from),
            dry_run,
        }
    }
}

/// An upgrade that waits for consent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitingUpgradeBody {
    /// What it waits for.
    consent_id: Uuid,
    /// The version.
    version: String,
    /// Its digest: consent is bound to it.
    digest: String,
    /// What happens to each resource.
    #[schema(value_type = Plan)]
    plan: Value,
    /// What the version asks for beyond the serving one.
    #[schema(value_type = Vec<Growth>)]
    growth: Value,
    /// Whether consent must be an authorisation, since scopes grow.
    authorization_required: bool,
    /// Since when it waits.
    since: Option<String>,
    /// Until when it waits; null means as long as it takes.
    deadline: Option<String>,
}

impl From<WaitingUpgrade> for WaitingUpgradeBody {
    fn from(waiting: WaitingUpgrade) -> Self {
        Self {
            consent_id: waiting.consent_id,
            version: waiting.version,
            digest: waiting.digest,
            plan: waiting.plan,
            growth: waiting.growth,
            authorization_required: waiting.authorization_required,
            since: moment(Some(waiting.since.micros())),
            deadline: waiting.deadline.map(Timestamp::rfc3339),
        }
    }
}

/// Upgrades an installation to another version, or says what that would do.
#[utoipa::path(
    post, path = "/api/v1/callbacks/upgrade", tag = "lifecycle", params(UpgradeQuery),
    request_body = UpgradeRequest,
    responses(
        (status = 200, description = "Done, waiting for consent, or (dry run) what would be done", body = UpgradeBody),
        (status = 404, description = "No such installation or version"),
        (status = 409, description = "Uninstalled, or the version was withdrawn"),
        (status = 422, description = "A parameter that the version needs has no value"),
    )
)]
async fn upgrade(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<UpgradeQuery>,
    mut callback: Callback<UpgradeRequest>,
) -> Result<Response, Problem> {
    if query.dry_run {
        let lifecycle = &state.services()?.lifecycle;
        let mut work = lifecycle.begin().await?;
        let outcome = lifecycle.upgrade(&mut work, &callback.value, true, &caller.actor()).await;
        work.rollback().await?;
        return Ok(json_response(StatusCode::OK, &UpgradeBody::new(outcome?, true)));
    }
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = upgrade_once(&state, &callback.value, &caller.actor(), &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn upgrade_once(
    state: &ApiState,
    request: &UpgradeRequest,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let outcome = lifecycle.upgrade(&mut work, request, false, actor).await?;
    let body = UpgradeBody::new(outcome, false);
    let answer = effect.finish(state, work, StatusCode::OK, &body).await;
    crash_point("upgrade.after-commit");
    answer
}

/// Brings somebody's consent to an upgrade that waits: it is carried out.
#[utoipa::path(
    post, path = "/api/v1/callbacks/consent", tag = "lifecycle", request_body = ConsentRequest,
    responses(
        (status = 200, description = "The version serves", body = InstallationBody),
        (status = 404, description = "No such installation or consent"),
        (status = 409, description = "Another package than the one agreed to, superseded, expired, or scopes grow"),
    )
)]
async fn consent(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<ConsentRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = consent_once(&state, &callback.value, &caller.actor(), &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn consent_once(
    state: &ApiState,
    request: &ConsentRequest,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let id = lifecycle.consent(&mut work, request, actor).await?;
    let body: InstallationBody = shown(&work, id).await?;
    let answer = effect.finish(state, work, StatusCode::OK, &body).await;
    crash_point("upgrade.after-commit");
    answer
}
