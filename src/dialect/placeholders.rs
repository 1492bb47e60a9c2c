//! What placeholders stand for: a rule over an event's type, which needs no list.
//!
//! A name begins with what the event is about (`ticket.subject`), what that belongs to
//! (`ticket.id` of a comment), or one of `payload`, `previous`, `event`, `actor`, `org`,
//! `department`, `webhook`, `delivery`. Names of Zendesk's are taken for those that mean the same.

use std::borrow::Cow;

use serde_json::Value;
use uuid::Uuid;

use super::{EventParts, RenderError, WebhookFace};

/// What the events of some types are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// How its event types begin.
    types: &'static str,
    /// The word for it.
    pub word: &'static str,
    /// What it belongs to: a word, and the field that holds the id.
    pub parents: &'static [(&'static str, &'static str)],
}

const fn subject(
    types: &'static str,
    word: &'static str,
    parents: &'static [(&'static str, &'static str)],
) -> Subject {
    Subject { types, word, parents }
}

const OF_TICKET: &[(&str, &str)] = &[("ticket", "ticketId")];
const OF_TICKET_AND_CONTACT: &[(&str, &str)] = &[("ticket", "ticketId"), ("contact", "contactId")];
const OF_ARTICLE: &[(&str, &str)] = &[("article", "articleId")];

/// The first whose types begin as the event's does counts: longer beginnings stand first.
const SUBJECTS: &[Subject] = &[
    subject(
        "Ticket_Comment_Attachment_",
        "attachment",
        &[("ticket", "ticketId"), ("comment", "commentId")],
    ),
    subject("Ticket_Comment_", "comment", OF_TICKET),
    subject("Ticket_Thread_", "thread", OF_TICKET),
    subject("Ticket_Attachment_", "attachment", OF_TICKET),
    subject("Ticket_Approval_", "approval", OF_TICKET),
    subject("Ticket_", "ticket", &[("contact", "contactId"), ("account", "accountId")]),
    subject("Contact_", "contact", &[("account", "accountId")]),
    subject("Account_", "account", &[]),
    subject("Department_", "department", &[]),
    subject("Agent_", "agent", &[]),
    subject("Task_", "task", OF_TICKET_AND_CONTACT),
    subject("Call_", "call", OF_TICKET_AND_CONTACT),
    subject("Event_", "calendar", OF_TICKET_AND_CONTACT),
    subject("TimeEntry_", "timeEntry", &[]),
    subject("Article_Translation_", "translation", OF_ARTICLE),
    subject("Article_Feedback_", "feedback", OF_ARTICLE),
    subject("Article_", "article", &[]),
    subject("KBRootCategory_", "category", &[]),
    subject("KBSection_", "section", &[]),
    subject("IM_Message_", "message", &[("session", "sessionId")]),
    subject("IM_Session_", "session", &[]),
    subject("sla.", "sla", &[("ticket", "requestId"), ("request", "requestId")]),
    subject("Inbound Request ", "request", &[]),
    subject("Device ", "device", &[]),
];

/// Everything else of the catalogue: remote sessions.
const SESSION: Subject = subject("", "session", &[]);

/// What an event type is about.
pub fn subject_of(event_type: &str) -> &'static Subject {
    SUBJECTS.iter().find(|one| event_type.starts_with(one.types)).unwrap_or(&SESSION)
}

/// The longest id that events are brought together by, in bytes.
const LONGEST_ID: usize = 128;

/// What an event belongs to, as a text that is the same for all events that belong to it: the ticket
/// where there is one (`ticket:7`), else what the event is about. Nothing where it has no id.
pub fn correlation(event_type: &str, payload: &Value) -> Option<String> {
    let subject = subject_of(event_type);
    let ticket = subject.parents.iter().find(|(word, _)| *word == "ticket");
    let (word, id) = ticket
        .map(|(word, field)| (*word, &payload[*field]))
        .filter(|(_, id)| !id.is_null())
        .unwrap_or((subject.word, &payload["id"]));
    let id = match id {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    (1..=LONGEST_ID).contains(&id.len()).then(|| format!("{word}:{id}"))
}

/// Names that people bring along, and what they mean here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("ticket.title", "ticket.subject"),
    ("ticket.link", "ticket.webUrl"),
    ("ticket.url", "ticket.webUrl"),
    ("ticket.via", "ticket.channel"),
    ("ticket.ticket_type", "ticket.classification"),
    ("ticket.created_at", "ticket.createdTime"),
    ("ticket.updated_at", "ticket.modifiedTime"),
    ("ticket.due_date", "ticket.dueDate"),
    ("ticket.group.id", "ticket.departmentId"),
    ("ticket.requester.id", "ticket.contact.id"),
    ("ticket.requester.first_name", "ticket.contact.firstName"),
    ("ticket.requester.last_name", "ticket.contact.lastName"),
    ("ticket.requester.email", "ticket.contact.email"),
    ("ticket.requester.phone", "ticket.contact.phone"),
    ("ticket.organization.id", "ticket.contact.account.id"),
    ("ticket.organization.name", "ticket.contact.account.accountName"),
    ("current_user.id", "actor.id"),
    ("current_user.name", "actor.name"),
    ("current_user.email", "actor.email"),
];

