//! Zoho Desk's webhooks: the dialect `desk` has their very form, so that little is to be translated.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::reading::{Item, text_of};
use super::{Draft, Fate, ImportRequest, Part};
use crate::dialect::{self, Dialect};
use crate::webhook::own::{SubscriptionRequest, WebhookRequest};

/// What an extension's webhooks are called.
const EXTENSION: &str = "EXTENSION_WEBHOOK";

/// Translates a webhook.
pub(super) fn webhook(item: &Item<'_>, request: &ImportRequest) -> Draft {
    let mut draft = Draft::new(Part::EventWebhook, item);
    if item.text("type") == Some(EXTENSION) {
        let extension = item.members.get("extension");
        let name = extension.and_then(|one| one.get("extensionName")).and_then(Value::as_str);
        return draft.impossible(format!(
            "It belongs to the extension {}: install that, and its webhook comes with it.",
            name.unwrap_or("that made it")
        ));
    }
    let Some(url) = item.text("url") else { return draft.impossible("It has no url.") };
    let Some(wanted) = item.members.get("subscriptions").and_then(Value::as_object) else {
        return draft.impossible("It has no subscriptions.");
    };
    let mut subscriptions = BTreeMap::new();
    for (name, options) in wanted {
        let Some(known) = dialect::canonical(Dialect::Desk, name) else {
            let shown: String = name.chars().take(100).collect();
            draft.notes.push(format!("The event {shown} is unknown here and left out."));
            continue;
        };
        let options = match options {
            Value::Object(options) => Some(subscription(known, options, request, &mut draft)),
            _ => None,
        };
        subscriptions.insert(known.to_owned(), options);
    }
    if subscriptions.is_empty() {
        return draft.impossible("It subscribes to nothing that is known here.");
    }
    let source = item.text("ignoreSourceId").filter(|id| Uuid::try_parse(id).is_ok());
    if source.is_none() {
        let note = "It has no ignoreSourceId that can be kept: another one is made.";
        draft.notes.push(note.to_owned());
    }
    let automatic = item.members.get("includeEventsFrom").and_then(Value::as_array);
    let is_automatic =
        automatic.is_some_and(|from| from.iter().any(|one| one.as_str() == Some("AUTOMATION")));
    let was_enabled = item.members.get("isEnabled") != Some(&Value::Bool(false));
    draft.notes.push(
        "It is signed with a secret and keys of this server: a receiver that checks X-ZDesk-JWT takes \
         the keys of /.well-known/jwks.json here."
            .to_owned(),
    );
    let given = request.credentials.get(&item.id);
    draft.fate = Fate::Webhook(Box::new(WebhookRequest {
        name: item.text("name").map(str::to_owned),
        description: item.text("description").map(str::to_owned),
        url: url.to_owned(),
        subscriptions,
        ignore_source_id: source.map(str::to_owned),
        include_events_from: is_automatic.then(|| vec!["AUTOMATION".to_owned()]),
        is_enabled: Some(request.is_enabled.unwrap_or(was_enabled)),
        dialect: Some(Dialect::Desk.as_str().to_owned()),
        secret: given.and_then(|given| given.secret.clone()),
        ..WebhookRequest::default()
    }));
    draft
}

/// The options of a subscription, as far as they are known here.
fn subscription(
    event: &str,
    options: &Map<String, Value>,
    request: &ImportRequest,
    draft: &mut Draft,
) -> SubscriptionRequest {
    let mut read = SubscriptionRequest::default();
    let texts = |value: &Value| -> Option<Vec<String>> {
        let texts: Vec<String> = value.as_array()?.iter().filter_map(text_of).collect();
        (!texts.is_empty()).then_some(texts)
    };
    for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "departmentIds" => {
                read.department_ids = texts(value).map(|ids| departments(&ids, request, draft));
            }
            "fields" => read.fields = texts(value),
            "includePrevState" => read.include_prev_state = value.as_bool(),
            "direction" => read.direction = value.as_str().map(str::to_owned),
            other => {
                let shown: String = other.chars().take(100).collect();
                let note = format!("{event}: the option {shown} is unknown here and left out.");
                draft.notes.push(note);
            }
        }
    }
    read
}

/// Departments by the ids that they have here, where a mapping says so.
fn departments(ids: &[String], request: &ImportRequest, draft: &mut Draft) -> Vec<String> {
    let mut kept = Vec::new();
    let mut all = Vec::new();
    for id in ids {
        if let Some(mapped) = request.mapping.value("departmentIds", id) {
            all.extend(mapped.iter().filter_map(text_of));
        } else {
            kept.push(id.as_str());
            all.push(id.clone());
        }
    }
    if !kept.is_empty() {
        let note = format!(
            "The departments {} keep their ids: say in mapping.values.departmentIds what they are \
             here, where they are others.",
            kept.join(", ")
        );
        if !draft.notes.contains(&note) {
            draft.notes.push(note);
        }
    }
    all
}
