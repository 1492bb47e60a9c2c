//! What a form of an own webhook holds: read from what is there, or from what was sent, and written
//! as the API takes it. What is secret is never in it: a page does not show it again.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::web::answers::{Authentication, EventType, Own, Webhook};
use crate::web::faults::{Faults, Fields, id_of};
use crate::web::form::Form;
use crate::web::pages::webhooks::moment;
use crate::web::parts::{Choice, choices};
use crate::web::words;

/// The fields of the form.
pub(super) const FIELDS: Fields = &[
    ("/name", "Name"),
    ("/description", "Description"),
    ("/url", "Address"),
    ("/subscriptions", "Events"),
    ("/dialect", "Format"),
    ("/connection", "Sent by"),
    ("/method", "Method"),
    ("/format", "Content"),
    ("/cloudEvents", "CloudEvents"),
    ("/headers", "Headers"),
    ("/authentication/type", "Who calls"),
    ("/authentication/username", "User name"),
    ("/authentication/password", "Password"),
    ("/authentication/token", "Token"),
    ("/authentication/expiresAt", "Token ends"),
    ("/authentication/header", "Header"),
    ("/authentication/value", "Key"),
    ("/authentication/tokenUrl", "Token address"),
    ("/authentication/clientId", "Client id"),
    ("/authentication/clientSecret", "Client secret"),
    ("/authentication/scope", "Scopes"),
    ("/authentication/clientAuthentication", "How the client says who it is"),
    ("/authentication/certificate", "Certificate"),
    ("/authentication/privateKey", "Private key"),
    ("/authentication", "Who calls"),
    ("/secret", "Signing secret"),
    ("/ignoreSourceId", "Source to leave out"),
    ("/includeEventsFrom", "Events of automation"),
    ("/whileDisabled", "While it is off"),
    ("/tls", "Certificates to trust"),
    ("/eventType", "Event to try"),
    ("/orgId", "Org"),
];

/// What narrows or widens a subscription, as texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    departments: String,
    fields: String,
    direction: String,
    has_previous: bool,
}

/// A form of an own webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Filled {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) url: String,
    pub(super) dialect: String,
    pub(super) connection: String,
    pub(super) method: String,
    pub(super) format: String,
    pub(super) cloud_events: String,
    pub(super) headers: String,
    pub(super) authentication: Authentication,
    /// When the bearer token ends, as a form takes it: in UTC, to the minute.
    pub(super) token_ends: String,
    /// `keep`, `make` or `own`.
    pub(super) secret: String,
    pub(super) ignore_source_id: String,
    pub(super) automation: bool,
    pub(super) is_enabled: bool,
    pub(super) while_disabled: String,
    pub(super) ordered: bool,
    pub(super) certificates: String,
    pub(super) modified: String,
    pub(super) org: String,
    events: BTreeMap<String, Options>,
}

/// The event types of a module, with what is chosen of them.
#[derive(Debug)]
pub(super) struct ModuleRows {
    pub(super) name: String,
    pub(super) chosen: usize,
    pub(super) rows: Vec<EventRow>,
}

/// An event type in the form.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what a row of the form shows, or leaves out")]
pub(super) struct EventRow {
    pub(super) id: String,
    pub(super) pointer: String,
    pub(super) name: String,
    pub(super) label: String,
    pub(super) description: String,
    pub(super) is_chosen: bool,
    pub(super) has_options: bool,
    pub(super) takes_departments: bool,
    pub(super) departments: String,
    pub(super) takes_fields: bool,
    pub(super) fields: String,
    pub(super) directions: Vec<Choice>,
    pub(super) takes_previous: bool,
    pub(super) has_previous: bool,
}

fn listed(value: Option<&Value>) -> String {
    let texts = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(", ")
}

fn list(text: &str) -> Option<Vec<&str>> {
    let all: Vec<&str> =
        text.split([',', '\n']).map(str::trim).filter(|one| !one.is_empty()).collect();
    (!all.is_empty()).then_some(all)
}

