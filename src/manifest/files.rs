//! Rules about the files of a package: names, translations, widgets and their pictures.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    diagnostic::{MANIFEST_FILE, PACKAGE, Severity, shown},
    findings::Findings,
    position::Part,
};

/// The longest name of a file, in characters (the reference's own limit).
const MAX_NAME: usize = 50;

/// Checks what the manifest names against what the package holds.
pub(crate) fn check(
    findings: &mut Findings<'_>,
    files: &BTreeSet<String>,
    manifest: Option<&Value>,
) {
    if !files.iter().any(|name| name.starts_with("app/")) {
        let message = "the package has no files in app/".to_owned();
        findings
            .report("package.app-missing", Severity::Error, PACKAGE, "", Part::Value, message)
            .suggest("put the widgets and translations below app/");
    }
    for name in files {
        let own = name.rsplit('/').next().unwrap_or(name);
        let plain = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '$' | '-')
        };
        if own.chars().count() > MAX_NAME || !own.chars().all(plain) {
            let message = format!(
                "the file name {} is longer than {MAX_NAME} characters or has others than \
                 letters, digits, _ . $ -",
                shown(name)
            );
            findings
                .report("package.file-name", Severity::Error, PACKAGE, "", Part::Value, message)
                .suggest("rename the file");
        }
    }
    let Some(manifest) = manifest else { return };
    let locales = manifest.get("locale").and_then(Value::as_array);
    for (index, locale) in locales.into_iter().flatten().enumerate() {
        let Some(locale) = locale.as_str() else { continue };
        let name = format!("app/translations/{locale}.json");
        if !files.contains(&name) {
            missing(findings, "locale.translations-missing", &format!("/locale/{index}"), &name);
        }
    }
    let widgets = manifest.pointer("/modules/widgets").and_then(Value::as_array);
    for (index, widget) in widgets.into_iter().flatten().enumerate() {
        for key in ["url", "logo", "icon"] {
            let Some(path) = widget.get(key).and_then(Value::as_str) else { continue };
            let Some(path) = path.strip_prefix('/') else { continue };
            let path = path.split(['?', '#']).next().unwrap_or(path);
            if !files.contains(path) {
                let pointer = format!("/modules/widgets/{index}/{key}");
                missing(findings, "widget.file-missing", &pointer, path);
            }
        }
    }
}

fn missing(findings: &mut Findings<'_>, code: &'static str, pointer: &str, name: &str) {
    let message = format!("the package has no file {}", shown(name));
    findings
        .report(code, Severity::Error, MANIFEST_FILE, pointer, Part::Value, message)
        .suggest("add the file, or name another");
}
