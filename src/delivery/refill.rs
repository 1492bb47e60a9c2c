//! Reading the table: retries that fell due, what memory had no room for, what a dead node left.
//!
//! The loop goes over the endpoints that have something due, never over the rows, so that the
//! backlog of one cannot fill the window of the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::lane::{Circumstances, Content, Job, Kind};
use super::set_clock::ClockWatch;
use crate::seam::Timestamp;
use crate::store::StoreError;
use crate::store::claims::{self, ClaimedDelivery, DeliveryState, HELD, PARKED};
use crate::store::committer::EVENT_OVERHEAD;
use crate::store::entity::{delivery_variant, endpoint, event, incoming_lane, webhook};
use crate::telemetry::METRICS;
use crate::webhook::Passage;

/// How often the whole table is looked over.
const POLL: Duration = Duration::from_millis(500);

/// A scan pauses for so many times what it took, so that it has a tenth of a core at the most.
const SCAN_SHARE: u32 = 9;

/// What a lease on a row has beyond the deadline of an attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// How many deliveries of an endpoint that stopped are held in one transaction.
const HELD_AT_ONCE: u32 = 1_000;

/// How many rows one statement claims at the most.
const CLAIM_LIMIT: usize = 512;

/// How many endpoints one statement claims for at the most.
const CLAIM_ENDPOINTS: usize = 128;

/// Reads the table until the dispatcher stops: endpoints that somebody names at once, all of them
/// now and then.
pub(super) async fn run(dispatcher: Dispatcher) {
    let inner = Arc::clone(&dispatcher.inner);
    if let Err(error) = remember_pauses(&dispatcher).await {
        tracing::warn!(error = %error, "cannot read which endpoints are paused");
    }
    let mut watch = ClockWatch::start(&dispatcher);
    let mut next_scan = inner.seam.clock.instant();
    let mut poked = (HashSet::new(), true);
    loop {
        inner.beat.beat();
        watch.look(&dispatcher);
        let (named, any) = poked;
        let scans = any || inner.seam.clock.instant() >= next_scan;
        let done = if scans {
            let began = inner.seam.clock.instant();
            scan(&dispatcher).await.map(|next_due| {
                let now = inner.seam.clock.now();
                let pause = next_due.map_or(POLL, |due| due.since(now).clamp(Duration::ZERO, POLL));
                // Where very many endpoints have something waiting, looking over them all must not
                // become the work itself.
                let least = (began.elapsed() * SCAN_SHARE).max(Duration::from_millis(1));
                next_scan = inner.seam.clock.instant() + pause.max(least);
            })
        } else {
            refill(&dispatcher, named.into_iter().collect()).await
        };
        if let Err(error) = done {
            tracing::warn!(error = %error, "cannot read what is due");
            // What was named is found by the scan.
            next_scan = inner.seam.clock.instant() + POLL;
            inner.seam.clock.sleep(POLL).await;
        }
        let pause = next_scan.saturating_duration_since(inner.seam.clock.instant());
        tokio::select! {
            () = inner.stop.cancelled() => {
                inner.beat.rest();
                return;
            }
            () = inner.pokes.notified() => {}
            () = inner.seam.clock.sleep(pause) => {}
        }
        poked = inner.pokes.take();
    }
}

/// Opens the breakers that were open when this node began.
async fn remember_pauses(dispatcher: &Dispatcher) -> Result<(), StoreError> {
    let now = dispatcher.inner.seam.clock.now();
    let paused = claims::paused_endpoints(&dispatcher.inner.store, now).await?;
    // Not for longer than a pause can be: it may have been written by a clock that was ahead.
    let latest = now.plus(dispatcher.inner.options.breaker.pause_limit);
    let mut lanes = dispatcher.lanes();
    for endpoint in paused {
        let until = Timestamp::from_micros(endpoint.breaker_until).min(latest);
        lanes.pause(endpoint.endpoint_id, until, now);
    }
    Ok(())
}

