//! The server as a whole: what it is wired from, and the listener that takes connections.

mod listener;
mod metrics;
mod rooms;
mod trace_export;
mod wiring;
mod workbench;

pub use listener::{ListenError, Listener, ListenerOptions};
pub(crate) use rooms::package_policy;
pub use wiring::{RunningServer, StartError, start, store_options};
pub use workbench::reconciler;
pub(crate) use workbench::{Workbench, board};
