//! `/portal-links`: the host, the marketplace and the operator open the pages for somebody.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::effect::{Effect, Start};
use super::extract::Idempotent;
use super::handler::routes;
use super::openapi::ApiRouter;
use super::page_sessions::{Visitor, make_link};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::{Binding, Role};
use super::state::ApiState;
use super::subject;
use crate::identifier::{OrgId, VendorKey};

/// The longest life of a link, in seconds.
const LONGEST_LIFE: u64 = 900;

/// The longest display name, in characters.
const LONGEST_NAME: usize = 100;

/// The routes of links.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(create))
}

/// Whom the pages are opened for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LinkRequest {
    /// `admin`, `viewer`, `vendor` or `operator`.
    role: Role,
    /// The org; for an admin or viewer.
    #[schema(value_type = Option<String>)]
    org_id: Option<OrgId>,
    /// The vendor; for a vendor.
    #[schema(value_type = Option<String>)]
    vendor: Option<VendorKey>,
    /// Who it is, as the host names him: the actor in history and audit. Not `token:…`, which tokens
    /// are named by.
    subject: String,
    /// What he is called on the pages.
    #[serde(default)]
    display_name: Option<String>,
    /// How long the link works, 900 at the most; that where it is left out.
    #[serde(default)]
    ttl_seconds: Option<u64>,
}

/// A link into the pages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LinkBody {
    /// The address: shows a button, works once.
    url: String,
    /// Until when it works, RFC 3339.
    expires_at: String,
}

/// The roles for which a caller may open the pages.
fn may_open(role: Role) -> &'static [Role] {
    match role {
        Role::Operator => &[Role::Operator, Role::Vendor, Role::Admin, Role::Viewer],
        Role::Marketplace => &[Role::Vendor, Role::Admin, Role::Viewer],
        Role::Host => &[Role::Admin, Role::Viewer],
        Role::Vendor | Role::Admin | Role::Viewer => &[],
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

impl LinkRequest {
    fn check(self, caller: &Caller) -> Result<(Visitor, Duration), Problem> {
        let allowed = may_open(caller.role);
        if !allowed.contains(&self.role) {
            let names: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
            return Err(Problem::new(Code::Forbidden).detail(format!(
                "The role {} may open the pages for: {}.",
                caller.role,
                names.join(", ")
            )));
        }
        let role = self.role;
        match (role.binding(), &self.org_id, &self.vendor) {
            (Binding::Org, None, _) => {
                return Err(invalid("/orgId", format!("the role {role} needs an org")));
            }
            (Binding::Vendor, _, None) => {
                return Err(invalid("/vendor", format!("the role {role} needs a vendor")));
            }
            (Binding::Platform | Binding::Vendor, Some(_), _) => {
                return Err(invalid("/orgId", format!("the role {role} takes no org")));
            }
            (Binding::Platform | Binding::Org, _, Some(_)) => {
                return Err(invalid("/vendor", format!("the role {role} takes no vendor")));
            }
            _ => {}
        }
        if let Err(invalid_subject) = subject::check(&self.subject) {
            return Err(invalid("/subject", invalid_subject.to_string()));
        }
        let is_shown = |name: &str| subject::is_shown_name(name, LONGEST_NAME);
        if self.display_name.as_deref().is_some_and(|name| !is_shown(name)) {
            let message = "must have 1 to 100 characters, none of them a control character or one \
                           that turns others around";
            return Err(invalid("/displayName", message));
        }
        let life = self.ttl_seconds.unwrap_or(LONGEST_LIFE);
        if !(1..=LONGEST_LIFE).contains(&life) {
            return Err(invalid("/ttlSeconds", format!("must be from 1 to {LONGEST_LIFE}")));
        }
        let visitor = Visitor {
            role,
            org: self.org_id,
            vendor: self.vendor,
            scopes: None,
            subject: Some(self.subject),
            display_name: self.display_name,
        };
        Ok((visitor, Duration::from_secs(life)))
    }
}

/// Opens the pages for somebody: a link that works once, and shows a button first.
#[utoipa::path(
    post, path = "/api/v1/portal-links", tag = "tokens", request_body = LinkRequest,
    responses(
        (status = 201, description = "The link", body = LinkBody),
        (status = 403, description = "The caller may not open the pages for this role"),
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    request: Idempotent<LinkRequest>,
) -> Result<Response, Problem> {
    let (visitor, life) = request.value.check(&caller)?;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let work = state.services()?.lifecycle.begin().await?;
    let (secret, expires_at) =
        make_link(&work, state.seam(), &visitor, caller.token, life, &caller.actor()).await?;
    let body = LinkBody {
        url: format!("{}/portal/{}", state.origin(), secret.expose()),
        expires_at: expires_at.rfc3339(),
    };
    effect.finish(&state, work, StatusCode::CREATED, &body).await
}
