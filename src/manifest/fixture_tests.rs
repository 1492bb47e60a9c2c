//! Checks the packages under `fixtures/`: the sample is valid, and every broken one is told to be
//! broken exactly where it is, whether it comes as a folder or as a zip.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn broken() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures().join("broken")).expect("the broken packages");
    let mut folders: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    folders
}

fn files_in(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().into_string().expect("UTF-8"));
        if entry.path().is_dir() {
            files_in(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push((name, fs::read(entry.path()).expect("a file")));
        }
    }
}

fn zip_of(folder: &Path) -> Vec<u8> {
    let mut files = Vec::new();
    files_in(folder, "", &mut files);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(name, SimpleFileOptions::default()).expect("a file");
        writer.write_all(&content).expect("bytes");
    }
    writer.finish().expect("a zip").into_inner()
}

fn check_folder(folder: &Path) -> Checked {
    let source = PackageSource::from_folder(folder, &Limits::default()).expect("a package");
    check(&source, &Policy::strict_offline())
}

#[test]
fn the_sample_is_valid() {
    let checked = check_folder(&fixtures().join("ticket-mirror"));
    let package = checked.package.expect("a valid package");
    assert!(checked.diagnostics.iter().all(|one| one.code == "url.documentation-host"));
    assert_eq!(package.required_scopes(), ["Desk.events.ALL", "Desk.tickets.READ"]);
    let webhook = package.webhook.as_ref().expect("a webhook").provision(None);
    assert_eq!(webhook.url.as_str(), "https://vendor.example/hooks/desk?tenant=a");
    let update = &webhook.subscriptions["Ticket_Update"];
    assert!(update.include_prev_state && update.fields.contains("status"));
    assert_eq!(package.manifest.extension_type, Some(ExtensionType::Org));
    assert_eq!(package.manifest.callback_listener.len(), 3);
    assert_eq!(package.secrets().len(), 1);
    assert!(!format!("{package:?}").contains("0f3c6b1e9d7a4c52b8e1f0a96d2c7b43"));
    let stored = CheckedPackage::from_stored(package.stripped_manifest(), package.resources())
        .expect("stored");
    assert_eq!(stored.digest(), package.digest());
    assert!(matches!(stored.manifest.secret, Some(DeclaredSecret::Sealed)));
}

