//! The JSON Schemas, compiled once, and what their errors mean.
//!
//! The schemas say what is allowed; the key `x-mortise` in them, which every other reader leaves
//! alone, says under which rule and how badly a keyword's error is told. The only other file that
//! knows the library for schemas is none.

use std::fmt::Write as _;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Draft, PatternOptions, Registry, ValidationError, Validator};
use serde_json::Value;

use super::code;
use super::diagnostic::{Finding, Reporter, Severity};
use super::event_type::{self, event_types};
use super::json::{Cursor, Document, Kind, shown, spoken};
use super::nearest::nearest;

const MANIFEST_SCHEMA: &str = include_str!("../../schemas/plugin-manifest.json");
const RESOURCES_SCHEMA: &str = include_str!("../../schemas/resources.json");

/// Only resolves references between the schemas; nothing is ever fetched.
const BASE: &str = "https://schemas.invalid";

/// All published schemas: their path below the server's root and their text.
pub fn schemas() -> impl Iterator<Item = (String, &'static str)> {
    let own = [
        ("/schemas/plugin-manifest.json".to_owned(), MANIFEST_SCHEMA),
        ("/schemas/resources.json".to_owned(), RESOURCES_SCHEMA),
    ];
    let subscriptions = event_types().iter().map(|event_type| {
        (format!("/schemas/subscriptions/{}.json", event_type.name), event_type.schema)
    });
    own.into_iter().chain(subscriptions)
}

/// One of the two files that have a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    Manifest,
    Resources,
}

struct Compiled {
    manifest: (Value, Validator),
    resources: (Value, Validator),
    subscriptions: Vec<(String, Value)>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(compile);

#[expect(clippy::expect_used, reason = "the schemas are part of the program; tests compile them")]
fn compile() -> Compiled {
    let read = |text: &str| -> Value { serde_json::from_str(text).expect("a schema is JSON") };
    let subscriptions: Vec<_> = (event_type::SOURCES.iter())
        .map(|(name, text)| (format!("/schemas/subscriptions/{name}.json"), read(text)))
        .collect();
    let registry = subscriptions
        .iter()
        .try_fold(Registry::new(), |registry, (path, schema)| {
            registry.add(format!("{BASE}{path}"), schema.clone())
        })
        .and_then(jsonschema::RegistryBuilder::prepare)
        .expect("the schemas refer to each other rightly");
    let build = |text: &str, name: &str| {
        let schema = read(text);
        let validator = jsonschema::options()
            .offline()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex())
            .with_base_uri(format!("{BASE}/schemas/{name}"))
            .with_registry(&registry)
            .build(&schema)
            .expect("the schema compiles");
        (schema, validator)
    };
    Compiled {
        manifest: build(MANIFEST_SCHEMA, "plugin-manifest.json"),
        resources: build(RESOURCES_SCHEMA, "resources.json"),
        subscriptions,
    }
}

/// Compiles the schemas now rather than at the first check.
pub fn warm_up() {
    LazyLock::force(&COMPILED);
}

/// Tells everything by which the document differs from its schema.
pub(crate) fn check(subject: Subject, document: &Document, reporter: &mut Reporter) {
    let (schema, validator) = match subject {
        Subject::Manifest => &COMPILED.manifest,
        Subject::Resources => &COMPILED.resources,
    };
    let value = document.root.to_value();
    for error in validator.iter_errors(&value) {
        // Told by the walk over unknown keys, one by one.
        if matches!(error.kind(), ValidationErrorKind::AdditionalProperties { .. }) {
            continue;
        }
        // Many errors need not be put into words to be counted; where only errors are kept, how bad
        // a further one is changes nothing.
        if reporter.is_full(Severity::Error) && reporter.has_errors() {
            reporter.leave_out(Severity::Error, 1);
            continue;
        }
        if reporter.is_full(Severity::Warning) {
            let severity = severity(&error, schema);
            if reporter.is_full(severity) {
                reporter.leave_out(severity, 1);
                continue;
            }
        }
        if let Some(finding) = word(&error, schema, document) {
            reporter.report(document, finding);
        }
    }
    unknown_keys(&document.cursor(), schema, document, reporter);
}

/// Whether the manifest's schema knows the locale.
pub(crate) fn is_locale(text: &str) -> bool {
    lists(&COMPILED.manifest.0["properties"]["locale"]["items"]["enum"], text)
}

