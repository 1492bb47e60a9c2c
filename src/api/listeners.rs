//! `/listeners`: following deliveries as they are made, by long polling.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::access::Caller;
use super::effect::{Effect, Start, Turns};
use super::extract::{Idempotent, Path, Query, json_response};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::paging::{AfterPosition, Cursor};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::role::Role;
use super::services::{endpoint_scope, extensions_of, installation_scope};
use super::state::ApiState;
use crate::identifier::{ExtensionKey, ListenerId};
use crate::lifecycle;
use crate::listening::{
    Answered, ListenTo, ListenerView, ListeningError, NewListener, TappedPage, TappedView,
};
use crate::webhook::Routing;

/// How long an answer may wait for something to tell.
const LONGEST_WAIT: u64 = 25;

/// How many answers one request notes.
const MOST_ANSWERS: usize = 100;

/// How long the text of an error may be, in characters.
const LONGEST_ERROR: usize = 300;

/// What stands for what this caller may not see.
const MASK: &str = "***";

/// The routes of listeners.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(show, end))
        .routes(routes!(deliveries))
        .routes(routes!(answers))
}

/// To what: exactly one of the three.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListenerRequest {
    /// One webhook.
    #[serde(default)]
    webhook_id: Option<Uuid>,
    /// The webhooks of an installation.
    #[serde(default)]
    installation_id: Option<Uuid>,
    /// The webhooks of an extension: for a vendor and the operator of all orgs, for an admin of the
    /// token's.
    #[serde(default)]
    extension_key: Option<ExtensionKey>,
}

/// A listener.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ListenerBody {
    /// Its id.
    id: Uuid,
    /// The webhook that it listens to.
    webhook_id: Option<Uuid>,
    /// The installation that it listens to.
    installation_id: Option<Uuid>,
    /// The extension that it listens to.
    extension_key: Option<String>,
    /// How many copies were made for it.
    tapped: i64,
    /// How many it did not get, since they came too fast.
    dropped: i64,
    /// When it ends where nobody reads it, RFC 3339.
    expires_time: String,
}

impl From<ListenerView> for ListenerBody {
    fn from(view: ListenerView) -> Self {
        Self {
            id: view.id,
            webhook_id: view.webhook_id,
            installation_id: view.installation_id,
            extension_key: view.extension_key,
            tapped: view.tapped,
            dropped: view.dropped,
            expires_time: view.expires_at.rfc3339(),
        }
    }
}

/// A request as it was sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TappedBody {
    /// Its number for this listener, from 1.
    sequence: i64,
    /// When it was sent, RFC 3339.
    sent_time: String,
    /// The delivery.
    delivery_id: Uuid,
    /// The webhook.
    webhook_id: Uuid,
    /// The extension that the webhook is of.
    extension_key: Option<String>,
    /// The org.
    org_id: String,
    /// The type of the event.
    event_type: String,
    /// Which attempt it was, from 1.
    attempt: i32,
    /// Its method.
    method: String,
    /// Its address; with securityContext for the extension's vendor only.
    url: String,
    /// Its headers, as name and value. Credentials are masked.
    #[schema(value_type = Vec<Vec<String>>)]
    headers: Vec<(String, String)>,
    /// Its exact body, as text or in base64; null where it is larger than 1 MiB.
    body: Option<String>,
    /// Whether `body` is base64, since it is no UTF-8.
    is_base64_encoded: bool,
    /// How many bytes the body has.
    body_bytes: i64,
    /// The status that the listener's own server answered.
    answered: Option<i32>,
    /// What was seen there instead.
    answer_error: Option<String>,
}

/// Requests in their order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TappedList {
    /// The requests; empty where nothing was sent.
    data: Vec<TappedBody>,
    /// The `cursor` to go on from; always there.
    next_cursor: String,
    /// How many were removed before they were read.
    missed: i64,
    /// How many the listener did not get in all, since they came too fast.
    dropped: i64,
}

