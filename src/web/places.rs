//! Places for those who watch: so many on a node, and of them so many for one session and for one
//! org or vendor, so that nobody takes them all.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How many live updates a node serves at a time: each asks the database every second or so.
pub(super) const MOST: usize = 64;

/// How many of them one session has: a page in front, and a few in other tabs.
const MOST_OF_SESSION: usize = 4;

/// How many of them the visitors of one org, or of one vendor, have.
const MOST_OF_TENANT: usize = 12;

#[derive(Default)]
struct Taken {
    all: usize,
    by_holder: HashMap<String, usize>,
}

/// Who watches. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
}

impl fmt::Debug for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Places").finish_non_exhaustive()
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    session: String,
    tenant: Option<String>,
}

impl Places {
    fn with<T>(&self, change: impl FnOnce(&mut Taken) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place for a session of an org or vendor; nothing where there is none.
    pub(super) fn take(&self, session: &str, tenant: Option<&str>) -> Option<Place> {
        let session = format!("session {session}");
        let tenant = tenant.map(|tenant| format!("tenant {tenant}"));
        let is_taken = self.with(|taken| {
            let held = |holder: &str| taken.by_holder.get(holder).copied().unwrap_or(0);
            let is_full = taken.all >= MOST
                || held(&session) >= MOST_OF_SESSION
                || tenant.as_deref().is_some_and(|tenant| held(tenant) >= MOST_OF_TENANT);
            if is_full {
                return false;
            }
            taken.all += 1;
            for holder in tenant.iter().chain([&session]) {
                *taken.by_holder.entry(holder.clone()).or_default() += 1;
            }
            true
        });
        is_taken.then(|| Place { places: self.clone(), session, tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.with(|taken| {
            taken.all = taken.all.saturating_sub(1);
            for holder in self.tenant.iter().chain([&self.session]) {
                if let Some(count) = taken.by_holder.get_mut(holder) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        taken.by_holder.remove(holder);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let places = Places::default();
        let mut held = Vec::new();
        while let Some(place) = places.take("one", Some("org")) {
            held.push(place);
        }
        assert_eq!(held.len(), MOST_OF_SESSION);
        for session in 0..100 {
            held.extend(places.take(&session.to_string(), Some("org")));
        }
        assert_eq!(held.len(), MOST_OF_TENANT, "an org has its share");
        for session in 0..100 {
            held.extend(places.take(&session.to_string(), Some(&format!("org {session}"))));
        }
        assert_eq!(held.len(), MOST, "and a node its end");
        assert!(places.take("operator", None).is_none());
        held.clear();
        assert!(places.with(|taken| taken.all == 0 && taken.by_holder.is_empty()));
        assert!(places.take("operator", None).is_some());
    }
}
