//! Diagnostics as text, with the source line and a caret.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::diagnostic::{Diagnostic, Severity};
use super::json::{Cursor, Document, Span, visible};
use super::position::Positions;
use super::source::{MANIFEST_FILE, PackageSource};
use super::{Loaded, load};

/// The most characters of a source line that are shown: minified files have endless ones.
const WIDEST: usize = 120;
/// How many characters before the caret are shown of a longer line.
const LEAD: usize = 50;

/// The colours of a terminal, or none.
struct Paint {
    color: bool,
}

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn severity(&self, severity: Severity, text: &str) -> String {
        self.wrap(if severity == Severity::Error { "1;31" } else { "1;33" }, text)
    }

    fn frame(&self, text: &str) -> String {
        self.wrap("1;34", text)
    }

    fn bold(&self, text: &str) -> String {
        self.wrap("1", text)
    }
}

/// Renders diagnostics as a compiler does: where, the line with a caret, what to do, and a last
/// line that counts them. Secrets in the shown lines are hidden.
pub fn render_text(diagnostics: &[Diagnostic], source: &PackageSource, color: bool) -> String {
    let paint = Paint { color };
    let mut lines = Lines { source, files: BTreeMap::new() };
    let mut text = String::new();
    for diagnostic in diagnostics {
        render(diagnostic, &mut lines, &paint, &mut text);
        text.push('\n');
    }
    text.push_str(&summary(diagnostics, &paint));
    text.push('\n');
    text
}

fn summary(diagnostics: &[Diagnostic], paint: &Paint) -> String {
    let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    match (errors, warnings) {
        (0, 0) => "The package is valid.".to_owned(),
        (0, _) => {
            let warnings = paint.severity(Severity::Warning, &counted(warnings, "warning"));
            format!("The package is valid, with {warnings}.")
        }
        _ => {
            let errors = paint.severity(Severity::Error, &counted(errors, "error"));
            format!("The package is not valid: {errors}, {}.", counted(warnings, "warning"))
        }
    }
}

fn render(diagnostic: &Diagnostic, lines: &mut Lines<'_>, paint: &Paint, text: &mut String) {
    let head = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let head = paint.severity(diagnostic.severity, &format!("{head}[{}]", diagnostic.code));
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{head}: {}", paint.bold(&diagnostic.message));

    let mut place = diagnostic.file.clone();
    if let (Some(line), Some(column)) = (diagnostic.line, diagnostic.column) {
        let _infallible = write!(place, ":{line}:{column}");
    }
    if !diagnostic.pointer.is_empty() {
        let pointer: String = diagnostic.pointer.chars().take(200).map(visible).collect();
        let _infallible = write!(place, " ({pointer})");
    }
    let number = diagnostic.line.map(|line| line.to_string()).unwrap_or_default();
    let gutter = " ".repeat(number.len());
    let _infallible = writeln!(text, "{gutter}{} {place}", paint.frame("-->"));
    if let (Some(line), Some(column)) = (diagnostic.line, diagnostic.column)
        && let Some(shown) = lines.excerpt(diagnostic, line, column)
    {
        let bar = paint.frame("|");
        let number = paint.frame(&number);
        let caret = "^".repeat(shown.width);
        let caret = paint.severity(diagnostic.severity, &caret);
        let _infallible = writeln!(text, "{gutter} {bar}");
        let _infallible = writeln!(text, "{number} {bar} {}", shown.text);
        let _infallible = writeln!(text, "{gutter} {bar} {}{caret}", " ".repeat(shown.indent));
    }
    let mut note = |what: &str, said: &str| {
        let _infallible =
            writeln!(text, "{gutter} {} {}: {said}", paint.frame("="), paint.bold(what));
    };
    if let Some(suggestion) = &diagnostic.suggestion {
        note("help", suggestion);
    }
    if let Some(related) = &diagnostic.related {
        let pointer: String = related.pointer.chars().take(200).map(visible).collect();
        note("see", &format!("{} ({pointer})", related.file));
    }
}

/// A line as it is shown.
struct Excerpt {
    text: String,
    indent: usize,
    width: usize,
}

/// The lines of the package's files, read when they are first needed.
struct Lines<'s> {
    source: &'s PackageSource,
    files: BTreeMap<String, Option<File>>,
}

struct File {
    positions: Positions,
    /// Secrets, as line, first column and the column behind them.
    secrets: Vec<(u32, u32, u32)>,
}

