//! The growing list of findings, which knows where everything stands.

use super::{
    diagnostic::{Diagnostic, MANIFEST_FILE, PACKAGE, RESOURCES_FILE, Severity},
    position::{Document, Part},
};

/// The most findings of one check; a file with more needs no longer list.
const MAX_FINDINGS: usize = 500;

/// A file's text and what was read of it.
pub(crate) struct Located<'a> {
    pub(crate) text: &'a str,
    pub(crate) document: &'a Document,
}

/// The findings of one check.
pub(crate) struct Findings<'a> {
    list: Vec<Diagnostic>,
    manifest: Option<Located<'a>>,
    resources: Option<Located<'a>>,
    /// Where a finding beyond the bound goes, and whether one of them was an error.
    beyond: Option<Diagnostic>,
    errors_beyond: bool,
}

impl<'a> Findings<'a> {
    /// An empty list; a file's positions are absent where its text isn't the vendor's own.
    pub(crate) fn new(manifest: Option<Located<'a>>, resources: Option<Located<'a>>) -> Self {
        Self { list: Vec::new(), manifest, resources, beyond: None, errors_beyond: false }
    }

    /// Adds a finding about what a pointer names.
    pub(crate) fn report(
        &mut self,
        code: &'static str,
        severity: Severity,
        file: &'static str,
        pointer: &str,
        part: Part,
        message: String,
    ) -> &mut Diagnostic {
        let offset = self.located(file).and_then(|located| located.document.offset(pointer, part));
        self.report_at(code, severity, file, pointer, offset, message)
    }

    /// Adds a finding at a byte offset.
    pub(crate) fn report_at(
        &mut self,
        code: &'static str,
        severity: Severity,
        file: &'static str,
        pointer: &str,
        offset: Option<usize>,
        message: String,
    ) -> &mut Diagnostic {
        let mut finding = Diagnostic::new(code, severity, file, pointer.to_owned(), message);
        if self.is_full() {
            self.errors_beyond |= finding.is_error();
            return self.beyond.insert(finding);
        }
        if let (Some(located), Some(offset)) = (self.located(file), offset) {
            let (line, column) = located.document.line_and_column(located.text, offset);
            finding.line = Some(line);
            finding.column = Some(column);
        }
        let index = self.list.len();
        self.list.push(finding);
        &mut self.list[index]
    }

    /// Whether further findings are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_FINDINGS
    }

    fn located(&self, file: &str) -> Option<&Located<'a>> {
        match file {
            MANIFEST_FILE => self.manifest.as_ref(),
            RESOURCES_FILE => self.resources.as_ref(),
            _ => None,
        }
    }

    /// The findings in the order of the files and their lines, each once.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut list: Vec<Diagnostic> = Vec::with_capacity(self.list.len());
        let mut seen = std::collections::BTreeSet::new();
        for finding in self.list {
            let same =
                (finding.code, finding.file, finding.pointer.clone(), finding.message.clone());
            if seen.insert(same) {
                list.push(finding);
            }
        }
        let rank = |file: &str| match file {
            PACKAGE => 0,
            MANIFEST_FILE => 1,
            _ => 2,
        };
        list.sort_by_key(|finding| (rank(finding.file), finding.line, finding.column));
        if self.beyond.is_some() {
            let severity = if self.errors_beyond { Severity::Error } else { Severity::Warning };
            let message =
                format!("there are more than {MAX_FINDINGS} findings; the rest are not shown");
            list.push(Diagnostic::new(
                "package.too-many-findings",
                severity,
                PACKAGE,
                String::new(),
                message,
            ));
        }
        list
    }
}
