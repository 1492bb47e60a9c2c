//! An org closes: every live installation is uninstalled through the ordinary step, and what is kept
//! of former ones is erased. The row of the closure is written first, so that it goes on after a
//! crash; while it is open, nothing new is installed in the org.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select, Statement,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::erasing::role_of;
use super::erasure;
use super::error::LifecycleError;
use super::people::end_visits;
use super::service::Lifecycle;
use super::state::Phase;
use super::uninstall::UninstallRequest;
use crate::audit::{self, Actor, Entry};
use crate::identifier::InstallationId;
use crate::notice::{Notice, NoticeKind};
use crate::seam::{Timestamp, crash_point};
use crate::store::entity::{installation, org_closure};
use crate::store::{RoutingRevision, UnitOfWork};
use crate::webhook::own;

/// How many installations are looked for at a time; each ends in a transaction of its own.
const PAGE: u64 = 20;

/// How often closures are looked for that a crash cut off, or that took too long for their call.
const POLL: Duration = Duration::from_secs(5);

/// How many closures are read at a time.
const ROUND: u64 = 16;

/// How long a call goes on with a closure before it leaves the rest to the loop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pause after a transaction that met another one.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a transaction is begun anew that gave way to another.
const MOST_TURNS: u32 = 5;

/// How far a closure is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// How many installations were uninstalled so far.
    pub uninstalled: u64,
    /// Whether none is left.
    pub finished: bool,
    /// Why some are left, where they could not be ended; they are tried again.
    pub last_error: Option<String>,
}

/// How far a look over all installations of an org has come.
#[derive(Debug, Default)]
struct Pass {
    after: Uuid,
    failed: u64,
    last_error: Option<String>,
}

/// What a stretch of a pass came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    /// There may be more.
    More,
    /// All were looked at, and some could not be ended.
    Over,
    /// Nothing is left.
    Finished,
}

/// What a closing org still has: what is installed, and what was installed and is kept longer than
/// an erasure that begins now.
fn left_over(org_id: &str, now: Timestamp) -> Select<installation::Entity> {
    let kept = Condition::all().add(installation::Column::State.eq(Phase::Uninstalled.name())).add(
        Condition::any()
            .add(installation::Column::EraseAt.is_null())
            .add(installation::Column::EraseAt.gt(erasure::soon(now).micros())),
    );
    installation::Entity::find()
        .filter(installation::Column::OrgId.eq(org_id))
        .filter(Condition::any().add(installation::Column::Live.eq(1)).add(kept))
}

/// Whether an org closes. Asked with the head of its audit locked: then no closure begins unseen.
pub(super) async fn is_closing(work: &UnitOfWork, org_id: &str) -> Result<bool, LifecycleError> {
    let found = org_closure::Entity::find_by_id(org_id).one(work.connection()).await?;
    Ok(found.is_some_and(|closure| closure.finished_at.is_none()))
}

/// Forgets who closed an org and from where, once nothing of it is left to be erased. The lock on
/// the closure's row makes the last erasure and the end of the closure see each other.
pub(super) async fn forget_closer(work: &UnitOfWork, org_id: &str) -> Result<(), LifecycleError> {
    let closure =
        org_closure::Entity::find_by_id(org_id).lock_exclusive().one(work.connection()).await?;
    let Some(closure) = closure.filter(|closure| closure.finished_at.is_some()) else {
        return Ok(());
    };
    let kept = installation::Entity::find()
        .filter(installation::Column::OrgId.eq(org_id))
        .filter(installation::Column::State.ne(Phase::Erased.name()))
        .select_only()
        .column(installation::Column::Id)
        .limit(1)
        .into_tuple::<Uuid>()
        .one(work.connection())
        .await?;
    if kept.is_some() {
        return Ok(());
    }
    org_closure::Entity::update_many()
        .col_expr(org_closure::Column::Actor, Expr::value(role_of(&closure.actor)))
        .col_expr(org_closure::Column::Address, Expr::value(Option::<String>::None))
        .filter(org_closure::Column::OrgId.eq(org_id))
        .exec(work.connection())
        .await?;
    Ok(())
}

fn notice_subject(org_id: &str) -> String {
    format!("org:{org_id}")
}

