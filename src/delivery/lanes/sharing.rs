//! The lanes that share a rate, and who of them is next.

use std::sync::Arc;

use uuid::Uuid;

use super::super::shared_rate::SharedRate;
use super::Lanes;
use crate::seam::Timestamp;

/// Who waits for a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Paced {
    /// A lane with a rate of its own.
    Lane(Uuid),
    /// Those who share the rate of an org.
    Org(Arc<str>),
}

impl Lanes {
    /// Has a lane share the rate of an org, or none.
    pub(super) fn share(&mut self, endpoint: Uuid, wanted: Option<(&Arc<str>, u32)>) {
        let nodes = self.nodes;
        let Some(lane) = self.by_endpoint.get(&endpoint) else { return };
        if lane.shared.as_ref() != wanted.map(|(org, _)| org) {
            let was_in_turn = lane.waits_in_turn;
            self.leave(endpoint);
            if was_in_turn {
                self.wake_soon(endpoint);
            }
            if let (Some((org, rate)), Some(lane)) = (wanted, self.by_endpoint.get_mut(&endpoint)) {
                lane.shared = Some(Arc::clone(org));
                let shared = self.rates.entry(Arc::clone(org));
                let shared = shared.or_insert_with(|| SharedRate::new(rate, nodes));
                shared.members += 1;
                shared.queued += lane.queued();
            }
        }
        if let Some((org, rate)) = wanted
            && let Some(shared) = self.rates.get_mut(org)
        {
            shared.pacer.change(rate, nodes);
        }
    }

    /// Takes a lane out of the rate that it shares.
    pub(super) fn leave(&mut self, endpoint: Uuid) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint)
            && let Some(org) = lane.shared.take()
        {
            let waits = std::mem::take(&mut lane.waits_in_turn);
            if let Some(shared) = self.rates.get_mut(&org) {
                shared.leave(endpoint, waits, lane.queued());
            }
        }
    }

    /// Has a lane looked at that waits for nothing any more.
    fn wake_soon(&mut self, endpoint: Uuid) {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        let at_once = Timestamp::default();
        if let Some(former) = lane.paced_until.replace(at_once) {
            self.paced.remove(&(former, Paced::Lane(endpoint)));
        }
        self.paced.insert((at_once, Paced::Lane(endpoint)));
        self.paced_anew = true;
    }

    /// Has it looked again for those who wait in turn for a token that they share.
    pub(super) fn go_on(&mut self, org: Option<&Arc<str>>) {
        let Some(org) = org else { return };
        let Some(shared) = self.rates.get_mut(org) else { return };
        let ready_at = shared.pacer.ready_at();
        if !shared.has_waiting() || shared.scheduled.is_some_and(|at| at <= ready_at) {
            return;
        }
        if let Some(former) = shared.scheduled.replace(ready_at) {
            self.paced.remove(&(former, Paced::Org(Arc::clone(org))));
        }
        self.paced.insert((ready_at, Paced::Org(Arc::clone(org))));
        self.paced_anew = true;
    }

    /// Makes as many lanes of an org ready as there are tokens, in turn.
    pub(super) fn wake_shared(&mut self, org: &Arc<str>, now: Timestamp) -> bool {
        let cap = self.caps.per_lane;
        let Some(shared) = self.rates.get_mut(org) else { return false };
        shared.scheduled = None;
        let mut tokens = shared.pacer.tokens(now);
        let mut woken = false;
        while tokens > 0
            && let Some(endpoint) = shared.take_turn()
        {
            let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { continue };
            lane.waits_in_turn = false;
            // One that cannot go on now comes again with the end of what keeps it.
            if !lane.is_ready && lane.queued() > 0 && lane.in_flight < Self::slots(lane, cap, now) {
                lane.is_ready = true;
                self.ready.push_back(endpoint);
                tokens -= 1;
                woken = true;
            }
        }
        if !woken {
            self.go_on(Some(org));
        }
        woken
    }

    /// The lane that gets room before this one, of those who share its rate.
    pub(in crate::delivery) fn first_before(&self, endpoint: Uuid) -> Option<Uuid> {
        let org = self.by_endpoint.get(&endpoint)?.shared.as_ref()?;
        self.rates.get(org)?.first_before(endpoint)
    }

    /// Has it looked again for all who wait in turn, and forgets rates that nobody shares any more.
    pub(super) fn wake_rates(&mut self, now: Timestamp) {
        self.rates.retain(|_, shared| !shared.is_spent(now));
        let waiting = self.rates.iter().filter(|(_, shared)| shared.has_waiting());
        let waiting: Vec<Arc<str>> = waiting.map(|(org, _)| Arc::clone(org)).collect();
        for org in waiting {
            self.go_on(Some(&org));
        }
    }
}
