//! The breaker of a lane: pauses an endpoint that keeps failing, and probes it.
//!
//! It opens on failures in a row, and on a rate of failures over enough attempts, so that an
//! endpoint that lets one request in four through is paused too. While it is open nothing is sent,
//! nothing is lost and no attempt is used up: deliveries wait in the table. A probe is one ordinary
//! delivery; its success closes the breaker.

use std::time::Duration;

use crate::seam::Timestamp;

/// Over how long the rate of failures is taken.
const WINDOW: Duration = Duration::from_mins(1);

/// By how much the time of day may differ between two workers before it was set back: they read it
/// first and wait for their turn then.
const SET_BACK: Duration = Duration::from_secs(5);

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerPolicy {
    /// How many failures in a row open it.
    pub failures: u32,
    /// How many of a hundred attempts within a minute have to fail to open it.
    pub failure_percent: u32,
    /// How many attempts a minute must have before their rate says anything.
    pub volume: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause; each failed probe doubles the former one.
    pub pause_limit: Duration,
}

/// What happened lately, in two halves: the window slides by half of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Recent {
    since: Option<Timestamp>,
    attempts: [u32; 2],
    failures: [u32; 2],
}

impl Recent {
    fn note(&mut self, now: Timestamp, failed: bool) {
        let half = WINDOW / 2;
        match self.since {
            Some(since) if now.since(since) < half => {}
            Some(since) if now.since(since) < WINDOW => {
                self.attempts = [self.attempts[1], 0];
                self.failures = [self.failures[1], 0];
                self.since = Some(since.plus(half));
            }
            _ => *self = Self { since: Some(now), ..Self::default() },
        }
        self.attempts[1] = self.attempts[1].saturating_add(1);
        self.failures[1] = self.failures[1].saturating_add(u32::from(failed));
    }

    fn is_too_bad(&self, policy: &BreakerPolicy) -> bool {
        let attempts = u64::from(self.attempts[0]) + u64::from(self.attempts[1]);
        let failures = u64::from(self.failures[0]) + u64::from(self.failures[1]);
        attempts >= u64::from(policy.volume.max(1))
            && failures * 100 >= attempts * u64::from(policy.failure_percent)
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    consecutive_failures: u32,
    pauses: u32,
    open: Option<Pause>,
    recent: Recent,
}

/// A pause that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    until: Timestamp,
    length: Duration,
}

impl Pause {
    /// Whether it is over. One that seems to last longer than it is has seen the clock set back.
    fn is_over(self, now: Timestamp) -> bool {
        self.until <= now || self.until.since(now) > self.length + SET_BACK
    }
}

/// What a lane may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// As much as its cap allows.
    Freely,
    /// One delivery, to see whether the endpoint is back.
    Probe,
    /// Nothing until then.
    NothingUntil(Timestamp),
}

impl Breaker {
    /// A breaker that another run of this process, or another node, left open.
    pub(super) fn open(until: Timestamp, now: Timestamp) -> Self {
        Self { open: Some(Pause { until, length: until.since(now) }), ..Self::default() }
    }

    /// What may be sent now.
    pub(super) fn allowance(&self, now: Timestamp) -> Allowance {
        match self.open {
            None => Allowance::Freely,
            Some(pause) if pause.is_over(now) => Allowance::Probe,
            Some(pause) => Allowance::NothingUntil(pause.until),
        }
    }

    /// Whether nothing is remembered that would change what is sent.
    pub(super) fn is_fresh(&self) -> bool {
        self.consecutive_failures == 0 && self.open.is_none()
    }

    /// The endpoint took a delivery.
    pub(super) fn succeeded(&mut self, now: Timestamp) {
        if self.open.is_some() {
            // What failed before the pause says nothing of the endpoint that is back.
            *self = Self::default();
        }
        self.consecutive_failures = 0;
        self.pauses = 0;
        self.recent.note(now, false);
    }

    /// An attempt failed. Returns until when the lane pauses, where it begins to.
    pub(super) fn failed(&mut self, policy: &BreakerPolicy, now: Timestamp) -> Option<Timestamp> {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.recent.note(now, true);
        let was_probe = self.open.is_some_and(|pause| pause.is_over(now));
        let opens = self.open.is_none()
            && (self.consecutive_failures >= policy.failures || self.recent.is_too_bad(policy));
        if !was_probe && !opens {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.pauses.min(16));
        let pause = policy.pause.saturating_mul(factor).min(policy.pause_limit);
        self.pauses = self.pauses.saturating_add(1);
        let until = now.plus(pause);
        self.open = Some(Pause { until, length: pause });
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
        failure_percent: 70,
        volume: 20,
        pause: Duration::from_secs(10),
        pause_limit: Duration::from_mins(1),
    };
    const START: Timestamp = Timestamp::from_millis(0);

