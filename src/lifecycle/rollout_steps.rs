//! The steps of rollouts: paced, some installations each, every installation a transaction of its
//! own.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, Query, SimpleExpr},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consent::Round;
use super::error::LifecycleError;
use super::rollout::{Rollouts, end, processed, save};
use super::upgrade::{UpgradeChange, Wish};
use crate::audit::Actor;
use crate::catalogue::{self, VersionRow};
use crate::seam::{Timestamp, crash_point};
use crate::store::entity::{extension_version, installation, rollout_item, rollout_job};
use crate::store::{RoutingRevision, StoreError};

/// How often jobs and upgrades that wait are looked for where nothing pokes.
const POLL: Duration = Duration::from_secs(1);

/// The most installations of one step.
const STEP: u64 = 25;

/// For how long a job is left alone after a failure.
const TROUBLE: Duration = Duration::from_secs(2);

/// How often an installation is tried that the database refuses, before it counts as failed.
const MOST_TRIES: u32 = 5;

/// No step puts the next one further away.
const FURTHEST: Duration = Duration::from_mins(1);

/// What came of an installation's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Upgraded,
    Waiting,
    Unchanged,
    Failed(String),
    /// It is not installed any more, or another version serves it than those that were meant.
    Skipped,
}

impl Turn {
    const fn name(&self) -> &'static str {
        match self {
            Self::Upgraded => "upgraded",
            Self::Waiting => "waiting",
            Self::Unchanged => "unchanged",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What this node remembers of jobs that made trouble.
#[derive(Debug, Default)]
struct Troubles {
    until: HashMap<Uuid, tokio::time::Instant>,
    tries: HashMap<(Uuid, Uuid), u32>,
}

impl Rollouts {
    /// Takes steps of the jobs that run, and ends the waiting of upgrades that is over, until told
    /// to stop.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.lifecycle.inner.seam.clock.clone();
        let mut troubles = Troubles::default();
        let mut next_look = clock.instant();
        let mut round = Round::BEGIN;
        while !stop.is_cancelled() {
            if clock.instant() >= next_look {
                let settled = self.lifecycle.settle_overdue(&mut round).await;
                if let Err(error) = &settled {
                    tracing::warn!(%error, "cannot end the waiting of upgrades; tried again");
                }
                if settled.is_err() || round.is_over() {
                    round = Round::BEGIN;
                    next_look = clock.instant() + POLL;
                }
            }
            let pause = match self.step(&mut troubles).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "a step of a rollout failed; tried again");
                    Some(POLL)
                }
            };
            let Some(pause) = pause else { continue };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.poked.notified() => {}
                () = clock.sleep(pause.min(POLL)) => {}
            }
        }
    }

    /// One step of the job that has waited longest. Returns how long to wait for the next, where
    /// nothing is due.
    async fn step(&self, troubles: &mut Troubles) -> Result<Option<Duration>, LifecycleError> {
        let inner = &self.lifecycle.inner;
        let (now, instant) = (inner.seam.clock.now(), inner.seam.clock.instant());
        troubles.until.retain(|_, until| *until > instant);
        let next = rollout_job::Entity::find()
            .filter(rollout_job::Column::Running.is_not_null())
            .filter(rollout_job::Column::Id.is_not_in(troubles.until.keys().copied()))
            .order_by_asc(rollout_job::Column::NextAt)
            .limit(1)
            .one(inner.store.reader())
            .await?;
        let Some(job) = next else { return Ok(Some(POLL)) };
        let next_at = Timestamp::from_micros(job.next_at);
        // Further away than any step puts it: the time of day was set back.
        if next_at > now && next_at.since(now) < FURTHEST {
            return Ok(Some(next_at.since(now).max(Duration::from_millis(1))));
        }
        let id = job.id;
        let done = self.step_of(job, troubles).await;
        match &done {
            Ok(()) => troubles.tries.retain(|(job, _), _| *job != id),
            Err(_) => {
                troubles.until.insert(id, instant + TROUBLE);
            }
        }
        done.map(|()| None)
    }

    async fn step_of(
        &self,
        job: rollout_job::Model,
        troubles: &mut Troubles,
    ) -> Result<(), LifecycleError> {
        let inner = &self.lifecycle.inner;
        let version = catalogue::version_by_id(&inner.store, job.version_id).await?;
        if version.withdrawn_at.is_some() {
            let reason = format!("Version {} was withdrawn.", job.version);
            return self.write(&job, |row, now| end(row, "failed", Some(reason), now)).await;
        }
        let versions = self.versions_of(&job).await?;
        if job.total.is_none() {
            let total = matching(&job, versions.as_deref())?.count(inner.store.reader()).await?;
            let total = i64::try_from(total).unwrap_or(i64::MAX);
            return self
                .write(&job, |row, now| {
                    row.total = Some(total);
                    row.started_at = Some(now.micros());
                    "running".clone_into(&mut row.state);
                })
                .await;
        }
        let wanted = (u64::try_from(job.per_second).unwrap_or(1) / 2).clamp(1, STEP);
        let next: Vec<Uuid> = matching(&job, versions.as_deref())?
            .select_only()
            .column(installation::Column::Id)
            .filter(installation::Column::Id.gt(job.position))
            .filter(had_no_turn(job.id))
            .order_by_asc(installation::Column::Id)
            .limit(wanted)
            .into_tuple()
            .all(inner.store.reader())
            .await?;
        if next.is_empty() {
            return self.come_to_the_end(&job).await;
        }
        let mut settle = RoutingRevision(None);
        let mut seen = job;
        for id in next {
            let Some((row, revision)) =
                self.turn_or_fail(&seen, &version, versions.as_deref(), id, troubles).await?
            else {
                // Another node goes on, or somebody called it off.
                break;
            };
            settle = revision.max(settle);
            seen = row;
        }
        inner.routing.settle(settle).await?;
        inner.revocations.poke();
        inner.dispatcher.poke();
        Ok(())
    }

    /// Nothing is left behind the position: once more from the beginning, for whoever was installed
    /// meanwhile under an id that is not later; and then it is done.
    async fn come_to_the_end(&self, job: &rollout_job::Model) -> Result<(), LifecycleError> {
        if !job.position.is_nil() {
            return self.write(job, |row, _| row.position = Uuid::nil()).await;
        }
        self.write(job, |row, now| {
            // Those that were counted at the beginning, and went before their turn.
            let left = row.total.unwrap_or_default() - processed(row);
            row.skipped += left.max(0);
            end(row, "done", None, now);
        })
        .await
    }

    /// Changes the row of a job, unless another node did meanwhile.
    async fn write(
        &self,
        seen: &rollout_job::Model,
        change: impl FnOnce(&mut rollout_job::Model, Timestamp),
    ) -> Result<(), LifecycleError> {
        let inner = &self.lifecycle.inner;
        let work = inner.store.begin().await?;
        let current = rollout_job::Entity::find_by_id(seen.id)
            .lock_exclusive()
            .one(work.connection())
            .await?;
        let Some(mut row) = current.filter(|current| current == seen) else {
            return Ok(work.rollback().await?);
        };
        let now = inner.seam.clock.now();
        change(&mut row, now);
        row.next_at = later(&row, now, Duration::ZERO);
        save(&work, &row).await?;
        let _settled = work.commit(now).await?;
        Ok(())
    }

    /// One installation's turn; what cannot be done is written down, and the others go on.
    async fn turn_or_fail(
        &self,
        job: &rollout_job::Model,
        version: &VersionRow,
        versions: Option<&[Uuid]>,
        id: Uuid,
        troubles: &mut Troubles,
    ) -> Result<Option<(rollout_job::Model, RoutingRevision)>, LifecycleError> {
        let refusal = match self.turn(job, version, versions, id).await {
            Ok(done) => return Ok(done),
            Err(refusal) => refusal,
        };
        let is_passing = matches!(
            refusal,
            LifecycleError::Store(_)
                | LifecycleError::Routing(_)
                | LifecycleError::OAuth(crate::oauth::OAuthError::Store(_))
                | LifecycleError::Catalogue(catalogue::CatalogueError::Store(_))
        );
        if is_passing {
            let tries = troubles.tries.entry((job.id, id)).or_insert(0);
            *tries += 1;
            if *tries < MOST_TRIES {
                return Err(refusal);
            }
        }
        self.had_turn(job, id, Turn::Failed(refusal.to_string())).await
    }

    /// One installation's turn, with the upgrade and how far the job came in one transaction.
    /// Nothing where the job is not as it was seen.
    async fn turn(
        &self,
        seen: &rollout_job::Model,
        version: &VersionRow,
        versions: Option<&[Uuid]>,
        id: Uuid,
    ) -> Result<Option<(rollout_job::Model, RoutingRevision)>, LifecycleError> {
        let lifecycle = &self.lifecycle;
        let mut work = lifecycle.begin().await?;
        let Some(mut row) = current(&work, seen).await? else {
            work.rollback().await?;
            return Ok(None);
        };
        let now = lifecycle.inner.seam.clock.now();
        let mut locked = lifecycle.lock(&work, id).await?;
        let is_meant = locked.row.live == 1
            && versions.is_none_or(|versions| versions.contains(&locked.row.version_id));
        let turn = if is_meant {
            let deadline = row.update_before.map(Timestamp::from_micros);
            let is_over = deadline.is_some_and(|deadline| deadline <= now);
            let is_dry = row.dry_run != 0;
            let wish = |is_dry| Wish {
                version: version.clone(),
                config: None,
                return_url: None,
                deadline: deadline.filter(|_| !is_over),
                rollout_id: Some(row.id),
                asks: false,
                is_dry,
            };
            let actor = Actor { name: row.created_by.clone(), address: None };
            // Where nobody can agree any more, it is looked at before anything is asked.
            let looks = is_dry || is_over;
            let mut outcome =
                Box::pin(lifecycle.propose(&mut work, &mut locked, wish(looks), &actor)).await?;
            if !is_dry && is_over && outcome.change != UpgradeChange::Waits {
                outcome = Box::pin(lifecycle.propose(&mut work, &mut locked, wish(false), &actor))
                    .await?;
            }
            match outcome.change {
                UpgradeChange::Nothing => Turn::Unchanged,
                UpgradeChange::Applied => Turn::Upgraded,
                UpgradeChange::Waits if is_over => {
                    Turn::Failed("it needs consent, and updateBefore has passed".to_owned())
                }
                UpgradeChange::Waits => Turn::Waiting,
            }
        } else {
            Turn::Skipped
        };
        note(&work, &mut row, id, &turn, now).await?;
        crash_point("rollout.before-commit");
        let revision = work.commit(now).await?;
        crash_point("upgrade.after-commit");
        Ok(Some((row, revision)))
    }

    /// Writes down what came of an installation's turn, where that is all there is to write.
    async fn had_turn(
        &self,
        seen: &rollout_job::Model,
        id: Uuid,
        turn: Turn,
    ) -> Result<Option<(rollout_job::Model, RoutingRevision)>, LifecycleError> {
        let inner = &self.lifecycle.inner;
        let work = inner.store.begin().await?;
        let Some(mut row) = current(&work, seen).await? else {
            work.rollback().await?;
            return Ok(None);
        };
        let now = inner.seam.clock.now();
        note(&work, &mut row, id, &turn, now).await?;
        Ok(Some((row, work.commit(now).await?)))
    }

    /// The versions that installations must be served by to be meant.
    async fn versions_of(
        &self,
        job: &rollout_job::Model,
    ) -> Result<Option<Vec<Uuid>>, LifecycleError> {
        let Some(text) = &job.from_versions else { return Ok(None) };
        let names: Vec<String> = serde_json::from_str(text)
            .map_err(|_| LifecycleError::Unreadable { what: "rollout" })?;
        let rows = extension_version::Entity::find()
            .filter(extension_version::Column::ExtensionKey.eq(&job.extension_key))
            .filter(extension_version::Column::Version.is_in(names))
            .all(self.lifecycle.inner.store.reader())
            .await?;
        Ok(Some(rows.into_iter().map(|row| row.id).collect()))
    }
}

