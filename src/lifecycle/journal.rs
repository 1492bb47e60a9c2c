//! The journal: every lifecycle callback of a vendor's extensions, in an order that nothing is
//! inserted into behind a reader, and sending one again.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use serde_json::Value;
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::Lifecycle;
use super::state::Phase;
use super::views::InstallationScope;
use crate::audit::{self, Actor, Entry};
use crate::seam::Timestamp;
use crate::store::claims::DeliveryState;
use crate::store::entity::{attempt, delivery, endpoint_state, event, journal as table};
use crate::store::{Store, UnitOfWork};

/// How far clocks of nodes and the length of a transaction may make the order of positions differ
/// from that of times: what is asked for "since" is looked for from so long before.
const SLACK: std::time::Duration = std::time::Duration::from_mins(10);

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalCursor(pub i64);

/// The last attempt at a callback.
#[derive(Clone, Debug)]
pub struct JournalAttempt {
    /// When it began.
    pub at: Timestamp,
    /// The status of the answer.
    pub status: Option<i32>,
    /// The class of the error; nothing on success.
    pub error: Option<String>,
}

/// A lifecycle callback as the journal shows it.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// Its place.
    pub cursor: JournalCursor,
    /// Its id: the `webhook-id` that it was sent with.
    pub id: Uuid,
    /// The extension.
    pub extension_key: String,
    /// The body as it was sent, but for the securityContext; null where it is not kept any more.
    pub body: Value,
    /// Whether it arrived; nothing where that is older than what is kept.
    pub state: Option<DeliveryState>,
    /// How many attempts were made.
    pub attempts: i32,
    /// The last one.
    pub last_attempt: Option<JournalAttempt>,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it happened.
    pub at: Timestamp,
}

/// The lifecycle events of some extensions, in the order in which they became visible: for a vendor
/// that lost some. Whoever goes on from the last cursor it has seen misses nothing.
pub async fn journal(
    store: &Store,
    scope: &InstallationScope,
    since: Option<Timestamp>,
    after: Option<JournalCursor>,
    limit: u64,
) -> Result<Vec<JournalEntry>, LifecycleError> {
    let mut query = table::Entity::find()
        .filter(condition(scope))
        .order_by_asc(table::Column::Position)
        .limit(limit);
    let mut from = after.map_or(0, |after| after.0);
    if let Some(since) = since {
        query = query.filter(table::Column::At.gte(since.micros()));
        // A place to begin at, so that what lies before is not read.
        let before = table::Entity::find()
            .filter(table::Column::At.lt(since.minus(SLACK).micros()))
            .order_by_desc(table::Column::At)
            .limit(1)
            .one(store.reader())
            .await?;
        from = from.max(before.map_or(0, |row| row.position));
    }
    let rows = query.filter(table::Column::Position.gt(from)).all(store.reader()).await?;
    complete(store, rows).await
}

fn condition(scope: &InstallationScope) -> sea_orm::Condition {
    match scope {
        InstallationScope::All => sea_orm::Condition::all(),
        InstallationScope::Extensions(keys) => {
            sea_orm::Condition::all().add(table::Column::ExtensionKey.is_in(keys.iter().cloned()))
        }
        // The journal is the vendors'.
        InstallationScope::Org(_) => sea_orm::Condition::all().add(Expr::cust("1 = 0")),
    }
}

async fn complete(
    store: &Store,
    rows: Vec<table::Model>,
) -> Result<Vec<JournalEntry>, LifecycleError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let deliveries: HashMap<Uuid, delivery::Model> = delivery::Entity::find()
        .filter(delivery::Column::Id.is_in(rows.iter().map(|row| row.delivery_id)))
        .all(store.reader())
        .await?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    let events: HashMap<Uuid, event::Model> = event::Entity::find()
        .filter(event::Column::Id.is_in(deliveries.values().map(|row| row.event_id)))
        .all(store.reader())
        .await?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    let several = deliveries.values().filter(|row| row.attempts > 1).map(|row| row.id);
    let mut later: HashMap<Uuid, JournalAttempt> = HashMap::new();
    for row in attempt::Entity::find()
        .filter(attempt::Column::DeliveryId.is_in(several))
        .order_by_asc(attempt::Column::DeliveryId)
        .order_by_asc(attempt::Column::Number)
        .all(store.reader())
        .await?
    {
        let at = Timestamp::from_micros(row.at);
        let attempt = JournalAttempt { at, status: row.status, error: row.error };
        later.insert(row.delivery_id, attempt);
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            let kept = deliveries.get(&row.delivery_id);
            let state = kept.and_then(|kept| DeliveryState::from_number(kept.state));
            let first = kept.and_then(|kept| {
                Some(JournalAttempt {
                    at: Timestamp::from_micros(kept.first_at?),
                    status: kept.first_status,
                    error: kept.first_error.clone(),
                })
            });
            JournalEntry {
                cursor: JournalCursor(row.position),
                id: row.delivery_id,
                extension_key: row.extension_key,
                body: kept
                    .and_then(|kept| events.get(&kept.event_id))
                    .and_then(|event| serde_json::from_slice(&event.payload).ok())
                    .unwrap_or_default(),
                state,
                attempts: kept.map_or(0, |kept| kept.attempts),
                last_attempt: later.remove(&row.delivery_id).or(first),
                next_attempt_at: kept
                    .filter(|_| state == Some(DeliveryState::Pending))
                    .and_then(|kept| kept.due_at)
                    .map(Timestamp::from_micros),
                at: Timestamp::from_micros(row.at),
            }
        })
        .collect())
}

