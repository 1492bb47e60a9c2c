//! The loop that erases: one installation at a time, in steps that are a bounded transaction each.
//!
//! A step locks the erasure's row, does a stretch of its stage, and writes how far it came with what
//! it did. It may run on any node; a crash loses and repeats nothing.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value, sea_query::Expr,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::closing;
use super::erasure::{ErasedKind, Stage, counts_of};
use super::error::LifecycleError;
use super::service::Lifecycle;
use super::state::Command;
use crate::audit::{self, Actor, Entry};
use crate::delivery::without_words;
use crate::oauth;
use crate::seam::{Timestamp, crash_point};
use crate::store::UnitOfWork;
use crate::store::entity::{
    attempt, authorization_request, connection, delivery, endpoint, erasure, event, invocation,
    notice, notice_dismissal, recovery_job, revocation, token_exchange, transition, upgrade,
};

/// How often the table is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How many rows one step touches at the most.
const STEP: u64 = 200;

/// How long an erasure waits for what must end first, or after a failure.
const WAIT: Duration = Duration::from_secs(30);

/// How far behind its event a delivery is looked for: its id is made right after the event's.
const BEHIND: Duration = Duration::from_secs(10);

/// Where the time of a UUIDv7 begins, in bits from its end.
const V7_TIME_SHIFT: u32 = 80;

/// What a step came to.
#[derive(Debug)]
struct Done {
    erased: Vec<(&'static str, u64)>,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// The stage goes on from here.
    From(String),
    /// The next stage.
    Next,
    /// Something must end first.
    Wait,
}

impl Done {
    /// All of one kind that there was.
    fn all(kind: &'static str, rows: u64) -> Self {
        Self { erased: vec![(kind, rows)], then: Then::Next }
    }

    /// A stretch of one kind: there is more where it is full.
    fn stretch(kind: &'static str, rows: u64, limit: u64) -> Self {
        let then = if rows >= limit { Then::From(String::new()) } else { Then::Next };
        Self { erased: vec![(kind, rows)], then }
    }

