//! `/installations`, `/journal`: what is installed, how it came to be so, and what vendors were told.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::access::Caller;
use super::extract::{Path, Query, json_response};
use super::openapi::ApiRouter;
use super::paging::{AfterId, Cursor, Limit, Page, Paging};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::services::installation_scope;
use super::shapes::{InstallationBody, JournalBody, TransitionBody};
use super::state::ApiState;
use crate::identifier::InstallationId;
use crate::lifecycle::{self, InstallationFilter, InstallationScope};
use crate::seam::Timestamp;

/// The states that a list can be limited to.
const STATES: [&str; 5] = ["pendingAuthorization", "active", "suspended", "uninstalled", "erased"];

/// The routes of installations.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(history))
        .routes(routes!(journal))
}

/// Reads a moment in a query: RFC 3339, or milliseconds since the epoch.
pub(super) fn parse_moment(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    text.parse::<i64>()
        .ok()
        .map(Timestamp::from_millis)
        .or_else(|| Timestamp::parse_rfc3339(text))
        .map(Some)
        .ok_or_else(|| {
            let message = "must be RFC 3339, or milliseconds since the epoch";
            Problem::invalid(vec![FieldError::new(name, FieldErrorKind::Invalid, message)])
        })
}

/// Which installations.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    /// Of one org.
    #[serde(default)]
    org_id: Option<String>,
    /// Of one extension.
    #[serde(default)]
    extension_key: Option<String>,
    /// In one state.
    #[serde(default)]
    state: Option<String>,
    /// Changed at this moment or later.
    #[serde(default)]
    since: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// Lists installations.
#[utoipa::path(
    get, path = "/api/v1/installations", tag = "lifecycle", params(ListQuery),
    responses((status = 200, description = "A page", body = Page<InstallationBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    if query.state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        let message = format!("must be one of: {}", STATES.join(", "));
        let error = FieldError::new("state", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![error]));
    }
    let filter = InstallationFilter {
        org_id: query.org_id,
        extension_key: query.extension_key,
        state: query.state,
        since: parse_moment("since", query.since.as_deref())?,
        after: query.cursor.map(|after| after.0),
        limit: query.limit.rows(),
    };
    let scope = installation_scope(state.store(), &caller).await?;
    let views = lifecycle::installations(state.store(), &scope, &filter).await?;
    let page =
        Page::new(views, query.limit, |view| Cursor::Id(view.id())).map(InstallationBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Reads an installation.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}", tag = "lifecycle", params(("id" = String, Path)),
    responses((status = 200, description = "The installation", body = InstallationBody), (status = 404, description = "No such installation"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    let view = lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    Ok(json_response(StatusCode::OK, &InstallationBody::from(view)))
}

/// Every step in the life of an installation.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/history", tag = "lifecycle",
    params(("id" = String, Path), Paging),
    responses((status = 200, description = "A page", body = Page<TransitionBody>), (status = 404, description = "No such installation"))
)]
async fn history(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let after = paging.cursor.map(|after| after.0);
    let views = lifecycle::history(state.store(), id.0, after, paging.limit.rows()).await?;
    let page =
        Page::new(views, paging.limit, |view| Cursor::Id(view.id())).map(TransitionBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Which part of the journal.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct JournalQuery {
    /// What happened at this moment or later.
    #[serde(default)]
    since: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// All lifecycle events of the vendor's extensions, for replay.
#[utoipa::path(
    get, path = "/api/v1/journal", tag = "lifecycle", params(JournalQuery),
    responses((status = 200, description = "A page", body = Page<JournalBody>))
)]
async fn journal(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<JournalQuery>,
) -> Result<Response, Problem> {
    let keys = match (caller.role, installation_scope(state.store(), &caller).await?) {
        (Role::Operator, _) => None,
        (_, InstallationScope::Extensions(keys)) => Some(keys),
        _ => Some(Vec::new()),
    };
    let since = parse_moment("since", query.since.as_deref())?;
    let after = query.cursor.map(|after| after.0);
    let entries =
        lifecycle::journal(state.store(), keys.as_deref(), since, after, query.limit.rows())
            .await?;
    let page = Page::new(entries, query.limit, |entry| Cursor::Id(entry.id)).map(JournalBody::from);
    Ok(json_response(StatusCode::OK, &page))
}