/// A text, or nothing where it is empty.
fn filled(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

impl Options {
    fn of(options: &Value) -> Self {
        Self {
            departments: listed(options.get("departmentIds")),
            fields: listed(options.get("fields")),
            direction: options
                .get("direction")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            has_previous: options.get("includePrevState").and_then(Value::as_bool).unwrap_or(false),
        }
    }

    fn json(&self) -> Value {
        let mut options = Map::new();
        if let Some(departments) = list(&self.departments) {
            options.insert("departmentIds".to_owned(), json!(departments));
        }
        if let Some(fields) = list(&self.fields) {
            options.insert("fields".to_owned(), json!(fields));
        }
        if !self.direction.is_empty() {
            options.insert("direction".to_owned(), json!(self.direction));
        }
        if self.has_previous {
            options.insert("includePrevState".to_owned(), json!(true));
        }
        if options.is_empty() { Value::Null } else { Value::Object(options) }
    }
}

impl Filled {
    /// A form for a new one.
    pub(super) fn fresh(dialect: &str, connection: &str, org: String) -> Self {
        let known = |list: &[(&str, &str)], name: &str| list.iter().any(|(one, _)| *one == name);
        let dialect = if known(words::DIALECTS, dialect) { dialect } else { "desk" };
        let connection = if dialect == "zendesk" && known(CONNECTIONS, connection) {
            connection
        } else {
            "events"
        };
        Self {
            dialect: dialect.to_owned(),
            connection: connection.to_owned(),
            method: "POST".to_owned(),
            format: "json".to_owned(),
            authentication: Authentication { kind: "none".to_owned(), ..Authentication::default() },
            secret: "make".to_owned(),
            is_enabled: true,
            while_disabled: "drop".to_owned(),
            org,
            ..Self::default()
        }
    }

    /// What is there.
    pub(super) fn of_webhook(webhook: &Webhook, own: &Own) -> Self {
        let events = webhook.subscriptions.as_object().into_iter().flatten();
        Self {
            name: webhook.name.as_str().to_owned(),
            description: webhook.description.as_str().to_owned(),
            url: webhook.url.clone(),
            dialect: own.dialect.clone(),
            connection: own.connection.clone(),
            method: own.method.clone(),
            format: own.format.clone(),
            cloud_events: own.cloud_events.clone(),
            headers: own
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
                .join("\n"),
            authentication: own.authentication.clone(),
            token_ends: own
                .authentication
                .expires_at
                .exact()
                .get(..16)
                .unwrap_or_default()
                .to_owned(),
            secret: "keep".to_owned(),
            ignore_source_id: webhook.ignore_source_id.as_str().to_owned(),
            automation: webhook.gets_automation(),
            is_enabled: webhook.is_enabled,
            while_disabled: own.while_disabled.clone(),
            ordered: webhook.ordered,
            certificates: own
                .tls
                .as_ref()
                .map(|tls| tls.ca_certificates.clone())
                .unwrap_or_default(),
            modified: webhook.modified_time.exact().to_owned(),
            org: String::new(),
            events: events.map(|(name, options)| (name.clone(), Options::of(options))).collect(),
        }
    }

    /// What was sent.
    pub(super) fn of_form(form: &Form) -> Self {
        let text = |name: &str| form.text(name).to_owned();
        let events = form.all("event").map(|name| {
            let option = |kind: &str| form.text(&format!("{kind}.{name}")).to_owned();
            let options = Options {
                departments: option("departments"),
                fields: option("fields"),
                direction: option("direction"),
                has_previous: !option("previous").is_empty(),
            };
            (name.to_owned(), options)
        });
        Self {
            name: text("name"),
            description: form.lines("description"),
            url: text("url"),
            dialect: text("dialect"),
            connection: text("connection"),
            method: text("method"),
            format: text("format"),
            cloud_events: text("cloud-events"),
            headers: form.lines("headers"),
            authentication: authentication_of(form),
            token_ends: text("token-ends"),
            secret: text("secret-choice"),
            ignore_source_id: text("source"),
            automation: form.is_ticked("automation"),
            is_enabled: form.is_ticked("enabled"),
            while_disabled: text("while-disabled"),
            ordered: form.is_ticked("ordered"),
            certificates: form.lines("certificates"),
            modified: text("modified"),
            org: text("org"),
            events: events.collect(),
        }
    }

    /// The same in another dialect, whose events have other names.
    pub(super) fn in_dialect(mut self, dialect: &str) -> Self {
        if !dialect.is_empty() && dialect != self.dialect {
            dialect.clone_into(&mut self.dialect);
            self.events.clear();
        }
        self
    }

    pub(super) fn is_called_by_rules(&self) -> bool {
        self.connection != "events"
    }

    /// Whether the endpoint is told in this way who calls.
    pub(super) fn is_authenticated_by(&self, kind: &str) -> bool {
        self.authentication.kind == kind
    }

    /// The first event that is chosen.
    pub(super) fn first_event(&self) -> String {
        self.events.keys().next().cloned().unwrap_or_default()
    }

    /// The event types with what is chosen of them. What is chosen and unknown stays to be seen.
    pub(super) fn modules(&self, types: &[EventType]) -> Vec<ModuleRows> {
        let mut modules: Vec<ModuleRows> = Vec::new();
        let mut add = |module: &str, row: EventRow| {
            let place = modules.iter().position(|one| one.name == module);
            let place = place.unwrap_or_else(|| {
                modules.push(ModuleRows { name: module.to_owned(), chosen: 0, rows: Vec::new() });
                modules.len() - 1
            });
            if let Some(rows) = modules.get_mut(place) {
                rows.chosen += usize::from(row.is_chosen);
                rows.rows.push(row);
            }
        };
        for one in types {
            add(&one.module, self.row(&one.name, Some(one)));
        }
        for name in self.events.keys() {
            if !types.iter().any(|one| one.name == *name) {
                add("other", self.row(name, None));
            }
        }
        modules
    }

    fn row(&self, name: &str, known: Option<&EventType>) -> EventRow {
        let chosen = self.events.get(name);
        let options = chosen.cloned().unwrap_or_default();
        let takes = |option: &str| known.is_none_or(|known| known.takes(option));
        let directions: &[(&str, &str)] = if takes("direction") {
            &[("", "in and out"), ("in", "only what comes in"), ("out", "only what goes out")]
        } else {
            &[]
        };
        let pointer = format!("/subscriptions/{}", name.replace('~', "~0").replace('/', "~1"));
        EventRow {
            id: id_of(&pointer),
            pointer,
            name: name.to_owned(),
            label: known.map_or(name, |known| &known.label).to_owned(),
            description: known.map_or("", |known| &known.description).to_owned(),
            is_chosen: chosen.is_some(),
            has_options: known.is_none_or(|known| !known.options.is_empty()),
            takes_departments: takes("departmentIds"),
            departments: options.departments,
            takes_fields: takes("fields"),
            fields: options.fields,
            directions: choices(directions, &options.direction),
            takes_previous: takes("includePrevState"),
            has_previous: options.has_previous,
        }
    }

    /// What is asked of the API, for a new one or as a change of one. Faults of the form's own are
    /// added.
    pub(super) fn body(&self, form: &Form, is_new: bool, faults: &mut Faults) -> Value {
        let events: Map<String, Value> =
            self.events.iter().map(|(name, options)| (name.clone(), options.json())).collect();
        let by_rules = self.is_called_by_rules();
        let tls = if self.certificates.is_empty() {
            Value::Null
        } else {
            json!({ "caCertificates": self.certificates })
        };
        let mut body = json!({
            "name": filled(&self.name),
            "description": filled(&self.description),
            "url": self.url,
            "subscriptions": if by_rules { Map::new() } else { events },
            "dialect": filled(&self.dialect),
            "method": if by_rules { filled(&self.method) } else { Value::Null },
            "format": if by_rules { filled(&self.format) } else { Value::Null },
            "cloudEvents": if self.dialect == "standard" { filled(&self.cloud_events) } else { Value::Null },
            "headers": headers(&self.headers, faults),
            "authentication": self.authentication_body(form),
            "ignoreSourceId": filled(&self.ignore_source_id),
            "includeEventsFrom": if self.automation { json!(["AUTOMATION"]) } else { Value::Null },
            "whileDisabled": filled(&self.while_disabled),
            "ordered": self.ordered,
            "tls": tls,
        });
        let secret = form.text("secret");
        if is_new {
            body["connection"] = filled(&self.connection);
            body["isEnabled"] = self.is_enabled.into();
        }
        match self.secret.as_str() {
            "own" if secret.is_empty() => {
                faults.add("/secret", "type it here: a page never shows one again");
            }
            "own" => body["secret"] = secret.into(),
            // What is left out stays; null has another made.
            "make" if !is_new => body["secret"] = Value::Null,
            _ => {}
        }
        body
    }

    fn authentication_body(&self, form: &Form) -> Value {
        let one = &self.authentication;
        let mut body = json!({ "type": one.kind });
        let mut put = |name: &str, value: &str| {
            if !value.is_empty() {
                body[name] = value.into();
            }
        };
        // What is secret goes from the form to the API and nowhere else.
        match one.kind.as_str() {
            "basic" => {
                put("username", one.username.as_str());
                put("password", form.text("password"));
            }
            "bearer" => {
                put("token", form.text("bearer-token"));
                put("expiresAt", &moment(&self.token_ends).unwrap_or_default());
            }
            "apiKey" => {
                put("header", one.header.as_str());
                put("value", form.text("key-value"));
            }
            "oauth2ClientCredentials" => {
                put("tokenUrl", one.token_url.as_str());
                put("clientId", one.client_id.as_str());
                put("clientSecret", form.text("client-secret"));
                put("scope", one.scope.as_str());
                put("clientAuthentication", one.client_authentication.as_str());
            }
            "mtls" => {
                put("certificate", one.certificate.as_str());
                put("privateKey", &form.lines("private-key"));
            }
            _ => {}
        }
        body
    }
}

/// What makes a webhook send, with what people call it.
pub(super) const CONNECTIONS: &[(&str, &str)] = &[
    ("events", "the events chosen below"),
    ("trigger", "triggers, which have conditions and say what is sent"),
    ("automation", "automations, which wait some time after an event"),
];

fn authentication_of(form: &Form) -> Authentication {
    let mut document = Map::new();
    for (member, field) in [
        ("type", "authentication"),
        ("username", "username"),
        ("header", "key-header"),
        ("tokenUrl", "token-url"),
        ("clientId", "client-id"),
        ("scope", "scope"),
        ("clientAuthentication", "client-authentication"),
    ] {
        document.insert(member.to_owned(), form.text(field).into());
    }
    document.insert("certificate".to_owned(), form.lines("certificate").into());
    serde_json::from_value(Value::Object(document)).unwrap_or_default()
}

/// Headers from lines of `Name: value`.
pub(in crate::web::pages) fn headers(text: &str, faults: &mut Faults) -> Value {
    let mut headers = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            let shown: String = line.chars().take(60).collect();
            faults.add("/headers", format!("“{shown}” is not Name: value"));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if headers.insert(name.to_owned(), value.into()).is_some() {
            faults.add("/headers", format!("{name} is there twice"));
        }
    }
    if headers.is_empty() { Value::Null } else { Value::Object(headers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> Form {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Form { fields: fields.collect(), files: Vec::new() }
    }

    fn event(name: &str, options: &[&str]) -> EventType {
        serde_json::from_value(json!({
            "name": name, "id": null, "hostTypes": [name], "module": "tickets", "label": name,
            "description": "", "options": options, "schema": {}, "sample": {},
        }))
        .unwrap()
    }

    #[test]
    fn a_form_is_what_the_api_takes() {
        let sent = form(&[
            ("name", "Mine"),
            ("description", "one\r\ntwo"),
            ("url", "https://a.example/x"),
            ("dialect", "desk"),
            ("connection", "events"),
            ("event", "Ticket_Add"),
            ("event", "Ticket_Update"),
            ("departments.Ticket_Add", " 1, 2 ,"),
            ("fields.Ticket_Update", "status"),
            ("previous.Ticket_Update", "yes"),
            ("headers", "X-One: 1\r\nX-Two: a: b"),
            ("authentication", "basic"),
            ("username", "ann"),
            ("password", "secret"),
            ("secret-choice", "make"),
            ("while-disabled", "queue"),
            ("ordered", "yes"),
        ]);
        let filled = Filled::of_form(&sent);
        let mut faults = Faults::none(FIELDS);
        let body = filled.body(&sent, true, &mut faults);
        assert!(faults.is_empty());
        assert_eq!(
            body["subscriptions"],
            json!({
                "Ticket_Add": { "departmentIds": ["1", "2"] },
                "Ticket_Update": { "fields": ["status"], "includePrevState": true },
            })
        );
        assert_eq!(body["headers"], json!({ "X-One": "1", "X-Two": "a: b" }));
        assert_eq!(body["description"], "one\ntwo");
        let basic = json!({ "type": "basic", "username": "ann", "password": "secret" });
        assert_eq!(body["authentication"], basic);
        assert_eq!((&body["isEnabled"], &body["method"]), (&json!(false), &Value::Null));
        assert!(body.get("secret").is_none(), "it is made");
        assert!(!format!("{filled:?}").contains("secret\""), "nothing secret is kept");
        // The API reads it.
        let read: Result<crate::webhook::own::WebhookRequest, _> = serde_json::from_value(body);
        assert!(read.is_ok(), "{read:?}");
    }

    #[test]
    fn a_secret_of_ones_own_has_to_be_typed_each_time() {
        let sent = form(&[("secret-choice", "own"), ("authentication", "none")]);
        let mut faults = Faults::none(FIELDS);
        let body = Filled::of_form(&sent).body(&sent, false, &mut faults);
        assert!(faults.has("/secret") && body.get("secret").is_none());
        let sent = form(&[("secret-choice", "make"), ("headers", "nonsense")]);
        let mut faults = Faults::none(FIELDS);
        let body = Filled::of_form(&sent).body(&sent, false, &mut faults);
        assert!(faults.has("/headers") && body["secret"].is_null());
        assert!(body.as_object().is_some_and(|body| body.contains_key("secret")));
    }

    #[test]
    fn what_is_chosen_is_shown_chosen_and_nothing_is_lost() {
        let sent = form(&[("event", "A"), ("event", "Gone"), ("direction.A", "in")]);
        let filled = Filled::of_form(&sent);
        let types = [event("A", &["direction"]), event("B", &[])];
        let modules = filled.modules(&types);
        assert_eq!((modules.len(), modules[0].chosen, modules[1].chosen), (2, 1, 1));
        let (a, b) = (&modules[0].rows[0], &modules[0].rows[1]);
        assert!(a.is_chosen && a.directions[1].is_chosen && !a.takes_fields);
        assert!(!b.is_chosen && !b.has_options);
        assert_eq!(modules[1].rows[0].name, "Gone");
        assert!(filled.in_dialect("assist").events.is_empty());
    }
}
