//! Lifecycle callbacks to the vendor: durable, signed, in order for each installation.
//!
//! They go through the same queue as events, on a lane that has the id of the installation. What is
//! stored has no securityContext; it is put in right before sending.

use std::collections::BTreeMap;

use bytes::Bytes;
use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use url::Url;
use uuid::Uuid;

use super::lane::Content;
use crate::crypto::CryptoError;
use crate::seam::{Seam, Timestamp};
use crate::store::claims::DeliveryState;
use crate::store::entity::{delivery, endpoint_state, event};
use crate::store::positions::Journalled;
use crate::store::{StoreError, UnitOfWork};
use crate::webhook::CallbackLane;

/// A callback to be told to the vendor.
#[derive(Clone, Debug)]
pub struct Callback {
    /// Its name, in the spelling that the manifest declares.
    pub event: String,
    /// The org.
    pub org_id: String,
    /// The extension.
    pub extension_key: String,
    /// The installation.
    pub installation_id: Uuid,
    /// Its generation.
    pub generation: i32,
    /// Its place among the installation's callbacks, from 1.
    pub sequence: i64,
    /// The version that serves.
    pub version: String,
    /// Why it came to this.
    pub reason: Option<String>,
    /// The connection that it tells of.
    pub connection: Option<String>,
    /// Whose connection, where it is a user's own.
    pub user_id: Option<String>,
    /// The version that served before, where this tells of another one.
    pub former_version: Option<String>,
    /// When what is kept of the installation is erased, where that is known.
    pub erase_at: Option<Timestamp>,
}

/// The body but for the securityContext.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    event: String,
    org_id: Value,
    installation_id: Uuid,
    generation: i32,
    sequence: i64,
    version: String,
    occurred_at: String,
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erase_at: Option<String>,
}

/// The body as it is sent: the reference's three keys first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    event: &'a str,
    org_id: &'a Value,
    security_context: &'a str,
    installation_id: Uuid,
    generation: i32,
    sequence: i64,
    version: &'a str,
    occurred_at: &'a str,
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    former_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erase_at: Option<&'a str>,
}

/// An org id as the reference sends it in callbacks: a number where it is one.
fn org_id_value(org_id: &str) -> Value {
    org_id
        .parse::<u64>()
        .ok()
        // Beyond this, JavaScript would change it.
        .filter(|number| *number < (1 << 53) && number.to_string() == org_id)
        .map_or_else(
            || Value::String(org_id.to_owned()),
            |number| Value::Number(Number::from(number)),
        )
}

/// Writes a callback in the transaction of what it tells of.
pub async fn enqueue(
    work: &UnitOfWork,
    callback: &Callback,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), StoreError> {
    let stored = Stored {
        event: callback.event.clone(),
        org_id: org_id_value(&callback.org_id),
        installation_id: callback.installation_id,
        generation: callback.generation,
        sequence: callback.sequence,
        version: callback.version.clone(),
        occurred_at: now.rfc3339(),
        reason: callback.reason.clone(),
        connection: callback.connection.clone(),
        user_id: callback.user_id.clone(),
        former_version: callback.former_version.clone(),
        erase_at: callback.erase_at.map(Timestamp::rfc3339),
    };
    let payload =
        serde_json::to_vec(&stored).map_err(|_| StoreError::Corrupt { what: "callback" })?;
    let event_id = seam.randomness.id();
    work.write_later(&event::Entity::insert(event::ActiveModel {
        id: Set(event_id),
        org_id: Set(callback.org_id.clone()),
        event_type: Set(callback.event.clone()),
        department_id: Set(None),
        event_time: Set(now.millis()),
        origin: Set(0),
        source_id: Set(None),
        actor: Set(None),
        event_key: Set(None),
        accepted_at: Set(now.micros()),
        payload: Set(payload),
        previous: Set(None),
    }));
    let delivery_id = seam.randomness.id();
    work.write_later(&delivery::Entity::insert(delivery::ActiveModel {
        id: Set(delivery_id),
        event_id: Set(event_id),
        endpoint_id: Set(callback.installation_id),
        generation: Set(callback.generation),
        state: Set(DeliveryState::Pending.number()),
        due_at: Set(Some(now.micros())),
        claim: Set(None),
        ordered: Set(Some(1)),
        sequence: Set(callback.sequence),
        replay: Set(0),
        attempts: Set(0),
        created_at: Set(now.micros()),
        first_at: Set(None),
        first_status: Set(None),
        first_micros: Set(None),
        first_error: Set(None),
        first_detail: Set(None),
    }));
    work.journalled(Journalled {
        delivery_id,
        installation_id: callback.installation_id,
        extension_key: callback.extension_key.clone(),
        event: callback.event.clone(),
        at: now,
    });
    if callback.event != "onInstall" {
        return Ok(());
    }
    // How the reference's installation handler does is what `vendorSetup` shows.
    let waiting = endpoint_state::ActiveModel {
        endpoint_id: Set(callback.installation_id),
        health: Set("pending".to_owned()),
        consecutive_failures: Set(0),
        updated_at: Set(now.micros()),
        ..Default::default()
    };
    work.write_later(
        &endpoint_state::Entity::insert(waiting).on_conflict(
            OnConflict::column(endpoint_state::Column::EndpointId)
                .update_columns([endpoint_state::Column::Health, endpoint_state::Column::UpdatedAt])
                .to_owned(),
        ),
    );
    Ok(())
}

