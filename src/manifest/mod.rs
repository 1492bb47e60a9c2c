//! Extension packages: read with positions, checked against schemas and rules, typed, digested.
//!
//! The room is pure: it imports no other room, resolves no name and calls nobody. One check tells
//! every fault at once, each with its place. The rules are in `docs/package-rules.md`.

mod diagnostic;
mod digest;
mod files;
mod findings;
mod links;
mod package;
mod policy;
mod position;
mod render;
mod rules;
mod schema;
mod source;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use self::{
    diagnostic::{
        Diagnostic, MANIFEST_FILE, PACKAGE, RESOURCES_FILE, Related, Severity, desk_message,
        nearest, validation_document,
    },
    digest::{SEALED, digest, split_secrets},
    package::{
        Authorization, CheckedPackage, ConfigParameter, ExtensionType, Manifest, WebhookResource,
    },
    policy::{HostVerdict, HostVetting, Policy},
    render::render_text,
    schema::{EventType, event_types, schema_files},
    source::{
        MAX_FILE_BYTES, MAX_FILES, MAX_JSON_BYTES, MAX_TOTAL_BYTES, PackageSource, UnusablePackage,
    },
};
use self::{
    findings::{Findings, Located},
    position::Document,
    source::Text,
};

/// What a check found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Every finding, in the order of the files and their lines.
    pub diagnostics: Vec<Diagnostic>,
    /// The package; absent if there is an error among the findings.
    pub package: Option<CheckedPackage>,
}

/// Checks a package by every rule at once.
pub fn check(source: &PackageSource, policy: &Policy) -> Checked {
    let manifest = source.manifest_text().filter(|text| fits(text)).map(Document::read);
    let resources = source.resources_text().filter(|text| fits(text)).map(Document::read);
    let located = |text, document| match (text, document) {
        (Some(text), Some(document)) if source.has_lines() => Some(Located { text, document }),
        _ => None,
    };
    let mut findings = Findings::new(
        located(source.manifest_text(), manifest.as_ref()),
        located(source.resources_text(), resources.as_ref()),
    );
    text_faults(&mut findings, MANIFEST_FILE, &source.manifest, manifest.as_ref());
    text_faults(&mut findings, RESOURCES_FILE, &source.resources, resources.as_ref());
    let manifest = manifest.as_ref().and_then(|document| document.value.as_ref());
    let resources = resources.as_ref().and_then(|document| document.value.as_ref());
    if let Some(manifest) = manifest {
        schema::check(&mut findings, MANIFEST_FILE, manifest);
        rules::manifest(&mut findings, policy, manifest);
    }
    if let Some(resources) = resources {
        schema::check(&mut findings, RESOURCES_FILE, resources);
        rules::resources(&mut findings, policy, resources);
    }
    if let (Some(manifest), Some(resources)) = (manifest, resources) {
        rules::across(&mut findings, manifest, resources);
    }
    if let Some(names) = source.files() {
        files::check(&mut findings, names, manifest);
    }
    finish(findings.finish(), manifest, resources)
}

fn finish(
    mut diagnostics: Vec<Diagnostic>,
    manifest: Option<&Value>,
    resources: Option<&Value>,
) -> Checked {
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Checked { diagnostics, package: None };
    }
    let package = manifest.zip(resources).and_then(|(manifest, resources)| {
        let webhook = WebhookResource::from_stored(resources);
        // A webhook that passed the rules but can't be typed must not be dropped in silence.
        if webhook.is_none() && resources.get("webhook").is_some() {
            return None;
        }
        Some(CheckedPackage {
            manifest: Manifest::from_stored(manifest)?,
            webhook,
            manifest_json: manifest.clone(),
            resources_json: resources.clone(),
        })
    });
    if package.is_none() {
        diagnostics.push(Diagnostic::new(
            "package.unreadable",
            Severity::Error,
            PACKAGE,
            String::new(),
            "the package breaks no rule by name, but is not understood".to_owned(),
        ));
    }
    Checked { diagnostics, package }
}

fn fits(text: &str) -> bool {
    text.len() as u64 <= MAX_JSON_BYTES
}

/// Tells what keeps a file from being read at all, and what is wrong with its JSON.
fn text_faults(
    findings: &mut Findings<'_>,
    file: &'static str,
    text: &Text,
    document: Option<&Document>,
) {
    let mut whole = |code, message: String, suggestion: &str| {
        findings.report_at(code, Severity::Error, file, "", None, message).suggest(suggestion);
    };
    match (text, document) {
        (Text::Missing, _) => {
            let suggestion = if file == RESOURCES_FILE {
                "add a resources.json at the root; {} is enough"
            } else {
                "add a plugin-manifest.json at the root of the package"
            };
            whole("package.file-missing", format!("the package has no {file}"), suggestion);
        }
        (Text::NotUnicode(offset), _) => whole(
            "json.not-utf8",
            format!("the file is not UTF-8 from byte {offset} on"),
            "save it as UTF-8",
        ),
        (Text::Present(_), None) => whole(
            "json.too-large",
            format!("the file is larger than {MAX_JSON_BYTES} bytes"),
            "make it smaller",
        ),
        (Text::Present(_), Some(document)) => {
            for fault in &document.faults {
                let finding = findings.report_at(
                    fault.code,
                    Severity::Error,
                    file,
                    &fault.pointer,
                    Some(fault.offset),
                    fault.message.clone(),
                );
                if let Some(suggestion) = &fault.suggestion {
                    finding.suggest(suggestion.clone());
                }
            }
        }
    }
}
