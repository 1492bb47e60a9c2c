//! The client crate names nothing that the API does not have: its types are held to the document that
//! the API is described by.

use std::collections::BTreeSet;

use mortise_client::{
    OPERATIONS, Page, catalogue, deliveries, events, jobs, lifecycle, listeners, tokens, webhooks,
};
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor, value};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};

use super::openapi::{describe, ground};
use super::rooms;

/// Types of the client without a schema of their own: they stand within others.
const WITHOUT_SCHEMA: &[&str] = &["Secret"];

fn document() -> Value {
    let mut document = ground().merge(rooms()).into_openapi();
    describe(&mut document, "https://mortise.example");
    serde_json::to_value(document).expect("a document")
}

/// Tells which members a type reads.
struct Members<'m>(&'m mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Members<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(value::Error::custom("it has no members"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        members: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(members);
        Err(value::Error::custom("read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn members<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut members = Vec::new();
    assert!(T::deserialize(Members(&mut members)).is_err(), "nothing was there to be read");
    assert!(!members.is_empty(), "{} has no members", std::any::type_name::<T>());
    members
}

fn name_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

fn resolved<'d>(schema: &'d Value, document: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let found = document.pointer(reference.trim_start_matches('#'));
            resolved(found.unwrap_or_else(|| panic!("{reference} leads nowhere")), document)
        }
        None => schema,
    }
}

/// What a schema says of each member, over all of its parts, and which it asks for.
fn properties(
    schema: &Value,
    document: &Value,
    into: &mut Map<String, Value>,
    asked: &mut BTreeSet<String>,
) {
    let schema = resolved(schema, document);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        into.insert(name.clone(), property.clone());
    }
    let required = schema["required"].as_array().into_iter().flatten();
    asked.extend(required.filter_map(Value::as_str).map(str::to_owned));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        properties(part, document, into, asked);
    }
    // What may be there or not asks for nothing.
    for part in schema["oneOf"].as_array().into_iter().flatten() {
        properties(part, document, into, &mut BTreeSet::new());
    }
}

