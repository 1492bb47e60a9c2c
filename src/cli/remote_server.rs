//! A server anywhere, called over its API as the holder of a token; and receivers, called as a
//! delivery would.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Method};
use mortise_client::{Client, Error, Retries};
use serde_json::Value;
use url::Url;

use super::output::CliError;
use crate::api::token_store::TokenValue;
use crate::egress::{
    Answer, Egress, EgressOptions, OutgoingRequest, SendError, api_client, told_of,
};
use crate::seam::Seam;

/// How often a call of a server is made again that failed for a moment, and for how long at the most
/// it is waited in between: somebody sits there.
pub(super) const RETRIES: Retries = Retries::up_to(2).longest(Duration::from_secs(5));

/// The largest answer of a receiver that is read, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;

/// The `User-Agent` of commands.
pub(super) const USER_AGENT: &str = concat!("mortise-cli/", env!("CARGO_PKG_VERSION"));

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
        let http = api_client(self.ca_file.clone()).map_err(CliError::unusable)?;
        let client = Client::builder(base.as_str(), token.expose())
            .map_err(CliError::unusable)?
            .http_client(http)
            .user_agent(USER_AGENT)
            .retries(RETRIES)
            .build()
            .map_err(CliError::unusable)?;
        Ok(Some(RemoteServer { client, out: Out::open(self.ca_file.clone(), seam)? }))
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
            user_agent: USER_AGENT.to_owned(),
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

/// A server, as the holder of a token.
#[derive(Clone, Debug)]
pub(crate) struct RemoteServer {
    pub(crate) client: Client,
    /// The way to other receivers, such as one on this machine.
    pub(crate) out: Out,
}

/// Why a call of the API came to nothing, in words.
pub(crate) fn words(error: &Error) -> String {
    match error {
        // As every other way out tells it: by class, and with the certificate that was refused.
        Error::Unreachable(error) => format!("the server cannot be reached: {}", told_of(error)),
        Error::Refused(problem) => {
            let mut said = format!("the server refused: {}", printable(&problem.to_string()));
            for fault in problem.document["errors"].as_array().into_iter().flatten() {
                if let Some(fault) = told_of_package(fault) {
                    said.push_str("\n  ");
                    said.push_str(&fault);
                }
            }
            for fault in &problem.faults {
                let (field, what) = (&fault.field_name, &fault.error_message);
                said.push_str("\n  ");
                said.push_str(&printable(&format!("{field} {what}")));
            }
            said
        }
        _ => printable(&error.to_string()),
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let failed = Self::failed(words(&error));
        match &error {
            Error::Unreachable(error) => failed.hint(told_of(error).hint),
            Error::Refused(problem) => match problem.status.as_u16() {
                401 => failed.hint("is the token still live, and of this server?"),
                403 => failed.hint("another role or a wider token is needed"),
                404 => failed.hint("the token's org or vendor must be the one that the id is of"),
                500.. => match &problem.correlation_id {
                    Some(id) => failed.hint(format!("its operator finds it as request {id}")),
                    None => failed,
                },
                _ => failed,
            },
            Error::Unreadable(_) => failed.hint("is --server the address of a Mortise server?"),
            _ => failed,
        }
    }
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
