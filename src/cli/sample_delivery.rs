//! A delivery made here, as a server would make it: for `trigger` and `doctor receiver`.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::output::CliError;
use crate::crypto::Signer;
use crate::dialect::{Dialect, EventParts, desk_body};
use crate::event::catalogue::{self, EventType};
use crate::seam::Timestamp;

/// The org where none is named.
pub(crate) const SAMPLE_ORG: &str = "600000000";

/// The largest payload that is read from a file, in bytes.
const LARGEST_PAYLOAD: u64 = 8 << 20;

/// A type of the catalogue, or the nearest name.
pub(crate) fn known_type(name: &str) -> Result<&'static EventType, CliError> {
    catalogue::find(name).ok_or_else(|| {
        let unknown = CliError::unusable(format_args!("there is no event type `{name}`"));
        match catalogue::nearest(name) {
            Some(near) => unknown.hint(format!("did you mean `{near}`?")),
            None => unknown.hint("GET /api/v1/event-types lists all of them"),
        }
    })
}

/// The payload of an event: from a file, or the catalogue's sample.
pub(crate) fn payload(known: &EventType, file: Option<&Path>) -> Result<Bytes, CliError> {
    let Some(file) = file else {
        return Ok(Bytes::copy_from_slice(known.sample.get().as_bytes()));
    };
    let shown = file.display();
    let unusable =
        |what: &dyn std::fmt::Display| CliError::unusable(format_args!("{shown}: {what}"));
    let size = std::fs::metadata(file).map_err(|error| unusable(&error))?.len();
    if size > LARGEST_PAYLOAD {
        return Err(unusable(&"is larger than 8 MiB"));
    }
    let text = std::fs::read(file).map_err(|error| unusable(&error))?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| unusable(&error))?;
    if !value.is_object() {
        return Err(unusable(&"must be a JSON object: the payload of the event"));
    }
    Ok(Bytes::from(text))
}

/// The body of a delivery in the desk dialect.
pub(crate) fn body(known: &EventType, org: &str, payload: &[u8], at: Timestamp) -> Bytes {
    let previous = known.sample_previous.as_ref().map(|previous| previous.get().as_bytes());
    desk_body(&EventParts { previous, ..EventParts::new(known.name, org, at, payload) })
}

/// The headers of a delivery; without a signer they carry no signature.
pub(crate) fn headers(
    id: Uuid,
    at: Timestamp,
    body: &[u8],
    signer: Option<&Signer>,
) -> Result<HeaderMap, CliError> {
    let mut headers = Dialect::Desk.static_headers();
    let Some(signer) = signer else { return Ok(headers) };
    let id = id.to_string();
    let signature = signer.sign(&id, at.seconds(), &[body]);
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", at.seconds().to_string()),
        ("webhook-signature", signature),
    ] {
        let value = HeaderValue::from_str(&value).map_err(CliError::unusable)?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningSecret;
    use crate::inspector::{SignatureVerdict, judge};
    use crate::seam::Clock;

    #[test]
    fn a_sample_is_signed_as_a_delivery_is() {
        let secret = SigningSecret::from_chosen_bytes(b"geheim").expect("a secret");
        let signer = Signer::new([&secret]).expect("a signer");
        let now = Clock::default().now();
        let known = known_type("Ticket_Update").expect("it is known");
        let payload = payload(known, None).expect("the sample");
        let body = body(known, "1", &payload, now);
        let headers = headers(Uuid::from_u128(1), now, &body, Some(&signer)).expect("headers");
        let verdict = judge(&headers, &body, Some(&signer.verifier()), now);
        assert_eq!(verdict, SignatureVerdict::Valid);
        let document: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(document[0]["eventType"], "Ticket_Update");
        assert!(document[0]["prevState"].is_object(), "{document}");
        assert!(known_type("Ticket_Ad").is_err());
    }
}
