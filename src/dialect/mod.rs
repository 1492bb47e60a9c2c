//! Wire formats: what a receiver gets, one file a format.

mod desk;
mod verdict;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use crate::seam::Timestamp;

pub use verdict::{DESK, StatusRule, StatusTable, Verdict};

/// The wire format of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The reference help desk's own.
    #[default]
    Desk,
}

/// An event as it is delivered. The JSON texts are taken as they are, byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct EventParts<'a> {
    /// The type, as the dialect names it.
    pub event_type: &'a str,
    /// The org.
    pub org: &'a str,
    /// When it happened.
    pub event_time: Timestamp,
    /// The resource: one valid JSON text.
    pub payload: &'a [u8],
    /// What the resource was before: one valid JSON text; only for those that asked for it.
    pub previous: Option<&'a [u8]>,
}

impl Dialect {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desk => "desk",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        (name == Self::Desk.as_str()).then_some(Self::Desk)
    }

    /// What the statuses of its receivers mean.
    pub const fn statuses(self) -> &'static StatusTable {
        match self {
            Self::Desk => &DESK,
        }
    }

    /// The body of a delivery, assembled once.
    pub fn body(self, event: &EventParts<'_>) -> Bytes {
        match self {
            Self::Desk => desk::body(event),
        }
    }

    /// The headers that are the same for every delivery: `Content-Type` and `User-Agent`.
    pub fn static_headers(self) -> HeaderMap {
        let agent = HeaderValue::from_static(concat!("Mortise/", env!("CARGO_PKG_VERSION")));
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, self.content_type());
        headers.insert(USER_AGENT, agent);
        headers
    }

    /// The body's `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        match self {
            Self::Desk => HeaderValue::from_static("application/json"),
        }
    }
}
