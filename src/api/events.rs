//! `/events`: what the host sends, and what became of it.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::answers::Begun;
use super::extract::{
    Path, Query, RawBody, idempotency_key, json_bytes, json_response, require_json, sha256,
};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::Problem;
use super::role::Role;
use super::services::endpoint_scope;
use super::shapes::{VerdictBody, moment, public_event_id};
use super::state::ApiState;
use crate::delivery::EndpointScope;
use crate::event::{self, AcceptedEvent};
use crate::seam::Timestamp;

/// The routes of events.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(post)).routes(routes!(read))
}

/// An event, as the host sends it.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body, which is read without copying")]
struct EventBody {
    /// The host's id; deduplicates per org for 24 hours at least.
    event_id: Option<String>,
    /// The type, such as `Ticket_Add`.
    event_type: String,
    /// The org.
    org_id: String,
    /// The department; missing means `payload.departmentId`.
    department_id: Option<String>,
    /// When it happened: milliseconds since the epoch, or RFC 3339; missing means now.
    #[schema(value_type = Option<String>)]
    event_time: Option<Value>,
    /// The resource; delivered byte for byte.
    #[schema(value_type = Object)]
    payload: Value,
    /// What it was before.
    #[schema(value_type = Option<Object>)]
    prev_state: Option<Value>,
    /// The `sourceId` of the call that caused it.
    source_id: Option<String>,
    /// `USER` or `AUTOMATION`.
    origin: Option<String>,
    /// Who caused it.
    actor: Option<event::EventActor>,
}

/// What was accepted.
#[derive(Debug, Serialize, ToSchema)]
struct AcceptedBody {
    /// How many events.
    accepted: usize,
    /// Each, in the order of the request.
    events: Vec<AcceptedEventBody>,
}

/// An accepted event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AcceptedEventBody {
    /// The caller's id, or ours.
    event_id: String,
    /// How many deliveries it made.
    deliveries: usize,
    /// Whether an event with this id was there before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl From<AcceptedEvent> for AcceptedEventBody {
    fn from(event: AcceptedEvent) -> Self {
        Self {
            event_id: event.event_id,
            deliveries: event.deliveries,
            duplicate: event.is_duplicate,
        }
    }
}

/// Accepts one event or an array of them. The answer means: on disk, with everything that it fans
/// out to.
#[utoipa::path(
    post, path = "/api/v1/events", tag = "events", request_body = EventBody,
    responses(
        (status = 202, description = "On disk", body = AcceptedBody),
        (status = 422, description = "An event is faulty; nothing was accepted"),
        (status = 503, description = "No room right now"),
    )
)]
async fn post(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    require_json(request.headers())?;
    let (parts, body) = request.into_parts();
    let limits = state.config().limits;
    let repeatable = parts.headers.contains_key("idempotency-key");
    let source_id = parts.headers.get("sourceId").map(|value| value.to_str().unwrap_or("\u{1}"));
    let source_id = source_id.map(str::to_owned);
    let head = repeatable.then(|| parts.clone());
    let body =
        RawBody::from(Request::from_parts(parts, body)).read(limits.event_body_bytes).await?;
    let intake = &state.services()?.intake;
    let Some(head) = head else {
        let events = event::parse(&body, source_id.as_deref(), limits.events_per_request)?;
        let accepted = intake.accept(events, None).await?;
        return Ok(json_response(StatusCode::ACCEPTED, &answer(accepted.events)));
    };
    let key = idempotency_key(&head, &body)?;
    let guard = match state.answers().begin(key).await? {
        Begun::Replay(answer) => return Ok(answer.into_response()),
        Begun::Fresh(guard) => guard,
    };
    let events = event::parse(&body, source_id.as_deref(), limits.events_per_request)?;
    // Events without ids get ones that follow from the key: where we die before the answer is kept,
    // a repeat finds them.
    let caller = Caller::of(&head)?;
    let sent = head.headers.get("idempotency-key").map_or(&[][..], http::HeaderValue::as_bytes);
    let digest = sha256(&[caller.token.0.as_bytes(), sent, &sha256(&body)].concat());
    let derived = uuid::Uuid::from_slice(&digest[..16]).unwrap_or_default().simple().to_string();
    let accepted = intake.accept(events, Some(&derived)).await?;
    let bytes =
        serde_json::to_vec(&answer(accepted.events)).map_err(|error| Problem::internal(&error))?;
    let now = state.seam().clock.now();
    let work = state.store().begin().await?;
    guard.keep(&work, StatusCode::ACCEPTED, &bytes, now).await?;
    let _settled = work.commit(now).await?;
    Ok(json_bytes(StatusCode::ACCEPTED, bytes))
}

fn answer(events: Vec<AcceptedEvent>) -> AcceptedBody {
    AcceptedBody {
        accepted: events.len(),
        events: events.into_iter().map(AcceptedEventBody::from).collect(),
    }
}

/// An event and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ExplanationBody {
    /// The caller's id, or ours.
    event_id: String,
    /// Its type.
    event_type: String,
    /// Its org.
    org_id: String,
    /// Its department.
    department_id: Option<String>,
    /// When it happened.
    event_time: String,
    /// When it was accepted.
    accepted_time: Option<String>,
    /// `USER` or `AUTOMATION`.
    origin: String,
    /// What caused it.
    source_id: Option<String>,
    /// Who caused it.
    #[schema(value_type = Option<Object>)]
    actor: Value,
    /// The resource.
    #[schema(value_type = Object)]
    payload: Value,
    /// Every webhook of the org that you may see.
    webhooks: Vec<VerdictBody>,
}

/// Which org's event.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadQuery {
    /// The org; needed to find an event by the host's id where the token implies none.
    #[serde(default)]
    org_id: Option<String>,
}

/// What came, and for every webhook whether it matched or the first rule that refused it.
#[utoipa::path(
    get, path = "/api/v1/events/{eventId}", tag = "events",
    params(("eventId" = String, Path), ReadQuery),
    responses((status = 200, description = "The event", body = ExplanationBody), (status = 404, description = "No such event"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Problem> {
    let org = match caller.role {
        Role::Admin | Role::Viewer => caller.org.as_ref().map(ToString::to_string),
        _ => query.org_id,
    };
    let scope = endpoint_scope(state.store(), &caller).await?;
    let routing = &state.services()?.routing;
    let found = event::explain(state.store(), routing, &scope, org.as_deref(), &id)
        .await?
        // A vendor sees what went, or could have gone, to a webhook of its own.
        .filter(|found| {
            !matches!(scope, EndpointScope::Extensions(_)) || !found.webhooks.is_empty()
        })
        .ok_or_else(|| Problem::not_found("event"))?;
    let payload = found.payload();
    let row = found.event;
    let body = ExplanationBody {
        event_id: public_event_id(row.event_key.as_deref(), row.id),
        event_type: row.event_type,
        org_id: row.org_id,
        department_id: row.department_id,
        event_time: Timestamp::from_millis(row.event_time).rfc3339(),
        accepted_time: moment(Some(row.accepted_at)),
        origin: if row.origin == 0 { "USER" } else { "AUTOMATION" }.to_owned(),
        source_id: row.source_id,
        actor: row.actor.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null),
        payload,
        webhooks: found.webhooks.into_iter().map(VerdictBody::from).collect(),
    };
    Ok(json_response(StatusCode::OK, &body))
}
