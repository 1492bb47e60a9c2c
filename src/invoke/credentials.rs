//! The one place that takes tokens out of the vault for calls.

use url::Url;

use super::error::InvokeError;
use super::service::Invoke;
use super::target::Granted;
use super::tenant::Tenant;
use crate::oauth::{AccessToken, OAuthError};

/// Why a token is not used that was granted for something else than the call.
const GRANTED_ELSEWHERE: &str = "it was authorised with another service, or for other origins, than \
                                 the version of this call declares";

impl Invoke {
    /// The token of a connection for a URL. Where the service `refused` one, a newer one; the same
    /// comes back where there is nothing to be done about it.
    ///
    /// What was granted elsewhere does not go there, whatever the connection is called.
    pub(super) async fn credential(
        &self,
        tenant: &Tenant,
        name: &str,
        url: &Url,
        refused: Option<&AccessToken>,
    ) -> Result<AccessToken, InvokeError> {
        let broken = |connection, reason| InvokeError::ConnectionBroken { connection, reason };
        let version = refused.map(|refused| refused.version);
        let asked = self.inner.connections.access_token(tenant.id, name, None, version).await;
        let token = asked.map_err(|error| match error {
            OAuthError::NoConnection { connection } => {
                broken(connection, "nobody has authorised it".to_owned())
            }
            OAuthError::Broken { connection, reason } => broken(connection, reason),
            error => error.into(),
        })?;
        let granted = Granted { service: &token.service, origins: &token.api_origins };
        if !tenant.reach.lets(name, granted, url) {
            return Err(broken(name.to_owned(), GRANTED_ELSEWHERE.to_owned()));
        }
        Ok(token)
    }
}
