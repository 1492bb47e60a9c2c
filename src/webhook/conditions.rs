//! The conditions of triggers and automations: a pure rule over one event, of which all and any
//! must hold, and which says what did not.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::matching::Facts;

/// The most conditions of one rule, all and any together.
pub const MOST_CONDITIONS: usize = 50;

/// The longest name of a field, in bytes.
pub const LONGEST_FIELD: usize = 200;

/// The most values that one condition compares with.
pub const MOST_VALUES: usize = 50;

/// The longest value, in bytes.
pub const LONGEST_VALUE: usize = 1_000;

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Operator {
    /// It is the value, or one of the values.
    Is,
    /// It is none of the values.
    #[serde(alias = "is_not")]
    IsNot,
    /// It is a text with the value in it, or a list with the value as a member.
    #[serde(alias = "contains")]
    Includes,
    /// It is not so.
    #[serde(alias = "not_includes", alias = "notContains")]
    NotIncludes,
    /// It is a number or a time before the value.
    #[serde(alias = "less_than")]
    LessThan,
    /// It is a number or a time after the value.
    #[serde(alias = "greater_than")]
    GreaterThan,
    /// There is something.
    Present,
    /// There is nothing, or null, or an empty text.
    #[serde(alias = "not_present")]
    NotPresent,
    /// It is not what it was; nothing has changed where the event does not say what was.
    Changed,
    /// It is what it was, as far as the event says.
    #[serde(alias = "not_changed")]
    NotChanged,
    /// It changed, and is one of the values now.
    #[serde(alias = "changed_to", alias = "value")]
    ChangedTo,
    /// It changed, and was one of the values.
    #[serde(alias = "changed_from", alias = "value_previous")]
    ChangedFrom,
}

impl Operator {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Is => "is",
            Self::IsNot => "isNot",
            Self::Includes => "includes",
            Self::NotIncludes => "notIncludes",
            Self::LessThan => "lessThan",
            Self::GreaterThan => "greaterThan",
            Self::Present => "present",
            Self::NotPresent => "notPresent",
            Self::Changed => "changed",
            Self::NotChanged => "notChanged",
            Self::ChangedTo => "changedTo",
            Self::ChangedFrom => "changedFrom",
        }
    }

    const fn needs_value(self) -> bool {
        !matches!(self, Self::Present | Self::NotPresent | Self::Changed | Self::NotChanged)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// `eventType`, `departmentId`, `origin`, or a path such as `payload.status`,
    /// `payload.cf.cf_region`, `prevState.status`.
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what: a text, a number, a truth value, null, or a list of which one must fit.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub value: Value,
}

/// The conditions of a rule: all of `all` must hold, and one of `any` where there are some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conditions {
    /// Each must hold.
    #[serde(default)]
    pub all: Vec<Condition>,
    /// One must hold.
    #[serde(default)]
    pub any: Vec<Condition>,
}

/// What is wrong with conditions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionFault {
    /// There is none.
    #[error("a rule needs at least one condition")]
    None,
    /// Too many.
    #[error("a rule has at most {MOST_CONDITIONS} conditions")]
    TooMany,
    /// The field is none.
    #[error(
        "must be eventType, departmentId, origin, or a path that begins with payload. or prevState. and has at most {LONGEST_FIELD} bytes"
    )]
    Field,
    /// The event type is in no catalogue.
    #[error("{given:?} is no event type{}", nearest.map_or_else(String::new, |name| format!("; did you mean {name}?")))]
    EventType {
        /// What was given.
        given: String,
        /// The nearest name.
        nearest: Option<&'static str>,
    },
    /// The operator is not for this field.
    #[error("{} is for fields of payload only", operator.as_str())]
    Operator {
        /// The operator.
        operator: Operator,
    },
    /// The value is none, or too large.
    #[error(
        "must be a text, a number or a truth value, or a list of 1 to {MOST_VALUES} of them, each at most {LONGEST_VALUE} bytes"
    )]
    Value,
    /// A value where there can be none.
    #[error("{} takes no value", operator.as_str())]
    NoValue {
        /// The operator.
        operator: Operator,
    },
}

