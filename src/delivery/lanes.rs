//! All lanes of this node: whose turn it is, by cap, breaker, rate and fairness. A rate is a lane's
//! own, or one that the own webhooks of an org [share](super::shared_rate).
//!
//! Pure but for the time it is told.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::breaker::{Allowance, Breaker, BreakerPolicy};
use super::lane::{AfterJob, Job, Lane, LaneOutcome, Turn};
use super::pacer::Pacer;
use super::shared_rate::SharedRate;
use crate::seam::Timestamp;
use crate::webhook::DeliveryTerms;
use sharing::Paced;

mod sharing;

/// For how long a place that was promised counts; by then it is taken.
const PROMISE: Duration = Duration::from_secs(1);

/// The share of the free workers that one lane may have: one in so many.
const SHARE: usize = 2;

/// The part of all workers that is kept for quick endpoints: one in so many.
const KEPT_BACK: usize = 16;

/// What is quick.
const QUICK: Duration = Duration::from_millis(500);

/// How many jobs may wait in a lane before those who bring more wait too.
const PACED: usize = 4_096;

/// The same where memory is half full.
const CROWDED: usize = 256;

/// How many workers rest for the next job instead of ending: waking one is cheaper than a new task.
const MOST_RESTING: usize = 64;

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
    /// Rates that lanes share, by org.
    rates: HashMap<Arc<str>, SharedRate>,
    /// Who waits for a token, and until when.
    paced: BTreeSet<(Timestamp, Paced)>,
    /// Whether a lane began to wait since that was last asked.
    paced_anew: bool,
    /// Among how many nodes rates are shared.
    nodes: u32,
    /// Lanes that have to wait for a free worker, though their own cap would allow more.
    starved: VecDeque<Uuid>,
    caps: Caps,
    policy: BreakerPolicy,
    workers: usize,
    /// Workers that rest until there is something to do.
    resting: usize,
    busy: usize,
    queued: usize,
}

/// Who does what became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing is ready, or all are at work.
    Nobody,
    /// One that rests.
    Rested,
    /// A new one.
    New,
}

impl Lanes {
    pub(super) fn new(caps: Caps, policy: BreakerPolicy) -> Self {
        Self {
            by_endpoint: HashMap::new(),
            ready: VecDeque::new(),
            rates: HashMap::new(),
            paced: BTreeSet::new(),
            paced_anew: false,
            nodes: 1,
            starved: VecDeque::new(),
            caps: Caps { per_lane: caps.per_lane.max(1), in_all: caps.in_all.max(1) },
            policy,
            workers: 0,
            resting: 0,
            busy: 0,
            queued: 0,
        }
    }

    /// Sets the terms of a webhook's lane. Only those that differ from the usual take a place.
    pub(super) fn set_terms(&mut self, endpoint: Uuid, terms: &DeliveryTerms) {
        let is_its_own = terms.is_lane_its_own(self.caps.per_lane);
        if !is_its_own && !self.by_endpoint.contains_key(&endpoint) {
            return;
        }
        let (cap, nodes) = (self.caps.per_lane, self.nodes);
        let lane = self.by_endpoint.entry(endpoint).or_default();
        lane.cap = (terms.concurrency != cap).then_some(terms.concurrency.max(1));
        let alone = terms.rate_per_minute.filter(|_| terms.shared_by.is_none());
        lane.pacer = alone.map(|rate| match lane.pacer {
            Some(mut pacer) => {
                pacer.change(rate, nodes);
                pacer
            }
            None => Pacer::new(rate, nodes),
        });
        let shared = terms.shared_by.as_ref().zip(terms.rate_per_minute);
        self.share(endpoint, shared);
    }

    /// Sets among how many nodes rates are shared.
    pub(super) fn share_rates(&mut self, nodes: u32) {
        self.nodes = nodes.max(1);
    }

