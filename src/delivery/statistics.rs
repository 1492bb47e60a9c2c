//! How an endpoint does, in figures: from counts by hour, and from a bounded stretch of its
//! history. Each question costs the same however much was delivered.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, Statement, Value};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::tally::{HOURS_KEPT, Tally, hour_of};
use crate::seam::Timestamp;
use crate::store::claims::{self, HELD, PARKED};
use crate::store::entity::endpoint;
use crate::store::{Store, StoreError};

/// How many of the newest deliveries tell how long answers take.
const SAMPLE: u64 = 300;

/// Up to where waiting deliveries of one endpoint are counted.
pub const MOST_COUNTED: i64 = 1_000;

/// Up to where waiting deliveries of all endpoints are counted.
pub const MOST_COUNTED_IN_ALL: i64 = 10_000;

/// How many endpoints a list of the operator has.
const LISTED: u64 = 20;

/// The attempts of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourView {
    /// When the hour began.
    pub began: Timestamp,
    /// How many the endpoint took.
    pub succeeded: i64,
    /// How many it did not.
    pub failed: i64,
    /// How long all of them took, in microseconds.
    pub micros: i64,
}

/// How long answers took lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTimes {
    /// How many first attempts were looked at.
    pub sample: usize,
    /// What half of them did not exceed, in microseconds.
    pub half: i64,
    /// What 95 of 100 did not exceed, in microseconds.
    pub most: i64,
}

/// How an endpoint does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsView {
    /// The hours of the last 31 days in which there was an attempt, oldest first.
    pub hours: Vec<HourView>,
    /// How long answers took lately; nothing where none came.
    pub answer_times: Option<AnswerTimes>,
    /// How many deliveries wait for an attempt in the table, up to [`MOST_COUNTED`].
    pub waiting: i64,
    /// How many are held, up to [`MOST_COUNTED`].
    pub held: i64,
}

#[derive(Debug, FromQueryResult)]
struct HourRow {
    hour: i64,
    succeeded: i64,
    failed: i64,
    micros: i64,
}

fn statement(store: &Store, sql: &str, values: Vec<Value>) -> Statement {
    Statement::from_sql_and_values(store.dialect(), sql, values)
}

async fn number(store: &Store, sql: &str, values: Vec<Value>) -> Result<i64, StoreError> {
    let row = store.reader().query_one_raw(statement(store, sql, values)).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(0))
}

/// The value that so many of 100 do not exceed (nearest rank) of values in order.
fn percentile(ordered: &[i64], of_hundred: usize) -> i64 {
    let rank = (ordered.len() * of_hundred).div_ceil(100).max(1);
    ordered.get(rank - 1).copied().unwrap_or(0)
}

impl Dispatcher {
    /// How an endpoint does. What this node counted and did not write yet is in it.
    pub async fn statistics(&self, endpoint: Uuid) -> Result<StatisticsView, StoreError> {
        let (store, now) = (&self.inner.store, self.inner.seam.clock.now());
        let from = hour_of(now) - HOURS_KEPT + 1;
        let sql = "select hour, succeeded, failed, micros from endpoint_hours \
                   where endpoint_id = $1 and hour >= $2 order by hour";
        let rows =
            HourRow::find_by_statement(statement(store, sql, vec![endpoint.into(), from.into()]))
                .all(store.reader())
                .await?;
        let mut by_hour: BTreeMap<i64, Tally> = BTreeMap::new();
        for row in rows {
            let tally = Tally { succeeded: row.succeeded, failed: row.failed, micros: row.micros };
            by_hour.entry(row.hour).or_default().add(tally);
        }
        for (hour, tally) in self.inner.tallies.of(endpoint) {
            by_hour.entry(hour).or_default().add(tally);
        }
        let hours = by_hour
            .into_iter()
            .map(|(hour, tally)| HourView {
                began: Timestamp::from_millis(hour.saturating_mul(3_600_000)),
                succeeded: tally.succeeded,
                failed: tally.failed,
                micros: tally.micros,
            })
            .collect();
        Ok(StatisticsView {
            hours,
            answer_times: answer_times(store, endpoint).await?,
            waiting: count_due(store, endpoint, i64::MIN, PARKED).await?,
            held: count_due(store, endpoint, PARKED, HELD).await?,
        })
    }
}

