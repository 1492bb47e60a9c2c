//! Reads JSON and says precisely what is wrong with it.
//!
//! Strict by RFC 8259, but it goes on behind every fault that leaves no doubt about what was
//! meant, so that one run finds them all. Linear in the length of the text.

use super::code;
use super::json::{Kind, Member, Node, Object, Span, escape, shown};

/// The deepest nesting that is read.
pub(crate) const DEEPEST: usize = 64;
/// The most values that a document may hold.
pub(crate) const MOST_VALUES: usize = 100_000;
/// The most faults that are told of one text; the others are counted.
const MOST_FAULTS: usize = 200;
/// The longest key, in bytes: it comes back in the pointer of everything below it.
pub(crate) const LONGEST_KEY: usize = 1_000;
/// The longest pointer to a fault, in bytes; beyond it the pointer leads to what is around it.
const LONGEST_POINTER: usize = 2_000;

/// One thing that is wrong with a text.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) span: Span,
    pub(crate) pointer: String,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    /// Another part of the same text that belongs to it.
    pub(crate) related: Option<Span>,
}

/// What a text held: a value where it could be read to its end, and all faults.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) root: Option<Node>,
    pub(crate) faults: Vec<Fault>,
    /// How many more faults there were than are told.
    pub(crate) left_out: usize,
}

/// Reads a whole text.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut parser = Parser {
        text,
        bytes: text.as_bytes(),
        at: 0,
        path: Vec::new(),
        open: Vec::new(),
        values: 0,
        faults: Vec::new(),
        left_out: 0,
    };
    let root = parser.document();
    Parsed { root: root.ok(), faults: parser.faults, left_out: parser.left_out }
}

/// The rest of the text cannot be read; the fault is noted already.
pub(super) struct Lost;

pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    pub(super) bytes: &'t [u8],
    pub(super) at: usize,
    path: Vec<String>,
    /// Where the brackets that are open stand.
    open: Vec<usize>,
    values: usize,
    faults: Vec<Fault>,
    left_out: usize,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Node, Lost> {
        if self.text.starts_with('\u{FEFF}') {
            let span = Span { start: 0, end: 3 };
            let message = "the file begins with a byte-order mark".into();
            self.note(code::JSON_BYTE_ORDER_MARK, span, message, "save it as UTF-8 without a mark");
            self.at = 3;
        }
        self.blanks();
        if self.peek().is_none() {
            let span = Span { start: self.at, end: self.at };
            self.note(code::JSON_EMPTY, span, "the file is empty".into(), "begin with `{}`");
            return Err(Lost);
        }
        let root = self.value()?;
        self.blanks();
        if self.peek().is_some() {
            let message = format!("there is {} behind the end of the document", self.here());
            self.note(code::JSON_SYNTAX, self.one(), message, "remove it, or a bracket before it");
            return Err(Lost);
        }
        Ok(root)
    }

    fn value(&mut self) -> Result<Node, Lost> {
        self.values += 1;
        if self.values > MOST_VALUES {
            let message = format!("the file holds more than {MOST_VALUES} values");
            self.note(code::JSON_TOO_LARGE, self.one(), message, "keep the file small");
            return Err(Lost);
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.list()?,
            Some(b'"') => Kind::Text(self.string()?),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => self.number(),
            Some(_) => self.word()?,
            None => return Err(self.truncated()),
        };
        Ok(Node { span: Span { start, end: self.at }, kind })
    }

    fn enter(&mut self) -> Result<(), Lost> {
        if self.open.len() == DEEPEST {
            let message = format!("values are nested deeper than {DEEPEST} levels");
            self.note(code::JSON_TOO_DEEP, self.one(), message, "flatten the document");
            return Err(Lost);
        }
        self.open.push(self.at);
        self.at += 1;
        self.blanks();
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.open.pop();
    }

    fn object(&mut self) -> Result<Kind, Lost> {
        self.enter()?;
        let mut object = Object::default();
        let mut comma = None;
        loop {
            match self.peek() {
                Some(b'}') => {
                    self.trailing(comma);
                    self.leave();
                    return Ok(Kind::Object(object));
                }
                None => return Err(self.truncated()),
                Some(_) => {}
            }
            let key_start = self.at;
            let key = self.key()?;
            let key_span = Span { start: key_start, end: self.at };
            if key.len() > LONGEST_KEY {
                let message = format!(
                    "a key has {} bytes; {LONGEST_KEY} is the most, and nothing behind it is read",
                    key.len()
                );
                self.note(code::JSON_TOO_LARGE, key_span, message, "give it a shorter name");
                return Err(Lost);
            }
            self.path.push(key.clone());
            self.blanks();
            match self.peek() {
                Some(b':') => self.at += 1,
                None => return Err(self.truncated()),
                Some(_) => {
                    let message = format!(
                        "expected `:` after the key `{}`, but there is {}",
                        shown(&key),
                        self.here()
                    );
                    self.note(code::JSON_SYNTAX, self.one(), message, "put a `:` before the value");
                    return Err(Lost);
                }
            }
            self.blanks();
            let value = self.value()?;
            if let Some(former) = object.insert(Member { key, key_span, value }) {
                self.duplicate(key_span, former);
            }
            self.path.pop();
            comma = self.separator(b'}')?;
        }
    }

    fn duplicate(&mut self, key_span: Span, former: Span) {
        let told = self.faults.len();
        let key = self.path.last().map(|key| shown(key)).unwrap_or_default();
        let message = format!("the key `{key}` is in this object twice; only one would count");
        self.note(code::JSON_DUPLICATE_KEY, key_span, message, "remove one of them");
        if let Some(fault) = self.faults.get_mut(told) {
            fault.related = Some(former);
        }
    }

    fn key(&mut self) -> Result<String, Lost> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string(),
            Some(byte) if byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$' => {
                let key = self.run(|byte| byte.is_ascii_alphanumeric() || b"_$-.".contains(&byte));
                let span = Span { start, end: self.at };
                let message = "keys must be in double quotes".to_owned();
                self.note(
                    code::JSON_SYNTAX,
                    span,
                    message,
                    &format!("write `\"{}\"`", shown(&key)),
                );
                Ok(key)
            }
            _ => {
                if let Some(text) = self.misquoted()? {
                    return Ok(text);
                }
                let message =
                    format!("expected a key in double quotes, but there is {}", self.here());
                let hint = match self.peek() {
                    Some(b',') => "remove the comma",
                    _ => "write `\"name\": value`, or close the object with `}`",
                };
                self.note(code::JSON_SYNTAX, self.one(), message, hint);
                Err(Lost)
            }
        }
    }

    fn list(&mut self) -> Result<Kind, Lost> {
        self.enter()?;
        let mut items = Vec::new();
        let mut comma = None;
        loop {
            match self.peek() {
                Some(b']') => {
                    self.trailing(comma);
                    self.leave();
                    return Ok(Kind::List(items));
                }
                None => return Err(self.truncated()),
                Some(_) => {}
            }
            self.path.push(items.len().to_string());
            items.push(self.value()?);
            self.path.pop();
            comma = self.separator(b']')?;
        }
    }

    /// Reads what stands between two members or items. Gives back where the comma was.
    fn separator(&mut self, close: u8) -> Result<Option<usize>, Lost> {
        let end = self.at;
        self.blanks();
        match self.peek() {
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.blanks();
                Ok(Some(comma))
            }
            Some(byte) if byte == close => Ok(None),
            None => Err(self.truncated()),
            Some(byte) if byte == b'"' || (close == b']' && starts_value(byte)) => {
                let span = Span { start: end.saturating_sub(1), end };
                let message = "a comma is missing after this".to_owned();
                self.note(code::JSON_MISSING_COMMA, span, message, "add a `,`");
                Ok(None)
            }
            Some(_) => {
                let close = char::from(close);
                let message = format!("expected `,` or `{close}`, but there is {}", self.here());
                let opened = self.open.last().map(|&start| Span { start, end: start + 1 });
                let hint = format!("put a `,` before a further entry, or end with `{close}`");
                let told = self.faults.len();
                self.note(code::JSON_SYNTAX, self.one(), message, &hint);
                if let Some(fault) = self.faults.get_mut(told) {
                    fault.related = opened;
                }
                Err(Lost)
            }
        }
    }

    fn trailing(&mut self, comma: Option<usize>) {
        if let Some(start) = comma {
            let span = Span { start, end: start + 1 };
            let message = "there is a comma behind the last entry".to_owned();
            self.note(code::JSON_TRAILING_COMMA, span, message, "remove the comma");
        }
    }

    fn number(&mut self) -> Kind {
        let start = self.at;
        let text = self.run(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if let Ok(number) = serde_json::from_str::<serde_json::Number>(&text) {
            return Kind::Number(number);
        }
        let span = Span { start, end: self.at };
        let message = format!("{} is not a number in JSON", self.quoted(&text));
        let hint = "write digits without leading zeros, plus signs or units, and within the range";
        self.note(code::JSON_NUMBER, span, message, hint);
        Kind::Number(0.into())
    }

    fn word(&mut self) -> Result<Kind, Lost> {
        let start = self.at;
        if let Some(text) = self.misquoted()? {
            return Ok(Kind::Text(text));
        }
        let word = self.run(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(&byte));
        let known = match word.as_str() {
            "null" => return Ok(Kind::Null),
            "true" => return Ok(Kind::Boolean(true)),
            "false" => return Ok(Kind::Boolean(false)),
            "True" | "TRUE" => Some(("true", Kind::Boolean(true))),
            "False" | "FALSE" => Some(("false", Kind::Boolean(false))),
            "None" | "NULL" | "Null" | "nil" | "undefined" => Some(("null", Kind::Null)),
            _ => None,
        };
        let span = Span { start, end: self.at };
        if let Some((meant, kind)) = known {
            let message = format!("`{word}` is not a value in JSON");
            self.note(code::JSON_SYNTAX, span, message, &format!("write `{meant}`"));
            return Ok(kind);
        }
        if word.is_empty() {
            let message = format!("expected a value, but there is {}", self.here());
            let hint = "write a text, a number, `true`, `false`, `null`, a list or an object";
            self.note(code::JSON_SYNTAX, self.one(), message, hint);
        } else {
            let message = format!("{} is not a value in JSON", self.quoted(&word));
            self.note(code::JSON_SYNTAX, span, message, "put texts in double quotes");
        }
        Err(Lost)
    }

    /// Moves over blanks, and over comments with a fault.
    fn blanks(&mut self) {
        loop {
            while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
                self.at += 1;
            }
            let start = self.at;
            let rest = &self.bytes[start..];
            let length = if rest.starts_with(b"//") {
                rest.iter().position(|&byte| byte == b'\n')
            } else if rest.starts_with(b"/*") {
                rest.windows(2).skip(2).position(|pair| pair == b"*/").map(|inner| inner + 4)
            } else {
                return;
            };
            self.at = length.map_or(self.bytes.len(), |length| start + length);
            let message = "JSON has no comments".to_owned();
            self.note(code::JSON_COMMENT, Span { start, end: self.at }, message, "remove it");
        }
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        self.text[start..self.at].to_owned()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next place at which a character begins.
    pub(super) fn boundary(&self, mut at: usize) -> usize {
        at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at += 1;
        }
        at
    }

    /// The one character that is next.
    pub(super) fn one(&self) -> Span {
        Span { start: self.at, end: self.boundary(self.at + 1) }
    }

    /// A piece of the text for a message; what may be a secret is not repeated.
    fn quoted(&self, piece: &str) -> String {
        match self.path.last() {
            Some(key) if key.to_ascii_lowercase().ends_with("secret") => "this".to_owned(),
            _ => format!("`{}`", shown(piece)),
        }
    }

    /// The next character in words.
    fn here(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(character) if !character.is_control() => {
                format!("`{}`", shown(&character.to_string()))
            }
            Some(character) => format!("the character U+{:04X}", u32::from(character)),
            None => "the end of the file".into(),
        }
    }

    pub(super) fn truncated(&mut self) -> Lost {
        let told = self.faults.len();
        let end = self.text.len();
        let inside = self.open.last().copied();
        let what = match inside.map(|start| self.bytes[start]) {
            Some(b'{') => "inside an object",
            Some(_) => "inside a list",
            None => "in the middle of a value",
        };
        let hint = match inside.map(|start| self.bytes[start]) {
            Some(b'{') => "close it with `}`; is the file cut off?",
            Some(_) => "close it with `]`; is the file cut off?",
            None => "is the file cut off?",
        };
        self.note(
            code::JSON_TRUNCATED,
            Span { start: end, end },
            format!("the file ends {what}"),
            hint,
        );
        if let Some(fault) = self.faults.get_mut(told) {
            fault.related = inside.map(|start| Span { start, end: start + 1 });
        }
        Lost
    }

    pub(super) fn note(
        &mut self,
        code: &'static str,
        span: Span,
        message: String,
        suggestion: &str,
    ) {
        if self.faults.len() >= MOST_FAULTS {
            self.left_out += 1;
            return;
        }
        let mut pointer = String::new();
        for key in &self.path {
            let key = escape(key);
            if pointer.len() + key.len() > LONGEST_POINTER {
                break;
            }
            pointer.push('/');
            pointer.push_str(&key);
        }
        let suggestion = Some(suggestion.to_owned());
        self.faults.push(Fault { code, span, pointer, message, suggestion, related: None });
    }
}

