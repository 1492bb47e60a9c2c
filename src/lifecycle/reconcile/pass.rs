//! One pass: page by page over what lives, then over what outlived its installation.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::drift::{DriftKind, Finding, Report};
use super::facts::{Versions, gather};
use super::judge::{judge, judge_tokens};
use crate::audit::Actor;
use crate::crypto::Keys;
use crate::delivery::Dispatcher;
use crate::lifecycle::LifecycleError;
use crate::lifecycle::state::Phase;
use crate::notice::Board;
use crate::oauth::Revocations;
use crate::seam::Seam;
use crate::store::Store;
use crate::store::entity::{connection, installation};
use crate::webhook::{ExtensionAuthority, Routing, RoutingError};

/// How many installations one page reads.
const PAGE: u64 = 200;

/// How many connections one page reads, with their tokens.
const CONNECTIONS: u64 = 500;

/// How long one waits for a page of another pass of this node.
const PATIENCE: Duration = Duration::from_secs(5);

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
    pub(super) erase_after: Duration,
    /// One page at a time on a node.
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
#[derive(Clone, Debug)]
pub struct PassLimits {
    /// How long it may take before it stops at the end of a page; no bound where it is nothing.
    pub time: Option<Duration>,
    /// The pause between pages, so that a pass is no load.
    pub pause: Duration,
    /// Where a former pass stopped, and this one goes on.
    pub after: PassPosition,
}

/// Where a pass stands: in which of its stages, and after what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassPosition {
    stage: usize,
    after: String,
}

/// The text is no place in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not where a pass stopped: give `next` of its report as it is")]
pub struct NoPosition;

/// What is looked at, in this order; each in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Live,
    Ended,
    Webhooks,
    States,
    Connections,
    Authorizations,
    Revocations,
    Deliveries,
    Tokens,
    Routing,
}

const STAGES: [Stage; 10] = [
    Stage::Live,
    Stage::Ended,
    Stage::Webhooks,
    Stage::States,
    Stage::Connections,
    Stage::Authorizations,
    Stage::Revocations,
    Stage::Deliveries,
    Stage::Tokens,
    Stage::Routing,
];

impl PassPosition {
    fn stage(&self) -> Option<Stage> {
        STAGES.get(self.stage).copied()
    }

    fn id(&self) -> Uuid {
        self.after.parse().unwrap_or_default()
    }

    /// The next page, or the next stage.
    fn go_on(&mut self, next: Option<String>) {
        if next.is_none() {
            self.stage += 1;
        }
        self.after = next.unwrap_or_default();
    }
}

impl fmt::Display for PassPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.stage, self.after)
    }
}

