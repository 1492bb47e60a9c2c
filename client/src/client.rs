//! A server, as the holder of a token.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Certificate, Method, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::call::Call;
use super::error::{Error, Problem};
use super::secret::Secret;
use super::signature::MarketplaceSecret;
use super::watched::Watched;

/// How long one call may take where nothing else is said.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How often a call is made again that failed for a moment, and after which pauses.
///
/// What the server says in `Retry-After` goes before the pauses here, up to [`Retries::longest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    most: u32,
    first: Duration,
    longest: Duration,
}

impl Retries {
    /// None: the first failure is the answer.
    pub const NONE: Self = Self { most: 0, first: Duration::ZERO, longest: Duration::ZERO };

    /// So many at the most, after pauses that double from a quarter of a second up to half a minute.
    pub const fn up_to(most: u32) -> Self {
        Self { most, first: Duration::from_millis(250), longest: Duration::from_secs(30) }
    }

    /// With another longest pause. A call that is told to come back later than that fails at once.
    #[must_use]
    pub const fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// How long to wait before the next try; nothing where there is none.
    fn pause(&self, tried: u32, error: &Error) -> Option<Duration> {
        if tried > self.most {
            return None;
        }
        if let Some(told) = error.problem().and_then(|problem| problem.retry_after) {
            return (told <= self.longest).then_some(told);
        }
        let doubled = self.first.saturating_mul(1 << (tried - 1).min(16));
        Some(doubled.min(self.longest))
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self::up_to(3)
    }
}

/// How a client is built.
pub struct ClientBuilder {
    base: Url,
    token: Secret,
    http: Option<reqwest::Client>,
    certificates: Vec<Certificate>,
    marketplace: Option<MarketplaceSecret>,
    retries: Retries,
    limit: Duration,
    user_agent: String,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientBuilder").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Sends everything by this HTTP client instead of one of its own: for proxies, client
    /// certificates, or connections that others use too. It must follow no redirects.
    #[must_use]
    pub fn http_client(mut self, http: reqwest::Client) -> Self {
        self.http = Some(http);
        self
    }

    /// Trusts these certificates (PEM) besides the system's.
    pub fn ca_certificates(mut self, pem: &[u8]) -> Result<Self, Error> {
        let certificates = Certificate::from_pem_bundle(pem)
            .map_err(|error| Error::Unusable(format!("certificates: {error}")))?;
        self.certificates.extend(certificates);
        Ok(self)
    }

    /// Signs the marketplace's callbacks (Standard Webhooks), as a server with
    /// `marketplace.signing_secret` asks for.
    pub fn marketplace_secret(mut self, secret: &str) -> Result<Self, Error> {
        self.marketplace = Some(MarketplaceSecret::parse(secret)?);
        Ok(self)
    }

    /// How often a call is made again that failed for a moment; three times where nothing is said.
    #[must_use]
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// How long one try of a call may take, from its beginning to the last byte of its answer; 30 s
    /// where nothing is said. Uploads and long polls have limits of their own.
    #[must_use]
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The `User-Agent`.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Builds it. Nothing is sent.
    #[expect(clippy::disallowed_methods, reason = "a library of its own has no door of the server")]
    pub fn build(self) -> Result<Client, Error> {
        let unusable = |what: &dyn fmt::Display| Error::Unusable(what.to_string());
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.token.expose()))
            .map_err(|_| unusable(&"the token has characters that no header can have"))?;
        bearer.set_sensitive(true);
        let user_agent =
            HeaderValue::from_str(&self.user_agent).map_err(|error| unusable(&error))?;
        let http = if let Some(http) = self.http {
            http
        } else {
            reqwest::Client::builder()
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_LIMIT)
                .tls_certs_merge(self.certificates)
                .build()
                .map_err(|error| unusable(&error))?
        };
        let inner = Inner {
            base: self.base,
            bearer,
            user_agent,
            http,
            marketplace: self.marketplace,
            limit: self.limit,
        };
        Ok(Client { inner: Arc::new(inner), retries: self.retries })
    }
}

