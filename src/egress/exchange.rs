//! One request and its answer, within its deadline.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::answer::Outcome;
use super::connections::Connections;
use super::gated::Gate;
use super::library::Library;
use super::probe::Probe;
use super::vetting::VettedUrl;
use crate::seam::Clock;

/// Bytes beyond the cap that are still read where the answer says that no more follow: that keeps
/// the connection.
pub(super) const DRAINED: u64 = 64 * 1_024;

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

/// Who carries a request.
pub(super) enum Carrier {
    /// The HTTP library, with all that it can: proxies above all.
    Library(Library),
    /// Connections of our own, for the thousands a second that go to vendors.
    Own(Connections),
}

/// Sends one request and reads its answer.
pub(super) async fn run(carrier: &Carrier, clock: &Clock, request: OutgoingRequest) -> Outcome {
    let started = clock.instant();
    let probe = Probe::new(request.url.port(), request.url.url().scheme() == "https");
    let deadline = started + request.deadline;
    match carrier {
        Carrier::Own(connections) => {
            let exchange = connections.exchange(request, &probe, started);
            let ended = tokio::time::timeout_at(deadline, exchange).await;
            ended.unwrap_or_else(|_| Err(probe.timed_out(started.elapsed())))
        }
        // Seldom and large: kept out of the future that each delivery moves about.
        Carrier::Library(library) => {
            let probe = std::sync::Arc::new(probe);
            let exchange = Box::pin(library.exchange(request, &probe, started));
            let ended = tokio::time::timeout_at(deadline, exchange).await;
            ended.unwrap_or_else(|_| Err(probe.timed_out(started.elapsed())))
        }
    }
}
