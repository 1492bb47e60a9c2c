//! What extensions keep here: a key-value store for each installation, properties for each
//! extension, tokens for the users of an installation, and the lane for what third parties post.
//!
//! All that belongs to an installation goes with it, in the transaction that ends it ([`erase`]).

mod error;
pub mod former_versions;
pub mod incoming;
pub mod properties;
pub mod storage;
pub mod user_tokens;

use uuid::Uuid;

pub use error::ExtensionDataError;

use crate::store::{Store, StoreError, UnitOfWork};

/// Erases what an installation keeps, where it ends: its store, its users' tokens, and what waits in
/// its incoming lane.
pub async fn erase(
    store: &Store,
    work: &UnitOfWork,
    installation_id: Uuid,
) -> Result<(), StoreError> {
    storage::erase(work, installation_id).await?;
    user_tokens::erase(work, installation_id).await?;
    former_versions::erase(work, installation_id).await?;
    incoming::close(store, work, installation_id).await
}
