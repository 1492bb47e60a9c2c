//! Whether loops still run: each says so on its way, and who asks finds those that stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::seam::Clock;

/// Stands for a loop that waits for work, which is no stall however long it takes.
const RESTING: u64 = 0;

/// The beat of one loop. Cloning shares it. Spans are real ones: no time of day, and no test's clock.
#[derive(Clone, Debug)]
pub struct Beat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    base: Instant,
    /// Microseconds from the base to the last beat, and one more.
    last: AtomicU64,
}

impl Beat {
    /// A loop that has not begun yet.
    pub fn new(clock: Clock) -> Self {
        let base = clock.instant();
        Self(Arc::new(Inner { clock, base, last: AtomicU64::new(RESTING) }))
    }

    /// Says that the loop has come round, or begins a piece of work.
    pub fn beat(&self) {
        let since = self.0.base.elapsed().as_micros();
        let micros = u64::try_from(since).unwrap_or(u64::MAX - 1).saturating_add(1);
        self.0.last.store(micros, Ordering::Relaxed);
    }

    /// Says that the loop waits for work, or has ended.
    pub fn rest(&self) {
        self.0.last.store(RESTING, Ordering::Relaxed);
    }

    /// How long ago the last beat was; nothing while the loop rests.
    pub fn silence(&self) -> Option<Duration> {
        let last = self.0.last.load(Ordering::Relaxed);
        if last == RESTING {
            return None;
        }
        let now = self.0.clock.instant().saturating_duration_since(self.0.base);
        Some(now.saturating_sub(Duration::from_micros(last - 1)))
    }
}

/// The loops of a server. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Beats(Arc<Mutex<Vec<Watched>>>);

/// A loop, how long it may be silent, and its beat.
type Watched = (&'static str, Duration, Beat);

impl Beats {
    /// Watches a loop: it stalls where it is silent for longer than `limit`.
    pub fn watch(&self, name: &'static str, limit: Duration, beat: Beat) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.push((name, limit, beat));
    }

    /// How long each loop has been silent; nothing for those that rest.
    pub fn silences(&self) -> Vec<(&'static str, Option<Duration>)> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().map(|(name, _, beat)| (*name, beat.silence())).collect()
    }

    /// The first loop that stalls, in words.
    pub fn stalled(&self) -> Option<String> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().find_map(|(name, limit, beat)| {
            let silence = beat.silence().filter(|silence| silence > limit)?;
            Some(format!("the loop `{name}` has not come round for {} s", silence.as_secs()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_is_silent_stalls_and_one_that_rests_does_not() {
        let clock = Clock::default();
        let (beats, beat) = (Beats::default(), Beat::new(clock.clone()));
        let (limit, longer) = (Duration::from_millis(400), Duration::from_millis(600));
        beats.watch("refill", limit, beat.clone());
        clock.sleep(longer).await;
        assert_eq!(beats.stalled(), None, "it has not begun");
        beat.beat();
        assert_eq!(beats.stalled(), None);
        clock.advance(Duration::from_hours(1));
        assert_eq!(beats.stalled(), None, "the clock of a test says nothing of loops");
        clock.sleep(longer).await;
        let stalled = beats.stalled().expect("it is silent for longer");
        assert!(stalled.contains("`refill`"), "{stalled}");
        beat.beat();
        assert_eq!(beats.stalled(), None);
        beat.rest();
        clock.sleep(longer).await;
        assert_eq!(beats.stalled(), None, "it waits for work");
        assert_eq!(beats.silences(), [("refill", None)]);
    }
}
