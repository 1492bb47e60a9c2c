//! A rate that several lanes share: the own webhooks of one org have the rate of its plan together.
//!
//! Who waits for a token waits in turn, so that one with much to send does not keep the others from
//! theirs; and who wants room in memory asks in turn too, since what has room there goes first.
//! Pure but for the time it is told.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::pacer::Pacer;
use crate::seam::Timestamp;

/// For how long a lane that asked for room is waited for. The table is read more often: who does not
/// ask again has nothing there any more.
const ASKING: Duration = Duration::from_secs(2);

/// For how long a place that was promised counts; by then it is taken.
const PROMISE: Duration = Duration::from_secs(1);

/// What the lanes of an org share.
#[derive(Debug)]
pub(super) struct SharedRate {
    pub(super) pacer: Pacer,
    /// Lanes that share it.
    pub(super) members: usize,
    /// Jobs of all of them that wait in memory.
    pub(super) queued: usize,
    /// Lanes that wait for a token, in turn.
    turns: VecDeque<Uuid>,
    /// When the next of them is looked for.
    pub(super) scheduled: Option<Timestamp>,
    /// Lanes that asked for room and got none, in turn, and when they asked last.
    asking: VecDeque<Uuid>,
    asked_at: HashMap<Uuid, Timestamp>,
    /// Places in memory that were promised just now, and when the last one was.
    promised: (Timestamp, usize),
}

impl SharedRate {
    /// This node's share of a rate, with a full bucket.
    pub(super) fn new(rate_per_minute: u32, nodes: u32) -> Self {
        Self {
            pacer: Pacer::new(rate_per_minute, nodes),
            members: 0,
            queued: 0,
            turns: VecDeque::new(),
            scheduled: None,
            asking: VecDeque::new(),
            asked_at: HashMap::new(),
            promised: (Timestamp::default(), 0),
        }
    }

    /// Whether a lane that comes now need not wait.
    pub(super) fn is_free(&self, now: Timestamp) -> bool {
        self.turns.is_empty() && self.pacer.ready_at() <= now
    }

    /// Has a lane wait for its turn.
    pub(super) fn wait(&mut self, lane: Uuid) {
        self.turns.push_back(lane);
    }

    /// The lane whose turn it is.
    pub(super) fn take_turn(&mut self) -> Option<Uuid> {
        self.turns.pop_front()
    }

    /// Whether a lane waits for a token.
    pub(super) fn has_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Forgets a lane. It is not among those that wait in turn where `waits` is false.
    pub(super) fn leave(&mut self, lane: Uuid, waits: bool, queued: usize) {
        self.members = self.members.saturating_sub(1);
        self.queued = self.queued.saturating_sub(queued);
        if waits {
            self.turns.retain(|one| *one != lane);
        }
        self.withdraw(lane);
    }

    /// How many rows a lane may take into memory now that has room for so many itself.
    pub(super) fn grant(&mut self, lane: Uuid, room: usize, now: Timestamp) -> usize {
        if room == 0 {
            self.withdraw(lane);
            return 0;
        }
        self.forget_silent(now);
        let soon = self.pacer.within_horizon(now);
        let free = soon.saturating_sub(self.queued);
        let is_first = self.asking.front().is_none_or(|first| *first == lane);
        if free > 0 && is_first {
            // What others asked for is left to them.
            let others = self.asking.len().saturating_sub(1);
            self.withdraw(lane);
            return room.min(free).min((soon / (others + 1)).max(1));
        }
        if self.asked_at.insert(lane, now).is_none() {
            self.asking.push_back(lane);
        }
        0
    }

    /// The lane that is first to get room, where that is another one.
    pub(super) fn first_before(&self, lane: Uuid) -> Option<Uuid> {
        self.asking.front().copied().filter(|first| *first != lane)
    }

