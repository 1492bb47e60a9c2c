//! What is shown of an org's own webhook beside what every webhook shows. Nothing secret.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::shapes::moment;
use crate::store::entity::{own_webhook, webhook};
use crate::webhook::own::{Settings, stored_settings};

/// What an org's own webhook has beside an extension's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnBody {
    /// Its id as a number, in digits.
    pub alias: String,
    /// The wire format.
    pub dialect: String,
    /// What makes it send: `events`, `trigger` or `automation`.
    pub connection: String,
    /// `complete`; `needsTrigger` or `needsAutomation` where nothing calls it yet.
    pub setup: &'static str,
    /// The method of its requests.
    pub method: String,
    /// The format of what is sent.
    pub format: String,
    /// `structured` or `binary` where CloudEvents is spoken.
    pub cloud_events: Option<String>,
    /// Headers that are added.
    pub headers: BTreeMap<String, String>,
    /// How the endpoint is told who calls, without what is secret in it.
    #[schema(value_type = Object)]
    pub authentication: Value,
    /// What becomes of events while it is switched off: `drop` or `queue`.
    pub while_disabled: String,
    /// Whom to trust for the endpoint's certificate beside the usual.
    #[schema(value_type = Option<Object>)]
    pub tls: Value,
    /// Since when it is switched off.
    pub disabled_time: Option<String>,
}

impl OwnBody {
    pub(super) fn new(row: &webhook::Model, own: &own_webhook::Model, has_rules: bool) -> Self {
        let settings: Settings = stored_settings(own).unwrap_or_default();
        Self {
            alias: own.alias.to_string(),
            dialect: row.dialect.clone(),
            connection: own.connection.clone(),
            setup: match (own.connection.as_str(), has_rules) {
                ("trigger", false) => "needsTrigger",
                ("automation", false) => "needsAutomation",
                _ => "complete",
            },
            method: settings.method,
            format: settings.format,
            cloud_events: settings.cloud_events,
            headers: settings.headers,
            authentication: json!(settings.authentication),
            while_disabled: own.while_disabled.clone(),
            tls: json!(settings.tls),
            disabled_time: moment(own.disabled_at),
        }
    }
}
