//! The tables: one row for each host's type that is, or may be, an event of another system.

use super::{Row, When};
use When::{Always, Changed, Is, TurnedFalse, TurnedFrom, TurnedTo, TurnedTrue};

/// What all of Zendesk's names begin with.
pub(in crate::dialect) const ZENDESK_PREFIX: &str = "zen:event-type:";

/// A name of Zendesk's.
macro_rules! zen {
    ($name:literal) => {
        concat!("zen:event-type:", $name)
    };
}

/// What it means for an agent to be out.
const INACTIVE: &[&str] = &["DISABLED", "INACTIVE", "DELETED"];

/// What a published article's status says.
const PUBLISHED: &[&str] = &["Published"];

/// The events of DZDESK's page that the host's events are. Agents and contacts are both its users.
pub(super) const DZDESK: &[Row] = &[
    ("request.created", "Ticket_Add", Always),
    ("request.updated", "Ticket_Update", Always),
    ("request.status_changed", "Ticket_Update", Changed(&["status"])),
    ("request.assigned", "Ticket_Update", Changed(&["assigneeId", "teamId"])),
    ("request.commented", "Ticket_Comment_Add", Always),
    ("request.commented", "Ticket_Thread_Add", Always),
    ("request.deleted", "Ticket_Delete", Always),
    ("user.created", "Agent_Add", Always),
    ("user.created", "Contact_Add", Always),
    ("user.updated", "Agent_Update", Always),
    ("user.updated", "Contact_Update", Always),
    ("user.deactivated", "Agent_Update", TurnedTo("status", INACTIVE)),
    ("user.deactivated", "Contact_Update", TurnedTrue(&["isDeleted", "isTrashed"])),
    ("user.deactivated", "Agent_Delete", Always),
    ("user.deactivated", "Contact_Delete", Always),
];

/// What only DZDESK knows.
pub(super) const DZDESK_ONLY: &[&str] = &["sla.warning", "sla.breach"];

