//! Sending many deliveries again: jobs that are asked for, followed, and called off.
//!
//! A job is one row. Each step locks it, so that a job may run on any node but on one at a time,
//! and writes how far it came with what it did: a crash loses and repeats nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::views::{EndpointScope, id_at};
use crate::audit::{self, Actor, Entry};
use crate::seam::{Seam, Timestamp};
use crate::store::claims::DeliveryState;
use crate::store::entity::{endpoint_state, installation, recovery_job, webhook};
use crate::store::{Store, StoreError, UnitOfWork};

/// What is asked to be sent again.
#[derive(Clone, Debug)]
pub struct RecoveryRequest {
    /// Deliveries in this state.
    pub state: DeliveryState,
    /// Made at this moment or later.
    pub since: Option<Timestamp>,
    /// Made before this moment.
    pub until: Option<Timestamp>,
    /// Of one event: the host's type, or what a dialect with names of its own told it as.
    pub event_type: Option<String>,
    /// Whose first attempt had this status.
    pub status_code: Option<u16>,
    /// How many a second; the configured pace where nothing is said.
    pub per_second: Option<u32>,
}

/// Whether somebody asked for a job, or reactivation made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobKind {
    Recover,
    Release,
}

impl JobKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Recover => "recover",
            Self::Release => "release",
        }
    }
}

/// Why a job was not begun.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryRefusal {
    /// The webhook is no more.
    #[error("the webhook is no more")]
    Removed,
    /// Its deliveries are held.
    #[error("{0}")]
    Held(&'static str),
    /// It has a job that runs.
    #[error("the job {0} is sending deliveries of this webhook again; wait for it or cancel it")]
    Running(Uuid),
    /// The pace is higher than the operator allows.
    #[error("at most {limit} a second are sent again")]
    TooFast {
        /// The configured pace.
        limit: u32,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for RecoveryRefusal {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// Why a job was not called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelRefusal {
    /// There is none that the caller may see.
    Unknown,
    /// It has ended.
    Ended,
}

/// A job as it is shown.
#[derive(Clone, Debug)]
pub struct JobView {
    pub(crate) row: recovery_job::Model,
    /// How many deliveries matched and were not sent again, by reason.
    pub skipped: BTreeMap<String, i64>,
}

impl JobView {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }

    fn new(row: recovery_job::Model) -> Self {
        let skipped = serde_json::from_str(&row.skipped).unwrap_or_default();
        Self { row, skipped }
    }
}

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of one webhook.
    pub webhook_id: Option<Uuid>,
    /// In one state.
    pub state: Option<String>,
    /// Older than this one.
    pub before: Option<Uuid>,
    /// How many at the most.
    pub limit: u64,
}

/// The states of jobs.
pub const JOB_STATES: [&str; 5] = ["queued", "running", "done", "cancelled", "failed"];

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) dispatcher: Dispatcher,
    pub(super) seam: Seam,
    /// The most deliveries a second that a job sends again.
    per_second: u32,
    pub(super) poked: Notify,
}

/// The jobs that send again. Cloning shares them.
#[derive(Clone)]
pub struct Recoveries {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Recoveries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Recoveries")
            .field("per_second", &self.inner.per_second)
            .finish_non_exhaustive()
    }
}

/// Whether deliveries of a webhook would go out, as the database has it now.
pub(super) enum Standing {
    Open(Box<webhook::Model>),
    Held(&'static str),
    Removed,
}

pub(super) const HELD_BY_HEALTH: &str =
    "The webhook is gone or disabled, so that its deliveries are held: reactivate it first.";
pub(super) const HELD_BY_SUSPENSION: &str = "The installation is suspended, so that its deliveries are held: they go on when it is resumed.";

pub(super) async fn standing(work: &UnitOfWork, id: Uuid) -> Result<Standing, StoreError> {
    let connection = work.connection();
    let Some(row) = webhook::Entity::find_by_id(id).one(connection).await? else {
        return Ok(Standing::Removed);
    };
    if let Some(owner) = row.installation_id {
        let owner = installation::Entity::find_by_id(owner).one(connection).await?;
        if owner.is_some_and(|owner| owner.suspended_by != 0) {
            return Ok(Standing::Held(HELD_BY_SUSPENSION));
        }
    }
    let state = endpoint_state::Entity::find_by_id(id).one(connection).await?;
    let stopped = state.is_some_and(|state| matches!(state.health.as_str(), "gone" | "disabled"));
    Ok(if stopped || row.is_enabled == 0 {
        Standing::Held(HELD_BY_HEALTH)
    } else {
        Standing::Open(Box::new(row))
    })
}

impl Recoveries {
    /// Puts the parts together; `per_second` is the pace of jobs that ask for none, and the most.
    pub fn new(store: Store, dispatcher: Dispatcher, seam: Seam, per_second: u32) -> Self {
        let poked = Notify::new();
        Self { inner: Arc::new(Inner { store, dispatcher, seam, per_second, poked }) }
    }

