//! A JSON document that remembers where each of its parts stands.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Map, Number, Value};

use super::position::Positions;

/// Objects with more members than this look their members up in a hash table.
const INDEXED_FROM: usize = 16;

/// The bytes that a part of the text takes, from its first to behind its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Object),
}

/// One key of an object with its value.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// The members of an object in the order of the text. Each key is there once: of a key that
/// comes twice the last one counts, as in every widespread parser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    members: Vec<Member>,
    index: HashMap<String, usize>,
}

impl Object {
    /// Adds a member. Gives back the place of the key that it replaces.
    pub(super) fn insert(&mut self, member: Member) -> Option<Span> {
        let position = if self.index.is_empty() {
            self.position(&member.key)
        } else {
            match self.index.entry(member.key.clone()) {
                Entry::Occupied(known) => Some(*known.get()),
                Entry::Vacant(place) => {
                    place.insert(self.members.len());
                    None
                }
            }
        };
        if let Some(position) = position {
            let former = self.members[position].key_span;
            self.members[position] = member;
            return Some(former);
        }
        if self.index.is_empty() && self.members.len() == INDEXED_FROM {
            self.index = (self.members.iter().chain([&member]).enumerate())
                .map(|(position, member)| (member.key.clone(), position))
                .collect();
        }
        self.members.push(member);
        None
    }

    fn position(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.members.iter().position(|member| member.key == key)
        } else {
            self.index.get(key).copied()
        }
    }

    /// The member of that key.
    pub(crate) fn get(&self, key: &str) -> Option<&Member> {
        self.position(key).map(|position| &self.members[position])
    }

    /// All members in the order of the text.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }
}

impl Node {
    /// The same value without places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Boolean(flag) => Value::Bool(*flag),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Kind::Object(object) => Value::Object(
                (object.members.iter())
                    .map(|member| (member.key.clone(), member.value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

/// A parsed file.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The name of the file in the package.
    pub(crate) file: String,
    /// The whole value.
    pub(crate) root: Node,
    /// Lines and columns; none where the text isn't a file's.
    pub(crate) positions: Option<Positions>,
}

impl Document {
    /// The whole value, to walk from.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { document: self, node: &self.root, key: None, pointer: String::new() }
    }

    /// The part that a JSON Pointer names.
    pub(crate) fn find(&self, pointer: &str) -> Option<Cursor<'_>> {
        let mut cursor = self.cursor();
        for segment in pointer.split('/').skip(1) {
            cursor = cursor.step(&unescape(segment))?;
        }
        Some(cursor)
    }
}

/// Where something stands: file, JSON Pointer and, within a text, bytes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) pointer: String,
    pub(crate) span: Option<Span>,
}

/// A part of a document with the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'d> {
    document: &'d Document,
    node: &'d Node,
    key: Option<Span>,
    pointer: String,
}

