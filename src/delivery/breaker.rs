//! The breaker of a lane: pauses an endpoint that keeps failing, and probes it.
//!
//! While it is open nothing is sent and nothing is lost: deliveries wait in the table. A probe is
//! one ordinary delivery; its success closes the breaker.

use std::time::Duration;

use crate::seam::Timestamp;

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerPolicy {
    /// How many failures in a row open it.
    pub failures: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause; each failed probe doubles the former one.
    pub pause_limit: Duration,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    consecutive_failures: u32,
    pauses: u32,
    open_until: Option<Timestamp>,
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
    /// What may be sent now.
    pub(super) fn allowance(&self, now: Timestamp) -> Allowance {
        match self.open_until {
            None => Allowance::Freely,
            Some(until) if until <= now => Allowance::Probe,
            Some(until) => Allowance::NothingUntil(until),
        }
    }

    /// Whether nothing is remembered.
    pub(super) fn is_fresh(&self) -> bool {
        *self == Self::default()
    }

    /// The endpoint took a delivery.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// An attempt failed. Returns until when the lane pauses, where it begins to.
    pub(super) fn failed(&mut self, policy: &BreakerPolicy, now: Timestamp) -> Option<Timestamp> {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let was_probe = self.open_until.is_some_and(|until| until <= now);
        let opens = self.open_until.is_none() && self.consecutive_failures >= policy.failures;
        if !was_probe && !opens {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.pauses.min(16));
        let pause = policy.pause.saturating_mul(factor).min(policy.pause_limit);
        self.pauses = self.pauses.saturating_add(1);
        let until = now.plus(pause);
        self.open_until = Some(until);
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
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
        breaker.succeeded();
        assert_eq!(breaker.allowance(START), Allowance::Freely);
        assert!(breaker.is_fresh());
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
}
