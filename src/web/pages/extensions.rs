//! Extensions: their versions, what differs between two, the kill switch, the signing secret.

use askama::Template;
use axum::response::Response;
use serde_json::json;

use super::{back_to, next_page, page};
use crate::api::Role;
use crate::identifier::ExtensionKey;
use crate::web::answers::{Extension, List, SigningSecret, Upgrade};
use crate::web::parts::Copy;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, segment, with_query};

#[derive(Template)]
#[template(path = "extensions.html")]
struct ExtensionList {
    shell: Shell,
    extensions: Vec<Extension>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "extension.html")]
struct ExtensionPage {
    shell: Shell,
    extension: Extension,
    /// In whose name the visitor holds it.
    holder: &'static str,
    /// The signing secret, where it was asked for.
    secret: Option<Copy>,
    expiring: Vec<crate::web::answers::Expiring>,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage {
    shell: Shell,
    key: ExtensionKey,
    from: String,
    to: String,
    upgrade: Upgrade,
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let cursor = visit.parameter("cursor");
    let found: List<Extension> =
        visit.get(&with_query("/extensions", &[("cursor", &cursor)])).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    page(&ExtensionList { shell: visit.shell("Extensions"), extensions: found.data, next })
}

async fn shown(
    visit: &Visit,
    key: &ExtensionKey,
    secret: Option<SigningSecret>,
    done: &str,
) -> Result<Response, Trouble> {
    let extension: Extension = visit.get(&format!("/extensions/{key}")).await?;
    let mut shell = visit.shell(extension.name.clone());
    if !done.is_empty() {
        shell = shell.done(done);
    }
    let (secret, expiring) = match secret {
        Some(secret) => (Some(Copy::new(secret.secret, "the signing secret")), secret.expiring),
        None => (None, Vec::new()),
    };
    let holder = if visit.is_any(&[Role::Operator]) { "operator" } else { "vendor" };
    page(&ExtensionPage { shell, extension, holder, secret, expiring })
}

/// Shows one.
pub(in crate::web) async fn show(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
) -> Result<Response, Trouble> {
    shown(&visit, &key, None, "").await
}

/// Shows what differs between two versions.
pub(in crate::web) async fn compare(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
) -> Result<Response, Trouble> {
    let (from, to) = (visit.parameter("from"), visit.parameter("to"));
    let query = [("from", from.as_str()), ("to", to.as_str())];
    let upgrade = visit.get(&with_query(&format!("/extensions/{key}/compare"), &query)).await?;
    let shell = visit.shell(format!("{key}: {from} to {to}"));
    page(&ComparePage { shell, key, from, to, upgrade })
}

/// Suspends it in all orgs.
pub(in crate::web) async fn suspend(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({ "reason": form.filled("reason") });
    visit.post(&format!("/extensions/{key}/suspend"), &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/extensions/{key}"), "suspended"))
}

/// Lifts that.
pub(in crate::web) async fn resume(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    visit.post(&format!("/extensions/{key}/resume"), &json!({}), form.text("key")).await?;
    let extension: Extension = visit.get(&format!("/extensions/{key}")).await?;
    let done = if extension.suspended { "lifted" } else { "resumed" };
    Ok(back_to(&format!("/pages/extensions/{key}"), done))
}

/// Shows the signing secret. By a form, so that no address leads to it.
pub(in crate::web) async fn secret(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
) -> Result<Response, Trouble> {
    let secret = visit.get(&format!("/extensions/{key}/signing-secret")).await?;
    shown(&visit, &key, Some(secret), "").await
}

/// Replaces the signing secret; the former one signs too for as long as was chosen.
pub(in crate::web) async fn rotate(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let hours: u64 = form.text("hours").parse().map_err(|_| {
        Trouble::new(
            http::StatusCode::UNPROCESSABLE_ENTITY,
            "The overlap is not a number",
            "Choose for how many hours the former secret signs too. Nothing was changed.",
        )
    })?;
    let body = json!({ "overlapSeconds": hours.saturating_mul(3_600) });
    let path = format!("/extensions/{key}/signing-secret/rotate");
    let secret = visit.post(&path, &body, form.text("key")).await?;
    let secret = serde_json::from_value(secret).map_err(|error| Trouble::internal(&error))?;
    shown(&visit, &key, Some(secret), "rotated").await
}

/// Withdraws a version.
pub(in crate::web) async fn withdraw(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let version = segment(form.text("version"));
    let path = format!("/extensions/{key}/versions/{version}/withdraw");
    visit.post(&path, &json!({}), form.text("key")).await?;
    Ok(back_to(&format!("/pages/extensions/{key}"), "withdrawn"))
}
