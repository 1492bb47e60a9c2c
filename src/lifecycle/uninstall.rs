//! Uninstall: always finishes, from any live state, in one transaction. A vendor or a provider that
//! is down cannot hold it.

use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::Lifecycle;
use super::state::Command;
use crate::audit::{self, Actor, Entry};
use crate::identifier::{ExtensionKey, InstallationId, OrgId};
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
    /// Whether the org asks that the extension's data be erased. Kept in the audit; erasure itself is
    /// not served by this release yet.
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

impl Lifecycle {
    /// Uninstalls. Again is the same.
    pub async fn uninstall(
        &self,
        work: &mut UnitOfWork,
        request: &UninstallRequest,
        actor: &Actor,
    ) -> Result<Uninstalled, LifecycleError> {
        if let Some(reason) = &request.reason
            && (reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control))
        {
            return Err(LifecycleError::field(
                "/reason",
                "reason may have 500 characters, none a control character",
            ));
        }
        let row = self.target(work, request).await?;
        let mut locked = self.with_version(work, row).await?;
        if !self.is_late(work, &locked.row, request.generation).await? {
            let reason = request.reason.as_deref();
            let ended = self.take(work, &mut locked, Command::Uninstall, actor, reason).await?;
            if let (true, Some(erase)) = (ended, request.erase_data) {
                self.note_erasure(work, &locked.row, erase, actor).await?;
            }
        }
        let removed_webhooks = endpoint::Entity::find()
            .filter(endpoint::Column::InstallationId.eq(locked.row.id))
            .filter(endpoint::Column::Lane.eq("webhook"))
            .count(work.connection())
            .await?;
        Ok(Uninstalled {
            installation_id: locked.row.id,
            generation: locked.row.generation,
            state: locked.state().name(),
            removed_webhooks,
        })
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
            detail: Some(serde_json::json!({ "eraseData": erase })),
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
            (Some(id), None, None) => Ok(self.lock(work, id.0).await?.row),
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