    fn wait() -> Self {
        Self { erased: Vec::new(), then: Then::Wait }
    }
}

impl Lifecycle {
    /// Erases what is due until told to stop.
    pub async fn run_erasures(self, stop: CancellationToken) {
        loop {
            let more = match self.erase_next().await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(%error, "an erasure could not go on; tried again");
                    false
                }
            };
            if stop.is_cancelled() {
                return;
            }
            if more {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.seam.clock.sleep(POLL) => {}
            }
        }
    }

    /// A step of the erasure that has waited longest. Returns whether there was one.
    async fn erase_next(&self) -> Result<bool, LifecycleError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let due = erasure::Entity::find()
            .filter(erasure::Column::Pending.is_not_null())
            .filter(erasure::Column::NextAt.lte(now.micros()))
            .order_by_asc(erasure::Column::NextAt)
            .limit(1)
            .one(inner.store.reader())
            .await?;
        let Some(seen) = due else { return Ok(false) };
        let id = seen.installation_id;
        if let Err(error) = self.erase_step(seen).await {
            // One that fails must not keep the others waiting.
            let work = inner.store.begin().await?;
            erasure::Entity::update_many()
                .col_expr(erasure::Column::NextAt, Expr::value(now.plus(WAIT).micros()))
                .filter(erasure::Column::InstallationId.eq(id))
                .exec(work.connection())
                .await?;
            let _settled = work.commit(now).await?;
            return Err(error);
        }
        Ok(true)
    }

    async fn erase_step(&self, seen: erasure::Model) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        let unreadable = LifecycleError::Unreadable { what: "stage of an erasure" };
        let stage = Stage::from_name(&seen.stage).ok_or(unreadable)?;
        // Outside of the transaction: SQLite empties its journal only between them.
        let pages = stage != Stage::Pages || inner.store.empty_journal().await?;
        let mut work = inner.store.begin().await?;
        let current = erasure::Entity::find_by_id(seen.installation_id)
            .lock_exclusive()
            .one(work.connection())
            .await?;
        // Another node took this step.
        let Some(mut job) = current.filter(|current| *current == seen) else {
            return Ok(work.rollback().await?);
        };
        let now = inner.seam.clock.now();
        job.started_at.get_or_insert(now.micros());
        let done = match stage {
            Stage::Config => self.erase_config(&work, &job, now).await?,
            Stage::Connections => erase_connections(&work, &job).await?,
            Stage::Deliveries => self.erase_deliveries(&work, &job).await?,
            Stage::History => erase_history(&work, &job).await?,
            Stage::Audit => erase_audit(&work, &job).await?,
            Stage::Notices => erase_notices(&work, &job).await?,
            Stage::Jobs => erase_jobs(&work, &job).await?,
            Stage::Endpoints => self.erase_endpoints(&work, &job).await?,
            Stage::Callbacks => erase_callbacks(&work, &job).await?,
            Stage::Pages if pages => Done { erased: Vec::new(), then: Then::Next },
            Stage::Pages => Done::wait(),
            Stage::Tombstone => self.bury(&mut work, &job, now).await?,
        };
        let mut counts = counts_of(&job)?;
        for (kind, rows) in done.erased.into_iter().filter(|(_, rows)| *rows > 0) {
            let kind: &mut ErasedKind = counts.entry(kind.to_owned()).or_default();
            kind.rows += rows;
            kind.at = now.rfc3339();
        }
        job.counts = serde_json::to_string(&counts)
            .map_err(|_| LifecycleError::Unreadable { what: "erasure" })?;
        match done.then {
            Then::From(position) => job.position = position,
            Then::Wait => job.next_at = now.plus(WAIT).micros(),
            Then::Next => {
                job.position = String::new();
                if let Some(next) = stage.next() {
                    next.name().clone_into(&mut job.stage);
                } else {
                    job.pending = None;
                    job.finished_at = Some(now.micros());
                }
            }
        }
        let id = job.installation_id;
        let active: erasure::ActiveModel = job.into();
        erasure::Entity::update(active.reset_all()).exec(work.connection()).await?;
        crash_point("erase.step");
        let revision = work.commit(now).await?;
        inner.routing.settle(revision).await?;
        tracing::debug!(installation = %id, stage = stage.name(), "erased a stretch");
        Ok(())
    }

    /// What the installation itself holds. First, so that former contents of its page are gone with
    /// the pages that follow.
    async fn erase_config(
        &self,
        work: &UnitOfWork,
        job: &erasure::Model,
        now: Timestamp,
    ) -> Result<Done, LifecycleError> {
        let mut row = self.lock(work, job.installation_id).await?.row;
        let fields = [
            row.config != "{}",
            row.sealed_config.is_some(),
            row.department_ids.is_some(),
            row.installed_by.is_some(),
            row.return_url.is_some(),
            !row.request_digest.is_empty(),
            row.connection_reason.is_some(),
            !row.user_id.is_empty(),
        ];
        "{}".clone_into(&mut row.config);
        row.sealed_config = None;
        row.department_ids = None;
        row.installed_by = None;
        row.return_url = None;
        row.request_digest = Vec::new();
        row.connection_reason = None;
        row.user_id = String::new();
        row.updated_at = now.micros();
        self.save(work, &row).await?;
        let filled = fields.into_iter().filter(|filled| *filled).count() as u64;
        Ok(Done::all("installationFields", filled))
    }

    /// The next stretch of the deliveries of the installation's webhooks.
    async fn erase_deliveries(
        &self,
        work: &UnitOfWork,
        job: &erasure::Model,
    ) -> Result<Done, LifecycleError> {
        let (endpoint, after) = match job.position.split_once('/') {
            Some((endpoint, after)) => (parsed(endpoint)?, parsed(after)?),
            None => (Uuid::nil(), Uuid::nil()),
        };
        let lane = endpoint::Entity::find()
            .filter(endpoint::Column::InstallationId.eq(job.installation_id))
            .filter(endpoint::Column::Lane.ne("lifecycle"))
            .filter(endpoint::Column::Id.gte(endpoint))
            .order_by_asc(endpoint::Column::Id)
            .limit(2)
            .all(work.connection())
            .await?;
        let Some(current) = lane.first() else { return Ok(Done::all("responses", 0)) };
        let after = if current.id == endpoint { after } else { Uuid::nil() };
        let rows = stretch(work, current.id, after).await?;
        let Some(last) = rows.last() else {
            // On to the next webhook, where there was one.
            let then = match lane.get(1) {
                Some(next) => Then::From(format!("{}/{}", next.id, Uuid::nil())),
                None => Then::Next,
            };
            return Ok(Done { erased: Vec::new(), then });
        };
        let position = format!("{}/{}", current.id, last.id);
        let responses = erase_responses(work, &rows).await?;
        let payloads = self.erase_payloads(work, job, &rows).await?;
        Ok(Done {
            erased: vec![("responses", responses), ("payloads", payloads)],
            then: Then::From(position),
        })
    }

    /// Empties the events of these deliveries that no other webhook of the org has a delivery of:
    /// those are the org's own, and go with `delivery.retention.payload`.
    async fn erase_payloads(
        &self,
        work: &UnitOfWork,
        job: &erasure::Model,
        rows: &[delivery::Model],
    ) -> Result<u64, LifecycleError> {
        let events: HashSet<Uuid> = rows.iter().map(|row| row.event_id).collect();
        let mut values: Vec<Value> = vec![job.org_id.clone().into(), job.installation_id.into()];
        let mut pairs = Vec::with_capacity(events.len());
        for id in &events {
            let place = values.len() + 1;
            pairs.push(format!("(${place}, ${})", place + 1));
            values.extend([(*id).into(), behind(*id).into()]);
        }
        let dialect = self.inner.store.dialect();
        let sql = format!(
            "select wanted.column1 as id from (values {}) as wanted where not exists (
                 select 1 from endpoints e join deliveries d on d.endpoint_id = e.id
                 where e.org_id = $1 and e.lane = 'webhook'
                   and (e.installation_id is null or e.installation_id <> $2)
                   and d.id >= wanted.column1 and d.id < wanted.column2
                   and d.event_id = wanted.column1)",
            pairs.join(", ")
        );
        let mut alone: Vec<Uuid> = Vec::new();
        for row in work
            .connection()
            .query_all_raw(Statement::from_sql_and_values(dialect, sql, values))
            .await?
        {
            alone.push(row.try_get_by_index(0)?);
        }
        if alone.is_empty() {
            return Ok(0);
        }
        let done = event::Entity::update_many()
            .col_expr(event::Column::Payload, Expr::value(Vec::<u8>::new()))
            .col_expr(event::Column::Previous, Expr::value(Option::<Vec<u8>>::None))
            .col_expr(event::Column::Actor, Expr::value(Option::<String>::None))
            .filter(event::Column::Id.is_in(alone))
            .filter(Expr::cust("length(payload) > 0"))
            .exec(work.connection())
            .await?;
        Ok(done.rows_affected)
    }

    async fn erase_endpoints(
        &self,
        work: &UnitOfWork,
        job: &erasure::Model,
    ) -> Result<Done, LifecycleError> {
        let mut rows = 0;
        for table in ["endpoint_states", "endpoint_sequences", "endpoint_hours"] {
            let sql = format!(
                "delete from {table} where endpoint_id in (
                     select id from endpoints where installation_id = $1 and lane <> 'lifecycle')"
            );
            let done = work
                .connection()
                .execute_raw(Statement::from_sql_and_values(
                    self.inner.store.dialect(),
                    sql,
                    [job.installation_id.into()],
                ))
                .await?;
            rows += done.rows_affected();
        }
        let mut done = Done::all("endpointStates", rows);
        let copies = self.erase_copies(work, job).await?;
        if copies > 0 {
            done.erased.push(("copies", copies));
        }
        Ok(done)
    }

    /// What listeners and inspectors keep of its deliveries, before its time. There is little of it:
    /// a thousand copies of ten minutes, a hundred requests of a day.
    async fn erase_copies(
        &self,
        work: &UnitOfWork,
        job: &erasure::Model,
    ) -> Result<u64, LifecycleError> {
        const COPIES: [&str; 3] = [
            "delete from tapped_deliveries where webhook_id in (
                 select id from endpoints where installation_id = $1)",
            // Whatever inspector it came to: it says whose it is.
            "delete from inspected_requests where webhook_id in (
                 select id from endpoints where installation_id = $1)",
            "delete from inspected_requests where inspector_id in (
                 select id from inspectors where webhook_id in (
                     select id from endpoints where installation_id = $1))",
        ];
        let mut rows = 0;
        for sql in COPIES {
            let done = work
                .connection()
                .execute_raw(Statement::from_sql_and_values(
                    self.inner.store.dialect(),
                    sql,
                    [job.installation_id.into()],
                ))
                .await?;
            rows += done.rows_affected();
        }
        Ok(rows)
    }

    /// The last step: the tombstone says that it is done, and the audit what was.
    async fn bury(
        &self,
        work: &mut UnitOfWork,
        job: &erasure::Model,
        now: Timestamp,
    ) -> Result<Done, LifecycleError> {
        let actor = Actor::system("erasure");
        let mut locked = self.lock(work, job.installation_id).await?;
        locked.row.erased_at = Some(now.micros());
        self.take(work, &mut locked, Command::Erase, &actor, None).await?;
        let entry = Entry {
            chain: &job.org_id,
            action: "installation.erased",
            subject: format!("installation:{}", job.installation_id),
            detail: Some(serde_json::json!({
                "cause": job.cause,
                "dueAt": Timestamp::from_micros(job.due_at).rfc3339(),
                "erased": counts_of(job)?,
            })),
        };
        audit::append(work, entry, &actor, now, &self.inner.seam.randomness).await?;
        closing::forget_closer(work, &job.org_id).await?;
        Ok(Done { erased: Vec::new(), then: Then::Next })
    }
}

