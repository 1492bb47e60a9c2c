//! Installations: what is installed, what waits, and what happened.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::Webhook;
use crate::web::parts::{Copy, Moment, State, Text, or_default, pretty};
use crate::web::words;

/// An installation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Installation {
    pub(in crate::web) installation_id: Uuid,
    pub(in crate::web) extension_key: String,
    pub(in crate::web) extension_name: String,
    pub(in crate::web) version: String,
    pub(in crate::web) org_id: String,
    pub(in crate::web) generation: i64,
    pub(in crate::web) state: State,
    pub(in crate::web) suspended_by: Vec<String>,
    pub(in crate::web) department_ids: Option<Vec<String>>,
    pub(in crate::web) config: Value,
    pub(in crate::web) installed_by: Text,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) required_scopes: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) granted_scopes: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) pending_scopes: Vec<String>,
    pub(in crate::web) connection: ConnectionHealth,
    pub(in crate::web) connections: Vec<Connection>,
    pub(in crate::web) vendor_setup: String,
    pub(in crate::web) cleanup: String,
    pub(in crate::web) webhooks: Vec<Webhook>,
    pub(in crate::web) waiting_upgrade: Option<WaitingUpgrade>,
    pub(in crate::web) created_time: Moment,
    pub(in crate::web) authorized_time: Moment,
    pub(in crate::web) upgraded_time: Moment,
    pub(in crate::web) uninstalled_time: Moment,
    pub(in crate::web) erase_time: Moment,
    pub(in crate::web) erased_time: Moment,
}

impl Installation {
    /// Whether it can still be taken out.
    pub(in crate::web) fn is_live(&self) -> bool {
        !self.state.is_named("uninstalled") && !self.state.is_named("erased")
    }

    /// Whether nobody has authorised it yet.
    pub(in crate::web) fn is_waiting(&self) -> bool {
        self.state.is_named("pendingAuthorization")
    }

    /// Whether a role holds it suspended.
    pub(in crate::web) fn is_held_by(&self, holder: &str) -> bool {
        self.suspended_by.iter().any(|name| name == holder)
    }

    /// Who holds it suspended, in a row.
    pub(in crate::web) fn holders(&self) -> String {
        self.suspended_by.join(", ")
    }

    /// Its departments in words.
    pub(in crate::web) fn departments(&self) -> String {
        match &self.department_ids {
            None => "all departments".to_owned(),
            Some(ids) => ids.join(", "),
        }
    }

    /// Who granted the connection to the host, else who installed it.
    pub(in crate::web) fn consented_by(&self) -> &Text {
        let granted = self.connections.iter().find(|one| one.granted_by.is_known());
        granted.map_or(&self.installed_by, |one| &one.granted_by)
    }

    /// When that was.
    pub(in crate::web) fn consented_at(&self) -> &Moment {
        if self.authorized_time.is_known() { &self.authorized_time } else { &self.created_time }
    }

    /// The worst health of its webhooks.
    pub(in crate::web) fn worst_health(&self) -> Option<&State> {
        let states = self.webhooks.iter().map(|webhook| &webhook.health.state);
        states.max_by_key(|state| !state.is_named("ok"))
    }

    pub(in crate::web) fn id_copy(&self) -> Copy {
        Copy::new(self.installation_id.to_string(), "the installation's id")
    }

    pub(in crate::web) fn config_text(&self) -> String {
        pretty(&self.config)
    }

    pub(in crate::web) fn has_config(&self) -> bool {
        self.config.as_object().is_some_and(|members| !members.is_empty())
    }

    pub(in crate::web) fn setup_state(&self) -> State {
        State::new(if self.vendor_setup == "ok" { "done" } else { &self.vendor_setup })
    }
}

/// How the connection to the host does.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct ConnectionHealth {
    pub(in crate::web) health: State,
    pub(in crate::web) reason: Text,
}

/// A connection.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Connection {
    pub(in crate::web) name: String,
    pub(in crate::web) display_name: Text,
    pub(in crate::web) service: String,
    pub(in crate::web) health: State,
    pub(in crate::web) reason: Text,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) scopes: Vec<String>,
    pub(in crate::web) granted_by: Text,
    pub(in crate::web) user_id: Text,
    pub(in crate::web) since: Moment,
    pub(in crate::web) expires_at: Moment,
}

impl Connection {
    /// Whether it is to another service than the host, and somebody has to authorise it again.
    pub(in crate::web) fn is_broken_connector(&self) -> bool {
        self.name != "zohoAuthorisation"
            && !self.user_id.is_known()
            && self.health.is_named("broken")
    }
}

/// An upgrade that waits for consent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct WaitingUpgrade {
    pub(in crate::web) consent_id: Uuid,
    pub(in crate::web) version: String,
    pub(in crate::web) digest: String,
    pub(in crate::web) plan: Plan,
    pub(in crate::web) growth: Vec<Growth>,
    pub(in crate::web) authorization_required: bool,
    pub(in crate::web) since: Moment,
    pub(in crate::web) deadline: Moment,
}

/// What happens to the resources.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Plan {
    pub(in crate::web) create: Vec<Planned>,
    pub(in crate::web) update: Vec<Planned>,
    pub(in crate::web) delete: Vec<Planned>,
    pub(in crate::web) unchanged: Vec<Planned>,
}

impl Plan {
    pub(in crate::web) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// What happens to one resource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Planned {
    pub(in crate::web) kind: String,
    pub(in crate::web) resource_name: String,
    #[serde(default)]
    pub(in crate::web) changes: Vec<Change>,
}

/// A change within a resource.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Change {
    pub(in crate::web) pointer: String,
    pub(in crate::web) before: Value,
    pub(in crate::web) after: Value,
}

impl Change {
    pub(in crate::web) fn former(&self) -> Option<String> {
        (!self.before.is_null()).then(|| self.before.to_string())
    }

    pub(in crate::web) fn next(&self) -> Option<String> {
        (!self.after.is_null()).then(|| self.after.to_string())
    }
}

/// One thing that a version asks for and the one before did not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(in crate::web) struct Growth {
    kind: String,
    service_name: String,
    scope: String,
    event_type: String,
    host: String,
    name: String,
}

impl Growth {
    /// What it is, in words.
    pub(in crate::web) fn what(&self) -> &str {
        match self.kind.as_str() {
            "connection" => "A connection to",
            "scope" => "A permission",
            "event" => "An event that it gets from now on",
            "callbackHost" => "A host that data is sent to",
            "secretParameter" => "A secret that you are asked for",
            other => other,
        }
    }

    /// Which one.
    pub(in crate::web) fn which(&self) -> &str {
        let all = [&self.scope, &self.event_type, &self.host, &self.name, &self.service_name];
        all.into_iter().find(|text| !text.is_empty()).map_or("", String::as_str)
    }
}

/// What differs between two versions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Upgrade {
    pub(in crate::web) plan: Plan,
    pub(in crate::web) growth: Vec<Growth>,
    pub(in crate::web) consent_required: bool,
}

/// A step of the history.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Transition {
    pub(in crate::web) at: Moment,
    pub(in crate::web) actor: String,
    pub(in crate::web) address: Text,
    command: String,
    pub(in crate::web) to: State,
    pub(in crate::web) generation: i64,
    pub(in crate::web) reason: Text,
}

impl Transition {
    pub(in crate::web) fn what(&self) -> String {
        words::command(&self.command)
    }
}
