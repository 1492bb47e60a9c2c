//! Authorise: by the marketplace's callback, or by the browser that comes back.

use sea_orm::EntityTrait;
use url::Url;
use uuid::Uuid;

use super::error::LifecycleError;
use super::service::{Lifecycle, Locked, read_manifest};
use super::state::{Command, Phase};
use crate::audit::Actor;
use crate::oauth::{
    self, AuthorizationPurpose, GrantedTokens, HOST_CONNECTION, OAuthError, PendingAuthorization,
    Service, StartedBrowser, StoredConnection, authorization, discarding,
};
use crate::seam::crash_point;
use crate::store::UnitOfWork;
use crate::store::entity::{extension_version, installation};

/// What a browser brings back from the provider.
#[derive(Clone, Debug)]
pub struct BrowserReturn {
    /// The code.
    pub code: String,
    /// The state.
    pub state: String,
    /// The issuer, where the provider says it (RFC 9207).
    pub issuer: Option<String>,
    /// The values of the cookies that `startUrl` set.
    pub cookies: Vec<String>,
    /// At which server's own place it came back; nothing for those of the operator.
    pub place: Option<String>,
}

/// Where a browser goes on.
#[derive(Debug)]
pub enum Returned {
    /// It is the browser that began: the installation is active.
    Authorized {
        /// The installation.
        installation_id: Uuid,
        /// Which connection.
        connection: String,
        /// Where to go.
        return_url: Option<Url>,
    },
    /// It is another one: code and state go to the marketplace, unused.
    HandedOver {
        /// With code and state in its query.
        return_url: Url,
    },
    /// It is another one, and there is nowhere to hand them to.
    Nowhere,
}

/// An authorisation whose code was exchanged: tokens that are to be stored or revoked.
#[derive(Debug)]
pub struct Exchanged {
    pub(super) installation_id: Uuid,
    pub(super) purpose: AuthorizationPurpose,
    pub(super) connection: String,
    /// Whose connection; empty where it is the org's.
    pub(super) user_id: String,
    pub(super) granted_by: Option<String>,
    pub(super) target_digest: String,
    pub(super) tokens: GrantedTokens,
    /// The row of the state that was used up.
    state_digest: Vec<u8>,
}

/// An installation as the transaction leaves it that did what an authorisation was for.
#[derive(Debug)]
pub struct Activated {
    pub(super) row: installation::Model,
    pub(super) version: extension_version::Model,
}

/// Whether the installation still waits for what the browser was sent for. Asked before the
/// code is used, and once more under the installation's lock by [`Lifecycle::activate`].
fn check_purpose(
    pending: &PendingAuthorization,
    row: &installation::Model,
) -> Result<(), LifecycleError> {
    match &pending.purpose {
        AuthorizationPurpose::Install => {
            if pending.connection != HOST_CONNECTION
                || row.state != Phase::PendingAuthorization.name()
            {
                return Err(OAuthError::InvalidState.into());
            }
            if row.target_digest != pending.target_digest {
                return Err(OAuthError::TargetChanged.into());
            }
            Ok(())
        }
        AuthorizationPurpose::Upgrade { consent_id } => {
            if pending.connection != HOST_CONNECTION || row.state != Phase::Active.name() {
                return Err(OAuthError::InvalidState.into());
            }
            if row.waiting_upgrade_id != Some(*consent_id) {
                return Err(OAuthError::TargetChanged.into());
            }
            Ok(())
        }
        AuthorizationPurpose::Reauthorize
        | AuthorizationPurpose::Connector
        | AuthorizationPurpose::User { .. } => {
            if row.state != Phase::Active.name() {
                return Err(OAuthError::InvalidState.into());
            }
            if row.target_digest != pending.target_digest {
                return Err(OAuthError::TargetChanged.into());
            }
            Ok(())
        }
    }
}

/// Where the installation shows its main connection: it works.
pub(super) fn show_granted(locked: &mut Locked, exchanged: &Exchanged) {
    locked.row.granted_scopes = serde_json::to_string(&exchanged.tokens.scopes).ok();
    "ok".clone_into(&mut locked.row.connection_health);
    locked.row.connection_reason = None;
}

impl Lifecycle {
    /// Uses up a one-time address.
    pub async fn start_browser(&self, nonce: &str) -> Result<StartedBrowser, LifecycleError> {
        let inner = &self.inner;
        let started =
            authorization::start_browser(&inner.store, &inner.keys.ring, nonce, &inner.seam);
        Ok(started.await?)
    }

