//! An own webhook, checked: everything that can be wrong with a request is found at once, before
//! anything is written.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::authentication::{Authentication, Reading};
use super::headers;
use super::request::WebhookRequest;
use super::subscriptions::{self, Subscriptions};
use crate::crypto::{SecretBytes, SecretText, SigningSecret};
use crate::dialect::{
    BodyFormat, CloudEvents, Connection, Dialect, RequestMethod, RequestSettings, RequestWish,
};
use crate::egress::{Egress, TlsProfile};
use crate::store::entity::{own_webhook, webhook};
use crate::webhook::header_rules;

/// The longest name, in characters.
const LONGEST_NAME: usize = 255;

/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 1_000;

/// The longest address, in bytes.
const LONGEST_URL: usize = 2_048;

/// The longest source id of a dialect that does not ask for a UUID.
const LONGEST_SOURCE: usize = 128;

/// The largest certificates of an own authority, in bytes.
const LONGEST_CA: usize = 64 * 1_024;

/// What becomes of events while a webhook is switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhileDisabled {
    /// They are not for it.
    #[default]
    Drop,
    /// They wait, up to a bound.
    Queue,
}

impl WhileDisabled {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Queue => "queue",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Drop, Self::Queue].into_iter().find(|one| one.as_str() == name)
    }
}

/// What is wrong with a member of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// A JSON pointer.
    pub pointer: String,
    /// The rule that it breaks.
    pub message: String,
    /// What may have been meant.
    pub suggestion: Option<String>,
    /// Whether it is needed and not there.
    pub is_missing: bool,
}

impl FieldFault {
    /// A value that its rule refuses.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let (pointer, message) = (pointer.into(), message.into());
        Self { pointer, message, suggestion: None, is_missing: false }
    }

    /// A value that is needed and not there.
    pub fn missing(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { is_missing: true, ..Self::new(pointer, message) }
    }
}

/// Whom to trust for an endpoint's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSettings {
    /// Certificates of authorities, as PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca_certificates: String,
    /// The one certificate that passes, as PEM; of orgs that are for development.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_certificate: Option<String>,
}

/// What is kept of a webhook as JSON: nothing of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The method.
    pub method: String,
    /// The format.
    pub format: String,
    /// CloudEvents.
    #[serde(default)]
    pub cloud_events: Option<String>,
    /// Custom headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How the endpoint is told who calls.
    #[serde(default)]
    pub authentication: Authentication,
    /// Whom to trust for its certificate.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
}

impl Settings {
    /// What is asked of the dialect; nothing where this release does not know a word of it.
    pub(crate) fn wish(&self, url: &str) -> Option<RequestWish> {
        let cloud_events = match self.cloud_events.as_deref() {
            None => None,
            Some(name) => Some(CloudEvents::from_name(name)?),
        };
        Some(RequestWish {
            method: Some(RequestMethod::from_name(&self.method)?),
            format: Some(BodyFormat::from_name(&self.format)?),
            cloud_events,
            headers: header_map(&self.headers)?,
            url: url.to_owned(),
        })
    }

    /// The TLS settings, with the key of our certificate; nothing where they are those of all.
    pub(crate) fn tls_profile(&self, secret: Option<&SecretText>) -> Option<TlsProfile> {
        let authorities = self.tls.as_ref().map(|tls| &tls.ca_certificates);
        let extra_roots = authorities.filter(|pem| !pem.is_empty());
        let extra_roots = extra_roots.map(|pem| pem.clone().into_bytes());
        let pinned = self.tls.as_ref().and_then(|tls| tls.pinned_certificate.clone());
        let pinned = pinned.map(String::into_bytes);
        let identity = match (&self.authentication, secret) {
            (Authentication::Mtls { certificate }, Some(key)) => {
                let pem = format!("{certificate}\n{}", key.expose());
                Some(SecretBytes::new(pem.into_bytes()))
            }
            _ => None,
        };
        if extra_roots.is_none() && identity.is_none() && pinned.is_none() {
            return None;
        }
        Some(TlsProfile { extra_roots, identity, pinned })
    }
}

