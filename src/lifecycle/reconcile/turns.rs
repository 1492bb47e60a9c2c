//! The periodic pass, one node at a time, and the reports that are kept.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};
use tokio_util::sync::CancellationToken;

use super::drift::Report;
use super::pass::{PassLimits, PassPosition, Reconciler};
use crate::audit::Actor;
use crate::lifecycle::LifecycleError;
use crate::notice::{Notice, NoticeKind};
use crate::store::entity::reconcile_run;
use crate::store::{Store, StoreError, UnitOfWork};
use crate::telemetry::METRICS;

/// How many reports are kept.
const KEPT: u64 = 20;

/// How often a node looks whether it is time, at the most.
const LONGEST_LOOK: Duration = Duration::from_mins(1);

/// How often a node looks, at the least.
const SHORTEST_LOOK: Duration = Duration::from_millis(500);

/// The pause between the pages of a periodic pass.
const PAUSE: Duration = Duration::from_millis(50);

/// What a kept notice is about.
const SUBJECT: &str = "reconciler";

impl Reconciler {
    /// Makes a pass that may repair, keeps its report and tells the operator of findings.
    pub async fn kept_pass(
        &self,
        actor: &Actor,
        limits: PassLimits,
    ) -> Result<Report, LifecycleError> {
        let is_whole = limits.after == PassPosition::default();
        let report = self.pass(true, actor, limits).await?;
        self.keep(&report, is_whole, actor).await?;
        Ok(report)
    }

    /// Keeps the report of a pass, and tells the operator. Only one that saw everything says that
    /// nothing is left.
    async fn keep(
        &self,
        report: &Report,
        is_whole: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        let text = serde_json::to_string(report)
            .map_err(|_| LifecycleError::Unreadable { what: "report of the reconciler" })?;
        let work = inner.store.begin().await?;
        reconcile_run::Entity::insert(reconcile_run::ActiveModel {
            id: Set(inner.seam.randomness.id()),
            requested_by: Set(actor.name.clone()),
            report: Set(text),
        })
        .exec_without_returning(work.connection())
        .await?;
        let oldest = reconcile_run::Entity::find()
            .order_by_desc(reconcile_run::Column::Id)
            .offset(KEPT - 1)
            .one(work.connection())
            .await?;
        if let Some(oldest) = oldest {
            reconcile_run::Entity::delete_many()
                .filter(reconcile_run::Column::Id.lt(oldest.id))
                .exec(work.connection())
                .await?;
        }
        if report.found > 0 {
            self.post(&work, report).await?;
        } else if report.complete && is_whole {
            inner.board.resolve(&work, &[NoticeKind::LifecycleDrift], SUBJECT).await?;
        }
        let _settled = work.commit(inner.seam.clock.now()).await?;
        Ok(())
    }

    async fn post(&self, work: &UnitOfWork, report: &Report) -> Result<(), StoreError> {
        let notice = Notice {
            kind: NoticeKind::LifecycleDrift,
            subject: SUBJECT.to_owned(),
            org_id: String::new(),
            extension_key: None,
            installation_id: None,
            webhook_id: None,
            message: format!(
                "The reconciler found what should not be: {}. GET /api/v1/reconcile lists it; \
                 look for who changes the database beside Mortise.",
                report.summary()
            ),
        };
        self.inner.board.post(work, &notice).await
    }

    /// Looks at what this node alone has: its routing. Tells the operator where it was stale.
    async fn look_at_own(&self, repair: bool) -> Result<(), LifecycleError> {
        let mut report = Report { repair, ..Report::default() };
        self.compare_own_routing(&mut report, repair).await?;
        if report.found == 0 {
            return Ok(());
        }
        tracing::warn!(summary = report.summary(), "this node routed by something stale");
        let work = self.inner.store.begin().await?;
        self.post(&work, &report).await?;
        let _settled = work.commit(self.inner.seam.clock.now()).await?;
        Ok(())
    }

