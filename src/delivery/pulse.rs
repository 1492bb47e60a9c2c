//! What endpoints answered lately, kept in memory and written for many at once: the table learns
//! of successes and failures without a write for each delivery.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QuerySelect, Statement,
    Value,
};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::outcome::{Health, LIVES};
use crate::seam::Timestamp;
use crate::store::entity::endpoint_state;
use crate::store::{RoutingChange, StoreError};

/// How often what was noted is written.
const FLUSH: Duration = Duration::from_secs(10);

/// How many endpoints one statement writes.
const CHUNK: usize = 500;

/// How long the last error may be, in characters.
const LONGEST_ERROR: usize = 300;

/// What was seen of an endpoint since it was last written.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse {
    last_success: Option<Timestamp>,
    last_failure: Option<Timestamp>,
    /// Since the last success; since the last writing, where there was none.
    failures: i32,
    last_error: Option<String>,
}

/// The pulses of all endpoints that were called.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    by_endpoint: Mutex<HashMap<Uuid, Pulse>>,
}

impl Pulses {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Pulse>> {
        self.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint took a delivery.
    pub(super) fn succeeded(&self, endpoint: Uuid, at: Timestamp) {
        let mut pulses = self.lock();
        let pulse = pulses.entry(endpoint).or_default();
        pulse.last_success = Some(at);
        pulse.failures = 0;
    }

    /// An endpoint did not take a delivery; `error` says why in words, without a secret.
    pub(super) fn failed(&self, endpoint: Uuid, at: Timestamp, error: &str) {
        let mut pulses = self.lock();
        let pulse = pulses.entry(endpoint).or_default();
        pulse.last_failure = Some(at);
        pulse.failures = pulse.failures.saturating_add(1);
        pulse.last_error = Some(error.chars().take(LONGEST_ERROR).collect());
    }

    /// Takes what was noted of an endpoint, for whoever writes its row anyway.
    pub(super) fn take(&self, endpoint: Uuid) -> Option<Pulse> {
        self.lock().remove(&endpoint)
    }

    /// Whether the last that was noted of an endpoint is a success.
    pub(super) fn took_the_last(&self, endpoint: Uuid) -> bool {
        self.lock()
            .get(&endpoint)
            .is_some_and(|pulse| pulse.failures == 0 && pulse.last_success.is_some())
    }

    fn take_all(&self) -> Vec<(Uuid, Pulse)> {
        // In one order on every node, so that two that write at once do not hold each other.
        let mut all: Vec<_> = std::mem::take(&mut *self.lock()).into_iter().collect();
        all.sort_unstable_by_key(|(endpoint, _)| *endpoint);
        all
    }

    /// Puts back what could not be written.
    fn give_back(&self, former: Vec<(Uuid, Pulse)>) {
        let mut pulses = self.lock();
        for (endpoint, old) in former {
            let new = pulses.entry(endpoint).or_default();
            if new.last_success.is_none() {
                new.last_success = old.last_success;
                new.failures = new.failures.saturating_add(old.failures);
            }
            new.last_failure = new.last_failure.or(old.last_failure);
            new.last_error = new.last_error.take().or(old.last_error);
        }
    }
}

/// Writes pulses, and has policy look at those that fail, until the dispatcher stops.
pub(super) async fn run(dispatcher: Dispatcher) {
    let inner = Arc::clone(&dispatcher.inner);
    loop {
        let stopping = tokio::select! {
            () = inner.stop.cancelled() => true,
            () = inner.seam.clock.sleep(FLUSH) => false,
        };
        if let Err(error) = flush(&dispatcher).await {
            tracing::warn!(%error, "cannot keep when endpoints answered last; tried again");
        }
        if stopping {
            return;
        }
        if let Err(error) = recover(&dispatcher).await {
            tracing::warn!(%error, "cannot look for webhooks that recovered; tried again");
        }
        if let Err(error) = super::disabling::sweep(&dispatcher).await {
            tracing::warn!(%error, "cannot look for webhooks that fail for too long");
        }
    }
}

/// Writes that webhooks recovered that took their last delivery, but are still said to be failing:
/// their success ended on a node whose index did not know of the failing yet.
async fn recover(dispatcher: &Dispatcher) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    if !inner.lease.may_deliver() {
        return Ok(());
    }
    let last_failure = Expr::col(endpoint_state::Column::LastFailureAt);
    let rows = endpoint_state::Entity::find()
        .filter(endpoint_state::Column::Health.eq("failing"))
        .filter(endpoint_state::Column::ConsecutiveFailures.eq(0))
        .filter(Expr::col(endpoint_state::Column::LastSuccessAt).gt(last_failure))
        .limit(CHUNK as u64)
        .all(inner.store.reader())
        .await?;
    for row in rows {
        let Some(endpoint) = inner.routing.endpoint(row.endpoint_id) else { continue };
        let org = RoutingChange::Org(endpoint.org_id.to_string());
        dispatcher.store_health(endpoint.id, Health::Ok, Some(org)).await?;
    }
    Ok(())
}