/// Goes once over all endpoints that have something waiting. Returns when the next row falls due.
async fn scan(dispatcher: &Dispatcher) -> Result<Option<Timestamp>, StoreError> {
    let inner = &dispatcher.inner;
    if !inner.lease.may_deliver() {
        return Ok(None);
    }
    dispatcher.lanes().share_rates(inner.lease.live_nodes());
    dispatcher.lanes().wake(inner.seam.clock.now());
    dispatcher.spawn_workers();
    let mut next_due: Option<Timestamp> = None;
    let mut due = Vec::new();
    let mut oldest_due: Option<Timestamp> = None;
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
            due.push(waiting.endpoint_id);
            oldest_due = Some(oldest_due.map_or(due_at, |former| former.min(due_at)));
        } else if waiting.due_at < PARKED {
            if is_stopped(dispatcher, waiting.endpoint_id) {
                // A retry that is due later is held now, and says so.
                if let Err(error) = hold(dispatcher, waiting.endpoint_id).await {
                    tracing::warn!(endpoint = %waiting.endpoint_id, %error, "cannot hold what waits");
                }
            }
            next_due = Some(next_due.map_or(due_at, |former| former.min(due_at)));
        }
    }
    let silent = oldest_due.map_or(0, |oldest| inner.seam.clock.now().since(oldest).as_micros());
    METRICS.due_endpoints.set(i64::try_from(due.len()).unwrap_or(i64::MAX));
    METRICS.oldest_due_micros.set(i64::try_from(silent).unwrap_or(i64::MAX));
    refill(dispatcher, due).await?;
    Ok(next_due)
}

fn is_stopped(dispatcher: &Dispatcher, id: Uuid) -> bool {
    let endpoint = dispatcher.inner.routing.endpoint(id);
    endpoint.is_some_and(|endpoint| endpoint.passage != Passage::Open)
}

/// What is known of an endpoint that has something due.
enum Standing {
    Open(Kind),
    Held,
    /// This node cannot read the webhook, or does not know it yet: its rows are for one that does.
    Unreadable,
    /// Its webhook is no more.
    Gone,
}

async fn standing(dispatcher: &Dispatcher, id: Uuid) -> Result<Standing, StoreError> {
    if let Some(endpoint) = dispatcher.inner.routing.endpoint(id) {
        dispatcher.lanes().set_terms(id, &endpoint.terms);
        return Ok(match endpoint.passage {
            _ if endpoint.unreadable.is_some() => Standing::Unreadable,
            Passage::Open if endpoint.ordered => Standing::Open(Kind::OrderedWebhook),
            Passage::Open => Standing::Open(Kind::Webhook),
            Passage::Held | Passage::Suspended | Passage::Off => Standing::Held,
        });
    }
    let reader = dispatcher.inner.store.reader();
    let row = endpoint::Entity::find_by_id(id).one(reader).await?;
    if row.is_some_and(|row| row.lane == "lifecycle") {
        return Ok(Standing::Open(Kind::Callback));
    }
    // Another node may have provisioned it just now, and this one not have heard of it yet.
    let is_there = webhook::Entity::find_by_id(id).one(reader).await?.is_some()
        || incoming_lane::Entity::find_by_id(id).one(reader).await?.is_some();
    Ok(if is_there { Standing::Unreadable } else { Standing::Gone })
}

/// What was held while its webhook came back or went is found here: a hold and a release may cross.
async fn settle_held(dispatcher: &Dispatcher, id: Uuid) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let standing = standing(dispatcher, id).await?;
    if matches!(standing, Standing::Held | Standing::Unreadable) {
        return Ok(());
    }
    let now = inner.seam.clock.now();
    if let Standing::Open(_) = standing {
        if super::reactivation::settle_live(&inner.store, id, now).await? {
            dispatcher.poke();
        }
        return Ok(());
    }
    cancel(dispatcher, id).await
}

/// Cancels what waits of an endpoint whose webhook is no more, step by step.
async fn cancel(dispatcher: &Dispatcher, id: Uuid) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    let work = inner.store.begin().await?;
    let cancelled = claims::cancel_unresolved(&inner.store, &work, id, HELD_AT_ONCE).await?;
    let _settled = work.commit(now).await?;
    if cancelled >= u64::from(HELD_AT_ONCE) {
        dispatcher.poke();
    }
    Ok(())
}

/// Holds what waits of an endpoint that does not deliver now, step by step.
async fn hold(dispatcher: &Dispatcher, id: Uuid) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    if !claims::has_to_hold(&inner.store, id, now).await? {
        return Ok(());
    }
    let work = inner.store.begin().await?;
    let held = claims::hold_waiting(&inner.store, &work, id, now, HELD_AT_ONCE).await?;
    let _settled = work.commit(now).await?;
    if held >= u64::from(HELD_AT_ONCE) {
        dispatcher.poke();
    }
    Ok(())
}