impl From<ListeningError> for Problem {
    fn from(error: ListeningError) -> Self {
        let text = error.to_string();
        match error {
            ListeningError::TooMany | ListeningError::Full => {
                let pause = Duration::from_secs(30);
                Self::new(Code::TooManyRequests).detail(text).retry_after(pause)
            }
            ListeningError::Unknown => Self::new(Code::ResourceNotFound).detail(text),
            ListeningError::Store(error) => error.into(),
        }
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError::new(field, FieldErrorKind::Invalid, message)])
}

/// What a request wants to listen to, where the caller may see it.
async fn wanted(
    state: &ApiState,
    caller: &Caller,
    request: ListenerRequest,
) -> Result<ListenTo, Problem> {
    match (request.webhook_id, request.installation_id, request.extension_key) {
        (Some(id), None, None) => {
            let scope = endpoint_scope(state.store(), caller).await?;
            let endpoint = state.services()?.routing.endpoint(id);
            let is_seen = endpoint.is_some_and(|endpoint| scope.covers(&endpoint));
            if is_seen { Ok(ListenTo::Webhook(id)) } else { Err(Problem::not_found("webhook")) }
        }
        (None, Some(id), None) => {
            let scope = installation_scope(state.store(), caller).await?;
            let found = lifecycle::installation(state.store(), &scope, id).await?;
            found.ok_or_else(|| Problem::not_found("installation"))?;
            Ok(ListenTo::Installation(id))
        }
        (None, None, Some(key)) => {
            let key = key.to_string();
            let org = match caller.role {
                Role::Vendor => {
                    let vendor =
                        caller.vendor.as_ref().ok_or_else(|| Problem::new(Code::Forbidden))?;
                    let own = extensions_of(state.store(), vendor.as_str()).await?;
                    if !own.contains(&key) {
                        return Err(Problem::not_found("extension"));
                    }
                    None
                }
                Role::Admin | Role::Viewer => {
                    let org = caller.org.as_ref().ok_or_else(|| Problem::new(Code::Forbidden))?;
                    Some(org.to_string())
                }
                Role::Operator => None,
                Role::Marketplace | Role::Host => return Err(Problem::new(Code::Forbidden)),
            };
            Ok(ListenTo::Extension { key, org })
        }
        _ => Err(invalid(
            "/webhookId",
            "exactly one of `webhookId`, `installationId` and `extensionKey` is needed",
        )),
    }
}

/// Begins to listen to the deliveries of a webhook, an installation, or an extension
///
/// It ends when nobody reads it for 5 minutes.
#[utoipa::path(
    post, path = "/api/v1/listeners", tag = "tools", request_body = ListenerRequest,
    responses(
        (status = 201, description = "The listener", body = ListenerBody),
        (status = 404, description = "What was to be listened to is not the caller's"),
        (status = 429, description = "The token has too many"),
    )
)]
async fn begin(
    State(state): State<ApiState>,
    caller: Caller,
    request: Idempotent<ListenerRequest>,
) -> Result<Response, Problem> {
    let Idempotent { value, key } = request;
    let to = wanted(&state, &caller, value).await?;
    let new = NewListener { token: caller.token.0, to };
    let effect = match Effect::start(&state, key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let mut turns = Turns::default();
    loop {
        let done = begin_once(&state, &new, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

async fn begin_once(
    state: &ApiState,
    new: &NewListener,
    effect: &Effect,
) -> Result<Response, Problem> {
    let listening = &state.services()?.listening;
    let work = state.store().begin().await?;
    let body = match listening.begin(&work, new).await {
        Ok(view) => ListenerBody::from(view),
        Err(error) => {
            work.rollback().await?;
            return Err(error.into());
        }
    };
    let answer = effect.finish(state, work, StatusCode::CREATED, &body).await?;
    listening.look().await?;
    Ok(answer)
}

/// Shows a listener of this token
#[utoipa::path(
    get, path = "/api/v1/listeners/{id}", tag = "tools", params(("id" = String, Path)),
    responses((status = 200, body = ListenerBody), (status = 404, description = "No such listener of this token"))
)]
async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<ListenerId>,
) -> Result<Response, Problem> {
    let view = state.services()?.listening.find(caller.token.0, id.0).await?;
    Ok(json_response(StatusCode::OK, &ListenerBody::from(view)))
}

/// Ends a listener of this token
#[utoipa::path(
    delete, path = "/api/v1/listeners/{id}", tag = "tools", params(("id" = String, Path)),
    responses((status = 204, description = "It ended"), (status = 404, description = "No such listener of this token"))
)]
async fn end(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<ListenerId>,
) -> Result<Response, Problem> {
    state.services()?.listening.end(caller.token.0, id.0).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// From where on, and how long to wait.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadQuery {
    /// The `nextCursor` of the answer before.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    cursor: Option<AfterPosition>,
    /// How long to wait for something to tell, up to 25; at once where it is left out.
    #[serde(default)]
    wait_seconds: u64,
}

