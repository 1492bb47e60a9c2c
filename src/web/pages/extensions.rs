//! Extensions: their versions, what differs between two, the kill switch, the signing secret.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde_json::json;

use super::{back_to, next_page, page};
use crate::api::Role;
use crate::identifier::ExtensionKey;
use crate::web::answers::{Extension, Installation, List, SigningSecret, Upgrade};
use crate::web::parts::Copy;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, segment, with_query};

#[derive(Template)]
#[template(path = "extensions.html")]
struct ExtensionList {
    shell: Shell,
    extensions: Vec<Extension>,
    /// In whose name the visitor would hold one; nobody's where he may not.
    holder: &'static str,
    can_publish: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "suspend.html")]
struct SuspendPage {
    shell: Shell,
    extension: Extension,
    /// How many installations it has that live, and whether there are more.
    live: usize,
    has_more: bool,
    /// Whether whoever looks is of its vendor.
    is_vendor: bool,
}

#[derive(Template)]
#[template(path = "extension.html")]
struct ExtensionPage {
    shell: Shell,
    extension: Extension,
    /// In whose name the visitor holds it.
    holder: &'static str,
    /// Whether he may withdraw versions and replace the secret.
    can_change: bool,
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
    let (holder, can_publish) = (holder(&visit), can_publish(&visit));
    let shell = visit.shell("Extensions");
    page(&ExtensionList { shell, extensions: found.data, holder, can_publish, next })
}

/// In whose name a visitor holds an extension suspended; nobody's where he may not.
pub(super) fn holder(visit: &Visit) -> &'static str {
    if !visit.may(&Method::POST, "/extensions/{key}/suspend") {
        ""
    } else if visit.is_any(&[Role::Operator]) {
        "operator"
    } else {
        "vendor"
    }
}

/// Whether a visitor may publish.
pub(super) fn can_publish(visit: &Visit) -> bool {
    visit.may(&Method::POST, "/extensions")
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
    page(&ExtensionPage {
        shell,
        extension,
        holder: holder(visit),
        can_change: visit.may(&Method::POST, "/extensions/{key}/versions/{version}/withdraw"),
        secret,
        expiring,
    })
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

/// How many installations are counted before a suspension.
const COUNTED: usize = 200;

/// Says what suspending in all orgs will do.
pub(in crate::web) async fn before_suspend(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
) -> Result<Response, Trouble> {
    let extension: Extension = visit.get(&format!("/extensions/{key}")).await?;
    if extension.is_held_by(holder(&visit)) {
        return Ok(back_to(&format!("/pages/extensions/{key}"), ""));
    }
    let limit = COUNTED.to_string();
    let query =
        [("extensionKey", extension.key.as_str()), ("state", "active"), ("limit", limit.as_str())];
    let active: List<Installation> = visit.get(&with_query("/installations", &query)).await?;
    let (live, has_more) = (active.data.len(), active.next_cursor.is_some());
    let is_vendor = visit.is_any(&[Role::Vendor]);
    let shell = visit.shell(format!("Suspend {} everywhere", extension.name));
    page(&SuspendPage { shell, extension, live, has_more, is_vendor })
}

/// Suspends it in all orgs.
pub(in crate::web) async fn suspend(
    visit: Visit,
    Part(key): Part<ExtensionKey>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({ "reason": form.filled("reason") });
    visit.post(&format!("/extensions/{key}/suspend"), &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/extensions/{key}"), "suspended-everywhere"))
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
