//! `/oauth/…`: a browser on its way to the authorisation server and back. What a person sees here
//! is a plain page in words.

use std::fmt::Display;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, REFERRER_POLICY,
    SET_COOKIE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;
use utoipa_axum::router::OpenApiRouter;

use super::client_address::ClientAddress;
use super::extract::{Path, Query};
use super::handler::routes;
use super::openapi::ApiRouter;
use super::problem::Problem;
use super::state::ApiState;
use crate::audit::Actor;
use crate::crypto::SecretText;
use crate::lifecycle::{BrowserReturn, LifecycleError, Returned};
use crate::oauth::OAuthError;

/// The beginning of the cookie's name; each browser flow has its own, so that two at a time do not
/// disturb each other.
const COOKIE_NAME: &str = "__Host-mortise-oauth";

/// How long the cookie lives, in seconds: as long as the state.
const COOKIE_LIFE: u32 = 600;

/// The longest parameter that is looked at.
pub(super) const LONGEST_PARAMETER: usize = 4_096;

/// The routes of the browser.
pub(super) fn router() -> ApiRouter {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(back)).routes(routes!(back_to_place))
}

/// Sends a browser on to an authorisation server, bound to its flow by a cookie.
pub(super) fn bound(authorization_url: &Url, flow: impl Display, value: &SecretText) -> Response {
    let value = value.expose();
    let cookie = format!(
        "{COOKIE_NAME}-{flow}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; \
         Max-Age={COOKIE_LIFE}"
    );
    let mut response = redirect(authorization_url);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Binds the browser and sends it on to the authorisation server. Works once.
#[utoipa::path(
    get, path = "/oauth/start/{nonce}", tag = "lifecycle", params(("nonce" = String, Path)),
    responses((status = 303, description = "On to the authorisation server"), (status = 410, description = "Used or expired"))
)]
async fn start(
    State(state): State<ApiState>,
    method: Method,
    Path(nonce): Path<String>,
) -> Result<Response, Problem> {
    if method == Method::HEAD {
        // Whoever only looks must not use the link up.
        return Ok(private(StatusCode::OK.into_response()));
    }
    match state.services()?.lifecycle.start_browser(&nonce).await {
        Ok(started) => Ok(bound(&started.authorization_url, &started.flow, &started.cookie)),
        Err(LifecycleError::OAuth(OAuthError::InvalidState)) => Ok(page(
            StatusCode::GONE,
            "This link was used or has expired",
            "Go back to the marketplace and start the authorisation again.",
        )),
        Err(error) => Err(error.into()),
    }
}

/// What an authorisation server sends back (RFC 6749 section 4.1.2, RFC 9207). Whatever else it
/// adds is not looked at.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(super) struct BackQuery {
    /// The code.
    #[serde(default)]
    pub(super) code: Option<String>,
    /// The state.
    #[serde(default)]
    pub(super) state: Option<String>,
    /// The issuer.
    #[serde(default)]
    pub(super) iss: Option<String>,
    /// What went wrong there.
    #[serde(default)]
    pub(super) error: Option<String>,
}

/// Takes a browser back from the authorisation server.
#[utoipa::path(
    get, path = "/oauth/callback", tag = "lifecycle", params(BackQuery),
    responses(
        (status = 200, description = "Authorised, said in words"),
        (status = 303, description = "On to the return address"),
        (status = 400, description = "Not authorised, said in words"),
    )
)]
async fn back(
    State(state): State<ApiState>,
    peer: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    Query(query): Query<BackQuery>,
) -> Result<Response, Problem> {
    take_back(&state, peer, &headers, query, None).await
}

/// Takes a browser back from an authorisation server that a manifest declares: each has a place of
/// its own, so that no server gets the code of another.
#[utoipa::path(
    get, path = "/oauth/callback/{place}", tag = "lifecycle",
    params(("place" = String, Path), BackQuery),
    responses(
        (status = 200, description = "Authorised, said in words"),
        (status = 303, description = "On to the return address"),
        (status = 400, description = "Not authorised, said in words"),
        (status = 422, description = "The state is not valid here, said in words"),
    )
)]
async fn back_to_place(
    State(state): State<ApiState>,
    peer: Option<Extension<ClientAddress>>,
    headers: HeaderMap,
    Path(place): Path<String>,
    Query(query): Query<BackQuery>,
) -> Result<Response, Problem> {
    take_back(&state, peer, &headers, query, Some(place)).await
}