/// The requests that were sent after a cursor, as soon as there are any
#[utoipa::path(
    get, path = "/api/v1/listeners/{id}/deliveries", tag = "tools",
    params(("id" = String, Path), ReadQuery),
    responses(
        (status = 200, description = "Requests, in their order", body = TappedList),
        (status = 404, description = "No such listener of this token, or it ended"),
    )
)]
async fn deliveries(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<ListenerId>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Problem> {
    if query.wait_seconds > LONGEST_WAIT {
        return Err(invalid("waitSeconds", format!("is at most {LONGEST_WAIT}")));
    }
    let services = state.services()?;
    let _place = services.readers.take(caller.token).ok_or_else(|| {
        Problem::new(Code::TooManyRequests)
            .detail("Too many listeners are read at the moment.")
            .retry_after(Duration::from_secs(5))
    })?;
    let after = query.cursor.map_or(0, |cursor| cursor.0);
    let wait = Duration::from_secs(query.wait_seconds);
    let read = |wait| services.listening.read(caller.token.0, id.0, after, wait);
    let page = tokio::select! {
        page = read(wait) => page?,
        // A server that ends answers what there is; the reader goes on with another.
        () = state.ending().cancelled() => read(Duration::ZERO).await?,
    };
    Ok(json_response(StatusCode::OK, &shown(page, &caller, &services.routing)))
}

/// What of a page this caller may see.
fn shown(page: TappedPage, caller: &Caller, routing: &Routing) -> TappedList {
    let dropped = page.listener.dropped;
    let copies = page.copies.into_iter().map(|copy| {
        let endpoint = routing.endpoint(copy.webhook_id);
        let owner = endpoint.as_ref().and_then(|endpoint| endpoint.owner.as_ref());
        let extension_key = owner.map(|owner| owner.extension_key.to_string());
        let is_vendors = caller.role == Role::Vendor;
        let context = endpoint
            .as_ref()
            .and_then(|endpoint| endpoint.security_context.as_ref())
            .filter(|_| is_vendors);
        let url = match context {
            Some(context) => with_context(&copy.url, context.expose()),
            None => copy.url.clone(),
        };
        // The vendor's proof that a request is ours; nobody else needs it.
        let sees_jwt = is_vendors || extension_key.is_none();
        // With a signature that is a moment old one could pass a copy on as if it were ours. Who
        // may read the secret gains nothing by it.
        let sees_signature = sees_jwt || caller.role == Role::Operator;
        body_of(copy, url, extension_key, sees_jwt, sees_signature)
    });
    TappedList {
        data: copies.collect(),
        next_cursor: Cursor::Position(page.next).encode(),
        missed: page.missed,
        dropped,
    }
}

/// The address as it went over the wire.
fn with_context(url: &str, context: &str) -> String {
    const MASKED: &str = "securityContext=***";
    // What we append stands last; one that the receiver's own address declares is dropped before.
    match url.rfind(MASKED) {
        Some(at) => {
            let (before, after) = (&url[..at], &url[at + MASKED.len()..]);
            format!("{before}securityContext={context}{after}")
        }
        None => url.to_owned(),
    }
}

fn body_of(
    copy: TappedView,
    url: String,
    extension_key: Option<String>,
    sees_jwt: bool,
    sees_signature: bool,
) -> TappedBody {
    let (body, is_base64_encoded) = match copy.body {
        None => (None, false),
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) => (Some(text), false),
            Err(error) => (Some(STANDARD.encode(error.as_bytes())), true),
        },
    };
    let headers = copy.headers.into_iter().map(|(name, value)| {
        let is_seen = match name.as_str() {
            "x-zdesk-jwt" => sees_jwt,
            "webhook-signature" | "hash" => sees_signature,
            _ => true,
        };
        (name, if is_seen { value } else { MASK.to_owned() })
    });
    TappedBody {
        sequence: copy.sequence,
        sent_time: copy.at.rfc3339(),
        delivery_id: copy.delivery_id,
        webhook_id: copy.webhook_id,
        extension_key,
        org_id: copy.org_id,
        event_type: copy.event_type,
        attempt: copy.attempt,
        method: copy.method,
        url,
        headers: headers.collect(),
        body,
        is_base64_encoded,
        body_bytes: copy.body_bytes,
        answered: copy.answered,
        answer_error: copy.answer_error,
    }
}

