//! Lines of the package's files as they are shown below a diagnostic: short, harmless to a
//! terminal, without secrets, and with carets that stand where the fault is.

use std::collections::BTreeMap;

use unicode_width::UnicodeWidthStr;

use super::code;
use super::diagnostic::Diagnostic;
use super::json::{Cursor, Document, Span, visible};
use super::position::Positions;
use super::source::{MANIFEST_FILE, PackageSource};
use super::{Loaded, load};

/// The most characters of a source line that are shown: minified files have endless ones.
const WIDEST: usize = 120;
/// How many characters before the caret are shown of a longer line.
const LEAD: usize = 50;

/// A line as it is shown. Widths are columns of a terminal, which wide characters take two of and
/// combining ones none.
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) indent: usize,
    pub(super) width: usize,
}

/// The lines of the package's files, read when they are first needed.
pub(super) struct Lines<'s> {
    source: &'s PackageSource,
    diagnostics: &'s [Diagnostic],
    files: BTreeMap<String, Option<File>>,
}

struct File {
    positions: Positions,
    /// The bytes that are not shown, in their order.
    secrets: Vec<Span>,
}

impl<'s> Lines<'s> {
    pub(super) fn new(source: &'s PackageSource, diagnostics: &'s [Diagnostic]) -> Self {
        Self { source, diagnostics, files: BTreeMap::new() }
    }

    /// The line that a diagnostic is about, where it is known.
    pub(super) fn excerpt(&mut self, diagnostic: &Diagnostic) -> Option<Excerpt> {
        let (source, diagnostics) = (self.source, self.diagnostics);
        let file = (self.files.entry(diagnostic.file.clone()))
            .or_insert_with(|| open(source, diagnostics, &diagnostic.file))
            .as_ref()?;
        let line = file.positions.line_span(diagnostic.line?)?;
        let text = file.positions.text();
        let at = diagnostic.offset?.clamp(line.start, line.end);
        let at = (line.start..=at).rev().find(|&at| text.is_char_boundary(at))?;
        let behind = |count: usize, from: usize| {
            let mut characters = text[from..line.end].char_indices();
            characters.nth(count).map_or(line.end, |(within, _)| from + within)
        };
        // Nothing here walks the whole line: it may be a megabyte, with a thousand faults in it.
        let from = if behind(WIDEST, line.start) == line.end {
            line.start
        } else {
            let mut before = text[line.start..at].char_indices().rev();
            before.nth(LEAD - 1).map_or(line.start, |(within, _)| line.start + within)
        };
        let to = behind(WIDEST, from);
        let end = behind(usize::try_from(diagnostic.width).unwrap_or(1), at).min(to);
        let shown = |start: usize, end: usize| -> String {
            let characters = text[start..end.max(start)].char_indices();
            characters.map(|(within, character)| file.shown(start + within, character)).collect()
        };
        let mut before = shown(from, at);
        if from > line.start {
            before.insert(0, '…');
        }
        let indent = before.width();
        let mut shown_text = before + &shown(at, end);
        let width = shown_text.width().saturating_sub(indent).max(1);
        shown_text.push_str(&shown(end, to));
        if to < line.end {
            shown_text.push('…');
        }
        Some(Excerpt { text: shown_text, indent, width })
    }
}

impl File {
    fn shown(&self, offset: usize, character: char) -> char {
        let after = self.secrets.partition_point(|secret| secret.start <= offset);
        let hidden = after > 0 && offset < self.secrets[after - 1].end;
        match character {
            _ if hidden => '*',
            '\t' => ' ',
            character => visible(character),
        }
    }
}

fn open(source: &PackageSource, diagnostics: &[Diagnostic], name: &str) -> Option<File> {
    if name != MANIFEST_FILE
        && let Some(Ok(text)) = source.content(name).map(std::str::from_utf8)
    {
        let pasted = diagnostics.iter().filter(|one| one.code == code::SECRET_IN_SOURCE);
        let spans = pasted.filter(|one| one.file == name).filter_map(|one| {
            let (start, width) = (one.offset?, usize::try_from(one.width).ok()?);
            let mut characters = text.get(start..)?.char_indices();
            let length = characters.nth(width).map_or(text.len() - start, |(at, _)| at);
            Some(Span { start, end: start + length })
        });
        return Some(File { positions: Positions::new(text), secrets: merged(spans.collect()) });
    }
    let Loaded { document, positions, .. } = load(source, name)?;
    let positions = positions?;
    let mut secrets = written_secrets(positions.text());
    secrets.extend(document.iter().flat_map(secret_spans));
    Some(File { secrets: merged(secrets), positions })
}

/// Spans in their order, those that overlap as one.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.start);
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut().filter(|last| span.start <= last.end) {
            Some(last) => last.end = last.end.max(span.end),
            None => merged.push(span),
        }
    }
    merged
}

/// Where a manifest holds secrets, by its structure.
fn secret_spans(document: &Document) -> Vec<Span> {
    let root = document.cursor();
    let own = root.get("secret");
    let clients = root.get("TPAOauth");
    let client_secret = |client: Cursor<'_>| client.get("clientSecret").map(|one| one.at_value());
    let mut places: Vec<_> = own.iter().map(Cursor::at_value).collect();
    places.extend(root.get("deskOauth").and_then(client_secret));
    places.extend(clients.iter().flat_map(Cursor::items).filter_map(client_secret));
    let spans = places.into_iter().filter_map(|place| place.span);
    // The quotes may be seen.
    spans.map(|span| Span { start: span.start + 1, end: span.end.max(2) - 1 }).collect()
}

/// Where a text that may not even be JSON seems to hold secrets: behind every key that ends so.
fn written_secrets(text: &str) -> Vec<Span> {
    const KEY: &str = "ecret";
    let quotes = ['"', '\'', '`', '\u{201C}', '\u{201D}', '\u{201E}'];
    let mut spans = Vec::new();
    let mut read_to = 0;
    for (at, _) in text.match_indices(KEY) {
        if at < read_to {
            continue;
        }
        let rest = text[at + KEY.len()..].trim_start_matches(quotes).trim_start();
        let Some(value) = rest.strip_prefix(':').map(str::trim_start) else { continue };
        let (open, inner) = match value.chars().next().filter(|first| quotes.contains(first)) {
            Some(quote) => (true, &value[quote.len_utf8()..]),
            None => (false, value),
        };
        let mut escaped = false;
        let length = inner.find(|character: char| {
            let ends = match character {
                '\n' => true,
                _ if escaped => false,
                character if open => quotes.contains(&character),
                character => ",}]".contains(character),
            };
            escaped = character == '\\' && !escaped;
            ends
        });
        let start = text.len() - inner.len();
        read_to = start + length.unwrap_or(inner.len());
        spans.push(Span { start, end: read_to });
    }
    spans
}
