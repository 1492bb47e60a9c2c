//! The life of installations: what the marketplace calls, and what is to be seen of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::call::Call;
use super::client::Client;
use super::error::Error;
use super::identifiers::{ExtensionKey, InstallationId, OrgId};
use super::operation;

pub use super::installations::{
    Connection, ConnectionHealth, Installation, InstallationFilter, JournalEntry, JournalFilter,
    Transition, WaitingUpgrade,
};

/// The state of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum InstallationState {
    /// It waits for somebody to authorise it.
    PendingAuthorization,
    /// It works.
    Active,
    /// Somebody holds it suspended.
    Suspended,
    /// It is gone.
    Uninstalled,
    /// It is gone, and what was kept of it too.
    Erased,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

/// An installation that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InstallRequest {
    /// The extension.
    pub extension_key: ExtensionKey,
    /// The version; the newest stable one where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The org.
    pub org_id: OrgId,
    /// Who installs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed_by: Option<String>,
    /// Whose it is, where the extension is personal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The departments whose events it gets; all where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department_ids: Option<Vec<String>>,
    /// Its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Where the browser goes once it is authorised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl InstallRequest {
    /// The newest stable version, for all departments.
    pub fn new(extension_key: ExtensionKey, org_id: OrgId) -> Self {
        Self {
            extension_key,
            version: None,
            org_id,
            installed_by: None,
            user_id: None,
            department_ids: None,
            config: None,
            return_url: None,
            generation: None,
        }
    }
}

/// What came of an installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Installed {
    /// The installation.
    pub installation_id: InstallationId,
    /// Its generation.
    pub generation: i32,
    /// Its state.
    pub state: InstallationState,
    /// Where somebody authorises it, at the provider.
    pub authorization_url: Option<String>,
    /// The address of this server that leads there, once.
    pub start_url: Option<String>,
}

/// An authorisation code for an installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AuthorizeRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// The code.
    pub code: String,
    /// The state that it came with.
    pub state: String,
    /// The issuer that it came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl AuthorizeRequest {
    /// What the provider gave back.
    pub fn new(
        installation_id: InstallationId,
        code: impl Into<String>,
        state: impl Into<String>,
    ) -> Self {
        let (code, state) = (code.into(), state.into());
        Self { installation_id, code, state, iss: None, generation: None }
    }
}

/// A change of departments or parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConfigureRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// The departments whose events it gets; as they are where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department_ids: Option<Vec<String>>,
    /// Its parameters; as they are where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl ConfigureRequest {
    /// Changes nothing by itself.
    pub fn new(installation_id: InstallationId) -> Self {
        Self { installation_id, department_ids: None, config: None, generation: None }
    }
}

/// An upgrade to another version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// The version.
    pub version: String,
    /// Parameters that the version asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Where the browser goes once it is authorised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl UpgradeRequest {
    /// To this version.
    pub fn new(installation_id: InstallationId, version: impl Into<String>) -> Self {
        let version = version.into();
        Self { installation_id, version, config: None, return_url: None, generation: None }
    }
}

/// What came of an upgrade, or would.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Upgraded {
    /// The installation.
    pub installation_id: InstallationId,
    /// Its generation.
    pub generation: i32,
    /// Its state.
    pub state: InstallationState,
    /// The version that serves.
    pub version: String,
    /// The version that was asked for.
    pub target_version: String,
    /// The digest that consent is bound to.
    pub digest: String,
    /// What it changes.
    pub plan: Plan,
    /// What the new version asks for beyond the old one.
    pub growth: Vec<Value>,
    /// Whether somebody must consent.
    pub consent_required: bool,
    /// Whether somebody must authorise it at the provider.
    pub authorization_required: bool,
    /// What is consented to.
    pub consent_id: Option<Uuid>,
    /// Until when, RFC 3339.
    pub deadline: Option<String>,
    /// Where somebody authorises it.
    pub authorization_url: Option<String>,
    /// The address of this server that leads there, once.
    pub start_url: Option<String>,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// What an upgrade makes, changes and deletes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Plan {
    /// What comes.
    pub create: Vec<PlannedResource>,
    /// What changes, and keeps its id.
    pub update: Vec<PlannedResource>,
    /// What goes.
    pub delete: Vec<PlannedResource>,
    /// What stays.
    pub unchanged: Vec<PlannedResource>,
}

