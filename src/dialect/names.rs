//! What each dialect calls the host's events, and which of its events a host's event is.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::Value;

use super::Dialect;

mod tables;

pub(super) use tables::ZENDESK_PREFIX;
pub use tables::{AssistEvent, assist_event, assist_events};

/// When a host's event is the named one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Always.
    Always,
    /// One of the fields differs from what it was. Where nothing is known of before, it is not told.
    Changed(&'static [&'static str]),
    /// The field has one of these texts now, and had none of them before.
    TurnedTo(&'static str, &'static [&'static str]),
    /// The field had one of these texts before, and has none of them now.
    TurnedFrom(&'static str, &'static [&'static str]),
    /// One of the fields is true now and was not before.
    TurnedTrue(&'static [&'static str]),
    /// The field was true before and is not now.
    TurnedFalse(&'static str),
    /// The field has this text.
    Is(&'static str, &'static str),
}

/// One row: a name of the dialect, a type of the host, and when the one is the other.
pub(super) type Row = (&'static str, &'static str, When);

struct Names {
    /// All names, in the order of the tables.
    names: Vec<&'static str>,
    /// The names that a host's type may be told under.
    by_type: HashMap<&'static str, Vec<(&'static str, When)>>,
}

static ZENDESK: LazyLock<Names> = LazyLock::new(|| read(tables::ZENDESK, &[]));
static DZDESK: LazyLock<Names> = LazyLock::new(|| read(tables::DZDESK, tables::DZDESK_ONLY));
static ASSIST: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| assist_events().iter().map(|event| event.name).collect());
static HOST: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| crate::manifest::event_types().iter().map(|known| known.name).collect());
static STANDARD: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    HOST.iter()
        .copied()
        .chain(tables::DZDESK_ONLY.iter().copied())
        .chain(ASSIST.iter().copied())
        .collect()
});
static ZENDESK_AND_HOST: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| ZENDESK.names.iter().copied().chain(STANDARD.iter().copied()).collect());

fn read(rows: &'static [Row], own: &'static [&'static str]) -> Names {
    let mut names: Vec<&'static str> = Vec::new();
    let mut by_type: HashMap<&'static str, Vec<(&'static str, When)>> = HashMap::new();
    for &(name, event_type, when) in rows {
        if !names.contains(&name) {
            names.push(name);
        }
        by_type.entry(event_type).or_default().push((name, when));
    }
    names.extend_from_slice(own);
    Names { names, by_type }
}

/// Which events of a dialect a host's event is, none to several. `payload` and `previous` are JSON
/// texts and read only where the answer depends on them; what is not known of before has not
/// changed.
pub fn told<'n>(
    dialect: Dialect,
    event_type: &'n str,
    payload: &[u8],
    previous: Option<&[u8]>,
) -> Vec<&'n str> {
    let read: OnceCell<(Value, Option<Value>)> = OnceCell::new();
    let parse = |text: &[u8]| serde_json::from_slice(text).unwrap_or(Value::Null);
    told_with(dialect, event_type, &|| {
        let (payload, previous) = read.get_or_init(|| (parse(payload), previous.map(parse)));
        (payload, previous.as_ref())
    })
}

/// The same where somebody else has read the documents, or will where they are asked for.
pub fn told_with<'n, 'd>(
    dialect: Dialect,
    event_type: &'n str,
    documents: &dyn Fn() -> (&'d Value, Option<&'d Value>),
) -> Vec<&'n str> {
    match dialect {
        Dialect::Desk | Dialect::Standard => vec![event_type],
        Dialect::Assist => ASSIST.iter().copied().filter(|name| *name == event_type).collect(),
        Dialect::Dzdesk if tables::DZDESK_ONLY.contains(&event_type) => vec![event_type],
        Dialect::Dzdesk => matching(&DZDESK, event_type, documents),
        Dialect::Zendesk => {
            let mut names = matching(&ZENDESK, event_type, documents);
            names.push(event_type);
            names
        }
    }
}

