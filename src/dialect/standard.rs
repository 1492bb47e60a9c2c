//! Standard Webhooks: `{"type","timestamp","data"}`, or CloudEvents 1.0 in its structured or binary
//! form. The signature is the one that every dialect has.

use serde::Serialize;
use serde_json::value::RawValue;

use super::rendering::{Made, json_bytes, percent_encoded, raw};
use super::settings::CloudEvents;
use super::{Occasion, RenderError};

/// The body of Standard Webhooks' guideline. What was before comes along where it is asked for.
#[derive(Serialize)]
struct Body<'b> {
    #[serde(rename = "type")]
    kind: &'b str,
    timestamp: String,
    data: &'b RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'b RawValue>,
}

/// CloudEvents 1.0 as one JSON document.
#[derive(Serialize)]
struct CloudEvent<'b> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'b str,
    time: String,
    datacontenttype: &'static str,
    data: &'b RawValue,
}

/// The body, with the headers that CloudEvents has in its binary form.
pub(super) fn body(occasion: &Occasion<'_>) -> Result<Made, RenderError> {
    let event = &occasion.event;
    let data = raw(event.payload, "payload")?;
    let time = event.event_time.rfc3339();
    let source = format!("/orgs/{}", percent_encoded(event.org));
    match occasion.settings.cloud_events() {
        None => {
            let previous = event.previous.map(|text| raw(text, "previous state")).transpose()?;
            let body = Body { kind: occasion.name, timestamp: time, data, previous };
            Ok(Made::json(json_bytes(&body)?))
        }
        Some(CloudEvents::Structured) => {
            let body = CloudEvent {
                specversion: "1.0",
                id: occasion.delivery_id.to_string(),
                source,
                kind: occasion.name,
                time,
                datacontenttype: "application/json",
                data,
            };
            Ok(Made {
                content_type: Some("application/cloudevents+json; charset=utf-8"),
                ..Made::json(json_bytes(&body)?)
            })
        }
        Some(CloudEvents::Binary) => Ok(Made {
            headers: vec![
                ("ce-specversion", "1.0".to_owned()),
                ("ce-id", occasion.delivery_id.to_string()),
                ("ce-source", source),
                ("ce-type", header_text(occasion.name)),
                ("ce-time", time),
            ],
            ..Made::json(event.payload.to_vec())
        }),
    }
}

/// CloudEvents' HTTP binding: percent-encode what is no visible ASCII, the quote and the percent
/// sign.
fn header_text(text: &str) -> String {
    text.chars().fold(String::new(), |mut encoded, character| {
        if character.is_ascii_graphic() && character != '"' && character != '%' {
            encoded.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // Writing to a string cannot fail.
                let _ = std::fmt::Write::write_fmt(&mut encoded, format_args!("%{byte:02X}"));
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::rendering::fixtures::{occasion, signer};
    use super::super::{Connection, Dialect, EventParts, RequestSettings, RequestWish, render};
    use super::*;
    use crate::seam::Timestamp;

    fn event<'e>() -> EventParts<'e> {
        EventParts {
            previous: Some(br#"{"id":"7","status":"Open"}"#),
            ..EventParts::new(
                "Ticket_Update",
                "org/1",
                Timestamp::from_millis(1_618_493_667_780),
                br#"{"id": "7",  "n":1.0}"#,
            )
        }
    }

    fn settings(cloud_events: Option<CloudEvents>) -> RequestSettings {
        let wish = RequestWish {
            cloud_events,
            url: "https://a.example/".to_owned(),
            ..RequestWish::default()
        };
        RequestSettings::new(Dialect::Standard, Connection::Events, wish).unwrap()
    }

    #[test]
    fn the_body_is_the_guidelines_and_keeps_the_payload_byte_for_byte() {
        let (settings, signer) = (settings(None), signer());
        let without = EventParts { previous: None, ..event() };
        let occasion = occasion(without, "Ticket_Update", &signer, &settings);
        let made = render(Dialect::Standard, &occasion).unwrap();
        assert_eq!(
            made.body,
            r#"{"type":"Ticket_Update","timestamp":"2021-04-15T13:34:27.780Z","data":{"id": "7",  "n":1.0}}"#
        );
        assert_eq!(made.headers["content-type"], "application/json");
        let before = Occasion { event: event(), ..occasion };
        let made = render(Dialect::Standard, &before).unwrap();
        let read: Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(read["previous"], json!({"id": "7", "status": "Open"}));
    }

    #[test]
    fn cloud_events_in_both_forms() {
        let signer = signer();
        let structured = settings(Some(CloudEvents::Structured));
        let made =
            render(Dialect::Standard, &occasion(event(), "Ticket_Update", &signer, &structured))
                .unwrap();
        let read: Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(
            read,
            json!({
                "specversion": "1.0", "id": "01960d5e-0000-7000-8000-0000000000d1",
                "source": "/orgs/org%2F1", "type": "Ticket_Update",
                "time": "2021-04-15T13:34:27.780Z", "datacontenttype": "application/json",
                "data": {"id": "7", "n": 1.0},
            })
        );
        assert_eq!(made.headers["content-type"], "application/cloudevents+json; charset=utf-8");

        let binary = settings(Some(CloudEvents::Binary));
        let made = render(Dialect::Standard, &occasion(event(), "Session Start", &signer, &binary))
            .unwrap();
        assert_eq!(made.body, event().payload);
        assert_eq!(made.headers["ce-specversion"], "1.0");
        assert_eq!(made.headers["ce-id"], "01960d5e-0000-7000-8000-0000000000d1");
        assert_eq!(made.headers["ce-source"], "/orgs/org%2F1");
        assert_eq!(made.headers["ce-type"], "Session%20Start");
        assert_eq!(made.headers["ce-time"], "2021-04-15T13:34:27.780Z");
        assert_eq!(made.headers["content-type"], "application/json");
    }
}
