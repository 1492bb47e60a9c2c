//! The outermost layer: every request has an id, which its answer, its problem and its log lines
//! carry; and whatever goes wrong is answered as a problem.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode};
use tower::{Layer, Service};
use tracing::Instrument;
use uuid::Uuid;

use super::access::{self, Admitted};
use super::problem::{Code, Problem};
use super::routes;
use super::state::ApiState;
use crate::telemetry::METRICS;
use crate::telemetry::traces::{self, OpenSpan, SpanKind, TraceContext, Tracer};

/// The header that carries the id, both ways.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// The longest id that is taken from a caller, in characters.
const LENGTH_LIMIT: usize = 64;

/// The id of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the caller's where it is fit for a log line.
    fn accept(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let is_sane = (1..=LENGTH_LIMIT).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sane.then(|| Self(text.into()))
    }

    /// The id of a request: the caller's, or a new one.
    fn of(request: &Request, state: &ApiState) -> Self {
        let given = request.headers().get(CORRELATION_ID).and_then(Self::accept);
        given.unwrap_or_else(|| {
            let mut buffer = Uuid::encode_buffer();
            Self((&*state.seam().randomness.id().hyphenated().encode_lower(&mut buffer)).into())
        })
    }
}

/// Around every route, in one layer: the id of the request, its span, who calls and whether they
/// may, the catching of panics, and problems completed.
///
/// One, since each layer of axum's own kind copies all that lies below it for each request.
#[derive(Clone)]
pub(crate) struct FrameLayer(pub(crate) ApiState);

impl<S> Layer<S> for FrameLayer {
    type Service = Framed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Framed { inner, state: self.0.clone() }
    }
}

/// A route behind the [`FrameLayer`].
#[derive(Clone)]
pub(crate) struct Framed<S> {
    inner: S,
    state: ApiState,
}

impl<S> Service<Request> for Framed<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let state = self.state.clone();
        // The one that was asked whether it is ready is the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        // A page asks within the process: for one request of somebody's, under that one's id.
        let is_of_a_page = request.extensions().get::<Admitted>().is_some();
        let known = request.extensions().get::<CorrelationId>().filter(|_| is_of_a_page).cloned();
        let id = known.unwrap_or_else(|| CorrelationId::of(&request, &state));
        request.extensions_mut().insert(id.clone());
        // The pattern, not the path: a path may hold what must not be in a log.
        let span = tracing::info_span!(
            "request",
            correlation_id = id.as_str(),
            method = request.method().as_str(),
            path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str),
            caller = tracing::field::Empty,
        );
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let waits = routes::may_wait(matched);
        let is_inspector = matched.is_some_and(|path| path.starts_with(crate::inspector::PATH));
        let began = state.seam().clock.instant();
        let traced = state.tracer().and_then(|tracer| begin_span(tracer, &request, matched, &id));
        let answer = async move {
            let answered = async {
                match access::guard(&state, &mut request).await {
                    Ok(()) => inner.call(request).await.unwrap_or_else(|never| match never {}),
                    Err(problem) => problem.into_response(),
                }
            };
            let answered = AssertUnwindSafe(answered).catch_unwind();
            let trace = traced.as_ref().map(OpenSpan::trace);
            let response = traces::within(trace, answered).await;
            let response = response.unwrap_or_else(|panic| caught(&*panic));
            if let Some(problem) = response.extensions().get::<Problem>()
                && !is_of_a_page
            {
                METRICS.problems.add([&problem.code().metric_label()], 1);
            }
            let mut response = complete(response, state.origin(), &id);
            // What an inspector answers is its owner's choice, and says nothing of this server; the page
            // that asked is counted itself.
            if !is_inspector && !is_of_a_page {
                count(response.status(), (!waits).then(|| began.elapsed()));
            }
            if let Some(span) = traced {
                end_span(span, response.status());
            }
            tracing::debug!(status = response.status().as_u16(), "answered");
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                response.headers_mut().insert(CORRELATION_ID, value);
            }
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

