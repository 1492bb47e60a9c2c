//! The room as a whole: the sample package, the broken packages, arbitrary bytes.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn sample() -> (Value, Value) {
    let source = PackageSource::from_folder(&fixtures().join("ticket-mirror")).expect("read");
    let checked = check(&source, &Policy::offline());
    let package = checked.package.expect("no errors");
    (package.manifest_json, package.resources_json)
}

fn findings(manifest: &Value, resources: &Value, policy: &Policy) -> Vec<Diagnostic> {
    let source = PackageSource::from_json(&manifest.to_string(), &resources.to_string());
    check(&source, policy).diagnostics
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn the_sample_is_without_findings_and_typed() {
    let source = PackageSource::from_path(&fixtures().join("ticket-mirror")).expect("read");
    let checked = check(&source, &Policy::offline());
    assert_eq!(checked.diagnostics, []);
    let package = checked.package.expect("a package");
    assert_eq!(package.required_scopes(), ["Desk.events.ALL", "Desk.tickets.READ"]);
    assert_eq!(package.manifest.extension_type, ExtensionType::Org);
    assert_eq!(package.manifest.config.len(), 4);
    assert!(package.manifest.config[1].secure && !package.manifest.config[3].user_defined);
    assert_eq!(package.manifest.config[2].default, Some(json!("open")));
    assert_eq!(package.manifest.callback_listener.len(), 3);
    let webhook = package.webhook.expect("a webhook");
    assert_eq!(webhook.url.as_str(), "https://vendor.example/hooks/desk?tenant=a");
    assert_eq!(webhook.subscriptions.len(), 3);
    assert_eq!(webhook.include_events_from, None);
    assert!(!webhook.ordered);

    let (stored, secrets) = split_secrets(&package.manifest_json);
    assert_eq!(secrets.len(), 1);
    assert_eq!(Manifest::from_stored(&stored), Some(package.manifest));
}

#[test]
fn the_sample_is_the_same_as_an_archive() {
    let folder = fixtures().join("ticket-mirror");
    let plain = PackageSource::from_folder(&folder).expect("read");
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in plain.files().expect("files") {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).expect("start");
        let bytes = std::fs::read(folder.join(name)).expect("read");
        std::io::Write::write_all(&mut writer, &bytes).expect("write");
    }
    let archive = writer.finish().expect("finish").into_inner();
    let packed = PackageSource::from_zip(&archive).expect("read");
    assert_eq!(packed.files(), plain.files());
    let checked = check(&packed, &Policy::offline());
    assert_eq!(checked.diagnostics, []);
    assert!(checked.package.is_some());
}

#[test]
fn a_secret_that_is_the_mark_is_told() {
    let (manifest, resources) = sample();
    let (stored, _) = split_secrets(&manifest);
    assert_eq!(codes(&findings(&stored, &resources, &Policy::offline())), ["secret.marker"]);
}

#[test]
fn every_broken_package_has_its_findings() {
    let documentation = include_str!("../../docs/package-rules.md");
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures().join("broken")).expect("a folder") {
        let folder = entry.expect("an entry").path();
        let source = PackageSource::from_folder(&folder).expect("read");
        let checked = check(&source, &Policy::offline());
        let found: Vec<Value> = checked
            .diagnostics
            .iter()
            .map(|finding| {
                json!({
                    "code": finding.code,
                    "file": finding.file,
                    "pointer": finding.pointer,
                    "line": finding.line,
                    "column": finding.column,
                })
            })
            .collect();
        let text = std::fs::read_to_string(folder.join("expected.json")).expect("expected.json");
        let expected: Vec<Value> = serde_json::from_str(&text).expect("a list");
        let shown = serde_json::to_string_pretty(&found).expect("JSON");
        assert_eq!(found, expected, "{}\n{shown}", folder.display());
        assert!(checked.package.is_none(), "{}", folder.display());
        for finding in &checked.diagnostics {
            let heading = format!("### {}\n", finding.code);
            assert!(documentation.contains(&heading), "{} is not documented", finding.code);
            let places: BTreeSet<_> = checked
                .diagnostics
                .iter()
                .map(|other| (other.code, other.file, &other.pointer, &other.message))
                .collect();
            assert_eq!(places.len(), checked.diagnostics.len(), "a finding stands twice");
        }
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} broken packages");
}

