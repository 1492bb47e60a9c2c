//! Placeholders in a call: `{{installationId}}`, `{{name}}` of a configuration parameter,
//! `{{property.name}}` of the extension. Pure.
//!
//! Values are escaped for the place that they stand in, so that none can become syntax there, and
//! are never looked through for placeholders themselves.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::memory::Properties;
use crate::crypto::SecretText;

/// How many different secrets one call may put in: each is looked for in the answer.
const MOST_SECRETS: usize = 16;

/// What the names of properties begin with.
const PROPERTY: &str = "property.";

/// A value that a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It may stand anywhere.
    Open(String),
    /// A secure parameter or a secret property: not in the URL, and not where the extension could
    /// read it back.
    Secret(SecretText),
}

impl Value {
    /// How long it is.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Open(text) => text.len(),
            Self::Secret(secret) => secret.expose().len(),
        }
    }
}

/// What placeholders stand for, by name.
#[derive(Debug, Default)]
pub(super) struct Values {
    own: BTreeMap<String, Value>,
    properties: Arc<Properties>,
}

impl Values {
    /// Those of an installation whose extension has these properties.
    pub(super) fn new(properties: Arc<Properties>) -> Self {
        Self { own: BTreeMap::new(), properties }
    }

    /// Adds a value; the first of a name stays.
    pub(super) fn add(&mut self, name: impl Into<String>, value: Value) {
        self.own.entry(name.into()).or_insert(value);
    }

    /// How many bytes it has of its own: names and values, without the properties.
    pub(super) fn own_bytes(&self) -> usize {
        self.own.iter().map(|(name, value)| name.len() + value.bytes()).sum()
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let property = || self.properties.get(name.strip_prefix(PROPERTY)?);
        self.own.get(name).or_else(property)
    }
}

/// Where a value is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Host and port.
    Authority,
    /// A path.
    Path,
    /// A query.
    Query,
    /// A text that is encoded as a whole afterwards.
    Plain,
    /// A header.
    Header,
    /// Inside of a JSON text.
    Json,
    /// Inside of a form.
    Form,
    /// Inside of XML.
    Xml,
}

/// Why a placeholder cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfillable {
    /// Nothing has this name, or it has no value.
    #[error(
        "the placeholder {{{{{0}}}}} stands for nothing: there are installationId, configuration \
         parameters that have a value, and property.<name>"
    )]
    Unknown(String),
    /// A secret may not stand there.
    #[error(
        "the placeholder {{{{{0}}}}} is secret: it may stand in headers, queryParams and postBody of \
         calls to other hosts only"
    )]
    Secret(String),
    /// The value cannot stand there.
    #[error("the value of {{{{{name}}}}} {rule}")]
    Unfit {
        /// The placeholder.
        name: String,
        /// What is wrong.
        rule: &'static str,
    },
    /// The text grows beyond what is sent.
    #[error("the text is longer than {LONGEST} bytes with its placeholders filled in")]
    TooLong,
    /// Too many secrets stand in one call.
    #[error("more than {MOST_SECRETS} different secrets cannot stand in one call")]
    TooManySecrets,
}

/// The longest text with everything filled in, in bytes.
const LONGEST: usize = 8 << 20;

/// Fills placeholders in, and remembers the secrets that it put somewhere.
pub(super) struct Filling<'v> {
    values: &'v Values,
    /// Whether secrets may be put in.
    allows_secrets: bool,
    /// The secrets that were, each once however often it stands somewhere.
    used: BTreeSet<&'v str>,
}

impl fmt::Debug for Filling<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Filling").field("used", &self.used.len()).finish_non_exhaustive()
    }
}

impl<'v> Filling<'v> {
    /// Fills in from these values.
    pub(super) fn new(values: &'v Values, allows_secrets: bool) -> Self {
        Self { values, allows_secrets, used: BTreeSet::new() }
    }

    /// The secrets that were put in.
    pub(super) fn secrets(&self) -> Vec<SecretText> {
        self.used.iter().map(|secret| SecretText::new(*secret)).collect()
    }

    /// Whether secrets may be put in from now on.
    pub(super) fn allow_secrets(&mut self, allows_secrets: bool) {
        self.allows_secrets = allows_secrets;
    }

