//! What listeners read.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::delivery::LARGEST_BODY;
use crate::seam::Timestamp;
use crate::store::entity::{listener, tapped_delivery};
use crate::store::{Store, StoreError};

/// How many copies one answer has.
const PAGE: u64 = 50;

/// After how many bytes of bodies a page ends.
const PAGE_BYTES: i64 = 4 << 20;

/// A listener as it is shown.
#[derive(Clone, Debug)]
pub struct ListenerView {
    /// Its id.
    pub id: Uuid,
    /// The webhook that it listens to.
    pub webhook_id: Option<Uuid>,
    /// The installation that it listens to.
    pub installation_id: Option<Uuid>,
    /// The extension that it listens to.
    pub extension_key: Option<String>,
    /// How many copies were made for it.
    pub tapped: i64,
    /// How many it did not get, since they came too fast or were too many.
    pub dropped: i64,
    /// When it ends where nobody reads it.
    pub expires_at: Timestamp,
}

impl From<listener::Model> for ListenerView {
    fn from(row: listener::Model) -> Self {
        Self {
            id: row.id,
            webhook_id: row.webhook_id,
            installation_id: row.installation_id,
            extension_key: row.extension_key,
            tapped: row.tapped,
            dropped: row.dropped,
            expires_at: Timestamp::from_micros(row.expires_at),
        }
    }
}

/// A copy of a request.
#[derive(Clone, Debug)]
pub struct TappedView {
    /// Its number for this listener, from 1.
    pub sequence: i64,
    /// When the request was sent.
    pub at: Timestamp,
    /// The delivery.
    pub delivery_id: Uuid,
    /// The webhook.
    pub webhook_id: Uuid,
    /// The org.
    pub org_id: String,
    /// The type of the event.
    pub event_type: String,
    /// Which attempt it was, from 1.
    pub attempt: i32,
    /// Its method.
    pub method: String,
    /// Its address, with a mask for securityContext.
    pub url: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its exact bytes; none where they are too many.
    pub body: Option<Vec<u8>>,
    /// How many bytes the body has.
    pub body_bytes: i64,
    /// The status that the listener's own server answered.
    pub answered: Option<i32>,
    /// What was seen instead.
    pub answer_error: Option<String>,
}

impl From<tapped_delivery::Model> for TappedView {
    fn from(row: tapped_delivery::Model) -> Self {
        Self {
            sequence: row.sequence,
            at: Timestamp::from_micros(row.at),
            delivery_id: row.delivery_id,
            webhook_id: row.webhook_id,
            org_id: row.org_id,
            event_type: row.event_type,
            attempt: row.attempt,
            method: row.method,
            url: row.url,
            headers: serde_json::from_str(&row.headers).unwrap_or_default(),
            body: row.body,
            body_bytes: row.body_bytes,
            answered: row.answered,
            answer_error: row.answer_error,
        }
    }
}

/// Copies in their order.
#[derive(Clone, Debug)]
pub struct TappedPage {
    /// The listener.
    pub listener: ListenerView,
    /// The copies.
    pub copies: Vec<TappedView>,
    /// Where the next page begins.
    pub next: i64,
    /// How many copies before the first were removed before they were read.
    pub missed: i64,
}

impl TappedPage {
    pub(super) fn new(row: listener::Model, copies: Vec<TappedView>, after: i64) -> Self {
        let next = copies.last().map_or(after, |last| last.sequence);
        let missed = copies.first().map_or(0, |first| (first.sequence - after - 1).max(0));
        Self { listener: row.into(), copies, next, missed }
    }
}

/// The copies after one, as many as a page has.
pub(super) async fn copies(
    store: &Store,
    listener: Uuid,
    after: i64,
) -> Result<Vec<TappedView>, StoreError> {
    let following = || {
        tapped_delivery::Entity::find()
            .filter(tapped_delivery::Column::ListenerId.eq(listener))
            .filter(tapped_delivery::Column::Sequence.gt(after))
            .order_by_asc(tapped_delivery::Column::Sequence)
    };
    // Sizes first: what does not fit is never in memory.
    let sizes: Vec<(i64, i64)> = following()
        .select_only()
        .column(tapped_delivery::Column::Sequence)
        .column(tapped_delivery::Column::BodyBytes)
        .limit(PAGE)
        .into_tuple()
        .all(store.reader())
        .await?;
    let Some(last) = last_that_fits(&sizes) else { return Ok(Vec::new()) };
    let rows =
        following().filter(tapped_delivery::Column::Sequence.lte(last)).all(store.reader()).await?;
    Ok(rows.into_iter().map(TappedView::from).collect())
}

/// The last copy of a page: as many as fit, and one at the least.
fn last_that_fits(sizes: &[(i64, i64)]) -> Option<i64> {
    let mut bytes = 0_i64;
    let mut last = None;
    for (sequence, size) in sizes {
        // Bodies that are too large were not kept.
        let is_kept = usize::try_from(*size).is_ok_and(|size| size <= LARGEST_BODY);
        let kept = if is_kept { *size } else { 0 };
        bytes = bytes.saturating_add(kept);
        if last.is_some() && bytes > PAGE_BYTES {
            break;
        }
        last = Some(*sequence);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_its_bodies_are_too_many() {
        const MIB: i64 = 1 << 20;
        assert_eq!(last_that_fits(&[]), None);
        assert_eq!(last_that_fits(&[(7, MIB)]), Some(7));
        let large: Vec<_> = (1..=50).map(|sequence| (sequence, MIB)).collect();
        assert_eq!(last_that_fits(&large), Some(4));
        let left_out: Vec<_> = (1..=50).map(|sequence| (sequence, 9 * MIB)).collect();
        assert_eq!(last_that_fits(&left_out), Some(50), "these have no bodies");
        let small: Vec<_> = (1..=50).map(|sequence| (sequence, 1_000)).collect();
        assert_eq!(last_that_fits(&small), Some(50));
    }
}