    /// Whether a new delivery may wait in memory; it counts as promised then.
    pub(super) fn admits(&mut self, now: Timestamp) -> bool {
        self.forget_silent(now);
        let (last, promised) = self.promised;
        let promised = if now.since(last) < PROMISE { promised } else { 0 };
        let is_admitted = self.asking.is_empty()
            && self.pacer.within_horizon(now) > self.queued.saturating_add(promised);
        if is_admitted {
            self.promised = (now, promised + 1);
        }
        is_admitted
    }

    /// The time of day was set back to now: what lay in the future is forgotten.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.pacer.set_back(now);
        self.scheduled = None;
        self.asking.clear();
        self.asked_at.clear();
        self.promised = (Timestamp::default(), 0);
    }

    /// Whether something would be lost with it: a token that was used counts whoever used it.
    pub(super) fn is_spent(&self, now: Timestamp) -> bool {
        self.members == 0 && self.pacer.is_full(now)
    }

    fn withdraw(&mut self, lane: Uuid) {
        if self.asked_at.remove(&lane).is_some() {
            self.asking.retain(|one| *one != lane);
        }
    }

    fn forget_silent(&mut self, now: Timestamp) {
        while let Some(first) = self.asking.front() {
            let is_silent =
                self.asked_at.get(first).is_none_or(|asked| now.since(*asked) >= ASKING);
            if !is_silent {
                return;
            }
            self.asked_at.remove(first);
            self.asking.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn lane(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn room_is_given_in_turn() {
        // One a second: one now, two within the horizon.
        let mut rate = SharedRate::new(60, 1);
        assert_eq!(rate.grant(lane(1), 32, NOW), 3);
        rate.queued = 3;
        assert_eq!((rate.grant(lane(2), 32, NOW), rate.grant(lane(1), 32, NOW)), (0, 0));
        rate.queued = 2;
        // The first one has more to send, and the second asked before it.
        assert_eq!(rate.grant(lane(1), 32, NOW), 0);
        assert_eq!(rate.first_before(lane(1)), Some(lane(2)));
        assert!(!rate.admits(NOW), "what is new does not go ahead of what waits");
        assert_eq!(rate.grant(lane(2), 32, NOW), 1);
        assert_eq!(rate.grant(lane(1), 32, NOW), 1);
    }

    #[test]
    fn who_does_not_ask_again_holds_nobody_up() {
        let mut rate = SharedRate::new(60, 1);
        rate.queued = 3;
        assert_eq!(rate.grant(lane(1), 32, NOW), 0);
        rate.queued = 0;
        let later = NOW.plus(ASKING);
        assert_eq!(rate.grant(lane(2), 32, NOW), 0, "the first one is waited for");
        assert_eq!(rate.grant(lane(2), 32, later), 3);
        // One without room of its own, as one that pauses, does not ask.
        rate.queued = 3;
        assert_eq!((rate.grant(lane(1), 32, later), rate.grant(lane(1), 0, later)), (0, 0));
        rate.queued = 0;
        assert!(rate.admits(later));
    }

    #[test]
    fn what_others_ask_for_is_left_to_them() {
        let mut rate = SharedRate::new(600, 1);
        rate.queued = 100;
        for number in 1..=4 {
            assert_eq!(rate.grant(lane(number), 32, NOW), 0);
        }
        rate.queued = 0;
        let granted: Vec<usize> = (1..=4).map(|number| rate.grant(lane(number), 32, NOW)).collect();
        assert_eq!(granted, [7, 10, 15, 30], "of thirty within the horizon");
    }

    #[test]
    fn promises_are_counted_for_all_together_and_used_tokens_are_remembered() {
        let mut rate = SharedRate::new(60, 1);
        assert_eq!((0..9).filter(|_| rate.admits(NOW)).count(), 3);
        assert!(rate.is_spent(NOW));
        rate.pacer.take(NOW);
        assert!(!rate.is_spent(NOW), "whoever comes back finds the bucket as it was left");
        assert!(rate.is_spent(NOW.plus(Duration::from_secs(1))));
    }
}
