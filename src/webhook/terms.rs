//! The terms of delivery of a webhook: what it wishes, within what the operator allows.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::dialect::Dialect;
use crate::manifest::DeliveryWishes;

/// What holds for a webhook that wishes nothing, and how far wishes go.
#[derive(Clone, Debug)]
pub struct DeliveryBounds {
    pauses: Arc<[Duration]>,
    deadline: Duration,
    concurrency: usize,
    most_attempts: usize,
    pause: RangeInclusive<Duration>,
    longest_deadline: Duration,
    most_concurrency: usize,
}

/// The terms on which a webhook is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryTerms {
    /// The pauses before the second, third … attempt.
    pub pauses: Arc<[Duration]>,
    /// The time of one attempt, from name resolution to the last byte.
    pub deadline: Duration,
    /// The most requests under way at a time, on this node.
    pub concurrency: usize,
    /// The most deliveries that begin in a minute, on all nodes together.
    pub rate_per_minute: Option<u32>,
    /// The org whose own webhooks have that rate together; nothing where it is the webhook's alone.
    pub shared_by: Option<Arc<str>>,
    /// Which wishes were brought to a bound, by their names.
    pub clamped: Vec<&'static str>,
}

impl DeliveryTerms {
    /// Whether the lane of the webhook differs from that of the others.
    pub fn is_lane_its_own(&self, usual_concurrency: usize) -> bool {
        self.rate_per_minute.is_some() || self.concurrency != usual_concurrency
    }
}

impl DeliveryBounds {
    /// The operator's.
    pub fn of(settings: &config::Delivery) -> Self {
        let overrides = &settings.overrides;
        Self {
            pauses: settings.schedule.as_slice().into(),
            deadline: settings.deadline,
            concurrency: settings.concurrency_per_webhook,
            most_attempts: overrides.attempts,
            pause: overrides.shortest_pause..=overrides.longest_pause,
            longest_deadline: overrides.deadline,
            most_concurrency: overrides.concurrency,
        }
    }

    /// The terms of an org's own webhook: those of the system that its dialect speaks for, else the
    /// operator's. The rate of the org's plan is one for all of them together.
    pub fn own_terms(
        &self,
        dialect: Dialect,
        org_id: &Arc<str>,
        rate_per_minute: Option<u32>,
    ) -> DeliveryTerms {
        DeliveryTerms {
            pauses: dialect.default_pauses().map_or_else(|| Arc::clone(&self.pauses), Arc::from),
            deadline: dialect.deadline().unwrap_or(self.deadline),
            concurrency: self.concurrency,
            rate_per_minute: rate_per_minute.map(|rate| rate.max(1)),
            shared_by: rate_per_minute.map(|_| Arc::clone(org_id)),
            clamped: Vec::new(),
        }
    }

