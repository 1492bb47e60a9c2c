//! Configure: departments narrow or widen the filter at once, parameters change.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::LifecycleError;
use super::install::check_departments;
use super::parameters;
use super::service::Lifecycle;
use super::state::Command;
use crate::audit::Actor;
use crate::crypto::{AssociatedData, Purpose};
use crate::identifier::{DepartmentId, InstallationId};
use crate::store::UnitOfWork;

/// What the marketplace asks for.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigureRequest {
    /// The installation.
    pub installation_id: InstallationId,
    /// A lower one than the live one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// The departments from now on; `null` means all, missing leaves them as they are.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub department_ids: Option<Option<Vec<DepartmentId>>>,
    /// Parameters to set; `null` clears one, those left out stay.
    #[schema(value_type = Option<Object>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
}

/// Tells a `null` from a missing key.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl Lifecycle {
    /// Configures. Returns the installation.
    pub async fn configure(
        &self,
        work: &mut UnitOfWork,
        request: &ConfigureRequest,
        actor: &Actor,
    ) -> Result<Uuid, LifecycleError> {
        let mut locked = self.lock(work, request.installation_id.0).await?;
        if self.is_late(work, &locked.row, request.generation).await? {
            return Ok(locked.row.id);
        }
        if let Some(departments) = &request.department_ids {
            check_departments(departments.as_deref())?;
            locked.row.department_ids =
                departments.as_ref().map(|ids| serde_json::json!(ids).to_string());
        }
        if let Some(config) = &request.config {
            let checked = parameters::check(config, &locked.manifest.parameters, false)?;
            let mut open: Map<String, Value> = serde_json::from_str(&locked.row.config)
                .map_err(|_| LifecycleError::Unreadable { what: "config" })?;
            let mut secure =
                self.open_config(locked.row.id, locked.row.sealed_config.as_deref())?;
            merge(&mut open, checked.open);
            merge(&mut secure, checked.secure);
            locked.row.config = Value::Object(open).to_string();
            locked.row.sealed_config = self.seal_config(locked.row.id, &secure)?;
        }
        if let Some(config) = &request.config {
            // Each kind of change has its own callback, as in the reference.
            let (cleared, set): (Vec<_>, Vec<_>) =
                config.values().partition(|value| value.is_null());
            let now = self.inner.seam.clock.now();
            for (changes, event) in [(cleared, "onConfigParamDelete"), (set, "onConfigParamAdd")] {
                if !changes.is_empty() {
                    self.tell(work, &mut locked, event, None, now).await?;
                }
            }
        }
        self.take(work, &mut locked, Command::Configure, actor, None).await?;
        Ok(locked.row.id)
    }

    pub(super) fn open_config(
        &self,
        installation_id: Uuid,
        sealed: Option<&[u8]>,
    ) -> Result<Map<String, Value>, LifecycleError> {
        let Some(sealed) = sealed else { return Ok(Map::new()) };
        let place = AssociatedData { subject: installation_id, field: "config" };
        let text = self.inner.keys.ring.unseal(Purpose::Vault, &place, sealed)?;
        serde_json::from_slice(text.expose())
            .map_err(|_| LifecycleError::Unreadable { what: "config" })
    }
}

fn merge(kept: &mut Map<String, Value>, given: Map<String, Value>) {
    for (name, value) in given {
        if value.is_null() {
            kept.remove(&name);
        } else {
            kept.insert(name, value);
        }
    }
}
