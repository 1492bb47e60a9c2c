//! Whether an automation still fires when its delivery falls due: not where what it waits not to
//! happen has happened meanwhile. The events that say so left marks in their own commits.

use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use serde_json::Value;
use uuid::Uuid;

use super::lane::Content;
use crate::dialect::correlation;
use crate::seam::Timestamp;
use crate::store::entity::automation_mark;
use crate::store::{Store, StoreError};
use crate::webhook::own::RoutedRule;

/// Whether a mark was left since a delivery was made.
pub(super) async fn is_overtaken(
    store: &Store,
    rule: &RoutedRule,
    delivery_id: Uuid,
    content: &Content,
) -> Result<bool, StoreError> {
    if rule.unless.is_none() {
        return Ok(false);
    }
    let payload: Value = serde_json::from_slice(&content.payload).unwrap_or_default();
    let Some(subject) = correlation(&content.event_type, &payload) else { return Ok(false) };
    let marks = automation_mark::Entity::find()
        .filter(automation_mark::Column::RuleId.eq(rule.id))
        .filter(automation_mark::Column::Subject.eq(subject))
        .filter(automation_mark::Column::At.gt(made_at(delivery_id).micros()))
        .limit(1)
        .count(store.reader())
        .await?;
    Ok(marks > 0)
}

/// When a delivery was made, by its id: never before its own event was accepted, so that the event
/// itself is no mark against it.
fn made_at(delivery_id: Uuid) -> Timestamp {
    let millis = delivery_id.get_timestamp().map_or(0, |timestamp| {
        let (seconds, nanos) = timestamp.to_unix();
        seconds.saturating_mul(1_000).saturating_add(u64::from(nanos / 1_000_000))
    });
    // An id tells the millisecond: up to its end the event's own mark may lie.
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{Clock, Randomness};

    #[test]
    fn an_event_is_no_mark_against_its_own_delivery() {
        let (clock, randomness) = (Clock::default(), Randomness::default());
        for _ in 0..100 {
            let accepted_at = clock.now();
            let delivery = randomness.id();
            assert!(made_at(delivery) > accepted_at);
            assert!(made_at(delivery).since(accepted_at).as_millis() < 1_000);
        }
    }
}
