//! Taking deliveries from the table: what fell due, what a dead node left, and what is held.
//!
//! A claimed row that came from the table stays due at the end of its lease, so that it frees
//! itself where nobody finds its node dead. A row that was handed over in memory at its insert has no
//! due time. Both are found by a dead node's epoch (`recover`).

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult, Statement, Value};
use uuid::Uuid;

use super::database::{Store, UnitOfWork};
use super::error::StoreError;
use super::nodes::Epoch;
use crate::seam::Timestamp;

/// The due time of a row that is held: it stays in the index of what waits, and is never due.
pub(crate) const HELD: i64 = i64::MAX;

/// The due time of a row that stays held although its webhook is live again: until somebody asks.
pub(crate) const PARKED: i64 = i64::MAX - 1;

/// The state of a delivery, as the table keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// On its way: waits for its first attempt or for a retry.
    Pending,
    /// Kept back: its webhook is disabled, gone or suspended.
    Held,
    /// The endpoint took it.
    Delivered,
    /// All attempts are used up; kept for replay.
    Failed,
    /// Its webhook is no more.
    Cancelled,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Held, Self::Delivered, Self::Failed, Self::Cancelled];

    /// The number in the table.
    pub const fn number(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Held => 1,
            Self::Delivered => 2,
            Self::Failed => 3,
            Self::Cancelled => 4,
        }
    }

    /// Reads the number.
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A delivery that this node may now try.
#[derive(Clone, Debug, FromQueryResult)]
pub(crate) struct ClaimedDelivery {
    pub(crate) id: Uuid,
    pub(crate) event_id: Uuid,
    pub(crate) endpoint_id: Uuid,
    pub(crate) generation: i32,
    pub(crate) attempts: i32,
    pub(crate) replay: i16,
    /// The size of its event's documents; nothing where the event is not kept any more.
    pub(crate) bytes: Option<i64>,
}

/// What a claim tells of a row.
const CLAIMED: &str = "id, event_id, endpoint_id, generation, attempts, replay, cast((
    select octet_length(e.payload) + coalesce(octet_length(e.previous), 0) from events e
    where e.id = deliveries.event_id) as bigint) as bytes";

/// An endpoint with deliveries that wait in the table.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub(crate) struct WaitingEndpoint {
    pub(crate) endpoint_id: Uuid,
    /// The earliest.
    pub(crate) due_at: i64,
    /// The latest: [`HELD`] where some are held.
    pub(crate) last_due_at: i64,
}

/// The next endpoints behind `after` that have rows waiting, in the order of their ids.
pub(crate) async fn waiting_endpoint_ids(
    store: &Store,
    after: Uuid,
    limit: u64,
) -> Result<Vec<Uuid>, StoreError> {
    const SQL: &str = "
        with recursive lane(endpoint_id, number) as (
            select (select endpoint_id from deliveries
                    where due_at is not null and endpoint_id > $1
                    order by endpoint_id limit 1), cast(1 as bigint)
            union all
            select (select d.endpoint_id from deliveries d
                    where d.due_at is not null and d.endpoint_id > lane.endpoint_id
                    order by d.endpoint_id limit 1), lane.number + 1
            from lane where lane.endpoint_id is not null and lane.number < $2
        )
        select lane.endpoint_id from lane where lane.endpoint_id is not null order by 1";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values: [sea_orm::Value; 2] = [after.into(), limit.into()];
    let statement = Statement::from_sql_and_values(store.dialect(), SQL, values);
    let rows = store.reader().query_all_raw(statement).await?;
    Ok(rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?)
}

/// The endpoints that have rows waiting, each with its earliest due time.
///
/// A loose scan over the index of what is due: its cost grows with the number of such endpoints,
/// not with the rows that wait.
pub(crate) async fn waiting_endpoints(store: &Store) -> Result<Vec<WaitingEndpoint>, StoreError> {
    const SQL: &str = "
        with recursive lane(endpoint_id) as (
            select (select endpoint_id from deliveries where due_at is not null
                    order by endpoint_id limit 1)
            union all
            select (select d.endpoint_id from deliveries d
                    where d.due_at is not null and d.endpoint_id > lane.endpoint_id
                    order by d.endpoint_id limit 1)
            from lane where lane.endpoint_id is not null
        )
        select lane.endpoint_id as endpoint_id,
               (select min(d.due_at) from deliveries d
                where d.endpoint_id = lane.endpoint_id and d.due_at is not null) as due_at,
               (select max(d.due_at) from deliveries d
                where d.endpoint_id = lane.endpoint_id and d.due_at is not null) as last_due_at
        from lane where lane.endpoint_id is not null";
    Ok(WaitingEndpoint::find_by_statement(Statement::from_string(store.dialect(), SQL))
        .all(store.reader())
        .await?)
}

