//! Authorisation with the host's and others' authorisation servers: OAuth 2.0 code flow with PKCE
//! (RFC 6749, RFC 7636, RFC 9700), and what becomes of tokens at the end (RFC 7009).

pub(crate) mod authorization;
mod connections;
mod declared;
pub(crate) mod discarding;
mod error;
pub(crate) mod exchanges;
mod health;
mod lanes;
mod provider;
mod purpose;
mod refreshing;
mod revocation;
mod vault;

pub use authorization::{
    AuthorizationRequest, Begun, GrantedTokens, PendingAuthorization, StartedBrowser,
};
pub use connections::{AccessToken, Connections, TokenVersion};
pub use declared::{DeclaredConnection, HOST_CONNECTION, connections as declared_connections};
pub use error::OAuthError;
pub(crate) use health::{break_connection, is_main as is_main_connection};
pub use provider::{DEFAULT_SERVICE, Providers, Service};
pub use purpose::AuthorizationPurpose;
pub(crate) use revocation::is_readable as is_revocation_readable;
pub use revocation::{Revocation, Revocations, schedule as schedule_revocation};
pub use vault::StoredConnection;
pub(crate) use vault::{
    ENDED as ENDED_CONNECTION, forget as forget_connections, is_readable as is_connection_readable,
};
