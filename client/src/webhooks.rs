//! Webhooks: those of extensions, which only their extension changes, and an org's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call::{Call, parameters};
use super::catalogue::Nothing;
use super::client::Client;
use super::error::Error;
use super::identifiers::{ExtensionKey, InstallationId, OrgId, WebhookId};
use super::jobs::RecoveryJob;
use super::operation;
use super::page::Pages;
use super::secret::Secret;

pub use super::imports::{
    ImportReport, ImportRequest, Imported, ImportedChange, ImportedItem, MissingPart,
};

/// A webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Its org.
    pub org_id: OrgId,
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The declared address; what would be secret in it is masked.
    pub url: String,
    /// Event types with their options.
    pub subscriptions: Map<String, Value>,
    /// The source whose events it does not get.
    pub ignore_source_id: Option<String>,
    /// `["AUTOMATION"]` where it gets events that automation caused.
    pub include_events_from: Option<Vec<String>>,
    /// Whether it is enabled.
    pub is_enabled: bool,
    /// `CUSTOMER_WEBHOOK` or `EXTENSION_WEBHOOK`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether deliveries go in order of acceptance.
    pub ordered: bool,
    /// Whether only its extension can change it.
    pub locked: bool,
    /// How its endpoint does.
    pub health: Health,
    /// Who made it.
    pub created_by: Option<String>,
    /// When it came into being, RFC 3339.
    pub created_time: Option<String>,
    /// When it changed last.
    pub modified_time: Option<String>,
    /// The extension that owns it; none where it is the org's own.
    pub extension: Option<Owner>,
    /// On which terms it is delivered to; only where webhooks are asked for by themselves.
    pub delivery: Option<Terms>,
    /// Of an own one: its id as a number, in digits.
    pub alias: Option<String>,
    /// Of an own one: the wire format.
    pub dialect: Option<String>,
    /// Of an own one: what makes it send.
    pub connection: Option<String>,
    /// Of an own one: `complete`, `needsTrigger` or `needsAutomation`.
    pub setup: Option<String>,
    /// Of an own one: the method of its requests.
    pub method: Option<String>,
    /// Of an own one: the format of what is sent.
    pub format: Option<String>,
    /// Of an own one: headers that are sent beside the dialect's.
    pub headers: Option<BTreeMap<String, String>>,
    /// Of an own one: how it proves itself to the endpoint, without what is secret.
    pub authentication: Option<Value>,
    /// Of an own one: `drop` or `queue`.
    pub while_disabled: Option<String>,
    /// Told once, where it was made: what it signs with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Told where it was written: what may be a mistake.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a webhook's endpoint does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Health {
    /// `ok`, `paused`, `failing`, `disabled`, `gone` or `unreadable`.
    pub state: String,
    /// Since when.
    pub since: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What was wrong last.
    pub last_error: Option<String>,
    /// When it last took a delivery.
    pub last_success_at: Option<String>,
    /// When it last did not.
    pub last_failure_at: Option<String>,
    /// How many attempts failed since the last success.
    pub consecutive_failures: u32,
    /// Until when deliveries pause.
    pub paused_until: Option<String>,
}

/// The extension that owns a webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Owner {
    /// Its key.
    pub extension_key: ExtensionKey,
    /// Its name.
    pub extension_name: Option<String>,
    /// The version that serves.
    pub version: Option<String>,
    /// The installation.
    pub installation_id: Option<InstallationId>,
}

/// The terms of delivery that are in force for a webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Terms {
    /// The waits before the second and each later attempt, in seconds.
    pub schedule: Vec<u64>,
    /// How long one attempt may take, in seconds.
    pub deadline_seconds: u64,
    /// The most requests under way at a time, on each node.
    pub concurrency: u64,
    /// The most deliveries that begin in a minute.
    pub rate_per_minute: Option<u32>,
    /// Which wishes of the package were brought to the nearest bound.
    pub clamped: Vec<String>,
}

/// Which webhooks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WebhookFilter {
    /// Of this org.
    pub org_id: Option<OrgId>,
    /// Whose name, description or address holds this text.
    pub search: Option<String>,
    /// `CUSTOMER_WEBHOOK` or `EXTENSION_WEBHOOK`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// In this dialect.
    pub dialect: Option<String>,
    /// That subscribe to this event.
    pub event_type: Option<String>,
    /// Switched on, or off.
    pub is_enabled: Option<bool>,
    /// How many on a page, up to 200.
    pub limit: Option<u16>,
}

/// A webhook of an org's own that is wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WebhookRequest {
    /// Where it sends to.
    pub url: String,
    /// Event types with their options; an empty object has none.
    pub subscriptions: Map<String, Value>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The wire format; `desk` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// What makes it send: `events`, `trigger` or `automation`; fixed for its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The method of its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `json`, `xml` or `form`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// `structured` or `binary`: CloudEvents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_events: Option<String>,
    /// Headers beside the dialect's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// How it proves itself to the endpoint: `{"type": "bearer", "token": "…"}` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Value>,
    /// What it signs with; made and told once where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The source whose events it does not get; made where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_source_id: Option<String>,
    /// `["AUTOMATION"]`: events too that automation caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_events_from: Option<Vec<String>>,
    /// Whether it is switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_enabled: Option<bool>,
    /// Whether deliveries go in order of acceptance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// What becomes of events while it is off: `drop` or `queue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub while_disabled: Option<String>,
    /// An own CA: `{"caCertificates": "…"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Value>,
}

impl WebhookRequest {
    /// One that gets these events, without options.
    pub fn new(url: impl Into<String>, events: &[&str]) -> Self {
        let subscriptions = events.iter().map(|event| ((*event).to_owned(), Value::Null)).collect();
        Self { url: url.into(), subscriptions, ..Self::default() }
    }
}