fn matching<'n, 'd>(
    names: &Names,
    event_type: &str,
    documents: &dyn Fn() -> (&'d Value, Option<&'d Value>),
) -> Vec<&'n str> {
    let mut told: Vec<&'n str> = Vec::new();
    for &(name, when) in names.by_type.get(event_type).into_iter().flatten() {
        if !told.contains(&name) && is_so(when, documents) {
            told.push(name);
        }
    }
    told
}

/// The name that a dialect has for what was written: `13` and `13 Device Online` are
/// `Device Online`, `ticket.created` is `zen:event-type:ticket.created`. Nothing where the dialect
/// knows no such event.
pub fn canonical(dialect: Dialect, given: &str) -> Option<&'static str> {
    let exact = |given: &str| known_names(dialect).iter().copied().find(|name| *name == given);
    match dialect {
        Dialect::Desk | Dialect::Standard | Dialect::Dzdesk => exact(given),
        Dialect::Zendesk => exact(given).or_else(|| {
            let end = |name: &&&str| name.strip_prefix(tables::ZENDESK_PREFIX) == Some(given);
            ZENDESK.names.iter().find(end).copied()
        }),
        Dialect::Assist => assist_event(given).map(|event| event.name),
    }
}

/// The host's event types of which some are the named event of a dialect. The name is canonical.
pub fn host_types(dialect: Dialect, name: &str) -> Vec<&'static str> {
    let of_table = |rows: &[Row]| {
        let mut types: Vec<&'static str> = Vec::new();
        for (own, event_type, _) in rows {
            if *own == name && !types.contains(event_type) {
                types.push(event_type);
            }
        }
        types
    };
    let types = match dialect {
        Dialect::Zendesk => of_table(tables::ZENDESK),
        Dialect::Dzdesk => of_table(tables::DZDESK),
        Dialect::Desk | Dialect::Standard | Dialect::Assist => Vec::new(),
    };
    if !types.is_empty() {
        return types;
    }
    // What is posted under the name that it is told by.
    known_names(dialect).iter().copied().filter(|known| *known == name).collect()
}

/// The events that a subscription by this name counts as, where they are counted. Zendesk's webhooks
/// may subscribe by the host's names too: one that is always told by a name of Zendesk's is the same
/// event under both.
pub fn counted_as(dialect: Dialect, name: &str) -> Vec<&str> {
    let rows: &[(&'static str, When)] = match dialect {
        Dialect::Zendesk => ZENDESK.by_type.get(name).map_or(&[][..], Vec::as_slice),
        Dialect::Desk | Dialect::Standard | Dialect::Dzdesk | Dialect::Assist => &[],
    };
    let mut names: Vec<&str> =
        rows.iter().filter(|(_, when)| *when == When::Always).map(|(name, _)| *name).collect();
    names.dedup();
    if names.is_empty() { vec![name] } else { names }
}

/// Every name that a webhook of the dialect can subscribe to.
pub fn known_names(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Desk => &HOST,
        Dialect::Standard => &STANDARD,
        Dialect::Zendesk => &ZENDESK_AND_HOST,
        Dialect::Dzdesk => &DZDESK.names,
        Dialect::Assist => &ASSIST,
    }
}

/// Every name that a dialect may tell a host's event type by, whatever the event holds.
pub fn names_of_type(dialect: Dialect, event_type: &str) -> Vec<&'static str> {
    known_names(dialect)
        .iter()
        .copied()
        .filter(|name| host_types(dialect, name).contains(&event_type))
        .collect()
}

/// The types that only one dialect knows, with that dialect; the host posts them under these names.
pub fn only_of_one_dialect() -> BTreeMap<&'static str, Dialect> {
    let dzdesk = tables::DZDESK_ONLY.iter().map(|name| (*name, Dialect::Dzdesk));
    dzdesk.chain(ASSIST.iter().map(|name| (*name, Dialect::Assist))).collect()
}

/// The name of the dialect that is spelled most like an unknown one.
pub fn nearest(dialect: Dialect, given: &str) -> Option<&'static str> {
    let known = known_names(dialect).iter().copied();
    if dialect != Dialect::Zendesk || !given.contains('.') {
        return crate::manifest::nearest(given, known);
    }
    // A name of Zendesk's own, whose prefix nearly everybody leaves out.
    let short = ZENDESK.names.iter().filter_map(|name| name.strip_prefix(tables::ZENDESK_PREFIX));
    let given = given.strip_prefix(tables::ZENDESK_PREFIX).unwrap_or(given);
    canonical(dialect, crate::manifest::nearest(given, short)?)
}

