//! The group commit on PostgreSQL: one autocommitted statement a group.
//!
//! Two connections take turns. While one waits for the disk the other writes, but only where as much
//! waits by then as is under way: a second group that began earlier would make both of them smaller,
//! and each group costs a round trip and an `fsync`.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::statements::{Events, Parts};
use super::{
    AttemptResult, Command, Group, HandOver, NewEvent, RETRY_PAUSE, Settlement, Written,
    due_micros, finish,
};
use crate::seam::Clock;
use crate::store::error::{StoreError, is_passing};
use crate::store::nodes::Epoch;
use crate::telemetry::METRICS;
use crate::telemetry::beat::Beat;

/// The plans of the statements are settled by the session: planned on an empty table they would
/// keep a sequential scan for ever, at twice the database's time.
const SESSION: &str = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; \
                       set enable_hashjoin = off; set enable_mergejoin = off";

/// Results of attempts from the second on: the attempt is always kept, the state changes only
/// where the claim still holds.
const LATER: &str = "
with r as (
    select * from unnest($1::uuid[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[],
        $6::integer[], $7::bigint[], $8::text[], $9::text[])
        as r(id, before, state, due_at, at, status, micros, error, detail)
), a as (
    insert into attempts (delivery_id, number, at, status, micros, error, detail)
    select id, before + 1, at, status, micros, error, detail from r
    on conflict do nothing
)
update deliveries d set state = r.state, due_at = r.due_at, claim = null, replay = 0,
    ordered = case when r.state in (0, 1) then d.ordered end, attempts = r.before + 1
from r where d.id = r.id and d.claim = $10 and d.attempts = r.before";

const SETTLE: &str = "
update deliveries d set state = r.state, due_at = r.due_at, claim = null,
    ordered = case when r.state in (0, 1) then d.ordered end
from unnest($1::uuid[], $2::smallint[], $3::bigint[]) as r(id, state, due_at)
where d.id = r.id and d.claim = $4";

/// First attempts whose row another holds by now: kept beside it.
const FENCED: &str = "
insert into attempts (delivery_id, number, at, status, micros, error, detail)
select r.id, 1, r.at, r.status, r.micros, r.error, r.detail
from unnest($1::uuid[], $2::bigint[], $3::integer[], $4::bigint[], $5::text[], $6::text[])
    as r(id, at, status, micros, error, detail)
join deliveries d on d.id = r.id
where d.first_at is distinct from r.at
on conflict do nothing";

/// How long one group may take to be written before its connection is given up.
const WRITE_LIMIT: std::time::Duration = std::time::Duration::from_secs(15);

/// Owns the connection, and opens it anew where it broke.
#[derive(Debug)]
pub(super) struct Writer {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    epoch: Epoch,
}

impl Writer {
    pub(super) fn new(options: PgConnectOptions, epoch: Epoch) -> Self {
        let options = options.statement_cache_capacity(32).disable_statement_logging();
        Self { options, connection: None, epoch }
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.connection.is_none() {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            connection.execute(SESSION).await?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Writes a group. Returns what became of each event, in order.
    async fn write(&mut self, group: &Group) -> Result<Vec<Written>, sqlx::Error> {
        let events: Vec<&NewEvent> = group.events().collect();
        let (first, later): (Vec<_>, Vec<_>) =
            group.results.iter().partition(|result| result.attempts_before == 0);
        let epoch = self.epoch.number();
        let connection = self.connection().await?;
        let (outcome, updated) =
            if super::variants::are_there(&events) || super::marks::are_there(&events) {
                let mut transaction = connection.begin().await?;
                let outcome = write_events(&mut transaction, &events, &first, epoch).await?;
                super::variants::write(&mut transaction, &events, &outcome.0).await?;
                super::marks::write(&mut transaction, &events, &outcome.0).await?;
                transaction.commit().await?;
                outcome
            } else {
                write_events(connection, &events, &first, epoch).await?
            };
        if updated != first.len() as u64 {
            keep_fenced(connection, &first).await?;
        }
        if !later.is_empty() {
            write_later(connection, &later, epoch).await?;
        }
        if !group.settlements.is_empty() {
            write_settlements(connection, &group.settlements, epoch).await?;
        }
        Ok(outcome)
    }
}

/// Takes all that waits, writes it, answers, until it is told to end.
pub(super) async fn run(
    writers: [Writer; 2],
    mut received: mpsc::Receiver<Command>,
    clock: Clock,
    hand_over: HandOver,
    beat: Beat,
) {
    let mut idle = Vec::from(writers);
    let mut under_way = FuturesUnordered::new();
    let mut weight_under_way = 0;
    let mut group = Group::default();
    let mut is_ending = false;
    loop {
        let is_due = !group.is_empty()
            && (under_way.is_empty() || group.is_full() || group.weight() >= weight_under_way);
        if is_due && let Some(writer) = idle.pop() {
            let mut next = std::mem::take(&mut group);
            next.sort();
            weight_under_way += next.weight();
            beat.beat();
            under_way.push(commit(writer, next, &clock, &hand_over));
        } else if is_ending && group.is_empty() && under_way.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            Some((writer, weight)) = under_way.next() => {
                weight_under_way -= weight;
                idle.push(writer);
                if under_way.is_empty() {
                    beat.rest();
                } else {
                    beat.beat();
                }
            }
            command = received.recv(), if !is_ending && !group.is_full() => {
                let Some(command) = command else {
                    is_ending = true;
                    continue;
                };
                group.push(command);
                while !group.is_full() && !group.is_last {
                    match received.try_recv() {
                        Ok(command) => group.push(command),
                        Err(_) => break,
                    }
                }
                is_ending = group.is_last;
            }
            else => {}
        }
    }
}

/// Writes a group, again and again while the database cannot be reached. A group with data that
/// the database refuses is split, so that only the request to blame fails. Gives the writer back,
/// with the weight of the group.
async fn commit(
    mut writer: Writer,
    group: Group,
    clock: &Clock,
    hand_over: &HandOver,
) -> (Writer, usize) {
    let (weight, began) = (group.weight(), clock.instant());
    let mut groups = vec![group];
    while let Some(group) = groups.pop() {
        // A connection that was dropped without a word would hold everybody up for the time-out of
        // TCP. What was written unseen is found to be there.
        let written = tokio::select! {
            written = writer.write(&group) => written,
            () = clock.sleep(WRITE_LIMIT) => Err(sqlx::Error::PoolTimedOut),
        };
        match written {
            Ok(written) => finish(group, written, hand_over),
            Err(error) if is_passing(&error) => {
                tracing::warn!(error = %error, "the database cannot be written; trying again");
                METRICS.commit_retries.add(1);
                writer.connection = None;
                groups.push(group);
                clock.sleep(RETRY_PAUSE).await;
            }
            Err(error) => super::split(group, StoreError::from(error), &mut groups),
        }
    }
    super::note_commit(weight, began.elapsed());
    (writer, weight)
}

/// Writes events with their deliveries, and results of first attempts. Returns what became of each
/// event, and how many results were written.
async fn write_events(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    first: &[&AttemptResult],
    epoch: i64,
) -> Result<(Vec<Written>, u64), sqlx::Error> {
    if events.iter().any(|event| event.event_key.is_some()) {
        return write_keyed(connection, events, first, epoch).await;
    }
    if events.is_empty() && first.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let updated = write_plain(connection, events, first, epoch).await?;
    Ok((vec![Written::New; events.len()], updated))
}

/// Writes events without keys of their callers, and results of first attempts. Returns how many
/// results were written.
async fn write_plain(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    first: &[&AttemptResult],
    epoch: i64,
) -> Result<u64, sqlx::Error> {
    let parts = parts(events, first, false);
    let query = bind(sqlx::query(parts.statement()).bind(epoch), parts, events, first, epoch);
    let done = query.execute(connection).await?;
    // Without results the rows affected are deliveries that were inserted.
    Ok(if parts.results { done.rows_affected() } else { 0 })
}

type PgQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// What there is to write.
fn parts(events: &[&NewEvent], first: &[&AttemptResult], keyed: bool) -> Parts {
    let mut deliveries = events.iter().flat_map(|event| &event.deliveries);
    Parts {
        events: match (events.is_empty(), keyed) {
            (true, _) => Events::None,
            (false, false) => Events::Plain,
            (false, true) => Events::Keyed,
        },
        ordered: deliveries.any(|delivery| delivery.placement.is_ordered()),
        results: !first.is_empty(),
    }
}

/// Binds what comes behind the epoch, in the order of [`Parts::statement`].
fn bind<'q>(
    query: PgQuery<'q>,
    parts: Parts,
    events: &[&'q NewEvent],
    first: &[&'q AttemptResult],
    epoch: i64,
) -> PgQuery<'q> {
    let mut query = query;
    if parts.events != Events::None {
        query = bind_events(query, events);
        if parts.events == Events::Keyed {
            let counts = events
                .iter()
                .map(|event| i32::try_from(event.deliveries.len()).unwrap_or(i32::MAX));
            query = query.bind(counts.collect::<Vec<_>>());
        }
        if parts.ordered {
            let (endpoints, counts) = numbers(events);
            query = query.bind(endpoints).bind(counts);
        }
        query = bind_deliveries(query, events, epoch);
        if parts.ordered {
            let deliveries = events.iter().flat_map(|event| &event.deliveries);
            query = query
                .bind(deliveries.map(|d| d.placement.ordered()).collect::<Vec<_>>())
                .bind(behind(events));
        }
    }
    if parts.results { bind_results(query, first) } else { query }
}

/// Binds the results of first attempts, a column each.
fn bind_results<'q>(query: PgQuery<'q>, first: &[&'q AttemptResult]) -> PgQuery<'q> {
    query
        .bind(first.iter().map(|r| r.delivery_id).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.state.number()).collect::<Vec<_>>())
        .bind(first.iter().map(|r| due_micros(r.state, r.due_at)).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.at.micros()).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.status.map(i32::from)).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.micros).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.error).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.detail.as_deref()).collect::<Vec<_>>())
}

