//! Zendesk's triggers and automations, as far as they call webhooks: one rule here for each call.

use serde_json::Value;
use uuid::Uuid;

use super::conditions::{Told, Translating};
use super::reading::{Item, text_of};
use super::{Draft, Fate, ImportRequest, Part, timing};
use crate::webhook::own::{RuleAction, RuleKind, RuleRequest};

/// The action that calls a webhook.
const CALL: &str = "notification_webhook";

/// The longest name of a rule, in characters.
const LONGEST_NAME: usize = 255;

/// Translates rules in the order in which they fire there.
pub(super) fn rules(kind: RuleKind, items: &[Item<'_>], request: &ImportRequest) -> Vec<Draft> {
    let mut ordered: Vec<&Item<'_>> = items.iter().collect();
    let position = |item: &Item<'_>| item.members.get("position").and_then(Value::as_i64);
    ordered.sort_by_key(|item| position(item).unwrap_or(i64::MAX));
    ordered.into_iter().flat_map(|item| rule(kind, item, request)).collect()
}

/// A call of a webhook among the actions of a rule.
struct Call {
    webhook: String,
    content: Value,
}

fn rule(kind: RuleKind, item: &Item<'_>, request: &ImportRequest) -> Vec<Draft> {
    let empty = Draft::new(Part::of_rule(kind), item);
    let actions = item.members.get("actions").and_then(Value::as_array);
    let actions = actions.map(Vec::as_slice).unwrap_or_default();
    let field = |action: &Value| action.get("field").and_then(Value::as_str).map(str::to_owned);
    let (calls, others): (Vec<&Value>, Vec<&Value>) =
        actions.iter().partition(|action| field(action).as_deref() == Some(CALL));
    if calls.is_empty() {
        let mut draft = Draft { fate: Fate::Skipped, ..empty };
        draft.reasons.push("It calls no webhook: the host does what else it does.".to_owned());
        return vec![draft];
    }
    let others: Vec<String> = others.into_iter().filter_map(field).collect();
    let are_many = calls.len() > 1;
    calls
        .into_iter()
        .enumerate()
        .map(|(index, action)| {
            let mut draft = empty.clone();
            if are_many {
                draft.source_id = format!("{}.{}", item.id, index + 1);
                draft.name = format!("{} ({})", item.name, index + 1);
            }
            if !others.is_empty() {
                draft.notes.push(format!(
                    "Only the call is carried over; the host goes on with {}.",
                    others.join(", ")
                ));
            }
            translated(kind, item, action, request, draft)
        })
        .collect()
}

fn translated(
    kind: RuleKind,
    item: &Item<'_>,
    action: &Value,
    request: &ImportRequest,
    mut draft: Draft,
) -> Draft {
    let Some(call) = call(action) else {
        return draft.impossible("Its call of a webhook has no webhook and payload.");
    };
    let conditions = item.members.get("conditions");
    let list = |name: &str| Told::list(conditions.and_then(|all| all.get(name)));
    let (all, any) = (list("all"), list("any"));
    let mut translating = Translating::new(&request.mapping);
    let (conditions, after_minutes, unless) = match kind {
        RuleKind::Trigger => (Some(translating.conditions(&all, &any, None)), None, None),
        RuleKind::Automation => match timing::translate(&all, &any, &mut translating) {
            Some(timing) => {
                (Some(timing.conditions), Some(timing.after_minutes), Some(timing.unless))
            }
            None => (None, None, None),
        },
    };
    let Translating { notes, reasons, missing, .. } = translating;
    draft.notes.extend(notes);
    draft.missing.extend(missing);
    draft.reasons.extend(reasons);
    let (payload, parameters) = match content(&call.content, request) {
        Ok(content) => content,
        Err(reason) => return draft.impossible(reason),
    };
    let Some(conditions) = conditions.filter(|_| draft.reasons.is_empty()) else {
        draft.fate = Fate::Impossible;
        return draft;
    };
    let was_active = item.members.get("active") != Some(&Value::Bool(false));
    draft.fate = Fate::Rule {
        kind,
        webhook: call.webhook,
        request: Box::new(RuleRequest {
            name: draft.name.chars().take(LONGEST_NAME).collect(),
            conditions,
            action: RuleAction { webhook_id: Uuid::nil(), payload, parameters },
            position: None,
            is_active: Some(request.is_enabled.unwrap_or(was_active)),
            after_minutes,
            unless,
        }),
    };
    draft
}

/// `["<webhook>", "<payload>"]`, or `["<webhook>", [["name", "value"], …]]`.
fn call(action: &Value) -> Option<Call> {
    let value = action.get("value")?;
    let (webhook, content) = match (action.get("target"), value) {
        (None, Value::Array(pair)) => (pair.first()?, pair.get(1).cloned().unwrap_or_default()),
        (Some(target), content) => (target, content.clone()),
        (None, _) => return None,
    };
    Some(Call { webhook: text_of(webhook)?, content })
}

type Content = (Option<String>, Option<Vec<(String, String)>>);

/// A payload or parameters, with placeholders by the names that they have here.
fn content(content: &Value, request: &ImportRequest) -> Result<Content, String> {
    let renamed = |text: &str| renamed(text, request);
    match content {
        Value::String(payload) => Ok((Some(renamed(payload)?), None)),
        Value::Array(pairs) => {
            let mut parameters = Vec::new();
            for pair in pairs {
                let texts: Vec<String> =
                    pair.as_array().into_iter().flatten().filter_map(text_of).collect();
                let [name, value] = texts.as_slice() else {
                    return Err("Its parameters are not pairs of two texts.".to_owned());
                };
                parameters.push((renamed(name)?, renamed(value)?));
            }
            Ok((None, Some(parameters)))
        }
        Value::Null => Ok((None, Some(Vec::new()))),
        Value::Object(_) => Ok((Some(renamed(&content.to_string())?), None)),
        Value::Bool(_) | Value::Number(_) => {
            Err("What it sends is neither a payload nor parameters.".to_owned())
        }
    }
}

/// A text with the placeholders of the mapping put in place of those that it names.
fn renamed(text: &str, request: &ImportRequest) -> Result<String, String> {
    if text.contains("{%") {
        return Err(
            "It computes what it sends with Liquid ({% … %}): nothing is computed here. Say it with \
             several triggers, or leave it to the receiver."
                .to_owned(),
        );
    }
    let placeholders = &request.mapping.placeholders;
    if placeholders.is_empty() {
        return Ok(text.to_owned());
    }
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, from) = rest.split_at(start);
        written.push_str(before);
        let Some(end) = from.find("}}") else {
            rest = from;
            break;
        };
        let name = from[2..end].trim();
        match placeholders.get(name) {
            Some(other) => {
                written.push_str("{{");
                written.push_str(other);
                written.push_str("}}");
            }
            None => written.push_str(&from[..end + 2]),
        }
        rest = &from[end + 2..];
    }
    written.push_str(rest);
    Ok(written)
}
