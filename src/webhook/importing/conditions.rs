//! Zendesk's conditions over tickets as conditions over the host's events.

use serde_json::{Value, json};

use super::reading::text_of;
use super::{Mapping, Missing, escaped};
use crate::webhook::conditions::{Condition, Conditions, Operator};

/// Events that tell of a ticket as a whole.
pub(super) const OF_TICKETS: [&str; 2] = ["Ticket_Add", "Ticket_Update"];

/// Events that tell of what was said in a ticket, without the ticket's fields.
pub(super) const OF_WORDS: [&str; 2] = ["Ticket_Comment_Add", "Ticket_Thread_Add"];

/// Zendesk's statuses in their order, with what help desks call them.
const STATUSES: &[(&str, &[&str])] = &[
    ("new", &["New", "Open"]),
    ("open", &["Open"]),
    ("pending", &["Pending", "On Hold"]),
    ("hold", &["Hold", "On Hold"]),
    ("solved", &["Solved", "Closed"]),
    ("closed", &["Closed"]),
];

/// Zendesk's priorities in their order, with what help desks call them.
const PRIORITIES: &[(&str, &[&str])] = &[
    ("low", &["Low"]),
    ("normal", &["Normal", "Medium"]),
    ("high", &["High"]),
    ("urgent", &["Urgent", "Highest"]),
];

/// What the values of a field are.
#[derive(Clone, Copy)]
enum Values {
    /// Words of a list, in an order.
    Words(&'static [(&'static str, &'static [&'static str])]),
    /// Ids, which mean nothing elsewhere.
    Ids,
    /// Texts as they are.
    Texts,
    /// Words with spaces between, of which one must be there.
    Parts,
}

/// A field of Zendesk's, where it is here, and what its values are.
const FIELDS: &[(&str, &str, Values)] = &[
    ("status", "payload.status", Values::Words(STATUSES)),
    ("custom_status_id", "payload.status", Values::Ids),
    ("priority", "payload.priority", Values::Words(PRIORITIES)),
    ("type", "payload.classification", Values::Texts),
    ("group_id", "payload.departmentId", Values::Ids),
    ("assignee_id", "payload.assigneeId", Values::Ids),
    ("requester_id", "payload.contactId", Values::Ids),
    ("organization_id", "payload.accountId", Values::Ids),
    ("ticket_form_id", "payload.layoutId", Values::Ids),
    ("via_id", "payload.channel", Values::Ids),
    ("current_tags", "payload.tags", Values::Parts),
    ("subject_includes_word", "payload.subject", Values::Parts),
    ("description_includes_word", "payload.description", Values::Parts),
];

/// What stands for a ticket that was made, and for one that was changed.
const UPDATE_TYPE: &str = "update_type";

/// A condition as it stands in an export.
#[derive(Clone, Copy)]
pub(super) struct Told<'v> {
    pub(super) field: &'v str,
    pub(super) operator: &'v str,
    pub(super) value: &'v Value,
}

impl<'v> Told<'v> {
    /// Those of a list; what has no field is passed over.
    pub(super) fn list(document: Option<&'v Value>) -> Vec<Self> {
        let all = document.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        all.iter()
            .filter_map(|one| {
                Some(Self {
                    field: one.get("field").and_then(Value::as_str)?,
                    operator: one.get("operator").and_then(Value::as_str).unwrap_or("is"),
                    value: one.get("value").unwrap_or(&Value::Null),
                })
            })
            .collect()
    }

    fn is_of_words(self) -> bool {
        self.field.starts_with("comment_")
    }
}

/// Translates the conditions of one rule, and gathers what is to be said of it.
pub(super) struct Translating<'m> {
    pub(super) mapping: &'m Mapping,
    pub(super) notes: Vec<String>,
    pub(super) reasons: Vec<String>,
    pub(super) missing: Vec<Missing>,
}

