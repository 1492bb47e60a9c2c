//! What time brings: what was queued too long or too much is let go, and whoever gave a credential
//! is told before it ends.

use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::definition::WhileDisabled;
use super::writing::{OwnWebhooks, subject_of};
use crate::notice::{Notice, NoticeKind};
use crate::seam::Timestamp;
use crate::store::entity::{own_webhook, webhook, webhook_rule};
use crate::store::{StoreError, claims};

/// How often it is looked.
const PAUSE: Duration = Duration::from_mins(1);

/// How long what comes while a webhook is off may wait.
const QUEUED_FOR: Duration = Duration::from_hours(72);

/// How much of it may wait: of more, the oldest goes.
const QUEUED_AT_MOST: u32 = 10_000;

/// How long before its end somebody is told of a credential.
const TOLD_BEFORE: Duration = Duration::from_hours(7 * 24);

/// How many webhooks one query reads.
const PAGE: u64 = 200;

/// How many deliveries one transaction lets go.
const STEP: u32 = 2_000;

impl OwnWebhooks {
    /// Looks again and again until told to stop. Any node may: what one has done the next finds done.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.look(&stop).await {
                tracing::warn!(%error, "own webhooks could not be looked through; tried again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.seam.clock.sleep(PAUSE) => {}
            }
        }
    }

    async fn look(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        self.forget_expired_secrets().await?;
        self.trim_queues(stop).await?;
        self.tell_of_expiry(stop).await
    }

    async fn trim_queues(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        loop {
            let ids: Vec<Uuid> = own_webhook::Entity::find()
                .select_only()
                .column(own_webhook::Column::Id)
                .filter(own_webhook::Column::DisabledAt.is_not_null())
                .filter(own_webhook::Column::WhileDisabled.eq(WhileDisabled::Queue.as_str()))
                .filter(own_webhook::Column::Id.gt(after))
                .order_by_asc(own_webhook::Column::Id)
                .limit(PAGE)
                .into_tuple()
                .all(self.store.reader())
                .await?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = *last;
            for id in ids {
                while !stop.is_cancelled() && self.trim_queue(id).await? {}
            }
        }
    }

    /// A step over one queue. Returns whether there may be more.
    async fn trim_queue(&self, id: Uuid) -> Result<bool, StoreError> {
        let now = self.seam.clock.now();
        // What an automation waits with is queued from when it falls due, not from its event on.
        let waits: Option<i32> = webhook_rule::Entity::find()
            .filter(webhook_rule::Column::WebhookId.eq(id))
            .select_only()
            .column_as(webhook_rule::Column::AfterMinutes.max(), "longest")
            .into_tuple::<Option<i32>>()
            .one(self.store.reader())
            .await?
            .flatten();
        let waits = waits.map_or(0, i32::unsigned_abs);
        let oldest = now.minus(QUEUED_FOR).minus(Duration::from_mins(u64::from(waits)));
        if !claims::has_surplus_held(&self.store, id, oldest, QUEUED_AT_MOST).await? {
            return Ok(false);
        }
        let work = self.store.begin().await?;
        let trimmed =
            claims::trim_held(&self.store, &work, id, oldest, QUEUED_AT_MOST, STEP).await?;
        let _settled = work.commit(now).await?;
        tracing::info!(webhook = %id, trimmed, "what was queued while off was let go");
        Ok(trimmed >= u64::from(STEP))
    }

    async fn tell_of_expiry(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        loop {
            let soon = self.seam.clock.now().plus(TOLD_BEFORE);
            let rows = own_webhook::Entity::find()
                .filter(own_webhook::Column::CredentialsExpireAt.lte(soon.micros()))
                .filter(own_webhook::Column::ExpiryToldAt.is_null())
                .order_by_asc(own_webhook::Column::CredentialsExpireAt)
                .limit(PAGE)
                .all(self.store.reader())
                .await?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                if stop.is_cancelled() {
                    return Ok(());
                }
                self.tell_one(row.id, soon).await?;
            }
        }
    }

    async fn tell_one(&self, id: Uuid, soon: Timestamp) -> Result<(), StoreError> {
        let now = self.seam.clock.now();
        let work = self.store.begin().await?;
        let told = own_webhook::Entity::update_many()
            .col_expr(own_webhook::Column::ExpiryToldAt, Expr::value(Some(now.micros())))
            .filter(own_webhook::Column::Id.eq(id))
            .filter(own_webhook::Column::CredentialsExpireAt.lte(soon.micros()))
            .filter(own_webhook::Column::ExpiryToldAt.is_null())
            .exec(work.connection())
            .await?;
        let own = own_webhook::Entity::find_by_id(id).one(work.connection()).await?;
        let row = webhook::Entity::find_by_id(id).one(work.connection()).await?;
        let ends = own.and_then(|own| own.credentials_expire_at);
        let (1, Some(row), Some(ends)) = (told.rows_affected, row, ends) else {
            return work.rollback().await;
        };
        let ends = Timestamp::from_micros(ends);
        let name = row.name.as_deref().unwrap_or("without a name");
        let verb = if ends <= now { "ended" } else { "ends" };
        let notice = Notice {
            kind: NoticeKind::CredentialExpiring,
            subject: subject_of(id),
            org_id: row.org_id.clone(),
            extension_key: None,
            installation_id: None,
            webhook_id: Some(id),
            message: format!(
                "The token of the webhook {name} {verb} at {}: give it a new one.",
                ends.rfc3339()
            ),
        };
        self.board.post(&work, &notice).await?;
        let _settled = work.commit(now).await?;
        Ok(())
    }
}
