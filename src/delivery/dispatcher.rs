//! The dispatcher: takes what intake committed, and sends it.

use std::collections::HashSet;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::breaker::BreakerPolicy;
use super::endpoint_tokens::EndpointTokens;
use super::jwt_cache::JwtCache;
use super::lane::{Circumstances, Content, Job, Kind, LaneOutcome, Turn};
use super::lanes::{Caps, Lanes, Wanted};
use super::node::NodeLease;
use super::pacer::PacedLanes;
use super::pulse::Pulses;
use super::retry::Schedule;
use super::tally::Tallies;
use super::tap::Taps;
use crate::crypto::Keys;
use crate::egress::Egress;
use crate::notice::Board;
use crate::seam::Seam;
use crate::store::Store;
use crate::store::claims::DeliveryState;
use crate::store::committer::{Committer, MemoryBudget, NewEvent, Place, Placement, Settlement};
use crate::telemetry::beat::Beat;
use crate::telemetry::traces::EventTraces;
use crate::webhook::{Endpoint, Routing};

/// How long requests that are under way may end by themselves when their endpoint stops delivering.
const GRACE: Duration = Duration::from_millis(200);

/// For how long a delivery is put off whose attempt panicked.
const PUT_OFF: Duration = Duration::from_mins(1);

/// How long intake waits at the most for a long lane to get shorter.
const PACE_LIMIT: Duration = Duration::from_millis(500);

/// How a waiting caller looks whether they have.
const GRACE_POLL: Duration = Duration::from_millis(2);

/// How long cancelled requests may take to be gone; they only have to be dropped.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// How delivery is done.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// The time that one attempt may take, from name resolution to the last byte.
    pub deadline: Duration,
    /// How many requests to one webhook may be under way on this node.
    pub concurrency_per_webhook: usize,
    /// How many requests may be under way on this node in all.
    pub concurrency: usize,
    /// The pauses between attempts.
    pub schedule: Schedule,
    /// How many bytes of events may wait in memory.
    pub queue_bytes: usize,
    /// When an endpoint is paused.
    pub breaker: BreakerPolicy,
    /// After how long without a success a failing webhook is disabled; never where it is nothing.
    pub disable_after: Option<Duration>,
    /// Where those are told who must know.
    pub notices: Board,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) routing: Routing,
    pub(super) egress: Egress,
    pub(super) keys: Keys,
    pub(super) seam: Seam,
    pub(super) options: DeliveryOptions,
    pub(super) lease: NodeLease,
    pub(super) committer: std::sync::OnceLock<Committer>,
    pub(super) jwt: JwtCache,
    pub(super) pulses: Pulses,
    pub(super) taps: Taps,
    pub(super) traces: EventTraces,
    /// Of the loop that reads the table.
    pub(super) beat: Beat,
    pub(super) tallies: Tallies,
    pub(super) pokes: Pokes,
    /// A long lane got shorter.
    shortened: Notify,
    /// Wakes workers that rest, one with each permit.
    rested: Semaphore,
    pub(super) paced: PacedLanes,
    pub(super) tokens: EndpointTokens,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Where tasks run: hand-over may come from a thread that is not the runtime's.
    pub(super) runtime: tokio::runtime::Handle,
    budget: MemoryBudget,
    lanes: Mutex<Lanes>,
}

/// Who says that the table has something new: for some endpoints, or for any.
#[derive(Debug, Default)]
pub(super) struct Pokes {
    endpoints: Mutex<HashSet<Uuid>>,
    any: AtomicBool,
    notify: Notify,
}

impl Pokes {
    fn any(&self) {
        self.any.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(super) fn endpoints(&self, endpoints: impl IntoIterator<Item = Uuid>) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).extend(endpoints);
        self.notify.notify_one();
    }

    /// Resolves when somebody has said something.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// The endpoints that were named, and whether to look at all.
    pub(super) fn take(&self) -> (HashSet<Uuid>, bool) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *endpoints), self.any.swap(false, Ordering::AcqRel))
    }
}

