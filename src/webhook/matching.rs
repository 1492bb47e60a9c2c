//! Which webhooks an event goes to: the whole rule of the contract (section 5) as one pure
//! function, which also says what refused.

use std::cell::OnceCell;

use serde_json::{Map, Number, Value};

/// The direction of a thread, for `Ticket_Thread_Add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the customer.
    In,
    /// To the customer.
    Out,
}

impl Direction {
    /// The word in manifests and payloads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    /// Reads the word.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "in" => Some(Self::In),
            "out" => Some(Self::Out),
            _ => None,
        }
    }
}

/// What a webhook asks of events of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The departments that the org chose for the installation; none chosen means all.
    pub installation_departments: Option<Vec<String>>,
    /// The departments of the subscription itself; for an org's own webhooks.
    pub subscription_departments: Option<Vec<String>>,
    /// Fields of which one must have changed.
    pub fields: Vec<String>,
    /// The direction of a thread.
    pub direction: Option<Direction>,
    /// Whether events that automation caused are wanted.
    pub automation: bool,
    /// The source whose events are not wanted.
    pub ignore_source_id: Option<String>,
    /// Whether the state before the change is sent along.
    pub include_previous: bool,
}

/// An event as the rule sees it. Documents are read only where a filter asks for it, and once.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The department that it belongs to.
    pub department_id: Option<&'a str>,
    /// What caused the change, as the `sourceId` of its API call says.
    pub source_id: Option<&'a str>,
    /// Whether automation caused it.
    pub automation: bool,
    payload: &'a [u8],
    previous: Option<&'a [u8]>,
    read_payload: OnceCell<Value>,
    read_previous: OnceCell<Value>,
}

impl<'a> Facts<'a> {
    /// An event with its documents, unread.
    pub fn new(payload: &'a [u8], previous: Option<&'a [u8]>) -> Self {
        Self {
            department_id: None,
            source_id: None,
            automation: false,
            payload,
            previous,
            read_payload: OnceCell::new(),
            read_previous: OnceCell::new(),
        }
    }

    /// The documents as they came.
    pub fn documents(&self) -> (&'a [u8], Option<&'a [u8]>) {
        (self.payload, self.previous)
    }

    pub(super) fn payload(&self) -> &Value {
        self.read_payload.get_or_init(|| serde_json::from_slice(self.payload).unwrap_or_default())
    }

    pub(super) fn previous(&self) -> Option<&Value> {
        let previous = self.previous?;
        let value =
            self.read_previous.get_or_init(|| serde_json::from_slice(previous).unwrap_or_default());
        // A `null` says as little as a missing one.
        (!value.is_null()).then_some(value)
    }
}

/// The first rule that refused an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The installation has other departments.
    #[error("the installation is limited to other departments than {department}")]
    InstallationDepartment {
        /// The event's department.
        department: String,
    },
    /// The subscription has other departments.
    #[error("the subscription is limited to other departments than {department}")]
    SubscriptionDepartment {
        /// The event's department.
        department: String,
    },
    /// None of the fields changed.
    #[error("none of the subscribed fields changed: {fields}")]
    Fields {
        /// The fields, joined.
        fields: String,
    },
    /// The thread goes the other way.
    #[error("the subscription wants direction \"{wanted}\"")]
    Direction {
        /// The direction that is wanted.
        wanted: &'static str,
    },
    /// Automation caused it.
    #[error("automation caused it, and includeEventsFrom does not have AUTOMATION")]
    Automation,
    /// The webhook's own extension caused it.
    #[error("its sourceId is the webhook's ignoreSourceId")]
    IgnoredSource,
}

impl Refusal {
    /// The rule's name in answers.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::InstallationDepartment { .. } => "installationDepartments",
            Self::SubscriptionDepartment { .. } => "departmentIds",
            Self::Fields { .. } => "fields",
            Self::Direction { .. } => "direction",
            Self::Automation => "includeEventsFrom",
            Self::IgnoredSource => "ignoreSourceId",
        }
    }
}

/// Decides whether an event passes a filter.
pub fn passes(filter: &Filter, facts: &Facts<'_>) -> Result<(), Refusal> {
    // An event without a department concerns them all.
    if let Some(department) = facts.department_id {
        let outside = |chosen: &Option<Vec<String>>| {
            chosen.as_ref().is_some_and(|chosen| !chosen.iter().any(|id| id == department))
        };
        if outside(&filter.installation_departments) {
            return Err(Refusal::InstallationDepartment { department: department.to_owned() });
        }
        if outside(&filter.subscription_departments) {
            return Err(Refusal::SubscriptionDepartment { department: department.to_owned() });
        }
    }
    if facts.automation && !filter.automation {
        return Err(Refusal::Automation);
    }
    if let (Some(ignored), Some(source)) = (&filter.ignore_source_id, facts.source_id)
        && ignored.eq_ignore_ascii_case(source)
    {
        return Err(Refusal::IgnoredSource);
    }
    if let Some(wanted) = filter.direction
        && facts.payload().get("direction").and_then(Value::as_str) != Some(wanted.name())
    {
        return Err(Refusal::Direction { wanted: wanted.name() });
    }
    if !filter.fields.is_empty()
        && let Some(previous) = facts.previous()
        && !filter.fields.iter().any(|field| differs(field, previous, facts.payload()))
    {
        return Err(Refusal::Fields { fields: filter.fields.join(", ") });
    }
    Ok(())
}