fn parsed(text: &str) -> Result<Uuid, LifecycleError> {
    text.parse().map_err(|_| LifecycleError::Unreadable { what: "position of an erasure" })
}

/// The smallest id that is made a while after another.
fn behind(id: Uuid) -> Uuid {
    let span = BEHIND.as_millis() << V7_TIME_SHIFT;
    Uuid::from_u128(id.as_u128().saturating_add(span))
}

/// The next deliveries of an endpoint.
async fn stretch(
    work: &UnitOfWork,
    endpoint: Uuid,
    after: Uuid,
) -> Result<Vec<delivery::Model>, LifecycleError> {
    Ok(delivery::Entity::find()
        .filter(delivery::Column::EndpointId.eq(endpoint))
        .filter(delivery::Column::Id.gt(after))
        .order_by_asc(delivery::Column::Id)
        .limit(STEP)
        .all(work.connection())
        .await?)
}

/// Empties what was seen of answers: excerpts, headers, addresses, messages.
async fn erase_responses(
    work: &UnitOfWork,
    rows: &[delivery::Model],
) -> Result<u64, LifecycleError> {
    let ids = || rows.iter().map(|row| row.id);
    let first = delivery::Entity::update_many()
        .col_expr(delivery::Column::FirstDetail, Expr::value(Option::<String>::None))
        .filter(delivery::Column::Id.is_in(ids()))
        .filter(delivery::Column::FirstDetail.is_not_null())
        .exec(work.connection())
        .await?;
    let later = attempt::Entity::update_many()
        .col_expr(attempt::Column::Detail, Expr::value(Option::<String>::None))
        .filter(attempt::Column::DeliveryId.is_in(ids()))
        .filter(attempt::Column::Detail.is_not_null())
        .exec(work.connection())
        .await?;
    Ok(first.rows_affected + later.rows_affected)
}