/// The events of Zendesk that the host's events are.
pub(super) const ZENDESK: &[Row] = &[
    (zen!("ticket.created"), "Ticket_Add", Always),
    (zen!("ticket.status_changed"), "Ticket_Update", Changed(&["status"])),
    (zen!("ticket.priority_changed"), "Ticket_Update", Changed(&["priority"])),
    (zen!("ticket.subject_changed"), "Ticket_Update", Changed(&["subject"])),
    (zen!("ticket.description_changed"), "Ticket_Update", Changed(&["description"])),
    (zen!("ticket.type_changed"), "Ticket_Update", Changed(&["classification"])),
    (zen!("ticket.agent_assignment_changed"), "Ticket_Update", Changed(&["assigneeId"])),
    (
        zen!("ticket.group_assignment_changed"),
        "Ticket_Update",
        Changed(&["departmentId", "teamId"]),
    ),
    (zen!("ticket.requester_changed"), "Ticket_Update", Changed(&["contactId"])),
    (zen!("ticket.organization_changed"), "Ticket_Update", Changed(&["accountId"])),
    (zen!("ticket.custom_field_changed"), "Ticket_Update", Changed(&["cf"])),
    (zen!("ticket.tags_changed"), "Ticket_Update", Changed(&["tags", "tagCount"])),
    (zen!("ticket.followers_changed"), "Ticket_Update", Changed(&["followerCount"])),
    (zen!("ticket.task_due_at_changed"), "Ticket_Update", Changed(&["dueDate"])),
    (zen!("ticket.marked_as_spam"), "Ticket_Update", TurnedTrue(&["isSpam"])),
    (zen!("ticket.soft_deleted"), "Ticket_Update", TurnedTrue(&["isTrashed"])),
    (zen!("ticket.undeleted"), "Ticket_Update", TurnedFalse("isTrashed")),
    (zen!("ticket.permanently_deleted"), "Ticket_Delete", Always),
    (zen!("ticket.comment_added"), "Ticket_Comment_Add", Always),
    (zen!("ticket.comment_added"), "Ticket_Thread_Add", Always),
    (zen!("ticket.attachment_linked_to_comment"), "Ticket_Comment_Attachment_Add", Always),
    (zen!("ticket.attachment_redacted_from_comment"), "Ticket_Comment_Attachment_Delete", Always),
    (zen!("user.created"), "Contact_Add", Always),
    (zen!("user.created"), "Agent_Add", Always),
    (zen!("user.deleted"), "Contact_Delete", Always),
    (zen!("user.deleted"), "Agent_Delete", Always),
    (zen!("user.name_changed"), "Contact_Update", Changed(&["lastName", "firstName"])),
    (zen!("user.name_changed"), "Agent_Update", Changed(&["name", "firstName", "lastName"])),
    (
        zen!("user.identity_changed"),
        "Contact_Update",
        Changed(&["email", "secondaryEmail", "phone"]),
    ),
    (zen!("user.identity_changed"), "Agent_Update", Changed(&["emailId", "phone"])),
    (zen!("user.details_changed"), "Contact_Update", Changed(&["description"])),
    (zen!("user.details_changed"), "Agent_Update", Changed(&["aboutInfo"])),
    (zen!("user.custom_field_changed"), "Contact_Update", Changed(&["cf"])),
    (zen!("user.organization_membership_created"), "Contact_Update", Changed(&["accountId"])),
    (zen!("user.active_changed"), "Contact_Update", Changed(&["isDeleted", "isTrashed"])),
    (zen!("user.active_changed"), "Agent_Update", Changed(&["status"])),
    (zen!("user.role_changed"), "Agent_Update", Changed(&["rolePermissionType", "roleId"])),
    (zen!("user.custom_role_changed"), "Agent_Update", Changed(&["roleId"])),
    (zen!("user.time_zone_changed"), "Agent_Update", Changed(&["timeZone"])),
    (zen!("user.photo_changed"), "Agent_Update", Changed(&["photoURL"])),
    (zen!("organization.created"), "Account_Add", Always),
    (zen!("organization.deleted"), "Account_Delete", Always),
    (zen!("organization.name_changed"), "Account_Update", Changed(&["accountName"])),
    (zen!("organization.custom_field_changed"), "Account_Update", Changed(&["cf"])),
    (zen!("agent.state_changed"), "Agent_Presence_Update", Always),
    (zen!("article.published"), "Article_Add", Is("status", "Published")),
    (zen!("article.published"), "Article_Update", TurnedTo("status", PUBLISHED)),
    (zen!("article.unpublished"), "Article_Update", TurnedFrom("status", PUBLISHED)),
    (zen!("article.author_changed"), "Article_Update", Changed(&["authorId"])),
    (zen!("article.vote_created"), "Article_Feedback_Add", Always),
];

/// An event of Zoho Assist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssistEvent {
    /// Its number, which subscriptions and bodies have.
    pub id: u8,
    /// Its name, under which the host posts it.
    pub name: &'static str,
}

/// By number. The page's first name begins with half a word too much; that is left out.
const ASSIST: [&str; 18] = [
    "Outbound Session Start",
    "Session Start - Screen Share",
    "Session End - Remote Support",
    "Session End - Screen Share",
    "Customer Join - Remote Support",
    "Inbound Request Create",
    "Inbound Request Transfer",
    "Inbound Request Delegate",
    "Inbound Request Picked",
    "Inbound Request Declined",
    "Inbound Request Dropped",
    "Inbound Request Expired",
    "Device Add",
    "Device Online",
    "Device Offline",
    "Device Delete",
    "Session Start",
    "Session End",
];

const ASSIST_EVENTS: [AssistEvent; 18] = {
    let mut events = [AssistEvent { id: 0, name: "" }; 18];
    let mut id: u8 = 0;
    while (id as usize) < ASSIST.len() {
        events[id as usize] = AssistEvent { id, name: ASSIST[id as usize] };
        id += 1;
    }
    events
};

/// The events of Zoho Assist, by number.
pub fn assist_events() -> &'static [AssistEvent] {
    &ASSIST_EVENTS
}

/// The event of this number, name, or number and name.
pub fn assist_event(given: &str) -> Option<&'static AssistEvent> {
    ASSIST_EVENTS.iter().find(|event| {
        let number = event.id.to_string();
        given == event.name
            || given == number
            || given.split_once(' ') == Some((number.as_str(), event.name))
    })
}
