//! The package checker: a compiler for extension packages.
//!
//! Pure: it reads what it is given, imports no other room and calls nobody. [`check`] takes a
//! [`PackageSource`] and a [`Policy`] and tells everything that is wrong with a package at once,
//! each with its place; a package without errors comes back as a [`CheckedPackage`], the typed
//! view that the rest of the program works with.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `source`, `folder`, `archive`, `intake` | packages as they come in, within their limits |
//! | `json`, `encoding`, `parse`, `parse_text`, `position` | JSON with places |
//! | `schema`, `event_type` | the JSON Schemas, and the event types, which are schemas too |
//! | `rules` | what no schema can say |
//! | `diagnostic`, `code`, `nearest` | what is said about it |
//! | `package`, `reading`, `webhook_resource`, `delivery_wishes` | the typed view |
//! | `own_servers` | authorisation servers that a manifest brings itself |
//! | `secret`, `digest` | what is cut out before anything is stored, and what consent is bound to |
//! | `plan`, `growth`, `upgrade` | what an upgrade changes, and whether it needs consent |
//! | `render`, `excerpt`, `report` | text with carets, JSON, SARIF, GitHub |

mod archive;
mod code;
mod delivery_wishes;
mod diagnostic;
mod digest;
mod encoding;
mod event_type;
mod excerpt;
mod folder;
mod growth;
mod intake;
mod json;
mod nearest;
mod own_servers;
mod package;
mod packing;
mod parse;
mod parse_text;
mod plan;
mod policy;
mod position;
mod reading;
mod render;
mod report;
mod rules;
mod schema;
mod secret;
mod source;
mod upgrade;
mod webhook_resource;

#[cfg(test)]
mod acceptance_tests;
#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod subscription_tests;

pub use code::{codes, explain};
pub use delivery_wishes::DeliveryWishes;
pub use diagnostic::{Diagnostic, Related, Severity, desk_message};
pub use digest::{Digest, InvalidDigest, digest};
pub use event_type::{EventType, SubscriptionOption, event_type, event_types};
pub use growth::{Growth, growth, scope_covers};
pub use nearest::nearest;
pub use own_servers::{HOST_CONNECTION, OwnConnection, own_connections, own_servers};
pub use package::{
    Authorisation, CheckedPackage, Connector, ExtensionType, Manifest, Parameter, ParameterKind,
    StoredPackageInvalid,
};
pub use packing::{PackingError, pack_folder};
pub use plan::{Change, Plan, PlanDocument, PlannedResource, Provisioned, ResourceKey, diff};
pub use policy::{HostVerdict, HostVetting, Policy, offline_verdict};
pub use render::render_text;
pub use report::{ValidationDocument, render_github, render_json, render_sarif};
pub use schema::{schemas, warm_up};
pub use secret::{DeclaredSecret, MissingSecret, SEALED_MARKER, join_secrets, split_secrets};
pub use source::{Limits, MANIFEST_FILE, PackageSource, RESOURCES_FILE, UnusablePackage};
pub use upgrade::Upgrade;
pub use webhook_resource::{
    Direction, EventOrigin, Patch, ProvisionedWebhook, SubscriptionOptions, WebhookResource,
};

use diagnostic::{Finding, Reporter};
use json::{Document, Place};
use parse::Fault;
use position::Positions;
use schema::Subject;

/// The longest JSON file that is parsed, in bytes: the reference's limit for a file.
const LARGEST_JSON: usize = 5_000_000;

/// What the check of a package came to.
#[derive(Debug)]
pub struct Checked {
    /// Everything that there is to say, in the order of files and places.
    pub diagnostics: Vec<Diagnostic>,
    /// The package, where nothing in it is an error.
    pub package: Option<CheckedPackage>,
}

impl Checked {
    /// Whether the package can be published.
    pub fn is_valid(&self) -> bool {
        self.package.is_some()
    }

    /// The diagnostics of one severity, in their order.
    pub fn of_severity(&self, severity: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(move |diagnostic| diagnostic.severity == severity)
    }
}

/// Checks a package against all rules in one pass.
///
/// The same content gives the same diagnostics to the byte, whether it came as a folder or a zip.
pub fn check(source: &PackageSource, policy: &Policy) -> Checked {
    let mut reporter = Reporter::new(policy.most_diagnostics);
    for finding in &source.findings {
        reporter.report_file(finding.clone());
    }
    let manifest = checked_document(source, MANIFEST_FILE, Subject::Manifest, &mut reporter);
    let resources = checked_document(source, RESOURCES_FILE, Subject::Resources, &mut reporter);
    let package = rules::Package {
        source,
        policy,
        manifest: manifest.as_ref(),
        resources: resources.as_ref(),
    };
    rules::run(&package, &mut reporter);

    let mut package = None;
    if !reporter.has_errors()
        && let Some(manifest) = manifest
    {
        let resources_value = resources.as_ref().map_or_else(
            || serde_json::Value::Object(serde_json::Map::new()),
            |resources| resources.root.to_value(),
        );
        match CheckedPackage::from_stored(&manifest.root.to_value(), &resources_value) {
            Ok(checked) => package = Some(checked),
            // No rule found it: said at the place all the same rather than passed over.
            Err(StoredPackageInvalid { file, pointer, expected }) => {
                let place = Place { file: file.into(), pointer, span: None };
                let message = format!("the value must be {expected}");
                reporter.report_file(Finding::error(code::VALUE_TYPE, place, message));
            }
        }
    }
    Checked { diagnostics: reporter.finish(), package }
}