/// Connections, authorisations that were begun, and consents; after the last code was exchanged and
/// the last token revoked, or given up.
async fn erase_connections(
    work: &UnitOfWork,
    job: &erasure::Model,
) -> Result<Done, LifecycleError> {
    let id = job.installation_id;
    let waiting = revocation::Entity::find()
        .filter(revocation::Column::InstallationId.eq(id))
        .one(work.connection())
        .await?;
    // Each code that is being exchanged may bring tokens, which are to be revoked.
    let exchanged = token_exchange::Entity::find()
        .filter(token_exchange::Column::InstallationId.eq(id))
        .one(work.connection())
        .await?;
    // Nor have those been moved into the job that ended with many others.
    let ended = connection::Entity::find()
        .filter(connection::Column::InstallationId.eq(id))
        .filter(connection::Column::Health.eq(oauth::ENDED_CONNECTION))
        .one(work.connection())
        .await?;
    if waiting.is_some() || exchanged.is_some() || ended.is_some() {
        return Ok(Done::wait());
    }
    let connections = connection::Entity::delete_many()
        .filter(connection::Column::InstallationId.eq(id))
        .exec(work.connection())
        .await?;
    let begun = authorization_request::Entity::delete_many()
        .filter(authorization_request::Column::InstallationId.eq(id))
        .exec(work.connection())
        .await?;
    // What was proposed to the org, with the parameters that were given for it.
    let upgrades = upgrade::Entity::delete_many()
        .filter(upgrade::Column::InstallationId.eq(id))
        .exec(work.connection())
        .await?;
    Ok(Done {
        erased: vec![
            ("connections", connections.rows_affected + begun.rows_affected),
            ("upgrades", upgrades.rows_affected),
        ],
        then: Then::Next,
    })
}

