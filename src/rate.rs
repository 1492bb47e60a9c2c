//! How often somebody may do something: a rate with a burst for each key, by the generic cell rate
//! algorithm (ITU-T I.371), in memory of this node.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::seam::{Clock, Timestamp};

/// How many keys are remembered at the most. Keys that have not been used for a burst are forgotten
/// without loss.
const REMEMBERED: usize = 50_000;

/// A rate for each key.
pub struct KeyedRate<K> {
    clock: Clock,
    /// What one use takes of the allowance.
    pause: Duration,
    burst: u32,
    /// Until when each key's allowance is used up to.
    used_until: Mutex<HashMap<K, Timestamp>>,
}

impl<K> fmt::Debug for KeyedRate<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyedRate")
            .field("pause", &self.pause)
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> KeyedRate<K> {
    /// So many uses a minute for each key, `burst` of them at once.
    pub fn new(per_minute: u32, burst: u32, clock: Clock) -> Self {
        Self {
            clock,
            pause: Duration::from_mins(1) / per_minute.max(1),
            burst: burst.max(1),
            used_until: Mutex::default(),
        }
    }

    /// Takes uses of a key's allowance, all or none; says how long to wait where there are too few
    /// left. More than the burst never fit at once: they are taken as the burst.
    pub fn take(&self, key: K, uses: u32) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        if used_until.len() >= REMEMBERED {
            used_until.retain(|_, until| *until > now);
        }
        // No use lies further ahead than a burst, but where the time of day was set back.
        let furthest = now.plus(self.pause * self.burst);
        let before = used_until.get(&key).copied().unwrap_or(now).clamp(now, furthest);
        let taken = before.plus(self.pause * uses.clamp(1, self.burst));
        let over = taken.since(furthest);
        if !over.is_zero() {
            return Err(over);
        }
        if used_until.len() >= REMEMBERED && !used_until.contains_key(&key) {
            return Err(self.pause);
        }
        used_until.insert(key, taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_counts_for_each_key() {
        let clock = Clock::default();
        let rate = KeyedRate::new(60, 10, clock.clone());
        for _ in 0..10 {
            rate.take("a", 1).expect("within the burst");
        }
        let wait = rate.take("a", 1).expect_err("the burst is used up");
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        rate.take("b", 1).expect("another key has its own");
        clock.advance(Duration::from_secs(1));
        rate.take("a", 1).expect("one came back");
        assert!(rate.take("a", 1).is_err());
    }

    #[test]
    fn many_are_taken_all_or_none() {
        let clock = Clock::default();
        let rate = KeyedRate::new(50, 50, clock.clone());
        rate.take(1, 45).expect("within the burst");
        assert!(rate.take(1, 10).is_err());
        rate.take(1, 5).expect("what was refused took nothing");
        assert!(rate.take(1, 1).is_err());
        clock.advance(Duration::from_mins(1));
        rate.take(1, 500).expect("a whole allowance");
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let clock = Clock::default();
        let rate = KeyedRate::new(60, 2, clock.clone());
        rate.take((), 2).expect("within the burst");
        clock.set_back(Duration::from_hours(5));
        let wait = rate.take((), 1).expect_err("still used up");
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
    }
}
