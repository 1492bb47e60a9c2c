//! Calls to the server's API, over real HTTP.

use std::time::Duration;

use http::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use super::DemoError;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read.
const ANSWER_LIMIT: usize = 4 << 20;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing.
    Nothing,
    /// A document.
    Json(Value),
    /// A package.
    Zip(Vec<u8>),
    /// A vendor's call back in: no token, but the `HASH` that it made.
    Signed(Value, String),
}

/// What was answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body; null where it is no JSON.
    pub(super) body: Value,
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    base: Url,
}

impl Client {
    /// A client of the server at `base`.
    #[expect(clippy::disallowed_methods, reason = "it calls the demo's own server, not the world")]
    pub(super) fn new(base: Url) -> Result<Self, DemoError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .map_err(|error| DemoError::Call { call: "making a client".to_owned(), error })?;
        Ok(Self { client, base })
    }

    /// The server's origin.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Calls a path, with its query, as the holder of a token.
    pub(super) async fn call(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        content: Content,
    ) -> Result<Answer, DemoError> {
        let call = format!("{method} {path}");
        let failed = |error: reqwest::Error| DemoError::Call {
            call: call.clone(),
            error: error.without_url(),
        };
        let address = format!("{}{}", self.base.as_str().trim_end_matches('/'), path);
        let mut request = self.client.request(method, address);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request = match content {
            Content::Nothing => request,
            Content::Json(document) => request.json(&document),
            Content::Signed(document, hash) => request.json(&document).header("HASH", hash),
            Content::Zip(bytes) => request.header(CONTENT_TYPE, "application/zip").body(bytes),
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER_LIMIT {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }
}