/// Claims rows that are due, the longest due first, up to so many of each endpoint. They free
/// themselves at `lease_until`.
///
/// One statement on PostgreSQL, one transaction on SQLite. The array keeps the planner from
/// guessing: it reads the rows by their key however many it thinks there are.
pub(crate) async fn claim_due(
    store: &Store,
    rooms: &[(Uuid, u32)],
    epoch: Epoch,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Vec<ClaimedDelivery>, StoreError> {
    let until: Value = lease_until.micros().into();
    if store.dialect() == DatabaseBackend::Postgres {
        let sql = format!(
            "update deliveries set claim = $1, due_at = $2 where id = any(array(
                select due.id from unnest($3::uuid[], $4::integer[]) as lane(endpoint_id, room)
                cross join lateral (
                    select d.id from deliveries d
                    where d.endpoint_id = lane.endpoint_id and d.due_at <= $5
                    order by d.due_at limit lane.room for update skip locked) due))
             returning {CLAIMED}"
        );
        let endpoints: Vec<Uuid> = rooms.iter().map(|(endpoint, _)| *endpoint).collect();
        let limits: Vec<i32> =
            rooms.iter().map(|(_, room)| i32::try_from(*room).unwrap_or(i32::MAX)).collect();
        let values =
            [epoch.number().into(), until, endpoints.into(), limits.into(), now.micros().into()];
        return claim(
            store,
            vec![Statement::from_sql_and_values(store.dialect(), sql, values)],
            now,
        )
        .await;
    }
    let statements = rooms.iter().map(|(endpoint, room)| {
        let sql = format!(
            "update deliveries set claim = $1, due_at = $2 where id in (
                select id from deliveries where endpoint_id = $3 and due_at <= $4
                order by due_at limit {room})
             returning {CLAIMED}"
        );
        let values =
            [epoch.number().into(), until.clone(), (*endpoint).into(), now.micros().into()];
        Statement::from_sql_and_values(store.dialect(), sql, values)
    });
    claim(store, statements.collect(), now).await
}

/// The first unresolved row of an ordered endpoint: the next to be sent, whenever that may be.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub(crate) struct OrderedHead {
    pub(crate) state: i16,
    pub(crate) due_at: Option<i64>,
}

/// Reads the first unresolved row of an ordered endpoint.
pub(crate) async fn ordered_head(
    store: &Store,
    endpoint: Uuid,
) -> Result<Option<OrderedHead>, StoreError> {
    let statement = Statement::from_sql_and_values(
        store.dialect(),
        "select state, due_at from deliveries where endpoint_id = $1 and ordered is not null
         order by sequence, id limit 1",
        [endpoint.into()],
    );
    Ok(OrderedHead::find_by_statement(statement).one(store.reader()).await?)
}

/// How many rows that are due one look for rows out of order reads.
const ADOPTED_AT_ONCE: u32 = 256;

/// Takes rows that are due into the order of an endpoint that was not ordered when they were
/// accepted: else nobody would send them. They have no number, so they come before all that has
/// one, as they were accepted before. Returns how many there were.
pub(crate) async fn adopt_into_order(
    store: &Store,
    endpoint: Uuid,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let found = format!(
        "select id from (select id, ordered from deliveries
             where endpoint_id = $1 and due_at <= $2 order by due_at limit {ADOPTED_AT_ONCE}) due
         where ordered is null"
    );
    let values: [Value; 2] = [endpoint.into(), now.micros().into()];
    let dialect = store.dialect();
    let first = format!("{found} limit 1");
    let statement = Statement::from_sql_and_values(dialect, first, values.clone());
    if store.reader().query_one_raw(statement).await?.is_none() {
        return Ok(0);
    }
    let sql = format!(
        "update deliveries set ordered = 1
         where id in ({found}) and ordered is null and due_at <= $2"
    );
    let work = store.begin().await?;
    let statement = Statement::from_sql_and_values(dialect, sql, values);
    let done = work.connection().execute_raw(statement).await?;
    let _settled = work.commit(now).await?;
    Ok(done.rows_affected())
}