/// The job under its lock, where it is as it was seen.
async fn current(
    work: &crate::store::UnitOfWork,
    seen: &rollout_job::Model,
) -> Result<Option<rollout_job::Model>, StoreError> {
    let row =
        rollout_job::Entity::find_by_id(seen.id).lock_exclusive().one(work.connection()).await?;
    Ok(row.filter(|row| row == seen))
}

/// Counts a turn, and puts the next one off as the pace asks.
async fn note(
    work: &crate::store::UnitOfWork,
    row: &mut rollout_job::Model,
    id: Uuid,
    turn: &Turn,
    now: Timestamp,
) -> Result<(), StoreError> {
    let reason = match turn {
        Turn::Failed(reason) => Some(without_nul(reason)),
        _ => None,
    };
    rollout_item::Entity::insert(rollout_item::ActiveModel {
        rollout_id: Set(row.id),
        installation_id: Set(id),
        outcome: Set(turn.name().to_owned()),
        reason: Set(reason),
        at: Set(now.micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    let counter = match turn {
        Turn::Upgraded => &mut row.upgraded,
        Turn::Waiting => &mut row.waiting,
        Turn::Unchanged => &mut row.unchanged,
        Turn::Failed(_) => &mut row.failed,
        Turn::Skipped => &mut row.skipped,
    };
    *counter += 1;
    // Those that were installed since the beginning are more than were counted.
    let processed = processed(row);
    row.total = row.total.map(|total| total.max(processed));
    row.position = id;
    let per_second = u32::try_from(row.per_second).unwrap_or(1).max(1);
    row.next_at = later(row, now, Duration::from_secs(1) / per_second);
    save(work, row).await
}

/// Strictly later each time, so that a step that another node read meanwhile is known as old.
fn later(row: &rollout_job::Model, now: Timestamp, pause: Duration) -> i64 {
    let next = row.next_at.min(now.plus(FURTHEST).micros()) + 1;
    now.micros().max(next).saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX))
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The live installations that a rollout is for.
fn matching(
    job: &rollout_job::Model,
    versions: Option<&[Uuid]>,
) -> Result<Select<installation::Entity>, LifecycleError> {
    let mut query = installation::Entity::find()
        .filter(installation::Column::ExtensionKey.eq(&job.extension_key))
        .filter(installation::Column::Live.eq(1));
    if let Some(text) = &job.org_ids {
        let orgs: Vec<String> = serde_json::from_str(text)
            .map_err(|_| LifecycleError::Unreadable { what: "rollout" })?;
        query = query.filter(installation::Column::OrgId.is_in(orgs));
    }
    if let Some(versions) = versions {
        query = query.filter(installation::Column::VersionId.is_in(versions.iter().copied()));
    }
    Ok(query)
}

fn had_no_turn(job: Uuid) -> SimpleExpr {
    use sea_orm::sea_query::ExprTrait;
    let mut items = Query::select();
    items
        .expr(Expr::val(1))
        .from(rollout_item::Entity)
        .and_where(rollout_item::Column::RolloutId.eq(job))
        .and_where(
            Expr::col((rollout_item::Entity, rollout_item::Column::InstallationId))
                .equals((installation::Entity, installation::Column::Id)),
        );
    Expr::exists(items).not()
}
