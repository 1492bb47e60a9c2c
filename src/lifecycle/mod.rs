//! The life of an installation: install, authorise, configure, suspend, uninstall.
//!
//! [`state`] is the pure table of what may follow what. Every step writes the new state, its
//! effects, the history, the audit row and the vendor's callback in one transaction; only this room
//! can change an extension's webhooks.

mod authorize;
mod configure;
mod error;
mod generations;
mod install;
mod parameters;
mod reconcile;
mod service;
pub mod state;
mod suspend;
mod uninstall;
mod views;

pub use authorize::{BrowserReturn, Exchanged, Returned};
pub use configure::ConfigureRequest;
pub use error::LifecycleError;
pub use generations::{raise_generation, raise_generations};
pub use install::{InstallRequest, Installed};
pub use reconcile::{
    DriftKind, Finding, PassLimits, Reconciler, ReconcilerParts, Report, last_report,
    run_reconciler,
};
pub use service::Lifecycle;
pub use uninstall::{UninstallRequest, Uninstalled};
pub use views::{
    InstallationFilter, InstallationScope, InstallationView, JournalEntry, TransitionView,
    WebhookView, history, installation, installation_within, installations, journal, webhook,
    webhooks,
};
