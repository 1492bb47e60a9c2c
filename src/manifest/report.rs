//! Diagnostics as documents: the API's JSON, SARIF, and annotations for GitHub.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::code;
use super::diagnostic::{Diagnostic, Severity, desk_message};

/// The body that says what a check came to, as the API gives it.
///
/// A valid package has `valid` and `warnings`; an invalid one is the problem document of the
/// contract. The API sets `type` to an absolute URL and adds its `correlationId`; everything else
/// is the same on the command line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ValidationDocument {
    /// Nothing is an error.
    Valid {
        /// Always true.
        valid: bool,
        /// What should be looked at.
        warnings: Vec<Diagnostic>,
    },
    /// The package cannot be published.
    #[serde(rename_all = "camelCase")]
    Invalid {
        /// What kind of problem it is.
        r#type: String,
        /// The kind in words.
        title: &'static str,
        /// The status of the answer: 422.
        status: u16,
        /// The kind in the reference's list.
        error_code: &'static str,
        /// The reference's form of all errors, a JSON document in a text.
        message: String,
        /// The call that this belongs to; none on the command line.
        correlation_id: Option<String>,
        /// All errors.
        errors: Vec<Diagnostic>,
        /// What should be looked at besides.
        warnings: Vec<Diagnostic>,
    },
}

impl ValidationDocument {
    /// The document for the diagnostics of one check.
    pub fn new(diagnostics: &[Diagnostic]) -> Self {
        let of = |severity| {
            let chosen = diagnostics.iter().filter(|one| one.severity == severity);
            chosen.cloned().collect::<Vec<_>>()
        };
        let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
        if errors.is_empty() {
            return Self::Valid { valid: true, warnings };
        }
        Self::Invalid {
            r#type: "/problems/extension-invalid".into(),
            title: "Extension package is not valid",
            status: 422,
            error_code: "UNPROCESSABLE_ENTITY",
            message: desk_message(diagnostics),
            correlation_id: None,
            errors,
            warnings,
        }
    }
}

