//! Extractors whose refusals are problems.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Caller;
use super::answers::{AnswerKey, AnswerScope};
use super::document::{Fault, Node};
use super::problem::{Code, FieldError, FieldErrorKind, Problem};
use super::state::ApiState;

/// The header that makes a POST repeatable.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The most parameters that a query may have.
const PARAMETER_LIMIT: usize = 100;

/// How much of a body that is too large is still read, in bytes.
const DISCARD_LIMIT: usize = 4 << 20;

/// A client did not send its body in time; the listener puts it into the body's stream.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
pub struct BodyTooSlow;

/// A JSON body as a checked value, and a value as a JSON answer.
///
/// Types should refuse unknown fields (`#[serde(deny_unknown_fields)]`); they cannot hold
/// `serde_json::value::RawValue`: a handler that wants bytes takes [`RawBody`].
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let body = RawBody::from(request).read(state.config().limits.request_body_bytes).await?;
        parse_json(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, &self.0)
    }
}

/// A JSON answer with a status.
pub fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes(status, body),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

/// A JSON answer whose bytes are there already.
pub fn json_bytes(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Refuses a body that is not said to be JSON.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let essence = media_type(headers).unwrap_or_default();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json {
        return Ok(());
    }
    let given = if essence.is_empty() {
        "There is none.".to_owned()
    } else {
        format!("It is `{essence}`.")
    };
    Err(Problem::new(Code::UnsupportedMediaType)
        .detail(format!("`Content-Type` must be `application/json`. {given}")))
}

/// The media type of a body without its parameters, in lower case.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!essence.is_empty() && essence.len() <= 100).then_some(essence)
}

/// Reads a JSON body into a type: 400 where it is no JSON, 422 where the type does not take it.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(Problem::new(Code::EmptyPayload));
    }
    let node: Node = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::new(Code::BadRequest)
            .detail(format!("The body is not JSON: {error}."))
            .with("line", line)
            .with("column", column)
    })?;
    T::deserialize(node).map_err(|fault: Fault| Problem::invalid(vec![fault.in_body()]))
}

/// The parameters of a query as a checked value. Unknown and repeated ones are refused.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<ApiState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query into a type.
pub fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let members: Vec<(String, Node)> = url::form_urlencoded::parse(query.as_bytes())
        .take(PARAMETER_LIMIT + 1)
        .map(|(name, value)| (name.into_owned(), Node::Parameter(value.into_owned())))
        .collect();
    if members.len() > PARAMETER_LIMIT {
        let detail = format!("A query may have at most {PARAMETER_LIMIT} parameters.");
        return Err(Problem::new(Code::InvalidData).detail(detail));
    }
    T::deserialize(Node::Members(members))
        .map_err(|fault: Fault| Problem::invalid(vec![fault.in_query()]))
}

/// The variable parts of a path. One that cannot be names nothing, so it is answered as not found.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(axum::extract::rejection::PathRejection::MissingPathParams(error)) => {
                Err(Problem::internal(&error))
            }
            Err(_) => Err(Problem::new(Code::ResourceNotFound)
                .detail("The path names nothing: a part of it is not an id or key.")),
        }
    }
}

/// A body that the handler reads as bytes, with a limit of its own choice.
pub struct RawBody {
    body: Body,
    length: Option<u64>,
    /// Whether the client sends nothing before it is told to (`Expect: 100-continue`).
    waits: bool,
}

impl fmt::Debug for RawBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RawBody").field("length", &self.length).finish_non_exhaustive()
    }
}

impl From<Request> for RawBody {
    fn from(request: Request) -> Self {
        let length = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        let waits = request.headers().contains_key(EXPECT);
        Self { body: request.into_body(), length, waits }
    }
}

impl FromRequest<ApiState> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, Problem> {
        Ok(request.into())
    }
}

impl RawBody {
    /// Reads all of it; 413 over the limit, in bytes, and 408 where it comes too slowly.
    pub async fn read(self, limit: usize) -> Result<Bytes, Problem> {
        let too_large = || {
            Problem::new(Code::ResourceSizeExceeded)
                .detail(format!("The body is larger than {limit} bytes."))
                .with("limit", limit)
        };
        let mut body = self.body;
        if self.length.is_some_and(|length| length > limit as u64) {
            if !self.waits {
                discard(body, limit.saturating_add(DISCARD_LIMIT)).await;
            }
            return Err(too_large());
        }
        match Limited::new(&mut body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                discard(body, DISCARD_LIMIT).await;
                Err(too_large())
            }
            Err(error) if is_too_slow(&*error) => Err(Problem::new(Code::RequestTimeout)
                .header(CONNECTION, HeaderValue::from_static("close"))),
            Err(error) => Err(Problem::new(Code::BadRequest)
                .detail(format!("The body could not be read: {error}."))),
        }
    }
}