/// The settings of a row.
pub(crate) fn stored_settings(row: &own_webhook::Model) -> Option<Settings> {
    serde_json::from_str(&row.settings).ok()
}

fn header_map(headers: &BTreeMap<String, String>) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok()?;
        map.append(name, HeaderValue::from_str(value).ok()?);
    }
    Some(map)
}

/// What is kept already of a webhook that is being changed.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its authentication.
    pub authentication: Authentication,
    /// The origin of its address.
    pub origin: Option<String>,
    /// What it was connected to.
    pub connection: Connection,
    /// Whether the change says anything of the authentication.
    pub names_authentication: bool,
}

/// An own webhook as it is to be, checked.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What administrators see it as.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Where it is called, as it was written.
    pub url: String,
    /// The events, by the dialect's names.
    pub(super) subscriptions: Subscriptions,
    /// Changes that carry this id are not sent back; to be made where it is nothing.
    pub ignore_source_id: Option<String>,
    /// Whether events that automation caused are wanted.
    pub automation: bool,
    /// Whether it is switched on.
    pub is_enabled: bool,
    /// The wire format.
    pub dialect: Dialect,
    /// What makes it send.
    pub connection: Connection,
    /// What becomes of events while it is switched off.
    pub while_disabled: WhileDisabled,
    /// Whether deliveries go in order.
    pub ordered: bool,
    /// What is kept as JSON.
    pub settings: Settings,
    /// How its requests look.
    pub request: RequestSettings,
    /// What signs, where it was given.
    pub secret: Option<SecretText>,
    /// What is secret in the authentication, where it was given.
    pub credentials: Option<SecretText>,
    /// What may be a mistake.
    pub warnings: Vec<String>,
}

impl Definition {
    /// The names that it subscribes to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.keys().map(String::as_str)
    }

    /// Whether a subscription asks for what was before.
    pub fn wants_previous(&self, name: &str) -> bool {
        let options = self.subscriptions.get(name);
        options.is_some_and(|options| options.include_prev_state == Some(true))
    }

    /// The address to be vetted: without placeholders.
    pub fn address(&self) -> Option<Url> {
        self.request.vetted_address().cloned().or_else(|| Url::parse(&self.url).ok())
    }

    pub(super) fn subscriptions_json(&self) -> Value {
        subscriptions::to_json(&self.subscriptions)
    }
}

impl WebhookRequest {
    /// Checks everything; all faults at once. `kept` is what there is already of a webhook that is
    /// being changed.
    pub fn check(
        self,
        egress: &Egress,
        kept: Option<&Kept>,
    ) -> Result<Definition, Vec<FieldFault>> {
        Checking { egress, kept, is_trial: false, faults: Vec::new(), warnings: Vec::new() }
            .run(self)
    }

    /// The same for a webhook that is only tried: what it subscribes to, and whether its address may
    /// be called, is for the trial to tell.
    pub fn check_for_trial(self, egress: &Egress) -> Result<Definition, Vec<FieldFault>> {
        Checking { egress, kept: None, is_trial: true, faults: Vec::new(), warnings: Vec::new() }
            .run(self)
    }
}

struct Checking<'c> {
    egress: &'c Egress,
    kept: Option<&'c Kept>,
    is_trial: bool,
    faults: Vec<FieldFault>,
    warnings: Vec<String>,
}

