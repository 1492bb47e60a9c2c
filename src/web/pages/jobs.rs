//! Jobs: how far they are.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde_json::json;
use uuid::Uuid;

use super::{back_to, next_page, page};
use crate::api::Role;
use crate::web::answers::{Job, List};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobList {
    shell: Shell,
    jobs: Vec<Job>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    shell: Shell,
    job: Job,
    can_cancel: bool,
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let cursor = visit.parameter("cursor");
    let found: List<Job> = visit.get(&with_query("/jobs", &[("cursor", &cursor)])).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    page(&JobList { shell: visit.shell("Jobs"), jobs: found.data, next })
}

/// Shows one.
pub(in crate::web) async fn show(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let job: Job = visit.get(&format!("/jobs/{id}")).await?;
    let is_locked = job.extension_key.is_known();
    let owners: &[Role] =
        if is_locked { &[Role::Operator, Role::Vendor] } else { &[Role::Operator, Role::Admin] };
    let can_cancel =
        visit.is_any(owners) && visit.may(&Method::POST, "/jobs/{id}/cancel") && !job.is_over();
    page(&JobPage { shell: visit.shell(job.what().to_owned()), can_cancel, job })
}

/// Calls one off.
pub(in crate::web) async fn cancel(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    visit.post(&format!("/jobs/{id}/cancel"), &json!({}), form.text("key")).await?;
    Ok(back_to(&format!("/pages/jobs/{id}"), "cancelled"))
}
