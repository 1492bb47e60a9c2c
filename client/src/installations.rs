//! What is to be seen of installations: their state, their history, the journal.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::call::Call;
use super::catalogue::{Limit, Nothing};
use super::client::Client;
use super::error::Error;
use super::identifiers::{ExtensionKey, InstallationId, OrgId};
use super::lifecycle::{InstallationState, Plan};
use super::operation;
use super::page::Pages;
use super::webhooks::Webhook;

/// An installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Installation {
    /// Its id.
    pub installation_id: InstallationId,
    /// The extension.
    pub extension_key: ExtensionKey,
    /// The extension's name.
    pub extension_name: String,
    /// The version that serves.
    pub version: String,
    /// The digest of that version.
    pub digest: String,
    /// The org.
    pub org_id: OrgId,
    /// How many installations of this extension the org has had, this one included.
    pub generation: i32,
    /// Its state.
    pub state: InstallationState,
    /// Who holds it suspended.
    pub suspended_by: Vec<String>,
    /// The departments whose events it gets; none: all.
    pub department_ids: Option<Vec<String>>,
    /// Its parameters, without the secure ones.
    pub config: Value,
    /// Who installed it.
    pub installed_by: Option<String>,
    /// Whose it is, where the extension is personal.
    pub user_id: Option<String>,
    /// The scopes that the version declares.
    pub required_scopes: Vec<String>,
    /// The scopes that were granted.
    pub granted_scopes: Option<Vec<String>>,
    /// The scopes that are declared and not granted yet.
    pub pending_scopes: Vec<String>,
    /// The connection to the host.
    pub connection: ConnectionHealth,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// How many connections there are, those that are not shown too.
    pub connection_count: u64,
    /// How `onInstall` went: `pending`, `ok` or `failed`.
    pub vendor_setup: String,
    /// Whether everything that was left to be taken back is: `pending` or `done`.
    pub cleanup: String,
    /// Its webhooks.
    pub webhooks: Vec<Webhook>,
    /// The upgrade that waits for consent.
    pub waiting_upgrade: Option<WaitingUpgrade>,
    /// When it was installed, RFC 3339.
    pub created_time: Option<String>,
    /// When it was authorised.
    pub authorized_time: Option<String>,
    /// When another version began to serve last.
    pub upgraded_time: Option<String>,
    /// When it was uninstalled.
    pub uninstalled_time: Option<String>,
    /// When what is kept of it is erased.
    pub erase_time: Option<String>,
    /// When that was done.
    pub erased_time: Option<String>,
    /// When it changed last.
    pub modified_time: Option<String>,
}

/// How the connection to the host does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectionHealth {
    /// `none`, `ok` or `broken`.
    pub health: String,
    /// Why it is broken.
    pub reason: Option<String>,
}

/// A connection: never its tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Connection {
    /// `zohoAuthorisation`, or the connector's link name.
    pub name: String,
    /// What administrators see it as.
    pub display_name: Option<String>,
    /// The service that grants.
    pub service: String,
    /// `none`, `ok` or `broken`.
    pub health: String,
    /// Why it is broken, in words.
    pub reason: Option<String>,
    /// What was granted.
    pub scopes: Option<Vec<String>>,
    /// Who granted it.
    pub granted_by: Option<String>,
    /// Whose it is; none: the org's.
    pub user_id: Option<String>,
    /// When it was authorised.
    pub since: Option<String>,
    /// When its present access token ends; it is refreshed before.
    pub expires_at: Option<String>,
}

/// An upgrade that waits for consent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WaitingUpgrade {
    /// What is consented to.
    pub consent_id: Uuid,
    /// The version.
    pub version: String,
    /// The digest that consent is bound to.
    pub digest: String,
    /// What it changes.
    pub plan: Plan,
    /// What the new version asks for beyond the old one.
    pub growth: Vec<Value>,
    /// Whether somebody must authorise it at the provider.
    pub authorization_required: bool,
    /// Since when.
    pub since: Option<String>,
    /// Until when.
    pub deadline: Option<String>,
}

/// A transition of an installation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Transition {
    /// When, RFC 3339.
    pub at: Option<String>,
    /// Who.
    pub actor: String,
    /// From which address.
    pub address: Option<String>,
    /// What was asked for.
    pub command: String,
    /// The state before.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// The generation.
    pub generation: i32,
    /// Why.
    pub reason: Option<String>,
}

/// Which installations.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InstallationFilter {
    /// Of this org.
    pub org_id: Option<OrgId>,
    /// Of this extension.
    pub extension_key: Option<ExtensionKey>,
    /// In this state.
    pub state: Option<String>,
    /// Those that changed since this moment, in the order of changes.
    pub since: Option<String>,
    /// How many on a page, up to 200.
    pub limit: Option<u16>,
}

/// Which part of the journal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JournalFilter {
    /// Since this moment, RFC 3339.
    pub since: Option<String>,
    /// How many on a page, up to 200.
    pub limit: Option<u16>,
}

/// A lifecycle event of a vendor's extension.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JournalEntry {
    /// Its id: the `webhook-id` that it was sent with.
    pub id: Uuid,
    /// What a page that begins after it is asked for with.
    pub cursor: String,
    /// The extension.
    pub extension_key: ExtensionKey,
    /// What the vendor was sent.
    pub callback: Option<Value>,
    /// What became of sending it.
    pub state: String,
    /// How many attempts were made.
    pub attempts_made: u32,
    /// The last attempt: `time`, `status`, `error`.
    pub last_attempt: Option<Value>,
    /// When the next attempt is due.
    pub next_attempt_time: Option<String>,
    /// When it happened.
    pub time: String,
}

impl Client {
    /// Lists installations that the token may see.
    pub fn installations(&self, filter: &InstallationFilter) -> Pages<Installation> {
        Pages::of(self, operation::INSTALLATIONS, &[], filter)
    }

    /// Shows an installation.
    pub async fn installation(&self, id: InstallationId) -> Result<Installation, Error> {
        self.send(Call::new(self, operation::INSTALLATION, &[&id])?).await
    }

    /// Every transition of an installation.
    pub fn history(&self, id: InstallationId) -> Pages<Transition> {
        Pages::of(self, operation::HISTORY, &[&id], &Limit::default())
    }

    /// The lifecycle events of a vendor's extensions, in the order of their commits. Whoever keeps
    /// the last entry's `cursor` reads on from there.
    pub fn journal(&self, filter: &JournalFilter) -> Pages<JournalEntry> {
        Pages::of(self, operation::JOURNAL, &[], filter)
    }

    /// Sends a lifecycle event to the vendor again.
    pub async fn redeliver(&self, id: Uuid) -> Result<(), Error> {
        let call = Call::new(self, operation::REDELIVER, &[&id])?;
        self.send_off(call.json(&Nothing {})?).await
    }
}
