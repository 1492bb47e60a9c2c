//! Runs the examples of every rule's page: the bad one must be told under the rule, the good one
//! must not.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::intake::{Admission, Entry, EntryKind, Intake};
use super::*;

fn sample() -> PackageSource {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ticket-mirror");
    PackageSource::from_folder(Path::new(folder), &Limits::default()).expect("the sample")
}

/// A package that is put together from an example.
struct Builder {
    files: Vec<(String, Vec<u8>)>,
    more: Vec<OwnedEntry>,
    left_out: Vec<String>,
}

struct OwnedEntry {
    name: String,
    kind: EntryKind,
    size: u64,
    packed: Option<u64>,
}

impl Builder {
    fn new() -> Self {
        let files = sample().files.into_iter();
        let files = files.map(|(name, file)| (name, file.content.unwrap_or_default())).collect();
        Self { files, more: Vec::new(), left_out: Vec::new() }
    }

    fn replace(&mut self, name: &str, content: Vec<u8>) {
        self.files.retain(|(known, _)| known != name);
        self.files.push((name.to_owned(), content));
    }

    fn add(&mut self, info: &str, body: &str) {
        let (language, name) = info.split_once(' ').unwrap_or((info, ""));
        match language {
            "json" => {
                let base = self.files.iter().find(|(known, _)| known == name).expect("a file");
                let mut value: Value = serde_json::from_slice(&base.1).expect("JSON");
                let excerpt: Value =
                    serde_json::from_str(&repeat(body)).expect("an excerpt is JSON");
                lay_over(&mut value, &excerpt);
                self.replace(name, value.to_string().into_bytes());
            }
            "text" => self.replace(name, repeat(body).into_bytes()),
            "bytes" => self.replace(name, unescape_bytes(body)),
            "files" => body.lines().for_each(|line| self.add_line(line)),
            other => panic!("unknown example {other}"),
        }
    }

    /// A line such as `app/a.js 100 bytes packed 3`, `app/b -> /etc`, `- app/` or `x.js ×300`.
    fn add_line(&mut self, line: &str) {
        if let Some(gone) = line.strip_prefix("- ") {
            self.left_out.push(gone.to_owned());
            return;
        }
        let (line, target) =
            line.split_once(" -> ").map_or((line, false), |(line, _)| (line, true));
        let (line, times) = match line.split_once(" ×") {
            Some((line, times)) => (line, times.parse().expect("a number")),
            None => (line, 1),
        };
        let plain_end = line.rfind(" special").or_else(|| line.rfind(" encrypted"));
        let sized = line.find(" bytes").and_then(|at| line[..at].rfind(' '));
        let name = &line[..plain_end.or(sized).unwrap_or(line.len())];
        let rest: Vec<&str> = line[name.len()..].split_whitespace().collect();
        let number = |at: usize| rest.get(at).and_then(|text| text.parse().ok());
        let kind = match rest.as_slice() {
            _ if target => EntryKind::SymbolicLink,
            ["special"] => EntryKind::Special,
            ["encrypted"] => EntryKind::Encrypted,
            _ => EntryKind::File,
        };
        for time in 0..times {
            let name =
                if times == 1 { name.to_owned() } else { name.replace('.', &format!("{time}.")) };
            self.left_out.retain(|gone| *gone != name);
            if self.files.iter().all(|(known, _)| *known != name) {
                let (size, packed) = (number(0).unwrap_or(2), number(3));
                self.more.push(OwnedEntry { name, kind, size, packed });
            }
        }
    }

    fn build(self) -> PackageSource {
        let mut intake = Intake::new(Limits::default());
        for (name, content) in &self.files {
            if self.left_out.iter().any(|gone| name.starts_with(gone.as_str())) {
                continue;
            }
            let size = u64::try_from(content.len()).expect("a size");
            let entry = Entry { name, kind: EntryKind::File, size, packed: None };
            if intake.admit(&entry) == Admission::Wanted {
                intake.keep(name, content.clone());
            }
        }
        for OwnedEntry { name, kind, size, packed } in &self.more {
            let entry = Entry { name, kind: *kind, size: *size, packed: *packed };
            if intake.admit(&entry) == Admission::Wanted {
                intake.keep(name, b"{}".to_vec());
            }
        }
        PackageSource::of_intake(intake.close())
    }
}

/// Members of the outermost object, and of `webhook`, are replaced.
fn lay_over(value: &mut Value, excerpt: &Value) {
    for (key, member) in excerpt.as_object().expect("an object") {
        if key == "webhook" {
            for (inner, member) in member.as_object().expect("an object") {
                value["webhook"][inner] = member.clone();
            }
        } else {
            value[key] = member.clone();
        }
    }
}

/// `(x×n)` stands for n times x.
fn repeat(body: &str) -> String {
    let pattern = regex::Regex::new(r"\(([^()]*?)×(\d+)\)").expect("a pattern");
    let repeated =
        |found: &regex::Captures<'_>| found[1].repeat(found[2].parse().expect("a number"));
    pattern.replace_all(body, repeated).into_owned()
}

fn unescape_bytes(body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = body.split("\\x");
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend(part[2..].bytes());
    }
    bytes
}

/// The examples under a heading: what each shows, and its text.
fn examples(page: &str, heading: &str) -> Vec<(String, String)> {
    let section =
        page.split("\n## ").find_map(|part| part.strip_prefix(heading)).expect("a section");
    let mut found = Vec::new();
    let mut fences = section.split("\n```");
    fences.next();
    while let Some(fence) = fences.next() {
        let (info, body) = fence.split_once('\n').unwrap_or((fence, ""));
        found.push((info.to_owned(), body.to_owned()));
        fences.next();
    }
    assert!(!found.is_empty(), "{section}");
    found
}

fn codes_of(examples: &[(String, String)]) -> Vec<&'static str> {
    let mut builder = Builder::new();
    for (info, body) in examples {
        builder.add(info, body);
    }
    let policy = Policy {
        denied_scopes: vec!["Desk.organization.*".into()],
        host_vetting: Arc::new(|host, _| offline_verdict(host)),
        ..Policy::strict_offline()
    };
    let diagnostics = check(&builder.build(), &policy).diagnostics;
    for one in &diagnostics {
        assert!(one.suggestion.as_ref().is_some_and(|hint| !hint.is_empty()), "{one:?}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&one.doc).is_file(), "{one:?}");
    }
    diagnostics.into_iter().map(|one| one.code).collect()
}

#[test]
fn the_sample_is_put_together_faithfully() {
    let codes = codes_of(&[]);
    assert!(codes.iter().all(|code| *code == "url.documentation-host"), "{codes:?}");
}

#[test]
fn bad_examples_are_told_and_good_ones_are_not() {
    let mut wrong = Vec::new();
    for code in codes() {
        let page = explain(code).expect("a page");
        let bad = codes_of(&examples(page, "Bad"));
        if !bad.contains(&code) {
            wrong.push(format!("{code}: the bad example gives {bad:?}"));
        }
        let good = codes_of(&examples(page, "Good"));
        if good.contains(&code) {
            wrong.push(format!("{code}: the good example gives {good:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_rules_is_complete() {
    let table = include_str!("../../docs/rules/README.md");
    for code in codes() {
        assert!(table.contains(&format!("| [{code}]({code}.md) |")), "{code}");
    }
}
