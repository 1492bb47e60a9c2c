//! Connections after the first authorisation: authorised again, connected to others, taken back.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::authorize::{Exchanged, show_granted};
use super::error::LifecycleError;
use super::install::{check_user, owner_of};
use super::service::{Lifecycle, Locked};
use super::state::{Command, Phase, Step, step};
use crate::audit::Actor;
use crate::identifier::InstallationId;
use crate::manifest::Manifest;
use crate::oauth::{
    AuthorizationPurpose, DeclaredConnection, HOST_CONNECTION, OAuthError, authorization,
    declared_connections,
};
use crate::store::UnitOfWork;
use crate::store::entity::extension_version;

/// The longest reason of a disconnection.
const LONGEST_REASON: usize = 500;

/// A connection is to be authorised again: it is dead, narrowed, or of someone who left.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReauthorizeRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// The connector's link name; missing means the connection to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Whose own connection it is; missing means the org's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Who will grant it, as the host names him: where he is removed, it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_by: Option<String>,
    /// Where the browser goes at the end; its origin must be one of `marketplace.return_urls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
}

/// A connection of the manifest is to be authorised.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// The connector's link name.
    pub connection_link_name: String,
    /// Who connects; needed where each user has a connection of his own (`userAccess`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Where the browser goes at the end; its origin must be one of `marketplace.return_urls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
}

/// A connection is to be taken back.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisconnectRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// The connector's link name.
    pub connection_link_name: String,
    /// Whose own connection it is; missing means the org's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Why; told to the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The addresses of an authorisation.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The installation.
    pub installation_id: Uuid,
    /// Its state.
    pub state: &'static str,
    /// The provider's and our one-time address; nothing where the call came too late.
    pub addresses: Option<(Url, Url)>,
    /// Where the provider sends the browser back to.
    pub redirect_url: Option<Url>,
}

/// What a disconnection came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnected {
    /// The installation.
    pub installation_id: Uuid,
    /// Its state.
    pub state: &'static str,
    /// Whether there was a connection.
    pub disconnected: bool,
}

/// Whose connection a request means: the user, where it is his own.
fn whose<'r>(locked: &'r Locked, user: Option<&'r str>) -> Result<&'r str, LifecycleError> {
    match (owner_of(&locked.row), user) {
        (Some(owner), Some(user)) if owner != user => Err(LifecycleError::field(
            "/userId",
            "this installation is another user's: his connections are his own",
        )),
        (owner, user) => Ok(user.or(owner).unwrap_or_default()),
    }
}

impl Lifecycle {
    /// The connections that the serving version declares.
    pub(super) fn declared(
        &self,
        locked: &Locked,
    ) -> Result<Vec<DeclaredConnection>, LifecycleError> {
        self.declared_by(&locked.manifest, &locked.version)
    }

    /// The connections that a version declares.
    pub(super) fn declared_by(
        &self,
        manifest: &Manifest,
        version: &extension_version::Model,
    ) -> Result<Vec<DeclaredConnection>, LifecycleError> {
        let stored: Value = serde_json::from_str(&version.manifest)
            .map_err(|_| LifecycleError::Unreadable { what: "manifest" })?;
        let connections = &self.inner.connections;
        Ok(declared_connections(manifest, &stored, version.id, |service| {
            connections.is_operators(service)
        }))
    }

