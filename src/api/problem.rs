//! Problems: how every refusal is said (RFC 9457, with the desk dialect's `errorCode`).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::StoreError;

/// How long a caller is told to wait where the database cannot be reached.
const DATABASE_PAUSE: Duration = Duration::from_secs(2);

/// Defines the codes: variant, name on the wire, status, title, meaning.
macro_rules! codes {
    ($($variant:ident, $name:literal, $status:ident, $title:literal, $meaning:literal;)+) => {
        /// Why a request was refused: the desk dialect's list, enlarged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The `errorCode`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The `title`: the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// When it is answered, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

codes! {
    BadRequest, "BAD_REQUEST", BAD_REQUEST, "The request cannot be read",
        "The body is not JSON, or a header is not what it must be.";
    EmptyPayload, "EMPTY_PAYLOAD", BAD_REQUEST, "The request has no body",
        "A body is needed and none was sent.";
    Unauthorized, "UNAUTHORIZED", UNAUTHORIZED, "No token",
        "The request carries no token, or one in a form that this path does not take.";
    InvalidOauth, "INVALID_OAUTH", UNAUTHORIZED, "The token is not valid",
        "The token is unknown, expired or revoked.";
    SignatureInvalid, "SIGNATURE_INVALID", UNAUTHORIZED, "The signature is not valid",
        "A signed request is unsigned, signed with another secret, too old, or reuses an id.";
    Forbidden, "FORBIDDEN", FORBIDDEN, "Not allowed",
        "The role may not do this, or the object is locked.";
    ScopeMismatch, "SCOPE_MISMATCH", FORBIDDEN, "The token's scope is too small",
        "The token was narrowed to scopes that do not cover this request.";
    OauthOrgMismatch, "OAUTH_ORG_MISMATCH", FORBIDDEN, "The token belongs to another org",
        "`orgId` names another org than the token's.";
    LicenseAccessLimited, "LICENSE_ACCESS_LIMITED", FORBIDDEN, "The plan does not allow more",
        "The org's plan has no room for this.";
    HostNotAllowed, "HOST_NOT_ALLOWED", FORBIDDEN, "The host may not be called",
        "A URL's host is not among those that may be called.";
    UrlNotFound, "URL_NOT_FOUND", NOT_FOUND, "Nothing is served here",
        "The path is not one of this API.";
    ResourceNotFound, "RESOURCE_NOT_FOUND", NOT_FOUND, "Not found",
        "There is no such object, or it belongs to somebody else.";
    MethodNotAllowed, "METHOD_NOT_ALLOWED", METHOD_NOT_ALLOWED, "The method is not allowed here",
        "The path exists; `Allow` lists the methods that it takes.";
    RequestTimeout, "REQUEST_TIMEOUT", REQUEST_TIMEOUT, "The body did not arrive in time",
        "The client took too long to send the body.";
    Conflict, "CONFLICT", CONFLICT, "Another change came first",
        "The object was changed at the same time; read it again and repeat.";
    VersionConflict, "VERSION_CONFLICT", CONFLICT, "The version exists with other content",
        "A published version never changes; publish a higher one.";
    StateConflict, "STATE_CONFLICT", CONFLICT, "The object's state does not allow this",
        "The step is not possible from the state that the object is in.";
    ExtensionSuspended, "EXTENSION_SUSPENDED", CONFLICT, "The extension is suspended",
        "The extension was suspended for all orgs.";
    ConnectionBroken, "CONNECTION_BROKEN", CONFLICT, "The connection is broken",
        "The installation's authorisation is dead; it must be authorised again.";
    IdempotencyKeyReused, "IDEMPOTENCY_KEY_REUSED", CONFLICT, "The idempotency key was used for another request",
        "`Idempotency-Key` was sent before with another body.";
    RequestInProgress, "REQUEST_IN_PROGRESS", CONFLICT, "The same request is under way",
        "A request with the same key has not been answered yet; repeat it later.";
    ResourceSizeExceeded, "RESOURCE_SIZE_EXCEEDED", PAYLOAD_TOO_LARGE, "The body is too large",
        "The body is larger than the limit for this path.";
    UnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported",
        "`Content-Type` is missing or names what this path does not take.";
    InvalidData, "INVALID_DATA", UNPROCESSABLE_ENTITY, "Values are not valid",
        "A field or parameter is missing, unknown, or has a value that its rule refuses.";
    UnprocessableEntity, "UNPROCESSABLE_ENTITY", UNPROCESSABLE_ENTITY, "The content is not valid",
        "The request is well formed, but its content cannot be accepted.";
    InvalidState, "INVALID_STATE", UNPROCESSABLE_ENTITY, "The authorisation state is not valid",
        "`state` is unknown, used, expired, or belongs to another installation.";
    InstallationRefused, "INSTALLATION_REFUSED", UNPROCESSABLE_ENTITY, "The vendor refuses the installation",
        "The extension's installation validator said no; `message` is its reason.";
    TooManyRequests, "TOO_MANY_REQUESTS", TOO_MANY_REQUESTS, "Too many requests",
        "A rate is exceeded; `Retry-After` says when to come back.";
    InternalServerError, "INTERNAL_SERVER_ERROR", INTERNAL_SERVER_ERROR, "Something went wrong here",
        "A fault of this server; its log has the details under the correlation id.";
    ProviderError, "PROVIDER_ERROR", BAD_GATEWAY, "The authorisation server failed",
        "The provider refused, or could not be reached.";
    UpstreamFailed, "UPSTREAM_FAILED", BAD_GATEWAY, "The upstream gave no answer",
        "What was to be called through invoke could not be reached, or did not answer in time.";
    ServiceUnavailable, "SERVICE_UNAVAILABLE", SERVICE_UNAVAILABLE, "Not available right now",
        "The database cannot be reached, or there is no room; repeat later.";
}

impl Code {
    /// The last segment of the `type` URI.
    pub fn slug(self) -> String {
        self.as_str().to_ascii_lowercase().replace('_', "-")
    }

    /// The label in metrics.
    pub fn metric_label(self) -> String {
        self.as_str().to_ascii_lowercase()
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FieldErrorKind {
    /// Its value, or its name, is not one that is taken.
    Invalid,
    /// It is needed and not there.
    Missing,
    /// It is there twice.
    Duplicate,
}

/// A fault of one field or parameter, in the desk dialect's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldError {
    /// A JSON pointer into the body, or the name of a query parameter or header.
    pub field_name: String,
    /// What is wrong.
    pub error_type: FieldErrorKind,
    /// The same in words, with the rule.
    pub error_message: String,
    /// The known name that is spelled most like an unknown one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl FieldError {
    /// A fault without a suggestion.
    pub fn new(
        field_name: impl Into<String>,
        error_type: FieldErrorKind,
        error_message: impl Into<String>,
    ) -> Self {
        Self {
            field_name: field_name.into(),
            error_type,
            error_message: error_message.into(),
            suggestion: None,
        }
    }
}

/// A refusal, ready to be answered. The correlation id and the origin of `type` come in on the
/// way out.
#[derive(Clone, Debug)]
#[must_use = "a problem is an answer"]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    title: Cow<'static, str>,
    slug: Cow<'static, str>,
    detail: Cow<'static, str>,
    message: Option<String>,
    members: Map<String, Value>,
    headers: HeaderMap,
    is_contention: bool,
}

impl Problem {
    /// A problem whose detail is the meaning of its code.
    pub fn new(code: Code) -> Self {
        Self(Box::new(Inner {
            code,
            title: Cow::Borrowed(code.title()),
            slug: Cow::Owned(code.slug()),
            detail: Cow::Borrowed(code.meaning()),
            message: None,
            members: Map::new(),
            headers: HeaderMap::new(),
            is_contention: false,
        }))
    }

    /// Values are not valid: the detail names the first of them.
    pub fn invalid(errors: impl IntoIterator<Item = FieldError>) -> Self {
        let errors: Vec<FieldError> = errors.into_iter().collect();
        let detail = errors.iter().fold(String::new(), |mut text, error| {
            if !text.is_empty() {
                text.push_str("; ");
            }
            let name = if error.field_name.is_empty() { "the body" } else { &error.field_name };
            // Writing to a text never fails.
            let _infallible = write!(text, "{name}: {}", error.error_message);
            if let Some(suggestion) = &error.suggestion {
                let _infallible = write!(text, " (did you mean `{suggestion}`?)");
            }
            text
        });
        Self::new(Code::InvalidData).detail(detail).errors(&errors)
    }

    /// Something failed here. What it was goes to the log, under the correlation id of the
    /// request, and not to the caller.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a request failed");
        Self::new(Code::InternalServerError)
    }

    /// The object does not exist for this caller.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::ResourceNotFound).detail(format!("There is no such {what}."))
    }

    /// Says what is wrong with this request, in sentences.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// Replaces `title` and the last segment of `type`, for a problem more special than its code.
    pub fn kind(mut self, slug: &'static str, title: &'static str) -> Self {
        self.0.slug = Cow::Borrowed(slug);
        self.0.title = Cow::Borrowed(title);
        self
    }

    /// Replaces `message`, which is the detail otherwise.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Adds a member, such as `lockedBy`. A value that is no JSON is said in the log and left out.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => {
                self.0.members.insert(name.to_owned(), value);
            }
            Err(error) => tracing::error!(%error, member = name, "a problem's member is no JSON"),
        }
        self
    }

    /// Adds `errors[]`.
    pub fn errors(self, errors: &[impl Serialize]) -> Self {
        self.with("errors", errors)
    }

    /// Says when to come back: `Retry-After`, in whole seconds, one at the least.
    pub fn retry_after(self, pause: Duration) -> Self {
        let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the transaction gave way to another, so that it may be begun anew.
    pub(super) fn is_contention(&self) -> bool {
        self.0.is_contention
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.code.status()
    }

    /// Its detail.
    pub fn text(&self) -> &str {
        &self.0.detail
    }

    /// The document, as it is answered.
    pub fn document(&self, origin: &str, correlation_id: Option<&str>) -> Value {
        let inner = &*self.0;
        let mut document = inner.members.clone();
        let mut put = |name: &str, value: Value| {
            document.insert(name.to_owned(), value);
        };
        put("type", format!("{origin}/problems/{}", inner.slug).into());
        put("title", inner.title.as_ref().into());
        put("status", inner.code.status().as_u16().into());
        put("detail", inner.detail.as_ref().into());
        put("errorCode", inner.code.as_str().into());
        put("message", inner.message.as_deref().unwrap_or(&inner.detail).into());
        put("correlationId", correlation_id.into());
        Value::Object(document)
    }

    /// The response with everything in it.
    pub(crate) fn render(&self, origin: &str, correlation_id: Option<&str>) -> Response {
        let body = self.document(origin, correlation_id).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        response.headers_mut().extend(self.0.headers.clone());
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render("", None);
        // The correlation layer, which knows the id and the origin, writes it anew from this.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            // Whoever made the transaction begins it anew before anybody is told.
            StoreError::Unavailable(_) if error.is_contention() => {
                tracing::info!(error = %Chain(&error), "a transaction gave way to another");
                let mut problem = Self::new(Code::ServiceUnavailable)
                    .detail("Too many changes meet right now; repeat the request.")
                    .retry_after(DATABASE_PAUSE);
                problem.0.is_contention = true;
                problem
            }
            StoreError::Unavailable(_) => {
                tracing::error!(error = %Chain(&error), "the database cannot be reached");
                Self::new(Code::ServiceUnavailable)
                    .detail("The database cannot be reached right now; repeat the request.")
                    .retry_after(DATABASE_PAUSE)
            }
            StoreError::Conflict => Self::new(Code::Conflict),
            StoreError::UnfitText => {
                Self::new(Code::InvalidData).detail("A text holds a NUL character.")
            }
            other => Self::internal(&other),
        }
    }
}