/// An actor without what names a person: its role.
pub(super) fn role_of(actor: &str) -> &str {
    actor.split_once(':').map_or(actor, |(role, _)| role)
}

async fn erase_history(work: &UnitOfWork, job: &erasure::Model) -> Result<Done, LifecycleError> {
    let after = if job.position.is_empty() { Uuid::nil() } else { parsed(&job.position)? };
    let rows = transition::Entity::find()
        .filter(transition::Column::InstallationId.eq(job.installation_id))
        .filter(transition::Column::Id.gt(after))
        .order_by_asc(transition::Column::Id)
        .limit(STEP)
        .all(work.connection())
        .await?;
    let Some(last) = rows.last() else { return Ok(Done::all("historyRows", 0)) };
    let then = Then::From(last.id.to_string());
    let actors: HashSet<&str> = rows.iter().map(|row| row.actor.as_str()).collect();
    for actor in actors {
        transition::Entity::update_many()
            .col_expr(transition::Column::Actor, Expr::value(role_of(actor)))
            .col_expr(transition::Column::Address, Expr::value(Option::<String>::None))
            .col_expr(transition::Column::Reason, Expr::value(Option::<String>::None))
            .filter(transition::Column::Id.is_in(rows.iter().map(|row| row.id)))
            .filter(transition::Column::Actor.eq(actor))
            .exec(work.connection())
            .await?;
    }
    Ok(Done { erased: vec![("historyRows", rows.len() as u64)], then })
}

/// The next links of the org's chain that are the installation's: they lose their content and its
/// salt. What stays is the digest, from which nothing can be guessed back, and the chain holds.
async fn erase_audit(work: &UnitOfWork, job: &erasure::Model) -> Result<Done, LifecycleError> {
    let after: i64 = job.position.parse().unwrap_or(0);
    let webhooks: Vec<Uuid> = endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::Id)
        .filter(endpoint::Column::InstallationId.eq(job.installation_id))
        .filter(endpoint::Column::Lane.ne("lifecycle"))
        .into_tuple()
        .all(work.connection())
        .await?;
    let subjects: Vec<String> = webhooks
        .into_iter()
        .map(|id| format!("webhook:{id}"))
        .chain([format!("installation:{}", job.installation_id)])
        .collect();
    let erased = audit::erase(work, &job.org_id, &subjects, after, STEP).await?;
    let then = match erased.last {
        Some(last) => Then::From(last.to_string()),
        None => Then::Next,
    };
    Ok(Done { erased: vec![("auditRows", erased.rows)], then })
}

