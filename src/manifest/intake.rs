//! Which entries of a folder or zip become files of the package, and what is wrong with the rest.

use std::collections::BTreeMap;

use super::code;
use super::diagnostic::Finding;
use super::json::{Place, shown, shown_path};
use super::source::{Limits, MANIFEST_FILE, PackageFile, RESOURCES_FILE};

/// The longest file name of the reference.
const LONGEST_NAME: usize = 50;

/// Files of other kinds are never read.
const TEXT_EXTENSIONS: [&str; 18] = [
    "html",
    "htm",
    "js",
    "mjs",
    "cjs",
    "jsx",
    "ts",
    "tsx",
    "vue",
    "css",
    "json",
    "txt",
    "md",
    "xml",
    "yml",
    "yaml",
    "env",
    "properties",
];

/// What an entry of a folder or zip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    SymbolicLink,
    Encrypted,
    /// A device, a pipe or something else that holds no bytes of its own.
    Special,
}

/// One entry of a folder or zip.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'e> {
    pub(crate) name: &'e str,
    pub(crate) kind: EntryKind,
    pub(crate) size: u64,
    /// The packed size, in a zip.
    pub(crate) packed: Option<u64>,
}

/// Whether an entry became a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Refused,
    /// Known by name and size.
    Listed,
    /// A rule looks into it: its bytes are to be read.
    Wanted,
}

/// Takes entries one by one and keeps count.
#[derive(Debug)]
pub(crate) struct Intake {
    limits: Limits,
    pub(super) files: BTreeMap<String, PackageFile>,
    pub(super) findings: Vec<Finding>,
    total: u64,
}

impl Intake {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, files: BTreeMap::new(), findings: Vec::new(), total: 0 }
    }

    /// Decides about an entry.
    pub(crate) fn admit(&mut self, entry: &Entry<'_>) -> Admission {
        if let Some((rule, hint)) = unsafe_path(entry.name) {
            self.fault(code::PACKAGE_ENTRY_PATH, entry.name, rule.into(), hint);
            return Admission::Refused;
        }
        let name = entry.name;
        match entry.kind {
            EntryKind::SymbolicLink => {
                let message = "a package must not hold symbolic links".into();
                self.fault(code::PACKAGE_SYMLINK, name, message, "put the file itself there");
                return Admission::Refused;
            }
            EntryKind::Encrypted => {
                let message = "this file is encrypted".into();
                self.fault(code::PACKAGE_ENCRYPTED, name, message, "pack without a password");
                return Admission::Refused;
            }
            EntryKind::Special => {
                let message = "this is not a file".into();
                self.fault(code::PACKAGE_UNREADABLE, name, message, "remove it from the package");
                return Admission::Refused;
            }
            EntryKind::File => {}
        }
        if self.files.contains_key(name) {
            self.duplicate(name);
            return Admission::Refused;
        }
        self.check_name(name);
        self.files.insert(name.to_owned(), PackageFile { content: None });
        let fitted = self.total.saturating_add(entry.size) <= self.limits.total_bytes;
        self.total = self.total.saturating_add(entry.size);
        if entry.size > self.limits.file_bytes {
            let message = format!(
                "the file has {} bytes; a file may have {}",
                entry.size, self.limits.file_bytes
            );
            self.fault(code::PACKAGE_FILE_TOO_LARGE, name, message, "make it smaller or split it");
            return Admission::Listed;
        }
        if let Some(packed) = entry.packed
            && entry.size > Limits::RATIO_FROM_BYTES
            && entry.size / packed.max(1) > self.limits.compression_ratio
        {
            let message = format!(
                "the file unpacks to {} times its packed size; {} is the most",
                entry.size / packed.max(1),
                self.limits.compression_ratio
            );
            self.fault(code::PACKAGE_COMPRESSION_RATIO, name, message, "remove what only fills it");
            return Admission::Listed;
        }
        if fitted && is_wanted(name) { Admission::Wanted } else { Admission::Listed }
    }

    /// Notes that a name comes twice.
    pub(crate) fn duplicate(&mut self, name: &str) {
        let message = "the package holds this file twice; only one would count".into();
        self.fault(code::PACKAGE_DUPLICATE_ENTRY, name, message, "pack each file once");
    }

    /// Notes that a file could not be read.
    pub(crate) fn unreadable(&mut self, name: &str, reason: &str) {
        let message = format!("the file cannot be read: {reason}");
        self.fault(code::PACKAGE_UNREADABLE, name, message, "pack the extension again");
    }

    /// Keeps the bytes of a wanted file.
    pub(crate) fn keep(&mut self, name: &str, content: Vec<u8>) {
        if let Some(file) = self.files.get_mut(name) {
            file.content = Some(content);
        }
    }

    /// Checks what only the whole shows.
    pub(crate) fn close(mut self) -> Self {
        let count = self.files.len();
        if count > self.limits.files {
            let message =
                format!("the package has {count} files; {} is the most", self.limits.files);
            let hint = "leave out what the extension does not need, or bundle it";
            self.fault(code::PACKAGE_TOO_MANY_FILES, ".", message, hint);
        }
        if self.total > self.limits.total_bytes {
            let message = format!(
                "the files have {} bytes together; {} is the most",
                self.total, self.limits.total_bytes
            );
            let hint = "leave out what the extension does not need";
            self.fault(code::PACKAGE_TOO_LARGE, ".", message, hint);
        }
        self
    }

    fn check_name(&mut self, path: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$-".contains(&byte);
        let length = name.chars().count();
        if length > LONGEST_NAME {
            let message =
                format!("the file's name has {length} characters; {LONGEST_NAME} is the most");
            self.fault(code::PACKAGE_FILE_NAME, path, message, "give it a shorter name");
        } else if let Some(odd) = name.chars().find(|&odd| !odd.is_ascii() || !allowed(odd as u8)) {
            let message = format!(
                "the file's name contains `{}`; letters, digits, `_`, `.`, `$` and `-` are allowed",
                shown(&odd.to_string())
            );
            self.fault(code::PACKAGE_FILE_NAME, path, message, "rename it");
        }
    }

    fn fault(&mut self, code: &'static str, name: &str, message: String, hint: &str) {
        let place = Place { file: shown_path(name), pointer: String::new(), span: None };
        self.findings.push(Finding::error(code, place, message).suggest(hint));
    }
}

