//! Pings and tests: a request to an address of the caller's choice, told in full.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::access::Caller;
use super::answers::AnswerKey;
use super::effect::{Effect, Start};
use super::extract::{Idempotent, Path};
use super::handler::routes;
use super::jobs::unknown_event_type;
use super::openapi::ApiRouter;
use super::ownership::own_webhook;
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::state::ApiState;
use super::trial_templates::{TestContent, template};
use crate::crypto::{Signer, SigningSecret};
use crate::delivery::{PING_EVENT, Trial, TrialEvent, TrialOutcome, UnsavedWebhook};
use crate::dialect::{self, Dialect};
use crate::event::catalogue::{self, EventType};
use crate::identifier::WebhookId;
use crate::webhook::own::{Definition, OwnFace, WebhookRequest, is_ours, signing_secret};
use crate::webhook::{Endpoint, Passage};

/// How many parameters or headers a test may add.
const MOST_ADDED: usize = 20;

/// How long the name and the value of one may be, in bytes.
const LONGEST_ADDED: usize = 1_024;

/// The org in the body where the caller has none and names none.
const SAMPLE_ORG: &str = "600000000";

/// The routes of pings and tests.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(ping_unsaved))
        .routes(routes!(test_unsaved))
        .routes(routes!(ping))
        .routes(routes!(test))
}

/// Nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PingRequest {}

/// What a test sends.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TestRequest {
    /// The event, by the name that the webhook subscribes with.
    event_type: String,
    /// Its payload; the catalogue's sample where it is left out.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    body: Option<Value>,
    /// Of a webhook that triggers or automations call: what is sent, with placeholders; else what
    /// the first of them sends.
    #[serde(default)]
    payload: Option<String>,
    /// The same for methods and formats without a payload: pairs in order.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    parameters: Option<Vec<(String, String)>>,
    /// Query parameters to append.
    #[serde(default)]
    params: BTreeMap<String, String>,
    /// Headers to add.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// An address to ping.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UnsavedPingRequest {
    /// The address.
    url: String,
}

/// A test of a webhook that is not saved yet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UnsavedTestRequest {
    /// The webhook, as it would be saved; of its subscriptions none is needed.
    webhook: WebhookRequest,
    /// The event, by the name that the webhook subscribes with.
    event_type: String,
    /// Its payload; the catalogue's sample where it is left out.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    body: Option<Value>,
    /// Of a webhook that triggers or automations call: what is sent, with placeholders; else what
    /// the first of them sends.
    #[serde(default)]
    payload: Option<String>,
    /// The same for methods and formats without a payload: pairs in order.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    parameters: Option<Vec<(String, String)>>,
    /// Query parameters to append.
    #[serde(default)]
    params: BTreeMap<String, String>,
    /// Headers to add.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What came of a test request.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrialBody {
    /// `delivered` (2xx), `failed`, or `refused` where nothing was sent.
    outcome: String,
    /// Whose doing that is: `endpoint` or `mortise`.
    by: String,
    /// What usually lies behind it.
    hint: Option<String>,
    /// What was seen, in words, where there was no answer.
    error: Option<String>,
    /// What was sent, with securityContext and credentials masked.
    #[schema(value_type = Object)]
    request: Value,
    /// What came back: status, headers, the beginning of the body.
    #[schema(value_type = Option<Object>)]
    response: Option<Value>,
    /// How long it took, in milliseconds.
    duration_ms: f64,
}

impl TrialBody {
    /// Whether the endpoint took it.
    pub(super) fn is_delivered(&self) -> bool {
        self.outcome == TrialOutcome::Delivered.name()
    }
}

