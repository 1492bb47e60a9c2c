//! `/inspectors` and `/inspect/…`: addresses of this server's own that take any request, answer as
//! their owner chose, and show what came.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path, Query, RawBody, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{AfterPosition, Cursor, Limit, Page, Paging};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::services::{endpoint_scope, extensions_of};
use super::state::ApiState;
use crate::crypto::Verifier;
use crate::delivery;
use crate::identifier::{InspectorId, OrgId, VendorKey};
use crate::inspector::{
    self, AnswerWish, ChosenAnswer, InspectedView, InspectorAddress, InspectorError,
    InspectorOwner, InspectorView, InvalidAnswer, NewInspector, Received,
};

/// How long an inspector lives where nothing is said, and at the least.
const USUAL_LIFE: Duration = Duration::from_hours(24);
const SHORTEST_LIFE: Duration = Duration::from_mins(1);

/// The longest name, in characters.
const LONGEST_NAME: usize = 100;

/// The routes of inspectors.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::with_openapi(InspectDocument::openapi())
        .routes(routes!(list, make))
        .routes(routes!(read, remove))
        .routes(routes!(requests))
        // Methods that no standard knows come here too.
        .route("/inspect/{token}", axum::routing::any(inspect))
        .route("/inspect/{token}/", axum::routing::any(inspect))
        .route("/inspect/{token}/{*rest}", axum::routing::any(inspect))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(inspect))]
struct InspectDocument;

/// What an inspector answers.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnswerRequest {
    /// The status, 200 to 599; 200 where it is left out.
    #[serde(default)]
    status: Option<u16>,
    /// `Content-Type`, `Retry-After`, `ETag`, `Warning`, `webhook-…` and `X-…`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body, up to 16 KiB.
    #[serde(default)]
    body: Option<String>,
    /// How long to wait before, up to 30,000.
    #[serde(default)]
    delay_ms: Option<u64>,
    /// How many requests are failed first.
    #[serde(default)]
    fail_first: Option<u32>,
    /// The status of those; 503 where it is left out.
    #[serde(default)]
    fail_status: Option<u16>,
}

impl From<AnswerRequest> for AnswerWish {
    fn from(request: AnswerRequest) -> Self {
        Self {
            status: request.status,
            headers: request.headers.into_iter().collect(),
            body: request.body,
            delay_ms: request.delay_ms,
            fail_first: request.fail_first,
            fail_status: request.fail_status,
        }
    }
}

/// An inspector to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InspectorRequest {
    /// For its owner's eyes.
    #[serde(default)]
    name: Option<String>,
    /// The org that it is for; of an operator's token only.
    #[serde(default)]
    org_id: Option<OrgId>,
    /// The vendor that it is for; of an operator's token only.
    #[serde(default)]
    vendor: Option<VendorKey>,
    /// The webhook whose secrets sign what comes. Left out, it is known by `webhook-id` where that
    /// is a delivery of the owner's.
    #[serde(default)]
    webhook_id: Option<Uuid>,
    /// How long it lives: 60 to 604,800; a day where it is left out.
    #[serde(default)]
    ttl_seconds: Option<u64>,
    /// What it answers; 200 without a body where it is left out.
    #[serde(default)]
    answer: AnswerRequest,
}

/// An inspector, without its address.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InspectorBody {
    /// Its id.
    id: Uuid,
    /// For its owner's eyes.
    name: Option<String>,
    /// The org that it is of.
    org_id: Option<String>,
    /// The vendor that it is of.
    vendor: Option<String>,
    /// The webhook whose secrets sign what comes.
    webhook_id: Option<Uuid>,
    /// What it answers.
    #[schema(value_type = Object)]
    answer: ChosenAnswer,
    /// How many requests came in all.
    received: i64,
    /// When it was made, RFC 3339.
    created_time: String,
    /// When it ends, RFC 3339.
    expires_time: String,
}

impl From<InspectorView> for InspectorBody {
    fn from(view: InspectorView) -> Self {
        let (org_id, vendor) = match view.owner {
            InspectorOwner::Org(org) => (Some(org), None),
            InspectorOwner::Vendor(vendor) => (None, Some(vendor)),
            InspectorOwner::Operator => (None, None),
        };
        Self {
            id: view.id,
            name: view.name,
            org_id,
            vendor,
            webhook_id: view.webhook_id,
            answer: view.answer,
            received: view.received,
            created_time: view.created_at.rfc3339(),
            expires_time: view.expires_at.rfc3339(),
        }
    }
}

