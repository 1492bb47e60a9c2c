//! Erasure: when what is kept of an uninstalled installation goes, and what is proved of it.
//!
//! Secrets die with the uninstall itself. What else is kept for looking back (parameters,
//! departments, names, answers, payloads) goes at the date of the policy, or at once where the org
//! asks for that. What remains is the tombstone: ids, digests, states and times.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::Lifecycle;
use super::state::Phase;
use crate::audit::{self, Actor, Entry};
use crate::seam::Timestamp;
use crate::store::entity::{erasure as table, installation};
use crate::store::{Store, UnitOfWork};

/// How long after the uninstall an erasure that was asked for begins: results of requests that were
/// under way are on disk by then.
const SOON: Duration = Duration::from_mins(1);

/// When an erasure begins that is asked for now.
pub(super) fn soon(now: Timestamp) -> Timestamp {
    now.plus(SOON)
}

/// What goes, in this order; each a stage that is done in bounded steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Parameters, departments, who installed, where the browser went.
    Config,
    /// Connections and authorisations that were begun.
    Connections,
    /// What receivers answered, and payloads that no other webhook had.
    Deliveries,
    /// Who took the steps, from where and why.
    History,
    /// The same in the audit; its chain holds all the same.
    Audit,
    /// Notices.
    Notices,
    /// Jobs that sent again.
    Jobs,
    /// What was found out about the endpoints.
    Endpoints,
    /// What people wrote into callbacks, and what the vendor answered; after the last one ended.
    Callbacks,
    /// Former contents of pages.
    Pages,
    /// The tombstone.
    Tombstone,
}

impl Stage {
    const ALL: [Self; 11] = [
        Self::Config,
        Self::Deliveries,
        Self::History,
        Self::Audit,
        Self::Jobs,
        Self::Endpoints,
        Self::Connections,
        Self::Callbacks,
        Self::Notices,
        Self::Pages,
        Self::Tombstone,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Connections => "connections",
            Self::Deliveries => "deliveries",
            Self::History => "history",
            Self::Audit => "audit",
            Self::Notices => "notices",
            Self::Jobs => "jobs",
            Self::Endpoints => "endpoints",
            Self::Callbacks => "callbacks",
            Self::Pages => "pages",
            Self::Tombstone => "tombstone",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// The stage after this one.
    pub(super) fn next(self) -> Option<Self> {
        let place = Self::ALL.iter().position(|stage| *stage == self)?;
        Self::ALL.get(place + 1).copied()
    }
}

/// How much of one kind was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErasedKind {
    /// How many rows were emptied or removed.
    pub rows: u64,
    /// When the last of them was, RFC 3339.
    pub at: String,
}

/// What was erased, by kind.
pub(super) type Counts = BTreeMap<String, ErasedKind>;

/// An erasure as it is shown.
#[derive(Clone, Debug)]
pub struct ErasureView {
    pub(crate) row: table::Model,
    /// What was erased so far, by kind.
    pub erased: BTreeMap<String, ErasedKind>,
}

impl ErasureView {
    /// `scheduled`, `running` or `done`.
    pub fn state(&self) -> &'static str {
        match (self.row.pending, self.row.started_at) {
            (None, _) => "done",
            (Some(_), Some(_)) => "running",
            (Some(_), None) => "scheduled",
        }
    }
}

