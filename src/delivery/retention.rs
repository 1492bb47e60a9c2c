//! What is kept and for how long: pruned in small steps that hold nobody up.
//!
//! Ids are ordered in time, so everything too old lies at the low end of each table: a step reads
//! a bounded stretch of an index and never searches.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseBackend, Statement, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::views::id_at;
use crate::audit;
use crate::seam::{Clock, Timestamp};
use crate::store::{Store, StoreError};

/// How often pruning looks for something to do.
const PAUSE: Duration = Duration::from_mins(1);

/// The pause between two steps while there is more to do.
const BETWEEN_STEPS: Duration = Duration::from_millis(50);

/// How many rows one step touches at the most.
const STEP: u64 = 1_000;

/// For how long changes of routing are kept: a node that was away for longer reads everything.
const ROUTING_KEPT: Duration = Duration::from_hours(1);

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Payloads, and deliveries that are held.
    pub payload: Duration,
    /// Events, deliveries and attempts, notices, and jobs that ended.
    pub attempts: Duration,
    /// The ids that callers gave to events.
    pub deduplication: Duration,
    /// The audit.
    pub audit: Duration,
}

/// Prunes until told to stop.
pub async fn run(store: Store, clock: Clock, retention: Retention, stop: CancellationToken) {
    // Up to where payloads are emptied already; lost with the process, which only costs a scan.
    let mut emptied = Uuid::nil();
    loop {
        let pause = match step(&store, clock.now(), retention, &mut emptied).await {
            Ok(true) => BETWEEN_STEPS,
            Ok(false) => PAUSE,
            Err(error) => {
                tracing::warn!(%error, "what is too old could not be removed; tried again");
                PAUSE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(pause) => {}
        }
    }
}

/// The statements of a step, each with what it is for. Held deliveries are kept as long as what
/// they would send; then they are cancelled, and seen as such until the history forgets them.
fn statements(
    now: Timestamp,
    retention: Retention,
) -> [(&'static str, &'static str, Vec<Value>); 16] {
    let payload_cut = id_at(now.minus(retention.payload));
    let history = now.minus(retention.attempts.max(retention.payload));
    let history_cut = id_at(history);
    [
        (
            "held deliveries are cancelled",
            "update deliveries set state = 4, due_at = null, claim = null, ordered = null \
             where id in (select id from deliveries \
             where id < $1 and due_at >= 9223372036854775806 order by id limit 1000) and state = 1",
            vec![payload_cut.into()],
        ),
        (
            "deliveries",
            "delete from deliveries where id in (select id from deliveries \
             where id < $1 and state in (2, 3, 4) order by id limit 1000)",
            vec![history_cut.into()],
        ),
        (
            "names of deliveries",
            "delete from delivery_variants where delivery_id in (select delivery_id from \
             delivery_variants where delivery_id < $1 order by delivery_id limit 1000)",
            vec![history_cut.into()],
        ),
        (
            "reasons of deliveries",
            "delete from delivery_reasons where delivery_id in (select delivery_id from \
             delivery_reasons where delivery_id < $1 order by delivery_id limit 1000)",
            vec![history_cut.into()],
        ),
        (
            "marks against automations",
            "delete from automation_marks where at in (select at from automation_marks \
             where at < $1 order by at limit 1000)",
            vec![now.minus(retention.payload).micros().into()],
        ),
        (
            "attempts",
            "delete from attempts where delivery_id in (select delivery_id from attempts \
             where delivery_id < $1 order by delivery_id limit 1000)",
            vec![history_cut.into()],
        ),
        (
            "events",
            "delete from events where id in (select id from events \
             where id < $1 order by id limit 1000)",
            vec![history_cut.into()],
        ),
        (
            "event keys",
            "delete from event_keys where (org_id, event_key) in (select org_id, event_key \
             from event_keys where accepted_at < $1 order by accepted_at limit 1000)",
            vec![now.minus(retention.deduplication).micros().into()],
        ),
        (
            "routing changes",
            "delete from routing_changes where revision in (select revision from \
             (select revision, at from routing_changes order by revision limit 1000) oldest \
             where at < $1)",
            vec![now.minus(ROUTING_KEPT).micros().into()],
        ),
        (
            "dismissals",
            "delete from notice_dismissals where notice_id in (select id from notices \
             where last_at < $1 order by last_at limit 1000)",
            vec![history.micros().into()],
        ),
        (
            "notices",
            "delete from notices where id in (select id from notices \
             where last_at < $1 order by last_at limit 1000)",
            vec![history.micros().into()],
        ),
        (
            "journal",
            "delete from journal where position in (select position from journal \
             where at < $1 order by at limit 1000)",
            vec![history.micros().into()],
        ),
        (
            "jobs that ended",
            "delete from recovery_jobs where id in (select id from recovery_jobs \
             where id < $1 order by id limit 1000) and running is null",
            vec![history_cut.into()],
        ),
        (
            "turns of rollouts that ended",
            "delete from rollout_items where (rollout_id, installation_id) in (
             select i.rollout_id, i.installation_id from rollout_jobs j
             join rollout_items i on i.rollout_id = j.id
             where j.id < $1 and j.running is null limit 1000)",
            vec![history_cut.into()],
        ),
        (
            "rollouts that ended",
            "delete from rollout_jobs where id in (select id from rollout_jobs \
             where id < $1 order by id limit 1000) and running is null and not exists (
             select 1 from rollout_items where rollout_items.rollout_id = rollout_jobs.id)",
            vec![history_cut.into()],
        ),
        (
            "upgrades that waited",
            "delete from upgrades where id in (select id from upgrades \
             where id < $1 and waiting is null order by id limit 1000)",
            vec![history_cut.into()],
        ),
    ]
}

