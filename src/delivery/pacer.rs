//! The rate of a lane: a token bucket, kept as one moment (GCRA), driven by the time it is told.
//!
//! What is over the rate waits; the loop at the end wakes lanes when their next token is there.

use std::time::Duration;

use tokio::sync::Notify;

use super::dispatcher::Dispatcher;
use crate::seam::Timestamp;

/// How far ahead of its tokens a lane takes work into memory: what waits longer waits in the table,
/// where every node can take it. Well below the margin of a row's lease.
const HORIZON: Duration = Duration::from_secs(2);

/// The bucket of a lane. It holds what the rate gives in a second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pacer {
    rate_per_minute: u32,
    nodes: u32,
    /// Microseconds between two tokens, of this node's share.
    interval: i64,
    /// Tokens that a rested bucket holds.
    burst: i64,
    /// When the bucket is full again, in microseconds since the epoch.
    full_at: i64,
}

impl Pacer {
    /// A full bucket for this node's share of a rate.
    pub(super) fn new(rate_per_minute: u32, nodes: u32) -> Self {
        let mut pacer = Self {
            rate_per_minute: rate_per_minute.max(1),
            nodes: nodes.max(1),
            interval: 0,
            burst: 1,
            full_at: i64::MIN,
        };
        pacer.spread();
        pacer
    }

    fn spread(&mut self) {
        let interval = 60_000_000 * i64::from(self.nodes) / i64::from(self.rate_per_minute);
        self.interval = interval.max(1);
        self.burst = (1_000_000 / self.interval).max(1);
    }

    /// Takes another rate, or share of it; what was used up stays used up.
    pub(super) fn change(&mut self, rate_per_minute: u32, nodes: u32) {
        if (rate_per_minute.max(1), nodes.max(1)) != (self.rate_per_minute, self.nodes) {
            self.rate_per_minute = rate_per_minute.max(1);
            self.nodes = nodes.max(1);
            self.spread();
        }
    }

    /// The moment from which a token is there.
    pub(super) fn ready_at(&self) -> Timestamp {
        let ahead = self.interval.saturating_mul(self.burst - 1);
        Timestamp::from_micros(self.full_at.saturating_sub(ahead))
    }

    /// Takes a token.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now.micros()).saturating_add(self.interval);
    }

    /// Forgets a use that lies in the future, where the time of day was set back: an empty bucket
    /// fills from now on.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        let latest = now.micros().saturating_add(self.interval.saturating_mul(self.burst));
        self.full_at = self.full_at.min(latest);
    }

    /// Puts a token back whose delivery was not tried.
    pub(super) fn give_back(&mut self) {
        self.full_at = self.full_at.saturating_sub(self.interval);
    }

    /// Whether it is as full as a new one.
    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        self.full_at <= now.micros()
    }

    /// How many tokens there are.
    pub(super) fn tokens(&self, now: Timestamp) -> usize {
        self.within(now, Duration::ZERO)
    }

    /// How many tokens there will be within the horizon.
    pub(super) fn within_horizon(&self, now: Timestamp) -> usize {
        self.within(now, HORIZON)
    }

    fn within(&self, now: Timestamp, span: Duration) -> usize {
        let ahead = self.interval.saturating_mul(self.burst - 1);
        let from = self.full_at.max(now.micros()).saturating_sub(ahead);
        let span = now.plus(span).micros().saturating_sub(from);
        if span < 0 { 0 } else { usize::try_from(span / self.interval + 1).unwrap_or(usize::MAX) }
    }
}

/// Wakes lanes whose next token is there, until the dispatcher stops.
pub(super) async fn run(dispatcher: Dispatcher) {
    let inner = &dispatcher.inner;
    loop {
        let now = inner.seam.clock.now();
        let (woken, next) = {
            let mut lanes = dispatcher.lanes();
            (lanes.wake_paced(now), lanes.next_paced())
        };
        if woken {
            dispatcher.spawn_workers();
        }
        let sleep = async {
            match next {
                Some(next) => inner.seam.clock.sleep(next.since(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.paced.notified() => {}
            () = sleep => {}
        }
    }
}

/// Wakes the loop above.
#[derive(Debug, Default)]
pub(super) struct PacedLanes(Notify);

impl PacedLanes {
    async fn notified(&self) {
        self.0.notified().await;
    }

    /// Says that a lane waits for a token, perhaps for an earlier one than all others.
    pub(super) fn notify(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut pacer = Pacer::new(60, 1);
        let before = Timestamp::from_millis(10_000_000);
        pacer.take(before);
        let now = before.minus(Duration::from_hours(1));
        assert!(pacer.ready_at() > now.plus(Duration::from_mins(30)));
        pacer.set_back(now);
        assert!(pacer.ready_at() <= now.plus(Duration::from_secs(1)));
    }

    #[test]
    fn a_slow_rate_gives_one_and_then_one_by_one() {
        let mut pacer = Pacer::new(6, 1);
        assert!(pacer.ready_at() <= START);
        pacer.take(START);
        assert_eq!(pacer.ready_at(), START.plus(Duration::from_secs(10)));
        assert_eq!(pacer.within_horizon(START), 0);
        assert_eq!(pacer.within_horizon(START.plus(Duration::from_secs(8))), 1);
        assert_eq!((pacer.tokens(START), pacer.is_full(START)), (0, false));
        let full = START.plus(Duration::from_secs(10));
        assert_eq!((pacer.tokens(full), pacer.is_full(full)), (1, true));
        pacer.give_back();
        assert!(pacer.ready_at() <= START, "what was not tried costs nothing");
    }

    #[test]
    fn a_fast_rate_gives_a_second_at_once() {
        let mut pacer = Pacer::new(600, 1);
        let mut given = 0;
        while pacer.ready_at() <= START {
            pacer.take(START);
            given += 1;
        }
        assert_eq!((given, Pacer::new(600, 1).tokens(START)), (10, 10));
        assert_eq!(pacer.ready_at(), START.plus(Duration::from_millis(100)));
        assert_eq!(pacer.within_horizon(START), 20);
    }

    #[test]
    fn each_node_takes_its_share() {
        let mut pacer = Pacer::new(60, 4);
        pacer.take(START);
        assert_eq!(pacer.ready_at(), START.plus(Duration::from_secs(4)));
        pacer.change(60, 1);
        pacer.take(START);
        assert_eq!(pacer.ready_at(), START.plus(Duration::from_secs(5)));
    }

    proptest! {
        /// Over any span no more is given than the rate and one bucket.
        #[test]
        fn the_rate_holds_over_any_span(
            rate in 1_u32..=600_000, nodes in 1_u32..=8,
            gaps in prop::collection::vec(0_u64..5_000_000, 1..200),
        ) {
            let mut pacer = Pacer::new(rate, nodes);
            let (mut now, mut given) = (START, 0_i64);
            for gap in gaps {
                now = now.plus(Duration::from_micros(gap));
                while pacer.ready_at() <= now {
                    pacer.take(now);
                    given += 1;
                    let span = now.since(START).as_micros();
                    let most = i64::try_from(span).unwrap_or(i64::MAX) / pacer.interval + pacer.burst;
                    prop_assert!(given <= most, "{given} of {most}");
                }
                prop_assert!(pacer.ready_at() > now, "nothing is left over");
                prop_assert!(
                    pacer.ready_at() <= now.plus(Duration::from_micros(pacer.interval.unsigned_abs()))
                );
            }
        }
    }
}