    /// The terms of a webhook with these wishes. What the operator set for everybody is always
    /// within bounds.
    pub fn terms(&self, package: Option<&DeliveryWishes>) -> DeliveryTerms {
        let mut clamped = Vec::new();
        let package = package.cloned().unwrap_or_default();
        let pauses = match package.schedule {
            None => Arc::clone(&self.pauses),
            Some(wished) => {
                let (shortest, longest) = (*self.pause.start(), *self.pause.end());
                let pauses: Arc<[Duration]> = wished
                    .iter()
                    .take(self.most_attempts.saturating_sub(1))
                    .map(|seconds| {
                        Duration::from_secs(u64::from(*seconds)).max(shortest).min(longest)
                    })
                    .collect();
                let as_wished = wished.len() == pauses.len()
                    && wished
                        .iter()
                        .zip(pauses.iter())
                        .all(|(wished, pause)| Duration::from_secs(u64::from(*wished)) == *pause);
                if !as_wished {
                    clamped.push("schedule");
                }
                pauses
            }
        };
        let deadline = match package.deadline_seconds {
            None => self.deadline,
            Some(seconds) => {
                let wished = Duration::from_secs(u64::from(seconds.max(1)));
                let deadline = wished.min(self.longest_deadline.max(self.deadline));
                if deadline != wished {
                    clamped.push("deadlineSeconds");
                }
                deadline
            }
        };
        let concurrency = match package.concurrency {
            None => self.concurrency,
            Some(wished) => {
                let wished = usize::try_from(wished.max(1)).unwrap_or(usize::MAX);
                let concurrency = wished.min(self.most_concurrency.max(self.concurrency));
                if concurrency != wished {
                    clamped.push("concurrency");
                }
                concurrency
            }
        };
        let rate_per_minute = package.rate_per_minute.map(|rate| rate.max(1));
        DeliveryTerms { pauses, deadline, concurrency, rate_per_minute, shared_by: None, clamped }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds() -> DeliveryBounds {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        DeliveryBounds {
            pauses: [minutes(1), minutes(5)].into(),
            deadline: Duration::from_secs(10),
            concurrency: 32,
            most_attempts: 4,
            pause: Duration::from_secs(5)..=minutes(60),
            longest_deadline: Duration::from_secs(30),
            most_concurrency: 128,
        }
    }

    #[test]
    fn without_wishes_the_operators_word_holds() {
        let terms = bounds().terms(None);
        assert_eq!(terms.pauses.len(), 2);
        assert_eq!((terms.deadline.as_secs(), terms.concurrency), (10, 32));
        assert!(terms.clamped.is_empty() && !terms.is_lane_its_own(32));
        assert_eq!(bounds().terms(Some(&DeliveryWishes::default())), terms);
    }

    #[test]
    fn wishes_within_bounds_are_granted_and_others_brought_to_the_bound() {
        let granted = bounds().terms(Some(&DeliveryWishes {
            schedule: Some(vec![5, 3_600, 60]),
            deadline_seconds: Some(30),
            concurrency: Some(1),
            rate_per_minute: Some(6),
        }));
        assert_eq!(
            granted.pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(),
            [5, 3_600, 60]
        );
        assert_eq!((granted.deadline.as_secs(), granted.concurrency), (30, 1));
        assert!(granted.clamped.is_empty() && granted.is_lane_its_own(32));

        let clamped = bounds().terms(Some(&DeliveryWishes {
            schedule: Some(vec![1, 7_200, 60, 60, 60]),
            deadline_seconds: Some(60),
            concurrency: Some(1_024),
            rate_per_minute: Some(0),
        }));
        assert_eq!(
            clamped.pauses.iter().map(Duration::as_secs).collect::<Vec<_>>(),
            [5, 3_600, 60]
        );
        assert_eq!((clamped.deadline.as_secs(), clamped.concurrency), (30, 128));
        assert_eq!(clamped.rate_per_minute, Some(1));
        assert_eq!(clamped.clamped, ["schedule", "deadlineSeconds", "concurrency"]);
    }

    proptest! {
        #[test]
        fn terms_never_leave_the_bounds(
            schedule in prop::option::of(prop::collection::vec(any::<u32>(), 0..30)),
            deadline_seconds: Option<u32>, concurrency: Option<u32>, rate_per_minute: Option<u32>,
        ) {
            let bounds = bounds();
            let wishes = DeliveryWishes { schedule, deadline_seconds, concurrency, rate_per_minute };
            let terms = bounds.terms(Some(&wishes));
            prop_assert!(terms.pauses.len() < bounds.most_attempts);
            prop_assert!(terms.pauses.iter().all(|pause| bounds.pause.contains(pause)));
            prop_assert!(terms.deadline >= Duration::from_secs(1) && terms.deadline <= bounds.longest_deadline);
            prop_assert!((1..=bounds.most_concurrency).contains(&terms.concurrency));
            prop_assert!(terms.rate_per_minute.is_none_or(|rate| rate >= 1));
        }
    }
}
