//! `/callbacks/…`: what the marketplace calls. Idempotent by nature, by `Idempotency-Key` and,
//! where the marketplace signs, by `webhook-id`.

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::answers::{AnswerKey, AnswerScope};
use super::effect::{Effect, Start, Turns};
use super::extract::{RawBody, fingerprint, idempotency_key, parse_json, require_json};
use super::handler::routes;
use super::holds::{hold, holder_of};
use super::openapi::ApiRouter;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::shapes::InstallationBody;
use super::state::ApiState;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::{DEFAULT_TOLERANCE, SignatureHeaders};
use crate::identifier::InstallationId;
use crate::lifecycle::{
    self, Agreed, ConfigureRequest, Exchanged, Hold, HoldRequest, InstallRequest, LifecycleError,
    UninstallRequest,
};
use crate::oauth::OAuthError;
use crate::seam::crash_point;

/// How often the vendor's validator is asked for one request.
const MOST_ASKED: u32 = 3;

/// The longest code and state that are looked at.
const LONGEST_CODE: usize = 4_096;

/// The routes of the callbacks.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(install))
        .routes(routes!(authorize))
        .routes(routes!(configure))
        .routes(routes!(suspend))
        .routes(routes!(resume))
        .routes(routes!(uninstall))
}

/// A callback whose signature was checked, with the keys under which its answer is kept.
#[derive(Debug)]
pub(super) struct Callback<T> {
    pub(super) value: T,
    keys: Vec<AnswerKey>,
    path: String,
}

impl<T> Callback<T> {
    /// Looks whether the call was answered before. An id that came with another call is a replay:
    /// it changes nothing and leaves an audit row.
    pub(super) async fn start(
        &mut self,
        state: &ApiState,
        caller: &Caller,
    ) -> Result<Start, Problem> {
        let started = Effect::start(state, std::mem::take(&mut self.keys)).await;
        if let Err(problem) = &started
            && problem.code() == Code::SignatureInvalid
        {
            refuse_forgery(state, caller, &self.path, "webhook-id reused").await?;
        }
        started
    }
}

impl<T: DeserializeOwned> FromRequest<ApiState> for Callback<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let (parts, body) = request.into_parts();
        let body = RawBody::from(Request::from_parts(parts.clone(), body))
            .read(state.config().limits.request_body_bytes)
            .await?;
        let mut keys = Vec::new();
        if let Some(verifier) = &state.services()?.marketplace {
            let sent = SignatureHeaders {
                id: header(&parts.headers, "webhook-id"),
                timestamp: header(&parts.headers, "webhook-timestamp"),
                signature: header(&parts.headers, "webhook-signature"),
            };
            let id = sent.id.to_owned();
            let now = state.seam().clock.now();
            if let Err(refused) = verifier.verify(sent, &body, now, DEFAULT_TOLERANCE) {
                let caller = Caller::of(&parts)?;
                refuse_forgery(state, &caller, parts.uri.path(), &refused.to_string()).await?;
                return Err(Problem::new(Code::SignatureInvalid).detail(format!(
                    "{refused}: sign the raw body with marketplace.signing_secret (Standard Webhooks)."
                )));
            }
            let key =
                AnswerKey::new(&AnswerScope::WebhookId { id }, fingerprint(&parts.uri, &body));
            keys.push(key);
        }
        keys.extend(idempotency_key(&parts, &body)?);
        Ok(Self { value: parse_json(&body)?, keys, path: parts.uri.path().to_owned() })
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A forged or replayed callback changes nothing and leaves an audit row.
async fn refuse_forgery(
    state: &ApiState,
    caller: &Caller,
    path: &str,
    reason: &str,
) -> Result<(), Problem> {
    let now = state.seam().clock.now();
    let work = state.store().begin().await?;
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action: "callback.refused",
        subject: format!("path:{path}"),
        detail: Some(serde_json::json!({ "reason": reason })),
    };
    audit::append(&work, entry, &caller.actor(), now, &state.seam().randomness).await?;
    let _settled = work.commit(now).await?;
    Ok(())
}

