//! `/installations/{id}/user-tokens`: the keys by which third parties post for a user.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path, Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{Cursor, Page, Paging};
use super::problem::Problem;
use super::services::installation_scope;
use super::state::ApiState;
use crate::extension_data::user_tokens::{self, NewUserToken, UserToken};
use crate::identifier::InstallationId;
use crate::lifecycle::{self, InstallationView};

/// The routes of users' tokens.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(make)).routes(routes!(revoke))
}

/// Whose token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserTokenRequest {
    /// The user, as the host names him.
    user_id: String,
}

/// A token without its value.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserTokenBody {
    /// Its id.
    id: Uuid,
    /// The user.
    user_id: String,
    /// When it was made, RFC 3339.
    created_at: String,
}

impl From<UserToken> for UserTokenBody {
    fn from(token: UserToken) -> Self {
        Self { id: token.id, user_id: token.user_id, created_at: token.created_at.rfc3339() }
    }
}

/// A token that was made, with its value.
#[derive(Serialize, ToSchema)]
struct UserTokenCreated {
    /// What is known of it.
    #[serde(flatten)]
    token: UserTokenBody,
    /// The value, which is told here and never again.
    zapikey: String,
}

async fn visible(
    state: &ApiState,
    caller: &Caller,
    id: InstallationId,
) -> Result<InstallationView, Problem> {
    let scope = installation_scope(state.store(), caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))
}

/// The tokens of an installation's users
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/user-tokens", tag = "invoke",
    params(("id" = String, Path), Paging),
    responses((status = 200, description = "A page", body = Page<UserTokenBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    visible(&state, &caller, id).await?;
    let after = paging.cursor.map(|after| after.0);
    let rows = user_tokens::list(state.store(), id.0, after, paging.limit.rows()).await?;
    let page = Page::new(rows, paging.limit, |row| Cursor::Id(row.id)).map(UserTokenBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Makes a user's token, in place of the former one; its value is told once
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/user-tokens", tag = "invoke",
    params(("id" = String, Path)), request_body = UserTokenRequest,
    responses((status = 201, description = "The token", body = UserTokenCreated))
)]
async fn make(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    request: Idempotent<UserTokenRequest>,
) -> Result<Response, Problem> {
    let view = visible(&state, &caller, id).await?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = make_once(&state, &caller, &view, &request.value.user_id, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn make_once(
    state: &ApiState,
    caller: &Caller,
    view: &InstallationView,
    user_id: &str,
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let work = lifecycle.begin().await?;
    lifecycle.hold_live(&work, view.id()).await?;
    let new = NewUserToken {
        installation_id: view.id(),
        org_id: view.org_id(),
        extension_key: view.extension_key(),
        user_id,
    };
    let (token, value) = user_tokens::make(&work, new, &caller.actor(), state.seam()).await?;
    let body = UserTokenCreated { token: token.into(), zapikey: value.expose().to_owned() };
    effect.finish(state, work, StatusCode::CREATED, &body).await
}

/// Revokes a user's token
#[utoipa::path(
    delete, path = "/api/v1/installations/{id}/user-tokens/{tokenId}", tag = "invoke",
    params(("id" = String, Path), ("tokenId" = String, Path)),
    responses((status = 204, description = "Revoked"), (status = 404, description = "No such token"))
)]
async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, token)): Path<(InstallationId, Uuid)>,
) -> Result<Response, Problem> {
    visible(&state, &caller, id).await?;
    let lifecycle = &state.services()?.lifecycle;
    let work = lifecycle.begin().await?;
    if !user_tokens::revoke(&work, id.0, token, &caller.actor(), state.seam()).await? {
        return Err(Problem::not_found("token"));
    }
    lifecycle.commit(work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
