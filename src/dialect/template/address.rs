//! Addresses with placeholders in path and query, never in what says who is called.

use url::Url;

use super::text::{Escape, Output, Piece, Text, pieces};
use super::{MOST_PLACEHOLDERS, TemplateFault, Values};
use crate::dialect::RenderError;

/// The longest address as it is written, in bytes.
const LONGEST: usize = 2_048;

/// What stands for a placeholder while the address is looked at.
const STAND_IN: &str = "0";

/// An address with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTemplate {
    base: Url,
    /// As it was written, with the stand-in for each placeholder.
    probe: String,
    text: Text,
}

impl AddressTemplate {
    /// Reads an absolute http or https address. What is called (scheme, user, host, port) is never
    /// a placeholder's doing; a fragment is dropped.
    pub fn parse(text: &str) -> Result<Self, TemplateFault> {
        let refused = |reason: &str| TemplateFault::Address(reason.to_owned());
        if text.len() > LONGEST {
            return Err(TemplateFault::TooLarge {
                what: "address",
                bytes: text.len(),
                limit: LONGEST + 1,
            });
        }
        let text = text.trim();
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let authority = if lower.starts_with("https://") {
            8
        } else if lower.starts_with("http://") {
            7
        } else {
            return Err(refused("must be an absolute http or https URL"));
        };
        let end =
            text[authority..].find(['/', '\\', '?', '#']).map_or(text.len(), |at| authority + at);
        let (before, after) = text.split_at(end);
        if before.len() == authority {
            // A browser's rules would take the next text for the host.
            return Err(refused("must be an absolute http or https URL"));
        }
        if before.contains("{{") || before.contains("}}") {
            return Err(refused("cannot have placeholders in its host"));
        }
        let pieces = pieces(after)?;
        let mut probe = before.to_owned();
        let mut segments = vec![Piece::Literal(before).with(Escape::None)];
        let mut escape = Escape::PathSegment;
        let mut count = 0;
        'pieces: for piece in pieces {
            match piece {
                Piece::Literal(literal) => {
                    let (kept, fragment) = match literal.split_once('#') {
                        Some((kept, _)) => (kept, true),
                        None => (literal, false),
                    };
                    if kept.contains('?') {
                        escape = Escape::Query;
                    }
                    probe.push_str(kept);
                    segments.push(Piece::Literal(kept).with(Escape::None));
                    if fragment {
                        break 'pieces;
                    }
                }
                Piece::Placeholder(_) => {
                    count += 1;
                    probe.push_str(STAND_IN);
                    segments.push(piece.with(escape));
                }
            }
        }
        if count > MOST_PLACEHOLDERS {
            return Err(TemplateFault::TooMany { what: "placeholders", limit: MOST_PLACEHOLDERS });
        }
        let base = Url::parse(&probe)
            .ok()
            .filter(Url::has_host)
            .ok_or_else(|| refused("must be an absolute http or https URL"))?;
        Ok(Self { base, probe, text: Text::new(segments) })
    }

    /// Whether there are placeholders in it.
    pub fn has_placeholders(&self) -> bool {
        self.text.names().next().is_some()
    }

    /// The names of its placeholders.
    pub fn placeholders(&self) -> Vec<&str> {
        self.text.names().collect()
    }

    /// The address with `0` for each placeholder: same scheme, host and port, to be vetted.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// The address with the values in their places. A value stays within its segment: one that
    /// would lead to another place of the path is refused.
    pub(in crate::dialect) fn render(&self, values: &mut Values<'_>) -> Result<Url, RenderError> {
        let mut output = Output::new("address");
        self.text.write(values, &mut output)?;
        let refused = |reason: &str| RenderError::Address { reason: reason.to_owned() };
        let written = output.take();
        if leads_elsewhere(&self.probe, &written) {
            return Err(refused("a value makes a segment of its path empty, or . or .."));
        }
        let url = Url::parse(&written).map_err(|error| refused(&error.to_string()))?;
        let depth = |url: &Url| url.path_segments().map_or(0, Iterator::count);
        if url.origin() != self.base.origin()
            || url.username() != self.base.username()
            || url.password() != self.base.password()
            || depth(&url) != depth(&self.base)
        {
            return Err(refused("a value in its path is . or .."));
        }
        Ok(url)
    }
}

/// The segments of an address's path, as they are written.
fn segments(address: &str) -> impl Iterator<Item = &str> {
    let after = address.split_once("://").map_or(address, |(_, after)| after);
    let path = after.split(['?', '#']).next().unwrap_or_default();
    // The first is the host.
    path.split(['/', '\\']).skip(1)
}

/// Whether a value makes a segment one that a URL's parser takes for another place: nothing, or dots,
/// which may be written in percent-encoding.
fn leads_elsewhere(probe: &str, written: &str) -> bool {
    let is_lost = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(plain.as_str(), "" | "." | "..")
    };
    segments(probe).zip(segments(written)).any(|(before, after)| before != after && is_lost(after))
        || segments(probe).count() != segments(written).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_never_a_placeholder() {
        for bad in [
            "https://{{org.id}}.example/",
            "https://{{org.id}}",
            "{{org.id}}://a.example/",
            "https://a.example:{{x}}/",
            "https://u:{{x}}@a.example/",
            "https://a.example{{x}}/",
            "https://a.example{{x}}\\b",
            "//a.example/{{x}}",
            "ftp://a.example/{{x}}",
            "/{{x}}",
            "",
            "https:///{{x}}",
            "https://a.example/{{x",
            "https://a.example/{{x y}}",
        ] {
            assert!(AddressTemplate::parse(bad).is_err(), "{bad}");
        }
        assert!(
            AddressTemplate::parse(&format!("https://a.example/{}", "a".repeat(LONGEST))).is_err()
        );
    }

    #[test]
    fn a_value_that_leads_elsewhere_is_found_as_it_is_written() {
        for (probe, written, expected) in [
            ("https://a.example/t/0", "https://a.example/t/7", false),
            ("https://a.example/t/0", "https://a.example/t/0", false),
            ("https://a.example/t/0", "https://a.example/t/", true),
            ("https://a.example/t/0", "https://a.example/t/.", true),
            ("https://a.example/t/0?q=0", "https://a.example/t/..?q=.", true),
            ("https://a.example/t/0?q=0", "https://a.example/t/7?q=..", false),
            ("https://a.example/t/%2e0", "https://a.example/t/%2E.", true),
            ("https://a.example/0/x", "https://a.example//x", true),
            ("https://a.example/t\\0", "https://a.example/t\\.", true),
            ("https://a.example//0", "https://a.example//7", false),
        ] {
            assert_eq!(leads_elsewhere(probe, written), expected, "{probe} {written}");
        }
    }

    #[test]
    fn the_base_has_a_stand_in() {
        let address =
            AddressTemplate::parse("https://a.example:8443/t/{{ticket.id}}.json?q={{ x }}#{{y}}")
                .unwrap();
        assert_eq!(address.base().as_str(), "https://a.example:8443/t/0.json?q=0");
        assert_eq!(address.placeholders(), ["ticket.id", "x"]);
        let plain = AddressTemplate::parse("HTTPS://a.example?x=1").unwrap();
        assert!(!plain.has_placeholders());
    }
}
