//! Triggers and automations: what one may say, and what is made of it for the routing index.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::definition::FieldFault;
use crate::dialect::{BodyFormat, Connection, Content, RequestMethod, Template};
use crate::store::entity::webhook_rule;
use crate::webhook::conditions::{Conditions, FindEventType};

/// The most triggers of an org, and the most automations.
pub const MOST_RULES: u64 = 100;

/// The longest name, in characters.
const LONGEST_NAME: usize = 255;

/// The highest position.
const HIGHEST_POSITION: i32 = 100_000;

/// What a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// It fires with the event.
    Trigger,
    /// It fires some time after the event, unless something else happened.
    Automation,
}

impl RuleKind {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Automation => "automation",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Trigger, Self::Automation].into_iter().find(|one| one.as_str() == name)
    }

    /// What the webhook must be connected to.
    pub const fn connection(self) -> Connection {
        match self {
            Self::Trigger => Connection::Trigger,
            Self::Automation => Connection::Automation,
        }
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleAction {
    /// The webhook that is called; one of the org's own with the connection of the rule.
    pub webhook_id: Uuid,
    /// What is sent by POST, PUT and PATCH with JSON or XML; with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// What is sent by everything else: pairs in order, with placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Vec<(String, String)>>,
}

/// A trigger or automation as it is asked for.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleRequest {
    /// What administrators see it as; 1 to 255 characters.
    pub name: String,
    /// When it fires; for an automation, which event its time runs from.
    pub conditions: Conditions,
    /// What it does.
    pub action: RuleAction,
    /// Rules fire in the order of their positions; at the end where it is left out.
    #[serde(default)]
    pub position: Option<i32>,
    /// Whether it fires at all; it does where this is left out.
    #[serde(default)]
    pub is_active: Option<bool>,
    /// Of an automation: how many minutes after the event it fires; less than payloads are kept.
    #[serde(default)]
    pub after_minutes: Option<u32>,
    /// Of an automation: it does not fire where an event of the same ticket (or whatever the event
    /// is about) that fulfils these conditions came meanwhile.
    #[serde(default)]
    pub unless: Option<Conditions>,
}

/// What is to change of a rule; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RulePatch {
    /// As for a new rule.
    #[serde(default)]
    pub name: Option<String>,
    /// As for a new rule.
    #[serde(default)]
    pub conditions: Option<Conditions>,
    /// As for a new rule; replaced whole.
    #[serde(default)]
    pub action: Option<RuleAction>,
    /// As for a new rule.
    #[serde(default)]
    pub position: Option<i32>,
    /// As for a new rule.
    #[serde(default)]
    pub is_active: Option<bool>,
    /// As for a new rule.
    #[serde(default)]
    pub after_minutes: Option<u32>,
    /// As for a new rule; null takes it out.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Conditions>)]
    pub unless: Option<Option<Conditions>>,
}

#[expect(clippy::option_option, reason = "left out, null and conditions are three things")]
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Conditions>>, D::Error> {
    Option::<Conditions>::deserialize(deserializer).map(Some)
}

/// What finds the placeholders, of some names, that events of none of some types have.
pub type FindUnknown<'f> = &'f dyn Fn(&[&str], &[&str]) -> Vec<String>;

/// What the catalogue of events knows, as far as a rule asks.
pub struct Vocabulary<'v> {
    /// Finds an event type.
    pub find: FindEventType<'v>,
    /// The placeholders that events of none of the types have, in words; of no types means of all.
    pub unknown: FindUnknown<'v>,
    /// The longest wait of an automation: less than payloads are kept.
    pub longest_wait_minutes: u32,
}

impl std::fmt::Debug for Vocabulary<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

/// A rule, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDefinition {
    /// What it is.
    pub kind: RuleKind,
    /// Its name.
    pub name: String,
    /// When it fires.
    pub conditions: Conditions,
    /// What it does.
    pub action: RuleAction,
    /// Its position, where one was given.
    pub position: Option<i32>,
    /// Whether it fires.
    pub is_active: bool,
    /// How long it waits.
    pub after_minutes: Option<u32>,
    /// What keeps it from firing.
    pub unless: Option<Conditions>,
    /// What may be a mistake.
    pub warnings: Vec<String>,
}

/// How the webhook's requests look, as far as a rule must know.
#[derive(Clone, Copy, Debug)]
pub struct RequestForm {
    /// The method.
    pub method: RequestMethod,
    /// The format.
    pub format: BodyFormat,
}

