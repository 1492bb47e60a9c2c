//! Publishing: a package goes in, and what is wrong with it is shown on its source.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::page_with;
use crate::manifest::{Limits, PackageSource};
use crate::web::answers::Diagnostic;
use crate::web::form::Form;
use crate::web::parts::counted;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Sent, Visit, segment, with_query};

/// Of a longer file only the lines about a diagnostic are shown.
const WHOLE_UP_TO: usize = 400;

/// How many lines before and after a diagnostic.
const AROUND: usize = 4;

/// How much of a line is shown, in characters.
const LONGEST_LINE: usize = 240;

#[derive(Template)]
#[template(path = "publish.html")]
struct PublishPage {
    shell: Shell,
    key: String,
    name: String,
    version: String,
    vendor: String,
    /// Whether the vendor is the visitor's own, and no other.
    is_own: bool,
    fault: String,
    verdict: Option<Verdict>,
}

/// What the check came to.
struct Verdict {
    is_valid: bool,
    errors: usize,
    warnings: usize,
    /// Diagnostics of no file, or of one that is no text.
    loose: Vec<Diagnostic>,
    files: Vec<SourceFile>,
}

impl Verdict {
    /// What was found, in words.
    fn count(&self) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let errors = counted(number(self.errors), "error", "errors");
        format!("{errors}, {}", counted(number(self.warnings), "warning", "warnings"))
    }
}

