//! Rollouts: one version for all installations of an extension, as a job that is followed and
//! called off.
//!
//! A job is one row. Each installation has its turn in a transaction of its own that locks the row
//! first and writes down that the turn was had: a crash loses and repeats nothing, whichever node
//! goes on.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, sea_query::Expr,
};
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::Lifecycle;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::catalogue::{self, VersionRow};
use crate::identifier::OrgId;
use crate::seam::Timestamp;
use crate::store::entity::{rollout_item, rollout_job, upgrade};
use crate::store::{Store, StoreError, UnitOfWork};

/// How many installations a second have their turn where nothing is said.
const DEFAULT_PER_SECOND: u32 = 50;

/// The most installations a second.
const MOST_PER_SECOND: u32 = 500;

/// The most orgs that a rollout can be limited to.
const MOST_ORGS: usize = 1_000;

/// The most versions that a rollout can be limited to.
const MOST_VERSIONS: usize = 100;

/// How many failed installations are shown.
const FAILURES_SHOWN: u64 = 20;

/// What is to be rolled out, and to whom.
#[derive(Clone, Debug, Default)]
pub struct RolloutRequest {
    /// How many installations a second.
    pub per_second: Option<u32>,
    /// Until when those that need consent wait for it.
    pub update_before: Option<Timestamp>,
    /// Installations in these orgs only.
    pub org_ids: Option<Vec<OrgId>>,
    /// Installations that these versions serve only.
    pub from_versions: Option<Vec<String>>,
    /// Whether nothing is changed, only counted.
    pub is_dry: bool,
}

/// Which rollouts a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutScope {
    /// All of them.
    All,
    /// Those of some extensions.
    Extensions(Vec<String>),
    /// None.
    Nothing,
}

impl RolloutScope {
    fn condition(&self) -> Condition {
        match self {
            Self::All => Condition::all(),
            Self::Extensions(keys) => {
                Condition::all().add(rollout_job::Column::ExtensionKey.is_in(keys.iter().cloned()))
            }
            Self::Nothing => Condition::all().add(Expr::cust("1 = 0")),
        }
    }
}

/// An installation that could not be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutFailure {
    /// The installation.
    pub installation_id: Uuid,
    /// Why.
    pub reason: String,
}

/// A rollout as it is shown.
#[derive(Clone, Debug)]
pub struct RolloutView {
    pub(crate) row: rollout_job::Model,
    /// How many wait for consent now.
    pub waiting: i64,
    /// How many were upgraded, those that waited for consent and got it among them.
    pub upgraded: i64,
    /// How many waited and will not be upgraded: nobody agreed in time, or something else came.
    pub lapsed: i64,
    /// Some of those that failed; only where one rollout is asked for.
    pub failures: Option<Vec<RolloutFailure>>,
}

impl RolloutView {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }

    /// How many have had their turn.
    pub fn processed(&self) -> i64 {
        processed(&self.row)
    }
}

/// How many installations have had their turn.
pub(super) fn processed(row: &rollout_job::Model) -> i64 {
    row.upgraded + row.waiting + row.unchanged + row.failed + row.skipped
}

/// Why a rollout was not called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutCancelRefusal {
    /// There is none that the caller may see.
    Unknown,
    /// It has ended.
    Ended,
}

/// The rollouts. Cloning shares them.
#[derive(Clone)]
pub struct Rollouts {
    pub(super) lifecycle: Lifecycle,
    pub(super) poked: Arc<Notify>,
}

impl fmt::Debug for Rollouts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rollouts").finish_non_exhaustive()
    }
}

impl Rollouts {
    /// Rollouts of installations.
    pub fn new(lifecycle: Lifecycle) -> Self {
        Self { lifecycle, poked: Arc::default() }
    }

    /// Says that there is a new job.
    pub fn poke(&self) {
        self.poked.notify_one();
    }

