//! What an own webhook subscribes to: names of its dialect, each with what narrows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::definition::FieldFault;
use crate::dialect::{self, Dialect};
use crate::identifier::DepartmentId;
use crate::manifest::{SubscriptionOption, event_type};

/// The most departments that a subscription may name.
const MOST_DEPARTMENTS: usize = 200;

/// The most fields that a subscription may name, as the reference has it.
const MOST_FIELDS: usize = 5;

/// The longest name of a field.
const LONGEST_FIELD: usize = 100;

/// What narrows or widens a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionRequest {
    /// Only events of these departments, and those without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department_ids: Option<Vec<String>>,
    /// Only changes of one of these fields; up to five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// Whether what was before comes with the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_prev_state: Option<bool>,
    /// Only messages that came `in`, or went `out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
}

impl SubscriptionRequest {
    fn has(&self, option: SubscriptionOption) -> bool {
        match option {
            SubscriptionOption::DepartmentIds => self.department_ids.is_some(),
            SubscriptionOption::Fields => self.fields.is_some(),
            SubscriptionOption::IncludePrevState => self.include_prev_state.is_some(),
            SubscriptionOption::Direction => self.direction.is_some(),
        }
    }
}

/// The subscriptions by the dialect's own names.
pub(super) type Subscriptions = BTreeMap<String, SubscriptionRequest>;

/// As they are stored and shown: `null` where nothing narrows or widens one.
pub(super) fn to_json(subscriptions: &Subscriptions) -> Value {
    let members = subscriptions.iter().map(|(name, options)| {
        let options =
            if *options == SubscriptionRequest::default() { Value::Null } else { json!(options) };
        (name.clone(), options)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

/// Whether events of a name can be narrowed by an option: where those of one of its types can.
fn supports(dialect: Dialect, name: &str, option: SubscriptionOption) -> bool {
    let types = dialect::host_types(dialect, name);
    let mut known = types.iter().filter_map(|one| event_type(one)).peekable();
    if known.peek().is_none() {
        // An event that only this dialect knows: what every event may have.
        return option == SubscriptionOption::DepartmentIds;
    }
    known.any(|known| known.supports(option))
}

/// Checks subscriptions, faults by faults, and brings their names into the dialect's form.
pub(super) fn check(
    dialect: Dialect,
    wanted: BTreeMap<String, Option<SubscriptionRequest>>,
    faults: &mut Vec<FieldFault>,
) -> Subscriptions {
    let mut checked = Subscriptions::new();
    for (given, options) in wanted {
        let place = format!("/subscriptions/{}", given.replace('~', "~0").replace('/', "~1"));
        let Some(name) = dialect::canonical(dialect, &given) else {
            let shown: String = given.chars().take(100).collect();
            let message = format!("`{shown}` is not an event of the dialect {}", dialect.as_str());
            let mut fault = FieldFault::new(place, message);
            fault.suggestion = dialect::nearest(dialect, &given).map(str::to_owned);
            faults.push(fault);
            continue;
        };
        let options = options.unwrap_or_default();
        check_options(dialect, name, &options, &place, faults);
        if checked.insert(name.to_owned(), options).is_some() {
            faults.push(FieldFault::new(place, format!("{name} is there twice")));
        }
    }
    checked
}

fn check_options(
    dialect: Dialect,
    name: &str,
    options: &SubscriptionRequest,
    place: &str,
    faults: &mut Vec<FieldFault>,
) {
    let mut fault = |member: &str, message: String| {
        faults.push(FieldFault::new(format!("{place}/{member}"), message));
    };
    for option in SubscriptionOption::ALL {
        if options.has(option) && !supports(dialect, name, option) {
            fault(option.as_str(), format!("is not an option of {name}"));
        }
    }
    if let Some(departments) = &options.department_ids {
        if departments.is_empty() || departments.len() > MOST_DEPARTMENTS {
            fault("departmentIds", format!("must name 1 to {MOST_DEPARTMENTS} departments"));
        }
        for id in departments {
            if let Err(error) = DepartmentId::new(id) {
                fault("departmentIds", error.to_string());
            }
        }
    }
    if let Some(fields) = &options.fields {
        if fields.is_empty() || fields.len() > MOST_FIELDS {
            fault("fields", format!("must name 1 to {MOST_FIELDS} fields"));
        }
        let is_fit = |field: &String| (1..=LONGEST_FIELD).contains(&field.len());
        if !fields.iter().all(is_fit) {
            fault("fields", format!("the name of a field has 1 to {LONGEST_FIELD} bytes"));
        }
    }
    if options.direction.as_deref().is_some_and(|one| !["in", "out"].contains(&one)) {
        fault("direction", "must be in or out".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(value: Value) -> Result<Value, Vec<String>> {
        let wanted = serde_json::from_value(value).expect("subscriptions");
        let mut faults = Vec::new();
        let checked = check(Dialect::Desk, wanted, &mut faults);
        if faults.is_empty() {
            return Ok(to_json(&checked));
        }
        Err(faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn options_are_those_of_the_event() {
        let good = json!({
            "Ticket_Add": null,
            "Ticket_Update": { "fields": ["status"], "departmentIds": ["1"], "includePrevState": true },
            "Ticket_Thread_Add": { "direction": "in" },
        });
        assert_eq!(checked(good.clone()), Ok(good));
        assert_eq!(checked(json!({ "Contact_Add": {} })), Ok(json!({ "Contact_Add": null })));
        for (wrong, place) in [
            (json!({ "Ticket_Ad": null }), "/subscriptions/Ticket_Ad"),
            (json!({ "a/b": null }), "/subscriptions/a~1b"),
            (json!({ "Ticket_Add": { "fields": ["x"] } }), "/subscriptions/Ticket_Add/fields"),
            (
                json!({ "Contact_Add": { "departmentIds": ["1"] } }),
                "/subscriptions/Contact_Add/departmentIds",
            ),
            (
                json!({ "Ticket_Add": { "departmentIds": [] } }),
                "/subscriptions/Ticket_Add/departmentIds",
            ),
            (
                json!({ "Ticket_Thread_Add": { "direction": "up" } }),
                "/subscriptions/Ticket_Thread_Add/direction",
            ),
            (
                json!({ "Ticket_Update": { "fields": ["1", "2", "3", "4", "5", "6"] } }),
                "/subscriptions/Ticket_Update/fields",
            ),
        ] {
            assert_eq!(checked(wrong), Err(vec![place.to_owned()]));
        }
    }
}
