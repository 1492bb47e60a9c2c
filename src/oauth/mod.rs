//! Authorisation with the host's and others' authorisation servers: OAuth 2.0 code flow with PKCE
//! (RFC 6749, RFC 7636, RFC 9700), and what becomes of tokens at the end (RFC 7009).

pub(crate) mod authorization;
mod error;
pub(crate) mod exchanges;
mod provider;
mod revocation;
mod vault;

pub use authorization::{
    AuthorizationRequest, Begun, GrantedTokens, PendingAuthorization, StartedBrowser,
};
pub use error::OAuthError;
pub use provider::{DEFAULT_SERVICE, Providers};
pub(crate) use revocation::is_readable as is_revocation_readable;
pub use revocation::{Revocation, Revocations, schedule as schedule_revocation};
pub(crate) use vault::is_readable as is_connection_readable;
pub use vault::{StoredConnection, forget as forget_connections, store as store_connection};
