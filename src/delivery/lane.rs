//! The queue in memory: a lane for each endpoint, and whose turn it is.
//!
//! Pure but for the time it is told: what may be sent next, by cap, breaker and fairness.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::breaker::{Allowance, Breaker, BreakerPolicy};
use crate::seam::Timestamp;
use crate::store::committer::Place;

/// An event as deliveries need it; shared by all of them.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) org_id: Arc<str>,
    pub(super) event_type: Arc<str>,
    /// Milliseconds since the epoch.
    pub(super) event_time: i64,
    pub(super) payload: Bytes,
    pub(super) previous: Option<Bytes>,
}

/// What kind of endpoint a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A webhook.
    Webhook,
    /// A webhook whose deliveries go one after the other.
    OrderedWebhook,
    /// The callbacks of an installation, which go one after the other too.
    Callback,
}

impl Kind {
    pub(super) fn is_ordered(self) -> bool {
        matches!(self, Self::OrderedWebhook | Self::Callback)
    }
}

/// A delivery that this node holds and is to try.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) endpoint_id: Uuid,
    pub(super) generation: i32,
    pub(super) attempts_before: i32,
    pub(super) is_replay: bool,
    pub(super) kind: Kind,
    pub(super) content: Arc<Content>,
    /// Until when a row that came from the table is ours; rows from memory are ours for good.
    pub(super) lease_until: Option<Timestamp>,
    /// Goes on with the result, and is given back when that is on disk.
    pub(super) place: Option<Place>,
}

/// The lane of one endpoint.
#[derive(Debug, Default)]
struct Lane {
    /// First attempts go ahead of retries.
    first: VecDeque<Job>,
    retries: VecDeque<Job>,
    in_flight: usize,
    is_ready: bool,
    breaker: Breaker,
    /// More waits in the table than memory took.
    has_more_in_table: bool,
    cancel: CancellationToken,
}

impl Lane {
    fn queued(&self) -> usize {
        self.first.len() + self.retries.len()
    }

    fn pop(&mut self) -> Option<Job> {
        self.first.pop_front().or_else(|| self.retries.pop_front())
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queued() == 0 && !self.has_more_in_table
    }
}

/// What came of a job, as far as its lane cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneOutcome {
    /// The endpoint took it.
    Success,
    /// The endpoint did not.
    Failure,
    /// It was not tried.
    Untried,
}

/// What follows from the end of a job.
#[derive(Debug, Default)]
pub(super) struct AfterJob {
    /// The breaker opened: what waited in memory goes back to the table until then.
    pub(super) paused: Option<(Timestamp, Vec<Job>)>,
    /// The breaker closed.
    pub(super) resumed: bool,
    /// The lane ran low while more waits in the table.
    pub(super) wants_refill: bool,
}

/// A job whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) job: Job,
    /// Ends the attempt where its endpoint stops delivering.
    pub(super) cancel: CancellationToken,
}

/// All lanes of this node.
#[derive(Debug)]
pub(super) struct Lanes {
    by_endpoint: HashMap<Uuid, Lane>,
    ready: VecDeque<Uuid>,
    cap: usize,
    policy: BreakerPolicy,
    workers: usize,
    worker_limit: usize,
}

impl Lanes {
    pub(super) fn new(cap: usize, worker_limit: usize, policy: BreakerPolicy) -> Self {
        Self {
            by_endpoint: HashMap::new(),
            ready: VecDeque::new(),
            cap: cap.max(1),
            policy,
            workers: 0,
            worker_limit: worker_limit.max(1),
        }
    }

    /// Puts a job in its lane.
    pub(super) fn push(&mut self, job: Job, now: Timestamp) {
        let endpoint = job.endpoint_id;
        let lane = self.by_endpoint.entry(endpoint).or_default();
        if job.attempts_before == 0 && !job.is_replay {
            lane.first.push_back(job);
        } else {
            lane.retries.push_back(job);
        }
        self.make_ready(endpoint, now);
    }

    /// Whether one more worker is of use; counts it in.
    pub(super) fn wants_worker(&mut self) -> bool {
        let wanted = !self.ready.is_empty() && self.workers < self.worker_limit;
        self.workers += usize::from(wanted);
        wanted
    }

