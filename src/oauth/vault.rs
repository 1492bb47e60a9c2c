//! The tokens of connections, sealed in the database.

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::authorization::GrantedTokens;
use super::error::OAuthError;
use super::exchanges;
use super::revocation;
use crate::crypto::{AssociatedData, KeyRing, Purpose, SecretText};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::connection;
use crate::store::{StoreError, UnitOfWork};

const ACCESS: &str = "connection-access-token";
const REFRESH: &str = "connection-refresh-token";

/// A connection to be stored.
#[derive(Debug)]
pub struct StoredConnection<'a> {
    /// The installation that it belongs to; what is sealed opens for no other.
    pub installation_id: Uuid,
    /// `zohoAuthorisation`, or the connector's link name.
    pub name: &'a str,
    /// Who granted it.
    pub granted_by: Option<String>,
    /// What was granted.
    pub tokens: &'a GrantedTokens,
}

/// Stores a connection's tokens.
pub async fn store(
    ring: &KeyRing,
    work: &UnitOfWork,
    new: StoredConnection<'_>,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), OAuthError> {
    let place = |field| AssociatedData { subject: new.installation_id, field };
    let sealed = |field, token: &SecretText| {
        ring.seal(Purpose::Vault, &place(field), token.expose().as_bytes(), &seam.randomness)
    };
    let refresh = match &new.tokens.refresh {
        Some(token) => Some(sealed(REFRESH, token)?),
        None => None,
    };
    connection::Entity::insert(connection::ActiveModel {
        id: Set(seam.randomness.id()),
        installation_id: Set(new.installation_id),
        name: Set(new.name.to_owned()),
        service_name: Set(new.tokens.service.clone()),
        sealed_access_token: Set(sealed(ACCESS, &new.tokens.access)?),
        sealed_refresh_token: Set(refresh),
        access_expires_at: Set(new.tokens.expires_at.map(Timestamp::micros)),
        scopes: Set(serde_json::to_string(&new.tokens.scopes)
            .map_err(|_| OAuthError::Unreadable { what: "list of scopes" })?),
        granted_by: Set(new.granted_by),
        created_at: Set(now.micros()),
        updated_at: Set(now.micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    exchanges::end(work, new.tokens.exchange).await?;
    Ok(())
}

/// Takes all connections of an installation out; their tokens live on only in the revocation job.
/// Returns how many tokens of the installation wait to be revoked, those of refused consents too.
pub async fn forget(
    ring: &KeyRing,
    work: &UnitOfWork,
    installation_id: Uuid,
    now: Timestamp,
    seam: &Seam,
) -> Result<u64, OAuthError> {
    let rows = connection::Entity::find()
        .filter(connection::Column::InstallationId.eq(installation_id))
        .all(work.connection())
        .await?;
    for row in rows {
        let sealed = [
            (ACCESS, "access_token", Some(row.sealed_access_token)),
            (REFRESH, "refresh_token", row.sealed_refresh_token),
        ];
        for (field, kind, bytes) in sealed {
            let Some(bytes) = bytes else { continue };
            let place = AssociatedData { subject: installation_id, field };
            // What cannot be opened cannot be revoked, and must not hold the end of an installation.
            let Some(token) = open(ring, &place, &bytes) else {
                tracing::error!(
                    installation = %installation_id,
                    kind,
                    "a token cannot be unsealed; it is dropped without being revoked"
                );
                continue;
            };
            let job = revocation::Revocation {
                installation_id,
                service: row.service_name.clone(),
                kind,
                token: &token,
            };
            revocation::schedule(ring, work, job, now, seam).await?;
        }
        connection::Entity::delete_by_id(row.id)
            .exec(work.connection())
            .await
            .map_err(StoreError::from)?;
    }
    revocation::waiting(work, installation_id).await
}

fn open(ring: &KeyRing, place: &AssociatedData<'_>, sealed: &[u8]) -> Option<SecretText> {
    let token = ring.unseal(Purpose::Vault, place, sealed).ok()?;
    std::str::from_utf8(token.expose()).ok().map(SecretText::new)
}

/// Whether the tokens of a connection can be unsealed.
pub(crate) fn is_readable(ring: &KeyRing, row: &connection::Model) -> bool {
    let opens = |field, sealed: &[u8]| {
        open(ring, &AssociatedData { subject: row.installation_id, field }, sealed).is_some()
    };
    opens(ACCESS, &row.sealed_access_token)
        && row.sealed_refresh_token.as_ref().is_none_or(|sealed| opens(REFRESH, sealed))
}
