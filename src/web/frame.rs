//! What stands around every page: who looks, whether the page exists for him, forms that nobody
//! else can send, headers, and errors in words.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::FutureExt;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::form::Form;
use super::routes::{Brings, Gate, Visitors};
use super::trouble::Trouble;
use super::visit::{Visit, Visitor};
use super::{Pages, pages};
use crate::api::correlation::CorrelationId;
use crate::api::page_sessions::{PageSecret, find_session};
use crate::api::{ClientAddress, Problem, RawBody};
use crate::config::Origin;

/// The largest form, but for one with a package in it, in bytes.
const LARGEST_FORM: usize = 512 << 10;

/// The largest form of somebody without a session, in bytes.
const LARGEST_OPEN_FORM: usize = 8 << 10;

/// The room for the other parts of a form with a package in it, in bytes.
const BESIDE_PACKAGE: usize = 1 << 16;

/// What the pages may load and who may show them. Nothing inline, nothing from elsewhere.
pub(super) fn content_security_policy(ancestors: &[Origin]) -> HeaderValue {
    let ancestors = if ancestors.is_empty() {
        "'none'".to_owned()
    } else {
        ancestors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|error| {
        tracing::error!(%error, "pages.frame_ancestors cannot be said in a header");
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")
    })
}

/// The name of the cookie: with the prefix that has browsers hold it to this host and TLS, where
/// there is TLS.
pub(super) fn cookie_name(pages: &Pages) -> &'static str {
    if pages.is_behind_tls() { "__Host-mortise-session" } else { "mortise-session" }
}

/// The value of `Set-Cookie` for a session, or for its end where there is none.
pub(super) fn cookie(pages: &Pages, secret: Option<&PageSecret>, seconds: u64) -> String {
    let name = cookie_name(pages);
    let value = secret.map_or("", PageSecret::expose);
    let reach = match (pages.is_behind_tls(), pages.is_framed()) {
        // In a frame of another site a cookie travels only so, and is kept apart by that site.
        (true, true) => "; Secure; SameSite=None; Partitioned",
        (true, false) => "; Secure; SameSite=Lax",
        (false, _) => "; SameSite=Lax",
    };
    format!("{name}={value}; Path=/; HttpOnly{reach}; Max-Age={seconds}")
}

fn cookie_of(pages: &Pages, headers: &HeaderMap) -> Option<PageSecret> {
    let name = cookie_name(pages);
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| PageSecret::parse(value))
}

/// Lets a request in: finds its session, asks whether the page exists for it, checks forms.
pub(super) async fn enter(
    State((pages, gate)): State<(Pages, Gate)>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers().clone();
    let path = request.uri().path().to_owned();
    let address = ClientAddress::of(request.extensions());
    let id = request.extensions().get::<CorrelationId>().cloned();
    let visitor = match find_visitor(&pages, &headers, address).await {
        Ok(visitor) => visitor,
        Err(trouble) => return finish(&pages, None, id.as_ref(), trouble.into_response()),
    };
    let answered = async {
        match admit(&pages, gate, visitor.as_ref(), request).await {
            Ok(request) => next.run(request).await,
            Err(Refusal(response)) => *response,
        }
    };
    let response = match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            tracing::error!(path, panic = text.unwrap_or("no message"), "a page panicked");
            Trouble::internal(&"it panicked").into_response()
        }
    };
    finish(&pages, visitor.as_ref(), id.as_ref(), response)
}

async fn find_visitor(
    pages: &Pages,
    headers: &HeaderMap,
    address: Option<IpAddr>,
) -> Result<Option<Visitor>, Trouble> {
    let Some(secret) = cookie_of(pages, headers) else { return Ok(None) };
    let state = pages.state();
    let session = find_session(state.store(), &secret, state.seam().clock.now()).await?;
    Ok(session.map(|session| Visitor {
        session: Arc::new(session),
        form_token: secret.form_token().into(),
        address,
    }))
}

/// Why a request does not come in: an answer already.
struct Refusal(Box<Response>);

fn refuse(trouble: Trouble) -> Refusal {
    Refusal(Box::new(trouble.into_response()))
}

async fn admit(
    pages: &Pages,
    gate: Gate,
    visitor: Option<&Visitor>,
    mut request: Request,
) -> Result<Request, Refusal> {
    match (gate.visitors, visitor) {
        (Visitors::Everybody, _) => {}
        (Visitors::Roles(_), None) => return Err(Refusal(Box::new(sign_in_first(&request)))),
        (Visitors::Roles(roles), Some(visitor)) => {
            if !roles.contains(&visitor.session.visitor.role) {
                return Err(refuse(Trouble::not_found()));
            }
        }
    }
    if request.method() == Method::POST {
        request = read_form(pages, gate, visitor, request).await?;
    }
    let visit = Visit::new(pages.clone(), visitor.cloned(), &request);
    request.extensions_mut().insert(visit);
    Ok(request)
}

/// Sends a browser to the sign-in, which leads back to where it wanted to go.
fn sign_in_first(request: &Request) -> Response {
    if request.method() != Method::GET {
        return Trouble::new(
            StatusCode::UNAUTHORIZED,
            "Your session has ended",
            "Sign in again. What you sent was not carried out.",
        )
        .into_response();
    }
    let wanted = request.uri().path_and_query().map_or("/pages", |path| path.as_str());
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("next", wanted);
    Redirect::to(&format!("/sign-in?{}", query.finish())).into_response()
}

