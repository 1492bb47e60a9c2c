//! The event types by module: names and the options that a subscription to them can have.

use super::catalogue::EventOption::{self, DepartmentIds, Direction, Fields, IncludePrevState};

/// The event types of one module of the host, with their files.
pub(crate) struct Module {
    /// The module's name.
    pub(crate) name: &'static str,
    /// Where the schemas are published, below `/schemas/`.
    pub(crate) schema_path: &'static str,
    /// The schemas of the payloads, by event type under `$defs`.
    pub(crate) schemas: &'static str,
    /// A payload of each event type, and its previous state where it has one.
    pub(crate) samples: &'static str,
    /// The event types.
    pub(crate) types: &'static [(&'static str, &'static [EventOption])],
}

/// A module whose files are called `$file`.
macro_rules! module {
    ($name:literal, $file:literal, $types:expr) => {
        Module {
            name: $name,
            schema_path: concat!("events/", $file),
            schemas: include_str!(concat!("../../schemas/events/", $file)),
            samples: include_str!(concat!("samples/", $file)),
            types: $types,
        }
    };
}

/// All modules.
pub(crate) const MODULES: &[Module] = &[
    module!(
        "tickets",
        "tickets.json",
        &[
            ("Ticket_Add", &[DepartmentIds]),
            ("Ticket_Update", &[DepartmentIds, Fields, IncludePrevState]),
            ("Ticket_Delete", &[]),
            ("Ticket_Comment_Add", &[DepartmentIds]),
            ("Ticket_Comment_Update", &[DepartmentIds]),
            ("Ticket_Thread_Add", &[DepartmentIds, Direction]),
            ("Ticket_Attachment_Add", &[]),
            ("Ticket_Attachment_Update", &[]),
            ("Ticket_Attachment_Delete", &[DepartmentIds]),
            ("Ticket_Attachment_Trashed", &[DepartmentIds]),
            ("Ticket_Attachment_Restored", &[DepartmentIds]),
            ("Ticket_Comment_Attachment_Add", &[]),
            ("Ticket_Comment_Attachment_Delete", &[]),
            ("Ticket_Approval_Add", &[]),
            ("Ticket_Approval_Update", &[IncludePrevState]),
        ]
    ),
    module!(
        "contacts",
        "contacts.json",
        &[("Contact_Add", &[]), ("Contact_Update", &[IncludePrevState]), ("Contact_Delete", &[]),]
    ),
    module!(
        "accounts",
        "accounts.json",
        &[("Account_Add", &[]), ("Account_Update", &[IncludePrevState]), ("Account_Delete", &[]),]
    ),
    module!(
        "departments",
        "departments.json",
        &[("Department_Add", &[]), ("Department_Update", &[IncludePrevState]),]
    ),
    module!(
        "agents",
        "agents.json",
        &[
            ("Agent_Add", &[]),
            ("Agent_Update", &[IncludePrevState]),
            ("Agent_Delete", &[]),
            ("Agent_Presence_Update", &[]),
            ("Agent_Channel_Preference_Update", &[]),
        ]
    ),
    module!(
        "tasks",
        "tasks.json",
        &[
            ("Task_Add", &[DepartmentIds]),
            ("Task_Update", &[DepartmentIds, IncludePrevState]),
            ("Task_Delete", &[]),
        ]
    ),
    module!(
        "calls",
        "calls.json",
        &[
            ("Call_Add", &[DepartmentIds]),
            ("Call_Update", &[DepartmentIds, IncludePrevState]),
            ("Call_Delete", &[]),
        ]
    ),
    module!(
        "events",
        "events.json",
        &[
            ("Event_Add", &[DepartmentIds]),
            ("Event_Update", &[DepartmentIds, IncludePrevState]),
            ("Event_Delete", &[]),
        ]
    ),
    module!(
        "timeEntries",
        "time_entries.json",
        &[
            ("TimeEntry_Add", &[]),
            ("TimeEntry_Update", &[IncludePrevState]),
            ("TimeEntry_Delete", &[]),
        ]
    ),
    module!(
        "articles",
        "articles.json",
        &[
            ("Article_Add", &[]),
            ("Article_Update", &[IncludePrevState]),
            ("Article_Delete", &[]),
            ("Article_Translation_Add", &[]),
            ("Article_Translation_Update", &[IncludePrevState]),
            ("Article_Translation_Delete", &[]),
            ("Article_Feedback_Add", &[]),
        ]
    ),
    module!(
        "kbRootCategories",
        "kb_root_categories.json",
        &[
            ("KBRootCategory_Add", &[]),
            ("KBRootCategory_Update", &[IncludePrevState]),
            ("KBRootCategory_Delete", &[]),
        ]
    ),
    module!(
        "kbSections",
        "kb_sections.json",
        &[
            ("KBSection_Add", &[]),
            ("KBSection_Update", &[IncludePrevState]),
            ("KBSection_Delete", &[]),
        ]
    ),
    module!(
        "instantMessages",
        "instant_messages.json",
        &[
            ("IM_Message_Add", &[DepartmentIds]),
            ("IM_Message_Status", &[DepartmentIds]),
            ("IM_Session_Status", &[DepartmentIds]),
        ]
    ),
    // What only one dialect knows; extensions cannot subscribe to it.
    module!(
        "serviceLevels",
        "service_levels.json",
        &[("sla.warning", &[DepartmentIds]), ("sla.breach", &[DepartmentIds]),]
    ),
    module!(
        "remoteSupport",
        "remote_support.json",
        &[
            ("Outbound Session Start", &[DepartmentIds]),
            ("Session Start - Screen Share", &[DepartmentIds]),
            ("Session End - Remote Support", &[DepartmentIds]),
            ("Session End - Screen Share", &[DepartmentIds]),
            ("Customer Join - Remote Support", &[DepartmentIds]),
            ("Inbound Request Create", &[DepartmentIds]),
            ("Inbound Request Transfer", &[DepartmentIds]),
            ("Inbound Request Delegate", &[DepartmentIds]),
            ("Inbound Request Picked", &[DepartmentIds]),
            ("Inbound Request Declined", &[DepartmentIds]),
            ("Inbound Request Dropped", &[DepartmentIds]),
            ("Inbound Request Expired", &[DepartmentIds]),
            ("Device Add", &[DepartmentIds]),
            ("Device Online", &[DepartmentIds]),
            ("Device Offline", &[DepartmentIds]),
            ("Device Delete", &[DepartmentIds]),
            ("Session Start", &[DepartmentIds]),
            ("Session End", &[DepartmentIds]),
        ]
    ),
];