/// What finds an event type by a name: the canonical one, else the nearest.
pub type FindEventType<'f> = &'f dyn Fn(&str) -> Result<&'static str, Option<&'static str>>;

impl Conditions {
    /// Checks the conditions, all at once, and brings the names of event types into their canonical
    /// form. A fault comes with a JSON pointer below the conditions.
    pub fn check(&mut self, find: FindEventType<'_>) -> Vec<(String, ConditionFault)> {
        let count = self.all.len() + self.any.len();
        if count == 0 {
            return vec![(String::new(), ConditionFault::None)];
        }
        if count > MOST_CONDITIONS {
            return vec![(String::new(), ConditionFault::TooMany)];
        }
        let mut faults = Vec::new();
        for (list, conditions) in [("all", &mut self.all), ("any", &mut self.any)] {
            for (index, condition) in conditions.iter_mut().enumerate() {
                let at = format!("/{list}/{index}");
                faults.extend(
                    condition
                        .check(find)
                        .into_iter()
                        .map(|(part, fault)| (format!("{at}/{part}"), fault)),
                );
            }
        }
        faults
    }

    /// The event types that they can hold for, where `all` says so; else any type can be.
    pub fn event_types(&self) -> Option<Vec<&str>> {
        let condition =
            self.all.iter().find(|one| one.field == "eventType" && one.operator == Operator::Is)?;
        Some(condition.values().iter().filter_map(|value| value.as_str()).collect())
    }

    /// Whether an event fulfils them; else the first condition that it does not, in words.
    pub fn hold(&self, event_type: &str, facts: &Facts<'_>) -> Result<(), String> {
        if let Some(unmet) = self.all.iter().find(|one| !one.holds(event_type, facts)) {
            return Err(unmet.to_string());
        }
        if self.any.is_empty() || self.any.iter().any(|one| one.holds(event_type, facts)) {
            return Ok(());
        }
        let all = self.any.iter().map(ToString::to_string).collect::<Vec<_>>();
        Err(all.join(", and not "))
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.field, self.operator.as_str())?;
        if self.operator.needs_value() {
            write!(formatter, " {}", self.value)?;
        }
        Ok(())
    }
}

