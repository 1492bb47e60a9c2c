//! An own webhook as it is, read to be changed, copied or told of.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::KIND;
use super::definition::{Kept, Settings, as_request, stored_settings};
use super::request::WebhookPatch;
use super::writing::OwnRefusal;
use crate::dialect::Connection;
use crate::seam::Timestamp;
use crate::store::entity::{own_webhook, webhook};

/// The end of the name of a copy.
const COPY: &str = " (copy)";

/// An own webhook as it was read, to be changed or copied.
#[derive(Clone, Debug)]
pub struct Current {
    pub(super) row: webhook::Model,
    pub(super) own: own_webhook::Model,
    pub(super) settings: Settings,
}

impl Current {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.row.id
    }

    /// Its org.
    pub fn org_id(&self) -> &str {
        &self.row.org_id
    }

    /// When it changed last, as it is shown.
    pub fn modified_time(&self) -> String {
        Timestamp::from_micros(self.row.modified_at).rfc3339()
    }

    /// The address as it is.
    pub fn url(&self) -> &str {
        &self.row.url
    }

    /// A patch put over what is there, to be checked as a whole.
    pub fn patched(&self, patch: WebhookPatch) -> Map<String, Value> {
        patch.merged_over(as_request(&self.row, &self.own, &self.settings))
    }

    /// What of it stays where a patch says nothing of it.
    pub fn kept(&self, patch: &WebhookPatch) -> Kept {
        self.kept_under(patch.names_authentication())
    }

    /// Whether it is switched on.
    pub fn is_enabled(&self) -> bool {
        self.row.is_enabled != 0
    }

    /// The source whose events it does not get.
    pub fn ignore_source_id(&self) -> Option<&str> {
        self.row.ignore_source_id.as_deref()
    }

    /// What of it stays where a request says all of it anew: its authentication where the request
    /// names none, else what is secret in it.
    pub fn kept_under(&self, names_authentication: bool) -> Kept {
        let url = Url::parse(&self.row.url).ok();
        Kept {
            authentication: self.settings.authentication.clone(),
            origin: url.map(|url| url.origin().ascii_serialization()),
            connection: Connection::from_name(&self.own.connection).unwrap_or_default(),
            names_authentication,
        }
    }

    /// The name of a copy.
    pub fn name_of_copy(&self) -> Option<String> {
        let name = self.row.name.as_ref()?;
        let kept: String = name.chars().take(255 - COPY.len()).collect();
        Some(kept + COPY)
    }

    /// For the audit.
    pub(super) fn shown(&self) -> Value {
        shown(&self.row, &self.own, &self.settings)
    }
}

/// A webhook for the audit: nothing secret, and of custom headers only the names.
pub(super) fn shown(row: &webhook::Model, own: &own_webhook::Model, settings: &Settings) -> Value {
    let mut shown = as_request(row, own, settings);
    let names: Vec<&String> = settings.headers.keys().collect();
    shown.insert("headers".to_owned(), json!(names));
    shown.insert("authentication".to_owned(), json!(settings.authentication.kind()));
    Value::Object(shown)
}

/// Reads a webhook to change it.
pub(super) async fn read_current(
    connection: &impl ConnectionTrait,
    id: Uuid,
) -> Result<Current, OwnRefusal> {
    let row = webhook::Entity::find_by_id(id)
        .filter(webhook::Column::Kind.eq(KIND))
        .one(connection)
        .await?
        .ok_or(OwnRefusal::Unknown)?;
    let own =
        own_webhook::Entity::find_by_id(id).one(connection).await?.ok_or(OwnRefusal::Unreadable)?;
    let settings = stored_settings(&own).ok_or(OwnRefusal::Unreadable)?;
    Ok(Current { row, own, settings })
}
