//! Templates of XML: one well-formed document, with values in text, in quoted attribute values and
//! in CDATA sections.

use super::TemplateFault;
use super::text::{Escape, Piece, Text, pieces};

/// Stands for a placeholder while the document is looked through; XML has no such character.
const PLACEHOLDER: char = '\0';

/// The deepest nesting of elements.
const DEEPEST: usize = 100;

/// Why a document is refused.
enum Refused {
    /// It is no XML.
    Format(String),
    /// A placeholder cannot be where it is.
    Place(&'static str),
}

impl From<&str> for Refused {
    fn from(reason: &str) -> Self {
        Self::Format(reason.to_owned())
    }
}

/// Reads a template. With any values it becomes a well-formed document, or it is refused here.
pub(super) fn parse(text: &str) -> Result<Text, TemplateFault> {
    let pieces = pieces(text)?;
    let mut probe = String::with_capacity(text.len());
    for piece in &pieces {
        match piece {
            Piece::Literal(literal) => probe.push_str(literal),
            Piece::Placeholder(_) => probe.push(PLACEHOLDER),
        }
    }
    let format = |reason: String| TemplateFault::Format { format: "XML", reason };
    if text.contains(PLACEHOLDER) {
        return Err(format("it has a NUL character".to_owned()));
    }
    let mut scan = Scan { rest: &probe, open: Vec::new(), roots: 0, places: Vec::new() };
    if !probe.trim().is_empty()
        && let Err(refused) = scan.document()
    {
        return Err(match refused {
            Refused::Format(reason) => format(reason),
            Refused::Place(place) => {
                let name = pieces
                    .iter()
                    .filter_map(|piece| match piece {
                        Piece::Placeholder(name) => Some((*name).to_owned()),
                        Piece::Literal(_) => None,
                    })
                    .nth(scan.places.len())
                    .unwrap_or_default();
                TemplateFault::Misplaced { name, place }
            }
        });
    }
    let mut places = scan.places.into_iter();
    let segments = pieces.into_iter().map(|piece| match piece {
        Piece::Literal(_) => piece.with(Escape::None),
        Piece::Placeholder(_) => piece.with(places.next().unwrap_or(Escape::Xml)),
    });
    Ok(Text::new(segments.collect()))
}

/// Whether an XML declaration says nothing of another encoding; everything else is none.
fn is_utf8(instruction: &str) -> bool {
    let Some(rest) = instruction.strip_prefix("xml") else { return true };
    if !rest.starts_with(|one: char| one.is_ascii_whitespace()) {
        return true;
    }
    let Some((_, named)) = rest.split_once("encoding") else { return true };
    let named = named.trim_start().trim_start_matches('=').trim();
    let named = named.trim_matches(['"', '\'', '?', ' ']);
    let named = named.split(['"', '\'']).next().unwrap_or_default();
    named.eq_ignore_ascii_case("utf-8")
}

struct Scan<'t> {
    rest: &'t str,
    open: Vec<&'t str>,
    roots: usize,
    places: Vec<Escape>,
}

impl<'t> Scan<'t> {
    fn document(&mut self) -> Result<(), Refused> {
        while !self.rest.is_empty() {
            let text = self.until_before('<');
            self.text(text)?;
            if self.rest.is_empty() {
                break;
            }
            self.markup()?;
        }
        match (self.open.last(), self.roots) {
            (Some(name), _) => Err(Refused::Format(format!("<{name}> is not closed"))),
            (None, 1) => Ok(()),
            (None, 0) => Err("there is no element".into()),
            (None, _) => Err("there is more than one root element".into()),
        }
    }