impl Checking<'_> {
    fn run(mut self, request: WebhookRequest) -> Result<Definition, Vec<FieldFault>> {
        let dialect =
            self.word("/dialect", request.dialect.as_deref(), Dialect::from_name, &DIALECTS);
        let connection = self.word(
            "/connection",
            request.connection.as_deref(),
            Connection::from_name,
            &["events", "trigger", "automation"],
        );
        let while_disabled = self.word(
            "/whileDisabled",
            request.while_disabled.as_deref(),
            WhileDisabled::from_name,
            &["drop", "queue"],
        );
        let method = self.word(
            "/method",
            request.method.as_deref(),
            RequestMethod::from_name,
            &RequestMethod::ALL.map(RequestMethod::as_str),
        );
        let format = self.word(
            "/format",
            request.format.as_deref(),
            BodyFormat::from_name,
            &BodyFormat::ALL.map(BodyFormat::as_str),
        );
        let cloud_events = request.cloud_events.as_deref().and_then(|name| {
            let known = CloudEvents::from_name(name);
            if known.is_none() {
                self.fault("/cloudEvents", "must be structured or binary");
            }
            known
        });
        self.length("/name", request.name.as_deref(), LONGEST_NAME);
        self.length("/description", request.description.as_deref(), LONGEST_DESCRIPTION);
        self.secret(request.secret.as_ref());
        let ignore_source_id = self.source(dialect, request.ignore_source_id);
        let automation = self.origins(request.include_events_from.as_deref());
        if let Some(kept) = self.kept
            && kept.connection != connection
        {
            self.fault("/connection", "is fixed for life: make another webhook");
        }
        let subscriptions = subscriptions::check(dialect, request.subscriptions, &mut self.faults);
        match connection {
            Connection::Events
                if subscriptions.is_empty() && self.faults.is_empty() && !self.is_trial =>
            {
                let message = "must name an event at least";
                self.faults.push(FieldFault::missing("/subscriptions", message));
            }
            Connection::Trigger | Connection::Automation => {
                if dialect != Dialect::Zendesk {
                    self.fault(
                        "/connection",
                        "only the dialect zendesk has triggers and automations",
                    );
                }
                if !subscriptions.is_empty() {
                    self.fault(
                        "/subscriptions",
                        "must be empty: a webhook is connected to events or to triggers, not to both",
                    );
                }
            }
            Connection::Events => {}
        }
        let address = self.address(&request.url);
        let headers = request.headers.unwrap_or_default();
        let is_https = address.as_ref().is_none_or(|url| url.scheme() == "https");
        self.headers(dialect, &headers, is_https);
        let (authentication, credentials) =
            self.authentication(request.authentication.as_ref(), address.as_ref());
        let tls = request.tls.map(|tls| TlsSettings {
            ca_certificates: tls.ca_certificates.unwrap_or_default(),
            pinned_certificate: tls.pinned_certificate,
        });
        let settings = Settings {
            method: method.as_str().to_owned(),
            format: format.as_str().to_owned(),
            cloud_events: cloud_events.map(|one| one.as_str().to_owned()),
            headers,
            authentication,
            tls,
        };
        self.tls(&settings, credentials.as_ref());
        let wish = settings.wish(&request.url).unwrap_or_default();
        let settled = match RequestSettings::new(dialect, connection, wish) {
            Ok(settled) => settled,
            Err(faults) => {
                for (pointer, fault) in faults {
                    self.fault(pointer, fault.to_string());
                }
                RequestSettings::default()
            }
        };
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        Ok(Definition {
            name: request.name,
            description: request.description,
            url: request.url,
            subscriptions,
            ignore_source_id,
            automation,
            is_enabled: request.is_enabled.unwrap_or(true),
            dialect,
            connection,
            while_disabled,
            ordered: request.ordered.unwrap_or(false),
            settings,
            request: settled,
            secret: request.secret,
            credentials,
            warnings: self.warnings,
        })
    }

    fn fault(&mut self, pointer: &str, message: impl Into<String>) {
        self.faults.push(FieldFault::new(pointer, message));
    }

    /// A word of a list; the usual one where it is left out.
    fn word<T: Default>(
        &mut self,
        pointer: &str,
        given: Option<&str>,
        read: impl Fn(&str) -> Option<T>,
        known: &[&str],
    ) -> T {
        let Some(given) = given else { return T::default() };
        read(given).unwrap_or_else(|| {
            let mut fault =
                FieldFault::new(pointer, format!("must be one of: {}", known.join(", ")));
            fault.suggestion =
                crate::manifest::nearest(given, known.iter().copied()).map(str::to_owned);
            self.faults.push(fault);
            T::default()
        })
    }

    fn length(&mut self, pointer: &str, text: Option<&str>, most: usize) {
        let Some(text) = text else { return };
        if text.chars().count() > most || text.chars().any(|one| one.is_control() && one != '\n') {
            self.fault(
                pointer,
                format!("must have at most {most} characters, and no control characters"),
            );
        }
    }

    fn secret(&mut self, secret: Option<&SecretText>) {
        let Some(secret) = secret else { return };
        if let Some(fault) = secret_fault(secret.expose()) {
            self.fault("/secret", fault);
        }
    }

    fn source(&mut self, dialect: Dialect, given: Option<String>) -> Option<String> {
        let given = given?;
        if let Ok(id) = Uuid::try_parse(&given) {
            return Some(id.to_string());
        }
        if dialect != Dialect::Assist {
            self.fault("/ignoreSourceId", "must be a UUID");
        } else if !(1..=LONGEST_SOURCE).contains(&given.len())
            || given.chars().any(char::is_control)
        {
            self.fault("/ignoreSourceId", format!("must have 1 to {LONGEST_SOURCE} bytes"));
        }
        Some(given)
    }

    fn origins(&mut self, given: Option<&[String]>) -> bool {
        let Some(given) = given else { return false };
        if given.iter().any(|one| one != "AUTOMATION") {
            self.fault("/includeEventsFrom", "may only have AUTOMATION");
        }
        given.iter().any(|one| one == "AUTOMATION")
    }

    /// The address, vetted; placeholders stand for harmless words here.
    fn address(&mut self, text: &str) -> Option<Url> {
        if text.len() > LONGEST_URL {
            self.fault("/url", format!("must have at most {LONGEST_URL} bytes"));
            return None;
        }
        let odd = text.chars().any(|one| one.is_control() || one.is_whitespace());
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && !odd);
        let Some(url) = url else {
            self.fault("/url", "must be an absolute https URL");
            return None;
        };
        match self.egress.vet(&url) {
            Err(refusal) if !self.is_trial => {
                self.fault("/url", refusal.to_string());
                None
            }
            _ => Some(url),
        }
    }

    fn headers(&mut self, dialect: Dialect, given: &BTreeMap<String, String>, is_https: bool) {
        let mut refuse = |name: &str, fault: String| {
            let place = name.replace('~', "~0").replace('/', "~1");
            let place = if name.is_empty() { String::new() } else { format!("/{place}") };
            self.faults.push(FieldFault::new(format!("/headers{place}"), fault));
        };
        if dialect != Dialect::Zendesk {
            for (name, fault) in headers::faults(given) {
                refuse(&name, fault);
            }
            return;
        }
        let pairs: Vec<(String, String)> =
            given.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        match header_rules::check(&pairs, is_https) {
            Ok(checked) => {
                self.warnings.extend(checked.credentials.into_iter().map(|name| {
                    format!(
                        "The header {name} looks like a credential: give it as authentication, \
                         where it is sealed and never shown."
                    )
                }));
            }
            Err(faults) => {
                for (place, fault) in faults {
                    let name = place.and_then(|place| pairs.get(place)).map(|(name, _)| name);
                    refuse(name.map_or("", String::as_str), fault.to_string());
                }
            }
        }
    }

    fn authentication(
        &mut self,
        request: Option<&super::AuthenticationRequest>,
        address: Option<&Url>,
    ) -> (Authentication, Option<SecretText>) {
        let moved = match (self.kept, address) {
            (Some(kept), Some(url)) => {
                kept.origin.as_deref() != Some(url.origin().ascii_serialization().as_str())
            }
            _ => false,
        };
        let (authentication, credentials) = match (request, self.kept) {
            (Some(request), kept) => {
                // What was given for one origin is told to no other.
                let kept = kept.filter(|_| !moved).map(|kept| &kept.authentication);
                let reading =
                    Reading { request, faults: &mut self.faults, egress: self.egress, kept };
                reading.read().unwrap_or_default()
            }
            (None, Some(kept)) if !kept.names_authentication => {
                if moved && kept.authentication.is_some() {
                    self.fault(
                        "/authentication",
                        "must be given again, since the address has another origin now",
                    );
                }
                (kept.authentication.clone(), None)
            }
            (None, _) => (Authentication::None, None),
        };
        if authentication.is_some() && address.is_some_and(|url| url.scheme() != "https") {
            self.fault("/authentication", "needs https: credentials are not sent over plain http");
        }
        (authentication, credentials)
    }

    fn tls(&mut self, settings: &Settings, credentials: Option<&SecretText>) {
        if let Some(tls) = &settings.tls {
            let pinned = tls.pinned_certificate.as_deref();
            if tls.ca_certificates.len() > LONGEST_CA
                || pinned.is_some_and(|pem| pem.len() > LONGEST_CA)
            {
                self.fault("/tls", format!("must have at most {LONGEST_CA} bytes each"));
                return;
            }
            if tls.ca_certificates.is_empty() && pinned.is_none() {
                let rule = "must have the certificates of an authority";
                self.faults.push(FieldFault::missing("/tls/caCertificates", rule));
                return;
            }
            if pinned.is_some() && !tls.ca_certificates.is_empty() {
                self.fault(
                    "/tls/pinnedCertificate",
                    "stands alone: an authority vouches for nothing then",
                );
                return;
            }
            if pinned.is_some() && !self.egress.is_development() {
                self.fault(
                    "/tls/pinnedCertificate",
                    "is for orgs that the operator marks as being for development: get a certificate \
                     of an authority, and name a private one in caCertificates",
                );
                return;
            }
        }
        let Some(profile) = settings.tls_profile(credentials) else { return };
        if let Err(error) = self.egress.with_tls(&profile) {
            let is_pinned =
                settings.tls.as_ref().is_some_and(|tls| tls.pinned_certificate.is_some());
            let place = match error {
                crate::egress::EgressError::Identity => "/authentication/certificate",
                _ if is_pinned => "/tls/pinnedCertificate",
                _ => "/tls/caCertificates",
            };
            self.fault(place, error.to_string());
        }
    }
}

