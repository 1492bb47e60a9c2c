//! Why a call through invoke was not made.

use std::time::Duration;

use super::headers::InvalidHeaders;
use super::placeholders::Unfillable;
use super::request::Ambiguous;
use super::target::Unreachable;
use crate::crypto::CryptoError;
use crate::egress::ErrorClass;
use crate::extension_data::ExtensionDataError;
use crate::lifecycle::LifecycleError;
use crate::oauth::OAuthError;
use crate::store::StoreError;
use crate::webhook::RoutingError;

/// Why a call was not made.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The caller did not prove who it is. One refusal for everything that can be wrong.
    #[error(
        "orgId, securityContext and the proof (HASH, or the Standard Webhooks headers) do not fit \
         together, or the installation does not serve"
    )]
    Unproven,
    /// A value could pose as another field.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// A field breaks its rule.
    #[error("{field} {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// The host may not be called.
    #[error("{0}")]
    NotAllowed(String),
    /// The connection has no token that works.
    #[error("the connection {connection} is broken: {reason}; authorise it again")]
    ConnectionBroken {
        /// Which connection.
        connection: String,
        /// Why.
        reason: String,
    },
    /// The installation calls too often, or too much of it is under way.
    #[error("{what}; repeat the call later")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// When to come back.
        wait: Duration,
    },
    /// The upstream gave no answer.
    #[error("the upstream gave no answer ({}): {detail}", class.as_str())]
    NoAnswer {
        /// Which kind of failure.
        class: ErrorClass,
        /// What was seen.
        detail: String,
    },
    /// This node cannot serve right now.
    #[error("this node cannot serve calls right now")]
    Unavailable,
    /// A token could not be had.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Secrets could not be read.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// What the extension keeps could not be read.
    #[error(transparent)]
    Data(#[from] ExtensionDataError),
    /// The lifecycle refused.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// What is stored cannot be read.
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
}

impl InvokeError {
    pub(super) fn invalid(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Invalid { field, rule: rule.into() }
    }

    /// A placeholder of a field cannot be filled in.
    pub(super) fn placeholder(field: &'static str, fault: &Unfillable) -> Self {
        Self::invalid(field, format!("cannot be filled in: {fault}"))
    }
}

impl From<sea_orm::DbErr> for InvokeError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

impl From<InvalidHeaders> for InvokeError {
    fn from(fault: InvalidHeaders) -> Self {
        Self::invalid("headers", fault.to_string())
    }
}

impl From<Unreachable> for InvokeError {
    fn from(fault: Unreachable) -> Self {
        match fault {
            Unreachable::NotAllowed(_) | Unreachable::NoHost(_) => {
                Self::NotAllowed(fault.to_string())
            }
            Unreachable::UnknownConnection(_) => {
                Self::Invalid { field: "connectionLinkName", rule: fault.to_string() }
            }
            Unreachable::Malformed
            | Unreachable::Steps
            | Unreachable::TooLong
            | Unreachable::Placeholder(_) => {
                Self::Invalid { field: "requestURL", rule: fault.to_string() }
            }
        }
    }
}
