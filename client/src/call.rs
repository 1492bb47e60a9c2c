//! One call before it is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::client::Client;
use super::error::{Error, Problem};
use super::operation::{Operation, Place};
use super::watched::Watch;

/// One call, with everything that it keeps over its retries.
#[derive(Clone)]
pub(crate) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<(&'static str, Bytes)>,
    /// The same for each try, so that what was done is not done twice.
    pub(super) idempotency_key: Option<String>,
    /// Whether the marketplace signs it.
    pub(super) is_callback: bool,
    /// How long it may take, where that is another span than the client's.
    pub(super) limit: Option<Duration>,
    /// Who is told how much of the body is on its way.
    pub(super) watch: Option<Watch>,
}

impl Call {
    pub(crate) fn new(
        client: &Client,
        operation: Operation,
        places: &[Place<'_>],
    ) -> Result<Self, Error> {
        Ok(Self::at(operation.method()?, operation.url(client.base(), places)?))
    }

    /// A call of an address. A POST gets its key here, for all its tries.
    pub(crate) fn at(method: Method, url: Url) -> Self {
        let idempotency_key =
            (method == Method::POST).then(|| uuid::Uuid::new_v4().hyphenated().to_string());
        let is_callback = url.path().contains("/api/v1/callbacks/");
        Self { method, url, body: None, idempotency_key, is_callback, limit: None, watch: None }
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        let text = serde_json::to_vec(body).map_err(|error| Error::Unusable(error.to_string()))?;
        self.body = Some(("application/json", text.into()));
        Ok(self)
    }

    /// With an archive as its body.
    pub(crate) fn archive(mut self, archive: impl Into<Bytes>) -> Self {
        self.body = Some(("application/zip", archive.into()));
        self
    }

    /// With these parameters behind those that it has.
    pub(crate) fn query(mut self, query: Vec<(String, String)>) -> Self {
        if !query.is_empty() {
            self.url.query_pairs_mut().extend_pairs(query);
        }
        self
    }

    /// With a limit of its own.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// With somebody who is told how much of the body is on its way.
    pub(crate) fn watched(mut self, watch: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// Whether it may be sent again after an error.
    pub(super) fn may_repeat(&self, error: &Error) -> bool {
        // A key makes one effect of all tries; what only reads has none, and what puts the same in
        // the same place twice is the same.
        let is_harmless = self.idempotency_key.is_some()
            || [Method::GET, Method::HEAD, Method::PUT].contains(&self.method);
        match error {
            Error::Unreachable(error) => !error.is_builder() && (is_harmless || error.is_connect()),
            Error::Refused(problem) => {
                problem.is_passing() && (is_harmless || Problem::is_before_effect(problem))
            }
            Error::Unreadable(_) | Error::Unusable(_) => false,
        }
    }
}

/// The parameters that something says as JSON: texts, numbers and switches; null says nothing.
pub(crate) fn parameters(of: &impl Serialize) -> Result<Vec<(String, String)>, Error> {
    let unusable = |what: String| Error::Unusable(what);
    let document = serde_json::to_value(of).map_err(|error| unusable(error.to_string()))?;
    let Value::Object(members) = document else {
        return Err(unusable("parameters must have names".to_owned()));
    };
    let mut parameters = Vec::new();
    for (name, value) in members {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(unusable(format!("`{name}` must be a single value")));
            }
        };
        parameters.push((name, text));
    }
    Ok(parameters)
}