/// Takes from the table what is due of these endpoints and has room in memory.
async fn refill(dispatcher: &Dispatcher, endpoints: Vec<Uuid>) -> Result<(), StoreError> {
    if !dispatcher.inner.lease.may_deliver() {
        return Ok(());
    }
    let mut rooms: Vec<(Uuid, u32)> = Vec::new();
    let mut wanted = 0;
    for id in endpoints {
        // One that fails must not keep the others waiting.
        let room = match room_of(dispatcher, id).await {
            Ok(room) => room.min(CLAIM_LIMIT),
            Err(error) => {
                tracing::warn!(endpoint = %id, %error, "cannot read what is due");
                continue;
            }
        };
        if room == 0 {
            continue;
        }
        if wanted + room > CLAIM_LIMIT || rooms.len() >= CLAIM_ENDPOINTS {
            claim(dispatcher, &std::mem::take(&mut rooms)).await?;
            wanted = 0;
        }
        wanted += room;
        rooms.push((id, u32::try_from(room).unwrap_or(u32::MAX)));
    }
    claim(dispatcher, &rooms).await
}

/// How many rows of an endpoint are to be claimed with those of others. What it has in order, and
/// what an endpoint without a webhook has, is settled at once.
async fn room_of(dispatcher: &Dispatcher, id: Uuid) -> Result<usize, StoreError> {
    let inner = &dispatcher.inner;
    match standing(dispatcher, id).await? {
        Standing::Open(kind) if kind.is_ordered() => {
            if kind == Kind::OrderedWebhook {
                // An upgrade may have made it ordered while some waited.
                let now = inner.seam.clock.now();
                claims::adopt_into_order(&inner.store, id, now).await?;
            }
            next_if_due(dispatcher, id, kind).await?;
            Ok(0)
        }
        Standing::Open(_) => {
            let mut lanes = dispatcher.lanes();
            let mut room = lanes.room(id, false, inner.seam.clock.now());
            if inner.lease.budget().is_full() {
                // Those that fill memory wait, and the others go on.
                room = room.min(usize::from(lanes.holds_nothing(id)));
            }
            if room == 0 {
                lanes.note_table(id, true);
            }
            let first = lanes.first_before(id).filter(|_| room == 0);
            drop(lanes);
            if let Some(first) = first {
                // Of those who share a rate it is the one who takes what is free now.
                inner.pokes.endpoints([first]);
            }
            Ok(room)
        }
        Standing::Unreadable => Ok(0),
        Standing::Held => {
            hold(dispatcher, id).await?;
            Ok(0)
        }
        Standing::Gone => {
            cancel(dispatcher, id).await?;
            dispatcher.lanes().note_table(id, false);
            Ok(0)
        }
    }
}

async fn claim(dispatcher: &Dispatcher, rooms: &[(Uuid, u32)]) -> Result<(), StoreError> {
    if rooms.is_empty() {
        return Ok(());
    }
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    // One lease for all that is claimed together, as the longest deadline among them needs it.
    let deadline = rooms.iter().map(|(id, _)| dispatcher.deadline_of(*id)).max();
    let lease_until = now.plus(deadline.unwrap_or(inner.options.deadline) + LEASE_MARGIN);
    let claimed =
        claims::claim_due(&inner.store, rooms, inner.lease.epoch(), now, lease_until).await?;
    let mut counts: HashMap<Uuid, u32> = HashMap::with_capacity(rooms.len());
    for row in &claimed {
        *counts.entry(row.endpoint_id).or_insert(0) += 1;
    }
    {
        let mut lanes = dispatcher.lanes();
        for (endpoint, room) in rooms {
            lanes.note_table(*endpoint, counts.get(endpoint).is_some_and(|count| count >= room));
        }
    }
    take_over(dispatcher, claimed, Kind::Webhook, lease_until).await
}

/// Looks for the next delivery of an ordered endpoint at once, without waiting for the loop.
pub(super) async fn next_in_order(dispatcher: &Dispatcher, id: Uuid, kind: Kind) {
    if dispatcher.inner.stop.is_cancelled() || !dispatcher.inner.lease.may_deliver() {
        return;
    }
    if let Err(error) = next_if_due(dispatcher, id, kind).await {
        tracing::warn!(endpoint = %id, error = %error, "cannot read the next delivery in order");
    }
}

