//! The endpoints of the development authorisation server, and the API that it plays.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use url::{Url, form_urlencoded};

use super::authorization_server::{ApiCall, Conduct, Shared, Ticket};
use super::grants::{Consent, Grants, IssuedToken, Pair, Refusal, random_value};
use super::{Decision, authorization_page};
use crate::seam::Seam;

/// The most bytes of a request's body.
const BODY_LIMIT: usize = 1 << 20;
/// The most calls to the API that are remembered.
const CALLS: usize = 10_000;
/// The most consent pages that wait for an answer, and for how long.
const TICKETS: usize = 1_000;
const TICKET_LIFETIME: Duration = Duration::from_mins(10);

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/authorize", get(authorize))
        .route("/decision", post(decide))
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .route("/whoami", get(who_am_i))
        .route("/api/v1/{*path}", any(api))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}

type Fields = HashMap<String, String>;

/// Form fields; none where one stands twice.
fn fields(text: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    for (name, value) in form_urlencoded::parse(text) {
        if fields.insert(name.into_owned(), value.into_owned()).is_some() {
            return None;
        }
    }
    Some(fields)
}

/// Scopes as both families of servers write them: between commas or spaces.
fn scopes_of(text: &str) -> Vec<String> {
    text.split([',', ' ']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

fn bad_page(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, Html(authorization_page::problem(text))).into_response()
}

fn redirect_to(url: &Url) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, url.as_str()), (header::CACHE_CONTROL, "no-store")])
        .into_response()
}

