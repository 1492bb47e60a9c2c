//! Reading what the host sends: every fault is found before an event joins a group.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::catalogue;
use crate::identifier::{DepartmentId, OrgId};
use crate::seam::Timestamp;

/// The longest id that a caller may give to an event.
const LONGEST_EVENT_ID: usize = 128;

/// The longest `sourceId`.
const LONGEST_SOURCE_ID: usize = 128;

/// The longest text in `actor`.
const LONGEST_ACTOR_TEXT: usize = 256;

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventActor {
    /// The host's id of the user.
    pub id: String,
    /// An e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of user, such as `AGENT`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// When an event happened: milliseconds since the epoch as a number or a string, or RFC 3339.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EventTime<'a> {
    Millis(i64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

/// What caused the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Origin {
    #[serde(rename = "USER")]
    User,
    #[serde(rename = "AUTOMATION")]
    Automation,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    org_id: Cow<'a, str>,
    #[serde(borrow, default)]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    department_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    event_time: Option<EventTime<'a>>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow, default)]
    prev_state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source_id: Option<Cow<'a, str>>,
    #[serde(default)]
    origin: Option<Origin>,
    #[serde(default)]
    actor: Option<EventActor>,
}

/// An event that can be accepted.
#[derive(Clone, Debug)]
pub struct EventInput {
    /// The caller's id.
    pub event_id: Option<String>,
    /// The type, as the catalogue has it.
    pub event_type: &'static str,
    /// The org.
    pub org_id: OrgId,
    /// The department that the host named.
    pub department_id: Option<DepartmentId>,
    /// When it happened, in milliseconds since the epoch; missing means now.
    pub event_time: Option<i64>,
    /// The resource: a slice of the request.
    pub payload: Bytes,
    /// What it was before.
    pub previous: Option<Bytes>,
    /// The `sourceId` of the call that caused it.
    pub source_id: Option<String>,
    /// Whether automation caused it.
    pub automation: bool,
    /// Who caused it.
    pub actor: Option<EventActor>,
}

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field breaks its rule.
    #[error("{field} {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// The type is in no catalogue.
    #[error("unknown eventType {given:?}{}", did_you_mean(*nearest))]
    UnknownType {
        /// What was given.
        given: String,
        /// The nearest name.
        nearest: Option<&'static str>,
    },
    /// It is not an event at all.
    #[error("{0}")]
    Shape(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// A fault and the event that has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {index}: {fault}")]
pub struct EventFault {
    /// Its index in the request.
    pub index: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// Why a body holds no events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The body is empty.
    #[error("the body is empty")]
    Empty,
    /// The body is not JSON.
    #[error("the body is not valid JSON: {message} at line {line} column {column}")]
    Malformed {
        /// What is wrong.
        message: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// More events than one request may have.
    #[error("{count} events are more than the {limit} that one request may have")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Some events are faulty; nothing is accepted.
    #[error("{} of the events cannot be accepted", .0.len())]
    Faulty(Vec<EventFault>),
}

/// Reads one event or an array of them. `header_source_id` stands for a missing `sourceId`.
pub fn parse(
    body: &Bytes,
    header_source_id: Option<&str>,
    limit: usize,
) -> Result<Vec<EventInput>, ParseError> {
    let start = body.iter().position(|byte| !byte.is_ascii_whitespace());
    let is_array = match start.map(|start| body[start]) {
        None => return Err(ParseError::Empty),
        Some(first) => first == b'[',
    };
    let texts: Vec<&RawValue> = if is_array {
        serde_json::from_slice(body).map_err(|error| malformed(&error))?
    } else {
        vec![serde_json::from_slice(body).map_err(|error| malformed(&error))?]
    };
    if texts.len() > limit {
        return Err(ParseError::TooMany { count: texts.len(), limit });
    }
    let mut events = Vec::with_capacity(texts.len());
    let mut faults = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        match read_one(body, text, header_source_id) {
            Ok(event) => events.push(event),
            Err(fault) => faults.push(EventFault { index, fault }),
        }
    }
    if faults.is_empty() { Ok(events) } else { Err(ParseError::Faulty(faults)) }
}

/// Reads the event in `{"event": …}`.
pub fn parse_enveloped(body: &Bytes) -> Result<EventInput, ParseError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    read_one(body, envelope.event, None)
        .map_err(|fault| ParseError::Faulty(vec![EventFault { index: 0, fault }]))
}

fn malformed(error: &serde_json::Error) -> ParseError {
    ParseError::Malformed {
        message: without_place(&error.to_string()),
        line: error.line(),
        column: error.column(),
    }
}

/// serde_json says the place itself; we say it once.
fn without_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(text, _)| text).to_owned()
}