/// The spelling under which a manifest declares a callback: the present one, or an older one that
/// the reference also knew.
pub fn declared_name<'l>(listener: &'l BTreeMap<String, Url>, event: &str) -> Option<&'l str> {
    let older: &[&str] = match event {
        "onZohoAuthorise" => &["onDeskAuthorise"],
        "onTPAAuthorise" => &["onTPAAuthorize"],
        "onConfigParamAdd" | "onConfigParamDelete" => &["onConfigParamChange"],
        _ => &[],
    };
    std::iter::once(event)
        .chain(older.iter().copied())
        .find_map(|name| listener.get_key_value(name).map(|(name, _)| name.as_str()))
}

/// The same callback without what somebody wrote into it by hand and without whom it tells of: what
/// may be kept after an erasure.
pub(crate) fn without_words(payload: &[u8]) -> Option<Vec<u8>> {
    let mut stored: Stored = serde_json::from_slice(payload).ok()?;
    stored.reason = None;
    stored.user_id = None;
    serde_json::to_vec(&stored).ok()
}

/// Where a stored callback goes.
pub(super) fn address<'l>(lane: &'l CallbackLane, event: &str) -> Option<&'l Url> {
    lane.addresses.get(event)
}

/// The body to send.
pub(super) fn body(lane: &CallbackLane, content: &Content) -> Result<Bytes, CryptoError> {
    let malformed = |_| CryptoError::Malformed { what: "a stored callback" };
    let stored: Stored = serde_json::from_slice(&content.payload).map_err(malformed)?;
    let sent = Sent {
        event: &stored.event,
        org_id: &stored.org_id,
        security_context: lane.security_context.expose(),
        installation_id: stored.installation_id,
        generation: stored.generation,
        sequence: stored.sequence,
        version: &stored.version,
        occurred_at: &stored.occurred_at,
        reason: stored.reason.as_deref(),
        connection: stored.connection.as_deref(),
        user_id: stored.user_id.as_deref(),
        former_version: stored.former_version.as_deref(),
        erase_at: stored.erase_at.as_deref(),
    };
    serde_json::to_vec(&sent).map(Bytes::from).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn org_ids_are_numbers_where_they_survive_it() {
        assert_eq!(org_id_value("387238"), Value::from(387_238));
        for text in ["007", "+1", "org-1", "9007199254740993", "-5", "1.0", ""] {
            assert_eq!(org_id_value(text), Value::from(text), "{text}");
        }
    }

    #[test]
    fn older_spellings_are_served() {
        let url = Url::parse("https://vendor.example/cb").expect("a URL");
        let listener = BTreeMap::from([("onDeskAuthorise".to_owned(), url)]);
        assert_eq!(declared_name(&listener, "onZohoAuthorise"), Some("onDeskAuthorise"));
        assert_eq!(declared_name(&listener, "onInstall"), None);
    }
}
