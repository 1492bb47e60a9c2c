//! The catalogue of event types: what a host can post and a webhook can subscribe to.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::definitions::{MODULES, Module};
use crate::dialect::{Dialect, assist_event, only_of_one_dialect};

/// What a subscription to an event type can say beside "yes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventOption {
    /// `departmentIds`: only events of these departments.
    DepartmentIds,
    /// `fields`: only updates that change one of these fields.
    Fields,
    /// `includePrevState`: send what was before, too.
    IncludePrevState,
    /// `direction`: only messages that come in, or go out.
    Direction,
}

impl EventOption {
    /// The name in a subscription.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DepartmentIds => "departmentIds",
            Self::Fields => "fields",
            Self::IncludePrevState => "includePrevState",
            Self::Direction => "direction",
        }
    }
}

/// A type of event.
#[derive(Debug)]
pub struct EventType {
    /// Its name, as hosts post it and manifests subscribe to it.
    pub name: &'static str,
    /// The module of the host that it belongs to.
    pub module: &'static str,
    /// A short name for people.
    pub label: String,
    /// What has happened.
    pub description: String,
    /// What a subscription can say beside "yes".
    pub options: &'static [EventOption],
    /// A payload as a host posts it, in one line.
    pub sample: Box<RawValue>,
    /// The state before it; where [`EventOption::IncludePrevState`] is supported.
    pub sample_previous: Option<Box<RawValue>>,
    /// The JSON Schema of the payload (draft 2020-12).
    pub schema: Value,
    /// Where that is published, below `/schemas/`, with the fragment that finds it.
    pub schema_location: String,
    /// The one dialect that knows it; nothing for the host's own, which all know and extensions can
    /// subscribe to.
    pub only: Option<Dialect>,
}

impl EventType {
    /// Whether a subscription can have an option.
    pub fn supports(&self, option: EventOption) -> bool {
        self.options.contains(&option)
    }
}

struct Catalogue {
    types: Vec<EventType>,
    by_name: HashMap<&'static str, usize>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let types: Vec<EventType> = MODULES.iter().flat_map(types_of).collect();
    let by_name = types.iter().enumerate().map(|(index, known)| (known.name, index)).collect();
    Catalogue { types, by_name }
});

/// All event types, module by module.
pub fn catalogue() -> &'static [EventType] {
    &CATALOGUE.types
}

/// The event type of exactly this name; those of Zoho Assist are found by their numbers, too (`13`,
/// `13 Device Online`).
pub fn find(name: &str) -> Option<&'static EventType> {
    let by_name = &CATALOGUE.by_name;
    by_name
        .get(name)
        .or_else(|| assist_event(name).and_then(|event| by_name.get(event.name)))
        .map(|&index| &CATALOGUE.types[index])
}

/// The name that is spelled most like an unknown one; nothing where none is near. Case,
/// underscores and other signs don't count.
pub fn nearest(name: &str) -> Option<&'static str> {
    // Longer than any name could be by mistake, and the comparison takes quadratic time.
    if name.len() > 100 {
        return None;
    }
    let wanted = letters(name);
    let distance =
        |known: &EventType| strsim::normalized_damerau_levenshtein(&letters(known.name), &wanted);
    catalogue()
        .iter()
        .map(|known| (distance(known), known.name))
        .filter(|(likeness, _)| *likeness >= 0.7)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name)
}

/// The published files of schemas: path below `/schemas/` and text.
pub fn schema_files() -> impl Iterator<Item = (&'static str, &'static str)> {
    MODULES.iter().map(|module| (module.schema_path, module.schemas))
}

