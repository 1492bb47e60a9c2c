//! Which placeholders an event type has, by its schema: to be listed, to be checked, and to begin a
//! template with.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::catalogue::{EventOption, EventType, catalogue};
use crate::dialect::{
    BodyFormat, OF_EVERY_EVENT, Place, RequestMethod, has_payload, other_names, place, subject_of,
};
use crate::manifest::nearest;

/// How many fields of the resource a template begins with.
const STARTER_FIELDS: usize = 8;

/// A placeholder as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Placeholder {
    /// Its name, between the braces.
    pub name: String,
    /// What it stands for, where the name does not say it.
    pub description: Option<&'static str>,
    /// Another name for the same that is listed too.
    pub same_as: Option<&'static str>,
    /// What it is in the type's sample.
    pub sample: Value,
}

/// A placeholder that no event of the types has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the placeholder {name} is unknown{}", nearest.as_ref().map_or_else(String::new, |near| format!("; did you mean {near}?")))]
pub struct UnknownPlaceholder {
    /// What was written.
    pub name: String,
    /// The nearest known name.
    pub nearest: Option<String>,
}

/// Every placeholder of an event type: the resource's fields, those before the change, what every
/// event has, and names of other systems for the same.
pub fn placeholders(event_type: &EventType) -> Vec<Placeholder> {
    let sample: Value = serde_json::from_str(event_type.sample.get()).unwrap_or_default();
    let before: Value = event_type
        .sample_previous
        .as_deref()
        .and_then(|previous| serde_json::from_str(previous.get()).ok())
        .unwrap_or_default();
    let subject = subject_of(event_type.name);
    let mut listed = Vec::new();
    fields(&event_type.schema, &sample, subject.word, &mut listed);
    for (word, field) in subject.parents {
        let name = format!("{word}.id");
        if event_type.schema["properties"].get(field).is_some()
            && !listed.iter().any(|known: &Placeholder| known.name == name)
        {
            listed.push(Placeholder { sample: sample[field].clone(), ..plain(name) });
        }
    }
    if event_type.supports(EventOption::IncludePrevState) {
        fields(&event_type.schema, &before, "previous", &mut listed);
    }
    for (name, description) in OF_EVERY_EVENT {
        // `department.id` is the department itself where the event is about one.
        if listed.iter().any(|known| known.name == *name) {
            continue;
        }
        let described = Some(*description);
        listed.push(Placeholder { description: described, ..plain((*name).to_owned()) });
    }
    for (name, meaning) in other_names() {
        if is_known(event_type, name) {
            let sample = listed
                .iter()
                .find(|known| known.name == *meaning)
                .map_or(Value::Null, |known| known.sample.clone());
            let same_as = Some(*meaning);
            listed.push(Placeholder { same_as, sample, ..plain((*name).to_owned()) });
        }
    }
    listed
}

fn plain(name: String) -> Placeholder {
    Placeholder { name, description: None, same_as: None, sample: Value::Null }
}

/// The leaves of a schema, with custom fields as far as the sample has some.
fn fields(schema: &Value, sample: &Value, path: &str, listed: &mut Vec<Placeholder>) {
    match (schema["properties"].as_object(), sample) {
        (Some(properties), _) => {
            for (name, schema) in properties {
                fields(schema, &sample[name], &format!("{path}.{name}"), listed);
            }
        }
        (None, Value::Object(open)) => {
            for (name, value) in open {
                fields(&Value::Null, value, &format!("{path}.{name}"), listed);
            }
        }
        (None, leaf) => {
            listed.push(Placeholder { sample: leaf.clone(), ..plain(path.to_owned()) });
        }
    }
}

/// Whether events of the type can have a value for the name.
pub fn is_known(event_type: &EventType, name: &str) -> bool {
    match place(event_type.name, name) {
        None => false,
        Some(Place::Circumstance(_)) => true,
        Some(Place::Payload(path)) => has_path(&event_type.schema, &path),
        Some(Place::Previous(path)) => {
            event_type.supports(EventOption::IncludePrevState)
                && has_path(&event_type.schema, &path)
        }
    }
}

/// Whether a schema knows a path, or leaves it open (custom fields, lists).
fn has_path(schema: &Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    if let Some(properties) = schema["properties"].as_object() {
        return properties.get(*first).is_some_and(|inner| has_path(inner, rest));
    }
    let is_open = |kind: &Value| matches!(kind.as_str(), Some("object" | "array"));
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(is_open),
        kind => is_open(kind),
    }
}

/// The names that events of none of the types have, once each. Of no types means of all.
pub fn unknown<'n>(
    names: impl IntoIterator<Item = &'n str>,
    types: &[&'static EventType],
) -> Vec<UnknownPlaceholder> {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let all: Vec<&'static EventType>;
    let types = if types.is_empty() {
        all = catalogue().iter().filter(|known| known.only.is_none()).collect();
        &all
    } else {
        types
    };
    let unknown: Vec<&str> = names
        .into_iter()
        .filter(|name| !types.iter().any(|event_type| is_known(event_type, name)))
        .collect();
    if unknown.is_empty() {
        return Vec::new();
    }
    let known: BTreeSet<String> = types
        .iter()
        .flat_map(|event_type| placeholders(event_type))
        .map(|placeholder| placeholder.name)
        .collect();
    unknown
        .into_iter()
        .map(|name| UnknownPlaceholder {
            name: name.to_owned(),
            nearest: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
        })
        .collect()
}

/// What a new action begins with, so that nobody sends an empty body by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Starter {
    /// A payload.
    Payload(String),
    /// Parameters.
    Parameters(Vec<(String, String)>),
}