impl<'m> Translating<'m> {
    pub(super) fn new(mapping: &'m Mapping) -> Self {
        Self { mapping, notes: Vec::new(), reasons: Vec::new(), missing: Vec::new() }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn reason(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// The conditions of a rule. `types` are the events that it is judged at, where its kind has
    /// decided that already.
    pub(super) fn conditions(
        &mut self,
        all: &[Told<'_>],
        any: &[Told<'_>],
        types: Option<&[&str]>,
    ) -> Conditions {
        let mut conditions = Conditions::default();
        let is_of_words = |types: &[&str]| types.iter().any(|one| OF_WORDS.contains(one));
        let are_words =
            types.map_or_else(|| all.iter().chain(any).any(|one| one.is_of_words()), is_of_words);
        let types = match types {
            Some(types) => types.to_vec(),
            None if are_words => self.word_types(all),
            None => self.ticket_types(all),
        };
        conditions.all.push(condition("eventType", Operator::Is, values(&types)));
        for (list, told, is_all) in
            [(&mut conditions.all, all, true), (&mut conditions.any, any, false)]
        {
            for one in told {
                list.extend(self.one(*one, is_all, are_words));
            }
        }
        conditions
    }

    /// A ticket that was made, changed, or either.
    fn ticket_types(&mut self, all: &[Told<'_>]) -> Vec<&'static str> {
        let mut types = OF_TICKETS.to_vec();
        for one in all.iter().filter(|one| one.field == UPDATE_TYPE) {
            let told = text_of(one.value).unwrap_or_default();
            let wanted = match (told.to_ascii_lowercase().as_str(), one.operator) {
                ("create", "is") | ("change", "is_not") => OF_TICKETS[0],
                ("change", "is") | ("create", "is_not") => OF_TICKETS[1],
                _ => {
                    self.reason(format!("update_type {} {told} is not understood.", one.operator));
                    continue;
                }
            };
            types.retain(|known| *known == wanted);
        }
        if types.is_empty() {
            self.reason("No event is both a ticket made and a ticket changed.");
        }
        types
    }

    /// Something that was said: by a comment, or by a message, which is public.
    fn word_types(&mut self, all: &[Told<'_>]) -> Vec<&'static str> {
        let is_private = all.iter().any(|one| {
            one.field == "comment_is_public" && text_of(one.value).as_deref() == Some("false")
        });
        let is_public = all.iter().any(|one| {
            one.field == "comment_is_public"
                && matches!(
                    text_of(one.value).as_deref(),
                    Some("true" | "requester_can_see_comment")
                )
        });
        if is_public {
            self.note(
                "A message of a ticket (Ticket_Thread_Add) has no isPublic; only comments are told of.",
            );
        }
        if is_private || is_public { vec![OF_WORDS[0]] } else { OF_WORDS.to_vec() }
    }

    fn one(&mut self, told: Told<'_>, is_all: bool, are_words: bool) -> Option<Condition> {
        if let Some(path) = self.mapping.fields.get(told.field) {
            return self.mapped(told, path);
        }
        match told.field {
            UPDATE_TYPE if are_words => {
                let is_change =
                    text_of(told.value).is_some_and(|text| text.eq_ignore_ascii_case("change"));
                if !(is_change && is_all) {
                    self.reason("What is said when a ticket is made is no event of its own here.");
                }
                None
            }
            // Said by the events that it is judged at.
            UPDATE_TYPE if is_all => None,
            UPDATE_TYPE => {
                let types = self.ticket_types(&[told]);
                Some(condition("eventType", Operator::Is, values(&types)))
            }
            "comment_is_public" => publicity(told),
            "comment_includes_word" => self.compared(told, "payload.content", Values::Parts),
            field => match FIELDS.iter().find(|(name, ..)| *name == field) {
                Some(_) if are_words => {
                    self.reason(format!(
                        "An event of what was said has none of the ticket's fields, so that {field} \
                         cannot be judged with it."
                    ));
                    None
                }
                Some((_, path, values)) => self.compared(told, path, *values),
                None => {
                    self.missing.push(Missing {
                        pointer: format!("/mapping/fields/{}", escaped(field)),
                        message: format!(
                            "Which field of the events here Zendesk's {field} is, such as \
                             payload.cf.cf_name; where there is none, the rule cannot be carried over."
                        ),
                        is_needed: true,
                    });
                    None
                }
            },
        }
    }

    /// A field of which the request says what it is here.
    fn mapped(&mut self, told: Told<'_>, path: &str) -> Option<Condition> {
        let operator = self.operator(told)?;
        let wanted = text_of(told.value).unwrap_or_default();
        if let Some(presence) = presence(operator, &wanted) {
            return Some(condition(path, presence, Value::Null));
        }
        if is_without_value(operator) {
            return Some(condition(path, operator, Value::Null));
        }
        let values = self.mapping.value(told.field, &wanted);
        let values = values.unwrap_or_else(|| vec![told.value.clone()]);
        Some(condition(path, operator, one_or_all(values)))
    }

    fn compared(&mut self, told: Told<'_>, path: &str, kind: Values) -> Option<Condition> {
        let operator = self.operator(told)?;
        let wanted = text_of(told.value).unwrap_or_default();
        if let Some(presence) = presence(operator, &wanted) {
            return Some(condition(path, presence, Value::Null));
        }
        if is_without_value(operator) {
            return Some(condition(path, operator, Value::Null));
        }
        if told.field == "current_tags" {
            self.note(
                "Tags are judged where the host posts them with its tickets, as payload.tags.",
            );
        }
        if let Some(mapped) = self.mapping.value(told.field, &wanted) {
            return Some(condition(path, operator, one_or_all(mapped)));
        }
        match kind {
            Values::Texts => Some(condition(path, operator, json!(wanted))),
            Values::Parts => Some(parts(path, operator, &wanted)),
            Values::Words(words) => self.words(told.field, path, operator, &wanted, words),
            Values::Ids => {
                self.missing.push(Missing {
                    pointer: format!(
                        "/mapping/values/{}/{}",
                        escaped(told.field),
                        escaped(&wanted)
                    ),
                    message: format!(
                        "What Zendesk's {} {wanted} is here, as {path} of the host's events has it.",
                        told.field
                    ),
                    is_needed: true,
                });
                None
            }
        }
    }

    fn words(
        &mut self,
        field: &str,
        path: &str,
        operator: Operator,
        wanted: &str,
        words: &[(&str, &[&str])],
    ) -> Option<Condition> {
        let Some(place) = words.iter().position(|(word, _)| word.eq_ignore_ascii_case(wanted))
        else {
            self.reason(format!("{wanted:?} is no {field} of Zendesk's."));
            return None;
        };
        let (operator, meant) = match operator {
            Operator::LessThan => (Operator::Is, &words[..place]),
            Operator::GreaterThan => (Operator::Is, &words[place + 1..]),
            other => (other, &words[place..=place]),
        };
        if meant.is_empty() {
            self.reason(format!("Nothing is beyond the {field} {wanted}."));
            return None;
        }
        let mut values = Vec::new();
        for (word, usual) in meant {
            let mapped = self.mapping.value(field, word);
            let usual = || usual.iter().map(|text| json!(text)).collect();
            for value in mapped.unwrap_or_else(usual) {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        let meanings: Vec<String> = values.iter().filter_map(text_of).collect();
        self.note(format!(
            "The {field} {wanted} is taken for {}; mapping.values.{field} says otherwise.",
            meanings.join(" or ")
        ));
        Some(condition(path, operator, one_or_all(values)))
    }

    fn operator(&mut self, told: Told<'_>) -> Option<Operator> {
        let known = match told.operator {
            "is" => Operator::Is,
            "is_not" => Operator::IsNot,
            "less_than" => Operator::LessThan,
            "greater_than" => Operator::GreaterThan,
            "includes" => Operator::Includes,
            "not_includes" => Operator::NotIncludes,
            "changed" => Operator::Changed,
            "not_changed" => Operator::NotChanged,
            "value" => Operator::ChangedTo,
            "value_previous" => Operator::ChangedFrom,
            "present" | "is_present" => Operator::Present,
            "not_present" | "is_not_present" => Operator::NotPresent,
            other => {
                let shown: String = other.chars().take(40).collect();
                self.reason(format!("The operator {shown} of {} has no counterpart.", told.field));
                return None;
            }
        };
        Some(known)
    }
}

/// Whether what was said is public, where that is asked.
fn publicity(told: Told<'_>) -> Option<Condition> {
    let is_public = match text_of(told.value).as_deref() {
        Some("true" | "requester_can_see_comment") => true,
        Some("false") => false,
        // There is a comment, whichever: the events say so.
        _ => return None,
    };
    let is_public = is_public == (told.operator != "is_not");
    Some(condition("payload.isPublic", Operator::Is, json!(is_public)))
}

/// One of some words is in the field, or a text as a whole is.
fn parts(path: &str, operator: Operator, wanted: &str) -> Condition {
    let words: Vec<Value> = wanted.split_whitespace().map(|word| json!(word)).collect();
    match operator {
        Operator::Is => condition(path, Operator::Includes, json!(wanted)),
        Operator::IsNot => condition(path, Operator::NotIncludes, json!(wanted)),
        other => condition(path, other, one_or_all(words)),
    }
}

/// A comparison with nothing asks whether there is something.
fn presence(operator: Operator, wanted: &str) -> Option<Operator> {
    match operator {
        Operator::Is if wanted.is_empty() => Some(Operator::NotPresent),
        Operator::IsNot if wanted.is_empty() => Some(Operator::Present),
        _ => None,
    }
}

const fn is_without_value(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Changed | Operator::NotChanged | Operator::Present | Operator::NotPresent
    )
}

pub(super) fn condition(field: &str, operator: Operator, value: Value) -> Condition {
    Condition { field: field.to_owned(), operator, value }
}

pub(super) fn values(all: &[&str]) -> Value {
    one_or_all(all.iter().map(|one| json!(one)).collect())
}

fn one_or_all(mut values: Vec<Value>) -> Value {
    match values.len() {
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}

/// What a status may be called here.
pub(super) fn status_words(mapping: &Mapping, status: &str) -> Option<Value> {
    let (word, usual) = STATUSES.iter().find(|(word, _)| *word == status)?;
    let mapped = mapping.value("status", word);
    Some(one_or_all(mapped.unwrap_or_else(|| usual.iter().map(|text| json!(text)).collect())))
}