    /// Where a browser may be told of an error: the return address of the state that it brings.
    pub async fn return_url_of(&self, state: &str) -> Option<Url> {
        let inner = &self.inner;
        let found = authorization::find(&inner.store, state, inner.seam.clock.now()).await.ok()?;
        found.0.return_url.and_then(|text| Url::parse(&text).ok())
    }

    /// Whether there is, or was, an installation.
    pub async fn is_known(&self, id: Uuid) -> Result<bool, LifecycleError> {
        let found = installation::Entity::find_by_id(id).one(self.inner.store.reader()).await?;
        Ok(found.is_some())
    }

    /// Exchanges the code, outside of any transaction. A wrong state uses nothing up.
    pub async fn exchange(
        &self,
        installation_id: Option<Uuid>,
        code: &str,
        state: &str,
        issuer: Option<&str>,
    ) -> Result<Exchanged, LifecycleError> {
        let inner = &self.inner;
        let (pending, row) =
            authorization::find(&inner.store, state, inner.seam.clock.now()).await?;
        if installation_id.is_some_and(|id| id != pending.installation_id) {
            return Err(OAuthError::InvalidState.into());
        }
        self.redeem(pending, row, code, issuer, false).await
    }

    async fn redeem(
        &self,
        pending: PendingAuthorization,
        row: Option<installation::Model>,
        code: &str,
        issuer: Option<&str>,
        is_browser: bool,
    ) -> Result<Exchanged, LifecycleError> {
        let inner = &self.inner;
        let id = pending.installation_id;
        let row = row.ok_or(OAuthError::InvalidState)?;
        check_purpose(&pending, &row)?;
        let (service, asked) = self.asked_of(&pending, &row).await?;
        inner.providers.check_issuer_of(&service, issuer, is_browser).await?;
        let (purpose, connection) = (pending.purpose.clone(), pending.connection.clone());
        let (target_digest, granted_by) =
            (pending.target_digest.clone(), pending.granted_by.clone());
        // Of a personal installation all connections are its user's.
        let user_id = match purpose.user_id() {
            "" => row.user_id.clone(),
            user => user.to_owned(),
        };
        let state_digest = pending.state_digest().to_vec();
        let tokens = pending
            .redeem(
                &inner.store,
                &inner.keys.ring,
                &inner.providers,
                &service,
                code,
                &asked,
                &inner.seam,
            )
            .await?;
        crash_point(match purpose {
            AuthorizationPurpose::Install | AuthorizationPurpose::Upgrade { .. } => {
                "authorize.after-exchange"
            }
            _ => "connect.after-exchange",
        });
        let missing = tokens.missing(&asked);
        let exchanged = Exchanged {
            installation_id: id,
            purpose,
            connection,
            user_id,
            granted_by,
            target_digest,
            tokens,
            state_digest,
        };
        if !missing.is_empty() {
            self.discard_unless_stored(&exchanged).await?;
            return Err(OAuthError::ScopesMissing { missing }.into());
        }
        Ok(exchanged)
    }

    /// Which service was asked for which scopes. A node of the former release did not write it
    /// down: then it is what the serving version declares.
    async fn asked_of(
        &self,
        pending: &PendingAuthorization,
        row: &installation::Model,
    ) -> Result<(Service, Vec<String>), LifecycleError> {
        if let Some(service) = &pending.service {
            return Ok((service.clone(), pending.scopes.clone()));
        }
        let version = extension_version::Entity::find_by_id(row.version_id)
            .one(self.inner.store.reader())
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        let authorization = read_manifest(&version)?
            .authorisation
            .ok_or(LifecycleError::Unreadable { what: "authorisation of the manifest" })?;
        Ok((Service::of_operator(authorization.service_name), authorization.scopes))
    }

    /// Does what the authorisation was for, in one transaction. Returns the installation as that
    /// leaves it.
    pub async fn activate(
        &self,
        work: &mut UnitOfWork,
        exchanged: &Exchanged,
        actor: &Actor,
    ) -> Result<Activated, LifecycleError> {
        let mut locked: Locked = self.lock(work, exchanged.installation_id).await?;
        // A right answer ends all other states of its kind. While the code was exchanged the user
        // may have been removed, or the connection taken back: then the state is there no more. Of an
        // installation that has ended the table says so.
        let Exchanged { purpose, connection, state_digest, .. } = exchanged;
        let used = authorization::drop_alike(work, locked.row.id, purpose, connection).await?;
        if locked.row.live == 1 && !used.contains(state_digest) {
            return Err(OAuthError::InvalidState.into());
        }
        match &exchanged.purpose {
            AuthorizationPurpose::Install => {
                self.authorize_install(work, &mut locked, exchanged, actor).await?;
            }
            AuthorizationPurpose::Upgrade { consent_id } => {
                self.authorize_upgrade(work, &mut locked, exchanged, *consent_id, actor).await?;
            }
            AuthorizationPurpose::Reauthorize
            | AuthorizationPurpose::Connector
            | AuthorizationPurpose::User { .. } => {
                self.authorize_connection(work, &mut locked, exchanged, actor).await?;
            }
        }
        Ok(Activated { row: locked.row, version: locked.version })
    }

