//! Which headers a vendor may send through invoke, and which of an answer it gets to see. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::masking::Masking;
use super::placeholders::{Filling, Place, Unfillable};

/// The most headers of a call, and their bytes in all.
pub(super) const MOST_HEADERS: usize = 50;
/// The most bytes of a call's headers in all.
pub(super) const MOST_HEADER_BYTES: usize = 16 * 1_024;
/// The most headers of an answer that are handed back, and their bytes in all.
const ANSWER_HEADERS: (usize, usize) = (100, 32 * 1_024);

/// Headers that are ours to set: credentials, what frames the message, what concerns one hop only
/// (RFC 9110, section 7.6.1), and what would have a secret come back where it is not found: coded,
/// or in parts.
const OURS: &[&str] = &[
    "authorization",
    "host",
    "cookie",
    "cookie2",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "http2-settings",
    "accept-encoding",
    "range",
];

/// Headers of an answer that are not handed back: cookies, what repeats credentials, what framed
/// the message.
const HELD_BACK: &[&str] = &[
    "set-cookie",
    "set-cookie2",
    "authorization",
    "authentication-info",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

/// Why the headers of a call are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeaders {
    /// It is no object of texts.
    #[error("must be a JSON object whose values are texts, numbers or switches")]
    Shape,
    /// There are too many, or they are too long.
    #[error("may have {MOST_HEADERS} headers with {MOST_HEADER_BYTES} bytes in all")]
    TooMany,
    /// A name is none.
    #[error("has a name that no header can have")]
    Name,
    /// A name is there twice.
    #[error("has {0} twice")]
    Twice(String),
    /// The header is set by this server.
    #[error("must not have {0}: that is this server's to set")]
    Reserved(String),
    /// A value cannot be sent.
    #[error("has a value for {0} that no header can have")]
    Value(String),
    /// A placeholder cannot be filled in.
    #[error(transparent)]
    Placeholder(#[from] Unfillable),
}

/// Reads a JSON object of plain values; nothing for an empty text.
pub(super) fn object(text: &str) -> Option<Map<String, Value>> {
    if text.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(text).ok()
}

/// A plain value as text.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// The headers of a call, with placeholders filled in.
pub(super) fn outgoing(text: &str, filling: &mut Filling<'_>) -> Result<HeaderMap, InvalidHeaders> {
    let object = object(text).ok_or(InvalidHeaders::Shape)?;
    let mut headers = HeaderMap::with_capacity(object.len());
    let mut bytes = 0;
    for (name, value) in &object {
        let value = plain(value).ok_or(InvalidHeaders::Shape)?;
        let value = filling.fill(&value, Place::Header, false)?;
        bytes += name.len() + value.len();
        if headers.len() >= MOST_HEADERS || bytes > MOST_HEADER_BYTES {
            return Err(InvalidHeaders::TooMany);
        }
        let name = HeaderName::try_from(name.as_str()).map_err(|_| InvalidHeaders::Name)?;
        if OURS.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            return Err(InvalidHeaders::Reserved(name.to_string()));
        }
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| InvalidHeaders::Value(name.to_string()))?;
        if headers.insert(name.clone(), value).is_some() {
            return Err(InvalidHeaders::Twice(name.to_string()));
        }
    }
    Ok(headers)
}

/// The headers of an answer as the vendor gets them, secrets masked. Several of one name become one,
/// with commas between.
pub(super) fn incoming(headers: &HeaderMap, masking: &Masking<'_>) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut left = ANSWER_HEADERS.1;
    for name in headers.keys().take(ANSWER_HEADERS.0) {
        if HELD_BACK.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            continue;
        }
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let value = masking.text(&values.join(", "));
        let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else { break };
        left = rest;
        shown.insert(name.as_str().to_owned(), Value::String(value));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::placeholders::{Value as Filled, Values};
    use super::*;
    use crate::crypto::SecretText;

    fn read(text: &str) -> Result<HeaderMap, InvalidHeaders> {
        let mut values = Values::default();
        values.add("id", Filled::Open("7".to_owned()));
        values.add("bad", Filled::Open("a\r\nAuthorization: b".to_owned()));
        outgoing(text, &mut Filling::new(&values, false))
    }

    #[test]
    fn ordinary_headers_pass() {
        assert!(read("").unwrap().is_empty());
        assert!(read("{}").unwrap().is_empty());
        let headers = read(r#"{"X-A":"{{id}}","Accept":"text/plain","n":5,"b":true}"#).unwrap();
        assert_eq!(headers["x-a"], "7");
        assert_eq!(headers["n"], "5");
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn what_is_ours_to_set_is_refused_in_every_spelling() {
        for name in OURS.iter().copied().chain(["Proxy-Authorization", "proxy-anything"]) {
            for name in [name.to_owned(), name.to_uppercase()] {
                let refused = read(&format!("{{\"{name}\":\"x\"}}")).unwrap_err();
                assert!(matches!(refused, InvalidHeaders::Reserved(_)), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for (text, wanted) in [
            ("[]", InvalidHeaders::Shape),
            ("{\"a\":null}", InvalidHeaders::Shape),
            ("{\"a\":[]}", InvalidHeaders::Shape),
            ("{\"a b\":\"c\"}", InvalidHeaders::Name),
            ("{\"\":\"c\"}", InvalidHeaders::Name),
            ("{\"A\":\"c\",\"a\":\"d\"}", InvalidHeaders::Twice("a".to_owned())),
            ("{\"a\":\"c\\r\\nd: e\"}", InvalidHeaders::Value("a".to_owned())),
        ] {
            assert_eq!(read(text).unwrap_err(), wanted, "{text}");
        }
        assert!(matches!(read("{\"a\":\"{{bad}}\"}"), Err(InvalidHeaders::Placeholder(_))));
        let many: Map<String, Value> = (0..51).map(|n| (format!("x-{n}"), "y".into())).collect();
        assert_eq!(read(&Value::Object(many).to_string()).unwrap_err(), InvalidHeaders::TooMany);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MOST_HEADER_BYTES));
        assert_eq!(read(&long).unwrap_err(), InvalidHeaders::TooMany);
    }

    #[test]
    fn answers_lose_cookies_and_credentials() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "a=b"),
            ("authorization", "Bearer t0ken-value"),
            ("proxy-authenticate", "x"),
            ("content-type", "text/plain"),
            ("x-echo", "Bearer t0ken-value"),
            ("link", "one"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append("link", HeaderValue::from_static("two"));
        let secrets = [SecretText::new("t0ken-value")];
        let shown = incoming(&headers, &Masking::new(&secrets));
        assert_eq!(
            Value::Object(shown),
            serde_json::json!({
                "content-type": "text/plain", "x-echo": "Bearer ***", "link": "one, two"
            })
        );
    }
}
