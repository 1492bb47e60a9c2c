//! What other help desks' APIs tell of their webhooks, triggers and automations, translated into
//! requests for own webhooks and rules. Pure: nothing is made here, and nothing is asked of anybody.
//!
//! Each definition becomes a [`Draft`]: what would be made, what cannot be carried over and why, and
//! what is missing, since no such export has secrets in it.

mod conditions;
mod reading;
mod timing;
mod zendesk;
mod zendesk_rules;
mod zoho_desk;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::own::{FieldFault, RuleKind, RuleRequest, WebhookRequest};
use crate::crypto::SecretText;
use crate::dialect::Connection;
use reading::Item;

/// The most definitions of one import, all kinds together.
pub const MOST_IMPORTED: usize = 500;

/// The most that may be said of a mapping, all of it together.
const MOST_MAPPED: usize = 2_000;

/// Where definitions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImportSource {
    /// Zendesk: `GET /api/v2/webhooks`, `/api/v2/triggers`, `/api/v2/automations`.
    Zendesk,
    /// Zoho Desk: `GET /api/v1/webhooks`.
    ZohoDesk,
}

impl ImportSource {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zendesk => "zendesk",
            Self::ZohoDesk => "zohoDesk",
        }
    }
}

/// What is to be imported. Each of the three documents is what the other system's list or show call
/// answered, or a list of such answers.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportRequest {
    /// Where it comes from: `zendesk` or `zohoDesk`.
    pub source: ImportSource,
    /// The webhooks.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub webhooks: Value,
    /// Of Zendesk: the triggers; those that call no webhook are passed over.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub triggers: Value,
    /// Of Zendesk: the automations; those that call no webhook are passed over.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub automations: Value,
    /// What is secret, by the webhook's id in the other system.
    #[serde(default)]
    pub credentials: BTreeMap<String, ImportCredentials>,
    /// What the other system's fields, values and placeholders are here.
    #[serde(default)]
    pub mapping: Mapping,
    /// Whether everything is made switched on or off; as it was there where it is left out. What is
    /// there already stays on or off then.
    #[serde(default)]
    pub is_enabled: Option<bool>,
    /// What becomes of what was imported before: `keep` (where it is left out) or `update`.
    #[serde(default)]
    pub existing: ImportExisting,
}

/// What becomes of what was imported before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImportExisting {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is brought up to what the other system tells now.
    Update,
}

/// The documents may hold secrets.
impl fmt::Debug for ImportRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ImportRequest")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What is secret of an imported webhook.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportCredentials {
    /// What signs; made anew and told once where it is left out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub secret: Option<SecretText>,
    /// Of basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// Of basic authentication.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub password: Option<SecretText>,
    /// Of a bearer token.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub token: Option<SecretText>,
    /// Of an API key: the header's name.
    #[serde(default)]
    pub header: Option<String>,
    /// Of an API key: the header's value.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub value: Option<SecretText>,
}

/// What the other system's words are here.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    /// Fields of conditions by the other system's names, such as
    /// `{"custom_fields_36001": "payload.cf.cf_region"}`.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Values by field, such as `{"group_id": {"36002": "7"}}`; one or a list. `departmentIds` is for
    /// those of Zoho Desk's subscriptions.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub values: BTreeMap<String, BTreeMap<String, Value>>,
    /// Placeholders, such as `{"ticket.latest_comment": "comment.content"}`.
    #[serde(default)]
    pub placeholders: BTreeMap<String, String>,
}

impl Mapping {
    fn len(&self) -> usize {
        let values: usize = self.values.values().map(BTreeMap::len).sum();
        self.fields.len() + self.placeholders.len() + values
    }

    /// What a value of a field is here, where that is said.
    fn value(&self, field: &str, value: &str) -> Option<Vec<Value>> {
        Some(match self.values.get(field)?.get(value)? {
            Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        })
    }
}

/// What a definition becomes here. A webhook that both triggers and automations call becomes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A webhook that is connected to events.
    EventWebhook,
    /// A webhook that is connected to triggers.
    TriggerWebhook,
    /// A webhook that is connected to automations.
    AutomationWebhook,
    /// A trigger.
    Trigger,
    /// An automation.
    Automation,
}

impl Part {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventWebhook => "webhook.events",
            Self::TriggerWebhook => "webhook.trigger",
            Self::AutomationWebhook => "webhook.automation",
            Self::Trigger => "trigger",
            Self::Automation => "automation",
        }
    }

    /// What kind of thing it is, in the API.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::EventWebhook | Self::TriggerWebhook | Self::AutomationWebhook => "webhook",
            Self::Trigger => "trigger",
            Self::Automation => "automation",
        }
    }

    /// Of a webhook: what makes it send.
    pub const fn connection(self) -> Option<Connection> {
        match self {
            Self::EventWebhook => Some(Connection::Events),
            Self::TriggerWebhook => Some(Connection::Trigger),
            Self::AutomationWebhook => Some(Connection::Automation),
            Self::Trigger | Self::Automation => None,
        }
    }

    const fn of_rule(kind: RuleKind) -> Self {
        match kind {
            RuleKind::Trigger => Self::Trigger,
            RuleKind::Automation => Self::Automation,
        }
    }

    /// The webhook that a rule of a kind calls.
    pub const fn called_by(kind: RuleKind) -> Self {
        match kind {
            RuleKind::Trigger => Self::TriggerWebhook,
            RuleKind::Automation => Self::AutomationWebhook,
        }
    }
}

