//! The way in, by a one-time link or a token, and the way out.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};

use super::{back_to, page, page_with};
use crate::api::page_sessions::{
    PageSecret, PageSession, SessionView, Whose, begin_by_token, end_all, end_session, list,
    look_at_link, use_link,
};
use crate::api::token_store::TokenValue;
use crate::api::{Problem, Role};
use crate::web::Pages;
use crate::web::frame::cookie;
use crate::web::parts::Moment;
use crate::web::shell::Shell;
use crate::web::trouble::Trouble;
use crate::web::visit::{Part, Sent, Visit};
use crate::web::words;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    shell: Shell,
    next: String,
    fault: &'static str,
}

#[derive(Template)]
#[template(path = "portal.html")]
struct Portal {
    shell: Shell,
    /// As whom; nobody where the link does not work any more.
    who: Option<PortalVisitor>,
    path: String,
}

struct PortalVisitor {
    name: String,
    role: &'static str,
    place: String,
}

/// `/` leads to the pages, or to the sign-in before them.
pub(in crate::web) async fn root(visit: Visit) -> Redirect {
    Redirect::to(if visit.visitor.is_some() { "/pages" } else { "/sign-in" })
}

/// Asks for a token.
pub(in crate::web) async fn ask(visit: Visit) -> Result<Response, Trouble> {
    if visit.visitor.is_some() && visit.parameter("done").is_empty() {
        return Ok(Redirect::to("/pages").into_response());
    }
    page(&SignIn { shell: visit.shell("Sign in"), next: visit.parameter("next"), fault: "" })
}

/// A path of ours to go on to; the first page for everything else.
fn ours(next: &str) -> &str {
    let is_ours = (next == "/pages"
        || next.strip_prefix("/pages").is_some_and(|rest| rest.starts_with(['/', '?'])))
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours { next } else { "/pages" }
}

/// Lets a session in: its cookie, and on to where its holder wanted to go.
fn enter(pages: &Pages, secret: &PageSecret, session: &PageSession, next: &str) -> Response {
    let now = pages.state().seam().clock.now();
    let seconds = session.expires_at.since(now).as_secs();
    let mut response = Redirect::to(ours(next)).into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie(pages, Some(secret), seconds)) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

/// Begins a session by a token.
pub(in crate::web) async fn by_token(
    State(pages): State<Pages>,
    visit: Visit,
    Sent(form): Sent,
) -> Result<Response, Trouble> {
    let state = pages.state();
    let record = match TokenValue::parse(form.text("token")) {
        Some(value) => state.authenticator().find(&value).await?,
        None => None,
    };
    let fault = match &record {
        None => "This token is unknown, expired or revoked.",
        Some(record) if matches!(record.role, Role::Host | Role::Marketplace) => {
            "Tokens of a host or marketplace have no pages. Make a portal link with it instead \
             (POST /api/v1/portal-links)."
        }
        Some(_) => "",
    };
    let Some(record) = record.filter(|_| fault.is_empty()) else {
        let next = form.text("next").to_owned();
        let template = SignIn { shell: visit.shell("Sign in"), next, fault };
        return page_with(StatusCode::UNPROCESSABLE_ENTITY, &template);
    };
    let (secret, session) = begin_by_token(state.store(), state.seam(), &record, visit.address)
        .await
        .map_err(Problem::from)?;
    Ok(enter(&pages, &secret, &session, form.text("next")))
}

/// A one-time link: looking at it does not use it up.
pub(in crate::web) async fn link(
    State(pages): State<Pages>,
    visit: Visit,
    Part(secret): Part<String>,
) -> Result<Response, Trouble> {
    let state = pages.state();
    let found = match PageSecret::parse(&secret) {
        Some(secret) => look_at_link(state.store(), &secret, state.seam().clock.now()).await?,
        None => None,
    };
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::GONE };
    let who = found.map(|seen| PortalVisitor {
        name: seen.display_name.or(seen.subject).unwrap_or_default(),
        role: words::role(seen.role),
        place: seen
            .org
            .map(String::from)
            .or_else(|| seen.vendor.map(String::from))
            .unwrap_or_default(),
    });
    let shell = Shell::new(&pages, None, "Open the pages".to_owned(), &visit.path);
    page_with(status, &Portal { shell, who, path: visit.path })
}

