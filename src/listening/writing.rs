//! Writing copies for listeners, and forgetting them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::service::Listening;
use super::{KEPT, KEPT_FOR};
use crate::delivery::TappedRequest;
use crate::store::entity::{listener, tapped_delivery};
use crate::store::{StoreError, UnitOfWork};
use crate::telemetry::METRICS;

/// How many copies one transaction writes.
const GROUP: usize = 64;

/// How many bytes of bodies one transaction writes, if it is more than one copy: on SQLite events wait
/// for it.
const GROUP_BYTES: usize = 1 << 20;

/// How often a node looks who listens.
const LOOK: Duration = Duration::from_secs(1);

/// How often old copies are looked for, and the pause between two steps while there are more.
const PRUNE_EVERY: Duration = Duration::from_secs(30);
const BETWEEN_STEPS: Duration = Duration::from_millis(50);

/// How many rows one step removes; as in the statements.
const STEP: u64 = 500;

impl Listening {
    /// Looks who listens, writes what they are to get, and forgets what is too old, until told to
    /// stop.
    pub async fn run(self, stop: CancellationToken) {
        let Some(mut receiver) = self.taps.receiver() else { return };
        let writer = self.clone();
        let writing = async {
            let mut group = Vec::with_capacity(GROUP);
            while receiver.recv_many(&mut group, GROUP).await > 0 {
                for part in parts(&group) {
                    if let Err(error) = writer.write(part).await {
                        tracing::warn!(%error, "copies for listeners could not be written");
                        for copy in part {
                            writer.taps.drop_one(copy.listener, 1);
                        }
                    }
                    writer.taps.left(part);
                }
                writer.taps.tell();
                group.clear();
            }
        };
        let looking = async {
            loop {
                if let Err(error) = self.look().await {
                    tracing::warn!(%error, "cannot read who listens; tried again");
                }
                if let Err(error) = self.note_dropped().await {
                    tracing::warn!(%error, "cannot note what listeners did not get");
                }
                self.seam.clock.sleep(LOOK).await;
            }
        };
        let pruning = async {
            loop {
                let pause = match self.prune().await {
                    Ok(true) => BETWEEN_STEPS,
                    Ok(false) => PRUNE_EVERY,
                    Err(error) => {
                        tracing::warn!(%error, "old copies could not be removed; tried again");
                        PRUNE_EVERY
                    }
                };
                self.seam.clock.sleep(pause).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = writing => {}
            () = looking => {}
            () = pruning => {}
        }
    }

    /// Writes copies in one transaction, numbered for each listener under the lock of its row.
    async fn write(&self, group: &[TappedRequest]) -> Result<(), StoreError> {
        let now = self.seam.clock.now();
        // In the order of ids, so that two nodes never wait for each other.
        let mut of_listeners: BTreeMap<Uuid, Vec<&TappedRequest>> = BTreeMap::new();
        for copy in group {
            of_listeners.entry(copy.listener).or_default().push(copy);
        }
        let work = self.store.begin().await?;
        for (id, copies) in of_listeners {
            let count = i64::try_from(copies.len()).unwrap_or(0);
            let numbered = work
                .connection()
                .query_one_raw(Statement::from_sql_and_values(
                    self.store.dialect(),
                    "update listeners set tapped = tapped + $2 where id = $1 returning tapped",
                    [id.into(), count.into()],
                ))
                .await?;
            // It ended meanwhile.
            let Some(numbered) = numbered else { continue };
            let last: i64 = numbered.try_get_by_index(0)?;
            for (sequence, copy) in (last - count + 1..).zip(&copies) {
                insert(&work, sequence, copy).await?;
            }
            METRICS.tapped.add(copies.len() as u64);
            tapped_delivery::Entity::delete_many()
                .filter(tapped_delivery::Column::ListenerId.eq(id))
                .filter(tapped_delivery::Column::Sequence.lte(last - KEPT))
                .exec(work.connection())
                .await?;
        }
        let _settled = work.commit(now).await?;
        Ok(())
    }

    async fn note_dropped(&self) -> Result<(), StoreError> {
        let dropped: BTreeMap<Uuid, i64> = self.taps.take_dropped().into_iter().collect();
        if dropped.is_empty() {
            return Ok(());
        }
        let work = self.store.begin().await?;
        for (id, count) in dropped {
            listener::Entity::update_many()
                .col_expr(
                    listener::Column::Dropped,
                    Expr::col(listener::Column::Dropped).add(count),
                )
                .filter(listener::Column::Id.eq(id))
                .exec(work.connection())
                .await?;
        }
        let _settled = work.commit(self.seam.clock.now()).await?;
        self.taps.tell();
        Ok(())
    }

    /// One step of forgetting. Returns whether there may be more to do.
    async fn prune(&self) -> Result<bool, StoreError> {
        const COPIES: &str = "delete from tapped_deliveries where (listener_id, sequence) in (\
            select listener_id, sequence from tapped_deliveries where at < $1 order by at limit 500)";
        const LISTENERS: &str = "delete from listeners where id in (\
            select id from listeners where expires_at < $1 order by expires_at limit 500)";
        let now = self.seam.clock.now();
        let mut is_more = false;
        // Of a listener that ended, copies go with their age.
        for (sql, cut) in [(COPIES, now.minus(KEPT_FOR)), (LISTENERS, now)] {
            let work = self.store.begin().await?;
            let statement =
                Statement::from_sql_and_values(self.store.dialect(), sql, [cut.micros().into()]);
            is_more |= work.connection().execute_raw(statement).await?.rows_affected() >= STEP;
            let _settled = work.commit(now).await?;
        }
        Ok(is_more)
    }
}

/// A group in parts of few bytes.
fn parts(mut group: &[TappedRequest]) -> Vec<&[TappedRequest]> {
    let mut parts = Vec::new();
    while !group.is_empty() {
        let mut bytes = 0_usize;
        let fit = group.iter().take_while(|copy| {
            bytes += copy.body.as_ref().map_or(0, Bytes::len);
            bytes <= GROUP_BYTES
        });
        let (part, rest) = group.split_at(fit.count().max(1));
        parts.push(part);
        group = rest;
    }
    parts
}

async fn insert(work: &UnitOfWork, sequence: i64, copy: &TappedRequest) -> Result<(), StoreError> {
    let headers = serde_json::to_string(&copy.headers)
        .map_err(|_| StoreError::Corrupt { what: "copy of a request" })?;
    tapped_delivery::Entity::insert(tapped_delivery::ActiveModel {
        listener_id: Set(copy.listener),
        sequence: Set(sequence),
        at: Set(copy.at.micros()),
        delivery_id: Set(copy.delivery_id),
        webhook_id: Set(copy.webhook_id),
        org_id: Set(copy.org_id.to_string()),
        event_type: Set(copy.event_type.to_string()),
        attempt: Set(copy.attempt),
        method: Set(copy.method.as_str().to_owned()),
        url: Set(copy.url.clone()),
        headers: Set(headers),
        body: Set(copy.body.as_ref().map(|body| body.to_vec())),
        body_bytes: Set(i64::try_from(copy.body_bytes).unwrap_or(i64::MAX)),
        answered: Set(None),
        answer_error: Set(None),
        answer_micros: Set(None),
    })
    .exec_without_returning(work.connection())
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::seam::Timestamp;

    #[test]
    fn large_copies_are_written_one_by_one_and_small_ones_together() {
        let copy = |bytes: usize| TappedRequest {
            listener: Uuid::nil(),
            at: Timestamp::from_micros(0),
            delivery_id: Uuid::nil(),
            webhook_id: Uuid::nil(),
            org_id: "1".into(),
            event_type: "Ticket_Add".into(),
            attempt: 1,
            method: Method::POST,
            url: "https://vendor.example/".to_owned(),
            headers: Vec::new(),
            body: Some(Bytes::from(vec![0; bytes])),
            body_bytes: bytes,
        };
        let lengths = |group: &[TappedRequest]| {
            parts(group).iter().map(|part| part.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[(); GROUP].map(|()| copy(10))), [GROUP]);
        assert_eq!(lengths(&[(); 3].map(|()| copy(1 << 20))), [1, 1, 1]);
        assert_eq!(lengths(&[copy(2 << 20), copy(1), copy(1 << 20), copy(1)]), [1, 1, 1, 1]);
        assert_eq!(lengths(&[copy(1), copy(1 << 19), copy(1 << 19)]), [2, 1]);
    }
}
