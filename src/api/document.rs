//! Reading a document into a type with faults that say where and what.
//!
//! A JSON body is first read as it stands, names that occur twice included; then the type takes
//! from it what it wants. Unlike the JSON library's own, the error of that second step keeps the
//! kind of a fault and the place apart, so that nothing has to be guessed from a message.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor, value::MapAccessDeserializer,
};
use serde::forward_to_deserialize_any;

use super::problem::{FieldError, FieldErrorKind};

/// How alike two names must be, from 0 to 1, for one to be offered for the other.
const ALIKE: f64 = 0.75;

/// A document as it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Boolean(bool),
    Number(serde_json::Number),
    Text(String),
    /// A text of a query, which may stand for a number or a switch.
    Parameter(String),
    List(Vec<Node>),
    /// The members in their order, with those that occur twice.
    Members(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Boolean(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Node::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Node::Members(members))
    }
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The way to it, the innermost step first.
    path: Vec<String>,
    kind: FieldErrorKind,
    message: String,
    suggestion: Option<String>,
}

impl Fault {
    fn new(kind: FieldErrorKind, message: String) -> Self {
        Self { path: Vec::new(), kind, message, suggestion: None }
    }

    fn below(mut self, step: &str) -> Self {
        self.path.push(step.to_owned());
        self
    }

    /// The fault of a JSON body, with a JSON pointer (RFC 6901).
    pub(crate) fn in_body(self) -> FieldError {
        let pointer = self.path.iter().rev().fold(String::new(), |pointer, step| {
            pointer + "/" + &step.replace('~', "~0").replace('/', "~1")
        });
        self.into_error(pointer)
    }

    /// The fault of a query, with the parameter's name.
    pub(crate) fn in_query(self) -> FieldError {
        let name = self.path.last().cloned().unwrap_or_default();
        self.into_error(name)
    }

