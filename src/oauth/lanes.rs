//! How many calls may be under way to one authorisation server: one that is slow or down holds its
//! own lane and nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::provider::Service;

/// How many refreshes of one service may be under way on a node.
const WIDTH: usize = 8;

/// Beyond so many lanes those are forgotten that nobody is in.
const MANY: usize = 256;

/// A lane for each service.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<Service, Arc<Semaphore>>>);

impl Lanes {
    /// The lane of a service.
    pub(super) fn of(&self, service: &Service) -> Arc<Semaphore> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= MANY {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(lanes.entry(service.clone()).or_insert_with(|| Arc::new(Semaphore::new(WIDTH))))
    }

    /// A place in the lane of a service, where there is one at once.
    pub(super) fn enter(&self, service: &Service) -> Option<OwnedSemaphorePermit> {
        self.of(service).try_acquire_owned().ok()
    }

    /// The services whose lanes have no place.
    pub(super) fn full(&self) -> Vec<Service> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |lane: &Semaphore| lane.available_permits() == 0;
        lanes.iter().filter(|(_, lane)| is_full(lane)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_is_its_services_own_and_idle_ones_are_forgotten() {
        let lanes = Lanes::default();
        let slow = Service::of_operator("slow");
        let held: Vec<_> = (0..WIDTH).filter_map(|_| lanes.enter(&slow)).collect();
        assert_eq!(held.len(), WIDTH);
        assert!(lanes.enter(&slow).is_none());
        assert_eq!(lanes.full(), std::slice::from_ref(&slow));
        for number in 0..2 * MANY {
            assert!(lanes.enter(&Service::of_operator(number.to_string())).is_some());
        }
        let count = lanes.0.lock().expect("nobody panicked").len();
        assert!(count <= MANY, "{count} lanes");
        assert!(lanes.enter(&slow).is_none(), "a lane that is held stays");
        drop(held);
        assert!(lanes.enter(&slow).is_some());
    }
}