/// A file as it was read.
pub(crate) struct Loaded {
    pub(crate) document: Option<Document>,
    pub(crate) faults: Vec<Fault>,
    /// How many more faults there are.
    pub(crate) left_out: usize,
    pub(crate) positions: Option<Positions>,
}

/// Reads a file as JSON; nothing where its bytes are not there.
pub(crate) fn load(source: &PackageSource, file: &str) -> Option<Loaded> {
    let bytes = source.content(file)?;
    let positions = |text: &str| source.has_positions.then(|| Positions::new(text));
    match encoding::decode(bytes, LARGEST_JSON) {
        Ok(text) => {
            let parse::Parsed { root, faults, left_out } = parse::parse(text);
            let positions = positions(text);
            let document = root.map(|root| Document {
                file: file.to_owned(),
                root,
                positions: positions.clone(),
            });
            Some(Loaded { document, faults, left_out, positions })
        }
        Err(fault) => {
            let (before, fault) = *fault;
            let positions = positions(&before);
            Some(Loaded { document: None, faults: vec![fault], left_out: 0, positions })
        }
    }
}

fn checked_document(
    source: &PackageSource,
    file: &'static str,
    subject: Subject,
    reporter: &mut Reporter,
) -> Option<Document> {
    let Loaded { document, faults, left_out, positions } = load(source, file)?;
    reporter.leave_out(Severity::Error, left_out);
    for fault in faults {
        let mut message = fault.message;
        if let Some((positions, related)) = positions.as_ref().zip(fault.related) {
            let position = positions.of(related.start);
            let lead =
                if fault.code == code::JSON_DUPLICATE_KEY { "first at" } else { "opened at" };
            message =
                format!("{message} ({lead} line {}, column {})", position.line, position.column);
        }
        let pointer = fault.pointer;
        let related = (fault.code == code::JSON_DUPLICATE_KEY).then(|| pointer.clone());
        let place = Place { file: file.into(), pointer, span: Some(fault.span) };
        let mut finding = Finding::error(fault.code, place, message).suggest_if(fault.suggestion);
        if let Some(pointer) = related {
            finding = finding.related(file, pointer);
        }
        reporter.report_at(positions.as_ref(), finding);
    }
    let document = document?;
    schema::check(subject, &document, reporter);
    Some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes_of(manifest: &str, resources: &str) -> Vec<(&'static str, String)> {
        let source = PackageSource::from_json(manifest, resources);
        let checked = check(&source, &Policy::strict_offline());
        checked.diagnostics.into_iter().map(|one| (one.code, one.pointer)).collect()
    }

    #[test]
    fn an_empty_manifest_misses_everything_that_is_required() {
        let missing = codes_of("{}", "{}");
        assert_eq!(missing.len(), 7, "{missing:?}");
        assert!(
            missing.iter().all(|(code, pointer)| *code == code::KEY_MISSING && pointer.is_empty())
        );
    }

    #[test]
    fn anything_but_an_object_is_refused() {
        for text in ["null", "[]", "1", "\"x\""] {
            assert_eq!(codes_of(text, text).len(), 2, "{text}");
        }
    }

    #[test]
    fn a_body_has_no_lines_but_a_file_has() {
        let source = PackageSource::from_json("{\n \"locale\": 1}", "{}");
        let first = &check(&source, &Policy::strict_offline()).diagnostics;
        assert!(first.iter().all(|one| one.line.is_none() && one.column.is_none()));
        let source = PackageSource::from_text("{\n \"locale\": 1}");
        let second = check(&source, &Policy::strict_offline()).diagnostics;
        let locale = second.iter().find(|one| one.pointer == "/locale").expect("a diagnostic");
        assert_eq!((locale.line, locale.column), (Some(2), Some(12)));
        assert_eq!(first.len(), second.len());
    }

    #[test]
    fn the_desk_message_is_the_references_to_the_letter() {
        let manifest = r#"{"locale":["en"],"service":"DESK","storage":false,"type":"personal",
            "whiteListedDomains":[],"modules":{"widgets":[{"name":"W","url":"/app/w.html"}]},
            "connectors":[],"config":[]}"#;
        let resources = r#"{"webhook":{"resourceName":"w","url":"https://vendor.example/h","name":"n",
            "subscriptions":{"Ticket_Add":null},"ignoreSourceId":"2c7e1f7e-6a5b-4b0e-9a53-0d2f9d1c7e41"}}"#;
        let source = PackageSource::from_json(manifest, resources);
        let checked = check(&source, &Policy::strict_offline());
        assert!(!checked.is_valid());
        assert_eq!(
            desk_message(&checked.diagnostics),
            r#"{"errors":{"resourcesJson":["The webhook resource should have connection in zohoAuthorisation with Desk.events.ALL scope.","webhook should be configured for org exension type"]}}"#
        );
    }

    #[test]
    fn diagnostics_are_bounded() {
        let domains = vec!["\"nope\""; 5_000].join(",");
        let manifest = format!("{{\"whiteListedDomains\":[{domains}]}}");
        let policy = Policy { most_diagnostics: 10, ..Policy::strict_offline() };
        let checked = check(&PackageSource::from_json(&manifest, "{}"), &policy);
        assert_eq!(checked.diagnostics.len(), 11);
        let last = checked.diagnostics.last().expect("one");
        assert_eq!(last.code, code::REPORT_CUT_SHORT);
        assert!(!checked.is_valid());
    }
}