/// An inspector that was made, with its address.
#[derive(Serialize, ToSchema)]
struct InspectorMade {
    /// What is known of it.
    #[serde(flatten)]
    inspector: InspectorBody,
    /// Its address, which is told here and never again.
    url: String,
}

/// A request that came.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InspectedBody {
    /// Its number at this inspector, from 1.
    sequence: i64,
    /// When it came, RFC 3339.
    received_time: String,
    /// Its method.
    method: String,
    /// What followed the address in the path; empty where nothing did.
    path: String,
    /// Its query, as it was written, with the value of `securityContext` masked.
    query: Option<String>,
    /// Its headers, as name and value, in their order.
    #[schema(value_type = Vec<Vec<String>>)]
    headers: Vec<(String, String)>,
    /// How many headers were left out.
    headers_dropped: i32,
    /// The first 64 KiB of its body, as text or in base64.
    body: String,
    /// Whether `body` is base64, since it is no UTF-8.
    is_base64_encoded: bool,
    /// How long the body was, in bytes.
    body_bytes: i64,
    /// Whether `body` is not all of it.
    truncated: bool,
    /// The status that it was answered with.
    answered: i32,
    /// What its Standard Webhooks signature is worth.
    signature: SignatureBody,
}

/// What a signature is worth.
#[derive(Debug, Serialize, ToSchema)]
struct SignatureBody {
    /// `valid`, `invalid`, `unsigned`, or `unknown` where no webhook is known.
    verdict: String,
    /// Why.
    reason: Option<String>,
}

impl From<InspectedView> for InspectedBody {
    fn from(view: InspectedView) -> Self {
        let truncated = view.body_bytes > i64::try_from(view.body.len()).unwrap_or(i64::MAX);
        let (body, is_base64_encoded) = match text_of(&view.body, truncated) {
            Some(text) => (text, false),
            None => (STANDARD.encode(&view.body), true),
        };
        Self {
            sequence: view.sequence,
            received_time: view.at.rfc3339(),
            method: view.method,
            path: view.path,
            query: view.query,
            headers: view.headers,
            headers_dropped: view.headers_dropped,
            body,
            is_base64_encoded,
            body_bytes: view.body_bytes,
            truncated,
            answered: view.answered,
            signature: SignatureBody { verdict: view.signature, reason: view.signature_reason },
        }
    }
}

/// A body as text; one that was cut may end within a character.
fn text_of(body: &[u8], truncated: bool) -> Option<String> {
    match std::str::from_utf8(body) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if truncated && error.error_len().is_none() => {
            let whole = body.get(..error.valid_up_to())?;
            std::str::from_utf8(whole).ok().map(str::to_owned)
        }
        Err(_) => None,
    }
}

