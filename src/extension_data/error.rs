//! What can go wrong with what extensions keep.

use crate::crypto::CryptoError;
use crate::store::StoreError;

/// Why something was not kept, or not found.
#[derive(Debug, thiserror::Error)]
pub enum ExtensionDataError {
    /// A field of a request breaks a rule.
    #[error("{pointer}: {message}")]
    Invalid {
        /// JSON Pointer into the request, or the name of a parameter.
        pointer: String,
        /// The rule.
        message: String,
    },
    /// There is no such thing.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// There is no room for more.
    #[error("there is room for {most} {what} only; delete some first")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing or randomness failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// What is stored cannot be read.
    #[error("a stored {0} cannot be read")]
    Unreadable(&'static str),
}

impl ExtensionDataError {
    pub(super) fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), message: message.into() }
    }
}

impl From<sea_orm::DbErr> for ExtensionDataError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}
