//! Another signing secret for an own webhook, with the former one signing for a while beside it, so that
//! a receiver can be told of the new one without losing a request.

use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait as _, QueryFilter,
    QueryOrder as _, QuerySelect as _,
};
use serde_json::json;
use uuid::Uuid;

use super::current::read_current;
use super::definition::{FieldFault, secret_fault};
use super::plan;
use super::writing::{OwnRefusal, OwnWebhooks, after};
use super::{FORMER_SECRET_FIELD, SECRET_FIELD};
use crate::audit::Actor;
use crate::crypto::{AssociatedData, Purpose, SecretText};
use crate::dialect::Dialect;
use crate::seam::Timestamp;
use crate::store::entity::{own_webhook, own_webhook_former_secret, webhook};
use crate::store::{RoutingChange, StoreError, UnitOfWork};

/// The longest overlap.
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// How many former secrets sign at a time: each makes the header longer.
const MOST_FORMER: u64 = 4;

/// How many that have expired one transaction takes out.
const STEP: u64 = 500;

/// A secret that took the place of another.
#[derive(Clone, Debug)]
pub struct SecretRotated {
    /// What it signs with from now on, where that was made here: told once.
    pub secret: Option<SecretText>,
    /// How its requests look.
    pub dialect: Dialect,
    /// Until when former ones sign too, the longest first.
    pub expiring: Vec<Timestamp>,
}

impl OwnWebhooks {
    /// Has a webhook sign with another secret: the given one, or one that is made. The former one
    /// signs for `overlap` more; zero ends it, and all former ones, at once.
    pub async fn rotate_secret(
        &self,
        work: &mut UnitOfWork,
        id: Uuid,
        given: Option<SecretText>,
        overlap: Duration,
        actor: &Actor,
    ) -> Result<SecretRotated, OwnRefusal> {
        use own_webhook_former_secret::{ActiveModel, Column, Entity};
        let fault = |message: &str| OwnRefusal::Faults(vec![FieldFault::new("/secret", message)]);
        if let Some(broken) = given.as_ref().and_then(|given| secret_fault(given.expose())) {
            return Err(fault(broken));
        }
        let began = self.seam.clock.now();
        let seen = read_current(work.connection(), id).await?;
        plan::lock(work, seen.org_id(), began).await?;
        let current = read_current(work.connection(), id).await?;
        let dialect = Dialect::from_name(&current.row.dialect).ok_or(OwnRefusal::Unreadable)?;
        let place = AssociatedData { subject: id, field: SECRET_FIELD };
        let opened = self.keys.ring.unseal(Purpose::Vault, &place, &current.own.sealed_secret)?;
        let former = std::str::from_utf8(opened.expose()).map_err(|_| OwnRefusal::Unreadable)?;
        let former = SecretText::new(former);
        if given.as_ref() == Some(&former) {
            return Err(fault("is the one that it signs with now"));
        }

        let until = began.plus(overlap);
        Entity::update_many()
            .col_expr(Column::ExpiresAt, Expr::value(until.micros()))
            .filter(Column::WebhookId.eq(id))
            .filter(Column::ExpiresAt.gt(until.micros()))
            .exec(work.connection())
            .await?;
        Entity::delete_many()
            .filter(Column::WebhookId.eq(id))
            .filter(Column::ExpiresAt.lte(began.micros()))
            .exec(work.connection())
            .await?;
        if !overlap.is_zero() {
            let live =
                Entity::find().filter(Column::WebhookId.eq(id)).count(work.connection()).await?;
            if live >= MOST_FORMER {
                return Err(OwnRefusal::TooManySecrets { limit: MOST_FORMER });
            }
            let kept = self.seam.randomness.id();
            Entity::insert(ActiveModel {
                id: Set(kept),
                webhook_id: Set(id),
                sealed_secret: Set(self.seal(kept, FORMER_SECRET_FIELD, &former)?),
                expires_at: Set(until.micros()),
            })
            .exec_without_returning(work.connection())
            .await?;
        }
        let (secret, made) = self.secret(given)?;
        let now = after(&current.row, began);
        own_webhook::Entity::update_many()
            .col_expr(
                own_webhook::Column::SealedSecret,
                Expr::value(self.seal(id, SECRET_FIELD, &secret)?),
            )
            .filter(own_webhook::Column::Id.eq(id))
            .exec(work.connection())
            .await?;
        webhook::Entity::update_many()
            .col_expr(webhook::Column::ModifiedAt, Expr::value(now.micros()))
            .filter(webhook::Column::Id.eq(id))
            .exec(work.connection())
            .await?;
        let detail = json!({ "overlapSeconds": overlap.as_secs(), "made": made.is_some() });
        self.audit(work, &current.row, "webhook.rotate-secret", detail, actor, now).await?;
        work.routing_changed(RoutingChange::Org(current.row.org_id));
        let expiring = Entity::find()
            .filter(Column::WebhookId.eq(id))
            .select_only()
            .column(Column::ExpiresAt)
            .order_by_desc(Column::ExpiresAt)
            .into_tuple::<i64>()
            .all(work.connection())
            .await?;
        let expiring = expiring.into_iter().map(Timestamp::from_micros).collect();
        Ok(SecretRotated { secret: made, dialect, expiring })
    }

    /// Takes out former secrets that sign no more.
    pub(super) async fn forget_expired_secrets(&self) -> Result<(), StoreError> {
        use own_webhook_former_secret::{Column, Entity};
        let now = self.seam.clock.now();
        loop {
            let ids: Vec<Uuid> = Entity::find()
                .select_only()
                .column(Column::Id)
                .filter(Column::ExpiresAt.lte(now.micros()))
                .order_by_asc(Column::ExpiresAt)
                .limit(STEP)
                .into_tuple()
                .all(self.store.reader())
                .await?;
            if ids.is_empty() {
                return Ok(());
            }
            let work = self.store.begin().await?;
            Entity::delete_many()
                .filter(Column::Id.is_in(ids))
                .filter(Column::ExpiresAt.lte(now.micros()))
                .exec(work.connection())
                .await?;
            let _settled = work.commit(now).await?;
        }
    }
}

/// Has no former secret of a webhook sign any more.
pub(super) async fn end_former_secrets(
    connection: &impl ConnectionTrait,
    webhook_id: Uuid,
) -> Result<(), StoreError> {
    own_webhook_former_secret::Entity::delete_many()
        .filter(own_webhook_former_secret::Column::WebhookId.eq(webhook_id))
        .exec(connection)
        .await?;
    Ok(())
}
