//! The syntax that all formats share: literal text and placeholders between double braces.

use super::{TEMPLATE_LIMIT, TemplateFault, Values};
use crate::dialect::RenderError;

/// The longest name of a placeholder.
const LONGEST_NAME: usize = 200;

/// How much of what is no name is repeated in an answer.
const SHOWN: usize = 60;

/// How a value is written where a placeholder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Escape {
    /// As it is; what comes out is encoded as a whole afterwards.
    None,
    /// Within a JSON string.
    JsonString,
    /// As a JSON value of its own.
    JsonValue,
    /// In XML text or within an attribute's quotes.
    Xml,
    /// In an XML CDATA section.
    Cdata,
    /// Within a segment of an address's path.
    PathSegment,
    /// Within a name or value of an address's query.
    Query,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum Segment {
    Literal(Box<str>),
    Placeholder(Box<str>, Escape),
}

/// A text with placeholders, each of which knows how its value is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Text {
    segments: Vec<Segment>,
}

/// A piece of a text as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Literal(&'t str),
    Placeholder(&'t str),
}

/// Cuts a text into its pieces, in one pass.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateFault> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(opening) = text[at..].find("{{") {
        let begin = at + opening;
        let inside = begin + 2;
        let Some(length) = text[inside..].find("}}") else {
            return Err(TemplateFault::Unclosed { at: begin });
        };
        if begin > at {
            pieces.push(Piece::Literal(&text[at..begin]));
        }
        let name = text[inside..inside + length].trim();
        if !is_name(name) {
            return Err(TemplateFault::Malformed { given: name.chars().take(SHOWN).collect() });
        }
        pieces.push(Piece::Placeholder(name));
        at = inside + length + 2;
    }
    if at < text.len() {
        pieces.push(Piece::Literal(&text[at..]));
    }
    Ok(pieces)
}

/// Words of ASCII letters, digits, underscores and hyphens, joined by dots.
fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && name.split('.').all(|word| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        })
}

impl Text {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        Self { segments }
    }

    #[cfg(test)]
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A text whose values are encoded as a whole afterwards.
    pub(super) fn plain(text: &str) -> Result<Self, TemplateFault> {
        let segments = pieces(text)?.into_iter().map(|piece| piece.with(Escape::None));
        Ok(Self { segments: segments.collect() })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Placeholder(name, _) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    pub(super) fn is_blank(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment, Segment::Literal(text) if text.trim().is_empty()))
    }

    /// Writes the text with the values in their places.
    pub(in crate::dialect) fn write(
        &self,
        values: &mut Values<'_>,
        output: &mut Output,
    ) -> Result<(), RenderError> {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => output.push(text)?,
                Segment::Placeholder(name, escape) => values.write(name, *escape, output)?,
            }
        }
        Ok(())
    }
}

impl Piece<'_> {
    pub(super) fn with(self, escape: Escape) -> Segment {
        match self {
            Piece::Literal(text) => Segment::Literal(text.into()),
            Piece::Placeholder(name) => Segment::Placeholder(name.into(), escape),
        }
    }
}

/// What is being rendered, up to its bound.
#[derive(Debug)]
pub(in crate::dialect) struct Output {
    text: String,
    what: &'static str,
    room: usize,
}

impl Output {
    /// Nothing yet, of at most as much as a template may become.
    pub(in crate::dialect) fn new(what: &'static str) -> Self {
        Self { text: String::new(), what, room: TEMPLATE_LIMIT - 1 }
    }

    /// Adds a text.
    pub(in crate::dialect) fn push(&mut self, text: &str) -> Result<(), RenderError> {
        let Some(room) = self.room.checked_sub(text.len()) else {
            return Err(RenderError::TooLarge {
                what: self.what,
                bytes: self.text.len().saturating_add(text.len()),
                limit: TEMPLATE_LIMIT,
            });
        };
        self.room = room;
        self.text.push_str(text);
        Ok(())
    }

    /// Adds a character.
    pub(in crate::dialect) fn push_char(&mut self, character: char) -> Result<(), RenderError> {
        self.push(character.encode_utf8(&mut [0; 4]))
    }

    /// What was written since the last time; the bound goes on counting.
    pub(in crate::dialect) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_the_braces() {
        assert_eq!(
            pieces("a {{ticket.id}} b{{ x }}").unwrap(),
            [
                Piece::Literal("a "),
                Piece::Placeholder("ticket.id"),
                Piece::Literal(" b"),
                Piece::Placeholder("x"),
            ]
        );
        assert_eq!(pieces("").unwrap(), []);
        assert_eq!(pieces("} {a} }}").unwrap(), [Piece::Literal("} {a} }}")]);
    }

    #[test]
    fn what_is_no_name_is_refused_and_nothing_is_computed() {
        for bad in [
            "{{}}",
            "{{ }}",
            "{{a b}}",
            "{{a|upcase}}",
            "{{7*7",
            "{{a..b}}",
            "{{.a}}",
            "{{a.}}",
            "{{a[0]}}",
            "{{constructor()}}",
            "{{{a}}}",
            "{{ä}}",
        ] {
            assert!(pieces(bad).is_err(), "{bad}");
        }
        assert!(pieces(&format!("{{{{{}}}}}", "a".repeat(LONGEST_NAME + 1))).is_err());
        assert_eq!(pieces("x{{a").unwrap_err(), TemplateFault::Unclosed { at: 1 });
    }

    #[test]
    fn output_has_an_end() {
        let mut output = Output::new("payload");
        output.push(&"a".repeat(TEMPLATE_LIMIT - 1)).unwrap();
        assert!(matches!(output.push("b"), Err(RenderError::TooLarge { what: "payload", .. })));
        assert_eq!(output.take().len(), TEMPLATE_LIMIT - 1);
        assert!(output.push("b").is_err(), "what was taken counts");
    }
}
