//! As Zendesk sends events: a fixed envelope, `zen:event-type:…` names, and a signature over the
//! timestamp and the body in headers of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::placeholders::{read, subject_of};
use super::rendering::{Made, json_bytes, percent_encoded, raw, seconds_of};
use super::{Occasion, RenderError, names};

/// The version of the envelope.
const EVENT_VERSION: &str = "2022-11-06";

/// The envelope; the same for every type.
#[derive(Serialize)]
struct Envelope<'b> {
    account_id: Value,
    detail: Detail<'b>,
    event: Value,
    id: String,
    subject: String,
    time: String,
    #[serde(rename = "type")]
    kind: &'b str,
    zendesk_event_version: &'static str,
}

/// What the event is about: the host's resource as it is, or a reference to what it belongs to.
#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'b> {
    Resource(&'b RawValue),
    Reference { id: Value },
}

/// The body of an event.
pub(super) fn body(occasion: &Occasion<'_>) -> Result<Made, RenderError> {
    let event = &occasion.event;
    let resource = raw(event.payload, "payload")?;
    let payload = read(Some(event.payload), "payload")?;
    let subject = subject_of(event.event_type);
    // zen:event-type:ticket.comment_added is told of the ticket, and user.created of a user.
    let noun =
        occasion.name.strip_prefix(names::ZENDESK_PREFIX).and_then(|name| name.split('.').next());
    let parent = subject.parents.iter().find(|(word, _)| noun == Some(*word));
    let about = noun.unwrap_or(subject.word);
    let (id, detail, told) = if let Some((_, field)) = parent {
        let id = payload.get(field).cloned().unwrap_or(Value::Null);
        let told = Value::Object(Map::from_iter([(subject.word.to_owned(), payload)]));
        (id.clone(), Detail::Reference { id }, told)
    } else {
        let id = payload.get("id").cloned().unwrap_or(Value::Null);
        let told = change(occasion, &payload)?;
        (id, Detail::Resource(resource), told)
    };
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    let envelope = Envelope {
        account_id: account_id(event.org),
        detail,
        event: told,
        id: occasion.delivery_id.to_string(),
        subject: format!("zen:{about}:{id}"),
        time: seconds_of(event.event_time),
        kind: occasion.name,
        zendesk_event_version: EVENT_VERSION,
    };
    Ok(Made::json(json_bytes(&envelope)?))
}

/// What changed: `{"current","previous"}` of the field that the event is about.
fn change(occasion: &Occasion<'_>, payload: &Value) -> Result<Value, RenderError> {
    let event = &occasion.event;
    let Some(field) = names::changed_field(occasion.name, event.event_type) else {
        return Ok(Value::Object(Map::new()));
    };
    let previous = read(event.previous, "previous state")?;
    let of = |document: &Value| document.get(field).cloned().unwrap_or(Value::Null);
    Ok(serde_json::json!({ "current": of(payload), "previous": of(&previous) }))
}

/// A number where the org is one.
fn account_id(org: &str) -> Value {
    match org.parse::<u64>() {
        Ok(number) if number.to_string() == org => number.into(),
        _ => org.into(),
    }
}