/// Something that an export does not have, and that must or may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Where in the request it is to be given: a JSON pointer.
    pub pointer: String,
    /// What it is.
    pub message: String,
    /// Whether nothing is made without it.
    pub is_needed: bool,
}

/// What would be made of a definition.
#[derive(Clone, Debug)]
pub enum Fate {
    /// A webhook.
    Webhook(Box<WebhookRequest>),
    /// A trigger or automation.
    Rule {
        /// What it is.
        kind: RuleKind,
        /// The webhook that it calls, by its id in the other system.
        webhook: String,
        /// The rule, with a webhook of no id.
        request: Box<RuleRequest>,
    },
    /// Nothing: it has nothing to do with webhooks.
    Skipped,
    /// Nothing: it cannot be carried over, as the reasons say.
    Impossible,
}

/// A definition, translated.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it becomes.
    pub part: Part,
    /// Its id in the other system.
    pub source_id: String,
    /// Its name there.
    pub name: String,
    /// What would be made.
    pub fate: Fate,
    /// What is not quite as it was there.
    pub notes: Vec<String>,
    /// Why nothing is made.
    pub reasons: Vec<String>,
    /// What must or may be given.
    pub missing: Vec<Missing>,
}

impl Draft {
    fn new(part: Part, item: &Item<'_>) -> Self {
        Self {
            part,
            source_id: item.id.clone(),
            name: item.name.clone(),
            fate: Fate::Impossible,
            notes: Vec::new(),
            reasons: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn impossible(mut self, reason: impl Into<String>) -> Self {
        self.fate = Fate::Impossible;
        self.reasons.push(reason.into());
        self
    }

    /// Whether something is missing without which nothing is made.
    pub fn is_blocked(&self) -> bool {
        self.missing.iter().any(|missing| missing.is_needed)
    }
}

/// An import, translated.
#[derive(Clone, Debug)]
pub struct Import {
    /// Webhooks first, then what calls them, each in the order of the export.
    pub drafts: Vec<Draft>,
    /// What may have been forgotten.
    pub warnings: Vec<String>,
}

impl ImportRequest {
    /// Translates everything. Faults are of the request itself; what cannot be carried over is told
    /// with each draft.
    pub fn translate(&self) -> Result<Import, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let webhooks =
            reading::items(&self.webhooks, "/webhooks", "webhook", &mut faults, &mut warnings);
        let triggers =
            reading::items(&self.triggers, "/triggers", "trigger", &mut faults, &mut warnings);
        let automations = reading::items(
            &self.automations,
            "/automations",
            "automation",
            &mut faults,
            &mut warnings,
        );
        if webhooks.len() + triggers.len() + automations.len() > MOST_IMPORTED {
            let rule = format!("one import has at most {MOST_IMPORTED} definitions");
            faults.push(FieldFault::new("", rule));
        }
        if self.mapping.len() > MOST_MAPPED {
            let rule = format!("must say at most {MOST_MAPPED} things");
            faults.push(FieldFault::new("/mapping", rule));
        }
        let known: HashSet<&str> = webhooks.iter().map(|item| item.id.as_str()).collect();
        for id in self.credentials.keys().filter(|id| !known.contains(id.as_str())) {
            let rule = "are for a webhook that is not in webhooks";
            faults.push(FieldFault::new(format!("/credentials/{}", escaped(id)), rule));
        }
        if self.source == ImportSource::ZohoDesk {
            for (place, items) in [("/triggers", &triggers), ("/automations", &automations)] {
                if !items.is_empty() {
                    faults.push(FieldFault::new(place, "are of zendesk only"));
                }
            }
        }
        if webhooks.is_empty() && triggers.is_empty() && automations.is_empty() && faults.is_empty()
        {
            let rule = "must hold what the list or show call of the other system answered";
            faults.push(FieldFault::missing("/webhooks", rule));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let drafts = match self.source {
            ImportSource::ZohoDesk => {
                webhooks.iter().map(|item| zoho_desk::webhook(item, self)).collect()
            }
            ImportSource::Zendesk => {
                let mut rules = zendesk_rules::rules(RuleKind::Trigger, &triggers, self);
                rules.extend(zendesk_rules::rules(RuleKind::Automation, &automations, self));
                let mut drafts = zendesk::webhooks(&webhooks, &rules, self);
                drafts.extend(rules);
                drafts
            }
        };
        Ok(Import { drafts, warnings })
    }
}

/// A member's name within a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
