//! What the checker says: one finding, its place, and the wire forms of many.

use serde::Serialize;
use serde_json::{Value, json};

/// The name of the manifest inside of a package.
pub const MANIFEST_FILE: &str = "plugin-manifest.json";
/// The name of the resource file inside of a package.
pub const RESOURCES_FILE: &str = "resources.json";
/// What a finding about the package as a whole names as its file.
pub const PACKAGE: &str = "package";

/// The longest piece of a vendor's text that a message repeats, in characters.
const MAX_SHOWN: usize = 80;

/// Whether a finding refuses the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The package is refused.
    Error,
    /// The package is accepted; something will likely not do what its author expects.
    Warning,
}

/// The other place that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// The file of the package.
    pub file: &'static str,
    /// A JSON pointer (RFC 6901) into it.
    pub pointer: String,
}

/// One finding of the checker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// The rule, for machines: stable.
    pub code: &'static str,
    /// Whether it refuses the package.
    pub severity: Severity,
    /// `plugin-manifest.json`, `resources.json` or `package`.
    pub file: &'static str,
    /// A JSON pointer (RFC 6901) into the file; empty for the whole.
    pub pointer: String,
    /// The line, from 1, where the source text is known.
    pub line: Option<u32>,
    /// The column, from 1 and in characters, where the source text is known.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub suggestion: Option<String>,
    /// The other place that matters.
    pub related: Option<Related>,
    /// Where the rule is explained.
    pub doc: String,
}

impl Diagnostic {
    pub(crate) fn new(
        code: &'static str,
        severity: Severity,
        file: &'static str,
        pointer: String,
        message: String,
    ) -> Self {
        let doc = format!("docs/package-rules.md#{}", code.replace('.', ""));
        Self {
            code,
            severity,
            file,
            pointer,
            line: None,
            column: None,
            message,
            suggestion: None,
            related: None,
            doc,
        }
    }

    /// Adds what to do.
    pub(crate) fn suggest(&mut self, suggestion: impl Into<String>) -> &mut Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Adds the other place.
    pub(crate) fn relate(&mut self, file: &'static str, pointer: impl Into<String>) -> &mut Self {
        self.related = Some(Related { file, pointer: pointer.into() });
        self
    }

    /// Whether it refuses the package.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The desk dialect's form of a refusal: a JSON document in a string, with the messages of the
/// errors under `manifestJson` and `resourcesJson`.
pub fn desk_message(diagnostics: &[Diagnostic]) -> String {
    let mut errors = serde_json::Map::new();
    for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
        let key = if diagnostic.file == RESOURCES_FILE { "resourcesJson" } else { "manifestJson" };
        let list = errors.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(Value::String(diagnostic.message.clone()));
        }
    }
    json!({ "errors": errors }).to_string()
}

/// The answer of a validation: `valid`, the `errors` if there are any, and the `warnings`.
pub fn validation_document(diagnostics: &[Diagnostic]) -> Value {
    let (errors, warnings): (Vec<_>, Vec<_>) =
        diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
    if errors.is_empty() {
        json!({ "valid": true, "warnings": warnings })
    } else {
        json!({ "valid": false, "errors": errors, "warnings": warnings })
    }
}

/// The known name that was most likely meant: at most a third of its characters differ, and at
/// least one in a short name.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No known name is this long, and the comparison is quadratic in the length.
    if given.len() > 64 {
        return None;
    }
    let lower = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A piece of a vendor's text, quoted and shortened for a message.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// A key as a token of a JSON pointer.
pub(crate) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["Ticket_Add", "Ticket_Update", "Task_Add"];
        assert_eq!(nearest("ticket_add", known), Some("Ticket_Add"));
        assert_eq!(nearest("Ticket_Udpate", known), Some("Ticket_Update"));
        assert_eq!(nearest("Nope", known), None);
        assert_eq!(nearest(&"T".repeat(100_000), known), None);
    }

    #[test]
    fn the_wire_form_has_every_field_and_the_desk_form_only_errors() {
        let error = Diagnostic::new(
            "webhook.scope-missing",
            Severity::Error,
            RESOURCES_FILE,
            "/webhook".into(),
            "a".into(),
        );
        let warning = Diagnostic { severity: Severity::Warning, ..error.clone() };
        let document = validation_document(&[error.clone(), warning.clone()]);
        assert_eq!(document["valid"], false);
        assert!(document["errors"][0]["line"].is_null());
        assert_eq!(document["errors"][0].as_object().map(serde_json::Map::len), Some(10));
        assert_eq!(document["warnings"][0]["severity"], "warning");
        assert_eq!(validation_document(std::slice::from_ref(&warning))["valid"], Value::Bool(true));
        assert_eq!(desk_message(&[error, warning]), r#"{"errors":{"resourcesJson":["a"]}}"#);
    }
}
