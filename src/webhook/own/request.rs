//! What a request for an own webhook may hold. A change of one is a merge patch (RFC 7396) over what
//! is there, checked as a whole like a new one.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::authentication::AuthenticationRequest;
use super::subscriptions::SubscriptionRequest;
use crate::crypto::SecretText;

/// An own webhook as it is asked for. Only `url` is always needed, and `subscriptions` where it is
/// connected to events.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookRequest {
    /// What administrators see it as; up to 255 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is for; up to 1,000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Where it is called.
    pub url: String,
    /// The events, by the dialect's names, each with options or null.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, SubscriptionRequest>)]
    pub subscriptions: BTreeMap<String, Option<SubscriptionRequest>>,
    /// Changes that carry this id are not sent back: a UUID; made where it is left out.
    #[serde(default)]
    pub ignore_source_id: Option<String>,
    /// `["AUTOMATION"]` where events that automation caused are wanted.
    #[serde(default)]
    pub include_events_from: Option<Vec<String>>,
    /// Whether it is switched on; it is where this is left out.
    #[serde(default)]
    pub is_enabled: Option<bool>,
    /// The wire format: `desk` (where it is left out), `standard`, `zendesk`, `dzdesk` or `assist`.
    #[serde(default)]
    pub dialect: Option<String>,
    /// What makes it send: `events` (where it is left out), `trigger` or `automation`. Fixed for
    /// life.
    #[serde(default)]
    pub connection: Option<String>,
    /// The method; `POST` where it is left out, and always where it is connected to events.
    #[serde(default)]
    pub method: Option<String>,
    /// The format of what is sent: `json` (where it is left out), `xml` or `form`.
    #[serde(default)]
    pub format: Option<String>,
    /// Of the dialect standard: `structured` or `binary` for CloudEvents 1.0.
    #[serde(default)]
    pub cloud_events: Option<String>,
    /// Headers to add; not for what is secret.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, String>>,
    /// How the endpoint is told who calls.
    #[serde(default)]
    pub authentication: Option<AuthenticationRequest>,
    /// Signs what is sent: 1 to 256 bytes, or `whsec_…`. Never shown; made and returned once where
    /// it is left out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub secret: Option<SecretText>,
    /// What becomes of events while it is switched off: `drop` (where it is left out) or `queue`.
    #[serde(default)]
    pub while_disabled: Option<String>,
    /// Whether deliveries go one after the other, in order of acceptance.
    #[serde(default)]
    pub ordered: Option<bool>,
    /// Whom to trust for the endpoint's certificate beside the usual.
    #[serde(default)]
    pub tls: Option<TlsRequest>,
}

/// Whom to trust for an endpoint's certificate.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsRequest {
    /// Certificates of authorities, as PEM.
    #[serde(default)]
    pub ca_certificates: Option<String>,
    /// The one certificate that passes, as PEM, whoever signed it: for orgs that are for development.
    #[serde(default)]
    pub pinned_certificate: Option<String>,
}

/// What is to change of an own webhook: what is left out stays, `null` is as if it had been left out
/// when the webhook was made. `subscriptions`, `headers` and `authentication` are replaced whole.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = WebhookPatch)]
pub struct WebhookPatch {
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    name: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    description: Option<Value>,
    /// As for a new webhook. To another origin credentials go only where they are given again.
    #[serde(default, deserialize_with = "present")]
    url: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    subscriptions: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    ignore_source_id: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    include_events_from: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    is_enabled: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    dialect: Option<Value>,
    /// Fixed for life: only the same value is taken.
    #[serde(default, deserialize_with = "present")]
    connection: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    method: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    format: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    cloud_events: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    headers: Option<Value>,
    /// As for a new webhook; what is secret may be left out where the type stays.
    #[serde(default, deserialize_with = "present")]
    authentication: Option<Value>,
    /// As for a new webhook: with `null` another is made and returned once.
    #[serde(default, deserialize_with = "present")]
    secret: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    while_disabled: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    ordered: Option<Value>,
    /// As for a new webhook.
    #[serde(default, deserialize_with = "present")]
    tls: Option<Value>,
    /// The `modifiedTime` of what was read: where it is another by now, 409.
    #[serde(default)]
    pub modified_time: Option<String>,
}

