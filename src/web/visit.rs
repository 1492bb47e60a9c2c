//! A visit: who looks, and how a page asks the API on his behalf.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::FromRequestParts;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

use super::Pages;
use super::answers::{EventType, List};
use super::form::Form;
use super::shell::Shell;
use super::trouble::Trouble;
use crate::api::access::{self, Admitted, Caller};
use crate::api::correlation::CorrelationId;
use crate::api::page_sessions::PageSession;
use crate::api::{ClientAddress, Role};
use crate::audit::Actor;
use crate::identifier::TokenId;

/// The largest answer of the API that a page takes, in bytes.
const LARGEST_ANSWER: usize = 64 << 20;

/// Somebody with a session.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) session: Arc<PageSession>,
    pub(super) form_token: Arc<str>,
    pub(super) address: Option<IpAddr>,
}

impl Visitor {
    /// As whom the API is asked.
    fn caller(&self) -> Caller {
        let visitor = &self.session.visitor;
        // A session by a pasted token acts as that token; rates and kept answers are the session's.
        let token = match visitor.subject {
            Some(_) => TokenId(self.session.id),
            None => self.session.token,
        };
        Caller {
            token,
            role: visitor.role,
            org: visitor.org.clone(),
            vendor: visitor.vendor.clone(),
            scopes: visitor.scopes.clone(),
            address: self.address,
            subject: visitor.subject.as_deref().map(Arc::from),
        }
    }

    /// The same for history and audit.
    pub(super) fn actor(&self) -> Actor {
        self.caller().actor()
    }

    /// Whether he may call a route of the API, given by its pattern below `/api/v1`.
    pub(super) fn may(&self, method: &Method, route: &str) -> bool {
        let visitor = &self.session.visitor;
        access::may(visitor.role, visitor.scopes.as_ref(), method, &format!("/api/v1{route}"))
    }
}

/// A request to a page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) pages: Pages,
    pub(super) visitor: Option<Visitor>,
    /// The path that was asked for.
    pub(super) path: String,
    /// What follows it, without the question mark.
    pub(super) query: String,
    /// Where the request comes from.
    pub(super) address: Option<IpAddr>,
    /// What the request is known by in answers and in the log.
    id: Option<CorrelationId>,
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) json: Value,
}

impl Visit {
    pub(super) fn new<B>(pages: Pages, visitor: Option<Visitor>, request: &Request<B>) -> Self {
        let (uri, extensions) = (request.uri(), request.extensions());
        Self {
            pages,
            visitor,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            address: ClientAddress::of(extensions),
            id: extensions.get::<CorrelationId>().cloned(),
        }
    }

    /// Who looks; on pages that are not open somebody always does.
    pub(super) fn visitor(&self) -> Result<&Visitor, Trouble> {
        self.visitor.as_ref().ok_or_else(|| Trouble::internal(&"a page without a visitor"))
    }

    /// His role.
    pub(super) fn role(&self) -> Result<Role, Trouble> {
        Ok(self.visitor()?.session.visitor.role)
    }

    /// Whether his role is one of these.
    pub(super) fn is_any(&self, roles: &[Role]) -> bool {
        self.visitor.as_ref().is_some_and(|who| roles.contains(&who.session.visitor.role))
    }

    /// Whether his role and scopes let him call a route of the API, given by its pattern below
    /// `/api/v1`. A page leaves out what would be refused.
    pub(super) fn may(&self, method: &Method, route: &str) -> bool {
        self.visitor.as_ref().is_some_and(|who| who.may(method, route))
    }

    /// The value of a parameter of the query, without spaces around it; empty where there is none.
    pub(super) fn parameter(&self, name: &str) -> String {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    }

    /// What a page has around its content.
    pub(super) fn shell(&self, title: impl Into<String>) -> Shell {
        Shell::new(&self.pages, self.visitor.as_ref(), title.into(), &self.path)
            .done(&self.parameter("done"))
    }

