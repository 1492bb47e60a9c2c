//! The one place that takes tokens out of the vault for calls.

use uuid::Uuid;

use super::error::InvokeError;
use super::service::Invoke;
use crate::oauth::{AccessToken, OAuthError};

impl Invoke {
    /// The token of a connection. Where the service `refused` one, a newer one; the same comes back
    /// where there is nothing to be done about it.
    pub(super) async fn credential(
        &self,
        installation_id: Uuid,
        name: &str,
        refused: Option<&AccessToken>,
    ) -> Result<AccessToken, InvokeError> {
        let version = refused.map(|refused| refused.version);
        let asked = self.inner.connections.access_token(installation_id, name, None, version);
        asked.await.map_err(|error| match error {
            OAuthError::NoConnection { connection } => {
                let reason = "nobody has authorised it".to_owned();
                InvokeError::ConnectionBroken { connection, reason }
            }
            OAuthError::Broken { connection, reason } => {
                InvokeError::ConnectionBroken { connection, reason }
            }
            error => error.into(),
        })
    }
}
