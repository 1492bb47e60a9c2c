//! Notices: what somebody should know, and putting it aside.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde_json::json;
use uuid::Uuid;

use super::{back_to, next_page, page};
use crate::web::answers::{List, Notice};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

#[derive(Template)]
#[template(path = "notices.html")]
struct NoticeList {
    shell: Shell,
    notices: Vec<Notice>,
    can_dismiss: bool,
    next: Option<String>,
}

/// Lists them, the latest first.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let cursor = visit.parameter("cursor");
    let query = [("limit", "50"), ("cursor", cursor.as_str())];
    let found: List<Notice> = visit.get(&with_query("/notices", &query)).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    let can_dismiss = visit.may(&Method::POST, "/notices/{id}/dismiss");
    page(&NoticeList { shell: visit.shell("Notices"), notices: found.data, can_dismiss, next })
}

/// Puts it aside.
pub(in crate::web) async fn dismiss(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    visit.post(&format!("/notices/{id}/dismiss"), &json!({}), form.text("key")).await?;
    let to = if form.text("from") == "/pages/notices" { "/pages/notices" } else { "/pages" };
    Ok(back_to(to, "dismissed"))
}
