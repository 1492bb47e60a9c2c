//! For receivers of Zoho Assist's events: numbers for events, and the attribute names of its
//! webhooks (`hook_id`, `event_id`, `dept_id`). Its page shows no body; this is ours.

use serde::Serialize;
use serde_json::value::RawValue;

use super::names::assist_event;
use super::rendering::{Made, json_bytes, raw};
use super::{Occasion, RenderError};

#[derive(Serialize)]
struct Body<'b> {
    /// The same when it is sent again.
    notification_id: String,
    hook_id: i64,
    /// Its number; null for a ping, which is no event of Assist's.
    event_id: Option<u8>,
    event_name: &'b str,
    org_id: &'b str,
    dept_id: Option<&'b str>,
    /// Milliseconds since 1970.
    event_time: i64,
    data: &'b RawValue,
}

/// The body of an event.
pub(super) fn body(occasion: &Occasion<'_>) -> Result<Made, RenderError> {
    let event = &occasion.event;
    let body = Body {
        notification_id: occasion.delivery_id.to_string(),
        hook_id: occasion.webhook.alias,
        event_id: assist_event(occasion.name).map(|known| known.id),
        event_name: occasion.name,
        org_id: event.org,
        dept_id: event.department,
        event_time: event.event_time.millis(),
        data: raw(event.payload, "payload")?,
    };
    Ok(Made::json(json_bytes(&body)?))
}

#[cfg(test)]
mod tests {
    use super::super::rendering::fixtures::{occasion, signer};
    use super::super::{Dialect, EventParts, RequestSettings, render};
    use crate::seam::Timestamp;

    #[test]
    fn the_body_has_numbers_and_names() {
        let (signer, settings) = (signer(), RequestSettings::default());
        let event = EventParts {
            department: Some("3"),
            ..EventParts::new(
                "Device Online",
                "1",
                Timestamp::from_millis(1_618_493_667_780),
                br#"{"id": "7",  "n":1.0}"#,
            )
        };
        let made =
            render(Dialect::Assist, &occasion(event, "Device Online", &signer, &settings)).unwrap();
        assert_eq!(
            made.body,
            r#"{"notification_id":"01960d5e-0000-7000-8000-0000000000d1","hook_id":42,"event_id":13,"event_name":"Device Online","org_id":"1","dept_id":"3","event_time":1618493667780,"data":{"id": "7",  "n":1.0}}"#
        );
    }
}
