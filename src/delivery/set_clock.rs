//! What waits by the time of day when that is set back: retries would stand still for as long as the
//! step was.

use std::time::Duration;

use super::dispatcher::Dispatcher;
use crate::seam::Timestamp;
use crate::store::{StoreError, claims};

/// A clock that is set back by less is let be: retries are later by that, and that is all.
const SET_BACK: Duration = Duration::from_secs(5);

/// Compares the time of day with the monotonic clock.
#[derive(Debug)]
pub(super) struct ClockWatch {
    /// The last reading of both.
    read: (Timestamp, tokio::time::Instant),
    /// Whether what waits is still to be looked through.
    is_owed: bool,
}

impl ClockWatch {
    /// Begins. The first look brings forward what a process left whose clock was ahead.
    pub(super) fn new(dispatcher: &Dispatcher) -> Self {
        let clock = &dispatcher.inner.seam.clock;
        Self { read: (clock.now(), clock.instant()), is_owed: true }
    }

    /// Brings forward what waits where the time of day was set back since the last look.
    pub(super) async fn look(&mut self, dispatcher: &Dispatcher) {
        let inner = &dispatcher.inner;
        let expected = self.read.0.plus(self.read.1.elapsed());
        self.read = (inner.seam.clock.now(), inner.seam.clock.instant());
        let back = expected.since(self.read.0);
        let back = (back >= SET_BACK).then_some(back);
        if let Some(back) = back {
            tracing::warn!(seconds = back.as_secs(), "the time of day was set back");
        } else if !self.is_owed {
            return;
        }
        let moved: Result<u64, StoreError> =
            claims::bring_forward(&inner.store, self.read.0, back).await;
        self.is_owed = moved.is_err();
        match moved {
            Ok(0) => {}
            Ok(moved) => {
                tracing::warn!(moved, "deliveries waited for a time by a clock that was ahead");
            }
            Err(error) => tracing::warn!(%error, "cannot bring forward what waits; tried again"),
        }
    }
}