    /// Fills a text. What names nothing is refused; with `keeps_unknown` it stays as it is, since a
    /// body may hold such braces for reasons of its own.
    pub(super) fn fill<'t>(
        &mut self,
        text: &'t str,
        place: Place,
        keeps_unknown: bool,
    ) -> Result<Cow<'t, str>, Unfillable> {
        if !text.contains("{{") {
            return Ok(Cow::Borrowed(text));
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let Some(length) = rest[start..].find("}}") else { break };
            // Of `{{{{name}}` the innermost braces count.
            let start = rest[..start + length].rfind("{{").unwrap_or(start);
            let end = rest[start..].find("}}").map_or(rest.len(), |length| start + length);
            let name = rest[start + 2..end].trim();
            filled.push_str(&rest[..start]);
            let values = self.values;
            match values.get(name) {
                Some(value) => self.put(name, value, place, &mut filled)?,
                None if keeps_unknown => filled.push_str(&rest[start..end + 2]),
                None => return Err(Unfillable::Unknown(shortened(name))),
            }
            if filled.len() > LONGEST {
                return Err(Unfillable::TooLong);
            }
            rest = &rest[end + 2..];
        }
        filled.push_str(rest);
        Ok(Cow::Owned(filled))
    }

    fn put(
        &mut self,
        name: &str,
        value: &'v Value,
        place: Place,
        filled: &mut String,
    ) -> Result<(), Unfillable> {
        let text = match value {
            Value::Open(text) => text.as_str(),
            Value::Secret(secret) => {
                if !self.allows_secrets {
                    return Err(Unfillable::Secret(shortened(name)));
                }
                self.used.insert(secret.expose());
                if self.used.len() > MOST_SECRETS {
                    return Err(Unfillable::TooManySecrets);
                }
                secret.expose()
            }
        };
        escape(text, place, filled)
            .map_err(|rule| Unfillable::Unfit { name: shortened(name), rule })
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Adds a value so that it means itself in its place.
fn escape(text: &str, place: Place, filled: &mut String) -> Result<(), &'static str> {
    match place {
        Place::Authority => {
            let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            if text.is_empty() || !text.bytes().all(is_fit) {
                return Err("cannot be a host: write letters, digits, dots and hyphens only");
            }
            filled.push_str(text);
        }
        Place::Path => {
            // The URL Standard takes these for steps up, escaped or not.
            if matches!(text, "" | "." | "..") {
                return Err("cannot be a part of a path");
            }
            percent_encode(text, filled);
        }
        Place::Query => percent_encode(text, filled),
        Place::Plain => filled.push_str(text),
        Place::Header => {
            if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
                return Err("has a control character, which no header may have");
            }
            filled.push_str(text);
        }
        Place::Json => {
            let quoted = serde_json::Value::from(text).to_string();
            filled.push_str(&quoted[1..quoted.len() - 1]);
        }
        Place::Form => filled.extend(url::form_urlencoded::byte_serialize(text.as_bytes())),
        Place::Xml => {
            for character in text.chars() {
                match character {
                    '<' => filled.push_str("&lt;"),
                    '>' => filled.push_str("&gt;"),
                    '&' => filled.push_str("&amp;"),
                    '"' => filled.push_str("&quot;"),
                    '\'' => filled.push_str("&apos;"),
                    '\t' | '\n' | '\r' => filled.push(character),
                    control if control.is_control() => {
                        return Err("has a control character, which XML may not have");
                    }
                    other => filled.push(other),
                }
            }
        }
    }
    Ok(())
}