/// The headers that its receivers look at. The signature is the base64 of HMAC-SHA256 over
/// timestamp and body; a request without a body signs the timestamp.
pub(super) fn headers(occasion: &Occasion<'_>, body: &[u8]) -> Vec<(&'static str, String)> {
    let timestamp = seconds_of(occasion.at);
    let tag = occasion.signer.newest_tag(&[timestamp.as_bytes(), body]);
    vec![
        ("x-zendesk-account-id", percent_encoded(occasion.event.org)),
        ("x-zendesk-webhook-id", occasion.webhook.id.to_string()),
        ("x-zendesk-webhook-invocation-id", occasion.delivery_id.to_string()),
        ("x-zendesk-webhook-signature", STANDARD.encode(tag)),
        ("x-zendesk-webhook-signature-timestamp", timestamp),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rendering::fixtures::{SECRET, occasion, signer};
    use super::super::{Dialect, EventParts, RequestSettings, render};
    use super::*;
    use crate::seam::Timestamp;

    const AT: Timestamp = Timestamp::from_millis(1_657_016_542_000);

    fn told(event: EventParts<'_>, name: &str) -> (Value, super::super::Rendered) {
        let (signer, settings) = (signer(), RequestSettings::default());
        let made = render(Dialect::Zendesk, &occasion(event, name, &signer, &settings)).unwrap();
        (serde_json::from_slice(&made.body).unwrap(), made)
    }

    #[test]
    fn a_change_has_both_values() {
        let event = EventParts {
            previous: Some(br#"{"id":"7","status":"Open"}"#),
            ..EventParts::new("Ticket_Update", "22129848", AT, br#"{"id":"7","status":"Closed"}"#)
        };
        let (body, _) = told(event, "zen:event-type:ticket.status_changed");
        assert_eq!(
            body,
            json!({
                "account_id": 22_129_848,
                "detail": {"id": "7", "status": "Closed"},
                "event": {"current": "Closed", "previous": "Open"},
                "id": "01960d5e-0000-7000-8000-0000000000d1",
                "subject": "zen:ticket:7",
                "time": "2022-07-05T10:22:22Z",
                "type": "zen:event-type:ticket.status_changed",
                "zendesk_event_version": "2022-11-06",
            })
        );
        let (body, _) = told(event, "Ticket_Update");
        assert_eq!(body["event"], json!({}));
        assert_eq!(body["type"], "Ticket_Update");
    }

    #[test]
    fn a_comment_is_told_of_its_ticket() {
        let event = EventParts::new(
            "Ticket_Comment_Add",
            "acme",
            AT,
            br#"{"id":"9","ticketId":"7","content":"hi"}"#,
        );
        let (body, _) = told(event, "zen:event-type:ticket.comment_added");
        assert_eq!(body["account_id"], "acme");
        assert_eq!(body["subject"], "zen:ticket:7");
        assert_eq!(body["detail"], json!({"id": "7"}));
        assert_eq!(
            body["event"],
            json!({"comment": {"id": "9", "ticketId": "7", "content": "hi"}})
        );
        let (body, _) = told(event, "Ticket_Comment_Add");
        assert_eq!(body["subject"], "zen:comment:9");
        assert_eq!(body["detail"]["content"], "hi");
    }

    #[test]
    fn people_and_organizations_have_their_words() {
        let payload = br#"{"id":"5","accountId":"6"}"#;
        for (event_type, name, subject) in [
            ("Contact_Add", "zen:event-type:user.created", "zen:user:5"),
            ("Agent_Add", "zen:event-type:user.created", "zen:user:5"),
            ("Account_Add", "zen:event-type:organization.created", "zen:organization:5"),
            ("Article_Add", "zen:event-type:article.published", "zen:article:5"),
        ] {
            let (body, _) = told(EventParts::new(event_type, "1", AT, payload), name);
            assert_eq!(body["subject"], subject);
        }
    }

    #[test]
    fn the_signature_is_over_timestamp_and_body() {
        let (_, made) =
            told(EventParts::new("Ticket_Add", "1", AT, br#"{"id":"7"}"#), "Ticket_Add");
        let timestamp = made.headers["x-zendesk-webhook-signature-timestamp"].to_str().unwrap();
        assert_eq!(timestamp, "2024-01-15T14:30:00Z");
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        let mut message = timestamp.as_bytes().to_vec();
        message.extend_from_slice(&made.body);
        let expected = STANDARD.encode(aws_lc_rs::hmac::sign(&key, &message));
        assert_eq!(made.headers["x-zendesk-webhook-signature"], expected.as_str());
        assert_eq!(
            made.headers["x-zendesk-webhook-invocation-id"],
            "01960d5e-0000-7000-8000-0000000000d1"
        );
        assert_eq!(made.headers["x-zendesk-webhook-id"], "01960d5e-0000-7000-8000-0000000000a1");
        assert_eq!(made.headers["x-zendesk-account-id"], "1");
    }
}
