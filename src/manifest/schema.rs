//! The JSON Schemas of the two files, and how a breach of them becomes a finding.
//!
//! The schemas are published as they are under `schemas/`; three annotations of ours stand in
//! them: `x-code` and `x-explanation` (what to say when the rule beside them is broken) and
//! `x-open` (names below are not ours to know).

use std::sync::LazyLock;

use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use serde_json::{Map, Value};

use super::{
    diagnostic::{MANIFEST_FILE, Severity, escaped, nearest, shown},
    findings::Findings,
    position::Part,
};

/// The texts of the schemas of every event's subscription, one file a family.
const SUBSCRIPTIONS: [&str; 13] = [
    include_str!("../../schemas/subscriptions/ticket.json"),
    include_str!("../../schemas/subscriptions/contact.json"),
    include_str!("../../schemas/subscriptions/account.json"),
    include_str!("../../schemas/subscriptions/department.json"),
    include_str!("../../schemas/subscriptions/agent.json"),
    include_str!("../../schemas/subscriptions/task.json"),
    include_str!("../../schemas/subscriptions/call.json"),
    include_str!("../../schemas/subscriptions/event.json"),
    include_str!("../../schemas/subscriptions/time-entry.json"),
    include_str!("../../schemas/subscriptions/article.json"),
    include_str!("../../schemas/subscriptions/kb-root-category.json"),
    include_str!("../../schemas/subscriptions/kb-section.json"),
    include_str!("../../schemas/subscriptions/im.json"),
];

/// The published files: path below `/schemas/` and text.
pub fn schema_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    const NAMES: [&str; 13] = [
        "subscriptions/ticket.json",
        "subscriptions/contact.json",
        "subscriptions/account.json",
        "subscriptions/department.json",
        "subscriptions/agent.json",
        "subscriptions/task.json",
        "subscriptions/call.json",
        "subscriptions/event.json",
        "subscriptions/time-entry.json",
        "subscriptions/article.json",
        "subscriptions/kb-root-category.json",
        "subscriptions/kb-section.json",
        "subscriptions/im.json",
    ];
    let whole = [
        ("plugin-manifest.json", include_str!("../../schemas/plugin-manifest.json")),
        ("resources.json", include_str!("../../schemas/resources.json")),
    ];
    whole.into_iter().chain(NAMES.into_iter().zip(SUBSCRIPTIONS))
}

/// The most breaches of a schema that are told of one file.
const MAX_BREACHES: usize = 200;

/// An event that a webhook can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType {
    /// Its name on the wire.
    pub name: String,
    /// The names of the filter options that it supports.
    pub options: Vec<String>,
}

struct Schema {
    document: Value,
    /// Absent only if the checked-in schema were broken, which a test excludes.
    validator: Option<Validator>,
}

impl Schema {
    fn new(document: Value) -> Self {
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .build(&document)
            .ok();
        Self { document, validator }
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

static MANIFEST: LazyLock<Schema> =
    LazyLock::new(|| Schema::new(parsed(include_str!("../../schemas/plugin-manifest.json"))));

static EVENTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut events = Map::new();
    for text in SUBSCRIPTIONS {
        if let Some(Value::Object(family)) = parsed(text).get_mut("properties").map(Value::take) {
            events.extend(family);
        }
    }
    events
});

static RESOURCES: LazyLock<Schema> = LazyLock::new(|| {
    let mut document = parsed(include_str!("../../schemas/resources.json"));
    if let Some(Value::Object(subscriptions)) =
        document.pointer_mut("/properties/webhook/properties/subscriptions")
    {
        subscriptions.insert("properties".to_owned(), Value::Object(EVENTS.clone()));
    }
    Schema::new(document)
});

static EVENT_TYPES: LazyLock<Vec<EventType>> = LazyLock::new(|| {
    EVENTS
        .iter()
        .map(|(name, schema)| EventType {
            name: name.clone(),
            options: schema
                .get("properties")
                .and_then(Value::as_object)
                .map(|options| options.keys().cloned().collect())
                .unwrap_or_default(),
        })
        .collect()
});

/// Every event that a webhook can subscribe to, in the order of their names.
pub fn event_types() -> &'static [EventType] {
    &EVENT_TYPES
}

/// Checks a file against its schema, and its keys against the names that the schema knows.
pub(crate) fn check(findings: &mut Findings<'_>, file: &'static str, value: &Value) {
    let schema: &'static Schema = if file == MANIFEST_FILE { &MANIFEST } else { &RESOURCES };
    let Some(validator) = &schema.validator else {
        let message = "the schema of this file is not usable in this build".to_owned();
        findings.report("schema.unusable", Severity::Error, file, "", Part::Value, message);
        return;
    };
    for breach in validator.iter_errors(value).take(MAX_BREACHES) {
        let path = breach.schema_path().as_str();
        let rule = path.rsplit_once('/').map_or("", |(rule, _)| rule);
        let rule = schema.document.pointer(rule).unwrap_or(&Value::Null);
        let annotation = |name: &str| rule.get(name).and_then(Value::as_str);
        let pointer = breach.instance_path().as_str();
        let own = match breach.kind() {
            ValidationErrorKind::Required { .. } | ValidationErrorKind::Type { .. } => None,
            _ => annotation("x-code"),
        };
        let code = own.unwrap_or_else(|| code_of(breach.kind()));
        let message = message_of(breach.kind(), breach.instance(), rule);
        let part = match breach.kind() {
            ValidationErrorKind::Required { .. } => Part::Key,
            _ => Part::Value,
        };
        let near = match (breach.kind(), breach.instance().as_str()) {
            (ValidationErrorKind::Enum { options }, Some(given)) => {
                let known = options.as_array().into_iter().flatten().filter_map(Value::as_str);
                nearest(given, known).map(|name| format!("did you mean {name:?}?"))
            }
            (ValidationErrorKind::Constant { expected_value }, _) => {
                Some(format!("write {expected_value}"))
            }
            _ => None,
        };
        let finding = findings.report(code, Severity::Error, file, pointer, part, message);
        if let Some(near) = near {
            finding.suggest(near);
        }
    }
    unknown_keys(findings, file, &schema.document, value, &mut String::new());
}

