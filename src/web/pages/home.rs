//! The first page: what matters to the role.

use askama::Template;
use axum::response::Response;

use super::{next_page, page};
use crate::api::Role;
use crate::web::answers::{Extension, Installation, List, Notice, Operation};
use crate::web::shell::Shell;
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
    let notices: List<Notice> = visit.get(NOTICES).await?;
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
            page(&OperatorHome { shell, notices, has_more_notices, can_dismiss: true, operation })
        }
        Role::Vendor => {
            let found: List<Extension> = visit
                .get(&with_query("/extensions", &[("limit", "100"), ("cursor", &cursor)]))
                .await?;
            let next = next_page(&visit, found.next_cursor.as_deref());
            let shell = visit.shell("Extensions");
            let extensions = found.data;
            let can_dismiss = true;
            page(&VendorHome { shell, notices, has_more_notices, can_dismiss, extensions, next })
        }
        role => {
            let path = with_query("/installations", &[("limit", "100"), ("cursor", &cursor)]);
            let found: List<Installation> = visit.get(&path).await?;
            let next = next_page(&visit, found.next_cursor.as_deref());
            let shell = visit.shell("Extensions");
            let can_dismiss = role == Role::Admin;
            let mut installations = found.data;
            // What lives before what was.
            installations.sort_by_key(|one| !one.is_live());
            page(&OrgHome { shell, notices, has_more_notices, can_dismiss, installations, next })
        }
    }
}
