//! The tokens of connections, sealed in the database. What is sealed opens in its own row only.

use std::time::Duration;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
};
use uuid::Uuid;

use super::authorization::GrantedTokens;
use super::error::OAuthError;
use super::exchanges;
use super::provider::Service;
use super::revocation;
use crate::crypto::{AssociatedData, KeyRing, Purpose, SecretText};
use crate::seam::{Seam, Timestamp};
use crate::store::UnitOfWork;
use crate::store::entity::connection;

pub(super) const ACCESS: &str = "connection-access-token";
pub(super) const REFRESH: &str = "connection-refresh-token";
pub(super) const FORMER_REFRESH: &str = "connection-former-refresh-token";

/// The longest time before its end at which an access token is refreshed without being asked for.
const LONGEST_LEAD: Duration = Duration::from_mins(5);

/// A connection to be stored.
#[derive(Debug)]
pub struct StoredConnection<'a> {
    /// The installation that it belongs to.
    pub installation_id: Uuid,
    /// [`HOST_CONNECTION`](super::HOST_CONNECTION), or the connector's link name.
    pub name: &'a str,
    /// Whose it is; empty where it is the org's.
    pub user_id: &'a str,
    /// Whether users without one of their own use it.
    pub is_shared: bool,
    /// Who granted it.
    pub granted_by: Option<String>,
    /// What was granted.
    pub tokens: &'a GrantedTokens,
}

pub(super) fn open(
    ring: &KeyRing,
    connection_id: Uuid,
    field: &str,
    sealed: &[u8],
) -> Result<SecretText, OAuthError> {
    let place = AssociatedData { subject: connection_id, field };
    let token = ring.unseal(Purpose::Vault, &place, sealed)?;
    let text = std::str::from_utf8(token.expose())
        .map_err(|_| OAuthError::Unreadable { what: "token" })?;
    Ok(SecretText::new(text))
}

pub(super) fn seal(
    ring: &KeyRing,
    connection_id: Uuid,
    field: &str,
    token: &SecretText,
    seam: &Seam,
) -> Result<Vec<u8>, OAuthError> {
    let place = AssociatedData { subject: connection_id, field };
    Ok(ring.seal(Purpose::Vault, &place, token.expose().as_bytes(), &seam.randomness)?)
}

pub(super) fn scopes_text(scopes: &[String]) -> Result<String, OAuthError> {
    serde_json::to_string(scopes).map_err(|_| OAuthError::Unreadable { what: "list of scopes" })
}

pub(super) fn scopes_of(text: &str) -> Result<Vec<String>, OAuthError> {
    serde_json::from_str(text).map_err(|_| OAuthError::Unreadable { what: "list of scopes" })
}

/// When a token is looked at again: some time before its end, not all at once; at its end where
/// nothing can be refreshed.
pub(super) fn refresh_due(
    now: Timestamp,
    expires_at: Option<Timestamp>,
    can_refresh: bool,
    seam: &Seam,
) -> Option<i64> {
    let expires_at = expires_at?;
    if !can_refresh {
        return Some(expires_at.micros());
    }
    let lead = (expires_at.since(now) / 4).min(LONGEST_LEAD);
    let early = lead.mul_f64(1.0 + seam.randomness.fraction() / 2.0);
    Some(expires_at.minus(early).micros())
}

/// Stores a connection's tokens. Those of a former authorisation of the same connection go into the
/// revocation job, in the same transaction. Returns the id of its row.
pub(super) async fn store(
    ring: &KeyRing,
    work: &UnitOfWork,
    new: StoredConnection<'_>,
    now: Timestamp,
    seam: &Seam,
) -> Result<Uuid, OAuthError> {
    let former = connection::Entity::find()
        .filter(connection::Column::InstallationId.eq(new.installation_id))
        .filter(connection::Column::Name.eq(new.name))
        .filter(connection::Column::UserId.eq(new.user_id))
        .lock_exclusive()
        .one(work.connection())
        .await?;
    let tokens = new.tokens;
    if let Some(former) = &former {
        // A server may give the same refresh token again: that one lives on.
        let kept: Vec<&SecretText> = tokens.all().into_iter().map(|(_, token)| token).collect();
        revoke_others(ring, work, former, &kept, now, seam).await?;
    }
    let id = former.as_ref().map_or_else(|| seam.randomness.id(), |row| row.id);
    let refresh = match &tokens.refresh {
        Some(token) => Some(seal(ring, id, REFRESH, token, seam)?),
        None => None,
    };
    let due = refresh_due(now, tokens.expires_at, refresh.is_some(), seam);
    let row = connection::ActiveModel {
        id: if former.is_some() { Unchanged(id) } else { Set(id) },
        installation_id: Set(new.installation_id),
        name: Set(new.name.to_owned()),
        service_name: Set(tokens.service.name.clone()),
        sealed_access_token: Set(seal(ring, id, ACCESS, &tokens.access, seam)?),
        sealed_refresh_token: Set(refresh),
        access_expires_at: Set(tokens.expires_at.map(Timestamp::micros)),
        scopes: Set(scopes_text(&tokens.scopes)?),
        granted_by: Set(new.granted_by),
        created_at: Set(now.micros()),
        updated_at: Set(now.micros()),
        user_id: Set(new.user_id.to_owned()),
        declared_in: Set(tokens.service.declared_in),
        asked: Set(Some(scopes_text(&tokens.asked)?)),
        shared: Set(i32::from(new.is_shared)),
        // Whoever holds a token of before knows that it was replaced.
        version: Set(former.as_ref().map_or(1, |row| row.version + 1)),
        health: Set("ok".to_owned()),
        reason: Set(None),
        sealed_former_refresh_token: Set(None),
        claimed_by: Set(None),
        claimed_until: Set(None),
        refresh_due_at: Set(due),
        refresh_failures: Set(0),
    };
    if former.is_some() {
        row.update(work.connection()).await?;
    } else {
        connection::Entity::insert(row).exec_without_returning(work.connection()).await?;
    }
    // Whoever took it for abandoned has had its tokens revoked.
    if !exchanges::end(work, tokens.exchange).await? {
        return Err(OAuthError::InvalidState);
    }
    Ok(id)
}

