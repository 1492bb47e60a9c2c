//! An org's own webhooks: made, changed, tried before anything is saved, copied, switched on and
//! off, and removed. Of an extension's webhook none of these pages exists.

mod filled;

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) use self::filled::headers;
use self::filled::{CONNECTIONS, FIELDS, Filled, ModuleRows};
use super::{back_to, page, page_with};
use crate::api::Role;
use crate::web::answers::{EventType, Own, Trial, Webhook, Written};
use crate::web::faults::Faults;
use crate::web::form::Form;
use crate::web::parts::{Choice, Copy, choices};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Answered, Part, Sent, Visit, with_query};
use crate::web::words;

/// The methods that triggers and automations may call with.
const METHODS: &[(&str, &str)] =
    &[("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("GET", "GET"), ("DELETE", "DELETE")];

/// The forms of what is sent.
const FORMATS: &[(&str, &str)] = &[("json", "JSON"), ("xml", "XML"), ("form", "form fields")];

/// The forms of CloudEvents.
const CLOUD_EVENTS: &[(&str, &str)] =
    &[("", "no"), ("structured", "structured"), ("binary", "binary")];

/// What becomes of what comes while a webhook is off.
const WHILE_DISABLED: &[(&str, &str)] =
    &[("drop", "is not for it"), ("queue", "waits, up to 72 hours and 10,000 deliveries")];

/// Where a client says who it is.
const CLIENTS: &[(&str, &str)] = &[("basic", "in a header"), ("body", "in the body")];

#[derive(Template)]
#[template(path = "own_webhook.html")]
struct FormPage {
    shell: Shell,
    /// The webhook that is changed; nothing where one is made.
    webhook: Option<Webhook>,
    /// Where the form goes.
    action: String,
    filled: Filled,
    modules: Vec<ModuleRows>,
    faults: Faults,
    /// What came of trying it.
    trial: Option<Trial>,
    /// The events that can be tried.
    tried: Vec<Choice>,
    needs_org: bool,
    dialects: Vec<Choice>,
    connections: Vec<Choice>,
    methods: Vec<Choice>,
    formats: Vec<Choice>,
    cloud_events: Vec<Choice>,
    while_disabled: Vec<Choice>,
    authentications: Vec<Choice>,
    clients: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "own_webhook_made.html")]
struct MadePage {
    shell: Shell,
    id: Uuid,
    what: &'static str,
    secret: Option<Copy>,
    warnings: Vec<String>,
}

#[derive(Template)]
#[template(path = "own_webhook_delete.html")]
struct DeletePage {
    shell: Shell,
    webhook: Webhook,
    /// The rules that keep it, where it is in use: part of the address, name.
    used_by: Vec<(String, String)>,
}

/// What a form is shown with.
struct Shown {
    webhook: Option<Webhook>,
    filled: Filled,
    faults: Faults,
    trial: Option<Trial>,
    tried: String,
}

impl Shown {
    fn of(webhook: Option<Webhook>, filled: Filled) -> Self {
        let tried = filled.first_event();
        Self { webhook, filled, faults: Faults::none(FIELDS), trial: None, tried }
    }
}

async fn form_page(visit: &Visit, shown: Shown) -> Result<Response, Trouble> {
    let Shown { webhook, filled, faults, trial, tried } = shown;
    let types = visit.event_types(&filled.dialect).await?;
    let (title, action) = match &webhook {
        None => ("New webhook".to_owned(), "/pages/webhooks".to_owned()),
        Some(one) => {
            (format!("Change {}", one.title()), format!("/pages/webhooks/{}/edit", one.id))
        }
    };
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let template = FormPage {
        shell: visit.shell(title),
        action,
        modules: filled.modules(&types),
        tried: event_choices(types.iter(), &tried),
        needs_org: webhook.is_none() && visit.is_any(&[Role::Operator]),
        dialects: choices(words::DIALECTS, &filled.dialect),
        connections: choices(CONNECTIONS, &filled.connection),
        methods: choices(METHODS, &filled.method),
        formats: choices(FORMATS, &filled.format),
        cloud_events: choices(CLOUD_EVENTS, &filled.cloud_events),
        while_disabled: choices(WHILE_DISABLED, &filled.while_disabled),
        authentications: choices(words::AUTHENTICATIONS, &filled.authentication.kind),
        clients: choices(CLIENTS, filled.authentication.client_authentication.as_str()),
        webhook,
        filled,
        faults,
        trial,
    };
    page_with(status, &template)
}

/// Event types to choose one of.
pub(super) fn event_choices<'t>(
    types: impl Iterator<Item = &'t EventType>,
    chosen: &str,
) -> Vec<Choice> {
    let choice = |one: &EventType| Choice {
        label: format!("{} ({})", one.label, one.name),
        is_chosen: one.name == chosen,
        value: one.name.clone(),
    };
    types.map(choice).collect()
}

