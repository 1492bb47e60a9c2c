//! When and whether a delivery is tried again: one pure function.
//!
//! What a status means is the dialect's table ([`StatusTable`]); when the next attempt comes is the
//! schedule's, with the receiver's `Retry-After` where the table heeds it. The receiver may ask for
//! more by the answer header `webhook-delivery`.

use std::sync::Arc;
use std::time::Duration;

use crate::dialect::{SOON, StatusTable, Verdict};
use crate::egress::ReceiverControl;
use crate::seam::Timestamp;

/// How far a pause may be stretched at random, so that what failed together does not come back
/// together.
const JITTER: f64 = 0.10;

/// The longest pause that a receiver may ask for.
pub const LONGEST_ASKED: Duration = Duration::from_hours(24);

/// The schedule of retries. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The pause before the second, third … attempt.
    pauses: Arc<[Duration]>,
}

impl Default for Schedule {
    fn default() -> Self {
        let pauses = [60, 5 * 60, 30 * 60, 2 * 60 * 60];
        Self { pauses: pauses.into_iter().map(Duration::from_secs).collect() }
    }
}

impl Schedule {
    /// A schedule with these pauses: one attempt more than pauses.
    pub fn new(pauses: impl Into<Arc<[Duration]>>) -> Self {
        Self { pauses: pauses.into() }
    }

    /// How many attempts a delivery has in all.
    pub fn attempts(&self) -> usize {
        self.pauses.len() + 1
    }
}

/// By what is decided.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// What statuses mean.
    pub statuses: &'static StatusTable,
    /// When the next attempt comes.
    pub schedule: Schedule,
}

/// What came of an attempt, as far as the policy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The endpoint answered.
    Status {
        /// The status code.
        code: u16,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
        /// What `webhook-delivery` asks for.
        control: Option<ReceiverControl>,
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
    /// The attempts are used up, or another would not help: kept for replay.
    Failed,
    /// The endpoint asked not to be sent this one again: kept for replay, and no sign of trouble.
    Aborted,
    /// The endpoint says that it is no more.
    Gone,
    /// The endpoint asked to be sent nothing more.
    Disabled {
        /// Whether it took this one.
        delivered: bool,
    },
}