/// Claims the next delivery of an ordered endpoint, where nothing of it is under way here. It is
/// read first: a head that waits for its retry must not cost a transaction each time somebody
/// looks.
async fn next_if_due(dispatcher: &Dispatcher, id: Uuid, kind: Kind) -> Result<(), StoreError> {
    let inner = &dispatcher.inner;
    let now = inner.seam.clock.now();
    if dispatcher.lanes().room(id, true, now) == 0 {
        return Ok(());
    }
    let is_due = claims::ordered_head(&inner.store, id).await?.is_some_and(|head| {
        head.state == DeliveryState::Pending.number()
            && head.due_at.is_some_and(|due_at| due_at <= now.micros())
    });
    if !is_due {
        return Ok(());
    }
    let lease_until = now.plus(dispatcher.deadline_of(id) + LEASE_MARGIN);
    let claimed =
        claims::claim_ordered(&inner.store, id, inner.lease.epoch(), now, lease_until).await?;
    take_over(dispatcher, claimed.into_iter().collect(), kind, lease_until).await
}

/// Finds places in memory for claimed rows, reads their events, and puts them in their lanes.
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
    let budget = inner.lease.budget();
    let mut placed = Vec::with_capacity(claimed.len());
    let mut begun = HashSet::new();
    for row in claimed {
        // An event without payload is older than what is kept: there is nothing left to send.
        let Some(bytes) = row.bytes.filter(|bytes| *bytes > 0) else {
            dispatcher.cancel_without_payload(row.id).await;
            continue;
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(EVENT_OVERHEAD);
        let is_only =
            begun.insert(row.endpoint_id) && dispatcher.lanes().holds_nothing(row.endpoint_id);
        let place = if is_only { budget.take_only(bytes) } else { budget.take_leased(bytes) };
        if let Some(place) = place {
            placed.push((row, place));
        } else {
            // Memory is full: back to where it came from, for whoever has room.
            dispatcher.lanes().note_table(row.endpoint_id, true);
            dispatcher.put_back(row.id).await;
        }
    }
    let ids = placed.iter().map(|(row, _)| row.event_id).collect();
    let contents = contents(dispatcher, ids).await?;
    let mut variants = variants(dispatcher, placed.iter().map(|(row, _)| row)).await?;
    let now = inner.seam.clock.now();
    {
        let mut lanes = dispatcher.lanes();
        for (row, place) in placed {
            // Pruned since it was claimed: its lease ends, and then it is found to be empty.
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
                    variant: variants.remove(&row.id),
                    lease_until: Some(lease_until),
                    place: Some(place),
                    span: None,
                },
                now,
            );
        }
    }
    dispatcher.spawn_workers();
    Ok(())
}

/// What deliveries of webhooks with names of their own tell of; nobody else's are asked for.
async fn variants<'r>(
    dispatcher: &Dispatcher,
    rows: impl Iterator<Item = &'r ClaimedDelivery>,
) -> Result<HashMap<Uuid, Arc<str>>, StoreError> {
    let routing = &dispatcher.inner.routing;
    let ids: Vec<Uuid> = rows
        .filter(|row| {
            let endpoint = routing.endpoint(row.endpoint_id);
            endpoint.is_some_and(|endpoint| endpoint.has_variants())
        })
        .map(|row| row.id)
        .collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = delivery_variant::Entity::find()
        .filter(delivery_variant::Column::DeliveryId.is_in(ids))
        .all(dispatcher.inner.store.reader())
        .await?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, Arc::from(row.variant.as_str()))).collect())
}

async fn contents(
    dispatcher: &Dispatcher,
    ids: HashSet<Uuid>,
) -> Result<HashMap<Uuid, Arc<Content>>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = event::Entity::find()
        .filter(event::Column::Id.is_in(ids))
        .all(dispatcher.inner.store.reader())
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let content = Content {
                org_id: Arc::from(row.org_id.as_str()),
                event_type: Arc::from(row.event_type.as_str()),
                event_time: row.event_time,
                payload: Bytes::from(row.payload),
                previous: row.previous.map(Bytes::from),
                circumstances: Circumstances {
                    department_id: row.department_id,
                    automation: row.origin != 0,
                    actor: row.actor,
                    trace: dispatcher.inner.traces.of(row.id),
                },
            };
            (row.id, Arc::new(content))
        })
        .collect())
}