impl<'d> Cursor<'d> {
    /// The member of an object.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let Kind::Object(object) = &self.node.kind else { return None };
        object.get(key).map(|member| self.member(member))
    }

    /// One of the members of this object.
    pub(crate) fn member(&self, member: &'d Member) -> Self {
        Self {
            document: self.document,
            node: &member.value,
            key: Some(member.key_span),
            pointer: format!("{}/{}", self.pointer, escape(&member.key)),
        }
    }

    fn step(&self, segment: &str) -> Option<Self> {
        match &self.node.kind {
            Kind::List(items) => Some(Self {
                document: self.document,
                node: items.get(segment.parse::<usize>().ok()?)?,
                key: None,
                pointer: format!("{}/{segment}", self.pointer),
            }),
            _ => self.get(segment),
        }
    }

    /// The items of a list; none where it isn't one.
    pub(crate) fn items(&self) -> impl Iterator<Item = Self> + use<'d> {
        let items = match &self.node.kind {
            Kind::List(items) => items.as_slice(),
            _ => &[],
        };
        let (document, pointer) = (self.document, self.pointer.clone());
        items.iter().enumerate().map(move |(position, node)| Self {
            document,
            node,
            key: None,
            pointer: format!("{pointer}/{position}"),
        })
    }

    /// The members of an object with their keys; none where it isn't one.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&'d str, Self)> + use<'d> {
        let members = match &self.node.kind {
            Kind::Object(object) => object.members(),
            _ => &[],
        };
        let parent = self.clone();
        members.iter().map(move |member| (member.key.as_str(), parent.member(member)))
    }

    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&'d str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a member.
    pub(crate) fn text_of(&self, key: &str) -> Option<&'d str> {
        self.get(key).and_then(|member| member.text())
    }

    /// The flag of a member.
    pub(crate) fn flag_of(&self, key: &str) -> Option<bool> {
        match self.get(key)?.node.kind {
            Kind::Boolean(flag) => Some(flag),
            _ => None,
        }
    }

    /// What the value is.
    pub(crate) fn kind(&self) -> &'d Kind {
        &self.node.kind
    }

    /// The way to it.
    pub(crate) fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Where the value stands.
    pub(crate) fn at_value(&self) -> Place {
        self.place(self.node.span)
    }

    /// Where it is named: its key, or the value itself where it has none.
    pub(crate) fn at_key(&self) -> Place {
        self.place(
            self.key.unwrap_or(Span { start: self.node.span.start, end: self.node.span.start + 1 }),
        )
    }

    fn place(&self, span: Span) -> Place {
        Place { file: self.document.file.clone(), pointer: self.pointer.clone(), span: Some(span) }
    }
}

/// A key as a segment of a JSON Pointer (RFC 6901).
pub(crate) fn escape(key: &str) -> String {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1") } else { key.into() }
}

/// A segment of a JSON Pointer as a key.
pub(crate) fn unescape(segment: &str) -> String {
    if segment.contains('~') {
        segment.replace("~1", "/").replace("~0", "~")
    } else {
        segment.into()
    }
}

/// A JSON Pointer as people write it: `modules.widgets[0].name`.
pub(crate) fn spoken(pointer: &str) -> String {
    let mut spoken = String::new();
    for segment in pointer.split('/').skip(1) {
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            spoken.push('[');
            spoken.push_str(segment);
            spoken.push(']');
        } else {
            if !spoken.is_empty() {
                spoken.push('.');
            }
            spoken.push_str(&shown(&unescape(segment)));
        }
    }
    spoken
}

/// A text from a package as it may be shown in a message: short, and without characters that
/// would do something to a terminal.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// A path or pointer from a package as it may be shown: harmless too, and only its beginning.
pub(crate) fn shown_path(path: &str) -> String {
    const LONGEST: usize = 200;
    path.chars().take(LONGEST).map(visible).collect()
}

/// The character, or a replacement where it could steer a terminal, reorder the text or hide.
pub(crate) fn visible(character: char) -> char {
    let steers = character.is_control()
        || matches!(character, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}');
    if steers { '\u{FFFD}' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_spoken_as_paths() {
        assert_eq!(spoken("/modules/widgets/0/name"), "modules.widgets[0].name");
        assert_eq!(spoken("/a~1b/~0c"), "a/b.~c");
        assert_eq!(spoken(""), "");
    }

    #[test]
    fn hostile_text_is_shown_harmlessly() {
        assert_eq!(shown("\u{1b}[31mred\u{202e}"), "\u{fffd}[31mred\u{fffd}");
        assert_eq!(shown(&"x".repeat(61)).chars().count(), 61);
    }

    #[test]
    fn large_objects_are_indexed_and_keep_their_order() {
        let mut object = Object::default();
        let node = |flag| Node { span: Span::default(), kind: Kind::Boolean(flag) };
        for number in 0..100 {
            let member = Member {
                key: format!("k{number}"),
                key_span: Span { start: number, end: number },
                value: node(false),
            };
            assert_eq!(object.insert(member), None);
        }
        let again = Member { key: "k50".into(), key_span: Span::default(), value: node(true) };
        assert_eq!(object.insert(again), Some(Span { start: 50, end: 50 }));
        assert_eq!(object.members().len(), 100);
        assert!(matches!(
            object.get("k50").map(|member| &member.value.kind),
            Some(Kind::Boolean(true))
        ));
        assert!(object.get("k100").is_none());
    }
}