/// A value that a schema allows: with everything that may be there, or with nothing beyond the
/// necessary.
fn sample(schema: &Value, document: &Value, is_full: bool) -> Value {
    let schema = resolved(schema, document);
    if let Some(choices) = schema["oneOf"].as_array() {
        let takes_nothing = |choice: &&Value| choice["type"] == json!("null");
        return match choices.iter().find(takes_nothing) {
            Some(_) if !is_full => Value::Null,
            _ => choices
                .iter()
                .find(|choice| !takes_nothing(choice))
                .map_or(Value::Null, |choice| sample(choice, document, is_full)),
        };
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts {
            if let Value::Object(members) = sample(part, document, is_full) {
                whole.extend(members);
            }
        }
        return Value::Object(whole);
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let mut types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if types.contains(&"null") {
        if !is_full {
            return Value::Null;
        }
        types.retain(|kind| *kind != "null");
    }
    match types.first().copied() {
        Some("object") => {
            let (mut all, mut asked) = (Map::new(), BTreeSet::new());
            properties(schema, document, &mut all, &mut asked);
            let members = all
                .iter()
                .filter(|(name, _)| is_full || asked.contains(*name))
                .map(|(name, property)| (name.clone(), sample(property, document, is_full)));
            Value::Object(members.collect())
        }
        Some("array") => {
            if let Some(places) = schema["prefixItems"].as_array() {
                return places.iter().map(|place| sample(place, document, is_full)).collect();
            }
            // Two, for pairs are written as lists.
            let count = if is_full && schema["items"].is_object() { 2 } else { 0 };
            (0..count).map(|_| sample(&schema["items"], document, is_full)).collect()
        }
        Some("string") if schema["format"] == json!("uuid") => {
            json!("01890000-0000-7000-8000-000000000000")
        }
        Some("string") => json!("x"),
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        _ => Value::Null,
    }
}

/// Holds one type to one schema.
struct Held {
    document: Value,
    names: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl Held {
    fn members_are_there<T: DeserializeOwned>(&mut self, schema: &str) -> BTreeSet<String> {
        let name = name_of::<T>();
        self.names.insert(name);
        let whole = self.document["components"]["schemas"][schema].clone();
        if !whole.is_object() {
            self.faults.push(format!("{name}: there is no schema {schema}"));
            return BTreeSet::new();
        }
        let (mut all, mut asked) = (Map::new(), BTreeSet::new());
        properties(&whole, &self.document, &mut all, &mut asked);
        for member in members::<T>() {
            asked.remove(member);
            if !all.contains_key(member) {
                self.faults.push(format!("{name}: {schema} has no `{member}`"));
            }
        }
        asked
    }

    /// What the server answers: every member is there, and a value that the schema allows can be
    /// read, the barest and the fullest.
    fn answer<T: DeserializeOwned>(&mut self, schema: &str) {
        self.members_are_there::<T>(schema);
        let whole = &self.document["components"]["schemas"][schema];
        for is_full in [false, true] {
            let sample = sample(whole, &self.document, is_full);
            if let Err(error) = serde_json::from_value::<T>(sample.clone()) {
                let name = name_of::<T>();
                self.faults.push(format!("{name} cannot read {schema}: {error}: {sample}"));
            }
        }
    }

    /// What the client sends: every member is taken, and none that is asked for is missing.
    fn request<T: DeserializeOwned>(&mut self, schema: &str) {
        let missing = self.members_are_there::<T>(schema);
        if !missing.is_empty() {
            self.faults.push(format!("{}: {schema} asks for {missing:?}", name_of::<T>()));
        }
    }

    /// What the client asks with.
    fn query<T: DeserializeOwned>(&mut self, method: &str, path: &str) {
        self.names.insert(name_of::<T>());
        let parameters = &self.document["paths"][path][method]["parameters"];
        let known: Vec<&str> = parameters
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == json!("query"))
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        for member in members::<T>() {
            if !known.contains(&member) {
                let name = name_of::<T>();
                self.faults.push(format!("{name}: {method} {path} has no `{member}`: {known:?}"));
            }
        }
    }
}

#[test]
fn every_type_of_the_client_is_one_of_the_api() {
    let mut held = Held { document: document(), names: BTreeSet::new(), faults: Vec::new() };

    held.query::<catalogue::PackageIdentity>("post", "/api/v1/extensions");
    held.answer::<catalogue::Published>("PublishedBody");
    held.answer::<catalogue::Extension>("ExtensionBody");
    held.answer::<catalogue::VersionSummary>("VersionSummary");
    held.answer::<catalogue::Version>("VersionBody");
    held.answer::<catalogue::SigningSecret>("SecretBody");
    held.answer::<catalogue::ExpiringSecret>("ExpiringBody");
    held.answer::<catalogue::Switched>("SwitchBody");
    held.request::<catalogue::RollOutRequest>("RollOutRequest");

    held.request::<lifecycle::InstallRequest>("InstallRequest");
    held.answer::<lifecycle::Installed>("InstallBody");
    held.request::<lifecycle::AuthorizeRequest>("AuthorizeRequest");
    held.request::<lifecycle::ConfigureRequest>("ConfigureRequest");
    held.request::<lifecycle::UpgradeRequest>("UpgradeRequest");
    held.answer::<lifecycle::Upgraded>("UpgradeBody");
    held.answer::<lifecycle::Plan>("Plan");
    held.answer::<lifecycle::PlannedResource>("PlannedResource");
    held.request::<lifecycle::ConsentRequest>("ConsentRequest");
    held.request::<lifecycle::ReauthorizeRequest>("ReauthorizeRequest");
    held.answer::<lifecycle::AuthorizationAsked>("AskedBody");
    held.request::<lifecycle::HoldRequest>("HoldRequest");
    held.request::<lifecycle::UninstallRequest>("UninstallRequest");
    held.answer::<lifecycle::Uninstalled>("UninstallBody");
    held.request::<lifecycle::UserRemovedRequest>("UserRemovedRequest");
    held.answer::<lifecycle::UserRemoved>("UserRemovedBody");
    held.request::<lifecycle::OrgClosedRequest>("OrgClosedRequest");
    held.answer::<lifecycle::OrgClosed>("OrgClosedBody");
    held.answer::<lifecycle::Installation>("InstallationBody");
    held.answer::<lifecycle::ConnectionHealth>("ConnectionBody");
    held.answer::<lifecycle::Connection>("ConnectionStateBody");
    held.answer::<lifecycle::WaitingUpgrade>("WaitingUpgradeBody");
    held.answer::<lifecycle::Transition>("TransitionBody");
    held.query::<lifecycle::InstallationFilter>("get", "/api/v1/installations");
    held.query::<lifecycle::JournalFilter>("get", "/api/v1/journal");
    held.answer::<lifecycle::JournalEntry>("JournalBody");

    held.request::<events::Event>("EventBody");
    held.request::<events::EventActor>("EventActor");
    held.answer::<events::Accepted>("AcceptedBody");
    held.answer::<events::AcceptedEvent>("AcceptedEventBody");
    held.answer::<events::EventExplanation>("ExplanationBody");
    held.answer::<events::Verdict>("VerdictBody");

    held.answer::<webhooks::Webhook>("WrittenBody");
    held.answer::<webhooks::Health>("HealthBody");
    held.answer::<webhooks::Owner>("OwnerBody");
    held.answer::<webhooks::Terms>("TermsBody");
    held.query::<webhooks::WebhookFilter>("get", "/api/v1/webhooks");
    held.request::<webhooks::WebhookRequest>("WebhookRequest");
    held.request::<webhooks::WebhookPatch>("WebhookPatch");
    held.request::<webhooks::TestRequest>("TestRequest");
    held.answer::<webhooks::Trial>("TrialBody");
    held.request::<webhooks::RecoverRequest>("RecoverRequest");
    held.answer::<webhooks::Reactivated>("ReactivatedBody");
    held.request::<webhooks::ImportRequest>("ImportRequest");
    held.answer::<webhooks::ImportReport>("ImportBody");
    held.answer::<webhooks::ImportedItem>("ImportItem");
    held.answer::<webhooks::MissingPart>("MissingBody");
    held.answer::<webhooks::ImportedChange>("ChangeBody");

    held.answer::<deliveries::Delivery>("DeliveryBody");
    held.answer::<deliveries::Attempt>("AttemptBody");
    held.query::<deliveries::DeliveryFilter>("get", "/api/v1/deliveries");

    held.answer::<jobs::RecoveryJob>("JobBody");
    held.answer::<jobs::RecoveryFilter>("JobFilterBody");
    held.answer::<jobs::RolloutJob>("RolloutBody");
    held.answer::<jobs::RolloutFilter>("RolloutFilterBody");
    held.answer::<jobs::RolloutFailure>("FailureBody");
    held.query::<jobs::JobFilter>("get", "/api/v1/jobs");

    held.request::<listeners::ListenerRequest>("ListenerRequest");
    held.answer::<listeners::Listener>("ListenerBody");
    held.answer::<listeners::CopyPage>("TappedList");
    held.answer::<listeners::DeliveryCopy>("TappedBody");
    held.request::<listeners::CopyAnswer>("AnswerBody");

    held.request::<tokens::TokenRequest>("TokenRequest");
    held.answer::<tokens::Token>("TokenCreated");
    held.request::<tokens::PortalLinkRequest>("LinkRequest");
    held.answer::<tokens::PortalLink>("LinkBody");

    held.answer::<Page<Value>>("Page_ExtensionBody");
    held.answer::<mortise_client::Fault>("FieldError");

    assert!(held.faults.is_empty(), "{:#?}", held.faults);
    assert_eq!(held.names, types_of_the_client(), "each type is held to its schema");
}

/// The types of the client that are read or written, as its sources name them.
fn types_of_the_client() -> BTreeSet<&'static str> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("client/src");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the client's sources") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a source");
        let mut is_read = false;
        for line in text.leak().lines() {
            let line = line.trim_start();
            if line.starts_with("#[derive(") {
                is_read = line.contains("Deserialize");
            } else if let Some(rest) = line.strip_prefix("pub struct ") {
                let end = rest.find(|letter: char| !letter.is_alphanumeric());
                let name = &rest[..end.unwrap_or(rest.len())];
                if is_read && !name.is_empty() && !WITHOUT_SCHEMA.contains(&name) {
                    names.insert(name);
                }
                is_read = false;
            }
        }
    }
    names
}

