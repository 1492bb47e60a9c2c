//! Putting a notice aside.

use axum::response::Response;
use serde_json::json;
use uuid::Uuid;

use super::back_to;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit};

/// Puts it aside.
pub(in crate::web) async fn dismiss(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    visit.post(&format!("/notices/{id}/dismiss"), &json!({}), form.text("key")).await?;
    Ok(back_to("/pages", "dismissed"))
}