/// Whether the manifest's schema knows the event of an installation's life.
pub(crate) fn is_callback_event(name: &str) -> bool {
    COMPILED.manifest.0["properties"]["callbackListener"]["properties"].get(name).is_some()
}

/// The schema of a part of the document.
fn schema_at<'s>(root: &'s Value, pointer: &str) -> Option<&'s Value> {
    let mut schema = resolve(root);
    for segment in pointer.split('/').skip(1) {
        let key = super::json::unescape(segment);
        schema = resolve(child(schema, &key).or_else(|| schema.get("items"))?);
    }
    Some(schema)
}

/// The schema of a member: by its name, or the one for members of any other name.
fn child<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    schema
        .get("properties")
        .and_then(|properties| properties.get(key))
        .or_else(|| schema.get("additionalProperties").filter(|others| others.is_object()))
}

fn resolve(schema: &Value) -> &Value {
    let Some(path) = schema.get("$ref").and_then(Value::as_str) else { return schema };
    (COMPILED.subscriptions.iter())
        .find(|(known, _)| known == path)
        .map_or(schema, |(_, referred)| referred)
}

/// What a schema says about how to tell an error of a keyword.
fn annotation<'s>(schema: &'s Value, keyword: &str) -> Option<&'s Value> {
    schema.get("x-mortise")?.get(keyword)
}

/// What a schema says about a missing member: required always, under the schema's condition, or
/// because of another member. The library names all three alike.
fn missing_rule<'s>(schema: &'s Value, property: &str) -> Option<&'s Value> {
    if lists(&schema["required"], property) {
        annotation(schema, "required")
    } else if lists(&schema["then"]["required"], property) {
        annotation(&schema["then"], "required")
    } else {
        annotation(schema, "dependentRequired")
    }
}

/// A code as the constant that it is.
fn known_code(annotation: Option<&Value>) -> Option<&'static str> {
    let name = annotation?.get("code")?.as_str()?;
    code::codes().find(|known| *known == name)
}

fn severity_of(annotation: Option<&Value>) -> Severity {
    match annotation.and_then(|rule| rule.get("severity")).and_then(Value::as_str) {
        Some("warning") => Severity::Warning,
        _ => Severity::Error,
    }
}

/// How badly an error of the library is told. What is missing is always told as an error.
fn severity(error: &ValidationError<'_>, root: &Value) -> Severity {
    let schema = schema_at(root, error.instance_path().as_str()).unwrap_or(&Value::Null);
    match error.kind() {
        ValidationErrorKind::Required { .. } => Severity::Error,
        kind => severity_of(annotation(schema, kind.keyword())),
    }
}

