//! A client of the API for everything that is not measured.

use reqwest::Method;
use serde_json::Value;

use super::{Failure, Outcome};

/// Calls one server as the holder of a token.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    origin: String,
    token: String,
}

/// A client that calls this machine only.
#[expect(
    clippy::disallowed_methods,
    reason = "it calls the server that is measured, not the world"
)]
pub(crate) fn http() -> Outcome<reqwest::Client> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .build()?;
    Ok(client)
}

impl Api {
    pub(crate) fn new(origin: String, token: String) -> Outcome<Self> {
        Ok(Self { http: http()?, origin, token })
    }

    /// Calls a path; any status but 2xx fails.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Outcome<Value> {
        let url = format!("{}{path}", self.origin);
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if status.is_success() {
            Ok(serde_json::from_str(&text).unwrap_or_default())
        } else {
            Err(Failure::from(format!("{path} was answered {status}: {text}")))
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Outcome<Value> {
        self.call(Method::GET, path, None).await
    }
}

/// A member of an answer that is a text.
pub(crate) fn text<'a>(answer: &'a Value, member: &str) -> Outcome<&'a str> {
    answer[member].as_str().ok_or_else(|| Failure::from(format!("no {member} in {answer}")))
}