impl RuleAction {
    /// What is sent; nothing where neither or both are said.
    pub fn content(&self) -> Option<Content> {
        match (&self.payload, &self.parameters) {
            (Some(payload), None) => Some(Content::Payload(payload.clone())),
            (None, Some(parameters)) => Some(Content::Parameters(parameters.clone())),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }
}

impl RuleRequest {
    /// Checks everything; all faults at once.
    pub fn check(
        mut self,
        kind: RuleKind,
        form: RequestForm,
        vocabulary: &Vocabulary<'_>,
    ) -> Result<RuleDefinition, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let length = self.name.trim().chars().count();
        if !(1..=LONGEST_NAME).contains(&length) || self.name.chars().any(char::is_control) {
            let rule = format!("must have 1 to {LONGEST_NAME} characters, no control characters");
            faults.push(FieldFault::new("/name", rule));
        }
        if self.position.is_some_and(|position| !(0..=HIGHEST_POSITION).contains(&position)) {
            let rule = format!("must be 0 to {HIGHEST_POSITION}");
            faults.push(FieldFault::new("/position", rule));
        }
        let mut conditions = |conditions: &mut Conditions, at: &str| {
            for (place, fault) in conditions.check(vocabulary.find) {
                faults.push(FieldFault::new(format!("{at}{place}"), fault.to_string()));
            }
        };
        conditions(&mut self.conditions, "/conditions");
        if let Some(unless) = &mut self.unless {
            conditions(unless, "/unless");
        }
        let longest = vocabulary.longest_wait_minutes;
        match (kind, self.after_minutes) {
            (RuleKind::Trigger, None) if self.unless.is_none() => {}
            (RuleKind::Trigger, _) => {
                let rule = "afterMinutes and unless are an automation's";
                faults.push(FieldFault::new("/afterMinutes", rule));
            }
            (RuleKind::Automation, Some(minutes)) if (1..=longest).contains(&minutes) => {}
            (RuleKind::Automation, Some(_)) => {
                let rule = format!("must be 1 to {longest}, less than payloads are kept");
                faults.push(FieldFault::new("/afterMinutes", rule));
            }
            (RuleKind::Automation, None) => {
                let rule = "an automation needs the time that it waits after the event";
                faults.push(FieldFault::missing("/afterMinutes", rule));
            }
        }
        let warnings = self.check_action(form, vocabulary, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(RuleDefinition {
            kind,
            name: self.name,
            conditions: self.conditions,
            action: self.action,
            position: self.position,
            is_active: self.is_active.unwrap_or(true),
            after_minutes: self.after_minutes,
            unless: self.unless,
            warnings,
        })
    }

    fn check_action(
        &self,
        form: RequestForm,
        vocabulary: &Vocabulary<'_>,
        faults: &mut Vec<FieldFault>,
    ) -> Vec<String> {
        let place = if self.action.parameters.is_some() { "parameters" } else { "payload" };
        let pointer = format!("/action/{place}");
        let Some(content) = self.action.content() else {
            let rule = "an action has either a payload or parameters";
            faults.push(FieldFault::missing("/action", rule));
            return Vec::new();
        };
        let template = match Template::parse(form.method, form.format, &content) {
            Ok(template) => template,
            Err(fault) => {
                faults.push(FieldFault::new(pointer, fault.to_string()));
                return Vec::new();
            }
        };
        let types = self.conditions.event_types().unwrap_or_default();
        for unknown in (vocabulary.unknown)(&template.placeholders(), &types) {
            faults.push(FieldFault::new(pointer.clone(), unknown));
        }
        if template.is_empty() {
            let empty = "Nothing would be sent: the payload is empty. GET /placeholders has a template to begin with.";
            return vec![empty.to_owned()];
        }
        Vec::new()
    }
}

/// A rule of the routing index.
#[derive(Debug)]
pub struct RoutedRule {
    /// Its id.
    pub id: Uuid,
    /// What it is.
    pub kind: RuleKind,
    /// Its name.
    pub name: String,
    /// When it fires.
    pub conditions: Conditions,
    /// What it sends.
    pub template: Template,
    /// How long it waits.
    pub after: Option<Duration>,
    /// What keeps it from firing.
    pub unless: Option<Conditions>,
}

impl RoutedRule {
    /// What its deliveries say that they are of.
    pub fn variant(&self) -> Arc<str> {
        Arc::from(format!("{}:{}", self.kind.as_str(), self.id))
    }

    /// The rule that a delivery says that it is of.
    pub fn id_of(variant: &str) -> Option<Uuid> {
        let (kind, id) = variant.split_once(':')?;
        RuleKind::from_name(kind)?;
        Uuid::try_parse(id).ok()
    }

