//! Zendesk's webhooks: connected to events, or called by triggers and automations. Here a webhook has
//! one connection for life, so one that both call becomes two.

use std::collections::BTreeMap;

use serde_json::Value;

use super::reading::{Item, text_of};
use super::{Draft, Fate, ImportCredentials, ImportRequest, Missing, Part, escaped};
use crate::crypto::SecretText;
use crate::dialect::{self, Connection, Dialect};
use crate::webhook::own::{AuthenticationRequest, WebhookRequest};

/// What stands among a webhook's subscriptions where triggers and automations call it.
const CONDITIONAL: &str = "conditional_ticket_events";

/// Translates webhooks. What calls them has been translated before, so that it is known which
/// connections they need.
pub(super) fn webhooks(items: &[Item<'_>], rules: &[Draft], request: &ImportRequest) -> Vec<Draft> {
    let is_called = |id: &str, part: Part| {
        rules.iter().any(|rule| {
            matches!(&rule.fate, Fate::Rule { kind, webhook, .. }
                if webhook == id && Part::called_by(*kind) == part)
        })
    };
    let mut drafts = Vec::new();
    for item in items {
        let subscriptions: Vec<&str> = item
            .members
            .get("subscriptions")
            .and_then(Value::as_array)
            .map(|all| all.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let events: Vec<&str> =
            subscriptions.iter().copied().filter(|name| *name != CONDITIONAL).collect();
        if !events.is_empty() {
            drafts.push(webhook(item, Part::EventWebhook, &events, request));
        }
        let is_conditional = events.is_empty() || subscriptions.contains(&CONDITIONAL);
        let mut parts: Vec<Part> = [Part::TriggerWebhook, Part::AutomationWebhook]
            .into_iter()
            .filter(|part| is_called(&item.id, *part))
            .collect();
        if is_conditional && parts.is_empty() {
            parts.push(Part::TriggerWebhook);
        }
        let are_two = parts.len() > 1;
        for part in parts {
            let mut draft = webhook(item, part, &[], request);
            if are_two {
                draft.notes.push(
                    "Triggers and automations call it: here it becomes two webhooks, one for each."
                        .to_owned(),
                );
            } else if !is_called(&item.id, part) {
                draft.notes.push(
                    "Nothing in this import calls it: give its triggers and automations too, or make \
                     a trigger for it."
                        .to_owned(),
                );
            }
            drafts.push(draft);
        }
    }
    drafts
}

fn webhook(item: &Item<'_>, part: Part, events: &[&str], request: &ImportRequest) -> Draft {
    let mut draft = Draft::new(part, item);
    if item.members.get("external_source").is_some_and(|source| !source.is_null()) {
        return draft.impossible(
            "An app of Zendesk's marketplace made it: what an app brings comes here with its extension.",
        );
    }
    let Some(url) = item.text("endpoint") else { return draft.impossible("It has no endpoint.") };
    let mut wanted = WebhookRequest {
        name: Some(item.name.clone()),
        description: item.text("description").map(str::to_owned),
        url: url.to_owned(),
        dialect: Some(Dialect::Zendesk.as_str().to_owned()),
        connection: part.connection().map(|one| one.as_str().to_owned()),
        ..WebhookRequest::default()
    };
    let was_active = item.text("status").is_none_or(|status| status == "active");
    wanted.is_enabled = Some(request.is_enabled.unwrap_or(was_active));
    // There it is told of what automation causes, too, and triggers fire on it.
    wanted.include_events_from = Some(vec!["AUTOMATION".to_owned()]);
    if part.connection() == Some(Connection::Events) {
        for name in events {
            match dialect::canonical(Dialect::Zendesk, name) {
                Some(known) => {
                    wanted.subscriptions.insert(known.to_owned(), None);
                }
                None => draft.notes.push(unknown_event(name)),
            }
        }
        if wanted.subscriptions.is_empty() {
            return draft.impossible("It subscribes to nothing that is known here.");
        }
    } else {
        wanted.method = item.text("http_method").map(str::to_ascii_uppercase);
        wanted.format = item.text("request_format").map(|format| match format {
            "form_encoded" => "form".to_owned(),
            other => other.to_owned(),
        });
    }
    match custom_headers(item.members.get("custom_headers")) {
        Some(headers) => wanted.headers = headers,
        None => return draft.impossible("Its custom_headers are not names with texts."),
    }
    let given = request.credentials.get(&item.id);
    match item.members.get("authentication") {
        None | Some(Value::Null) => {}
        Some(authentication) => {
            let (read, missing) = authenticated(authentication, given, &item.id);
            draft.missing.extend(missing);
            match read {
                Some(read) => wanted.authentication = Some(read),
                None => {
                    return draft
                        .impossible("Its authentication is of a kind that is unknown here.");
                }
            }
        }
    }
    wanted.secret = given.and_then(|given| given.secret.clone()).or_else(|| {
        let secret = item.members.get("signing_secret")?;
        shown(secret.get("secret"))
    });
    if wanted.secret.is_none() {
        draft.missing.push(Missing {
            pointer: pointer(&item.id, "secret"),
            message:
                "What it signs with: GET /api/v2/webhooks/{id}/signing_secret of Zendesk tells \
                      it. Another one is made and told once where it is left out."
                    .to_owned(),
            is_needed: false,
        });
    }
    draft.fate = Fate::Webhook(Box::new(wanted));
    draft
}

fn unknown_event(name: &str) -> String {
    let shown: String = name.chars().take(100).collect();
    match dialect::nearest(Dialect::Zendesk, name) {
        Some(near) => {
            format!("The event {shown} is unknown here and left out; {near} is spelled like it.")
        }
        None => format!("The event {shown} is unknown here and left out: the host has none such."),
    }
}

#[expect(clippy::option_option, reason = "none at all, and not to be understood, are two things")]
fn custom_headers(given: Option<&Value>) -> Option<Option<BTreeMap<String, String>>> {
    match given {
        None | Some(Value::Null) => Some(None),
        Some(Value::Object(members)) => {
            let mut headers = BTreeMap::new();
            for (name, value) in members {
                headers.insert(name.clone(), text_of(value)?);
            }
            Some((!headers.is_empty()).then_some(headers))
        }
        Some(_) => None,
    }
}

fn pointer(id: &str, member: &str) -> String {
    format!("/credentials/{}/{member}", escaped(id))
}

/// A secret that an export shows, where it does: what stands there in its place is none.
fn shown(value: Option<&Value>) -> Option<SecretText> {
    let text = value?.as_str()?;
    let is_masked = text.chars().all(|one| matches!(one, '*' | '•' | 'x' | 'X' | '.' | ' '));
    (!is_masked).then(|| SecretText::new(text))
}

/// An authentication with what is secret in it, and what is missing; nothing where its kind is
/// unknown.
fn authenticated(
    document: &Value,
    given: Option<&ImportCredentials>,
    id: &str,
) -> (Option<AuthenticationRequest>, Vec<Missing>) {
    let kind = document.get("type").and_then(Value::as_str).unwrap_or_default();
    let data = document.get("data");
    let told = |member: &str| data.and_then(|data| data.get(member));
    let text = |member: &str| told(member).and_then(Value::as_str).map(str::to_owned);
    let mut missing = Vec::new();
    let mut needs = |member: &str, message: &str| {
        let message = format!("{message} Zendesk does not tell it.");
        missing.push(Missing { pointer: pointer(id, member), message, is_needed: true });
    };
    let read = match kind {
        "" | "none" => return (Some(none()), missing),
        "basic_auth" => {
            let username = given.and_then(|one| one.username.clone()).or_else(|| text("username"));
            let password =
                given.and_then(|one| one.password.clone()).or_else(|| shown(told("password")));
            if username.is_none() {
                needs("username", "The user of its basic authentication.");
            }
            if password.is_none() {
                needs("password", "The password of its basic authentication.");
            }
            AuthenticationRequest { kind: "basic".to_owned(), username, password, ..none() }
        }
        "bearer_token" => {
            let token = given.and_then(|one| one.token.clone()).or_else(|| shown(told("token")));
            if token.is_none() {
                needs("token", "Its bearer token.");
            }
            AuthenticationRequest { kind: "bearer".to_owned(), token, ..none() }
        }
        "api_key" => {
            let header = given.and_then(|one| one.header.clone()).or_else(|| text("name"));
            let value = given.and_then(|one| one.value.clone()).or_else(|| shown(told("value")));
            if header.is_none() {
                needs("header", "The name of the header of its API key.");
            }
            if value.is_none() {
                needs("value", "Its API key.");
            }
            AuthenticationRequest { kind: "apiKey".to_owned(), header, value, ..none() }
        }
        _ => return (None, missing),
    };
    (Some(read), missing)
}

fn none() -> AuthenticationRequest {
    AuthenticationRequest { kind: "none".to_owned(), ..AuthenticationRequest::default() }
}
