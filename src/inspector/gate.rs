//! How much may come to inspectors at a time: they are open to the internet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keeping::{InspectorAddress, InspectorOwner};
use crate::rate::KeyedRate;
use crate::seam::Clock;

/// How many requests one inspector takes a minute, and how many of them at once.
pub const PER_MINUTE: u32 = 120;
const BURST: u32 = 60;

/// How many requests to inspectors are under way on this node, those that wait for a chosen delay
/// among them.
pub const UNDER_WAY: usize = 256;

/// How many of them are of inspectors of one owner: so that nobody's slow ones hold all places.
pub const UNDER_WAY_OF_OWNER: usize = 64;

/// The pause after which a place may be free again.
const SOON: Duration = Duration::from_secs(1);

/// Admits requests to inspectors, on this node.
#[derive(Debug)]
pub struct InspectorGate {
    rate: KeyedRate<Vec<u8>>,
    places: Arc<Semaphore>,
    owners: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place for a request, of all and of its owner's.
#[derive(Debug)]
pub struct InspectorPlace {
    _of_all: OwnedSemaphorePermit,
    owners: Arc<Mutex<HashMap<String, usize>>>,
    owner: String,
}

impl Drop for InspectorPlace {
    fn drop(&mut self) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = owners.get_mut(&self.owner) {
            *held -= 1;
            if *held == 0 {
                owners.remove(&self.owner);
            }
        }
    }
}

impl InspectorGate {
    /// A gate with the fixed bounds.
    pub fn new(clock: Clock) -> Self {
        Self {
            rate: KeyedRate::new(PER_MINUTE, BURST, clock),
            places: Arc::new(Semaphore::new(UNDER_WAY)),
            owners: Arc::default(),
        }
    }

    /// A place for a request to an inspector of this owner; how long to wait where there is none.
    pub fn enter(&self, owner: &InspectorOwner) -> Result<InspectorPlace, Duration> {
        let of_all = Arc::clone(&self.places).try_acquire_owned().map_err(|_| SOON)?;
        let owner = match owner {
            InspectorOwner::Org(org) => format!("org {org}"),
            InspectorOwner::Vendor(vendor) => format!("vendor {vendor}"),
            InspectorOwner::Operator => String::new(),
        };
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let held = owners.entry(owner.clone()).or_default();
        if *held >= UNDER_WAY_OF_OWNER {
            return Err(SOON);
        }
        *held += 1;
        drop(owners);
        Ok(InspectorPlace { _of_all: of_all, owners: Arc::clone(&self.owners), owner })
    }

    /// One use of the allowance of the inspector with an address, before it is looked up; how long to
    /// wait where it is used up.
    pub fn use_one(&self, address: &InspectorAddress) -> Result<(), Duration> {
        self.rate.take(address.digest(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> InspectorOwner {
        InspectorOwner::Org(name.to_owned())
    }

    fn address(letter: &str) -> InspectorAddress {
        InspectorAddress::parse(&letter.repeat(32)).expect("an address")
    }

    #[test]
    fn places_and_allowances_end() {
        let clock = Clock::default();
        let gate = InspectorGate::new(clock.clone());
        let mut held: Vec<_> =
            (0..UNDER_WAY_OF_OWNER).map(|_| gate.enter(&owner("a")).expect("a place")).collect();
        assert!(gate.enter(&owner("a")).is_err(), "the rest is for others");
        for name in ["b", "c", "d"] {
            held.extend(
                (0..UNDER_WAY_OF_OWNER).map(|_| gate.enter(&owner(name)).expect("a place")),
            );
        }
        assert_eq!(held.len(), UNDER_WAY);
        assert!(gate.enter(&InspectorOwner::Operator).is_err());
        assert!(gate.owners.lock().expect("no panic").get("").is_none_or(|held| *held == 0));
        held.pop();
        assert!(gate.enter(&owner("d")).is_ok());
        drop(held);
        assert!(gate.enter(&owner("a")).is_ok());
        let (one, other) = (address("1"), address("2"));
        assert!((0..BURST).all(|_| gate.use_one(&one).is_ok()));
        assert!(gate.use_one(&one).is_err() && gate.use_one(&other).is_ok());
        clock.advance(Duration::from_secs(1));
        assert!(gate.use_one(&one).is_ok());
    }
}
