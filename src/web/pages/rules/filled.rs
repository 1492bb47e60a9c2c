//! What a form of a trigger or automation holds: read from what is there, or from what was sent, and
//! written as the API takes it.

use serde_json::{Value, json};

use crate::web::answers::{Condition, Conditions, Rule};
use crate::web::faults::{Faults, Fields};
use crate::web::form::Form;
use crate::web::parts::{Choice, choices};
use crate::web::words;

/// How many conditions a rule may have; the API says the same.
const MOST_ROWS: usize = crate::webhook::conditions::MOST_CONDITIONS;

/// How many empty rows a form offers.
const EMPTY_ROWS: usize = 2;

/// The fields of the form.
pub(super) const FIELDS: Fields = &[
    ("/name", "Name"),
    ("/position", "Position"),
    ("/conditions", "Conditions"),
    ("/unless", "Unless"),
    ("/afterMinutes", "Wait"),
    ("/action/webhookId", "Webhook"),
    ("/action/payload", "Payload"),
    ("/action/parameters", "Parameters"),
    ("/action", "Payload"),
    ("/orgId", "Org"),
];

const LISTS: &[(&str, &str)] = &[("all", "must hold"), ("any", "or one like it")];

/// A row of a list of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    list: String,
    pub(super) field: String,
    operator: String,
    pub(super) value: String,
    /// Where it stands in what is asked of the API; empty for a row that is not filled.
    pub(super) pointer: String,
}

impl Row {
    fn empty() -> Self {
        Self {
            list: "all".to_owned(),
            field: String::new(),
            operator: "is".to_owned(),
            value: String::new(),
            pointer: String::new(),
        }
    }

    pub(super) fn lists(&self) -> Vec<Choice> {
        choices(LISTS, &self.list)
    }

    pub(super) fn operators(&self) -> Vec<Choice> {
        choices(words::OPERATORS, &self.operator)
    }
}

/// A form of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Filled {
    pub(super) name: String,
    pub(super) webhook: String,
    pub(super) position: String,
    pub(super) is_active: bool,
    pub(super) conditions: Vec<Row>,
    pub(super) unless: Vec<Row>,
    pub(super) after_minutes: String,
    pub(super) sends_parameters: bool,
    pub(super) payload: String,
    pub(super) parameters: String,
    pub(super) org: String,
}

/// A value as a form shows it: a text as it is, unless it would be read as something else.
pub(super) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) if text_value(text) == *value => text.clone(),
        other => other.to_string(),
    }
}

/// The value that somebody wrote: a number, a truth value, null, a quoted text or a list where it is
/// written like one in JSON, else the text itself. Numbers that would lose digits stay texts.
pub(super) fn text_value(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Number(number)) if number.to_string() == text => Value::Number(number),
        Ok(one @ (Value::Bool(_) | Value::Null | Value::String(_))) => one,
        Ok(Value::Array(all)) => Value::Array(all),
        _ => text.into(),
    }
}

/// Numbers the rows within their lists, as the API will.
fn number(rows: &mut [Row], at: &str) {
    let (mut all, mut any) = (0, 0);
    for row in rows.iter_mut().filter(|row| !row.field.is_empty()) {
        let place = if row.list == "any" { &mut any } else { &mut all };
        row.pointer = format!("{at}/{}/{place}", if row.list == "any" { "any" } else { "all" });
        *place += 1;
    }
}

fn rows_of(conditions: &Conditions, at: &str) -> Vec<Row> {
    let rows = |list: &str, conditions: &[Condition]| {
        let row = |one: &Condition| Row {
            list: list.to_owned(),
            field: one.field.clone(),
            operator: one.operator.clone(),
            value: if words::takes_value(&one.operator) {
                value_text(&one.value)
            } else {
                String::new()
            },
            pointer: String::new(),
        };
        conditions.iter().map(row).collect::<Vec<_>>()
    };
    let mut all = rows("all", &conditions.all);
    all.extend(rows("any", &conditions.any));
    number(&mut all, at);
    all
}

fn rows_in(form: &Form, kind: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for index in 0..MOST_ROWS + EMPTY_ROWS + 10 {
        let name = |part: &str| format!("{kind}.{index}.{part}");
        if !form.has(&name("field")) {
            break;
        }
        let text = |part: &str| form.text(&name(part)).to_owned();
        let row = Row {
            list: text("list"),
            field: text("field"),
            operator: text("operator"),
            value: text("value"),
            pointer: String::new(),
        };
        // A row with a value and no field was meant to be one: the API says what it lacks.
        if !row.field.is_empty() || !row.value.is_empty() {
            rows.push(row);
        }
    }
    number(&mut rows, &format!("/{kind}"));
    rows
}

