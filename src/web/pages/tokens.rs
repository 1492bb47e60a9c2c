//! API tokens: who holds what, made and revoked.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::{back_to, next_page, page_with};
use crate::api::Role;
use crate::seam::Timestamp;
use crate::web::answers::{List, Token};
use crate::web::parts::Copy;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokenPage {
    shell: Shell,
    tokens: Vec<Token>,
    roles: &'static [Role],
    /// The value of the one that was just made: told here and never again.
    made: Option<Copy>,
    /// What was wrong with the form.
    fault: String,
    now: Timestamp,
    /// The token that the visitor's session came from.
    own: Uuid,
    next: Option<String>,
}

async fn show(visit: &Visit, made: Option<Copy>, fault: String) -> Result<Response, Trouble> {
    let cursor = visit.parameter("cursor");
    let found: List<Token> = visit.get(&with_query("/tokens", &[("cursor", &cursor)])).await?;
    let next = next_page(visit, found.next_cursor.as_deref());
    let shell = visit.shell("Tokens");
    let now = visit.pages.state().seam().clock.now();
    let status = if fault.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let (tokens, roles) = (found.data, Role::ALL);
    let own = visit.visitor()?.session.token.0;
    page_with(status, &TokenPage { shell, tokens, roles, made, fault, now, own, next })
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    show(&visit, None, String::new()).await
}

/// Makes one.
pub(in crate::web) async fn create(visit: Visit, Sent(form): Sent) -> Result<Response, Trouble> {
    // The whole of the day that was chosen.
    let expires_at = form.filled("expires").map(|day| format!("{day}T23:59:59Z"));
    let scopes: Vec<&str> =
        form.text("scopes").split([' ', ',']).filter(|one| !one.is_empty()).collect();
    let body = json!({
        "role": form.text("role"),
        "orgId": form.filled("org"),
        "vendor": form.filled("vendor"),
        "scopes": (!scopes.is_empty()).then_some(scopes),
        "name": form.filled("name"),
        "expiresAt": expires_at,
    });
    let answered = visit.send(Method::POST, "/tokens", &body, form.text("key")).await?;
    if answered.status == StatusCode::UNPROCESSABLE_ENTITY {
        let refused = Trouble::refused(answered.status, answered.json);
        return show(&visit, None, refused.detail).await;
    }
    if !answered.status.is_success() {
        return Err(Trouble::refused(answered.status, answered.json));
    }
    let made: Token =
        serde_json::from_value(answered.json).map_err(|error| Trouble::internal(&error))?;
    show(&visit, Some(Copy::new(made.token.as_str(), "the token")), String::new()).await
}

/// Revokes one.
pub(in crate::web) async fn revoke(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    visit.delete(&format!("/tokens/{id}")).await?;
    Ok(back_to("/pages/tokens", "revoked"))
}
