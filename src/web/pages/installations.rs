//! Installations: what is installed, its life so far, and what may be decided of it.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{back_to, next_page, page};
use crate::api::Role;
use crate::web::answers::{Installation, List, Transition};
use crate::web::parts::{Choice, choices};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

/// How many steps of the history a page shows.
const STEPS: &str = "50";

/// The states that a list may be narrowed to, with what people call them.
const STATES: &[(&str, &str)] = &[
    ("", "All states"),
    ("active", "Active"),
    ("pendingAuthorization", "Waits for authorisation"),
    ("suspended", "Suspended"),
    ("uninstalled", "Uninstalled"),
    ("erased", "Erased"),
];

#[derive(Template)]
#[template(path = "installations.html")]
struct InstallationList {
    shell: Shell,
    installations: Vec<Installation>,
    states: Vec<Choice>,
    org: String,
    key: String,
    has_org: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "installation.html")]
struct InstallationPage {
    shell: Shell,
    installation: Installation,
    history: Vec<Transition>,
    /// Where earlier steps are.
    older: Option<String>,
    /// In whose name the visitor holds it; nobody's where he only looks.
    holder: &'static str,
    can_decide: bool,
    can_uninstall: bool,
    sees_operation: bool,
}

#[derive(Template)]
#[template(path = "uninstall.html")]
struct UninstallPage {
    shell: Shell,
    installation: Installation,
}

#[derive(Template)]
#[template(path = "authorization.html")]
struct AuthorizationPage {
    shell: Shell,
    installation: Installation,
    start_url: String,
    /// Whether the pages stand in a frame, which the way must leave.
    leaves_frame: bool,
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let (state, org) = (visit.parameter("state"), visit.parameter("org"));
    let (key, cursor) = (visit.parameter("key"), visit.parameter("cursor"));
    let query = [
        ("state", state.as_str()),
        ("orgId", org.as_str()),
        ("extensionKey", key.as_str()),
        ("cursor", cursor.as_str()),
    ];
    let found: List<Installation> = visit.get(&with_query("/installations", &query)).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    page(&InstallationList {
        shell: visit.shell("Installations"),
        installations: found.data,
        states: choices(STATES, &state),
        org,
        key,
        has_org: visit.is_any(&[Role::Admin, Role::Viewer]),
        next,
    })
}

/// Shows one.
pub(in crate::web) async fn show(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let installation: Installation = visit.get(&format!("/installations/{id}")).await?;
    let cursor = visit.parameter("cursor");
    let query = [("newestFirst", "true"), ("limit", STEPS), ("cursor", cursor.as_str())];
    let path = with_query(&format!("/installations/{id}/history"), &query);
    let history: List<Transition> = visit.get(&path).await?;
    let holder = match visit.role()? {
        _ if !visit.may(&Method::POST, "/installations/{id}/suspend") => "",
        Role::Operator => "operator",
        Role::Vendor => "vendor",
        Role::Admin => "admin",
        Role::Marketplace | Role::Host | Role::Viewer => "",
    };
    page(&InstallationPage {
        shell: visit.shell(installation.extension_name.clone()),
        installation,
        history: history.data,
        older: next_page(&visit, history.next_cursor.as_deref()),
        holder,
        can_decide: visit.may(&Method::POST, "/installations/{id}/consent"),
        can_uninstall: visit.may(&Method::POST, "/installations/{id}/uninstall"),
        sees_operation: visit.is_any(&[Role::Operator]),
    })
}

async fn decide(
    visit: &Visit,
    id: Uuid,
    step: &str,
    body: &Value,
    key: &str,
) -> Result<Value, Trouble> {
    visit.post(&format!("/installations/{id}/{step}"), body, key).await
}

/// Suspends it in the visitor's name.
pub(in crate::web) async fn suspend(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({ "reason": form.filled("reason") });
    decide(&visit, id, "suspend", &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/installations/{id}"), "suspended"))
}

/// Lifts the visitor's suspension.
pub(in crate::web) async fn resume(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    decide(&visit, id, "resume", &json!({}), form.text("key")).await?;
    Ok(back_to(&format!("/pages/installations/{id}"), "lifted"))
}

/// Agrees to the upgrade that waits, as it was shown.
pub(in crate::web) async fn consent(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({ "consentId": form.text("consent"), "digest": form.text("digest") });
    decide(&visit, id, "consent", &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/installations/{id}"), "consented"))
}

/// Begins an authorisation. It goes on by a link: a form may not lead to other servers.
pub(in crate::web) async fn authorization(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({
        "connection": form.filled("connection"),
        "consentId": form.filled("consent"),
        "digest": form.filled("digest"),
    });
    let answer = decide(&visit, id, "authorization", &body, form.text("key")).await?;
    let start_url = answer.get("startUrl").and_then(Value::as_str).map(str::to_owned);
    let Some(start_url) = start_url else {
        return Ok(back_to(&format!("/pages/installations/{id}"), ""));
    };
    let installation: Installation = visit.get(&format!("/installations/{id}")).await?;
    let leaves_frame = visit.pages.is_framed();
    let shell = visit.shell("Authorise");
    page(&AuthorizationPage { shell, installation, start_url, leaves_frame })
}

/// Says what uninstalling will do.
pub(in crate::web) async fn before_uninstall(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    let installation: Installation = visit.get(&format!("/installations/{id}")).await?;
    if !installation.is_live() {
        return Ok(back_to(&format!("/pages/installations/{id}"), ""));
    }
    let title = format!("Uninstall {}", installation.extension_name);
    page(&UninstallPage { shell: visit.shell(title), installation })
}

/// Uninstalls it.
pub(in crate::web) async fn uninstall(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let body = json!({ "reason": form.filled("reason"), "eraseData": form.is_ticked("erase") });
    decide(&visit, id, "uninstall", &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/installations/{id}"), "uninstalled"))
}