fn conditions(rows: &[Row], faults: &mut Faults, at: &str) -> Value {
    let mut body = json!({ "all": [], "any": [] });
    for row in rows {
        if row.field.is_empty() {
            faults.add(at, format!("the condition with “{}” names no field", row.value));
            continue;
        }
        let mut one = json!({ "field": row.field, "operator": row.operator });
        if words::takes_value(&row.operator) || !row.value.is_empty() {
            one["value"] = text_value(&row.value);
        }
        let list = if row.list == "any" { "any" } else { "all" };
        if let Some(list) = body.get_mut(list).and_then(Value::as_array_mut) {
            list.push(one);
        }
    }
    body
}

/// Lines of `name = value` as pairs; the first line that is none where there is one.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.split_once('=').ok_or_else(|| line.to_owned())?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

impl Filled {
    /// A form for a new one that begins with an event type.
    pub(super) fn fresh(event_type: &str, org: String) -> Self {
        let mut first = Row { field: "eventType".to_owned(), ..Row::empty() };
        event_type.clone_into(&mut first.value);
        let mut conditions = vec![first];
        number(&mut conditions, "/conditions");
        Self { is_active: true, conditions, org, ..Self::default() }
    }

    /// What is there.
    pub(super) fn of_rule(rule: &Rule) -> Self {
        Self {
            name: rule.name.clone(),
            webhook: rule.action.webhook_id.to_string(),
            position: rule.position.to_string(),
            is_active: rule.is_active,
            conditions: rows_of(&rule.conditions, "/conditions"),
            unless: rule
                .unless
                .as_ref()
                .map(|unless| rows_of(unless, "/unless"))
                .unwrap_or_default(),
            after_minutes: rule.after_minutes.map(|one| one.to_string()).unwrap_or_default(),
            sends_parameters: rule.action.parameters.is_some(),
            payload: rule.action.payload.clone().unwrap_or_default(),
            parameters: match &rule.action.parameters {
                Some(_) => rule.action.shown(),
                None => String::new(),
            },
            org: String::new(),
        }
    }

    /// What was sent.
    pub(super) fn of_form(form: &Form) -> Self {
        Self {
            name: form.text("name").to_owned(),
            webhook: form.text("webhook").to_owned(),
            position: form.text("position").to_owned(),
            is_active: form.is_ticked("active"),
            conditions: rows_in(form, "conditions"),
            unless: rows_in(form, "unless"),
            after_minutes: form.text("after-minutes").to_owned(),
            sends_parameters: form.text("content") == "parameters",
            payload: form.lines("payload"),
            parameters: form.lines("parameters"),
            org: form.text("org").to_owned(),
        }
    }

    /// The same with empty rows at the end, for more.
    pub(super) fn with_room(mut self, more: usize) -> Self {
        for rows in [&mut self.conditions, &mut self.unless] {
            let room = (EMPTY_ROWS + more).min((MOST_ROWS + EMPTY_ROWS).saturating_sub(rows.len()));
            rows.extend(std::iter::repeat_n(Row::empty(), room));
        }
        self
    }

    /// The event type that the conditions ask for first.
    pub(super) fn event_type(&self) -> Option<String> {
        let one =
            self.conditions.iter().find(|row| row.field == "eventType" && row.operator == "is")?;
        match text_value(&one.value) {
            Value::String(name) => Some(name),
            Value::Array(all) => all.first().and_then(Value::as_str).map(str::to_owned),
            _ => None,
        }
    }