/// Puts the tokens of a connection into the revocation job. The row is the caller's.
pub(super) async fn revoke_tokens(
    ring: &KeyRing,
    work: &UnitOfWork,
    row: &connection::Model,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), OAuthError> {
    revoke_others(ring, work, row, &[], now, seam).await
}

/// The same, but for tokens that are kept.
async fn revoke_others(
    ring: &KeyRing,
    work: &UnitOfWork,
    row: &connection::Model,
    kept: &[&SecretText],
    now: Timestamp,
    seam: &Seam,
) -> Result<(), OAuthError> {
    let sealed = [
        (ACCESS, "access_token", Some(&row.sealed_access_token)),
        (REFRESH, "refresh_token", row.sealed_refresh_token.as_ref()),
        (FORMER_REFRESH, "refresh_token", row.sealed_former_refresh_token.as_ref()),
    ];
    for (field, kind, bytes) in sealed {
        // A broken connection has none any more.
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
        // What cannot be opened cannot be revoked, and must not hold the end of an installation.
        let Ok(token) = open(ring, row.id, field, bytes) else {
            tracing::error!(
                installation = %row.installation_id,
                kind,
                "a token cannot be unsealed; it is dropped without being revoked"
            );
            continue;
        };
        if kept.contains(&&token) {
            continue;
        }
        let job = revocation::Revocation {
            installation_id: row.installation_id,
            service: Service { name: row.service_name.clone(), declared_in: row.declared_in },
            kind,
            token: &token,
        };
        revocation::schedule(ring, work, job, now, seam).await?;
    }
    Ok(())
}

/// The tokens that the connections of an installation to a service use, whichever version declared
/// it. The caller holds the installation's lock.
pub(super) async fn in_use(
    ring: &KeyRing,
    work: &UnitOfWork,
    installation_id: Uuid,
    service: &Service,
) -> Result<Vec<SecretText>, OAuthError> {
    let rows = connection::Entity::find()
        .filter(connection::Column::InstallationId.eq(installation_id))
        .filter(connection::Column::ServiceName.eq(&service.name))
        .all(work.connection())
        .await?;
    let mut tokens = Vec::new();
    for row in rows {
        for (field, sealed) in sealed_tokens(&row) {
            // What cannot be opened cannot be used either.
            tokens.extend(open(ring, row.id, field, sealed).ok());
        }
    }
    Ok(tokens)
}

/// The sealed tokens of a row; a broken one has none.
fn sealed_tokens(row: &connection::Model) -> impl Iterator<Item = (&'static str, &Vec<u8>)> {
    [
        (ACCESS, Some(&row.sealed_access_token)),
        (REFRESH, row.sealed_refresh_token.as_ref()),
        (FORMER_REFRESH, row.sealed_former_refresh_token.as_ref()),
    ]
    .into_iter()
    .filter_map(|(field, sealed)| Some((field, sealed.filter(|sealed| !sealed.is_empty())?)))
}

/// Takes connections of an installation out; their tokens live on only in the revocation job. All
/// of them, or those of one name, of all users or of one. Returns their ids.
pub(super) async fn remove(
    ring: &KeyRing,
    work: &UnitOfWork,
    installation_id: Uuid,
    only: Option<(&str, Option<&str>)>,
    now: Timestamp,
    seam: &Seam,
) -> Result<Vec<Uuid>, OAuthError> {
    let mut query = connection::Entity::find()
        .filter(connection::Column::InstallationId.eq(installation_id))
        .lock_exclusive();
    if let Some((name, user)) = only {
        query = query.filter(connection::Column::Name.eq(name));
        if let Some(user) = user {
            query = query.filter(connection::Column::UserId.eq(user));
        }
    }
    let rows = query.all(work.connection()).await?;
    let mut removed = Vec::with_capacity(rows.len());
    for row in rows {
        revoke_tokens(ring, work, &row, now, seam).await?;
        connection::Entity::delete_by_id(row.id).exec(work.connection()).await?;
        removed.push(row.id);
    }
    Ok(removed)
}

/// Takes all connections of an installation out. Returns how many of its tokens wait to be revoked.
pub(crate) async fn forget(
    ring: &KeyRing,
    work: &UnitOfWork,
    installation_id: Uuid,
    now: Timestamp,
    seam: &Seam,
) -> Result<u64, OAuthError> {
    remove(ring, work, installation_id, None, now, seam).await?;
    revocation::waiting(work, installation_id).await
}

/// Whether the tokens of a connection can be unsealed. A broken one has none.
pub(crate) fn is_readable(ring: &KeyRing, row: &connection::Model) -> bool {
    sealed_tokens(row).all(|(field, sealed)| open(ring, row.id, field, sealed).is_ok())
}
