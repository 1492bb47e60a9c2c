//! Templates of JSON: within a string a value becomes text, elsewhere a JSON value.

use super::TemplateFault;
#[cfg(test)]
use super::text::Segment;
use super::text::{Escape, Piece, Text, pieces};

/// Reads a template. With any values it becomes JSON, or it is refused here.
pub(super) fn parse(text: &str) -> Result<Text, TemplateFault> {
    let mut segments = Vec::new();
    let mut probe = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for piece in pieces(text)? {
        let escape = match piece {
            Piece::Literal(literal) => {
                for character in literal.chars() {
                    match character {
                        _ if escaped => escaped = false,
                        '\\' if in_string => escaped = true,
                        '"' => in_string = !in_string,
                        _ => {}
                    }
                }
                probe.push_str(literal);
                Escape::None
            }
            Piece::Placeholder(name) => {
                if escaped {
                    return Err(TemplateFault::Misplaced {
                        name: name.to_owned(),
                        place: "after a backslash",
                    });
                }
                if in_string {
                    // A letter, so that nothing before and after grows together without it.
                    probe.push('x');
                    Escape::JsonString
                } else {
                    // Spaces, so that no token before or after grows together with it.
                    probe.push_str(" 0 ");
                    Escape::JsonValue
                }
            }
        };
        segments.push(piece.with(escape));
    }
    let text = Text::new(segments);
    if !text.is_blank() {
        serde_json::from_str::<serde::de::IgnoredAny>(&probe)
            .map_err(|error| TemplateFault::Format { format: "JSON", reason: error.to_string() })?;
    }
    Ok(text)
}

/// Whether an unquoted value can stand as it is: a whole number as JSON writes it.
pub(super) fn is_whole_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (1..=19).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
        && text != "-0"
}

/// The named segments, for a look from outside.
#[cfg(test)]
pub(super) fn escapes(text: &Text) -> Vec<Escape> {
    let escape = |segment: &Segment| match segment {
        Segment::Placeholder(_, escape) => Some(*escape),
        Segment::Literal(_) => None,
    };
    text.segments().iter().filter_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let text = parse(r#"{"id":{{ticket.id}},"t":"a \" {{ticket.subject}}","{{x}}":[{{y}}]}"#);
        assert_eq!(
            escapes(&text.unwrap()),
            [Escape::JsonValue, Escape::JsonString, Escape::JsonString, Escape::JsonValue]
        );
    }

    #[test]
    fn what_could_not_become_json_is_refused() {
        for bad in [
            "{",
            r#"{"a":}"#,
            r#"{"a": 1{{x}}}"#,
            "{{a}}{{b}}",
            r"{{{x}}: 1}",
            r#"{"a": "\{{x}}"}"#,
            r#"{"a": "\u00{{x}}41"}"#,
            r#"{"a": "{{x}}}"#,
            "<a/>",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for good in ["", "  ", "{}", "{{x}}", r#""{{x}}""#, r#"{"a":"\\{{x}}"}"#, "[{{a}},{{b}}]"] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn whole_numbers() {
        for good in ["0", "7", "-7", "472110000000481003"] {
            assert!(is_whole_number(good), "{good}");
        }
        for bad in ["", "-", "-0", "07", "1.5", "1e5", "+1", " 1", "12345678901234567890"] {
            assert!(!is_whole_number(bad), "{bad}");
        }
    }
}