    /// What is asked of the API. Faults of the form's own are added.
    pub(super) fn body(&self, is_automation: bool, faults: &mut Faults) -> Value {
        let mut action = json!({ "webhookId": self.webhook });
        if self.webhook.is_empty() {
            faults.add("/action/webhookId", "choose the webhook that is called");
        }
        if self.sends_parameters {
            match pairs(&self.parameters) {
                Ok(pairs) => action["parameters"] = json!(pairs),
                Err(line) => {
                    let shown: String = line.chars().take(60).collect();
                    faults.add("/action/parameters", format!("“{shown}” is not name = value"));
                }
            }
        } else {
            action["payload"] = self.payload.clone().into();
        }
        let mut body = json!({
            "name": self.name,
            "conditions": conditions(&self.conditions, faults, "/conditions"),
            "action": action,
            "isActive": self.is_active,
        });
        if !self.position.is_empty() {
            match self.position.parse::<i64>() {
                Ok(position) => body["position"] = position.into(),
                Err(_) => faults.add("/position", "must be a whole number"),
            }
        }
        if is_automation {
            match self.after_minutes.parse::<u32>() {
                Ok(minutes) => body["afterMinutes"] = minutes.into(),
                Err(_) => faults.add("/afterMinutes", "must be a whole number of minutes"),
            }
            body["unless"] = if self.unless.is_empty() {
                Value::Null
            } else {
                conditions(&self.unless, faults, "/unless")
            };
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_shown() {
        for value in [
            json!("Open"),
            json!("007"),
            json!("true"),
            json!("5"),
            json!(5),
            json!(-1.5),
            json!(true),
            json!(null),
            json!(["a", 1]),
            json!(""),
            json!("\"quoted\""),
            json!("[not a list"),
            json!("12345678901234567890123"),
        ] {
            assert_eq!(text_value(&value_text(&value)), value, "{}", value_text(&value));
        }
        assert_eq!(text_value("12345678901234567890123"), json!("12345678901234567890123"));
        assert_eq!(text_value("{\"a\":1}"), json!("{\"a\":1}"));
    }

    fn form(fields: &[(&str, &str)]) -> Form {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Form { fields: fields.collect(), files: Vec::new() }
    }

    #[test]
    fn rows_become_conditions_and_know_their_place() {
        let sent = form(&[
            ("name", "Rule"),
            ("webhook", "0198f000-0000-7000-8000-000000000000"),
            ("conditions.0.list", "any"),
            ("conditions.0.field", "payload.a"),
            ("conditions.0.operator", "is"),
            ("conditions.0.value", "[\"x\",\"y\"]"),
            ("conditions.1.list", "all"),
            ("conditions.1.field", ""),
            ("conditions.1.value", ""),
            ("conditions.2.list", "all"),
            ("conditions.2.field", "payload.b"),
            ("conditions.2.operator", "changed"),
            ("conditions.2.value", ""),
            ("content", "parameters"),
            ("parameters", "a = 1=2\r\nb={{ticket.id}}"),
            ("after-minutes", "5"),
        ]);
        let filled = Filled::of_form(&sent);
        let places: Vec<_> = filled.conditions.iter().map(|row| row.pointer.as_str()).collect();
        assert_eq!(places, ["/conditions/any/0", "/conditions/all/0"]);
        let mut faults = Faults::none(FIELDS);
        let body = filled.body(true, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(
            body["conditions"],
            json!({
                "all": [{ "field": "payload.b", "operator": "changed" }],
                "any": [{ "field": "payload.a", "operator": "is", "value": ["x", "y"] }],
            })
        );
        assert_eq!(body["action"]["parameters"], json!([["a", "1=2"], ["b", "{{ticket.id}}"]]));
        assert_eq!((&body["afterMinutes"], &body["unless"]), (&json!(5), &Value::Null));
        let read: Result<crate::webhook::own::RuleRequest, _> = serde_json::from_value(body);
        assert!(read.is_ok(), "{read:?}");
    }

    #[test]
    fn what_cannot_be_asked_is_said_at_its_field() {
        let sent = form(&[
            ("conditions.0.field", ""),
            ("conditions.0.value", "x"),
            ("content", "parameters"),
            ("parameters", "nonsense"),
            ("position", "one"),
        ]);
        let mut faults = Faults::none(FIELDS);
        Filled::of_form(&sent).body(true, &mut faults);
        for place in
            ["/conditions", "/action/parameters", "/position", "/afterMinutes", "/action/webhookId"]
        {
            assert!(faults.has(place), "{place}");
        }
    }

    #[test]
    fn a_form_has_room_for_more_and_no_end_of_it() {
        let fresh = Filled::fresh("Ticket_Add", String::new());
        assert_eq!(fresh.event_type().as_deref(), Some("Ticket_Add"));
        assert_eq!(fresh.clone().with_room(0).conditions.len(), 1 + EMPTY_ROWS);
        let mut full = fresh;
        full.conditions = vec![Row::empty(); MOST_ROWS];
        assert_eq!(full.with_room(100).conditions.len(), MOST_ROWS + EMPTY_ROWS);
    }
}
