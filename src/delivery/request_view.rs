//! What a delivery was sent as: put together again from its event, since requests are not kept.

use sea_orm::EntityTrait;
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::own_request::{Occurrence, Receiver, render};
use super::trial::shown_headers;
use super::views::EndpointScope;
use crate::dialect::{Dialect, EventParts, desk_body};
use crate::seam::Timestamp;
use crate::store::StoreError;
use crate::store::entity::{delivery, delivery_variant, endpoint, event};
use crate::webhook::own::{OwnFace, RoutedRule};
use crate::webhook::{Endpoint, mask_context};

/// How much of a body is shown, in bytes.
const LONGEST_BODY: usize = 64 << 10;

/// A request as it is shown: without what signs it, and without the securityContext.
#[derive(Clone, Debug)]
pub struct RequestView {
    /// The method.
    pub method: String,
    /// The webhook's present address; nothing where it is no more, or may not be called.
    pub url: Option<String>,
    /// The headers that follow from the delivery.
    pub headers: Vec<(String, String)>,
    /// The body, or its beginning; nothing where the payload is older than what is kept.
    pub body: Option<String>,
    /// Whether there is more of it.
    pub truncated: bool,
    /// How long the whole body is, in bytes.
    pub length: usize,
}

impl RequestView {
    fn new(method: &str, url: Option<String>, headers: Vec<(String, String)>, body: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(&body[..body.len().min(LONGEST_BODY)]).into_owned();
        Self {
            method: method.to_owned(),
            url,
            headers,
            body: Some(shown),
            truncated: body.len() > LONGEST_BODY,
            length: body.len(),
        }
    }
}

impl Dispatcher {
    /// What a delivery is sent as; nothing where the caller may not see it.
    pub async fn request_of(
        &self,
        scope: &EndpointScope,
        id: Uuid,
    ) -> Result<Option<RequestView>, StoreError> {
        use sea_orm::QueryFilter as _;
        let store = &self.inner.store;
        let Some(row) = delivery::Entity::find_by_id(id).one(store.reader()).await? else {
            return Ok(None);
        };
        let owner = endpoint::Entity::find_by_id(row.endpoint_id)
            .filter(scope.condition())
            .one(store.reader())
            .await?;
        let event = event::Entity::find_by_id(row.event_id).one(store.reader()).await?;
        let (Some(owner), Some(event)) = (owner, event) else { return Ok(None) };
        let live = self.inner.routing.endpoint(row.endpoint_id);
        if let Some(endpoint) = &live
            && let Some(own) = &endpoint.own
        {
            return Ok(Some(self.own_request_of(endpoint, own, &row, &event).await?));
        }
        let dialect = live.as_ref().map_or(Dialect::Desk, |endpoint| endpoint.dialect);
        let url = live
            .as_ref()
            .and_then(|endpoint| endpoint.destination.as_ref().ok())
            .map(|vetted| mask_context(vetted.url()));
        let wants_previous = live.as_ref().is_some_and(|endpoint| {
            endpoint.wants_previous.iter().any(|name| **name == *event.event_type)
        });
        let mut headers: Vec<(String, String)> = dialect
            .static_headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        headers.push(("webhook-id".to_owned(), row.id.to_string()));
        if row.replay != 0 {
            headers.push(("x-mortise-replay".to_owned(), "true".to_owned()));
        }
        if event.payload.is_empty() {
            let (body, truncated, length) = (None, false, 0);
            let method = "POST".to_owned();
            return Ok(Some(RequestView { method, url, headers, body, truncated, length }));
        }
        let time = Timestamp::from_millis(event.event_time);
        let body = desk_body(&EventParts {
            previous: event.previous.as_deref().filter(|_| wants_previous),
            ..EventParts::new(&event.event_type, &owner.org_id, time, &event.payload)
        });
        Ok(Some(RequestView::new("POST", url, headers, &body)))
    }

    /// The same of an org's own webhook: rendered as it would be sent now, without credentials.
    async fn own_request_of(
        &self,
        endpoint: &Endpoint,
        own: &OwnFace,
        row: &delivery::Model,
        event: &event::Model,
    ) -> Result<RequestView, StoreError> {
        let nothing = |url| RequestView {
            method: own.request.method().as_str().to_owned(),
            url,
            headers: Vec::new(),
            body: None,
            truncated: false,
            length: 0,
        };
        if event.payload.is_empty() {
            return Ok(nothing(None));
        }
        let store = &self.inner.store;
        let variant = delivery_variant::Entity::find_by_id(row.id).one(store.reader()).await?;
        let variant = variant.as_ref().map(|found| found.variant.as_str());
        let rule = match variant.and_then(RoutedRule::id_of) {
            None => None,
            Some(id) => match own.rule(id) {
                Some(rule) => Some(rule),
                // It is no more, and with it what it would send.
                None => return Ok(nothing(None)),
            },
        };
        let wants_previous = endpoint.dialect.has_names()
            || endpoint.wants_previous.iter().any(|name| **name == *event.event_type);
        let time = Timestamp::from_millis(event.event_time);
        let occurrence = Occurrence {
            event: EventParts {
                previous: event.previous.as_deref().filter(|_| wants_previous),
                department: event.department_id.as_deref(),
                automation: event.origin != 0,
                actor: event.actor.as_deref(),
                ..EventParts::new(&event.event_type, &endpoint.org_id, time, &event.payload)
            },
            name: match (rule, variant) {
                (None, Some(variant)) => variant,
                _ => &event.event_type,
            },
            template: rule.map(|rule| &rule.template),
            delivery_id: row.id,
            is_test: false,
            is_replay: row.replay != 0,
        };
        let to =
            Receiver { id: endpoint.id, dialect: endpoint.dialect, own, signer: &endpoint.signer };
        let at = self.inner.seam.clock.now();
        let Ok(request) = render(&endpoint.destination, to, &occurrence, at) else {
            return Ok(nothing(None));
        };
        // Each attempt is signed anew, and no signature is shown that was never sent.
        let headers = shown_headers(&request.headers, None)
            .into_iter()
            .filter(|(name, _)| !name.contains("signature") && !name.contains("timestamp"))
            .collect();
        let url = Some(request.url.url().to_string());
        Ok(RequestView::new(request.method.as_str(), url, headers, &request.body))
    }
}
