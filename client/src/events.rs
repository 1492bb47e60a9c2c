//! Events, from the host.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call::{Call, parameters};
use super::client::Client;
use super::deliveries::Delivery;
use super::error::Error;
use super::identifiers::{ExtensionKey, OrgId, WebhookId};
use super::operation;

/// An event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Event {
    /// The host's own id of it, up to 128 characters: the same twice is one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Its type, such as `Ticket_Add`.
    pub event_type: String,
    /// The org.
    pub org_id: OrgId,
    /// The department; `payload.departmentId` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department_id: Option<String>,
    /// When it happened, RFC 3339 or milliseconds since 1970; now where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<String>,
    /// What it is about.
    pub payload: Map<String, Value>,
    /// What it was like before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_state: Option<Map<String, Value>>,
    /// Who caused it, as `ignoreSourceId` of webhooks has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// `USER` or `AUTOMATION`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<EventActor>,
}

impl Event {
    /// An event of now.
    pub fn new(event_type: impl Into<String>, org_id: OrgId, payload: Map<String, Value>) -> Self {
        Self {
            event_id: None,
            event_type: event_type.into(),
            org_id,
            department_id: None,
            event_time: None,
            payload,
            prev_state: None,
            source_id: None,
            origin: None,
            actor: None,
        }
    }
}

/// Who did what an event tells of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EventActor {
    /// His id.
    pub id: String,
    /// His address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// His name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What he is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl EventActor {
    /// Somebody, by his id.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), email: None, name: None, kind: None }
    }
}

/// Events that are on disk, with everything that they fan out to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Accepted {
    /// How many.
    pub accepted: u64,
    /// Each of them, in the order that they came in.
    pub events: Vec<AcceptedEvent>,
}

/// An event that is on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AcceptedEvent {
    /// Its id.
    pub event_id: String,
    /// How many deliveries it has.
    pub deliveries: u64,
    /// Whether it was there before.
    #[serde(default)]
    pub duplicate: bool,
}

/// An event, and what every webhook of the org made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EventExplanation {
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// The org.
    pub org_id: OrgId,
    /// The department.
    pub department_id: Option<String>,
    /// When it happened.
    pub event_time: String,
    /// When it was accepted.
    pub accepted_time: Option<String>,
    /// Who caused it.
    pub source_id: Option<String>,
    /// `USER` or `AUTOMATION`.
    pub origin: String,
    /// What it is about.
    pub payload: Value,
    /// Every webhook of the org.
    pub webhooks: Vec<Verdict>,
}

/// What a webhook made of an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Verdict {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The extension that owns it.
    pub extension_key: Option<ExtensionKey>,
    /// Whether it gets the event.
    pub matched: bool,
    /// The first rule that refused it.
    pub rule: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// The delivery, where there is one.
    pub delivery: Option<Delivery>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfOrg<'o> {
    org_id: &'o OrgId,
}

#[derive(Debug, Serialize)]
struct OfModule<'m> {
    dialect: Option<&'m str>,
    module: Option<&'m str>,
}

impl Client {
    /// Posts events, up to 1,000: all or none. Once it answers they are on disk.
    pub async fn post_events(&self, events: &[Event]) -> Result<Accepted, Error> {
        self.send(Call::new(self, operation::POST_EVENTS, &[])?.json(&events)?).await
    }

    /// Shows an event of an org and what every webhook made of it: why it did not arrive.
    pub async fn event(&self, org: &OrgId, event_id: &str) -> Result<EventExplanation, Error> {
        let query = parameters(&OfOrg { org_id: org })?;
        self.send(Call::new(self, operation::EVENT, &[&event_id])?.query(query)).await
    }

    /// Every event type with its options, schema and sample, by the names of a dialect and of one
    /// module or all.
    pub async fn event_types(
        &self,
        dialect: Option<&str>,
        module: Option<&str>,
    ) -> Result<Vec<Value>, Error> {
        let query = parameters(&OfModule { dialect, module })?;
        let call = Call::new(self, operation::EVENT_TYPES, &[])?.query(query);
        Ok(self.send::<Types>(call).await?.data)
    }
}

#[derive(Deserialize)]
struct Types {
    data: Vec<Value>,
}
