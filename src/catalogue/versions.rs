//! Reading extensions and versions, and withdrawing one.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use semver::Version;
use uuid::Uuid;

use super::error::CatalogueError;
use crate::seam::Timestamp;
use crate::store::entity::{extension, extension_version};
use crate::store::{Store, UnitOfWork};

/// An extension.
pub type ExtensionRow = extension::Model;

/// A published version.
pub type VersionRow = extension_version::Model;

/// Reads an extension. `vendor` limits to that vendor's.
pub async fn extension(
    store: &Store,
    key: &str,
    vendor: Option<&str>,
) -> Result<ExtensionRow, CatalogueError> {
    let mut query = extension::Entity::find().filter(extension::Column::ExtensionKey.eq(key));
    if let Some(vendor) = vendor {
        query = query.filter(extension::Column::Vendor.eq(vendor));
    }
    query
        .one(store.reader())
        .await?
        .ok_or_else(|| CatalogueError::UnknownExtension { key: key.to_owned() })
}

/// Reads an extension in the transaction of an installation; the kill switch waits for its end.
pub async fn extension_for_install(
    work: &UnitOfWork,
    key: &str,
) -> Result<ExtensionRow, CatalogueError> {
    extension::Entity::find()
        .filter(extension::Column::ExtensionKey.eq(key))
        .lock_shared()
        .one(work.connection())
        .await?
        .ok_or_else(|| CatalogueError::UnknownExtension { key: key.to_owned() })
}

/// Lists extensions, oldest first. `vendor` limits to that vendor's.
pub async fn extensions(
    store: &Store,
    vendor: Option<&str>,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<ExtensionRow>, CatalogueError> {
    let mut query = extension::Entity::find().order_by_asc(extension::Column::Id).limit(limit);
    if let Some(vendor) = vendor {
        query = query.filter(extension::Column::Vendor.eq(vendor));
    }
    if let Some(after) = after {
        query = query.filter(extension::Column::Id.gt(after));
    }
    Ok(query.all(store.reader()).await?)
}

/// All versions of an extension, newest first by their order of publishing.
pub async fn versions(store: &Store, key: &str) -> Result<Vec<VersionRow>, CatalogueError> {
    Ok(extension_version::Entity::find()
        .filter(extension_version::Column::ExtensionKey.eq(key))
        .order_by_desc(extension_version::Column::Id)
        .all(store.reader())
        .await?)
}

/// Reads one version.
pub async fn version(
    store: &Store,
    key: &str,
    version: &str,
) -> Result<VersionRow, CatalogueError> {
    extension_version::Entity::find()
        .filter(extension_version::Column::ExtensionKey.eq(key))
        .filter(extension_version::Column::Version.eq(version))
        .one(store.reader())
        .await?
        .ok_or_else(|| CatalogueError::UnknownVersion {
            key: key.to_owned(),
            version: version.to_owned(),
        })
}

/// Reads a version by its id.
pub async fn version_by_id(store: &Store, id: Uuid) -> Result<VersionRow, CatalogueError> {
    extension_version::Entity::find_by_id(id)
        .one(store.reader())
        .await?
        .ok_or(CatalogueError::Unreadable { what: "version of an installation" })
}

/// The version to install where none is named: the newest stable one that is not withdrawn.
pub async fn newest_stable(store: &Store, key: &str) -> Result<VersionRow, CatalogueError> {
    let rows = versions(store, key).await?;
    rows.into_iter()
        .filter(|row| row.withdrawn_at.is_none())
        .filter_map(|row| Some((Version::parse(&row.version).ok()?, row)))
        .filter(|(version, _)| version.pre.is_empty())
        .max_by(|(left, _), (right, _)| left.cmp(right))
        .map(|(_, row)| row)
        .ok_or_else(|| CatalogueError::NothingToInstall { key: key.to_owned() })
}

/// Withdraws a version: nobody installs it any more; installations go on with it. Returns whether
/// it was not withdrawn before.
pub async fn withdraw(
    work: &UnitOfWork,
    key: &str,
    version: &str,
    now: Timestamp,
) -> Result<bool, CatalogueError> {
    let row = extension_version::Entity::find()
        .filter(extension_version::Column::ExtensionKey.eq(key))
        .filter(extension_version::Column::Version.eq(version))
        .lock_exclusive()
        .one(work.connection())
        .await?
        .ok_or_else(|| CatalogueError::UnknownVersion {
            key: key.to_owned(),
            version: version.to_owned(),
        })?;
    if row.withdrawn_at.is_some() {
        return Ok(false);
    }
    extension_version::Entity::update_many()
        .col_expr(extension_version::Column::WithdrawnAt, Expr::value(now.micros()))
        .filter(extension_version::Column::Id.eq(row.id))
        .exec(work.connection())
        .await?;
    Ok(true)
}