/// Enters the erasure of an installation that is being uninstalled: at the date that the row has
/// already, where somebody asked for it, or else at that of the policy.
pub(super) async fn schedule(
    work: &UnitOfWork,
    row: &mut installation::Model,
    erase_after: Duration,
    now: Timestamp,
) -> Result<(), LifecycleError> {
    let cause = if row.erase_at.is_some() { "request" } else { "policy" };
    let due_at = *row.erase_at.get_or_insert(now.plus(erase_after.max(SOON)).micros());
    table::Entity::insert(table::ActiveModel {
        installation_id: Set(row.id),
        org_id: Set(row.org_id.clone()),
        extension_key: Set(row.extension_key.clone()),
        cause: Set(cause.to_owned()),
        requested_at: Set(now.micros()),
        due_at: Set(due_at),
        pending: Set(Some(1)),
        stage: Set(Stage::Config.name().to_owned()),
        position: Set(String::new()),
        counts: Set("{}".to_owned()),
        next_at: Set(due_at),
        started_at: Set(None),
        finished_at: Set(None),
    })
    .on_conflict(OnConflict::new().do_nothing().to_owned())
    .exec_without_returning(work.connection())
    .await
    .or_else(|error| match error {
        sea_orm::DbErr::RecordNotInserted => Ok(0),
        other => Err(other),
    })?;
    Ok(())
}

impl Lifecycle {
    /// Brings the erasure of an uninstalled installation forward, in the transaction of whatever
    /// asks for it. Nothing happens where it is due sooner, under way or done. Returns when it is
    /// due, or was done.
    pub async fn request_erasure(
        &self,
        work: &UnitOfWork,
        id: Uuid,
        actor: &Actor,
    ) -> Result<Timestamp, LifecycleError> {
        let seam = &self.inner.seam;
        let now = seam.clock.now();
        let mut row = self.lock(work, id).await?.row;
        if row.live == 1 {
            return Err(LifecycleError::NotNow {
                command: "erase",
                installation: id.to_string(),
                reason: "it is still installed: uninstall it first",
            });
        }
        if row.state == Phase::Erased.name() {
            return Ok(Timestamp::from_micros(row.erased_at.unwrap_or(row.updated_at)));
        }
        let due_at = soon(now);
        if let Some(former) = row.erase_at.filter(|former| *former <= due_at.micros()) {
            return Ok(Timestamp::from_micros(former));
        }
        row.erase_at = Some(due_at.micros());
        row.updated_at = now.micros();
        // Where it was uninstalled before erasures were kept.
        schedule(work, &mut row, SOON, now).await?;
        table::Entity::update_many()
            .col_expr(table::Column::Cause, Expr::value("request"))
            .col_expr(table::Column::RequestedAt, Expr::value(now.micros()))
            .col_expr(table::Column::DueAt, Expr::value(due_at.micros()))
            .col_expr(table::Column::NextAt, Expr::value(due_at.micros()))
            .filter(table::Column::InstallationId.eq(id))
            .filter(table::Column::Pending.is_not_null())
            .exec(work.connection())
            .await?;
        self.save(work, &row).await?;
        let entry = Entry {
            chain: &row.org_id,
            action: "installation.erasure-choice",
            subject: format!("installation:{id}"),
            detail: Some(serde_json::json!({ "eraseData": true, "eraseAt": due_at.rfc3339() })),
        };
        audit::append(work, entry, actor, now, &seam.randomness).await?;
        Ok(due_at)
    }
}

/// Reads what is to be erased of an installation, and what was.
pub async fn erasure(store: &Store, id: Uuid) -> Result<Option<ErasureView>, LifecycleError> {
    let Some(row) = table::Entity::find_by_id(id).one(store.reader()).await? else {
        return Ok(None);
    };
    let erased = counts_of(&row)?;
    Ok(Some(ErasureView { row, erased }))
}

pub(super) fn counts_of(row: &table::Model) -> Result<Counts, LifecycleError> {
    serde_json::from_str(&row.counts).map_err(|_| LifecycleError::Unreadable { what: "erasure" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_leads_to_the_next_and_the_last_is_the_tombstone() {
        let (mut stage, mut count) = (Stage::Config, 1);
        while let Some(next) = stage.next() {
            assert_eq!(Stage::from_name(next.name()), Some(next));
            stage = next;
            count += 1;
        }
        assert_eq!((stage, count), (Stage::Tombstone, Stage::ALL.len()));
    }
}
