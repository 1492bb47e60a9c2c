//! What the checker says, and how it collects it.

use std::cmp::Ordering;

use serde::Serialize;

use super::code;
use super::json::{Document, Place};
use super::position::Positions;
use super::source::{MANIFEST_FILE, RESOURCES_FILE};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The package cannot be published.
    Error,
    /// The package can be published, but this should be looked at.
    Warning,
}

/// Another place that belongs to a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// The file in the package.
    pub file: String,
    /// The part of the file, as a JSON Pointer.
    pub pointer: String,
}

/// One thing that the checker has to say about a package.
///
/// `line` and `column` count from 1, the column in characters; they are `null` where the source
/// text is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// The stable name of the rule.
    pub code: &'static str,
    /// Whether the package can still be published.
    pub severity: Severity,
    /// The file in the package.
    pub file: String,
    /// The part of the file, as a JSON Pointer.
    pub pointer: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The character of the line, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
    /// Another place that belongs to it.
    pub related: Option<Related>,
    /// Where the rule is explained.
    pub doc: String,
    /// How many characters it takes, for the caret.
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) width: u32,
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) offset: Option<usize>,
}

/// A diagnostic that is being put together.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    code: &'static str,
    severity: Severity,
    place: Place,
    message: String,
    suggestion: Option<String>,
    related: Option<Related>,
}

impl Finding {
    pub(crate) fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, severity: Severity::Error, place, message, suggestion: None, related: None }
    }

    pub(crate) fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    pub(crate) fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    pub(crate) fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }

    pub(crate) fn suggest_if(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }

    pub(crate) fn related(self, file: &str, pointer: impl Into<String>) -> Self {
        Self { related: Some(Related { file: file.into(), pointer: pointer.into() }), ..self }
    }
}

/// Collects diagnostics, at most as many as anybody would read. Where there are more, errors are
/// kept rather than warnings, and the rest is counted.
#[derive(Debug)]
pub(crate) struct Reporter {
    diagnostics: Vec<Diagnostic>,
    most: usize,
    left_out: usize,
    errors: usize,
    /// How many of the kept ones are warnings.
    warnings_kept: usize,
}

impl Reporter {
    pub(crate) fn new(most: usize) -> Self {
        Self { diagnostics: Vec::new(), most, left_out: 0, errors: 0, warnings_kept: 0 }
    }

    /// Whether nothing of that severity is kept any more: rules then need not work out what to
    /// say.
    pub(crate) fn is_full(&self, severity: Severity) -> bool {
        let evictable = if severity == Severity::Error { self.warnings_kept } else { 0 };
        self.diagnostics.len() >= self.most && evictable == 0
    }

    /// Counts what nobody would read any more.
    pub(crate) fn leave_out(&mut self, severity: Severity, count: usize) {
        if severity == Severity::Error {
            self.errors += count;
        }
        self.left_out += count;
    }

    /// Notes something about a parsed document.
    pub(crate) fn report(&mut self, document: &Document, finding: Finding) {
        self.report_at(document.positions.as_ref(), finding);
    }

    /// Notes something about a file as a whole.
    pub(crate) fn report_file(&mut self, finding: Finding) {
        self.report_at(None, finding);
    }

    pub(crate) fn report_at(&mut self, positions: Option<&Positions>, finding: Finding) {
        if self.is_full(finding.severity) {
            self.leave_out(finding.severity, 1);
            return;
        }
        match finding.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings_kept += 1,
        }
        if self.diagnostics.len() >= self.most {
            let warning = |one: &Diagnostic| one.severity == Severity::Warning;
            if let Some(last) = self.diagnostics.iter().rposition(warning) {
                self.diagnostics.remove(last);
                self.warnings_kept -= 1;
                self.left_out += 1;
            }
        }
        let span = finding.place.span;
        let found = positions.zip(span);
        let position = found.map(|(positions, span)| positions.of(span.start));
        self.diagnostics.push(Diagnostic {
            code: finding.code,
            severity: finding.severity,
            file: finding.place.file,
            pointer: finding.place.pointer,
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            message: finding.message,
            suggestion: finding.suggestion,
            related: finding.related,
            doc: code::page_path(finding.code),
            width: found.map_or(1, |(positions, span)| positions.width(span.start, span.end)),
            offset: span.map(|span| span.start),
        });
    }

    /// Whether anything was wrong that forbids publishing, shown or left out.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// All of it in the order of files and of the places in them.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by(order);
        if self.left_out > 0 {
            let place = Place { file: MANIFEST_FILE.into(), pointer: String::new(), span: None };
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let message = match self.left_out {
                1 => "1 more diagnostic is not shown".to_owned(),
                more => format!("{more} more diagnostics are not shown"),
            };
            let finding = Finding::warning(code::REPORT_CUT_SHORT, place, message)
                .severity(severity)
                .suggest("repair what is shown and check again");
            self.most += 1;
            self.report_file(finding);
        }
        self.diagnostics
    }
}

/// The manifest first, then the resources, then the other files by name; within a file by place.
fn order(one: &Diagnostic, other: &Diagnostic) -> Ordering {
    let rank = |diagnostic: &Diagnostic| match diagnostic.file.as_str() {
        MANIFEST_FILE => 0,
        RESOURCES_FILE => 1,
        _ => 2,
    };
    rank(one)
        .cmp(&rank(other))
        .then_with(|| one.file.cmp(&other.file))
        .then_with(|| one.offset.cmp(&other.offset))
}

/// The reference's form of the errors: a JSON document in a string, with the keys `manifestJson`
/// and `resourcesJson`. What belongs to another file of the package is told with the manifest.
///
/// The two rules that the reference words itself have its wording to the letter, misspelling
/// included, because vendors' tools compare it.
pub fn desk_message(diagnostics: &[Diagnostic]) -> String {
    let (mut manifest, mut resources) = (Vec::new(), Vec::new());
    for diagnostic in diagnostics {
        if diagnostic.severity == Severity::Error {
            let sentence = match diagnostic.code {
                code::WEBHOOK_SCOPE_MISSING => {
                    "The webhook resource should have connection in zohoAuthorisation with Desk.events.ALL scope."
                }
                code::WEBHOOK_ORG_TYPE => "webhook should be configured for org exension type",
                _ => &diagnostic.message,
            };
            let list =
                if diagnostic.file == RESOURCES_FILE { &mut resources } else { &mut manifest };
            list.push(sentence);
        }
    }
    let mut errors = serde_json::Map::new();
    if !manifest.is_empty() {
        errors.insert("manifestJson".into(), manifest.into());
    }
    if !resources.is_empty() {
        errors.insert("resourcesJson".into(), resources.into());
    }
    serde_json::json!({ "errors": errors }).to_string()
}
