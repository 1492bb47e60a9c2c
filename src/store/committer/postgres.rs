//! The group commit on PostgreSQL: one connection, one autocommitted statement a group.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    AttemptResult, Command, Group, HandOver, NewEvent, RETRY_PAUSE, Settlement, Written,
    due_micros, finish,
};
use crate::seam::Clock;
use crate::store::error::{StoreError, is_passing};
use crate::store::nodes::Epoch;

/// The plans of the statements are settled by the session: planned on an empty table they would
/// keep a sequential scan for ever, at twice the database's time.
const SESSION: &str = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; \
                       set enable_hashjoin = off; set enable_mergejoin = off";

/// Events without keys of their callers, their deliveries, and results of first attempts.
///
/// Numbers of ordered endpoints: the row of each is locked until the commit, so that they become
/// visible in their order; a delivery knows how many of its endpoint come behind it in the group.
///
/// A node that was taken for dead while it waited hands nothing over in memory any more: `alive`
/// is nothing then, and its rows wait in the table. The lock keeps whoever takes over waiting for
/// this statement, and so from missing its rows.
const PLAIN: &str = "
with alive as materialized (
    select 1 from nodes where epoch = $31 for share
), e as (
    insert into events (id, org_id, event_type, department_id, event_time, origin, source_id,
                        actor, event_key, accepted_at, payload, previous)
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[],
        $6::smallint[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bytea[], $12::bytea[])
    on conflict (id) do nothing
), s as (
    insert into endpoint_sequences (endpoint_id, last)
    select u.id, u.count from unnest($32::uuid[], $33::bigint[]) as u(id, count)
    order by u.id
    on conflict (endpoint_id) do update set last = endpoint_sequences.last + excluded.last
    returning endpoint_id, last
), d as (
    insert into deliveries (id, event_id, endpoint_id, generation, state, due_at, claim, ordered,
                            created_at, sequence)
    select u.id, u.event_id, u.endpoint_id, u.generation, u.state,
        case when exists (select 1 from alive) then u.due_at else coalesce(u.due_at, u.created_at) end,
        case when exists (select 1 from alive) then u.claim end, u.ordered, u.created_at,
        case when u.ordered is null then 0
            else (select s.last from s where s.endpoint_id = u.endpoint_id) - u.behind end
    from unnest($13::uuid[], $14::uuid[], $15::uuid[], $16::integer[], $17::smallint[],
        $18::bigint[], $19::bigint[], $20::smallint[], $21::bigint[], $22::bigint[])
        as u(id, event_id, endpoint_id, generation, state, due_at, claim, ordered, created_at, behind)
    on conflict (id) do nothing
)
update deliveries d set state = r.state, due_at = r.due_at, claim = null,
    ordered = case when r.state in (0, 1) then d.ordered end, attempts = 1,
    first_at = r.at, first_status = r.status, first_micros = r.micros, first_error = r.error,
    first_detail = r.detail
from unnest($23::uuid[], $24::smallint[], $25::bigint[], $26::bigint[], $27::integer[],
    $28::bigint[], $29::text[], $30::text[]) as r(id, state, due_at, at, status, micros, error, detail)
where d.id = r.id and d.claim = $31 and d.attempts = 0";

