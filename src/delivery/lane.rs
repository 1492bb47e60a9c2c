//! The queue in memory: a lane for each endpoint, and whose turn it is.
//!
//! Pure but for the time it is told: what may be sent next, by cap, breaker and fairness.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::breaker::{Allowance, Breaker, BreakerPolicy};
use crate::seam::Timestamp;
use crate::store::committer::Place;

/// The share of the free workers that one lane may have: one in so many.
const SHARE: usize = 2;

/// The part of all workers that is kept for quick endpoints: one in so many.
const KEPT_BACK: usize = 16;

/// How many first attempts may go ahead of a waiting retry.
const AHEAD_LIMIT: u8 = 7;

/// What is quick.
const QUICK: Duration = Duration::from_millis(500);

/// How many times its cap a quick lane takes from the table at once.
const QUICK_WINDOW: usize = 8;

/// How many jobs may wait in a lane before those who bring more wait too.
const PACED: usize = 4_096;

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
    /// First attempts that went ahead of waiting retries, one after the other.
    ahead: u8,
    in_flight: usize,
    is_ready: bool,
    breaker: Breaker,
    /// The last attempt succeeded, and quickly.
    is_quick: bool,
    /// More waits in the table than memory took.
    has_more_in_table: bool,
    cancel: CancellationToken,
}

impl Lane {
    fn queued(&self) -> usize {
        self.first.len() + self.retries.len()
    }

    /// First attempts go ahead of old retries, but not for ever.
    fn pop(&mut self) -> Option<Job> {
        if self.ahead >= AHEAD_LIMIT
            && let Some(retry) = self.retries.pop_front()
        {
            self.ahead = 0;
            return Some(retry);
        }
        let Some(first) = self.first.pop_front() else { return self.retries.pop_front() };
        self.ahead = if self.retries.is_empty() { 0 } else { self.ahead.saturating_add(1) };
        Some(first)
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queued() == 0 && !self.has_more_in_table
    }

    fn is_ordered(&self) -> bool {
        self.first.front().or_else(|| self.retries.front()).is_some_and(|job| job.kind.is_ordered())
    }

    /// How many jobs memory takes from the table at once: a quick endpoint is through with them
    /// long before their lease ends.
    fn window(&self, cap: usize) -> usize {
        if self.is_quick { cap.saturating_mul(QUICK_WINDOW) } else { cap }
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
    /// Whoever waits for this lane to get shorter may look again.
    pub(super) is_short: bool,
}

/// A job whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) job: Job,
    /// Ends the attempt where its endpoint stops delivering.
    pub(super) cancel: CancellationToken,
}

/// How many of this node's requests may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// To one endpoint.
    pub(super) per_lane: usize,
    /// In all.
    pub(super) in_all: usize,
}

/// All lanes of this node.
///
/// A lane may have as many requests under way as its cap allows and at most half of the
/// workers that are free (a dynamic threshold, as switches share a buffer): alone it gets its cap,
/// among many hanging ones less and less, so that something is always left for whoever comes next.
/// The last sixteenth of the workers goes to endpoints that answered quickly, and to those that
/// have nothing under way yet.
#[derive(Debug)]
pub(super) struct Lanes {
    by_endpoint: HashMap<Uuid, Lane>,
    ready: VecDeque<Uuid>,
    /// Lanes that have to wait for a free worker, though their own cap would allow more.
    starved: VecDeque<Uuid>,
    caps: Caps,
    policy: BreakerPolicy,
    workers: usize,
    busy: usize,
    queued: usize,
}