impl FromStr for PassPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (stage, after) = text.split_once(':').ok_or(NoPosition)?;
        let stage: usize = stage.parse().map_err(|_| NoPosition)?;
        let position = Self { stage, after: after.to_owned() };
        let is_place = match position.stage().ok_or(NoPosition)? {
            Stage::Routing => true,
            _ => after.is_empty() || after.parse::<Uuid>().is_ok(),
        };
        if is_place { Ok(position) } else { Err(NoPosition) }
    }
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
        let began = inner.seam.clock.instant();
        let mut report =
            Report { started_time: inner.seam.clock.now().rfc3339(), repair, ..Report::default() };
        let mut versions = Versions::new();
        let mut position = limits.after;
        loop {
            {
                // For a page only: whoever asks for a pass waits for no other one to end.
                let _turn = tokio::time::timeout(PATIENCE, inner.turn.lock())
                    .await
                    .map_err(|_| LifecycleError::PassRuns)?;
                self.page(&mut report, &mut position, &mut versions, repair, actor).await?;
            }
            if position.stage().is_none() {
                report.complete = true;
                break;
            }
            if limits.time.is_some_and(|limit| began.elapsed() >= limit) {
                report.next = Some(position.to_string());
                break;
            }
            inner.seam.clock.sleep(limits.pause).await;
        }
        report.finished_time = inner.seam.clock.now().rfc3339();
        Ok(report)
    }

    /// Looks at one page, and says where the next one begins.
    async fn page(
        &self,
        report: &mut Report,
        position: &mut PassPosition,
        versions: &mut Versions,
        repair: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let after = position.id();
        let Some(stage) = position.stage() else { return Ok(()) };
        let next = match stage {
            Stage::Live => self.living(report, after, versions, repair, actor).await?,
            Stage::Ended => self.ended(report, after, repair, actor).await?,
            Stage::Webhooks => self.ownerless(report, after, repair, actor).await?,
            Stage::States => self.sweep_states(after, repair).await?,
            Stage::Connections => self.ownerless_connections(report, after, repair, actor).await?,
            Stage::Authorizations => {
                self.expired_states(report, repair, actor).await?;
                None
            }
            Stage::Revocations => self.unreadable_revocations(report, after, repair, actor).await?,
            Stage::Deliveries => self.queued(report, after, repair, actor).await?,
            Stage::Tokens => self.tokens(report, after, repair, actor).await?,
            Stage::Routing => {
                let next = self.compare_routing(report, &position.after, repair).await?;
                position.go_on(next);
                return Ok(());
            }
        };
        position.go_on(next.map(|id| id.to_string()));
        Ok(())
    }

    /// A page of what lives.
    async fn living(
        &self,
        report: &mut Report,
        after: Uuid,
        versions: &mut Versions,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let inner = &self.inner;
        let rows = installation::Entity::find()
            .filter(installation::Column::Live.eq(1))
            .filter(installation::Column::Id.gt(after))
            .order_by_asc(installation::Column::Id)
            .limit(PAGE)
            .all(inner.store.reader())
            .await?;
        let count = rows.len() as u64;
        let last = rows.last().map(|row| row.id);
        report.installations += count;
        let now = inner.seam.clock.now();
        for facts in gather(inner.store.reader(), rows, versions).await? {
            if !judge(&facts, now).is_empty() {
                self.examine_into(report, facts.row.id, repair, actor).await?;
            }
        }
        Ok(last.filter(|_| count == PAGE))
    }

    /// A page of connections of what is active: whether their tokens can be used.
    async fn tokens(
        &self,
        report: &mut Report,
        after: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        use connection::Column;
        let inner = &self.inner;
        let active = installation::Entity::find()
            .select_only()
            .column(installation::Column::Id)
            .filter(installation::Column::Live.eq(1))
            .filter(installation::Column::State.eq(Phase::Active.name()))
            .into_query();
        let rows = connection::Entity::find()
            .filter(Column::Id.gt(after))
            .filter(Column::Health.eq("ok"))
            .filter(Column::InstallationId.in_subquery(active))
            .order_by_asc(Column::Id)
            .limit(CONNECTIONS)
            .all(inner.store.reader())
            .await?;
        self.read_keys().await?;
        let now = inner.seam.clock.now();
        let last = rows.last().map(|row| row.id).filter(|_| rows.len() as u64 == CONNECTIONS);
        for row in rows {
            if judge_tokens(&row, &inner.keys.ring, now).is_some() {
                note(
                    report,
                    self.examine_tokens(row.installation_id, row.id, repair, actor).await,
                )?;
            }
        }
        Ok(last)
    }

    /// Reads the data keys anew, after what they are to open was read: what a key seals that was
    /// introduced meanwhile is no damage.
    pub(super) async fn read_keys(&self) -> Result<(), LifecycleError> {
        let read = self.inner.keys.reload(&self.inner.store).await;
        Ok(read.map_err(RoutingError::from)?)
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
        note(report, self.examine(id, repair, actor).await)
    }

    /// Compares a page of what this node routes by with what the database says. Orgs of which
    /// something was found are left out: their rows were wrong, not their routing.
    async fn compare_routing(
        &self,
        report: &mut Report,
        after: &str,
        repair: bool,
    ) -> Result<Option<String>, LifecycleError> {
        if self.inner.live.is_none() {
            return Ok(None);
        }
        let orgs: Vec<String> = installation::Entity::find()
            .select_only()
            .column(installation::Column::OrgId)
            .distinct()
            .filter(installation::Column::Live.eq(1))
            .filter(installation::Column::OrgId.gt(after))
            .order_by_asc(installation::Column::OrgId)
            .limit(PAGE)
            .into_tuple()
            .all(self.inner.store.reader())
            .await?;
        let next = orgs.last().filter(|_| orgs.len() as u64 == PAGE).cloned();
        self.compare_orgs(report, orgs, repair).await?;
        if next.is_none() {
            // What this node holds of orgs that the database has no live installation of.
            self.compare_own_routing(report, repair).await?;
        }
        Ok(next)
    }

    /// Compares all that this node routes by with what the database says. Each node does that for
    /// itself: no other can look into its memory.
    pub(super) async fn compare_own_routing(
        &self,
        report: &mut Report,
        repair: bool,
    ) -> Result<(), LifecycleError> {
        let Some(live) = &self.inner.live else { return Ok(()) };
        for orgs in live.routing.held_orgs().chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
            self.compare_orgs(report, orgs.to_vec(), repair).await?;
        }
        Ok(())
    }

    async fn compare_orgs(
        &self,
        report: &mut Report,
        orgs: Vec<String>,
        repair: bool,
    ) -> Result<(), LifecycleError> {
        let Some(live) = &self.inner.live else { return Ok(()) };
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
        Ok(())
    }
}

/// Adds what was found; an installation that another transaction is at is left for the next pass.
fn note(
    report: &mut Report,
    examined: Result<Vec<Finding>, LifecycleError>,
) -> Result<(), LifecycleError> {
    match examined {
        Ok(findings) => findings.into_iter().for_each(|finding| report.add(finding)),
        Err(LifecycleError::Store(error)) if error.is_contention() => report.skipped += 1,
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let id = Uuid::from_u128(7);
        for stage in 0..STAGES.len() {
            let position = PassPosition { stage, after: id.to_string() };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        let org = PassPosition { stage: STAGES.len() - 1, after: "an:org".to_owned() };
        assert_eq!(org.to_string().parse(), Ok(org));
        for wrong in ["", "0", "x:", "10:", "0:org", "-1:", "1:\u{0}"] {
            assert_eq!(wrong.parse::<PassPosition>(), Err(NoPosition), "{wrong}");
        }
    }
}
