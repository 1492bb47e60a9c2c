//! The journal: what the lifecycle told vendors.

use askama::Template;
use axum::response::Response;
use serde_json::json;
use uuid::Uuid;

use super::webhooks::moment;
use super::{back_to, next_page, page};
use crate::web::answers::{JournalEntry, List};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

#[derive(Template)]
#[template(path = "journal.html")]
struct JournalPage {
    shell: Shell,
    entries: Vec<JournalEntry>,
    since: String,
    next: Option<String>,
}

/// Lists it, oldest first, as a receiver would replay it.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let cursor = visit.parameter("cursor");
    let since = visit.parameter("since");
    let from = moment(&since).unwrap_or_default();
    let query = [("since", from.as_str()), ("cursor", cursor.as_str())];
    let found: List<JournalEntry> = visit.get(&with_query("/journal", &query)).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    page(&JournalPage { shell: visit.shell("Journal"), entries: found.data, since, next })
}

/// Sends a callback again.
pub(in crate::web) async fn redeliver(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    visit.post(&format!("/journal/{id}/redeliver"), &json!({}), form.text("key")).await?;
    Ok(back_to("/pages/journal", "redelivered"))
}
