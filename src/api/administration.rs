//! What an administrator decides of an installation of the org, without the marketplace: consent to
//! an upgrade that waits, where to authorise it, and to take the extension out.

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
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
use super::services::installation_scope;
use super::shapes::InstallationBody;
use super::state::ApiState;
use super::subject;
use crate::audit::Actor;
use crate::identifier::InstallationId;
use crate::lifecycle::{
    self, ConsentRequest, InstallationView, ReauthorizeRequest, UninstallRequest,
};

/// The routes of this file.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(consent))
        .routes(routes!(authorization))
        .routes(routes!(uninstall))
}

/// A request about an installation that the caller may see.
struct Decided<T> {
    value: T,
    effect: Effect,
    view: InstallationView,
}

/// What a request came to before its effect.
enum Asked<T> {
    Answered(Box<Response>),
    Fresh(Box<Decided<T>>),
}

/// Asks whose the installation is before it reads the body, and whether it was answered before.
async fn decided<T: DeserializeOwned>(
    state: &ApiState,
    caller: &Caller,
    id: InstallationId,
    request: Request,
) -> Result<Asked<T>, Problem> {
    let scope = installation_scope(state.store(), caller).await?;
    let view = lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let request = Idempotent::<T>::from_request(request, state).await?;
    Ok(match Effect::start(state, request.key).await? {
        Start::Answered(answer) => Asked::Answered(answer),
        Start::Fresh(effect) => {
            Asked::Fresh(Box::new(Decided { value: request.value, effect, view }))
        }
    })
}

/// Consent to what was shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AgreeRequest {
    /// The consent that the upgrade waits for.
    consent_id: Uuid,
    /// The digest of the version that was shown.
    digest: String,
}

/// Agrees to an upgrade that waits: it is carried out. Where scopes grow, only an authorisation is
/// consent.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/consent", tag = "lifecycle",
    params(("id" = String, Path)), request_body = AgreeRequest,
    responses(
        (status = 200, description = "The version serves", body = InstallationBody),
        (status = 404, description = "No such installation or consent"),
        (status = 409, description = "Another package than the one agreed to, superseded, expired, or scopes grow"),
    )
)]
async fn consent(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Request,
) -> Result<Response, Problem> {
    let decided = match decided::<AgreeRequest>(&state, &caller, id, request).await? {
        Asked::Answered(answer) => return Ok(*answer),
        Asked::Fresh(decided) => decided,
    };
    let granted_by = subject::holder(caller.subject.as_deref(), caller.token);
    let request = ConsentRequest {
        installation_id: id,
        consent_id: decided.value.consent_id,
        digest: decided.value.digest,
        granted_by,
        generation: None,
    };
    let mut turns = Turns::default();
    loop {
        let done = consent_once(&state, &request, &caller.actor(), &decided.effect).await;
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
    let body = shown(&work, id).await?;
    effect.finish(state, work, StatusCode::OK, &body).await
}

/// Which connection is to be authorised.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizeAgainRequest {
    /// The connector's link name; missing means the connection to the host.
    #[serde(default)]
    connection: Option<String>,
    /// The consent of the upgrade that was shown, where it is that which is authorised.
    #[serde(default)]
    consent_id: Option<Uuid>,
    /// Its digest.
    #[serde(default)]
    digest: Option<String>,
}

/// Where the administrator goes to authorise.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuthorizeAgainBody {
    /// The installation.
    installation_id: Uuid,
    /// Our one-time address for the browser; null where there is nothing to authorise.
    start_url: Option<String>,
}

/// Begins an authorisation: of the upgrade that waits for one, else of a connection once more.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/authorization", tag = "lifecycle",
    params(("id" = String, Path)), request_body = AuthorizeAgainRequest,
    responses(
        (status = 200, description = "Where the browser goes", body = AuthorizeAgainBody),
        (status = 404, description = "No such installation"),
        (status = 409, description = "The installation is not authorised yet, or gone; or another upgrade waits than the one that was shown"),
    )
)]
async fn authorization(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Request,
) -> Result<Response, Problem> {
    let decided = match decided::<AuthorizeAgainRequest>(&state, &caller, id, request).await? {
        Asked::Answered(answer) => return Ok(*answer),
        Asked::Fresh(decided) => decided,
    };
    let mut turns = Turns::default();
    loop {
        let done = authorization_once(&state, &caller, id, &decided).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn authorization_once(
    state: &ApiState,
    caller: &Caller,
    id: InstallationId,
    decided: &Decided<AuthorizeAgainRequest>,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let waiting = decided.view.waiting_upgrade.as_ref().filter(|one| one.authorization_required);
    let wanted = &decided.value;
    let shown = wanted.consent_id.map(|id| (id, wanted.digest.as_deref().unwrap_or_default()));
    let start_url = match (waiting.is_some() || shown.is_some(), &wanted.connection) {
        (true, None) => lifecycle.authorize_waiting(&mut work, id, shown, &caller.actor()).await?,
        (_, connection) => {
            let request = ReauthorizeRequest {
                installation_id: id,
                generation: None,
                connection: connection.clone(),
                user_id: None,
                granted_by: caller.subject.as_ref().map(ToString::to_string),
                return_url: None,
            };
            lifecycle.reauthorize(&work, &request).await?.addresses.map(|(_, start)| start)
        }
    };
    let body = AuthorizeAgainBody { installation_id: id.0, start_url: start_url.map(String::from) };
    decided.effect.finish(state, work, StatusCode::OK, &body).await
}

/// Why the extension is taken out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TakeOutRequest {
    /// Told to the vendor.
    #[serde(default)]
    reason: Option<String>,
    /// Whether what is kept of it is to be erased at once.
    #[serde(default)]
    erase_data: Option<bool>,
}

/// An installation that was taken out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TakenOutBody {
    /// The installation.
    installation_id: Uuid,
    /// Its generation.
    generation: i32,
    /// `uninstalled`.
    state: String,
    /// How many webhooks it had.
    removed_webhooks: u64,
}

/// Takes an extension out. After the answer no request of the installation begins on any node.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/uninstall", tag = "lifecycle",
    params(("id" = String, Path)), request_body = TakeOutRequest,
    responses(
        (status = 200, description = "Uninstalled", body = TakenOutBody),
        (status = 404, description = "No such installation"),
    )
)]
async fn uninstall(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Request,
) -> Result<Response, Problem> {
    let decided = match decided::<TakeOutRequest>(&state, &caller, id, request).await? {
        Asked::Answered(answer) => return Ok(*answer),
        Asked::Fresh(decided) => decided,
    };
    if decided.value.reason.as_deref().is_some_and(|reason| reason.chars().count() > 500) {
        return Err(Problem::new(Code::InvalidData).detail("A reason has at most 500 characters."));
    }
    let request = UninstallRequest {
        installation_id: Some(id),
        extension_key: None,
        org_id: None,
        user_id: None,
        generation: None,
        reason: decided.value.reason,
        erase_data: decided.value.erase_data,
    };
    let mut turns = Turns::default();
    loop {
        let done = uninstall_once(&state, &request, &caller.actor(), &decided.effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn uninstall_once(
    state: &ApiState,
    request: &UninstallRequest,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let ended = lifecycle.uninstall(&mut work, request, actor).await?;
    let body = TakenOutBody {
        installation_id: ended.installation_id,
        generation: ended.generation,
        state: ended.state.to_owned(),
        removed_webhooks: ended.removed_webhooks,
    };
    effect.finish(state, work, StatusCode::OK, &body).await
}
