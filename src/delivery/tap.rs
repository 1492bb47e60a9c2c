//! Copies of requests for those who listen: taken as a request is about to be sent, with its exact
//! bytes, and put into a bounded queue. Nothing ever waits for it: what finds no room is counted.
//!
//! While nobody listens that costs one atomic load a delivery.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use http::Method;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::lane::Job;
use super::trial::shown_headers;
use crate::rate::KeyedRate;
use crate::seam::{Clock, Timestamp};
use crate::webhook::{Endpoint, mask_context};

/// How many copies wait to be written, and how many bytes they may have in all.
const QUEUE: usize = 1_024;
const QUEUE_BYTES: usize = 32 << 20;

/// How many copies one listener gets a minute, and at once.
const PER_MINUTE: u32 = 3_000;
const BURST: u32 = 500;

/// The largest body that is copied; of larger ones only the head is.
pub(crate) const LARGEST_BODY: usize = 1 << 20;

/// What a listener wants copies of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TapOf {
    /// One webhook.
    Webhook(Uuid),
    /// The webhooks of an installation.
    Installation(Uuid),
    /// The webhooks of an extension, of all orgs or of one.
    Extension {
        /// Its key.
        key: String,
        /// The org, where the listener may see one only.
        org: Option<String>,
    },
}

impl TapOf {
    fn covers(&self, endpoint: &Endpoint) -> bool {
        let owner = endpoint.owner.as_ref();
        match self {
            Self::Webhook(id) => endpoint.id == *id,
            Self::Installation(id) => owner.is_some_and(|owner| owner.installation_id == *id),
            Self::Extension { key, org } => {
                owner.is_some_and(|owner| *owner.extension_key == **key)
                    && org.as_ref().is_none_or(|org| **org == *endpoint.org_id)
            }
        }
    }
}

/// Who listens, and to what.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    pub(crate) listener: Uuid,
    pub(crate) of: TapOf,
}

/// The copy of a request, without what is secret in it.
#[derive(Debug)]
pub(crate) struct TappedRequest {
    pub(crate) listener: Uuid,
    pub(crate) at: Timestamp,
    pub(crate) delivery_id: Uuid,
    pub(crate) webhook_id: Uuid,
    pub(crate) org_id: Arc<str>,
    pub(crate) event_type: Arc<str>,
    /// From 1.
    pub(crate) attempt: i32,
    pub(crate) method: Method,
    /// With a mask for securityContext.
    pub(crate) url: String,
    /// With masks for credentials.
    pub(crate) headers: Vec<(String, String)>,
    /// The exact bytes; none where they are too many.
    pub(crate) body: Option<Bytes>,
    pub(crate) body_bytes: usize,
}

/// The taps of a node. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Taps(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_active: AtomicBool,
    taps: RwLock<Arc<[Tap]>>,
    rate: KeyedRate<Uuid>,
    queue: mpsc::Sender<TappedRequest>,
    waiting_bytes: AtomicUsize,
    /// The other end, until somebody takes it.
    receiver: Mutex<Option<mpsc::Receiver<TappedRequest>>>,
    dropped: Mutex<HashMap<Uuid, i64>>,
    written: Notify,
}

/// A request that is about to be sent, without credentials of an endpoint's own.
pub(super) struct Offered<'a> {
    pub(super) method: &'a http::Method,
    pub(super) url: &'a url::Url,
    pub(super) headers: &'a http::HeaderMap,
    pub(super) body: &'a bytes::Bytes,
}

