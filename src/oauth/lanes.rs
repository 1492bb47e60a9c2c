//! How many calls may be under way to one authorisation server: one that is slow or down holds its
//! own lane and nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{ColumnTrait, Condition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::provider::Service;

/// How many refreshes of one service may be under way on a node.
const WIDTH: usize = 8;

/// Beyond so many lanes those are forgotten that nobody is in.
const MANY: usize = 256;

/// A lane for each service.
#[derive(Debug)]
pub(super) struct Lanes {
    width: usize,
    by_service: Mutex<HashMap<Service, Arc<Semaphore>>>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self::of_width(WIDTH)
    }
}

impl Lanes {
    /// Lanes that so many calls fit into.
    pub(super) fn of_width(width: usize) -> Self {
        Self { width, by_service: Mutex::default() }
    }

    /// The lane of a service.
    pub(super) fn of(&self, service: &Service) -> Arc<Semaphore> {
        let mut lanes = self.by_service.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= MANY {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        let lane = lanes.entry(service.clone());
        Arc::clone(lane.or_insert_with(|| Arc::new(Semaphore::new(self.width))))
    }

    /// A place in the lane of a service, where there is one at once.
    pub(super) fn enter(&self, service: &Service) -> Option<OwnedSemaphorePermit> {
        self.of(service).try_acquire_owned().ok()
    }

    /// The services whose lanes have no place.
    pub(super) fn full(&self) -> Vec<Service> {
        let lanes = self.by_service.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |lane: &Semaphore| lane.available_permits() == 0;
        lanes.iter().filter(|(_, lane)| is_full(lane)).map(|(name, _)| name.clone()).collect()
    }

    /// Leaves the services out of a query whose lanes have no place, by the two columns that say
    /// which service a row is of: they must not fill the window either.
    pub(super) fn but_full<C: ColumnTrait>(&self, name: C, declared_in: C) -> Condition {
        let mut others = Condition::all();
        for service in self.full() {
            // Nulls compare with nothing: that a row has none is asked by itself.
            let other = Condition::any().add(name.ne(service.name));
            others = others.add(match service.declared_in {
                Some(version) => other.add(declared_in.is_null()).add(declared_in.ne(version)),
                None => other.add(declared_in.is_not_null()),
            });
        }
        others
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
        let count = lanes.by_service.lock().expect("nobody panicked").len();
        assert!(count <= MANY, "{count} lanes");
        assert!(lanes.enter(&slow).is_none(), "a lane that is held stays");
        drop(held);
        assert!(lanes.enter(&slow).is_some());
    }
}
