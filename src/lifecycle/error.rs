//! What can go wrong in the life of an installation.

use uuid::Uuid;

use super::consent::WaitingUpgrade;
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
    /// There is no such consent of this installation.
    #[error("no upgrade of the installation waits for consent {0}, or ever did")]
    UnknownConsent(String),
    /// The upgrade does not wait any more.
    #[error(
        "consent {consent} cannot be given any more: the upgrade is {state}; what waits now is \
         shown with the installation"
    )]
    ConsentSettled {
        /// The consent.
        consent: String,
        /// What became of it.
        state: String,
        /// What waits now, where something does.
        shown: Option<Box<WaitingUpgrade>>,
    },
    /// Consent is to something else than what waits.
    #[error(
        "consent {consent} is for another package than the one that was agreed to: show this one, \
         and bring its digest"
    )]
    ConsentMismatch {
        /// The consent.
        consent: String,
        /// What waits.
        shown: Box<WaitingUpgrade>,
    },
    /// Scopes grow: only an authorisation is consent.
    #[error(
        "consent {consent} is to scopes that the host has not granted: send the browser to the \
         authorizationUrl or startUrl that upgrade answers, and bring its code by authorize"
    )]
    AuthorizationNeeded {
        /// The consent.
        consent: String,
    },
    /// The extension has a rollout that runs.
    #[error("the job {job} is rolling out a version of {extension}; wait for it or cancel it")]
    RolloutRuns {
        /// The extension.
        extension: String,
        /// The job.
        job: Uuid,
    },
    /// The kill switch holds the extension.
    #[error("extension {extension} is suspended over all orgs: {reason}")]
    ExtensionSuspended {
        /// The extension.
        extension: String,
        /// Why, as it was said.
        reason: String,
    },
    /// Somebody else holds the installation suspended.
    #[error(
        "installation {installation} is held suspended by: {}; each lifts its own suspension only",
        holders.join(", ")
    )]
    Held {
        /// The installation.
        installation: String,
        /// Who.
        holders: Vec<&'static str>,
    },
    /// The vendor's validator said no.
    #[error("the vendor refuses this installation: {message}")]
    RefusedByVendor {
        /// Why, in the vendor's words; one line.
        message: String,
    },
    /// The vendor's validator could not be asked, or its answer is none.
    #[error(
        "the vendor's installation validator cannot be asked now: {reason}; repeat the request"
    )]
    Unvalidated {
        /// What went wrong.
        reason: String,
    },
    /// What is to be installed is not what the validator was asked about: it changed meanwhile.
    #[error("the version to be installed changed meanwhile; repeat the request")]
    Outdated,
    /// A callback that is to be sent again.
    #[error("{0}")]
    NotResent(&'static str),
    /// Another pass of the reconciler is at work on this node.
    #[error("another comparison runs on this node; repeat the request when it has gone on")]
    PassRuns,
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
