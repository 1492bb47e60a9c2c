//! After a restored backup: hold everything, begin a new life, and compare with what the marketplace
//! knows before anything is sent.

use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::HOLD_SUBJECT;
use super::marketplace::MarketplaceList;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::identifier::InstallationId;
use crate::lifecycle::state::Holder;
use crate::lifecycle::{
    Hold, HoldRequest, Lifecycle, LifecycleError, UninstallRequest, installation_state,
    raise_generation, raise_generations,
};
use crate::notice::{Board, Notice, NoticeKind};
use crate::seam::Seam;
use crate::store::entity::installation;
use crate::store::{Nodes, Store, StoreError, UnitOfWork, claims, hold};

/// How many installations one page reads.
const PAGE: usize = 500;

/// How many installations a report names of each sort.
const MOST_LISTED: usize = 1_000;

const REASON: &str = "a backup was restored";

/// What is erased within this time was asked to be.
const SOON: Duration = Duration::from_mins(2);

/// The state of an installation of which nothing is kept.
const ERASED: &str = "erased";

/// Why the way back cannot be gone.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A node works on the database.
    #[error(
        "{0} node(s) work on the restored database: stop them first, or wait until their leases \
         have run out (5 s)"
    )]
    NodesRun(u64),
    /// A step failed.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for RestoreError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// An installation that differs from what the marketplace knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Differing {
    /// The installation.
    pub installation_id: Uuid,
    /// Its extension.
    pub extension_key: String,
    /// Its org.
    pub org_id: String,
    /// Why it is named.
    pub reason: String,
}

/// What was done, and what is left to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// Deliveries that wait for the release; some of them were sent after the backup already, and
    /// come again under the same `webhook-id`.
    pub deliveries_waiting: u64,
    /// Reinstalls count from beyond this generation.
    pub generations_after: i32,
    /// Whether the marketplace's list was compared.
    pub compared: bool,
    /// How many installations the marketplace does not have.
    pub surplus: u64,
    /// Whether they were uninstalled.
    pub uninstalled: bool,
    /// Those installations, up to 1,000.
    pub surplus_installations: Vec<Differing>,
    /// How many installations the marketplace has and this database has not.
    pub missing: u64,
    /// Those, up to 1,000: the marketplace must install them again.
    pub install_again: Vec<Differing>,
    /// How many installations both have, in other states.
    #[serde(default)]
    pub differing: u64,
    /// How many of these were not put right: without `--repair`, or since only people can.
    #[serde(default)]
    pub unsettled: u64,
    /// Those installations, up to 1,000.
    #[serde(default)]
    pub differing_installations: Vec<Differing>,
}

impl RestoreReport {
    /// Whether nothing is left to be done but the release.
    pub fn is_settled(&self) -> bool {
        self.missing == 0 && self.unsettled == 0 && (self.surplus == 0 || self.uninstalled)
    }
}

/// What is done about an installation that both have, in other states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// It was suspended after the backup: in the marketplace's name, as it is the one who knows.
    Suspend,
    /// What is kept of it was erased after the backup.
    Erase,
    /// Somebody must look.
    Look,
}

/// How the state of an installation differs, and what is done about it. What is told as uninstalled
/// here or there is the business of others.
fn remedy(here: &str, listed: &str) -> Option<Remedy> {
    match (here, listed) {
        _ if here == listed => None,
        ("active", "suspended") => Some(Remedy::Suspend),
        ("uninstalled", "erased") => Some(Remedy::Erase),
        // Its policy came earlier here, or it failed there: nothing of it is left to be told of.
        ("uninstalled" | "erased", _) | (_, "uninstalled" | "erased" | "failed") => None,
        _ => Some(Remedy::Look),
    }
}

/// What the way back works with.
#[derive(Debug)]
pub struct AfterRestore<'a> {
    /// The database; no server may run on it.
    pub store: &'a Store,
    /// Ends installations that the marketplace does not have.
    pub lifecycle: &'a Lifecycle,
    /// Where the operator is told.
    pub board: &'a Board,
    /// Clock and randomness.
    pub seam: &'a Seam,
    /// Who does it.
    pub actor: &'a Actor,
}