/// A resource of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PlannedResource {
    /// What it is, such as `webhook`.
    pub kind: String,
    /// Its name, by which it is the same in both versions.
    pub resource_name: String,
    /// Where it stands in `resources.json`.
    pub pointer: String,
    /// Each value that changes, with `pointer`, `before` and `after`.
    pub changes: Vec<Value>,
}

/// Consent to an upgrade.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConsentRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// What is consented to.
    pub consent_id: Uuid,
    /// The digest that was shown.
    pub digest: String,
    /// Who consents.
    pub granted_by: String,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl ConsentRequest {
    /// Consent to what was shown.
    pub fn new(
        installation_id: InstallationId,
        consent_id: Uuid,
        digest: impl Into<String>,
        granted_by: impl Into<String>,
    ) -> Self {
        let (digest, granted_by) = (digest.into(), granted_by.into());
        Self { installation_id, consent_id, digest, granted_by, generation: None }
    }
}

/// A connection that is to be authorised again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReauthorizeRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// Which connection; the one to the host where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Whose connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Who grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted_by: Option<String>,
    /// Where the browser goes then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl ReauthorizeRequest {
    /// The connection to the host.
    pub fn new(installation_id: InstallationId) -> Self {
        Self {
            installation_id,
            connection: None,
            user_id: None,
            granted_by: None,
            return_url: None,
            generation: None,
        }
    }
}

/// Where an authorisation goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AuthorizationAsked {
    /// The installation.
    pub installation_id: InstallationId,
    /// Its state.
    pub state: InstallationState,
    /// Where somebody authorises it, at the provider.
    pub authorization_url: Option<String>,
    /// The address of this server that leads there, once.
    pub start_url: Option<String>,
    /// The redirect URI that the provider must know.
    pub redirect_uri: Option<String>,
}

/// A suspension, or its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HoldRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl HoldRequest {
    /// For this reason.
    pub fn new(installation_id: InstallationId, reason: impl Into<String>) -> Self {
        Self { installation_id, reason: Some(reason.into()), generation: None }
    }
}

/// The end of an installation: by its id, or by extension and org.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UninstallRequest {
    /// The installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
    /// The extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_key: Option<ExtensionKey>,
    /// The org.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_id: Option<OrgId>,
    /// Whose it is, where the extension is personal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether what is kept of it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erase_data: Option<bool>,
    /// The generation that the marketplace believes to be live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

impl UninstallRequest {
    /// This installation.
    pub fn of(installation_id: InstallationId) -> Self {
        Self { installation_id: Some(installation_id), ..Self::default() }
    }

    /// The live installation of an extension in an org.
    pub fn of_extension(extension_key: ExtensionKey, org_id: OrgId) -> Self {
        Self { extension_key: Some(extension_key), org_id: Some(org_id), ..Self::default() }
    }
}

/// An installation that is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Uninstalled {
    /// The installation.
    pub installation_id: InstallationId,
    /// Its generation.
    pub generation: i32,
    /// Its state.
    pub state: InstallationState,
    /// How many webhooks went with it.
    pub removed_webhooks: u64,
}

/// A user who left an org.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UserRemovedRequest {
    /// The org.
    pub org_id: OrgId,
    /// The user.
    pub user_id: String,
}

impl UserRemovedRequest {
    /// This user of this org.
    pub fn new(org_id: OrgId, user_id: impl Into<String>) -> Self {
        Self { org_id, user_id: user_id.into() }
    }
}

