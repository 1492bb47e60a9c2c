//! What can go wrong with an authorisation.

use std::time::Duration;

use crate::crypto::CryptoError;
use crate::seam::Timestamp;
use crate::store::StoreError;

/// Why an authorisation did not come about.
#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    /// The manifest names a service that the configuration does not have.
    #[error(
        "no authorisation server is configured for serviceName {service:?}: the operator adds \
         oauth.providers.{service}"
    )]
    UnknownService {
        /// The service.
        service: String,
    },
    /// The `state` is unknown, of another installation, expired or used.
    #[error("the state is unknown, expired or used already: start the authorisation anew")]
    InvalidState,
    /// So many authorisations of one installation are under way that no other can begin.
    #[error(
        "{most} authorisations of this installation are under way: try again when some have ended \
         (each lives 10 minutes at the most)"
    )]
    TooManyStates {
        /// How many there may be.
        most: u64,
    },
    /// What was shown to the user is not what would be provisioned now.
    #[error("the extension changed since the consent was asked for: start the authorisation anew")]
    TargetChanged,
    /// The `iss` of the answer is not the configured issuer (RFC 9207).
    #[error("the answer names another issuer (iss) than the configured one, or none")]
    WrongIssuer,
    /// The server refused the code.
    #[error("the authorisation server refused the code: {reason}")]
    CodeRefused {
        /// Its error code, such as `invalid_grant`.
        reason: String,
    },
    /// The server granted less than the extension needs.
    #[error("not all scopes were granted; missing: {}", missing.join(", "))]
    ScopesMissing {
        /// The scopes that are missing.
        missing: Vec<String>,
    },
    /// The server cannot be reached or answers nonsense.
    #[error("the authorisation server did not answer as it should: {reason}")]
    Unreachable {
        /// What happened, without anything secret.
        reason: String,
    },
    /// Nobody has connected this.
    #[error("there is no connection {connection:?}: it has to be authorised first")]
    NoConnection {
        /// The connection's name.
        connection: String,
    },
    /// The connection does not work any more; only a new authorisation helps.
    #[error("the connection {connection:?} is broken: {reason}; authorise it again")]
    Broken {
        /// The connection's name.
        connection: String,
        /// Why, in words.
        reason: String,
    },
    /// The authorisation server gives no tokens now; the connection may still be good.
    #[error("the authorisation server of {service:?} gives no access token now: {reason}")]
    Unavailable {
        /// The service.
        service: String,
        /// What happened, without anything secret.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing or randomness failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// What is stored cannot be read.
    #[error("a stored {what} cannot be read")]
    Unreadable {
        /// What.
        what: &'static str,
    },
}

impl From<sea_orm::DbErr> for OAuthError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// When something of this kind ends, in words.
pub(super) fn until(moment: Timestamp) -> String {
    format!("until {moment}")
}
