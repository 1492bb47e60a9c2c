//! A server anywhere, called over its API as the holder of a token; and receivers, called as a
//! delivery would.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::output::CliError;
use crate::api::extract::IDEMPOTENCY_KEY;
use crate::api::token_store::TokenValue;
use crate::egress::{Answer, Egress, EgressOptions, OutgoingRequest, SendError};
use crate::seam::Seam;

/// How long one call may take where nothing else is said.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long an upload may take.
const UPLOAD_LIMIT: Duration = Duration::from_mins(5);

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;

/// Which server, and as whom.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServerArguments {
    /// The server's address, such as https://mortise.example.com
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// The API token; --token-file keeps it out of the list of processes
    #[arg(long, value_name = "TOKEN", env = "MORTISE_TOKEN", hide_env_values = true)]
    token: Option<SecretArgument>,
    /// A file with the API token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file with certificates to trust besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// A text that is never printed.
#[derive(Clone)]
pub(crate) struct SecretArgument(String);

impl SecretArgument {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretArgument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

impl std::str::FromStr for SecretArgument {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl ServerArguments {
    /// The server, where one is named.
    pub(crate) fn open(&self, seam: &Seam) -> Result<Option<RemoteServer>, CliError> {
        let Some(base) = &self.server else { return Ok(None) };
        // A file that is named goes before a variable that happens to be set.
        let text = match (&self.token_file, &self.token) {
            (None, Some(token)) => token.expose().to_owned(),
            (Some(file), _) => std::fs::read_to_string(file).map_err(|error| {
                CliError::unusable(format_args!("{} cannot be read: {error}", file.display()))
            })?,
            (None, None) => {
                return Err(CliError::unusable("a token is needed to call the server")
                    .hint("give --token, --token-file, or the variable MORTISE_TOKEN"));
            }
        };
        let token = TokenValue::parse(text.trim()).ok_or_else(|| {
            CliError::unusable("the token is not in the form of one of a Mortise server")
        })?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(CliError::unusable("--server must be an absolute http or https address"));
        }
        let out = Out::open(self.ca_file.clone(), seam)?;
        Ok(Some(RemoteServer { base: base.clone(), token, out, seam: seam.clone() }))
    }
}

/// The way out of a command: its addresses are its user's own, so that they are called as they are.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    egress: Egress,
}

impl Out {
    pub(crate) fn open(ca_file: Option<PathBuf>, seam: &Seam) -> Result<Self, CliError> {
        let options = EgressOptions {
            ca_file,
            user_agent: concat!("mortise-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..EgressOptions::default()
        };
        let egress = Egress::new(options, seam.clock.clone()).map_err(CliError::unusable)?;
        Ok(Self { egress })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Answer, SendFailed> {
        let url = self.egress.trusted(url).map_err(|refusal| SendFailed {
            what: refusal.to_string(),
            hint: "give an absolute http or https address".to_owned(),
        })?;
        let request = OutgoingRequest {
            method,
            url,
            headers,
            body,
            deadline,
            response_limit: ANSWER_LIMIT,
            gate: None,
        };
        self.egress.send(request).await.map_err(SendFailed::from)
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct SendFailed {
    pub(crate) what: String,
    pub(crate) hint: String,
}

impl From<SendError> for SendFailed {
    fn from(error: SendError) -> Self {
        Self { what: error.to_string(), hint: error.hint.to_string() }
    }
}

/// Why a call of the API came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// The server could not be reached, or its answer not be read.
    #[error("the server cannot be reached: {0}")]
    Unreachable(#[from] SendFailed),
    /// It said no.
    #[error("the server refused ({status}): {detail}")]
    Refused {
        status: StatusCode,
        detail: String,
        /// When to come back, where it says so.
        retry_after: Option<Duration>,
    },
    /// Its answer is not one of a Mortise server.
    #[error("the server's answer is not understood: {0}")]
    Unreadable(String),
}

impl RemoteError {
    /// Whether the same again may well succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Unreadable(_) => false,
        }
    }
}

impl From<RemoteError> for CliError {
    fn from(error: RemoteError) -> Self {
        let hint = match &error {
            RemoteError::Unreachable(failed) => Some(failed.hint.clone()),
            RemoteError::Refused { status, .. } => match status.as_u16() {
                401 => Some("is the token still live, and of this server?".to_owned()),
                403 => Some("another role or a wider token is needed".to_owned()),
                404 => {
                    Some("the token's org or vendor must be the one that the id is of".to_owned())
                }
                _ => None,
            },
            RemoteError::Unreadable(_) => {
                Some("is --server the address of a Mortise server?".to_owned())
            }
        };
        let failed = Self::failed(error);
        match hint {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    }
}

/// A server, as the holder of a token.
#[derive(Clone, Debug)]
pub(crate) struct RemoteServer {
    base: Url,
    token: TokenValue,
    pub(crate) out: Out,
    seam: Seam,
}

impl RemoteServer {
    /// Calls a path below `/api/v1`; gives back what a success answered, null where it had no body.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, RemoteError> {
        self.call_within(method, path, body, CALL_LIMIT).await
    }

    /// The same with another limit of time.
    pub(crate) async fn call_within(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, RemoteError> {
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        self.exchange(method, path, body, limit).await
    }

    /// Sends an archive to a path below `/api/v1`.
    pub(crate) async fn upload(&self, path: &str, archive: Vec<u8>) -> Result<Value, RemoteError> {
        let body = ("application/zip", Bytes::from(archive));
        self.exchange(Method::POST, path, Some(body), UPLOAD_LIMIT).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
        limit: Duration,
    ) -> Result<Value, RemoteError> {
        let base = self.base.as_str().trim_end_matches('/');
        let unreadable = |error: &dyn fmt::Display| RemoteError::Unreadable(error.to_string());
        let url =
            Url::parse(&format!("{base}/api/v1{path}")).map_err(|error| unreadable(&error))?;
        let mut headers = HeaderMap::new();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token.expose()))
            .map_err(|error| unreadable(&error))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        if method == Method::POST {
            let key = self.seam.randomness.id().to_string();
            let key = HeaderValue::from_str(&key).map_err(|error| unreadable(&error))?;
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let body = match body {
            Some((content_type, body)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
                body
            }
            None => Bytes::new(),
        };
        let answer = self.out.send(method, &url, headers, body, limit).await?;
        if answer.truncated {
            return Err(RemoteError::Unreadable("it is too large".to_owned()));
        }
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        if answer.body_excerpt.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body_excerpt).map_err(|error| unreadable(&error))
    }
}

fn refused(answer: &Answer) -> RemoteError {
    let problem: Value = serde_json::from_slice(&answer.body_excerpt).unwrap_or_default();
    let mut detail = problem["detail"].as_str().unwrap_or("it gave no reason").to_owned();
    for fault in problem["errors"].as_array().into_iter().flatten() {
        if let Some(fault) = told_of_package(fault) {
            detail.push_str("\n  ");
            detail.push_str(&fault);
        }
    }
    let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    RemoteError::Refused { status: answer.status, detail, retry_after }
}

/// A finding of the package checker in a line; nothing where the fault is another one.
fn told_of_package(fault: &Value) -> Option<String> {
    let (code, message) = (fault["code"].as_str()?, fault["message"].as_str()?);
    let mut place = fault["file"].as_str().unwrap_or_default().to_owned();
    for number in ["line", "column"] {
        if let Some(number) = fault[number].as_u64() {
            place.push(':');
            place.push_str(&number.to_string());
        }
    }
    Some(printable(&format!("{place}: {message} [{code}]")))
}

/// Text of a stranger, fit for a terminal: control characters would steer it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