/// A member that is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl WebhookPatch {
    /// The patch that switches a webhook on or off.
    pub fn enabled(is_enabled: bool) -> Self {
        Self { is_enabled: Some(Value::Bool(is_enabled)), ..Self::default() }
    }

    /// The same for a copy: under another name, and off, where it does not say so itself.
    #[must_use]
    pub fn for_copy(mut self, name: Option<String>) -> Self {
        self.name = self.name.or(name.map(Value::String));
        self.is_enabled = self.is_enabled.or(Some(Value::Bool(false)));
        self.modified_time = None;
        self
    }

    /// Whether it says anything of the source whose events are not wanted.
    pub fn names_source(&self) -> bool {
        self.ignore_source_id.is_some()
    }

    /// Whether all that it says is that the webhook is to be off.
    pub fn only_disables(&self) -> bool {
        let Self { is_enabled, modified_time: _, .. } = self;
        let others = [
            &self.name,
            &self.description,
            &self.url,
            &self.subscriptions,
            &self.ignore_source_id,
            &self.include_events_from,
            &self.dialect,
            &self.connection,
            &self.method,
            &self.format,
            &self.cloud_events,
            &self.headers,
            &self.authentication,
            &self.secret,
            &self.while_disabled,
            &self.ordered,
            &self.tls,
        ];
        *is_enabled == Some(Value::Bool(false)) && others.iter().all(|other| other.is_none())
    }

    /// Whether it says anything of what is signed with.
    pub fn names_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether it says anything of the authentication.
    pub fn names_authentication(&self) -> bool {
        self.authentication.is_some()
    }

    /// Puts the patch over what is there. Its values may be secret: what comes out is for checking
    /// alone.
    pub fn merged_over(self, mut there: Map<String, Value>) -> Map<String, Value> {
        let patches = [
            ("name", self.name),
            ("description", self.description),
            ("url", self.url),
            ("subscriptions", self.subscriptions),
            ("ignoreSourceId", self.ignore_source_id),
            ("includeEventsFrom", self.include_events_from),
            ("isEnabled", self.is_enabled),
            ("dialect", self.dialect),
            ("connection", self.connection),
            ("method", self.method),
            ("format", self.format),
            ("cloudEvents", self.cloud_events),
            ("headers", self.headers),
            ("authentication", self.authentication),
            ("secret", self.secret),
            ("whileDisabled", self.while_disabled),
            ("ordered", self.ordered),
            ("tls", self.tls),
        ];
        for (name, patch) in patches {
            match patch {
                None => {}
                Some(Value::Null) => {
                    there.remove(name);
                }
                Some(value) => {
                    there.insert(name.to_owned(), value);
                }
            }
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_stays_and_null_goes() {
        let patch: WebhookPatch =
            serde_json::from_value(json!({ "name": null, "url": "https://b.example/" })).unwrap();
        assert!(!patch.names_source() && !patch.names_secret() && !patch.only_disables());
        assert!(WebhookPatch::enabled(false).only_disables());
        assert!(!WebhookPatch::enabled(true).only_disables());
        let Value::Object(there) =
            json!({ "name": "a", "url": "https://a.example/", "ordered": true })
        else {
            unreachable!()
        };
        let merged = Value::Object(patch.merged_over(there));
        assert_eq!(merged, json!({ "url": "https://b.example/", "ordered": true }));
    }

    #[test]
    fn unknown_members_are_refused() {
        assert!(serde_json::from_value::<WebhookPatch>(json!({ "uri": "x" })).is_err());
        let wrong = json!({ "url": "https://a.example/", "subscriptions": {}, "type": "x" });
        assert!(serde_json::from_value::<WebhookRequest>(wrong).is_err());
    }
}
