//! `/deliveries`: what was sent, what came back, and sending it again.

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Path, Query, json_response};
use super::handler::routes;
use super::installations::parse_moment;
use super::openapi::ApiRouter;
use super::ownership::locked;
use super::paging::{AfterId, Cursor, Limit, Page};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::services::endpoint_scope;
use super::shapes::DeliveryBody;
use super::state::ApiState;
use crate::delivery::{self, DeliveryFilter, RequeueRefusal, WantedEvent};
use crate::dialect::{self, Dialect};
use crate::event::catalogue;
use crate::identifier::{DeliveryId, InstallationId, OrgId, WebhookId};
use crate::store::claims::DeliveryState;

/// The routes of deliveries.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(retry))
}

/// Which deliveries.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    /// Of one webhook.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    webhook_id: Option<WebhookId>,
    /// Of one installation.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    installation_id: Option<InstallationId>,
    /// To webhooks of one org; an admin's and viewer's is that of the token.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    org_id: Option<OrgId>,
    /// In one state.
    #[serde(default)]
    state: Option<String>,
    /// Of one event: by the host's name of its type, by the name of a dialect that it was told by
    /// (`request.created`, `zen:event-type:ticket.created`), or by Assist's number.
    #[serde(default)]
    event_type: Option<String>,
    /// Whose first attempt had this status.
    #[serde(default)]
    status_code: Option<u16>,
    /// Made at this moment or later.
    #[serde(default)]
    since: Option<String>,
    /// Made before this moment.
    #[serde(default)]
    until: Option<String>,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterId>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// Reads the name of an event: of the host's types, a number of Assist's, or a name of a dialect that
/// has names of its own. Of what nobody knows there is nothing.
pub(super) fn wanted_event(given: &str) -> WantedEvent {
    if let Some(known) = catalogue::find(given) {
        return WantedEvent::Type(known.name.to_owned());
    }
    let told = [Dialect::Zendesk, Dialect::Dzdesk]
        .into_iter()
        .find_map(|dialect| dialect::canonical(dialect, given));
    let told = told.map(|name| WantedEvent::Told(name.to_owned()));
    told.unwrap_or_else(|| WantedEvent::Type(given.to_owned()))
}

/// Lists deliveries, newest first. A page with filters looks at a bounded stretch of the history,
/// so it may hold fewer than asked for, or none, and still have a `nextCursor`.
#[utoipa::path(
    get, path = "/api/v1/deliveries", tag = "deliveries", params(ListQuery),
    responses((status = 200, description = "A page", body = Page<DeliveryBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    if let (Some(own), Some(named)) = (&caller.org, &query.org_id)
        && own != named
    {
        return Err(Problem::new(Code::OauthOrgMismatch));
    }
    let wanted = match query.state.as_deref() {
        None => None,
        Some(name) => Some(DeliveryState::from_name(name).ok_or_else(|| {
            let names = DeliveryState::ALL.map(DeliveryState::name).join(", ");
            let message = format!("must be one of: {names}");
            Problem::invalid(vec![FieldError::new("state", FieldErrorKind::Invalid, message)])
        })?),
    };
    let filter = DeliveryFilter {
        webhook_id: query.webhook_id.map(|id| id.0),
        installation_id: query.installation_id.map(|id| id.0),
        org_id: query.org_id.map(String::from),
        state: wanted,
        event: query.event_type.as_deref().map(wanted_event),
        status_code: query.status_code,
        since: parse_moment("since", query.since.as_deref())?,
        until: parse_moment("until", query.until.as_deref())?,
        before: query.cursor.map(|after| after.0),
        limit: query.limit.count() as u64,
    };
    let scope = endpoint_scope(state.store(), &caller).await?;
    let found = delivery::list(state.store(), &scope, &filter).await?;
    let page = Page {
        data: found.views.into_iter().map(DeliveryBody::from).collect::<Vec<_>>(),
        next_cursor: found.next.map(|id| Cursor::Id(id).encode()),
    };
    Ok(json_response(StatusCode::OK, &page))
}

/// Reads a delivery with all its attempts.
#[utoipa::path(
    get, path = "/api/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, description = "The delivery", body = DeliveryBody), (status = 404, description = "No such delivery"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<DeliveryId>,
) -> Result<Response, Problem> {
    let scope = endpoint_scope(state.store(), &caller).await?;
    let view = delivery::find(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("delivery"))?;
    Ok(json_response(StatusCode::OK, &DeliveryBody::from(view)))
}

/// Nothing, or an empty object.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// A delivery that is on its way again.
#[derive(Debug, Serialize, ToSchema)]
struct RetriedBody {
    /// The delivery.
    id: Uuid,
    /// `pending`.
    state: String,
}

/// Sends a delivery again, with the same `webhook-id`, to the webhook's present address.
#[utoipa::path(
    post, path = "/api/v1/deliveries/{id}/retry", tag = "deliveries", params(("id" = String, Path)),
    request_body = Empty,
    responses(
        (status = 200, description = "On its way", body = RetriedBody),
        (status = 403, description = "On an extension's webhook this is the vendor's and the operator's"),
        (status = 409, description = "It is on its way already, or its webhook or its trigger is no more or delivers nothing now"),
    )
)]
async fn retry(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<DeliveryId>,
    request: Request,
) -> Result<Response, Problem> {
    let scope = endpoint_scope(state.store(), &caller).await?;
    let view = delivery::find(state.store(), &scope, id.0)
        .await?
        .ok_or_else(|| Problem::not_found("delivery"))?;
    if let (Role::Admin, Some(key)) = (caller.role, &view.extension_key) {
        return Err(locked(key, view.installation_id));
    }
    let request = Idempotent::<Empty>::from_request(request, &state).await?;
    let Empty {} = request.value;
    let effect = match Effect::start(&state, request.key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let work = services.lifecycle.begin().await?;
    let now = state.seam().clock.now();
    match delivery::requeue(&services.dispatcher, &work, id.0, now).await? {
        Ok(()) => {}
        Err(refusal) => {
            let why = match refusal {
                RequeueRefusal::UnderWay => "The delivery is on its way already.",
                RequeueRefusal::Closed => "The webhook of this delivery is no more.",
                RequeueRefusal::Emptied => "The payload is older than what is kept.",
                RequeueRefusal::RuleEnded => {
                    "The trigger or automation of this delivery was deleted or switched off: it said \
                     what is sent. Switch it on, or send the event again."
                }
                RequeueRefusal::Held(why) => why,
            };
            return Err(Problem::new(Code::StateConflict).detail(why));
        }
    }
    let body = RetriedBody { id: id.0, state: DeliveryState::Pending.name().to_owned() };
    effect.finish(&state, work, StatusCode::OK, &body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_asked_for_by_any_name_that_they_have() {
        let of_type = |name: &str| WantedEvent::Type(name.to_owned());
        let told = |name: &str| WantedEvent::Told(name.to_owned());
        for (given, wanted) in [
            ("Ticket_Add", of_type("Ticket_Add")),
            ("13", of_type("Device Online")),
            ("sla.warning", of_type("sla.warning")),
            ("request.created", told("request.created")),
            ("ticket.created", told("zen:event-type:ticket.created")),
            ("zen:event-type:ticket.status_changed", told("zen:event-type:ticket.status_changed")),
            ("nothing", of_type("nothing")),
        ] {
            assert_eq!(wanted_event(given), wanted, "{given}");
        }
    }
}
