//! The life of an installation: install, authorise, configure, upgrade, suspend, uninstall.
//!
//! [`state`] is the pure table of what may follow what. Every step writes the new state, its
//! effects, the history, the audit row and the vendor's callback in one transaction; only this room
//! can change an extension's webhooks.

mod applying;
mod authorize;
mod closing;
mod configure;
mod consent;
mod error;
mod install;
mod parameters;
mod people;
mod reconnect;
mod rollout;
mod rollout_steps;
mod service;
pub mod state;
mod suspend;
mod uninstall;
mod upgrade;
mod views;

pub use authorize::{BrowserReturn, Exchanged, Returned};
pub use closing::{Closed, OrgClosures};
pub use configure::ConfigureRequest;
pub use consent::{ConsentRequest, WaitingUpgrade};
pub use error::LifecycleError;
pub use install::{InstallRequest, Installed};
pub use people::UserLeft;
pub use reconnect::{Asked, ConnectRequest, DisconnectRequest, Disconnected, ReauthorizeRequest};
pub use rollout::{
    RolloutCancelRefusal, RolloutFailure, RolloutRequest, RolloutScope, RolloutView, Rollouts,
    find_rollout, list_rollouts,
};
pub use service::Lifecycle;
pub use uninstall::{UninstallRequest, Uninstalled};
pub use upgrade::{UpgradeOutcome, UpgradeRequest};
pub use views::{
    ConnectionView, InstallationFilter, InstallationScope, InstallationView, JournalEntry,
    TransitionView, WebhookView, history, installation, installation_within, installations,
    journal, webhook, webhooks,
};
