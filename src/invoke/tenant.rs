//! An installation as calls need it: read once, kept in memory until something of it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::error::InvokeError;
use super::memory::{Held, Meter, Properties, SharedProperties};
use super::placeholders::{Filling, Value, Values};
use super::target::{DeclaredConnection, Reach, listed_origins};
use crate::config::Origin;
use crate::crypto::{AssociatedData, Keys, Purpose, SecretText, SigningSecret, Verifier};
use crate::extension_data::{former_versions, properties};
use crate::manifest::{CheckedPackage, Manifest};
use crate::oauth::{self, HOST_CONNECTION, Providers};
use crate::seam::Timestamp;
use crate::store::Store;
use crate::store::entity::{
    extension, extension_version, installation, invoke_signer, signing_secret,
};
use crate::webhook::{unseal_manifest_secrets, unseal_signing_secret};

/// What an installation takes in memory besides its texts, in bytes: about what its parts do.
const BARE: usize = 2_048;

/// What an origin takes in memory, about.
const ORIGIN: usize = 128;

/// An installation that serves.
pub(super) struct Tenant {
    pub(super) id: Uuid,
    pub(super) org_id: String,
    pub(super) extension_key: String,
    /// Whose the extension is.
    pub(super) vendor: String,
    pub(super) generation: i32,
    /// Whether the serving version has a `secret`: one without cannot call.
    pub(super) has_secret: bool,
    /// The `secret` of the serving version, and those of former ones that still count.
    pub(super) secrets: Vec<SecretText>,
    /// Verifies calls that are signed by Standard Webhooks.
    pub(super) verifier: Option<Verifier>,
    /// Whether the extension signed a call before, so that all must be signed.
    pub(super) must_sign: bool,
    /// Whether the manifest asks for the key-value store.
    pub(super) has_storage: bool,
    pub(super) reach: Reach,
    pub(super) values: Values,
    /// When one of the secrets stops to count.
    pub(super) secrets_until: Option<Timestamp>,
    /// Ends the calls under way where the installation stops to serve.
    pub(super) ended: CancellationToken,
    /// The calls under way.
    pub(super) calls: TaskTracker,
    /// What it takes in memory.
    _held: Held,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tenant").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Tenant {
    /// The same with the calls under way of what was read before.
    pub(super) fn continuing(self, former: &Self) -> Self {
        Self { ended: former.ended.clone(), calls: former.calls.clone(), ..self }
    }
}

#[cfg(test)]
impl Tenant {
    /// One that takes so much memory.
    pub(super) fn of_size(id: Uuid, bytes: usize, meter: &Meter) -> Self {
        Self {
            id,
            org_id: String::new(),
            extension_key: String::new(),
            vendor: String::new(),
            generation: 1,
            has_secret: false,
            secrets: Vec::new(),
            verifier: None,
            must_sign: false,
            has_storage: false,
            reach: Reach::default(),
            values: Values::default(),
            secrets_until: None,
            ended: CancellationToken::new(),
            calls: TaskTracker::new(),
            _held: meter.hold(bytes),
        }
    }
}

/// What reading an installation takes.
#[derive(Clone, Debug)]
pub(super) struct TenantReader {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) providers: Providers,
    pub(super) api_base: Option<Origin>,
    /// The properties that installations hold.
    pub(super) properties: Arc<SharedProperties>,
    /// Counts what is remembered.
    pub(super) meter: Meter,
}

/// Whether an installation serves: live, active, and held by nobody.
pub(super) fn serves(row: &installation::Model) -> bool {
    row.live == 1 && row.state == "active" && row.suspended_by == 0
}