#[test]
fn broken_packages_are_told_exactly_where_they_are_broken() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for folder in broken() {
        let checked = check_folder(&folder.join("package"));
        let found: Vec<Value> = (checked.diagnostics.iter())
            .map(|one| {
                json!({ "code": one.code, "severity": one.severity, "file": one.file,
                    "pointer": one.pointer, "line": one.line, "column": one.column })
            })
            .collect();
        let path = folder.join("expected.json");
        if update {
            let lines: Vec<_> = found.iter().map(|one| format!("  {one}")).collect();
            fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).expect("written");
        }
        let expected: Value =
            serde_json::from_slice(&fs::read(&path).expect("expected.json")).expect("JSON");
        if Value::from(found.clone()) != expected {
            wrong.push(format!("{}:\n{:#}", folder.display(), Value::from(found)));
        }
        let errors = checked.of_severity(Severity::Error).count();
        assert_eq!(checked.is_valid(), errors == 0, "{}", folder.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_a_dozen_broken_packages_and_each_says_what_is_wrong() {
    let folders = broken();
    assert!(folders.len() >= 12);
    for folder in folders {
        let about = fs::read_to_string(folder.join("README.md")).expect("a README");
        assert!(about.len() > 20, "{}", folder.display());
        let expected = fs::read_to_string(folder.join("expected.json")).expect("expected.json");
        assert!(expected.contains("\"code\""), "{}", folder.display());
    }
}

#[test]
fn twenty_five_planted_faults_give_twenty_five_diagnostics() {
    let folder = fixtures().join("broken/twenty-five-faults/package");
    let checked = check_folder(&folder);
    let places: std::collections::BTreeSet<_> = (checked.diagnostics.iter())
        .map(|one| (one.code, one.file.as_str(), one.pointer.as_str(), one.line, one.column))
        .collect();
    assert_eq!(places.len(), 25, "{places:#?}");
    assert_eq!(checked.diagnostics.len(), 25);
    assert!(checked.diagnostics.iter().all(|one| one.line.is_some() && one.suggestion.is_some()));
}

#[test]
fn a_zip_is_told_the_same_as_its_folder_to_the_byte() {
    let mut folders: Vec<_> = broken().iter().map(|folder| folder.join("package")).collect();
    folders.push(fixtures().join("ticket-mirror"));
    for folder in folders {
        let source = PackageSource::from_zip(&zip_of(&folder), &Limits::default()).expect("a zip");
        let zipped = check(&source, &Policy::strict_offline());
        let unpacked = check_folder(&folder);
        assert_eq!(
            render_json(&zipped.diagnostics),
            render_json(&unpacked.diagnostics),
            "{}",
            folder.display()
        );
    }
}

#[test]
fn a_body_is_told_the_same_but_for_files_and_lines() {
    let folder = fixtures().join("broken/personal-with-webhook/package");
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    let source = PackageSource::from_json(&text(MANIFEST_FILE), &text(RESOURCES_FILE));
    let body = check(&source, &Policy::strict_offline()).diagnostics;
    let mut files = check_folder(&folder).diagnostics;
    for one in &mut files {
        (one.line, one.column, one.width) = (None, None, 1);
    }
    assert_eq!(body, files);
}

#[test]
fn every_rendering_of_every_fixture_is_sound() {
    let escapes = regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("a pattern");
    for folder in broken() {
        let source = PackageSource::from_folder(&folder.join("package"), &Limits::default())
            .expect("a package");
        let checked = check(&source, &Policy::strict_offline());
        let text = render_text(&checked.diagnostics, &source, false);
        for one in &checked.diagnostics {
            assert!(text.contains(&format!("[{}]: {}", one.code, one.message)), "{text}");
            assert!(!one.message.is_empty());
            assert!(one.suggestion.as_ref().is_some_and(|hint| !hint.is_empty()), "{one:?}");
            assert_eq!(one.doc, format!("docs/rules/{}.md", one.code));
            assert_eq!(one.line.is_some(), one.column.is_some());
        }
        assert!(!text.contains('\u{1b}'));
        let plain: String = {
            let colored = render_text(&checked.diagnostics, &source, true);
            escapes.replace_all(&colored, "").into_owned()
        };
        assert_eq!(plain, text);
        for document in [render_json(&checked.diagnostics), render_sarif(&checked.diagnostics, "")]
        {
            assert!(serde_json::from_str::<Value>(&document).expect("JSON").is_object());
        }
        assert_eq!(
            render_github(&checked.diagnostics, "").lines().count(),
            checked.diagnostics.len()
        );
    }
}

/// What the standard defines of the parts that we write, strictly: no other property, every required
/// one, the values of its lists (sections 3.13, 3.14, 3.19, 3.27 to 3.30, 3.33 and 3.49 of SARIF
/// 2.1.0).
fn sarif_structure() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let object = |required: &[&str], properties: Value| {
        json!({ "type": "object", "required": required, "properties": properties,
            "additionalProperties": false })
    };
    let message = object(&["text"], json!({ "text": text }));
    let count = json!({ "type": "integer", "minimum": 1 });
    let region = object(
        &["startLine"],
        json!({ "startLine": count, "startColumn": count, "endLine": count, "endColumn": count }),
    );
    let artifact = object(
        &["uri"],
        json!({ "uri": { "type": "string", "pattern": "^(?:[A-Za-z0-9._~/$-]|%[0-9A-F]{2})+$" } }),
    );
    let location = object(
        &["physicalLocation"],
        json!({
            "physicalLocation":
                object(&["artifactLocation"], json!({ "artifactLocation": artifact, "region": region })),
            "logicalLocations": { "type": "array", "minItems": 1, "uniqueItems": true,
                "items": object(&["fullyQualifiedName"], json!({ "fullyQualifiedName": text })) },
        }),
    );
    let locations = json!({ "type": "array", "minItems": 1, "items": location });
    let result = object(
        &["ruleId", "ruleIndex", "level", "message", "locations"],
        json!({
            "ruleId": text, "ruleIndex": { "type": "integer", "minimum": 0 },
            "level": { "enum": ["none", "note", "warning", "error"] },
            "message": message, "locations": locations, "relatedLocations": locations,
        }),
    );
    let help = object(&["text"], json!({ "text": text, "markdown": text }));
    let rule = object(
        &["id", "shortDescription", "help"],
        json!({ "id": text, "shortDescription": message, "help": help }),
    );
    let driver = object(
        &["name"],
        json!({
            "name": text, "semanticVersion": { "type": "string", "pattern": "^\\d+\\.\\d+\\.\\d+" },
            "rules": { "type": "array", "uniqueItems": true, "items": rule },
        }),
    );
    let run = object(
        &["tool", "results"],
        json!({
            "tool": object(&["driver"], json!({ "driver": driver })),
            "columnKind": { "enum": ["utf16CodeUnits", "unicodeCodePoints"] },
            "results": { "type": "array", "items": result },
        }),
    );
    object(
        &["version", "runs"],
        json!({
            "$schema": { "type": "string", "format": "uri" }, "version": { "const": "2.1.0" },
            "runs": { "type": "array", "minItems": 1, "items": run },
        }),
    )
}

#[test]
fn every_sarif_log_has_the_structure_of_the_standard() {
    let validator = jsonschema::draft202012::new(&sarif_structure()).expect("a schema");
    let mut folders: Vec<_> = broken().iter().map(|folder| folder.join("package")).collect();
    folders.push(fixtures().join("ticket-mirror"));
    for folder in folders {
        let checked = check_folder(&folder);
        let log = render_sarif(&checked.diagnostics, "packages/one");
        let log: Value = serde_json::from_str(&log).expect("JSON");
        let errors: Vec<_> = validator.iter_errors(&log).map(|error| format!("{error}")).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", folder.display());
        let results = log["runs"][0]["results"].as_array().expect("results");
        assert_eq!(results.len(), checked.diagnostics.len());
    }
    assert!(!validator.is_valid(&json!({ "version": "2.1.0", "runs": [{}] })));
}

#[test]
fn payload_samples_have_the_references_shape() {
    let mut count = 0;
    for entry in fs::read_dir(fixtures().join("payloads")).expect("the payloads") {
        let path = entry.expect("an entry").path();
        let events: Value =
            serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        for event in events.as_array().expect("a list") {
            let name = event["eventType"].as_str().expect("a name");
            let known = event_type(name).expect("an event type");
            assert!(event["payload"]["id"].is_string(), "{}", path.display());
            assert!(event["orgId"].is_string());
            assert!(event["eventTime"].as_str().is_some_and(|time| time.parse::<u64>().is_ok()));
            let previous = event.get("prevState").is_some();
            assert!(!previous || known.supports(SubscriptionOption::IncludePrevState));
            count += 1;
        }
    }
    assert!(count >= 5);
}
