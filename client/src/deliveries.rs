//! Deliveries: one event on its way to one webhook.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::Call;
use super::catalogue::Nothing;
use super::client::Client;
use super::error::Error;
use super::identifiers::{DeliveryId, ExtensionKey, InstallationId, OrgId, WebhookId};
use super::operation;
use super::page::Pages;

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DeliveryState {
    /// It is due, or will be.
    Pending,
    /// It waits for its webhook or installation.
    Held,
    /// It was taken.
    Delivered,
    /// It was given up after its last attempt.
    Failed,
    /// It was called off.
    Cancelled,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

/// A delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Delivery {
    /// Its id: the `webhook-id` that it is sent with.
    pub id: DeliveryId,
    /// The event.
    pub event_id: String,
    /// The type of the event.
    pub event_type: String,
    /// Its name in the webhook's dialect, where that is another.
    pub event_name: Option<String>,
    /// Why it was cancelled, where that is known.
    pub reason: Option<String>,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The org.
    pub org_id: OrgId,
    /// The installation, where the webhook is an extension's.
    pub installation_id: Option<InstallationId>,
    /// The extension.
    pub extension_key: Option<ExtensionKey>,
    /// Its state.
    pub state: DeliveryState,
    /// When the next attempt is due, RFC 3339.
    pub next_attempt_time: Option<String>,
    /// When it was made.
    pub created_time: String,
    /// How many attempts were made.
    pub attempts_made: u32,
    /// The attempts, the earliest first; in a list the last one.
    pub attempts: Vec<Attempt>,
}

/// An attempt of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub time: String,
    /// The status of the answer; none where there was none.
    pub status: Option<u16>,
    /// Which kind of failure kept an answer away.
    pub error: Option<String>,
    /// What exactly was seen.
    pub message: Option<String>,
    /// What the receiver's owner can look at.
    pub hint: Option<String>,
    /// Whether it was sent again on demand.
    pub replay: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// The address that was connected to.
    pub address: Option<String>,
    /// The answer: headers and the beginning of its body.
    pub response: Option<Value>,
}

/// Which deliveries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeliveryFilter {
    /// To this webhook.
    pub webhook_id: Option<WebhookId>,
    /// Of this installation.
    pub installation_id: Option<InstallationId>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Whose last answer had this status.
    pub status_code: Option<u16>,
    /// Made at this moment or later, RFC 3339.
    pub since: Option<String>,
    /// Made before this moment.
    pub until: Option<String>,
    /// How many on a page, up to 200.
    pub limit: Option<u16>,
}

impl Client {
    /// Lists deliveries, the latest first.
    pub fn deliveries(&self, filter: &DeliveryFilter) -> Pages<Delivery> {
        Pages::of(self, operation::DELIVERIES, &[], filter)
    }

    /// Shows a delivery with its attempts.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Delivery, Error> {
        self.send(Call::new(self, operation::DELIVERY, &[&id])?).await
    }

    /// Sends a delivery again.
    pub async fn retry_delivery(&self, id: DeliveryId) -> Result<(), Error> {
        let call = Call::new(self, operation::RETRY_DELIVERY, &[&id])?;
        self.send_off(call.json(&Nothing {})?).await
    }
}
