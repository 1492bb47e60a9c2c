//! API tokens: who holds what, made and revoked.

use askama::Template;
use axum::response::Response;
use serde_json::json;
use uuid::Uuid;

use super::{back_to, next_page, page};
use crate::api::Role;
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
    next: Option<String>,
}

async fn show(visit: &Visit, made: Option<Copy>) -> Result<Response, Trouble> {
    let cursor = visit.parameter("cursor");
    let found: List<Token> = visit.get(&with_query("/tokens", &[("cursor", &cursor)])).await?;
    let next = next_page(visit, found.next_cursor.as_deref());
    let shell = visit.shell("Tokens");
    page(&TokenPage { shell, tokens: found.data, roles: Role::ALL, made, next })
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    show(&visit, None).await
}

/// Makes one.
pub(in crate::web) async fn create(visit: Visit, Sent(form): Sent) -> Result<Response, Trouble> {
    let expires_at = form.filled("expires").map(|day| format!("{day}T00:00:00Z"));
    let body = json!({
        "role": form.text("role"),
        "orgId": form.filled("org"),
        "vendor": form.filled("vendor"),
        "scopes": null,
        "name": form.filled("name"),
        "expiresAt": expires_at,
    });
    let made = visit.post("/tokens", &body, form.text("key")).await?;
    let made: Token = serde_json::from_value(made).map_err(|error| Trouble::internal(&error))?;
    show(&visit, Some(Copy::new(made.token.as_str(), "the token"))).await
}

/// Revokes one.
pub(in crate::web) async fn revoke(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    visit.delete(&format!("/tokens/{id}")).await?;
    Ok(back_to("/pages/tokens", "revoked"))
}