/// An own webhook that the visitor may change. Of an extension's there is no such page.
async fn changeable(visit: &Visit, id: Uuid) -> Result<Webhook, Trouble> {
    let webhook: Webhook = visit.get(&format!("/webhooks/{id}")).await?;
    if webhook.locked { Err(Trouble::not_found()) } else { Ok(webhook) }
}

fn own_of(webhook: &Webhook) -> Result<&Own, Trouble> {
    webhook.own.as_ref().ok_or_else(|| Trouble::internal(&"an own webhook without its settings"))
}

/// Asks what a new one is to be.
pub(in crate::web) async fn new(visit: Visit) -> Result<Response, Trouble> {
    let (dialect, connection) = (visit.parameter("dialect"), visit.parameter("connection"));
    let filled = Filled::fresh(&dialect, &connection, visit.parameter("org"));
    form_page(&visit, Shown::of(None, filled)).await
}

/// Asks what one is to be from now on.
pub(in crate::web) async fn edit(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let webhook = changeable(&visit, id).await?;
    let filled = Filled::of_webhook(&webhook, own_of(&webhook)?);
    let filled = filled.in_dialect(&visit.parameter("dialect"));
    form_page(&visit, Shown::of(Some(webhook), filled)).await
}

/// Makes one, or only tries what is in the form.
pub(in crate::web) async fn create(visit: Visit, Sent(form): Sent) -> Result<Response, Trouble> {
    let filled = Filled::of_form(&form);
    let mut shown = Shown::of(None, filled);
    if is_trial(&form) {
        return try_out(&visit, &form, shown).await;
    }
    let body = shown.filled.body(&form, true, &mut shown.faults);
    if !shown.faults.is_empty() {
        return form_page(&visit, shown).await;
    }
    let path = with_query("/webhooks", &[("orgId", &shown.filled.org)]);
    let answered = visit.send(Method::POST, &path, &body, form.text("key")).await?;
    written(&visit, answered, shown, "The webhook is there.", "created").await
}

/// Changes one, or only tries what is in the form.
pub(in crate::web) async fn change(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let webhook = changeable(&visit, id).await?;
    let own = own_of(&webhook)?;
    let mut filled = Filled::of_form(&form);
    // Fixed for life, and in the form for the eye only.
    own.connection.clone_into(&mut filled.connection);
    let mut shown = Shown::of(Some(webhook), filled);
    if is_trial(&form) {
        return try_out(&visit, &form, shown).await;
    }
    let mut body = shown.filled.body(&form, false, &mut shown.faults);
    if !shown.faults.is_empty() {
        return form_page(&visit, shown).await;
    }
    if !shown.filled.modified.is_empty() {
        body["modifiedTime"] = shown.filled.modified.clone().into();
    }
    let answered = visit.send(Method::PATCH, &format!("/webhooks/{id}"), &body, "").await?;
    if answered.json.get("errorCode").is_some_and(|code| code == "CONFLICT") {
        "Somebody else changed it since this page was loaded. Nothing was saved: load the page \
         again to see what it is now."
            .clone_into(&mut shown.faults.summary);
        return form_page(&visit, shown).await;
    }
    written(&visit, answered, shown, "The webhook is changed.", "saved").await
}

/// Shows what was written: with what was made and is told once, or the webhook itself.
async fn written(
    visit: &Visit,
    answered: Answered,
    shown: Shown,
    what: &'static str,
    done: &str,
) -> Result<Response, Trouble> {
    if !answered.status.is_success() {
        let faults = Faults::of(FIELDS, answered, "")?;
        return form_page(visit, Shown { faults, ..shown }).await;
    }
    made(visit, answered.json, what, done)
}

