//! Traces: what belongs to one request, over all processes that work on it (W3C Trace Context).
//!
//! Off unless somebody is to get them: then a [`Tracer`] hands finished spans to a bounded queue that
//! nobody waits for. What a request caused is known by the task that works on it, so that nothing has
//! to be handed through.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::seam::{Seam, Timestamp};

/// The header that carries a trace from process to process.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How many finished spans may wait; more are dropped and counted.
const QUEUE: usize = 4_096;

/// How many events' traces are remembered for their deliveries; the oldest are forgotten.
const REMEMBERED: usize = 10_000;

/// Where in a trace something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`; one that breaks the rules is as none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex::<1>(parts.next()?)?;
        let trace = hex::<16>(parts.next()?)?;
        let span = hex::<8>(parts.next()?)?;
        let flags = hex::<1>(parts.next()?)?;
        // Later versions may say more behind these four; the first one says nothing more.
        let is_known = version[0] != 0xff && (version[0] != 0 || parts.next().is_none());
        let is_set = trace != [0; 16] && span != [0; 8];
        (is_known && is_set).then_some(Self { trace, span, is_sampled: flags[0] & 1 == 1 })
    }

    /// The header for whoever is called from here.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.is_sampled);
        format!("00-{}-{}-{flags:02x}", digits(&self.trace), digits(&self.span))
    }

    /// Whether it is recorded.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }
}

/// Lower-case hexadecimal digits of exactly so many bytes.
fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let is_hex = text.len() == 2 * BYTES
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text never fails.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// We were called.
    Server,
    /// We call.
    Client,
}

/// What is said of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A span that is over.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace, in hexadecimal digits.
    pub trace_id: String,
    /// Its id, in hexadecimal digits.
    pub span_id: String,
    /// What it is part of, in hexadecimal digits.
    pub parent_id: Option<String>,
    /// What it is.
    pub name: String,
    /// Which side of a call.
    pub kind: SpanKind,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What is said of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// What went wrong, where something did.
    pub error: Option<String>,
}

/// Makes spans. Cloning shares the queue.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Span>,
    dropped: AtomicU64,
    /// How many of a hundred traces that begin here are recorded.
    sample_percent: u8,
    seam: Seam,
}

impl Tracer {
    /// A tracer, and the other end of its queue.
    pub fn new(sample_percent: u8, seam: Seam) -> (Self, mpsc::Receiver<Span>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let inner = Inner { queue, dropped: AtomicU64::new(0), sample_percent, seam };
        (Self(Arc::new(inner)), receiver)
    }

    /// Begins a span: within its parent's trace, else a trace of its own.
    pub fn begin(&self, name: String, kind: SpanKind, parent: Option<TraceContext>) -> OpenSpan {
        let randomness = &self.0.seam.randomness;
        // Ids need not be secret: where there is no randomness they come from a time-ordered id.
        let fallback = || *randomness.id().as_bytes();
        let fresh = randomness.bytes::<16>().unwrap_or_else(|_| fallback());
        let mut span = [0; 8];
        span.copy_from_slice(&randomness.bytes::<16>().unwrap_or_else(|_| fallback())[8..]);
        let context = match parent {
            Some(parent) => TraceContext { span, ..parent },
            None => TraceContext {
                trace: fresh,
                span,
                is_sampled: randomness.fraction() * 100.0 < f64::from(self.0.sample_percent),
            },
        };
        OpenSpan {
            tracer: self.clone(),
            context,
            parent: parent.map(|parent| parent.span),
            name,
            kind,
            began: self.0.seam.clock.now(),
            attributes: Vec::new(),
            error: None,
        }
    }

    /// How many spans were dropped since the last time.
    pub fn take_dropped(&self) -> u64 {
        self.0.dropped.swap(0, Ordering::Relaxed)
    }
}

/// A span that goes on. Dropped without [`OpenSpan::end`] it is told to nobody.
#[derive(Debug)]
pub struct OpenSpan {
    tracer: Tracer,
    context: TraceContext,
    parent: Option<[u8; 8]>,
    name: String,
    kind: SpanKind,
    began: Timestamp,
    attributes: Vec<(&'static str, Attribute)>,
    error: Option<String>,
}

impl OpenSpan {
    /// What happens within it, for whoever goes on with it.
    pub fn trace(&self) -> Trace {
        Trace { tracer: self.tracer.clone(), context: self.context }
    }

    /// Says a text of it.
    pub fn text(&mut self, name: &'static str, text: impl Into<String>) {
        self.attributes.push((name, Attribute::Text(text.into())));
    }

    /// Says a number of it.
    pub fn number(&mut self, name: &'static str, number: impl Into<i64>) {
        self.attributes.push((name, Attribute::Number(number.into())));
    }

    /// Says what went wrong.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.error = Some(what.into());
    }