    /// The declared connection of a name; the host's is also known by its link name.
    fn declared_as(
        &self,
        locked: &Locked,
        name: &str,
        pointer: &str,
    ) -> Result<DeclaredConnection, LifecycleError> {
        let host = locked.manifest.authorisation.as_ref();
        let is_hosts = host.is_some_and(|host| host.connection_link_name.as_deref() == Some(name));
        let all = self.declared(locked)?;
        let found = all.iter().find(|one| one.name == name);
        let found = found.or_else(|| all.iter().find(|one| is_hosts && one.is_host()));
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            let message = match names.as_slice() {
                [] => "the extension declares no connections".to_owned(),
                names => format!("the extension's connections are: {}", names.join(", ")),
            };
            LifecycleError::field(pointer, message)
        })
    }

    /// Whether the table lets a command through now.
    fn allows(locked: &Locked, command: Command) -> Result<(), LifecycleError> {
        match step(locked.state(), command) {
            Step::To(..) | Step::Nothing => Ok(()),
            Step::Refused(reason) => Err(LifecycleError::NotNow {
                command: command.name(),
                installation: locked.row.id.to_string(),
                reason,
            }),
        }
    }

    /// Begins to authorise a connection again.
    pub async fn reauthorize(
        &self,
        work: &UnitOfWork,
        request: &ReauthorizeRequest,
    ) -> Result<Asked, LifecycleError> {
        check_user("/userId", request.user_id.as_deref())?;
        check_user("/grantedBy", request.granted_by.as_deref())?;
        let return_url = self.check_return_url(request.return_url.as_deref())?;
        let locked = self.lock(work, request.installation_id.0).await?;
        if self.is_late(work, &locked.row, request.generation).await? {
            return Ok(late(&locked));
        }
        Self::allows(&locked, Command::Reauthorize)?;
        let name = request.connection.as_deref().unwrap_or(HOST_CONNECTION);
        let declared = self.declared_as(&locked, name, "/connection")?;
        let user = whose(&locked, request.user_id.as_deref())?;
        if !user.is_empty() && owner_of(&locked.row).is_none() && !declared.user_access {
            return Err(shared(&declared));
        }
        let granted_by = request.granted_by.clone().or_else(|| some(user));
        self.asked(work, &locked, &declared, user, Command::Reauthorize, granted_by, return_url)
            .await
    }

    /// Begins to authorise a connection of the manifest.
    pub async fn connect(
        &self,
        work: &UnitOfWork,
        request: &ConnectRequest,
    ) -> Result<Asked, LifecycleError> {
        check_user("/userId", request.user_id.as_deref())?;
        let return_url = self.check_return_url(request.return_url.as_deref())?;
        let locked = self.lock(work, request.installation_id.0).await?;
        if self.is_late(work, &locked.row, request.generation).await? {
            return Ok(late(&locked));
        }
        Self::allows(&locked, Command::Connect)?;
        let name = request.connection_link_name.as_str();
        let declared = self.declared_as(&locked, name, "/connectionLinkName")?;
        let given = whose(&locked, request.user_id.as_deref())?;
        if declared.user_access && given.is_empty() {
            return Err(LifecycleError::field(
                "/userId",
                "each user has a connection of his own here (userAccess): say in userId who connects",
            ));
        }
        if declared.is_host() && (!declared.user_access || owner_of(&locked.row).is_some()) {
            return Err(LifecycleError::field(
                "/connectionLinkName",
                "the connection to the host is authorised by install; use reauthorize for it",
            ));
        }
        // A shared one is the org's, whoever grants it.
        let is_own = declared.user_access || owner_of(&locked.row).is_some();
        let user = if is_own { given } else { "" };
        let granted_by = some(given);
        self.asked(work, &locked, &declared, user, Command::Connect, granted_by, return_url).await
    }

    #[expect(clippy::too_many_arguments, reason = "what the two calls have in common")]
    async fn asked(
        &self,
        work: &UnitOfWork,
        locked: &Locked,
        declared: &DeclaredConnection,
        user: &str,
        command: Command,
        granted_by: Option<String>,
        return_url: Option<String>,
    ) -> Result<Asked, LifecycleError> {
        self.inner.connections.check(declared).await?;
        let purpose = if !user.is_empty() && owner_of(&locked.row).is_none() {
            AuthorizationPurpose::User { user_id: user.to_owned() }
        } else if command == Command::Connect {
            AuthorizationPurpose::Connector
        } else {
            AuthorizationPurpose::Reauthorize
        };
        let mut request = Self::wish_for(locked, declared, purpose);
        (request.granted_by, request.return_url) = (granted_by, return_url);
        let addresses = self.ask_for(work, &request).await?;
        Ok(Asked {
            installation_id: locked.row.id,
            state: locked.state().name(),
            addresses: Some(addresses),
            redirect_url: Some(self.inner.providers.redirect_url_of(&declared.service).await?),
        })
    }

    /// New tokens take the place of the old ones, which are revoked; the vendor is told.
    pub(super) async fn authorize_connection(
        &self,
        work: &mut UnitOfWork,
        locked: &mut Locked,
        exchanged: &Exchanged,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        if locked.state().phase == Phase::Active
            && locked.row.target_digest != exchanged.target_digest
        {
            return Err(OAuthError::TargetChanged.into());
        }
        let (name, user) = (exchanged.connection.as_str(), exchanged.user_id.as_str());
        let is_host = name == HOST_CONNECTION;
        if is_host && user == locked.row.user_id {
            show_granted(locked, exchanged);
        }
        let command = match exchanged.purpose {
            AuthorizationPurpose::Reauthorize => Command::Reauthorize,
            _ => Command::Connect,
        };
        let what = described(name, user);
        let now = self.inner.seam.clock.now();
        Self::allows(locked, command)?;
        let event = if is_host { "onZohoAuthorise" } else { "onTPAAuthorise" };
        self.tell_of(work, locked, event, None, Some((name, user)), now).await?;
        self.take(work, locked, command, actor, Some(&what)).await?;
        self.keep_tokens(work, locked, exchanged).await
    }

    /// Takes a connection back; its tokens are revoked. Again is the same.
    pub async fn disconnect(
        &self,
        work: &mut UnitOfWork,
        request: &DisconnectRequest,
        actor: &Actor,
    ) -> Result<Disconnected, LifecycleError> {
        check_user("/userId", request.user_id.as_deref())?;
        if let Some(reason) = &request.reason
            && (reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control))
        {
            return Err(LifecycleError::field(
                "/reason",
                "reason may have 500 characters, none a control character",
            ));
        }
        let mut locked = self.lock(work, request.installation_id.0).await?;
        let done = |locked: &Locked, disconnected| Disconnected {
            installation_id: locked.row.id,
            state: locked.state().name(),
            disconnected,
        };
        if self.is_late(work, &locked.row, request.generation).await? || locked.row.live == 0 {
            return Ok(done(&locked, false));
        }
        Self::allows(&locked, Command::Disconnect)?;
        let name = request.connection_link_name.as_str();
        let declared = self.declared_as(&locked, name, "/connectionLinkName")?;
        let user = whose(&locked, request.user_id.as_deref())?.to_owned();
        if declared.is_host() && user == locked.row.user_id {
            return Err(LifecycleError::field(
                "/connectionLinkName",
                "the connection to the host ends with the installation: uninstall it",
            ));
        }
        let id = locked.row.id;
        let name = declared.name.as_str();
        let only = Some((name, Some(user.as_str())));
        let removed = self.inner.connections.remove(work, id, only).await?;
        let own = AuthorizationPurpose::User { user_id: user.clone() };
        let shared = [AuthorizationPurpose::Connector, AuthorizationPurpose::Reauthorize];
        let is_own = !user.is_empty() && owner_of(&locked.row).is_none();
        for purpose in if is_own { vec![own] } else { shared.to_vec() } {
            authorization::drop_alike(work, id, &purpose, name).await?;
        }
        if removed == 0 {
            return Ok(done(&locked, false));
        }
        let now = self.inner.seam.clock.now();
        let reason = request.reason.as_deref();
        if !declared.is_host() {
            let of = Some((name, user.as_str()));
            self.tell_of(work, &mut locked, "onTPARevoke", reason, of, now).await?;
        }
        let mut what = described(name, &user);
        if let Some(reason) = reason {
            what = format!("{what}: {reason}");
        }
        self.take(work, &mut locked, Command::Disconnect, actor, Some(&what)).await?;
        Ok(done(&locked, true))
    }
}

fn some(user: &str) -> Option<String> {
    (!user.is_empty()).then(|| user.to_owned())
}

fn late(locked: &Locked) -> Asked {
    Asked {
        installation_id: locked.row.id,
        state: locked.state().name(),
        addresses: None,
        redirect_url: None,
    }
}

fn shared(declared: &DeclaredConnection) -> LifecycleError {
    let message =
        format!("the connection {} is the org's: users have none of their own", declared.name);
    LifecycleError::field("/userId", message)
}

/// A connection in the words of the history.
fn described(name: &str, user: &str) -> String {
    if user.is_empty() {
        format!("connection {name}")
    } else {
        format!("connection {name} of user {user}")
    }
}
