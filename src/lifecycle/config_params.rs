//! Configuration parameters in the reference's forms: `GET` and `POST
//! /installedExtensions/{installationId}/configParams`.

use std::collections::BTreeSet;

use sea_orm::EntityTrait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::configure::ConfigureRequest;
use super::error::{FieldFault, LifecycleError};
use super::service::{Lifecycle, read_manifest};
use crate::audit::Actor;
use crate::identifier::InstallationId;
use crate::manifest::Manifest;
use crate::store::UnitOfWork;
use crate::store::entity::{extension_version, installation};

/// The most parameters that one request sets; a manifest has 20.
const MOST_VARIABLES: usize = 50;

/// What stands for a secret that is set.
const MASK: &str = "********";

/// A parameter as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigParameter {
    /// Its name.
    pub name: String,
    /// Its value; asterisks for a secure one that is set, null where there is none.
    pub value: Value,
    /// The manifest's default; null for a secure one.
    pub default_value: Value,
    /// Whether the value is a secret, which is never shown.
    pub secure: bool,
    /// Whether it needs a value.
    pub mandatory: bool,
}

/// A parameter to set.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigVariable {
    /// Its name.
    pub name: String,
    /// Its value; null clears it.
    pub value: Value,
}

/// Parameters to set; those left out stay.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigVariables {
    /// Each with its value.
    pub variables: Vec<ConfigVariable>,
}

impl Lifecycle {
    /// The parameters that the serving version declares, with their values.
    pub async fn config_parameters(
        &self,
        id: Uuid,
    ) -> Result<Vec<ConfigParameter>, LifecycleError> {
        let reader = self.inner.store.reader();
        let row = installation::Entity::find_by_id(id)
            .one(reader)
            .await?
            .ok_or_else(|| LifecycleError::Unknown(id.to_string()))?;
        let version = extension_version::Entity::find_by_id(row.version_id)
            .one(reader)
            .await?
            .ok_or(LifecycleError::Unreadable { what: "version" })?;
        self.parameters_of(&row, &read_manifest(&version)?)
    }

    /// The same within a transaction.
    pub async fn config_parameters_within(
        &self,
        work: &UnitOfWork,
        id: Uuid,
    ) -> Result<Vec<ConfigParameter>, LifecycleError> {
        let locked = self.lock(work, id).await?;
        self.parameters_of(&locked.row, &locked.manifest)
    }

    fn parameters_of(
        &self,
        row: &installation::Model,
        manifest: &Manifest,
    ) -> Result<Vec<ConfigParameter>, LifecycleError> {
        let open: Map<String, Value> = serde_json::from_str(&row.config)
            .map_err(|_| LifecycleError::Unreadable { what: "config" })?;
        let secure = self.open_config(row.id, row.sealed_config.as_deref())?;
        Ok(manifest
            .parameters
            .iter()
            .map(|parameter| ConfigParameter {
                name: parameter.name.clone(),
                value: if parameter.secure {
                    let is_set = secure.contains_key(&parameter.name);
                    if is_set { MASK.into() } else { Value::Null }
                } else {
                    open.get(&parameter.name).cloned().unwrap_or_default()
                },
                default_value: match &parameter.default {
                    Some(default) if !parameter.secure => default.clone(),
                    _ => Value::Null,
                },
                secure: parameter.secure,
                mandatory: parameter.mandatory,
            })
            .collect())
    }

    /// Sets parameters, as configure does.
    pub async fn set_config_parameters(
        &self,
        work: &mut UnitOfWork,
        id: Uuid,
        request: &ConfigVariables,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let variables = &request.variables;
        if variables.is_empty() || variables.len() > MOST_VARIABLES {
            return Err(LifecycleError::field("/variables", "variables must have 1 to 50 entries"));
        }
        let locked = self.lock(work, id).await?;
        let secrets: BTreeSet<&str> = (locked.manifest.parameters.iter())
            .filter(|parameter| parameter.secure)
            .map(|parameter| parameter.name.as_str())
            .collect();
        let mut names = BTreeSet::new();
        let mut config = Map::new();
        for (index, variable) in variables.iter().enumerate() {
            if !names.insert(variable.name.as_str()) {
                let pointer = format!("/variables/{index}/name");
                return Err(LifecycleError::field(&pointer, "a parameter is there twice"));
            }
            if variable.value == MASK && secrets.contains(variable.name.as_str()) {
                // What was read is written back: the secret stays as it is.
                continue;
            }
            config.insert(variable.name.clone(), variable.value.clone());
        }
        let configure = ConfigureRequest {
            installation_id: InstallationId(id),
            generation: None,
            department_ids: None,
            config: Some(config),
        };
        match self.configure(work, &configure, actor).await {
            Ok(_) => Ok(()),
            Err(LifecycleError::Invalid { faults }) => {
                let faults = faults.into_iter().map(|fault| moved(fault, variables)).collect();
                Err(LifecycleError::Invalid { faults })
            }
            Err(error) => Err(error),
        }
    }
}

/// A fault of `/config/<name>`, told of the variable with that name.
fn moved(fault: FieldFault, variables: &[ConfigVariable]) -> FieldFault {
    let name = fault.pointer.strip_prefix("/config/");
    let name = name.map(|name| name.replace("~1", "/").replace("~0", "~"));
    let index = variables.iter().position(|variable| Some(&variable.name) == name.as_ref());
    let pointer = index.map_or_else(|| "/variables".to_owned(), |at| format!("/variables/{at}"));
    FieldFault { pointer, ..fault }
}
