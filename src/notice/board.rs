//! Writing notices.

use std::sync::Arc;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement,
};
use serde::Serialize;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::seam::{Seam, Timestamp};
use crate::store::entity::{notice, notice_outbox};
use crate::store::{StoreError, UnitOfWork};

/// What a notice is about. A new kind is a line here and a name below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// All attempts of a delivery are used up.
    WebhookFailing,
    /// The endpoint answered 410: nothing more is sent.
    WebhookGone,
    /// It failed for so long that policy stopped it.
    WebhookDisabled,
    /// It takes deliveries again.
    WebhookRecovered,
    /// A connection does not work any more and must be authorised again.
    ConnectionBroken,
    /// An upgrade waits for consent.
    UpgradeWaiting,
    /// Nobody agreed to an upgrade before its deadline.
    UpgradeExpired,
    /// An installation was suspended: nothing is delivered to it.
    InstallationSuspended,
    /// Nobody holds it suspended any more.
    InstallationResumed,
    /// An extension was suspended in all orgs.
    ExtensionSuspended,
    /// It was resumed.
    ExtensionResumed,
    /// A lifecycle callback was given up: the vendor does not know of a step.
    CallbackFailed,
    /// The reconciler found what should not be.
    LifecycleDrift,
    /// Nothing is delivered: a backup was restored, and nobody has released it yet.
    DeliveriesHeld,
    /// A closed org has installations that could not be ended.
    OrgClosing,
    /// An org's plan has no room for a webhook any more: it was switched off.
    WebhookOverPlan,
    /// What somebody proves himself by ends soon: an API token, or what a webhook says at its endpoint.
    CredentialExpiring,
}

impl NoticeKind {
    /// All kinds.
    pub const ALL: &[Self] = &[
        Self::WebhookFailing,
        Self::WebhookGone,
        Self::WebhookDisabled,
        Self::WebhookRecovered,
        Self::ConnectionBroken,
        Self::UpgradeWaiting,
        Self::UpgradeExpired,
        Self::InstallationSuspended,
        Self::InstallationResumed,
        Self::ExtensionSuspended,
        Self::ExtensionResumed,
        Self::CallbackFailed,
        Self::LifecycleDrift,
        Self::DeliveriesHeld,
        Self::OrgClosing,
        Self::WebhookOverPlan,
        Self::CredentialExpiring,
    ];

    /// The name in answers, events and the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebhookFailing => "webhook.failing",
            Self::WebhookGone => "webhook.gone",
            Self::WebhookDisabled => "webhook.disabled",
            Self::WebhookRecovered => "webhook.recovered",
            Self::ConnectionBroken => "connection.broken",
            Self::UpgradeWaiting => "upgrade.waiting",
            Self::UpgradeExpired => "upgrade.expired",
            Self::InstallationSuspended => "installation.suspended",
            Self::InstallationResumed => "installation.resumed",
            Self::ExtensionSuspended => "extension.suspended",
            Self::ExtensionResumed => "extension.resumed",
            Self::CallbackFailed => "callback.failed",
            Self::LifecycleDrift => "lifecycle.drift",
            Self::DeliveriesHeld => "deliveries.held",
            Self::OrgClosing => "org.closing",
            Self::WebhookOverPlan => "webhook.over-plan",
            Self::CredentialExpiring => "credential.expiring",
        }
    }
}

/// Something that people must know.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// To what it happened, such as `webhook:0198…`: the same kind and subject is one notice.
    pub subject: String,
    /// The org.
    pub org_id: String,
    /// The extension, whose vendor sees it too.
    pub extension_key: Option<String>,
    /// The installation.
    pub installation_id: Option<Uuid>,
    /// The webhook.
    pub webhook_id: Option<Uuid>,
    /// What happened and what to do, in sentences; never a secret.
    pub message: String,
}

/// A notice as it is sent: the form of Standard Webhooks.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: EventData<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventData<'a> {
    notice_id: Uuid,
    org_id: &'a str,
    extension_key: Option<&'a str>,
    installation_id: Option<Uuid>,
    webhook_id: Option<Uuid>,
    message: &'a str,
    count: i64,
    first_time: String,
    last_time: String,
}

/// Where notices are written. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Board {
    seam: Seam,
    /// Whether somebody is told by events too.
    sends: bool,
    pub(super) poked: Arc<Notify>,
}