async fn flush(dispatcher: &Dispatcher) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    // Of a webhook that was removed nothing is written.
    let mut left: Vec<_> = inner
        .pulses
        .take_all()
        .into_iter()
        .filter(|(endpoint, _)| inner.routing.endpoint(*endpoint).is_some())
        .collect();
    while !left.is_empty() {
        let later = left.split_off(left.len().min(CHUNK));
        if let Err(error) = write(dispatcher, &left).await {
            left.extend(later);
            inner.pulses.give_back(left);
            return Err(error);
        }
        left = later;
    }
    Ok(())
}

async fn write(dispatcher: &Dispatcher, pulses: &[(Uuid, Pulse)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 6;
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    // What ended while its pulse waited gets no row any more.
    let lives = |(endpoint, _): &&(Uuid, Pulse)| inner.routing.endpoint(*endpoint).is_some();
    let pulses: Vec<&(Uuid, Pulse)> = pulses.iter().filter(lives).collect();
    if pulses.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(pulses.len());
    let mut values: Vec<Value> = Vec::with_capacity(pulses.len() * COLUMNS);
    for (index, (endpoint, pulse)) in pulses.iter().enumerate() {
        let first = index * COLUMNS + 1;
        let places: Vec<String> =
            (first..first + COLUMNS).map(|place| format!("${place}")).collect();
        rows.push(format!("({})", places.join(", ")));
        values.extend([
            (*endpoint).into(),
            pulse.failures.into(),
            pulse.last_success.map(Timestamp::micros).into(),
            pulse.last_failure.map(Timestamp::micros).into(),
            pulse.last_error.clone().into(),
            now.micros().into(),
        ]);
    }
    let sql = format!(
        "insert into endpoint_states (health, endpoint_id, consecutive_failures, last_success_at, \
         last_failure_at, last_error, updated_at) \
         select 'ok', seen.column1, seen.column2, seen.column3, seen.column4, seen.column5, \
         seen.column6 from (values {}) as seen \
         where exists (select 1 from endpoints where endpoints.id = seen.column1 and {LIVES}) \
         on conflict (endpoint_id) do update set {MERGE}",
        rows.join(", ")
    );
    let work = inner.store.begin().await?;
    work.connection()
        .execute_raw(Statement::from_sql_and_values(inner.store.dialect(), sql, values))
        .await?;
    let _settled = work.commit(now).await?;
    Ok(())
}

/// How a pulse joins the row: nothing that was known is lost by what was not seen.
pub(super) const MERGE: &str = "consecutive_failures = case when excluded.last_success_at is null \
     then endpoint_states.consecutive_failures + excluded.consecutive_failures \
     else excluded.consecutive_failures end, \
     last_success_at = coalesce(excluded.last_success_at, endpoint_states.last_success_at), \
     last_failure_at = coalesce(excluded.last_failure_at, endpoint_states.last_failure_at), \
     last_error = coalesce(excluded.last_error, endpoint_states.last_error), \
     updated_at = excluded.updated_at";

impl Pulse {
    /// One success.
    pub(super) fn of_success(at: Timestamp) -> Self {
        Self { last_success: Some(at), ..Self::default() }
    }

    /// One failure.
    pub(super) fn of_failure(at: Timestamp, error: &str) -> Self {
        let last_error = Some(error.to_owned());
        Self { last_failure: Some(at), failures: 1, last_error, last_success: None }
    }

    /// Failures in a row, last success, last failure and last error, as the row keeps them.
    pub(super) fn values(self) -> [Value; 4] {
        [
            self.failures.into(),
            self.last_success.map(Timestamp::micros).into(),
            self.last_failure.map(Timestamp::micros).into(),
            self.last_error.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_success_ends_a_row_of_failures_and_the_last_error_stays_known() {
        let pulses = Pulses::default();
        pulses.failed(A, Timestamp::from_millis(1), "answered 500");
        pulses.failed(A, Timestamp::from_millis(2), "answered 503");
        pulses.succeeded(A, Timestamp::from_millis(3));
        pulses.failed(A, Timestamp::from_millis(4), "timeout");
        let pulse = pulses.take(A).expect("it was called");
        assert_eq!(pulse.failures, 1);
        assert_eq!(pulse.last_success, Some(Timestamp::from_millis(3)));
        assert_eq!(pulse.last_error.as_deref(), Some("timeout"));
        assert!(pulses.take(A).is_none());
    }

    #[test]
    fn what_could_not_be_written_joins_what_came_meanwhile() {
        let pulses = Pulses::default();
        pulses.failed(A, Timestamp::from_millis(1), "answered 500");
        let former = pulses.take_all();
        pulses.failed(A, Timestamp::from_millis(2), "timeout");
        pulses.give_back(former);
        let pulse = pulses.take(A).expect("it was called");
        assert_eq!((pulse.failures, pulse.last_error.as_deref()), (2, Some("timeout")));
        assert_eq!(pulse.last_failure, Some(Timestamp::from_millis(2)));

        pulses.failed(A, Timestamp::from_millis(1), "answered 500");
        let former = pulses.take_all();
        pulses.succeeded(A, Timestamp::from_millis(2));
        pulses.give_back(former);
        let pulse = pulses.take(A).expect("it was called");
        assert_eq!((pulse.failures, pulse.last_success), (0, Some(Timestamp::from_millis(2))));
    }
}