impl Lanes {
    pub(super) fn new(caps: Caps, policy: BreakerPolicy) -> Self {
        Self {
            by_endpoint: HashMap::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            caps: Caps { per_lane: caps.per_lane.max(1), in_all: caps.in_all.max(1) },
            policy,
            workers: 0,
            busy: 0,
            queued: 0,
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
        self.queued += 1;
        self.make_ready(endpoint, now);
    }

    /// Whether one more worker is of use; counts it in.
    pub(super) fn wants_worker(&mut self) -> bool {
        let wanted = !self.ready.is_empty() && self.workers < self.caps.in_all;
        self.workers += usize::from(wanted);
        wanted
    }

    /// The next job in turn; a worker that gets none has ended.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Turn> {
        while let Some(endpoint) = self.ready.pop_front() {
            let free = self.free();
            let caps = self.caps;
            let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { continue };
            lane.is_ready = false;
            if lane.in_flight >= Self::slots(lane, caps.per_lane, now) || lane.queued() == 0 {
                continue;
            }
            if !has_share(lane, free, caps.in_all) {
                lane.is_ready = true;
                self.starved.push_back(endpoint);
                continue;
            }
            let Some(job) = lane.pop() else { continue };
            lane.in_flight += 1;
            let cancel = lane.cancel.clone();
            self.busy += 1;
            self.queued -= 1;
            self.make_ready(endpoint, now);
            return Some(Turn { job, cancel });
        }
        self.workers -= 1;
        None
    }

    /// Workers that could begin something.
    fn free(&self) -> usize {
        self.caps.in_all.saturating_sub(self.busy)
    }

    /// How many requests of a lane may be under way by its own rules.
    fn slots(lane: &Lane, cap: usize, now: Timestamp) -> usize {
        match lane.breaker.allowance(now) {
            Allowance::Freely if !lane.is_ordered() => cap,
            Allowance::Freely | Allowance::Probe => 1,
            Allowance::NothingUntil(_) => 0,
        }
    }

    /// Lets a lane go on whose pause is over: what was committed while its breaker opened came
    /// after the pause had begun and waits for a probe, which nobody else would send.
    pub(super) fn wake(&mut self, endpoint: Uuid, now: Timestamp) {
        self.make_ready(endpoint, now);
    }

