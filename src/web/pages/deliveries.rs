//! Deliveries: what was sent, what came back, and sending it again.

use askama::Template;
use axum::response::Response;
use http::Method;
use serde_json::json;
use uuid::Uuid;

use super::webhooks::moment;
use super::{back_to, next_page, page};
use crate::api::Role;
use crate::web::answers::{Delivery, List, Request, Webhook};
use crate::web::parts::{Choice, choices};
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit, with_query};

/// The states that a list may be narrowed to, with what people call them.
const STATES: &[(&str, &str)] = &[
    ("", "All states"),
    ("pending", "On its way"),
    ("held", "Held"),
    ("delivered", "Delivered"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
];

/// What a list of deliveries is narrowed to.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) state: String,
    pub(super) event_type: String,
    pub(super) status: String,
    pub(super) since: String,
    pub(super) until: String,
    pub(super) installation: String,
    pub(super) org: String,
    /// Whether the visitor may name an org.
    pub(super) names_org: bool,
    from: String,
    to: String,
    cursor: String,
}

impl Filter {
    /// What the address says.
    pub(super) fn of(visit: &Visit) -> Self {
        let (since, until) = (visit.parameter("since"), visit.parameter("until"));
        Self {
            from: moment(&since).unwrap_or_default(),
            to: moment(&until).unwrap_or_default(),
            since,
            until,
            installation: visit.parameter("installation"),
            org: visit.parameter("org"),
            names_org: false,
            state: visit.parameter("state"),
            event_type: visit.parameter("type"),
            status: visit.parameter("status"),
            cursor: visit.parameter("cursor"),
        }
    }

    /// The same for the API.
    pub(super) fn query(&self) -> [(&'static str, &str); 8] {
        [
            ("state", &self.state),
            ("eventType", &self.event_type),
            ("statusCode", &self.status),
            ("since", &self.from),
            ("until", &self.to),
            ("installationId", &self.installation),
            ("orgId", &self.org),
            ("cursor", &self.cursor),
        ]
    }

    /// The states to choose from.
    pub(super) fn states(&self) -> Vec<Choice> {
        choices(STATES, &self.state)
    }

    /// Whether anything is left out.
    pub(super) fn is_any(&self) -> bool {
        let narrowed = [
            &self.state,
            &self.event_type,
            &self.status,
            &self.since,
            &self.until,
            &self.installation,
            &self.org,
        ];
        narrowed.into_iter().any(|value| !value.is_empty())
    }

    /// Whether the newest are shown.
    pub(super) fn is_first_page(&self) -> bool {
        self.cursor.is_empty()
    }
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveryList {
    shell: Shell,
    deliveries: Vec<Delivery>,
    filter: Filter,
    states: Vec<Choice>,
    /// Whether the list says of each whose it is.
    is_over_many: bool,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage {
    shell: Shell,
    delivery: Delivery,
    request: Option<Request>,
    /// Where it went; nothing where that is no more.
    webhook: Option<Webhook>,
    can_retry: bool,
    sees_events: bool,
}

/// Lists them.
pub(in crate::web) async fn list(visit: Visit) -> Result<Response, Trouble> {
    let mut filter = Filter::of(&visit);
    filter.names_org = visit.is_any(&[Role::Operator, Role::Vendor]);
    let found: List<Delivery> = visit.get(&with_query("/deliveries", &filter.query())).await?;
    let next = next_page(&visit, found.next_cursor.as_deref());
    let shell = visit.shell("Deliveries");
    let states = filter.states();
    let deliveries = found.data;
    page(&DeliveryList { shell, deliveries, filter, states, is_over_many: true, next })
}

/// Shows one with all its attempts.
pub(in crate::web) async fn show(visit: Visit, Part(id): Part<Uuid>) -> Result<Response, Trouble> {
    let delivery: Delivery = visit.get(&format!("/deliveries/{id}")).await?;
    let request = visit.find(&format!("/deliveries/{id}/request")).await?;
    let webhook: Option<Webhook> =
        visit.find(&format!("/webhooks/{}", delivery.webhook_id)).await?;
    let is_locked = delivery.extension_key.is_known();
    let owners: &[Role] =
        if is_locked { &[Role::Operator, Role::Vendor] } else { &[Role::Operator, Role::Admin] };
    page(&DeliveryPage {
        shell: visit.shell(format!("{} delivery", delivery.event_type)),
        can_retry: visit.is_any(owners)
            && visit.may(&Method::POST, "/deliveries/{id}/retry")
            && webhook.is_some()
            && !delivery.state.is_named("cancelled"),
        sees_events: visit.may(&Method::GET, "/events/{eventId}"),
        delivery,
        request,
        webhook,
    })
}

/// Delivers again.
pub(in crate::web) async fn retry(
    visit: Visit,
    Part(id): Part<Uuid>,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    visit.post(&format!("/deliveries/{id}/retry"), &json!({}), form.text("key")).await?;
    Ok(back_to(&format!("/pages/deliveries/{id}"), "retried"))
}
