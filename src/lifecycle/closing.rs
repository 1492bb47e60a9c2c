//! An org closes: every live installation is uninstalled through the ordinary step, a page a
//! transaction. The row of the closure is written first, so that it goes on after a crash.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use tokio_util::sync::CancellationToken;

use super::error::LifecycleError;
use super::service::Lifecycle;
use super::uninstall::UninstallRequest;
use crate::audit::{self, Actor, Entry};
use crate::identifier::InstallationId;
use crate::store::UnitOfWork;
use crate::store::entity::{installation, org_closure};

/// How many installations one transaction uninstalls.
const PAGE: u64 = 20;

/// How often closures are looked for that a crash cut off, or that took too long for their call.
const POLL: Duration = Duration::from_secs(5);

/// How many closures one look takes on.
const ROUND: u64 = 16;

/// How long a call goes on with a closure before it leaves the rest to the loop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pause after a page that met another transaction.
const PAUSE: Duration = Duration::from_millis(50);

/// How far a closure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// How many installations were uninstalled so far.
    pub uninstalled: u64,
    /// Whether none is left.
    pub finished: bool,
}

impl Lifecycle {
    /// Journals that an org closes. Again begins again: what was installed since goes too.
    pub async fn close_org(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let seam = &self.inner.seam;
        let now = seam.clock.now();
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
                        org_closure::Column::LastError,
                        org_closure::Column::FinishedAt,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(work.connection())
            .await?;
        let entry = Entry {
            chain: org_id,
            action: "org.closed",
            subject: format!("org:{org_id}"),
            detail: None,
        };
        audit::append(work, entry, actor, now, &seam.randomness).await?;
        Ok(())
    }

    /// Goes on with a closure until nothing is left, or for as long as a call may take.
    pub async fn go_on_closing(&self, org_id: &str) -> Result<Closed, LifecycleError> {
        let clock = &self.inner.seam.clock;
        let end = clock.instant() + PATIENCE;
        loop {
            let closed = match self.close_page(org_id).await {
                Err(error) if error.is_contention() && clock.instant() < end => {
                    clock.sleep(PAUSE).await;
                    continue;
                }
                closed => closed?,
            };
            if closed.finished || clock.instant() >= end {
                return Ok(closed);
            }
        }
    }

    /// Uninstalls a page of a closing org's installations.
    async fn close_page(&self, org_id: &str) -> Result<Closed, LifecycleError> {
        let now = self.inner.seam.clock.now();
        let mut work = self.begin().await?;
        let Some(closure) = org_closure::Entity::find_by_id(org_id).one(work.connection()).await?
        else {
            return Ok(Closed { uninstalled: 0, finished: true });
        };
        let before = u64::try_from(closure.uninstalled).unwrap_or(0);
        if closure.finished_at.is_some() {
            return Ok(Closed { uninstalled: before, finished: true });
        }
        let rows = installation::Entity::find()
            .filter(installation::Column::OrgId.eq(org_id))
            .filter(installation::Column::Live.eq(1))
            .filter(installation::Column::CreatedAt.lte(closure.requested_at))
            .order_by_asc(installation::Column::Id)
            .limit(PAGE)
            .lock_exclusive()
            .all(work.connection())
            .await?;
        let finished = rows.is_empty();
        let actor = Actor {
            name: closure.actor,
            address: closure.address.and_then(|address| address.parse().ok()),
        };
        for row in &rows {
            let request = UninstallRequest {
                installation_id: Some(InstallationId(row.id)),
                reason: Some("the org was closed".to_owned()),
                erase_data: Some(true),
                ..UninstallRequest::default()
            };
            self.uninstall(&mut work, &request, &actor).await?;
        }
        let gone = i64::try_from(rows.len()).unwrap_or(0);
        let mut update = org_closure::Entity::update_many()
            .col_expr(
                org_closure::Column::Uninstalled,
                Expr::col(org_closure::Column::Uninstalled).add(gone),
            )
            .filter(org_closure::Column::OrgId.eq(org_id))
            // Asked for again meanwhile: then it is not finished.
            .filter(org_closure::Column::RequestedAt.eq(closure.requested_at));
        if finished {
            update = update.col_expr(org_closure::Column::FinishedAt, Expr::value(now.micros()));
        }
        update.exec(work.connection()).await?;
        self.commit(work).await?;
        Ok(Closed { uninstalled: before + rows.len() as u64, finished })
    }
}

/// Finishes what calls left of closures.
#[derive(Clone, Debug)]
pub struct OrgClosures {
    lifecycle: Lifecycle,
}

impl OrgClosures {
    /// Puts the parts together.
    pub fn new(lifecycle: Lifecycle) -> Self {
        Self { lifecycle }
    }

    /// Goes on until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let inner = &self.lifecycle.inner;
        loop {
            let more = self.round(&stop).await;
            if more && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = inner.seam.clock.sleep(POLL) => {}
            }
        }
    }

    /// A page of each in turn: a large org does not hold the others. Returns whether there is more
    /// to be done at once.
    async fn round(&self, stop: &CancellationToken) -> bool {
        let open = org_closure::Entity::find()
            .filter(org_closure::Column::FinishedAt.is_null())
            .order_by_asc(org_closure::Column::RequestedAt)
            .limit(ROUND)
            .all(self.lifecycle.inner.store.reader())
            .await;
        let open = match open {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "cannot read which orgs close");
                return false;
            }
        };
        let mut more = false;
        for closure in open {
            if stop.is_cancelled() {
                return false;
            }
            more |= self.step(&closure.org_id).await;
        }
        more
    }

    async fn step(&self, org_id: &str) -> bool {
        let error = match self.lifecycle.close_page(org_id).await {
            Ok(closed) => return !closed.finished,
            Err(error) => error,
        };
        tracing::warn!(org = org_id, %error, "a closed org still has installations; tried again");
        let noted = async {
            let work = self.lifecycle.begin().await?;
            org_closure::Entity::update_many()
                .col_expr(org_closure::Column::LastError, Expr::value(error.to_string()))
                .filter(org_closure::Column::OrgId.eq(org_id))
                .exec(work.connection())
                .await?;
            self.lifecycle.commit(work).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(org = org_id, %error, "why a closure does not go on was not written");
        }
        false
    }
}