struct Inner {
    base: Url,
    bearer: HeaderValue,
    user_agent: HeaderValue,
    http: reqwest::Client,
    marketplace: Option<MarketplaceSecret>,
    limit: Duration,
}

/// A server, as the holder of a token. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    retries: Retries,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("base", &self.inner.base.as_str())
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Begins a client of the server at this address, such as `https://mortise.example.com` (without
    /// `/api/v1`), as the holder of this token.
    pub fn builder(server: &str, token: impl Into<Secret>) -> Result<ClientBuilder, Error> {
        let base = Url::parse(server)
            .map_err(|error| Error::Unusable(format!("the server's address: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            let what = "the server's address must be an absolute http or https one";
            return Err(Error::Unusable(what.to_owned()));
        }
        Ok(ClientBuilder {
            base,
            token: token.into(),
            http: None,
            certificates: Vec::new(),
            marketplace: None,
            retries: Retries::default(),
            limit: CALL_LIMIT,
            user_agent: concat!("mortise-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// A client of the usual kind.
    pub fn new(server: &str, token: impl Into<Secret>) -> Result<Self, Error> {
        Self::builder(server, token)?.build()
    }

    /// The same with other retries.
    #[must_use]
    pub fn with_retries(&self, retries: Retries) -> Self {
        Self { inner: Arc::clone(&self.inner), retries }
    }

    /// Calls whatever else the API has: a path below the server's address, such as
    /// `/api/v1/notices?limit=10`, with a JSON body or none. An answer without a body is null.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let base = self.inner.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}"))
            .map_err(|error| Error::Unusable(format!("the path `{path}`: {error}")))?;
        if !path.starts_with('/') {
            return Err(Error::Unusable(format!("the path `{path}` does not begin with a slash")));
        }
        let call = Call::at(method, url);
        self.send(match body {
            Some(body) => call.json(body)?,
            None => call,
        })
        .await
    }

    pub(crate) fn base(&self) -> &Url {
        &self.inner.base
    }

    /// Makes a call, again where that helps, and reads its answer; an empty one as null.
    pub(crate) async fn send<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let body = self.exchange(&call).await?;
        let body = if body.is_empty() { b"null".as_slice() } else { &body };
        serde_json::from_slice(body).map_err(|error| Error::Unreadable(error.to_string()))
    }

    /// Makes a call whose answer says nothing more.
    pub(crate) async fn send_off(&self, call: Call) -> Result<(), Error> {
        self.exchange(&call).await.map(|_| ())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a library of its own has no clock of the server"
    )]
    async fn exchange(&self, call: &Call) -> Result<Vec<u8>, Error> {
        // One for all tries, as the idempotency key: the server answers it again for a day.
        let webhook_id = format!("msg_{}", uuid::Uuid::new_v4().simple());
        let mut tried = 0;
        loop {
            let error = match self.once(call, &webhook_id).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            tried += 1;
            let pause = self.retries.pause(tried, &error).filter(|_| call.may_repeat(&error));
            let Some(pause) = pause else { return Err(error) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, call: &Call, webhook_id: &str) -> Result<Vec<u8>, Error> {
        let inner = &self.inner;
        let mut request = reqwest::Request::new(call.method.clone(), call.url.clone());
        *request.timeout_mut() = Some(call.limit.unwrap_or(inner.limit));
        *request.headers_mut() = self.headers(call, webhook_id)?;
        if let Some((_, body)) = &call.body {
            *request.body_mut() = Some(match &call.watch {
                Some(watch) => reqwest::Body::wrap(Watched::new(body.clone(), Arc::clone(watch))),
                None => body.clone().into(),
            });
        }
        let mut response = inner.http.execute(request).await.map_err(Error::Unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Error::Unreachable)? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(Error::Unreadable(format!("it is larger than {ANSWER_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(body);
        }
        let text =
            |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let problem = Problem::read(status, text(CORRELATION_ID), text(RETRY_AFTER), &body);
        Err(Error::Refused(Box::new(problem)))
    }

    fn headers(&self, call: &Call, webhook_id: &str) -> Result<HeaderMap, Error> {
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|error| Error::Unusable(error.to_string()))
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.inner.bearer.clone());
        headers.insert(reqwest::header::USER_AGENT, self.inner.user_agent.clone());
        if let Some(key) = &call.idempotency_key {
            headers.insert(IDEMPOTENCY_KEY, value(key)?);
        }
        if let Some((kind, _)) = &call.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let (true, Some(secret)) = (call.is_callback, &self.inner.marketplace) {
            let now = seconds_now();
            let body = call.body.as_ref().map_or(&[][..], |(_, body)| body);
            headers.insert(WEBHOOK_ID, value(webhook_id)?);
            headers.insert(WEBHOOK_TIMESTAMP, value(&now.to_string())?);
            headers.insert(WEBHOOK_SIGNATURE, value(&secret.sign(webhook_id, now, body))?);
        }
        Ok(headers)
    }
}

/// The time of this machine, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a library of its own has no clock of the server")]
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn refused(status: u16, seconds: Option<&str>) -> Error {
        let status = StatusCode::from_u16(status).expect("a status");
        Error::Refused(Box::new(Problem::read(status, None, seconds, b"{}")))
    }

    #[test]
    fn pauses_double_and_heed_the_server() {
        let retries = Retries::up_to(3).longest(Duration::from_millis(800));
        let error = refused(500, None);
        let pauses: Vec<_> = (1..=4).map(|tried| retries.pause(tried, &error)).collect();
        let millis = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [millis(250), millis(500), millis(800), None]);
        assert_eq!(retries.pause(1, &refused(429, Some("0"))), millis(0));
        assert_eq!(retries.pause(1, &refused(429, Some("60"))), None, "too long to wait for");
        assert_eq!(Retries::NONE.pause(1, &error), None);
    }

    #[test]
    fn only_what_does_no_harm_is_repeated() {
        let client = Client::new("http://127.0.0.1:1", "t").expect("a client");
        let call = |operation| Call::new(&client, operation, &[&"x"]).expect("a call");
        let (post, get) = (call(crate::operation::RECOVER), call(crate::operation::WEBHOOK));
        let (patch, delete) =
            (call(crate::operation::CHANGE_WEBHOOK), call(crate::operation::DELETE_WEBHOOK));
        for call in [&post, &get] {
            assert!(call.may_repeat(&refused(500, None)));
            assert!(!call.may_repeat(&refused(422, None)));
        }
        assert!(post.idempotency_key.is_some() && get.idempotency_key.is_none());
        for call in [&patch, &delete] {
            assert!(!call.may_repeat(&refused(500, None)), "it may have been done");
            assert!(call.may_repeat(&refused(503, None)), "it was not begun");
        }
    }

    #[test]
    fn callbacks_alone_are_signed_and_tokens_are_not_printed() {
        let client = Client::builder("http://127.0.0.1:1", "hidden-token")
            .and_then(|builder| {
                builder.marketplace_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            })
            .and_then(ClientBuilder::build)
            .expect("a client");
        let names = |operation| {
            let call = Call::new(&client, operation, &[]).expect("a call");
            let call = call.json(&serde_json::json!({})).expect("a body");
            client.headers(&call, "msg_1").expect("headers")
        };
        let signed = names(crate::operation::INSTALL);
        assert_eq!(signed[WEBHOOK_ID], "msg_1");
        assert!(signed[WEBHOOK_SIGNATURE].to_str().expect("text").starts_with("v1,"));
        assert!(!names(crate::operation::POST_EVENTS).contains_key(WEBHOOK_SIGNATURE));
        let printed = format!("{client:?} {signed:?}");
        assert!(!printed.contains("hidden-token"), "{printed}");
        for bad in ["ftp://h", "mailto:x@y", "/path", "h.example"] {
            assert!(Client::new(bad, "t").is_err(), "{bad}");
        }
        assert!(Client::new("http://h", "a\nb").is_err());
    }
}
