//! Diagnostics as text, with the source line and a caret.

use std::fmt::Write as _;

use super::diagnostic::{Diagnostic, Severity};
use super::excerpt::Lines;
use super::json::shown_path;
use super::source::PackageSource;

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
    let mut lines = Lines::new(source, diagnostics);
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
        let pointer = shown_path(&diagnostic.pointer);
        let _infallible = write!(place, " ({pointer})");
    }
    let number = diagnostic.line.map(|line| line.to_string()).unwrap_or_default();
    let gutter = " ".repeat(number.len());
    let _infallible = writeln!(text, "{gutter}{} {place}", paint.frame("-->"));
    if let Some(shown) = lines.excerpt(diagnostic) {
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
        let pointer = shown_path(&related.pointer);
        note("see", &format!("{} ({pointer})", related.file));
    }
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
    fn carets_stand_right_behind_wide_and_combining_characters() {
        for (before, columns) in
            [("日本語", 6), ("e\u{301}a\u{308}", 0), ("\u{1F600}", 2), ("ﾊﾝ", 2), ("\t\t", 2)]
        {
            // A tab within a text is a fault of its own, so tabs stand between values.
            let text = if before.starts_with('\t') {
                format!("{{\"type\":{before}1}}")
            } else {
                format!("{{\"{before}\":0, \"type\": 1}}")
            };
            let text = rendered(&text);
            let lines: Vec<&str> = text.lines().collect();
            let at = lines.iter().rposition(|line| line.contains('^')).expect("a caret");
            let line = lines[at - 1];
            let digit = &line[..line.rfind('1').expect("the value")];
            let caret = lines[at].find('^').expect("a caret");
            let drift = unicode_width::UnicodeWidthStr::width(digit);
            assert_eq!(drift, caret, "{text}");
            let narrow = digit.chars().filter(char::is_ascii).count();
            assert_eq!(drift, narrow + if before.contains('\t') { 0 } else { columns }, "{text}");
        }
        // What is wide itself has carets under all of it.
        let text = rendered("{\"service\": \"日本\"}");
        let carets = text.lines().find(|line| line.contains('^')).expect("carets");
        assert_eq!(carets.matches('^').count(), 6, "{text}");
    }

    #[test]
    fn many_faults_on_one_long_line_are_shown_quickly() {
        let mut keys = String::new();
        for number in 0..20_000 {
            let _infallible = write!(keys, "\"nothing {number}\":0,");
        }
        let source = PackageSource::from_text(&format!("{{{keys}\"a\":1}}"));
        let checked = check(&source, &Policy::strict_offline());
        let text = render_text(&checked.diagnostics, &source, false);
        assert!(text.lines().all(|line| line.chars().count() < 300));
    }

    #[test]
    fn secrets_are_hidden_where_the_file_cannot_be_read_to_its_end() {
        for text in [
            "{\"secret\": \"hush hush\" \"storage\" 1}",
            "{\"deskOauth\": {\"clientSecret\":\"hush \\\" hush\", oops]",
            "{'secret': 'hush hush', ]",
            "{secret: hush, ]",
        ] {
            let source = PackageSource::from_text(text);
            let checked = check(&source, &Policy::strict_offline());
            let shown = render_text(&checked.diagnostics, &source, false);
            assert!(shown.contains('^') && !shown.contains("hush"), "{shown}");
        }
    }

    #[test]
    fn pasted_secrets_are_not_shown_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = ["ghp_", &"a1".repeat(18)].concat();
        std::fs::create_dir(folder.path().join("app")).expect("a folder");
        let line = format!("let one = '{token}'; let two = '{token}';");
        std::fs::write(folder.path().join("app/a.js"), line).expect("a file");
        let source = PackageSource::from_folder(folder.path(), &super::super::Limits::default());
        let source = source.expect("a package");
        let checked = check(&source, &Policy::strict_offline());
        let told = checked.diagnostics.iter().filter(|one| one.code == "secret.in-source");
        assert_eq!(told.count(), 2);
        let text = render_text(&checked.diagnostics, &source, false);
        assert!(text.contains("let one = '****") && !text.contains("ghp_"), "{text}");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = rendered("{\"type\": \"\u{202e}\u{9b}31m\", \"\u{202e}\": 1}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{9b}'), "{text:?}");
    }
}