impl Lifecycle {
    /// Journals that an org closes. Again begins again: what was installed since goes too.
    ///
    /// Locks are taken in the order that ending an installation has too: the head of the audit,
    /// then the closure. An install that has the head first is seen by the closure; one that has it
    /// later sees the closure, and is refused.
    pub async fn close_org(&self, org_id: &str, actor: &Actor) -> Result<(), LifecycleError> {
        let mut turns = 0;
        loop {
            match self.begin_closing(org_id, actor).await {
                Err(error) if error.is_contention() && turns < MOST_TURNS => {
                    turns += 1;
                    self.inner.seam.clock.sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn begin_closing(&self, org_id: &str, actor: &Actor) -> Result<(), LifecycleError> {
        let seam = &self.inner.seam;
        let now = seam.clock.now();
        let work = self.begin().await?;
        let entry = Entry {
            chain: org_id,
            action: "org.closed",
            subject: format!("org:{org_id}"),
            detail: None,
        };
        audit::append(&work, entry, actor, now, &seam.randomness).await?;
        end_visits(&work, org_id, None).await?;
        let row = org_closure::ActiveModel {
            org_id: Set(org_id.to_owned()),
            actor: Set(actor.name.clone()),
            address: Set(actor.address.map(|address| address.to_string())),
            requested_at: Set(now.micros()),
            uninstalled: Set(0),
            last_error: Set(None),
            finished_at: Set(None),
        };
        org_closure::Entity::insert(row)
            .on_conflict(
                OnConflict::column(org_closure::Column::OrgId)
                    .update_columns([
                        org_closure::Column::Actor,
                        org_closure::Column::Address,
                        org_closure::Column::RequestedAt,
                        org_closure::Column::FinishedAt,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(work.connection())
            .await?;
        self.commit(work).await
    }

    /// Goes on with a closure until nothing is left, until what is left could not be ended, or for
    /// as long as a call may take.
    pub async fn go_on_closing(&self, org_id: &str) -> Result<Closed, LifecycleError> {
        let clock = &self.inner.seam.clock;
        let end = clock.instant() + PATIENCE;
        let mut pass = Pass::default();
        while self.close_stretch(org_id, &mut pass).await? == Stretch::More && clock.instant() < end
        {
        }
        let closure =
            org_closure::Entity::find_by_id(org_id).one(self.inner.store.reader()).await?;
        Ok(closure.map_or(Closed { uninstalled: 0, finished: true, last_error: None }, |closure| {
            Closed {
                uninstalled: u64::try_from(closure.uninstalled).unwrap_or(0),
                finished: closure.finished_at.is_some(),
                last_error: closure.last_error,
            }
        }))
    }

    /// Ends the next installations of a closing org, each in a transaction of its own: one that
    /// cannot be ended does not hold the others.
    async fn close_stretch(
        &self,
        org_id: &str,
        pass: &mut Pass,
    ) -> Result<Stretch, LifecycleError> {
        let inner = &self.inner;
        let closure = org_closure::Entity::find_by_id(org_id).one(inner.store.reader()).await?;
        let Some(closure) = closure.filter(|closure| closure.finished_at.is_none()) else {
            return Ok(Stretch::Finished);
        };
        let ids: Vec<Uuid> = left_over(org_id, inner.seam.clock.now())
            .filter(installation::Column::Id.gt(pass.after))
            .select_only()
            .column(installation::Column::Id)
            .order_by_asc(installation::Column::Id)
            .limit(PAGE)
            .into_tuple()
            .all(inner.store.reader())
            .await?;
        if ids.is_empty() {
            if self.close_own_webhooks(&closure).await? {
                return Ok(Stretch::More);
            }
            let failed = std::mem::take(pass);
            let Some(error) = failed.last_error else { return self.finish_closing(org_id).await };
            self.note_closing_failure(org_id, failed.failed, &error).await?;
            return Ok(Stretch::Over);
        }
        let mut last = RoutingRevision(None);
        for id in ids {
            match self.close_one(&closure, id).await {
                Ok(revision) => last = revision.max(last),
                Err(error) => {
                    tracing::warn!(
                        org = org_id, installation = %id, %error,
                        "an installation of a closed org could not be ended; tried again"
                    );
                    pass.failed += 1;
                    pass.last_error = Some(format!("installation {id}: {error}"));
                }
            }
            pass.after = id;
        }
        inner.routing.settle(last).await?;
        inner.dispatcher.poke();
        inner.revocations.poke();
        Ok(Stretch::More)
    }

    /// Removes some of the org's own webhooks. Returns whether there were any.
    async fn close_own_webhooks(
        &self,
        closure: &org_closure::Model,
    ) -> Result<bool, LifecycleError> {
        let actor = Actor {
            name: closure.actor.clone(),
            address: closure.address.as_deref().and_then(|address| address.parse().ok()),
        };
        let inner = &self.inner;
        let mut work = self.begin().await?;
        let org_id = &closure.org_id;
        // Before the webhooks themselves: by them it is found what is theirs.
        let copies = self.erase_copies_of_org(&work, org_id).await?;
        let removed =
            own::remove_some_of_org(&inner.store, &mut work, org_id, &actor, &inner.seam).await?;
        if removed == 0 && copies == 0 {
            work.rollback().await?;
            return Ok(false);
        }
        self.commit(work).await?;
        Ok(true)
    }

    /// Removes what listeners and inspectors have of the org's deliveries, and the org's inspectors
    /// with all that came to them: their addresses are open to the internet. There is little of it, a
    /// thousand copies of ten minutes and a hundred requests of a day for each. Returns how many rows
    /// went.
    async fn erase_copies_of_org(
        &self,
        work: &UnitOfWork,
        org_id: &str,
    ) -> Result<u64, LifecycleError> {
        const COPIES: [&str; 4] = [
            "delete from tapped_deliveries where org_id = $1",
            "delete from inspected_requests where webhook_id in (
                 select id from endpoints where org_id = $1)",
            "delete from inspected_requests where inspector_id in (
                 select id from inspectors where org_id = $1)",
            "delete from inspectors where org_id = $1",
        ];
        let mut rows = 0;
        for sql in COPIES {
            let dialect = self.inner.store.dialect();
            let statement = Statement::from_sql_and_values(dialect, sql, [org_id.into()]);
            rows += work.connection().execute_raw(statement).await?.rows_affected();
        }
        Ok(rows)
    }

    /// Ends one installation, as often as it gives way to other transactions.
    async fn close_one(
        &self,
        closure: &org_closure::Model,
        id: Uuid,
    ) -> Result<RoutingRevision, LifecycleError> {
        let mut turns = 0;
        loop {
            match self.try_to_close_one(closure, id).await {
                Err(error) if error.is_contention() && turns < MOST_TURNS => {
                    turns += 1;
                    self.inner.seam.clock.sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Uninstalls an installation, or has what is kept of it erased at once.
    async fn try_to_close_one(
        &self,
        closure: &org_closure::Model,
        id: Uuid,
    ) -> Result<RoutingRevision, LifecycleError> {
        let actor = Actor {
            name: closure.actor.clone(),
            address: closure.address.as_deref().and_then(|address| address.parse().ok()),
        };
        let mut work = self.begin().await?;
        let is_live = self.lock_row(&work, id).await?.live == 1;
        if is_live {
            let request = UninstallRequest {
                installation_id: Some(InstallationId(id)),
                reason: Some("the org was closed".to_owned()),
                erase_data: Some(true),
                ..UninstallRequest::default()
            };
            self.uninstall(&mut work, &request, &actor).await?;
            if self.lock_row(&work, id).await?.live == 1 {
                // It says of itself that it lives and that it does not: the reconciler's to put right.
                return Err(LifecycleError::Unreadable { what: "state of the installation" });
            }
            org_closure::Entity::update_many()
                .col_expr(
                    org_closure::Column::Uninstalled,
                    Expr::col(org_closure::Column::Uninstalled).add(1),
                )
                .filter(org_closure::Column::OrgId.eq(&closure.org_id))
                .exec(work.connection())
                .await?;
        } else {
            self.request_erasure(&work, id, &actor).await?;
        }
        crash_point("lifecycle.before-commit");
        let revision = work.commit(self.inner.seam.clock.now()).await?;
        crash_point("lifecycle.after-commit");
        Ok(revision)
    }

    /// Ends a closure where nothing is left under its lock: installs of the org are refused until
    /// then, so that none can have come in between.
    async fn finish_closing(&self, org_id: &str) -> Result<Stretch, LifecycleError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let work = self.begin().await?;
        let closure =
            org_closure::Entity::find_by_id(org_id).lock_exclusive().one(work.connection()).await?;
        if closure.is_none_or(|closure| closure.finished_at.is_some()) {
            work.rollback().await?;
            return Ok(Stretch::Finished);
        }
        let left = left_over(org_id, now).limit(1).one(work.connection()).await?;
        if left.is_some() {
            work.rollback().await?;
            return Ok(Stretch::More);
        }
        org_closure::Entity::update_many()
            .col_expr(org_closure::Column::FinishedAt, Expr::value(now.micros()))
            .col_expr(org_closure::Column::LastError, Expr::value(Option::<String>::None))
            .filter(org_closure::Column::OrgId.eq(org_id))
            .exec(work.connection())
            .await?;
        forget_closer(&work, org_id).await?;
        inner.notices.resolve(&work, &[NoticeKind::OrgClosing], &notice_subject(org_id)).await?;
        self.commit(work).await?;
        Ok(Stretch::Finished)
    }

    /// Says why a closure is not at its end: once for each reason, however often and on however many
    /// nodes it is tried.
    async fn note_closing_failure(
        &self,
        org_id: &str,
        failed: u64,
        error: &str,
    ) -> Result<(), LifecycleError> {
        let work = self.begin().await?;
        let open =
            org_closure::Entity::find_by_id(org_id).lock_exclusive().one(work.connection()).await?;
        let is_new = open.is_some_and(|closure| {
            closure.finished_at.is_none() && closure.last_error.as_deref() != Some(error)
        });
        if !is_new {
            return Ok(work.rollback().await?);
        }
        org_closure::Entity::update_many()
            .col_expr(org_closure::Column::LastError, Expr::value(error))
            .filter(org_closure::Column::OrgId.eq(org_id))
            .exec(work.connection())
            .await?;
        let notice = Notice {
            kind: NoticeKind::OrgClosing,
            subject: notice_subject(org_id),
            // Of the operator: the org is closed.
            org_id: String::new(),
            extension_key: None,
            installation_id: None,
            webhook_id: None,
            message: format!(
                "Org {org_id} was closed, but {failed} of its installations could not be ended. \
                 The last one: {error}. They are tried again; `mortise doctor` says more."
            ),
        };
        self.inner.notices.post(&work, &notice).await?;
        self.commit(work).await
    }
}

/// Finishes what calls left of closures.
#[derive(Debug)]
pub struct OrgClosures {
    lifecycle: Lifecycle,
    /// How far each closure is that is under way here.
    passes: HashMap<String, Pass>,
}

impl OrgClosures {
    /// Puts the parts together.
    pub fn new(lifecycle: Lifecycle) -> Self {
        Self { lifecycle, passes: HashMap::new() }
    }

    /// Goes on until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let more = self.round(&stop).await;
            if more && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.lifecycle.inner.seam.clock.sleep(POLL) => {}
            }
        }
    }

    /// A stretch of each in turn: a large org, or one that cannot be ended, does not hold the
    /// others. Returns whether there is more to be done at once.
    async fn round(&mut self, stop: &CancellationToken) -> bool {
        let (mut more, mut after) = (false, None::<String>);
        loop {
            let mut query = org_closure::Entity::find()
                .filter(org_closure::Column::FinishedAt.is_null())
                .order_by_asc(org_closure::Column::OrgId)
                .limit(ROUND);
            if let Some(after) = after.take() {
                query = query.filter(org_closure::Column::OrgId.gt(after));
            }
            let open = match query.all(self.lifecycle.inner.store.reader()).await {
                Ok(open) => open,
                Err(error) => {
                    tracing::warn!(%error, "cannot read which orgs close");
                    return false;
                }
            };
            let Some(last) = open.last() else { return more };
            after = Some(last.org_id.clone());
            for closure in open {
                if stop.is_cancelled() {
                    return false;
                }
                more |= self.step(&closure.org_id).await;
            }
        }
    }

    async fn step(&mut self, org_id: &str) -> bool {
        let mut pass = self.passes.remove(org_id).unwrap_or_default();
        match self.lifecycle.close_stretch(org_id, &mut pass).await {
            Ok(Stretch::More) => {
                self.passes.insert(org_id.to_owned(), pass);
                true
            }
            Ok(Stretch::Over | Stretch::Finished) => false,
            Err(error) => {
                tracing::warn!(org = org_id, %error, "a closure could not go on; tried again");
                false
            }
        }
    }
}