    /// Says that there is a new job.
    pub fn poke(&self) {
        self.inner.poked.notify_one();
    }

    /// Begins to send deliveries of a webhook again. The job is there when the transaction is
    /// committed.
    pub async fn begin(
        &self,
        work: &UnitOfWork,
        webhook_id: Uuid,
        request: &RecoveryRequest,
        actor: &Actor,
    ) -> Result<JobView, RecoveryRefusal> {
        let per_second = request.per_second.unwrap_or(self.inner.per_second);
        if per_second > self.inner.per_second {
            return Err(RecoveryRefusal::TooFast { limit: self.inner.per_second });
        }
        let row = match standing(work, webhook_id).await? {
            Standing::Open(row) => row,
            Standing::Held(why) => return Err(RecoveryRefusal::Held(why)),
            Standing::Removed => return Err(RecoveryRefusal::Removed),
        };
        let request = RecoveryRequest { per_second: Some(per_second), ..request.clone() };
        self.write(work, &row, &request, JobKind::Recover, actor).await
    }

    /// Writes a job, unless the webhook has one that runs.
    pub(super) async fn write(
        &self,
        work: &UnitOfWork,
        row: &webhook::Model,
        request: &RecoveryRequest,
        kind: JobKind,
        actor: &Actor,
    ) -> Result<JobView, RecoveryRefusal> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let per_second = request.per_second.unwrap_or(inner.per_second).max(1);
        let newest = inner.seam.randomness.id();
        let upper = request.until.map_or(newest, |until| id_at(until).min(newest));
        let job = recovery_job::Model {
            id: inner.seam.randomness.id(),
            webhook_id: row.id,
            org_id: row.org_id.clone(),
            extension_key: row.extension_key.clone(),
            kind: kind.name().to_owned(),
            state: "queued".to_owned(),
            running: Some(1),
            wanted_state: request.state.number(),
            event_type: request.event_type.clone(),
            status_code: request.status_code.map(i32::from),
            since: request.since.map(Timestamp::micros),
            until: request.until.map(Timestamp::micros),
            per_second: i32::try_from(per_second).unwrap_or(i32::MAX),
            position: request.since.map_or(Uuid::nil(), id_at),
            upper,
            total: None,
            total_is_estimate: 0,
            processed: 0,
            requeued: 0,
            skipped: "{}".to_owned(),
            reason: None,
            created_by: actor.name.clone(),
            created_at: now.micros(),
            started_at: None,
            finished_at: None,
            next_at: now.micros(),
        };
        let active: recovery_job::ActiveModel = job.clone().into();
        let inserted = recovery_job::Entity::insert(active.reset_all())
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(work.connection())
            .await;
        match inserted {
            Ok(0) | Err(sea_orm::DbErr::RecordNotInserted) => {
                let running = recovery_job::Entity::find()
                    .filter(recovery_job::Column::WebhookId.eq(row.id))
                    .filter(recovery_job::Column::Running.is_not_null())
                    .one(work.connection())
                    .await?;
                return Err(match running {
                    Some(running) => RecoveryRefusal::Running(running.id),
                    None => StoreError::Conflict.into(),
                });
            }
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let entry = Entry {
            chain: &row.org_id,
            action: &format!("webhook.{}", kind.name()),
            subject: format!("webhook:{}", row.id),
            detail: Some(serde_json::json!({
                "jobId": job.id,
                "state": request.state.name(),
                "since": request.since.map(Timestamp::rfc3339),
                "until": request.until.map(Timestamp::rfc3339),
                "eventType": request.event_type,
                "statusCode": request.status_code,
                "perSecond": per_second,
            })),
        };
        audit::append(work, entry, actor, now, &inner.seam.randomness).await?;
        Ok(JobView::new(job))
    }

