//! Triggers and automations.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::span;
use crate::web::parts::{Copy, Moment, Text, or_default};
use crate::web::words;

/// A trigger or an automation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Rule {
    pub(in crate::web) id: Uuid,
    pub(in crate::web) org_id: String,
    pub(in crate::web) name: String,
    pub(in crate::web) position: i64,
    pub(in crate::web) is_active: bool,
    pub(in crate::web) conditions: Conditions,
    pub(in crate::web) action: Action,
    pub(in crate::web) after_minutes: Option<u64>,
    pub(in crate::web) unless: Option<Conditions>,
    pub(in crate::web) created_by: Text,
    pub(in crate::web) created_time: Moment,
    pub(in crate::web) modified_by: Text,
    pub(in crate::web) modified_time: Moment,
}

impl Rule {
    /// How long an automation waits, in words.
    pub(in crate::web) fn wait(&self) -> Option<String> {
        self.after_minutes.map(|minutes| span(minutes.saturating_mul(60)))
    }
}

/// When a rule fires.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Conditions {
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) all: Vec<Condition>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) any: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::web) struct Condition {
    pub(in crate::web) field: String,
    pub(in crate::web) operator: String,
    #[serde(default)]
    pub(in crate::web) value: Value,
}

impl Condition {
    /// What it asks, in words.
    pub(in crate::web) fn words(&self) -> String {
        let operator = words::operator(&self.operator);
        let shown = |value: &Value| match value {
            Value::String(text) => format!("“{text}”"),
            other => other.to_string(),
        };
        let value = match &self.value {
            Value::Null if !words::takes_value(&self.operator) => return operator.to_owned(),
            Value::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(" or "),
            one => shown(one),
        };
        format!("{operator} {value}")
    }
}

/// What a rule does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Action {
    pub(in crate::web) webhook_id: Uuid,
    pub(in crate::web) payload: Option<String>,
    pub(in crate::web) parameters: Option<Vec<(String, String)>>,
}

impl Action {
    /// What is sent, as people write it.
    pub(in crate::web) fn shown(&self) -> String {
        match (&self.payload, &self.parameters) {
            (Some(payload), _) => payload.clone(),
            (None, Some(pairs)) => pairs
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect::<Vec<_>>()
                .join("\n"),
            (None, None) => String::new(),
        }
    }
}

/// What a template of an event can name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Placeholders {
    pub(in crate::web) event_type: String,
    pub(in crate::web) data: Vec<Placeholder>,
    pub(in crate::web) templates: Templates,
}

/// A placeholder.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Placeholder {
    placeholder: String,
    pub(in crate::web) description: Text,
    sample: Value,
}

impl Placeholder {
    pub(in crate::web) fn copy(&self) -> Copy {
        Copy::new(&self.placeholder, "the placeholder")
    }

    /// What it is in a sample, in short.
    pub(in crate::web) fn sample(&self) -> String {
        let text = match &self.sample {
            Value::Null => return String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.chars().take(60).collect()
    }
}

/// Templates to begin with.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Templates {
    pub(in crate::web) json: String,
    pub(in crate::web) xml: String,
    pub(in crate::web) parameters: Vec<(String, String)>,
}