fn word(error: &ValidationError<'_>, root: &Value, document: &Document) -> Option<Finding> {
    let pointer = error.instance_path().as_str();
    let cursor = document.find(pointer)?;
    let name = match spoken(pointer) {
        name if name.is_empty() => "the file".to_owned(),
        name => format!("`{name}`"),
    };
    let schema = schema_at(root, pointer).unwrap_or(&Value::Null);
    let description = |schema: &Value| schema["description"].as_str().map(str::to_owned);
    let about = || Some(description(schema).unwrap_or_else(|| "see the rule's page".to_owned()));
    let keyword = error.kind().keyword();
    let mut rule = annotation(schema, keyword);
    let value = || Some(cursor.at_value());
    let (code, place, message, suggestion) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str()?;
            rule = missing_rule(schema, property);
            debug_assert_eq!(severity_of(rule), Severity::Error, "what is missing is an error");
            let message = format!("{name} has no `{property}`");
            let about = child(schema, property).and_then(description);
            let hint = about.map_or_else(
                || format!("add `{property}`"),
                |about| format!("add `{property}`: {about}"),
            );
            (code::KEY_MISSING, cursor.at_key(), message, Some(hint))
        }
        ValidationErrorKind::Type { kind } => {
            let message = format!("{name} must be {}, not {}", expected(kind), actual(&cursor));
            (code::VALUE_TYPE, value()?, message, about())
        }
        ValidationErrorKind::Enum { options } => {
            let text = cursor.text();
            let given = text
                .map_or_else(|| actual(&cursor).to_owned(), |text| format!("`{}`", shown(text)));
            let options: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let message = format!("{given} is not a value for {name}");
            let near = text.and_then(|text| nearest(text, options.iter().copied()));
            let hint =
                near.map_or_else(|| listed(&options), |near| format!("did you mean `{near}`?"));
            (code::VALUE_NOT_LISTED, value()?, message, Some(hint))
        }
        ValidationErrorKind::Pattern { .. } => {
            let given = cursor.text().map(shown).unwrap_or_default();
            let message = format!("`{given}` cannot be {name}");
            let hint = "use letters, digits, blanks, `-` and `_`, and begin with a letter";
            (code::NAME_PATTERN, value()?, message, Some(hint.into()))
        }
        ValidationErrorKind::MinLength { .. } => {
            (code::VALUE_EMPTY, value()?, format!("{name} must not be empty"), about())
        }
        ValidationErrorKind::MaxLength { limit } => {
            let given = cursor.text().map_or(0, |text| text.chars().count());
            let message = format!("{name} has {given} characters; {limit} is the most");
            (code::VALUE_TOO_LONG, value()?, message, Some("make it shorter".into()))
        }
        ValidationErrorKind::MinItems { limit } => {
            let message = format!("{name} must have at least {limit} entry");
            (code::VALUE_TOO_FEW, cursor.at_key(), message, about())
        }
        ValidationErrorKind::MaxItems { limit } => {
            let given = cursor.items().count();
            let message = format!("{name} has {given} entries; {limit} is the most");
            (code::VALUE_TOO_MANY, cursor.at_key(), message, Some("remove some".into()))
        }
        _ => {
            let message = format!("{name} is not allowed here ({keyword})");
            (code::VALUE_TYPE, value()?, message, about())
        }
    };
    let code = known_code(rule).unwrap_or(code);
    Some(Finding::error(code, place, message).severity(severity_of(rule)).suggest_if(suggestion))
}

fn lists(names: &Value, name: &str) -> bool {
    names.as_array().is_some_and(|names| names.iter().any(|known| known == name))
}

fn listed(options: &[&str]) -> String {
    if let [only] = options {
        return format!("use `{only}`");
    }
    let mut text = "use one of".to_owned();
    for (position, option) in options.iter().enumerate() {
        let comma = if position == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{comma} `{option}`");
    }
    text
}

fn expected(kind: &TypeKind) -> String {
    let name = |name: &str| match name {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text",
        "boolean" => "`true` or `false`",
        "number" | "integer" => "a number",
        _ => "`null`",
    };
    match kind {
        TypeKind::Single(one) => name(one.as_str()).to_owned(),
        TypeKind::Multiple(several) => {
            several.iter().map(|one| name(one.as_str())).collect::<Vec<_>>().join(" or ")
        }
    }
}

