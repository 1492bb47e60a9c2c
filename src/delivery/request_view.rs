//! What a delivery was sent as: put together again from its event, since requests are not kept.

use sea_orm::EntityTrait;
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::views::EndpointScope;
use crate::dialect::{Dialect, EventParts};
use crate::seam::Timestamp;
use crate::store::StoreError;
use crate::store::entity::{delivery, endpoint, event};
use crate::webhook::mask_context;

/// How much of a body is shown, in bytes.
const LONGEST_BODY: usize = 64 << 10;

/// A request as it is shown: without what signs it, and without the securityContext.
#[derive(Clone, Debug)]
pub struct RequestView {
    /// The method.
    pub method: &'static str,
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
            return Ok(Some(RequestView { method: "POST", url, headers, body, truncated, length }));
        }
        let body = dialect.body(&EventParts {
            event_type: &event.event_type,
            org: &owner.org_id,
            event_time: Timestamp::from_millis(event.event_time),
            payload: &event.payload,
            previous: event.previous.as_deref().filter(|_| wants_previous),
        });
        let shown = String::from_utf8_lossy(&body[..body.len().min(LONGEST_BODY)]).into_owned();
        Ok(Some(RequestView {
            method: "POST",
            url,
            headers,
            body: Some(shown),
            truncated: body.len() > LONGEST_BODY,
            length: body.len(),
        }))
    }
}
