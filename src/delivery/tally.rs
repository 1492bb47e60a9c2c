//! How many attempts each endpoint had in an hour: counted in memory, added to the table for all
//! endpoints at once, so that a delivery costs no write for it.
//!
//! A node that dies loses what it counted in the last seconds. That is what the charts are of;
//! nothing decides by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement, Value};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use crate::seam::Timestamp;
use crate::store::{Store, StoreError};

/// How often what was counted is written.
const FLUSH: Duration = Duration::from_secs(10);

/// How many rows one statement writes or removes.
const CHUNK: usize = 500;

/// For how many hours counts are kept: 30 days, and the day that has begun.
pub(super) const HOURS_KEPT: i64 = 31 * 24;

/// The hour of a moment, since the epoch.
pub(super) fn hour_of(moment: Timestamp) -> i64 {
    moment.seconds().div_euclid(3_600)
}

/// What was counted of an endpoint in an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    /// How long all of them took.
    pub(super) micros: i64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.succeeded = self.succeeded.saturating_add(other.succeeded);
        self.failed = self.failed.saturating_add(other.failed);
        self.micros = self.micros.saturating_add(other.micros);
    }
}

/// A row that is to be written: an endpoint's hour.
type Counted = ((Uuid, i64), Tally);

/// What was counted since it was last written.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_hour: Mutex<HashMap<(Uuid, i64), Tally>>,
}

impl Tallies {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Uuid, i64), Tally>> {
        self.by_hour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt.
    pub(super) fn count(&self, endpoint: Uuid, at: Timestamp, is_success: bool, micros: i64) {
        let tally =
            Tally { succeeded: i64::from(is_success), failed: i64::from(!is_success), micros };
        self.lock().entry((endpoint, hour_of(at))).or_default().add(tally);
    }

    /// What is counted of an endpoint and not written yet, by hour.
    pub(super) fn of(&self, endpoint: Uuid) -> Vec<(i64, Tally)> {
        let tallies = self.lock();
        let own = tallies.iter().filter(|((id, _), _)| *id == endpoint);
        own.map(|((_, hour), tally)| (*hour, *tally)).collect()
    }

    fn take_all(&self) -> Vec<Counted> {
        // In one order on every node, so that two that write at once do not hold each other.
        let mut all: Vec<Counted> = std::mem::take(&mut *self.lock()).into_iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// Puts back what could not be written.
    fn give_back(&self, former: Vec<Counted>) {
        let mut tallies = self.lock();
        for (key, tally) in former {
            tallies.entry(key).or_default().add(tally);
        }
    }
}

/// Writes counts, and removes old ones, until the dispatcher stops.
pub(super) async fn run(dispatcher: Dispatcher) {
    let inner = Arc::clone(&dispatcher.inner);
    let mut pruned = 0;
    loop {
        let stopping = tokio::select! {
            () = inner.stop.cancelled() => true,
            () = inner.seam.clock.sleep(FLUSH) => false,
        };
        if let Err(error) = flush(&dispatcher).await {
            tracing::warn!(%error, "cannot keep how many attempts there were; tried again");
        }
        if stopping {
            return;
        }
        let hour = hour_of(inner.seam.clock.now());
        if hour != pruned {
            match prune(&inner.store, inner.seam.clock.now()).await {
                Ok(()) => pruned = hour,
                Err(error) => tracing::warn!(%error, "old counts of attempts cannot be removed"),
            }
        }
    }
}

async fn flush(dispatcher: &Dispatcher) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let mut left = inner.tallies.take_all();
    while !left.is_empty() {
        let later = left.split_off(left.len().min(CHUNK));
        if let Err(error) = write(&inner.store, &left, inner.seam.clock.now()).await {
            left.extend(later);
            inner.tallies.give_back(left);
            return Err(error);
        }
        left = later;
    }
    Ok(())
}

async fn write(store: &Store, counted: &[Counted], now: Timestamp) -> Result<(), StoreError> {
    const COLUMNS: usize = 5;
    let mut rows = Vec::with_capacity(counted.len());
    let mut values: Vec<Value> = Vec::with_capacity(counted.len() * COLUMNS);
    for (index, ((endpoint, hour), tally)) in counted.iter().enumerate() {
        let first = index * COLUMNS + 1;
        let places: Vec<String> =
            (first..first + COLUMNS).map(|place| format!("${place}")).collect();
        rows.push(format!("({})", places.join(", ")));
        values.extend([
            (*endpoint).into(),
            (*hour).into(),
            tally.succeeded.into(),
            tally.failed.into(),
            tally.micros.into(),
        ]);
    }
    let sql = format!(
        "insert into endpoint_hours (endpoint_id, hour, succeeded, failed, micros) values {} \
         on conflict (endpoint_id, hour) do update set \
         succeeded = endpoint_hours.succeeded + excluded.succeeded, \
         failed = endpoint_hours.failed + excluded.failed, \
         micros = endpoint_hours.micros + excluded.micros",
        rows.join(", ")
    );
    let work = store.begin().await?;
    work.connection()
        .execute_raw(Statement::from_sql_and_values(store.dialect(), sql, values))
        .await?;
    let _settled = work.commit(now).await?;
    Ok(())
}

async fn prune(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let sql = format!(
        "delete from endpoint_hours where (endpoint_id, hour) in (select endpoint_id, hour \
         from endpoint_hours where hour < $1 order by hour limit {CHUNK})"
    );
    loop {
        let work = store.begin().await?;
        let cut: Value = (hour_of(now) - HOURS_KEPT).into();
        let done = work
            .connection()
            .execute_raw(Statement::from_sql_and_values(store.dialect(), &sql, [cut]))
            .await?;
        let _settled = work.commit(now).await?;
        if done.rows_affected() < CHUNK as u64 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[test]
    fn attempts_are_counted_by_hour_and_what_was_not_written_is_kept() {
        let tallies = Tallies::default();
        let hour = |number: i64| Timestamp::from_millis(number * 3_600_000 + 1);
        tallies.count(A, hour(5), true, 10);
        tallies.count(A, hour(5), false, 20);
        tallies.count(A, hour(6), true, 1);
        tallies.count(B, hour(5), true, 7);
        let former = tallies.take_all();
        assert_eq!(former.len(), 3);
        assert_eq!(former[0], ((A, 5), Tally { succeeded: 1, failed: 1, micros: 30 }));
        assert!(tallies.of(A).is_empty());
        tallies.count(A, hour(5), true, 5);
        tallies.give_back(former);
        let mut own = tallies.of(A);
        own.sort_unstable_by_key(|(hour, _)| *hour);
        assert_eq!(own[0], (5, Tally { succeeded: 2, failed: 1, micros: 35 }));
        assert_eq!(own[1], (6, Tally { succeeded: 1, failed: 0, micros: 1 }));
    }

    #[test]
    fn an_hour_begins_at_its_first_microsecond_before_the_epoch_too() {
        assert_eq!(hour_of(Timestamp::from_millis(3_599_999)), 0);
        assert_eq!(hour_of(Timestamp::from_millis(3_600_000)), 1);
        assert_eq!(hour_of(Timestamp::from_millis(-1)), -1);
    }
}