/// The API's document as text.
pub fn render_json(diagnostics: &[Diagnostic]) -> String {
    pretty(&json!(ValidationDocument::new(diagnostics)))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A log in the Static Analysis Results Interchange Format 2.1.0. `folder` is where the package
/// lies in the repository; empty, paths are told from the package's root.
pub fn render_sarif(diagnostics: &[Diagnostic], folder: &str) -> String {
    let used: BTreeSet<&str> = diagnostics.iter().map(|one| one.code).collect();
    let rules: Vec<Value> = (used.iter())
        .map(|code| {
            let page = code::explain(code).unwrap_or_default();
            let text = page.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
            json!({
                "id": code,
                "shortDescription": { "text": text.unwrap_or(code) },
                "help": { "text": page, "markdown": page },
            })
        })
        .collect();
    let position = |code: &str| used.iter().position(|known| *known == code);
    let results: Vec<Value> =
        diagnostics.iter().map(|one| sarif_result(one, position(one.code), folder)).collect();
    pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "mortise",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn sarif_result(diagnostic: &Diagnostic, rule: Option<usize>, folder: &str) -> Value {
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let text = match &diagnostic.suggestion {
        Some(suggestion) => format!("{} ({suggestion})", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let mut location = sarif_location(&in_folder(folder, &diagnostic.file), &diagnostic.pointer);
    if let (Some(line), Some(column)) = (diagnostic.line, diagnostic.column) {
        let end = column.saturating_add(diagnostic.width);
        location["physicalLocation"]["region"] =
            json!({ "startLine": line, "startColumn": column, "endColumn": end });
    }
    let mut result = json!({
        "ruleId": diagnostic.code,
        "level": level,
        "message": { "text": text },
        "locations": [location],
    });
    if let Some(rule) = rule {
        result["ruleIndex"] = rule.into();
    }
    if let Some(related) = &diagnostic.related {
        result["relatedLocations"] =
            json!([sarif_location(&in_folder(folder, &related.file), &related.pointer)]);
    }
    result
}

/// The path of a file of the package from where the folder is told from.
fn in_folder(folder: &str, file: &str) -> String {
    let folder = folder.trim_start_matches("./").trim_end_matches('/');
    if folder.is_empty() || folder == "." { file.to_owned() } else { format!("{folder}/{file}") }
}

fn sarif_location(file: &str, pointer: &str) -> Value {
    let mut uri = String::new();
    for byte in file.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/$".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(uri, "%{byte:02X}");
        }
    }
    let mut location = json!({ "physicalLocation": { "artifactLocation": { "uri": uri } } });
    if !pointer.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": pointer }]);
    }
    location
}

/// Annotations for a workflow of GitHub Actions, one a line. `folder` is where the package lies in
/// the repository, since GitHub takes paths from there.
pub fn render_github(diagnostics: &[Diagnostic], folder: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for one in diagnostics {
        let level = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut properties = format!("file={}", property(&in_folder(folder, &one.file)));
        if let (Some(line), Some(column)) = (one.line, one.column) {
            // Writing to a string cannot fail.
            let _infallible = write!(properties, ",line={line},col={column}");
        }
        let message = match &one.suggestion {
            Some(suggestion) => format!("{}. {suggestion}", one.message),
            None => one.message.clone(),
        };
        let title = property(one.code);
        let _infallible =
            writeln!(text, "::{level} {properties},title={title}::{}", data(&message));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{PackageSource, Policy, check};
    use super::*;

    fn diagnostics() -> Vec<Diagnostic> {
        let source = PackageSource::from_text("{\n  \"storage\": \"yes\",\n  \"colour\": 1\n}");
        check(&source, &Policy::strict_offline()).diagnostics
    }

    #[test]
    fn the_document_has_every_key_even_where_it_is_null() {
        let document: Value = serde_json::from_str(&render_json(&diagnostics())).expect("JSON");
        assert_eq!(document["status"], 422);
        assert_eq!(document["errorCode"], "UNPROCESSABLE_ENTITY");
        let error = &document["errors"][0];
        let keys: Vec<_> = error.as_object().expect("an object").keys().cloned().collect();
        let expected = [
            "code",
            "column",
            "doc",
            "file",
            "line",
            "message",
            "pointer",
            "related",
            "severity",
            "suggestion",
        ];
        assert_eq!(keys, expected);
        assert_eq!(document["warnings"][0]["code"], "key.unknown");
        let message: Value =
            serde_json::from_str(document["message"].as_str().expect("a text")).expect("JSON");
        let told = message["errors"]["manifestJson"].as_array().expect("a list").len();
        assert_eq!(told, document["errors"].as_array().expect("a list").len());
        assert_eq!(
            serde_json::from_str::<Value>(&render_json(&[])).expect("JSON"),
            json!({ "valid": true, "warnings": [] })
        );
    }

    #[test]
    fn sarif_names_rules_and_regions() {
        let log: Value =
            serde_json::from_str(&render_sarif(&diagnostics(), "ext/a b")).expect("JSON");
        let run = &log["runs"][0];
        let results = run["results"].as_array().expect("a list");
        assert_eq!(results.len(), diagnostics().len());
        let storage = results.iter().find(|one| one["ruleId"] == "value.type").expect("a result");
        assert_eq!(
            storage["locations"][0]["physicalLocation"]["region"],
            json!({ "startLine": 2, "startColumn": 14, "endColumn": 19 })
        );
        let uri = &storage["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert_eq!(uri, "ext/a%20b/plugin-manifest.json");
        for result in results {
            let index = result["ruleIndex"].as_u64().expect("an index");
            let rule = &run["tool"]["driver"]["rules"][usize::try_from(index).expect("small")];
            assert_eq!(rule["id"], result["ruleId"]);
        }
    }

    #[test]
    fn github_annotations_are_escaped() {
        let text = render_github(&diagnostics(), "./packages/a:b/");
        let line = text.lines().find(|line| line.contains("value.type")).expect("a line");
        assert!(
            line.starts_with(
                "::error file=packages/a%3Ab/plugin-manifest.json,line=2,col=14,title=value.type::"
            ),
            "{line}"
        );
        assert_eq!(text.lines().count(), diagnostics().len());
    }
}