impl From<InspectorError> for Problem {
    fn from(error: InspectorError) -> Self {
        let text = error.to_string();
        match error {
            InspectorError::Full => Self::new(Code::UnprocessableEntity)
                .detail(text)
                .with("limit", inspector::MOST_INSPECTORS),
            InspectorError::Unknown => Self::new(Code::ResourceNotFound).detail(text),
            InspectorError::Store(error) => error.into(),
            error @ InspectorError::Crypto(_) => Self::internal(&error),
        }
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

fn invalid_answer(error: InvalidAnswer) -> Problem {
    invalid(&format!("/answer{}", error.pointer), error.message)
}

/// Whose inspectors a caller sees and makes.
fn owner_of(caller: &Caller) -> Result<InspectorOwner, Problem> {
    match caller.role {
        Role::Operator => Ok(InspectorOwner::Operator),
        Role::Vendor => {
            let vendor = caller.vendor.as_ref().ok_or_else(|| Problem::new(Code::Forbidden))?;
            Ok(InspectorOwner::Vendor(vendor.to_string()))
        }
        Role::Admin | Role::Viewer => {
            let org = caller.org.as_ref().ok_or_else(|| Problem::new(Code::Forbidden))?;
            Ok(InspectorOwner::Org(org.to_string()))
        }
        Role::Marketplace | Role::Host => Err(Problem::new(Code::Forbidden)),
    }
}

/// Whose a new one is: the caller's, or whom an operator names.
fn named_owner(caller: &Caller, request: &InspectorRequest) -> Result<InspectorOwner, Problem> {
    let own = owner_of(caller)?;
    let named = match (&request.org_id, &request.vendor) {
        (None, None) => return Ok(own),
        (Some(_), Some(_)) => {
            return Err(invalid("/vendor", "cannot be given together with `orgId`"));
        }
        (Some(org), None) => InspectorOwner::Org(org.to_string()),
        (None, Some(vendor)) => InspectorOwner::Vendor(vendor.to_string()),
    };
    if own == InspectorOwner::Operator || own == named {
        return Ok(named);
    }
    let field = if request.org_id.is_some() { "/orgId" } else { "/vendor" };
    Err(invalid(field, "must be the token's own, or left out"))
}

/// Lists inspectors
#[utoipa::path(
    get, path = "/api/v1/inspectors", tag = "tools", params(Paging),
    responses((status = 200, description = "A page", body = Page<InspectorBody>))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let owner = owner_of(&caller)?;
    let after = paging.cursor.map(|after| after.0);
    let now = state.seam().clock.now();
    let views = inspector::list(state.store(), &owner, after, paging.limit.rows(), now).await?;
    let page = Page::new(views, paging.limit, |view| Cursor::Id(view.id)).map(InspectorBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Makes an inspector; its address is told once
#[utoipa::path(
    post, path = "/api/v1/inspectors", tag = "tools", request_body = InspectorRequest,
    responses(
        (status = 201, description = "The inspector with its address", body = InspectorMade),
        (status = 422, description = "A value is not valid, or there are too many"),
    )
)]
async fn make(
    State(state): State<ApiState>,
    caller: Caller,
    request: Idempotent<InspectorRequest>,
) -> Result<Response, Problem> {
    let Idempotent { value, key } = request;
    let owner = named_owner(&caller, &value)?;
    let life = value.ttl_seconds.map_or(USUAL_LIFE, Duration::from_secs);
    if life < SHORTEST_LIFE || life > inspector::LONGEST_LIFE {
        let most = inspector::LONGEST_LIFE.as_secs();
        return Err(invalid("/ttlSeconds", format!("must be from 60 to {most}")));
    }
    if let Some(name) = &value.name
        && (name.is_empty()
            || name.chars().count() > LONGEST_NAME
            || name.chars().any(char::is_control))
    {
        let rule = format!("must have 1 to {LONGEST_NAME} characters, none a control character");
        return Err(invalid("/name", rule));
    }
    if let Some(webhook) = value.webhook_id {
        let scope = endpoint_scope(state.store(), &caller).await?;
        let endpoint = state.services()?.routing.endpoint(webhook);
        let is_there = endpoint.is_some_and(|endpoint| scope.covers(&endpoint));
        if !is_there {
            return Err(invalid("/webhookId", "names no webhook that this token may see"));
        }
    }
    let answer = ChosenAnswer::new(value.answer.into()).map_err(invalid_answer)?;
    let new = NewInspector { owner, name: value.name, webhook_id: value.webhook_id, answer, life };
    let effect = match Effect::start(&state, key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = make_once(&state, &caller, &new, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn make_once(
    state: &ApiState,
    caller: &Caller,
    new: &NewInspector,
    effect: &Effect,
) -> Result<Response, Problem> {
    let work = state.store().begin().await?;
    let (view, address) =
        inspector::make(&work, new.clone(), &caller.actor(), state.seam()).await?;
    let url = format!("{}{}{}", state.origin(), inspector::PATH, address.expose());
    let body = InspectorMade { inspector: view.into(), url };
    let answer = effect.finish(state, work, StatusCode::CREATED, &body).await?;
    state.services()?.inspectors.learn(&address).await;
    Ok(answer)
}

async fn visible(state: &ApiState, caller: &Caller, id: Uuid) -> Result<InspectorView, Problem> {
    let now = state.seam().clock.now();
    inspector::read(state.store(), &owner_of(caller)?, id, now)
        .await?
        .ok_or_else(|| InspectorError::Unknown.into())
}

/// Shows an inspector
#[utoipa::path(
    get, path = "/api/v1/inspectors/{id}", tag = "tools", params(("id" = String, Path)),
    responses((status = 200, body = InspectorBody), (status = 404, description = "No such inspector"))
)]
async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InspectorId>,
) -> Result<Response, Problem> {
    let view = visible(&state, &caller, id.0).await?;
    Ok(json_response(StatusCode::OK, &InspectorBody::from(view)))
}

/// Ends an inspector, with what came to it
#[utoipa::path(
    delete, path = "/api/v1/inspectors/{id}", tag = "tools", params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "No such inspector"))
)]
async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InspectorId>,
) -> Result<Response, Problem> {
    let owner = owner_of(&caller)?;
    let work = state.store().begin().await?;
    match inspector::remove(&work, &owner, id.0, &caller.actor(), state.seam()).await {
        Ok(()) => {
            let _settled = work.commit(state.seam().clock.now()).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(error) => {
            work.rollback().await?;
            Err(error.into())
        }
    }
}

/// Which requests.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestsQuery {
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterPosition>,
    /// How many at the most, up to 200.
    #[param(value_type = Option<u16>)]
    #[serde(default)]
    limit: Limit,
}

