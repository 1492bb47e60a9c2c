//! When an automation of Zendesk's fires: so many hours since something. There every ticket is looked
//! at each hour; here the time runs from the event that says so, and ends where another undoes it.

use serde_json::{Value, json};

use super::conditions::{OF_TICKETS, OF_WORDS, Told, Translating, condition, status_words, values};
use super::reading::text_of;
use crate::webhook::conditions::{Condition, Conditions, Operator};

/// Since what.
#[derive(Clone, Copy)]
enum Since {
    /// The ticket has this status.
    Status(&'static str),
    /// The ticket has its assignee.
    Assigned,
    /// The ticket was changed.
    Updated,
    /// Somebody wrote: the requester (`in`) or an agent (`out`).
    Written(&'static str),
}

fn since(field: &str) -> Option<Since> {
    Some(match field.to_ascii_lowercase().as_str() {
        "new" => Since::Status("new"),
        "open" => Since::Status("open"),
        "pending" => Since::Status("pending"),
        "hold" | "on_hold" => Since::Status("hold"),
        "solved" => Since::Status("solved"),
        "closed" => Since::Status("closed"),
        "assigned_at" => Since::Assigned,
        "updated_at" => Since::Updated,
        "requester_updated_at" => Since::Written("in"),
        "assignee_updated_at" => Since::Written("out"),
        _ => return None,
    })
}

/// What an automation waits for.
pub(super) struct Timing {
    pub(super) after_minutes: u32,
    pub(super) conditions: Conditions,
    pub(super) unless: Conditions,
}

/// Translates an automation's conditions; nothing where the reasons say why.
pub(super) fn translate(
    all: &[Told<'_>],
    any: &[Told<'_>],
    translating: &mut Translating<'_>,
) -> Option<Timing> {
    let is_clock = |one: &&Told<'_>| since(one.field).is_some();
    let clocks: Vec<&Told<'_>> = all.iter().filter(is_clock).collect();
    if any.iter().any(|one| since(one.field).is_some()) {
        translating
            .reasons
            .push("Hours that only may have passed cannot be waited for.".to_owned());
        return None;
    }
    let &[clock] = clocks.as_slice() else {
        translating.reasons.push(
            "An automation here waits since one thing: exactly one condition must count hours since \
             a status, assigned_at, updated_at, requester_updated_at or assignee_updated_at. Due \
             dates and service levels are the host's, which posts sla.warning and sla.breach."
                .to_owned(),
        );
        return None;
    };
    let after_minutes = hours(clock, translating)?;
    let since = since(clock.field)?;
    let rest: Vec<Told<'_>> = all.iter().copied().filter(|one| !is_clock(&one)).collect();
    let (types, more, unless) = begun(since, translating)?;
    let mut conditions = translating.conditions(&rest, any, Some(&types));
    conditions.all.splice(1..1, more);
    translating.note(
        "Its conditions are judged when the time begins, and not again when it ends; what ends the \
         wait is in unless.",
    );
    Some(Timing { after_minutes, conditions, unless })
}

fn hours(clock: &Told<'_>, translating: &mut Translating<'_>) -> Option<u32> {
    let field = clock.field;
    if !matches!(clock.operator, "is" | "greater_than") {
        let shown: String = clock.operator.chars().take(40).collect();
        translating.reasons.push(format!(
            "{field} {shown}: only `is` and `greater_than` hours can be waited for; business hours \
             are the host's."
        ));
        return None;
    }
    let hours: Option<u32> = text_of(clock.value).and_then(|text| text.trim().parse().ok());
    let minutes = hours.filter(|hours| *hours > 0).and_then(|hours| hours.checked_mul(60));
    if minutes.is_none() {
        translating.reasons.push(format!("{field} must count at least one hour."));
    }
    minutes
}

/// The events that the time runs from, what else must hold of them, and what ends the wait.
fn begun(
    since: Since,
    translating: &Translating<'_>,
) -> Option<(Vec<&'static str>, Vec<Condition>, Conditions)> {
    let changes = |field: &str| Conditions {
        all: vec![
            condition("eventType", Operator::Is, json!(OF_TICKETS[1])),
            condition(field, Operator::Changed, Value::Null),
        ],
        any: Vec::new(),
    };
    Some(match since {
        Since::Status("new") => (vec![OF_TICKETS[0]], Vec::new(), changes("payload.status")),
        Since::Status(status) => {
            let words = status_words(translating.mapping, status)?;
            let turned = condition("payload.status", Operator::ChangedTo, words);
            (vec![OF_TICKETS[1]], vec![turned], changes("payload.status"))
        }
        Since::Assigned => {
            let field = "payload.assigneeId";
            let turned = vec![
                condition(field, Operator::Changed, Value::Null),
                condition(field, Operator::Present, Value::Null),
            ];
            (vec![OF_TICKETS[1]], turned, changes(field))
        }
        Since::Updated => {
            let later: Vec<&str> = [OF_TICKETS[1]].into_iter().chain(OF_WORDS).collect();
            let unless = Conditions {
                all: vec![condition("eventType", Operator::Is, values(&later))],
                any: Vec::new(),
            };
            (OF_TICKETS.to_vec(), Vec::new(), unless)
        }
        Since::Written(direction) => {
            let written = condition("payload.direction", Operator::Is, json!(direction));
            let unless = Conditions {
                all: vec![
                    condition("eventType", Operator::Is, json!(OF_WORDS[1])),
                    written.clone(),
                ],
                any: Vec::new(),
            };
            (vec![OF_WORDS[1]], vec![written], unless)
        }
    })
}