impl Board {
    /// A board; `sends` where `notices.url` is set.
    pub fn new(seam: Seam, sends: bool) -> Self {
        Self { seam, sends, poked: Arc::default() }
    }

    /// Writes a notice in the transaction of what it tells of.
    pub async fn post(&self, work: &UnitOfWork, new: &Notice) -> Result<(), StoreError> {
        let now = self.seam.clock.now();
        let connection = work.connection();
        let id = self.seam.randomness.id();
        let row = connection
            .query_one_raw(Statement::from_sql_and_values(
                connection.get_database_backend(),
                "insert into notices (id, kind, subject, org_id, extension_key, installation_id, \
                 webhook_id, message, occurrences, first_at, last_at) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9) \
                 on conflict (kind, subject) do update set \
                 occurrences = notices.occurrences + 1, message = excluded.message, \
                 last_at = excluded.last_at, resolved_at = null \
                 returning id, occurrences, first_at",
                [
                    id.into(),
                    new.kind.name().into(),
                    new.subject.clone().into(),
                    new.org_id.clone().into(),
                    new.extension_key.clone().into(),
                    new.installation_id.into(),
                    new.webhook_id.into(),
                    new.message.clone().into(),
                    now.micros().into(),
                ],
            ))
            .await?
            .ok_or(StoreError::Corrupt { what: "notice" })?;
        if !self.sends {
            return Ok(());
        }
        let first_at = Timestamp::from_micros(row.try_get_by_index(2)?);
        let event = Event {
            kind: new.kind.name(),
            timestamp: now.rfc3339(),
            data: EventData {
                notice_id: row.try_get_by_index(0)?,
                org_id: &new.org_id,
                extension_key: new.extension_key.as_deref(),
                installation_id: new.installation_id,
                webhook_id: new.webhook_id,
                message: &new.message,
                count: row.try_get_by_index(1)?,
                first_time: first_at.rfc3339(),
                last_time: now.rfc3339(),
            },
        };
        let body =
            serde_json::to_string(&event).map_err(|_| StoreError::Corrupt { what: "notice" })?;
        notice_outbox::Entity::insert(notice_outbox::ActiveModel {
            id: Set(self.seam.randomness.id()),
            body: Set(body),
            attempts: Set(0),
            due_at: Set(now.micros()),
            created_at: Set(now.micros()),
        })
        .exec_without_returning(connection)
        .await?;
        // It is there when the transaction has ended; until then the look finds nothing, and the
        // next one comes by itself.
        self.poked.notify_one();
        Ok(())
    }

    /// Says that what notices of these kinds tell of a subject is over.
    pub async fn resolve(
        &self,
        work: &UnitOfWork,
        kinds: &[NoticeKind],
        subject: &str,
    ) -> Result<(), StoreError> {
        notice::Entity::update_many()
            .col_expr(notice::Column::ResolvedAt, Expr::value(self.seam.clock.now().micros()))
            .filter(notice::Column::Kind.is_in(kinds.iter().map(|kind| kind.name())))
            .filter(notice::Column::Subject.eq(subject))
            .filter(notice::Column::ResolvedAt.is_null())
            .exec(work.connection())
            .await?;
        Ok(())
    }

    /// Says that what notices tell of an installation is over, but for some kinds: it is no more.
    pub async fn resolve_installation(
        &self,
        work: &UnitOfWork,
        installation_id: Uuid,
        but: &[NoticeKind],
    ) -> Result<(), StoreError> {
        notice::Entity::update_many()
            .col_expr(notice::Column::ResolvedAt, Expr::value(self.seam.clock.now().micros()))
            .filter(notice::Column::InstallationId.eq(installation_id))
            .filter(notice::Column::Kind.is_not_in(but.iter().map(|kind| kind.name())))
            .filter(notice::Column::ResolvedAt.is_null())
            .exec(work.connection())
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod documentation {
    use super::*;

    /// Whoever acts on notices knows them by these two.
    #[test]
    fn every_kind_is_in_the_documents() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for path in ["docs/NOTICES.md", "src/api/notices.rs"] {
            let text = std::fs::read_to_string(root.join(path)).expect(path);
            for kind in NoticeKind::ALL {
                let name = format!("`{}`", kind.name());
                assert!(text.contains(&name), "{path} says nothing of {name}");
            }
        }
    }
}