    /// Makes the installation active, with its webhook.
    async fn authorize_install(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        exchanged: &Exchanged,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        if locked.row.target_digest != exchanged.target_digest {
            return Err(OAuthError::TargetChanged.into());
        }
        show_granted(locked, exchanged);
        let changed = self.take(work, locked, Command::Authorize, actor, None).await?;
        debug_assert!(changed, "authorising is a step or refused");
        self.keep_tokens(work, locked, exchanged).await
    }

    /// Stores the tokens of an authorisation in the place of those that the connection had.
    pub(super) async fn keep_tokens(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        exchanged: &Exchanged,
    ) -> Result<(), LifecycleError> {
        let declared = self.declared(locked)?;
        let is_own = declared.iter().any(|one| one.name == exchanged.connection && one.user_access);
        let new = StoredConnection {
            installation_id: locked.row.id,
            name: &exchanged.connection,
            user_id: &exchanged.user_id,
            is_shared: exchanged.user_id.is_empty() && !is_own,
            granted_by: exchanged.granted_by.clone(),
            tokens: &exchanged.tokens,
        };
        self.inner.connections.keep(work, new).await?;
        Ok(())
    }

    /// A browser comes back from the provider.
    pub async fn browser_returned(
        &self,
        back: BrowserReturn,
        actor: &Actor,
    ) -> Result<Returned, LifecycleError> {
        let inner = &self.inner;
        let (pending, row) =
            authorization::find(&inner.store, &back.state, inner.seam.clock.now()).await?;
        // Before anything is handed on: the code may be another server's.
        let place = back.place.as_deref();
        match &pending.service {
            Some(service) => inner.providers.check_place(service, place).await?,
            None if place.is_some() => return Err(OAuthError::InvalidState.into()),
            None => {}
        }
        let return_url = pending.return_url.as_deref().and_then(|text| Url::parse(text).ok());
        if !back.cookies.iter().any(|cookie| pending.is_of_browser(cookie)) {
            let Some(mut return_url) = return_url else { return Ok(Returned::Nowhere) };
            return_url
                .query_pairs_mut()
                .append_pair("installationId", &pending.installation_id.to_string())
                .append_pair("code", &back.code)
                .append_pair("state", &back.state);
            if let Some(issuer) = &back.issuer {
                return_url.query_pairs_mut().append_pair("iss", issuer);
            }
            return Ok(Returned::HandedOver { return_url });
        }
        let exchanged = self.redeem(pending, row, &back.code, back.issuer.as_deref(), true).await?;
        let (installation_id, connection) =
            (exchanged.installation_id, exchanged.connection.clone());
        self.activate_or_discard(&exchanged, actor).await?;
        Ok(Returned::Authorized { installation_id, connection, return_url })
    }

    async fn activate_or_discard(
        &self,
        exchanged: &Exchanged,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let done = async {
            let mut work = self.begin().await?;
            self.activate(&mut work, exchanged, actor).await.map(drop)?;
            self.commit(work).await
        };
        let done = done.await;
        if done.is_err() {
            self.discard_unless_stored(exchanged).await?;
        }
        done
    }

    /// Revokes tokens that were not stored: the installation went away meanwhile, or the last step
    /// failed. The journalled exchange ends in the transaction that stores them, whatever became of
    /// its answer: where it is there no more, there is nothing to do.
    pub async fn discard_unless_stored(&self, exchanged: &Exchanged) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let (id, tokens) = (exchanged.installation_id, &exchanged.tokens);
        let work = inner.store.begin().await?;
        discarding::lock(&work, id).await?;
        authorization::forget_state(&work, &exchanged.state_digest).await?;
        if oauth::exchanges::end(&work, tokens.exchange).await? {
            let (ring, service, all) = (&inner.keys.ring, &tokens.service, tokens.all());
            discarding::discard(ring, &work, id, service, &all, now, &inner.seam).await?;
        }
        self.commit(work).await
    }
}