/// What came to an inspector within a day, the latest first
#[utoipa::path(
    get, path = "/api/v1/inspectors/{id}/requests", tag = "tools",
    params(("id" = String, Path), RequestsQuery),
    responses((status = 200, description = "A page", body = Page<InspectedBody>))
)]
async fn requests(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<InspectorId>,
    Query(query): Query<RequestsQuery>,
) -> Result<Response, Problem> {
    let view = visible(&state, &caller, id.0).await?;
    let before = query.cursor.map(|cursor| cursor.0);
    let now = state.seam().clock.now();
    let rows = inspector::requests(state.store(), view.id, before, query.limit.rows(), now).await?;
    let page =
        Page::new(rows, query.limit, |row| Cursor::Position(row.sequence)).map(InspectedBody::from);
    Ok(json_response(StatusCode::OK, &page))
}

/// Takes any request, of any method and with anything behind the address, keeps it for its owner
/// and answers as that one chose
#[utoipa::path(
    method(get, post, put, patch, delete), path = "/inspect/{token}", tag = "tools",
    params(("token" = String, Path, description = "The secret part of the address")),
    responses(
        (status = 200, description = "What the owner chose; the status is the owner's choice too"),
        (status = 404, description = "No such inspector, or it has expired"),
        (status = 413, description = "The body is larger than 1 MiB"),
        (status = 429, description = "Too many requests to this inspector"),
    )
)]
async fn inspect(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let services = state.services()?;
    let (parts, body) = request.into_parts();
    let (token, rest) = address_of(&parts);
    let address = InspectorAddress::parse(token).ok_or(InspectorError::Unknown)?;
    // Strangers who guess cost neither a place nor a look-up.
    if !services.inspectors.may_have(state.store(), &address).await? {
        return Err(InspectorError::Unknown.into());
    }
    services.inspector_gate.use_one(&address).map_err(too_many)?;
    let now = state.seam().clock.now();
    let view = inspector::find(state.store(), &address, now).await?;
    let view = view.ok_or(InspectorError::Unknown)?;
    let _place = services.inspector_gate.enter(&view.owner).map_err(too_many)?;
    let sequence = keep(&state, &view, &parts, rest, body).await?;
    let delay = view.answer.delay();
    if !delay.is_zero() {
        tokio::select! {
            () = state.seam().clock.sleep(delay) => {}
            // A server that ends is not held up by what was only to wait.
            () = state.ending().cancelled() => {}
        }
    }
    Ok(answer(&view.answer, sequence))
}

/// Reads a request to its end and keeps it. Nothing of its body stays in memory.
async fn keep(
    state: &ApiState,
    view: &InspectorView,
    parts: &Parts,
    rest: &str,
    body: Body,
) -> Result<i64, Problem> {
    let mut head = Request::new(body);
    *head.headers_mut() = parts.headers.clone();
    let body = RawBody::from(head).read(inspector::BODY_LIMIT).await?;
    let webhook_id = match (said_webhook(state, parts).await?, view.webhook_id) {
        // What it says that it is goes before what was expected, to be erased with that.
        (Some(said), _) => Some(said),
        (None, expected) => expected,
    };
    let verifier = verifier_of(state, view, view.webhook_id.or(webhook_id)).await?;
    let now = state.seam().clock.now();
    let verdict = inspector::judge(&parts.headers, &body, verifier.as_ref(), now);
    let query = parts.uri.query().map(crate::webhook::mask_context_query);
    let received = Received {
        method: parts.method.as_str(),
        path: rest,
        query: query.as_deref(),
        headers: &parts.headers,
        body: &body,
        verdict,
        webhook_id,
    };
    Ok(inspector::take(state.store(), view, &received, now).await?)
}

