//! How often an installation may use its key-value store, whichever way it comes (reference:
//! 250 reads, 50 writes and 50 deletions a minute).

use uuid::Uuid;

use super::error::InvokeError;
use crate::extension_data::storage::{DELETES_PER_MINUTE, READS_PER_MINUTE, WRITES_PER_MINUTE};
use crate::rate::KeyedWindow;
use crate::seam::Clock;

/// The rates of all stores, on this node.
#[derive(Debug)]
pub struct StorageRates {
    reads: KeyedWindow<Uuid>,
    writes: KeyedWindow<Uuid>,
    deletes: KeyedWindow<Uuid>,
}

impl StorageRates {
    /// The reference's rates.
    pub fn new(clock: &Clock) -> Self {
        let rate = |per_minute| KeyedWindow::new(per_minute, clock.clone());
        Self {
            reads: rate(READS_PER_MINUTE),
            writes: rate(WRITES_PER_MINUTE),
            deletes: rate(DELETES_PER_MINUTE),
        }
    }

    /// Takes a read.
    pub fn read(&self, installation: Uuid) -> Result<(), InvokeError> {
        take(&self.reads, installation, "the store takes 250 reads a minute")
    }

    /// Takes a write.
    pub fn write(&self, installation: Uuid) -> Result<(), InvokeError> {
        take(&self.writes, installation, "the store takes 50 writes a minute")
    }

    /// Takes a deletion.
    pub fn delete(&self, installation: Uuid) -> Result<(), InvokeError> {
        take(&self.deletes, installation, "the store takes 50 deletions a minute")
    }
}

fn take(rate: &KeyedWindow<Uuid>, id: Uuid, what: &'static str) -> Result<(), InvokeError> {
    rate.take(id).map_err(|wait| InvokeError::TooMany { what, wait })
}
