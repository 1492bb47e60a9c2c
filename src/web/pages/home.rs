//! The first page: what matters to the role.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};

use super::extensions::{can_publish, holder};
use super::{next_page, page};
use crate::api::Role;
use crate::web::answers::{Extension, Installation, List, Notice, Operation};
use crate::web::shell::{Shell, first_page};
use crate::web::trouble::Trouble;
use crate::web::visit::{Visit, with_query};

/// The newest notices, of which the first page shows some.
const NOTICES: &str = "/notices?limit=50";

/// How many notices the first page shows.
const SHOWN: usize = 10;

#[derive(Template)]
#[template(path = "home_org.html")]
struct OrgHome {
    shell: Shell,
    notices: Vec<Notice>,
    has_more_notices: bool,
    can_dismiss: bool,
    installations: Vec<Installation>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "home_vendor.html")]
struct VendorHome {
    shell: Shell,
    notices: Vec<Notice>,
    has_more_notices: bool,
    can_dismiss: bool,
    extensions: Vec<Extension>,
    /// In whose name he would hold one; nobody's where he may not.
    holder: &'static str,
    can_publish: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "home_operator.html")]
struct OperatorHome {
    shell: Shell,
    notices: Vec<Notice>,
    has_more_notices: bool,
    can_dismiss: bool,
    operation: Operation,
}

/// Shows it.
pub(in crate::web) async fn show(visit: Visit) -> Result<Response, Trouble> {
    // A token that is narrowed to other scopes begins where it may.
    match first_page(visit.visitor()?) {
        Some("/pages") => {}
        Some(first) => return Ok(Redirect::to(first).into_response()),
        None => {
            return Err(Trouble::new(
                StatusCode::FORBIDDEN,
                "This token opens no page",
                "It is narrowed to scopes that no page can do with. Sign out, and come back with \
                 another token or by a link.",
            ));
        }
    }
    let notices: List<Notice> = if visit.may(&Method::GET, "/notices") {
        visit.get(NOTICES).await?
    } else {
        List { data: Vec::new(), next_cursor: None }
    };
    let may_dismiss = visit.may(&Method::POST, "/notices/{id}/dismiss");
    let has_more_notices = notices.data.len() > SHOWN || notices.next_cursor.is_some();
    let mut notices = notices.data;
    // What goes on comes before what is over.
    notices.sort_by_key(|one| one.resolved_time.is_known());
    notices.truncate(SHOWN);
    let cursor = visit.parameter("cursor");
    match visit.role()? {
        Role::Operator => {
            let operation = visit.get("/operation").await?;
            let shell = visit.shell("Operation");
            page(&OperatorHome {
                shell,
                notices,
                has_more_notices,
                can_dismiss: may_dismiss,
                operation,
            })
        }
        Role::Vendor => {
            let found: List<Extension> = visit
                .get(&with_query("/extensions", &[("limit", "100"), ("cursor", &cursor)]))
                .await?;
            let next = next_page(&visit, found.next_cursor.as_deref());
            let shell = visit.shell("Extensions");
            let extensions = found.data;
            let can_dismiss = may_dismiss;
            let (holder, can_publish) = (holder(&visit), can_publish(&visit));
            page(&VendorHome {
                shell,
                notices,
                has_more_notices,
                can_dismiss,
                extensions,
                holder,
                can_publish,
                next,
            })
        }
        _ => {
            let path = with_query("/installations", &[("limit", "100"), ("cursor", &cursor)]);
            let found: List<Installation> = visit.get(&path).await?;
            let next = next_page(&visit, found.next_cursor.as_deref());
            let shell = visit.shell("Extensions");
            let can_dismiss = may_dismiss;
            let mut installations = found.data;
            // What lives before what was.
            installations.sort_by_key(|one| !one.is_live());
            page(&OrgHome { shell, notices, has_more_notices, can_dismiss, installations, next })
        }
    }
}