/// Reads on for a while what nobody wants: a client that still sends when the connection closes
/// may lose the answer that tells it why.
async fn discard(mut body: Body, mut left: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if length >= left {
            return;
        }
        left -= length;
    }
}

fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyTooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A JSON body of a POST that can be repeated, with the key that its answer is kept under.
#[derive(Debug)]
pub struct Idempotent<T> {
    /// The body.
    pub value: T,
    /// The key; nothing where the caller sent none.
    pub key: Option<AnswerKey>,
}

impl<T: DeserializeOwned> FromRequest<ApiState> for Idempotent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let (parts, body) = request.into_parts();
        let body = RawBody::from(Request::from_parts(parts.clone(), body))
            .read(state.config().limits.request_body_bytes)
            .await?;
        let value = parse_json(&body)?;
        let key = idempotency_key(&parts, &body)?;
        Ok(Self { value, key })
    }
}

/// The key of a repeatable request: per token, method and path, with a digest of what was sent.
pub fn idempotency_key(parts: &Parts, body: &[u8]) -> Result<Option<AnswerKey>, Problem> {
    let mut sent = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = sent.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let is_sane =
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_sane || sent.next().is_some() {
        let message = "must be one value of 1 to 255 visible ASCII characters without spaces";
        let error = FieldError::new("Idempotency-Key", FieldErrorKind::Invalid, message);
        return Err(Problem::invalid(vec![error]));
    }
    let caller = Caller::of(parts)?;
    let path = parts
        .extensions
        .get::<OriginalUri>()
        .map_or_else(|| parts.uri.path(), |OriginalUri(uri)| uri.path());
    let scope = AnswerScope::Idempotency {
        token: caller.token,
        method: parts.method.clone(),
        path: path.to_owned(),
        key: text.to_owned(),
    };
    Ok(Some(AnswerKey::new(&scope, fingerprint(&parts.uri, body))))
}

/// A digest of the path, the query and the body of a request.
pub fn fingerprint(uri: &http::Uri, body: &[u8]) -> [u8; 32] {
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let mut text = Vec::with_capacity(8 + target.len() + body.len());
    text.extend_from_slice(&(target.len() as u64).to_be_bytes());
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(body);
    sha256(&text)
}

/// The SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut value = [0; 32];
    value.copy_from_slice(digest(&SHA256, bytes).as_ref());
    value
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: String,
    }

    #[test]
    fn malformed_json_says_where() {
        let problem = parse_json::<Body>(b"{\n  \"name\": }").unwrap_err();
        let document = problem.document("", None);
        assert_eq!(problem.code(), Code::BadRequest);
        assert_eq!((&document["line"], &document["column"]), (&2.into(), &11.into()));
        for text in ["{\"name\":\"a\"} x", "{\"name\":\"a\"", "\u{feff}{}"] {
            let problem = parse_json::<Body>(text.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::BadRequest, "{text}");
        }
        assert_eq!(parse_json::<Body>(b" \n").unwrap_err().code(), Code::EmptyPayload);
        let deep = "[".repeat(100_000);
        assert_eq!(parse_json::<Body>(deep.as_bytes()).unwrap_err().code(), Code::BadRequest);
        assert_eq!(parse_json::<Body>(br#"{"name":"a"}"#).unwrap().name, "a");
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        let problem = parse_query::<Body>("name=a&nam=b").unwrap_err();
        let document = problem.document("", None);
        assert_eq!(document["errors"][0]["fieldName"], "nam");
        assert_eq!(document["errors"][0]["suggestion"], "name");
        assert_eq!(parse_query::<Body>("name=a%20b").unwrap().name, "a b");
        assert_eq!(parse_query::<Body>("name=a&name=b").unwrap_err().code(), Code::InvalidData);
    }

    #[test]
    fn the_content_type_must_say_json() {
        for (value, is_json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(require_json(&headers).is_ok(), is_json, "{value}");
        }
        assert!(require_json(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_declared_or_not() {
        let declared =
            Request::builder().header(CONTENT_LENGTH, "9").body(axum::body::Body::empty());
        let problem = RawBody::from(declared.unwrap()).read(8).await.unwrap_err();
        assert_eq!(problem.code(), Code::ResourceSizeExceeded);
        let whole = RawBody::from(Request::new(axum::body::Body::from("12345678")));
        assert_eq!(whole.read(8).await.unwrap(), "12345678");
        let over = RawBody::from(Request::new(axum::body::Body::from("123456789")));
        assert_eq!(over.read(8).await.unwrap_err().code(), Code::ResourceSizeExceeded);
    }

    #[test]
    fn fingerprints_tell_path_and_body_apart() {
        let print =
            |uri: &'static str, body: &[u8]| fingerprint(&http::Uri::from_static(uri), body);
        assert_eq!(print("/a?x=1", b"b"), print("/a?x=1", b"b"));
        assert_ne!(print("/a?x=1", b"b"), print("/a?x=2", b"b"));
        assert_ne!(print("/ab", b"c"), print("/a", b"bc"));
    }
}
