//! *Ping URL* and *Ping Event* of Zoho Assist's page, before a webhook is made and after.

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::assist_webhooks::find;
use super::extract::{Idempotent, Path};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::{FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use super::trials::{self, TrialBody};
use crate::dialect::{Dialect, assist_event};
use crate::identifier::WebhookId;
use crate::webhook::own::WebhookRequest;

/// The routes of pings by Assist's names.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(ping_url))
        .routes(routes!(ping_event))
        .routes(routes!(ping_event_of))
}

/// An address to ping.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PingUrlRequest {
    /// The address.
    url: String,
}

/// An event to send to an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PingEventRequest {
    /// The address.
    url: String,
    /// The number of the event, 0 to 17.
    event_id: u8,
}

/// An event to send to a webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PingEventOfRequest {
    /// The number of the event, 0 to 17.
    event_id: u8,
}

/// The name of the event with a number.
fn event_name(event_id: u8) -> Result<&'static str, Problem> {
    assist_event(&event_id.to_string()).map(|event| event.name).ok_or_else(|| {
        let rule = "must be the number of an event, 0 to 17";
        Problem::invalid(vec![FieldError::new("/event_id", FieldErrorKind::Invalid, rule)])
    })
}

fn described(url: String) -> WebhookRequest {
    let dialect = Some(Dialect::Assist.as_str().to_owned());
    WebhookRequest { url, dialect, ..WebhookRequest::default() }
}

/// *Ping URL*: sends a signed `Ping` to an address before anything is saved.
#[utoipa::path(
    post, path = "/api/v1/assist/webhooks/ping_url", tag = "webhooks", request_body = PingUrlRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn ping_url(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let org = trials::org_of(&caller, &parts)?;
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<PingUrlRequest>::from_request(request, &state).await?;
    let webhook = described(request.value.url);
    trials::send_described(&state, &caller, request.key, org, webhook, None).await
}

/// *Ping Event*: sends the sample of an event to an address before anything is saved.
#[utoipa::path(
    post, path = "/api/v1/assist/webhooks/ping_event", tag = "webhooks",
    request_body = PingEventRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn ping_event(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let org = trials::org_of(&caller, &parts)?;
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<PingEventRequest>::from_request(request, &state).await?;
    let name = event_name(request.value.event_id)?;
    let webhook = described(request.value.url);
    trials::send_described(&state, &caller, request.key, org, webhook, Some(name)).await
}

/// *Ping Event* of a webhook that is saved.
#[utoipa::path(
    post, path = "/api/v1/assist/webhooks/{hookId}/ping_event", tag = "webhooks",
    params(("hookId" = i64, Path)), request_body = PingEventOfRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 404, description = "No such webhook"),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn ping_event_of(
    State(state): State<ApiState>,
    caller: Caller,
    Path(alias): Path<i64>,
    request: Request,
) -> Result<Response, Problem> {
    let id = WebhookId(find(&state, &caller, alias).await?.id());
    let request = Idempotent::<PingEventOfRequest>::from_request(request, &state).await?;
    let name = event_name(request.value.event_id)?;
    trials::send_saved(&state, &caller, request.key, id, name).await
}
