//! Listening: vendors and administrators follow the deliveries of webhooks that they may see, as they
//! are made, over a connection of their own; `mortise listen` forwards them to a local server.
//!
//! A listener is a row; every node looks every second who listens. What a node sends to a webhook
//! that somebody listens to is copied (`delivery`'s taps) and written in groups, numbered for each
//! listener, so that whoever reads goes on where he was, at any node and after a restart. Copies are
//! bounded in size, rate, number and age, and nothing ever waits for them: what a listener did not get
//! is counted and told.

mod reading;
mod service;
mod writing;

pub use reading::{ListenerView, TappedPage, TappedView};
pub use service::{
    Answered, LISTENERS_PER_TOKEN, LIVES_UNREAD, ListenTo, Listening, ListeningError, NewListener,
};

/// How many copies of one listener are kept, and for how long.
pub const KEPT: i64 = 1_000;
/// How long a copy is kept.
pub const KEPT_FOR: std::time::Duration = std::time::Duration::from_mins(10);
