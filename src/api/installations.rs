//! `/installations`: what is installed, and how it came to be so.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::extract::{Path, Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{AfterId, AfterInstallation, Cursor, Limit, Page};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::services::installation_scope;
use super::shapes::{InstallationBody, TransitionBody};
use super::state::ApiState;
use super::subject;
use crate::identifier::InstallationId;
use crate::lifecycle::{self, InstallationCursor, InstallationFilter};
use crate::seam::Timestamp;

/// The states that a list can be limited to.
const STATES: [&str; 5] = ["pendingAuthorization", "active", "suspended", "uninstalled", "erased"];

/// The routes of installations.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(history))
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
    cursor: Option<AfterInstallation>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// Lists installations; with `since` in the order of changes, so that what changes meanwhile comes
/// once more and nothing is passed over.
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
    let by_change = query.since.is_some();
    let fits = query
        .cursor
        .is_none_or(|after| matches!(after.0, InstallationCursor::Change(_)) == by_change);
    if !fits {
        let message = "must be a `nextCursor` of the same list: one with `since` is another";
        let error = FieldError::new("cursor", FieldErrorKind::Invalid, message);
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
    let page = Page::new(views, query.limit, |view| {
        if by_change {
            let change = view.change();
            Cursor::Change(change.position, change.id)
        } else {
            Cursor::Id(view.id())
        }
    })
    .map(InstallationBody::from);
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

/// A step as a vendor may see it: without addresses, and without the names of people who are not its
/// own.
fn for_vendor(body: TransitionBody) -> TransitionBody {
    let role = subject::role_of(&body.actor);
    let is_shown = [Role::Vendor.as_str(), "system"].contains(&role);
    let actor = if is_shown { body.actor } else { role.to_owned() };
    // Whoever agreed to an upgrade is named in its reason.
    let reason = body.reason.map(|reason| match reason.rsplit_once(lifecycle::AGREED) {
        Some((_, change)) if body.command == "consent" => change.to_owned(),
        _ => reason,
    });
    TransitionBody { actor, reason, address: None, ..body }
}

/// Which steps.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HistoryQuery {
    /// Whether the newest come first.
    #[serde(default)]
    newest_first: bool,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// Every step in the life of an installation.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/history", tag = "lifecycle",
    params(("id" = String, Path), HistoryQuery),
    responses((status = 200, description = "A page", body = Page<TransitionBody>), (status = 404, description = "No such installation"))
)]
async fn history(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InstallationId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, Problem> {
    let scope = installation_scope(state.store(), &caller).await?;
    lifecycle::installation(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("installation"))?;
    let after = query.cursor.map(|after| after.0);
    let (newest_first, rows) = (query.newest_first, query.limit.rows());
    let views = lifecycle::history(state.store(), id.0, newest_first, after, rows).await?;
    let page = Page::new(views, query.limit, |view| Cursor::Id(view.id())).map(|view| {
        let body = TransitionBody::from(view);
        if caller.role == Role::Vendor { for_vendor(body) } else { body }
    });
    Ok(json_response(StatusCode::OK, &page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_is_told_what_happened_and_not_who_did_it() {
        let told = |actor: &str, command: &str, reason: &str| {
            let step = for_vendor(TransitionBody {
                at: None,
                actor: actor.to_owned(),
                address: Some("198.51.100.7".to_owned()),
                command: command.to_owned(),
                from: None,
                to: "active".to_owned(),
                generation: 1,
                reason: Some(reason.to_owned()),
            });
            assert_eq!(step.address, None);
            (step.actor, step.reason.unwrap_or_default())
        };
        let pair = |actor: &str, reason: &str| (actor.to_owned(), reason.to_owned());
        assert_eq!(told("admin:4711", "suspend", "loud"), pair("admin", "loud"));
        assert_eq!(told("vendor:vic", "suspend", "loud"), pair("vendor:vic", "loud"));
        assert_eq!(told("system:reconciler", "reconcile", "x"), pair("system:reconciler", "x"));
        let agreed = format!("4711 of Berlin{}from 1.0.0 to 2.0.0", lifecycle::AGREED);
        assert_eq!(told("admin:4711", "consent", &agreed), pair("admin", "from 1.0.0 to 2.0.0"));
        // What somebody wrote as a reason of his own is not cut.
        let own = format!("we{}go", lifecycle::AGREED);
        assert_eq!(told("vendor:vic", "suspend", &own), pair("vendor:vic", &own));
    }
}
