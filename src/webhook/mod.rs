//! Webhooks: who gets which event, at which address, and who may change that.
//!
//! [`Routing`] is the index in memory that intake and dispatcher ask; it follows the database by
//! revisions. Extension webhooks come and go through [`provisioning`] alone, whose functions ask
//! for an [`ExtensionAuthority`]: there is one, and the lifecycle holds it.

mod callback_url;
pub mod conditions;
mod endpoint;
pub mod header_rules;
pub mod importing;
mod incoming;
mod loading;
pub mod matching;
pub mod own;
pub mod provisioning;
pub mod recipes;
pub(crate) mod restoring;
mod routing;
mod terms;

pub use callback_url::{append_context, mask_context, mask_context_query};
pub use endpoint::{CallbackLane, Endpoint, Owner, Passage, Subscription};
pub(crate) use loading::{unseal_manifest_secrets, unseal_signing_secret};
pub use provisioning::ExtensionAuthority;
pub use routing::{Gate, HookFuture, OrgRoutes, RouteHook, Routing, RoutingError, RoutingOptions};
pub use terms::{DeliveryBounds, DeliveryTerms};
