//! The tokens of connections, sealed in the database. What is sealed opens in its own row, of its own
//! installation, only.

use std::time::Duration;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

use super::authorization::GrantedTokens;
use super::discarding;
use super::error::OAuthError;
use super::exchanges;
use super::health::subject;
use super::provider::Service;
use super::revocation;
use crate::crypto::{AssociatedData, CryptoError, KeyRing, Purpose, SecretText};
use crate::notice::NoticeKind;
use crate::seam::{Seam, Timestamp, crash_point};
use crate::store::entity::{connection, notice};
use crate::store::{Store, UnitOfWork};

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

/// Which connection a token is sealed for: what is moved to another row, or with its row to another
/// installation, does not open.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenPlace {
    pub(super) installation_id: Uuid,
    pub(super) connection_id: Uuid,
}

impl TokenPlace {
    pub(super) fn of(row: &connection::Model) -> Self {
        Self { installation_id: row.installation_id, connection_id: row.id }
    }

    fn field(self, field: &str) -> String {
        format!("{field}:{}", self.connection_id)
    }
}

pub(super) fn open(
    ring: &KeyRing,
    place: TokenPlace,
    field: &str,
    sealed: &[u8],
) -> Result<SecretText, OAuthError> {
    let (subject, name) = (place.installation_id, place.field(field));
    let bound = AssociatedData { subject, field: &name };
    let token = match ring.unseal(Purpose::Vault, &bound, sealed) {
        // Releases before this one bound it to the connection alone; a rotation seals it anew.
        Err(CryptoError::Refused { .. }) => {
            let former = AssociatedData { subject: place.connection_id, field };
            ring.unseal(Purpose::Vault, &former, sealed)?
        }
        opened => opened?,
    };
    let text = std::str::from_utf8(token.expose())
        .map_err(|_| OAuthError::Unreadable { what: "token" })?;
    Ok(SecretText::new(text))
}

pub(super) fn seal(
    ring: &KeyRing,
    place: TokenPlace,
    field: &str,
    token: &SecretText,
    seam: &Seam,
) -> Result<Vec<u8>, OAuthError> {
    let bound = AssociatedData { subject: place.installation_id, field: &place.field(field) };
    Ok(ring.seal(Purpose::Vault, &bound, token.expose().as_bytes(), &seam.randomness)?)
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

/// The row of a connection that was stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) id: Uuid,
    /// Whether there was one before.
    pub(super) replaced: bool,
}

/// Stores a connection's tokens. Those of a former authorisation of the same connection go into the
/// revocation job, in the same transaction.
pub(super) async fn store(
    ring: &KeyRing,
    work: &UnitOfWork,
    new: StoredConnection<'_>,
    now: Timestamp,
    seam: &Seam,
) -> Result<Stored, OAuthError> {
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
    let place = TokenPlace { installation_id: new.installation_id, connection_id: id };
    let refresh = match &tokens.refresh {
        Some(token) => Some(seal(ring, place, REFRESH, token, seam)?),
        None => None,
    };
    let due = refresh_due(now, tokens.expires_at, refresh.is_some(), seam);
    let row = connection::ActiveModel {
        id: if former.is_some() { Unchanged(id) } else { Set(id) },
        installation_id: Set(new.installation_id),
        name: Set(new.name.to_owned()),
        service_name: Set(tokens.service.name.clone()),
        sealed_access_token: Set(seal(ring, place, ACCESS, &tokens.access, seam)?),
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
        work.write_later(&connection::Entity::insert(row));
    }
    // Whoever took it for abandoned has had its tokens revoked.
    if !exchanges::end(work, tokens.exchange).await? {
        return Err(OAuthError::InvalidState);
    }
    Ok(Stored { id, replaced: former.is_some() })
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
    revocation::schedule_all(work, jobs_of(ring, row, kept, now, seam)?).await
}

