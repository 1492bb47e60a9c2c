//! The values of placeholders, and how each is written where it stands.

use serde_json::Value;

use super::json::is_whole_number;
use super::text::{Escape, Output};
use crate::dialect::RenderError;
use crate::dialect::placeholders::Scene;

/// Where the values of one rendering come from. Remembers which were missing.
#[derive(Debug)]
pub(in crate::dialect) struct Values<'v> {
    scene: &'v Scene<'v>,
    empty: Vec<String>,
}

impl<'v> Values<'v> {
    pub(in crate::dialect) fn new(scene: &'v Scene<'v>) -> Self {
        Self { scene, empty: Vec::new() }
    }

    /// The placeholders that had no value.
    pub(in crate::dialect) fn into_empty(self) -> Vec<String> {
        self.empty
    }

    /// Writes a value.
    pub(super) fn write(
        &mut self,
        name: &str,
        escape: Escape,
        output: &mut Output,
    ) -> Result<(), RenderError> {
        let found = self.scene.value(name);
        let value = found.as_deref().unwrap_or(&Value::Null);
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        };
        if is_empty && !self.empty.iter().any(|known| known == name) {
            self.empty.push(name.to_owned());
        }
        if escape != Escape::JsonValue {
            return escaped(&as_text(value), escape, output);
        }
        match value {
            Value::String(text) if is_whole_number(text) => output.push(text),
            other => output.push(&other.to_string()),
        }
    }
}

/// A value as people read it: nothing for null, a list of plain values joined by commas.
fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if !items.iter().any(|item| item.is_array() || item.is_object()) => {
            items.iter().map(as_text).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Writes a text so that it stays inside of its place.
fn escaped(text: &str, escape: Escape, output: &mut Output) -> Result<(), RenderError> {
    match escape {
        Escape::None => output.push(text),
        Escape::JsonString | Escape::JsonValue => {
            let quoted = Value::from(text).to_string();
            let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
            output.push(inside)
        }
        Escape::Xml => text.chars().try_for_each(|character| match character {
            '&' => output.push("&amp;"),
            '<' => output.push("&lt;"),
            '>' => output.push("&gt;"),
            '"' => output.push("&quot;"),
            '\'' => output.push("&apos;"),
            '\r' => output.push("&#13;"),
            // Two of them before a > that was written by hand would end what is no section.
            ']' => output.push("&#93;"),
            other => output.push_char(xml_character(other)),
        }),
        Escape::Cdata => cdata(text, output),
        Escape::PathSegment | Escape::Query => percent_encoded(text, output),
    }
}

/// A character that XML 1.0 allows; others become the replacement character.
fn xml_character(character: char) -> char {
    match character {
        '\t' | '\n' | '\r' => character,
        '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        other => other,
    }
}

/// A section must not end inside of a value, nor where a value and what surrounds it meet.
fn cdata(text: &str, output: &mut Output) -> Result<(), RenderError> {
    const SPLIT: &str = "]]><![CDATA[";
    if text.starts_with([']', '>']) {
        output.push(SPLIT)?;
    }
    let mut brackets = 0;
    for character in text.chars() {
        if character == '>' && brackets >= 2 {
            output.push(SPLIT)?;
        }
        brackets = if character == ']' { brackets + 1 } else { 0 };
        output.push_char(xml_character(character))?;
    }
    if brackets > 0 {
        output.push(SPLIT)?;
    }
    Ok(())
}

/// Percent-encodes everything that RFC 3986 does not call unreserved.
fn percent_encoded(text: &str, output: &mut Output) -> Result<(), RenderError> {
    text.bytes().try_for_each(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            output.push_char(char::from(byte))
        }
        other => output.push(&format!("%{other:02X}")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(text: &str, escape: Escape) -> String {
        let mut output = Output::new("payload");
        escaped(text, escape, &mut output).unwrap();
        output.take()
    }

    #[test]
    fn values_become_text() {
        for (value, text) in [
            (serde_json::json!(null), ""),
            (serde_json::json!("a"), "a"),
            (serde_json::json!(1.5), "1.5"),
            (serde_json::json!(true), "true"),
            (serde_json::json!(["a", 1, null]), "a, 1, "),
            (serde_json::json!({"a": 1}), r#"{"a":1}"#),
        ] {
            assert_eq!(as_text(&value), text);
        }
    }

    #[test]
    fn hostile_values_stay_in_their_places() {
        assert_eq!(write("\"},\n", Escape::JsonString), "\\\"},\\n");
        assert_eq!(write("</a>&'\"\0", Escape::Xml), "&lt;/a&gt;&amp;&apos;&quot;\u{fffd}");
        assert_eq!(write("../a?b#c%", Escape::PathSegment), "..%2Fa%3Fb%23c%25");
        assert_eq!(write("a&b=c d+ä", Escape::Query), "a%26b%3Dc%20d%2B%C3%A4");
    }

    /// What a reader makes of the content of CDATA sections, or nothing where markup gets out.
    fn read_cdata(xml: &str) -> Option<String> {
        let (mut rest, mut read) = (xml, String::new());
        while !rest.is_empty() {
            let inside = rest.strip_prefix("<![CDATA[")?;
            let (content, after) = inside.split_once("]]>")?;
            read.push_str(content);
            rest = after;
        }
        Some(read)
    }

    proptest! {
        #[test]
        fn a_cdata_section_never_ends_early(
            before in "[\\]a>]{0,3}", value in "[\\]>a<]{0,8}", after in "[\\]a]{0,3}",
        ) {
            // What is written by hand holds no end of its own.
            prop_assume!(!before.contains("]]>"));
            let xml = format!("<![CDATA[{before}{}{after}]]>", write(&value, Escape::Cdata));
            prop_assert_eq!(read_cdata(&xml), Some(format!("{before}{value}{after}")));
        }

        #[test]
        fn a_json_string_reads_back(value in "\\PC*|[\\x00-\\x7f]*") {
            let json = format!("\"{}\"", write(&value, Escape::JsonString));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
        }

        #[test]
        fn a_query_value_reads_back(value in "\\PC*") {
            let query = format!("a={}&b=1", write(&value, Escape::Query));
            let read: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!(&read[0].1, &value);
        }
    }
}
