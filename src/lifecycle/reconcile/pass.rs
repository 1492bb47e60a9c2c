//! One pass: page by page over what lives, then over what outlived its installation.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::drift::{DriftKind, Finding, Report};
use super::facts::{Versions, gather};
use super::judge::judge;
use crate::audit::Actor;
use crate::crypto::Keys;
use crate::delivery::Dispatcher;
use crate::lifecycle::LifecycleError;
use crate::notice::Board;
use crate::oauth::Revocations;
use crate::seam::Seam;
use crate::store::Store;
use crate::store::entity::installation;
use crate::webhook::{ExtensionAuthority, Routing};

/// How many installations one page reads.
const PAGE: u64 = 200;

/// The rooms of a server that runs, which a repair tells of what it did.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) routing: Routing,
    pub(super) dispatcher: Dispatcher,
    pub(super) revocations: Arc<Revocations>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) authority: ExtensionAuthority,
    pub(super) board: Board,
    pub(super) seam: Seam,
    pub(super) live: Option<Live>,
    /// One pass at a time on a node.
    pub(super) erase_after: Duration,
    turn: Mutex<()>,
}

/// What a reconciler works with.
#[derive(Debug)]
pub struct ReconcilerParts {
    /// The database.
    pub store: Store,
    /// The keys, to see which tokens can be unsealed.
    pub keys: Keys,
    /// The right to change extension webhooks.
    pub authority: ExtensionAuthority,
    /// Where the operator is told.
    pub board: Board,
    /// Clock and randomness.
    pub seam: Seam,
    /// After how long what is kept of an ended installation is erased.
    pub erase_after: Duration,
}

/// Compares and repairs. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Reconciler {
    pub(super) inner: Arc<Inner>,
}

/// How far a pass goes.
#[derive(Clone, Copy, Debug)]
pub struct PassLimits {
    /// How long it may take before it stops at the end of a page; no bound where it is nothing.
    pub time: Option<Duration>,
    /// The pause between pages, so that a pass is no load.
    pub pause: Duration,
    /// Live installations up to this one are left out: where a former pass stopped.
    pub after: Option<Uuid>,
}

impl Reconciler {
    /// A reconciler of a database on which no server of this process runs.
    pub fn new(parts: ReconcilerParts) -> Self {
        Self::with(parts, None)
    }

    /// The reconciler of a server that runs.
    pub fn of_server(
        parts: ReconcilerParts,
        routing: Routing,
        dispatcher: Dispatcher,
        revocations: Arc<Revocations>,
    ) -> Self {
        Self::with(parts, Some(Live { routing, dispatcher, revocations }))
    }

    fn with(parts: ReconcilerParts, live: Option<Live>) -> Self {
        let ReconcilerParts { store, keys, authority, board, seam, erase_after } = parts;
        let turn = Mutex::new(());
        let inner = Inner { store, keys, authority, board, seam, live, erase_after, turn };
        Self { inner: Arc::new(inner) }
    }

    /// Makes a pass. One that may not repair writes nothing.
    pub async fn pass(
        &self,
        repair: bool,
        actor: &Actor,
        limits: PassLimits,
    ) -> Result<Report, LifecycleError> {
        let inner = &self.inner;
        let _turn = inner.turn.lock().await;
        let began = inner.seam.clock.instant();
        let is_over = || limits.time.is_some_and(|limit| began.elapsed() >= limit);
        let mut report = Report {
            started_time: inner.seam.clock.now().rfc3339(),
            repair,
            complete: true,
            ..Report::default()
        };
        let mut versions = Versions::new();
        let mut after = limits.after;
        loop {
            let rows = self.page(after).await?;
            let Some(last) = rows.last().map(|row| row.id) else { break };
            let is_last = (rows.len() as u64) < PAGE;
            report.installations += rows.len() as u64;
            let now = inner.seam.clock.now();
            let all = gather(inner.store.reader(), rows, &mut versions).await?;
            for facts in all {
                if judge(&facts, &inner.keys.ring, now).is_empty() {
                    continue;
                }
                self.examine_into(&mut report, facts.row.id, repair, actor).await?;
            }
            after = Some(last);
            if is_last {
                break;
            }
            if is_over() {
                report.complete = false;
                report.next_installation = after;
                break;
            }
            inner.seam.clock.sleep(limits.pause).await;
        }
        if report.complete {
            self.leftovers(&mut report, repair, actor).await?;
            self.compare_routing(&mut report, repair, limits.pause).await?;
        }
        report.finished_time = inner.seam.clock.now().rfc3339();
        Ok(report)
    }

    async fn page(&self, after: Option<Uuid>) -> Result<Vec<installation::Model>, LifecycleError> {
        let mut query = installation::Entity::find()
            .filter(installation::Column::Live.eq(1))
            .order_by_asc(installation::Column::Id)
            .limit(PAGE);
        if let Some(after) = after {
            query = query.filter(installation::Column::Id.gt(after));
        }
        Ok(query.all(self.inner.store.reader()).await?)
    }

    /// Examines one installation; where another transaction is in the way it is left for the next
    /// pass.
    pub(super) async fn examine_into(
        &self,
        report: &mut Report,
        id: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        match self.examine(id, repair, actor).await {
            Ok(findings) => findings.into_iter().for_each(|finding| report.add(finding)),
            Err(LifecycleError::Store(error)) if error.is_contention() => report.skipped += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Examines installations that ended.
    pub(super) async fn examine_all(
        &self,
        report: &mut Report,
        ids: BTreeSet<Uuid>,
        repair: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        for id in ids {
            self.examine_into(report, id, repair, actor).await?;
        }
        Ok(())
    }

    /// Compares what this node routes by with what the database says. Orgs of which something was
    /// found are left out: their rows were wrong, not their routing.
    async fn compare_routing(
        &self,
        report: &mut Report,
        repair: bool,
        pause: Duration,
    ) -> Result<(), LifecycleError> {
        let Some(live) = &self.inner.live else { return Ok(()) };
        let mut after = String::new();
        loop {
            let orgs: Vec<String> = installation::Entity::find()
                .select_only()
                .column(installation::Column::OrgId)
                .distinct()
                .filter(installation::Column::Live.eq(1))
                .filter(installation::Column::OrgId.gt(after.as_str()))
                .order_by_asc(installation::Column::OrgId)
                .limit(PAGE)
                .into_tuple()
                .all(self.inner.store.reader())
                .await?;
            let Some(last) = orgs.last() else { return Ok(()) };
            after.clone_from(last);
            let orgs: HashSet<String> =
                orgs.into_iter().filter(|org| !report.touched.contains(org)).collect();
            for org in live.routing.stale(&orgs, repair).await? {
                report.add(Finding {
                    kind: DriftKind::RoutingStale.name().to_owned(),
                    subject: format!("org:{org}"),
                    org_id: Some(org),
                    extension_key: None,
                    installation_id: None,
                    detail: "this node routes by something else than the database says".to_owned(),
                    action: "the org is read anew".to_owned(),
                    repaired: repair,
                });
            }
            self.inner.seam.clock.sleep(pause).await;
        }
    }
}