/// The names that people bring along, and what they mean here.
pub fn other_names() -> &'static [(&'static str, &'static str)] {
    OTHER_NAMES
}

/// Names that every event has, with what they are.
pub const OF_EVERY_EVENT: &[(&str, &str)] = &[
    ("event.type", "The type, as the host names it."),
    ("event.name", "The event, as the webhook's dialect names it."),
    ("event.time", "When it happened, RFC 3339 in UTC."),
    ("event.timestamp", "When it happened, in milliseconds since 1970."),
    ("event.origin", "USER or AUTOMATION."),
    ("org.id", "The org."),
    ("department.id", "The department that the event belongs to, where it has one."),
    ("actor.id", "Who caused it, where the host said so."),
    ("actor.name", "The name of who caused it."),
    ("actor.email", "The e-mail address of who caused it."),
    ("actor.type", "What kind of user caused it."),
    ("webhook.id", "The webhook."),
    ("webhook.name", "The webhook's name."),
    ("delivery.id", "This delivery; the same when it is sent again."),
];

/// Where a placeholder's value is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'n> {
    /// In the payload.
    Payload(Vec<&'n str>),
    /// In the state before the change.
    Previous(Vec<&'n str>),
    /// It is one of [`OF_EVERY_EVENT`].
    Circumstance(&'n str),
}

/// Where the value of a placeholder is found in events of a type; nothing where the name begins
/// with nothing that they have. Whether the field exists is for the type's schema to say.
pub fn place<'n>(event_type: &str, name: &'n str) -> Option<Place<'n>> {
    let name =
        OTHER_NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, meaning)| meaning);
    let subject = subject_of(event_type);
    let (head, rest) = name.split_once('.')?;
    let path = || rest.split('.').collect::<Vec<_>>();
    if head == subject.word || head == "payload" {
        return Some(Place::Payload(path()));
    }
    if let Some((_, field)) = subject.parents.iter().find(|(word, _)| *word == head)
        && rest == "id"
    {
        return Some(Place::Payload(vec![*field]));
    }
    if head == "previous" {
        return Some(Place::Previous(path()));
    }
    OF_EVERY_EVENT.iter().any(|(known, _)| *known == name).then_some(Place::Circumstance(name))
}

/// An event whose values can be asked for by name.
#[derive(Debug)]
pub(super) struct Scene<'s> {
    event: EventParts<'s>,
    name: &'s str,
    webhook: WebhookFace<'s>,
    delivery_id: Uuid,
    payload: Value,
    previous: Value,
    actor: Value,
}

impl<'s> Scene<'s> {
    /// Reads the event's documents.
    pub(super) fn new(
        event: EventParts<'s>,
        name: &'s str,
        webhook: WebhookFace<'s>,
        delivery_id: Uuid,
    ) -> Result<Self, RenderError> {
        Ok(Self {
            event,
            name,
            webhook,
            delivery_id,
            payload: read(Some(event.payload), "payload")?,
            previous: read(event.previous, "previous state")?,
            actor: read(event.actor.map(str::as_bytes), "actor")?,
        })
    }

    /// The value of a placeholder.
    pub(super) fn value(&self, name: &str) -> Option<Cow<'_, Value>> {
        match place(self.event.event_type, name)? {
            Place::Payload(path) => walk(&self.payload, &path).map(Cow::Borrowed),
            Place::Previous(path) => walk(&self.previous, &path).map(Cow::Borrowed),
            Place::Circumstance(name) => self.circumstance(name),
        }
    }

    fn circumstance(&self, name: &str) -> Option<Cow<'_, Value>> {
        if let Some(field) = name.strip_prefix("actor.") {
            return self.actor.get(field).map(Cow::Borrowed);
        }
        let event = &self.event;
        let value: Value = match name {
            "event.type" => event.event_type.into(),
            "event.name" => self.name.into(),
            "event.time" => event.event_time.rfc3339().into(),
            "event.timestamp" => event.event_time.millis().into(),
            "event.origin" => if event.automation { "AUTOMATION" } else { "USER" }.into(),
            "org.id" => event.org.into(),
            "department.id" => event
                .department
                .map(Value::from)
                .or_else(|| self.payload.get("departmentId").cloned())?,
            "webhook.id" => self.webhook.id.to_string().into(),
            "webhook.name" => self.webhook.name.into(),
            "delivery.id" => self.delivery_id.to_string().into(),
            _ => return None,
        };
        Some(Cow::Owned(value))
    }
}

