//! The one door: from what happened to the request that tells of it.

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;
use uuid::Uuid;

use super::settings::RequestSettings;
use super::template::Template;
use super::{Dialect, EventParts};
use crate::crypto::Signer;
use crate::seam::Timestamp;

/// A webhook as its receiver may know it.
#[derive(Clone, Copy, Debug)]
pub struct WebhookFace<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its other id: a positive number of at most 63 bits, for systems whose ids are numbers.
    pub alias: i64,
    /// Its name.
    pub name: &'a str,
}

/// What a delivery is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The event, with the host's name of its type.
    pub event: EventParts<'a>,
    /// What the dialect calls it (`request.status_changed`); the host's name where the dialect has
    /// no other.
    pub name: &'a str,
    /// The delivery, the same over retries and replays.
    pub delivery_id: Uuid,
    /// The webhook.
    pub webhook: WebhookFace<'a>,
    /// When the attempt is made.
    pub at: Timestamp,
    /// Signs with every live secret of the webhook.
    pub signer: &'a Signer,
    /// Whether it is a test (`X-Mortise-Test`).
    pub is_test: bool,
    /// Whether it is sent again on demand (`X-Mortise-Replay`).
    pub is_replay: bool,
    /// How the webhook's requests look.
    pub settings: &'a RequestSettings,
    /// What the trigger or automation sends; nothing for a webhook that is connected to events.
    pub template: Option<&'a Template>,
}

/// A request, ready to be sent. Authentication, and `X-ZDesk-JWT` of the desk dialect, are added by
/// whoever has the credentials.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The method.
    pub method: Method,
    /// The whole address where the webhook's has placeholders, with its own scheme, host and port;
    /// nothing where the webhook's address is taken as it is.
    pub address: Option<Url>,
    /// Query parameters to append to the address, in this order.
    pub query: Vec<(String, String)>,
    /// The headers, `Content-Type` (where there is a body) and `User-Agent` among them.
    pub headers: HeaderMap,
    /// The body; may be empty.
    pub body: Bytes,
    /// Placeholders that are known and had no value this time, in order and once each.
    pub empty_placeholders: Vec<String>,
}

/// Why a delivery cannot be rendered. Trying again would not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The stored event is not what intake lets in.
    #[error("the event's {part} is not JSON")]
    Event {
        /// Which part.
        part: &'static str,
    },
    /// What the template became is too large.
    #[error("the rendered {what} has {bytes} bytes; at most {limit} are sent")]
    TooLarge {
        /// The payload, or the parameters.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// A value cannot stand where the template has it.
    #[error("the address cannot be made: {reason}")]
    Address {
        /// Why.
        reason: String,
    },
    /// A text cannot be a header.
    #[error("the header {name} cannot be made")]
    Header {
        /// Its name.
        name: &'static str,
    },
}

/// Renders a delivery in a dialect.
pub fn render(dialect: Dialect, occasion: &Occasion<'_>) -> Result<Rendered, RenderError> {
    super::rendering::render(dialect, occasion)
}