#[test]
fn the_two_sentences_are_the_reference_s_own() {
    let (mut manifest, resources) = sample();
    manifest["type"] = json!("personal");
    manifest["zohoAuthorisation"]["scope"] = json!([]);
    let found = findings(&manifest, &resources, &Policy::offline());
    assert_eq!(
        desk_message(&found),
        "{\"errors\":{\"resourcesJson\":[\"The webhook resource should have connection in \
         zohoAuthorisation with Desk.events.ALL scope.\",\"webhook should be configured for org \
         exension type\"]}}"
    );
    assert!(found.iter().all(|finding| finding.line.is_none()));
}

#[test]
fn the_policy_decides_on_http_hosts_and_scopes() {
    let (mut manifest, mut resources) = sample();
    resources["webhook"]["url"] = json!("http://127.0.0.1:9000/hooks");
    manifest["zohoAuthorisation"]["scope"] = json!(["Desk.events.ALL", "Desk.settings.ALL"]);
    assert_eq!(
        codes(&findings(&manifest, &resources, &Policy::offline())),
        ["webhook.url-invalid"]
    );
    let mut policy = Policy { require_https: false, ..Policy::offline() };
    assert_eq!(codes(&findings(&manifest, &resources, &policy)), ["webhook.host-not-public"]);
    policy.host_vetting = Arc::new(|_, port| match port {
        9000 | 443 => HostVerdict::Public,
        _ => HostVerdict::NotPublic { reason: "its port is not allowed".to_owned() },
    });
    assert_eq!(findings(&manifest, &resources, &policy), []);
    policy.denied_scopes = vec!["Desk.settings.ALL".to_owned()];
    assert_eq!(codes(&findings(&manifest, &resources, &policy)), ["authorization.scope-denied"]);
}

#[test]
fn an_upgrade_can_tell_absent_from_null_and_departments_are_dropped() {
    let (_, mut resources) = sample();
    resources["webhook"]["includeEventsFrom"] = json!(null);
    resources["webhook"]["mortise"] = json!({"ordered": true});
    resources["webhook"]["subscriptions"]["Ticket_Update"]["departmentIds"] = json!(["1"]);
    let webhook = WebhookResource::from_stored(&resources).expect("a webhook");
    assert_eq!(webhook.include_events_from, Some(Vec::new()));
    assert!(webhook.ordered);
    assert!(webhook.subscriptions["Ticket_Update"].get("departmentIds").is_none());
}

#[test]
fn no_message_repeats_a_secret() {
    let (mut manifest, resources) = sample();
    manifest["secret"] = json!({"hush": "hush"});
    manifest["deskOauth"] = json!({"clientSecret": ["hush"]});
    let found = findings(&manifest, &resources, &Policy::offline());
    assert!(found.iter().any(Diagnostic::is_error));
    assert!(found.iter().all(|finding| !finding.message.contains("hush")), "{found:?}");
}

#[test]
fn a_flood_of_findings_is_bounded_and_stays_refused() {
    let (mut manifest, resources) = sample();
    for number in 0..2_000 {
        manifest[format!("unknown{number}")] = json!(1);
    }
    manifest["whiteListedDomains"] = json!(vec!["x"; 2_000]);
    let checked = findings(&manifest, &resources, &Policy::offline());
    assert_eq!(checked.len(), 501);
    assert_eq!(checked[500].code, "package.too-many-findings");
    assert!(checked[500].is_error());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_texts_are_checked_without_panic(manifest in ".{0,200}", resources in ".{0,200}") {
        let source = PackageSource::from_json(&manifest, &resources);
        let checked = check(&source, &Policy::offline());
        render_text(&checked.diagnostics, &source, true);
        prop_assert!(checked.package.is_none());
    }

    #[test]
    fn any_damage_to_the_sample_is_checked_without_panic(at in 0_usize..2_000, byte in any::<u8>()) {
        let folder = fixtures().join("ticket-mirror");
        let copy = tempfile::tempdir().expect("a folder");
        for file in [MANIFEST_FILE, RESOURCES_FILE] {
            let mut bytes = std::fs::read(folder.join(file)).expect("read");
            let at = at % bytes.len();
            bytes[at] = byte;
            std::fs::write(copy.path().join(file), bytes).expect("write");
        }
        let source = PackageSource::from_folder(copy.path()).expect("read");
        let checked = check(&source, &Policy::offline());
        render_text(&checked.diagnostics, &source, false);
        prop_assert!(checked.package.is_none(), "there is no app folder");
    }

    #[test]
    fn any_bytes_are_no_archive_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(PackageSource::from_zip(&bytes).is_err());
    }
}