/// What became of what a user had granted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UserRemoved {
    /// The org.
    pub org_id: OrgId,
    /// The user.
    pub user_id: String,
    /// Connections of the org that somebody else must authorise now.
    pub broken_connections: u64,
    /// Connections of his own that went.
    pub removed_connections: u64,
    /// Personal installations that were ended.
    pub uninstalled: u64,
}

/// An org that was closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OrgClosedRequest {
    /// The org.
    pub org_id: OrgId,
}

impl OrgClosedRequest {
    /// This org.
    pub fn new(org_id: OrgId) -> Self {
        Self { org_id }
    }
}

/// How far a closed org is cleared away; the same request again goes on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OrgClosed {
    /// The org.
    pub org_id: OrgId,
    /// Whether nothing is left to be done.
    pub finished: bool,
    /// How many installations are gone.
    pub uninstalled: u64,
    /// What was wrong last.
    pub last_error: Option<String>,
}

/// Whether nothing is to be done yet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dry {
    pub(crate) dry_run: bool,
}

impl Client {
    /// Installs an extension in an org. The same request again is answered with the same
    /// installation.
    pub async fn install(&self, request: &InstallRequest) -> Result<Installed, Error> {
        self.send(Call::new(self, operation::INSTALL, &[])?.json(request)?).await
    }

    /// Brings an installation's authorisation code.
    pub async fn authorize(&self, request: &AuthorizeRequest) -> Result<Installation, Error> {
        self.send(Call::new(self, operation::AUTHORIZE, &[])?.json(request)?).await
    }

    /// Changes an installation's departments or parameters.
    pub async fn configure(&self, request: &ConfigureRequest) -> Result<Installation, Error> {
        self.send(Call::new(self, operation::CONFIGURE, &[])?.json(request)?).await
    }

    /// Upgrades to another version.
    pub async fn upgrade(&self, request: &UpgradeRequest) -> Result<Upgraded, Error> {
        self.send(Call::new(self, operation::UPGRADE, &[])?.json(request)?).await
    }

    /// Says what an upgrade would do, and does nothing.
    pub async fn plan_upgrade(&self, request: &UpgradeRequest) -> Result<Upgraded, Error> {
        let query = super::call::parameters(&Dry { dry_run: true })?;
        self.send(Call::new(self, operation::UPGRADE, &[])?.query(query).json(request)?).await
    }

    /// Brings consent to an upgrade that waits.
    pub async fn consent(&self, request: &ConsentRequest) -> Result<Installation, Error> {
        self.send(Call::new(self, operation::CONSENT, &[])?.json(request)?).await
    }

    /// Begins to authorise a connection again.
    pub async fn reauthorize(
        &self,
        request: &ReauthorizeRequest,
    ) -> Result<AuthorizationAsked, Error> {
        self.send(Call::new(self, operation::REAUTHORIZE, &[])?.json(request)?).await
    }

    /// Suspends an installation, as the marketplace.
    pub async fn suspend(&self, request: &HoldRequest) -> Result<Installation, Error> {
        self.send(Call::new(self, operation::SUSPEND, &[])?.json(request)?).await
    }

    /// Lifts the marketplace's suspension.
    pub async fn resume(&self, request: &HoldRequest) -> Result<Installation, Error> {
        self.send(Call::new(self, operation::RESUME, &[])?.json(request)?).await
    }

    /// Uninstalls. It always finishes; the same request again is answered the same.
    pub async fn uninstall(&self, request: &UninstallRequest) -> Result<Uninstalled, Error> {
        self.send(Call::new(self, operation::UNINSTALL, &[])?.json(request)?).await
    }

    /// Tells that a user left an org.
    pub async fn user_removed(&self, request: &UserRemovedRequest) -> Result<UserRemoved, Error> {
        self.send(Call::new(self, operation::USER_REMOVED, &[])?.json(request)?).await
    }

    /// Tells that an org was closed.
    pub async fn org_closed(&self, request: &OrgClosedRequest) -> Result<OrgClosed, Error> {
        self.send(Call::new(self, operation::ORG_CLOSED, &[])?.json(request)?).await
    }
}
