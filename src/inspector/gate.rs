//! How much may come to inspectors at a time: they are open to the internet.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::rate::KeyedRate;
use crate::seam::Clock;

/// How many requests one inspector takes a minute, and how many of them at once.
pub const PER_MINUTE: u32 = 120;
const BURST: u32 = 60;

/// How many requests to inspectors are under way on this node, those that wait for a chosen delay
/// among them.
pub const UNDER_WAY: usize = 256;

/// The pause after which a place may be free again.
const SOON: Duration = Duration::from_secs(1);

/// Admits requests to inspectors, on this node.
#[derive(Debug)]
pub struct InspectorGate {
    rate: KeyedRate<Uuid>,
    places: Arc<Semaphore>,
}

impl InspectorGate {
    /// A gate with the fixed bounds.
    pub fn new(clock: Clock) -> Self {
        Self {
            rate: KeyedRate::new(PER_MINUTE, BURST, clock),
            places: Arc::new(Semaphore::new(UNDER_WAY)),
        }
    }

    /// A place for a request, before anything is looked up; how long to wait where there is none.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, Duration> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| SOON)
    }

    /// One use of an inspector's allowance; how long to wait where it is used up.
    pub fn use_one(&self, inspector: Uuid) -> Result<(), Duration> {
        self.rate.take(inspector, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_allowances_end() {
        let clock = Clock::default();
        let gate = InspectorGate::new(clock.clone());
        let held: Vec<_> = (0..UNDER_WAY).map(|_| gate.enter().expect("a place")).collect();
        assert!(gate.enter().is_err());
        drop(held);
        assert!(gate.enter().is_ok());
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!((0..BURST).all(|_| gate.use_one(one).is_ok()));
        assert!(gate.use_one(one).is_err() && gate.use_one(other).is_ok());
        clock.advance(Duration::from_secs(1));
        assert!(gate.use_one(one).is_ok());
    }
}
