//! This node's lease: it sends only while the lease is valid, and frees what dead nodes left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::dispatcher::Dispatcher;
use crate::seam::Seam;
use crate::store::committer::MemoryBudget;
use crate::store::{Epoch, Nodes, Store, StoreError, claims, hold};
use crate::webhook::Routing;

/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(1);

/// How long after the beginning of a renewal the lease may be relied on: a second less than the
/// database grants, since another node may judge by it.
const RELIED_ON: Duration = Duration::from_secs(4);

/// How a waiting worker looks whether the lease is back.
const VALID_POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Inner {
    store: Store,
    nodes: Nodes,
    epoch: Epoch,
    seam: Seam,
    started: tokio::time::Instant,
    /// Milliseconds after `started` until which the lease holds.
    valid_until: AtomicU64,
    is_lost: AtomicBool,
    /// Whether everything is held, as of the last renewal.
    is_held: AtomicBool,
    /// Nodes with a live lease, this one among them, as of the last renewal.
    live: AtomicU32,
    budget: MemoryBudget,
}

/// The lease of this process. Cloning shares it.
#[derive(Clone, Debug)]
pub struct NodeLease {
    inner: Arc<Inner>,
}

impl NodeLease {
    /// Enters this process among the nodes.
    pub async fn acquire(
        store: &Store,
        seam: &Seam,
        queue_bytes: usize,
    ) -> Result<Self, StoreError> {
        let nodes = Nodes::new(store.clone());
        let budget = MemoryBudget::new(queue_bytes);
        let started = seam.clock.instant();
        let low_water = budget.low_water(seam.randomness.id());
        // Before anything could be sent.
        let is_held = hold::held(store).await?.is_some();
        let epoch = nodes.register(seam.clock.now(), low_water).await?;
        let inner = Inner {
            store: store.clone(),
            nodes,
            epoch,
            seam: seam.clone(),
            started,
            valid_until: AtomicU64::new(millis(RELIED_ON)),
            is_lost: AtomicBool::new(false),
            is_held: AtomicBool::new(is_held),
            live: AtomicU32::new(1),
            budget,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The epoch of this run.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// How many nodes share the work, this one among them, as of the last renewal.
    pub(super) fn live_nodes(&self) -> u32 {
        self.inner.live.load(Ordering::Relaxed).max(1)
    }

    pub(super) fn budget(&self) -> &MemoryBudget {
        &self.inner.budget
    }

    /// Whether this node may send. An SQLite file has one process, so there it always may.
    pub fn is_valid(&self) -> bool {
        if self.inner.is_lost.load(Ordering::Acquire) {
            return false;
        }
        let elapsed = self.inner.seam.clock.instant().duration_since(self.inner.started);
        !self.inner.nodes.is_shared()
            || millis(elapsed) < self.inner.valid_until.load(Ordering::Acquire)
    }

    /// Whether this node may deliver: its lease holds, and nobody holds all deliveries back.
    pub fn may_deliver(&self) -> bool {
        self.is_valid() && !self.inner.is_held.load(Ordering::Acquire)
    }

    /// Frees what dead nodes left, until told to stop. Apart from the renewals: it may take its
    /// time.
    pub async fn run_reaper(self, store: Store, dispatcher: Dispatcher, stop: CancellationToken) {
        loop {
            if self.is_valid()
                && let Err(error) = self.reap(&store, &dispatcher).await
            {
                tracing::warn!(error = %error, "cannot free what a dead node left");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.seam.clock.sleep(RENEWAL) => {}
            }
        }
    }

    /// Renews the lease until told to stop, and publishes how far routing is. Cancels `lost` where
    /// another node took this one for dead.
    pub async fn run(self, routing: Routing, stop: CancellationToken, lost: CancellationToken) {
        loop {
            if let Err(error) = self.renew(&routing, &lost).await {
                tracing::warn!(error = %error, "cannot renew this node's lease");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = routing.changed() => {}
                () = self.inner.seam.clock.sleep(RENEWAL) => {}
            }
        }
    }

    async fn renew(&self, routing: &Routing, lost: &CancellationToken) -> Result<(), StoreError> {
        let inner = &self.inner;
        // A node whose routing cannot follow must not keep the others waiting for it, nor go on
        // sending by what it knew: it lets its lease run out.
        if let Err(error) = routing.apply().await {
            tracing::warn!(%error, "routing could not be read; not renewing this node's lease");
            return Ok(());
        }
        let was_valid = self.is_valid();
        let began = inner.seam.clock.instant().duration_since(inner.started);
        let low_water = inner.budget.low_water(inner.seam.randomness.id());
        let held = inner
            .nodes
            .renew(inner.epoch, routing.applied(), low_water, inner.seam.clock.now())
            .await?;
        if !held {
            if !inner.is_lost.swap(true, Ordering::AcqRel) {
                tracing::error!("this node's lease ran out and its work was taken over; stopping");
                lost.cancel();
            }
            return Ok(());
        }
        if !was_valid {
            // While the lease was out, others answered without waiting for us: catch up first.
            // From this renewal on they wait again.
            if let Err(error) = routing.apply().await {
                tracing::warn!(%error, "cannot catch up with routing; not sending yet");
                return Ok(());
            }
        }
        inner.valid_until.store(millis(began + RELIED_ON), Ordering::Release);
        let is_held = hold::held(&inner.store).await?.is_some();
        inner.is_held.store(is_held, Ordering::Release);
        let live = inner.nodes.live(inner.seam.clock.now()).await?;
        inner.live.store(live, Ordering::Relaxed);
        Ok(())
    }

    /// Resolves when this node may deliver. Ends too when it stops.
    pub(super) async fn valid(&self, stop: &CancellationToken) {
        while !self.may_deliver() && !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.inner.seam.clock.sleep(VALID_POLL) => {}
            }
        }
    }

    async fn reap(&self, store: &Store, dispatcher: &Dispatcher) -> Result<(), StoreError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        for dead in inner.nodes.lapsed(inner.epoch, now).await? {
            let work = store.begin().await?;
            if !inner.nodes.remove_lapsed(&work, dead.epoch, now).await? {
                continue;
            }
            let freed = claims::recover(store, &work, dead.epoch, dead.low_water, now).await?;
            let _settled = work.commit(now).await?;
            tracing::info!(epoch = dead.epoch.number(), freed, "took over from a dead node");
            dispatcher.poke();
        }
        Ok(())
    }

    /// Leaves: what was not finished is free at once.
    pub async fn release(&self, store: &Store) -> Result<(), StoreError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        inner.is_lost.store(true, Ordering::Release);
        let low_water = inner.budget.low_water(inner.seam.randomness.id());
        let work = store.begin().await?;
        inner.nodes.remove(&work, inner.epoch).await?;
        claims::recover(store, &work, inner.epoch, low_water, now).await?;
        let _settled = work.commit(now).await?;
        Ok(())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