/// What the listener's own server answered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnswerBody {
    /// The number of the request.
    sequence: i64,
    /// The status; left out where there was no answer.
    #[serde(default)]
    status: Option<u16>,
    /// What was seen instead.
    #[serde(default)]
    error: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    duration_ms: u32,
}

/// Answers of the listener's own server.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AnswersRequest {
    /// Up to 100.
    answers: Vec<AnswerBody>,
}

/// What was noted.
#[derive(Debug, Serialize, ToSchema)]
struct NotedBody {
    /// Of how many requests; those that are gone are passed over.
    noted: u64,
}

/// Notes what the listener's own server answered; deliveries go on as they would
#[utoipa::path(
    post, path = "/api/v1/listeners/{id}/answers", tag = "tools", params(("id" = String, Path)),
    request_body = AnswersRequest,
    responses((status = 200, description = "Noted", body = NotedBody), (status = 404, description = "No such listener of this token"))
)]
async fn answers(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<ListenerId>,
    request: Idempotent<AnswersRequest>,
) -> Result<Response, Problem> {
    let Idempotent { value: request, key } = request;
    if request.answers.len() > MOST_ANSWERS {
        return Err(invalid("/answers", format!("has at most {MOST_ANSWERS} members")));
    }
    let answers: Vec<Answered> = request
        .answers
        .into_iter()
        .map(|answer| {
            let is_status = answer.status.is_none_or(|status| (100..=599).contains(&status));
            let error = answer.error.map(|error| {
                let printable = error.chars().filter(|letter| !letter.is_control());
                printable.take(LONGEST_ERROR).collect()
            });
            if !is_status {
                return Err(invalid("/answers", "a status is from 100 to 599"));
            }
            Ok(Answered {
                sequence: answer.sequence,
                status: answer.status,
                error,
                took: Duration::from_millis(answer.duration_ms.into()),
            })
        })
        .collect::<Result<_, _>>()?;
    let listening = &state.services()?.listening;
    listening.find(caller.token.0, id.0).await?;
    let effect = match Effect::start(&state, key).await? {
        Start::Answered(answer) => return Ok(*answer),
        Start::Fresh(effect) => effect,
    };
    let work = state.store().begin().await?;
    match listening.answered(&work, id.0, &answers).await {
        Ok(noted) => effect.finish(&state, work, StatusCode::OK, &NotedBody { noted }).await,
        Err(error) => {
            work.rollback().await?;
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_takes_the_place_of_its_mask() {
        for (masked, whole) in [
            (
                "https://v.example/?a=b&orgId=1&securityContext=***",
                "https://v.example/?a=b&orgId=1&securityContext=CTX",
            ),
            ("https://v.example/?a=b", "https://v.example/?a=b"),
            ("https://v.example/", "https://v.example/"),
        ] {
            assert_eq!(with_context(masked, "CTX"), whole);
        }
    }
}