/// Where a field is.
enum Field<'f> {
    EventType,
    Department,
    Origin,
    Payload(&'f str),
    Previous(&'f str),
}

impl Condition {
    fn place(&self) -> Option<Field<'_>> {
        let is_path = |path: &&str| {
            self.field.len() <= LONGEST_FIELD
                && path
                    .split('.')
                    .all(|word| !word.is_empty() && !word.chars().any(char::is_control))
        };
        Some(match self.field.as_str() {
            "eventType" => Field::EventType,
            "departmentId" => Field::Department,
            "origin" => Field::Origin,
            field => match field.split_once('.')? {
                ("payload", path) => Field::Payload(Some(path).filter(is_path)?),
                ("prevState" | "previous", path) => Field::Previous(Some(path).filter(is_path)?),
                _ => return None,
            },
        })
    }

    fn values(&self) -> &[Value] {
        match &self.value {
            Value::Array(values) => values,
            one => std::slice::from_ref(one),
        }
    }

    fn check(&mut self, find: FindEventType<'_>) -> Vec<(&'static str, ConditionFault)> {
        let mut faults = Vec::new();
        let operator = self.operator;
        let (is_type, is_payload) = match self.place() {
            None => return vec![("field", ConditionFault::Field)],
            Some(field) => (matches!(field, Field::EventType), matches!(field, Field::Payload(_))),
        };
        let is_change = matches!(
            operator,
            Operator::Changed | Operator::NotChanged | Operator::ChangedTo | Operator::ChangedFrom
        );
        if is_change && !is_payload {
            faults.push(("operator", ConditionFault::Operator { operator }));
        }
        if !operator.needs_value() {
            if !self.value.is_null() {
                faults.push(("value", ConditionFault::NoValue { operator }));
            }
            return faults;
        }
        let is_fit = |value: &Value| match value {
            Value::String(text) => text.len() <= LONGEST_VALUE,
            Value::Number(_) | Value::Bool(_) | Value::Null => true,
            Value::Array(_) | Value::Object(_) => false,
        };
        let values = self.values();
        if !(1..=MOST_VALUES).contains(&values.len()) || !values.iter().all(is_fit) {
            faults.push(("value", ConditionFault::Value));
            return faults;
        }
        if is_type && matches!(operator, Operator::Is | Operator::IsNot) {
            let named = |value: &mut Value| match value.as_str().map(find) {
                Some(Ok(name)) => {
                    *value = name.into();
                    None
                }
                Some(Err(nearest)) => {
                    let given = value.as_str().unwrap_or_default().chars().take(64).collect();
                    Some(("value", ConditionFault::EventType { given, nearest }))
                }
                None => Some(("value", ConditionFault::Value)),
            };
            match &mut self.value {
                Value::Array(values) => faults.extend(values.iter_mut().filter_map(named)),
                one => faults.extend(Some(one).and_then(named)),
            }
        }
        faults
    }

    fn holds(&self, event_type: &str, facts: &Facts<'_>) -> bool {
        let text = |text: &str| Value::from(text);
        let owned;
        let now: &Value = match self.place() {
            None => return false,
            Some(Field::EventType) => {
                owned = text(event_type);
                &owned
            }
            Some(Field::Department) => {
                owned = facts.department_id.map_or(Value::Null, text);
                &owned
            }
            Some(Field::Origin) => {
                owned = text(if facts.automation { "AUTOMATION" } else { "USER" });
                &owned
            }
            Some(Field::Payload(path)) => at(facts.payload(), path),
            Some(Field::Previous(path)) => {
                facts.previous().map_or(&Value::Null, |document| at(document, path))
            }
        };
        let is_one = |value: &Value| self.values().iter().any(|wanted| same(value, wanted));
        let before = || match self.place() {
            Some(Field::Payload(path)) => facts.previous().map(|document| at(document, path)),
            _ => None,
        };
        let changed = || before().is_some_and(|before| before != now);
        match self.operator {
            Operator::Is => is_one(now),
            Operator::IsNot => !is_one(now),
            Operator::Includes => self.values().iter().any(|wanted| includes(now, wanted)),
            Operator::NotIncludes => !self.values().iter().any(|wanted| includes(now, wanted)),
            Operator::LessThan => self.values().iter().any(|wanted| is_before(now, wanted)),
            Operator::GreaterThan => self.values().iter().any(|wanted| is_before(wanted, now)),
            Operator::Present => is_present(now),
            Operator::NotPresent => !is_present(now),
            Operator::Changed => changed(),
            Operator::NotChanged => !changed(),
            Operator::ChangedTo => changed() && is_one(now),
            Operator::ChangedFrom => changed() && before().is_some_and(is_one),
        }
    }
}

/// The value at a path; null where there is none.
fn at<'v>(document: &'v Value, path: &str) -> &'v Value {
    path.split('.')
        .try_fold(document, |value, word| match value {
            Value::Array(items) => items.get(word.parse::<usize>().ok()?),
            other => other.get(word),
        })
        .unwrap_or(&Value::Null)
}

/// Texts without regard to case; a number and its text are the same, as ids come in both forms.
fn same(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::String(left), Value::String(right)) => {
            left == right || left.to_lowercase() == right.to_lowercase()
        }
        (Value::String(text), Value::Number(number))
        | (Value::Number(number), Value::String(text)) => number.to_string() == *text,
        (Value::Number(left), Value::Number(right)) => {
            left == right
                || matches!((left.as_f64(), right.as_f64()), (Some(l), Some(r)) if l.total_cmp(&r).is_eq())
        }
        _ => value == wanted,
    }
}

fn includes(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Array(items), wanted) => items.iter().any(|item| same(item, wanted)),
        (Value::String(text), Value::String(part)) => {
            text.to_lowercase().contains(&part.to_lowercase())
        }
        _ => false,
    }
}