    /// Makes lanes ready whose next token is there. Returns whether there were any.
    pub(super) fn wake_paced(&mut self, now: Timestamp) -> bool {
        let mut woken = false;
        while self.paced.first().is_some_and(|(until, _)| *until <= now)
            && let Some((_, paced)) = self.paced.pop_first()
        {
            match paced {
                Paced::Lane(endpoint) => {
                    if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
                        lane.paced_until = None;
                        woken = true;
                    }
                    self.make_ready(endpoint, now);
                }
                Paced::Org(org) => woken |= self.wake_shared(&org, now),
            }
        }
        woken
    }

    /// The time of day was set back to now: no lane waits for a token longer than it would have.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        for lane in self.by_endpoint.values_mut() {
            if let Some(pacer) = &mut lane.pacer {
                pacer.set_back(now);
            }
        }
        for shared in self.rates.values_mut() {
            shared.set_back(now);
        }
        for (_, paced) in std::mem::take(&mut self.paced) {
            match paced {
                Paced::Lane(endpoint) => {
                    if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
                        lane.paced_until = None;
                    }
                    self.make_ready(endpoint, now);
                }
                Paced::Org(org) => self.go_on(Some(&org)),
            }
        }
    }

    /// Whether a lane began to wait for a token since the last call.
    pub(super) fn is_paced_anew(&mut self) -> bool {
        std::mem::take(&mut self.paced_anew)
    }

    /// When the next token is there that a lane waits for.
    pub(super) fn next_paced(&self) -> Option<Timestamp> {
        self.paced.first().map(|(until, _)| *until)
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
        if let Some(shared) = lane.shared.as_ref().and_then(|org| self.rates.get_mut(org)) {
            shared.queued += 1;
        }
        self.queued += 1;
        self.make_ready(endpoint, now);
    }

    /// Whether one more worker is of use; counts it in.
    pub(super) fn wants_worker(&mut self) -> Wanted {
        if self.ready.is_empty() {
            Wanted::Nobody
        } else if self.resting > 0 {
            self.resting -= 1;
            Wanted::Rested
        } else if self.workers < self.caps.in_all {
            self.workers += 1;
            Wanted::New
        } else {
            Wanted::Nobody
        }
    }

    /// A worker has nothing to do: whether it rests, or ends since enough rest already.
    pub(super) fn rest(&mut self) -> bool {
        let rests = self.resting < MOST_RESTING;
        if rests {
            self.resting += 1;
        } else {
            self.workers -= 1;
        }
        rests
    }

    /// The next job in turn; a worker that gets none [rests](Self::rest) or ends.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Turn> {
        while let Some(endpoint) = self.ready.pop_front() {
            let free = self.free();
            let caps = self.caps;
            let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { continue };
            lane.is_ready = false;
            let org = lane.shared.clone();
            if lane.in_flight >= Self::slots(lane, caps.per_lane, now) || lane.queued() == 0 {
                self.go_on(org.as_ref());
                continue;
            }
            if !has_share(lane, free, caps.in_all) {
                lane.is_ready = true;
                self.starved.push_back(endpoint);
                self.go_on(org.as_ref());
                continue;
            }
            let mut shared = org.as_ref().and_then(|org| self.rates.get_mut(org));
            let pacer = shared.as_ref().map(|shared| shared.pacer).or(lane.pacer);
            if pacer.is_some_and(|pacer| pacer.ready_at() > now) {
                self.make_ready(endpoint, now);
                continue;
            }
            let Some(job) = lane.pop() else { continue };
            if let Some(pacer) = &mut lane.pacer {
                pacer.take(now);
            }
            if let Some(shared) = &mut shared {
                shared.pacer.take(now);
                shared.queued = shared.queued.saturating_sub(1);
            }
            lane.in_flight += 1;
            let cancel = lane.cancel.clone();
            self.busy += 1;
            self.queued -= 1;
            self.make_ready(endpoint, now);
            self.go_on(org.as_ref());
            return Some(Turn { job, cancel });
        }
        None
    }

    /// Workers that could begin something.
    fn free(&self) -> usize {
        self.caps.in_all.saturating_sub(self.busy)
    }

    /// How many requests of a lane may be under way by its own rules.
    fn slots(lane: &Lane, cap: usize, now: Timestamp) -> usize {
        match lane.breaker.allowance(now) {
            Allowance::Freely if !lane.is_ordered() => lane.cap.unwrap_or(cap),
            Allowance::Freely | Allowance::Probe => 1,
            Allowance::NothingUntil(_) => 0,
        }
    }

    fn make_ready(&mut self, endpoint: Uuid, now: Timestamp) {
        let cap = self.caps.per_lane;
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint)
            && !lane.is_ready
            && lane.queued() > 0
            && lane.in_flight < Self::slots(lane, cap, now)
        {
            if let Some(org) = lane.shared.clone()
                && let Some(shared) = self.rates.get_mut(&org)
                && !shared.is_free(now)
            {
                if !lane.waits_in_turn {
                    lane.waits_in_turn = true;
                    shared.wait(endpoint);
                }
                self.go_on(Some(&org));
                return;
            }
            match lane.pacer.map(|pacer| pacer.ready_at()).filter(|ready_at| *ready_at > now) {
                None => {
                    lane.is_ready = true;
                    self.ready.push_back(endpoint);
                }
                // It waits for its token without holding a worker.
                Some(ready_at) => {
                    if let Some(former) = lane.paced_until.replace(ready_at) {
                        self.paced.remove(&(former, Paced::Lane(endpoint)));
                    }
                    self.paced.insert((ready_at, Paced::Lane(endpoint)));
                    self.paced_anew = true;
                }
            }
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
        let org = lane.shared.clone();
        let shared = org.as_ref().and_then(|org| self.rates.get_mut(org));
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
                    if let Some(shared) = shared {
                        shared.queued = shared.queued.saturating_sub(waiting.len());
                    }
                    after.paused = Some((until, waiting));
                }
            }
            LaneOutcome::Untried => {
                if let Some(pacer) = &mut lane.pacer {
                    pacer.give_back();
                }
                if let Some(shared) = shared {
                    shared.pacer.give_back();
                }
            }
        }
        let queued = lane.queued();
        let window = lane.window(lane.cap.unwrap_or(cap));
        after.wants_refill = lane.has_more_in_table && queued < window.div_ceil(2);
        after.is_short = queued == PACED / 2 || queued == CROWDED / 2;
        if lane.is_spent() {
            self.remove(endpoint);
        } else {
            self.make_ready(endpoint, now);
        }
        self.go_on(org.as_ref());
        after
    }

    /// Lists lanes whose pause is over and that have a job for the probe: one that came in while the
    /// lane paused waits here, and no end of another would list its lane.
    pub(super) fn wake(&mut self, now: Timestamp) {
        let over = |lane: &Lane| {
            !lane.is_ready && lane.queued() > 0 && lane.breaker.allowance(now) == Allowance::Probe
        };
        let paused = self.by_endpoint.iter().filter(|(_, lane)| over(lane));
        let paused: Vec<Uuid> = paused.map(|(endpoint, _)| *endpoint).collect();
        for endpoint in paused {
            self.make_ready(endpoint, now);
        }
        self.wake_rates(now);
    }

    /// How many rows of an endpoint memory has room for now.
    pub(super) fn room(&mut self, endpoint: Uuid, is_ordered: bool, now: Timestamp) -> usize {
        let Some(lane) = self.by_endpoint.get(&endpoint) else {
            return if is_ordered { 1 } else { self.caps.per_lane };
        };
        let held = lane.queued() + lane.in_flight;
        // Beyond the tokens that are soon there, rows wait where every node can take them.
        let paced = lane
            .pacer
            .map_or(usize::MAX, |pacer| pacer.within_horizon(now).saturating_sub(lane.queued()));
        let cap = lane.cap.unwrap_or(self.caps.per_lane);
        let room = match lane.breaker.allowance(now) {
            Allowance::Freely if !is_ordered => lane.window(cap).saturating_sub(held),
            Allowance::Freely | Allowance::Probe => usize::from(held == 0),
            Allowance::NothingUntil(_) => 0,
        };
        let room = room.min(paced);
        match lane.shared.as_ref().and_then(|org| self.rates.get_mut(org)) {
            Some(shared) => shared.grant(endpoint, room, now),
            None => room,
        }
    }

    /// Whether a new delivery of an endpoint may wait in memory.
    pub(super) fn admits(&mut self, endpoint: Uuid, now: Timestamp) -> bool {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return true };
        if lane.has_more_in_table || lane.breaker.allowance(now) != Allowance::Freely {
            return false;
        }
        if let Some(shared) = lane.shared.as_ref().and_then(|org| self.rates.get_mut(org)) {
            return shared.admits(now);
        }
        let Some(pacer) = lane.pacer else { return true };
        let (last, promised) = lane.promised;
        let promised = if now.since(last) < PROMISE { promised } else { 0 };
        let is_admitted = pacer.within_horizon(now) > lane.queued() + promised;
        if is_admitted {
            lane.promised = (now, promised + 1);
        }
        is_admitted
    }

    /// Whether whoever has more for an endpoint should wait a moment: much is queued, and it moves,
    /// so that waiting is cheaper than the way through the table.
    /// Where memory fills up, as it does with many lanes at once, that is sooner.
    pub(super) fn is_long(&self, endpoint: Uuid, is_crowded: bool) -> bool {
        let limit = if is_crowded { CROWDED } else { PACED };
        self.by_endpoint.get(&endpoint).is_some_and(|lane| lane.is_quick && lane.queued() > limit)
    }

    /// Opens the breaker of an endpoint that was paused before this node began.
    pub(super) fn pause(&mut self, endpoint: Uuid, until: Timestamp, now: Timestamp) {
        self.by_endpoint.entry(endpoint).or_default().breaker = Breaker::open(until, now);
    }

    /// Whether nothing of an endpoint is in memory.
    pub(super) fn holds_nothing(&self, endpoint: Uuid) -> bool {
        let lane = self.by_endpoint.get(&endpoint);
        lane.is_none_or(|lane| lane.queued() == 0 && lane.in_flight == 0)
    }

    /// Notes whether more of an endpoint waits in the table.
    pub(super) fn note_table(&mut self, endpoint: Uuid, has_more: bool) {
        if has_more {
            self.by_endpoint.entry(endpoint).or_default().has_more_in_table = true;
        } else if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            lane.has_more_in_table = false;
            if lane.is_spent() {
                self.remove(endpoint);
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

    /// How many breakers are open, and how many probe.
    pub(super) fn breakers(&self, now: Timestamp) -> (usize, usize) {
        let mut counts = (0, 0);
        for lane in self.by_endpoint.values() {
            match lane.breaker.allowance(now) {
                Allowance::Freely => {}
                Allowance::NothingUntil(_) => counts.0 += 1,
                Allowance::Probe => counts.1 += 1,
            }
        }
        counts
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
            self.remove(endpoint);
        }
    }

    fn remove(&mut self, endpoint: Uuid) {
        self.leave(endpoint);
        if let Some(until) = self.by_endpoint.remove(&endpoint).and_then(|lane| lane.paced_until) {
            self.paced.remove(&(until, Paced::Lane(endpoint)));
        }
    }

    /// Forgets that an endpoint was paused.
    pub(super) fn unpause(&mut self, endpoint: Uuid, now: Timestamp) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            lane.breaker = Breaker::default();
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

/// Whether a lane may have one more of the workers, by how many are free.
fn has_share(lane: &Lane, free: usize, in_all: usize) -> bool {
    let is_modest = lane.is_quick || lane.in_flight == 0;
    let kept_back = if is_modest { 0 } else { in_all / KEPT_BACK };
    free > kept_back && lane.in_flight < (free / SHARE).max(1)
}

#[cfg(test)]
mod tests;