    /// Takes the turn where it is due: says where the last one stopped. Nothing where it is not due,
    /// or another node has it.
    async fn take_turn(&self, every: Duration) -> Result<Option<PassPosition>, StoreError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let work = inner.store.begin().await?;
        let taken = work
            .connection()
            .query_one_raw(Statement::from_sql_and_values(
                inner.store.dialect(),
                // A time that lies further ahead than a turn was written by a clock that was.
                "update reconcile_turns set next_at = $1
                 where singleton = 1 and (next_at <= $2 or next_at > $1)
                 returning position",
                [now.plus(every).micros().into(), now.micros().into()],
            ))
            .await?;
        let _settled = work.commit(now).await?;
        let Some(row) = taken else { return Ok(None) };
        // A place that this release does not know is the beginning.
        let position: String = row.try_get_by_index(0)?;
        Ok(Some(position.parse().unwrap_or_default()))
    }

    /// Keeps where a turn stopped: the next one, on whatever node, goes on there.
    async fn keep_position(&self, next: Option<&str>) -> Result<(), StoreError> {
        let inner = &self.inner;
        let work = inner.store.begin().await?;
        work.connection()
            .execute_raw(Statement::from_sql_and_values(
                inner.store.dialect(),
                "update reconcile_turns set position = $1 where singleton = 1",
                [next.unwrap_or_default().into()],
            ))
            .await?;
        let _settled = work.commit(inner.seam.clock.now()).await?;
        Ok(())
    }
}

/// Makes a pass in every so long, on one node at a time, until told to stop. What only a node itself
/// can see, each looks at as often.
pub async fn run(reconciler: Reconciler, every: Duration, repair: bool, stop: CancellationToken) {
    let seam = &reconciler.inner.seam;
    let actor = Actor::system("reconciler");
    let look = (every / 10).clamp(SHORTEST_LOOK, LONGEST_LOOK);
    let mut next_own = seam.clock.instant() + every;
    loop {
        // Nodes that start together do not look together.
        let pause = look.mul_f64(0.5 + seam.randomness.fraction() / 2.0);
        tokio::select! {
            () = stop.cancelled() => return,
            () = seam.clock.sleep(pause) => {}
        }
        let is_due = seam.clock.instant() >= next_own;
        if is_due {
            next_own = seam.clock.instant() + every;
        }
        let turn = async {
            if is_due {
                reconciler.look_at_own(repair).await?;
            }
            let Some(after) = reconciler.take_turn(every).await? else {
                return Ok(None);
            };
            let is_whole = after == PassPosition::default();
            let limits = PassLimits { time: Some(every), pause: PAUSE, after };
            let report = reconciler.pass(repair, &actor, limits).await?;
            reconciler.keep_position(report.next.as_deref()).await?;
            reconciler.keep(&report, is_whole, &actor).await?;
            Ok::<_, LifecycleError>(Some(report))
        };
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = turn => done,
        };
        if let Ok(Some(report)) = &done {
            count(report);
        }
        match done {
            Ok(Some(report)) if report.found > 0 => {
                tracing::warn!(summary = report.summary(), "the reconciler found differences");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the reconciler could not finish; tried again"),
        }
    }
}

fn count(report: &Report) {
    METRICS.reconciler_passes.add(1);
    METRICS.reconciler_repaired.add(report.repaired);
    for (kind, found) in &report.counts {
        METRICS.reconciler_findings.add([kind], *found);
    }
}

/// The report of the last pass that was kept, with who asked for it.
pub async fn last_report(store: &Store) -> Result<Option<(String, Report)>, LifecycleError> {
    let row = reconcile_run::Entity::find()
        .order_by_desc(reconcile_run::Column::Id)
        .one(store.reader())
        .await?;
    row.map(|row| {
        let report = serde_json::from_str(&row.report)
            .map_err(|_| LifecycleError::Unreadable { what: "report of the reconciler" })?;
        Ok((row.requested_by, report))
    })
    .transpose()
}