    fn into_error(self, field_name: String) -> FieldError {
        FieldError {
            field_name,
            error_type: self.kind,
            error_message: self.message,
            suggestion: self.suggestion,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(FieldErrorKind::Invalid, message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let given = match unexpected {
            Unexpected::Unit | Unexpected::Option => "null",
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
            Unexpected::Float(_) => "a number",
            Unexpected::Str(_) | Unexpected::Char(_) => "a string",
            Unexpected::Seq => "an array",
            Unexpected::Map => "an object",
            _ => "something else",
        };
        Self::new(FieldErrorKind::Invalid, format!("must be {expected}, not {given}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(FieldErrorKind::Invalid, format!("must be {expected}"))
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        let message = format!("must have {expected}, not {length} entries");
        Self::new(FieldErrorKind::Invalid, message)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("must be one of {}", listed(expected));
        let suggestion = nearest(variant, expected);
        Self { suggestion, ..Self::new(FieldErrorKind::Invalid, message) }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = if expected.is_empty() {
            "is not known here; nothing is taken".to_owned()
        } else {
            format!("is not known here; known are {}", listed(expected))
        };
        let suggestion = nearest(field, expected);
        Self { suggestion, ..Self::new(FieldErrorKind::Invalid, message) }.below(&shortened(field))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(FieldErrorKind::Missing, "is needed".to_owned()).below(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(FieldErrorKind::Duplicate, "occurs twice".to_owned()).below(field)
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// At most the first 100 characters of a name that a stranger chose.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}

/// The known name that is spelled most like a given one, where one is alike enough.
pub(crate) fn nearest(given: &str, known: &[&str]) -> Option<String> {
    let given = shortened(given).to_lowercase();
    known
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&given, &name.to_lowercase()), name))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .map(|(_, name)| (*name).to_owned())
}

/// Takes a number from a parameter's text.
macro_rules! parsed {
    ($($method:ident, $visit:ident, $expected:literal;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self {
                Self::Parameter(text) => match text.parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(Fault::new(
                        FieldErrorKind::Invalid,
                        concat!("must be ", $expected).to_owned(),
                    )),
                },
                node => node.deserialize_any(visitor),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for Node {
    type Error = Fault;

    parsed! {
        deserialize_bool, visit_bool, "`true` or `false`";
        deserialize_i8, visit_i8, "a whole number";
        deserialize_i16, visit_i16, "a whole number";
        deserialize_i32, visit_i32, "a whole number";
        deserialize_i64, visit_i64, "a whole number";
        deserialize_u8, visit_u8, "a whole number";
        deserialize_u16, visit_u16, "a whole number";
        deserialize_u32, visit_u32, "a whole number";
        deserialize_u64, visit_u64, "a whole number";
        deserialize_f32, visit_f32, "a number";
        deserialize_f64, visit_f64, "a number";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Boolean(value) => visitor.visit_bool(value),
            Self::Number(number) => {
                if let Some(value) = number.as_u64() {
                    visitor.visit_u64(value)
                } else if let Some(value) = number.as_i64() {
                    visitor.visit_i64(value)
                } else {
                    visitor.visit_f64(number.as_f64().unwrap_or_default())
                }
            }
            Self::Text(text) | Self::Parameter(text) => visitor.visit_string(text),
            Self::List(entries) => visitor.visit_seq(Entries { rest: entries.into_iter(), at: 0 }),
            Self::Members(members) => visitor.visit_map(Members::new(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Null => visitor.visit_none(),
            node => visitor.visit_some(node),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) | Self::Parameter(text) => {
                let text: de::value::StringDeserializer<Fault> = text.into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            Self::Members(members) => MapAccessDeserializer::new(Members::new(members))
                .deserialize_enum(name, variants, visitor),
            node => node.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

impl IntoDeserializer<'_, Fault> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Entries {
    rest: std::vec::IntoIter<Node>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Entries {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        seed.deserialize(node).map(Some).map_err(|fault| fault.below(&at.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Members {
    rest: std::vec::IntoIter<(String, Node)>,
    current: Option<(String, Node)>,
}

impl Members {
    fn new(members: Vec<(String, Node)>) -> Self {
        Self { rest: members.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Members {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((name, node)) = self.rest.next() else { return Ok(None) };
        let key: de::value::StringDeserializer<Fault> = name.clone().into_deserializer();
        self.current = Some((name, node));
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((name, node)) = self.current.take() else {
            return Err(de::Error::custom("a member without a name"));
        };
        seed.deserialize(node).map_err(|fault| fault.below(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::OrgId;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Outer {
        org_id: OrgId,
        inner: Option<Vec<Inner>>,
        kind: Option<Kind>,
        limit: Option<u16>,
        #[serde(default)]
        rest: serde_json::Value,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        size: u8,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    enum Kind {
        Ticket,
        Contact,
    }

    fn read(text: &str) -> Result<Outer, FieldError> {
        let node: Node = serde_json::from_str(text).unwrap();
        Outer::deserialize(node).map_err(Fault::in_body)
    }

    #[test]
    fn a_good_document_is_read_whole() {
        let outer = read(
            r#"{"orgId":"7","inner":[{"size":1}],"kind":"ticket","limit":3,"rest":{"a":[1.5,-2,null,true]}}"#,
        )
        .unwrap();
        assert_eq!(outer.inner, Some(vec![Inner { size: 1 }]));
        assert_eq!(outer.kind, Some(Kind::Ticket));
        assert_eq!(outer.rest, serde_json::json!({"a": [1.5, -2, null, true]}));
        assert_eq!(read(r#"{"orgId":"7","kind":null}"#).unwrap().kind, None);
    }

    #[test]
    fn every_fault_names_its_place() {
        use FieldErrorKind::{Duplicate, Invalid, Missing};
        for (text, place, kind, suggestion) in [
            (r#"{"inner":[]}"#, "/orgId", Missing, None),
            (r#"{"orgId":"1","inner":[{"size":1},{"size":"x"}]}"#, "/inner/1/size", Invalid, None),
            (r#"{"orgId":"1","inner":[{"size":300}]}"#, "/inner/0/size", Invalid, None),
            (r#"{"orgId":"1","inner":[{}]}"#, "/inner/0/size", Missing, None),
            (r#"{"orgId":"1","limits":2}"#, "/limits", Invalid, Some("limit")),
            (r#"{"orgId":"1","a/b~":2}"#, "/a~1b~0", Invalid, None),
            (r#"{"orgId":"1","orgId":"2"}"#, "/orgId", Duplicate, None),
            (r#"{"orgId":"1","kind":"tickt"}"#, "/kind", Invalid, Some("ticket")),
            (r#"{"orgId":""}"#, "/orgId", Invalid, None),
            (r"[]", "", Invalid, None),
            (r#"{"orgId":5}"#, "/orgId", Invalid, None),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.field_name, place, "{text}: {error:?}");
            assert_eq!(error.error_type, kind, "{text}: {error:?}");
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}: {error:?}");
        }
    }

    #[test]
    fn parameters_are_read_by_what_is_wanted() {
        let node = |limit: &str| {
            Node::Members(vec![
                ("orgId".to_owned(), Node::Parameter("12".to_owned())),
                ("limit".to_owned(), Node::Parameter(limit.to_owned())),
            ])
        };
        let outer = Outer::deserialize(node("20")).unwrap();
        assert_eq!((outer.org_id.as_str(), outer.limit), ("12", Some(20)));
        let error = Outer::deserialize(node("x")).map_err(Fault::in_query).unwrap_err();
        assert_eq!(error.field_name, "limit");
    }
}
