//! The webhook of an extension: as a version declares it, and as an installation has it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::delivery_wishes::DeliveryWishes;
use super::event_type::event_type;
use super::package::StoredPackageInvalid;
use super::reading::Part;

/// What a version says about an optional key: nothing, `null`, or a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The key is left out: what was before stays.
    #[default]
    Absent,
    /// The key is `null`: what was before is cleared.
    Null,
    /// The key has a value.
    Value(T),
}

impl<T> Patch<T> {
    /// What comes out where `former` was before.
    pub fn merge(self, former: Option<T>) -> Option<T> {
        match self {
            Self::Absent => former,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// Where events come from besides people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventOrigin {
    /// Time-based rules of the help desk.
    Automation,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It came in.
    In,
    /// It went out.
    Out,
}

/// What narrows or widens a subscription. Departments are not among it: in a package they are
/// ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionOptions {
    /// Only changes of one of these fields; all where it is empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub fields: BTreeSet<String>,
    /// Whether the record as it was before comes with the event.
    #[serde(skip_serializing_if = "is_false")]
    pub include_prev_state: bool,
    /// Only messages of this direction; both where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl SubscriptionOptions {
    /// As a subscription is written: `null` where nothing narrows or widens it.
    pub fn to_json(&self) -> Value {
        if *self == Self::default() {
            return Value::Null;
        }
        let mut options = serde_json::Map::new();
        if !self.fields.is_empty() {
            options.insert("fields".into(), json!(self.fields));
        }
        if self.include_prev_state {
            options.insert("includePrevState".into(), true.into());
        }
        if let Some(direction) = self.direction {
            options.insert("direction".into(), json!(direction));
        }
        Value::Object(options)
    }

    fn read(part: &Part<'_>) -> Result<Self, StoredPackageInvalid> {
        if part.value.is_null() {
            return Ok(Self::default());
        }
        part.object()?;
        let fields = match part.get("fields") {
            Some(fields) => fields.texts()?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        let direction = match part.get("direction") {
            None => None,
            Some(direction) => match direction.text()? {
                "in" => Some(Direction::In),
                "out" => Some(Direction::Out),
                _ => return direction.invalid("`in` or `out`"),
            },
        };
        let include_prev_state = match part.get("includePrevState") {
            Some(flag) => flag.flag()?,
            None => false,
        };
        Ok(Self { fields, include_prev_state, direction })
    }
}

/// The webhook as a version of an extension declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookResource {
    /// What identifies it over all versions.
    pub resource_name: String,
    /// Where events are posted, as declared.
    pub url: Url,
    /// What administrators see it as.
    pub name: String,
    /// What it is for.
    pub description: Patch<String>,
    /// The event types with their options.
    pub subscriptions: BTreeMap<String, SubscriptionOptions>,
    /// Changes that carry this id are not sent back.
    pub ignore_source_id: Uuid,
    /// Whose events are sent besides people's.
    pub include_events_from: Patch<BTreeSet<EventOrigin>>,
    /// Whether each event waits for the one before.
    pub ordered: Patch<bool>,
    /// How it wants to be delivered to.
    pub delivery: Patch<DeliveryWishes>,
}

impl WebhookResource {
    pub(super) fn read(part: &Part<'_>) -> Result<Self, StoredPackageInvalid> {
        let mut subscriptions = BTreeMap::new();
        for (event, options) in part.need("subscriptions")?.members()? {
            if event_type(event).is_none() {
                return options.invalid("an event type");
            }
            subscriptions.insert(event.to_owned(), SubscriptionOptions::read(&options)?);
        }
        let id = part.need("ignoreSourceId")?;
        let Ok(ignore_source_id) = Uuid::try_parse(id.text()?) else { return id.invalid("a UUID") };
        let ordered = part.get("mortise").and_then(|block| block.get("ordered"));
        let delivery = part.get("mortise").and_then(|block| block.get("delivery"));
        Ok(Self {
            resource_name: part.need("resourceName")?.text()?.to_owned(),
            url: part.need("url")?.url()?,
            name: part.need("name")?.text()?.to_owned(),
            description: patch(part.get("description"), |part| part.text().map(str::to_owned))?,
            subscriptions,
            ignore_source_id,
            include_events_from: patch(part.get("includeEventsFrom"), |part| {
                let origins = part.texts()?;
                let known = origins.iter().all(|origin| origin == "AUTOMATION");
                if known {
                    Ok(origins.iter().map(|_| EventOrigin::Automation).collect())
                } else {
                    part.invalid("a list of `AUTOMATION`")
                }
            })?,
            ordered: patch(ordered, Part::flag)?,
            delivery: patch(delivery, DeliveryWishes::read)?,
        })
    }

