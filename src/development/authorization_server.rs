//! A development authorisation server (OAuth 2.0 with PKCE) that also plays the host's API.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::{Url, form_urlencoded};

use super::grants::{Consent, Grants, IssuedToken, Pair, Refusal, random_value};
use super::{Background, Decision, DevelopmentError, authorization_page};
use crate::seam::{Seam, Timestamp};

/// The most bytes of a request's body.
const BODY_LIMIT: usize = 1 << 20;
/// The most calls to the API that are remembered.
const CALLS: usize = 10_000;
/// The most consent pages that wait for an answer, and for how long.
const TICKETS: usize = 1_000;
const TICKET_LIFETIME: Duration = Duration::from_mins(10);

/// How a development authorisation server is set up.
#[derive(Clone, Debug)]
pub struct DevelopmentAuthorizationServerOptions {
    /// Clock and randomness.
    pub seam: Seam,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The one client's id.
    pub client_id: String,
    /// The one client's secret.
    pub client_secret: String,
    /// Where answers may be sent; where there is none yet, none can be.
    pub redirect_uris: Vec<String>,
}

impl Default for DevelopmentAuthorizationServerOptions {
    fn default() -> Self {
        Self {
            seam: Seam::default(),
            port: 0,
            client_id: "mortise-development".to_owned(),
            client_secret: "development-client-secret".to_owned(),
            redirect_uris: Vec::new(),
        }
    }
}

/// How the server behaves; can be changed while it runs.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// Answer the consent page without asking.
    pub auto: Option<Decision>,
    /// Grant at most these scopes, whatever was asked for.
    pub grant_only: Option<Vec<String>>,
    /// Leave `scope` out of token answers, which means "as asked".
    pub omit_scope: bool,
    /// Say `iss` in the authorisation answer (RFC 9207).
    pub announce_issuer: bool,
    /// Say this `iss` and not the true one.
    pub false_issuer: Option<String>,
    /// Hand out refresh tokens.
    pub issue_refresh_tokens: bool,
    /// How long access tokens live.
    pub access_token_lifetime: Duration,
    /// How long the token endpoint thinks before it does anything.
    pub token_delay: Duration,
    /// How long the token endpoint thinks after it has issued tokens and before it answers.
    pub token_answer_delay: Duration,
    /// The next requests to the token endpoint fail with these statuses.
    pub token_failures: VecDeque<u16>,
    /// The next requests to the revocation endpoint fail with these statuses.
    pub revocation_failures: VecDeque<u16>,
    /// The API answers these statuses next, whatever the token.
    pub api_failures: VecDeque<u16>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            auto: None,
            grant_only: None,
            omit_scope: false,
            announce_issuer: true,
            false_issuer: None,
            issue_refresh_tokens: true,
            access_token_lifetime: Duration::from_hours(1),
            token_delay: Duration::ZERO,
            token_answer_delay: Duration::ZERO,
            token_failures: VecDeque::new(),
            revocation_failures: VecDeque::new(),
            api_failures: VecDeque::new(),
        }
    }
}

/// A call to the API that the server plays.
#[derive(Clone, Debug)]
pub struct ApiCall {
    /// The method.
    pub method: String,
    /// Path and query as they came.
    pub path_and_query: String,
    /// The headers, in the order of HTTP's own map.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: bytes::Bytes,
    /// Whether a live token came with it.
    pub authorized: bool,
    /// The status that was answered.
    pub status: u16,
}

struct Ticket {
    redirect: Url,
    state: String,
    consent: Consent,
    expires: Timestamp,
}

#[derive(Default)]
struct Book {
    grants: Grants,
    tickets: HashMap<String, Ticket>,
    redirect_uris: Vec<String>,
    conduct: Conduct,
    calls: VecDeque<ApiCall>,
    token_requests: u64,
    revocation_requests: u64,
}

struct Shared {
    seam: Seam,
    issuer: String,
    client_id: String,
    client_secret: String,
    book: Mutex<Book>,
}

impl Shared {
    /// The book; a panic elsewhere leaves it as it was, which is good enough to go on.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running development authorisation server; it stops when this is dropped.
pub struct DevelopmentAuthorizationServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    background: Background,
}