impl Taps {
    pub(super) fn new(clock: Clock) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        Self(Arc::new(Inner {
            is_active: AtomicBool::new(false),
            taps: RwLock::new(Arc::from([])),
            rate: KeyedRate::new(PER_MINUTE, BURST, clock),
            queue,
            waiting_bytes: AtomicUsize::new(0),
            receiver: Mutex::new(Some(receiver)),
            dropped: Mutex::default(),
            written: Notify::new(),
        }))
    }

    /// Says who listens from now on.
    pub(crate) fn set(&self, taps: Vec<Tap>) {
        let is_active = !taps.is_empty();
        *self.0.taps.write().unwrap_or_else(PoisonError::into_inner) = taps.into();
        self.0.is_active.store(is_active, Ordering::Release);
    }

    /// Whether anybody listens.
    pub(super) fn is_active(&self) -> bool {
        self.0.is_active.load(Ordering::Acquire)
    }

    /// Copies a request that is about to be sent for whoever listens to its webhook.
    #[cold]
    pub(super) fn offer(
        &self,
        job: &Job,
        endpoint: &Endpoint,
        request: &Offered<'_>,
        at: Timestamp,
    ) {
        let taps = Arc::clone(&self.0.taps.read().unwrap_or_else(PoisonError::into_inner));
        for tap in taps.iter().filter(|tap| tap.of.covers(endpoint)) {
            let copy = TappedRequest {
                listener: tap.listener,
                at,
                delivery_id: job.id,
                webhook_id: endpoint.id,
                org_id: Arc::clone(&job.content.org_id),
                event_type: Arc::clone(&job.content.event_type),
                attempt: job.attempts_before.saturating_add(1),
                method: request.method.clone(),
                url: mask_context(request.url),
                headers: shown_headers(request.headers, None),
                body: (request.body.len() <= LARGEST_BODY).then(|| request.body.clone()),
                body_bytes: request.body.len(),
            };
            if !self.queue(copy) {
                self.drop_one(tap.listener, 1);
            }
        }
    }

    fn queue(&self, copy: TappedRequest) -> bool {
        let bytes = copy.body.as_ref().map_or(0, Bytes::len);
        if self.0.rate.take(copy.listener, 1).is_err() {
            return false;
        }
        let before = self.0.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > QUEUE_BYTES || self.0.queue.try_send(copy).is_err() {
            self.0.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return false;
        }
        true
    }

    /// Counts copies that a listener did not get.
    pub(crate) fn drop_one(&self, listener: Uuid, count: i64) {
        let mut dropped = self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        // Only listeners that live are counted: their number is bounded.
        *dropped.entry(listener).or_default() += count;
    }

    /// What was dropped since the last time.
    pub(crate) fn take_dropped(&self) -> HashMap<Uuid, i64> {
        std::mem::take(&mut *self.0.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The other end of the queue; only the first caller gets it.
    pub(crate) fn receiver(&self) -> Option<mpsc::Receiver<TappedRequest>> {
        self.0.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives back the room of copies that left the queue.
    pub(crate) fn left(&self, copies: &[TappedRequest]) {
        let bytes = copies.iter().filter_map(|copy| copy.body.as_ref()).map(Bytes::len).sum();
        self.0.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Says that something was written for listeners.
    pub(crate) fn tell(&self) {
        self.0.written.notify_waiters();
    }

    /// Resolves when something was written by this node after the call.
    pub(crate) fn written(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.written.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(listener: Uuid, bytes: usize) -> TappedRequest {
        TappedRequest {
            listener,
            at: Timestamp::from_micros(0),
            delivery_id: Uuid::nil(),
            webhook_id: Uuid::nil(),
            org_id: "1".into(),
            event_type: "Ticket_Add".into(),
            attempt: 1,
            method: Method::POST,
            url: "https://vendor.example/".to_owned(),
            headers: Vec::new(),
            body: Some(Bytes::from(vec![0; bytes])),
            body_bytes: bytes,
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_number_and_bytes_and_never_waits() {
        let taps = Taps::new(Clock::default());
        assert!(!taps.is_active());
        let big = (0..64).filter(|n| taps.queue(copy(Uuid::from_u128(*n), LARGEST_BODY))).count();
        assert_eq!(big, QUEUE_BYTES / LARGEST_BODY, "bounded in bytes");
        let mut receiver = taps.receiver().expect("the first caller gets it");
        assert!(taps.receiver().is_none());
        let mut left = Vec::new();
        receiver.recv_many(&mut left, QUEUE).await;
        taps.left(&left);
        let small = (0..2_000).filter(|n| taps.queue(copy(Uuid::from_u128(*n), 0))).count();
        assert_eq!(small, QUEUE, "bounded in number");
        taps.drop_one(Uuid::nil(), 3);
        assert_eq!(taps.take_dropped().get(&Uuid::nil()), Some(&3));
        assert!(taps.take_dropped().is_empty());
    }

    #[test]
    fn one_listener_cannot_fill_it() {
        let taps = Taps::new(Clock::default());
        let one = Uuid::from_u128(1);
        let taken = (0..QUEUE).filter(|_| taps.queue(copy(one, 0))).count();
        assert_eq!(taken, BURST as usize);
        assert!(taps.queue(copy(Uuid::from_u128(2), 0)));
    }
}