/// Claims the first unresolved row of an ordered endpoint, where it is due and nobody has it.
pub(crate) async fn claim_ordered(
    store: &Store,
    endpoint: Uuid,
    epoch: Epoch,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Option<ClaimedDelivery>, StoreError> {
    let lock = match store.dialect() {
        DatabaseBackend::Postgres => "for update",
        _ => "",
    };
    let sql = format!(
        "update deliveries set claim = $1, due_at = $2 where id = (
            select id from deliveries where endpoint_id = $3 and ordered is not null
            order by sequence, id limit 1 {lock})
         and state = 0 and due_at <= $4
         returning {CLAIMED}"
    );
    let values =
        [epoch.number().into(), lease_until.micros().into(), endpoint.into(), now.micros().into()];
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    Ok(claim(store, vec![statement], now).await?.into_iter().next())
}

async fn claim(
    store: &Store,
    statements: Vec<Statement>,
    now: Timestamp,
) -> Result<Vec<ClaimedDelivery>, StoreError> {
    let mut claimed = Vec::new();
    if let Some(connection) = store.autocommit() {
        for statement in statements {
            claimed.extend(ClaimedDelivery::find_by_statement(statement).all(connection).await?);
        }
        return Ok(claimed);
    }
    let work = store.begin().await?;
    for statement in statements {
        claimed.extend(ClaimedDelivery::find_by_statement(statement).all(work.connection()).await?);
    }
    let _settled = work.commit(now).await?;
    Ok(claimed)
}

/// An endpoint whose breaker is open.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub(crate) struct PausedEndpoint {
    pub(crate) endpoint_id: Uuid,
    pub(crate) breaker_until: i64,
}

/// The endpoints whose breaker is open: a node that begins knows them at once.
pub(crate) async fn paused_endpoints(
    store: &Store,
    now: Timestamp,
) -> Result<Vec<PausedEndpoint>, StoreError> {
    let statement = Statement::from_sql_and_values(
        store.dialect(),
        "select endpoint_id, breaker_until from endpoint_states where breaker_until > $1",
        [now.micros().into()],
    );
    Ok(PausedEndpoint::find_by_statement(statement).all(store.reader()).await?)
}

/// Frees what a dead node had: what it had been handed over in memory, and what it had claimed in
/// the table, whose lease may have long to run. Returns how many rows that were.
pub(crate) async fn recover(
    store: &Store,
    work: &UnitOfWork,
    dead: Epoch,
    low_water: Uuid,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(
            store.dialect(),
            "update deliveries set claim = null, due_at = $1
             where id >= $2 and claim = $3 and due_at is null and state = 0",
            [now.micros().into(), low_water.into(), dead.number().into()],
        ))
        .await?;
    let claimed = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(
            store.dialect(),
            "update deliveries set claim = null, due_at = $1
             where due_at is not null and claim = $2 and state = 0",
            [now.micros().into(), dead.number().into()],
        ))
        .await?;
    Ok(done.rows_affected() + claimed.rows_affected())
}

/// How many rows one statement frees.
const FREE_AT_ONCE: u64 = 5_000;

/// Frees all that any node had, page by page: no node lives. Reads the whole history once.
pub(crate) async fn free_all(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    const TAKEN: &str = "state = 0 and (claim is not null or due_at is null)";
    let (mut freed, mut after) = (0, Uuid::nil());
    loop {
        let next = Statement::from_sql_and_values(
            store.dialect(),
            format!(
                "select id from deliveries where {TAKEN} and id > $1 order by id limit {FREE_AT_ONCE}"
            ),
            [after.into()],
        );
        let rows = store.reader().query_all_raw(next).await?;
        let Some(last) = rows.last() else { return Ok(freed) };
        let last: Uuid = last.try_get_by_index(0)?;
        let work = store.begin().await?;
        let done = work
            .connection()
            .execute_raw(Statement::from_sql_and_values(
                store.dialect(),
                format!(
                    "update deliveries set claim = null, due_at = $1
                     where id > $2 and id <= $3 and {TAKEN}"
                ),
                [now.micros().into(), after.into(), last.into()],
            ))
            .await?;
        let _settled = work.commit(now).await?;
        freed += done.rows_affected();
        after = last;
    }
}