/// An installation after `install`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InstallBody {
    /// The installation.
    installation_id: Uuid,
    /// Its generation.
    generation: i32,
    /// `pendingAuthorization`, `active` or `suspended`.
    state: String,
    /// The provider's address, while the installation waits.
    authorization_url: Option<String>,
    /// Our one-time address for the browser, while it waits.
    start_url: Option<String>,
}

/// Installs an extension in an org.
#[utoipa::path(
    post, path = "/api/v1/callbacks/install", tag = "lifecycle", request_body = InstallRequest,
    responses(
        (status = 201, description = "Installed", body = InstallBody),
        (status = 200, description = "The same request made a live installation before", body = InstallBody),
        (status = 409, description = "Installed with another version, departments or config"),
        (status = 422, description = "The vendor's installation validator refuses: `INSTALLATION_REFUSED`"),
        (status = 503, description = "The vendor's installation validator does not answer; repeat later"),
    )
)]
async fn install(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<InstallRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    let lifecycle = &state.services()?.lifecycle;
    let mut agreed = lifecycle.ask_validator(&callback.value).await?;
    let mut asked = 1;
    loop {
        let done =
            install_once(&state, &callback.value, agreed.clone(), &caller.actor(), &effect).await;
        let done = match done {
            // Another version came between question and install, or the former installation ended.
            Ok(None) if asked < MOST_ASKED => {
                agreed = lifecycle.ask_validator(&callback.value).await?;
                asked += 1;
                continue;
            }
            Ok(None) => Err(LifecycleError::Outdated.into()),
            Ok(Some(answer)) => Ok(answer),
            Err(problem) => Err(problem),
        };
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

/// Installs; nothing where the vendor agreed to something else.
async fn install_once(
    state: &ApiState,
    request: &InstallRequest,
    agreed: Agreed,
    actor: &Actor,
    effect: &Effect,
) -> Result<Option<Response>, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let installed = match lifecycle.install(&mut work, request, agreed, actor).await {
        Err(LifecycleError::Outdated) => {
            work.rollback().await?;
            return Ok(None);
        }
        installed => installed?,
    };
    let status = if installed.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let body = InstallBody {
        installation_id: installed.installation_id,
        generation: installed.generation,
        state: installed.state.to_owned(),
        authorization_url: installed.authorization_url.map(String::from),
        start_url: installed.start_url.map(String::from),
    };
    effect.finish(state, work, status, &body).await.map(Some)
}

/// What the marketplace got from the browser.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizeRequest {
    /// The installation.
    installation_id: InstallationId,
    /// The code.
    code: String,
    /// The state.
    state: String,
    /// The issuer, where the provider said it (RFC 9207).
    #[serde(default)]
    iss: Option<String>,
    /// A lower one than the live one changes nothing.
    #[serde(default)]
    generation: Option<i32>,
}

/// Authorises an installation: exchanges the code, and provisions its webhook.
#[utoipa::path(
    post, path = "/api/v1/callbacks/authorize", tag = "lifecycle", request_body = AuthorizeRequest,
    responses(
        (status = 200, description = "Active", body = InstallationBody),
        (status = 422, description = "The state is not valid, or not all scopes were granted"),
        (status = 502, description = "The authorisation server does not answer as it should"),
    )
)]
async fn authorize(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<AuthorizeRequest>,
) -> Result<Response, Problem> {
    let request = &callback.value;
    let faults: Vec<FieldError> = [("/code", &request.code), ("/state", &request.state)]
        .into_iter()
        .filter(|(_, text)| text.is_empty() || text.len() > LONGEST_CODE)
        .map(|(pointer, _)| {
            FieldError::new(pointer, FieldErrorKind::Invalid, "must have 1 to 4096 bytes")
        })
        .collect();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let request = callback.value;
    let id = request.installation_id.0;
    let lifecycle = &state.services()?.lifecycle;
    if request.generation.is_some() {
        let work = lifecycle.begin().await?;
        if lifecycle.is_late_call(&work, id, request.generation).await? {
            let body = shown(&work, id).await?;
            return effect.finish(&state, work, StatusCode::OK, &body).await;
        }
        work.rollback().await?;
    }
    // In a task of its own: a caller that goes away must not leave tokens that nobody knows of.
    let lifecycle = lifecycle.clone();
    let actor = caller.actor();
    let task = async move {
        let exchanged = lifecycle
            .exchange(Some(id), &request.code, &request.state, request.iss.as_deref())
            .await;
        let exchanged = match exchanged {
            // A state belongs to an installation: without one nobody has asked for this one yet.
            Err(LifecycleError::OAuth(OAuthError::InvalidState))
                if !lifecycle.is_known(id).await? =>
            {
                return Err(Problem::not_found("installation"));
            }
            exchanged => exchanged?,
        };
        let mut turns = Turns::default();
        let done = loop {
            let done = activate(&state, &exchanged, &actor, &effect).await;
            if let Some(done) = turns.over(&state, done).await {
                break done;
            }
        };
        if done.is_err() {
            // Whatever went wrong: tokens that were not stored are revoked.
            lifecycle.discard_unless_stored(&exchanged).await?;
        }
        done
    };
    let task = tokio::spawn(task.instrument(tracing::Span::current()));
    task.await.map_err(|error| Problem::internal(&error))?
}

