//! Orgs that the operator marks as being for development: their own webhooks may call private
//! addresses, by plain http too, and trust one certificate that signed itself. Link-local addresses
//! and those where clouds serve credentials stay closed for them, too.

use std::collections::HashSet;

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder as _,
};
use serde_json::json;
use uuid::Uuid;

use super::current::read_current;
use super::definition::WhileDisabled;
use super::writing::{OwnRefusal, OwnWebhooks, refuse_while_closing, subject_of};
use super::{KIND, plan};
use crate::audit::{self, Actor, Entry};
use crate::dialect::{AddressTemplate, Connection};
use crate::egress::Egress;
use crate::notice::{Notice, NoticeKind};
use crate::seam::Timestamp;
use crate::store::entity::{development_org, webhook};
use crate::store::{RoutingChange, StoreError, UnitOfWork};

/// Why a webhook was switched off, in the database.
const NO_DEVELOPMENT: &str = "development";

/// Whether an org is for development, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevelopmentMark {
    /// Who marked it.
    pub marked_by: String,
    /// When.
    pub marked_at: Timestamp,
}

/// A mark that was set or lifted.
#[derive(Clone, Debug)]
pub struct DevelopmentChanged {
    /// The mark as it is now.
    pub mark: Option<DevelopmentMark>,
    /// The webhooks that were switched off, since their addresses are not allowed any more.
    pub disabled: Vec<Uuid>,
}

/// Which of some orgs are for development.
pub(crate) async fn development_orgs(
    connection: &impl ConnectionTrait,
    orgs: impl IntoIterator<Item = String>,
) -> Result<HashSet<String>, StoreError> {
    let rows = development_org::Entity::find()
        .filter(development_org::Column::OrgId.is_in(orgs))
        .all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.org_id).collect())
}

async fn read(
    connection: &impl ConnectionTrait,
    org_id: &str,
) -> Result<Option<DevelopmentMark>, StoreError> {
    let row = development_org::Entity::find_by_id(org_id).one(connection).await?;
    Ok(row.map(|row| DevelopmentMark {
        marked_by: row.marked_by,
        marked_at: Timestamp::from_micros(row.marked_at),
    }))
}

impl OwnWebhooks {
    /// Whether an org is for development.
    pub async fn development(&self, org_id: &str) -> Result<Option<DevelopmentMark>, StoreError> {
        read(self.store.reader(), org_id).await
    }

    /// The door that the addresses of an org's own webhooks are vetted by.
    pub async fn door(&self, org_id: &str) -> Result<Egress, OwnRefusal> {
        Ok(if self.development(org_id).await?.is_some() {
            self.egress.development().map_err(|_| OwnRefusal::Unreadable)?
        } else {
            self.egress.clone()
        })
    }

    /// Marks an org as being for development, or lifts that. What is not allowed any more is switched
    /// off, each with its audit row and a notice.
    pub async fn set_development(
        &self,
        work: &mut UnitOfWork,
        org_id: &str,
        is_development: bool,
        actor: &Actor,
    ) -> Result<DevelopmentChanged, OwnRefusal> {
        let now = self.seam.clock.now();
        plan::lock(work, org_id, now).await?;
        let former = read(work.connection(), org_id).await?;
        if former.is_some() == is_development {
            return Ok(DevelopmentChanged { mark: former, disabled: Vec::new() });
        }
        let mut disabled = Vec::new();
        let mark = if is_development {
            refuse_while_closing(work, org_id).await?;
            let row = development_org::ActiveModel {
                org_id: Set(org_id.to_owned()),
                marked_by: Set(actor.name.clone()),
                marked_at: Set(now.micros()),
            };
            development_org::Entity::insert(row)
                .on_conflict(
                    OnConflict::column(development_org::Column::OrgId)
                        .update_column(development_org::Column::MarkedAt)
                        .to_owned(),
                )
                .exec_without_returning(work.connection())
                .await?;
            Some(DevelopmentMark { marked_by: actor.name.clone(), marked_at: now })
        } else {
            development_org::Entity::delete_by_id(org_id).exec(work.connection()).await?;
            disabled = self.switch_off_unfit(work, org_id, actor, now).await?;
            None
        };
        let action = if is_development { "org.development" } else { "org.development-ended" };
        let entry = Entry {
            chain: org_id,
            action,
            subject: format!("org:{org_id}"),
            detail: Some(json!({ "disabled": disabled })),
        };
        audit::append(work, entry, actor, now, &self.seam.randomness).await?;
        work.routing_changed(RoutingChange::Org(org_id.to_owned()));
        Ok(DevelopmentChanged { mark, disabled })
    }

    /// Switches off what an org that is not for development may not have on.
    async fn switch_off_unfit(
        &self,
        work: &UnitOfWork,
        org_id: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Uuid>, OwnRefusal> {
        let rows = webhook::Entity::find()
            .filter(webhook::Column::OrgId.eq(org_id))
            .filter(webhook::Column::Kind.eq(KIND))
            .filter(webhook::Column::IsEnabled.eq(1))
            .order_by_asc(webhook::Column::Id)
            .all(work.connection())
            .await?;
        let mut disabled = Vec::new();
        for row in rows {
            let current = read_current(work.connection(), row.id).await?;
            let is_pinned =
                current.settings.tls.as_ref().is_some_and(|tls| tls.pinned_certificate.is_some());
            let why = match self.unfit(&current.row.url, &current.own.connection) {
                Some(why) => why,
                None if is_pinned => "it pins a certificate that signed itself".to_owned(),
                None => continue,
            };
            self.write_off(work, &row, Some(NO_DEVELOPMENT), now).await?;
            let detail = json!({
                "reason": NO_DEVELOPMENT, "why": why,
                "before": { "isEnabled": true }, "after": { "isEnabled": false },
            });
            self.audit(work, &row, "webhook.disable", detail, actor, now).await?;
            let name = row.name.as_deref().unwrap_or("without a name");
            let waits = current.own.while_disabled == WhileDisabled::Queue.as_str();
            let notice = Notice {
                kind: NoticeKind::WebhookDisabled,
                subject: subject_of(row.id),
                org_id: row.org_id.clone(),
                extension_key: None,
                installation_id: None,
                webhook_id: Some(row.id),
                message: format!(
                    "The webhook {name} was switched off, since the org is not for development any \
                     more: {why}. Give it an address that may be called, then switch it on{}.",
                    if waits { "; what comes meanwhile is queued" } else { "" }
                ),
            };
            self.board.post(work, &notice).await?;
            disabled.push(row.id);
        }
        Ok(disabled)
    }

    /// Why an address may not be called by everybody, where that is so.
    fn unfit(&self, url: &str, connection: &str) -> Option<String> {
        let address = if connection == Connection::Events.as_str() {
            url::Url::parse(url).ok()
        } else {
            AddressTemplate::parse(url).ok().map(|address| address.base().clone())
        };
        match address {
            Some(address) => self.egress.vet(&address).err().map(|refusal| refusal.to_string()),
            None => Some("its address cannot be read".to_owned()),
        }
    }
}