/// How many deliveries wait in the table.
pub(crate) async fn count_waiting(store: &Store) -> Result<u64, StoreError> {
    let sql = "select count(*) from deliveries where due_at is not null";
    let row = store.reader().query_one_raw(Statement::from_string(store.dialect(), sql)).await?;
    let count: i64 = row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(0);
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How far in the future something that has happened must lie to show that the time of day was set
/// back: clocks of nodes may differ by less.
const SET_BACK: std::time::Duration = std::time::Duration::from_mins(1);

/// What waits for a time that is not yet there, with when it was last tried, or else made.
const LATE: &str = "
    select id as late_id,
           coalesce((select max(at) from attempts where delivery_id = id), first_at, created_at)
               as last_at
    from deliveries where due_at is not null and due_at > $1 and due_at < $3";

/// Brings forward what waits for a time that was written before the time of day was set back:
/// whatever was made or last tried in the future now waits its pause from now on. Where `back` is
/// known and no other node writes, everything that waits is moved by it. Returns how many rows that
/// were.
pub(crate) async fn bring_forward(
    store: &Store,
    now: Timestamp,
    back: Option<std::time::Duration>,
) -> Result<u64, StoreError> {
    let is_alone = store.dialect() == DatabaseBackend::Sqlite;
    let (sql, values): (_, Vec<Value>) = match back {
        Some(back) if is_alone => (
            "update deliveries set due_at = max($1, due_at - $2)
             where due_at is not null and due_at > $1 and due_at < $3"
                .to_owned(),
            vec![
                now.micros().into(),
                i64::try_from(back.as_micros()).unwrap_or(i64::MAX).into(),
                PARKED.into(),
            ],
        ),
        _ => {
            let values: Vec<Value> =
                vec![now.micros().into(), now.plus(SET_BACK).micros().into(), PARKED.into()];
            // Nearly always there are none: that is found out by reading only.
            let sql = format!("select late_id from ({LATE}) late where last_at > $2 limit 1");
            let any = Statement::from_sql_and_values(store.dialect(), sql, values.clone());
            if store.reader().query_one_raw(any).await?.is_none() {
                return Ok(0);
            }
            let sql = format!(
                "update deliveries set due_at = $1 + due_at - last_at from ({LATE}) late
                 where id = late_id and last_at > $2 and due_at > last_at and due_at < $3"
            );
            (sql, values)
        }
    };
    let work = store.begin().await?;
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    let done = work.connection().execute_raw(statement).await?;
    let _settled = work.commit(now).await?;
    Ok(done.rows_affected())
}

/// Cancels up to `limit` deliveries of an endpoint that wait in the table: its webhook is no more.
/// What waits in a node's memory is cancelled there, at the gate.
pub(crate) async fn cancel_unresolved(
    store: &Store,
    work: &UnitOfWork,
    endpoint: Uuid,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "update deliveries set state = 4, claim = null, due_at = null, ordered = null where id in (
            select id from deliveries where endpoint_id = $1 and due_at is not null
            order by due_at limit {limit})
         and due_at is not null"
    );
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(store.dialect(), sql, [endpoint.into()]))
        .await?;
    Ok(done.rows_affected())
}

/// What of an endpoint's rows in the table is held where its webhook does not deliver: what is due, and
/// retries whenever they are due. What an automation waits with keeps its time: it is held when that
/// has come. What is under way at this moment keeps its claim.
const TO_HOLD: &str =
    "due_at < $4 and (claim is null or due_at <= $3) and (due_at <= $3 or attempts > 0)";

/// Whether there is something to be held of an endpoint. Found out by reading only.
pub(crate) async fn has_to_hold(
    store: &Store,
    endpoint: Uuid,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // The first value stands where the statement that holds has one.
    let sql =
        format!("select 1 from deliveries where $1 > 0 and endpoint_id = $2 and {TO_HOLD} limit 1");
    let values: [Value; 4] = [HELD.into(), endpoint.into(), now.micros().into(), PARKED.into()];
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    Ok(store.reader().query_one_raw(statement).await?.is_some())
}

/// Holds what waits of an endpoint in the table, up to `limit` rows: its webhook does not deliver now.
pub(crate) async fn hold_waiting(
    store: &Store,
    work: &UnitOfWork,
    endpoint: Uuid,
    now: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "update deliveries set state = 1, claim = null, due_at = $1 where id in (
            select id from deliveries
            where endpoint_id = $2 and {TO_HOLD}
            order by due_at limit {limit})
         and {TO_HOLD}"
    );
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(
            store.dialect(),
            sql,
            [HELD.into(), endpoint.into(), now.micros().into(), PARKED.into()],
        ))
        .await?;
    Ok(done.rows_affected())
}