/// Uses a one-time link up.
pub(in crate::web) async fn by_link(
    State(pages): State<Pages>,
    visit: Visit,
    Part(secret): Part<String>,
) -> Result<Response, Trouble> {
    let state = pages.state();
    let begun = match PageSecret::parse(&secret) {
        Some(secret) => use_link(state.store(), state.seam(), &secret, visit.address)
            .await
            .map_err(Problem::from)?,
        None => None,
    };
    if let Some((secret, session)) = begun {
        return Ok(enter(&pages, &secret, &session, "/pages"));
    }
    let shell = Shell::new(&pages, None, "Open the pages".to_owned(), &visit.path);
    page_with(StatusCode::GONE, &Portal { shell, who: None, path: visit.path })
}

/// How many sessions of one person his page lists.
const LISTED: u64 = 50;

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    shell: Shell,
    name: String,
    role: &'static str,
    place: String,
    /// What the token that was pasted is narrowed to.
    scopes: String,
    by_token: bool,
    sessions: Vec<SessionRow>,
}

struct SessionRow {
    began: Moment,
    expires: Moment,
    is_this: bool,
}

/// Who one is here, and where one is signed in.
pub(in crate::web) async fn own(
    State(pages): State<Pages>,
    visit: Visit,
) -> Result<Response, Trouble> {
    let state = pages.state();
    let session = &visit.visitor()?.session;
    let now = state.seam().clock.now();
    let found = list(state.store(), &Whose::of(session), now, LISTED).await?;
    let row = |view: SessionView| SessionRow {
        began: Moment::parse(&view.began.rfc3339()),
        expires: Moment::parse(&view.expires_at.rfc3339()),
        is_this: view.id == session.id,
    };
    let seen = &session.visitor;
    let place = seen.org.as_ref().map(ToString::to_string);
    let place = place.or_else(|| seen.vendor.as_ref().map(ToString::to_string));
    let name = seen.display_name.clone().or_else(|| seen.subject.clone());
    page(&SessionPage {
        shell: visit.shell("Your session"),
        name: name.unwrap_or_else(|| "token".to_owned()),
        role: words::role(seen.role),
        place: place.unwrap_or_default(),
        scopes: seen.scopes.as_ref().map(ToString::to_string).unwrap_or_default(),
        by_token: seen.subject.is_none(),
        sessions: found.into_iter().map(row).collect(),
    })
}

/// Ends every session of whoever asks, and calls off links that he has not used.
pub(in crate::web) async fn out_everywhere(
    State(pages): State<Pages>,
    visit: Visit,
) -> Result<Response, Trouble> {
    let state = pages.state();
    let visitor = visit.visitor()?;
    let work = state.store().begin().await?;
    let whose = Whose::of(&visitor.session);
    end_all(&work, state.seam(), &whose, &visitor.actor()).await.map_err(Problem::from)?;
    let _no_routing = work.commit(state.seam().clock.now()).await?;
    Ok(left(&pages, "signed-out-everywhere"))
}

/// Leads somebody out whose session has ended.
fn left(pages: &Pages, done: &str) -> Response {
    let mut response = back_to("/sign-in", done);
    if let Ok(value) = HeaderValue::from_str(&cookie(pages, None, 0)) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

/// Ends the session.
pub(in crate::web) async fn out(
    State(pages): State<Pages>,
    visit: Visit,
) -> Result<Response, Trouble> {
    let state = pages.state();
    let visitor = visit.visitor()?;
    end_session(state.store(), state.seam(), &visitor.session, visitor.address).await?;
    Ok(left(&pages, "signed-out"))
}

#[cfg(test)]
mod tests {
    use super::ours;

    #[test]
    fn nobody_is_led_elsewhere() {
        for (next, to) in [
            ("/pages", "/pages"),
            ("/pages/webhooks/1?state=failed", "/pages/webhooks/1?state=failed"),
            ("/pages?done=x", "/pages?done=x"),
            ("", "/pages"),
            ("//evil.example", "/pages"),
            ("https://evil.example", "/pages"),
            ("/pagesx", "/pages"),
            ("/pages/\\evil", "/pages"),
            ("/pages/\r\nSet-Cookie: a=b", "/pages"),
        ] {
            assert_eq!(ours(next), to, "{next}");
        }
    }
}