    /// Begins a rollout. The job is there when the transaction is committed.
    pub async fn begin(
        &self,
        work: &UnitOfWork,
        version: &VersionRow,
        request: &RolloutRequest,
        actor: &Actor,
    ) -> Result<RolloutView, LifecycleError> {
        let seam = &self.lifecycle.inner.seam;
        let now = seam.clock.now();
        if version.withdrawn_at.is_some() {
            let (key, version) = (version.extension_key.clone(), version.version.clone());
            return Err(catalogue::CatalogueError::Withdrawn { key, version }.into());
        }
        check(request, now)?;
        // In turn: of two that begin at once, the later one sees the first.
        self.lifecycle.lock_extension(work, &version.extension_key).await?;
        if !request.is_dry {
            let running = rollout_job::Entity::find()
                .filter(rollout_job::Column::ExtensionKey.eq(&version.extension_key))
                .filter(rollout_job::Column::Running.is_not_null())
                .filter(rollout_job::Column::DryRun.eq(0))
                .one(work.connection())
                .await?;
            if let Some(running) = running {
                return Err(LifecycleError::RolloutRuns {
                    extension: version.extension_key.clone(),
                    job: running.id,
                });
            }
        }
        let per_second = request.per_second.unwrap_or(DEFAULT_PER_SECOND);
        let row = rollout_job::Model {
            id: seam.randomness.id(),
            extension_key: version.extension_key.clone(),
            version_id: version.id,
            version: version.version.clone(),
            state: "queued".to_owned(),
            running: Some(1),
            dry_run: i16::from(request.is_dry),
            per_second: i32::try_from(per_second).unwrap_or(i32::MAX),
            update_before: request.update_before.map(Timestamp::micros),
            org_ids: request.org_ids.as_ref().map(|ids| json!(ids).to_string()),
            from_versions: request.from_versions.as_ref().map(|ids| json!(ids).to_string()),
            position: Uuid::nil(),
            total: None,
            upgraded: 0,
            waiting: 0,
            unchanged: 0,
            failed: 0,
            skipped: 0,
            reason: None,
            created_by: actor.name.clone(),
            created_at: now.micros(),
            started_at: None,
            finished_at: None,
            next_at: now.micros(),
        };
        let active: rollout_job::ActiveModel = row.clone().into();
        rollout_job::Entity::insert(active.reset_all())
            .exec_without_returning(work.connection())
            .await?;
        let entry = Entry {
            chain: PLATFORM_CHAIN,
            action: "extension.rollout",
            subject: format!("extension:{}@{}", version.extension_key, version.version),
            detail: Some(json!({
                "jobId": row.id,
                "dryRun": request.is_dry,
                "perSecond": per_second,
                "updateBefore": request.update_before.map(Timestamp::rfc3339),
                "orgIds": request.org_ids,
                "fromVersions": request.from_versions,
            })),
        };
        audit::append(work, entry, actor, now, &seam.randomness).await?;
        Ok(view(row, None))
    }

    /// Calls a rollout off. What had its turn stays as it is; nothing more has one when this is
    /// committed, on any node.
    pub async fn cancel(
        &self,
        work: &UnitOfWork,
        scope: &RolloutScope,
        id: Uuid,
        actor: &Actor,
    ) -> Result<Result<RolloutView, RolloutCancelRefusal>, StoreError> {
        let seam = &self.lifecycle.inner.seam;
        let now = seam.clock.now();
        let found = rollout_job::Entity::find_by_id(id)
            .filter(scope.condition())
            .lock_exclusive()
            .one(work.connection())
            .await?;
        let Some(mut row) = found else { return Ok(Err(RolloutCancelRefusal::Unknown)) };
        match (row.running, row.state.as_str()) {
            (Some(_), _) => {}
            (None, "cancelled") => return Ok(Ok(view(row, None))),
            (None, _) => return Ok(Err(RolloutCancelRefusal::Ended)),
        }
        end(&mut row, "cancelled", Some(format!("Cancelled by {}.", actor.name)), now);
        save(work, &row).await?;
        let entry = Entry {
            chain: PLATFORM_CHAIN,
            action: "job.cancel",
            subject: format!("job:{id}"),
            detail: Some(json!({ "extensionKey": row.extension_key, "version": row.version })),
        };
        audit::append(work, entry, actor, now, &seam.randomness).await?;
        Ok(Ok(view(row, None)))
    }
}

fn check(request: &RolloutRequest, now: Timestamp) -> Result<(), LifecycleError> {
    let fault = |field: &str, message: String| LifecycleError::field(field, message);
    if request.per_second.is_some_and(|wanted| wanted == 0 || wanted > MOST_PER_SECOND) {
        let message = format!("perSecond must be 1 to {MOST_PER_SECOND}");
        return Err(fault("/perSecond", message));
    }
    if request.update_before.is_some_and(|deadline| deadline <= now) {
        let message = "updateBefore must be a moment to come".to_owned();
        return Err(fault("/updateBefore", message));
    }
    let is_count = |count: usize, most: usize| (1..=most).contains(&count);
    if request.org_ids.as_ref().is_some_and(|ids| !is_count(ids.len(), MOST_ORGS)) {
        let message = format!("orgIds must name 1 to {MOST_ORGS} orgs; leave it out for all");
        return Err(fault("/orgIds", message));
    }
    if request.from_versions.as_ref().is_some_and(|ids| !is_count(ids.len(), MOST_VERSIONS)) {
        let message =
            format!("fromVersions must name 1 to {MOST_VERSIONS} versions; leave it out for all");
        return Err(fault("/fromVersions", message));
    }
    Ok(())
}