/// How long the newest answers took.
async fn answer_times(store: &Store, endpoint: Uuid) -> Result<Option<AnswerTimes>, StoreError> {
    // Both columns of the history's index are named, so that no planner goes another way.
    let sql = format!(
        "select w.first_micros from (select d.first_micros, d.first_status from deliveries d \
         where (d.endpoint_id, d.id) >= ($1, $2) and (d.endpoint_id, d.id) <= ($1, $3) \
         order by d.endpoint_id desc, d.id desc limit {SAMPLE}) w where w.first_status is not null"
    );
    let values = vec![endpoint.into(), Uuid::nil().into(), Uuid::max().into()];
    let rows = store.reader().query_all_raw(statement(store, &sql, values)).await?;
    let mut micros = Vec::with_capacity(rows.len());
    for row in rows {
        micros.extend(row.try_get_by_index::<Option<i64>>(0)?);
    }
    micros.sort_unstable();
    Ok((!micros.is_empty()).then(|| AnswerTimes {
        sample: micros.len(),
        half: percentile(&micros, 50),
        most: percentile(&micros, 95),
    }))
}

/// How many rows of an endpoint wait for a time in a range, up to a bound.
async fn count_due(store: &Store, endpoint: Uuid, from: i64, to: i64) -> Result<i64, StoreError> {
    let before = if to == HELD { "<=" } else { "<" };
    let sql = format!(
        "select count(*) from (select 1 from deliveries where endpoint_id = $1 \
         and due_at is not null and due_at >= $2 and due_at {before} $3 limit {MOST_COUNTED}) w"
    );
    number(store, &sql, vec![endpoint.into(), from.into(), to.into()]).await
}

/// An endpoint that the operator should look at.
#[derive(Clone, Debug)]
pub struct EndpointNote {
    /// The webhook.
    pub webhook_id: Uuid,
    /// Its org.
    pub org_id: String,
    /// The extension that owns it.
    pub extension_key: Option<String>,
    /// Its health, where that is why it is listed.
    pub health: Option<String>,
    /// Until when it is paused.
    pub paused_until: Option<Timestamp>,
    /// What was wrong last.
    pub last_error: Option<String>,
    /// The attempts of this hour and the last, where that is why it is listed.
    pub attempts: i64,
    /// How many of them failed.
    pub failed: i64,
    /// How long one of them took on the average, in microseconds.
    pub average_micros: i64,
}

/// How delivering does on the whole.
#[derive(Clone, Debug)]
pub struct OperationView {
    /// Requests under way on this node.
    pub under_way: usize,
    /// Deliveries that wait in the memory of this node.
    pub in_memory: usize,
    /// Deliveries that wait in the table, held ones too, up to [`MOST_COUNTED_IN_ALL`].
    pub in_table: i64,
    /// Webhooks and lanes with something in the table.
    pub waiting_endpoints: usize,
    /// Since when the longest due of them waits; nothing where none is due.
    pub oldest_due: Option<Timestamp>,
    /// Endpoints that are failing, gone or disabled; those since lately first.
    pub unwell: Vec<EndpointNote>,
    /// How many there are, up to [`MOST_COUNTED`].
    pub unwell_count: i64,
    /// Endpoints that are paused after failures in a row.
    pub paused: Vec<EndpointNote>,
    /// How many there are, up to [`MOST_COUNTED`].
    pub paused_count: i64,
    /// Those that take the longest to answer.
    pub slowest: Vec<EndpointNote>,
    /// Those with the most failed attempts.
    pub most_failed: Vec<EndpointNote>,
}