/// A change of an org's own webhook: what is left out stays, and `Some(None)` clears.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WebhookPatch {
    /// Where it sends to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Event types with their options, replaced whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Map<String, Value>>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Option<String>>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Option<String>>,
    /// Headers beside the dialect's, replaced whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Option<BTreeMap<String, String>>>,
    /// How it proves itself to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Option<Value>>,
    /// What it signs with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// `["AUTOMATION"]`: events too that automation caused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_events_from: Option<Option<Vec<String>>>,
    /// Whether it is switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_enabled: Option<bool>,
    /// Whether deliveries go in order of acceptance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// What becomes of events while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub while_disabled: Option<String>,
    /// The `modifiedTime` that was seen: refused where somebody changed it since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<String>,
}

/// A test of a webhook: a sample event, as it would be delivered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TestRequest {
    /// The type of the event.
    pub event_type: String,
    /// Its payload; the catalogue's sample where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Query parameters that are added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// Headers that are added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl TestRequest {
    /// The catalogue's sample of a type.
    pub fn new(event_type: impl Into<String>) -> Self {
        let event_type = event_type.into();
        Self { event_type, body: None, params: BTreeMap::new(), headers: BTreeMap::new() }
    }
}

/// What a ping or test came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Trial {
    /// `delivered`, or what was wrong.
    pub outcome: String,
    /// Who decided that: `endpoint` or `mortise`.
    pub by: String,
    /// What was wrong, in words.
    pub error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What was sent.
    pub request: Value,
    /// What came back: `status`, `headers`, `body`.
    pub response: Option<Value>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
}

impl Trial {
    /// Whether the endpoint took it.
    pub fn is_delivered(&self) -> bool {
        self.outcome == "delivered"
    }

    /// The status of the endpoint's answer.
    pub fn status(&self) -> Option<u64> {
        self.response.as_ref()?["status"].as_u64()
    }
}

/// Which deliveries of a webhook are sent again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecoverRequest {
    /// Those made at this moment or later, RFC 3339.
    pub since: String,
    /// Those made before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Those in this state; the failed ones where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Those of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Those whose last answer had this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// How many in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

impl RecoverRequest {
    /// The failed ones since a moment.
    pub fn since(moment: impl Into<String>) -> Self {
        Self {
            since: moment.into(),
            until: None,
            state: None,
            event_type: None,
            status_code: None,
            per_second: None,
        }
    }
}

/// A webhook that works again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reactivated {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// How it did before.
    pub from: String,
    /// How it does now.
    pub health: String,
    /// The job that sends what was held.
    pub job: Option<RecoveryJob>,
    /// How many deliveries are still held, where they are not sent.
    pub still_held: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Release {
    release: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfOrg<'o> {
    org_id: Option<&'o OrgId>,
}

impl Client {
    /// Lists webhooks.
    pub fn webhooks(&self, filter: &WebhookFilter) -> Pages<Webhook> {
        Pages::of(self, operation::WEBHOOKS, &[], filter)
    }

    /// Shows a webhook.
    pub async fn webhook(&self, id: WebhookId) -> Result<Webhook, Error> {
        self.send(Call::new(self, operation::WEBHOOK, &[&id])?).await
    }

    /// Makes a webhook of an org's own; the org is the token's where it belongs to one. Its `secret`
    /// is told here and never again.
    pub async fn create_webhook(
        &self,
        org: Option<&OrgId>,
        request: &WebhookRequest,
    ) -> Result<Webhook, Error> {
        let query = parameters(&OfOrg { org_id: org })?;
        let call = Call::new(self, operation::CREATE_WEBHOOK, &[])?.query(query);
        self.send(call.json(request)?).await
    }

    /// Changes an org's own webhook. An extension's is locked: 403 with `lockedBy`.
    pub async fn change_webhook(
        &self,
        id: WebhookId,
        patch: &WebhookPatch,
    ) -> Result<Webhook, Error> {
        self.send(Call::new(self, operation::CHANGE_WEBHOOK, &[&id])?.json(patch)?).await
    }

    /// Deletes an org's own webhook.
    pub async fn delete_webhook(&self, id: WebhookId) -> Result<(), Error> {
        self.send_off(Call::new(self, operation::DELETE_WEBHOOK, &[&id])?).await
    }

    /// Sends a ping to a webhook's endpoint. A failing endpoint is an answer, and no error.
    pub async fn ping_webhook(&self, id: WebhookId) -> Result<Trial, Error> {
        self.send(Call::new(self, operation::PING_WEBHOOK, &[&id])?.json(&Nothing {})?).await
    }

    /// Sends a sample event to a webhook's endpoint. A failing endpoint is an answer, and no error.
    pub async fn test_webhook(&self, id: WebhookId, request: &TestRequest) -> Result<Trial, Error> {
        self.send(Call::new(self, operation::TEST_WEBHOOK, &[&id])?.json(request)?).await
    }

    /// Makes a webhook live again that is gone or disabled, with what was held or without.
    pub async fn reactivate_webhook(
        &self,
        id: WebhookId,
        release: bool,
    ) -> Result<Reactivated, Error> {
        let call = Call::new(self, operation::REACTIVATE, &[&id])?;
        self.send(call.json(&Release { release })?).await
    }

    /// Sends deliveries of a webhook again, as a job.
    pub async fn recover(
        &self,
        id: WebhookId,
        request: &RecoverRequest,
    ) -> Result<RecoveryJob, Error> {
        self.send(Call::new(self, operation::RECOVER, &[&id])?.json(request)?).await
    }
}
