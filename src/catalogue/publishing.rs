//! Publishing a version: checked before, never changed after.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use secrecy::ExposeSecret as _;
use semver::Version;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::error::CatalogueError;
use super::signing;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::{AssociatedData, Keys, Purpose, SecretText};
use crate::identifier::{ExtensionKey, VendorKey};
use crate::manifest::CheckedPackage;
use crate::seam::Seam;
use crate::store::entity::{extension, extension_version};
use crate::store::{StoreError, UnitOfWork};
use crate::webhook::unseal_manifest_secrets;

/// A version to be published.
#[derive(Debug)]
pub struct NewVersion<'a> {
    /// The extension's key.
    pub key: &'a ExtensionKey,
    /// Its name, as people see it.
    pub name: &'a str,
    /// The version.
    pub version: &'a Version,
    /// The vendor.
    pub vendor: &'a VendorKey,
    /// The package, found to be valid.
    pub package: &'a CheckedPackage,
    /// What the check warned of, as JSON.
    pub warnings: &'a serde_json::Value,
}

/// A published version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The extension.
    pub extension_id: Uuid,
    /// The digest of manifest and resources, without secrets.
    pub digest: String,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// Publishes a version. The same content again is nothing new.
pub async fn publish(
    work: &UnitOfWork,
    new: NewVersion<'_>,
    keys: &Keys,
    actor: &Actor,
    seam: &Seam,
) -> Result<Published, CatalogueError> {
    let now = seam.clock.now();
    let secrets: BTreeMap<&str, &str> = (new.package.secrets().iter())
        .map(|(pointer, secret)| (pointer.as_str(), secret.expose_secret()))
        .collect();
    let digest = String::from(new.package.digest());
    let extension_id = own_extension(work, &new, keys, seam).await?;

    let former = extension_version::Entity::find()
        .filter(extension_version::Column::ExtensionKey.eq(new.key.as_str()))
        .filter(extension_version::Column::Version.eq(new.version.to_string()))
        .one(work.connection())
        .await?;
    if let Some(former) = former {
        let kept = unseal_manifest_secrets(keys, &former)?;
        let same_secrets = kept.len() == secrets.len()
            && secrets.iter().all(|(pointer, secret)| {
                kept.get(*pointer).is_some_and(|kept| *kept == SecretText::new(*secret))
            });
        return if former.digest == digest && same_secrets {
            Ok(Published { extension_id, digest, is_new: false })
        } else {
            Err(CatalogueError::VersionExists {
                key: new.key.to_string(),
                version: former.version,
                digest: former.digest,
            })
        };
    }

    let id = seam.randomness.id();
    let unreadable = |_| CatalogueError::Unreadable { what: "package" };
    let sealed_secrets = if secrets.is_empty() {
        None
    } else {
        let text = Zeroizing::new(serde_json::to_vec(&secrets).map_err(unreadable)?);
        let place = AssociatedData { subject: id, field: "manifest-secrets" };
        Some(keys.ring.seal(Purpose::Vault, &place, &text, &seam.randomness)?)
    };
    extension_version::Entity::insert(extension_version::ActiveModel {
        id: Set(id),
        extension_key: Set(new.key.to_string()),
        version: Set(new.version.to_string()),
        name: Set(new.name.to_owned()),
        digest: Set(digest.clone()),
        manifest: Set(new.package.stripped_manifest().to_string()),
        resources: Set(new.package.resources().to_string()),
        sealed_secrets: Set(sealed_secrets),
        required_scopes: Set(
            serde_json::to_string(new.package.required_scopes()).map_err(unreadable)?
        ),
        warnings: Set(new.warnings.to_string()),
        withdrawn_at: Set(None),
        created_at: Set(now.micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    audit::append(
        work,
        Entry {
            chain: PLATFORM_CHAIN,
            action: "extension.publish",
            subject: format!("extension:{}@{}", new.key, new.version),
            detail: Some(serde_json::json!({ "digest": digest, "vendor": new.vendor.as_str() })),
        },
        actor,
        now,
        &seam.randomness,
    )
    .await?;
    Ok(Published { extension_id, digest, is_new: true })
}

/// The extension that the version belongs to: made with its first signing secret where it is new.
async fn own_extension(
    work: &UnitOfWork,
    new: &NewVersion<'_>,
    keys: &Keys,
    seam: &Seam,
) -> Result<Uuid, CatalogueError> {
    let found = extension::Entity::find()
        .filter(extension::Column::ExtensionKey.eq(new.key.as_str()))
        .lock_exclusive()
        .one(work.connection())
        .await?;
    if let Some(found) = found {
        return if found.vendor == new.vendor.as_str() {
            Ok(found.id)
        } else {
            Err(CatalogueError::KeyTaken { key: new.key.to_string() })
        };
    }
    let id = seam.randomness.id();
    extension::Entity::insert(extension::ActiveModel {
        id: Set(id),
        extension_key: Set(new.key.to_string()),
        vendor: Set(new.vendor.to_string()),
        name: Set(new.name.to_owned()),
        suspended_by: Set(0),
        suspended_at: Set(None),
        suspended_reason: Set(None),
        created_at: Set(seam.clock.now().micros()),
    })
    .exec_without_returning(work.connection())
    .await
    .map_err(StoreError::from)?;
    signing::add_secret(work, new.key.as_str(), keys, seam).await?;
    Ok(id)
}
