//! The audit: who did what.

use askama::Template;
use axum::response::Response;

use super::{next_page, page};
use crate::web::answers::{AuditLink, List};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Visit, with_query};

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    links: Vec<AuditLink>,
    org: String,
    actor: String,
    action: String,
    subject: String,
    next: Option<String>,
}

/// Looks something up.
pub(in crate::web) async fn search(visit: Visit) -> Result<Response, Trouble> {
    let (org, actor) = (visit.parameter("org"), visit.parameter("actor"));
    let (action, subject) = (visit.parameter("action"), visit.parameter("subject"));
    let cursor = visit.parameter("cursor");
    let query = [
        ("orgId", org.as_str()),
        ("actor", actor.as_str()),
        ("action", action.as_str()),
        ("subject", subject.as_str()),
        ("cursor", cursor.as_str()),
    ];
    let found: List<AuditLink> = visit.get(&with_query("/audit", &query)).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    let shell = visit.shell("Audit");
    page(&AuditPage { shell, links: found.data, org, actor, action, subject, next })
}