/// Binds the events, a column each.
fn bind_events<'q>(query: PgQuery<'q>, events: &[&'q NewEvent]) -> PgQuery<'q> {
    query
        .bind(events.iter().map(|e| e.id).collect::<Vec<_>>())
        .bind(events.iter().map(|e| &*e.org_id).collect::<Vec<&str>>())
        .bind(events.iter().map(|e| &*e.event_type).collect::<Vec<&str>>())
        .bind(events.iter().map(|e| e.department_id.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|e| e.event_time).collect::<Vec<_>>())
        .bind(events.iter().map(|e| i16::from(e.automation)).collect::<Vec<_>>())
        .bind(events.iter().map(|e| e.source_id.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|e| e.actor.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|e| e.event_key.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|e| e.accepted_at.micros()).collect::<Vec<_>>())
        .bind(events.iter().map(|e| &*e.payload).collect::<Vec<&[u8]>>())
        .bind(events.iter().map(|e| e.previous.as_deref()).collect::<Vec<Option<&[u8]>>>())
}

/// Binds the deliveries of events, a column each.
fn bind_deliveries<'q>(query: PgQuery<'q>, events: &[&'q NewEvent], epoch: i64) -> PgQuery<'q> {
    let epoch = crate::store::nodes::Epoch(epoch);
    let deliveries =
        || events.iter().flat_map(|event| event.deliveries.iter().map(move |row| (*event, row)));
    query
        .bind(deliveries().map(|(_, d)| d.id).collect::<Vec<_>>())
        .bind(deliveries().map(|(e, _)| e.id).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.endpoint_id).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.generation).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.placement.state().number()).collect::<Vec<_>>())
        .bind(deliveries().map(|(e, d)| d.placement.due_at(e.accepted_at)).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.placement.claim(epoch)).collect::<Vec<_>>())
        .bind(deliveries().map(|(e, _)| e.accepted_at.micros()).collect::<Vec<_>>())
}