    /// Reads a row; nothing where this release cannot, or where the webhook's requests have become
    /// others.
    pub(crate) fn read(row: &webhook_rule::Model, form: RequestForm) -> Option<Self> {
        let content = stored_content(&row.content)?;
        Some(Self {
            id: row.id,
            kind: RuleKind::from_name(&row.kind)?,
            name: row.name.clone(),
            conditions: serde_json::from_str(&row.conditions).ok()?,
            template: Template::parse(form.method, form.format, &content).ok()?,
            after: row
                .after_minutes
                .map(|minutes| Duration::from_secs(u64::from(minutes.unsigned_abs()) * 60)),
            unless: match row.unless.as_deref() {
                None => None,
                Some(unless) => Some(serde_json::from_str(unless).ok()?),
            },
        })
    }
}

/// A stored payload is a JSON string, parameters are a list.
pub(crate) fn stored_content(text: &str) -> Option<Content> {
    match serde_json::from_str(text).ok()? {
        Value::String(payload) => Some(Content::Payload(payload)),
        pairs @ Value::Array(_) => serde_json::from_value(pairs).ok().map(Content::Parameters),
        _ => None,
    }
}

/// The text of it.
pub(crate) fn content_text(content: &Content) -> String {
    match content {
        Content::Payload(payload) => Value::from(payload.as_str()).to_string(),
        Content::Parameters(pairs) => serde_json::json!(pairs).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(
        kind: RuleKind,
        method: RequestMethod,
        request: Value,
    ) -> Result<RuleDefinition, Vec<String>> {
        let vocabulary = Vocabulary {
            find: &|name| (name == "Ticket_Add").then_some("Ticket_Add").ok_or(None),
            unknown: &|names, _| {
                names
                    .iter()
                    .filter(|name| !name.starts_with("ticket."))
                    .map(ToString::to_string)
                    .collect()
            },
            longest_wait_minutes: 40_000,
        };
        let request: RuleRequest = serde_json::from_value(request).expect("a rule");
        let form = RequestForm { method, format: BodyFormat::Json };
        request
            .check(kind, form, &vocabulary)
            .map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    fn rule(action: &Value) -> Value {
        let mut action = action.clone();
        action["webhookId"] = json!(Uuid::nil());
        json!({
            "name": "New ticket",
            "conditions": { "all": [{ "field": "eventType", "operator": "is", "value": "Ticket_Add" }] },
            "action": action,
        })
    }

    #[test]
    fn a_rule_is_checked_as_a_whole() {
        let payload = rule(&json!({ "payload": "{\"id\":\"{{ticket.id}}\"}" }));
        let good = check(RuleKind::Trigger, RequestMethod::Post, payload.clone()).unwrap();
        assert!(good.is_active && good.warnings.is_empty());
        let refused = |kind, method, request| check(kind, method, request).unwrap_err();
        assert_eq!(
            refused(RuleKind::Trigger, RequestMethod::Get, payload.clone()),
            ["/action/payload"]
        );
        assert_eq!(
            refused(RuleKind::Automation, RequestMethod::Post, payload.clone()),
            ["/afterMinutes"]
        );
        let mut bad = rule(&json!({ "payload": "{{nothing.known}}" }));
        bad["name"] = json!(" ");
        bad["position"] = json!(-1);
        bad["afterMinutes"] = json!(5);
        bad["conditions"]["all"][0]["value"] = json!("Ticket_Ad");
        assert_eq!(
            refused(RuleKind::Trigger, RequestMethod::Post, bad),
            ["/name", "/position", "/conditions/all/0/value", "/afterMinutes", "/action/payload"]
        );
        for action in [json!({}), json!({ "payload": "{}", "parameters": [] })] {
            assert_eq!(refused(RuleKind::Trigger, RequestMethod::Post, rule(&action)), ["/action"]);
        }
        let parameters = rule(&json!({ "parameters": [["id", "{{ticket.id}}"]] }));
        assert!(check(RuleKind::Trigger, RequestMethod::Get, parameters).is_ok());
        let empty = check(RuleKind::Trigger, RequestMethod::Post, rule(&json!({ "payload": " " })));
        assert_eq!(empty.unwrap().warnings.len(), 1);
        let mut later = payload;
        later["afterMinutes"] = json!(60);
        later["unless"] =
            json!({ "all": [{ "field": "payload.status", "operator": "is", "value": "Closed" }] });
        assert!(check(RuleKind::Automation, RequestMethod::Post, later.clone()).is_ok());
        later["afterMinutes"] = json!(40_001);
        assert_eq!(refused(RuleKind::Automation, RequestMethod::Post, later), ["/afterMinutes"]);
    }

    #[test]
    fn variants_name_their_rules() {
        let id = Uuid::from_u128(7);
        assert_eq!(RoutedRule::id_of(&format!("trigger:{id}")), Some(id));
        assert_eq!(RoutedRule::id_of(&format!("automation:{id}")), Some(id));
        for other in ["request.created", "zen:event-type:ticket.created", "trigger:", "Ticket_Add"]
        {
            assert_eq!(RoutedRule::id_of(other), None, "{other}");
        }
    }

    #[test]
    fn content_is_kept_as_it_was_written() {
        for content in [
            Content::Payload("{\n \"a\": \"{{ticket.id}}\"}".to_owned()),
            Content::Parameters(vec![
                ("b".to_owned(), "1".to_owned()),
                ("a".to_owned(), "ä".to_owned()),
            ]),
        ] {
            assert_eq!(stored_content(&content_text(&content)), Some(content));
        }
        assert_eq!(stored_content("7"), None);
    }
}
