//! How the requests of one webhook look: method, format, headers; typed and checked when the
//! webhook is saved.

use http::{HeaderMap, Method};
use url::Url;

use super::Dialect;
use super::template::{AddressTemplate, TemplateFault};

/// What makes a webhook send. Chosen when it is created, and fixed for life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Connection {
    /// The events that it subscribes to.
    #[default]
    Events,
    /// Triggers that name it in their action.
    Trigger,
    /// Automations that name it in their action.
    Automation,
}

impl Connection {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Trigger => "trigger",
            Self::Automation => "automation",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Events, Self::Trigger, Self::Automation].into_iter().find(|one| one.as_str() == name)
    }
}

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RequestMethod {
    /// `GET`
    Get,
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl RequestMethod {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The name in the API, in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// For a request.
    pub const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

/// The format of a request's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyFormat {
    /// `application/json`
    #[default]
    Json,
    /// `application/xml`
    Xml,
    /// `application/x-www-form-urlencoded`
    Form,
}

impl BodyFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Json, Self::Xml, Self::Form];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Xml => "xml",
            Self::Form => "form",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// The `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "application/xml",
            Self::Form => "application/x-www-form-urlencoded",
        }
    }
}

/// Whether the standard dialect speaks CloudEvents 1.0, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloudEvents {
    /// The event's attributes are in the body.
    Structured,
    /// The event's attributes are in `ce-` headers, and the body is the payload.
    Binary,
}

impl CloudEvents {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Structured => "structured",
            Self::Binary => "binary",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Structured, Self::Binary].into_iter().find(|one| one.as_str() == name)
    }
}

/// What is wrong with the settings of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsFault {
    /// A webhook that is connected to events always sends `POST` with JSON.
    #[error("a webhook that is connected to events sends POST with JSON: leave {field} out")]
    FixedForEvents {
        /// `method` or `format`.
        field: &'static str,
    },
    /// CloudEvents is an option of the standard dialect, for events.
    #[error("cloudEvents is an option of the dialect standard with the connection events")]
    CloudEventsElsewhere,
    /// The address is no template of an address.
    #[error(transparent)]
    Address(#[from] TemplateFault),
    /// Placeholders in the address are for webhooks of triggers and automations.
    #[error("placeholders in the address need a connection to triggers or automations")]
    PlaceholdersForEvents,
}

/// What is asked for when a webhook is saved.
#[derive(Clone, Debug, Default)]
pub struct RequestWish {
    /// The method.
    pub method: Option<RequestMethod>,
    /// The format.
    pub format: Option<BodyFormat>,
    /// CloudEvents.
    pub cloud_events: Option<CloudEvents>,
    /// Custom headers, checked by the rules for them already.
    pub headers: HeaderMap,
    /// The address as it was written, placeholders and all.
    pub url: String,
}

/// How the requests of a webhook look.
#[derive(Clone, Debug, Default)]
pub struct RequestSettings {
    method: RequestMethod,
    format: BodyFormat,
    headers: HeaderMap,
    cloud_events: Option<CloudEvents>,
    address: Option<AddressTemplate>,
}

impl RequestSettings {
    /// Checks what is asked for; all faults at once, each with the field that has it.
    pub fn new(
        dialect: Dialect,
        connection: Connection,
        wish: RequestWish,
    ) -> Result<Self, Vec<(&'static str, SettingsFault)>> {
        let mut faults = Vec::new();
        let fixed = connection == Connection::Events;
        if fixed && wish.method.is_some_and(|method| method != RequestMethod::Post) {
            faults.push(("/method", SettingsFault::FixedForEvents { field: "method" }));
        }
        if fixed && wish.format.is_some_and(|format| format != BodyFormat::Json) {
            faults.push(("/format", SettingsFault::FixedForEvents { field: "format" }));
        }
        if wish.cloud_events.is_some() && !(dialect == Dialect::Standard && fixed) {
            faults.push(("/cloudEvents", SettingsFault::CloudEventsElsewhere));
        }
        let address = match AddressTemplate::parse(&wish.url) {
            Ok(address) if address.has_placeholders() => Some(address),
            Ok(_) => None,
            Err(fault) => {
                faults.push(("/url", fault.into()));
                None
            }
        };
        if fixed && address.is_some() {
            faults.push(("/url", SettingsFault::PlaceholdersForEvents));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            method: wish.method.unwrap_or_default(),
            format: wish.format.unwrap_or_default(),
            headers: wish.headers,
            cloud_events: wish.cloud_events,
            address,
        })
    }

    /// The method.
    pub const fn method(&self) -> RequestMethod {
        self.method
    }

    /// The format.
    pub const fn format(&self) -> BodyFormat {
        self.format
    }

    /// Custom headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether CloudEvents is spoken.
    pub const fn cloud_events(&self) -> Option<CloudEvents> {
        self.cloud_events
    }

    /// The address, where it has placeholders.
    pub const fn address(&self) -> Option<&AddressTemplate> {
        self.address.as_ref()
    }

    /// An address to be vetted and shown in place of one with placeholders.
    pub fn vetted_address(&self) -> Option<&Url> {
        self.address.as_ref().map(AddressTemplate::base)
    }

    /// Whether a request has a body of the template's making: JSON and XML with `POST`, `PUT` and
    /// `PATCH`. All others have parameters.
    pub const fn has_payload(&self) -> bool {
        has_payload(self.method, self.format)
    }
}

/// Whether requests of this method and format have a payload; those that have none have parameters.
pub const fn has_payload(method: RequestMethod, format: BodyFormat) -> bool {
    matches!(method, RequestMethod::Post | RequestMethod::Put | RequestMethod::Patch)
        && matches!(format, BodyFormat::Json | BodyFormat::Xml)
}