/// For each delivery how many of its ordered endpoint come behind it in the group.
fn behind(events: &[&NewEvent]) -> Vec<i64> {
    let mut seen: HashMap<Uuid, i64> = HashMap::new();
    let mut behind: Vec<i64> = events
        .iter()
        .rev()
        .flat_map(|event| event.deliveries.iter().rev())
        .map(|delivery| {
            if !delivery.placement.is_ordered() {
                return 0;
            }
            let count = seen.entry(delivery.endpoint_id).or_insert(0);
            *count += 1;
            *count - 1
        })
        .collect();
    behind.reverse();
    behind
}

/// How many numbers each ordered endpoint needs.
fn numbers(events: &[&NewEvent]) -> (Vec<Uuid>, Vec<i64>) {
    let mut counts: HashMap<Uuid, i64> = HashMap::new();
    let ordered = events.iter().flat_map(|event| &event.deliveries);
    for delivery in ordered.filter(|delivery| delivery.placement.is_ordered()) {
        *counts.entry(delivery.endpoint_id).or_insert(0) += 1;
    }
    counts.into_iter().unzip()
}

async fn write_keyed(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    first: &[&AttemptResult],
    epoch: i64,
) -> Result<(Vec<Written>, u64), sqlx::Error> {
    let parts = parts(events, first, true);
    let query = bind(sqlx::query(parts.statement()).bind(epoch), parts, events, first, epoch);
    let rows = query.fetch_all(&mut *connection).await?;
    let mut inserted = HashSet::with_capacity(events.len());
    let mut updated = 0;
    for row in rows {
        if row.try_get(1)? {
            inserted.insert(row.try_get::<Uuid, _>(0)?);
        } else {
            updated += 1;
        }
    }
    if inserted.len() == events.len() {
        return Ok((vec![Written::New; events.len()], updated));
    }
    // Somebody else's key was there first, or our own from a try whose answer was lost.
    let lost: Vec<&&NewEvent> =
        events.iter().filter(|event| !inserted.contains(&event.id)).collect();
    let rows = sqlx::query(
        "select k.org_id, k.event_key, k.event_id, k.deliveries from event_keys k
         join unnest($1::text[], $2::text[]) as w(org_id, event_key)
           on k.org_id = w.org_id and k.event_key = w.event_key",
    )
    .bind(lost.iter().map(|event| &*event.org_id).collect::<Vec<&str>>())
    .bind(lost.iter().map(|event| event.event_key.as_deref()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut winners: HashMap<(String, String), (Uuid, i32)> = HashMap::with_capacity(rows.len());
    for row in rows {
        winners.insert((row.try_get(0)?, row.try_get(1)?), (row.try_get(2)?, row.try_get(3)?));
    }
    let outcome = events
        .iter()
        .map(|event| {
            let key = event.event_key.as_ref().filter(|_| !inserted.contains(&event.id));
            let winner = key.and_then(|key| winners.get(&(event.org_id.to_string(), key.clone())));
            match winner {
                Some(&(event_id, deliveries)) if event_id != event.id => {
                    Written::Duplicate { event_id, deliveries }
                }
                _ => Written::New,
            }
        })
        .collect();
    Ok((outcome, updated))
}

async fn write_later(
    connection: &mut PgConnection,
    later: &[&AttemptResult],
    epoch: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(LATER)
        .bind(later.iter().map(|r| r.delivery_id).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.attempts_before).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.state.number()).collect::<Vec<_>>())
        .bind(later.iter().map(|r| due_micros(r.state, r.due_at)).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.at.micros()).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.status.map(i32::from)).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.micros).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.error).collect::<Vec<_>>())
        .bind(later.iter().map(|r| r.detail.as_deref()).collect::<Vec<_>>())
        .bind(epoch)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_settlements(
    connection: &mut PgConnection,
    settlements: &[Settlement],
    epoch: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(SETTLE)
        .bind(settlements.iter().map(|s| s.delivery_id).collect::<Vec<_>>())
        .bind(settlements.iter().map(|s| s.state.number()).collect::<Vec<_>>())
        .bind(settlements.iter().map(|s| due_micros(s.state, s.due_at)).collect::<Vec<_>>())
        .bind(epoch)
        .execute(connection)
        .await?;
    Ok(())
}

async fn keep_fenced(
    connection: &mut PgConnection,
    first: &[&AttemptResult],
) -> Result<(), sqlx::Error> {
    sqlx::query(FENCED)
        .bind(first.iter().map(|r| r.delivery_id).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.at.micros()).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.status.map(i32::from)).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.micros).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.error).collect::<Vec<_>>())
        .bind(first.iter().map(|r| r.detail.as_deref()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