fn too_many(wait: Duration) -> Problem {
    Problem::new(Code::TooManyRequests)
        .detail("This inspector takes no more requests for the moment.")
        .retry_after(wait)
}

/// The secret part of a path below `/inspect/`, and what follows it.
fn address_of(parts: &Parts) -> (&str, &str) {
    let path = parts.uri.path();
    let rest = path.strip_prefix(inspector::PATH).unwrap_or_default();
    match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    }
}

/// The webhook whose delivery a request says that it is.
async fn said_webhook(state: &ApiState, parts: &Parts) -> Result<Option<Uuid>, Problem> {
    let id = parts.headers.get("webhook-id").and_then(|value| value.to_str().ok());
    match id.and_then(|id| id.parse().ok()) {
        Some(delivery) => Ok(delivery::endpoint_of(state.store(), delivery).await?),
        None => Ok(None),
    }
}

/// The secrets of a webhook, which should have signed a request, where the inspector's owner may see
/// that.
async fn verifier_of(
    state: &ApiState,
    view: &InspectorView,
    webhook: Option<Uuid>,
) -> Result<Option<Verifier>, Problem> {
    let routing = &state.services()?.routing;
    let Some(endpoint) = webhook.and_then(|webhook| routing.endpoint(webhook)) else {
        return Ok(None);
    };
    let extensions = match &view.owner {
        InspectorOwner::Vendor(vendor) => extensions_of(state.store(), vendor).await?,
        InspectorOwner::Org(_) | InspectorOwner::Operator => Vec::new(),
    };
    let is_open = inspector::open_to(&view.owner, &endpoint, &extensions);
    Ok(is_open.then(|| endpoint.signer.verifier()))
}

/// The chosen answer to the request with a number.
fn answer(chosen: &ChosenAnswer, sequence: i64) -> Response {
    let status = chosen.status_of(sequence);
    let has_body = !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    );
    let body = if has_body { Body::from(chosen.body().to_owned()) } else { Body::empty() };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body && !chosen.body().is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, plain);
    }
    // The guard last, so that nothing chosen takes its place.
    for (name, value) in chosen.headers().chain(inspector::guard()) {
        headers.insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> Parts {
        http::Request::get(uri).body(()).expect("a request").into_parts().0
    }

    #[test]
    fn the_address_ends_at_the_next_slash() {
        for (uri, token, rest) in [
            ("/inspect/abc", "abc", ""),
            ("/inspect/abc?x=/y", "abc", ""),
            ("/inspect/abc/", "abc", "/"),
            ("/inspect/abc/d/e?f", "abc", "/d/e"),
            ("/inspect//d", "", "/d"),
            ("/elsewhere", "", ""),
        ] {
            let parts = parts(uri);
            assert_eq!(address_of(&parts), (token, rest), "{uri}");
        }
    }

    #[test]
    fn every_answer_is_guarded() {
        let wish = AnswerWish {
            body: Some("<script>alert(1)</script>".to_owned()),
            headers: vec![("x-a".to_owned(), "b".to_owned())],
            fail_first: Some(1),
            fail_status: Some(500),
            status: Some(204),
            ..AnswerWish::default()
        };
        let chosen = ChosenAnswer::new(wish).expect("it is within bounds");
        for (sequence, status) in [(1, 500), (2, 204)] {
            let response = answer(&chosen, sequence);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["x-a"], "b");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            let policy = response.headers()["content-security-policy"].to_str().expect("text");
            assert!(policy.contains("sandbox") && !policy.contains("allow-scripts"), "{policy}");
        }
        assert_eq!(answer(&chosen, 1).headers()["content-type"], "text/plain; charset=utf-8");
    }

    #[test]
    fn a_cut_body_may_end_within_a_character() {
        let body = "äb".as_bytes();
        assert_eq!(text_of(body, false).as_deref(), Some("äb"));
        assert_eq!(text_of(&body[..1], true).as_deref(), Some(""));
        assert_eq!(text_of(&body[..1], false), None);
        assert_eq!(text_of(b"\xff\x00", true), None);
    }
}