/// Escapes everything but what is unreserved (RFC 3986, section 2.3).
fn percent_encode(text: &str, filled: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            filled.push(char::from(byte));
        } else {
            // Writing to a text never fails.
            let _infallible = write!(filled, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Meter, SharedProperties};
    use super::*;

    fn values() -> Values {
        let mut values = Values::default();
        for (name, value) in [
            ("installationId", "0193"),
            ("host", "api.example.com"),
            ("odd", "a/b?c=d&e#\"<{{host}}>\r\n"),
            ("up", ".."),
        ] {
            values.add(name, Value::Open(value.to_owned()));
        }
        let shared = SharedProperties::new(Meter::default());
        let properties = [("region".to_owned(), Value::Open("eu".to_owned()))];
        values.properties = shared.share("mirror", properties.into());
        values.add("token", Value::Secret(SecretText::new("s3cret")));
        values
    }

    fn fill(text: &str, place: Place) -> Result<String, Unfillable> {
        let values = values();
        let mut filling = Filling::new(&values, false);
        filling.fill(text, place, false).map(Cow::into_owned)
    }

    #[test]
    fn values_mean_themselves_wherever_they_stand() {
        for (place, wanted) in [
            (Place::Path, "a%2Fb%3Fc%3Dd%26e%23%22%3C%7B%7Bhost%7D%7D%3E%0D%0A"),
            (Place::Query, "a%2Fb%3Fc%3Dd%26e%23%22%3C%7B%7Bhost%7D%7D%3E%0D%0A"),
            (Place::Json, "a/b?c=d&e#\\\"<{{host}}>\\r\\n"),
            (Place::Form, "a%2Fb%3Fc%3Dd%26e%23%22%3C%7B%7Bhost%7D%7D%3E%0D%0A"),
            (Place::Xml, "a/b?c=d&amp;e#&quot;&lt;{{host}}&gt;\r\n"),
            (Place::Plain, "a/b?c=d&e#\"<{{host}}>\r\n"),
        ] {
            assert_eq!(fill("{{odd}}", place).as_deref(), Ok(wanted), "{place:?}");
        }
        for place in [Place::Header, Place::Authority] {
            assert!(matches!(fill("{{odd}}", place), Err(Unfillable::Unfit { .. })), "{place:?}");
        }
        assert!(matches!(fill("/a/{{up}}/b", Place::Path), Err(Unfillable::Unfit { .. })));
    }

    #[test]
    fn names_are_found_with_and_without_blanks() {
        assert_eq!(
            fill("/x/{{installationId}}/{{ property.region }}", Place::Path).as_deref(),
            Ok("/x/0193/eu")
        );
        assert_eq!(fill("{{host}}:8080", Place::Authority).as_deref(), Ok("api.example.com:8080"));
        assert_eq!(fill("{{{host}}}", Place::Plain).as_deref(), Ok("{api.example.com}"));
        assert_eq!(fill("{{host", Place::Plain).as_deref(), Ok("{{host"));
        assert!(matches!(fill("{{nobody}}", Place::Plain), Err(Unfillable::Unknown(_))));
    }

    #[test]
    fn what_a_body_has_of_its_own_stays() {
        let values = values();
        let mut filling = Filling::new(&values, true);
        let text = r#"{"template":"Dear {{customer}}","id":"{{installationId}}","n":{"m":{}}}"#;
        let filled = filling.fill(text, Place::Json, true).expect("it is filled");
        assert_eq!(filled, r#"{"template":"Dear {{customer}}","id":"0193","n":{"m":{}}}"#);
        assert!(filling.used.is_empty());
    }

    #[test]
    fn secrets_stand_only_where_they_may() {
        assert_eq!(fill("{{token}}", Place::Path), Err(Unfillable::Secret("token".to_owned())));
        let values = values();
        let mut filling = Filling::new(&values, true);
        assert_eq!(filling.fill("Key {{token}}", Place::Header, false).unwrap(), "Key s3cret");
        assert_eq!(filling.used.len(), 1);
        assert!(!format!("{filling:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_counts_once_however_often_it_stands_somewhere() {
        let mut values = values();
        for number in 0..MOST_SECRETS {
            values.add(format!("s{number}"), Value::Secret(SecretText::new(format!("v{number}"))));
        }
        let mut filling = Filling::new(&values, true);
        let often = "{{token}}".repeat(100_000);
        filling.fill(&often, Place::Plain, false).expect("it is filled");
        assert_eq!(filling.secrets().len(), 1);
        let many =
            |count: usize| (0..count).fold(String::new(), |all, n| all + &format!("{{{{s{n}}}}}"));
        let (fits, more) = (many(MOST_SECRETS - 1), many(MOST_SECRETS));
        filling.fill(&fits, Place::Plain, false).expect("as many as may be");
        let more = filling.fill(&more, Place::Plain, false);
        assert_eq!(more, Err(Unfillable::TooManySecrets));
    }

    proptest::proptest! {
        #[test]
        fn hostile_texts_never_panic(text in "[{}a-z ]{0,40}", value in "\\PC{0,20}") {
            let mut values = Values::default();
            values.add("a", Value::Open(value));
            for place in [Place::Path, Place::Json, Place::Xml, Place::Header, Place::Authority] {
                let _ = Filling::new(&values, true).fill(&text, place, true);
            }
        }
    }
}