    /// The next job in turn; a worker that gets none has ended.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Turn> {
        while let Some(endpoint) = self.ready.pop_front() {
            let cap = self.cap;
            let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { continue };
            lane.is_ready = false;
            if lane.in_flight >= Self::slots(lane, cap, now) {
                continue;
            }
            let Some(job) = lane.pop() else { continue };
            lane.in_flight += 1;
            let cancel = lane.cancel.clone();
            self.make_ready(endpoint, now);
            return Some(Turn { job, cancel });
        }
        self.workers -= 1;
        None
    }

    /// How many requests of a lane may be under way.
    fn slots(lane: &Lane, cap: usize, now: Timestamp) -> usize {
        let is_ordered = lane
            .first
            .front()
            .or_else(|| lane.retries.front())
            .is_some_and(|job| job.kind.is_ordered());
        match lane.breaker.allowance(now) {
            Allowance::Freely if !is_ordered => cap,
            Allowance::Freely | Allowance::Probe => 1,
            Allowance::NothingUntil(_) => 0,
        }
    }

    fn make_ready(&mut self, endpoint: Uuid, now: Timestamp) {
        let cap = self.cap;
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint)
            && !lane.is_ready
            && lane.queued() > 0
            && lane.in_flight < Self::slots(lane, cap, now)
        {
            lane.is_ready = true;
            self.ready.push_back(endpoint);
        }
    }

    /// A job ended.
    pub(super) fn done(
        &mut self,
        endpoint: Uuid,
        outcome: LaneOutcome,
        now: Timestamp,
    ) -> AfterJob {
        let mut after = AfterJob::default();
        let cap = self.cap;
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return after };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        match outcome {
            LaneOutcome::Success => {
                after.resumed = !matches!(lane.breaker.allowance(now), Allowance::Freely);
                lane.breaker.succeeded();
            }
            LaneOutcome::Failure => {
                if let Some(until) = lane.breaker.failed(&self.policy, now) {
                    let waiting = lane.first.drain(..).chain(lane.retries.drain(..)).collect();
                    after.paused = Some((until, waiting));
                }
            }
            LaneOutcome::Untried => {}
        }
        after.wants_refill = lane.has_more_in_table && lane.queued() < cap;
        if lane.is_idle() && lane.breaker.is_fresh() {
            self.by_endpoint.remove(&endpoint);
        } else {
            self.make_ready(endpoint, now);
        }
        after
    }

    /// How many rows of an endpoint memory has room for now.
    pub(super) fn room(&self, endpoint: Uuid, is_ordered: bool, now: Timestamp) -> usize {
        let Some(lane) = self.by_endpoint.get(&endpoint) else {
            return if is_ordered { 1 } else { self.cap };
        };
        let held = lane.queued() + lane.in_flight;
        match lane.breaker.allowance(now) {
            Allowance::Freely if !is_ordered => self.cap.saturating_sub(held),
            Allowance::Freely | Allowance::Probe => usize::from(held == 0),
            Allowance::NothingUntil(_) => 0,
        }
    }

    /// Whether a new delivery of an endpoint may wait in memory.
    pub(super) fn admits(&self, endpoint: Uuid, now: Timestamp) -> bool {
        self.by_endpoint.get(&endpoint).is_none_or(|lane| {
            !lane.has_more_in_table && lane.breaker.allowance(now) == Allowance::Freely
        })
    }

    /// Notes whether more of an endpoint waits in the table.
    pub(super) fn note_table(&mut self, endpoint: Uuid, has_more: bool) {
        if has_more {
            self.by_endpoint.entry(endpoint).or_default().has_more_in_table = true;
        } else if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            lane.has_more_in_table = false;
            if lane.is_idle() && lane.breaker.is_fresh() {
                self.by_endpoint.remove(&endpoint);
            }
        }
    }

    /// How many requests to an endpoint are under way.
    pub(super) fn in_flight(&self, endpoint: Uuid) -> usize {
        self.by_endpoint.get(&endpoint).map_or(0, |lane| lane.in_flight)
    }

    /// How many requests are under way in all.
    pub(super) fn busy(&self) -> usize {
        self.by_endpoint.values().map(|lane| lane.in_flight).sum()
    }

    /// How many jobs wait in memory.
    pub(super) fn waiting(&self) -> usize {
        self.by_endpoint.values().map(Lane::queued).sum()
    }

    /// Forgets an endpoint that stopped delivering, breaker and all, where nothing of it is left.
    pub(super) fn forget(&mut self, endpoint: Uuid) {
        let is_idle = self
            .by_endpoint
            .get(&endpoint)
            .is_some_and(|lane| lane.in_flight == 0 && lane.queued() == 0);
        if is_idle {
            self.by_endpoint.remove(&endpoint);
        }
    }

    /// Forgets that an endpoint was paused.
    pub(super) fn unpause(&mut self, endpoint: Uuid, now: Timestamp) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            lane.breaker.succeeded();
            self.make_ready(endpoint, now);
        }
    }

    /// Ends what is under way to an endpoint.
    pub(super) fn cancel(&mut self, endpoint: Uuid) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            std::mem::take(&mut lane.cancel).cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
        pause: Duration::from_secs(10),
        pause_limit: Duration::from_mins(1),
    };
    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn job(endpoint: u128, id: u128, attempts_before: i32, kind: Kind) -> Job {
        Job {
            id: Uuid::from_u128(id),
            endpoint_id: Uuid::from_u128(endpoint),
            generation: 1,
            attempts_before,
            is_replay: false,
            kind,
            content: Arc::new(Content {
                org_id: Arc::from("1"),
                event_type: Arc::from("Ticket_Add"),
                event_time: 0,
                payload: Bytes::new(),
                previous: None,
            }),
            lease_until: None,
            place: None,
        }
    }

    fn lanes(cap: usize) -> Lanes {
        let mut lanes = Lanes::new(cap, 100, POLICY);
        lanes.workers = 100;
        lanes
    }

    fn order(lanes: &mut Lanes) -> Vec<u128> {
        std::iter::from_fn(|| lanes.next(NOW)).map(|turn| turn.job.id.as_u128()).collect()
    }

    #[test]
    fn lanes_take_turns_and_caps_hold() {
        let mut lanes = lanes(2);
        for id in 0..5 {
            lanes.push(job(1, 10 + id, 0, Kind::Webhook), NOW);
        }
        lanes.push(job(2, 20, 0, Kind::Webhook), NOW);
        assert_eq!(order(&mut lanes), [10, 20, 11], "the loud lane has two slots only");
        lanes.done(Uuid::from_u128(1), LaneOutcome::Success, NOW);
        assert_eq!(order(&mut lanes), [12]);
    }

    #[test]
    fn first_attempts_go_ahead_of_retries() {
        let mut lanes = lanes(8);
        lanes.push(job(1, 1, 3, Kind::Webhook), NOW);
        lanes.push(job(1, 2, 0, Kind::Webhook), NOW);
        assert_eq!(order(&mut lanes), [2, 1]);
    }

    #[test]
    fn ordered_lanes_send_one_at_a_time() {
        let mut lanes = lanes(8);
        lanes.push(job(1, 1, 0, Kind::OrderedWebhook), NOW);
        lanes.push(job(1, 2, 0, Kind::OrderedWebhook), NOW);
        assert_eq!(order(&mut lanes), [1]);
        lanes.done(Uuid::from_u128(1), LaneOutcome::Success, NOW);
        assert_eq!(order(&mut lanes), [2]);
    }

    #[test]
    fn an_open_breaker_gives_everything_back_and_probes_once() {
        let mut lanes = lanes(8);
        let endpoint = Uuid::from_u128(1);
        for id in 0..5 {
            lanes.push(job(1, id, 0, Kind::Webhook), NOW);
        }
        for _ in 0..3 {
            assert!(lanes.next(NOW).is_some());
        }
        lanes.done(endpoint, LaneOutcome::Failure, NOW);
        lanes.done(endpoint, LaneOutcome::Failure, NOW);
        let after = lanes.done(endpoint, LaneOutcome::Failure, NOW);
        let (until, back) = after.paused.expect("the third failure opens it");
        assert_eq!(back.len(), 2);
        assert!(!lanes.admits(endpoint, NOW));
        assert_eq!(lanes.room(endpoint, false, NOW), 0);
        assert_eq!(lanes.room(endpoint, false, until), 1, "one probe");
        lanes.push(job(1, 9, 1, Kind::Webhook), until);
        assert_eq!(lanes.next(until).map(|turn| turn.job.id.as_u128()), Some(9));
        assert!(lanes.done(endpoint, LaneOutcome::Success, until).resumed);
        assert!(lanes.admits(endpoint, until));
        assert!(lanes.by_endpoint.is_empty(), "an idle lane is forgotten");
    }
}