impl std::fmt::Debug for DevelopmentAuthorizationServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DevelopmentAuthorizationServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl DevelopmentAuthorizationServer {
    /// Starts the server on the loopback interface.
    pub async fn start(
        options: DevelopmentAuthorizationServerOptions,
    ) -> Result<Self, DevelopmentError> {
        let (listener, address) = super::listen(options.port).await?;
        let shared = Arc::new(Shared {
            seam: options.seam,
            issuer: format!("http://{address}"),
            client_id: options.client_id,
            client_secret: options.client_secret,
            book: Mutex::new(Book { redirect_uris: options.redirect_uris, ..Book::default() }),
        });
        let stop = CancellationToken::new();
        let router = router(Arc::clone(&shared));
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await
            {
                tracing::error!(%error, "the development authorisation server stopped");
            }
        });
        Ok(Self { address, shared, background: Background::new(stop, task) })
    }

    /// Stops the server and waits until its connections are closed.
    pub async fn stop(mut self) {
        self.background.stop().await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its issuer identifier, which is its origin and the origin of the API that it plays.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// The authorisation endpoint.
    pub fn authorize_url(&self) -> String {
        format!("{}/authorize", self.shared.issuer)
    }

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.shared.issuer)
    }

    /// The revocation endpoint.
    pub fn revoke_url(&self) -> String {
        format!("{}/revoke", self.shared.issuer)
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.shared.client_id
    }

    /// The client's secret.
    pub fn client_secret(&self) -> &str {
        &self.shared.client_secret
    }

    /// Lets answers go to one more address.
    pub fn register_redirect_uri(&self, uri: impl Into<String>) {
        self.shared.book().redirect_uris.push(uri.into());
    }

    /// Changes how the server behaves from now on.
    pub fn conduct(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.shared.book().conduct);
    }

    /// Whether a token could be used now.
    pub fn is_live(&self, token: &str) -> bool {
        self.shared.book().grants.live(token, self.shared.seam.clock.now()).is_some()
    }

    /// All tokens that were issued, in order.
    pub fn issued_tokens(&self) -> Vec<IssuedToken> {
        self.shared.book().grants.issued()
    }

    /// The tokens that could be used now, in the order of their issue.
    pub fn live_tokens(&self) -> Vec<IssuedToken> {
        let now = self.shared.seam.clock.now();
        let book = self.shared.book();
        let mut issued = book.grants.issued();
        issued.retain(|token| book.grants.live(&token.token, now).is_some());
        issued
    }

    /// Revokes every token, as a user does who withdraws the consent at the provider.
    pub fn revoke_all(&self) {
        self.shared.book().grants.revoke_all();
    }

    /// How many requests the token endpoint got.
    pub fn token_requests(&self) -> u64 {
        self.shared.book().token_requests
    }

    /// How many requests the revocation endpoint got.
    pub fn revocation_requests(&self) -> u64 {
        self.shared.book().revocation_requests
    }

    /// The calls that the API got, the oldest first; the last 10,000 are kept.
    pub fn api_calls(&self) -> Vec<ApiCall> {
        self.shared.book().calls.iter().cloned().collect()
    }
}

fn router(shared: Arc<Shared>) -> Router {
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
        (issue(&mut book.grants, &shared.seam, &fields, &conduct), conduct)
    };
    if !conduct.token_answer_delay.is_zero() {
        shared.seam.clock.sleep(conduct.token_answer_delay).await;
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
            let verifier = field("code_verifier")?;
            grants.redeem(seam, code, redirect, verifier, lifetime, conduct.issue_refresh_tokens)
        }
        "refresh_token" => {
            let asked = fields.get("scope").map(|scope| scopes_of(scope));
            grants.refresh(seam, field("refresh_token")?, asked.as_deref(), lifetime)
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
    let failure = {
        let mut book = shared.book();
        book.revocation_requests += 1;
        book.conduct.revocation_failures.pop_front()
    };
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
            "body": String::from_utf8_lossy(body),
            "scope": token.scopes,
        }),
    };
    axum::Json(answer).into_response()
}
