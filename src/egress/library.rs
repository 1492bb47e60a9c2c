//! Requests that the HTTP library carries: through the operator's proxy, and to the operator's own
//! hosts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use reqwest::{NoProxy, Proxy, redirect};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};
use url::Url;

use super::answer::{Answer, ErrorClass, Outcome};
use super::client::{CONNECT, EgressError, EgressOptions, IDLE, IDLE_PER_HOST, chain};
use super::exchange::{DRAINED, OutgoingRequest};
use super::gated::{Gate, GatedBody, Withdrawn};
use super::probe::{Probe, Stage};
use super::resolver::VettingResolver;
use super::vetting::{Policy, Trust};
use crate::seam::Clock;

tokio::task_local! {
    /// The request on whose behalf a connection is opened: the connector passes no port to the
    /// resolver and no timing back.
    pub(super) static CONNECTING: Arc<Probe>;

    /// The gate of that request: one without a body asks no more once it is sent.
    static GATE: Option<Gate>;
}

/// The HTTP library's client.
pub(super) struct Library(reqwest::Client);

impl Library {
    #[expect(clippy::disallowed_methods, reason = "this is the door that the rule keeps shut")]
    pub(super) fn new(
        options: &EgressOptions,
        clock: &Clock,
        policy: &Arc<Policy>,
        tls: rustls::ClientConfig,
        trust: Trust,
    ) -> Result<Self, EgressError> {
        let proxy_host = options.proxy.as_ref().and_then(Url::host_str).map(Box::from);
        let resolver = VettingResolver {
            resolver: options.resolver.clone(),
            policy: (trust == Trust::Vetted).then(|| Arc::clone(policy)),
            proxy: proxy_host,
            clock: clock.clone(),
        };
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .user_agent(&options.user_agent)
            .dns_resolver(resolver)
            .connector_layer(ProbeLayer { clock: clock.clone() })
            .tls_backend_preconfigured(tls);
        if let Some(url) = &options.proxy {
            let proxy = Proxy::all(url.clone()).map_err(|_| EgressError::Proxy)?;
            // The operator's own services on this machine are not behind the proxy.
            let local = (trust == Trust::Operator)
                .then(|| NoProxy::from_string("localhost,127.0.0.0/8,::1"))
                .flatten();
            builder = builder.proxy(proxy.no_proxy(local));
        }
        builder.build().map(Self).map_err(|error| EgressError::Client(chain(&error)))
    }

    pub(super) async fn exchange(
        &self,
        request: OutgoingRequest,
        probe: &Arc<Probe>,
        started: Instant,
    ) -> Outcome {
        let gate = request.gate.clone();
        let sending = GATE.scope(gate, self.send(request, probe, started));
        CONNECTING.scope(Arc::clone(probe), sending).await
    }

    async fn send(&self, request: OutgoingRequest, probe: &Probe, started: Instant) -> Outcome {
        let failed = |error: reqwest::Error| {
            let stage = stage_of(&error);
            probe.failed(&error.without_url(), stage, started.elapsed())
        };
        let body = GatedBody::new(request.gate, request.body).map_err(|withdrawn| {
            probe.error(ErrorClass::Withdrawn, withdrawn.to_string(), started.elapsed())
        })?;
        let mut outgoing = reqwest::Request::new(request.method, request.url.url().clone());
        *outgoing.headers_mut() = request.headers;
        for framing in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            outgoing.headers_mut().remove(framing);
        }
        *outgoing.body_mut() = Some(reqwest::Body::wrap(body));

        let mut response = self.0.execute(outgoing).await.map_err(failed)?;
        let status = response.status();
        probe.answered(started.elapsed(), status);
        let remote_address = response.remote_addr();
        let headers = std::mem::take(response.headers_mut());
        let (body_excerpt, truncated) =
            read_body(&mut response, request.response_limit).await.map_err(failed)?;
        Ok(Answer {
            status,
            headers,
            body_excerpt,
            truncated,
            timing: probe.phases(started.elapsed()),
            remote_address,
        })
    }
}

pub(super) fn stage_of(error: &reqwest::Error) -> Stage {
    if error.is_builder() {
        Stage::Writing
    } else if error.is_dns() {
        Stage::Resolving
    } else if error.is_timeout() {
        Stage::Overdue
    } else if error.is_connect() {
        Stage::Connecting
    } else {
        Stage::Exchanging
    }
}

/// Reads up to the limit. What follows is left unread, and the connection with it, unless the
/// answer announced that little remains.
async fn read_body(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<(Bytes, bool), reqwest::Error> {
    let mut excerpt = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - excerpt.len();
        if chunk.len() <= room {
            excerpt.extend_from_slice(&chunk);
            continue;
        }
        excerpt.extend_from_slice(&chunk[..room]);
        // The length that is left of an announced body; unknown for a chunked one.
        if response.content_length().is_some_and(|left| left <= DRAINED) {
            // The excerpt is whole already: an error here only costs the connection.
            while let Ok(Some(_)) = response.chunk().await {}
        }
        return Ok((excerpt.into(), true));
    }
    Ok((excerpt.into(), false))
}

/// Carries the probe of the request that opens a connection into the connector.
#[derive(Clone)]
struct ProbeLayer {
    clock: Clock,
}

impl<S> Layer<S> for ProbeLayer {
    type Service = ProbedConnector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProbedConnector { inner, clock: self.clock.clone() }
    }
}

#[derive(Clone)]
struct ProbedConnector<S> {
    inner: S,
    clock: Clock,
}

impl<S, Target> Service<Target> for ProbedConnector<S>
where
    S: Service<Target, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = self.inner.call(target);
        let Ok(probe) = CONNECTING.try_with(Arc::clone) else {
            return Box::pin(connecting);
        };
        let gate = GATE.try_with(Option::clone).ok().flatten();
        let started = self.clock.instant();
        // The attempt may go on after its request found a free connection, in another task: the
        // scope goes with it.
        Box::pin(CONNECTING.scope(Arc::clone(&probe), async move {
            let connection = connecting.await?;
            probe.connected(started.elapsed());
            // Connecting may have taken seconds, and a request without a body asks nowhere else.
            if gate.is_some_and(|gate| !gate.is_open()) {
                return Err(Withdrawn.into());
            }
            Ok(connection)
        }))
    }
}
