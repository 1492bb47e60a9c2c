//! As DZDESK sends: `{"id","event","timestamp","data"}` with data of each event's own form, made
//! from the host's resource, and a signature over the raw body.

use serde::Serialize;
use serde_json::{Value, json};

use super::placeholders::read;
use super::rendering::{Made, json_bytes, seconds_of};
use super::{Occasion, RenderError};
use crate::seam::Timestamp;

/// The standard format of the page.
#[derive(Serialize)]
struct Body<'b> {
    id: String,
    event: &'b str,
    timestamp: String,
    data: Value,
}

/// The body of an event.
pub(super) fn body(occasion: &Occasion<'_>) -> Result<Made, RenderError> {
    let event = &occasion.event;
    let facts = Facts {
        payload: read(Some(event.payload), "payload")?,
        previous: read(event.previous, "previous state")?,
        actor: read(event.actor.map(str::as_bytes), "actor")?,
        is_agent: event.event_type.starts_with("Agent_"),
        at: event.event_time,
    };
    let data = match occasion.name {
        "request.created" | "request.updated" => facts.request(),
        "request.status_changed" => facts.status_changed(),
        "request.assigned" => facts.assigned(),
        "request.commented" => facts.commented(),
        "request.deleted" => facts.deleted(),
        "sla.warning" | "sla.breach" => facts.sla(),
        "user.created" | "user.updated" | "user.deactivated" => facts.user(),
        // A ping, and whatever else a test makes up.
        _ => facts.payload.clone(),
    };
    let body = Body {
        id: format!("whk_{}", occasion.delivery_id.simple()),
        event: occasion.name,
        timestamp: seconds_of(event.event_time),
        data,
    };
    Ok(Made::json(json_bytes(&body)?))
}

/// `X-DZDESK-Signature`: HMAC-SHA256 over the raw body, in hex.
pub(super) fn headers(occasion: &Occasion<'_>, body: &[u8]) -> Vec<(&'static str, String)> {
    let tag = occasion.signer.newest_tag(&[body]);
    let hex = tag.iter().fold(String::from("sha256="), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut hex, format_args!("{byte:02x}"));
        hex
    });
    vec![("x-dzdesk-signature", hex)]
}

/// The documents of an event.
struct Facts {
    payload: Value,
    previous: Value,
    actor: Value,
    is_agent: bool,
    at: Timestamp,
}

impl Facts {
    fn request(&self) -> Value {
        let ticket = &self.payload;
        let requester = &ticket["contact"];
        json!({
            "id": ticket["id"],
            "title": ticket["subject"],
            "status": word(&ticket["status"]),
            "priority": word(&ticket["priority"]),
            "requester": person(
                first(&[&requester["id"], &ticket["contactId"]]),
                first(&[&requester["email"], &ticket["email"]]),
            ),
            "assignedTo": assignee(ticket),
            "createdAt": moment(&ticket["createdTime"]),
        })
    }

    fn status_changed(&self) -> Value {
        json!({
            "id": self.payload["id"],
            "previousStatus": word(&self.previous["status"]),
            "newStatus": word(&self.payload["status"]),
            "changedBy": self.changed_by(),
        })
    }

    fn assigned(&self) -> Value {
        json!({
            "id": self.payload["id"],
            "previousAssignee": assignee(&self.previous),
            "assignedTo": assignee(&self.payload),
            "changedBy": self.changed_by(),
        })
    }

    /// A comment, or a message of the conversation.
    fn commented(&self) -> Value {
        let comment = &self.payload;
        let author = first(&[&comment["commenter"], &comment["author"]]);
        let is_public = match &comment["isPublic"] {
            Value::Bool(is_public) => *is_public,
            _ => comment["visibility"].as_str() == Some("public"),
        };
        json!({
            "id": comment["ticketId"],
            "comment": {
                "id": comment["id"],
                "body": comment["content"],
                "isPublic": is_public,
                "author": person(
                    first(&[&author["id"], &comment["commenterId"]]),
                    &author["email"],
                ),
                "createdAt": moment(first(&[&comment["commentedTime"], &comment["createdTime"]])),
            },
        })
    }

    fn deleted(&self) -> Value {
        json!({
            "id": self.payload["id"],
            "deletedBy": self.by(&self.payload["deletedBy"]),
            "deletedAt": moment(&self.payload["deletedTime"]),
        })
    }

    fn sla(&self) -> Value {
        let sla = &self.payload;
        let target = sla["targetTime"].as_str().and_then(Timestamp::parse_rfc3339);
        json!({
            "requestId": first(&[&sla["requestId"], &sla["ticketId"], &sla["id"]]),
            "slaType": sla["slaType"],
            "targetTime": moment(&sla["targetTime"]),
            "percentElapsed": sla["percentElapsed"],
            "timeRemaining": target.map(|target| remaining(self.at, target)),
        })
    }

    fn user(&self) -> Value {
        let user = &self.payload;
        let both = [&user["firstName"], &user["lastName"]].map(|part| part.as_str());
        let joined = both.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let name = user["name"].as_str().map_or(joined, str::to_owned);
        json!({
            "id": user["id"],
            "email": first(&[&user["emailId"], &user["email"]]),
            "name": name,
            "type": if self.is_agent { "agent" } else { "requester" },
            "changedBy": self.changed_by(),
        })
    }

    /// Who did it: the actor; else whom the resource names, by id alone.
    fn changed_by(&self) -> Value {
        self.by(first(&[&self.payload["modifiedBy"], &self.payload["deletedBy"]]))
    }