fn made(visit: &Visit, answer: Value, what: &'static str, done: &str) -> Result<Response, Trouble> {
    let made: Written =
        serde_json::from_value(answer).map_err(|error| Trouble::internal(&error))?;
    if !made.secret.is_known() && made.warnings.is_empty() {
        return Ok(back_to(&format!("/pages/webhooks/{}", made.id), done));
    }
    let secret =
        made.secret.is_known().then(|| Copy::new(made.secret.as_str(), "the signing secret"));
    let shell = visit.shell("Saved");
    page(&MadePage { shell, id: made.id, what, secret, warnings: made.warnings })
}

fn is_trial(form: &Form) -> bool {
    ["test", "ping"].contains(&form.text("action"))
}

/// Sends a sample, or a ping, to what is in the form; nothing is saved.
async fn try_out(visit: &Visit, form: &Form, mut shown: Shown) -> Result<Response, Trouble> {
    form.text("type").clone_into(&mut shown.tried);
    let org = [("orgId", shown.filled.org.as_str())];
    let answered = if form.text("action") == "ping" {
        let body = json!({ "url": shown.filled.url });
        visit.send(Method::POST, &with_query("/webhooks/ping", &org), &body, "").await?
    } else {
        let mut described = shown.filled.body(form, true, &mut shown.faults);
        // What would be made here is not needed for a trial.
        shown.faults = Faults::none(FIELDS);
        described["isEnabled"] = true.into();
        let body = json!({ "webhook": described, "eventType": shown.tried });
        visit.send(Method::POST, &with_query("/webhooks/test", &org), &body, "").await?
    };
    if answered.status.is_success() {
        let trial = serde_json::from_value(answered.json);
        shown.trial = Some(trial.map_err(|error| Trouble::internal(&error))?);
    } else {
        shown.faults = Faults::of(FIELDS, answered, "/webhook")?;
        if shown.faults.summary.is_empty() {
            "It cannot be tried like this yet. Nothing was sent."
                .clone_into(&mut shown.faults.summary);
        }
    }
    form_page(visit, shown).await
}

/// Makes a copy, which is off.
pub(in crate::web) async fn copy(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    changeable(&visit, id).await?;
    let path = format!("/webhooks/{id}/clone");
    let answer = visit.post(&path, &json!({}), form.text("key")).await?;
    made(&visit, answer, "The copy is there, switched off.", "created")
}

/// Switches one on or off.
pub(in crate::web) async fn switch(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    changeable(&visit, id).await?;
    let (step, body, done) = if form.text("to") == "on" {
        ("enable", json!({ "release": form.text("waiting") != "discard" }), "switched-on")
    } else {
        ("disable", json!({}), "switched-off")
    };
    visit.post(&format!("/webhooks/{id}/{step}"), &body, form.text("key")).await?;
    Ok(back_to(&format!("/pages/webhooks/{id}"), done))
}

/// Says what deleting one will do.
pub(in crate::web) async fn before_delete(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    let webhook = changeable(&visit, id).await?;
    let shell = visit.shell(format!("Delete {}", webhook.title()));
    page(&DeletePage { shell, webhook, used_by: Vec::new() })
}

/// Deletes one, unless triggers or automations call it.
pub(in crate::web) async fn delete(
    visit: Visit,
    Part(id): Part<Uuid>,
) -> Result<Response, Trouble> {
    let webhook = changeable(&visit, id).await?;
    let answered = visit.ask(Method::DELETE, &format!("/webhooks/{id}"), None, None).await?;
    if answered.status.is_success() {
        let org = if visit.is_any(&[Role::Operator]) { webhook.org_id.as_str() } else { "" };
        let query = [("org", org), ("done", "deleted")];
        return Ok(Redirect::to(&with_query("/pages/webhooks", &query)).into_response());
    }
    let text = |one: &Value, name: &str| {
        one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let used_by: Vec<(String, String)> = answered
        .json
        .get("usedBy")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|one| {
            let path = format!("/pages/rules/{}s/{}", text(one, "kind"), text(one, "id"));
            (path, text(one, "name"))
        })
        .collect();
    if answered.status != StatusCode::CONFLICT || used_by.is_empty() {
        return Err(Trouble::refused(answered.status, answered.json));
    }
    let shell = visit.shell(format!("Delete {}", webhook.title()));
    page_with(StatusCode::CONFLICT, &DeletePage { shell, webhook, used_by })
}