    /// The webhook that an installation gets, or keeps where it has one already: keys that this
    /// version leaves out stay, keys that are `null` are cleared, subscriptions are replaced whole.
    pub fn provision(&self, former: Option<&ProvisionedWebhook>) -> ProvisionedWebhook {
        let origins = self.include_events_from.clone();
        ProvisionedWebhook {
            resource_name: self.resource_name.clone(),
            url: self.url.clone(),
            name: self.name.clone(),
            description: self
                .description
                .clone()
                .merge(former.and_then(|former| former.description.clone())),
            subscriptions: self.subscriptions.clone(),
            ignore_source_id: self.ignore_source_id,
            include_events_from: origins
                .merge(former.map(|former| former.include_events_from.clone()))
                .unwrap_or_default(),
            ordered: self
                .ordered
                .clone()
                .merge(former.map(|former| former.ordered))
                .unwrap_or_default(),
            delivery: self
                .delivery
                .clone()
                .merge(former.and_then(|former| former.delivery.clone()))
                .filter(|wishes| *wishes != DeliveryWishes::default()),
        }
    }
}

fn patch<'v, T>(
    part: Option<Part<'v>>,
    read: impl FnOnce(&Part<'v>) -> Result<T, StoredPackageInvalid>,
) -> Result<Patch<T>, StoredPackageInvalid> {
    match part {
        None => Ok(Patch::Absent),
        Some(part) if part.value.is_null() => Ok(Patch::Null),
        Some(part) => read(&part).map(Patch::Value),
    }
}

/// The webhook as an installation has it, with everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionedWebhook {
    /// What identifies it over all versions.
    pub resource_name: String,
    /// Where events are posted, as declared.
    pub url: Url,
    /// What administrators see it as.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The event types with their options.
    pub subscriptions: BTreeMap<String, SubscriptionOptions>,
    /// Changes that carry this id are not sent back.
    pub ignore_source_id: Uuid,
    /// Whose events are sent besides people's.
    pub include_events_from: BTreeSet<EventOrigin>,
    /// Whether each event waits for the one before.
    pub ordered: bool,
    /// How it wants to be delivered to, where it says so.
    pub delivery: Option<DeliveryWishes>,
}

impl ProvisionedWebhook {
    /// In the form of the resource that it was made from, with every key.
    pub fn to_json(&self) -> Value {
        let subscriptions: serde_json::Map<_, _> = (self.subscriptions.iter())
            .map(|(event, options)| (event.clone(), options.to_json()))
            .collect();
        let origins = &self.include_events_from;
        json!({
            "resourceName": self.resource_name,
            "url": self.url.as_str(),
            "name": self.name,
            "description": self.description,
            "subscriptions": subscriptions,
            "ignoreSourceId": self.ignore_source_id.to_string(),
            "includeEventsFrom": if origins.is_empty() { Value::Null } else { json!(origins) },
            "mortise": { "ordered": self.ordered, "delivery": self.delivery },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::RESOURCES_FILE;
    use super::*;

    fn webhook(more: &Value) -> WebhookResource {
        let mut value = json!({
            "resourceName": "w", "url": "https://vendor.example/h", "name": "n",
            "subscriptions": { "Ticket_Add": null, "Ticket_Update": { "fields": ["status", "cf_a"] } },
            "ignoreSourceId": "2c7e1f7e-6a5b-4b0e-9a53-0d2f9d1c7e41",
        });
        for (key, member) in more.as_object().expect("an object") {
            value[key] = member.clone();
        }
        WebhookResource::read(&Part::new(RESOURCES_FILE, &value)).expect("a webhook")
    }

    #[test]
    fn what_is_left_out_stays_and_null_clears() {
        let first = webhook(&json!({
            "description": "d", "includeEventsFrom": ["AUTOMATION"], "mortise": { "ordered": true },
        }))
        .provision(None);
        assert!(first.ordered && first.include_events_from.contains(&EventOrigin::Automation));

        let kept = webhook(&json!({})).provision(Some(&first));
        assert_eq!(kept, first);

        let cleared = webhook(&json!({
            "description": null, "includeEventsFrom": null, "mortise": { "ordered": null },
        }))
        .provision(Some(&first));
        assert_eq!(cleared.description, None);
        assert!(cleared.include_events_from.is_empty() && !cleared.ordered);
    }

    #[test]
    fn wishes_for_delivery_are_replaced_whole_and_cleared_by_null() {
        let first = webhook(&json!({
            "mortise": { "delivery": { "schedule": ["30s", 300], "concurrency": 4 } },
        }))
        .provision(None);
        let stored = serde_json::to_value(&first.delivery).expect("JSON");
        assert_eq!(stored, json!({ "schedule": [30, 300], "concurrency": 4 }));

        let kept = webhook(&json!({ "mortise": { "ordered": true } })).provision(Some(&first));
        assert_eq!(kept.delivery, first.delivery);
        let other = webhook(&json!({ "mortise": { "delivery": { "ratePerMinute": 60 } } }))
            .provision(Some(&first));
        assert_eq!(
            serde_json::to_value(&other.delivery).expect("JSON"),
            json!({ "ratePerMinute": 60 })
        );
        for cleared in [json!(null), json!({})] {
            let cleared =
                webhook(&json!({ "mortise": { "delivery": cleared } })).provision(Some(&first));
            assert_eq!(cleared.delivery, None);
        }
    }

    #[test]
    fn subscriptions_are_replaced_whole() {
        let first = webhook(&json!({})).provision(None);
        let second =
            webhook(&json!({ "subscriptions": { "Ticket_Update": {} } })).provision(Some(&first));
        assert_eq!(second.to_json()["subscriptions"], json!({ "Ticket_Update": null }));
    }

    #[test]
    fn departments_in_a_package_are_ignored() {
        let one =
            webhook(&json!({ "subscriptions": { "Ticket_Add": { "departmentIds": ["1"] } } }));
        assert_eq!(one.subscriptions["Ticket_Add"], SubscriptionOptions::default());
    }
}