/// Sends deliveries. Cloning shares it.
#[derive(Clone)]
pub struct Dispatcher {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// Makes a dispatcher on the present runtime; it sends nothing before [`Dispatcher::start`].
    pub fn new(
        store: Store,
        routing: Routing,
        egress: Egress,
        keys: Keys,
        seam: Seam,
        lease: NodeLease,
        options: DeliveryOptions,
    ) -> Self {
        let caps = Caps { per_lane: options.concurrency_per_webhook, in_all: options.concurrency };
        let lanes = Lanes::new(caps, options.breaker);
        let taps = Taps::new(seam.clock.clone());
        let beat = Beat::new(seam.clock.clone());
        let inner = Inner {
            budget: lease.budget().clone(),
            store,
            routing,
            egress,
            keys,
            seam,
            options,
            lease,
            committer: std::sync::OnceLock::new(),
            jwt: JwtCache::default(),
            pulses: Pulses::default(),
            taps,
            traces: EventTraces::default(),
            beat,
            tallies: Tallies::default(),
            pokes: Pokes::default(),
            shortened: Notify::new(),
            rested: Semaphore::new(0),
            paced: PacedLanes::default(),
            tokens: EndpointTokens::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
            lanes: Mutex::new(lanes),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins to read the table. Only the first call counts.
    pub fn start(&self, committer: Committer) {
        if self.inner.committer.set(committer).is_ok() {
            self.inner.tasks.spawn(super::refill::run(self.clone()));
            self.inner.tasks.spawn(super::pacer::run(self.clone()));
            self.inner.tasks.spawn(super::pulse::run(self.clone()));
            self.inner.tasks.spawn(super::tally::run(self.clone()));
        }
    }

    /// Ends: nothing new begins, what is under way may finish until `limit` has passed.
    pub async fn stop(&self, limit: Duration) {
        self.inner.stop.cancel();
        self.inner.rested.close();
        self.inner.tasks.close();
        tokio::select! {
            () = self.inner.tasks.wait() => {}
            () = self.inner.seam.clock.sleep(limit) => {}
        }
    }

    /// Waits a moment where much is queued for one of these endpoints and it moves, so that what
    /// comes in follows the pace of what goes out and need not go through the table.
    pub(crate) async fn pace(&self, endpoints: &[Uuid]) {
        let is_long = || {
            let is_crowded = self.inner.budget.is_half_full();
            let lanes = self.lanes();
            endpoints.iter().any(|endpoint| lanes.is_long(*endpoint, is_crowded))
        };
        // Nearly always: without a timer.
        if !is_long() {
            return;
        }
        let waited = async {
            loop {
                let shortened = self.inner.shortened.notified();
                if !is_long() {
                    return;
                }
                shortened.await;
            }
        };
        tokio::select! {
            () = waited => {}
            () = self.inner.seam.clock.sleep(PACE_LIMIT) => {}
        }
    }

    /// Decides where a new delivery waits, and takes its place in memory where there is one.
    pub(crate) fn place(
        &self,
        endpoint: &Endpoint,
        id: Uuid,
        bytes: usize,
    ) -> (Placement, Option<Place>) {
        use crate::webhook::Passage;
        match (endpoint.passage, endpoint.ordered) {
            (Passage::Open, true) => (Placement::Ordered, None),
            (Passage::Open, false) => {
                let is_admitted = {
                    let mut lanes = self.lanes();
                    lanes.set_terms(endpoint.id, &endpoint.terms);
                    lanes.admits(endpoint.id, self.inner.seam.clock.now())
                };
                if is_admitted && let Some(place) = self.inner.budget.take(id, bytes) {
                    (Placement::Memory, Some(place))
                } else {
                    (Placement::Table, None)
                }
            }
            (_, true) => (Placement::HeldOrdered, None),
            (_, false) => (Placement::Held, None),
        }
    }

    /// Takes over what was just committed.
    pub(crate) fn hand_over(&self, events: Vec<NewEvent>) {
        let now = self.inner.seam.clock.now();
        let mut in_table = Vec::new();
        {
            let mut lanes = self.lanes();
            for event in events {
                let content = Arc::new(Content {
                    org_id: event.org_id,
                    event_type: event.event_type,
                    event_time: event.event_time,
                    payload: event.payload,
                    previous: event.previous,
                    circumstances: Circumstances {
                        department_id: event.department_id,
                        automation: event.automation,
                        actor: event.actor,
                        trace: self.inner.traces.of(event.id),
                    },
                });
                for delivery in event.deliveries {
                    match delivery.placement {
                        Placement::Memory => lanes.push(
                            Job {
                                id: delivery.id,
                                endpoint_id: delivery.endpoint_id,
                                generation: delivery.generation,
                                attempts_before: 0,
                                is_replay: false,
                                kind: Kind::Webhook,
                                content: Arc::clone(&content),
                                variant: delivery.variant,
                                lease_until: None,
                                place: delivery.place,
                                span: None,
                            },
                            now,
                        ),
                        Placement::Table => {
                            lanes.note_table(delivery.endpoint_id, true);
                            in_table.push(delivery.endpoint_id);
                        }
                        Placement::Ordered => in_table.push(delivery.endpoint_id),
                        // Found when it is due, as every retry is.
                        Placement::Held | Placement::HeldOrdered | Placement::Later(_) => {}
                    }
                }
            }
        }
        if !in_table.is_empty() {
            self.inner.pokes.endpoints(in_table);
        }
        self.spawn_workers();
    }

    /// Says that the table has something new.
    pub fn poke(&self) {
        self.inner.pokes.any();
    }

    /// Waits until nothing is under way to these endpoints: what does not end by itself within a
    /// moment is dropped, so that a hanging endpoint holds nobody.
    pub async fn quiesce(&self, endpoints: &[Uuid]) {
        let under_way = || {
            let lanes = self.lanes();
            endpoints.iter().any(|endpoint| lanes.in_flight(*endpoint) > 0)
        };
        let clock = &self.inner.seam.clock;
        let grace_ends = clock.instant() + GRACE;
        while under_way() && clock.instant() < grace_ends {
            clock.sleep(GRACE_POLL).await;
        }
        {
            let mut lanes = self.lanes();
            for endpoint in endpoints {
                lanes.cancel(*endpoint);
            }
        }
        let cancel_ends = clock.instant() + CANCEL_LIMIT;
        while under_way() && clock.instant() < cancel_ends {
            clock.sleep(GRACE_POLL).await;
        }
        self.inner.jwt.forget(endpoints);
        let mut lanes = self.lanes();
        for endpoint in endpoints {
            lanes.forget(*endpoint);
        }
    }

    /// The beat of the loop that reads the table.
    pub(crate) fn beat(&self) -> Beat {
        self.inner.beat.clone()
    }

    /// Whether this node's lease holds, and how many nodes live.
    pub(crate) fn standing(&self) -> (bool, u32) {
        (self.inner.lease.is_valid(), self.inner.lease.live_nodes())
    }

    /// How many breakers are open, and how many probe.
    pub(crate) fn breakers(&self) -> (usize, usize) {
        self.lanes().breakers(self.inner.seam.clock.now())
    }

    /// Where copies of requests are taken for those who listen.
    /// Of which traces events are.
    pub(crate) fn traces(&self) -> &EventTraces {
        &self.inner.traces
    }

    pub(crate) fn taps(&self) -> Taps {
        self.inner.taps.clone()
    }

    /// Requests under way and jobs waiting in memory.
    pub fn load(&self) -> (usize, usize) {
        let lanes = self.lanes();
        (lanes.busy(), lanes.waiting())
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what became ready done. Each worker starts the next one while there is more to do.
    pub(super) fn spawn_workers(&self) {
        if self.inner.stop.is_cancelled() {
            return;
        }
        let (wanted, paced) = {
            let mut lanes = self.lanes();
            (lanes.wants_worker(), lanes.is_paced_anew())
        };
        self.call(wanted, paced);
    }

    fn call(&self, wanted: Wanted, paced: bool) {
        if paced {
            self.inner.paced.notify();
        }
        match wanted {
            Wanted::Nobody => {}
            Wanted::Rested => self.inner.rested.add_permits(1),
            Wanted::New => {
                self.inner.tasks.spawn_on(self.clone().work(), &self.inner.runtime);
            }
        }
    }

    /// One worker: takes the next job in turn; rests while there is none.
    async fn work(self) {
        loop {
            let (turn, wanted, paced, rests) = {
                let mut lanes = self.lanes();
                let turn = lanes.next(self.inner.seam.clock.now());
                let wanted = lanes.wants_worker();
                let paced = lanes.is_paced_anew();
                let rests = turn.is_none() && lanes.rest();
                (turn, wanted, paced, rests)
            };
            self.call(wanted, paced);
            let Some(turn) = turn else {
                if !rests {
                    return;
                }
                // Closed when the dispatcher stops.
                match self.inner.rested.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return,
                }
                continue;
            };
            let Turn { mut job, cancel } = turn;
            let (endpoint, kind, id) = (job.endpoint_id, job.kind, job.id);
            let began = self.inner.seam.clock.instant();
            let outcome = if self.inner.stop.is_cancelled() {
                self.give_back(&mut job).await;
                LaneOutcome::Untried
            } else {
                // One delivery that panics must not take its lane's slot with it.
                let attempted = AssertUnwindSafe(self.attempt(job, cancel)).catch_unwind().await;
                if let Ok(outcome) = attempted {
                    outcome
                } else {
                    tracing::error!(delivery = %id, "an attempt panicked; tried again later");
                    self.put_off(id).await;
                    LaneOutcome::Failure
                }
            };
            self.finish(endpoint, kind, outcome, began.elapsed()).await;
        }
    }

    async fn finish(&self, endpoint: Uuid, kind: Kind, outcome: LaneOutcome, took: Duration) {
        let now = self.inner.seam.clock.now();
        let after = self.lanes().done(endpoint, outcome, took, now);
        if after.is_short {
            self.inner.shortened.notify_waiters();
        }
        if let Some((until, mut waiting)) = after.paused {
            tracing::info!(%endpoint, until = %until, "endpoint paused after failures in a row");
            for job in &mut waiting {
                self.settle(job, DeliveryState::Pending, Some(until)).await;
            }
            self.note_pause(endpoint, Some(until));
        }
        if after.resumed {
            self.note_pause(endpoint, None);
        }
        if kind.is_ordered() {
            super::refill::next_in_order(self, endpoint, kind).await;
        }
        if after.wants_refill || after.resumed {
            self.inner.pokes.endpoints([endpoint]);
        }
    }

    /// Puts a delivery off for a while.
    async fn put_off(&self, delivery_id: Uuid) {
        let due_at = self.inner.seam.clock.now().plus(PUT_OFF);
        self.settle_row(delivery_id, None, DeliveryState::Pending, Some(due_at)).await;
    }

    /// Cancels a delivery whose payload is not kept any more.
    pub(super) async fn cancel_without_payload(&self, delivery_id: Uuid) {
        tracing::warn!(delivery = %delivery_id, "cancelled: its payload is not kept any more");
        self.settle_row(delivery_id, None, DeliveryState::Cancelled, None).await;
    }

    /// Gives a claimed row back that memory has no room for.
    pub(super) async fn put_back(&self, delivery_id: Uuid) {
        let now = self.inner.seam.clock.now();
        self.settle_row(delivery_id, None, DeliveryState::Pending, Some(now)).await;
    }

    /// Gives a job back to the table, for whoever comes next.
    pub(super) async fn give_back(&self, job: &mut Job) {
        self.settle(job, DeliveryState::Pending, Some(self.inner.seam.clock.now())).await;
    }

    pub(super) async fn settle(
        &self,
        job: &mut Job,
        state: DeliveryState,
        due_at: Option<crate::seam::Timestamp>,
    ) {
        self.settle_row(job.id, job.place.take(), state, due_at).await;
    }

    async fn settle_row(
        &self,
        delivery_id: Uuid,
        place: Option<Place>,
        state: DeliveryState,
        due_at: Option<crate::seam::Timestamp>,
    ) {
        if let Some(committer) = self.inner.committer.get() {
            committer.settle(Settlement { _place: place, delivery_id, state, due_at }).await;
        }
    }
}
