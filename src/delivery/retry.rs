//! When and whether a delivery is tried again: one pure function.
//!
//! The rules are those of the contract for the `desk` and `standard` dialects: 2xx is success, 410
//! ends the webhook, 429 and 503 are asked when to come back, everything else is tried again by the
//! schedule. Redirects are never followed, so they are failures like any other.

use std::time::Duration;

use crate::seam::Timestamp;

/// The schedule of retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The pause before the second, third … attempt.
    pauses: Vec<Duration>,
}

/// How far a pause may be stretched at random, so that what failed together does not come back
/// together.
const JITTER: f64 = 0.10;

/// The longest pause that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(24);

impl Default for Schedule {
    fn default() -> Self {
        let pauses = [60, 5 * 60, 30 * 60, 2 * 60 * 60];
        Self { pauses: pauses.into_iter().map(Duration::from_secs).collect() }
    }
}

impl Schedule {
    /// A schedule with these pauses: one attempt more than pauses.
    pub fn new(pauses: Vec<Duration>) -> Self {
        Self { pauses }
    }

    /// How many attempts a delivery has in all.
    pub fn attempts(&self) -> usize {
        self.pauses.len() + 1
    }
}

/// What came of an attempt, as far as the policy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The endpoint answered with a status, and perhaps when to come back.
    Status {
        /// The status code.
        code: u16,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// No answer came.
    Nothing,
}

/// What to do with a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Done.
    Delivered,
    /// Try again at this time.
    RetryAt(Timestamp),
    /// The attempts are used up: kept for replay.
    Failed,
    /// The endpoint says that it is no more.
    Gone,
}

/// Decides. `attempts_made` counts this attempt; `jitter` is in `0.0..1.0`.
pub fn decide(
    schedule: &Schedule,
    reply: Reply,
    attempts_made: usize,
    ended_at: Timestamp,
    jitter: f64,
) -> Decision {
    let asked = match reply {
        Reply::Status { code: 200..=299, .. } => return Decision::Delivered,
        Reply::Status { code: 410, .. } => return Decision::Gone,
        Reply::Status { code: 429 | 503, retry_after } => retry_after,
        Reply::Status { .. } | Reply::Nothing => None,
    };
    let Some(pause) = attempts_made.checked_sub(1).and_then(|place| schedule.pauses.get(place))
    else {
        return Decision::Failed;
    };
    let pause = pause.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
    // A receiver can ask for more patience, not for less.
    let pause = asked.map_or(pause, |asked| pause.max(asked.min(LONGEST_ASKED)));
    Decision::RetryAt(ended_at.plus(pause))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn status(code: u16) -> Reply {
        Reply::Status { code, retry_after: None }
    }

    #[test]
    fn the_default_schedule_is_the_contracts() {
        let schedule = Schedule::default();
        assert_eq!(schedule.attempts(), 5);
        let pauses: Vec<_> = (1..=5)
            .map(|made| match decide(&schedule, status(500), made, NOW, 0.0) {
                Decision::RetryAt(at) => Some(at.since(NOW).as_secs()),
                Decision::Failed => None,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(pauses, [Some(60), Some(300), Some(1_800), Some(7_200), None]);
    }

    #[test]
    fn each_status_has_its_consequence() {
        let schedule = Schedule::default();
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(decide(&schedule, status(code), 1, NOW, 0.5), Decision::Delivered, "{code}");
        }
        for code in [100, 301, 302, 307, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504, 599] {
            let decision = decide(&schedule, status(code), 1, NOW, 0.5);
            assert!(matches!(decision, Decision::RetryAt(_)), "{code}: {decision:?}");
        }
        assert_eq!(decide(&schedule, status(410), 1, NOW, 0.5), Decision::Gone);
        assert!(matches!(decide(&schedule, Reply::Nothing, 1, NOW, 0.5), Decision::RetryAt(_)));
    }

    #[test]
    fn only_429_and_503_can_ask_for_patience() {
        let schedule = Schedule::default();
        let asked = Some(Duration::from_mins(10));
        for (code, expected) in [(429, 600), (503, 600), (500, 60), (200, 0)] {
            let reply = Reply::Status { code, retry_after: asked };
            let pause = match decide(&schedule, reply, 1, NOW, 0.0) {
                Decision::RetryAt(at) => at.since(NOW).as_secs(),
                _ => 0,
            };
            assert_eq!(pause, expected, "{code}");
        }
    }

    proptest! {
        #[test]
        fn pauses_stay_in_bounds(made in 1_usize..=4, jitter in 0.0_f64..1.0, asked in prop::option::of(0_u64..1_000_000)) {
            let schedule = Schedule::default();
            let base = schedule.pauses[made - 1];
            let reply = Reply::Status { code: 503, retry_after: asked.map(Duration::from_secs) };
            let Decision::RetryAt(at) = decide(&schedule, reply, made, NOW, jitter) else {
                return Err(TestCaseError::fail("a retry was due"));
            };
            let pause = at.since(NOW);
            prop_assert!(pause >= base);
            let longest = base.mul_f64(1.1).max(Duration::from_secs(asked.unwrap_or(0)).min(LONGEST_ASKED));
            prop_assert!(pause <= longest + Duration::from_millis(1));
        }
    }
}