    /// Calls a job off. What was put on its way stays there; nothing more is when this is
    /// committed, on any node.
    pub async fn cancel(
        &self,
        work: &UnitOfWork,
        scope: &EndpointScope,
        id: Uuid,
        actor: &Actor,
    ) -> Result<Result<JobView, CancelRefusal>, StoreError> {
        let now = self.inner.seam.clock.now();
        let found = recovery_job::Entity::find_by_id(id)
            .filter(condition(scope))
            .lock_exclusive()
            .one(work.connection())
            .await?;
        let Some(mut row) = found else { return Ok(Err(CancelRefusal::Unknown)) };
        match (row.running, row.state.as_str()) {
            (Some(_), _) => {}
            (None, "cancelled") => return Ok(Ok(JobView::new(row))),
            (None, _) => return Ok(Err(CancelRefusal::Ended)),
        }
        "cancelled".clone_into(&mut row.state);
        row.running = None;
        row.finished_at = Some(now.micros());
        row.reason = Some(format!("Cancelled by {}.", actor.name));
        recovery_job::Entity::update_many()
            .col_expr(recovery_job::Column::State, Expr::value(row.state.clone()))
            .col_expr(recovery_job::Column::Running, Expr::value(Option::<i16>::None))
            .col_expr(recovery_job::Column::FinishedAt, Expr::value(row.finished_at))
            .col_expr(recovery_job::Column::Reason, Expr::value(row.reason.clone()))
            .filter(recovery_job::Column::Id.eq(id))
            .exec(work.connection())
            .await?;
        if row.wanted_state == DeliveryState::Held.number() {
            // What it has not released stays held until somebody asks again.
            endpoint_state::Entity::update_many()
                .col_expr(endpoint_state::Column::KeepsHeldBefore, Expr::value(row.upper))
                .filter(endpoint_state::Column::EndpointId.eq(row.webhook_id))
                .exec(work.connection())
                .await?;
        }
        let entry = Entry {
            chain: &row.org_id,
            action: "job.cancel",
            // Erased with the webhook: what it is filed under must say so.
            subject: format!("webhook:{}", row.webhook_id),
            detail: Some(serde_json::json!({ "jobId": id, "webhookId": row.webhook_id })),
        };
        audit::append(work, entry, actor, now, &self.inner.seam.randomness).await?;
        Ok(Ok(JobView::new(row)))
    }
}

fn condition(scope: &EndpointScope) -> Condition {
    match scope {
        EndpointScope::All => Condition::all(),
        EndpointScope::Org(org) => Condition::all().add(recovery_job::Column::OrgId.eq(org)),
        EndpointScope::Extensions(keys) => {
            Condition::all().add(recovery_job::Column::ExtensionKey.is_in(keys.iter().cloned()))
        }
    }
}

/// Reads one job; nothing where the caller may not see it.
pub async fn find_job(
    store: &Store,
    scope: &EndpointScope,
    id: Uuid,
) -> Result<Option<JobView>, StoreError> {
    let row =
        recovery_job::Entity::find_by_id(id).filter(condition(scope)).one(store.reader()).await?;
    Ok(row.map(JobView::new))
}

/// Lists jobs, newest first.
pub async fn list_jobs(
    store: &Store,
    scope: &EndpointScope,
    filter: &JobFilter,
) -> Result<Vec<JobView>, StoreError> {
    let mut query = recovery_job::Entity::find()
        .filter(condition(scope))
        .order_by_desc(recovery_job::Column::Id)
        .limit(filter.limit);
    if let Some(id) = filter.webhook_id {
        query = query.filter(recovery_job::Column::WebhookId.eq(id));
    }
    if let Some(state) = &filter.state {
        query = query.filter(recovery_job::Column::State.eq(state));
    }
    if let Some(before) = filter.before {
        query = query.filter(recovery_job::Column::Id.lt(before));
    }
    Ok(query.all(store.reader()).await?.into_iter().map(JobView::new).collect())
}