impl From<sea_orm::DbErr> for Problem {
    fn from(error: sea_orm::DbErr) -> Self {
        StoreError::from(error).into()
    }
}

impl From<crate::crypto::CryptoError> for Problem {
    fn from(error: crate::crypto::CryptoError) -> Self {
        Self::internal(&error)
    }
}

/// An error with its causes, for the log.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_everything() {
        let problem = Problem::new(Code::Forbidden)
            .detail("This webhook belongs to an extension.")
            .with("lockedBy", serde_json::json!({"extensionKey": "a"}));
        let document = problem.document("https://m.example", Some("c-1"));
        assert_eq!(
            document,
            serde_json::json!({
                "type": "https://m.example/problems/forbidden",
                "title": "Not allowed",
                "status": 403,
                "detail": "This webhook belongs to an extension.",
                "errorCode": "FORBIDDEN",
                "message": "This webhook belongs to an extension.",
                "correlationId": "c-1",
                "lockedBy": {"extensionKey": "a"},
            })
        );
    }

    #[test]
    fn names_of_codes_are_unique_and_statuses_are_refusals() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.status().as_u16() >= 400));
    }

    #[test]
    fn a_database_that_is_down_is_not_told_in_detail() {
        let error = StoreError::Unavailable(sea_orm::DbErr::Custom("host=10.0.0.1".to_owned()));
        let problem = Problem::from(error);
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        let response = problem.into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let refused = StoreError::Refused(sea_orm::DbErr::Custom("secret".to_owned()));
        let document = Problem::from(refused).document("", None).to_string();
        assert!(!document.contains("secret") && document.contains("INTERNAL_SERVER_ERROR"));
        assert_eq!(Problem::from(StoreError::Conflict).status(), StatusCode::CONFLICT);
    }
}
