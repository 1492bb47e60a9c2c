//! The desk dialect: an array with one event object.
//!
//! `[{"payload":{…},"eventTime":"1618493667780","eventType":"Ticket_Add","orgId":"…","prevState"?:{…}}]`

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use super::EventParts;

/// What surrounds the payload and the texts, at most, without escapes.
const FRAME: usize = 128;

/// The body. Payload and previous state are copied as they are, never parsed.
pub(super) fn body(event: &EventParts<'_>) -> Bytes {
    let previous = event.previous.map_or(0, <[u8]>::len);
    let texts = event.event_type.len() + event.org.len();
    let mut body = BytesMut::with_capacity(FRAME + event.payload.len() + previous + texts);
    body.extend_from_slice(b"[{\"payload\":");
    body.extend_from_slice(event.payload);
    body.extend_from_slice(b",\"eventTime\":\"");
    // Writing to a growing buffer cannot fail.
    let _ = write!(body, "{}", event.event_time.millis());
    body.extend_from_slice(b"\",\"eventType\":");
    quote(&mut body, event.event_type);
    body.extend_from_slice(b",\"orgId\":");
    quote(&mut body, event.org);
    if let Some(previous) = event.previous {
        body.extend_from_slice(b",\"prevState\":");
        body.extend_from_slice(previous);
    }
    body.extend_from_slice(b"}]");
    body.freeze()
}

/// A JSON string; the usual text needs no escape and is copied whole.
fn quote(body: &mut BytesMut, text: &str) {
    body.extend_from_slice(b"\"");
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        body.extend_from_slice(text.as_bytes());
    } else {
        for character in text.chars() {
            // Writing to a growing buffer cannot fail.
            let _ = match character {
                '"' | '\\' => write!(body, "\\{character}"),
                '\0'..='\x1f' => write!(body, "\\u{:04x}", u32::from(character)),
                _ => write!(body, "{character}"),
            };
        }
    }
    body.extend_from_slice(b"\"");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::dialect::{Dialect, EventParts, desk_body};
    use crate::seam::Timestamp;

    #[test]
    fn the_body_is_the_references_byte_for_byte() {
        let event = EventParts {
            event_type: "Ticket_Update",
            org: "761336011",
            event_time: Timestamp::from_millis(1_618_493_667_780),
            ..EventParts::new(
                "",
                "",
                Timestamp::default(),
                br#"{"id": "1",  "n":1.0,"x":"\u00e4"}"#,
            )
        };
        assert_eq!(
            desk_body(&event),
            r#"[{"payload":{"id": "1",  "n":1.0,"x":"\u00e4"},"eventTime":"1618493667780","eventType":"Ticket_Update","orgId":"761336011"}]"#
        );
        let with_previous = EventParts { previous: Some(b"{\"id\":\"0\"}"), ..event };
        assert_eq!(
            desk_body(&with_previous),
            r#"[{"payload":{"id": "1",  "n":1.0,"x":"\u00e4"},"eventTime":"1618493667780","eventType":"Ticket_Update","orgId":"761336011","prevState":{"id":"0"}}]"#
        );
        assert_eq!(Dialect::Desk.content_type(), "application/json");
        assert_eq!(Dialect::default().as_str(), "desk");
        let headers = Dialect::Desk.static_headers();
        assert_eq!(headers["content-type"], "application/json");
        assert!(headers["user-agent"].to_str().unwrap().starts_with("Mortise/"));
    }

    proptest! {
        #[test]
        fn any_org_and_type_stay_inside_their_strings(
            org in "[^\\p{C}]{1,64}", event_type in "\\PC{0,40}|[\\x00-\\x7f]{0,20}", millis in 0_i64..4_000_000_000_000,
        ) {
            let body = desk_body(&EventParts {
                event_type: &event_type,
                org: &org,
                event_time: Timestamp::from_millis(millis),
                previous: Some(b"null"),
                ..EventParts::new("", "", Timestamp::default(), b"{}")
            });
            let read: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(read, json!([{
                "payload": {}, "eventTime": millis.to_string(), "eventType": event_type,
                "orgId": org, "prevState": null,
            }]));
        }
    }
}
