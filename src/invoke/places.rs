//! How many calls may be under way at once on this node: in all, of one vendor, of one installation.
//!
//! A vendor's upstream that hangs holds its calls until their deadline. What one installation, and
//! what all installations of all its vendor's extensions hold is a part of all places, so that the
//! others go on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::error::InvokeError;

/// The part of all places that one installation may have: one of so many.
const OF_INSTALLATION: usize = 8;

/// The part of all places that one vendor may have, over all its extensions and their
/// installations: one of so many.
const OF_VENDOR: usize = 4;

/// How long a caller waits before it comes back where too much is under way.
const SHORTLY: Duration = Duration::from_secs(1);

/// How many places each key has taken. Only keys that have one are kept.
struct Shares<K> {
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// One place of a key; given back when this is dropped.
struct Share<K: Eq + Hash + Clone> {
    shares: Arc<Shares<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Whole between any two statements.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, key: &K) -> Option<Share<K>> {
        let mut taken = self.taken();
        let count = taken.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { shares: Arc::clone(self), key: key.clone() })
    }
}

impl<K: Eq + Hash + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.shares.taken().entry(self.key.clone()) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The places of this node.
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_installation: Arc<Shares<Uuid>>,
    of_vendor: Arc<Shares<String>>,
}

/// The place of one call.
pub(super) struct Taken {
    _installation: Share<Uuid>,
    _vendor: Share<String>,
    _any: OwnedSemaphorePermit,
}

impl Places {
    /// So many in all.
    pub(super) fn new(under_way: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(under_way)),
            of_installation: Shares::new(under_way / OF_INSTALLATION),
            of_vendor: Shares::new(under_way / OF_VENDOR),
        }
    }

    /// Takes a place for a call of an installation of a vendor's extension.
    pub(super) fn take(&self, installation: Uuid, vendor: &str) -> Result<Taken, InvokeError> {
        let full = |what| InvokeError::TooMany { what, wait: SHORTLY };
        let installation = self.of_installation.take(&installation);
        let vendor = self.of_vendor.take(&vendor.to_owned());
        let any = Arc::clone(&self.all).try_acquire_owned();
        Ok(Taken {
            _installation: installation
                .ok_or_else(|| full("too many calls of the installation are under way"))?,
            _vendor: vendor.ok_or_else(|| full("too many calls of the vendor are under way"))?,
            _any: any.map_err(|_| full("too many calls are under way"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_has_an_eighth_and_a_vendor_a_quarter() {
        let places = Places::new(16);
        let id = Uuid::from_u128;
        let mut taken: Vec<_> =
            (0..2).map(|_| places.take(id(1), "acme").expect("its eighth")).collect();
        assert!(places.take(id(1), "acme").is_err(), "no more of one installation");
        taken.extend((0..2).map(|_| places.take(id(2), "acme").expect("the vendor's quarter")));
        assert!(places.take(id(3), "acme").is_err(), "no more of one vendor");
        taken.push(places.take(id(4), "other").expect("others go on"));
        taken.remove(0);
        taken.push(places.take(id(3), "acme").expect("one came back"));
        taken.clear();
        assert!(places.of_installation.taken().is_empty() && places.of_vendor.taken().is_empty());
        assert_eq!(places.all.available_permits(), 16, "what was refused took nothing");
    }

    #[test]
    fn however_few_there_are_each_has_one() {
        let places = Places::new(1);
        let _one = places.take(Uuid::nil(), "acme").expect("one");
        assert!(places.take(Uuid::max(), "other").is_err());
    }
}