/// Whether a rule looks into the file.
fn is_wanted(name: &str) -> bool {
    let extension =
        name.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, end)| end);
    name == MANIFEST_FILE
        || name == RESOURCES_FILE
        || extension.is_some_and(|extension| {
            TEXT_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
        })
}

/// What is wrong with a path from a package's root, and what to do.
fn unsafe_path(name: &str) -> Option<(&'static str, &'static str)> {
    let bytes = name.as_bytes();
    if name.contains('\\') {
        return Some(("the path contains a backslash", "pack with `/` between folders"));
    }
    if name.starts_with('/')
        || (bytes.len() > 1 && bytes[1] == b':' && bytes[0].is_ascii_alphabetic())
    {
        return Some(("the path is absolute", "pack with paths from the root of the package"));
    }
    if name.contains(char::is_control) {
        return Some(("the path contains a control character", "rename the file"));
    }
    if name.split('/').any(|part| part == "..") {
        return Some(("the path leads out of the package", "pack without `..` in paths"));
    }
    if name.split('/').any(|part| part.is_empty() || part == ".") {
        return Some(("the path has an empty part", "pack with plain paths"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> Entry<'_> {
        Entry { name, kind: EntryKind::File, size, packed: None }
    }

    fn codes(intake: &Intake) -> Vec<String> {
        intake.findings.iter().map(|finding| format!("{finding:?}")).collect()
    }

    #[test]
    fn paths_that_leave_the_package_are_refused() {
        for name in [
            "../a",
            "app/../../a",
            "/etc/passwd",
            "C:/a",
            "c:a",
            "app\\a.js",
            "a//b",
            "./a",
            "a/",
            "",
            "a\0b",
            "app/a\nb.js",
            "app/\u{1b}[2Ja.js",
            "..",
        ] {
            let mut intake = Intake::new(Limits::default());
            assert_eq!(intake.admit(&file(name, 1)), Admission::Refused, "{name}");
            assert!(codes(&intake)[0].contains(code::PACKAGE_ENTRY_PATH), "{name}");
            assert!(intake.files.is_empty());
        }
    }

    #[test]
    fn only_texts_are_read() {
        let mut intake = Intake::new(Limits::default());
        assert_eq!(intake.admit(&file("app/a.HTML", 1)), Admission::Wanted);
        assert_eq!(intake.admit(&file("app/a.png", 1)), Admission::Listed);
        assert_eq!(intake.admit(&file("app.js/LICENSE", 1)), Admission::Listed);
        assert!(intake.findings.is_empty());
    }

    #[test]
    fn limits_hold_to_the_unit() {
        let limits = Limits { files: 2, file_bytes: 10, total_bytes: 15, ..Limits::default() };
        let mut intake = Intake::new(limits);
        assert_eq!(intake.admit(&file("a.js", 10)), Admission::Wanted);
        assert_eq!(intake.admit(&file("b.js", 5)), Admission::Wanted);
        assert!(intake.close().findings.is_empty());

        let mut intake = Intake::new(limits);
        intake.admit(&file("a.js", 11));
        assert_eq!(intake.admit(&file("b.js", 5)), Admission::Listed, "the total is spent");
        intake.admit(&file("c.js", 0));
        assert_eq!(intake.close().findings.len(), 3);
    }

    #[test]
    fn names_follow_the_reference() {
        let mut intake = Intake::new(Limits::default());
        intake.admit(&file(&format!("app/{}", "x".repeat(50)), 1));
        assert!(intake.findings.is_empty());
        intake.admit(&file(&format!("app/{}", "x".repeat(51)), 1));
        intake.admit(&file("app/a b.png", 1));
        intake.admit(&file("app/ä.png", 1));
        assert_eq!(intake.findings.len(), 3);
    }
}
