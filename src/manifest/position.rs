//! Lines and columns of byte offsets.

use std::sync::OnceLock;

use super::json::Span;

/// A checkpoint is kept for about this many bytes, so that finding a column never walks far.
const STRIDE: usize = 512;

/// Finds the line and column of a byte of a text, after one walk in constant time.
///
/// Lines and columns count from 1. A column counts characters (Unicode scalar values), as SARIF's
/// `unicodeCodePoints` does; a byte-order mark takes no column.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    text: String,
    /// Made when it is first asked for: most packages have nothing to tell.
    index: OnceLock<Index>,
}

#[derive(Clone, Debug)]
struct Index {
    checkpoints: Vec<Checkpoint>,
    line_starts: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    offset: usize,
    line: usize,
    column: usize,
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Positions {
    /// Keeps the text.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), index: OnceLock::new() }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut checkpoints = vec![Checkpoint { offset: 0, line: 1, column: 1 }];
            let mut line_starts = vec![0];
            let (mut line, mut column, mut next) = (1, 1, STRIDE);
            for (offset, character) in self.text.char_indices() {
                if offset >= next {
                    checkpoints.push(Checkpoint { offset, line, column });
                    next = offset + STRIDE;
                }
                advance(character, offset, &mut line, &mut column);
                if character == '\n' {
                    line_starts.push(offset + 1);
                }
            }
            Index { checkpoints, line_starts }
        })
    }

    /// The line and column of a byte. Behind the end it is the end.
    pub(crate) fn of(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let checkpoints = &self.index().checkpoints;
        let after = checkpoints.partition_point(|checkpoint| checkpoint.offset <= offset);
        let start = checkpoints[after.saturating_sub(1)];
        let (mut line, mut column) = (start.line, start.column);
        for (within, character) in self.text[start.offset..].char_indices() {
            if start.offset + within >= offset {
                break;
            }
            advance(character, start.offset + within, &mut line, &mut column);
        }
        Position { line: count(line), column: count(column) }
    }

    /// How many characters of its own line a part of the text takes, at least one.
    pub(crate) fn width(&self, start: usize, end: usize) -> u32 {
        let rest = self.text.get(start..end.min(self.text.len())).unwrap_or_default();
        let shown = rest.chars().take_while(|&character| character != '\n').take(STRIDE);
        count(shown.count()).max(1)
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of a line without its end and without a byte-order mark.
    pub(crate) fn line_span(&self, line: u32) -> Option<Span> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let line_starts = &self.index().line_starts;
        let start = *line_starts.get(index)?;
        let end = line_starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = self.text.get(start..end)?;
        let marked = index == 0 && line.starts_with('\u{FEFF}');
        let start = if marked { start + '\u{FEFF}'.len_utf8() } else { start };
        Some(Span { start, end: end - usize::from(line.ends_with('\r')) })
    }
}

fn advance(character: char, offset: usize, line: &mut usize, column: &mut usize) {
    if character == '\n' {
        *line += 1;
        *column = 1;
    } else if offset > 0 || character != '\u{FEFF}' {
        *column += 1;
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(positions: &Positions, number: u32) -> Option<&str> {
        let span = positions.line_span(number)?;
        positions.text().get(span.start..span.end)
    }

    #[test]
    fn columns_count_characters() {
        let positions = Positions::new("aß\n€uro\r\nx");
        assert_eq!(positions.of(0), Position { line: 1, column: 1 });
        assert_eq!(positions.of(3), Position { line: 1, column: 3 });
        assert_eq!(positions.of(7), Position { line: 2, column: 2 });
        assert_eq!(positions.of(999), Position { line: 3, column: 2 });
        assert_eq!(line(&positions, 2), Some("€uro"));
        assert_eq!(line(&positions, 4), None);
    }

    #[test]
    fn a_byte_order_mark_takes_no_column() {
        let positions = Positions::new("\u{feff}{}");
        assert_eq!(positions.of(0), Position { line: 1, column: 1 });
        assert_eq!(positions.of(3), Position { line: 1, column: 1 });
        assert_eq!(line(&positions, 1), Some("{}"));
    }

    proptest! {
        #[test]
        fn agrees_with_counting(text in "[aß€\u{1F600}\n ]{0,3000}", at in 0_usize..9000) {
            let mut offset = at.min(text.len());
            while !text.is_char_boundary(offset) {
                offset -= 1;
            }
            let before = &text[..offset];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let position = Positions::new(&text).of(offset);
            prop_assert_eq!((position.line as usize, position.column as usize), (line, column));
        }
    }
}