async fn authorize(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let Some(fields) = fields(query.unwrap_or_default().as_bytes()) else {
        return bad_page("A parameter stands twice.");
    };
    let field = |name: &str| fields.get(name).map(String::as_str);
    // Nothing is redirected to an address that was not registered (RFC 6749, section 4.1.2.1).
    if field("client_id") != Some(shared.client_id.as_str()) {
        return bad_page("This client_id is not known.");
    }
    let registered = |uri: &&str| shared.book().redirect_uris.iter().any(|known| known == uri);
    let Some(redirect_uri) = field("redirect_uri").filter(registered) else {
        return bad_page("This redirect_uri is not registered for the client.");
    };
    let Ok(redirect) = Url::parse(redirect_uri) else {
        return bad_page("The redirect_uri is not a URL.");
    };
    let refuse = |error: &str, description: &str| {
        let mut redirect = redirect.clone();
        redirect
            .query_pairs_mut()
            .append_pair("error", error)
            .append_pair("error_description", description)
            .extend_pairs(field("state").map(|state| ("state", state)));
        redirect_to(&redirect)
    };
    if field("response_type") != Some("code") {
        return refuse("unsupported_response_type", "only code is known");
    }
    let Some(state) = field("state").filter(|state| !state.is_empty()) else {
        return refuse("invalid_request", "state is missing");
    };
    if field("code_challenge_method") != Some("S256") {
        return refuse("invalid_request", "code_challenge_method must be S256");
    }
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let well_formed = |challenge: &&str| {
        (43..=128).contains(&challenge.len()) && challenge.bytes().all(unreserved)
    };
    let Some(challenge) = field("code_challenge").filter(well_formed) else {
        return refuse("invalid_request", "code_challenge is missing or malformed");
    };
    let ticket = Ticket {
        redirect: redirect.clone(),
        state: state.to_owned(),
        consent: Consent {
            redirect_uri: redirect_uri.to_owned(),
            challenge: challenge.to_owned(),
            scopes: scopes_of(field("scope").unwrap_or_default()),
        },
        expires: shared.seam.clock.now().plus(TICKET_LIFETIME),
    };
    let auto = match field("auto") {
        Some("approve") => Some(Decision::Approve),
        Some("deny") => Some(Decision::Deny),
        _ => shared.book().conduct.auto,
    };
    if let Some(decision) = auto {
        return answer(&shared, ticket, decision);
    }
    let page_scopes = ticket.consent.scopes.clone();
    let Some(name) = keep_ticket(&shared, ticket) else {
        return refuse("temporarily_unavailable", "too many consents are open");
    };
    let html = authorization_page::consent(&shared.client_id, &page_scopes, &name);
    ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

fn keep_ticket(shared: &Shared, ticket: Ticket) -> Option<String> {
    let now = shared.seam.clock.now();
    let mut book = shared.book();
    book.tickets.retain(|_, ticket| ticket.expires > now);
    if book.tickets.len() >= TICKETS {
        return None;
    }
    let name = random_value(&shared.seam)?;
    book.tickets.insert(name.clone(), ticket);
    Some(name)
}

async fn decide(State(shared): State<Arc<Shared>>, body: bytes::Bytes) -> Response {
    let fields = fields(&body).unwrap_or_default();
    let decision = match fields.get("decision").map(String::as_str) {
        Some("approve") => Decision::Approve,
        Some("deny") => Decision::Deny,
        _ => return bad_page("The decision must be approve or deny."),
    };
    let now = shared.seam.clock.now();
    let name = fields.get("ticket").map_or("", String::as_str);
    let ticket = shared.book().tickets.remove(name).filter(|ticket| ticket.expires > now);
    match ticket {
        Some(ticket) => answer(&shared, ticket, decision),
        None => bad_page("This consent is not open any more. Start again."),
    }
}

/// Sends the browser back with the decision.
fn answer(shared: &Shared, ticket: Ticket, decision: Decision) -> Response {
    let mut book = shared.book();
    let issuer = book
        .conduct
        .announce_issuer
        .then(|| book.conduct.false_issuer.clone().unwrap_or_else(|| shared.issuer.clone()));
    let mut consent = ticket.consent;
    if let Some(granted) = &book.conduct.grant_only {
        consent.scopes.retain(|scope| granted.contains(scope));
    }
    let outcome = match decision {
        Decision::Deny => ("error", "access_denied".to_owned()),
        Decision::Approve => match book.grants.issue_code(&shared.seam, consent) {
            Some(code) => ("code", code),
            None => ("error", "temporarily_unavailable".to_owned()),
        },
    };
    let mut redirect = ticket.redirect;
    redirect
        .query_pairs_mut()
        .append_pair(outcome.0, &outcome.1)
        .append_pair("state", &ticket.state)
        .extend_pairs(issuer.map(|issuer| ("iss", issuer)));
    redirect_to(&redirect)
}

fn refused(status: StatusCode, refusal: Refusal) -> Response {
    let body = json!({ "error": refusal.error, "error_description": refusal.description });
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

fn failing(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    refused(status, Refusal { error: "server_error", description: "told to fail" })
}

/// What to answer where the request is not the client's: HTTP Basic or the form, not both (RFC 6749, section 2.3.1).
fn refuse_stranger(shared: &Shared, headers: &HeaderMap, fields: &Fields) -> Option<Response> {
    let from_form = fields
        .get("client_secret")
        .map(|secret| (fields.get("client_id").cloned().unwrap_or_default(), secret.clone()));
    let from_header = headers.get(header::AUTHORIZATION).map(|value| {
        let decode = |text: &str| {
            let decoded = STANDARD.decode(text.strip_prefix("Basic ")?).ok()?;
            let pair = String::from_utf8(decoded).ok()?;
            let (id, secret) = pair.split_once(':')?;
            Some((percent_decoded(id), percent_decoded(secret)))
        };
        value.to_str().ok().and_then(decode).unwrap_or_default()
    });
    let (given, by_header) = match (from_form, from_header) {
        (Some(_), Some(_)) => {
            let description = "the client must authenticate in one way only";
            let refusal = Refusal { error: "invalid_request", description };
            return Some(refused(StatusCode::BAD_REQUEST, refusal));
        }
        (Some(form), None) => (form, false),
        (None, Some(header)) => (header, true),
        (None, None) => (<(String, String)>::default(), false),
    };
    if given == (shared.client_id.clone(), shared.client_secret.clone()) {
        return None;
    }
    let refusal = Refusal { error: "invalid_client", description: "unknown client or bad secret" };
    let mut response = refused(StatusCode::UNAUTHORIZED, refusal);
    if by_header {
        let challenge = header::HeaderValue::from_static("Basic realm=\"development\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    Some(response)
}

/// The form encoding that RFC 6749 asks for within HTTP Basic.
fn percent_decoded(text: &str) -> String {
    let pair = format!("v={text}");
    let decoded = form_urlencoded::parse(pair.as_bytes()).next();
    decoded.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Response {
    let (delay, failure) = {
        let mut book = shared.book();
        book.token_requests += 1;
        (book.conduct.token_delay, book.conduct.token_failures.pop_front())
    };
    if !delay.is_zero() {
        shared.seam.clock.sleep(delay).await;
    }
    if let Some(status) = failure {
        return failing(status);
    }
    let Some(fields) = fields(&body) else {
        let refusal = Refusal { error: "invalid_request", description: "a field stands twice" };
        return refused(StatusCode::BAD_REQUEST, refusal);
    };
    if let Some(response) = refuse_stranger(&shared, &headers, &fields) {
        return response;
    }
    let (issued, conduct) = {
        let mut book = shared.book();
        let conduct = book.conduct.clone();
        book.conduct.lost_token_answers = conduct.lost_token_answers.saturating_sub(1);
        (issue(&mut book.grants, &shared.seam, &fields, &conduct), conduct)
    };
    if !conduct.token_answer_delay.is_zero() {
        shared.seam.clock.sleep(conduct.token_answer_delay).await;
    }
    if conduct.lost_token_answers > 0 {
        return failing(503);
    }
    match issued {
        Ok(pair) => token_answer(&pair, &conduct),
        Err(refusal) => refused(StatusCode::BAD_REQUEST, refusal),
    }
}

fn issue(
    grants: &mut Grants,
    seam: &Seam,
    fields: &Fields,
    conduct: &Conduct,
) -> Result<Pair, Refusal> {
    let missing = Refusal { error: "invalid_request", description: "a field is missing" };
    let field = |name: &str| fields.get(name).map(String::as_str).ok_or(missing);
    let lifetime = conduct.access_token_lifetime;
    match field("grant_type")? {
        "authorization_code" => {
            let (code, redirect) = (field("code")?, field("redirect_uri")?);
            let (verifier, with_refresh) = (field("code_verifier")?, conduct.issue_refresh_tokens);
            let pair = grants.redeem(seam, code, redirect, verifier, lifetime, with_refresh)?;
            Ok(if conduct.repeat_refresh_token { grants.repeated(pair) } else { pair })
        }
        "refresh_token" => {
            let asked = fields.get("scope").map(|scope| scopes_of(scope));
            let token = field("refresh_token")?;
            let resilient = conduct.resilient_refresh;
            let mut pair = grants.refresh(seam, token, asked.as_deref(), lifetime, resilient)?;
            if let Some(narrowed) = &conduct.narrow_refresh {
                pair.scopes.retain(|scope| narrowed.contains(scope));
            }
            Ok(pair)
        }
        "client_credentials" => {
            let mut scopes = scopes_of(fields.get("scope").map_or("", String::as_str));
            if let Some(granted) = &conduct.grant_only {
                scopes.retain(|scope| granted.contains(scope));
            }
            grants.issue_to_client(seam, scopes, lifetime)
        }
        _ => Err(Refusal {
            error: "unsupported_grant_type",
            description: "authorization_code, refresh_token and client_credentials are known",
        }),
    }
}

fn token_answer(pair: &Pair, conduct: &Conduct) -> Response {
    let mut body = json!({
        "access_token": pair.access,
        "token_type": "Bearer",
        "expires_in": conduct.access_token_lifetime.as_secs(),
    });
    if let Some(refresh) = &pair.refresh {
        body["refresh_token"] = json!(refresh);
    }
    if !conduct.omit_scope {
        body["scope"] = json!(pair.scopes.join(" "));
    }
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

async fn revoke(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Response {
    let (delay, failure) = {
        let mut book = shared.book();
        book.revocation_requests += 1;
        (book.conduct.revocation_delay, book.conduct.revocation_failures.pop_front())
    };
    if !delay.is_zero() {
        shared.seam.clock.sleep(delay).await;
    }
    if let Some(status) = failure {
        return failing(status);
    }
    let fields = fields(&body).unwrap_or_default();
    if let Some(response) = refuse_stranger(&shared, &headers, &fields) {
        return response;
    }
    let Some(token) = fields.get("token") else {
        let refusal = Refusal { error: "invalid_request", description: "token is missing" };
        return refused(StatusCode::BAD_REQUEST, refusal);
    };
    // An unknown token is revoked already (RFC 7009, section 2.2).
    shared.book().grants.revoke(token);
    StatusCode::OK.into_response()
}

/// The live token that a request carries, with the scheme of either family of servers.
fn bearer(shared: &Shared, headers: &HeaderMap) -> Option<IssuedToken> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let known = ["bearer", "zoho-oauthtoken"];
    if !known.contains(&scheme.to_ascii_lowercase().as_str()) {
        return None;
    }
    shared.book().grants.live(token, shared.seam.clock.now()).cloned()
}

fn unauthorized() -> Response {
    let body = json!({ "errorCode": "INVALID_OAUTH", "message": "The OAuth token is invalid." });
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
    (StatusCode::UNAUTHORIZED, challenge, axum::Json(body)).into_response()
}

async fn who_am_i(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match bearer(&shared, &headers) {
        Some(token) => axum::Json(json!({
            "clientId": shared.client_id,
            "scope": token.scopes,
            "consent": token.family,
        }))
        .into_response(),
        None => unauthorized(),
    }
}

async fn api(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let token = bearer(&shared, &parts.headers);
    let failure = shared.book().conduct.api_failures.pop_front();
    let response = match (failure, &token) {
        (Some(status), _) => failing(status),
        (None, None) => unauthorized(),
        (None, Some(token)) => api_answer(&parts, &body, token),
    };
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    let call = ApiCall {
        method: parts.method.to_string(),
        path_and_query: parts.uri.to_string(),
        headers: headers.collect(),
        body,
        authorized: token.is_some(),
        status: response.status().as_u16(),
    };
    let mut book = shared.book();
    if book.calls.len() >= CALLS {
        book.calls.pop_front();
    }
    book.calls.push_back(call);
    drop(book);
    response
}

/// Headers as they came; the token among them, as careless services do.
fn said_back(headers: &axum::http::HeaderMap) -> serde_json::Map<String, serde_json::Value> {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect()
}

/// A ticket by its id; anything else is said back.
fn api_answer(parts: &axum::http::request::Parts, body: &[u8], token: &IssuedToken) -> Response {
    let path = parts.uri.path();
    let ticket = path.strip_prefix("/api/v1/tickets/").filter(|id| !id.contains('/'));
    let answer = match ticket {
        Some(id) if parts.method == axum::http::Method::GET => json!({
            "id": id,
            "ticketNumber": "101",
            "subject": "The projector in room 4 stays dark",
            "status": "Open",
            "statusType": "Open",
            "channel": "Email",
        }),
        _ => json!({
            "method": parts.method.as_str(),
            "path": path,
            "query": parts.uri.query(),
            "headers": said_back(&parts.headers),
            "body": String::from_utf8_lossy(body),
            "scope": token.scopes,
        }),
    };
    axum::Json(answer).into_response()
}
