//! What waits by the time of day when that is set back: retries would stand still for as long as the
//! step was.

use std::time::Duration;

use super::dispatcher::Dispatcher;
use crate::seam::Timestamp;
use crate::store::claims;

/// A clock that is set back by less is let be: retries are later by that, and that is all.
const SET_BACK: Duration = Duration::from_secs(5);

/// The pause before what could not be brought forward is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Compares the time of day with the monotonic clock.
#[derive(Debug)]
pub(super) struct ClockWatch {
    /// The last reading of both.
    read: (Timestamp, tokio::time::Instant),
}

impl ClockWatch {
    /// Begins, and brings forward what a process left whose clock was ahead.
    pub(super) fn start(dispatcher: &Dispatcher) -> Self {
        let clock = &dispatcher.inner.seam.clock;
        bring_forward(dispatcher, None);
        Self { read: (clock.now(), clock.instant()) }
    }

    /// Brings forward what waits where the time of day was set back since the last look.
    pub(super) fn look(&mut self, dispatcher: &Dispatcher) {
        let clock = &dispatcher.inner.seam.clock;
        let expected = self.read.0.plus(self.read.1.elapsed());
        self.read = (clock.now(), clock.instant());
        let back = expected.since(self.read.0);
        if back >= SET_BACK {
            tracing::warn!(seconds = back.as_secs(), "the time of day was set back");
            dispatcher.lanes().set_back(self.read.0);
            dispatcher.spawn_workers();
            bring_forward(dispatcher, Some(back));
        }
    }
}

/// In a task of its own, until it is done: much may wait, and what is due is not to wait for it.
fn bring_forward(dispatcher: &Dispatcher, back: Option<Duration>) {
    let (dispatcher, set_at) = (dispatcher.clone(), dispatcher.inner.seam.clock.now());
    let inner = std::sync::Arc::clone(&dispatcher.inner);
    inner.tasks.spawn(async move {
        let inner = &dispatcher.inner;
        loop {
            match claims::bring_forward(&inner.store, set_at, back).await {
                Ok(0) => return,
                Ok(moved) => {
                    tracing::warn!(moved, "deliveries waited for a time by a clock that was ahead");
                    return dispatcher.poke();
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot bring forward what waits; tried again");
                }
            }
            tokio::select! {
                () = inner.stop.cancelled() => return,
                () = inner.seam.clock.sleep(RETRY) => {}
            }
        }
    });
}
