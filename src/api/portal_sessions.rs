//! `/portal-sessions`: the host, the marketplace and the operator end what their links led to.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::extract::{Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::page_sessions::{Person, Whose, end_all};
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::state::ApiState;
use crate::identifier::{OrgId, VendorKey};

/// The routes of sessions.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(end))
}

/// Whose sessions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndQuery {
    /// Of the pages of an org; the host has to name one.
    #[param(value_type = Option<String>)]
    org_id: Option<OrgId>,
    /// Of the pages of a vendor.
    #[param(value_type = Option<String>)]
    vendor: Option<VendorKey>,
    /// Of one person, as the links named him; of everybody there, where it is left out.
    subject: Option<String>,
}

/// What was ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndedBody {
    /// How many sessions.
    sessions: u64,
    /// How many links that nobody had used.
    links: u64,
}

fn missing(field: &str, message: &str) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Missing, message)])
}

impl EndQuery {
    fn check(self, caller: &Caller) -> Result<Whose, Problem> {
        let invalid = |field: &str, message: String| {
            Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
        };
        match (caller.role, &self.org_id, &self.vendor) {
            (_, Some(_), Some(_)) => {
                let message =
                    "is not named together with `orgId`: the pages are of one or the other";
                return Err(invalid("vendor", message.to_owned()));
            }
            (Role::Host, None, _) => {
                return Err(missing("orgId", "is needed: a host ends sessions of an org's pages"));
            }
            (Role::Marketplace, None, None) => {
                return Err(missing("orgId", "or `vendor` is needed: whose pages they are"));
            }
            // The operators' own.
            (_, None, None) if self.subject.is_none() => {
                return Err(missing(
                    "subject",
                    "is needed where neither `orgId` nor `vendor` is named",
                ));
            }
            _ => {}
        }
        let person = match self.subject {
            None => Person::Anybody,
            Some(subject) if (1..=64).contains(&subject.chars().count()) => Person::Named(subject),
            Some(_) => {
                return Err(invalid("subject", "must have 1 to 64 characters".to_owned()));
            }
        };
        Ok(Whose { org: self.org_id, vendor: self.vendor, person })
    }
}

/// Ends sessions of the pages, and calls off the links that nobody has used: of an org or of a
/// vendor, of everybody there or of one person.
#[utoipa::path(
    delete, path = "/api/v1/portal-sessions", tag = "tokens", params(EndQuery),
    responses((status = 200, description = "How much was ended; nothing is not a fault", body = EndedBody))
)]
async fn end(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<EndQuery>,
) -> Result<Response, Problem> {
    let whose = query.check(&caller)?;
    let now = state.seam().clock.now();
    let work = state.store().begin().await?;
    let ended = end_all(&work, state.seam(), &whose, &caller.actor()).await?;
    let _no_routing = work.commit(now).await?;
    let body = EndedBody { sessions: ended.sessions, links: ended.links };
    Ok(json_response(StatusCode::OK, &body))
}