/// Holds everything, voids the claims of the old life, raises the generations and, with the
/// marketplace's list, compares. Installations that the marketplace does not have are uninstalled
/// only where `repair` says so. Can be repeated.
pub async fn after_restore(
    parts: &AfterRestore<'_>,
    list: Option<&MarketplaceList>,
    repair: bool,
) -> Result<RestoreReport, RestoreError> {
    let mut report = RestoreReport::default();
    begin_anew(parts, &mut report).await?;
    if let Some(list) = list {
        report.compared = true;
        surplus(parts, list, repair, &mut report).await?;
        missing(parts, list, &mut report).await?;
        differing(parts, list, repair, &mut report).await?;
    }
    Ok(report)
}

async fn begin_anew(
    parts: &AfterRestore<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let AfterRestore { store, board, seam, actor, .. } = *parts;
    let now = seam.clock.now();
    // The hold comes first, and by itself: whatever happens after it, nothing is sent.
    let work = store.begin().await?;
    hold::hold(&work, REASON, now).await?;
    let notice = Notice {
        kind: NoticeKind::DeliveriesHeld,
        subject: HOLD_SUBJECT.to_owned(),
        org_id: String::new(),
        extension_key: None,
        installation_id: None,
        webhook_id: None,
        message: "A backup was restored, and nothing is delivered. When the differences from the \
                  marketplace are dealt with, run `mortise doctor --release`."
            .to_owned(),
    };
    board.post(&work, &notice).await?;
    let _settled = work.commit(now).await?;

    let work = store.begin().await?;
    Nodes::new(store.clone()).begin_anew(&work).await?;
    report.generations_after = raise_generations(&work).await?;
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action: "deliveries.hold",
        subject: "deliveries".to_owned(),
        detail: Some(serde_json::json!({
            "reason": REASON, "generationsAfter": report.generations_after,
        })),
    };
    audit::append(&work, entry, actor, now, &seam.randomness).await?;
    let _settled = work.commit(now).await?;
    claims::free_all(store, now).await?;
    report.deliveries_waiting = claims::count_waiting(store).await?;
    Ok(())
}