/// The callback that tells of an installation, by which `vendorSetup` is judged.
pub(super) const SETUP: &str = "onInstall";

impl Lifecycle {
    /// Sends a callback again, with its `webhook-id` and its body, before those that wait. Returns
    /// nothing where the caller may not see it.
    pub async fn redeliver(
        &self,
        work: &mut UnitOfWork,
        scope: &InstallationScope,
        id: Uuid,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let entry = table::Entity::find()
            .filter(condition(scope))
            .filter(table::Column::DeliveryId.eq(id))
            .one(work.connection())
            .await?;
        let Some(entry) = entry else { return Ok(None) };
        self.send_again(work, &entry, actor).await?;
        Ok(Some(entry.installation_id))
    }

    /// Sends `onInstall` again, which `vendorSetup` shows.
    pub async fn resend_setup(
        &self,
        work: &mut UnitOfWork,
        installation_id: Uuid,
        actor: &Actor,
    ) -> Result<Uuid, LifecycleError> {
        let entry = table::Entity::find()
            .filter(table::Column::InstallationId.eq(installation_id))
            .filter(table::Column::Event.eq(SETUP))
            .order_by_desc(table::Column::Position)
            .one(work.connection())
            .await?
            .ok_or(LifecycleError::NotResent(
                "The version that was installed declares no onInstall, or the callback is older than what is kept.",
            ))?;
        self.send_again(work, &entry, actor).await?;
        Ok(entry.delivery_id)
    }

    async fn send_again(
        &self,
        work: &mut UnitOfWork,
        entry: &table::Model,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let now = self.inner.seam.clock.now();
        let locked = self.lock(work, entry.installation_id).await?;
        if locked.state().phase == Phase::Erased {
            return Err(LifecycleError::NotResent(
                "The installation is erased: nothing of it is sent any more.",
            ));
        }
        let row = delivery::Entity::find_by_id(entry.delivery_id)
            .lock_exclusive()
            .one(work.connection())
            .await?
            .ok_or(LifecycleError::NotResent("The callback is older than what is kept."))?;
        let is_pending = row.state == DeliveryState::Pending.number();
        let is_claimed = row.claim.is_some() && row.due_at.is_none_or(|due| due > now.micros());
        if is_pending && is_claimed {
            return Err(LifecycleError::NotResent("The callback is on its way already."));
        }
        delivery::Entity::update_many()
            .col_expr(delivery::Column::State, Expr::value(DeliveryState::Pending.number()))
            .col_expr(delivery::Column::DueAt, Expr::value(now.micros()))
            .col_expr(delivery::Column::Claim, Expr::value(Option::<i64>::None))
            .col_expr(delivery::Column::Replay, Expr::value(i16::from(row.attempts > 0)))
            .col_expr(delivery::Column::Ordered, Expr::value(1_i16))
            .filter(delivery::Column::Id.eq(row.id))
            .exec(work.connection())
            .await?;
        if entry.event == SETUP {
            endpoint_state::Entity::update_many()
                .col_expr(endpoint_state::Column::Health, Expr::value("pending"))
                .filter(endpoint_state::Column::EndpointId.eq(entry.installation_id))
                .exec(work.connection())
                .await?;
        }
        let detail = serde_json::json!({ "callback": entry.event, "deliveryId": row.id });
        let entry = Entry {
            chain: &locked.row.org_id,
            action: "callback.redeliver",
            subject: format!("installation:{}", entry.installation_id),
            detail: Some(detail),
        };
        audit::append(work, entry, actor, now, &self.inner.seam.randomness).await?;
        Ok(())
    }
}