#[derive(Debug, FromQueryResult)]
struct StateRow {
    endpoint_id: Uuid,
    health: String,
    breaker_until: Option<i64>,
    last_error: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct BusyRow {
    endpoint_id: Uuid,
    succeeded: i64,
    failed: i64,
    micros: i64,
}

impl Dispatcher {
    /// How delivering does on the whole: queues, and the endpoints to look at.
    pub async fn operation(&self) -> Result<OperationView, StoreError> {
        let (store, now) = (&self.inner.store, self.inner.seam.clock.now());
        let (under_way, in_memory) = self.load();
        let sql = format!(
            "select count(*) from (select 1 from deliveries where due_at is not null \
             limit {MOST_COUNTED_IN_ALL}) w"
        );
        let in_table = number(store, &sql, Vec::new()).await?;
        let waiting = claims::waiting_endpoints(store).await?;
        let oldest = waiting.iter().map(|one| one.due_at).filter(|due| *due <= now.micros()).min();
        // Lanes of callbacks have states too, and are no webhooks: they are left out before anything
        // is counted or cut off.
        let states = |what: &str, condition: &str, rest: &str| {
            format!(
                "select {what} from endpoint_states s join endpoints e on e.id = s.endpoint_id \
                 where {condition} and e.lane = 'webhook' \
                 and exists (select 1 from webhooks w where w.id = e.id) {rest}"
            )
        };
        let listed = |condition: &str| {
            let columns = "s.endpoint_id, s.health, s.breaker_until, s.last_error";
            let rest = format!("order by s.health_since desc, s.endpoint_id limit {LISTED}");
            states(columns, condition, &rest)
        };
        let counted = |condition: &str| {
            let some = states("1", condition, &format!("limit {MOST_COUNTED}"));
            format!("select count(*) from ({some}) w")
        };
        let is_unwell = "s.health <> 'ok'";
        let is_paused = "s.breaker_until is not null and s.breaker_until > $1";
        let at = || vec![Value::from(now.micros())];
        let unwell = state_rows(store, &listed(is_unwell), Vec::new()).await?;
        let unwell_count = number(store, &counted(is_unwell), Vec::new()).await?;
        let paused = state_rows(store, &listed(is_paused), at()).await?;
        let paused_count = number(store, &counted(is_paused), at()).await?;
        // Of this hour and the last, so that the sum is over few rows however many are kept.
        let busy = |order: &str| {
            format!(
                "select endpoint_id, cast(sum(succeeded) as bigint) as succeeded, \
                 cast(sum(failed) as bigint) as failed, cast(sum(micros) as bigint) as micros \
                 from endpoint_hours h where hour >= $1 \
                 and exists (select 1 from webhooks w where w.id = h.endpoint_id) \
                 group by endpoint_id {order} limit {LISTED}"
            )
        };
        let from = vec![Value::from(hour_of(now) - 1)];
        let slowest = busy_rows(
            store,
            &busy(
                "having sum(succeeded) + sum(failed) > 0 \
                 order by sum(micros) / (sum(succeeded) + sum(failed)) desc, endpoint_id",
            ),
            from.clone(),
        )
        .await?;
        let most_failed = busy_rows(
            store,
            &busy("having sum(failed) > 0 order by sum(failed) desc, endpoint_id"),
            from,
        )
        .await?;
        Ok(OperationView {
            under_way,
            in_memory,
            in_table,
            waiting_endpoints: waiting.len(),
            oldest_due: oldest.map(Timestamp::from_micros),
            unwell,
            unwell_count,
            paused,
            paused_count,
            slowest,
            most_failed,
        })
    }
}

async fn state_rows(
    store: &Store,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<EndpointNote>, StoreError> {
    let rows =
        StateRow::find_by_statement(statement(store, sql, values)).all(store.reader()).await?;
    let ids = rows.iter().map(|row| row.endpoint_id).collect();
    let owners = owners(store, ids).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let owner = owners.get(&row.endpoint_id)?;
            Some(EndpointNote {
                health: Some(row.health),
                paused_until: row.breaker_until.map(Timestamp::from_micros),
                last_error: row.last_error,
                ..EndpointNote::of(owner)
            })
        })
        .collect())
}

async fn busy_rows(
    store: &Store,
    sql: &str,
    values: Vec<Value>,
) -> Result<Vec<EndpointNote>, StoreError> {
    let rows =
        BusyRow::find_by_statement(statement(store, sql, values)).all(store.reader()).await?;
    let owners = owners(store, rows.iter().map(|row| row.endpoint_id).collect()).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let attempts = row.succeeded.saturating_add(row.failed);
            Some(EndpointNote {
                attempts,
                failed: row.failed,
                average_micros: row.micros / attempts.max(1),
                ..EndpointNote::of(owners.get(&row.endpoint_id)?)
            })
        })
        .collect())
}

impl EndpointNote {
    fn of(owner: &endpoint::Model) -> Self {
        Self {
            webhook_id: owner.id,
            org_id: owner.org_id.clone(),
            extension_key: owner.extension_key.clone(),
            health: None,
            paused_until: None,
            last_error: None,
            attempts: 0,
            failed: 0,
            average_micros: 0,
        }
    }
}

/// Whose endpoints these are; lanes of callbacks are nobody's webhooks.
async fn owners(
    store: &Store,
    ids: Vec<Uuid>,
) -> Result<std::collections::HashMap<Uuid, endpoint::Model>, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter};
    if ids.is_empty() {
        return Ok(std::collections::HashMap::new());
    }
    let rows = endpoint::Entity::find()
        .filter(endpoint::Column::Id.is_in(ids))
        .filter(endpoint::Column::Lane.eq("webhook"))
        .all(store.reader())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 95)), (50, 95));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 95)), (7, 7));
        assert_eq!((percentile(&[1, 9], 50), percentile(&[1, 9], 95)), (1, 9));
        assert_eq!(percentile(&[], 95), 0);
    }
}
