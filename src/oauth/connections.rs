//! The connections of installations: the one place that hands out access tokens.
//!
//! A token is refreshed before it ends, or when a service refused it. However many ask at once, on
//! however many nodes, the authorisation server is asked once.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::declared::DeclaredConnection;
use super::error::OAuthError;
use super::health::{break_connection, record, subject};
use super::lanes::Lanes;
use super::provider::{Providers, Service};
use super::refreshing::{Flights, Outcome};
use super::revocation;
use super::vault::{self, ACCESS, StoredConnection, TokenPlace};
use crate::audit::Actor;
use crate::config::Origin;
use crate::crypto::{KeyRing, SecretText};
use crate::notice::{Board, NoticeKind};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{connection, installation};
use crate::store::{Store, UnitOfWork};

/// How long before its end an access token is not handed out any more without a try to refresh it.
const MARGIN: Duration = Duration::from_mins(1);

/// A token that a service refused is not refreshed again within this time of its last refresh: a
/// service that always refuses would make a storm.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Which of a connection's access tokens: a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenVersion(pub(super) i64);

/// An access token, ready for use.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The token.
    pub token: SecretText,
    /// Which one it is; to be brought back where the service refuses it (401).
    pub version: TokenVersion,
    /// The word before the token in `Authorization`.
    pub scheme: String,
    /// The service that granted it.
    pub service: String,
    /// Where a connector's token may go. The host's goes to `host.api_base` only.
    pub api_origins: Vec<Origin>,
    /// When it ends, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// The connections of all installations. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) ring: KeyRing,
    pub(super) providers: Providers,
    pub(super) board: Board,
    pub(super) seam: Seam,
    pub(super) flights: Flights,
    pub(super) lanes: Lanes,
    /// When this process began: claims from before are of a process that is gone, on `SQLite`.
    pub(super) started_at: Timestamp,
}

/// Whether a token must be refreshed before it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// It ends soon, but can still be used.
    Soon,
    /// It cannot be used any more.
    Now,
}

impl Connections {
    /// Puts the parts together.
    pub fn new(
        store: Store,
        ring: KeyRing,
        providers: Providers,
        board: Board,
        seam: Seam,
    ) -> Self {
        let started_at = seam.clock.now();
        let (flights, lanes) = (Flights::default(), Lanes::default());
        let inner = Inner { store, ring, providers, board, seam, flights, lanes, started_at };
        Self { inner: Arc::new(inner) }
    }

    /// A usable access token of a connection: [`HOST_CONNECTION`](super::HOST_CONNECTION) or a
    /// connector's link name. With a `user`, his own where he has one, else the one that the org
    /// shares, where it does; without one the installation's.
    ///
    /// `refused` is the version of the token that the service just answered 401 to: where it is
    /// still the present one, it is refreshed first. Comes the same version back, there was nothing
    /// to be done about it: the 401 is the answer.
    ///
    /// # Errors
    /// [`OAuthError::NoConnection`], [`OAuthError::Broken`], [`OAuthError::Unavailable`], and what
    /// goes wrong here.
    pub async fn access_token(
        &self,
        installation_id: Uuid,
        connection: &str,
        user: Option<&str>,
        refused: Option<TokenVersion>,
    ) -> Result<AccessToken, OAuthError> {
        let inner = &self.inner;
        let row = inner.find(installation_id, connection, user).await?;
        let need = inner.need(&row, refused);
        if need == Need::Nothing {
            return inner.opened(&row).await;
        }
        if row.sealed_refresh_token.is_none() {
            let now = inner.seam.clock.now().micros();
            if row.access_expires_at.is_none_or(|end| end > now) {
                return inner.opened(&row).await;
            }
            inner.break_expired(&row).await?;
            return Err(broken(&row, EXPIRED));
        }
        match inner.refreshed(&row).await? {
            Outcome::Done => {}
            // It can still be used: the server may be back before it ends.
            Outcome::Unavailable { .. } if need == Need::Soon => return inner.opened(&row).await,
            Outcome::Unavailable { reason, retry_after } => {
                let service = row.service_name.clone();
                return Err(OAuthError::Unavailable { service, reason, retry_after });
            }
            Outcome::Broken { reason } => return Err(broken(&row, &reason)),
            Outcome::Gone => {
                let connection = connection.to_owned();
                return Err(OAuthError::NoConnection { connection });
            }
        }
        let row = inner.find(installation_id, connection, user).await?;
        inner.opened(&row).await
    }

