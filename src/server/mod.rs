//! The server as a whole: what it is wired from, and the listener that takes connections.

mod listener;
mod rooms;
mod wiring;

pub use listener::{ListenError, Listener, ListenerOptions};
pub(crate) use rooms::host_vetting;
pub use wiring::{RunningServer, StartError, start, store_options};