/// A file with what there is to say about it.
#[derive(Debug, PartialEq)]
struct SourceFile {
    name: String,
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
struct Line {
    /// From 1; nothing where lines are left out.
    number: Option<u32>,
    text: String,
    notes: Vec<Note>,
}

/// A diagnostic below its line.
#[derive(Clone, Debug, PartialEq)]
struct Note {
    tone: &'static str,
    column: u32,
    code: String,
    message: String,
    suggestion: String,
}

/// Asks for a package.
pub(in crate::web) async fn ask(visit: Visit) -> Result<Response, Trouble> {
    show(&visit, &Form::default(), String::new(), None)
}

fn show(
    visit: &Visit,
    form: &Form,
    fault: String,
    verdict: Option<Verdict>,
) -> Result<Response, Trouble> {
    let own = visit.visitor()?.session.visitor.vendor.as_ref().map(ToString::to_string);
    // A check that found faults did what it was asked for.
    let is_refused = form.text("action") == "publish"
        && verdict.as_ref().is_some_and(|verdict| !verdict.is_valid);
    let is_bad = !fault.is_empty() || is_refused;
    let status = if is_bad { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let template = PublishPage {
        shell: visit.shell("Publish a version"),
        key: form.text("extension").to_owned(),
        name: form.text("name").to_owned(),
        version: form.text("version").to_owned(),
        is_own: own.is_some(),
        vendor: own.unwrap_or_else(|| form.text("vendor").to_owned()),
        fault,
        verdict,
    };
    page_with(status, &template)
}

/// Checks a package, or publishes it.
pub(in crate::web) async fn publish(visit: Visit, Sent(form): Sent) -> Result<Response, Trouble> {
    let Some(package) = form.file("package").cloned() else {
        return show(&visit, &form, "Choose the extension's zip file first.".to_owned(), None);
    };
    let own = visit.visitor()?.session.visitor.vendor.as_ref().map(ToString::to_string);
    let vendor = own.unwrap_or_else(|| form.text("vendor").to_owned());
    let key = form.text("extension");
    let path = if form.text("action") == "publish" {
        with_query(
            "/extensions",
            &[
                ("key", key),
                ("name", form.text("name")),
                ("version", form.text("version")),
                ("vendor", &vendor),
            ],
        )
    } else {
        "/extensions/validate".to_owned()
    };
    let body = ("application/zip", package.clone());
    let answered = visit.ask(Method::POST, &path, Some(body), Some(form.text("key"))).await?;
    let is_published = answered.status.is_success() && form.text("action") == "publish";
    if is_published {
        return Ok(Redirect::to(&format!("/pages/extensions/{}", segment(key))).into_response());
    }
    let is_about_the_package = answered.json.get("warnings").is_some();
    if !is_about_the_package {
        let trouble = Trouble::refused(answered.status, answered.json);
        return show(&visit, &form, trouble.detail, None);
    }
    let verdict = verdict(answered.status.is_success(), &answered.json, package).await?;
    show(&visit, &form, String::new(), Some(verdict))
}

fn diagnostics(document: &Value, name: &str) -> Vec<Diagnostic> {
    let list = document.get(name).cloned().unwrap_or_default();
    serde_json::from_value(list).unwrap_or_default()
}

async fn verdict(is_valid: bool, document: &Value, package: Bytes) -> Result<Verdict, Trouble> {
    let (errors, warnings) = (diagnostics(document, "errors"), diagnostics(document, "warnings"));
    let (error_count, warning_count) = (errors.len(), warnings.len());
    let all: Vec<Diagnostic> = errors.into_iter().chain(warnings).collect();
    // Unpacking takes its time: not on a thread that serves others.
    let laid_out = tokio::task::spawn_blocking(move || {
        let source = PackageSource::from_zip(&package, &Limits::default()).ok();
        lay_out(all, |file| {
            let bytes = source.as_ref()?.content(file)?;
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        })
    });
    let (loose, files) = laid_out.await.map_err(|error| Trouble::internal(&error))?;
    Ok(Verdict { is_valid, errors: error_count, warnings: warning_count, loose, files })
}

/// Puts diagnostics below the lines that they are about.
fn lay_out(
    all: Vec<Diagnostic>,
    text_of: impl Fn(&str) -> Option<String>,
) -> (Vec<Diagnostic>, Vec<SourceFile>) {
    let mut loose = Vec::new();
    let mut by_file: BTreeMap<String, Vec<(u32, Note)>> = BTreeMap::new();
    let mut texts: BTreeMap<String, Option<String>> = BTreeMap::new();
    for diagnostic in all {
        let Some(line) = diagnostic.line else {
            loose.push(diagnostic);
            continue;
        };
        let text =
            texts.entry(diagnostic.file.clone()).or_insert_with(|| text_of(&diagnostic.file));
        if text.is_none() {
            loose.push(diagnostic);
            continue;
        }
        let note = Note {
            tone: if diagnostic.severity.is_named("error") { "bad" } else { "waiting" },
            column: diagnostic.column.unwrap_or(1),
            code: diagnostic.code,
            message: diagnostic.message,
            suggestion: diagnostic.suggestion.as_str().to_owned(),
        };
        by_file.entry(diagnostic.file).or_default().push((line, note));
    }
    let files = by_file
        .into_iter()
        .map(|(name, notes)| {
            let text = texts.get(&name).and_then(Option::as_deref).unwrap_or_default();
            SourceFile { lines: lines(text, &notes), name }
        })
        .collect();
    (loose, files)
}

fn lines(text: &str, notes: &[(u32, Note)]) -> Vec<Line> {
    let all: Vec<&str> = text.lines().collect();
    let is_whole = all.len() <= WHOLE_UP_TO;
    let is_near = |number: usize| {
        notes.iter().any(|(line, _)| {
            usize::try_from(*line).is_ok_and(|line| line.abs_diff(number) <= AROUND)
        })
    };
    let mut shown = Vec::new();
    let mut is_gap = false;
    for (index, text) in all.iter().enumerate() {
        let number = index + 1;
        if !is_whole && !is_near(number) {
            if !is_gap {
                shown.push(Line { number: None, text: String::new(), notes: Vec::new() });
            }
            is_gap = true;
            continue;
        }
        is_gap = false;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let mut cut: String = text.chars().take(LONGEST_LINE).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        let own = notes.iter().filter(|(line, _)| *line == number);
        let notes = own.map(|(_, note)| note.clone()).collect();
        shown.push(Line { number: Some(number), text: cut, notes });
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn diagnostic(file: &str, line: Option<u32>) -> Diagnostic {
        serde_json::from_value(json!({
            "code": "a.b", "severity": "error", "file": file, "line": line, "column": 2,
            "message": "m", "suggestion": null,
        }))
        .unwrap()
    }

    #[test]
    fn diagnostics_stand_below_their_line_and_others_apart() {
        let all = vec![
            diagnostic("a.json", Some(2)),
            diagnostic("a.json", None),
            diagnostic("picture.png", Some(1)),
        ];
        let (loose, files) =
            lay_out(all, |file| (file == "a.json").then(|| "{\n  1\n}\n".to_owned()));
        assert_eq!((loose.len(), files.len()), (2, 1));
        let counts: Vec<_> = files[0].lines.iter().map(|line| line.notes.len()).collect();
        assert_eq!(counts, [0, 1, 0]);
    }

    #[test]
    fn of_a_long_file_the_lines_about_a_diagnostic_are_shown() {
        let text = "x\n".repeat(1_000);
        let notes = [(
            500,
            Note {
                tone: "bad",
                column: 1,
                code: String::new(),
                message: String::new(),
                suggestion: String::new(),
            },
        )];
        let shown = lines(&text, &notes);
        let numbers: Vec<_> = shown.iter().map(|line| line.number).collect();
        assert_eq!(numbers.len(), 2 + 2 * AROUND + 1);
        assert_eq!((numbers[0], numbers[1]), (None, Some(496)));
        let long = lines(&"y".repeat(10_000), &[]);
        assert_eq!(long[0].text.chars().count(), LONGEST_LINE + 1);
    }
}