async fn take_back(
    state: &ApiState,
    peer: Option<Extension<ClientAddress>>,
    headers: &HeaderMap,
    query: BackQuery,
    place: Option<String>,
) -> Result<Response, Problem> {
    let lifecycle = &state.services()?.lifecycle;
    let texts = [&query.code, &query.state, &query.iss, &query.error];
    if texts.into_iter().flatten().any(|text| text.len() > LONGEST_PARAMETER) {
        return Ok(page(StatusCode::BAD_REQUEST, "This address is not valid", AGAIN));
    }
    if let Some(error) = &query.error {
        let why = if error == "access_denied" {
            "The authorisation was declined. Nothing was changed."
        } else {
            "The authorisation server reported an error. Nothing was changed."
        };
        let return_url = match &query.state {
            Some(text) => lifecycle.return_url_of(text).await,
            None => None,
        };
        if let Some(mut url) = return_url {
            url.query_pairs_mut().append_pair("error", error);
            return Ok(redirect(&url));
        }
        return Ok(page(StatusCode::BAD_REQUEST, "Not authorised", why));
    }
    let (Some(code), Some(state_text)) = (query.code, query.state) else {
        return Ok(page(StatusCode::BAD_REQUEST, "This address is not valid", AGAIN));
    };
    let (issuer, cookies) = (query.iss, cookies(headers));
    let back = BrowserReturn { code, state: state_text, issuer, cookies, place };
    let actor = Actor {
        name: "browser".to_owned(),
        address: peer.map(|Extension(ClientAddress(address))| address),
    };
    // In a task of its own: a tab that is closed must not leave tokens that nobody knows of.
    let task = {
        let lifecycle = lifecycle.clone();
        tokio::spawn(async move { lifecycle.browser_returned(back, &actor).await })
    };
    match task.await.map_err(|error| Problem::internal(&error))? {
        Ok(Returned::Authorized { installation_id, connection, return_url: Some(mut url) }) => {
            url.query_pairs_mut()
                .append_pair("installationId", &installation_id.to_string())
                .append_pair("connection", &connection)
                .append_pair("state", "active");
            Ok(redirect(&url))
        }
        Ok(Returned::Authorized { return_url: None, .. }) => Ok(page(
            StatusCode::OK,
            "Authorised",
            "The extension is active. You can close this window.",
        )),
        Ok(Returned::HandedOver { return_url }) => Ok(redirect(&return_url)),
        Ok(Returned::Nowhere) => Ok(page(
            StatusCode::BAD_REQUEST,
            "This is not the browser that began",
            "Begin and finish the authorisation in the same browser. Nothing was changed.",
        )),
        Err(error) => said(error),
    }
}

const AGAIN: &str = "Go back to the marketplace and start the authorisation again.";

/// An error of the flow in words; what is ours stays a problem.
fn said(error: LifecycleError) -> Result<Response, Problem> {
    let problem = Problem::from(error);
    if problem.status().is_client_error() {
        return Ok(page(problem.status(), "Not authorised", problem.text()));
    }
    Err(problem)
}

/// The values of our cookies.
pub(super) fn cookies(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| name.starts_with(COOKIE_NAME))
        .map(|(_, value)| value.to_owned())
        .take(8)
        .collect()
}

pub(super) fn redirect(url: &Url) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    // A URL has no bytes that a header may not have.
    if let Ok(location) = HeaderValue::from_str(url.as_str()) {
        response.headers_mut().insert(LOCATION, location);
    }
    private(response)
}

/// Nothing of these answers is kept or told on: their addresses hold codes and states.
pub(super) fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

pub(super) fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let escape = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let (title, text) = (escape(title), escape(text));
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <body><main><h1>{title}</h1><p>{text}</p></main></body></html>"
    );
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    );
    private(response)
}
