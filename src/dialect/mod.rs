//! Wire formats: what a receiver gets, one file a format, all behind [`render`].
//!
//! Nothing here knows a database, a clock or a network.

mod assist;
mod desk;
mod dzdesk;
mod names;
mod occasion;
mod placeholders;
mod rendering;
mod settings;
mod standard;
mod template;
mod verdict;
mod zendesk;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use crate::seam::Timestamp;

pub use names::{
    AssistEvent, assist_event, assist_events, canonical, counted_as, host_types, known_names,
    names_of_type, nearest, only_of_one_dialect, told, told_with,
};
pub use occasion::{Occasion, RenderError, Rendered, WebhookFace, render};
pub use placeholders::{
    OF_EVERY_EVENT, Place, Subject, correlation, other_names, place, subject_of,
};
pub use settings::{
    BodyFormat, CloudEvents, Connection, RequestMethod, RequestSettings, RequestWish,
    SettingsFault, has_payload,
};
pub use template::{
    AddressTemplate, Content, MOST_PARAMETERS, MOST_PLACEHOLDERS, TEMPLATE_LIMIT, Template,
    TemplateFault,
};
pub use verdict::{ASSIST, DESK, DZDESK, SOON, StatusRule, StatusTable, Verdict, ZENDESK};

/// The wire format of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The reference help desk's own.
    #[default]
    Desk,
    /// Standard Webhooks, or CloudEvents.
    Standard,
    /// As Zendesk sends.
    Zendesk,
    /// As DZDESK sends.
    Dzdesk,
    /// For receivers of Zoho Assist's events.
    Assist,
}

/// An event as it is delivered. The JSON texts are taken as they are, byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct EventParts<'a> {
    /// The type, as the host names it.
    pub event_type: &'a str,
    /// The org.
    pub org: &'a str,
    /// When it happened.
    pub event_time: Timestamp,
    /// The resource: one valid JSON text.
    pub payload: &'a [u8],
    /// What the resource was before: one valid JSON text; for the desk dialect only where it was
    /// asked for.
    pub previous: Option<&'a [u8]>,
    /// The department that it belongs to.
    pub department: Option<&'a str>,
    /// Whether automation caused it, and not a user.
    pub automation: bool,
    /// Who caused it: one valid JSON text.
    pub actor: Option<&'a str>,
}

impl<'a> EventParts<'a> {
    /// An event without its circumstances.
    pub fn new(
        event_type: &'a str,
        org: &'a str,
        event_time: Timestamp,
        payload: &'a [u8],
    ) -> Self {
        Self {
            event_type,
            org,
            event_time,
            payload,
            previous: None,
            department: None,
            automation: false,
            actor: None,
        }
    }
}

/// The pauses of DZDESK, as its page tells: one minute, five, thirty, two hours.
const DZDESK_PAUSES: &[Duration] = &[
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
];

/// Five more attempts for what got no answer; what got one has three at most ([`ZENDESK`]).
const ZENDESK_PAUSES: &[Duration] = &[
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(15),
    Duration::from_mins(30),
    Duration::from_hours(2),
];

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Desk, Self::Standard, Self::Zendesk, Self::Dzdesk, Self::Assist];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desk => "desk",
            Self::Standard => "standard",
            Self::Zendesk => "zendesk",
            Self::Dzdesk => "dzdesk",
            Self::Assist => "assist",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// What the statuses of its receivers mean.
    pub const fn statuses(self) -> &'static StatusTable {
        match self {
            Self::Desk | Self::Standard => &DESK,
            Self::Zendesk => &ZENDESK,
            Self::Dzdesk => &DZDESK,
            Self::Assist => &ASSIST,
        }
    }

    /// The time of one attempt where the system that it speaks for says one; else the operator's.
    pub const fn deadline(self) -> Option<Duration> {
        match self {
            Self::Dzdesk => Some(Duration::from_secs(5)),
            Self::Desk | Self::Standard | Self::Zendesk | Self::Assist => None,
        }
    }

    /// The pauses before the second, third … attempt where the system that it speaks for says
    /// them; else the operator's.
    pub const fn default_pauses(self) -> Option<&'static [Duration]> {
        match self {
            Self::Dzdesk => Some(DZDESK_PAUSES),
            Self::Zendesk => Some(ZENDESK_PAUSES),
            Self::Desk | Self::Standard | Self::Assist => None,
        }
    }

    /// Whether an answer of 400 to 499 is tried again.
    pub fn retries_client_errors(self) -> bool {
        self.statuses().verdict(400) == Verdict::Retry
    }

    /// Whether a webhook that fails for long is disabled. Where it is not, the breaker holds its
    /// deliveries and probes, for as long as it takes.
    pub const fn disables_after_failures(self) -> bool {
        !matches!(self, Self::Zendesk)
    }

    /// Whether the names of its events are its own, so that a delivery says which one it is.
    pub const fn has_names(self) -> bool {
        !matches!(self, Self::Desk | Self::Standard)
    }

    /// The headers that are the same for every delivery of the desk dialect: `Content-Type` and
    /// `User-Agent`.
    pub fn static_headers(self) -> HeaderMap {
        let agent = HeaderValue::from_static(concat!("Mortise/", env!("CARGO_PKG_VERSION")));
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, self.content_type());
        headers.insert(USER_AGENT, agent);
        headers
    }

    /// The `Content-Type` of the body of its own.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static("application/json")
    }
}

/// The body of the desk dialect, assembled once and without looking into the event.
pub fn desk_body(event: &EventParts<'_>) -> Bytes {
    desk::body(event)
}