    /// Stores what was granted, in the transaction of what it was granted for. What notices told of
    /// the connection is over.
    pub(crate) async fn keep(
        &self,
        work: &UnitOfWork,
        new: StoredConnection<'_>,
    ) -> Result<(), OAuthError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let stored = vault::store(&inner.ring, work, new, now, &inner.seam).await?;
        if stored.replaced {
            let about = subject(stored.id);
            inner.board.resolve(work, &[NoticeKind::ConnectionBroken], &about).await?;
        }
        Ok(())
    }

    /// Takes connections out: all, or those of one name, of all users or of one. Their tokens live on
    /// only in the revocation job. Returns how many there were.
    pub(crate) async fn remove(
        &self,
        work: &UnitOfWork,
        installation_id: Uuid,
        only: Option<(&str, Option<&str>)>,
    ) -> Result<u64, OAuthError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        vault::remove(&inner.ring, work, installation_id, only, now, &inner.seam).await
    }

    /// How many tokens of an installation wait to be revoked, those of refused consents and of codes
    /// that are being exchanged too.
    pub(crate) async fn waiting_revocations(
        &self,
        work: &UnitOfWork,
        installation_id: Uuid,
    ) -> Result<u64, OAuthError> {
        revocation::waiting(work, installation_id).await
    }

    /// What becomes of an installation's connections when a user leaves: those that he granted for
    /// others are broken, his own are removed. The caller holds the installation's lock. Returns
    /// how many were broken and how many removed.
    pub(crate) async fn user_left(
        &self,
        work: &UnitOfWork,
        installation: &installation::Model,
        user: &str,
        actor: &Actor,
    ) -> Result<(u64, u64), OAuthError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let rows = connection::Entity::find()
            .filter(connection::Column::InstallationId.eq(installation.id))
            .filter(connection::Column::Health.ne(vault::ENDED))
            .filter(
                Condition::any()
                    .add(connection::Column::UserId.eq(user))
                    .add(connection::Column::GrantedBy.eq(user)),
            )
            .lock_exclusive()
            .all(work.connection())
            .await?;
        let (mut broken, mut removed) = (0, 0);
        for row in rows {
            if row.user_id == user {
                vault::revoke_tokens(&inner.ring, work, &row, now, &inner.seam).await?;
                connection::Entity::delete_by_id(row.id).exec(work.connection()).await?;
                inner
                    .board
                    .resolve(work, &[NoticeKind::ConnectionBroken], &subject(row.id))
                    .await?;
                let reason = Some("the user was removed from the org");
                record(work, installation, &row, "disconnect", reason, actor, &inner.seam).await?;
                work.installation_changed(installation.id);
                removed += 1;
            } else if row.granted_by.as_deref() == Some(user) && row.health != "broken" {
                let reason = format!("user {user}, who granted it, was removed from the org");
                let Inner { ring, board, seam, .. } = &**inner;
                break_connection(ring, board, work, installation, &row, &reason, actor, seam)
                    .await?;
                broken += 1;
            }
        }
        Ok((broken, removed))
    }

    /// Whether the operator knows a service.
    pub(crate) fn is_operators(&self, service: &str) -> bool {
        self.inner.providers.has(service)
    }

    /// Refuses a connection that nobody could authorise.
    pub(crate) async fn check(&self, declared: &DeclaredConnection) -> Result<(), OAuthError> {
        self.inner.providers.find(&declared.service).await.map(|_| ())
    }
}

/// Why a connection without a refresh token ends.
pub(super) const EXPIRED: &str =
    "its access token expired, and the authorisation server gave no refresh token";

fn broken(row: &connection::Model, reason: &str) -> OAuthError {
    OAuthError::Broken { connection: row.name.clone(), reason: reason.to_owned() }
}

impl Inner {
    /// The row of a connection, of a live installation, that is not broken.
    async fn find(
        &self,
        installation_id: Uuid,
        name: &str,
        user: Option<&str>,
    ) -> Result<connection::Model, OAuthError> {
        let none = || OAuthError::NoConnection { connection: name.to_owned() };
        let installation = installation::Entity::find_by_id(installation_id)
            .one(self.store.reader())
            .await?
            .filter(|row| row.live == 1)
            .ok_or_else(none)?;
        let owner = installation.user_id.as_str();
        let wanted = user.unwrap_or(owner);
        let rows = connection::Entity::find()
            .filter(connection::Column::InstallationId.eq(installation_id))
            .filter(connection::Column::Name.eq(name))
            .filter(connection::Column::UserId.is_in([wanted, owner]))
            .filter(connection::Column::Health.ne(vault::ENDED))
            .all(self.store.reader())
            .await?;
        let own = rows.iter().find(|row| row.user_id == wanted);
        let found = own.or_else(|| rows.iter().find(|row| row.shared == 1)).ok_or_else(none)?;
        if found.health == "broken" {
            return Err(broken(found, found.reason.as_deref().unwrap_or("it was given up")));
        }
        Ok(found.clone())
    }

    fn need(&self, row: &connection::Model, refused: Option<TokenVersion>) -> Need {
        let now = self.seam.clock.now();
        if let Some(refused) = refused
            && refused.0 == row.version
        {
            let since = now.since(Timestamp::from_micros(row.updated_at));
            let is_fresh = row.version > 1 && since < REFUSED_PAUSE;
            return if is_fresh { Need::Nothing } else { Need::Now };
        }
        let Some(end) = row.access_expires_at.map(Timestamp::from_micros) else {
            return Need::Nothing;
        };
        let life = end.since(Timestamp::from_micros(row.updated_at));
        let margin = (life / 10).min(MARGIN);
        if end <= now {
            Need::Now
        } else if end.minus(margin) <= now {
            Need::Soon
        } else {
            Need::Nothing
        }
    }

    async fn opened(&self, row: &connection::Model) -> Result<AccessToken, OAuthError> {
        let service = Service { name: row.service_name.clone(), declared_in: row.declared_in };
        let server = self.providers.find(&service).await?;
        Ok(AccessToken {
            token: vault::open(&self.ring, TokenPlace::of(row), ACCESS, &row.sealed_access_token)?,
            version: TokenVersion(row.version),
            scheme: server.provider.token_scheme.clone(),
            service: row.service_name.clone(),
            api_origins: server.provider.api_origins.clone(),
            expires_at: row.access_expires_at.map(Timestamp::from_micros),
        })
    }
}
