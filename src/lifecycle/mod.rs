//! The life of an installation: install, authorise, configure, suspend, uninstall.
//!
//! [`state`] is the pure table of what may follow what. Every step writes the new state, its
//! effects, the history, the audit row and the vendor's callback in one transaction; only this room
//! can change an extension's webhooks.

mod authorize;
mod configure;
mod erasing;
mod erasure;
mod error;
mod hold;
mod install;
mod journal;
mod parameters;
mod service;
pub mod state;
mod suspend;
mod uninstall;
mod validator;
mod views;

pub use authorize::{BrowserReturn, Exchanged, Returned};
pub use configure::ConfigureRequest;
pub use erasure::{ErasureView, erasure};
pub use error::LifecycleError;
pub use hold::{Hold, HoldRequest};
pub use install::{InstallRequest, Installed};
pub use journal::{JournalAttempt, JournalCursor, JournalEntry, journal};
pub use service::{Lifecycle, LifecycleOptions};
pub use uninstall::{UninstallRequest, Uninstalled};
pub use validator::Agreed;
pub use views::{
    ChangeCursor, InstallationCursor, InstallationFilter, InstallationScope, InstallationView,
    TransitionView, WebhookView, history, installation, installation_within, installations,
    webhook, webhooks,
};