/// The same where callers gave ids to their events: the first one wins. Returns the events that are
/// new (`true`) and the deliveries whose result was written.
const KEYED: &str = "
with alive as materialized (
    select 1 from nodes where epoch = $24 for share
), input as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[],
        $6::smallint[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bytea[],
        $12::bytea[], $23::integer[])
    as i(id, org_id, event_type, department_id, event_time, origin, source_id, actor, event_key,
         accepted_at, payload, previous, deliveries)
), k as (
    insert into event_keys (org_id, event_key, event_id, deliveries, accepted_at)
    select org_id, event_key, id, deliveries, accepted_at from input where event_key is not null
    order by org_id, event_key, id
    on conflict do nothing
    returning event_id
), e as (
    insert into events (id, org_id, event_type, department_id, event_time, origin, source_id,
                        actor, event_key, accepted_at, payload, previous)
    select id, org_id, event_type, department_id, event_time, origin, source_id, actor, event_key,
           accepted_at, payload, previous
    from input where event_key is null or id in (select event_id from k)
    on conflict (id) do nothing
    returning id
), s as (
    insert into endpoint_sequences (endpoint_id, last)
    select u.id, u.count from unnest($25::uuid[], $26::bigint[]) as u(id, count)
    order by u.id
    on conflict (endpoint_id) do update set last = endpoint_sequences.last + excluded.last
    returning endpoint_id, last
), d as (
    insert into deliveries (id, event_id, endpoint_id, generation, state, due_at, claim, ordered,
                            created_at, sequence)
    select u.id, u.event_id, u.endpoint_id, u.generation, u.state,
        case when exists (select 1 from alive) then u.due_at else coalesce(u.due_at, u.created_at) end,
        case when exists (select 1 from alive) then u.claim end, u.ordered, u.created_at,
        case when u.ordered is null then 0
            else (select s.last from s where s.endpoint_id = u.endpoint_id) - u.behind end
    from unnest($13::uuid[], $14::uuid[], $15::uuid[], $16::integer[], $17::smallint[],
        $18::bigint[], $19::bigint[], $20::smallint[], $21::bigint[], $22::bigint[])
        as u(id, event_id, endpoint_id, generation, state, due_at, claim, ordered, created_at, behind)
    where u.event_id in (select id from e)
    on conflict (id) do nothing
), r as (
    update deliveries d set state = r.state, due_at = r.due_at, claim = null,
        ordered = case when r.state in (0, 1) then d.ordered end, attempts = 1,
        first_at = r.at, first_status = r.status, first_micros = r.micros, first_error = r.error,
        first_detail = r.detail
    from unnest($27::uuid[], $28::smallint[], $29::bigint[], $30::bigint[], $31::integer[],
        $32::bigint[], $33::text[], $34::text[]) as r(id, state, due_at, at, status, micros, error, detail)
    where d.id = r.id and d.claim = $24 and d.attempts = 0
    returning d.id
)
select id, true from e union all select id, false from r";

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
    mut writer: Writer,
    mut received: mpsc::Receiver<Command>,
    clock: Clock,
    hand_over: HandOver,
) {
    let mut waiting = Vec::new();
    let mut left_over: Option<Command> = None;
    loop {
        let mut group = Group::default();
        if let Some(command) = left_over.take() {
            group.push(command);
        } else if received.recv_many(&mut waiting, 1).await == 0 {
            return;
        }
        loop {
            for command in waiting.drain(..) {
                group.push(command);
            }
            if group.is_full() || group.is_last {
                break;
            }
            match received.try_recv() {
                Ok(command) => waiting.push(command),
                Err(_) => break,
            }
        }
        left_over = waiting.pop();
        group.sort();
        let is_last = group.is_last;
        commit(&mut writer, group, &clock, &hand_over).await;
        if is_last {
            return;
        }
    }
}

/// Writes a group, again and again while the database cannot be reached. A group with data that
/// the database refuses is split, so that only the request to blame fails.
async fn commit(writer: &mut Writer, group: Group, clock: &Clock, hand_over: &HandOver) {
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
                writer.connection = None;
                groups.push(group);
                clock.sleep(RETRY_PAUSE).await;
            }
            Err(error) => super::split(group, StoreError::from(error), &mut groups),
        }
    }
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

async fn write_plain(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    first: &[&AttemptResult],
    epoch: i64,
) -> Result<u64, sqlx::Error> {
    let (endpoints, counts) = numbers(events);
    let query = bind_events(sqlx::query(PLAIN), events, epoch);
    let done = bind_results(query, first)
        .bind(epoch)
        .bind(endpoints)
        .bind(counts)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

type PgQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

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

/// Binds $1 to $22: the events and their deliveries, a column each.
fn bind_events<'q>(query: PgQuery<'q>, events: &[&'q NewEvent], epoch: i64) -> PgQuery<'q> {
    let deliveries =
        || events.iter().flat_map(|event| event.deliveries.iter().map(move |row| (*event, row)));
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
        .bind(deliveries().map(|(_, d)| d.id).collect::<Vec<_>>())
        .bind(deliveries().map(|(e, _)| e.id).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.endpoint_id).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.generation).collect::<Vec<_>>())
        .bind(deliveries().map(|(_, d)| d.placement.state().number()).collect::<Vec<_>>())
        .bind(deliveries().map(|(e, d)| d.placement.due_at(e.accepted_at)).collect::<Vec<_>>())
        .bind(
            deliveries()
                .map(|(_, d)| d.placement.claim(crate::store::nodes::Epoch(epoch)))
                .collect::<Vec<_>>(),
        )
        .bind(deliveries().map(|(_, d)| d.placement.ordered()).collect::<Vec<_>>())
        .bind(deliveries().map(|(e, _)| e.accepted_at.micros()).collect::<Vec<_>>())
        .bind(behind(events))
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
    let counts: Vec<i32> = events
        .iter()
        .map(|event| i32::try_from(event.deliveries.len()).unwrap_or(i32::MAX))
        .collect();
    let (endpoints, needed) = numbers(events);
    let query = bind_events(sqlx::query(KEYED), events, epoch)
        .bind(counts)
        .bind(epoch)
        .bind(endpoints)
        .bind(needed);
    let rows = bind_results(query, first).fetch_all(&mut *connection).await?;
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