    /// Tells the receiver of a request that it is part of this, unless the headers say something.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.context.traceparent()) {
            headers.entry(TRACEPARENT).or_insert(value);
        }
    }

    /// Ends it. Nobody waits: where the queue is full it is dropped and counted.
    pub fn end(self) {
        if !self.context.is_sampled {
            return;
        }
        let inner = &self.tracer.0;
        let span = Span {
            trace_id: digits(&self.context.trace),
            span_id: digits(&self.context.span),
            parent_id: self.parent.map(|parent| digits(&parent)),
            name: self.name,
            kind: self.kind,
            began: self.began,
            ended: inner.seam.clock.now(),
            attributes: self.attributes,
            error: self.error,
        };
        if inner.queue.try_send(span).is_err() {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A place in a trace, with who records it.
#[derive(Clone, Debug)]
pub struct Trace {
    tracer: Tracer,
    context: TraceContext,
}

impl Trace {
    /// Begins a span within it.
    pub fn begin(&self, name: String, kind: SpanKind) -> OpenSpan {
        self.tracer.begin(name, kind, Some(self.context))
    }
}

tokio::task_local! {
    static CURRENT: Trace;
}

/// Does something as part of a trace.
pub async fn within<F: Future>(trace: Option<Trace>, work: F) -> F::Output {
    match trace {
        Some(trace) => Box::pin(CURRENT.scope(trace, work)).await,
        None => work.await,
    }
}

/// What this task is part of.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(Trace::clone).ok()
}

/// Of which traces events are, for as long as this node remembers.
#[derive(Debug, Default)]
pub struct EventTraces {
    count: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    of: HashMap<Uuid, Trace>,
    order: VecDeque<Uuid>,
}

impl EventTraces {
    /// Remembers of which trace an event is.
    pub fn remember(&self, event: Uuid, trace: Trace) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.of.insert(event, trace).is_none() {
            kept.order.push_back(event);
        }
        if kept.order.len() > REMEMBERED
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.of.remove(&oldest);
        }
        self.count.store(kept.order.len(), Ordering::Release);
    }

    /// The trace of an event. Costs one look at a number where there are none.
    pub fn of(&self, event: Uuid) -> Option<Trace> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).of.get(&event).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_its_specification_says() {
        let context = TraceContext::parse(PARENT).expect("the specification's example");
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), PARENT);
        let later = format!("cc{}-what-comes", &PARENT[2..]);
        assert!(TraceContext::parse(&later).is_some(), "of a version to come");
        for wrong in [
            "",
            "00",
            &PARENT[..54],
            &PARENT.to_ascii_uppercase(),
            &format!("{PARENT}-more"),
            &format!("ff{}", &PARENT[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ä-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn spans_are_of_their_parents_trace_and_tell_it_on() {
        let (tracer, mut receiver) = Tracer::new(0, Seam::default());
        let parent = TraceContext::parse(PARENT);
        let mut span = tracer.begin("GET /x".to_owned(), SpanKind::Server, parent);
        span.number("http.response.status_code", 200_u16);
        let below = within(Some(span.trace()), async {
            current().expect("it is part of one").begin("call".to_owned(), SpanKind::Client)
        });
        let below = below.await;
        assert!(current().is_none(), "outside of it nothing is");
        let mut headers = HeaderMap::new();
        below.tell(&mut headers);
        let told = headers[TRACEPARENT].to_str().expect("text").to_owned();
        assert!(told.starts_with(&PARENT[..36]) && told != PARENT, "{told}");
        below.end();
        span.end();
        let (first, second) =
            (receiver.recv().await.expect("it"), receiver.recv().await.expect("it"));
        assert_eq!(first.parent_id.as_deref(), Some(second.span_id.as_str()));
        assert_eq!(second.parent_id.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!((&first.trace_id, &second.trace_id), (&second.trace_id, &first.trace_id));
        // One's own traces are recorded by the percentage, and told on in any case.
        let unsampled = tracer.begin("GET /y".to_owned(), SpanKind::Server, None);
        let mut headers = HeaderMap::new();
        unsampled.tell(&mut headers);
        assert!(headers[TRACEPARENT].to_str().expect("text").ends_with("-00"));
        unsampled.end();
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted_and_little_is_remembered() {
        let (tracer, _receiver) = Tracer::new(100, Seam::default());
        for _ in 0..QUEUE + 3 {
            tracer.begin("x".to_owned(), SpanKind::Server, None).end();
        }
        assert_eq!((tracer.take_dropped(), tracer.take_dropped()), (3, 0));
        let remembered = EventTraces::default();
        let trace = tracer.begin("x".to_owned(), SpanKind::Server, None).trace();
        for number in 0..=REMEMBERED as u128 {
            remembered.remember(Uuid::from_u128(number), trace.clone());
        }
        assert!(remembered.of(Uuid::from_u128(0)).is_none());
        assert!(remembered.of(Uuid::from_u128(1)).is_some());
    }
}
