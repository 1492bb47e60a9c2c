//! How much may wait in memory, and since when the oldest of it waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// Ids made within this many milliseconds are counted together.
const BUCKET_MILLIS: u64 = 4_096;

/// A bound on the bytes that wait in memory. A place is taken before the commit and given back
/// when its delivery is settled, so the oldest place also says from where on the claims of a dead
/// node are to be looked for.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    taken: AtomicUsize,
    buckets: Mutex<BTreeMap<u64, usize>>,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let shared =
            Shared { limit, taken: AtomicUsize::new(0), buckets: Mutex::new(BTreeMap::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a place for a delivery; nothing where there is no room. The last quarter is left to
    /// those that come from the table: one endpoint's backlog must not keep all others there.
    pub(crate) fn take(&self, id: Uuid, bytes: usize) -> Option<Place> {
        if !self.take_bytes(bytes, self.shared.limit - self.shared.limit / 4) {
            return None;
        }
        let bucket = bucket(id);
        let mut buckets = self.shared.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        *buckets.entry(bucket).or_insert(0) += 1;
        Some(Place { shared: Arc::clone(&self.shared), bytes, bucket: Some(bucket) })
    }

    /// Takes a place for a delivery that came from the table, where a lease on its row finds it
    /// again: it says nothing of the oldest that only memory knows.
    pub(crate) fn take_leased(&self, bytes: usize) -> Option<Place> {
        self.take_leased_within(bytes, self.shared.limit)
    }

    /// The same for the only delivery of an endpoint: it may go beyond the bound, up to twice of it,
    /// so that endpoints that fill memory do not stop the others.
    pub(crate) fn take_only(&self, bytes: usize) -> Option<Place> {
        self.take_leased_within(bytes, self.shared.limit.saturating_mul(2))
    }

    fn take_leased_within(&self, bytes: usize, limit: usize) -> Option<Place> {
        self.take_bytes(bytes, limit).then(|| Place {
            shared: Arc::clone(&self.shared),
            bytes,
            bucket: None,
        })
    }

    fn take_bytes(&self, bytes: usize, limit: usize) -> bool {
        let taken = self.shared.taken.fetch_add(bytes, Ordering::AcqRel);
        // What is larger than all of memory goes alone.
        let fits = taken == 0 || taken.saturating_add(bytes) <= limit;
        if !fits {
            self.shared.taken.fetch_sub(bytes, Ordering::AcqRel);
        }
        fits
    }

    /// Whether half of it is taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.shared.taken.load(Ordering::Acquire) >= self.shared.limit / 2
    }

    /// Whether next to nothing more fits.
    pub(crate) fn is_full(&self) -> bool {
        let limit = self.shared.limit;
        self.shared.taken.load(Ordering::Acquire) >= limit - limit / 16
    }

    /// The lowest id that anything in memory can have; `now` where nothing waits.
    pub(crate) fn low_water(&self, now: Uuid) -> Uuid {
        let buckets = self.shared.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = buckets.keys().next().copied().unwrap_or(u64::MAX).min(bucket(now));
        // A bucket earlier, for ids that are made but have no place yet.
        Uuid::from_u128(u128::from(oldest.saturating_sub(1) * BUCKET_MILLIS) << 80)
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Acquire)
    }
}

fn bucket(id: Uuid) -> u64 {
    let millis = u64::try_from(id.as_u128() >> 80).unwrap_or(u64::MAX);
    millis / BUCKET_MILLIS
}

/// A place in memory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    bytes: usize,
    bucket: Option<u64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.taken.fetch_sub(self.bytes, Ordering::AcqRel);
        let Some(bucket) = self.bucket else { return };
        let mut buckets = self.shared.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = buckets.get_mut(&bucket) {
            *count -= 1;
            if *count == 0 {
                buckets.remove(&bucket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_at(millis: u64) -> Uuid {
        Uuid::from_u128((u128::from(millis) << 80) | 0x7abc)
    }

    #[test]
    fn the_bound_holds_and_places_return() {
        let budget = MemoryBudget::new(100);
        let first = budget.take(id_at(1), 60).expect("there is room");
        assert!(budget.take(id_at(2), 60).is_none());
        assert_eq!(budget.taken(), 60);
        drop(first);
        assert!(budget.take(id_at(2), 100).is_some());
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn intake_leaves_room_and_the_only_one_of_an_endpoint_may_go_beyond() {
        let budget = MemoryBudget::new(100);
        let intake: Vec<_> = (0..20).filter_map(|_| budget.take(id_at(1), 10)).collect();
        assert_eq!(intake.len(), 7, "three quarters");
        let leased: Vec<_> = (0..20).filter_map(|_| budget.take_leased(10)).collect();
        assert_eq!(leased.len(), 3);
        let only: Vec<_> = (0..50).filter_map(|_| budget.take_only(10)).collect();
        assert_eq!(only.len(), 10, "twice the bound and not more");
        drop((intake, leased, only));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn what_is_larger_than_memory_goes_alone() {
        let budget = MemoryBudget::new(100);
        let small = budget.take_leased(1).expect("there is room");
        assert!(budget.take_leased(101).is_none());
        drop(small);
        let large = budget.take_leased(101).expect("nothing else is there");
        assert!(budget.take_leased(1).is_none());
        drop(large);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn leased_places_do_not_hold_the_low_water_down() {
        let budget = MemoryBudget::new(1_000);
        let now = id_at(9_000_000);
        let before = budget.low_water(now);
        let _leased = budget.take_leased(10);
        assert_eq!(budget.low_water(now), before);
    }

    #[test]
    fn low_water_lies_below_the_oldest_place() {
        let budget = MemoryBudget::new(1_000);
        let old = id_at(1_000_000);
        let place = budget.take(old, 1);
        let _young = budget.take(id_at(9_000_000), 1);
        assert!(budget.low_water(id_at(9_000_001)) < old);
        drop(place);
        assert!(budget.low_water(id_at(9_000_001)) > old);
    }
}
