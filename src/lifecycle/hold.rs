//! Suspending one installation, and lifting that: each holder its own.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::{Lifecycle, Locked};
use super::state::{Command, Holder};
use super::uninstall::check_reason;
use crate::audit::Actor;
use crate::identifier::InstallationId;
use crate::notice::{Notice, NoticeKind};
use crate::store::UnitOfWork;

/// What the marketplace asks for.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// Why; shown in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

/// Whether to suspend or to resume, and in whose name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// This holder suspends.
    Suspend(Holder),
    /// This holder lifts its suspension.
    Resume(Holder),
}

impl Lifecycle {
    /// Suspends an installation, or lifts a suspension. Again is the same; who holds nothing while
    /// others do is refused, and told who they are.
    ///
    /// What is queued is held by the gate as soon as routing knows. What was held goes on after the
    /// commit, in order and in bounded steps, as everything that is held of a live webhook does.
    pub async fn hold(
        &self,
        work: &mut UnitOfWork,
        request: &HoldRequest,
        hold: Hold,
        actor: &Actor,
    ) -> Result<Uuid, LifecycleError> {
        let reason = request.reason.as_deref();
        check_reason(reason)?;
        let mut locked = self.lock(work, request.installation_id.0).await?;
        let id = locked.row.id;
        if self.is_late(work, &locked.row, request.generation).await? {
            return Ok(id);
        }
        let before = locked.state();
        let command = match hold {
            Hold::Suspend(holder) => Command::Suspend(holder),
            Hold::Resume(holder) => {
                let holders = before.suspended_by;
                if before.phase.is_live() && !holders.is_empty() && !holders.contains(holder) {
                    let holders = holders.names();
                    return Err(LifecycleError::Held { installation: id.to_string(), holders });
                }
                Command::Resume(holder)
            }
        };
        if self.take(work, &mut locked, command, actor, reason).await? {
            self.tell_people(work, &locked, hold, reason).await?;
        }
        Ok(id)
    }

    async fn tell_people(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        hold: Hold,
        reason: Option<&str>,
    ) -> Result<(), LifecycleError> {
        let board = self.inner.dispatcher.notices();
        let row = &locked.row;
        let subject = format!("installation:{}", row.id);
        let because = reason.map_or_else(String::new, |reason| format!(" Reason: {reason}"));
        let (kind, message) = match hold {
            Hold::Suspend(holder) => (
                NoticeKind::InstallationSuspended,
                format!(
                    "The {} suspended {} in org {}: deliveries are held until it is resumed.{because}",
                    holder.name(),
                    row.extension_key,
                    row.org_id
                ),
            ),
            Hold::Resume(holder) => {
                let holders = locked.state().suspended_by;
                if !holders.hold_alone() {
                    board.resolve(work, &[NoticeKind::InstallationSuspended], &subject).await?;
                }
                if !holders.is_empty() {
                    // The kill switch, of which another notice tells, or another holder.
                    return Ok(());
                }
                (
                    NoticeKind::InstallationResumed,
                    format!(
                        "The {} resumed {} in org {}: what was held goes on in order.{because}",
                        holder.name(),
                        row.extension_key,
                        row.org_id
                    ),
                )
            }
        };
        let notice = Notice {
            kind,
            subject,
            org_id: row.org_id.clone(),
            extension_key: Some(row.extension_key.clone()),
            installation_id: Some(row.id),
            webhook_id: None,
            message,
        };
        board.post(work, &notice).await?;
        Ok(())
    }
}
