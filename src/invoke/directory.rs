//! Which installations serve, in memory: read at their first call, forgotten when something of
//! them changes, and followed by the barrier of routing. A change counts as applied only when what
//! it ended has no call under way on this node.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::error::InvokeError;
use super::memory::Meter;
use super::tenant::{Tenant, TenantReader, serves};
use crate::crypto::Locator;
use crate::seam::{Clock, Timestamp};
use crate::store::RoutingChange;
use crate::store::entity::installation;

/// How long an installation is believed without being read again. Changes are told to every node
/// at once; this bounds only what a lost message could do.
const BELIEVED: Duration = Duration::from_secs(30);

/// How many installations are remembered.
const REMEMBERED: usize = 10_000;

/// How many bytes of them and of the properties of their extensions are, those with calls under way
/// aside.
const MOST_BYTES: usize = 64 << 20;

/// How often an installation is read anew that changes while it is read.
const MOST_READINGS: u32 = 10;

/// How long calls under way are waited for that were told to end.
const ENDING: Duration = Duration::from_secs(2);

/// How many ids one statement names.
const PAGE: usize = 500;

struct Inner {
    reader: TenantReader,
    clock: Clock,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<Uuid, Entry>,
    /// Counts the changes: what was read before one is not used after it.
    changes: u64,
}

impl Cache {
    fn is_full(&self, meter: &Meter) -> bool {
        self.entries.len() >= REMEMBERED || meter.bytes() > MOST_BYTES
    }

    /// Makes room for one that is not remembered yet; those with calls under way stay.
    fn make_room(&mut self, id: Uuid, meter: &Meter, now: Timestamp) {
        if !self.is_full(meter) || self.entries.contains_key(&id) {
            return;
        }
        self.entries.retain(|_, entry| is_fresh(entry, now) || is_busy(entry));
        if self.is_full(meter) {
            self.entries.retain(|_, entry| is_busy(entry));
        }
    }
}

struct Entry {
    /// Nothing where the installation does not serve.
    tenant: Option<Arc<Tenant>>,
    read_at: Timestamp,
    /// Something changed: it is kept for its calls under way only.
    is_stale: bool,
}

/// The installations that serve, as far as they call. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Inner>);

impl fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Directory").finish_non_exhaustive()
    }
}

/// An installation with a call under way: as long as this lives, its end waits for it.
pub(super) struct Present {
    pub(super) tenant: Arc<Tenant>,
    _under_way: TaskTrackerToken,
}

impl Directory {
    pub(super) fn new(reader: TenantReader, clock: Clock) -> Self {
        Self(Arc::new(Inner { reader, clock, cache: Mutex::default() }))
    }

    /// The installation that a securityContext stands for, if it serves in that generation.
    pub(super) async fn find(&self, locator: &Locator) -> Result<Option<Present>, InvokeError> {
        let id = locator.installation.0;
        let is_meant =
            |tenant: &Tenant| i64::from(tenant.generation) == i64::from(locator.generation);
        let mut changes = match self.known(id) {
            Ok(known) => return Ok(known.filter(|present| is_meant(&present.tenant))),
            Err(changes) => changes,
        };
        for _ in 0..MOST_READINGS {
            let now = self.0.clock.now();
            let tenant = self.0.reader.read(id, now).await?;
            match self.remember(id, tenant, now, changes) {
                Ok(present) => return Ok(present.filter(|present| is_meant(&present.tenant))),
                Err(newer) => changes = newer,
            }
        }
        Err(InvokeError::Unavailable)
    }

    /// What is remembered of an installation; else how many changes there have been.
    fn known(&self, id: Uuid) -> Result<Option<Present>, u64> {
        let now = self.0.clock.now();
        let cache = self.cache();
        match cache.entries.get(&id) {
            Some(entry) if is_fresh(entry, now) => Ok(entry.tenant.as_ref().map(present)),
            _ => Err(cache.changes),
        }
    }

    /// Remembers what was read, unless something changed meanwhile.
    fn remember(
        &self,
        id: Uuid,
        tenant: Option<Tenant>,
        now: Timestamp,
        changes: u64,
    ) -> Result<Option<Present>, u64> {
        let mut cache = self.cache();
        if cache.changes != changes {
            return Err(cache.changes);
        }
        cache.make_room(id, &self.0.reader.meter, now);
        let entry = match cache.entries.entry(id) {
            Slot::Occupied(mut slot) => {
                let former = slot.get().tenant.as_ref();
                let busy = former
                    .filter(|former| !former.calls.is_empty() && !former.ended.is_cancelled());
                let tenant = match (busy, tenant) {
                    // The end of these calls is still to come, with the change that ends them.
                    (Some(_), None) => {
                        slot.get_mut().is_stale = true;
                        return Ok(None);
                    }
                    // Calls under way stay known together with those that begin now.
                    (Some(former), Some(fresh)) => Some(fresh.continuing(former)),
                    (None, tenant) => tenant,
                };
                slot.insert(Entry { tenant: tenant.map(Arc::new), read_at: now, is_stale: false });
                slot.into_mut()
            }
            Slot::Vacant(slot) => {
                slot.insert(Entry { tenant: tenant.map(Arc::new), read_at: now, is_stale: false })
            }
        };
        Ok(entry.tenant.as_ref().map(present))
    }

