//! The one clock of the program.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

/// A moment in microseconds since 1970-01-01T00:00:00Z, as both databases keep it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A moment from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A moment from milliseconds since the epoch; saturates at the ends of the range.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment and a span later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment and a span earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The span from `earlier` to this moment; nothing where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 with milliseconds, in UTC.
    pub fn rfc3339(self) -> String {
        let millis = i128::from(self.millis()) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(millis)
            .ok()
            .and_then(|moment| {
                let format = time::macros::format_description!(
                    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
                );
                moment.format(&format).ok()
            })
            .unwrap_or_else(|| "out of range".to_owned())
    }

    /// Reads RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.rfc3339())
    }
}

/// Tells the time and waits. Cloning shares the clock.
///
/// A test moves it with [`Clock::advance`]; whoever waits on it then wakes as if the time had
/// passed. With [`Clock::set_back`] and [`Clock::set_forward`] it sets the time of day alone, as an
/// administrator does: spans are measured as before.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What passed for everybody.
    passed_micros: Arc<AtomicI64>,
    /// How far the time of day was set besides.
    set_micros: Arc<AtomicI64>,
    moved: Arc<watch::Sender<u64>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            passed_micros: Arc::new(AtomicI64::new(0)),
            set_micros: Arc::new(AtomicI64::new(0)),
            moved: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Clock {
    /// The present moment.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let offset = self.passed().saturating_add(self.set_micros.load(Ordering::Relaxed));
        Timestamp(micros.saturating_add(offset))
    }

    /// A reading of the monotonic clock, for measuring spans. Jumps of the time of day do not
    /// show in it; [`Clock::advance`] does not either.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn instant(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    /// Waits for a span. By the monotonic clock: were it by the time of day, one that is set back
    /// by an hour would make every loop of the program wait for an hour.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits")]
    pub async fn sleep(&self, span: Duration) {
        let mut moved = self.moved.subscribe();
        let (began, before) = (self.instant(), self.passed());
        loop {
            let passed = u64::try_from(self.passed().saturating_sub(before)).unwrap_or(0);
            let elapsed = began.elapsed().saturating_add(Duration::from_micros(passed));
            let remaining = span.saturating_sub(elapsed);
            if remaining.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(remaining) => {}
                changed = moved.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Blocks the thread for a span: for threads that are not tasks.
    pub fn pause_thread(&self, span: Duration) {
        std::thread::sleep(span);
    }

    /// Moves the clock: for tests, which then need not wait for a schedule of hours.
    pub fn advance(&self, span: Duration) {
        self.passed_micros.fetch_add(micros_of(span), Ordering::Relaxed);
        self.moved.send_modify(|count| *count += 1);
    }

    /// Sets the time of day back: for tests of what an administrator does.
    pub fn set_back(&self, span: Duration) {
        self.set_micros.fetch_sub(micros_of(span), Ordering::Relaxed);
    }

    /// Sets the time of day forward, without time passing: for tests of what an administrator does.
    pub fn set_forward(&self, span: Duration) {
        self.set_micros.fetch_add(micros_of(span), Ordering::Relaxed);
    }

    fn passed(&self) -> i64 {
        self.passed_micros.load(Ordering::Relaxed)
    }
}

fn micros_of(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn setting_the_time_of_day_moves_no_sleeper() {
        let clock = Clock::default();
        let began = clock.instant();
        let short = Duration::from_millis(100);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(short).await }
        });
        tokio::task::yield_now().await;
        clock.set_back(Duration::from_hours(1));
        sleeper.await.expect("it ends");
        let took = began.elapsed();
        assert!(took >= short && took < Duration::from_mins(1), "{took:?}");
        let before = clock.now();
        clock.set_forward(Duration::from_hours(2));
        assert!(clock.now().since(before) >= Duration::from_hours(2));
        let began = clock.instant();
        clock.sleep(short).await;
        assert!(began.elapsed() >= short);
    }

    #[test]
    fn rfc3339_keeps_milliseconds() {
        let moment = Timestamp::from_millis(1_618_493_667_780);
        assert_eq!(moment.rfc3339(), "2021-04-15T13:34:27.780Z");
        assert_eq!(Timestamp::parse_rfc3339(&moment.rfc3339()), Some(moment));
    }

    #[tokio::test]
    async fn advancing_wakes_a_sleeper() {
        let clock = Clock::default();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_hours(1)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(3_601));
        sleeper.await.expect("the sleeper ends");
    }
}
