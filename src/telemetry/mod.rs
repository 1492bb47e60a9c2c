//! What this process counts and measures: atomics that are written on the way and read by a scrape.
//!
//! One set for the process, so that nothing has to be handed through: noting something is a few
//! relaxed additions, without a lock and without an allocation. What happens seldom, such as
//! transitions, is counted by label behind a lock. [`families`] has every family with its labels;
//! the answer of `/metrics`, the documentation, the dashboard and the alerts are held to it by tests.

pub mod beat;
pub mod exposition;
pub mod families;
mod instruments;
pub mod otlp;
pub mod traces;

pub use instruments::{Counter, Gauge, Histogram, Labelled};

use std::sync::LazyLock;

/// How an attempt ended for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It was taken.
    Delivered,
    /// It is tried again.
    Retry,
    /// It was the last one, or the receiver wants no other.
    Failed,
    /// The endpoint is gone, or wants nothing any more.
    Stopped,
    /// We broke it off ourselves.
    Interrupted,
}

impl AttemptOutcome {
    /// All of them, in the order of [`Metrics::attempts`].
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Retry, Self::Failed, Self::Stopped, Self::Interrupted];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The labels of what came back of an attempt: classes of statuses, then kinds of failures.
pub const ANSWERS: [&str; 15] = [
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "addressRefused",
    "nameResolution",
    "connect",
    "tls",
    "timeout",
    "connectionClosed",
    "protocol",
    "invalidRequest",
    "withdrawn",
    "interrupted",
];

/// The place of a status among [`ANSWERS`].
pub const fn answer_of_status(status: u16) -> usize {
    match status / 100 {
        1 => 0,
        2 => 1,
        3 => 2,
        4 => 3,
        _ => 4,
    }
}

/// The place of a kind of failure among [`ANSWERS`]; unknown kinds count as broken off.
pub fn answer_of_failure(name: &str) -> usize {
    ANSWERS.iter().position(|known| *known == name).unwrap_or(ANSWERS.len() - 1)
}

/// The phases of an attempt.
pub const PHASES: [&str; 4] = ["dns", "connect", "first_byte", "body"];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// Events that were accepted.
    pub events_accepted: Counter,
    /// Events whose id was there before.
    pub events_duplicate: Counter,
    /// Deliveries that accepted events fanned out to.
    pub deliveries_made: Counter,
    /// Attempts by what they came to.
    pub attempts: [Counter; AttemptOutcome::ALL.len()],
    /// Attempts by what came back.
    pub answers: [Counter; ANSWERS.len()],
    /// How long attempts took, in microseconds.
    pub attempt_micros: Histogram,
    /// How long their phases took, in microseconds.
    pub phase_micros: [Histogram; PHASES.len()],
    /// From acceptance to the first attempt, in microseconds.
    pub lag_micros: Histogram,
    /// Rows of a group commit.
    pub commit_rows: Histogram,
    /// How long group commits took, in microseconds.
    pub commit_micros: Histogram,
    /// Group commits that had to be tried again.
    pub commit_retries: Counter,
    /// Answers of the API by class.
    pub http_answers: [Counter; 5],
    /// How long the API took, in microseconds.
    pub http_micros: Histogram,
    /// Refusals of the API by code.
    pub problems: Labelled<1>,
    /// Transitions of installations by command and the state that they led to.
    pub transitions: Labelled<2>,
    /// What the reconciler found, by kind.
    pub reconciler_findings: Labelled<1>,
    /// What it repaired.
    pub reconciler_repaired: Counter,
    /// Its passes.
    pub reconciler_passes: Counter,
    /// Webhooks that have something due, and for how long the oldest of it, in microseconds; of the
    /// last look.
    pub due_endpoints: Gauge,
    /// See [`Metrics::due_endpoints`].
    pub oldest_due_micros: Gauge,
    /// Notices that were sent, and tries that failed.
    pub notices_sent: Counter,
    /// See [`Metrics::notices_sent`].
    pub notices_failed: Counter,
    /// Copies of requests for listeners.
    pub tapped: Counter,
    /// Requests that came to inspectors.
    pub inspected: Counter,
}

