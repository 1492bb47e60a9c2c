//! Versions that served an installation before: their `secret` counts a while longer, so that a
//! vendor's servers need not all change at the moment of an upgrade.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};
use uuid::Uuid;

use crate::seam::Timestamp;
use crate::store::entity::former_version;
use crate::store::{Store, StoreError, UnitOfWork};

/// For how long the secret of a former version counts.
pub const OVERLAP: Duration = Duration::from_hours(24);

/// How many former versions count at once: the one that served last, however many upgrades there were
/// in a day.
pub const MOST: u32 = 1;

/// Remembers the version that served until now, in the transaction of the step that replaces it.
pub async fn remember(
    work: &UnitOfWork,
    installation_id: Uuid,
    version_id: Uuid,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = former_version::ActiveModel {
        installation_id: Set(installation_id),
        version_id: Set(version_id),
        until: Set(now.plus(OVERLAP).micros()),
    };
    former_version::Entity::insert(row)
        .on_conflict(
            OnConflict::columns([
                former_version::Column::InstallationId,
                former_version::Column::VersionId,
            ])
            .update_column(former_version::Column::Until)
            .to_owned(),
        )
        .exec_without_returning(work.connection())
        .await?;
    Ok(())
}

/// The former versions whose secret counts now, the newest first, each with its end.
pub(crate) async fn live(
    store: &Store,
    installation_id: Uuid,
    now: Timestamp,
) -> Result<Vec<(Uuid, Timestamp)>, StoreError> {
    let rows = former_version::Entity::find()
        .filter(former_version::Column::InstallationId.eq(installation_id))
        .filter(former_version::Column::Until.gt(now.micros()))
        .order_by_desc(former_version::Column::Until)
        .limit(u64::from(MOST))
        .all(store.reader())
        .await?;
    let end = |row: former_version::Model| (row.version_id, Timestamp::from_micros(row.until));
    Ok(rows.into_iter().map(end).collect())
}

pub(super) async fn erase(work: &UnitOfWork, installation_id: Uuid) -> Result<(), StoreError> {
    former_version::Entity::delete_many()
        .filter(former_version::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    Ok(())
}
