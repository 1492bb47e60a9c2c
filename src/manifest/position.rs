//! A JSON reader that remembers where everything stands.
//!
//! `serde_json` forgets positions and takes the last of two equal keys in silence; a vendor who is
//! told "line 12, column 7" repairs a file in seconds. The reader is linear in the text, bounds
//! its depth and never panics. It goes on past faults that it can read over (a byte order mark, a
//! trailing comma, a duplicate key) and stops at the first that it can't.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The deepest nesting that is read.
pub(crate) const MAX_DEPTH: usize = 64;
/// The most faults that are kept of one text.
const MAX_FAULTS: usize = 100;

/// A fault of the text itself, before any rule about its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    pub(crate) pointer: String,
    /// Byte offset in the text.
    pub(crate) offset: usize,
}

/// Where a value stands, and its children.
#[derive(Debug)]
struct Node {
    key: Option<usize>,
    value: usize,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    Items(Vec<Node>),
    Members(BTreeMap<String, Node>),
}

/// Which part of a member a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The key (the value, for the root and for array items).
    Key,
    /// The value.
    Value,
}

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Document {
    /// The value; absent if the text could not be read to its end.
    pub(crate) value: Option<Value>,
    /// What is wrong with the text.
    pub(crate) faults: Vec<Fault>,
    root: Option<Node>,
    lines: Vec<usize>,
}

impl Document {
    /// Reads a text.
    pub(crate) fn read(text: &str) -> Self {
        let mut reader = Reader { text, at: 0, path: Vec::new(), faults: Vec::new() };
        let (value, root) = match reader.document() {
            Some((value, node)) => (Some(value), Some(node)),
            None => (None, None),
        };
        let lines = std::iter::once(0)
            .chain(
                text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1),
            )
            .collect();
        Self { value, faults: reader.faults, root, lines }
    }

    /// The byte offset of what a JSON pointer names; of its nearest ancestor if it names nothing.
    pub(crate) fn offset(&self, pointer: &str, part: Part) -> Option<usize> {
        let mut node = self.root.as_ref()?;
        for token in pointer.split('/').skip(1) {
            let child = match &node.children {
                Children::None => None,
                Children::Items(items) => {
                    token.parse::<usize>().ok().and_then(|index| items.get(index))
                }
                Children::Members(members) => {
                    members.get(&token.replace("~1", "/").replace("~0", "~"))
                }
            };
            let Some(child) = child else { break };
            node = child;
        }
        Some(match part {
            Part::Key => node.key.unwrap_or(node.value),
            Part::Value => node.value,
        })
    }

    /// The line and the column of a byte offset, both from 1; columns count characters.
    pub(crate) fn line_and_column(&self, text: &str, offset: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}

