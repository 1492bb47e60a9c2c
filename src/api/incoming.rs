//! `/incoming/{extensionKey}`: where third parties post for a user of an extension, by the user's
//! token. What came is on disk when it is answered, and goes to the vendor as events do.

use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::effect::{Effect, Turns};
use super::extract::{Path, RawBody};
use super::handler::routes;
use super::invoke::only_parameter;
use super::openapi::ApiRouter;
use super::problem::{Code, Problem};
use super::state::ApiState;
use crate::extension_data::incoming;
use crate::extension_data::user_tokens::{self, UserToken};

/// The parameter with the token.
const KEY: &str = "zapikey";

/// The most headers and parameters that are passed on, and their bytes in all.
const PASSED_ON: (usize, usize) = (50, 8 * 1_024);

/// Headers that are not passed on: credentials, and what concerns one hop only.
const HELD_BACK: &[&str] = &[
    "authorization",
    "cookie",
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
];

/// The routes of incoming webhooks.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(post))
}

/// What was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IncomingAcceptedBody {
    /// The id under which it goes to the vendor (`webhook-id`).
    id: Uuid,
}

/// Posts to an extension for a user
///
/// Any body goes. The answer means: on disk.
#[utoipa::path(
    post, path = "/api/v1/incoming/{extensionKey}", tag = "invoke",
    params(
        ("extensionKey" = String, Path),
        ("zapikey" = String, Query, description = "The user's token"),
    ),
    responses(
        (status = 202, description = "On disk", body = IncomingAcceptedBody),
        (status = 401, description = "The token is not one of this extension, or dead"),
        (status = 429, description = "The token, or the installation, is posted to too often"),
    )
)]
async fn post(
    State(state): State<ApiState>,
    Path(extension_key): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let limit = state.config().limits.incoming_body_bytes;
    let mut head = Request::new(body);
    *head.headers_mut() = parts.headers.clone();
    let body = RawBody::from(head).read(limit).await?;
    let key = only_parameter(&parts, KEY).ok_or_else(refused)?;
    let token = user_tokens::find(state.store(), &key).await?.ok_or_else(refused)?;
    let services = state.services()?;
    // Before the rates: a token that is dead is refused alike however often it is tried.
    let is_live = token.extension_key == extension_key
        && services.lifecycle.takes_incoming(token.installation_id).await?;
    if !is_live {
        return Err(refused());
    }
    services.incoming_rates.admit(token.id, token.installation_id)?;
    let effect = Effect::default();
    let mut turns = Turns::default();
    loop {
        let done = post_once(&state, &key, &parts, &body, &effect).await;
        if let Some(done) = turns.over(&state, done).await {
            return done;
        }
    }
}

/// The same for every token that does not work.
fn refused() -> Problem {
    Problem::new(Code::InvalidOauth)
        .detail("`zapikey` is not a live token of a user of this extension.")
}

async fn post_once(
    state: &ApiState,
    key: &str,
    parts: &Parts,
    body: &[u8],
    effect: &Effect,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let mut work = lifecycle.begin().await?;
    let token = user_tokens::find_within(&work, key).await?.ok_or_else(refused)?;
    let serving = lifecycle.incoming_generation(&work, token.installation_id).await?;
    let generation = serving.ok_or_else(refused)?;
    let payload = payload(&token, generation, parts, body, &state.seam().clock.now().rfc3339());
    let payload = serde_json::to_vec(&payload).map_err(|error| Problem::internal(&error))?;
    let id = incoming::enqueue(&mut work, &token, generation, payload, state.seam()).await?;
    effect.finish(state, work, StatusCode::ACCEPTED, &IncomingAcceptedBody { id }).await
}

/// What the vendor gets as `payload`.
fn payload(
    token: &UserToken,
    generation: i32,
    parts: &Parts,
    body: &[u8],
    received_at: &str,
) -> Value {
    let (body, is_base64) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(body), true),
    };
    json!({
        "orgId": token.org_id,
        "installationId": token.installation_id,
        "generation": generation,
        "userId": token.user_id,
        "receivedAt": received_at,
        "query": query(parts),
        "headers": headers(&parts.headers),
        "body": body,
        "isBase64Encoded": is_base64,
    })
}

fn query(parts: &Parts) -> Map<String, Value> {
    let query = parts.uri.query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name != KEY)
        .map(|(name, value)| (name.into_owned(), value.into_owned()));
    bounded(pairs)
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let pairs = headers
        .iter()
        .filter(|(name, _)| {
            !HELD_BACK.contains(&name.as_str()) && !name.as_str().starts_with("proxy-")
        })
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
    bounded(pairs)
}

/// The first pairs, as many as are passed on; of several with one name the last.
fn bounded(pairs: impl Iterator<Item = (String, String)>) -> Map<String, Value> {
    let mut left = PASSED_ON.1;
    let mut kept = Map::new();
    for (name, value) in pairs.take(PASSED_ON.0) {
        let Some(rest) = left.checked_sub(name.len() + value.len()) else { break };
        left = rest;
        kept.insert(name, Value::String(value));
    }
    kept
}