fn code_of(kind: &ValidationErrorKind) -> &'static str {
    match kind {
        ValidationErrorKind::Required { .. } => "schema.missing-key",
        ValidationErrorKind::Type { .. } => "schema.wrong-type",
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            "schema.unknown-value"
        }
        ValidationErrorKind::MaxItems { .. }
        | ValidationErrorKind::MaxLength { .. }
        | ValidationErrorKind::MaxProperties { .. } => "schema.too-many",
        ValidationErrorKind::MinItems { .. }
        | ValidationErrorKind::MinLength { .. }
        | ValidationErrorKind::MinProperties { .. } => "schema.too-few",
        _ => "schema.invalid",
    }
}

/// The message never repeats a value, which may be a secret, except where a list of words is known.
fn message_of(kind: &ValidationErrorKind, instance: &Value, rule: &Value) -> String {
    match kind {
        ValidationErrorKind::Required { property } => format!("the key {property} is missing"),
        ValidationErrorKind::Type { .. } => {
            format!("this must be {}, but is {}", wanted(rule.get("type")), kind_of(instance))
        }
        ValidationErrorKind::Constant { expected_value } => {
            format!("this must be {expected_value}")
        }
        ValidationErrorKind::Enum { options } => {
            let given = instance.as_str().map_or_else(|| kind_of(instance).to_owned(), shown);
            let words: Vec<_> =
                options.as_array().into_iter().flatten().map(Value::to_string).collect();
            format!("{given} is not one of {}", words.join(", "))
        }
        ValidationErrorKind::MaxItems { limit } => format!("at most {limit} are allowed here"),
        ValidationErrorKind::MinItems { limit } => format!("at least {limit} must stand here"),
        ValidationErrorKind::MaxLength { limit } => {
            format!("at most {limit} characters are allowed here")
        }
        ValidationErrorKind::MinLength { .. } => "this must not be empty".to_owned(),
        other => rule.get("x-explanation").and_then(Value::as_str).map_or_else(
            || format!("this breaks the schema's rule {:?}", other.keyword()),
            str::to_owned,
        ),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn wanted(kinds: Option<&Value>) -> String {
    let name = |kind: &Value| match kind.as_str() {
        Some("array") => "an array",
        Some("object") => "an object",
        Some("string") => "a string",
        Some("boolean") => "a boolean",
        Some("number" | "integer") => "a number",
        _ => "null",
    };
    match kinds {
        Some(Value::Array(kinds)) => kinds.iter().map(name).collect::<Vec<_>>().join(" or "),
        Some(kind) => name(kind).to_owned(),
        None => "of another type".to_owned(),
    }
}

/// Warns of keys that the schema doesn't name. The depth of the schema bounds the recursion.
fn unknown_keys(
    findings: &mut Findings<'_>,
    file: &'static str,
    schema: &Value,
    value: &Value,
    pointer: &mut String,
) {
    let length = pointer.len();
    match value {
        Value::Object(members) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
            if schema.get("x-open").is_some() {
                return;
            }
            for (key, member) in members {
                pointer.push('/');
                pointer.push_str(&escaped(key));
                if let Some(inner) = known.get(key) {
                    unknown_keys(findings, file, inner, member, pointer);
                } else {
                    let message = format!("the key {} is not known here", shown(key));
                    // A flood of names is not worth the comparisons.
                    let near = (!findings.is_full())
                        .then(|| nearest(key, known.keys().map(String::as_str)))
                        .flatten();
                    let finding = findings.report(
                        "schema.unknown-key",
                        Severity::Warning,
                        file,
                        pointer,
                        Part::Key,
                        message,
                    );
                    if let Some(near) = near {
                        finding.suggest(format!("did you mean {near:?}?"));
                    }
                }
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            let Some(inner) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&index.to_string());
                unknown_keys(findings, file, inner, item, pointer);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_are_valid_and_described() {
        for schema in [&*MANIFEST, &*RESOURCES] {
            assert!(schema.validator.is_some());
            assert!(jsonschema::meta::is_valid(&schema.document));
            assert!(schema.document["title"].is_string());
        }
        for text in SUBSCRIPTIONS {
            let schema = parsed(text);
            assert!(jsonschema::meta::is_valid(&schema), "{text}");
            assert!(schema["description"].is_string(), "{text}");
        }
    }

    #[test]
    fn the_events_and_their_options_are_known() {
        let options = |name: &str| {
            event_types()
                .iter()
                .find(|event| event.name == name)
                .map(|event| event.options.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(event_types().len(), 56);
        assert_eq!(
            options("Ticket_Update").as_deref(),
            Some(&["departmentIds", "fields", "includePrevState"][..])
        );
        assert_eq!(
            options("Ticket_Thread_Add").as_deref(),
            Some(&["departmentIds", "direction"][..])
        );
        assert_eq!(options("Contact_Delete").as_deref(), Some(&[][..]));
        assert_eq!(options("Product_Add"), None);
    }
}
