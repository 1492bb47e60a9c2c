//! What vendors publish, and what there is to subscribe to.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use serde::Deserialize;
use serde_json::Value;

use crate::web::parts::{Copy, Moment, State, Text, or_default, pretty};

/// An extension.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Extension {
    pub(in crate::web) key: String,
    pub(in crate::web) name: String,
    pub(in crate::web) vendor: String,
    pub(in crate::web) suspended: bool,
    #[serde(default, deserialize_with = "or_default")]
    suspended_by: Vec<String>,
    pub(in crate::web) suspended_reason: Text,
    pub(in crate::web) created_time: Moment,
    #[serde(default, deserialize_with = "or_default")]
    pub(in crate::web) versions: Vec<Version>,
}

impl Extension {
    /// Whether a role holds it suspended.
    pub(in crate::web) fn is_held_by(&self, holder: &str) -> bool {
        self.suspended_by.iter().any(|name| name == holder)
    }

    /// Who holds it suspended, in a row.
    pub(in crate::web) fn holders(&self) -> String {
        self.suspended_by.join(", ")
    }
}

/// A version of an extension.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Version {
    pub(in crate::web) version: String,
    pub(in crate::web) digest: String,
    pub(in crate::web) created_time: Moment,
    pub(in crate::web) withdrawn_time: Moment,
}

impl Version {
    pub(in crate::web) fn state(&self) -> State {
        State::new(if self.withdrawn_time.is_known() { "withdrawn" } else { "published" })
    }
}

/// A diagnostic of a package.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Diagnostic {
    pub(in crate::web) code: String,
    pub(in crate::web) severity: State,
    #[serde(default)]
    pub(in crate::web) file: String,
    #[serde(default)]
    pub(in crate::web) pointer: String,
    #[serde(default)]
    pub(in crate::web) line: Option<u32>,
    #[serde(default)]
    pub(in crate::web) column: Option<u32>,
    pub(in crate::web) message: String,
    #[serde(default)]
    pub(in crate::web) suggestion: Text,
}

/// What signs deliveries.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct SigningSecret {
    pub(in crate::web) secret: String,
    pub(in crate::web) expiring: Vec<Expiring>,
}

/// A former secret that still signs.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Expiring {
    pub(in crate::web) until: Moment,
}

/// An event type.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct EventType {
    pub(in crate::web) name: String,
    pub(in crate::web) id: Option<u8>,
    pub(in crate::web) host_types: Vec<String>,
    pub(in crate::web) module: String,
    pub(in crate::web) label: String,
    pub(in crate::web) description: String,
    pub(in crate::web) options: Vec<String>,
    schema: Value,
    sample: Value,
}

impl EventType {
    /// Whether a subscription to it can have an option.
    pub(in crate::web) fn takes(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }

    pub(in crate::web) fn name_copy(&self) -> Copy {
        Copy::new(&self.name, "the event's name")
    }

    /// A sample, as it is delivered.
    pub(in crate::web) fn sample_text(&self) -> String {
        pretty(&self.sample)
    }

    /// The schema of what the host posts.
    pub(in crate::web) fn schema_text(&self) -> String {
        pretty(&self.schema)
    }
}
