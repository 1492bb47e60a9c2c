//! What is shown of an org's own webhook beside what every webhook shows. Nothing secret.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::shapes::moment;
use crate::lifecycle::WebhookView;
use crate::store::entity::{own_webhook, own_webhook_grant};
use crate::webhook::own::{Authentication, Settings, grants, stored_settings};

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
    /// Whether its org is for development: it may call private addresses, by plain http too.
    pub is_development: bool,
    /// Of the authentication `oauth2AuthorizationCode`: whether somebody authorised it.
    pub authorization: Option<AuthorizationStateBody>,
}

/// Whether somebody authorised a webhook at its endpoint's authorisation server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthorizationStateBody {
    /// `needed`, `live` or `broken`.
    pub state: &'static str,
    /// Why it is broken.
    pub reason: Option<String>,
    /// Who authorised it.
    pub granted_by: Option<String>,
    /// When.
    pub granted_time: Option<String>,
}

impl AuthorizationStateBody {
    fn of(settings: &Settings, grant: Option<&own_webhook_grant::Model>) -> Option<Self> {
        let how = &settings.authentication;
        if !matches!(how, Authentication::Oauth2AuthorizationCode { .. }) {
            return None;
        }
        // What was granted for other settings is good for nothing.
        let grant = grant.filter(|grant| grant.settings_digest == grants::grant_digest(how));
        let reason = grant.and_then(|grant| grant.broken_reason.clone());
        Some(Self {
            state: match (&grant, &reason) {
                (None, _) => "needed",
                (Some(_), None) => "live",
                (Some(_), Some(_)) => "broken",
            },
            reason,
            granted_by: grant.map(|grant| grant.granted_by.clone()),
            granted_time: moment(grant.map(|grant| grant.granted_at)),
        })
    }
}

impl OwnBody {
    pub(super) fn new(view: &WebhookView, own: &own_webhook::Model) -> Self {
        let (row, has_rules) = (&view.row, view.has_rules);
        let settings: Settings = stored_settings(own).unwrap_or_default();
        let authorization = AuthorizationStateBody::of(&settings, view.grant.as_ref());
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
            is_development: view.is_development,
            authorization,
        }
    }
}