    fn by(&self, id: &Value) -> Value {
        if self.actor.is_object() {
            person(&self.actor["id"], &self.actor["email"])
        } else {
            person(id, &Value::Null)
        }
    }
}

/// The first that is something.
fn first<'v>(values: &[&'v Value]) -> &'v Value {
    values.iter().copied().find(|value| !value.is_null()).unwrap_or(&Value::Null)
}

/// `{"id","email"}`, or null where there is nobody.
fn person(id: &Value, email: &Value) -> Value {
    if id.is_null() && email.is_null() { Value::Null } else { json!({ "id": id, "email": email }) }
}

fn assignee(ticket: &Value) -> Value {
    let assignee = &ticket["assignee"];
    person(first(&[&assignee["id"], &ticket["assigneeId"]]), &assignee["email"])
}

/// `In Progress` is `in_progress`.
fn word(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, |text| {
        let word: String = text
            .trim()
            .chars()
            .map(|c| if c == ' ' || c == '-' { '_' } else { c })
            .flat_map(char::to_lowercase)
            .collect();
        Value::String(word)
    })
}

/// A time to the second; what is no time stays as it is.
fn moment(value: &Value) -> Value {
    match value.as_str().and_then(Timestamp::parse_rfc3339) {
        Some(at) => seconds_of(at).into(),
        None => value.clone(),
    }
}

/// `2h 30m`; what is less than a minute, or over, is `0m`.
fn remaining(now: Timestamp, target: Timestamp) -> String {
    let minutes = target.since(now).as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::rendering::fixtures::{SECRET, occasion, signer};
    use super::super::{Dialect, EventParts, RequestSettings, render, told};
    use super::*;

    /// A golden file: what the host posts, and what its receivers get, by name.
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Golden {
        event_type: String,
        event_time: String,
        actor: Option<Box<RawValue>>,
        payload: Box<RawValue>,
        prev_state: Option<Box<RawValue>>,
        told: std::collections::BTreeMap<String, Value>,
    }

    #[test]
    fn every_event_has_the_form_of_its_golden_file() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/dialects/dzdesk");
        let mut names = std::collections::BTreeSet::new();
        for file in std::fs::read_dir(folder).expect("the golden files") {
            let path = file.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let golden: Golden = serde_json::from_str(&text).expect("a golden file");
            let event = EventParts {
                previous: golden.prev_state.as_ref().map(|previous| previous.get().as_bytes()),
                actor: golden.actor.as_ref().map(|actor| actor.get()),
                ..EventParts::new(
                    &golden.event_type,
                    "761336011",
                    Timestamp::parse_rfc3339(&golden.event_time).expect("a time"),
                    golden.payload.get().as_bytes(),
                )
            };
            let mut made = std::collections::BTreeMap::new();
            let (signer, settings) = (signer(), RequestSettings::default());
            for name in told(Dialect::Dzdesk, event.event_type, event.payload, event.previous) {
                let rendered =
                    render(Dialect::Dzdesk, &occasion(event, name, &signer, &settings)).unwrap();
                let body: Value = serde_json::from_slice(&rendered.body).unwrap();
                assert_eq!(body["event"], name);
                assert_eq!(body["id"], "whk_01960d5e0000700080000000000000d1");
                made.insert(name.to_owned(), body);
                names.insert(name.to_owned());
            }
            let shown = |value| serde_json::to_string_pretty(value).expect("JSON");
            assert_eq!(shown(&made), shown(&golden.told), "{}", path.display());
        }
        assert_eq!(names.len(), 11, "a golden file for every event of the page: {names:?}");
    }

    #[test]
    fn the_signature_is_of_the_raw_body() {
        let (signer, settings) = (signer(), RequestSettings::default());
        let event = EventParts::new("Ticket_Add", "1", Timestamp::from_millis(0), br#"{"id":"1"}"#);
        let made = render(Dialect::Dzdesk, &occasion(event, "request.created", &signer, &settings))
            .unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, &made.body);
        let sent = made.headers["x-dzdesk-signature"].to_str().unwrap();
        let hex = sent.strip_prefix("sha256=").expect("its prefix");
        let read: Vec<u8> = (0..hex.len() / 2)
            .map(|place| u8::from_str_radix(&hex[place * 2..place * 2 + 2], 16).unwrap())
            .collect();
        assert_eq!(read, tag.as_ref());
        assert_eq!(hex, hex.to_lowercase());
    }

    #[test]
    fn what_remains_is_told_in_hours_and_minutes() {
        let at = Timestamp::from_millis(0);
        for (seconds, expected) in [
            (0, "0m"),
            (59, "0m"),
            (60, "1m"),
            (9_000, "2h 30m"),
            (3_600, "1h 0m"),
            (95_700, "26h 35m"),
        ] {
            let target = Timestamp::from_millis(seconds * 1_000);
            assert_eq!(remaining(at, target), expected);
        }
        assert_eq!(remaining(Timestamp::from_millis(60_000), at), "0m", "it is over");
    }

    #[test]
    fn a_payload_without_its_fields_is_told_as_far_as_it_goes() {
        let (signer, settings) = (signer(), RequestSettings::default());
        for payload in ["{}", r#"{"contact":7,"assignee":[],"status":{}}"#] {
            for name in super::super::known_names(Dialect::Dzdesk) {
                let event =
                    EventParts::new("Ticket_Update", "1", Timestamp::default(), payload.as_bytes());
                let made = render(Dialect::Dzdesk, &occasion(event, name, &signer, &settings));
                assert!(made.is_ok(), "{name} {payload}");
            }
        }
    }
}