/// Reads a form and holds it to having been sent by a page of ours, in this session.
async fn read_form(
    pages: &Pages,
    gate: Gate,
    visitor: Option<&Visitor>,
    request: Request,
) -> Result<Request, Refusal> {
    let visitors = gate.visitors;
    let forged = || {
        refuse(Trouble::new(
            StatusCode::FORBIDDEN,
            "The form is not valid any more",
            "It was made in another session, or not by a page of this server. Go back, load the \
             page again and repeat what you did. Nothing was changed.",
        ))
    };
    let is_ours = comes_from_us(pages, request.headers());
    // A browser says where a form comes from. One without a session has no token, so it must.
    if is_ours == Some(false) || (visitors == Visitors::Everybody && is_ours.is_none()) {
        return Err(forged());
    }
    let (parts, body) = request.into_parts();
    let (limit, _turn) = match gate.brings {
        Brings::Little => (LARGEST_OPEN_FORM, None),
        Brings::Fields => (LARGEST_FORM, None),
        Brings::Package => {
            let turn = Arc::clone(&pages.inner.packages).try_acquire_owned().map_err(|_| {
                refuse(Trouble::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Several packages are being read right now",
                    "Go back and send yours again in a moment. Nothing was stored.",
                ))
            })?;
            (pages.state().config().limits.package_bytes + BESIDE_PACKAGE, Some(turn))
        }
    };
    let body = RawBody::from(Request::from_parts(parts.clone(), body));
    let body = body.read(limit).await.map_err(|problem| refuse(problem.into()))?;
    let form = Form::read(&parts.headers, &body).map_err(|unreadable| {
        refuse(Trouble::new(
            StatusCode::BAD_REQUEST,
            "The form is not readable",
            &unreadable.to_string(),
        ))
    })?;
    if let Some(visitor) = visitor
        && visitors != Visitors::Everybody
    {
        let sent = form.text("csrf").as_bytes();
        let wanted = visitor.form_token.as_bytes();
        if aws_lc_rs::constant_time::verify_slices_are_equal(sent, wanted).is_err() {
            return Err(forged());
        }
    }
    let mut request = Request::from_parts(parts, axum::body::Body::empty());
    request.extensions_mut().insert(Arc::new(form));
    Ok(request)
}

/// Whether the browser says that a page of ours made the request; nothing where it says nothing.
fn comes_from_us(pages: &Pages, headers: &HeaderMap) -> Option<bool> {
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or_default();
    if origin == pages.state().origin() {
        return Some(true);
    }
    // Behind another name for this server, such as `localhost`: a foreign page cannot say it.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let named = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    Some(named == Some(host) && !host.is_empty())
}

/// Writes troubles as pages, and adds the headers that every page has.
fn finish(
    pages: &Pages,
    visitor: Option<&Visitor>,
    id: Option<&CorrelationId>,
    mut response: Response,
) -> Response {
    if let Some(mut trouble) = response.extensions_mut().remove::<Trouble>() {
        // The one that the answer's header says, and the log.
        trouble.correlation_id = id.map(|id| id.as_str().to_owned());
        response = pages::trouble::page(pages, visitor, &trouble);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, pages.inner.policy.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: browsers would say `Origin: null` with our own forms.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    );
    if !pages.is_framed() {
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
    // What belongs to a session is in no cache, not even after signing out. Only what has its
    // digest in its name is.
    let is_for_ever = |value: &HeaderValue| value.as_bytes().ends_with(b"immutable");
    if !headers.get(CACHE_CONTROL).is_some_and(is_for_ever) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether whoever asks wants to read, rather than to compute.
fn wants_a_page(headers: &HeaderMap, path: &str) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/html") && !path.starts_with("/api/")
}

/// What is no path of the pages: for people in words, else as the API says it.
pub(super) async fn nothing_here(State(pages): State<Pages>, request: Request) -> Response {
    if !wants_a_page(request.headers(), request.uri().path()) {
        return Problem::new(crate::api::Code::UrlNotFound).into_response();
    }
    let visitor = find_visitor(&pages, request.headers(), None).await.unwrap_or_default();
    let id = request.extensions().get::<CorrelationId>().cloned();
    finish(&pages, visitor.as_ref(), id.as_ref(), Trouble::not_found().into_response())
}

/// A path of the pages, asked for in a way that it does not take; the router adds `Allow`.
pub(super) async fn other_methods(State(pages): State<Pages>, request: Request) -> Response {
    if !wants_a_page(request.headers(), request.uri().path()) {
        return Problem::new(crate::api::Code::MethodNotAllowed).into_response();
    }
    let visitor = find_visitor(&pages, request.headers(), None).await.unwrap_or_default();
    let id = request.extensions().get::<CorrelationId>().cloned();
    let trouble = Trouble::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "This is no page to look at",
        "It is what a form of these pages leads to. Go back to the page with the form.",
    );
    finish(&pages, visitor.as_ref(), id.as_ref(), trouble.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_show_the_pages_but_whom_the_operator_names() {
        let text =
            |ancestors: &[Origin]| content_security_policy(ancestors).to_str().unwrap().to_owned();
        assert!(text(&[]).ends_with("frame-ancestors 'none'"));
        let desk: Origin = "https://desk.example".parse().unwrap();
        let policy = text(&[desk]);
        assert!(policy.ends_with("frame-ancestors https://desk.example"), "{policy}");
        for word in ["unsafe", "*", "data:", "http:"] {
            assert!(!policy.contains(word), "{policy}");
        }
    }

    #[test]
    fn a_page_is_for_readers_and_never_for_the_api() {
        let mut headers = HeaderMap::new();
        assert!(!wants_a_page(&headers, "/nowhere"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,*/*;q=0.8"));
        assert!(wants_a_page(&headers, "/nowhere") && !wants_a_page(&headers, "/api/v1/x"));
    }
}
