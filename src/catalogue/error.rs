//! What can go wrong with the catalogue.

use crate::crypto::CryptoError;
use crate::store::StoreError;
use crate::webhook::RoutingError;

/// Why the catalogue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The key belongs to another vendor.
    #[error("the key {key} belongs to another vendor, which published it first")]
    KeyTaken {
        /// The key.
        key: String,
    },
    /// The version exists with other content.
    #[error(
        "version {version} of {key} was published with other content ({digest}): published versions \
         never change, publish a new one"
    )]
    VersionExists {
        /// The extension.
        key: String,
        /// The version.
        version: String,
        /// The digest of what was published.
        digest: String,
    },
    /// There is no such extension.
    #[error("there is no extension {key}")]
    UnknownExtension {
        /// The key.
        key: String,
    },
    /// There is no such version.
    #[error("there is no version {version} of {key}")]
    UnknownVersion {
        /// The extension.
        key: String,
        /// The version.
        version: String,
    },
    /// The version was withdrawn.
    #[error("version {version} of {key} was withdrawn")]
    Withdrawn {
        /// The extension.
        key: String,
        /// The version.
        version: String,
    },
    /// No version can be installed.
    #[error("{key} has no stable version that is not withdrawn: name a version")]
    NothingToInstall {
        /// The extension.
        key: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing or randomness failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A stored secret could not be opened.
    #[error(transparent)]
    Secrets(#[from] RoutingError),
    /// What is stored cannot be read.
    #[error("the stored {what} cannot be read")]
    Unreadable {
        /// What.
        what: &'static str,
    },
}

impl From<sea_orm::DbErr> for CatalogueError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}