fn letters(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sample {
    payload: Box<RawValue>,
    prev_state: Option<Box<RawValue>>,
}

/// The files are part of the program and a test reads all of them, so that nothing here can fail
/// in a build that has passed its tests.
fn types_of(module: &'static Module) -> Vec<EventType> {
    let mut samples: BTreeMap<String, Sample> =
        serde_json::from_str(module.samples).expect("the embedded samples are JSON");
    let schemas: Value =
        serde_json::from_str(module.schemas).expect("the embedded schemas are JSON");
    let define = |&(name, options): &(&'static str, &'static [EventOption])| {
        let sample = samples.remove(name).expect("each event type has a sample");
        let mut schema = schemas["$defs"][name].clone();
        schema["$schema"] = schemas["$schema"].clone();
        let text = |key: &str| schema[key].as_str().unwrap_or(name).to_owned();
        EventType {
            name,
            module: module.name,
            label: text("title"),
            description: text("description"),
            options,
            sample: in_one_line(&sample.payload),
            sample_previous: sample.prev_state.as_deref().map(in_one_line),
            schema,
            schema_location: format!("{}#/$defs/{}", module.schema_path, name.replace(' ', "%20")),
            only: only_of_one_dialect().get(name).copied(),
        }
    };
    module.types.iter().map(define).collect()
}

/// JSON without the white space between its tokens; the order of keys stays.
fn in_one_line(json: &RawValue) -> Box<RawValue> {
    let (mut line, mut in_string, mut escaped) = (String::new(), false, false);
    for c in json.get().chars() {
        if in_string || !matches!(c, ' ' | '\n' | '\r' | '\t') {
            line.push(c);
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            '\\' if in_string && !escaped => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    RawValue::from_string(line).expect("JSON stays JSON without its white space")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(raw: &RawValue) -> Value {
        serde_json::from_str(raw.get()).expect("a sample is JSON")
    }

    fn validator(schema: &Value) -> jsonschema::Validator {
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(schema)
            .expect("the schema is a schema")
    }

    /// Packages are checked by one catalogue and events by the other.
    #[test]
    fn the_package_checker_knows_the_same_types_and_options() {
        type Types = BTreeMap<&'static str, std::collections::BTreeSet<&'static str>>;
        let own: Types = catalogue()
            .iter()
            .filter(|known| known.only.is_none())
            .map(|known| (known.name, known.options.iter().map(|one| one.name()).collect()))
            .collect();
        let of_packages: Types = crate::manifest::event_types()
            .iter()
            .map(|known| (known.name, known.options.iter().map(|one| one.as_str()).collect()))
            .collect();
        assert_eq!(own, of_packages);
    }

    #[test]
    fn there_are_56_types_of_the_host_and_20_of_one_dialect_and_each_is_told_apart() {
        assert_eq!(catalogue().len(), 76);
        assert_eq!(CATALOGUE.by_name.len(), 76);
        let of = |dialect| catalogue().iter().filter(|known| known.only == dialect).count();
        assert_eq!(of(None), 56);
        assert_eq!(of(Some(Dialect::Dzdesk)), 2);
        assert_eq!(of(Some(Dialect::Assist)), 18);
        for number in ["13", "13 Device Online"] {
            assert_eq!(find(number).map(|found| found.name), Some("Device Online"));
        }
        for known in catalogue() {
            assert_eq!(find(known.name).map(|found| found.name), Some(known.name));
            assert!(known.label != known.name && known.description.ends_with('.'), "{known:?}");
        }
        assert!(find("ticket_add").is_none() && find("").is_none());
    }

    #[test]
    fn no_file_has_more_than_the_list() {
        for module in MODULES {
            let listed: Vec<&str> = module.types.iter().map(|(name, _)| *name).collect();
            let samples: BTreeMap<String, Sample> =
                serde_json::from_str(module.samples).expect("samples");
            let schemas: Value = serde_json::from_str(module.schemas).expect("schemas");
            let schemas = schemas["$defs"].as_object().expect("definitions");
            assert_eq!(samples.len(), listed.len(), "{}", module.name);
            assert_eq!(schemas.len(), listed.len(), "{}", module.name);
            assert!(listed.iter().all(|name| schemas.contains_key(*name)), "{}", module.name);
        }
    }

    #[test]
    fn samples_keep_their_schemas() {
        for known in catalogue() {
            let validator = validator(&known.schema);
            let sample = value(&known.sample);
            let errors: Vec<String> =
                validator.iter_errors(&sample).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", known.name);
            if let Some(previous) = &known.sample_previous {
                assert!(validator.is_valid(&value(previous)), "{}", known.name);
            }
        }
    }

    #[test]
    fn schemas_refuse_what_is_no_such_payload() {
        for known in catalogue() {
            let validator = validator(&known.schema);
            let id = known.schema["required"][0].as_str().expect("an id");
            let mut nameless = value(&known.sample);
            nameless.as_object_mut().expect("an object").remove(id);
            assert!(!validator.is_valid(&nameless), "{} without {id}", known.name);
            let mut numbered = value(&known.sample);
            numbered[id] = 472_110.into();
            assert!(!validator.is_valid(&numbered), "{}: ids are texts", known.name);
            assert!(!validator.is_valid(&Value::Null), "{}", known.name);
            let mut more = value(&known.sample);
            more["newProperty"] = true.into();
            assert!(validator.is_valid(&more), "{} may grow", known.name);
        }
    }

    #[test]
    fn what_was_before_is_there_where_it_can_be_asked_for() {
        for known in catalogue() {
            let expected = known.supports(EventOption::IncludePrevState);
            assert_eq!(known.sample_previous.is_some(), expected, "{}", known.name);
            if let Some(previous) = &known.sample_previous {
                let (now, before) = (value(&known.sample), value(previous));
                assert_eq!(now["id"], before["id"], "{}", known.name);
                assert_ne!(now, before, "{}", known.name);
            }
        }
    }

    #[test]
    fn samples_have_what_subscriptions_filter_by() {
        for known in catalogue() {
            let sample = value(&known.sample);
            if known.supports(EventOption::DepartmentIds) {
                assert!(sample["departmentId"].is_string(), "{}", known.name);
            }
            if known.supports(EventOption::Direction) {
                assert!(matches!(sample["direction"].as_str(), Some("in" | "out")));
            }
        }
        let update = find("Ticket_Update").expect("it is known");
        let (now, before) =
            (value(&update.sample), value(update.sample_previous.as_deref().expect("it has one")));
        assert_ne!(now["status"], before["status"]);
        assert_ne!(now["cf"], before["cf"], "a custom field changes too");
        let added = value(&find("Ticket_Add").expect("it is known").sample);
        assert_eq!(added["firstThread"]["direction"], "in");
    }

    #[test]
    fn only_these_types_have_these_options() {
        let with = |option| -> Vec<&str> {
            let host = catalogue().iter().filter(|known| known.only.is_none());
            host.filter(|known| known.supports(option)).map(|known| known.name).collect()
        };
        assert_eq!(with(EventOption::Fields), ["Ticket_Update"]);
        assert_eq!(with(EventOption::Direction), ["Ticket_Thread_Add"]);
        assert_eq!(with(EventOption::DepartmentIds).len(), 17);
        let previous = with(EventOption::IncludePrevState);
        assert_eq!(previous.len(), 14);
        assert!(previous.iter().all(|name| name.ends_with("_Update")));
        assert!(!previous.contains(&"Ticket_Comment_Update"));
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        for (written, meant) in [
            ("ticket.add", "Ticket_Add"),
            ("TicketUpdate", "Ticket_Update"),
            ("Ticket_Thred_Add", "Ticket_Thread_Add"),
            ("KB_RootCategory_Add", "KBRootCategory_Add"),
            ("Contact_Added", "Contact_Add"),
        ] {
            assert_eq!(nearest(written), Some(meant), "{written}");
        }
        assert_eq!(nearest("sla.warnin"), Some("sla.warning"));
        assert_eq!(nearest("hourly.report"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(nearest(&"Ticket_Add".repeat(50)), None);
    }

    #[test]
    fn samples_are_one_line_in_the_order_of_the_file() {
        let added = find("Ticket_Add").expect("it is known");
        assert!(!added.sample.get().contains('\n'));
        assert!(added.sample.get().starts_with(r#"{"id":"472110000000481003","ticketNumber":"#));
        let tricky = RawValue::from_string(r#"{ "a\\" : "b \" c" , "d" : [ 1 , 2 ] }"#.to_owned());
        let line = in_one_line(&tricky.expect("JSON"));
        assert_eq!(line.get(), r#"{"a\\":"b \" c","d":[1,2]}"#);
    }
}