pub(super) fn read(text: Option<&[u8]>, part: &'static str) -> Result<Value, RenderError> {
    text.map_or(Ok(Value::Null), serde_json::from_slice).map_err(|_| RenderError::Event { part })
}

fn walk<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, word| match value {
        Value::Array(items) => items.get(word.parse::<usize>().ok()?),
        other => other.get(word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Timestamp;

    fn scene(event: EventParts<'_>) -> Scene<'_> {
        let webhook = WebhookFace { id: Uuid::nil(), alias: 1, name: "Wall" };
        Scene::new(event, "request.commented", webhook, Uuid::nil()).unwrap()
    }

    #[test]
    fn names_find_their_values() {
        let payload = br#"{"id":"9","ticketId":"7","content":"hi","commenter":{"name":"A"},
            "attachments":[{"name":"a.txt"}],"departmentId":"3"}"#;
        let event = EventParts {
            actor: Some(r#"{"id":"5","name":"Ines"}"#),
            ..EventParts::new("Ticket_Comment_Add", "1", Timestamp::from_millis(0), payload)
        };
        let scene = scene(event);
        let text = |name: &str| scene.value(name).map(|value| value.to_string());
        for (name, expected) in [
            ("comment.content", Some(r#""hi""#)),
            ("comment.commenter.name", Some(r#""A""#)),
            ("payload.attachments.0.name", Some(r#""a.txt""#)),
            ("ticket.id", Some(r#""7""#)),
            ("ticket.subject", None),
            ("actor.name", Some(r#""Ines""#)),
            ("current_user.id", Some(r#""5""#)),
            ("actor.email", None),
            ("event.name", Some(r#""request.commented""#)),
            ("event.time", Some(r#""1970-01-01T00:00:00.000Z""#)),
            ("event.timestamp", Some("0")),
            ("department.id", Some(r#""3""#)),
            ("webhook.name", Some(r#""Wall""#)),
            ("previous.status", None),
            ("content", None),
        ] {
            assert_eq!(text(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn events_of_one_ticket_belong_together() {
        let of = |event_type, payload: Value| correlation(event_type, &payload);
        let ticket = Some("ticket:7".to_owned());
        for (event_type, payload) in [
            ("Ticket_Add", serde_json::json!({ "id": "7" })),
            ("Ticket_Update", serde_json::json!({ "id": 7 })),
            ("Ticket_Comment_Add", serde_json::json!({ "id": "9", "ticketId": "7" })),
            ("Task_Add", serde_json::json!({ "id": "9", "ticketId": "7" })),
            ("sla.warning", serde_json::json!({ "id": "9", "requestId": "7" })),
        ] {
            assert_eq!(of(event_type, payload), ticket, "{event_type}");
        }
        let task = serde_json::json!({ "id": "9", "ticketId": null });
        assert_eq!(of("Task_Add", task), Some("task:9".to_owned()));
        assert_eq!(of("Ticket_Add", serde_json::json!({ "id": [] })), None);
        assert_eq!(of("Ticket_Add", serde_json::json!({ "id": "x".repeat(129) })), None);
        assert_eq!(of("Ticket_Add", Value::Null), None);
    }

    #[test]
    fn every_event_is_about_something() {
        for known in crate::manifest::event_types() {
            let subject = subject_of(known.name);
            assert_ne!(subject, &SESSION, "{}", known.name);
        }
        assert_eq!(subject_of("Ticket_Comment_Attachment_Add").word, "attachment");
        assert_eq!(subject_of("Session Start - Screen Share").word, "session");
    }

    #[test]
    fn names_brought_along_mean_names_of_here() {
        for (other, meaning) in OTHER_NAMES {
            assert_eq!(place("Ticket_Add", other), place("Ticket_Add", meaning), "{other}");
            assert!(place("Ticket_Add", meaning).is_some(), "{meaning}");
        }
    }
}
