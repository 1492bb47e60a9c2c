//! Which addresses of inspectors there are, in memory: whoever knows none costs the database nothing.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keeping::{InspectorAddress, live_digests};
use crate::seam::Clock;
use crate::store::{Store, StoreError};

/// How old the list may be where an address is not on it. So often it is read at the most, however
/// many strangers guess.
const FRESH: Duration = Duration::from_millis(250);

/// How many addresses are kept in memory. Where there are more, those beyond are looked up.
const MOST: u64 = 50_000;

/// The addresses of the inspectors of all nodes, as this one knows them.
#[derive(Debug)]
pub struct KnownInspectors {
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    digests: HashSet<Vec<u8>>,
    /// When they were read; nothing before the first time.
    read_at: Option<Instant>,
    /// Whether there are more than are kept.
    is_cut: bool,
}

impl KnownInspectors {
    /// None yet: they are read when the first request comes.
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// Whether there may be such an inspector. One that ended a moment ago may still be taken for one;
    /// one that another node made a moment ago may not.
    pub async fn may_have(
        &self,
        store: &Store,
        address: &InspectorAddress,
    ) -> Result<bool, StoreError> {
        let digest = address.digest();
        let mut known = self.known.lock().await;
        if known.digests.contains(&digest) {
            return Ok(true);
        }
        let now = self.clock.instant();
        let is_fresh = known.read_at.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
        if !is_fresh {
            // Whoever else waits for the list finds it fresh then.
            let digests = live_digests(store, self.clock.now(), MOST).await?;
            known.is_cut = u64::try_from(digests.len()).unwrap_or(u64::MAX) >= MOST;
            known.digests = digests;
            known.read_at = Some(self.clock.instant());
        }
        Ok(known.is_cut || known.digests.contains(&digest))
    }

    /// Takes in one that this node made.
    pub async fn learn(&self, address: &InspectorAddress) {
        self.known.lock().await.digests.insert(address.digest());
    }
}