/// Begins the span of a call of the API, as part of the caller's trace where he says one. Whether we
/// live is asked too often to be worth one.
fn begin_span(
    tracer: &Tracer,
    request: &Request,
    matched: Option<&str>,
    id: &CorrelationId,
) -> Option<OpenSpan> {
    let route = matched.filter(|path| path.starts_with("/api/") || path.starts_with("/oauth/"))?;
    let parent = request.headers().get(traces::TRACEPARENT);
    let parent = parent.and_then(|value| value.to_str().ok()).and_then(TraceContext::parse);
    let method = request.method().as_str();
    let mut span = tracer.begin(format!("{method} {route}"), SpanKind::Server, parent);
    span.text("http.request.method", method);
    span.text("http.route", route);
    span.text("mortise.correlation_id", id.as_str());
    Some(span)
}

fn end_span(mut span: OpenSpan, status: StatusCode) {
    span.number("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.fail(status.as_str());
    }
    span.end();
}

/// Counts an answer, with the time that it took unless it was to wait.
fn count(status: StatusCode, took: Option<Duration>) {
    let class = usize::from(status.as_u16() / 100).saturating_sub(1);
    if let Some(counter) = METRICS.http_answers.get(class) {
        counter.add(1);
    }
    if let Some(took) = took {
        METRICS.http_micros.note(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Writes a problem anew, with the id and the origin that only this layer knows.
fn complete(mut response: Response, origin: &str, id: &CorrelationId) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut complete = problem.render(origin, Some(id.as_str()));
    // What inner layers said beside it, such as `Allow`, stays; what they said of the old body not.
    for (name, value) in response.headers() {
        if !complete.headers().contains_key(name) && name != http::header::CONTENT_LENGTH {
            complete.headers_mut().append(name, value.clone());
        }
    }
    complete
}

/// A handler panicked: the caller learns that something is wrong, the log what.
fn caught(panic: &(dyn Any + Send)) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = text, "a handler panicked");
    Problem::new(Code::InternalServerError).into_response()
}

/// Nothing is served at a path.
pub(crate) async fn url_not_found() -> Problem {
    Problem::new(Code::UrlNotFound)
}

/// A path is served, but not with this method; the router adds `Allow`.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Method;
    use http::header::{ALLOW, CONTENT_TYPE};

    use super::*;
    use crate::api::testing::TestApi;

    #[tokio::test]
    async fn the_callers_id_comes_back_where_it_is_sane() {
        let api = TestApi::start().await;
        let long = "x".repeat(65);
        for (sent, is_taken) in
            [("abc-1", true), ("", false), ("a b", false), ("a\u{e4}", false), (&long, false)]
        {
            let request = http::Request::get("/nowhere")
                .header(CORRELATION_ID, sent)
                .body(Body::empty())
                .unwrap();
            let answer = api.send(request).await;
            let id = answer.headers[CORRELATION_ID].to_str().unwrap();
            assert_eq!(id == sent, is_taken, "{sent:?} {id}");
            assert_eq!(answer.json["correlationId"], id);
            assert!(!id.is_empty());
        }
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_are_problems() {
        let api = TestApi::start().await;
        let answer = api.call(Method::GET, "/api/v1/nowhere", &api.operator, None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json["errorCode"], "URL_NOT_FOUND");
        assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json");
        assert!(
            answer.json["type"].as_str().unwrap().starts_with("http://127.0.0.1:8080/problems/"),
            "{}",
            answer.json
        );
        let answer = api.call(Method::PATCH, "/api/v1/tokens", &api.operator, None).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers[ALLOW], "GET, POST, HEAD");
        assert_eq!(answer.json["errorCode"], "METHOD_NOT_ALLOWED");
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_and_a_path_without_a_row_is_refused() {
        let api = TestApi::with_routes(|router| {
            // A route of the table that nobody serves in this test, and one that is in no table.
            let panics = axum::routing::get(async || -> StatusCode { panic!("on purpose") });
            router
                .route("/schemas/{*path}", panics)
                .route("/api/v1/unlisted", axum::routing::get(async || "reached"))
        })
        .await;
        let answer = api.call(Method::GET, "/schemas/x", "", None).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.json["errorCode"], "INTERNAL_SERVER_ERROR");
        assert!(!answer.json.to_string().contains("on purpose"));
        assert!(answer.headers.contains_key(CORRELATION_ID));
        let answer = api.call(Method::GET, "/api/v1/unlisted", &api.operator, None).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