    /// Asks the API for a document.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        read(self.ask(Method::GET, path, None, None).await?)
    }

    /// The same of a document that may not be there.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Trouble> {
        let answered = self.ask(Method::GET, path, None, None).await?;
        if answered.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(answered).map(Some)
    }

    /// The event types of a dialect; of the host's own where none is named.
    pub(super) async fn event_types(&self, dialect: &str) -> Result<Arc<Vec<EventType>>, Trouble> {
        let kept = &self.pages.inner.event_types;
        let known = kept.lock().unwrap_or_else(PoisonError::into_inner).get(dialect).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let path = with_query("/event-types", &[("dialect", dialect)]);
        let found: List<EventType> = self.get(&path).await?;
        let found = Arc::new(found.data);
        // The API refused what is no dialect, so these are few.
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(dialect.to_owned(), Arc::clone(&found));
        Ok(found)
    }

    /// Has the API do something. `key` names the form, so that one that is sent twice is carried
    /// out once.
    pub(super) async fn post(&self, path: &str, body: &Value, key: &str) -> Result<Value, Trouble> {
        read(self.send(Method::POST, path, body, key).await?)
    }

    /// Sends the API a document, whatever it answers.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        key: &str,
    ) -> Result<Answered, Trouble> {
        let body = ("application/json", body.to_string().into());
        self.ask(method, path, Some(body), Some(key)).await
    }

    /// Has the API delete something.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Trouble> {
        let answered = self.ask(Method::DELETE, path, None, None).await?;
        if answered.status.is_success() {
            return Ok(());
        }
        Err(Trouble::refused(answered.status, answered.json))
    }

    /// Asks the API, whatever it answers.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, bytes::Bytes)>,
        key: Option<&str>,
    ) -> Result<Answered, Trouble> {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            request = request.header("idempotency-key", key);
        }
        let body = body.map_or_else(Body::empty, |(_, bytes)| Body::from(bytes));
        let mut request = request.body(body).map_err(|error| Trouble::internal(&error))?;
        request.extensions_mut().insert(Admitted(self.visitor()?.caller()));
        if let Some(id) = &self.id {
            request.extensions_mut().insert(id.clone());
        }
        let response = match self.pages.inner.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| Trouble::internal(&error))?
            .to_bytes();
        let json = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).map_err(|error| Trouble::internal(&error))?
        };
        Ok(Answered { status, json })
    }
}

fn read<T: DeserializeOwned>(answered: Answered) -> Result<T, Trouble> {
    if !answered.status.is_success() {
        return Err(Trouble::refused(answered.status, answered.json));
    }
    T::deserialize(answered.json).map_err(|error| Trouble::internal(&error))
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Trouble::internal(&"a page outside of the frame"))
    }
}

/// What a form sent, on pages that take one.
#[derive(Clone, Debug)]
pub(super) struct Sent(pub(super) Arc<Form>);

impl<S: Send + Sync> FromRequestParts<S> for Sent {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Trouble> {
        parts
            .extensions
            .get::<Arc<Form>>()
            .cloned()
            .map(Self)
            .ok_or_else(|| Trouble::internal(&"a page that takes a form got none"))
    }
}

/// A part of the path. One that cannot be names no page.
#[derive(Clone, Debug)]
pub(super) struct Part<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Part<T> {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Trouble> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Trouble::not_found()),
        }
    }
}

/// A part of a path, as it must be written in one.
pub(super) fn segment(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            // Writing to a text never fails.
            let _infallible = write!(written, "%{byte:02X}");
        }
    }
    // Whole segments of dots would be taken for steps.
    if written.chars().all(|letter| letter == '.') { written.replace('.', "%2E") } else { written }
}

/// A path with a query of those parameters that are not empty.
pub(super) fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty()));
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_within_their_part_of_an_address() {
        assert_eq!(segment("1.0.0-a~b_c"), "1.0.0-a~b_c");
        assert_eq!(segment("a/b?c#d e\u{e4}"), "a%2Fb%3Fc%23d%20e%C3%A4");
        assert_eq!((segment(".."), segment(".")), ("%2E%2E".to_owned(), "%2E".to_owned()));
        assert_eq!(with_query("/x", &[("a", ""), ("b", "1&c=2")]), "/x?b=1%26c%3D2");
        assert_eq!(with_query("/x", &[("a", "")]), "/x");
    }
}