fn actual(cursor: &Cursor<'_>) -> &'static str {
    match cursor.kind() {
        Kind::Null => "`null`",
        Kind::Boolean(true) => "`true`",
        Kind::Boolean(false) => "`false`",
        Kind::Number(_) => "a number",
        Kind::Text(_) => "a text",
        Kind::List(_) => "a list",
        Kind::Object(_) => "an object",
    }
}

/// Tells the keys that the schema doesn't know. Where it closes an object that is an error.
fn unknown_keys(cursor: &Cursor<'_>, schema: &Value, document: &Document, reporter: &mut Reporter) {
    let schema = resolve(schema);
    let has_keys = |items: &Value| {
        let items = resolve(items);
        items.get("properties").is_some() || items.get("items").is_some()
    };
    if let Some(items) = schema.get("items").filter(|items| has_keys(items)) {
        for item in cursor.items() {
            unknown_keys(&item, items, document, reporter);
        }
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let others = schema.get("additionalProperties");
    let severity = match others {
        Some(Value::Bool(false)) => Severity::Error,
        _ => Severity::Warning,
    };
    let code = known_code(annotation(schema, "unknown")).unwrap_or(code::KEY_UNKNOWN);
    let Kind::Object(object) = cursor.kind() else { return };
    for member in object.members() {
        let key = member.key.as_str();
        if let Some(own) = child(schema, key) {
            unknown_keys(&cursor.member(member), own, document, reporter);
            continue;
        }
        let is_open = others == Some(&Value::Bool(true));
        if is_open || (code == code::WEBHOOK_OPTION_UNSUPPORTED && is_departments(key)) {
            continue;
        }
        if reporter.is_full(severity) {
            reporter.leave_out(severity, 1);
            continue;
        }
        let member = cursor.member(member);
        let (message, hint) = unknown_key(code, key, &member, properties, schema);
        let finding = Finding::error(code, member.at_key(), message).severity(severity);
        reporter.report(document, finding.suggest_if(hint));
    }
}

/// Whether an option of a subscription names departments, which a package cannot choose.
pub(crate) fn is_departments(key: &str) -> bool {
    matches!(key, "departmentIds" | "departmentId")
}

fn unknown_key(
    code: &str,
    key: &str,
    member: &Cursor<'_>,
    properties: &serde_json::Map<String, Value>,
    schema: &Value,
) -> (String, Option<String>) {
    let known = || properties.keys().map(String::as_str).filter(|known| !known.starts_with('$'));
    let near = nearest(key, known()).map(|near| format!("did you mean `{near}`?"));
    let shown_key = shown(key);
    match code {
        code::WEBHOOK_EVENT_UNKNOWN => {
            let hint = near.unwrap_or_else(|| "see the list of event types".into());
            (format!("there is no event `{shown_key}`"), Some(hint))
        }
        code::WEBHOOK_OPTION_UNSUPPORTED => {
            let event = schema["title"].as_str().unwrap_or_default();
            let message = format!("subscriptions to {event} have no option `{shown_key}`");
            let options: Vec<&str> = known().filter(|known| !is_departments(known)).collect();
            let hint = near.unwrap_or_else(|| match options.as_slice() {
                [] => format!("write `\"{event}\": null`"),
                options => listed(options),
            });
            (message, Some(hint))
        }
        code::CALLBACK_EVENT_UNKNOWN => {
            let hint = near.unwrap_or_else(|| listed(&known().collect::<Vec<_>>()));
            (format!("nothing is ever sent to `{shown_key}`"), Some(hint))
        }
        _ => {
            let parent = member.pointer().rsplit_once('/').map_or("", |(parent, _)| parent);
            let inside = match spoken(parent) {
                inside if inside.is_empty() => String::new(),
                inside => format!(" in `{inside}`"),
            };
            let hint = near.unwrap_or_else(|| "remove it".to_owned());
            (format!("the key `{shown_key}` means nothing{inside}"), Some(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_property(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let path = format!("{path}/{name}");
                visit(&path, resolve(property));
                each_property(resolve(property), &path, visit);
            }
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
                let path = format!("{path}/{key}");
                visit(&path, inner);
                each_property(inner, &path, visit);
            }
        }
    }

    #[test]
    fn every_property_has_a_title_and_a_description() {
        for (path, text) in schemas() {
            let schema: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
            assert_eq!(schema["$id"], path);
            let mut count = 0;
            each_property(&schema, &path, &mut |path, property| {
                count += 1;
                assert!(property["title"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
                let description = property["description"].as_str().unwrap_or_default();
                assert!(description.ends_with('.'), "{path}: {description}");
            });
            assert!(count > 0 || path.contains("/subscriptions/"), "{path}");
        }
    }

    #[test]
    fn schemas_are_valid_by_their_metaschema() {
        for (path, text) in schemas() {
            let schema: Value = serde_json::from_str(text).expect("JSON");
            assert!(jsonschema::draft202012::meta::is_valid(&schema), "{path}");
        }
    }

    #[test]
    fn annotations_name_known_codes() {
        fn walk(value: &Value) {
            match value {
                Value::Object(object) => {
                    for (keyword, rule) in
                        object.get("x-mortise").and_then(Value::as_object).into_iter().flatten()
                    {
                        assert!(
                            rule.get("code").is_none() || known_code(Some(rule)).is_some(),
                            "{keyword}: {rule}"
                        );
                        assert!(matches!(
                            rule.get("severity").and_then(Value::as_str),
                            None | Some("warning")
                        ));
                    }
                    object.values().for_each(walk);
                }
                Value::Array(items) => items.iter().for_each(walk),
                _ => {}
            }
        }
        for (_, text) in schemas() {
            walk(&serde_json::from_str(text).expect("JSON"));
        }
    }
}
