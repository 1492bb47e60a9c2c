//! The life of an installation: install, authorise, configure, upgrade, suspend, uninstall.
//!
//! [`state`] is the pure table of what may follow what. Every step writes the new state, its
//! effects, the history, the audit row and the vendor's callback in one transaction; only this room
//! can change an extension's webhooks.

mod applying;
mod authorize;
mod closing;
mod completion;
mod config_params;
mod configure;
mod connection_views;
mod consent;
mod erasing;
mod erasure;
mod error;
mod generations;
mod hold;
mod install;
mod journal;
mod parameters;
mod people;
mod reconcile;
mod reconnect;
mod rollout;
mod rollout_steps;
mod service;
pub mod state;
mod suspend;
mod uninstall;
mod upgrade;
mod validator;
mod views;

pub use authorize::{Activated, BrowserReturn, Exchanged, Returned};
pub use closing::{Closed, OrgClosures};
pub use config_params::{ConfigParameter, ConfigVariable, ConfigVariables};
pub use configure::ConfigureRequest;
pub use connection_views::ConnectionView;
pub use consent::{AGREED, ConsentRequest, WaitingUpgrade};
pub use erasure::{ErasureView, erasure};
pub use error::LifecycleError;
pub use generations::{raise_generation, raise_generations};
pub use hold::{Hold, HoldRequest};
pub use install::{InstallRequest, Installed};
pub use journal::{JournalAttempt, JournalCursor, JournalEntry, journal};
pub use people::UserLeft;
pub use reconcile::{
    DriftKind, Finding, NoPosition, PassLimits, PassPosition, Reconciler, ReconcilerParts, Report,
    last_report, run_reconciler,
};
pub use reconnect::{Asked, ConnectRequest, DisconnectRequest, Disconnected, ReauthorizeRequest};
pub use rollout::{
    RolloutCancelRefusal, RolloutFailure, RolloutRequest, RolloutScope, RolloutView, Rollouts,
    find_rollout, list_rollouts,
};
pub(crate) use service::installation_state;
pub use service::{Lifecycle, LifecycleOptions};
pub use uninstall::{UninstallRequest, Uninstalled};
pub use upgrade::{UpgradeOutcome, UpgradeRequest};
pub use validator::Agreed;
pub use views::{
    ChangeCursor, InstallationCursor, InstallationFilter, InstallationScope, InstallationView,
    TransitionView, WebhookFilter, WebhookView, activated_within, history, installation,
    installation_within, installations, webhook, webhook_within, webhooks,
};