/// What lives here and not at the marketplace.
async fn surplus(
    parts: &AfterRestore<'_>,
    list: &MarketplaceList,
    repair: bool,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let AfterRestore { store, lifecycle, actor, .. } = *parts;
    report.uninstalled = repair;
    let mut after = Uuid::nil();
    loop {
        let rows = installation::Entity::find()
            .filter(installation::Column::Live.eq(1))
            .filter(installation::Column::Id.gt(after))
            .order_by_asc(installation::Column::Id)
            .limit(PAGE as u64)
            .all(store.reader())
            .await?;
        let is_last = rows.len() < PAGE;
        for row in rows {
            after = row.id;
            let reason = match list.get(row.id) {
                Some(listed) if listed.is_live() => continue,
                Some(listed) => format!("the marketplace has it as {}", listed.state),
                None => "the marketplace does not have it".to_owned(),
            };
            if repair {
                let mut work = lifecycle.begin().await?;
                let is_erased = list.get(row.id).is_some_and(|listed| listed.state == ERASED);
                let request = UninstallRequest {
                    installation_id: Some(InstallationId(row.id)),
                    reason: Some(format!("{REASON}; {reason}")),
                    erase_data: is_erased.then_some(true),
                    ..UninstallRequest::default()
                };
                lifecycle.uninstall(&mut work, &request, actor).await?;
                lifecycle.commit(work).await?;
            }
            report.surplus += 1;
            if report.surplus_installations.len() < MOST_LISTED {
                report.surplus_installations.push(Differing {
                    installation_id: row.id,
                    extension_key: row.extension_key,
                    org_id: row.org_id,
                    reason,
                });
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What lives at the marketplace and not here; and the generations that it has seen.
async fn missing(
    parts: &AfterRestore<'_>,
    list: &MarketplaceList,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let AfterRestore { store, seam, .. } = *parts;
    for page in list.entries().chunks(PAGE) {
        let rows = installation::Entity::find()
            .filter(installation::Column::Id.is_in(page.iter().map(|one| one.installation_id)))
            .all(store.reader())
            .await?;
        let work = store.begin().await?;
        for listed in page {
            let (org, key) = (listed.org_id.as_str(), listed.extension_key.as_str());
            if listed.generation > report.generations_after {
                raise_generation(&work, org, key, listed.generation).await?;
            }
            let row = rows.iter().find(|row| row.id == listed.installation_id);
            if !listed.is_live() || row.is_some_and(|row| row.live == 1) {
                continue;
            }
            report.missing += 1;
            if report.install_again.len() < MOST_LISTED {
                let reason = match row {
                    Some(row) => format!("it is {} here", row.state),
                    None => "it was installed after the backup".to_owned(),
                };
                report.install_again.push(Differing {
                    installation_id: listed.installation_id,
                    extension_key: key.to_owned(),
                    org_id: org.to_owned(),
                    reason,
                });
            }
        }
        let _settled = work.commit(seam.clock.now()).await?;
    }
    Ok(())
}

/// What both have, in other states. Each is put right in a transaction of its own.
async fn differing(
    parts: &AfterRestore<'_>,
    list: &MarketplaceList,
    repair: bool,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let AfterRestore { store, seam, .. } = *parts;
    for page in list.entries().chunks(PAGE) {
        let rows = installation::Entity::find()
            .filter(installation::Column::Id.is_in(page.iter().map(|one| one.installation_id)))
            .all(store.reader())
            .await?;
        for listed in page {
            let row = rows.iter().find(|row| row.id == listed.installation_id);
            let Some(row) = row else { continue };
            let here = installation_state(row);
            let Some(remedy) = remedy(here, &listed.state) else { continue };
            let soon = seam.clock.now().plus(SOON).micros();
            if remedy == Remedy::Erase && row.erase_at.is_some_and(|at| at <= soon) {
                continue;
            }
            report.differing += 1;
            let is_settled = repair && remedy != Remedy::Look;
            if is_settled {
                settle(parts, row.id, remedy).await?;
            }
            report.unsettled += u64::from(!is_settled);
            if report.differing_installations.len() < MOST_LISTED {
                let done = match (is_settled, remedy) {
                    (true, Remedy::Suspend) => "; suspended in the marketplace's name",
                    (true, Remedy::Erase) => "; its erasure is scheduled",
                    _ => "",
                };
                report.differing_installations.push(Differing {
                    installation_id: row.id,
                    extension_key: row.extension_key.clone(),
                    org_id: row.org_id.clone(),
                    reason: format!(
                        "it is {here} here, and {} at the marketplace{done}",
                        listed.state
                    ),
                });
            }
        }
    }
    Ok(())
}

async fn settle(parts: &AfterRestore<'_>, id: Uuid, remedy: Remedy) -> Result<(), RestoreError> {
    let AfterRestore { lifecycle, actor, .. } = *parts;
    let mut work = lifecycle.begin().await?;
    let installation_id = InstallationId(id);
    match remedy {
        Remedy::Suspend => {
            let reason = Some(format!("{REASON}; the marketplace has it as suspended"));
            let request = HoldRequest { installation_id, reason, generation: None };
            let holder = Hold::Suspend(Holder::Marketplace);
            lifecycle.hold(&mut work, &request, holder, actor).await?;
        }
        Remedy::Erase => {
            let request = UninstallRequest {
                installation_id: Some(installation_id),
                erase_data: Some(true),
                ..UninstallRequest::default()
            };
            lifecycle.uninstall(&mut work, &request, actor).await?;
        }
        Remedy::Look => {}
    }
    Ok(lifecycle.commit(work).await?)
}

/// Lets deliveries go, in the caller's transaction; `false` where nothing was held.
pub async fn release(
    work: &UnitOfWork,
    board: &Board,
    actor: &Actor,
    seam: &Seam,
) -> Result<bool, StoreError> {
    if !hold::release(work).await? {
        return Ok(false);
    }
    board.resolve(work, &[NoticeKind::DeliveriesHeld], HOLD_SUBJECT).await?;
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action: "deliveries.release",
        subject: "deliveries".to_owned(),
        detail: None,
    };
    audit::append(work, entry, actor, seam.clock.now(), &seam.randomness).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_has_its_remedy() {
        for (here, listed, wanted) in [
            ("active", "active", None),
            ("active", "suspended", Some(Remedy::Suspend)),
            ("suspended", "active", Some(Remedy::Look)),
            ("pendingAuthorization", "active", Some(Remedy::Look)),
            ("active", "pendingAuthorization", Some(Remedy::Look)),
            ("uninstalled", "erased", Some(Remedy::Erase)),
            // Told as surplus, or as missing.
            ("active", "uninstalled", None),
            ("active", "erased", None),
            ("uninstalled", "active", None),
            ("erased", "uninstalled", None),
        ] {
            assert_eq!(remedy(here, listed), wanted, "{here} {listed}");
        }
    }
}