enum Segment {
    Key(String),
    Index(usize),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Segment>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn document(&mut self) -> Option<(Value, Node)> {
        if self.text.starts_with('\u{feff}') {
            self.fault("json.byte-order-mark", 0, "the file starts with a byte order mark");
            self.suggest("save the file as UTF-8 without a byte order mark");
            self.at = '\u{feff}'.len_utf8();
        }
        self.space();
        if self.peek().is_none() {
            self.fault("json.truncated", self.at, "the file is empty");
            return None;
        }
        let read = self.value(1)?;
        self.space();
        if self.peek().is_some() {
            self.fault("json.syntax", self.at, "there is text after the end of the document");
            return None;
        }
        Some(read)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for segment in &self.path {
            pointer.push('/');
            match segment {
                Segment::Key(key) => pointer.push_str(&super::diagnostic::escaped(key)),
                Segment::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    fn fault(&mut self, code: &'static str, offset: usize, message: &str) {
        if self.faults.len() < MAX_FAULTS {
            let pointer = self.pointer();
            let message = message.to_owned();
            self.faults.push(Fault { code, message, suggestion: None, pointer, offset });
        }
    }

    fn suggest(&mut self, suggestion: &str) {
        if let Some(fault) = self.faults.last_mut() {
            fault.suggestion = Some(suggestion.to_owned());
        }
    }

    /// Reports what stands where something else was expected.
    fn unexpected(&mut self, expected: &str) {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => {
                let message = format!("the file ends where {expected} is expected");
                self.fault("json.truncated", self.at, &message);
            }
            Some(found) => {
                let message = format!("{found:?} stands where {expected} is expected");
                self.fault("json.syntax", self.at, &message);
                match found {
                    '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' | '\'' => {
                        self.suggest("use straight double quotes: \"");
                    }
                    '/' | '#' => self.suggest("JSON has no comments: take it out"),
                    _ => {}
                }
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<(Value, Node)> {
        let start = self.at;
        let leaf =
            |value| Some((value, Node { key: None, value: start, children: Children::None }));
        match self.peek() {
            Some(b'{' | b'[') if depth > MAX_DEPTH => {
                let message = format!("the document is nested deeper than {MAX_DEPTH} levels");
                self.fault("json.too-deep", start, &message);
                None
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => leaf(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                leaf(number)
            }
            _ => {
                for (word, value) in [
                    ("true", Value::Bool(true)),
                    ("false", Value::Bool(false)),
                    ("null", Value::Null),
                ] {
                    if self.text.get(start..).is_some_and(|rest| rest.starts_with(word)) {
                        self.at += word.len();
                        return leaf(value);
                    }
                }
                self.unexpected("a value");
                None
            }
        }
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let number = serde_json::from_str(self.text.get(start..self.at)?).ok();
        if number.is_none() {
            self.fault("json.syntax", start, "this is not a number of JSON, or out of range");
        }
        number
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => {
                    self.fault("json.truncated", start, "the file ends inside of this string");
                    return None;
                }
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(b'\n' | b'\r') => {
                    self.fault("json.syntax", start, "this string is not closed on its line");
                    return None;
                }
                Some(byte) if byte < 0x20 => {
                    self.fault("json.syntax", self.at, "a string holds a control character");
                    self.suggest("write it as an escape, such as \\t");
                    return None;
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let read = self.text.get(start..self.at).and_then(|raw| serde_json::from_str(raw).ok());
        if read.is_none() {
            self.fault("json.syntax", start, "this string holds an escape that JSON lacks");
        }
        read
    }

    /// After an element: true if another follows, false at the end, `None` after a fault.
    fn separator(&mut self, close: u8) -> Option<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.space();
                if self.peek() == Some(close) {
                    self.fault("json.trailing-comma", comma, "nothing follows this comma");
                    self.suggest("take the comma out");
                    self.at += 1;
                    return Some(false);
                }
                Some(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Some(false)
            }
            _ => {
                self.unexpected(if close == b'}' {
                    "a comma or \"}\""
                } else {
                    "a comma or \"]\""
                });
                None
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<(Value, Node)> {
        let start = self.at;
        self.at += 1;
        let (mut values, mut nodes) = (Vec::new(), Vec::new());
        self.space();
        let mut more = self.peek() != Some(b']');
        if !more {
            self.at += 1;
        }
        while more {
            self.space();
            self.path.push(Segment::Index(values.len()));
            let (value, node) = self.value(depth + 1)?;
            self.path.pop();
            values.push(value);
            nodes.push(node);
            more = self.separator(b']')?;
        }
        let node = Node { key: None, value: start, children: Children::Items(nodes) };
        Some((Value::Array(values), node))
    }

    fn object(&mut self, depth: usize) -> Option<(Value, Node)> {
        let start = self.at;
        self.at += 1;
        let mut values = Map::new();
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        self.space();
        let mut more = self.peek() != Some(b'}');
        if !more {
            self.at += 1;
        }
        while more {
            self.space();
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                self.unexpected("a key in double quotes");
                return None;
            }
            let key = self.string()?;
            self.path.push(Segment::Key(key.clone()));
            if values.contains_key(&key) {
                self.fault("json.duplicate-key", key_at, "this key stands here a second time");
                self.suggest("keep one of the two");
            }
            self.space();
            if self.peek() != Some(b':') {
                self.unexpected("a colon");
                return None;
            }
            self.at += 1;
            self.space();
            let (value, mut node) = self.value(depth + 1)?;
            self.path.pop();
            node.key = Some(key_at);
            // The first of two equal keys stays, so that each fault keeps its place.
            if !values.contains_key(&key) {
                values.insert(key.clone(), value);
                nodes.insert(key, node);
            }
            more = self.separator(b'}')?;
        }
        let node = Node { key: None, value: start, children: Children::Members(nodes) };
        Some((Value::Object(values), node))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(text: &str, pointer: &str, part: Part) -> (u32, u32) {
        let document = Document::read(text);
        document.line_and_column(text, document.offset(pointer, part).expect("read"))
    }

    fn codes(text: &str) -> Vec<&'static str> {
        Document::read(text).faults.iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn keys_and_values_have_their_lines_and_columns() {
        let text = "{\n  \"a/b\": [1,\n    {\"ü~\": true}]\n}";
        assert_eq!(place(text, "/a~1b", Part::Key), (2, 3));
        assert_eq!(place(text, "/a~1b", Part::Value), (2, 10));
        assert_eq!(place(text, "/a~1b/1/ü~0", Part::Value), (3, 12));
        assert_eq!(place(text, "/a~1b/7/x", Part::Value), (2, 10));
    }

    #[test]
    fn what_can_be_read_over_is_told_together() {
        let text = "\u{feff}{\"a\":1,\"a\":[2,],}";
        assert_eq!(
            codes(text),
            [
                "json.byte-order-mark",
                "json.duplicate-key",
                "json.trailing-comma",
                "json.trailing-comma"
            ]
        );
        assert_eq!(Document::read(text).value, Some(serde_json::json!({"a": 1})));
    }

    #[test]
    fn what_can_not_be_read_over_ends_the_reading() {
        for (text, code) in [
            ("", "json.truncated"),
            ("{\"a\":", "json.truncated"),
            ("{\"a\": \"x", "json.truncated"),
            ("{\"a\" 1}", "json.syntax"),
            ("{\u{201c}a\u{201d}: 1}", "json.syntax"),
            ("[01]", "json.syntax"),
            ("[1e999]", "json.syntax"),
            ("[\"\\ud800\"]", "json.syntax"),
            ("{} {}", "json.syntax"),
            ("// x\n{}", "json.syntax"),
        ] {
            assert_eq!(codes(text), [code], "{text}");
            assert!(Document::read(text).value.is_none());
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(codes(&"[".repeat(1_000_000)), ["json.too-deep"]);
        let fits = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(codes(&fits).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*|[\\[\\]{}\",:0-9a\\\\\n]*") {
            let document = Document::read(&text);
            for fault in &document.faults {
                document.line_and_column(&text, fault.offset);
            }
        }

        #[test]
        fn accepts_what_serde_accepts_and_nothing_else(text in "[\\[\\]{}\",:0-9.eE+ \\-tnul]{0,24}") {
            let document = Document::read(&text);
            let ours = document.value.filter(|_| document.faults.is_empty());
            let theirs = serde_json::from_str::<Value>(&text).ok();
            let duplicate = document.faults.iter().any(|fault| fault.code == "json.duplicate-key");
            if !duplicate {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