/// One step over each table. Returns whether there may be more to do.
async fn step(
    store: &Store,
    now: Timestamp,
    retention: Retention,
    emptied: &mut Uuid,
) -> Result<bool, StoreError> {
    let payload_cut = id_at(now.minus(retention.payload));
    let mut more = empty_payloads(store, payload_cut, now, emptied).await?;
    for (_, sql, values) in statements(now, retention) {
        more |= execute(store, sql, values, now).await? >= STEP;
    }
    more |= audit::prune(store, now.minus(retention.audit), now).await?;
    Ok(more)
}

/// The candidates of the next step.
const EMPTY_NEXT: &str = "select id from events where id > $1 and id < $2 order by id limit 1000";

/// Lifecycle callbacks (their names begin with "on") are the journal: they go with the history.
fn empty_sql(backend: DatabaseBackend) -> String {
    let empty = match backend {
        DatabaseBackend::Postgres => "''::bytea",
        _ => "x''",
    };
    format!(
        "update events set payload = {empty}, previous = null \
         where id > $1 and id <= $2 and length(payload) > 0 and event_type not like 'on%'"
    )
}

/// Empties payloads that are too old; their events stay for the history.
async fn empty_payloads(
    store: &Store,
    cut: Uuid,
    now: Timestamp,
    emptied: &mut Uuid,
) -> Result<bool, StoreError> {
    let backend = store.dialect();
    let values = [(*emptied).into(), cut.into()];
    let rows = store
        .reader()
        .query_all_raw(Statement::from_sql_and_values(backend, EMPTY_NEXT, values))
        .await?;
    let Some(last) = rows.last() else { return Ok(false) };
    let last: Uuid = last.try_get_by_index(0)?;
    execute(store, &empty_sql(backend), vec![(*emptied).into(), last.into()], now).await?;
    *emptied = last;
    Ok(rows.len() as u64 >= STEP)
}

async fn execute(
    store: &Store,
    sql: &str,
    values: Vec<Value>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let work = store.begin().await?;
    let done = work
        .connection()
        .execute_raw(Statement::from_sql_and_values(store.dialect(), sql, values))
        .await?;
    let _settled = work.commit(now).await?;
    Ok(done.rows_affected())
}

/// The statements of pruning with their values in them, for those who look at their plans.
#[doc(hidden)]
pub fn plans(postgres: bool, now: Timestamp, retention: Retention) -> Vec<(&'static str, String)> {
    let backend = if postgres { DatabaseBackend::Postgres } else { DatabaseBackend::Sqlite };
    let text = |sql: &str, values: Vec<Value>| {
        Statement::from_sql_and_values(backend, sql, values).to_string()
    };
    let (low, high) = (Uuid::nil(), id_at(now.minus(retention.payload)));
    let mut all = vec![
        ("payloads to empty", text(EMPTY_NEXT, vec![low.into(), high.into()])),
        ("payloads", text(&empty_sql(backend), vec![low.into(), high.into()])),
        ("audit", text(audit::PRUNE_NEXT, vec![now.micros().into()])),
    ];
    let steps = statements(now, retention);
    all.extend(steps.into_iter().map(|(name, sql, values)| (name, text(sql, values))));
    all
}