/// Keeps up to `limit` rows that are held, and older than `before`, held for good: their webhook
/// is live again, and whoever reactivated it left them behind. They leave the order of an ordered
/// endpoint, which goes on without them.
pub(crate) async fn park_held(
    store: &Store,
    work: &UnitOfWork,
    endpoint: Uuid,
    before: Uuid,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "update deliveries set due_at = $1, ordered = null where id in (
            select id from deliveries
            where endpoint_id = $2 and due_at >= 9223372036854775806 and due_at = $3 and id < $4
            order by id limit {limit})
         and state = 1 and due_at = $3"
    );
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(
            store.dialect(),
            sql,
            [PARKED.into(), endpoint.into(), HELD.into(), before.into()],
        ))
        .await?;
    Ok(done.rows_affected())
}

/// Puts up to `limit` rows that are held, and not older than `from`, back on their way in order of
/// acceptance.
pub(crate) async fn release_held_from(
    store: &Store,
    work: &UnitOfWork,
    endpoint: Uuid,
    from: Uuid,
    now: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "update deliveries set state = 0, claim = null, due_at = $1 + waiting.place from (
            select id as held_id, row_number() over (order by id) as place from (
                select id from deliveries
                where endpoint_id = $2 and due_at >= 9223372036854775806 and due_at = $3
                  and id >= $4
                order by id limit {limit}) held) waiting
         where id = waiting.held_id and state = 1 and due_at = $3"
    );
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(
            store.dialect(),
            sql,
            [now.micros().into(), endpoint.into(), HELD.into(), from.into()],
        ))
        .await?;
    Ok(done.rows_affected())
}

/// Cancels up to `limit` deliveries of an endpoint that are held: nobody wants them any more.
pub(crate) async fn discard_held(
    store: &Store,
    work: &UnitOfWork,
    endpoint: Uuid,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "update deliveries set state = 4, claim = null, due_at = null, ordered = null where id in (
            select id from deliveries
            where endpoint_id = $1 and due_at >= 9223372036854775806
            order by id limit {limit})
         and state = 1"
    );
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(store.dialect(), sql, [endpoint.into()]))
        .await?;
    Ok(done.rows_affected())
}

/// Cancels what is held of an endpoint beyond what may be: all that was made before `oldest`, and the
/// oldest of the rest beyond `most`. Up to `limit` rows of each.
pub(crate) async fn trim_held(
    store: &Store,
    work: &UnitOfWork,
    endpoint: Uuid,
    oldest: Timestamp,
    most: u32,
    limit: u32,
) -> Result<u64, StoreError> {
    const HELD_ROWS: &str = "endpoint_id = $1 and due_at >= 9223372036854775806";
    const CANCELLED: &str = "state = 4, claim = null, due_at = null, ordered = null";
    let sql = format!(
        "update deliveries set {CANCELLED} where id in (
            select id from (
                select id, created_at from deliveries where {HELD_ROWS}
                order by id limit {limit}) first where created_at < $2)
         and state = 1"
    );
    let values: [Value; 2] = [endpoint.into(), oldest.micros().into()];
    let late = Statement::from_sql_and_values(store.dialect(), sql, values);
    let late = work.connection().execute_raw(late).await?.rows_affected();
    let sql = format!(
        "update deliveries set {CANCELLED} where id in (
            select id from (
                select id from deliveries where {HELD_ROWS}
                order by id desc limit {limit} offset {most}) surplus)
         and state = 1"
    );
    let surplus = Statement::from_sql_and_values(store.dialect(), sql, [endpoint.into()]);
    Ok(late + work.connection().execute_raw(surplus).await?.rows_affected())
}

/// Whether something is held of an endpoint that was made before `oldest`, or more than `most`. Found
/// out by reading only.
pub(crate) async fn has_surplus_held(
    store: &Store,
    endpoint: Uuid,
    oldest: Timestamp,
    most: u32,
) -> Result<bool, StoreError> {
    let sql = format!(
        "select 1 where (select created_at from deliveries
             where endpoint_id = $1 and due_at >= 9223372036854775806
             order by id limit 1) < $2
         or exists (select 1 from deliveries
             where endpoint_id = $1 and due_at >= 9223372036854775806
             order by id limit 1 offset {most})"
    );
    let values: [Value; 2] = [endpoint.into(), oldest.micros().into()];
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    Ok(store.reader().query_one_raw(statement).await?.is_some())
}
