//! The rows of data keys while one takes the place of another.
//!
//! A new key is introduced: it opens, and nobody seals with it. It is activated when every node knows
//! it, and the older ones are retired when nothing is sealed with them any more. The jobs that lead
//! through this are in the room `rotation`.

use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::key_store::FINGERPRINT;
use super::{KeyId, KeyRing, KeyStoreError, Keys, MasterKey, Purpose};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{data_key, setting};
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};

/// A data key, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataKeyView {
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// Its number.
    pub(crate) id: KeyId,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// Whether it may seal.
    pub(crate) seals: bool,
}

/// The data keys, the newest of each purpose first.
pub(crate) async fn data_keys(store: &Store) -> Result<Vec<DataKeyView>, KeyStoreError> {
    let rows = data_key::Entity::find()
        .order_by_asc(data_key::Column::Purpose)
        .order_by_desc(data_key::Column::Id)
        .all(store.reader())
        .await
        .map_err(StoreError::from)?;
    rows.into_iter()
        .map(|row| {
            let (Ok(purpose), Ok(id)) = (row.purpose.parse::<Purpose>(), u32::try_from(row.id))
            else {
                return Err(KeyStoreError::Unreadable { what: "its purpose or id" });
            };
            let created_at = Timestamp::from_micros(row.created_at);
            Ok(DataKeyView { purpose, id: KeyId(id), created_at, seals: row.seals != 0 })
        })
        .collect()
}

/// Takes the lock under which data keys are made and wrapped; true where this process has the master
/// key that wraps them now.
async fn master_of(work: &UnitOfWork, keys: &Keys) -> Result<MasterKey, KeyStoreError> {
    let kept = setting::Entity::find_by_id(FINGERPRINT)
        .lock_exclusive()
        .one(work.connection())
        .await
        .map_err(StoreError::from)?
        .ok_or(KeyStoreError::Unreadable { what: "the fingerprint of the master key" })?;
    // Read now and not kept: it may have been replaced since this process started.
    let master = MasterKey::load(&keys.master_file)?;
    let found = master.fingerprint()?;
    if kept.value != found {
        return Err(KeyStoreError::OtherMasterKey {
            path: keys.master_file.display().to_string(),
            found,
            expected: kept.value,
        });
    }
    Ok(master)
}

/// Makes a data key that opens and does not seal yet. Every node takes it before the change counts as
/// applied.
pub(crate) async fn introduce_data_key(
    work: &mut UnitOfWork,
    keys: &Keys,
    purpose: Purpose,
    now: Timestamp,
    seam: &Seam,
) -> Result<KeyId, KeyStoreError> {
    let master = master_of(work, keys).await?;
    // The newest of a purpose is never deleted, so that no id is given twice.
    let newest = data_key::Entity::find()
        .order_by_desc(data_key::Column::Id)
        .one(work.connection())
        .await
        .map_err(StoreError::from)?
        .map_or(0, |row| row.id);
    let id = newest
        .checked_add(1)
        .and_then(|id| u32::try_from(id).ok())
        .ok_or(KeyStoreError::Unreadable { what: "its purpose or id" })?;
    let wrapped = KeyRing::generate_wrapped(purpose, KeyId(id), &master, &seam.randomness)?;
    data_key::Entity::insert(data_key::ActiveModel {
        id: Set(newest + 1),
        purpose: Set(purpose.as_str().to_owned()),
        wrapped: Set(wrapped.bytes),
        created_at: Set(now.micros()),
        seals: Set(0),
    })
    .exec_without_returning(work.connection())
    .await
    .map_err(StoreError::from)?;
    work.routing_changed(RoutingChange::Keys);
    Ok(KeyId(id))
}

/// Lets a key seal that every node knows.
pub(crate) async fn activate_data_key(
    work: &mut UnitOfWork,
    purpose: Purpose,
    id: i32,
) -> Result<(), StoreError> {
    data_key::Entity::update_many()
        .col_expr(data_key::Column::Seals, Expr::value(1))
        .filter(data_key::Column::Purpose.eq(purpose.as_str()))
        .filter(data_key::Column::Id.eq(id))
        .exec(work.connection())
        .await?;
    work.routing_changed(RoutingChange::Keys);
    Ok(())
}

/// Deletes the keys of a purpose that are older than one. What they sealed is lost from then on.
pub(crate) async fn retire_data_keys(
    work: &mut UnitOfWork,
    purpose: Purpose,
    than: i32,
) -> Result<u64, StoreError> {
    let deleted = data_key::Entity::delete_many()
        .filter(data_key::Column::Purpose.eq(purpose.as_str()))
        .filter(data_key::Column::Id.lt(than))
        .exec(work.connection())
        .await?;
    work.routing_changed(RoutingChange::Keys);
    Ok(deleted.rows_affected)
}