impl From<Trial> for TrialBody {
    fn from(trial: Trial) -> Self {
        let pairs = |headers: Vec<(String, String)>| -> Vec<Value> {
            headers.into_iter().map(|(name, value)| json!([name, value])).collect()
        };
        let (request, response) = (trial.request, trial.response);
        Self {
            outcome: trial.outcome.name().to_owned(),
            by: trial.by.name().to_owned(),
            hint: trial.hint,
            error: trial.error,
            request: json!({
                "method": request.method,
                "url": request.url,
                "headers": pairs(request.headers),
                "body": request.body,
            }),
            response: response.map(|response| {
                json!({
                    "status": response.status,
                    "headers": pairs(response.headers),
                    "body": response.body,
                    "truncated": response.truncated,
                })
            }),
            duration_ms: trial.duration.as_secs_f64() * 1_000.0,
        }
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

/// Parameters that are appended; ours cannot be given another value.
fn checked_params(params: BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    check_count("/params", params.len())?;
    for (name, value) in &params {
        check_length("/params", name, value)?;
        if ["orgId", "securityContext"].contains(&name.as_str()) {
            return Err(invalid("/params", format!("`{name}` is Mortise's own")));
        }
    }
    Ok(params.into_iter().collect())
}

/// Headers that are added; those that frame, route or sign a request stay ours.
fn checked_headers(headers: BTreeMap<String, String>) -> Result<HeaderMap, Problem> {
    check_count("/headers", headers.len())?;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        check_length("/headers", &name, &value)?;
        let lower = name.to_ascii_lowercase();
        if is_ours(&lower) {
            return Err(invalid("/headers", format!("`{name}` is Mortise's own")));
        }
        let header = HeaderName::from_bytes(lower.as_bytes())
            .map_err(|_| invalid("/headers", "a name is not one of a header"))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| invalid("/headers", format!("the value of `{name}` cannot be sent")))?;
        map.insert(header, value);
    }
    Ok(map)
}

fn check_count(field: &str, count: usize) -> Result<(), Problem> {
    if count > MOST_ADDED {
        return Err(invalid(field, format!("may have at most {MOST_ADDED} members")));
    }
    Ok(())
}

fn check_length(field: &str, name: &str, value: &str) -> Result<(), Problem> {
    if name.is_empty() || name.len() > LONGEST_ADDED || value.len() > LONGEST_ADDED {
        let message = format!("names and values have at most {LONGEST_ADDED} bytes");
        return Err(invalid(field, message));
    }
    Ok(())
}

/// The type of the host whose event is told by a name of a dialect, and that name where it is
/// another.
fn told_by(dialect: Dialect, given: &str) -> Result<(&'static EventType, Option<String>), Problem> {
    let unknown = || unknown_name(dialect, given);
    if !dialect.has_names() {
        let found =
            catalogue::find(given).filter(|known| known.only.is_none() || dialect != Dialect::Desk);
        return found.map(|known| (known, None)).ok_or_else(unknown);
    }
    let name = dialect::canonical(dialect, given).ok_or_else(unknown)?;
    let types = dialect::host_types(dialect, name);
    let known = types.first().and_then(|one| catalogue::find(one)).ok_or_else(unknown)?;
    Ok((known, Some(name.to_owned())))
}

/// The refusal of an event that the dialect does not know.
fn unknown_name(dialect: Dialect, given: &str) -> Problem {
    if dialect == Dialect::Desk {
        return unknown_event_type("/eventType", given);
    }
    let shown: String = given.chars().take(100).collect();
    let message = format!(
        "`{shown}` is not an event of the dialect {}; GET /api/v1/event-types?dialect={} lists them",
        dialect.as_str(),
        dialect.as_str()
    );
    let mut error = FieldError::new("/eventType", FieldErrorKind::Invalid, message);
    error.suggestion = dialect::nearest(dialect, given).map(str::to_owned);
    Problem::invalid(vec![error])
}

