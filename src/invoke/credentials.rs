//! The one place that takes tokens out of the vault for calls.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::error::InvokeError;
use super::service::Invoke;
use crate::crypto::{AssociatedData, Purpose, SecretText};
use crate::store::entity::connection;

/// A token to go along with a call.
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) token: SecretText,
    pub(super) scheme: String,
    pub(super) version: i64,
}

impl Invoke {
    /// The token of a connection; a newer one where `refused` did not work.
    pub(super) async fn credential(
        &self,
        installation_id: Uuid,
        name: &str,
        refused: Option<&Credential>,
    ) -> Result<Credential, InvokeError> {
        let broken = |reason: &str| InvokeError::ConnectionBroken {
            connection: name.to_owned(),
            reason: reason.to_owned(),
        };
        let row = connection::Entity::find()
            .filter(connection::Column::InstallationId.eq(installation_id))
            .filter(connection::Column::Name.eq(name))
            .one(self.inner.store.reader())
            .await?
            .ok_or_else(|| broken("nobody authorised it"))?;
        if refused.is_some_and(|refused| refused.version == row.updated_at) {
            return Err(broken("its token is refused"));
        }
        let place = AssociatedData { subject: installation_id, field: "connection-access-token" };
        let ring = &self.inner.keys.ring;
        let token = ring.unseal(Purpose::Vault, &place, &row.sealed_access_token)?;
        let text =
            std::str::from_utf8(token.expose()).map_err(|_| InvokeError::Unreadable("token"))?;
        Ok(Credential {
            token: SecretText::new(text),
            scheme: "Bearer".to_owned(),
            version: row.updated_at,
        })
    }
}
