//! The custom headers of a webhook: what may be among them.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::authentication::is_ours;

/// The most custom headers.
const MOST: usize = 20;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 128;

/// The longest value, in bytes.
const LONGEST_VALUE: usize = 1_000;

/// Checks custom headers; says for each that is refused why.
pub(super) fn faults(headers: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if headers.len() > MOST {
        faults.push((String::new(), format!("may have at most {MOST} members")));
    }
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let mut fault = |message: String| faults.push((name.clone(), message));
        if name.len() > LONGEST_NAME || HeaderName::from_bytes(lower.as_bytes()).is_err() {
            fault(format!("is not the name of a header of at most {LONGEST_NAME} bytes"));
        } else if is_ours(&lower) {
            fault("is Mortise's own".to_owned());
        } else if lower == "authorization" || lower == "cookie" {
            fault("is for credentials: use authentication, which is kept sealed".to_owned());
        } else if seen.contains(&lower) {
            fault("is there twice".to_owned());
        }
        let is_text = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if value.len() > LONGEST_VALUE || !is_text || HeaderValue::from_str(value).is_err() {
            fault(format!("its value must be at most {LONGEST_VALUE} visible ASCII characters"));
        }
        seen.push(lower);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_signs_or_authorises_is_refused() {
        let of = |name: &str, value: &str| {
            faults(&BTreeMap::from([(name.to_owned(), value.to_owned())])).len()
        };
        for (name, value) in
            [("X-Team", "support"), ("accept", "text/plain"), ("x-a", ""), ("cex", "y")]
        {
            assert_eq!(of(name, value), 0, "{name}");
        }
        for (name, value) in [
            ("Host", "x"),
            ("Webhook-Signature", "x"),
            ("CE-Id", "x"),
            ("ce-anything", "x"),
            ("X-Mortise-Test", "x"),
            ("Authorization", "Bearer x"),
            ("Cookie", "x"),
            ("a b", "x"),
            ("", "x"),
            ("x-a", "a\r\nb: c"),
            ("x-a", "ä"),
        ] {
            assert_eq!(of(name, value), 1, "{name}");
        }
        let twice =
            BTreeMap::from([("A".to_owned(), String::new()), ("a".to_owned(), String::new())]);
        assert_eq!(faults(&twice).len(), 1);
        let many = (0..=MOST).map(|number| (format!("x-{number}"), String::new())).collect();
        assert_eq!(faults(&many).len(), 1);
    }
}