/// The event of a test: the given payload or the catalogue's sample.
fn test_event(
    request: TestRequest,
    dialect: Dialect,
    own: Option<&OwnFace>,
    wants_previous: impl Fn(&str) -> bool,
) -> Result<TrialEvent, Problem> {
    let (known, name) = told_by(dialect, &request.event_type)?;
    let payload = match request.body {
        None => Bytes::copy_from_slice(known.sample.get().as_bytes()),
        Some(body @ Value::Object(_)) => Bytes::from(body.to_string()),
        Some(_) => return Err(invalid("/body", "must be an object: the payload of the event")),
    };
    // A dialect that tells of changes needs what was before.
    let previous = known
        .sample_previous
        .as_ref()
        .filter(|_| dialect.has_names() || wants_previous(known.name))
        .map(|previous| Bytes::copy_from_slice(previous.get().as_bytes()));
    Ok(TrialEvent {
        event_type: known.name.to_owned(),
        template: template(
            own,
            known,
            TestContent { payload: request.payload, parameters: request.parameters },
        )?,
        name,
        payload,
        previous,
        params: checked_params(request.params)?,
        headers: checked_headers(request.headers)?,
    })
}

fn ping_event() -> TrialEvent {
    TrialEvent {
        event_type: PING_EVENT.to_owned(),
        template: None,
        name: None,
        payload: Bytes::from_static(b"{}"),
        previous: None,
        params: Vec::new(),
        headers: HeaderMap::new(),
    }
}

/// Where a test goes.
enum Target {
    Saved(std::sync::Arc<Endpoint>),
    Unsaved(Box<UnsavedWebhook>),
}

/// Sends within the rate of the caller's token, and keeps the answer for a repeat of the request.
async fn send(
    state: &ApiState,
    caller: &Caller,
    key: Option<AnswerKey>,
    target: Target,
    event: TrialEvent,
) -> Result<Response, Problem> {
    let effect = match Effect::start(state, key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let services = state.services()?;
    let _under_way = services.trials.admit(caller.token)?;
    let trial = match target {
        Target::Saved(endpoint) => services.dispatcher.try_webhook(&endpoint, event).await?,
        Target::Unsaved(webhook) => services.dispatcher.try_unsaved(&webhook, event).await,
    };
    let work = services.lifecycle.begin().await?;
    effect.finish(state, work, StatusCode::OK, &TrialBody::from(trial)).await
}

/// The webhook to test, unless its installation is suspended.
async fn saved(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
) -> Result<std::sync::Arc<Endpoint>, Problem> {
    let endpoint = own_webhook(state, caller, id).await?;
    if endpoint.passage == Passage::Suspended {
        return Err(Problem::new(Code::StateConflict)
            .detail("The installation is suspended: nothing is sent until it is resumed."));
    }
    Ok(endpoint)
}

/// The org that a test's body names: the caller's, the one in the request, or a sample.
fn org_of(caller: &Caller, parts: &http::request::Parts) -> Result<String, Problem> {
    let names_one = parts.headers.contains_key("orgId")
        || parts.uri.query().is_some_and(|query| {
            url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "orgId")
        });
    if caller.org.is_some() || names_one {
        return caller.org_of(parts).map(|org| org.to_string());
    }
    Ok(SAMPLE_ORG.to_owned())
}

/// A webhook that is only described, checked as one that is saved but for what it subscribes to.
async fn unsaved(
    state: &ApiState,
    org_id: String,
    body: WebhookRequest,
    place: &str,
) -> Result<(UnsavedWebhook, Definition), Problem> {
    let egress = &state.services()?.own_webhooks.door(&org_id).await?;
    let definition = body.check_for_trial(egress).map_err(|faults| {
        Problem::invalid(faults.into_iter().map(|mut fault| {
            fault.pointer.insert_str(0, place);
            FieldError::from(fault)
        }))
    })?;
    let Some(url) = definition.address() else {
        return Err(invalid(&format!("{place}/url"), "must be an absolute http or https URL"));
    };
    let secret = match &definition.secret {
        // One that nobody knows: the receiver cannot verify it.
        None => SigningSecret::generate(&state.seam().randomness)?,
        Some(text) => signing_secret(definition.dialect, text.expose())?,
    };
    let webhook = UnsavedWebhook {
        destination: egress.vet(&url).map_err(|refusal| refusal.to_string()),
        url,
        org_id,
        dialect: definition.dialect,
        signer: Signer::new([&secret])?,
        own: OwnFace::of(&definition, egress),
    };
    Ok((webhook, definition))
}