    #[test]
    fn opens_probes_and_closes() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(&POLICY, START), None);
        assert_eq!(breaker.failed(&POLICY, START), None);
        assert_eq!(breaker.allowance(START), Allowance::Freely);
        let until = START.plus(POLICY.pause);
        assert_eq!(breaker.failed(&POLICY, START), Some(until));
        assert_eq!(breaker.allowance(START), Allowance::NothingUntil(until));
        // Stragglers that were under way change nothing.
        assert_eq!(breaker.failed(&POLICY, START), None);
        assert_eq!(breaker.allowance(until), Allowance::Probe);
        assert_eq!(breaker.failed(&POLICY, until), Some(until.plus(POLICY.pause * 2)));
        breaker.succeeded(until);
        assert_eq!(breaker.allowance(START), Allowance::Freely);
        assert!(breaker.is_fresh());
    }

    #[test]
    fn opens_on_a_rate_of_failures_without_a_streak() {
        let mut breaker = Breaker::default();
        let mut opened_after = None;
        for attempt in 0..100_u32 {
            let now = START.plus(Duration::from_millis(u64::from(attempt) * 100));
            // Two in three fail, never three in a row: under seventy in a hundred.
            if attempt % 3 == 0 {
                breaker.succeeded(now);
            } else if breaker.failed(&POLICY, now).is_some() {
                opened_after = Some(attempt);
                break;
            }
        }
        assert_eq!(
            opened_after, None,
            "two thirds are less than the policy's seventy in a hundred"
        );

        let lenient = BreakerPolicy { failures: 1_000, ..POLICY };
        let mut breaker = Breaker::default();
        let opened_after = (0..100_u32).find(|attempt| {
            let now = START.plus(Duration::from_millis(u64::from(*attempt) * 100));
            if attempt % 4 == 0 {
                breaker.succeeded(now);
                return false;
            }
            breaker.failed(&lenient, now).is_some()
        });
        assert_eq!(opened_after, Some(19), "as soon as there is volume enough");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let lenient = BreakerPolicy { failures: 1_000, ..POLICY };
        let mut breaker = Breaker::default();
        for _ in 0..19 {
            assert_eq!(breaker.failed(&lenient, START), None);
        }
        let later = START.plus(WINDOW * 3);
        assert_eq!(breaker.failed(&lenient, later), None, "one attempt lately");
    }

    #[test]
    fn a_remembered_pause_ends_with_a_probe() {
        let until = START.plus(Duration::from_secs(5));
        let mut breaker = Breaker::open(until, START);
        assert_eq!(breaker.allowance(START), Allowance::NothingUntil(until));
        assert!(!breaker.is_fresh());
        assert_eq!(breaker.allowance(until), Allowance::Probe);
        breaker.succeeded(until);
        assert_eq!(breaker.allowance(until), Allowance::Freely);
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_no_pause() {
        let now = START.plus(Duration::from_hours(2));
        let mut breaker = Breaker::default();
        for _ in 0..POLICY.failures {
            breaker.failed(&POLICY, now);
        }
        let a_moment_before = now.minus(Duration::from_millis(3));
        assert!(matches!(breaker.allowance(a_moment_before), Allowance::NothingUntil(_)));
        assert_eq!(breaker.allowance(START), Allowance::Probe);
    }

    #[test]
    fn pauses_grow_to_the_limit() {
        let mut breaker = Breaker::default();
        let mut now = START;
        for _ in 0..POLICY.failures {
            breaker.failed(&POLICY, now);
        }
        for _ in 0..40 {
            let Allowance::NothingUntil(until) = breaker.allowance(now) else {
                panic!("the breaker is open");
            };
            assert!(until.since(now) <= POLICY.pause_limit);
            now = until;
            assert!(breaker.failed(&POLICY, now).is_some());
        }
    }

    proptest! {
        /// Whatever happens: a pause is never longer than the limit, and a success after its end
        /// always closes.
        #[test]
        fn always_comes_back(steps in prop::collection::vec((any::<bool>(), 0_u64..120_000), 1..200)) {
            let mut breaker = Breaker::default();
            let mut now = START;
            for (failed, pause) in steps {
                now = now.plus(Duration::from_millis(pause));
                if let Allowance::NothingUntil(until) = breaker.allowance(now) {
                    prop_assert!(until.since(now) <= POLICY.pause_limit);
                    continue;
                }
                if failed {
                    breaker.failed(&POLICY, now);
                } else {
                    breaker.succeeded(now);
                    prop_assert_eq!(breaker.allowance(now), Allowance::Freely);
                }
            }
        }
    }
}
