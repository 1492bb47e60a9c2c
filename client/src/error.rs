//! Why a call came to nothing.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::identifiers::InvalidIdentifier;
use super::signature::UnfitSecret;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server could not be reached, or its answer broke off. Whether the call was done is not
    /// known; the same call with the same idempotency key finds out.
    #[error("the server cannot be reached: {0}")]
    Unreachable(#[source] reqwest::Error),
    /// It said no.
    #[error("the server refused: {0}")]
    Refused(Box<Problem>),
    /// Its answer is not one of a Mortise server.
    #[error("the server's answer is not understood: {0}")]
    Unreadable(String),
    /// What was given cannot be used, and nothing was sent.
    #[error("the call cannot be made: {0}")]
    Unusable(String),
}

impl Error {
    /// What the server said, where it refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// The status, where the server refused.
    pub fn status(&self) -> Option<StatusCode> {
        self.problem().map(|problem| problem.status)
    }

    /// Whether there is no such thing, or none that this token may see.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Whether the same again may well succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(error) => !error.is_builder(),
            Self::Refused(problem) => problem.is_passing(),
            Self::Unreadable(_) | Self::Unusable(_) => false,
        }
    }
}

impl From<InvalidIdentifier> for Error {
    fn from(invalid: InvalidIdentifier) -> Self {
        Self::Unusable(invalid.to_string())
    }
}

impl From<UnfitSecret> for Error {
    fn from(unfit: UnfitSecret) -> Self {
        Self::Unusable(unfit.to_string())
    }
}

/// A refusal in the words of the server (RFC 9457).
#[derive(Clone, Debug, thiserror::Error)]
#[error("{status} {error_code}: {detail}")]
#[non_exhaustive]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// The code of the desk dialect's list, enlarged, such as `CONNECTION_BROKEN`; empty where
    /// somebody else answered, such as a proxy.
    pub error_code: String,
    /// What kind of problem it is, as a URI that leads to its page.
    pub kind: String,
    /// What is wrong with this request.
    pub detail: String,
    /// The id of the request, to be quoted to the operator.
    pub correlation_id: Option<String>,
    /// When to come back, where the server says so.
    pub retry_after: Option<Duration>,
    /// The single faults of fields.
    pub faults: Vec<Fault>,
    /// The whole answer: some problems have more members, such as `lockedBy`, or the findings of the
    /// package checker in `errors`. Null where it was no JSON.
    pub document: Value,
}

/// A fault of one field or parameter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Fault {
    /// A JSON pointer into the body, or the name of a parameter or header.
    pub field_name: String,
    /// `invalid`, `missing` or `duplicate`.
    pub error_type: String,
    /// What is wrong, with the rule.
    pub error_message: String,
    /// The nearest known name.
    pub suggestion: Option<String>,
}

impl Problem {
    /// Reads a refusal, whoever made it.
    pub(super) fn read(
        status: StatusCode,
        correlation_id: Option<&str>,
        retry_after: Option<&str>,
        body: &[u8],
    ) -> Self {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |member: &str| document[member].as_str().map(str::to_owned);
        let faults = document["errors"].as_array().into_iter().flatten();
        let faults =
            faults.filter_map(|fault| Fault::deserialize(fault).ok()).collect::<Vec<Fault>>();
        let correlation_id = text("correlationId").or_else(|| correlation_id.map(str::to_owned));
        let seconds = retry_after.and_then(|text| text.trim().parse().ok());
        Self {
            status,
            error_code: text("errorCode").unwrap_or_default(),
            kind: text("type").unwrap_or_default(),
            detail: text("detail").unwrap_or_else(|| "it gave no reason".to_owned()),
            correlation_id,
            retry_after: seconds.map(Duration::from_secs),
            faults,
            document,
        }
    }

    /// Whether the same again may well succeed later.
    pub fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&self.status)
            || self.error_code == "REQUEST_IN_PROGRESS"
    }

    /// Whether it was refused before anything was done.
    pub(super) fn is_before_effect(&self) -> bool {
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_told_whoever_made_it() {
        let body = json!({
            "type": "https://m.example/problems/invalid", "title": "Invalid", "status": 422,
            "errorCode": "INVALID_DATA", "detail": "One field.", "correlationId": "c-1",
            "errors": [
                { "fieldName": "/url", "errorType": "invalid", "errorMessage": "no", "suggestion": null },
                { "code": "webhook.scope-missing", "message": "not of a field" },
            ],
        });
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let told = Problem::read(status, Some("of the header"), None, body.to_string().as_bytes());
        assert_eq!(told.to_string(), "422 Unprocessable Entity INVALID_DATA: One field.");
        assert_eq!(told.correlation_id.as_deref(), Some("c-1"));
        assert_eq!(told.faults.len(), 1);
        assert_eq!(told.faults[0].field_name, "/url");
        assert!(!told.is_passing());
        let proxy = Problem::read(StatusCode::BAD_GATEWAY, None, Some("7"), b"<html>");
        assert_eq!(proxy.retry_after, Some(Duration::from_secs(7)));
        assert!(proxy.is_passing() && !proxy.is_before_effect());
        assert_eq!(proxy.document, Value::Null);
    }
}
