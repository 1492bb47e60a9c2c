//! When refusals are answered: not before a fixed time after the call came, so that how long one took
//! does not tell how far it got (a context that opens, an installation that is known in memory).

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::seam::Clock;

/// How long after its call a refusal is answered at the earliest: longer than reading an
/// installation takes.
const FLOOR: Duration = Duration::from_millis(50);

/// How many refusals wait at once. What comes beyond is answered at once: whoever sends so many
/// gets no more memory for it.
const MOST_WAITING: usize = 1_024;

/// Holds refusals back.
pub(super) struct Refusals {
    clock: Clock,
    floor: Duration,
    places: Semaphore,
}

impl Refusals {
    /// Holds by this clock.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, floor: FLOOR, places: Semaphore::new(MOST_WAITING) }
    }

    /// Waits until the refusal of a call that came then may be answered.
    pub(super) async fn hold(&self, came: Instant) {
        let Ok(_place) = self.places.try_acquire() else { return };
        self.clock.sleep(self.floor.saturating_sub(came.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn refusals(places: usize) -> Refusals {
        let clock = Clock::default();
        Refusals { clock, floor: LONG, places: Semaphore::new(places) }
    }

    #[tokio::test]
    async fn a_refusal_waits_for_the_floor_whatever_it_took_before() {
        let refusals = refusals(2);
        let came = refusals.clock.instant();
        let mut early = Box::pin(refusals.hold(came));
        assert!(early.as_mut().now_or_never().is_none(), "it waits");
        refusals.clock.advance(LONG);
        early.await;
        let late = Refusals { floor: Duration::ZERO, ..refusals };
        assert!(late.hold(came).now_or_never().is_some(), "its time has passed");
    }

    #[tokio::test]
    async fn no_more_wait_than_there_are_places() {
        let refusals = refusals(1);
        let came = refusals.clock.instant();
        let mut first = Box::pin(refusals.hold(came));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(refusals.hold(came).now_or_never().is_some(), "answered at once");
        drop(first);
        assert!(refusals.hold(came).now_or_never().is_none(), "the place came back");
    }
}