/// Bounds of spans in microseconds: 1 ms to 30 s.
const SPANS: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Bounds of the lag, which may be hours: 1 ms to a day.
const LAGS: &[u64] = &[
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
    86_400_000_000,
];

/// Bounds of spans within this server and its database: 100 µs to 10 s.
const SHORT_SPANS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 10_000_000,
];

/// Bounds of rows in a group.
const ROWS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];

impl Metrics {
    fn new() -> Self {
        Self {
            events_accepted: Counter::default(),
            events_duplicate: Counter::default(),
            deliveries_made: Counter::default(),
            attempts: std::array::from_fn(|_| Counter::default()),
            answers: std::array::from_fn(|_| Counter::default()),
            attempt_micros: Histogram::new(SPANS),
            phase_micros: std::array::from_fn(|_| Histogram::new(SPANS)),
            lag_micros: Histogram::new(LAGS),
            commit_rows: Histogram::new(ROWS),
            commit_micros: Histogram::new(SHORT_SPANS),
            commit_retries: Counter::default(),
            http_answers: std::array::from_fn(|_| Counter::default()),
            http_micros: Histogram::new(SHORT_SPANS),
            problems: Labelled::default(),
            transitions: Labelled::default(),
            reconciler_findings: Labelled::default(),
            reconciler_repaired: Counter::default(),
            reconciler_passes: Counter::default(),
            due_endpoints: Gauge::default(),
            oldest_due_micros: Gauge::default(),
            notices_sent: Counter::default(),
            notices_failed: Counter::default(),
            tapped: Counter::default(),
            inspected: Counter::default(),
        }
    }

    /// Notes an attempt: what it came to, what came back (its place among [`ANSWERS`]), how long it
    /// took and its phases, in microseconds.
    pub fn attempted(
        &self,
        outcome: AttemptOutcome,
        answer: usize,
        micros: u64,
        phases: [Option<u32>; PHASES.len()],
    ) {
        self.attempts[outcome as usize].add(1);
        if let Some(counter) = self.answers.get(answer) {
            counter.add(1);
        }
        self.attempt_micros.note(micros);
        for (histogram, span) in self.phase_micros.iter().zip(phases) {
            if let Some(span) = span {
                histogram.note(u64::from(span));
            }
        }
    }
}

/// What this process counts.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_noted_once_everywhere() {
        let metrics = Metrics::new();
        let (timeout, taken) = (answer_of_failure("timeout"), answer_of_status(204));
        metrics.attempted(
            AttemptOutcome::Delivered,
            taken,
            1_500,
            [None, Some(900), Some(1_400), None],
        );
        metrics.attempted(AttemptOutcome::Retry, timeout, 10_000_000, [None; 4]);
        let attempts: Vec<u64> = metrics.attempts.iter().map(Counter::get).collect();
        assert_eq!(attempts, [1, 1, 0, 0, 0]);
        assert_eq!((metrics.answers[1].get(), metrics.answers[timeout].get()), (1, 1));
        assert_eq!(metrics.attempt_micros.count(), 2);
        let phases: Vec<u64> = metrics.phase_micros.iter().map(Histogram::count).collect();
        assert_eq!(phases, [0, 1, 1, 0]);
    }

    #[test]
    fn every_kind_of_failure_has_its_label() {
        use crate::egress::ErrorClass;
        for class in [
            ErrorClass::AddressRefused,
            ErrorClass::NameResolution,
            ErrorClass::Connect,
            ErrorClass::Tls,
            ErrorClass::Timeout,
            ErrorClass::ConnectionClosed,
            ErrorClass::Protocol,
            ErrorClass::InvalidRequest,
            ErrorClass::Withdrawn,
        ] {
            assert_eq!(ANSWERS[answer_of_failure(class.as_str())], class.as_str());
        }
        assert_eq!(ANSWERS[answer_of_status(599)], "5xx");
        let outcomes: Vec<usize> =
            AttemptOutcome::ALL.iter().map(|outcome| *outcome as usize).collect();
        assert_eq!(outcomes, [0, 1, 2, 3, 4], "each has its own place");
    }
}
