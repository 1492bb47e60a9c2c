//! Policy: an endpoint that fails for too long is called no more until somebody says so.
//!
//! Silence is no failure: what counts is that a delivery failed this long after the failing began,
//! and none was taken in between.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::outcome::Health;
use crate::audit::{self, Actor, Entry};
use crate::dialect::Dialect;
use crate::seam::Timestamp;
use crate::store::entity::{endpoint_state, webhook};
use crate::store::{RoutingChange, StoreError};

/// How many endpoints one look takes; the rest comes with the next one.
const ROUND: u64 = 200;

/// Disables the webhooks that have failed for too long.
pub(super) async fn sweep(dispatcher: &Dispatcher) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let Some(limit) = inner.options.disable_after else { return Ok(()) };
    if !inner.lease.may_deliver() {
        return Ok(());
    }
    let began_before = inner.seam.clock.now().minus(limit);
    let mut after: Option<(i64, Uuid)> = None;
    loop {
        let mut query = endpoint_state::Entity::find()
            .filter(endpoint_state::Column::Health.eq("failing"))
            .filter(endpoint_state::Column::HealthSince.lte(began_before.micros()))
            .filter(endpoint_state::Column::EndpointId.in_subquery(webhooks()))
            .order_by_asc(endpoint_state::Column::HealthSince)
            .order_by_asc(endpoint_state::Column::EndpointId)
            .limit(ROUND);
        if let Some((since, id)) = after {
            query = query.filter(
                sea_orm::Condition::any().add(endpoint_state::Column::HealthSince.gt(since)).add(
                    sea_orm::Condition::all()
                        .add(endpoint_state::Column::HealthSince.eq(since))
                        .add(endpoint_state::Column::EndpointId.gt(id)),
                ),
            );
        }
        let rows = query.all(inner.store.reader()).await?;
        let is_last = (rows.len() as u64) < ROUND;
        after = rows.last().and_then(|row| Some((row.health_since?, row.endpoint_id)));
        for row in rows {
            if is_too_long(&row, limit) {
                disable(dispatcher, row.endpoint_id, limit).await?;
            }
        }
        if is_last || after.is_none() {
            return Ok(());
        }
    }
}

/// The lanes of lifecycle callbacks have no webhook and are never disabled; nor are the webhooks of
/// systems that promise so, which the breaker alone holds.
fn webhooks() -> sea_orm::sea_query::SelectStatement {
    use sea_orm::QueryTrait;
    let held = Dialect::ALL.into_iter().filter(|one| !one.disables_after_failures());
    webhook::Entity::find()
        .select_only()
        .column(webhook::Column::Id)
        .filter(webhook::Column::Dialect.is_not_in(held.map(Dialect::as_str)))
        .into_query()
}

fn is_too_long(row: &endpoint_state::Model, limit: std::time::Duration) -> bool {
    match (row.health_since, row.last_failure_at) {
        (Some(since), Some(failure)) => {
            Timestamp::from_micros(failure) >= Timestamp::from_micros(since).plus(limit)
        }
        _ => false,
    }
}

async fn disable(
    dispatcher: &Dispatcher,
    endpoint: Uuid,
    limit: std::time::Duration,
) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    let mut work = inner.store.begin().await?;
    let current = endpoint_state::Entity::find_by_id(endpoint)
        .lock_exclusive()
        .one(work.connection())
        .await?
        .filter(|row| row.health == "failing" && is_too_long(row, limit));
    let row = webhook::Entity::find_by_id(endpoint).one(work.connection()).await?;
    let (Some(current), Some(row)) = (current, row) else { return work.rollback().await };
    dispatcher.write_state(&work, endpoint, Health::Disabled, true, false, now).await?;
    dispatcher.tell(&work, &row, Health::Disabled).await?;
    let since = current.health_since.map(|since| Timestamp::from_micros(since).rfc3339());
    let entry = Entry {
        chain: &row.org_id,
        action: "webhook.disable",
        subject: format!("webhook:{endpoint}"),
        detail: Some(json!({ "failingSince": since, "lastError": current.last_error })),
    };
    audit::append(&work, entry, &Actor::system("delivery"), now, &inner.seam.randomness).await?;
    work.routing_changed(RoutingChange::Org(row.org_id));
    let revision = work.commit(now).await?;
    tracing::warn!(webhook = %endpoint, "disabled: it failed for too long");
    if let Err(error) = inner.routing.settle(revision).await {
        tracing::warn!(webhook = %endpoint, %error, "cannot apply that a webhook is disabled");
    }
    Ok(())
}
