//! One request and its answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::vetting::{Refusal, VettedUrl};
use crate::seam::Clock;

/// Bytes beyond the cap that are still read where the answer says that no more follow: that keeps
/// the connection.
const DRAINED: u64 = 64 * 1_024;
/// Longest text of an error.
const LONGEST_DETAIL: usize = 300;
/// Stands for "not measured" in a cell.
const UNSET: u32 = u32::MAX;

tokio::task_local! {
    /// The request on whose behalf a connection is opened: the connector passes no port to the
    /// resolver and no timing back.
    pub(super) static CONNECTING: Arc<Probe>;
}

/// Asked right before the first byte of a request is written, when the connection stands; answers
/// whether the request may still begin.
///
/// It must be quick and must not block. A request without a body is asked about before connecting
/// only.
#[derive(Clone)]
pub struct Gate(Arc<dyn Fn() -> bool + Send + Sync>);

impl Gate {
    /// A gate that asks the function.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_open))
    }

    fn is_open(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gate")
    }
}

/// What is to be sent.
#[derive(Debug)]
pub struct OutgoingRequest {
    /// The method.
    pub method: Method,
    /// The destination.
    pub url: VettedUrl,
    /// The headers. `Host` and those that frame the message are taken out and made anew; `Accept`
    /// and `User-Agent` are added where they are missing.
    pub headers: HeaderMap,
    /// The body; may be empty.
    pub body: Bytes,
    /// The time for everything, from name resolution to the last byte of the answer.
    pub deadline: Duration,
    /// Bytes of the answer's body that are kept; what follows is not read.
    pub response_limit: usize,
    /// Whether the request may still begin; always, where there is none.
    pub gate: Option<Gate>,
}

/// How long each phase took, in microseconds, as far as it was reached.
///
/// `dns` and `connect` are missing where a kept connection was used; `connect` is TCP and TLS
/// together, for the connector does not tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Name resolution.
    pub dns_micros: Option<u32>,
    /// TCP and TLS handshakes.
    pub connect_micros: Option<u32>,
    /// From the start to the answer's headers.
    pub first_byte_micros: Option<u32>,
    /// Reading the answer's body.
    pub body_micros: Option<u32>,
    /// From the start to the end.
    pub total_micros: u32,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The headers; the connection bounds them to about 400 KiB and 100.
    pub headers: HeaderMap,
    /// The beginning of the body, up to the limit.
    pub body_excerpt: Bytes,
    /// Whether more followed.
    pub truncated: bool,
    /// How long it took.
    pub timing: Phases,
    /// What was connected to: the receiver, or the proxy where one is configured.
    pub remote_address: Option<SocketAddr>,
}

impl Answer {
    /// The headers as texts, for keeping: at most so many, and at most so many bytes in all.
    /// Values that are no UTF-8 are shown with replacement characters.
    pub fn header_texts(&self, most: usize, most_bytes: usize) -> Vec<(String, String)> {
        let mut left = most_bytes;
        let mut texts = Vec::new();
        for (name, value) in self.headers.iter().take(most) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else {
                break;
            };
            left = rest;
            texts.push((name.as_str().to_owned(), value.into_owned()));
        }
        texts
    }
}

/// Which kind of failure kept an answer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The address is not public, and not allowed.
    AddressRefused,
    /// The name has no addresses, or nobody answered for it.
    NameResolution,
    /// No connection: refused, unreachable.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection was closed or reset before the answer was complete.
    ConnectionClosed,
    /// What came back is not HTTP, or its head is too large.
    Protocol,
    /// The request cannot be written as HTTP.
    InvalidRequest,
    /// The gate was closed: nothing was sent.
    Withdrawn,
}

impl ErrorClass {
    /// A stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressRefused => "addressRefused",
            Self::NameResolution => "nameResolution",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::ConnectionClosed => "connectionClosed",
            Self::Protocol => "protocol",
            Self::InvalidRequest => "invalidRequest",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// What the receiver's owner can look at.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::AddressRefused => {
                "The name leads to an address that is not public. Use a public address, or have the operator allow this one in egress.allow."
            }
            Self::NameResolution => {
                "The name cannot be resolved. Check its spelling and its DNS records."
            }
            Self::Connect => {
                "Nothing accepts connections there. Check that the receiver runs and that its firewall lets us in."
            }
            Self::Tls => {
                "The secure connection failed. Check that the certificate is valid, complete with its intermediates, and made for this name."
            }
            Self::Timeout => "The receiver took too long. Answer first and do the work afterwards.",
            Self::ConnectionClosed => {
                "The receiver closed the connection before its answer was complete. Look for a crash or a proxy's timeout there."
            }
            Self::Protocol => {
                "The answer is not HTTP/1.1. Check the port, and whether it expects https."
            }
            Self::InvalidRequest => {
                "The request cannot be written as HTTP. Check the URL and the headers."
            }
            Self::Withdrawn => "It was withdrawn before it was sent: nothing left.",
        }
    }
}