/// Ends a job.
pub(super) fn end(
    row: &mut rollout_job::Model,
    state: &str,
    reason: Option<String>,
    now: Timestamp,
) {
    state.clone_into(&mut row.state);
    row.running = None;
    row.reason = reason;
    row.finished_at = Some(now.micros());
}

/// Writes the whole row of a job.
pub(super) async fn save(work: &UnitOfWork, row: &rollout_job::Model) -> Result<(), StoreError> {
    let active: rollout_job::ActiveModel = row.clone().into();
    rollout_job::Entity::update(active.reset_all()).exec(work.connection()).await?;
    Ok(())
}

/// What became of the upgrades of a rollout that waited.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    waiting: i64,
    given: i64,
}

fn view(row: rollout_job::Model, settled: Option<Settled>) -> RolloutView {
    let settled = settled.unwrap_or(Settled { waiting: row.waiting, given: 0 });
    let (waiting, upgraded) = (settled.waiting, row.upgraded + settled.given);
    let lapsed = (row.waiting - settled.waiting - settled.given).max(0);
    RolloutView { row, waiting, upgraded, lapsed, failures: None }
}

/// How many upgrades of a rollout are in a state.
#[derive(Debug, FromQueryResult)]
struct Counted {
    rollout_id: Uuid,
    state: String,
    count: i64,
}

async fn settled(store: &Store, ids: Vec<Uuid>) -> Result<HashMap<Uuid, Settled>, StoreError> {
    let mut found: HashMap<Uuid, Settled> = HashMap::new();
    let rows: Vec<Counted> = upgrade::Entity::find()
        .select_only()
        .columns([upgrade::Column::RolloutId, upgrade::Column::State])
        .column_as(upgrade::Column::Id.count(), "count")
        .filter(upgrade::Column::RolloutId.is_in(ids))
        .group_by(upgrade::Column::RolloutId)
        .group_by(upgrade::Column::State)
        .into_model()
        .all(store.reader())
        .await?;
    for row in rows {
        let entry = found.entry(row.rollout_id).or_default();
        match row.state.as_str() {
            "waiting" => entry.waiting += row.count,
            "given" => entry.given += row.count,
            _ => {}
        }
    }
    Ok(found)
}

async fn views(
    store: &Store,
    rows: Vec<rollout_job::Model>,
) -> Result<Vec<RolloutView>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let settled = settled(store, rows.iter().map(|row| row.id).collect()).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let is_dry = row.dry_run != 0;
            let counted = settled.get(&row.id).copied().unwrap_or_default();
            view(row, (!is_dry).then_some(counted))
        })
        .collect())
}

/// Reads one rollout; nothing where the caller may not see it.
pub async fn find_rollout(
    store: &Store,
    scope: &RolloutScope,
    id: Uuid,
) -> Result<Option<RolloutView>, StoreError> {
    let row =
        rollout_job::Entity::find_by_id(id).filter(scope.condition()).one(store.reader()).await?;
    let Some(mut found) = views(store, row.into_iter().collect()).await?.pop() else {
        return Ok(None);
    };
    let failed = rollout_item::Entity::find()
        .filter(rollout_item::Column::RolloutId.eq(id))
        .filter(rollout_item::Column::Outcome.eq("failed"))
        .order_by_asc(rollout_item::Column::InstallationId)
        .limit(FAILURES_SHOWN)
        .all(store.reader())
        .await?;
    found.failures = Some(
        failed
            .into_iter()
            .map(|row| RolloutFailure {
                installation_id: row.installation_id,
                reason: row.reason.unwrap_or_default(),
            })
            .collect(),
    );
    Ok(Some(found))
}

/// Lists rollouts, newest first.
pub async fn list_rollouts(
    store: &Store,
    scope: &RolloutScope,
    state: Option<&str>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<RolloutView>, StoreError> {
    let mut query = rollout_job::Entity::find()
        .filter(scope.condition())
        .order_by_desc(rollout_job::Column::Id)
        .limit(limit);
    if let Some(state) = state {
        query = query.filter(rollout_job::Column::State.eq(state));
    }
    if let Some(before) = before {
        query = query.filter(rollout_job::Column::Id.lt(before));
    }
    views(store, query.all(store.reader()).await?).await
}
