//! "Why did it not arrive?": for every webhook of the org whether it matched, or the first rule
//! that refused.

use std::collections::{HashMap, HashSet};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::Value;
use uuid::Uuid;

use super::input::EventInput;
use super::intake::payload_department;
use crate::delivery::{self, DeliveryView, EndpointScope};
use crate::dialect::{self, Connection};
use crate::seam::Timestamp;
use crate::store::entity::{event, event_key, webhook};
use crate::store::{Store, StoreError};
use crate::webhook::matching::{Facts, passes};
use crate::webhook::{Endpoint, Passage, Routing, Subscription};

/// Whether an event goes to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does, or did.
    Matched,
    /// The first rule that refused, and in words why.
    Refused {
        /// The rule's name.
        rule: &'static str,
        /// Why.
        reason: String,
    },
}

/// What is said of one webhook.
#[derive(Clone, Debug)]
pub struct WebhookVerdict {
    /// The webhook.
    pub webhook_id: Uuid,
    /// The extension that owns it.
    pub extension_key: Option<String>,
    /// Whether the event went there.
    pub verdict: Verdict,
    /// The delivery that it made.
    pub delivery: Option<DeliveryView>,
}

/// An event and what became of it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The event as it came.
    pub(crate) event: event::Model,
    /// Every webhook of the org that the caller may see.
    pub webhooks: Vec<WebhookVerdict>,
}

/// Explains an event that came, by the caller's id or ours. `org` limits to that org's events, and
/// is needed to find one by the caller's id.
pub async fn explain(
    store: &Store,
    routing: &Routing,
    scope: &EndpointScope,
    org: Option<&str>,
    id: &str,
) -> Result<Option<Explanation>, StoreError> {
    let Some(event) = find(store, org, id).await? else { return Ok(None) };
    // One event may be several of a dialect, and so several deliveries.
    let deliveries: Vec<DeliveryView> = delivery::of_event(store, scope, &event).await?;
    let went: HashSet<Uuid> = deliveries.iter().map(|view| view.webhook_id).collect();
    let created: HashMap<Uuid, i64> = webhook::Entity::find()
        .filter(webhook::Column::OrgId.eq(&event.org_id))
        .all(store.reader())
        .await?
        .into_iter()
        .map(|row| (row.id, row.created_at))
        .collect();
    let mut facts = Facts::new(&event.payload, event.previous.as_deref());
    facts.department_id = event.department_id.as_deref();
    facts.source_id = event.source_id.as_deref();
    facts.automation = event.origin != 0;
    let mut webhooks = Vec::new();
    if let Some(routes) = routing.org(&event.org_id) {
        let visible = routes.endpoints().iter();
        let visible = visible.filter(|endpoint| !endpoint.is_incoming && scope.covers(endpoint));
        for endpoint in visible.filter(|endpoint| !went.contains(&endpoint.id)) {
            let is_younger =
                created.get(&endpoint.id).is_some_and(|created| *created > event.accepted_at);
            let verdict = if is_younger {
                Verdict::Refused {
                    rule: "createdTime",
                    reason: "the webhook came into being after the event".to_owned(),
                }
            } else {
                judge(routing, endpoint, &event.event_type, &facts)
            };
            webhooks.push(WebhookVerdict {
                webhook_id: endpoint.id,
                extension_key: owner_key(endpoint),
                verdict,
                delivery: None,
            });
        }
    }
    // What matched, also where the webhook is no more.
    webhooks.extend(deliveries.into_iter().map(|view| WebhookVerdict {
        webhook_id: view.webhook_id,
        extension_key: view.extension_key.clone(),
        verdict: Verdict::Matched,
        delivery: Some(view),
    }));
    webhooks.sort_by_key(|verdict| verdict.webhook_id);
    Ok(Some(Explanation { event, webhooks }))
}

