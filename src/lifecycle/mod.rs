//! The life of an installation: install, authorise, configure, suspend, uninstall.
//!
//! [`state`] is the pure table of what may follow what. Every step writes the new state, its
//! effects, the history, the audit row and the vendor's callback in one transaction; only this room
//! can change an extension's webhooks.

mod authorize;
mod closing;
mod config_params;
mod configure;
mod error;
mod install;
mod parameters;
mod people;
mod reconnect;
mod service;
pub mod state;
mod suspend;
mod uninstall;
mod views;

pub use authorize::{BrowserReturn, Exchanged, Returned};
pub use closing::{Closed, OrgClosures};
pub use config_params::{ConfigParameter, ConfigVariable, ConfigVariables};
pub use configure::ConfigureRequest;
pub use error::LifecycleError;
pub use install::{InstallRequest, Installed};
pub use people::UserLeft;
pub use reconnect::{Asked, ConnectRequest, DisconnectRequest, Disconnected, ReauthorizeRequest};
pub use service::Lifecycle;
pub use uninstall::{UninstallRequest, Uninstalled};
pub use views::{
    ConnectionView, InstallationFilter, InstallationScope, InstallationView, JournalEntry,
    TransitionView, WebhookView, history, installation, installation_within, installations,
    journal, webhook, webhooks,
};
