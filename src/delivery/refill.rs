//! Reading the table: retries that fell due, what memory had no room for, what a dead node left.
//!
//! The loop goes over the endpoints that have something due, never over the rows, so that the
//! backlog of one cannot fill the window of the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::lane::{Content, Job, Kind};
use crate::seam::Timestamp;
use crate::store::StoreError;
use crate::store::claims::{self, ClaimedDelivery, HELD, WaitingEndpoint};
use crate::store::entity::{endpoint, event};
use crate::webhook::Passage;

/// How often the table is read where nothing pokes.
const POLL: Duration = Duration::from_millis(500);

/// What a lease on a row has beyond the deadline of an attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// A clock that is set back by less is let be: retries are later by that, and that is all.
const SET_BACK: Duration = Duration::from_secs(5);

/// Reads the table until the dispatcher stops.
pub(super) async fn run(dispatcher: Dispatcher) {
    let inner = Arc::clone(&dispatcher.inner);
    let clock = &inner.seam.clock;
    let mut read = (clock.now(), clock.instant());
    // What a process wrote whose clock was ahead.
    let mut set_back = bring_forward(&dispatcher, None).await;
    loop {
        let expected = read.0.plus(read.1.elapsed());
        read = (clock.now(), clock.instant());
        let back = expected.since(read.0);
        if back >= SET_BACK {
            tracing::warn!(seconds = back.as_secs(), "the time of day was set back");
            set_back = bring_forward(&dispatcher, Some(back)).await;
        } else if set_back.is_err() {
            set_back = bring_forward(&dispatcher, None).await;
        }
        let pause = match round(&dispatcher).await {
            Ok(next_due) => {
                let now = inner.seam.clock.now();
                next_due.map_or(POLL, |due| due.since(now).clamp(Duration::from_millis(1), POLL))
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot read what is due");
                POLL
            }
        };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.poked.notified() => {}
            () = inner.seam.clock.sleep(pause) => {}
        }
    }
}

/// What waits is brought forward where the time of day was set back: retries would stand still for
/// as long as it was set back by.
async fn bring_forward(dispatcher: &Dispatcher, back: Option<Duration>) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let moved = claims::bring_forward(&inner.store, inner.seam.clock.now(), back).await;
    match moved {
        Ok(0) => Ok(()),
        Ok(moved) => {
            tracing::warn!(moved, "deliveries waited for a time by a clock that was ahead");
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, "cannot bring forward what waits; tried again");
            Err(error)
        }
    }
}

/// Goes once over all endpoints that have something waiting. Returns when the next row falls due.
async fn round(dispatcher: &Dispatcher) -> Result<Option<Timestamp>, StoreError> {
    let inner = &dispatcher.inner;
    if !inner.lease.is_valid() {
        return Ok(None);
    }
    let mut next_due: Option<Timestamp> = None;
    for waiting in claims::waiting_endpoints(&inner.store).await? {
        let now = inner.seam.clock.now();
        let due_at = Timestamp::from_micros(waiting.due_at);
        if waiting.last_due_at == HELD {
            // One that fails must not keep the others waiting.
            if let Err(error) = settle_held(dispatcher, waiting.endpoint_id).await {
                tracing::warn!(endpoint = %waiting.endpoint_id, %error, "cannot settle what is held");
            }
        }
        if due_at <= now {
            if let Err(error) = refill(dispatcher, &waiting).await {
                tracing::warn!(endpoint = %waiting.endpoint_id, %error, "cannot read what is due");
            }
        } else if waiting.due_at != HELD {
            next_due = Some(next_due.map_or(due_at, |former| former.min(due_at)));
        }
    }
    Ok(next_due)
}

/// What is known of an endpoint that has something due.
enum Standing {
    Open(Kind),
    Held,
    /// Its webhook is no more.
    Gone,
}

async fn standing(dispatcher: &Dispatcher, id: Uuid) -> Result<Standing, StoreError> {
    if let Some(endpoint) = dispatcher.inner.routing.endpoint(id) {
        return Ok(match endpoint.passage {
            Passage::Open if endpoint.ordered => Standing::Open(Kind::OrderedWebhook),
            Passage::Open => Standing::Open(Kind::Webhook),
            Passage::Held | Passage::Suspended => Standing::Held,
        });
    }
    let row = endpoint::Entity::find_by_id(id).one(dispatcher.inner.store.reader()).await?;
    Ok(match row {
        Some(row) if row.lane == "lifecycle" => Standing::Open(Kind::Callback),
        _ => Standing::Gone,
    })
}

