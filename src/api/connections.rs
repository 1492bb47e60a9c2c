//! `/callbacks/…` of connections: authorised again, connected, taken back; users and orgs that leave.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::callbacks::Callback;
use super::effect::{Effect, Start, Turns};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use crate::audit::Actor;
use crate::identifier::OrgId;
use crate::lifecycle::{Asked, ConnectRequest, DisconnectRequest, ReauthorizeRequest};

/// The longest name of a user.
const LONGEST_USER: usize = 64;

/// The routes of connections.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(reauthorize))
        .routes(routes!(connect))
        .routes(routes!(disconnect))
        .routes(routes!(user_removed))
        .routes(routes!(org_closed))
}

/// Where a browser goes to authorise a connection.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AskedBody {
    /// The installation.
    installation_id: Uuid,
    /// Its state.
    state: String,
    /// The provider's address; null where the call named an earlier generation.
    authorization_url: Option<String>,
    /// Our one-time address for the browser.
    start_url: Option<String>,
    /// What must be registered at the provider as the redirect URI: a provider that the manifest
    /// declares has one of its own.
    redirect_uri: Option<String>,
}

impl From<Asked> for AskedBody {
    fn from(asked: Asked) -> Self {
        let (authorization, start) = asked.addresses.unzip();
        Self {
            installation_id: asked.installation_id,
            state: asked.state.to_owned(),
            authorization_url: authorization.map(String::from),
            start_url: start.map(String::from),
            redirect_uri: asked.redirect_url.map(String::from),
        }
    }
}

/// Begins to authorise a connection again: new tokens take the place of the old ones when it is done.
#[utoipa::path(
    post, path = "/api/v1/callbacks/reauthorize", tag = "lifecycle",
    request_body = ReauthorizeRequest,
    responses(
        (status = 200, description = "Where the browser goes", body = AskedBody),
        (status = 409, description = "The installation is not authorised yet, or gone"),
    )
)]
async fn reauthorize(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<ReauthorizeRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = reauthorize_once(&state, &callback.value, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn reauthorize_once(
    state: &ApiState,
    request: &ReauthorizeRequest,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let work = lifecycle.begin().await?;
    let asked = lifecycle.reauthorize(&work, request).await?;
    effect.finish(state, work, StatusCode::OK, &AskedBody::from(asked)).await
}

/// Begins to authorise a connection that the manifest declares.
#[utoipa::path(
    post, path = "/api/v1/callbacks/connect", tag = "lifecycle", request_body = ConnectRequest,
    responses(
        (status = 200, description = "Where the browser goes", body = AskedBody),
        (status = 409, description = "The installation is not authorised yet, or gone"),
        (status = 422, description = "No such connection, or nobody knows its authorisation server"),
    )
)]
async fn connect(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<ConnectRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = connect_once(&state, &callback.value, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn connect_once(
    state: &ApiState,
    request: &ConnectRequest,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let work = lifecycle.begin().await?;
    let asked = lifecycle.connect(&work, request).await?;
    effect.finish(state, work, StatusCode::OK, &AskedBody::from(asked)).await
}

/// An installation after a connection was taken back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DisconnectedBody {
    /// The installation.
    installation_id: Uuid,
    /// Its state.
    state: String,
    /// Whether there was a connection.
    disconnected: bool,
}

/// Takes a connection back: its tokens are revoked, and the vendor is told.
#[utoipa::path(
    post, path = "/api/v1/callbacks/disconnect", tag = "lifecycle",
    request_body = DisconnectRequest,
    responses((status = 200, description = "Taken back; again is the same", body = DisconnectedBody))
)]
async fn disconnect(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<DisconnectRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = disconnect_once(&state, &callback.value, &caller.actor(), &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn disconnect_once(
    state: &ApiState,
    request: &DisconnectRequest,
    actor: &Actor,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let done = lifecycle.disconnect(&mut work, request, actor).await?;
    let body = DisconnectedBody {
        installation_id: done.installation_id,
        state: done.state.to_owned(),
        disconnected: done.disconnected,
    };
    effect.finish(state, work, StatusCode::OK, &body).await
}

/// A user was removed from an org.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserRemovedRequest {
    /// The org.
    #[schema(value_type = String)]
    org_id: OrgId,
    /// The user, as the host names him.
    user_id: String,
}

/// What became of a user's connections.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserRemovedBody {
    /// The org.
    org_id: String,
    /// The user.
    user_id: String,
    /// Connections of others that he had granted: they have to be authorised again.
    broken_connections: u64,
    /// His own.
    removed_connections: u64,
    /// His personal installations.
    uninstalled: u64,
}

/// Breaks what a user granted who was removed, and removes what was his own.
#[utoipa::path(
    post, path = "/api/v1/callbacks/user-removed", tag = "lifecycle",
    request_body = UserRemovedRequest,
    responses((status = 200, description = "None of it works any more", body = UserRemovedBody))
)]
async fn user_removed(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<UserRemovedRequest>,
) -> Result<Response, Problem> {
    let user = &callback.value.user_id;
    if user.is_empty() || user.chars().count() > LONGEST_USER || user.chars().any(char::is_control)
    {
        let message = "must have 1 to 64 characters, none a control character";
        let fault = FieldError::new("/userId", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![fault]));
    }
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let lifecycle = &state.services()?.lifecycle;
    let UserRemovedRequest { org_id, user_id } = &callback.value;
    let actor = caller.actor();
    let left = lifecycle.user_removed(org_id.as_str(), user_id, &actor).await?;
    let work = lifecycle.begin().await?;
    lifecycle.note_user_removed(&work, org_id.as_str(), left, &actor).await?;
    let body = UserRemovedBody {
        org_id: org_id.to_string(),
        user_id: user_id.clone(),
        broken_connections: left.broken_connections,
        removed_connections: left.removed_connections,
        uninstalled: left.uninstalled,
    };
    effect.finish(&state, work, StatusCode::OK, &body).await
}

/// An org was closed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OrgClosedRequest {
    /// The org.
    #[schema(value_type = String)]
    org_id: OrgId,
}

/// How far the closure of an org is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrgClosedBody {
    /// The org.
    org_id: String,
    /// How many installations were uninstalled, by this call and those before.
    uninstalled: u64,
    /// Whether none is left. Where there are very many, the rest goes on by itself.
    finished: bool,
    /// Why some are left, where they could not be ended; they are tried again.
    last_error: Option<String>,
}

/// Uninstalls everything that a closed org has, to be erased.
#[utoipa::path(
    post, path = "/api/v1/callbacks/org-closed", tag = "lifecycle",
    request_body = OrgClosedRequest,
    responses((status = 200, description = "Closed, or closing", body = OrgClosedBody))
)]
async fn org_closed(
    State(state): State<ApiState>,
    caller: Caller,
    mut callback: Callback<OrgClosedRequest>,
) -> Result<Response, Problem> {
    let effect = match callback.start(&state, &caller).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let lifecycle = &state.services()?.lifecycle;
    let org = callback.value.org_id.as_str();
    // The intent first: what follows goes on without this call too.
    lifecycle.close_org(org, &caller.actor()).await?;
    let closed = lifecycle.go_on_closing(org).await?;
    let body = OrgClosedBody {
        org_id: org.to_owned(),
        uninstalled: closed.uninstalled,
        finished: closed.finished,
        last_error: closed.last_error,
    };
    let work = lifecycle.begin().await?;
    effect.finish(&state, work, StatusCode::OK, &body).await
}