    /// Forgets what changes may have touched. Calls of installations that do not serve any more are
    /// ended; when this returns, none of them is under way.
    pub(crate) async fn apply(&self, changes: &[RoutingChange]) {
        let touched = self.forget(changes);
        let ids: Vec<Uuid> = touched.iter().map(|tenant| tenant.id).collect();
        let mut serving = HashMap::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let rows = installation::Entity::find()
                .filter(installation::Column::Id.is_in(page.iter().copied()))
                .all(self.0.reader.store.reader())
                .await;
            match rows {
                Ok(rows) => serving
                    .extend(rows.into_iter().filter(serves).map(|row| (row.id, row.generation))),
                // What cannot be shown to serve is ended: its calls can be repeated.
                Err(error) => {
                    tracing::warn!(%error, "cannot read which installations serve; their calls are ended");
                }
            }
        }
        let ended: Vec<_> = touched
            .into_iter()
            .filter(|tenant| serving.get(&tenant.id) != Some(&tenant.generation))
            .collect();
        for tenant in &ended {
            tenant.ended.cancel();
            tenant.calls.close();
        }
        for tenant in ended {
            tokio::select! {
                () = tenant.calls.wait() => {}
                () = self.0.clock.sleep(ENDING) => {
                    tracing::warn!(installation = %tenant.id, "a call under way did not end in time");
                }
            }
        }
    }

    /// Takes out what changes may have touched; returns those that have calls under way.
    fn forget(&self, changes: &[RoutingChange]) -> Vec<Arc<Tenant>> {
        let mut cache = self.cache();
        let mut all = false;
        let (mut orgs, mut extensions, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                RoutingChange::Org(org) => orgs.push(org.as_str()),
                RoutingChange::Extension(key) => extensions.push(key.as_str()),
                RoutingChange::Installation(id) => ids.extend(id.parse::<Uuid>()),
                RoutingChange::Keys => all = true,
                RoutingChange::Token(_) | RoutingChange::Endpoint(_) => {}
            }
        }
        if !all && orgs.is_empty() && extensions.is_empty() && ids.is_empty() {
            return Vec::new();
        }
        cache.changes += 1;
        let mut touched = Vec::new();
        cache.entries.retain(|id, entry| {
            let Some(tenant) = &entry.tenant else { return false };
            let is_touched = all
                || ids.contains(id)
                || orgs.contains(&tenant.org_id.as_str())
                || extensions.contains(&tenant.extension_key.as_str());
            if !is_touched {
                return true;
            }
            entry.is_stale = true;
            let is_busy = !tenant.calls.is_empty();
            if is_busy {
                touched.push(Arc::clone(tenant));
            }
            is_busy
        });
        touched
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Whole between any two statements.
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes a call under way; only under the lock of the cache, so that an end cannot miss it.
fn present(tenant: &Arc<Tenant>) -> Present {
    Present { tenant: Arc::clone(tenant), _under_way: tenant.calls.token() }
}

fn is_busy(entry: &Entry) -> bool {
    entry.tenant.as_ref().is_some_and(|tenant| !tenant.calls.is_empty())
}

fn is_fresh(entry: &Entry, now: Timestamp) -> bool {
    let until = entry.tenant.as_ref().and_then(|tenant| tenant.secrets_until);
    // A clock that was set back makes an entry old, not young.
    !entry.is_stale
        && now >= entry.read_at
        && now.since(entry.read_at) < BELIEVED
        && until.is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_by_bytes_and_number() {
        let (clock, meter) = (Clock::default(), Meter::default());
        let now = clock.now();
        let mut cache = Cache::default();
        let add = |cache: &mut Cache, number: u128, bytes: usize| {
            let id = Uuid::from_u128(number);
            cache.make_room(id, &meter, now);
            let tenant = Arc::new(Tenant::of_size(id, bytes, &meter));
            let entry = Entry { tenant: Some(Arc::clone(&tenant)), read_at: now, is_stale: false };
            cache.entries.insert(id, entry);
            tenant
        };
        let large = MOST_BYTES / 16;
        let busy = add(&mut cache, 0, large);
        let call = present(&busy);
        for number in 1..200 {
            drop(add(&mut cache, number, large));
            assert!(meter.bytes() <= MOST_BYTES + 2 * large, "{}", meter.bytes());
            assert!(cache.entries.contains_key(&Uuid::nil()), "its call is under way");
        }
        assert!(cache.entries.len() >= 2, "not one at a time");
        drop(call);
        for number in 200..20_200 {
            drop(add(&mut cache, number, 100));
            assert!(cache.entries.len() <= REMEMBERED, "{}", cache.entries.len());
        }
        drop(busy);
        cache.entries.clear();
        assert_eq!(meter.bytes(), 0);
    }
}