/// Says for an event that is only made up whether one webhook would get it.
pub fn explain_made_up(routing: &Routing, endpoint: &Endpoint, input: &EventInput) -> Verdict {
    if *endpoint.org_id != *input.org_id.as_str() {
        return Verdict::Refused {
            rule: "orgId",
            reason: "the webhook belongs to another org".to_owned(),
        };
    }
    let department = input
        .department_id
        .as_ref()
        .map(|id| id.as_str().to_owned())
        .or_else(|| payload_department(&input.payload));
    let mut facts = Facts::new(&input.payload, input.previous.as_deref());
    facts.department_id = department.as_deref();
    facts.source_id = input.source_id.as_deref();
    facts.automation = input.automation;
    judge(routing, endpoint, input.event_type, &facts)
}

fn judge(routing: &Routing, endpoint: &Endpoint, event_type: &str, facts: &Facts<'_>) -> Verdict {
    if endpoint.passage == Passage::Suspended {
        return Verdict::Refused {
            rule: "installationState",
            reason: "the installation is suspended".to_owned(),
        };
    }
    if endpoint.passage == Passage::Off {
        return Verdict::Refused {
            rule: "isEnabled",
            reason: "the webhook is switched off, and its whileDisabled is drop".to_owned(),
        };
    }
    let routes = routing.org(&endpoint.org_id);
    let subscriptions: Vec<&Subscription> = routes
        .as_ref()
        .map(|routes| routes.subscriptions(event_type).iter())
        .into_iter()
        .flatten()
        .filter(|one| one.endpoint.id == endpoint.id)
        .collect();
    // Where it subscribes by several names, the rule is told that stood before the last of them.
    let connection = endpoint.own.as_ref().map(|own| own.connection).unwrap_or_default();
    let reason = match connection {
        Connection::Events => format!("the webhook does not subscribe to {event_type}"),
        other => format!("no {} that calls the webhook is for {event_type}", other.as_str()),
    };
    let mut refused = Verdict::Refused { rule: "subscriptions", reason };
    for subscription in subscriptions {
        if let Err(refusal) = passes(&subscription.filter, facts) {
            refused = Verdict::Refused { rule: refusal.rule(), reason: refusal.to_string() };
        } else if subscription.tells_of(event_type, facts) {
            return Verdict::Matched;
        } else if let Some(rule) = &subscription.rule {
            let unmet = rule.conditions.hold(event_type, facts).err().unwrap_or_default();
            refused = Verdict::Refused {
                rule: "conditions",
                reason: format!("the {} `{}` asks for: {unmet}", rule.kind.as_str(), rule.name),
            };
        } else {
            refused = not_told(endpoint, event_type, facts);
        }
    }
    refused
}

/// The refusal of an event that is another of the dialect's than what is subscribed to.
fn not_told(endpoint: &Endpoint, event_type: &str, facts: &Facts<'_>) -> Verdict {
    let (payload, previous) = facts.documents();
    let told = dialect::told(endpoint.dialect, event_type, payload, previous);
    let reason = if told.is_empty() {
        format!("the dialect {} has no name for this {event_type}", endpoint.dialect.as_str())
    } else {
        format!(
            "this {event_type} is {} in the dialect {}, and the webhook subscribes to others",
            told.join(" and "),
            endpoint.dialect.as_str()
        )
    };
    Verdict::Refused { rule: "subscriptions", reason }
}

fn owner_key(endpoint: &Endpoint) -> Option<String> {
    endpoint.owner.as_ref().map(|owner| owner.extension_key.to_string())
}

async fn find(
    store: &Store,
    org: Option<&str>,
    id: &str,
) -> Result<Option<event::Model>, StoreError> {
    if let Some(org) = org {
        let named = event_key::Entity::find_by_id((org.to_owned(), id.to_owned()))
            .one(store.reader())
            .await?;
        if let Some(named) = named {
            return Ok(event::Entity::find_by_id(named.event_id).one(store.reader()).await?);
        }
    }
    let Ok(id) = id.parse::<Uuid>() else { return Ok(None) };
    let mut query = event::Entity::find_by_id(id);
    if let Some(org) = org {
        query = query.filter(event::Column::OrgId.eq(org));
    }
    Ok(query.one(store.reader()).await?)
}

impl Explanation {
    /// The payload as a document.
    pub fn payload(&self) -> Value {
        serde_json::from_slice(&self.event.payload).unwrap_or_default()
    }

    /// When it was accepted.
    pub fn accepted_at(&self) -> Timestamp {
        Timestamp::from_micros(self.event.accepted_at)
    }
}