/// What is wrong with a signing secret.
pub(super) fn secret_fault(text: &str) -> Option<&'static str> {
    if !(1..=256).contains(&text.len()) {
        Some("must have 1 to 256 bytes")
    } else if text.starts_with("whsec_") && SigningSecret::parse(text).is_err() {
        Some("must be whsec_ and the base64 of 24 to 64 bytes, or other bytes")
    } else {
        None
    }
}

const DIALECTS: [&str; 5] = ["desk", "standard", "zendesk", "dzdesk", "assist"];

/// A webhook in the form of a request, without what is secret: what a change is put over.
pub(crate) fn as_request(
    row: &webhook::Model,
    own: &own_webhook::Model,
    settings: &Settings,
) -> Map<String, Value> {
    let from: Option<Value> =
        row.include_events_from.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let subscriptions: Value = serde_json::from_str(&row.subscriptions).unwrap_or_default();
    let is_event = own.connection == Connection::Events.as_str();
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            request.insert(name.to_owned(), value);
        }
    };
    put("name", json!(row.name));
    put("description", json!(row.description));
    put("url", json!(row.url));
    put("subscriptions", subscriptions);
    put("ignoreSourceId", json!(row.ignore_source_id));
    put("includeEventsFrom", from.unwrap_or_default());
    put("isEnabled", json!(row.is_enabled != 0));
    put("dialect", json!(row.dialect));
    put("connection", json!(own.connection));
    if !is_event {
        put("method", json!(settings.method));
        put("format", json!(settings.format));
    }
    put("cloudEvents", json!(settings.cloud_events));
    put("headers", json!(settings.headers));
    put("whileDisabled", json!(own.while_disabled));
    put("ordered", json!(row.ordered != 0));
    put("tls", json!(settings.tls));
    request
}