/// Stores the tokens and makes the installation active, with its answer.
async fn activate(
    state: &ApiState,
    exchanged: &Exchanged,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let activated = lifecycle.activate(&mut work, exchanged, actor).await?;
    let body = InstallationBody::from(lifecycle::activated_within(&work, activated).await?);
    effect.finish(state, work, StatusCode::OK, &body).await
}

/// The installation as the transaction leaves it.
pub(super) async fn shown(
    work: &crate::store::UnitOfWork,
    id: Uuid,
) -> Result<InstallationBody, Problem> {
    let view = lifecycle::installation_within(work, id)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    Ok(InstallationBody::from(view))
}

/// Changes departments and parameters.
#[utoipa::path(
    post, path = "/api/v1/callbacks/configure", tag = "lifecycle", request_body = ConfigureRequest,
    responses((status = 200, description = "Configured", body = InstallationBody))
)]
async fn configure(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<ConfigureRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = configure_once(&state, &callback.value, &caller.actor(), &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn configure_once(
    state: &ApiState,
    request: &ConfigureRequest,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let id = lifecycle.configure(&mut work, request, actor).await?;
    let body = shown(&work, id).await?;
    effect.finish(state, work, StatusCode::OK, &body).await
}

/// Suspends an installation in the name of the marketplace, or of the operator who calls.
#[utoipa::path(
    post, path = "/api/v1/callbacks/suspend", tag = "lifecycle", request_body = HoldRequest,
    responses((status = 200, description = "Suspended", body = InstallationBody))
)]
async fn suspend(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<HoldRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let held = Hold::Suspend(holder_of(&caller)?);
    hold(&state, &callback.value, held, &caller.actor(), &effect).await
}

/// Lifts that suspension. The installation is active again when nobody else holds it.
#[utoipa::path(
    post, path = "/api/v1/callbacks/resume", tag = "lifecycle", request_body = HoldRequest,
    responses(
        (status = 200, description = "Lifted", body = InstallationBody),
        (status = 409, description = "Others hold it; `heldBy` names them"),
    )
)]
async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<HoldRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let lifted = Hold::Resume(holder_of(&caller)?);
    hold(&state, &callback.value, lifted, &caller.actor(), &effect).await
}

/// An installation after `uninstall`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UninstallBody {
    /// The installation.
    installation_id: Uuid,
    /// Its generation.
    generation: i32,
    /// `uninstalled`.
    state: String,
    /// How many webhooks it had.
    removed_webhooks: u64,
}

/// Uninstalls. After the answer no request of the installation begins on any node.
#[utoipa::path(
    post, path = "/api/v1/callbacks/uninstall", tag = "lifecycle", request_body = UninstallRequest,
    responses((status = 200, description = "Uninstalled", body = UninstallBody))
)]
async fn uninstall(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<UninstallRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = uninstall_once(&state, &callback.value, &caller.actor(), &effect).await;
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
    let body = UninstallBody {
        installation_id: ended.installation_id,
        generation: ended.generation,
        state: ended.state.to_owned(),
        removed_webhooks: ended.removed_webhooks,
    };
    let answer = effect.finish(state, work, StatusCode::OK, &body).await;
    crash_point("uninstall.after-commit");
    answer
}