#[test]
fn every_operation_of_the_client_is_one_of_the_api() {
    let document = document();
    for operation in OPERATIONS {
        let found = &document["paths"][operation.path][operation.method.to_ascii_lowercase()];
        assert!(found.is_object(), "{} {}", operation.method, operation.path);
    }
}

#[test]
fn parameters_are_in_the_path_where_they_say_so() {
    let document = document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                let is_there =
                    path.contains(&format!("{{{name}}}")) || path.contains(&format!("{{*{name}}}"));
                let is_said = parameter["in"] == json!("path");
                assert_eq!(is_said, is_there, "{method} {path}: {name}");
            }
        }
    }
}

/// Two types under one name: the document has one of them, and it is the wrong one for somebody.
#[test]
fn no_two_types_of_the_api_share_a_name() {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    let mut paths = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(path).expect("sources");
            paths.extend(inside.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(path).expect("a source");
        let mut is_schema = false;
        for line in text.lines() {
            let line = line.trim_start();
            if line.starts_with("#[derive(") {
                is_schema = line.contains("ToSchema");
            } else if let Some((_, rest)) = line.split_once("struct ")
                && (line.starts_with("pub") || line.starts_with("struct"))
            {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                if is_schema && !seen.insert(name.clone()) {
                    twice.insert(name);
                }
                is_schema = false;
            }
        }
    }
    assert!(seen.len() > 50, "the sources were read: {}", seen.len());
    // A body without members is the same wherever it is.
    twice.remove("Empty");
    assert_eq!(twice, BTreeSet::new());
}
