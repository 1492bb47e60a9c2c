//! What can go wrong in the life of an installation.

use crate::catalogue::CatalogueError;
use crate::crypto::CryptoError;
use crate::oauth::OAuthError;
use crate::store::StoreError;
use crate::webhook::RoutingError;

/// A field of a request that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// JSON Pointer into the request.
    pub pointer: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// There is no such installation, or it is another tenant's.
    #[error("there is no installation {0}")]
    Unknown(String),
    /// A live installation exists, and this request differs from the one that made it.
    #[error(
        "{extension} is installed in org {org} already (installation {installation}), with another \
         version, other departments or another config: uninstall it, or use configure or upgrade"
    )]
    Installed {
        /// The extension.
        extension: String,
        /// The org.
        org: String,
        /// The live installation.
        installation: String,
    },
    /// The state does not allow the step.
    #[error("cannot {command} installation {installation}: {reason}")]
    NotNow {
        /// What was wanted.
        command: &'static str,
        /// The installation.
        installation: String,
        /// Why not.
        reason: &'static str,
    },
    /// The kill switch holds the extension.
    #[error("extension {extension} is suspended over all orgs: {reason}")]
    ExtensionSuspended {
        /// The extension.
        extension: String,
        /// Why, as it was said.
        reason: String,
    },
    /// Somebody else suspended the extension.
    #[error(
        "extension {extension} was suspended by: {holders}; each lifts its own suspension only"
    )]
    HeldByOthers {
        /// The extension.
        extension: String,
        /// Who.
        holders: String,
    },
    /// Fields of the request break rules.
    #[error("{}", faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// Each fault.
        faults: Vec<FieldFault>,
    },
    /// The catalogue refused.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The authorisation failed.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Routing could not be applied.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// What is stored cannot be read.
    #[error("the stored {what} cannot be read")]
    Unreadable {
        /// What.
        what: &'static str,
    },
}

impl LifecycleError {
    /// Whether two transactions met, and this one gave way.
    pub(super) fn is_contention(&self) -> bool {
        match self {
            Self::Store(error) | Self::OAuth(OAuthError::Store(error)) => error.is_contention(),
            _ => false,
        }
    }

    /// One field that breaks a rule.
    pub(super) fn field(pointer: &str, message: impl Into<String>) -> Self {
        let fault = FieldFault { pointer: pointer.to_owned(), message: message.into() };
        Self::Invalid { faults: vec![fault] }
    }
}

impl From<sea_orm::DbErr> for LifecycleError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}