/// Decides. Total: every reply, number of attempts and jitter has an answer. `attempts_made` counts
/// this attempt; `jitter` is in `0.0..1.0`, and what lies outside counts as the nearest.
pub fn decide(
    policy: &RetryPolicy,
    reply: Reply,
    attempts_made: usize,
    ended_at: Timestamp,
    jitter: f64,
) -> Decision {
    let (verdict, retry_after, control) = match reply {
        Reply::Status { code, retry_after, control } => {
            (policy.statuses.verdict(code), retry_after, control)
        }
        Reply::Nothing => (policy.statuses.no_answer, None, None),
    };
    let delivered = verdict == Verdict::Delivered;
    match control {
        Some(ReceiverControl::Disable) => return Decision::Disabled { delivered },
        Some(ReceiverControl::AbortMessage) if !delivered && verdict != Verdict::Gone => {
            return Decision::Aborted;
        }
        Some(ReceiverControl::AbortMessage) | None => {}
    }
    let asked = match verdict {
        Verdict::Delivered => return Decision::Delivered,
        Verdict::Gone => return Decision::Gone,
        Verdict::Stop => return Decision::Failed,
        Verdict::RetryWhenAsked => retry_after,
        Verdict::RetryOnlyWhenAskedSoon => match retry_after {
            Some(asked) if asked < SOON => Some(asked),
            Some(_) | None => return Decision::Failed,
        },
        Verdict::Retry => None,
    };
    let is_answered = matches!(reply, Reply::Status { .. });
    let most = policy.statuses.most_attempts_answered.filter(|_| is_answered);
    if most.is_some_and(|most| attempts_made >= most) {
        return Decision::Failed;
    }
    let pauses = &policy.schedule.pauses;
    let Some(pause) = attempts_made.checked_sub(1).and_then(|place| pauses.get(place)) else {
        return Decision::Failed;
    };
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    let pause = pause.mul_f64(1.0 + JITTER * jitter);
    // A receiver can ask for more patience, not for less.
    let pause = asked.map_or(pause, |asked| pause.max(asked.min(LONGEST_ASKED)));
    Decision::RetryAt(ended_at.plus(pause))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::{DESK, Dialect, ZENDESK};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// A dialect that gives up on what the receiver calls the sender's fault.
    const STRICT: StatusTable = StatusTable {
        rules: &[(200, 299, Verdict::Delivered), (400, 499, Verdict::Stop)],
        otherwise: Verdict::Retry,
        no_answer: Verdict::Stop,
        most_attempts_answered: None,
    };

    fn policy() -> RetryPolicy {
        RetryPolicy { statuses: &DESK, schedule: Schedule::default() }
    }

    fn status(code: u16) -> Reply {
        Reply::Status { code, retry_after: None, control: None }
    }

    fn asking(code: u16, control: ReceiverControl) -> Reply {
        Reply::Status { code, retry_after: None, control: Some(control) }
    }

    #[test]
    fn the_default_schedule_is_the_contracts() {
        let policy = policy();
        assert_eq!(policy.schedule.attempts(), 5);
        let pauses: Vec<_> = (1..=5)
            .map(|made| match decide(&policy, status(500), made, NOW, 0.0) {
                Decision::RetryAt(at) => Some(at.since(NOW).as_secs()),
                Decision::Failed => None,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(pauses, [Some(60), Some(300), Some(1_800), Some(7_200), None]);
    }

    #[test]
    fn each_status_has_its_consequence() {
        let policy = policy();
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(decide(&policy, status(code), 1, NOW, 0.5), Decision::Delivered, "{code}");
        }
        for code in [100, 301, 302, 307, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504, 599] {
            let decision = decide(&policy, status(code), 1, NOW, 0.5);
            assert!(matches!(decision, Decision::RetryAt(_)), "{code}: {decision:?}");
        }
        assert_eq!(decide(&policy, status(410), 1, NOW, 0.5), Decision::Gone);
        assert!(matches!(decide(&policy, Reply::Nothing, 1, NOW, 0.5), Decision::RetryAt(_)));
    }

    #[test]
    fn another_table_decides_otherwise() {
        let policy = RetryPolicy { statuses: &STRICT, schedule: Schedule::default() };
        assert_eq!(decide(&policy, status(404), 1, NOW, 0.5), Decision::Failed);
        assert_eq!(decide(&policy, status(410), 1, NOW, 0.5), Decision::Failed);
        assert_eq!(decide(&policy, Reply::Nothing, 1, NOW, 0.5), Decision::Failed);
        assert!(matches!(decide(&policy, status(500), 1, NOW, 0.5), Decision::RetryAt(_)));
    }

    #[test]
    fn zendesk_retries_thrice_what_was_answered_and_five_times_what_was_not() {
        let pauses = Dialect::Zendesk.default_pauses().expect("it has its own");
        let policy = RetryPolicy { statuses: &ZENDESK, schedule: Schedule::new(pauses) };
        let attempts = |reply| {
            (1..=9).find(|made| decide(&policy, reply, *made, NOW, 0.0) == Decision::Failed)
        };
        let asking = |seconds| Reply::Status {
            code: 503,
            retry_after: Some(Duration::from_secs(seconds)),
            control: None,
        };
        assert_eq!(attempts(status(409)), Some(4));
        assert_eq!(attempts(asking(59)), Some(4));
        assert_eq!(attempts(asking(60)), Some(1));
        assert_eq!(attempts(status(503)), Some(1));
        assert_eq!(attempts(status(500)), Some(1));
        assert_eq!(attempts(Reply::Nothing), Some(6));
    }

    #[test]
    fn only_429_and_503_can_ask_for_patience() {
        let asked = Some(Duration::from_mins(10));
        for (code, expected) in [(429, 600), (503, 600), (500, 60), (200, 0)] {
            let reply = Reply::Status { code, retry_after: asked, control: None };
            let pause = match decide(&policy(), reply, 1, NOW, 0.0) {
                Decision::RetryAt(at) => at.since(NOW).as_secs(),
                _ => 0,
            };
            assert_eq!(pause, expected, "{code}");
        }
    }

    #[test]
    fn what_a_receiver_asks_for_is_done() {
        use ReceiverControl::{AbortMessage, Disable};
        let policy = policy();
        for (reply, expected) in [
            (asking(200, Disable), Decision::Disabled { delivered: true }),
            (asking(500, Disable), Decision::Disabled { delivered: false }),
            (asking(410, Disable), Decision::Disabled { delivered: false }),
            (asking(200, AbortMessage), Decision::Delivered),
            (asking(422, AbortMessage), Decision::Aborted),
            (asking(503, AbortMessage), Decision::Aborted),
            (asking(410, AbortMessage), Decision::Gone),
        ] {
            for made in [1, 5, 9] {
                assert_eq!(decide(&policy, reply, made, NOW, 0.5), expected, "{reply:?}");
            }
        }
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let control = prop::option::of(prop_oneof![
            Just(ReceiverControl::Disable),
            Just(ReceiverControl::AbortMessage)
        ]);
        let asked = prop::option::of(any::<u64>().prop_map(Duration::from_secs));
        prop_oneof![
            Just(Reply::Nothing),
            (any::<u16>(), asked, control).prop_map(|(code, retry_after, control)| {
                Reply::Status { code, retry_after, control }
            }),
        ]
    }

    fn schedules() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(1_u64..=604_800, 0..=20)
    }

    proptest! {
        /// Total and bounded: whatever comes, the pause is the schedule's with at most a tenth more,
        /// or what was asked for up to a day; and after the last attempt there is no other.
        #[test]
        fn every_decision_is_in_bounds(
            reply in replies(), pauses in schedules(), made in 0_usize..=40, jitter in any::<f64>(),
            strict: bool,
        ) {
            let schedule = Schedule::new(pauses.iter().copied().map(Duration::from_secs).collect::<Vec<_>>());
            let statuses = if strict { &STRICT } else { &DESK };
            let policy = RetryPolicy { statuses, schedule };
            if let Decision::RetryAt(at) = decide(&policy, reply, made, NOW, jitter) {
                prop_assert!((1..=pauses.len()).contains(&made), "attempt {made} of {}", pauses.len());
                let base = Duration::from_secs(pauses[made - 1]);
                let pause = at.since(NOW);
                prop_assert!(pause + Duration::from_micros(1) >= base);
                let longest = base.mul_f64(1.0 + JITTER).max(LONGEST_ASKED) + Duration::from_millis(1);
                prop_assert!(pause <= longest, "{pause:?}");
            }
        }

        /// Monotone: more jitter, more asked for, or a later end never brings the next attempt
        /// forward.
        #[test]
        fn nothing_that_asks_for_patience_hastens(
            made in 1_usize..=4, jitter in 0.0_f64..1.0, more in 0.0_f64..1.0,
            asked in 0_u64..1_000_000, longer in 0_u64..1_000_000, later in 0_u64..1_000_000,
        ) {
            let policy = policy();
            let at = |asked: u64, jitter: f64, ended_at: Timestamp| {
                let retry_after = Some(Duration::from_secs(asked));
                let reply = Reply::Status { code: 503, retry_after, control: None };
                match decide(&policy, reply, made, ended_at, jitter) {
                    Decision::RetryAt(at) => at,
                    other => panic!("a retry was due, not {other:?}"),
                }
            };
            let first = at(asked, jitter, NOW);
            prop_assert!(at(asked + longer, jitter, NOW) >= first);
            prop_assert!(at(asked, (jitter + more).min(1.0), NOW) >= first);
            prop_assert!(at(asked, jitter, NOW.plus(Duration::from_secs(later))) >= first);
        }

        /// Monotone in the attempts: once they are used up they stay so.
        #[test]
        fn what_failed_stays_failed(pauses in schedules(), made in 0_usize..=25, code in 300_u16..=599) {
            let schedule = Schedule::new(pauses.into_iter().map(Duration::from_secs).collect::<Vec<_>>());
            let policy = RetryPolicy { statuses: &DESK, schedule };
            if made > 0 && decide(&policy, status(code), made, NOW, 0.3) == Decision::Failed {
                prop_assert_eq!(decide(&policy, status(code), made + 1, NOW, 0.3), Decision::Failed);
            }
        }
    }
}
