//! The event types of the reference and what a subscription to each can be narrowed by.
//!
//! The schemas in `schemas/subscriptions/` are the only source; this reads them.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;

/// Names every event type, and includes its schema.
macro_rules! event_types {
    ($($name:literal)+) => {
        /// The names of all event types with the texts of their schemas.
        pub(super) const SOURCES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../schemas/subscriptions/", $name, ".json")))),+];
    };
}

event_types! {
    "Ticket_Add"
    "Ticket_Update"
    "Ticket_Delete"
    "Ticket_Comment_Add"
    "Ticket_Comment_Update"
    "Ticket_Thread_Add"
    "Ticket_Attachment_Add"
    "Ticket_Attachment_Update"
    "Ticket_Attachment_Delete"
    "Ticket_Attachment_Trashed"
    "Ticket_Attachment_Restored"
    "Ticket_Comment_Attachment_Add"
    "Ticket_Comment_Attachment_Delete"
    "Ticket_Approval_Add"
    "Ticket_Approval_Update"
    "Contact_Add"
    "Contact_Update"
    "Contact_Delete"
    "Account_Add"
    "Account_Update"
    "Account_Delete"
    "Department_Add"
    "Department_Update"
    "Agent_Add"
    "Agent_Update"
    "Agent_Delete"
    "Agent_Presence_Update"
    "Agent_Channel_Preference_Update"
    "Task_Add"
    "Task_Update"
    "Task_Delete"
    "Call_Add"
    "Call_Update"
    "Call_Delete"
    "Event_Add"
    "Event_Update"
    "Event_Delete"
    "TimeEntry_Add"
    "TimeEntry_Update"
    "TimeEntry_Delete"
    "Article_Add"
    "Article_Update"
    "Article_Delete"
    "Article_Translation_Add"
    "Article_Translation_Update"
    "Article_Translation_Delete"
    "Article_Feedback_Add"
    "KBRootCategory_Add"
    "KBRootCategory_Update"
    "KBRootCategory_Delete"
    "KBSection_Add"
    "KBSection_Update"
    "KBSection_Delete"
    "IM_Message_Add"
    "IM_Message_Status"
    "IM_Session_Status"
}

/// Something that a subscription can be narrowed or widened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SubscriptionOption {
    /// Only events of some departments.
    DepartmentIds,
    /// Only changes of some fields.
    Fields,
    /// The record as it was before comes with the event.
    IncludePrevState,
    /// Only messages that came in, or only those that went out.
    Direction,
}

impl SubscriptionOption {
    /// All options.
    pub const ALL: [Self; 4] =
        [Self::DepartmentIds, Self::Fields, Self::IncludePrevState, Self::Direction];

    /// The key of the option in a subscription.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DepartmentIds => "departmentIds",
            Self::Fields => "fields",
            Self::IncludePrevState => "includePrevState",
            Self::Direction => "direction",
        }
    }
}

/// A type of event that a webhook can subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventType {
    /// The name, such as `Ticket_Add`.
    pub name: &'static str,
    /// What happened, in a sentence.
    pub description: String,
    /// The options that a subscription may have.
    pub options: Vec<SubscriptionOption>,
    /// The JSON Schema of the options.
    #[serde(skip)]
    pub schema: &'static str,
}

impl EventType {
    /// Whether a subscription may have the option.
    pub fn supports(&self, option: SubscriptionOption) -> bool {
        self.options.contains(&option)
    }

    /// What the event is about: the name without its last word (`Ticket_Comment` of
    /// `Ticket_Comment_Add`).
    pub fn subject(&self) -> &'static str {
        self.name.rsplit_once('_').map_or(self.name, |(subject, _)| subject)
    }
}

static EVENT_TYPES: LazyLock<Vec<EventType>> =
    LazyLock::new(|| SOURCES.iter().map(|&(name, schema)| read(name, schema)).collect());

fn read(name: &'static str, schema: &'static str) -> EventType {
    // A test reads every schema, so that nothing is missing here.
    let value: Value = serde_json::from_str(schema).unwrap_or_default();
    let description = value["description"].as_str().unwrap_or_default();
    let has = |option: &SubscriptionOption| value["properties"].get(option.as_str()).is_some();
    EventType {
        name,
        description: description.split_inclusive(". ").next().unwrap_or_default().trim().into(),
        options: SubscriptionOption::ALL.into_iter().filter(has).collect(),
        schema,
    }
}

/// All event types of the reference.
pub fn event_types() -> &'static [EventType] {
    &EVENT_TYPES
}

/// The event type of that name.
pub fn event_type(name: &str) -> Option<&'static EventType> {
    event_types().iter().find(|event_type| event_type.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_event_types_of_the_reference_are_there() {
        assert_eq!(event_types().len(), 56);
        let names: BTreeSet<_> = event_types().iter().map(|event_type| event_type.name).collect();
        assert_eq!(names.len(), 56);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/subscriptions");
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .expect("the schemas")
            .map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"))
            .collect();
        assert_eq!(files, names.iter().map(|name| format!("{name}.json")).collect());
    }

    #[test]
    fn options_are_those_of_the_reference() {
        let with = |option| {
            event_types().iter().filter(move |event_type| event_type.supports(option)).count()
        };
        assert_eq!(with(SubscriptionOption::DepartmentIds), 17);
        assert_eq!(with(SubscriptionOption::Fields), 1);
        assert_eq!(with(SubscriptionOption::IncludePrevState), 14);
        assert_eq!(with(SubscriptionOption::Direction), 1);
        let thread = event_type("Ticket_Thread_Add").expect("a type");
        assert!(thread.supports(SubscriptionOption::Direction));
        assert!(!thread.supports(SubscriptionOption::IncludePrevState));
        assert_eq!(thread.subject(), "Ticket_Thread");
        assert_eq!(thread.description, "A message of a ticket is added.");
        assert_eq!(event_type("Product_Add"), None);
    }

    #[test]
    fn every_schema_names_its_own_event() {
        for (name, schema) in SOURCES {
            let value: Value = serde_json::from_str(schema).expect("JSON");
            assert_eq!(value["$id"], format!("/schemas/subscriptions/{name}.json"));
            assert_eq!(value["title"], *name);
            assert!(value["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
        }
    }
}