/// Why no answer came. Neither text contains the URL.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", class.as_str())]
pub struct SendError {
    /// Which kind of failure.
    pub class: ErrorClass,
    /// What exactly was seen, without anything secret.
    pub detail: String,
    /// What the receiver's owner can look at.
    pub hint: &'static str,
    /// How far it came and how long that took.
    pub timing: Phases,
    /// The status, where the answer broke off after its headers.
    pub status: Option<StatusCode>,
}

impl SendError {
    /// Whether a kept connection broke before anything came back, as when the receiver restarted
    /// or closed it while the request was on its way. That says nothing about the receiver now, so
    /// a delivery may be tried again at once; it may have been received.
    pub fn is_stale_connection(&self) -> bool {
        self.class == ErrorClass::ConnectionClosed
            && self.status.is_none()
            && self.timing.connect_micros.is_none()
    }
}

/// How a request ended.
pub type Outcome = Result<Answer, SendError>;

/// What is learned while a request is under way, also where it is cut off.
pub(super) struct Probe {
    pub(super) port: u16,
    is_https: bool,
    dns: AtomicU32,
    connect: AtomicU32,
    first_byte: AtomicU32,
    status: AtomicU16,
    refusal: OnceLock<Refusal>,
}

impl Probe {
    fn new(port: u16, is_https: bool) -> Self {
        Self {
            port,
            is_https,
            dns: AtomicU32::new(UNSET),
            connect: AtomicU32::new(UNSET),
            first_byte: AtomicU32::new(UNSET),
            status: AtomicU16::new(0),
            refusal: OnceLock::new(),
        }
    }