    fn markup(&mut self) -> Result<(), Refused> {
        if self.take("<!--") {
            let inside = self.until("-->", "a comment is not closed")?;
            nothing_in(inside, "in a comment")?;
            return if inside.contains("--") {
                Err("a comment has two hyphens".into())
            } else {
                Ok(())
            };
        }
        if self.take("<![CDATA[") {
            if self.open.is_empty() {
                return Err("a CDATA section is outside of the root element".into());
            }
            let inside = self.until("]]>", "a CDATA section is not closed")?;
            self.places.extend(inside.matches(PLACEHOLDER).map(|_| Escape::Cdata));
            return Ok(());
        }
        if self.take("<?") {
            let inside = self.until("?>", "a processing instruction is not closed")?;
            if !is_utf8(inside) {
                return Err("it declares another encoding than UTF-8, in which it is sent".into());
            }
            return nothing_in(inside, "in a processing instruction");
        }
        if self.take("<!") {
            return Err("a document type is not allowed".into());
        }
        if self.take("</") {
            let inside = self.until(">", "a closing tag is not closed")?;
            nothing_in(inside, "in a tag")?;
            let name = inside.trim_end();
            return match self.open.pop() {
                Some(open) if open == name => Ok(()),
                Some(open) => Err(Refused::Format(format!("<{open}> is closed by </{name}>"))),
                None => Err(Refused::Format(format!("</{name}> closes nothing"))),
            };
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        self.opening_tag()
    }

    fn opening_tag(&mut self) -> Result<(), Refused> {
        let name = self.name()?;
        if self.open.is_empty() {
            self.roots += 1;
        }
        let mut attributes: Vec<&str> = Vec::new();
        loop {
            let spaced = self.rest.starts_with(char::is_whitespace);
            self.rest = self.rest.trim_start();
            if self.take("/>") {
                return Ok(());
            }
            if self.take(">") {
                if self.open.len() >= DEEPEST {
                    return Err(Refused::Format(format!("more than {DEEPEST} nested elements")));
                }
                self.open.push(name);
                return Ok(());
            }
            let attribute = self.name()?;
            if !spaced || attributes.contains(&attribute) || attributes.len() >= DEEPEST {
                return Err(Refused::Format(format!(
                    "the attributes of <{name}> are not well-formed"
                )));
            }
            attributes.push(attribute);
            self.rest = self.rest.trim_start();
            let is_assigned = self.take("=");
            self.rest = self.rest.trim_start();
            let quote = if self.take("\"") { "\"" } else { "'" };
            if !is_assigned || (quote == "'" && !self.take("'")) {
                return Err(match self.rest.chars().next() {
                    Some(PLACEHOLDER) => Refused::Place("in a tag outside of quotes"),
                    _ => Refused::Format(format!("the attribute {attribute} has no quoted value")),
                });
            }
            let value = self.until(quote, "an attribute's value is not closed")?;
            if value.contains('<') {
                return Err("an attribute's value has a <".into());
            }
            self.content(value)?;
        }
    }

    /// A name of an element or an attribute.
    fn name(&mut self) -> Result<&'t str, Refused> {
        let is_first = |c: char| c.is_alphabetic() || c == '_' || c == ':';
        let is_inner = |c: char| is_first(c) || c.is_numeric() || c == '-' || c == '.';
        let end = self.rest.find(|c: char| !is_inner(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if rest.starts_with(PLACEHOLDER) {
            return Err(Refused::Place("in a tag outside of quotes"));
        }
        if !name.starts_with(is_first) {
            return Err("a tag has no proper name".into());
        }
        self.rest = rest;
        Ok(name)
    }

    fn text(&mut self, text: &str) -> Result<(), Refused> {
        if self.open.is_empty() && !text.trim().is_empty() {
            return Err(if text.contains(PLACEHOLDER) {
                Refused::Place("outside of the root element")
            } else {
                "there is text outside of the root element".into()
            });
        }
        if text.contains("]]>") {
            return Err("there is ]]> in a text".into());
        }
        self.content(text)
    }

    /// Text or an attribute's value: its references are the five of XML, or numbers.
    fn content(&mut self, text: &str) -> Result<(), Refused> {
        let mut rest = text;
        while let Some(at) = rest.find('&') {
            rest = &rest[at + 1..];
            let end = rest.bytes().take(12).position(|byte| byte == b';');
            let entity = end.map_or("", |end| &rest[..end]);
            let number = entity.strip_prefix("#x").map(|digits| u32::from_str_radix(digits, 16));
            let number = number.or_else(|| entity.strip_prefix('#').map(str::parse::<u32>));
            let is_character = matches!(number, Some(Ok(code)) if char::from_u32(code).is_some());
            if !is_character && !["amp", "lt", "gt", "quot", "apos"].contains(&entity) {
                return Err("an & does not begin one of &amp; &lt; &gt; &quot; &apos; &#…;".into());
            }
        }
        self.places.extend(text.matches(PLACEHOLDER).map(|_| Escape::Xml));
        Ok(())
    }

    fn take(&mut self, start: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(start) else { return false };
        self.rest = rest;
        true
    }

    fn until_before(&mut self, end: char) -> &'t str {
        let (before, rest) = self.rest.split_at(self.rest.find(end).unwrap_or(self.rest.len()));
        self.rest = rest;
        before
    }

    fn until(&mut self, end: &str, missing: &str) -> Result<&'t str, Refused> {
        let (before, rest) = self.rest.split_once(end).ok_or_else(|| Refused::from(missing))?;
        self.rest = rest;
        Ok(before)
    }
}

/// Refuses placeholders in a text.
fn nothing_in(text: &str, place: &'static str) -> Result<(), Refused> {
    if text.contains(PLACEHOLDER) { Err(Refused::Place(place)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_text_quotes_and_cdata() {
        let good = "<?xml version=\"1.0\"?>\n<!-- a --><t a=\"{{x}}\" b='1'>\n{{x}} &amp; &#xe4;\
            <![CDATA[{{x}}]]><empty/><n:b c = '{{x}}'/></t >";
        let text = parse(good).unwrap();
        assert_eq!(text.names().count(), 4);
        let escapes = super::super::json::escapes(&text);
        assert_eq!(escapes, [Escape::Xml, Escape::Xml, Escape::Cdata, Escape::Xml]);
        assert!(parse("").unwrap().is_blank());
    }

    #[test]
    fn other_places_are_refused() {
        for (bad, place) in [
            ("<{{x}}/>", "in a tag outside of quotes"),
            ("<a {{x}}='1'/>", "in a tag outside of quotes"),
            ("<a b={{x}}/>", "in a tag outside of quotes"),
            ("<a></{{x}}>", "in a tag"),
            ("<a><!-- {{x}} --></a>", "in a comment"),
            ("<?a {{x}}?><a/>", "in a processing instruction"),
            ("<a/>{{x}}", "outside of the root element"),
            ("{{x}}", "outside of the root element"),
        ] {
            let refused = parse(bad).unwrap_err();
            assert_eq!(refused, TemplateFault::Misplaced { name: "x".to_owned(), place }, "{bad}");
        }
        let second = parse("<a>{{first}}<!-- {{second}} --></a>").unwrap_err();
        assert!(second.to_string().contains("second"), "{second}");
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bad in [
            "text",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a b=1/>",
            "<a b='1'c='2'/>",
            "<a b='1' b='2'/>",
            "<a b='<'/>",
            "<a>&nbsp;</a>",
            "<a>& </a>",
            "<a>&{{x}};</a>",
            "<a>]]></a>",
            "<!DOCTYPE a><a/>",
            "<a><![CDATA[</a>",
            "<a><!-- </a>",
            "<1/>",
            "<a",
            "<",
            "<a/>\0",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"<a>".repeat(DEEPEST + 1)).is_err());
    }
}