/// Numbers by value, times by the moment; nothing else is before anything.
fn is_before(left: &Value, right: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        _ => None,
    };
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return left < right;
    }
    let time = |value: &Value| value.as_str().and_then(crate::seam::Timestamp::parse_rfc3339);
    matches!((time(left), time(right)), (Some(left), Some(right)) if left < right)
}

fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(name: &str) -> Result<&'static str, Option<&'static str>> {
        match name {
            "Ticket_Add" => Ok("Ticket_Add"),
            "Ticket_Update" => Ok("Ticket_Update"),
            "13" => Ok("Device Online"),
            _ => Err(Some("Ticket_Add")),
        }
    }

    fn conditions(value: Value) -> Conditions {
        let mut conditions: Conditions = serde_json::from_value(value).expect("conditions");
        let faults = conditions.check(&find);
        assert!(faults.is_empty(), "{faults:?}");
        conditions
    }

    const NOW: &[u8] =
        br#"{"id":"7","status":"On Hold","priority":"High","hours":5,"tags":["vip","eu"],
        "cf":{"cf_region":"EU"},"due":"2026-03-03T16:00:00.000Z","teamId":null,"note":""}"#;
    const BEFORE: &[u8] = br#"{"id":"7","status":"Open","priority":"High","hours":4}"#;

    #[test]
    fn each_operator_says_what_its_name_says() {
        let mut facts = Facts::new(NOW, Some(BEFORE));
        facts.department_id = Some("3");
        facts.automation = true;
        for (field, operator, value, expected) in [
            ("eventType", "is", json!("Ticket_Update"), true),
            ("eventType", "is", json!(["Ticket_Add", "Ticket_Update"]), true),
            ("eventType", "isNot", json!("Ticket_Update"), false),
            ("departmentId", "is", json!(3), true),
            ("departmentId", "is", json!(["1", "2"]), false),
            ("origin", "is", json!("AUTOMATION"), true),
            ("origin", "is_not", json!("USER"), true),
            ("payload.status", "is", json!("on hold"), true),
            ("payload.status", "isNot", json!(["Open", "Closed"]), true),
            ("payload.cf.cf_region", "is", json!("EU"), true),
            ("payload.missing", "is", json!(null), true),
            ("payload.hours", "is", json!("5"), true),
            ("payload.hours", "is", json!(5.0), true),
            ("payload.hours", "lessThan", json!(6), true),
            ("payload.hours", "less_than", json!(5), false),
            ("payload.hours", "greaterThan", json!("4.5"), true),
            ("payload.due", "lessThan", json!("2026-03-03T17:00:00+01:00"), false),
            ("payload.due", "greaterThan", json!("2026-03-03T16:30:00+01:00"), true),
            ("payload.status", "lessThan", json!(5), false),
            ("payload.tags", "includes", json!("VIP"), true),
            ("payload.tags.1", "is", json!("eu"), true),
            ("payload.status", "contains", json!("hold"), true),
            ("payload.tags", "notIncludes", json!(["us"]), true),
            ("payload.priority", "present", json!(null), true),
            ("payload.note", "present", json!(null), false),
            ("payload.teamId", "notPresent", json!(null), true),
            ("payload.status", "changed", json!(null), true),
            ("payload.priority", "changed", json!(null), false),
            ("payload.priority", "not_changed", json!(null), true),
            ("payload.status", "changedTo", json!("On Hold"), true),
            ("payload.status", "changedTo", json!("Closed"), false),
            ("payload.status", "changedFrom", json!("Open"), true),
            ("payload.priority", "changedTo", json!("High"), false),
            ("prevState.status", "is", json!("Open"), true),
            ("previous.hours", "lessThan", json!(5), true),
        ] {
            let one = json!({ "field": field, "operator": operator, "value": value });
            let held = conditions(json!({ "all": [one] })).hold("Ticket_Update", &facts);
            assert_eq!(held.is_ok(), expected, "{field} {operator} {value}: {held:?}");
        }
    }

    #[test]
    fn without_a_former_state_nothing_has_changed() {
        let facts = Facts::new(NOW, None);
        for (operator, expected) in [("changed", false), ("notChanged", true)] {
            let one = json!({ "field": "payload.status", "operator": operator });
            let held = conditions(json!({ "all": [one] })).hold("Ticket_Update", &facts);
            assert_eq!(held.is_ok(), expected, "{operator}");
        }
    }

    #[test]
    fn all_must_hold_and_one_of_any() {
        let facts = Facts::new(NOW, Some(BEFORE));
        let is =
            |value: &str| json!({ "field": "payload.status", "operator": "is", "value": value });
        let high = json!({ "field": "payload.priority", "operator": "is", "value": "High" });
        for (rule, expected) in [
            (json!({ "all": [high, is("On Hold")] }), Ok(())),
            (json!({ "all": [high, is("Open")] }), Err("payload.status is \"Open\"")),
            (json!({ "all": [high], "any": [is("Open"), is("On Hold")] }), Ok(())),
            (
                json!({ "all": [high], "any": [is("Open"), is("Closed")] }),
                Err("payload.status is \"Open\", and not payload.status is \"Closed\""),
            ),
            (json!({ "any": [is("On Hold")] }), Ok(())),
        ] {
            let held = conditions(rule.clone()).hold("Ticket_Update", &facts);
            assert_eq!(held, expected.map_err(str::to_owned), "{rule}");
        }
    }

    #[test]
    fn faults_are_told_with_their_places() {
        let check = |value: Value| {
            let mut conditions: Conditions = serde_json::from_value(value).expect("conditions");
            let faults = conditions.check(&find);
            faults.into_iter().map(|(place, fault)| format!("{place}: {fault}")).collect::<Vec<_>>()
        };
        assert_eq!(check(json!({})), [": a rule needs at least one condition"]);
        let one = |field: &str, operator: &str, value: Value| json!({ "all": [{ "field": field, "operator": operator, "value": value }] });
        for (rule, place) in [
            (one("status", "is", json!("x")), "/all/0/field"),
            (one("payload", "is", json!("x")), "/all/0/field"),
            (one("payload.", "is", json!("x")), "/all/0/field"),
            (one("payload.a..b", "is", json!("x")), "/all/0/field"),
            (one(&format!("payload.{}", "a".repeat(200)), "is", json!("x")), "/all/0/field"),
            (one("eventType", "changed", json!(null)), "/all/0/operator"),
            (one("prevState.a", "changedTo", json!("x")), "/all/0/operator"),
            (one("payload.a", "present", json!("x")), "/all/0/value"),
            (one("payload.a", "is", json!({})), "/all/0/value"),
            (one("payload.a", "is", json!([])), "/all/0/value"),
            (one("payload.a", "is", json!([[]])), "/all/0/value"),
            (one("payload.a", "is", json!("x".repeat(1_001))), "/all/0/value"),
            (one("eventType", "is", json!("Ticket_Ad")), "/all/0/value"),
            (one("eventType", "is", json!(7)), "/all/0/value"),
        ] {
            let faults = check(rule.clone());
            assert_eq!(faults.len(), 1, "{rule}: {faults:?}");
            assert!(faults[0].starts_with(place), "{rule}: {faults:?}");
        }
        assert!(
            check(one("eventType", "is", json!("Ticket_Ad")))[0]
                .contains("did you mean Ticket_Add?")
        );
        let many = json!({ "any": vec![json!({ "field": "origin", "operator": "is", "value": "USER" }); 51] });
        assert_eq!(check(many), [": a rule has at most 50 conditions"]);
        assert!(serde_json::from_value::<Conditions>(one("a", "equals", json!(1))).is_err());
        assert!(serde_json::from_value::<Conditions>(json!({ "or": [] })).is_err());
    }

    #[test]
    fn the_types_that_a_rule_is_for_are_known() {
        let rule = conditions(json!({
            "all": [{ "field": "eventType", "operator": "is", "value": ["13", "Ticket_Add"] }],
        }));
        assert_eq!(rule.event_types(), Some(vec!["Device Online", "Ticket_Add"]));
        let any = conditions(json!({
            "any": [{ "field": "eventType", "operator": "is", "value": "Ticket_Add" }],
        }));
        assert_eq!(any.event_types(), None);
    }
}
