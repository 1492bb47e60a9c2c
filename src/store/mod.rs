//! The database: pools, entities, and the few hot statements in both SQL dialects.
//!
//! Rooms above use entities for ordinary work, inside a [`UnitOfWork`]; what happens for every
//! event goes through the [`committer`], which writes in groups.

pub mod backup;
pub mod claims;
pub mod committer;
mod database;
pub(crate) mod entity;
mod error;
pub mod hold;
mod nodes;
mod notifications;
pub(crate) mod positions;
pub(crate) mod writes;

pub use database::{Backend, RoutingChange, RoutingRevision, Store, StoreOptions, UnitOfWork};
pub use error::StoreError;
pub use nodes::{Applied, Epoch, Nodes};
pub(crate) use notifications::listen_to_routing;
