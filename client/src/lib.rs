//! A typed client of Mortise's API.
//!
//! A [`Client`] is one server, as the holder of one token. It is cheap to clone and shares its
//! connections. Every method is one call:
//!
//! ```no_run
//! use mortise_client::lifecycle::InstallRequest;
//! use mortise_client::{Client, ExtensionKey, OrgId};
//!
//! # async fn install() -> Result<(), mortise_client::Error> {
//! let client = Client::builder("https://mortise.example.com", "mrt_…")?
//!     .marketplace_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?
//!     .build()?;
//! let request = InstallRequest::new(ExtensionKey::new("ticket-mirror")?, OrgId::new("60001")?);
//! let installed = client.install(&request).await?;
//! println!("{} is {:?}", installed.installation_id, installed.state);
//!
//! let mut deliveries = client.deliveries(&Default::default());
//! while let Some(delivery) = deliveries.next().await? {
//!     println!("{}: {:?}", delivery.id, delivery.state);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Calls that failed for a moment (no connection, 429, 503 …) are tried again as [`Retries`] says,
//! under the same `Idempotency-Key`: what was done already is answered and not done twice.
//!
//! Whatever a server of a later release answers beyond what is known here is ignored; states that
//! are not known here are `Other`.

mod call;
mod client;
mod error;
mod identifiers;
mod imports;
mod installations;
mod operation;
mod page;
mod secret;
mod signature;
mod watched;

pub mod catalogue;
pub mod deliveries;
pub mod events;
pub mod jobs;
pub mod lifecycle;
pub mod listeners;
pub mod tokens;
pub mod webhooks;

pub use client::{Client, ClientBuilder, Retries};
pub use error::{Error, Fault, Problem};
pub use identifiers::{
    DeliveryId, ExtensionId, ExtensionKey, InstallationId, InvalidIdentifier, JobId, ListenerId,
    OrgId, TokenId, VendorKey, WebhookId,
};
pub use operation::{OPERATIONS, Operation};
pub use page::{Page, Pages};
pub use secret::Secret;
pub use signature::{MarketplaceSecret, UnfitSecret};

pub use reqwest;
pub use serde_json::Value;
pub use uuid::Uuid;