    pub(super) fn resolved(&self, span: Duration) {
        self.dns.store(micros(span), Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, refusal: Refusal) {
        // The first reason is as good as any other.
        let _ = self.refusal.set(refusal);
    }

    fn connected(&self, span: Duration) {
        let dns = get(&self.dns).unwrap_or(0);
        self.connect.store(micros(span).saturating_sub(dns), Ordering::Relaxed);
    }

    fn answered(&self, span: Duration, status: StatusCode) {
        self.first_byte.store(micros(span), Ordering::Relaxed);
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    fn phases(&self, total: Duration) -> Phases {
        let total_micros = micros(total);
        let first_byte_micros = get(&self.first_byte);
        Phases {
            dns_micros: get(&self.dns),
            connect_micros: get(&self.connect),
            first_byte_micros,
            body_micros: first_byte_micros.map(|first| total_micros.saturating_sub(first)),
            total_micros,
        }
    }

    fn error(&self, class: ErrorClass, detail: String, total: Duration) -> SendError {
        SendError {
            class,
            detail,
            hint: class.hint(),
            timing: self.phases(total),
            status: StatusCode::from_u16(self.status.load(Ordering::Relaxed)).ok(),
        }
    }

    fn timed_out(&self, total: Duration) -> SendError {
        let phase = if get(&self.first_byte).is_some() {
            "while reading the answer's body"
        } else if get(&self.connect).is_some() {
            "while waiting for the answer"
        } else {
            "before the answer, while connecting or waiting on a kept connection"
        };
        let detail = format!("the deadline passed {phase}, after {} ms", total.as_millis());
        self.error(ErrorClass::Timeout, detail, total)
    }
}

fn get(cell: &AtomicU32) -> Option<u32> {
    Some(cell.load(Ordering::Relaxed)).filter(|value| *value != UNSET)
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(UNSET - 1).min(UNSET - 1)
}

/// Sends one request and reads its answer, within its deadline.
pub(super) async fn run(
    client: &reqwest::Client,
    clock: &Clock,
    request: OutgoingRequest,
) -> Outcome {
    let started = clock.instant();
    let probe = Arc::new(Probe::new(request.url.port(), request.url.url().scheme() == "https"));
    let deadline = started + request.deadline;
    let exchange = CONNECTING.scope(Arc::clone(&probe), exchange(client, request, &probe, started));
    match tokio::time::timeout_at(deadline, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(probe.timed_out(started.elapsed())),
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: OutgoingRequest,
    probe: &Probe,
    started: Instant,
) -> Outcome {
    let failed = |error: reqwest::Error| {
        let (class, detail) = classify(&error.without_url(), probe);
        probe.error(class, detail, started.elapsed())
    };
    let body = match request.gate {
        None => reqwest::Body::from(request.body),
        Some(gate) if request.body.is_empty() => {
            if !gate.is_open() {
                let detail = Withdrawn.to_string();
                return Err(probe.error(ErrorClass::Withdrawn, detail, started.elapsed()));
            }
            reqwest::Body::from(request.body)
        }
        Some(gate) => reqwest::Body::wrap(GatedBody { gate, bytes: Some(request.body) }),
    };
    let mut outgoing = reqwest::Request::new(request.method, request.url.url().clone());
    *outgoing.headers_mut() = request.headers;
    for framing in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
        outgoing.headers_mut().remove(framing);
    }
    *outgoing.body_mut() = Some(body);

    let mut response = client.execute(outgoing).await.map_err(failed)?;
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

/// Finds the class and a safe text for a failure.
fn classify(error: &reqwest::Error, probe: &Probe) -> (ErrorClass, String) {
    if let Some(refusal) = probe.refusal.get() {
        return (ErrorClass::AddressRefused, refusal.to_string());
    }
    let mut deepest: &(dyn StdError + 'static) = error;
    let mut io_kind = None;
    let mut class = None;
    loop {
        if deepest.is::<Withdrawn>() {
            class = Some(ErrorClass::Withdrawn);
        } else if let Some(error) = deepest.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                class = class.or(Some(ErrorClass::Protocol));
            } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
                class = class.or(Some(ErrorClass::ConnectionClosed));
            }
        } else if let Some(error) = deepest.downcast_ref::<io::Error>() {
            io_kind = io_kind.or(Some(innermost_kind(error)));
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    let class = class.unwrap_or_else(|| {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, TimedOut, UnexpectedEof,
        };
        if error.is_builder() {
            return ErrorClass::InvalidRequest;
        }
        if error.is_dns() {
            return ErrorClass::NameResolution;
        }
        match io_kind {
            _ if error.is_timeout() => ErrorClass::Timeout,
            Some(TimedOut) => ErrorClass::Timeout,
            // While connecting, only the TLS handshake reads.
            Some(InvalidData | UnexpectedEof | ConnectionReset | BrokenPipe)
                if error.is_connect() && probe.is_https =>
            {
                ErrorClass::Tls
            }
            // Reset as soon as it stood.
            Some(ConnectionReset | BrokenPipe) if error.is_connect() => {
                ErrorClass::ConnectionClosed
            }
            _ if error.is_connect() => ErrorClass::Connect,
            // A receiver that wants our certificate says so after the handshake, instead of an
            // answer. Within one it is the coding of the body that is broken.
            Some(InvalidData) if probe.is_https && get(&probe.first_byte).is_none() => {
                ErrorClass::Tls
            }
            Some(ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof) => {
                ErrorClass::ConnectionClosed
            }
            _ => ErrorClass::Protocol,
        }
    });
    let detail = deepest
        .to_string()
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(LONGEST_DETAIL)
        .collect();
    (class, detail)
}

/// The kind that was there before others wrapped the error, as the TLS connector does.
fn innermost_kind(error: &io::Error) -> io::ErrorKind {
    let mut innermost = error;
    while let Some(inner) = innermost.get_ref().and_then(|inner| inner.downcast_ref()) {
        innermost = inner;
    }
    innermost.kind()
}

/// The gate was closed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("withdrawn before the first byte was sent")]
struct Withdrawn;

/// A body that asks the gate when it is first read.
///
/// The HTTP/1 connection reads the body before it writes out the head that it has prepared, so an
/// error here ends the exchange with nothing sent.
struct GatedBody {
    gate: Gate,
    bytes: Option<Bytes>,
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        if self.gate.is_open() {
            Poll::Ready(Some(Ok(Frame::data(bytes))))
        } else {
            Poll::Ready(Some(Err(Withdrawn)))
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Carries the probe of the request that opens a connection into the connector.
#[derive(Clone)]
pub(super) struct ProbeLayer {
    pub(super) clock: Clock,
}

impl<S> Layer<S> for ProbeLayer {
    type Service = ProbedConnector<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ProbedConnector { inner, clock: self.clock.clone() }
    }
}

#[derive(Clone)]
pub(super) struct ProbedConnector<S> {
    inner: S,
    clock: Clock,
}

impl<S, Target> Service<Target> for ProbedConnector<S>
where
    S: Service<Target>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = self.inner.call(target);
        let Ok(probe) = CONNECTING.try_with(Arc::clone) else {
            return Box::pin(connecting);
        };
        let started = self.clock.instant();
        // The attempt may go on after its request found a free connection, in another task: the
        // scope goes with it.
        Box::pin(CONNECTING.scope(Arc::clone(&probe), async move {
            let connection = connecting.await;
            if connection.is_ok() {
                probe.connected(started.elapsed());
            }
            connection
        }))
    }
}
