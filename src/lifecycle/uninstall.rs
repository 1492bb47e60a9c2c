//! Uninstall: always finishes, from any live state, in one transaction. A vendor or a provider that
//! is down cannot hold it.

use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::erasure;
use super::error::LifecycleError;
use super::service::{Lifecycle, Locked, read_package};
use super::state::Command;
use crate::audit::{self, Actor, Entry};
use crate::identifier::{ExtensionKey, InstallationId, OrgId};
use crate::seam::Timestamp;
use crate::store::UnitOfWork;
use crate::store::entity::{endpoint, installation};

/// The longest reason.
const LONGEST_REASON: usize = 500;

/// What the marketplace asks for: an installation by its id, or by extension and org.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UninstallRequest {
    /// The installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
    /// The extension, with `orgId`.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_key: Option<ExtensionKey>,
    /// The org, with `extensionKey`.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    /// The user, with `extensionKey` and `orgId`: whose personal installation it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// Why; told to the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the org asks that what is kept of the installation be erased at once, and not only at
    /// the date of the policy (`retention.erase_after`). Asked for later, it brings that date forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase_data: Option<bool>,
}

/// An installation after the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uninstalled {
    /// The installation.
    pub installation_id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// Its state.
    pub state: &'static str,
    /// How many webhooks it had.
    pub removed_webhooks: u64,
}

/// Checks a reason that somebody wrote.
pub(super) fn check_reason(reason: Option<&str>) -> Result<(), LifecycleError> {
    match reason {
        Some(reason)
            if reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) =>
        {
            Err(LifecycleError::field(
                "/reason",
                "reason may have 500 characters, none a control character",
            ))
        }
        _ => Ok(()),
    }
}

impl Lifecycle {
    /// Uninstalls. Again is the same.
    pub async fn uninstall(
        &self,
        work: &mut UnitOfWork,
        request: &UninstallRequest,
        actor: &Actor,
    ) -> Result<Uninstalled, LifecycleError> {
        check_reason(request.reason.as_deref())?;
        let row = self.target(work, request).await?;
        let mut locked = self.for_its_end(work, row).await?;
        if !self.is_late(work, &locked.row, request.generation).await? {
            let reason = request.reason.as_deref();
            let soon = request.erase_data == Some(true);
            if soon && locked.row.live == 1 {
                // Before the step, so that the vendor's last callback tells the date.
                locked.row.erase_at = Some(erasure::soon(self.inner.seam.clock.now()).micros());
            }
            let ended = self.take(work, &mut locked, Command::Uninstall, actor, reason).await?;
            if let (true, Some(erase)) = (ended, request.erase_data) {
                self.note_erasure(work, &locked.row, erase, actor).await?;
            }
            if soon && !ended {
                self.request_erasure(work, locked.row.id, actor).await?;
            }
        }
        Ok(Uninstalled {
            installation_id: locked.row.id,
            generation: locked.row.generation,
            state: locked.state().name(),
            removed_webhooks: self.webhooks_at_the_end(work, &locked).await?,
        })
    }

    /// How many webhooks an installation had when it ended: what its last version declares, from its
    /// authorisation on. That stays as it was, so that asked again the answer is the same; webhooks
    /// of former versions, which an upgrade removed, are not among them.
    async fn webhooks_at_the_end(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
    ) -> Result<u64, LifecycleError> {
        if locked.row.authorized_at.is_none() {
            return Ok(0);
        }
        if let Ok(package) = read_package(&locked.version) {
            return Ok(u64::from(package.webhook.is_some()));
        }
        // Nobody can say what it declares: a version has one webhook at the most.
        let endpoints = endpoint::Entity::find()
            .filter(endpoint::Column::InstallationId.eq(locked.row.id))
            .filter(endpoint::Column::Lane.eq("webhook"))
            .count(work.connection())
            .await?;
        Ok(endpoints.min(1))
    }

    /// Keeps in the audit what the org chose for the extension's data.
    async fn note_erasure(
        &self,
        work: &UnitOfWork,
        row: &installation::Model,
        erase: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let entry = Entry {
            chain: &row.org_id,
            action: "installation.erasure-choice",
            subject: format!("installation:{}", row.id),
            detail: Some(serde_json::json!({
                "eraseData": erase,
                "eraseAt": row.erase_at.map(|at| Timestamp::from_micros(at).rfc3339()),
            })),
        };
        let seam = &self.inner.seam;
        audit::append(work, entry, actor, seam.clock.now(), &seam.randomness).await?;
        Ok(())
    }

    async fn target(
        &self,
        work: &UnitOfWork,
        request: &UninstallRequest,
    ) -> Result<installation::Model, LifecycleError> {
        let names = (&request.installation_id, &request.extension_key, &request.org_id);
        match names {
            (Some(id), None, None) => self.lock_row(work, id.0).await,
            (None, Some(key), Some(org)) => {
                let (key, org) = (key.as_str(), org.as_str());
                let user = request.user_id.as_deref().unwrap_or_default();
                let live = self.live(work, key, org, user).await?;
                let is_late = match (&live, request.generation) {
                    (Some(live), Some(generation)) => generation < live.generation,
                    (None, _) => true,
                    (Some(_), None) => false,
                };
                let found = if is_late {
                    self.former(work, key, org, user, request.generation).await?
                } else {
                    live
                };
                found.ok_or_else(|| LifecycleError::Unknown(format!("of {key} in org {org}")))
            }
            _ => Err(LifecycleError::field(
                "",
                "name the installation by installationId, or by extensionKey and orgId",
            )),
        }
    }
}
