//! How much of what waits to be written one org may have, so that a flood of one leaves room for
//! the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What each org has waiting. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    limit: u32,
    waiting: Arc<Mutex<HashMap<Arc<str>, u32>>>,
}

impl Shares {
    /// Shares of so much each.
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, waiting: Arc::default() }
    }

    /// Counts what an org is about to have waiting; nothing where that is more than its share. What
    /// is larger than a share goes alone.
    pub(super) fn take(&self, org: &Arc<str>, amount: u32) -> Option<Share> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(org) {
            Some(taken) if taken.saturating_add(amount) > self.limit => return None,
            Some(taken) => *taken += amount,
            None => {
                waiting.insert(Arc::clone(org), amount);
            }
        }
        Some(Share { waiting: Arc::clone(&self.waiting), org: Arc::clone(org), amount })
    }
}

/// What an org has waiting with one request; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    waiting: Arc<Mutex<HashMap<Arc<str>, u32>>>,
    org: Arc<str>,
    amount: u32,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = waiting.get_mut(&self.org) {
            *taken = taken.saturating_sub(self.amount);
            if *taken == 0 {
                waiting.remove(&self.org);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_org_leaves_the_others_alone() {
        let shares = Shares::new(10);
        let (loud, calm) = (Arc::from("1"), Arc::from("2"));
        let first = shares.take(&loud, 6).expect("within the share");
        assert!(shares.take(&loud, 5).is_none());
        assert!(shares.take(&calm, 10).is_some());
        drop(first);
        assert!(shares.take(&loud, 10).is_some());
        assert!(shares.waiting.lock().expect("no panic").is_empty(), "nothing is left behind");
    }

    #[test]
    fn what_is_larger_than_a_share_goes_alone() {
        let shares = Shares::new(10);
        let org = Arc::from("1");
        let large = shares.take(&org, 11).expect("nothing else waits");
        assert!(shares.take(&org, 1).is_none());
        drop(large);
        assert!(shares.take(&org, 1).is_some());
    }
}
