//! What an org's own webhook has beside an extension's.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use crate::web::parts::{Moment, Text, or_default};

/// What an org's own webhook has beside an extension's.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Own {
    pub(in crate::web) dialect: String,
    pub(in crate::web) connection: String,
    setup: String,
    pub(in crate::web) method: String,
    pub(in crate::web) format: String,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) cloud_events: String,
    pub(in crate::web) headers: BTreeMap<String, String>,
    pub(in crate::web) authentication: Authentication,
    pub(in crate::web) while_disabled: String,
    pub(in crate::web) tls: Option<Tls>,
}

/// Whom to trust beside the usual.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Tls {
    pub(in crate::web) ca_certificates: String,
}

/// How the endpoint is told who calls, without what is secret in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::web) struct Authentication {
    #[serde(rename = "type")]
    pub(in crate::web) kind: String,
    pub(in crate::web) username: Text,
    pub(in crate::web) expires_at: Moment,
    pub(in crate::web) header: Text,
    pub(in crate::web) token_url: Text,
    pub(in crate::web) client_id: Text,
    pub(in crate::web) scope: Text,
    pub(in crate::web) client_authentication: Text,
    pub(in crate::web) certificate: Text,
}

impl Own {
    /// Whether triggers or automations make it send.
    pub(in crate::web) fn is_called_by_rules(&self) -> bool {
        self.connection != "events"
    }

    /// The part of an address under which its rules are.
    pub(in crate::web) fn rules(&self) -> &'static str {
        if self.connection == "automation" { "automations" } else { "triggers" }
    }

    /// What calls it, for one of it.
    pub(in crate::web) fn rule(&self) -> &'static str {
        if self.connection == "automation" { "automation" } else { "trigger" }
    }

    /// Whether nothing calls it yet.
    pub(in crate::web) fn needs_rule(&self) -> bool {
        self.setup != "complete"
    }

    /// Whether what comes while it is off waits.
    pub(in crate::web) fn queues(&self) -> bool {
        self.while_disabled == "queue"
    }

    /// How its requests look, in words.
    pub(in crate::web) fn requests(&self) -> String {
        let name = crate::web::words::dialect(&self.dialect);
        let mut text = format!("{name}, {} with {}", self.method, self.format.to_uppercase());
        if !self.cloud_events.is_empty() {
            text.push_str(", CloudEvents ");
            text.push_str(&self.cloud_events);
        }
        text
    }

    /// How the endpoint is told who calls, in words.
    pub(in crate::web) fn told(&self) -> &'static str {
        crate::web::words::authentication(&self.authentication.kind)
    }
}

/// A webhook that was made or changed.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Written {
    pub(in crate::web) id: Uuid,
    /// What it signs with, where that was made: told once.
    #[serde(default)]
    pub(in crate::web) secret: Text,
    #[serde(default)]
    pub(in crate::web) warnings: Vec<String>,
}