/// The jobs that revoke the tokens of a connection, but for some that are kept.
fn jobs_of(
    ring: &KeyRing,
    row: &connection::Model,
    kept: &[&SecretText],
    now: Timestamp,
    seam: &Seam,
) -> Result<Vec<revocation::Job>, OAuthError> {
    let mut jobs = Vec::new();
    for (field, bytes) in sealed_tokens(row) {
        let kind = if field == ACCESS { "access_token" } else { "refresh_token" };
        // What cannot be opened cannot be revoked, and must not hold the end of an installation.
        let Ok(token) = open(ring, TokenPlace::of(row), field, bytes) else {
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
        jobs.push(revocation::job(ring, job, now, seam)?);
    }
    Ok(jobs)
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
        .filter(connection::Column::Health.ne(ENDED))
        .all(work.connection())
        .await?;
    let mut tokens = Vec::new();
    for row in rows {
        for (field, sealed) in sealed_tokens(&row) {
            // What cannot be opened cannot be used either.
            tokens.extend(open(ring, TokenPlace::of(&row), field, sealed).ok());
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

/// How many connections one transaction moves into the revocation job.
pub(super) const MOVED_AT_ONCE: u64 = 500;

/// The health of a connection that is over, and whose tokens are still to be moved into the
/// revocation job: nothing else reads it.
pub(crate) const ENDED: &str = "ended";

/// When what is over is due: before everything else, and so by itself in the index of what is due.
pub(super) const ENDED_DUE: i64 = -1;

/// Takes connections of an installation out; their tokens live on only in the revocation job. All
/// of them, or those of one name, of all users or of one. Returns how many there were.
///
/// However many there are, the transaction is bounded: the first are moved, and the others end by
/// one statement and are moved in steps by whoever revokes.
pub(super) async fn remove(
    ring: &KeyRing,
    work: &UnitOfWork,
    installation_id: Uuid,
    only: Option<(&str, Option<&str>)>,
    now: Timestamp,
    seam: &Seam,
) -> Result<u64, OAuthError> {
    use connection::Column;
    let mut which = Condition::all()
        .add(Column::InstallationId.eq(installation_id))
        .add(Column::Health.ne(ENDED));
    if let Some((name, user)) = only {
        which = which.add(Column::Name.eq(name));
        if let Some(user) = user {
            which = which.add(Column::UserId.eq(user));
        }
    }
    let rows = connection::Entity::find()
        .filter(which.clone())
        .order_by_asc(Column::Id)
        .limit(MOVED_AT_ONCE)
        .lock_exclusive()
        .all(work.connection())
        .await?;
    let moved = rows.len() as u64;
    move_out(ring, work, rows, now, seam).await?;
    if moved < MOVED_AT_ONCE {
        return Ok(moved);
    }
    let ended = connection::Entity::update_many()
        .col_expr(Column::Health, Expr::value(ENDED))
        .col_expr(Column::RefreshDueAt, Expr::value(Some(ENDED_DUE)))
        .col_expr(Column::ClaimedBy, Expr::value(Option::<Uuid>::None))
        .col_expr(Column::ClaimedUntil, Expr::value(Option::<i64>::None))
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .col_expr(Column::UpdatedAt, Expr::value(now.micros()))
        .filter(which)
        .exec(work.connection())
        .await?;
    Ok(moved + ended.rows_affected)
}

/// Moves the tokens of connections into the revocation job. Notices that tell of them are over.
async fn move_out(
    ring: &KeyRing,
    work: &UnitOfWork,
    rows: Vec<connection::Model>,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), OAuthError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut jobs = Vec::with_capacity(rows.len() * 2);
    for row in &rows {
        jobs.extend(jobs_of(ring, row, &[], now, seam)?);
    }
    revocation::schedule_all(work, jobs).await?;
    connection::Entity::delete_many()
        .filter(connection::Column::Id.is_in(rows.iter().map(|row| row.id)))
        .exec(work.connection())
        .await?;
    notice::Entity::update_many()
        .col_expr(notice::Column::ResolvedAt, Expr::value(now.micros()))
        .filter(notice::Column::Kind.eq(NoticeKind::ConnectionBroken.name()))
        .filter(notice::Column::Subject.is_in(rows.iter().map(|row| subject(row.id))))
        .filter(notice::Column::ResolvedAt.is_null())
        .exec(work.connection())
        .await?;
    Ok(())
}

/// Moves the next connections that are over into the revocation job, of one installation. Returns
/// whether there were any.
pub(super) async fn move_ended(
    ring: &KeyRing,
    store: &Store,
    seam: &Seam,
) -> Result<bool, OAuthError> {
    use connection::Column;
    let is_over = || Condition::all().add(Column::RefreshDueAt.lt(0)).add(Column::Health.eq(ENDED));
    let next: Option<Uuid> = connection::Entity::find()
        .select_only()
        .column(Column::InstallationId)
        .filter(is_over())
        .limit(1)
        .into_tuple()
        .one(store.reader())
        .await?;
    let Some(installation_id) = next else { return Ok(false) };
    let now = seam.clock.now();
    let work = store.begin().await?;
    discarding::lock(&work, installation_id).await?;
    let rows = connection::Entity::find()
        .filter(Column::InstallationId.eq(installation_id))
        .filter(is_over())
        .order_by_asc(Column::Id)
        .limit(MOVED_AT_ONCE)
        .lock_exclusive()
        .all(work.connection())
        .await?;
    move_out(ring, &work, rows, now, seam).await?;
    discarding::settle(&work, installation_id, now).await?;
    crash_point("revocation.before-move");
    let _no_routing = work.commit(now).await?;
    Ok(true)
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
    sealed_tokens(row).all(|(field, sealed)| open(ring, TokenPlace::of(row), field, sealed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{KeyId, MasterKey};

    #[test]
    fn what_a_former_release_sealed_opens_and_what_was_moved_does_not() {
        let seam = Seam::default();
        let randomness = &seam.randomness;
        let master = MasterKey::generate(randomness).unwrap();
        let key = KeyRing::generate_wrapped(Purpose::Vault, KeyId(1), &master, randomness).unwrap();
        let ring = KeyRing::open([key], &master).unwrap();
        let place = TokenPlace { installation_id: randomness.id(), connection_id: randomness.id() };
        let former = AssociatedData { subject: place.connection_id, field: ACCESS };
        let sealed = ring.seal(Purpose::Vault, &former, b"kept", randomness).unwrap();
        assert_eq!(open(&ring, place, ACCESS, &sealed).unwrap().expose(), "kept");

        let sealed = seal(&ring, place, ACCESS, &SecretText::new("new"), &seam).unwrap();
        assert_eq!(open(&ring, place, ACCESS, &sealed).unwrap().expose(), "new");
        let elsewhere = [
            (TokenPlace { installation_id: randomness.id(), ..place }, ACCESS),
            (TokenPlace { connection_id: randomness.id(), ..place }, ACCESS),
            (place, REFRESH),
        ];
        for (place, field) in elsewhere {
            let error = open(&ring, place, field, &sealed).unwrap_err();
            assert!(matches!(error, OAuthError::Crypto(CryptoError::Refused { .. })), "{error}");
        }
    }
}
