//! Extensions and their versions.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{Call, parameters};
use super::client::Client;
use super::error::Error;
use super::identifiers::{ExtensionId, ExtensionKey, VendorKey};
use super::jobs::RolloutJob;
use super::operation;
use super::page::Pages;
use super::secret::Secret;

/// How long an upload may take.
const UPLOAD_LIMIT: Duration = Duration::from_mins(5);

/// What a package is published as.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PackageIdentity {
    /// The extension's key.
    pub key: ExtensionKey,
    /// Its name, as people see it.
    pub name: String,
    /// The version (SemVer 2.0).
    pub version: String,
    /// The vendor.
    pub vendor: VendorKey,
}

impl PackageIdentity {
    /// A package's identity.
    pub fn new(
        key: ExtensionKey,
        name: impl Into<String>,
        version: impl Into<String>,
        vendor: VendorKey,
    ) -> Self {
        Self { key, name: name.into(), version: version.into(), vendor }
    }
}

/// A version that was published.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Published {
    /// The extension.
    pub extension_id: ExtensionId,
    /// Its key.
    pub key: ExtensionKey,
    /// The version.
    pub version: String,
    /// The digest of its content, `sha256:…`.
    pub digest: String,
    /// The scopes that it asks for.
    pub required_scopes: Vec<String>,
    /// What the checker warns of: `code`, `message`, `file`, `line` …
    pub warnings: Vec<Value>,
}

/// An extension.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Extension {
    /// Its id.
    pub extension_id: ExtensionId,
    /// Its key.
    pub key: ExtensionKey,
    /// Its name.
    pub name: String,
    /// Its vendor.
    pub vendor: VendorKey,
    /// Whether it is suspended in all orgs.
    pub suspended: bool,
    /// Why.
    pub suspended_reason: Option<String>,
    /// Its versions; only where it is asked for by itself.
    pub versions: Option<Vec<VersionSummary>>,
    /// When it was first published, RFC 3339.
    pub created_time: Option<String>,
}

/// A version in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VersionSummary {
    /// The version.
    pub version: String,
    /// The digest of its content.
    pub digest: String,
    /// When it was published.
    pub created_time: Option<String>,
    /// When it was withdrawn.
    pub withdrawn_time: Option<String>,
}

/// A version with what it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Version {
    /// The extension.
    pub key: ExtensionKey,
    /// Its name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The digest of its content.
    pub digest: String,
    /// The manifest, its secrets replaced by a marker.
    pub manifest: Value,
    /// The resources.
    pub resources: Value,
    /// The scopes that it asks for.
    pub required_scopes: Vec<String>,
    /// What the checker warned of.
    pub warnings: Vec<Value>,
    /// When it was published.
    pub created_time: Option<String>,
    /// When it was withdrawn.
    pub withdrawn_time: Option<String>,
}

/// The secret that deliveries of an extension are signed with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SigningSecret {
    /// `whsec_…`.
    pub secret: Secret,
    /// Former secrets that still sign beside it.
    pub expiring: Vec<ExpiringSecret>,
}

/// A former secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExpiringSecret {
    /// Until when it signs, RFC 3339.
    pub until: String,
}

/// An extension after it was suspended or resumed in all orgs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Switched {
    /// Its key.
    pub key: ExtensionKey,
    /// Whether it is suspended now.
    pub suspended: bool,
    /// How many installations that concerns.
    pub installations: u64,
}

/// Which installations a version is rolled out over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RollOutRequest {
    /// In these orgs; all where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_ids: Option<Vec<String>>,
    /// Served by these versions; any where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_versions: Option<Vec<String>>,
    /// How many installations in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Until when consent may be given, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_before: Option<String>,
    /// Whether it only counts.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which part of a list; by itself: all of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limit {
    pub(crate) limit: Option<u16>,
}

impl Client {
    /// Publishes a version: the zip archive of its package. The same content again is no fault.
    pub async fn publish(
        &self,
        identity: &PackageIdentity,
        archive: impl Into<Bytes>,
    ) -> Result<Published, Error> {
        let call = Call::new(self, operation::PUBLISH, &[])?.query(parameters(identity)?);
        self.send(call.archive(archive).within(UPLOAD_LIMIT)).await
    }

    /// The same, and tells meanwhile how many bytes of the archive are on their way; from 0 again where
    /// it is tried once more.
    pub async fn publish_watched(
        &self,
        identity: &PackageIdentity,
        archive: impl Into<Bytes>,
        watch: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Published, Error> {
        let call = Call::new(self, operation::PUBLISH, &[])?.query(parameters(identity)?);
        self.send(call.archive(archive).within(UPLOAD_LIMIT).watched(watch)).await
    }

    /// Lists extensions; a vendor sees its own.
    pub fn extensions(&self) -> Pages<Extension> {
        Pages::of(self, operation::EXTENSIONS, &[], &Limit::default())
    }

    /// Shows an extension with its versions.
    pub async fn extension(&self, key: &ExtensionKey) -> Result<Extension, Error> {
        self.send(Call::new(self, operation::EXTENSION, &[key])?).await
    }

    /// Shows a version.
    pub async fn version(&self, key: &ExtensionKey, version: &str) -> Result<Version, Error> {
        self.send(Call::new(self, operation::VERSION, &[key, &version])?).await
    }

    /// Withdraws a version: it is not installed any more.
    pub async fn withdraw(&self, key: &ExtensionKey, version: &str) -> Result<(), Error> {
        let call = Call::new(self, operation::WITHDRAW, &[key, &version])?;
        self.send_off(call.json(&Nothing {})?).await
    }

    /// Rolls a version out over the installations, as a job.
    pub async fn roll_out(
        &self,
        key: &ExtensionKey,
        version: &str,
        request: &RollOutRequest,
    ) -> Result<RolloutJob, Error> {
        let call = Call::new(self, operation::ROLL_OUT, &[key, &version])?;
        self.send(call.json(request)?).await
    }

    /// Suspends an extension in all orgs; a vendor its own.
    pub async fn suspend_extension(
        &self,
        key: &ExtensionKey,
        reason: &str,
    ) -> Result<Switched, Error> {
        let call = Call::new(self, operation::SUSPEND_EXTENSION, &[key])?;
        self.send(call.json(&Reason { reason })?).await
    }

    /// Lifts the suspension of an extension: each its own.
    pub async fn resume_extension(
        &self,
        key: &ExtensionKey,
        reason: &str,
    ) -> Result<Switched, Error> {
        let call = Call::new(self, operation::RESUME_EXTENSION, &[key])?;
        self.send(call.json(&Reason { reason })?).await
    }

    /// Shows the secret that deliveries of an extension are signed with.
    pub async fn signing_secret(&self, key: &ExtensionKey) -> Result<SigningSecret, Error> {
        self.send(Call::new(self, operation::SIGNING_SECRET, &[key])?).await
    }

    /// Replaces that secret; the old one signs too for this span.
    pub async fn rotate_signing_secret(
        &self,
        key: &ExtensionKey,
        overlap: Duration,
    ) -> Result<SigningSecret, Error> {
        let call = Call::new(self, operation::ROTATE_SIGNING_SECRET, &[key])?;
        self.send(call.json(&Overlap { overlap_seconds: overlap.as_secs() })?).await
    }
}

/// A body without members.
#[derive(Debug, Serialize)]
pub(crate) struct Nothing {}

#[derive(Debug, Serialize)]
struct Reason<'r> {
    reason: &'r str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Overlap {
    overlap_seconds: u64,
}