    fn make_ready(&mut self, endpoint: Uuid, now: Timestamp) {
        let cap = self.caps.per_lane;
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint)
            && !lane.is_ready
            && lane.queued() > 0
            && lane.in_flight < Self::slots(lane, cap, now)
        {
            lane.is_ready = true;
            self.ready.push_back(endpoint);
        }
    }

    /// A job ended, so long after it began.
    pub(super) fn done(
        &mut self,
        endpoint: Uuid,
        outcome: LaneOutcome,
        took: Duration,
        now: Timestamp,
    ) -> AfterJob {
        let mut after = AfterJob::default();
        let cap = self.caps.per_lane;
        self.busy = self.busy.saturating_sub(1);
        // Each end makes room for one that had to wait, and perhaps for a second one since shares
        // grow with what is free.
        for _ in 0..2 {
            if let Some(starved) = self.starved.pop_front() {
                self.ready.push_back(starved);
            }
        }
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return after };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        match outcome {
            LaneOutcome::Success => {
                after.resumed = !matches!(lane.breaker.allowance(now), Allowance::Freely);
                lane.breaker.succeeded(now);
                lane.is_quick = took < QUICK;
            }
            LaneOutcome::Failure => {
                lane.is_quick = false;
                if let Some(until) = lane.breaker.failed(&self.policy, now) {
                    let waiting: Vec<Job> =
                        lane.first.drain(..).chain(lane.retries.drain(..)).collect();
                    self.queued -= waiting.len();
                    after.paused = Some((until, waiting));
                }
            }
            LaneOutcome::Untried => {}
        }
        let queued = lane.queued();
        after.wants_refill = lane.has_more_in_table && queued < lane.window(cap).div_ceil(2);
        after.is_short = queued == PACED / 2;
        if lane.is_idle() && lane.breaker.is_fresh() && !lane.is_ready {
            self.by_endpoint.remove(&endpoint);
        } else {
            self.make_ready(endpoint, now);
        }
        after
    }

    /// How many rows of an endpoint memory has room for now.
    pub(super) fn room(&self, endpoint: Uuid, is_ordered: bool, now: Timestamp) -> usize {
        let Some(lane) = self.by_endpoint.get(&endpoint) else {
            return if is_ordered { 1 } else { self.caps.per_lane };
        };
        let held = lane.queued() + lane.in_flight;
        match lane.breaker.allowance(now) {
            Allowance::Freely if !is_ordered => {
                lane.window(self.caps.per_lane).saturating_sub(held)
            }
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

    /// Whether whoever has more for an endpoint should wait a moment: much is queued, and it moves,
    /// so that waiting is cheaper than the way through the table.
    pub(super) fn is_long(&self, endpoint: Uuid) -> bool {
        self.by_endpoint.get(&endpoint).is_some_and(|lane| lane.is_quick && lane.queued() > PACED)
    }

    /// Opens the breaker of an endpoint that was paused before this node began.
    pub(super) fn pause(&mut self, endpoint: Uuid, until: Timestamp, now: Timestamp) {
        self.by_endpoint.entry(endpoint).or_default().breaker = Breaker::open(until, now);
    }

    /// Notes whether more of an endpoint waits in the table.
    pub(super) fn note_table(&mut self, endpoint: Uuid, has_more: bool) {
        if has_more {
            self.by_endpoint.entry(endpoint).or_default().has_more_in_table = true;
        } else if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            lane.has_more_in_table = false;
            if lane.is_idle() && lane.breaker.is_fresh() && !lane.is_ready {
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
        self.busy
    }

    /// How many jobs wait in memory.
    pub(super) fn waiting(&self) -> usize {
        self.queued
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

    /// Ends what is under way to an endpoint.
    pub(super) fn cancel(&mut self, endpoint: Uuid) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            std::mem::take(&mut lane.cancel).cancel();
        }
    }
}

/// Whether a lane may have one more of the workers, by how many are free.
fn has_share(lane: &Lane, free: usize, in_all: usize) -> bool {
    let is_modest = lane.is_quick || lane.in_flight == 0;
    let kept_back = if is_modest { 0 } else { in_all / KEPT_BACK };
    free > kept_back && lane.in_flight < (free / SHARE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
        failure_percent: 70,
        volume: 20,
        pause: Duration::from_secs(10),
        pause_limit: Duration::from_mins(1),
    };
    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const SOON: Duration = Duration::from_millis(1);

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
        let mut lanes = Lanes::new(Caps { per_lane: cap, in_all: 100 }, POLICY);
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
        lanes.done(Uuid::from_u128(1), LaneOutcome::Success, SOON, NOW);
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
    fn retries_are_not_put_off_for_ever() {
        let mut lanes = lanes(64);
        lanes.push(job(1, 1_000, 3, Kind::Webhook), NOW);
        for id in 0..20 {
            lanes.push(job(1, id, 0, Kind::Webhook), NOW);
        }
        let order = order(&mut lanes);
        assert_eq!(order.iter().position(|id| *id == 1_000), Some(usize::from(AHEAD_LIMIT)));
    }

    #[test]
    fn hanging_lanes_leave_workers_for_others() {
        let mut lanes = lanes(32);
        for endpoint in 1..=40 {
            for id in 0..40 {
                lanes.push(job(endpoint, endpoint * 100 + id, 0, Kind::Webhook), NOW);
            }
        }
        let taken = order(&mut lanes).len();
        assert!(taken < 100, "{taken} of 100 workers are taken by lanes that never end");
        lanes.workers = 100;
        lanes.push(job(99, 1, 0, Kind::Webhook), NOW);
        assert_eq!(order(&mut lanes), [1], "a lane with nothing under way gets a worker");
    }

    #[test]
    fn a_starved_lane_goes_on_when_others_end() {
        let mut lanes = lanes(32);
        for endpoint in 1..=200 {
            lanes.push(job(endpoint, endpoint * 2, 0, Kind::Webhook), NOW);
            lanes.push(job(endpoint, endpoint * 2 + 1, 0, Kind::Webhook), NOW);
        }
        let mut under_way: VecDeque<Uuid> = VecDeque::new();
        let mut sent = 0;
        loop {
            lanes.workers = 100;
            while let Some(turn) = lanes.next(NOW) {
                under_way.push_back(turn.job.endpoint_id);
                sent += 1;
            }
            let Some(endpoint) = under_way.pop_front() else { break };
            lanes.done(endpoint, LaneOutcome::Success, SOON, NOW);
        }
        assert_eq!(sent, 400, "nothing is left behind");
        assert_eq!((lanes.busy(), lanes.waiting()), (0, 0));
        assert!(lanes.by_endpoint.is_empty());
    }

    #[test]
    fn a_remembered_pause_holds_until_its_end() {
        let mut lanes = lanes(8);
        let until = NOW.plus(Duration::from_secs(9));
        lanes.pause(Uuid::from_u128(1), until, NOW);
        assert!(!lanes.admits(Uuid::from_u128(1), NOW));
        assert_eq!(lanes.room(Uuid::from_u128(1), false, NOW), 0);
        assert_eq!(lanes.room(Uuid::from_u128(1), false, until), 1);
    }

    #[test]
    fn ordered_lanes_send_one_at_a_time() {
        let mut lanes = lanes(8);
        lanes.push(job(1, 1, 0, Kind::OrderedWebhook), NOW);
        lanes.push(job(1, 2, 0, Kind::OrderedWebhook), NOW);
        assert_eq!(order(&mut lanes), [1]);
        lanes.done(Uuid::from_u128(1), LaneOutcome::Success, SOON, NOW);
        assert_eq!(order(&mut lanes), [2]);
    }

    #[test]
    fn what_came_while_the_breaker_opened_is_probed_with() {
        let mut lanes = lanes(8);
        let endpoint = Uuid::from_u128(1);
        for id in 0..3 {
            lanes.push(job(1, id, 0, Kind::Webhook), NOW);
        }
        assert_eq!(order(&mut lanes), [0, 1, 2]);
        let mut until = NOW;
        for _ in 0..3 {
            let after = lanes.done(endpoint, LaneOutcome::Failure, Duration::ZERO, NOW);
            if let Some((pause, waiting)) = after.paused {
                assert!(waiting.is_empty());
                until = pause;
            }
        }
        // Placed in memory before, committed after.
        lanes.push(job(1, 10, 0, Kind::Webhook), NOW);
        lanes.wake(endpoint, NOW);
        assert_eq!(order(&mut lanes), [0_u128; 0], "it pauses");
        lanes.workers = 100;
        assert_eq!(lanes.room(endpoint, false, until), 0, "memory has its probe");
        lanes.wake(endpoint, until);
        assert_eq!(lanes.next(until).map(|turn| turn.job.id.as_u128()), Some(10));
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
        lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
        lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
        let after = lanes.done(endpoint, LaneOutcome::Failure, SOON, NOW);
        let (until, back) = after.paused.expect("the third failure opens it");
        assert_eq!(back.len(), 2);
        assert!(!lanes.admits(endpoint, NOW));
        assert_eq!(lanes.room(endpoint, false, NOW), 0);
        assert_eq!(lanes.room(endpoint, false, until), 1, "one probe");
        lanes.push(job(1, 9, 1, Kind::Webhook), until);
        assert_eq!(lanes.next(until).map(|turn| turn.job.id.as_u128()), Some(9));
        assert!(lanes.done(endpoint, LaneOutcome::Success, SOON, until).resumed);
        assert!(lanes.admits(endpoint, until));
        assert!(lanes.by_endpoint.is_empty(), "an idle lane is forgotten");
    }
}