fn starts_value(byte: u8) -> bool {
    matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Code, first byte and pointer of every fault.
    fn faults(text: &str) -> Vec<(&'static str, usize, String)> {
        (parse(text).faults.into_iter())
            .map(|fault| (fault.code, fault.span.start, fault.pointer))
            .collect()
    }

    fn one(text: &str) -> (&'static str, usize) {
        match faults(text).as_slice() {
            [(code, at, _)] => (*code, *at),
            several => panic!("{text}: {several:?}"),
        }
    }

    #[test]
    fn each_fault_is_found_where_it_is() {
        assert_eq!(one("{\"a\":1,}"), (code::JSON_TRAILING_COMMA, 6));
        assert_eq!(one("[1,2 , ]"), (code::JSON_TRAILING_COMMA, 5));
        assert_eq!(one("{\"a\":1,\"a\":2}"), (code::JSON_DUPLICATE_KEY, 7));
        assert_eq!(one("{\"a\":1 \"b\":2}"), (code::JSON_MISSING_COMMA, 5));
        assert_eq!(one("[1 2]"), (code::JSON_MISSING_COMMA, 1));
        assert_eq!(one("\u{feff}{}"), (code::JSON_BYTE_ORDER_MARK, 0));
        assert_eq!(one("{ // x\n}"), (code::JSON_COMMENT, 2));
        assert_eq!(one("{ /* x */ }"), (code::JSON_COMMENT, 2));
        assert_eq!(one("{\"a\":"), (code::JSON_TRUNCATED, 5));
        assert_eq!(one("{\"a\":\"b"), (code::JSON_TRUNCATED, 7));
        assert_eq!(one("{\"a\":\"b\\"), (code::JSON_TRUNCATED, 8));
        assert_eq!(one("[\"a\nb\"]"), (code::JSON_STRING, 1));
        assert_eq!(one("[\"a\tb\"]"), (code::JSON_STRING, 3));
        assert_eq!(one("[\"a\\x\"]"), (code::JSON_STRING, 3));
        assert_eq!(one("[\"\\ud800\"]"), (code::JSON_STRING, 2));
        assert_eq!(faults("[\"\\udc00\\ud800x\"]").len(), 2);
        assert_eq!(one("[01]"), (code::JSON_NUMBER, 1));
        assert_eq!(one("[1e999]"), (code::JSON_NUMBER, 1));
        assert_eq!(one("[True]"), (code::JSON_SYNTAX, 1));
        assert_eq!(one("['a']"), (code::JSON_SYNTAX, 1));
        assert_eq!(one("{\u{201c}a\u{201d}:1}"), (code::JSON_SYNTAX, 1));
        assert_eq!(one("{a:1}"), (code::JSON_SYNTAX, 1));
        assert_eq!(one("{} x"), (code::JSON_SYNTAX, 3));
        assert_eq!(one("{\"a\":1]"), (code::JSON_SYNTAX, 6));
        assert_eq!(one(" \n"), (code::JSON_EMPTY, 2));
        assert_eq!(one(&"[".repeat(65)), (code::JSON_TOO_DEEP, 64));
    }

    #[test]
    fn all_faults_of_a_text_are_found_in_one_pass() {
        let text = "{\n  \"a\": [1, 2,],\n  \"b\": {\"c\": 1, \"c\": 2,},\n  'd': True,\n}";
        let codes: Vec<_> = faults(text).into_iter().map(|(code, ..)| code).collect();
        assert_eq!(
            codes,
            [
                code::JSON_TRAILING_COMMA,
                code::JSON_DUPLICATE_KEY,
                code::JSON_TRAILING_COMMA,
                code::JSON_SYNTAX,
                code::JSON_SYNTAX,
                code::JSON_TRAILING_COMMA
            ]
        );
        assert!(parse(text).root.is_some());
    }

    #[test]
    fn pointers_lead_to_the_fault() {
        assert_eq!(faults("{\"a/b\":[{}, {\"c\":1,\"c\":2}]}")[0].2, "/a~1b/1/c");
    }

    #[test]
    fn faults_beyond_the_bound_are_counted() {
        let parsed = parse(&format!("{{{}\"a\":1}}", "\"a\":1,".repeat(10_000)));
        assert_eq!((parsed.faults.len(), parsed.left_out), (200, 9_800));
        assert!(parsed.root.is_some());
    }

    #[test]
    fn endless_keys_make_no_endless_pointers() {
        let key = "k".repeat(LONGEST_KEY + 1);
        assert_eq!(one(&format!("{{\"{key}\":[]}}")), (code::JSON_TOO_LARGE, 1));
        let key = "k".repeat(LONGEST_KEY);
        let nested = format!("{{\"{key}\":").repeat(40);
        let faults = faults(&format!("{nested}{{\"a\":1,\"a\":1,"));
        assert!(faults.iter().all(|(_, _, pointer)| pointer.len() <= LONGEST_POINTER + 1));
        assert_eq!(faults.len(), 2, "the same key twice, and the end");
    }

    #[test]
    fn too_many_values_are_refused() {
        let text = format!("[{}]", vec!["0"; MOST_VALUES].join(","));
        assert_eq!(one(&text).0, code::JSON_TOO_LARGE);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_writes(value in json(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_string_pretty(&value)
            } else {
                serde_json::to_string(&value)
            }.expect("JSON");
            let parsed = parse(&text);
            prop_assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
            let reference: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(parsed.root.expect("a value").to_value(), reference);
        }

        #[test]
        fn is_as_strict_as_serde(text in "[\\[\\]{}\",:0-9a-z \\\\\n\u{fe}-]{0,40}") {
            let reference = serde_json::from_str::<serde_json::Value>(&text);
            let parsed = parse(&text);
            prop_assert_eq!(
                reference.is_ok(),
                parsed.faults.iter().all(|fault| fault.code == code::JSON_DUPLICATE_KEY),
                "{:?}", reference
            );
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(text) = super::super::encoding::decode(&bytes, 300) {
                parse(text);
            }
            parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
