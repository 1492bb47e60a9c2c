//! Findings as a compiler shows them: the line of the file and a mark below.

use std::fmt::Write;

use super::{
    diagnostic::{Diagnostic, MANIFEST_FILE, RESOURCES_FILE, Severity},
    source::PackageSource,
};

/// The most characters of a source line that are shown.
const WINDOW: usize = 100;
/// How many of them stand before the mark at the most.
const BEFORE: usize = 40;

struct Paint {
    severity: &'static str,
    bold: &'static str,
    dim: &'static str,
    end: &'static str,
}

/// The findings as text for a terminal, with a last line that counts them. A vendor's text is shown
/// without control characters, so that it can't steer the terminal.
pub fn render_text(diagnostics: &[Diagnostic], source: &PackageSource, color: bool) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        // Writing to a string can't fail.
        let _ = one(&mut text, diagnostic, source, color);
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let _ = writeln!(text, "{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    text
}

fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

fn one(
    text: &mut String,
    diagnostic: &Diagnostic,
    source: &PackageSource,
    color: bool,
) -> std::fmt::Result {
    let word = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let Paint { severity, bold, dim, end } = match (color, diagnostic.severity) {
        (false, _) => Paint { severity: "", bold: "", dim: "", end: "" },
        (true, Severity::Error) => {
            Paint { severity: "\x1b[1;31m", bold: "\x1b[1m", dim: "\x1b[2m", end: "\x1b[0m" }
        }
        (true, Severity::Warning) => {
            Paint { severity: "\x1b[1;33m", bold: "\x1b[1m", dim: "\x1b[2m", end: "\x1b[0m" }
        }
    };
    let message = safe(&diagnostic.message);
    writeln!(text, "{severity}{word}[{}]{end}{bold}: {message}{end}", diagnostic.code)?;
    let (file, pointer) = (diagnostic.file, safe(&diagnostic.pointer));
    let mut margin = 1;
    if let (Some(line), Some(column)) = (diagnostic.line, diagnostic.column) {
        let number = line.to_string();
        margin = number.len();
        let space = " ".repeat(margin);
        writeln!(text, "{dim}{space}-->{end} {file}:{line}:{column} {pointer}")?;
        if let Some((shown, before, length)) = excerpt(source, file, line, column) {
            let (gap, mark) = (" ".repeat(before), "^".repeat(length));
            writeln!(text, "{dim}{space} |{end}")?;
            writeln!(text, "{dim}{number} |{end} {shown}")?;
            writeln!(text, "{dim}{space} |{end} {gap}{severity}{mark}{end}")?;
        }
    } else {
        writeln!(text, "{dim} -->{end} {file} {pointer}")?;
    }
    let space = " ".repeat(margin);
    if let Some(suggestion) = &diagnostic.suggestion {
        writeln!(text, "{dim}{space} ={end} {bold}help{end}: {}", safe(suggestion))?;
    }
    if let Some(related) = &diagnostic.related {
        let pointer = safe(&related.pointer);
        writeln!(text, "{dim}{space} ={end} {bold}see{end}: {} {pointer}", related.file)?;
    }
    writeln!(text)
}

fn safe(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// The character, or what stands for one that would steer a terminal or turn the text around.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        other if other.is_control() => '\u{fffd}',
        other => other,
    }
}

/// The part of a line around a column, how many characters stand before the mark, and its length.
fn excerpt(
    source: &PackageSource,
    file: &str,
    line: u32,
    column: u32,
) -> Option<(String, usize, usize)> {
    let text = match file {
        MANIFEST_FILE => source.manifest_text()?,
        RESOURCES_FILE => source.resources_text()?,
        _ => return None,
    };
    let line = text.split('\n').nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let start = column.saturating_sub(BEFORE);
    let shown: String = line.chars().skip(start).take(WINDOW).map(visible).collect();
    let before = column - start;
    let length = token(shown.chars().skip(before)).clamp(1, WINDOW - before);
    Some((shown, before, length))
}

/// How many characters the JSON token has that starts here.
fn token(mut rest: impl Iterator<Item = char>) -> usize {
    match rest.next() {
        Some('"') => {
            let mut length = 1;
            let mut escape = false;
            for character in rest {
                length += 1;
                match character {
                    '"' if !escape => break,
                    _ => escape = character == '\\' && !escape,
                }
            }
            length
        }
        Some('{' | '[' | ',') | None => 1,
        Some(_) => 1 + rest.take_while(char::is_ascii_alphanumeric).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Policy, check};

    #[test]
    fn a_finding_shows_its_line_and_a_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(MANIFEST_FILE), "{}").expect("write");
        let resources = "{\n  \"webhok\": {}\n}";
        std::fs::write(folder.path().join(RESOURCES_FILE), resources).expect("write");
        let source = PackageSource::from_folder(folder.path()).expect("read");
        let checked = check(&source, &Policy::offline());
        let text = render_text(&checked.diagnostics, &source, false);
        let wanted = "\
warning[schema.unknown-key]: the key \"webhok\" is not known here
 --> resources.json:2:3 /webhok
  |
2 |   \"webhok\": {}
  |   ^^^^^^^^
  = help: did you mean \"webhook\"?
";
        assert!(text.contains(wanted), "{text}");
        assert!(render_text(&checked.diagnostics, &source, true).contains("\x1b[1;31merror"));
    }

    #[test]
    fn a_file_can_not_steer_the_terminal() {
        assert_eq!(safe("a\x1b[2J\u{202e}\tb"), "a\u{fffd}[2J\u{fffd} b");
    }

    #[test]
    fn tokens_have_their_length() {
        for (text, length) in [("\"a\\\"b\": 1", 6), ("{}", 1), ("true,", 4), ("", 1), (",]", 1)] {
            assert_eq!(token(text.chars()), length, "{text}");
        }
    }
}