async fn erase_notices(work: &UnitOfWork, job: &erasure::Model) -> Result<Done, LifecycleError> {
    let ids: Vec<Uuid> = notice::Entity::find()
        .filter(notice::Column::InstallationId.eq(job.installation_id))
        .limit(STEP)
        .all(work.connection())
        .await?
        .into_iter()
        .map(|row| row.id)
        .collect();
    if ids.is_empty() {
        return Ok(Done::all("notices", 0));
    }
    notice_dismissal::Entity::delete_many()
        .filter(notice_dismissal::Column::NoticeId.is_in(ids.iter().copied()))
        .exec(work.connection())
        .await?;
    let done = notice::Entity::delete_many()
        .filter(notice::Column::Id.is_in(ids))
        .exec(work.connection())
        .await?;
    Ok(Done::stretch("notices", done.rows_affected, STEP))
}

async fn erase_jobs(work: &UnitOfWork, job: &erasure::Model) -> Result<Done, LifecycleError> {
    use sea_orm::QueryTrait;
    let webhooks = endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::Id)
        .filter(endpoint::Column::InstallationId.eq(job.installation_id));
    let ids: Vec<Uuid> = recovery_job::Entity::find()
        .filter(recovery_job::Column::WebhookId.in_subquery(webhooks.into_query()))
        .filter(recovery_job::Column::Running.is_null())
        .limit(STEP)
        .all(work.connection())
        .await?
        .into_iter()
        .map(|row| row.id)
        .collect();
    if ids.is_empty() {
        return erase_invocations(work, job).await;
    }
    let done = recovery_job::Entity::delete_many()
        .filter(recovery_job::Column::Id.is_in(ids))
        .exec(work.connection())
        .await?;
    // The stage is over when nothing of it is left.
    Ok(Done { erased: vec![("jobs", done.rows_affected)], then: Then::From(String::new()) })
}

/// The record of what the vendor called in the org's name.
async fn erase_invocations(
    work: &UnitOfWork,
    job: &erasure::Model,
) -> Result<Done, LifecycleError> {
    let rows = invocation::Entity::find()
        .select_only()
        .column(invocation::Column::Id)
        .filter(invocation::Column::InstallationId.eq(job.installation_id))
        .limit(STEP)
        .into_tuple::<Uuid>()
        .all(work.connection())
        .await?;
    let done = invocation::Entity::delete_many()
        .filter(invocation::Column::Id.is_in(rows))
        .exec(work.connection())
        .await?;
    Ok(Done::stretch("invocations", done.rows_affected, STEP))
}

/// What people wrote into callbacks, and what the vendor answered. Not before the last one was
/// taken or given up: the vendor must be told of the end.
async fn erase_callbacks(work: &UnitOfWork, job: &erasure::Model) -> Result<Done, LifecycleError> {
    let lane = job.installation_id;
    let under_way = delivery::Entity::find()
        .filter(delivery::Column::EndpointId.eq(lane))
        .filter(delivery::Column::Ordered.is_not_null())
        .one(work.connection())
        .await?;
    if under_way.is_some() {
        return Ok(Done::wait());
    }
    let after = if job.position.is_empty() { Uuid::nil() } else { parsed(&job.position)? };
    let rows = stretch(work, lane, after).await?;
    let Some(last) = rows.last() else { return Ok(Done::all("callbacks", 0)) };
    let then = Then::From(last.id.to_string());
    let events = event::Entity::find()
        .filter(event::Column::Id.is_in(rows.iter().map(|row| row.event_id)))
        .all(work.connection())
        .await?;
    for row in events {
        let Some(payload) = without_words(&row.payload) else { continue };
        event::Entity::update_many()
            .col_expr(event::Column::Payload, Expr::value(payload))
            .filter(event::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
    }
    let responses = erase_responses(work, &rows).await?;
    Ok(Done { erased: vec![("callbacks", rows.len() as u64), ("responses", responses)], then })
}
