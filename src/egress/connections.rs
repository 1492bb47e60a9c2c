//! Connections to vendors' receivers: opened to a vetted address, kept for the next request.
//!
//! A kept connection is used by one request at a time and goes back when the answer was read to its
//! end. What fails is not tried again here, but for a request of which nothing was written: it goes
//! over another connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING, USER_AGENT,
};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{Answer, ErrorClass, Outcome};
use super::client::{IDLE, IDLE_PER_HOST};
use super::connecting::{Connector, Open};
use super::exchange::{DRAINED, OutgoingRequest};
use super::gated::GatedBody;
use super::probe::{Probe, Stage};
use super::vetting::Origin;
use crate::seam::Clock;

/// Connections of one door. Cloning shares them.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    connector: Connector,
    user_agent: Option<HeaderValue>,
    clock: Clock,
    kept: Mutex<HashMap<Arc<Origin>, Vec<Kept>>>,
    is_swept: AtomicBool,
}

/// A connection between two requests.
struct Kept {
    open: Open,
    since: Instant,
}

impl Connections {
    pub(super) fn new(connector: Connector, user_agent: &str, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            connector,
            user_agent: HeaderValue::from_str(user_agent).ok().filter(|value| !value.is_empty()),
            clock,
            kept: Mutex::default(),
            is_swept: AtomicBool::new(false),
        }))
    }

    pub(super) async fn exchange(
        &self,
        request: OutgoingRequest,
        probe: &Probe,
        started: Instant,
    ) -> Outcome {
        let OutgoingRequest { method, url, headers, body, response_limit, gate, .. } = request;
        let Some((origin, target, host)) = url.written() else {
            let detail = "its address cannot be written as a request target".to_owned();
            return Err(probe.error(ErrorClass::InvalidRequest, detail, started.elapsed()));
        };
        let body = GatedBody::new(gate, body).map_err(|withdrawn| {
            probe.error(ErrorClass::Withdrawn, withdrawn.to_string(), started.elapsed())
        })?;
        let mut outgoing = http::Request::new(body);
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = target.clone();
        *outgoing.headers_mut() = headers;
        let headers = outgoing.headers_mut();
        for framing in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            headers.remove(framing);
        }
        headers.insert(HOST, host.clone());
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Some(user_agent) = &self.0.user_agent
            && !headers.contains_key(USER_AGENT)
        {
            headers.insert(USER_AGENT, user_agent.clone());
        }
        loop {
            let kept = self.take(origin).await;
            let is_kept = kept.is_some();
            let mut open = match kept {
                Some(open) => open,
                // Seldom and large: kept out of the future that each delivery moves about.
                None => {
                    Box::pin(self.0.connector.open(origin, probe)).await.map_err(|failure| {
                        probe.failed(failure.cause(), failure.stage(), started.elapsed())
                    })?
                }
            };
            // Connecting may have taken seconds.
            outgoing.body().may_begin().map_err(|withdrawn| {
                probe.error(ErrorClass::Withdrawn, withdrawn.to_string(), started.elapsed())
            })?;
            match open.sender.try_send_request(outgoing).await {
                Ok(response) => {
                    return self.read(origin, open, response, response_limit, probe, started).await;
                }
                Err(mut failed) => match failed.take_message() {
                    // The receiver closed it just now, and nothing of this was written.
                    Some(unsent) if is_kept => outgoing = unsent,
                    _ => {
                        let error = failed.into_error();
                        return Err(probe.failed(&error, Stage::Exchanging, started.elapsed()));
                    }
                },
            }
        }
    }

    async fn read(
        &self,
        origin: &Arc<Origin>,
        open: Open,
        response: http::Response<Incoming>,
        limit: usize,
        probe: &Probe,
        started: Instant,
    ) -> Outcome {
        let (head, mut body) = response.into_parts();
        probe.answered(started.elapsed(), head.status);
        let remote_address = Some(open.remote);
        let (body_excerpt, truncated, is_read) = read_body(&mut body, limit)
            .await
            .map_err(|error| probe.failed(&error, Stage::Exchanging, started.elapsed()))?;
        if is_read {
            self.keep(origin, open);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body_excerpt,
            truncated,
            timing: probe.phases(started.elapsed()),
            remote_address,
        })
    }

    /// A kept connection that still stands, as far as that can be known.
    async fn take(&self, origin: &Arc<Origin>) -> Option<Open> {
        loop {
            let mut open = {
                let mut kept = self.kept();
                let connections = kept.get_mut(origin)?;
                let last = connections.pop();
                if connections.is_empty() {
                    kept.remove(origin);
                }
                let last = last?;
                // The last one is the freshest: behind it all are older.
                if last.since.elapsed() > IDLE {
                    kept.remove(origin);
                    return None;
                }
                last.open
            };
            // It is ready as soon as its task has seen the end of the last answer, and never again
            // once the receiver has closed it.
            if open.sender.is_ready() || open.sender.ready().await.is_ok() {
                return Some(open);
            }
        }
    }

    fn keep(&self, origin: &Arc<Origin>, open: Open) {
        if open.sender.is_closed() {
            return;
        }
        let since = self.0.clock.instant();
        {
            let mut kept = self.kept();
            let connections = kept.entry(Arc::clone(origin)).or_default();
            if connections.len() < IDLE_PER_HOST {
                connections.push(Kept { open, since });
            }
        }
        if !self.0.is_swept.load(Ordering::Relaxed) && !self.0.is_swept.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(sweep(Arc::downgrade(&self.0), self.0.clock.clone()));
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Vec<Kept>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody used for a while, until the door is gone or nothing is kept.
async fn sweep(inner: Weak<Inner>, clock: Clock) {
    loop {
        clock.sleep(IDLE / 2).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut kept = inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, connections| {
            connections
                .retain(|kept| kept.since.elapsed() <= IDLE && !kept.open.sender.is_closed());
            !connections.is_empty()
        });
        if kept.is_empty() {
            // Under the lock: whoever keeps one next begins anew.
            inner.is_swept.store(false, Ordering::Release);
            return;
        }
    }
}

/// Reads up to the limit. What follows is left unread, and the connection with it, unless the
/// answer announced that little remains. Returns the excerpt, whether more followed, and whether
/// the connection can be used again.
async fn read_body(body: &mut Incoming, limit: usize) -> Result<(Bytes, bool, bool), hyper::Error> {
    let mut first: Option<Bytes> = None;
    let mut excerpt = Vec::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let Ok(chunk) = frame?.into_data() else { continue };
        let so_far = first.as_ref().map_or(excerpt.len(), Bytes::len);
        if so_far == 0 && chunk.len() <= limit {
            // Nearly always there is one chunk: nothing is copied.
            first = Some(chunk);
            continue;
        }
        if let Some(first) = first.take() {
            excerpt.extend_from_slice(&first);
        }
        let room = limit - excerpt.len();
        if chunk.len() <= room {
            excerpt.extend_from_slice(&chunk);
            continue;
        }
        excerpt.extend_from_slice(&chunk[..room]);
        // The length that is left of an announced body; unknown for a chunked one.
        let is_short = body.size_hint().exact().is_some_and(|left| left <= DRAINED);
        return Ok((excerpt.into(), true, is_short && drain(body).await));
    }
    Ok((first.unwrap_or_else(|| excerpt.into()), false, true))
}

/// Reads the rest. The excerpt is whole already: an error here only costs the connection.
async fn drain(body: &mut Incoming) -> bool {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}