impl TenantReader {
    /// Reads an installation; nothing where there is none, or it does not serve.
    pub(super) async fn read(
        &self,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Tenant>, InvokeError> {
        let reader = self.store.reader();
        let Some(row) = installation::Entity::find_by_id(id).one(reader).await? else {
            return Ok(None);
        };
        if !serves(&row) {
            return Ok(None);
        }
        let version = extension_version::Entity::find_by_id(row.version_id)
            .one(reader)
            .await?
            .ok_or(InvokeError::Unreadable("version"))?;
        let (manifest, stored) = read_manifest(&version)?;
        let extension = extension::Entity::find()
            .filter(extension::Column::ExtensionKey.eq(&row.extension_key))
            .one(reader)
            .await?
            .ok_or(InvokeError::Unreadable("extension"))?;
        let (secrets, has_secret, mut secrets_until) = self.secrets(&row, &version, now).await?;
        let (verifier, until) = self.verifier(&row.extension_key, now).await?;
        secrets_until = [secrets_until, until].into_iter().flatten().min();
        let must_sign = invoke_signer::Entity::find_by_id(row.extension_key.clone())
            .one(reader)
            .await?
            .is_some();
        let owner = properties::Owner { id: extension.id, key: &row.extension_key };
        let values = self.values(&row, &manifest, owner).await?;
        let reach = self.reach(&manifest, &stored, version.id, &values).await?;
        let connectors = reach.connectors.iter().map(|connector| 1 + connector.origins.len());
        let origins = reach.listed.len() + connectors.sum::<usize>();
        let held = self.meter.hold(BARE + values.own_bytes() + origins * ORIGIN);
        Ok(Some(Tenant {
            id,
            org_id: row.org_id,
            extension_key: row.extension_key,
            vendor: extension.vendor,
            generation: row.generation,
            has_secret,
            secrets,
            verifier,
            must_sign,
            has_storage: manifest.storage,
            reach,
            values,
            secrets_until,
            ended: CancellationToken::new(),
            calls: TaskTracker::new(),
            _held: held,
        }))
    }

    /// The `secret` of the serving version and of those that served a short while ago; whether the
    /// serving one has any; until when the others count.
    async fn secrets(
        &self,
        row: &installation::Model,
        serving: &extension_version::Model,
        now: Timestamp,
    ) -> Result<(Vec<SecretText>, bool, Option<Timestamp>), InvokeError> {
        let of = |version: &extension_version::Model| -> Result<_, InvokeError> {
            let mut all = unseal_manifest_secrets(&self.keys, version)?;
            Ok(all.remove("/secret").filter(|secret| !secret.is_empty()))
        };
        let mut secrets: Vec<SecretText> = of(serving)?.into_iter().collect();
        let has_secret = !secrets.is_empty();
        let mut until = None;
        for (id, end) in former_versions::live(&self.store, row.id, now).await? {
            let version =
                extension_version::Entity::find_by_id(id).one(self.store.reader()).await?;
            if let Some(version) = version {
                secrets.extend(of(&version)?);
                until = Some(until.map_or(end, |former: Timestamp| former.min(end)));
            }
        }
        Ok((secrets, has_secret, until))
    }

    async fn verifier(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<(Option<Verifier>, Option<Timestamp>), InvokeError> {
        let rows = signing_secret::Entity::find()
            .filter(signing_secret::Column::ExtensionKey.eq(key))
            .order_by_desc(signing_secret::Column::Id)
            .all(self.store.reader())
            .await?;
        let mut secrets: Vec<SigningSecret> = Vec::new();
        let mut until: Option<Timestamp> = None;
        for row in rows {
            let expires = row.expires_at.map(Timestamp::from_micros);
            if expires.is_some_and(|expires| expires <= now) {
                continue;
            }
            secrets.push(unseal_signing_secret(&self.keys, &row)?);
            until = [until, expires].into_iter().flatten().min();
        }
        let verifier = if secrets.is_empty() { None } else { Some(Verifier::new(&secrets, [])?) };
        Ok((verifier, until))
    }

    /// What placeholders stand for.
    async fn values(
        &self,
        row: &installation::Model,
        manifest: &Manifest,
        owner: properties::Owner<'_>,
    ) -> Result<Values, InvokeError> {
        let mut values = Values::new(self.properties(owner).await?);
        values.add("installationId", Value::Open(row.id.to_string()));
        let open: Map<String, Json> =
            serde_json::from_str(&row.config).map_err(|_| InvokeError::Unreadable("config"))?;
        for (name, value) in open {
            if let Some(text) = text_of(&value) {
                values.add(name, Value::Open(text));
            }
        }
        if let Some(sealed) = &row.sealed_config {
            let place = AssociatedData { subject: row.id, field: "config" };
            let text = self.keys.ring.unseal(Purpose::Vault, &place, sealed)?;
            let secure: Map<String, Json> = serde_json::from_slice(text.expose())
                .map_err(|_| InvokeError::Unreadable("config"))?;
            for (name, value) in secure {
                if let Some(text) = text_of(&value) {
                    values.add(name, Value::Secret(SecretText::new(text)));
                }
            }
        }
        for parameter in &manifest.parameters {
            if let Some(text) = parameter.default.as_ref().and_then(text_of) {
                let value = if parameter.secure {
                    Value::Secret(SecretText::new(text))
                } else {
                    Value::Open(text)
                };
                values.add(&parameter.name, value);
            }
        }
        Ok(values)
    }

    async fn properties(
        &self,
        owner: properties::Owner<'_>,
    ) -> Result<Arc<Properties>, InvokeError> {
        let rows = properties::values(&self.store, owner, &self.keys).await?;
        let value = |value| match value {
            properties::Value::Open(text) => Value::Open(text),
            properties::Value::Secret(secret) => Value::Secret(secret),
        };
        let values: BTreeMap<_, _> =
            rows.into_iter().map(|(name, found)| (name, value(found))).collect();
        Ok(self.properties.share(owner.key, values))
    }

    /// What the installation may call.
    async fn reach(
        &self,
        manifest: &Manifest,
        stored: &Json,
        version_id: Uuid,
        values: &Values,
    ) -> Result<Reach, InvokeError> {
        let is_operators = |name: &str| self.providers.has(name);
        let (mut host, mut connectors) = (None, Vec::new());
        for declared in oauth::declared_connections(manifest, stored, version_id, is_operators) {
            if declared.is_host() {
                let link_name = manifest.authorisation.as_ref();
                host = Some(DeclaredConnection {
                    name: HOST_CONNECTION.to_owned(),
                    link_name: link_name.and_then(|declared| declared.connection_link_name.clone()),
                    service: declared.service.name,
                    origins: self.api_base.iter().cloned().collect(),
                    is_operators: true,
                });
                continue;
            }
            let (origins, is_operators) = self.providers.reach_of(&declared.service).await?;
            connectors.push(DeclaredConnection {
                link_name: Some(declared.name.clone()),
                name: declared.name,
                service: declared.service.name,
                origins,
                is_operators,
            });
        }
        let listed =
            listed_origins(&manifest.white_listed_domains, &mut Filling::new(values, false));
        Ok(Reach { api_base: self.api_base.clone(), host, connectors, listed })
    }
}

/// A parameter's value as text; nothing where it has none.
fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn read_manifest(version: &extension_version::Model) -> Result<(Manifest, Json), InvokeError> {
    let unreadable = |_| InvokeError::Unreadable("package");
    let manifest = serde_json::from_str(&version.manifest).map_err(unreadable)?;
    let resources = serde_json::from_str(&version.resources).map_err(unreadable)?;
    let package = CheckedPackage::from_stored(&manifest, &resources)
        .map_err(|_| InvokeError::Unreadable("package"))?;
    Ok((package.manifest, manifest))
}
