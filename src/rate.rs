//! How often somebody may do something, in memory of this node: a rate with a burst for each key, by
//! the generic cell rate algorithm (ITU-T I.371), or a number of uses in any minute, by a list of
//! their moments.

use std::collections::{HashMap, VecDeque};
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

/// The span of which a [`KeyedWindow`] counts the uses.
const WINDOW: Duration = Duration::from_mins(1);

/// How many keys a [`KeyedWindow`] remembers at the most. Keys that have not been used for a minute
/// are forgotten without loss.
const WINDOWS_REMEMBERED: usize = 10_000;

/// A number of uses for each key that no span of a minute goes beyond.
pub struct KeyedWindow<K> {
    clock: Clock,
    most: usize,
    /// When each key was used in the last minute, the oldest use first.
    uses: Mutex<HashMap<K, VecDeque<Timestamp>>>,
}

impl<K> fmt::Debug for KeyedWindow<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyedWindow").field("most", &self.most).finish_non_exhaustive()
    }
}

impl<K: Eq + Hash> KeyedWindow<K> {
    /// So many uses in any minute for each key; one at the least.
    pub fn new(per_minute: u32, clock: Clock) -> Self {
        let most = usize::try_from(per_minute.max(1)).unwrap_or(usize::MAX);
        Self { clock, most, uses: Mutex::default() }
    }

    /// Takes a use; says how long to wait where there is none left.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() >= WINDOWS_REMEMBERED && !uses.contains_key(&key) {
            uses.retain(|_, uses| uses.back().is_some_and(|last| now.since(*last) < WINDOW));
            if uses.len() >= WINDOWS_REMEMBERED {
                return Err(WINDOW);
            }
        }
        let uses = uses.entry(key).or_default();
        if uses.back().is_some_and(|last| *last > now) {
            // The time of day was set back: they were just now, at the latest.
            for at in &mut *uses {
                *at = (*at).min(now);
            }
        }
        while uses.front().is_some_and(|first| now.since(*first) >= WINDOW) {
            uses.pop_front();
        }
        if let Some(first) = uses.front().filter(|_| uses.len() >= self.most) {
            return Err(WINDOW.saturating_sub(now.since(*first)));
        }
        uses.push_back(now);
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

    #[test]
    fn no_minute_has_more_uses_than_the_window_allows() {
        let clock = Clock::default();
        let window = KeyedWindow::new(50, clock.clone());
        // However they are spread: some, a pause, the rest, and then again as soon as may be.
        let mut taken: Vec<Timestamp> = Vec::new();
        for pause in [0, 0, 30, 20, 10, 1, 5, 24, 30, 60] {
            clock.advance(Duration::from_secs(pause));
            for _ in 0..20 {
                if window.take("a").is_ok() {
                    taken.push(clock.now());
                }
            }
        }
        for (index, first) in taken.iter().enumerate() {
            let within = taken[index..].iter().filter(|at| at.since(*first) < WINDOW).count();
            assert!(within <= 50, "{within}");
        }
        assert!(taken.len() > 100, "{}", taken.len());
        window.take("b").expect("another key has its own");
    }

    #[test]
    fn the_wait_of_a_window_is_the_one_that_helps() {
        let clock = Clock::default();
        let window = KeyedWindow::new(2, clock.clone());
        window.take(1).expect("the first");
        clock.advance(Duration::from_secs(20));
        window.take(1).expect("the second");
        let wait = window.take(1).expect_err("no more in this minute");
        assert!(wait <= Duration::from_secs(40) && !wait.is_zero(), "{wait:?}");
        clock.advance(wait);
        window.take(1).expect("the first has left the minute");
        assert!(window.take(1).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_a_window_shut_for_a_minute_at_most() {
        let clock = Clock::default();
        let window = KeyedWindow::new(1, clock.clone());
        window.take(()).expect("the first");
        clock.set_back(Duration::from_hours(5));
        let wait = window.take(()).expect_err("still used up");
        assert!(wait <= WINDOW, "{wait:?}");
        clock.advance(wait);
        window.take(()).expect("a minute later");
    }

    #[test]
    fn windows_of_very_many_keys_are_bounded() {
        let clock = Clock::default();
        let window = KeyedWindow::new(5, clock.clone());
        for key in 0..WINDOWS_REMEMBERED {
            window.take(key).expect("there is room");
        }
        assert!(window.take(usize::MAX).is_err());
        clock.advance(WINDOW);
        window.take(usize::MAX).expect("the others are forgotten");
        let uses = window.uses.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(uses.len(), 1);
    }
}