fn differs(field: &str, previous: &Value, present: &Value) -> bool {
    !same(field_of(previous, field), field_of(present, field))
}

/// A field by its name, at the top or among the custom fields; missing means null.
fn field_of<'v>(document: &'v Value, field: &str) -> &'v Value {
    document
        .get(field)
        .or_else(|| document.get("cf").and_then(|custom| custom.get(field)))
        .unwrap_or(&Value::Null)
}

/// JSON equality: numbers by value, objects without regard to order, missing keys as null.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            // Whole numbers are compared as they are: ids are larger than what a double can tell apart.
            let is_whole = |number: &Number| number.is_i64() || number.is_u64();
            left == right
                || (!(is_whole(left) && is_whole(right))
                    && matches!((left.as_f64(), right.as_f64()), (Some(l), Some(r)) if l.total_cmp(&r).is_eq()))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => covers(left, right) && covers(right, left),
        _ => left == right,
    }
}

fn covers(left: &Map<String, Value>, right: &Map<String, Value>) -> bool {
    left.iter().all(|(key, value)| same(value, right.get(key).unwrap_or(&Value::Null)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn departments_limit_only_events_that_have_one() {
        let filter = Filter {
            installation_departments: Some(strings(&["1", "2"])),
            subscription_departments: Some(strings(&["2"])),
            ..Filter::default()
        };
        let mut facts = Facts::new(b"{}", None);
        assert_eq!(passes(&filter, &facts), Ok(()));
        for (department, rule) in
            [("1", Some("departmentIds")), ("2", None), ("3", Some("installationDepartments"))]
        {
            facts.department_id = Some(department);
            assert_eq!(passes(&filter, &facts).err().map(|refusal| refusal.rule()), rule);
        }
    }

    #[test]
    fn a_field_must_have_changed() {
        let filter = Filter { fields: strings(&["status", "cf_region"]), ..Filter::default() };
        let cases: &[(&str, Option<&str>, bool)] = &[
            (r#"{"status":"Open"}"#, None, true),
            (r#"{"status":"Open"}"#, Some("null"), true),
            (r#"{"status":"Open"}"#, Some(r#"{"status":"Open"}"#), false),
            (r#"{"status":"Open"}"#, Some(r#"{"status":"Closed"}"#), true),
            (r#"{"status":"Open"}"#, Some("{}"), true),
            (r#"{"status":null}"#, Some("{}"), false),
            (r#"{"subject":"b"}"#, Some(r#"{"subject":"a"}"#), false),
            (r#"{"cf":{"cf_region":"EU"}}"#, Some(r#"{"cf":{"cf_region":"US"}}"#), true),
            (r#"{"cf":{"cf_region":"EU"}}"#, Some(r#"{"cf":{"cf_region":"EU"}}"#), false),
            (r#"{"status":1}"#, Some(r#"{"status":1.0}"#), false),
            (r#"{"status":892000000056007001}"#, Some(r#"{"status":892000000056007002}"#), true),
            (r#"{"status":{"a":1,"b":null}}"#, Some(r#"{"status":{"a":1}}"#), false),
            (r#"{"status":[1,2]}"#, Some(r#"{"status":[2,1]}"#), true),
        ];
        for (payload, previous, expected) in cases {
            let facts = Facts::new(payload.as_bytes(), previous.map(str::as_bytes));
            assert_eq!(passes(&filter, &facts).is_ok(), *expected, "{payload} after {previous:?}");
        }
    }

    #[test]
    fn direction_automation_and_source_are_told_apart() {
        let filter = Filter {
            direction: Some(Direction::In),
            ignore_source_id: Some("2df92c1a-973a-48f5-95b7-5792c68b9c36".to_owned()),
            ..Filter::default()
        };
        let inward = Facts::new(br#"{"direction":"in"}"#, None);
        assert_eq!(passes(&filter, &inward), Ok(()));
        let outward = Facts::new(br#"{"direction":"out"}"#, None);
        assert_eq!(passes(&filter, &outward).unwrap_err().rule(), "direction");
        let automatic = Facts { automation: true, ..Facts::new(br#"{"direction":"in"}"#, None) };
        assert_eq!(passes(&filter, &automatic).unwrap_err().rule(), "includeEventsFrom");
        let wanted = Filter { automation: true, ..filter.clone() };
        assert_eq!(passes(&wanted, &automatic), Ok(()));
        let own = Facts {
            source_id: Some("2DF92C1A-973A-48F5-95B7-5792C68B9C36"),
            ..Facts::new(br#"{"direction":"in"}"#, None)
        };
        assert_eq!(passes(&filter, &own).unwrap_err().rule(), "ignoreSourceId");
    }
}