impl Lines<'_> {
    fn excerpt(&mut self, diagnostic: &Diagnostic, line: u32, column: u32) -> Option<Excerpt> {
        let source = self.source;
        let file = (self.files.entry(diagnostic.file.clone()))
            .or_insert_with(|| open(source, &diagnostic.file))
            .as_ref()?;
        let text = file.positions.line(line)?;
        let column = usize::try_from(column).ok()?;
        let length = text.chars().count();
        let from = if length <= WIDEST { 0 } else { column.saturating_sub(LEAD + 1) };
        let hidden = |at: usize| {
            let at = u32::try_from(at + 1).unwrap_or(u32::MAX);
            file.secrets.iter().any(|&(on, start, end)| on == line && (start..end).contains(&at))
        };
        let mut shown: String = (text.chars().enumerate().skip(from).take(WIDEST))
            .map(|(at, character)| match character {
                _ if hidden(at) => '*',
                '\t' => ' ',
                character => visible(character),
            })
            .collect();
        let mut indent = column.saturating_sub(1).saturating_sub(from);
        if from > 0 {
            shown.insert(0, '…');
            indent += 1;
        }
        if from + WIDEST < length {
            shown.push('…');
        }
        let room = shown.chars().count().saturating_sub(indent).max(1);
        let width = usize::try_from(diagnostic.width).unwrap_or(1).clamp(1, room);
        Some(Excerpt { text: shown, indent, width })
    }
}

fn open(source: &PackageSource, name: &str) -> Option<File> {
    if name != MANIFEST_FILE
        && let Some(Ok(text)) = source.content(name).map(std::str::from_utf8)
    {
        return Some(File { positions: Positions::new(text), secrets: Vec::new() });
    }
    let Loaded { document, positions, .. } = load(source, name)?;
    let positions = positions?;
    let secrets = document.iter().flat_map(secret_spans).filter_map(|span| {
        let (start, end) = (positions.of(span.start), positions.of(span.end));
        (start.line == end.line).then_some((start.line, start.column + 1, end.column - 1))
    });
    Some(File { secrets: secrets.collect(), positions: positions.clone() })
}

/// Where a manifest holds secrets.
fn secret_spans(document: &Document) -> Vec<Span> {
    let root = document.cursor();
    let own = root.get("secret");
    let clients = root.get("TPAOauth");
    let client_secret = |client: Cursor<'_>| client.get("clientSecret").map(|one| one.at_value());
    let mut places: Vec<_> = own.iter().map(Cursor::at_value).collect();
    places.extend(root.get("deskOauth").and_then(client_secret));
    places.extend(clients.iter().flat_map(Cursor::items).filter_map(client_secret));
    places.into_iter().filter_map(|place| place.span).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, check};
    use super::*;

    fn rendered(text: &str) -> String {
        let source = PackageSource::from_text(text);
        let checked = check(&source, &Policy::strict_offline());
        let only: Vec<_> =
            checked.diagnostics.into_iter().filter(|one| !one.pointer.is_empty()).collect();
        render_text(&only, &source, false)
    }

    #[test]
    fn the_caret_stands_under_the_fault() {
        assert_eq!(
            rendered("{\n\t\"storage\": \"yes\"\n}"),
            "error[value.type]: `storage` must be `true` or `false`, not a text\n \
             --> plugin-manifest.json:2:13 (/storage)\n  \
             |\n\
             2 |  \"storage\": \"yes\"\n  \
             |             ^^^^^\n  \
             = help: Whether the extension uses the key-value store of the help desk.\n\n\
             The package is not valid: 1 error, 0 warnings.\n"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!(
            "{{\"x\":\"{}\",\"storage\":1,\"y\":\"{}\"}}",
            "a".repeat(500),
            "b".repeat(500)
        );
        let text = rendered(&text);
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains("\"storage\":1")).expect("the line");
        assert!(lines[at].chars().count() < 140);
        let caret = lines[at + 1].chars().position(|character| character == '^').expect("a caret");
        assert_eq!(lines[at].chars().nth(caret), Some('1'));
    }

    #[test]
    fn secrets_are_hidden() {
        let text = rendered("{\"secret\": \"hush hush\", \"storage\": 1}");
        assert!(text.contains("\"*********\"") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = rendered("{\"type\": \"\u{202e}\u{9b}31m\", \"\u{202e}\": 1}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{9b}'), "{text:?}");
    }
}