/// The filled template for an event type, as the method and the format want it.
pub fn starter(event_type: &EventType, method: RequestMethod, format: BodyFormat) -> Starter {
    let word = subject_of(event_type.name).word;
    let fields = starter_fields(event_type);
    let braces = |name: &str| format!("{{{{{name}}}}}");
    let general = [("event", "event.name"), ("time", "event.time")];
    if !has_payload(method, format) {
        let general = general.map(|(key, name)| (key.to_owned(), braces(name)));
        let fields = fields
            .iter()
            .map(|field| (format!("{word}_{field}"), braces(&format!("{word}.{field}"))));
        return Starter::Parameters(general.into_iter().chain(fields).collect());
    }
    let field = |field: &String| (field.clone(), braces(&format!("{word}.{field}")));
    match format {
        BodyFormat::Json | BodyFormat::Form => {
            let resource: serde_json::Map<String, Value> = fields
                .iter()
                .map(field)
                .map(|(name, value)| (name, Value::String(value)))
                .collect();
            let payload = json!({
                "event": braces("event.name"),
                "time": braces("event.time"),
                word: resource,
            });
            Starter::Payload(format!("{payload:#}"))
        }
        BodyFormat::Xml => {
            use std::fmt::Write;
            let mut payload = String::from("<event>\n");
            for (key, name) in general {
                // Writing to a string cannot fail.
                let _ = writeln!(payload, "  <{key}>{}</{key}>", braces(name));
            }
            let _ = writeln!(payload, "  <{word}>");
            for (name, value) in fields.iter().map(field) {
                let _ = writeln!(payload, "    <{name}>{value}</{name}>");
            }
            let _ = write!(payload, "  </{word}>\n</event>");
            Starter::Payload(payload)
        }
    }
}

/// Plain fields of the resource: those that are always there, then others of the sample.
fn starter_fields(event_type: &EventType) -> Vec<String> {
    let sample: Value = serde_json::from_str(event_type.sample.get()).unwrap_or_default();
    let required = event_type.schema["required"].as_array().cloned().unwrap_or_default();
    let required = required.iter().filter_map(Value::as_str).map(str::to_owned);
    let common = ["subject", "title", "name", "status", "priority", "email", "webUrl"];
    let common = common.into_iter().map(str::to_owned);
    let mut fields: Vec<String> = Vec::new();
    for name in required.chain(common) {
        let is_plain = !matches!(sample[&name], Value::Null | Value::Object(_) | Value::Array(_));
        if is_plain && !fields.contains(&name) && fields.len() < STARTER_FIELDS {
            fields.push(name);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Content, Template};
    use crate::event::catalogue::find;

    #[test]
    fn what_is_listed_is_known_and_has_its_sample() {
        for event_type in catalogue() {
            let listed = placeholders(event_type);
            let names: BTreeSet<&str> = listed.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names.len(), listed.len(), "{}: once each", event_type.name);
            for placeholder in &listed {
                let name = &placeholder.name;
                assert!(is_known(event_type, name), "{}: {name}", event_type.name);
            }
        }
        let listed = placeholders(find("Ticket_Update").expect("known"));
        let sample =
            |name: &str| listed.iter().find(|one| one.name == name).map(|one| one.sample.clone());
        assert_eq!(sample("ticket.status"), Some(json!("On Hold")));
        assert_eq!(sample("previous.status"), Some(json!("Open")));
        assert_eq!(sample("ticket.contact.email"), Some(json!("maren.okafor@lakeside.example")));
        assert_eq!(sample("ticket.requester.email"), sample("ticket.contact.email"));
        assert_eq!(sample("ticket.cf.cf_room"), Some(json!("4")));
        assert!(sample("actor.name").is_some());
    }

    #[test]
    fn unknown_ones_are_told_with_the_nearest() {
        let ticket = [find("Ticket_Add").expect("known")];
        let told = unknown(
            ["ticket.id", "ticket.subjct", "ticket.cf.anything", "previous.status", "tiket.subjct"],
            &ticket,
        );
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "the placeholder previous.status is unknown",
                "the placeholder ticket.subjct is unknown; did you mean ticket.subject?",
                "the placeholder tiket.subjct is unknown; did you mean ticket.subject?",
            ]
        );
        assert!(unknown(["comment.content", "previous.status", "ticket.id"], &[]).is_empty());
        assert_eq!(unknown(["nothing.like.that"], &[])[0].nearest, None);
    }

    #[test]
    fn a_comment_knows_its_ticket_by_id_alone() {
        let comment = find("Ticket_Comment_Add").expect("known");
        assert!(is_known(comment, "ticket.id") && is_known(comment, "comment.content"));
        assert!(!is_known(comment, "ticket.subject"));
        let warning = find("sla.warning").expect("known");
        assert!(is_known(warning, "ticket.id") && is_known(warning, "sla.percentElapsed"));
    }

    #[test]
    fn every_type_has_a_filled_beginning_that_can_be_saved() {
        for event_type in catalogue() {
            for method in RequestMethod::ALL {
                for format in BodyFormat::ALL {
                    let content = match starter(event_type, method, format) {
                        Starter::Payload(text) => Content::Payload(text),
                        Starter::Parameters(pairs) => Content::Parameters(pairs),
                    };
                    let template = Template::parse(method, format, &content).expect("a template");
                    assert!(!template.is_empty());
                    let unknown = unknown(template.placeholders(), &[event_type]);
                    assert!(unknown.is_empty(), "{}: {unknown:?}", event_type.name);
                }
            }
        }
    }
}