/// Tries a webhook that is only described, with the sample of an event.
pub(super) async fn try_described(
    state: &ApiState,
    caller: &Caller,
    org_id: String,
    described: WebhookRequest,
    event_type: &str,
    payload: Option<String>,
) -> Result<TrialBody, Problem> {
    let (webhook, definition) = unsaved(state, org_id, described, "").await?;
    let wanted = TestRequest {
        event_type: event_type.to_owned(),
        body: None,
        payload,
        parameters: None,
        params: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    let event = test_event(wanted, webhook.dialect, Some(&webhook.own), |name| {
        definition.wants_previous(name)
    })?;
    let services = state.services()?;
    let _under_way = services.trials.admit(caller.token)?;
    Ok(services.dispatcher.try_unsaved(&webhook, event).await.into())
}

/// Sends a signed event of the type `Ping` to a webhook.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/ping", tag = "webhooks", params(("id" = String, Path)),
    request_body = PingRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 403, description = "On an extension's webhook this is the vendor's and the operator's"),
        (status = 409, description = "The installation is suspended"),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn ping(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    let endpoint = saved(&state, &caller, id).await?;
    let request = Idempotent::<PingRequest>::from_request(request, &state).await?;
    let PingRequest {} = request.value;
    send(&state, &caller, request.key, Target::Saved(endpoint), ping_event()).await
}

/// Sends a sample event to a webhook, marked by `X-Mortise-Test: true`.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", params(("id" = String, Path)),
    request_body = TestRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 403, description = "On an extension's webhook this is the vendor's and the operator's"),
        (status = 409, description = "The installation is suspended"),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn test(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<WebhookId>,
    request: Request,
) -> Result<Response, Problem> {
    let endpoint = saved(&state, &caller, id).await?;
    let request = Idempotent::<TestRequest>::from_request(request, &state).await?;
    let event = test_event(request.value, endpoint.dialect, endpoint.own.as_ref(), |name| {
        endpoint.wants_previous.iter().any(|wanted| **wanted == *name)
    })?;
    send(&state, &caller, request.key, Target::Saved(endpoint), event).await
}

/// Sends a signed event of the type `Ping` to an address before anything is saved.
#[utoipa::path(
    post, path = "/api/v1/webhooks/ping", tag = "webhooks",
    request_body = UnsavedPingRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn ping_unsaved(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let org = org_of(&caller, &parts)?;
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<UnsavedPingRequest>::from_request(request, &state).await?;
    let body = WebhookRequest { url: request.value.url, ..WebhookRequest::default() };
    let (webhook, _) = unsaved(&state, org, body, "").await?;
    send(&state, &caller, request.key, Target::Unsaved(Box::new(webhook)), ping_event()).await
}

/// Sends a sample event to a webhook before it is saved.
#[utoipa::path(
    post, path = "/api/v1/webhooks/test", tag = "webhooks",
    request_body = UnsavedTestRequest,
    responses(
        (status = 200, description = "What came of it, whatever the endpoint did", body = TrialBody),
        (status = 429, description = "Too many for this token"),
    )
)]
async fn test_unsaved(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let org = org_of(&caller, &parts)?;
    let request = Request::from_parts(parts, body);
    let request = Idempotent::<UnsavedTestRequest>::from_request(request, &state).await?;
    let UnsavedTestRequest {
        webhook: described,
        event_type,
        body,
        payload,
        parameters,
        params,
        headers,
    } = request.value;
    let (webhook, definition) = unsaved(&state, org, described, "/webhook").await?;
    let wanted = TestRequest { event_type, body, payload, parameters, params, headers };
    let event = test_event(wanted, webhook.dialect, Some(&webhook.own), |name| {
        definition.wants_previous(name)
    })?;
    send(&state, &caller, request.key, Target::Unsaved(Box::new(webhook)), event).await
}