fn read_one(
    body: &Bytes,
    text: &RawValue,
    header_source_id: Option<&str>,
) -> Result<EventInput, Fault> {
    let wire: Wire<'_> = serde_json::from_str(text.get())
        .map_err(|error| Fault::Shape(without_place(&error.to_string())))?;
    let field = |field, rule: &str| Fault::Field { field, rule: rule.to_owned() };
    let Some(known) = catalogue::find(&wire.event_type) else {
        return Err(Fault::UnknownType {
            nearest: catalogue::nearest(&wire.event_type),
            given: wire.event_type.chars().take(64).collect(),
        });
    };
    let org_id = OrgId::new(&wire.org_id).map_err(|error| Fault::Field {
        field: "orgId",
        rule: format!("must be {}", error.rule),
    })?;
    let department_id =
        wire.department_id.map(|id| DepartmentId::new(&id)).transpose().map_err(|error| {
            Fault::Field { field: "departmentId", rule: format!("must be {}", error.rule) }
        })?;
    if let Some(id) = &wire.event_id
        && !is_plain(id, LONGEST_EVENT_ID)
    {
        return Err(field("eventId", "must have 1 to 128 characters, none a control character"));
    }
    let source_id = wire.source_id.as_deref().or(header_source_id);
    if source_id.is_some_and(|id| !is_plain(id, LONGEST_SOURCE_ID)) {
        return Err(field("sourceId", "must have 1 to 128 characters, none a control character"));
    }
    let event_time = wire.event_time.as_ref().map(millis_of).transpose()?;
    if !wire.payload.get().starts_with('{') {
        return Err(field("payload", "must be an object"));
    }
    let previous = wire.prev_state.filter(|previous| previous.get() != "null");
    if previous.is_some_and(|previous| !previous.get().starts_with('{')) {
        return Err(field("prevState", "must be an object or null"));
    }
    if let Some(actor) = &wire.actor {
        let texts =
            [Some(&actor.id), actor.email.as_ref(), actor.name.as_ref(), actor.kind.as_ref()];
        if texts.into_iter().flatten().any(|text| !is_plain(text, LONGEST_ACTOR_TEXT)) {
            return Err(field(
                "actor",
                "must have texts of 1 to 256 characters, none a control character",
            ));
        }
    }
    Ok(EventInput {
        event_id: wire.event_id.map(Cow::into_owned),
        event_type: known.name,
        org_id,
        department_id,
        event_time,
        payload: body.slice_ref(wire.payload.get().as_bytes()),
        previous: previous.map(|previous| body.slice_ref(previous.get().as_bytes())),
        source_id: source_id.map(str::to_owned),
        automation: wire.origin == Some(Origin::Automation),
        actor: wire.actor,
    })
}

fn is_plain(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.chars().count() <= longest && !text.chars().any(char::is_control)
}

/// Times are kept to what a JavaScript date can hold.
const LARGEST_MILLIS: i64 = 8_640_000_000_000_000;

fn millis_of(time: &EventTime<'_>) -> Result<i64, Fault> {
    let millis = match time {
        EventTime::Millis(millis) => Some(*millis),
        EventTime::Text(text) => text
            .parse::<i64>()
            .ok()
            .or_else(|| Timestamp::parse_rfc3339(text).map(Timestamp::millis)),
    };
    millis.filter(|millis| (0..=LARGEST_MILLIS).contains(millis)).ok_or_else(|| Fault::Field {
        field: "eventTime",
        rule: "must be milliseconds since the epoch (a number or a string) or RFC 3339".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<EventInput>, ParseError> {
        parse(&Bytes::copy_from_slice(body.as_bytes()), Some("from-header"), 3)
    }

    #[test]
    fn one_and_many_are_read_without_touching_payloads() {
        let events = read(r#" {"eventType":"Ticket_Add","orgId":"1","payload":{ "a" : 1.0 }} "#)
            .expect("one event");
        assert_eq!(&*events[0].payload, br#"{ "a" : 1.0 }"#);
        assert_eq!(events[0].source_id.as_deref(), Some("from-header"));
        let events = read(
            r#"[{"eventType":"Ticket_Update","orgId":"1","payload":{},"prevState":{"x":2},"sourceId":"mine","origin":"AUTOMATION","eventTime":"2021-04-15T13:34:27.780Z"},
                {"eventType":"Ticket_Update","orgId":"1","payload":{},"prevState":null,"eventTime":"1618493667780"}]"#,
        )
        .expect("two events");
        assert_eq!(events[0].event_time, Some(1_618_493_667_780));
        assert_eq!(events[1].event_time, Some(1_618_493_667_780));
        assert!(events[0].automation && !events[1].automation);
        assert_eq!(events[0].source_id.as_deref(), Some("mine"));
        assert!(events[1].previous.is_none());
    }

    #[test]
    fn every_faulty_event_is_named() {
        let body = r#"[{"eventType":"Ticket_Ad","orgId":"1","payload":{}},
            {"eventType":"Ticket_Add","orgId":"1","payload":{}},
            {"eventType":"Ticket_Add","orgId":"","payload":{}}]"#;
        let Err(ParseError::Faulty(faults)) = read(body) else { panic!("two are faulty") };
        assert_eq!(faults.iter().map(|fault| fault.index).collect::<Vec<_>>(), [0, 2]);
        assert!(faults[0].fault.to_string().contains("Ticket_Add"), "{}", faults[0].fault);
    }

    #[test]
    fn what_cannot_be_an_event_is_refused() {
        for (body, what) in [
            ("", "empty"),
            ("   ", "empty"),
            ("{", "JSON"),
            ("[{}", "JSON"),
            ("null", "cannot be accepted"),
            (r#"{"eventType":"Ticket_Add","orgId":"1"}"#, "cannot be accepted"),
            (r#"{"eventType":"Ticket_Add","orgId":"1","payload":[]}"#, "cannot be accepted"),
            (r#"{"eventType":"Ticket_Add","orgId":1,"payload":{}}"#, "cannot be accepted"),
            (
                r#"{"eventType":"Ticket_Add","orgId":"1","payload":{},"extra":1}"#,
                "cannot be accepted",
            ),
            (
                r#"{"eventType":"Ticket_Add","orgId":"1","payload":{},"eventTime":-1}"#,
                "cannot be accepted",
            ),
            (
                r#"{"eventType":"Ticket_Add","orgId":"1","payload":{},"eventId":"a\u0000"}"#,
                "cannot be accepted",
            ),
            ("[{},{},{},{}]", "more than the 3"),
        ] {
            let error = read(body).expect_err(body).to_string();
            assert!(error.contains(what), "{body}: {error}");
        }
    }
}