/// What was held while its webhook came back or went is found here: a hold and a release may cross.
async fn settle_held(dispatcher: &Dispatcher, id: Uuid) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let standing = standing(dispatcher, id).await?;
    if matches!(standing, Standing::Held) {
        return Ok(());
    }
    let now = inner.seam.clock.now();
    let work = inner.store.begin().await?;
    match standing {
        Standing::Open(_) => claims::release_held(&inner.store, &work, id, now).await?,
        Standing::Held | Standing::Gone => {
            claims::cancel_unresolved(&inner.store, &work, id).await?
        }
    };
    let _settled = work.commit(now).await?;
    Ok(())
}

async fn refill(dispatcher: &Dispatcher, waiting: &WaitingEndpoint) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let id = waiting.endpoint_id;
    match standing(dispatcher, id).await? {
        Standing::Open(kind) if kind.is_ordered() => {
            if dispatcher.lanes().room(id, true, inner.seam.clock.now()) > 0 {
                claim_in_order(dispatcher, id, kind).await?;
            }
            Ok(())
        }
        Standing::Open(kind) => {
            let room = dispatcher.lanes().room(id, false, inner.seam.clock.now());
            if room == 0 {
                dispatcher.lanes().note_table(id, true);
                return Ok(());
            }
            let now = inner.seam.clock.now();
            let lease_until = now.plus(inner.options.deadline + LEASE_MARGIN);
            let limit = u32::try_from(room).unwrap_or(u32::MAX);
            let claimed =
                claims::claim_due(&inner.store, id, inner.lease.epoch(), now, lease_until, limit)
                    .await?;
            dispatcher.lanes().note_table(id, claimed.len() >= room);
            take_over(dispatcher, claimed, kind, lease_until).await
        }
        Standing::Held => {
            let now = inner.seam.clock.now();
            let work = inner.store.begin().await?;
            claims::hold_waiting(&inner.store, &work, id, now).await?;
            let _settled = work.commit(now).await?;
            Ok(())
        }
        Standing::Gone => {
            let now = inner.seam.clock.now();
            let work = inner.store.begin().await?;
            claims::cancel_unresolved(&inner.store, &work, id).await?;
            let _settled = work.commit(now).await?;
            dispatcher.lanes().note_table(id, false);
            Ok(())
        }
    }
}

/// Looks for the next delivery of an ordered endpoint at once, without waiting for the loop.
pub(super) async fn next_in_order(dispatcher: &Dispatcher, id: Uuid, kind: Kind) {
    let stopping = dispatcher.inner.stop.is_cancelled() || !dispatcher.inner.lease.is_valid();
    let room = dispatcher.lanes().room(id, true, dispatcher.inner.seam.clock.now());
    if stopping || room == 0 {
        return;
    }
    if let Err(error) = claim_in_order(dispatcher, id, kind).await {
        tracing::warn!(endpoint = %id, error = %error, "cannot read the next delivery in order");
    }
}

async fn claim_in_order(dispatcher: &Dispatcher, id: Uuid, kind: Kind) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    let lease_until = now.plus(inner.options.deadline + LEASE_MARGIN);
    let claimed =
        claims::claim_ordered(&inner.store, id, inner.lease.epoch(), now, lease_until).await?;
    take_over(dispatcher, claimed.into_iter().collect(), kind, lease_until).await
}

/// Reads the events of claimed rows and puts them in their lanes.
async fn take_over(
    dispatcher: &Dispatcher,
    claimed: Vec<ClaimedDelivery>,
    kind: Kind,
    lease_until: Timestamp,
) -> Result<(), StoreError> {
    if claimed.is_empty() {
        return Ok(());
    }
    let inner = &dispatcher.inner;
    let contents: HashMap<Uuid, Arc<Content>> = event::Entity::find()
        .filter(event::Column::Id.is_in(claimed.iter().map(|row| row.event_id)))
        .all(inner.store.reader())
        .await?
        .into_iter()
        .map(|row| {
            let content = Content {
                org_id: Arc::from(row.org_id.as_str()),
                event_type: Arc::from(row.event_type.as_str()),
                event_time: row.event_time,
                payload: Bytes::from(row.payload),
                previous: row.previous.map(Bytes::from),
            };
            (row.id, Arc::new(content))
        })
        .collect();
    let now = inner.seam.clock.now();
    let (sendable, empty): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|row| {
        contents.get(&row.event_id).is_some_and(|content| !content.payload.is_empty())
    });
    for row in empty {
        // Its payload is older than what is kept: there is nothing left to send.
        dispatcher.cancel_without_payload(row.id).await;
    }
    {
        let mut lanes = dispatcher.lanes();
        for row in sendable {
            let Some(content) = contents.get(&row.event_id) else { continue };
            lanes.push(
                Job {
                    id: row.id,
                    endpoint_id: row.endpoint_id,
                    generation: row.generation,
                    attempts_before: row.attempts,
                    is_replay: row.replay != 0,
                    kind,
                    content: Arc::clone(content),
                    lease_until: Some(lease_until),
                    place: None,
                },
                now,
            );
        }
    }
    dispatcher.spawn_workers();
    Ok(())
}
