//! Listeners: copies of deliveries as they are made, over a connection that goes out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::{Call, parameters};
use super::client::Client;
use super::error::Error;
use super::identifiers::{DeliveryId, ExtensionKey, InstallationId, ListenerId, OrgId, WebhookId};
use super::operation;

/// How long an answer may take beyond what it was told to wait.
const BEYOND_WAIT: Duration = Duration::from_secs(15);

/// What is listened to: one of the three.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListenerRequest {
    /// One webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_id: Option<WebhookId>,
    /// The webhooks of an installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
    /// The webhooks of an extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_key: Option<ExtensionKey>,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Listener {
    /// Its id.
    pub id: ListenerId,
    /// The webhook.
    pub webhook_id: Option<WebhookId>,
    /// The installation.
    pub installation_id: Option<InstallationId>,
    /// The extension.
    pub extension_key: Option<ExtensionKey>,
    /// How many copies it got.
    pub tapped: u64,
    /// How many came too fast.
    pub dropped: i64,
    /// When it ends unless it is read, RFC 3339.
    pub expires_time: String,
}

/// Copies of deliveries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyPage {
    /// In the order that they were sent in.
    pub data: Vec<DeliveryCopy>,
    /// Where to read on.
    pub next_cursor: String,
    /// How many were too old to be kept.
    pub missed: i64,
    /// How many came too fast, so far.
    pub dropped: i64,
}

/// A request as it was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeliveryCopy {
    /// Its number.
    pub sequence: i64,
    /// When it was sent, RFC 3339.
    pub sent_time: String,
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The extension.
    pub extension_key: Option<ExtensionKey>,
    /// The org.
    pub org_id: OrgId,
    /// The type of the event.
    pub event_type: String,
    /// The number of the attempt.
    pub attempt: i64,
    /// The method.
    pub method: String,
    /// The address.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body; none where it was too large to be copied.
    pub body: Option<String>,
    /// Whether that is base64.
    pub is_base64_encoded: bool,
    /// How large the body is.
    pub body_bytes: i64,
}

/// What the listener's own server answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CopyAnswer {
    /// The number of the copy.
    pub sequence: i64,
    /// The status; none where there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What was seen instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u32,
}

impl CopyAnswer {
    /// An answer with a status.
    pub fn answered(sequence: i64, status: u16, duration_ms: u32) -> Self {
        Self { sequence, status: Some(status), error: None, duration_ms }
    }

    /// No answer.
    pub fn unanswered(sequence: i64, error: impl Into<String>, duration_ms: u32) -> Self {
        Self { sequence, status: None, error: Some(error.into()), duration_ms }
    }
}

/// Which copies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CopyQuery {
    pub(crate) wait_seconds: u64,
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answers<'a> {
    answers: &'a [CopyAnswer],
}

impl Client {
    /// Begins to listen. Deliveries go on as ever.
    pub async fn listen(&self, request: &ListenerRequest) -> Result<Listener, Error> {
        self.send(Call::new(self, operation::LISTEN, &[])?.json(request)?).await
    }

    /// The copies behind a cursor; waits so long for the first, up to 25 s.
    pub async fn listened(
        &self,
        id: ListenerId,
        cursor: Option<&str>,
        wait: Duration,
    ) -> Result<CopyPage, Error> {
        let query = CopyQuery { wait_seconds: wait.as_secs(), cursor: cursor.map(str::to_owned) };
        let call = Call::new(self, operation::LISTENED, &[&id])?.query(parameters(&query)?);
        self.send(call.within(wait + BEYOND_WAIT)).await
    }

    /// Tells what the listener's own server answered, for others to see.
    pub async fn tell_answers(&self, id: ListenerId, answers: &[CopyAnswer]) -> Result<(), Error> {
        let call = Call::new(self, operation::ANSWERED, &[&id])?;
        self.send_off(call.json(&Answers { answers })?).await
    }

    /// Ends a listener.
    pub async fn end_listener(&self, id: ListenerId) -> Result<(), Error> {
        self.send_off(Call::new(self, operation::END_LISTENER, &[&id])?).await
    }
}