/// The field whose change an event of Zendesk's tells, where it tells of one.
pub(super) fn changed_field(name: &str, event_type: &str) -> Option<&'static str> {
    tables::ZENDESK.iter().find_map(|(own, own_type, when)| match when {
        When::Changed(fields) if *own == name && *own_type == event_type => fields.first().copied(),
        When::TurnedTo(field, _) | When::TurnedFrom(field, _) | When::TurnedFalse(field)
            if *own == name && *own_type == event_type =>
        {
            Some(*field)
        }
        _ => None,
    })
}

/// Whether a host's event is the named one. The documents are asked for only where that depends on
/// them.
fn is_so<'d>(when: When, documents: &dyn Fn() -> (&'d Value, Option<&'d Value>)) -> bool {
    if when == When::Always {
        return true;
    }
    let (now, before) = documents();
    let text_is = |document: &Value, field: &str, texts: &[&str]| {
        let text = document.get(field).and_then(Value::as_str).unwrap_or_default();
        texts.iter().any(|one| one.eq_ignore_ascii_case(text))
    };
    if let When::Is(field, text) = when {
        return text_is(now, field, &[text]);
    }
    // What is not known of before has not changed.
    let Some(before) = before.filter(|before| before.is_object()) else { return false };
    let null = Value::Null;
    let differs =
        |field: &str| now.get(field).unwrap_or(&null) != before.get(field).unwrap_or(&null);
    let is_true = |document: &Value, field: &str| document.get(field) == Some(&Value::Bool(true));
    match when {
        When::Always | When::Is(..) => true,
        When::Changed(fields) => fields.iter().any(|field| differs(field)),
        When::TurnedTo(field, texts) => {
            text_is(now, field, texts) && !text_is(before, field, texts)
        }
        When::TurnedFrom(field, texts) => {
            text_is(before, field, texts) && !text_is(now, field, texts)
        }
        When::TurnedTrue(fields) => {
            fields.iter().any(|field| is_true(now, field) && !is_true(before, field))
        }
        When::TurnedFalse(field) => is_true(before, field) && !is_true(now, field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_that_changes_is_told_by_what_changed() {
        let now = br#"{"id":"1","status":"Closed","assigneeId":"8","priority":"High"}"#;
        let before = br#"{"id":"1","status":"Open","assigneeId":null,"priority":"High"}"#;
        let told_of =
            |dialect, previous: Option<&[u8]>| told(dialect, "Ticket_Update", now, previous);
        assert_eq!(
            told_of(Dialect::Dzdesk, Some(before)),
            ["request.updated", "request.status_changed", "request.assigned"]
        );
        assert_eq!(told_of(Dialect::Dzdesk, None), ["request.updated"]);
        assert_eq!(
            told_of(Dialect::Zendesk, Some(before)),
            [
                "zen:event-type:ticket.status_changed",
                "zen:event-type:ticket.agent_assignment_changed",
                "Ticket_Update"
            ]
        );
        assert_eq!(told_of(Dialect::Desk, None), ["Ticket_Update"]);
        assert_eq!(told_of(Dialect::Standard, None), ["Ticket_Update"]);
        assert!(told_of(Dialect::Assist, Some(before)).is_empty());
    }

    #[test]
    fn somebody_who_goes_is_deactivated() {
        let told_of = |event_type: &'static str, now: &str, before: &str| {
            told(Dialect::Dzdesk, event_type, now.as_bytes(), Some(before.as_bytes()))
        };
        let (on, off) = (r#"{"status":"ACTIVE"}"#, r#"{"status":"DISABLED"}"#);
        assert_eq!(told_of("Agent_Update", off, on), ["user.updated", "user.deactivated"]);
        assert_eq!(told_of("Agent_Update", off, off), ["user.updated"]);
        assert_eq!(told_of("Agent_Update", on, off), ["user.updated"]);
        let (here, gone) = (r#"{"isDeleted":false}"#, r#"{"isDeleted":true}"#);
        assert_eq!(told_of("Contact_Update", gone, here), ["user.updated", "user.deactivated"]);
        assert_eq!(told_of("Agent_Delete", "{}", "{}"), ["user.deactivated"]);
    }

    #[test]
    fn every_name_comes_from_some_type_and_is_found_again() {
        for dialect in Dialect::ALL {
            for name in known_names(dialect) {
                assert_eq!(canonical(dialect, name), Some(*name), "{dialect:?} {name}");
                let types = host_types(dialect, name);
                assert!(!types.is_empty(), "{dialect:?} {name}");
                for event_type in types {
                    assert!(STANDARD.contains(&event_type), "{dialect:?} {name} {event_type}");
                    assert!(names_of_type(dialect, event_type).contains(name), "{name}");
                }
            }
        }
        assert_eq!(known_names(Dialect::Desk).len(), 56);
        assert_eq!(known_names(Dialect::Dzdesk).len(), 11);
        assert_eq!(known_names(Dialect::Assist).len(), 18);
    }

    #[test]
    fn one_event_under_two_names_counts_once() {
        for (dialect, name, counted) in [
            (Dialect::Zendesk, "Ticket_Add", "zen:event-type:ticket.created"),
            (Dialect::Zendesk, "Ticket_Comment_Add", "zen:event-type:ticket.comment_added"),
            (Dialect::Zendesk, "zen:event-type:ticket.created", "zen:event-type:ticket.created"),
            // It is told by other names for some of what changed only.
            (Dialect::Zendesk, "Ticket_Update", "Ticket_Update"),
            (Dialect::Desk, "Ticket_Add", "Ticket_Add"),
            (Dialect::Dzdesk, "request.created", "request.created"),
        ] {
            assert_eq!(counted_as(dialect, name), [counted], "{dialect:?} {name}");
        }
    }

    #[test]
    fn names_are_found_as_people_write_them() {
        for (dialect, given, expected) in [
            (Dialect::Assist, "13", Some("Device Online")),
            (Dialect::Assist, "13 Device Online", Some("Device Online")),
            (Dialect::Assist, "Device Online", Some("Device Online")),
            (Dialect::Assist, "18", None),
            (Dialect::Assist, "013", None),
            (Dialect::Zendesk, "ticket.created", Some("zen:event-type:ticket.created")),
            (Dialect::Zendesk, "Ticket_Add", Some("Ticket_Add")),
            (Dialect::Zendesk, "ticket.made", None),
            (Dialect::Dzdesk, "Ticket_Add", None),
            (Dialect::Dzdesk, "sla.warning", Some("sla.warning")),
            (Dialect::Desk, "sla.warning", None),
            (Dialect::Standard, "sla.warning", Some("sla.warning")),
        ] {
            assert_eq!(canonical(dialect, given), expected, "{dialect:?} {given}");
        }
        assert_eq!(nearest(Dialect::Dzdesk, "request.create"), Some("request.created"));
        assert_eq!(
            nearest(Dialect::Zendesk, "ticket.create"),
            Some("zen:event-type:ticket.created")
        );
        assert_eq!(nearest(Dialect::Assist, "Device Onlin"), Some("Device Online"));
        assert_eq!(nearest(Dialect::Desk, "quite something else"), None);
    }

    #[test]
    fn what_only_one_dialect_knows_is_told_to_it() {
        for (name, dialect) in only_of_one_dialect() {
            assert_eq!(told(dialect, name, b"{}", None), [name]);
            for other in [Dialect::Dzdesk, Dialect::Assist] {
                assert!(other == dialect || told(other, name, b"{}", None).is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn hostile_documents_tell_nothing() {
        for text in ["", "[]", "null", "{", "7", "\"status\""] {
            let bytes = text.as_bytes();
            assert_eq!(
                told(Dialect::Dzdesk, "Ticket_Update", bytes, Some(bytes)),
                ["request.updated"]
            );
        }
        assert!(told(Dialect::Dzdesk, "Nonsense", b"{}", None).is_empty());
    }
}
