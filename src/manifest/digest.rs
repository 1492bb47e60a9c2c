//! What a package is known by, and what consent is bound to.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest as hash};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The SHA-256 of a package's canonical form, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Box<str>);

/// A text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl Digest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidDigest)?;
        let hexadecimal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() == 64 && hexadecimal { Ok(Self(text.into())) } else { Err(InvalidDigest) }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0.into()
    }
}

/// The digest of a manifest without its secrets and the resources beside it, over their canonical
/// form (RFC 8785): the order of keys, blanks and the spelling of numbers change nothing.
pub fn digest(stripped_manifest: &Value, resources: &Value) -> Digest {
    let package = json!({ "manifest": stripped_manifest, "resources": resources });
    let mut canonical = String::new();
    write_canonical(&package, &mut canonical);
    let mut text = "sha256:".to_owned();
    for byte in hash(&SHA256, canonical.as_bytes()).as_ref() {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    Digest(text.into())
}

/// RFC 8785: keys by their UTF-16 units, numbers as ECMAScript writes doubles, shortest escapes.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
        Value::Number(number) => {
            let double = number.as_f64().unwrap_or_default();
            out.push_str(ryu_js::Buffer::new().format_finite(double));
        }
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            out.push('{');
            for (position, (key, item)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        write_canonical(&serde_json::from_str(text).expect("JSON"), &mut out);
        out
    }

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        // Section 3.2.2 and 3.2.3 of the RFC.
        assert_eq!(
            canonical(
                r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
                "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#
            ),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
        assert_eq!(
            canonical(
                r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew","1":"One",
                "\ud83d\ude00":"Emoji","\u0080":"Control","\u00f6":"o"}"#
            ),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"o\",\
             \"€\":\"Euro Sign\",\"\u{1F600}\":\"Emoji\",\"\u{FB33}\":\"Hebrew\"}"
        );
        assert_eq!(
            canonical("[-0.0, 1.0, 9007199254740991, 1e21, 123456789012]"),
            "[0,1,9007199254740991,1e+21,123456789012]"
        );
    }

    #[test]
    fn the_order_of_keys_changes_nothing() {
        let one = digest(&json!({"a": 1, "b": [1, 2]}), &json!({}));
        let other = digest(
            &serde_json::from_str(r#"{ "b": [1.0, 2], "a": 1 }"#).expect("JSON"),
            &json!({}),
        );
        assert_eq!(one, other);
        assert_ne!(one, digest(&json!({"a": 1, "b": [2, 1]}), &json!({})));
        assert_ne!(one, digest(&json!({}), &json!({"a": 1, "b": [1, 2]})));
        assert_eq!(one.as_str().parse(), Ok(one));
        assert_eq!("sha256:AB".parse::<Digest>(), Err(InvalidDigest));
    }
}
