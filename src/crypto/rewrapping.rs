//! Another master key: the data keys are wrapped anew, and nothing that they seal is touched.
//!
//! Nodes that run hold the data keys themselves and go on undisturbed; the new file is needed at
//! their next start. All of it is one transaction: a crash leaves either the old wrapping or the new.

use std::path::Path;

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::key_store::{FINGERPRINT, read_wrapped};
use super::{KeyStoreError, MasterKey};
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::seam::Seam;
use crate::store::entity::{data_key, setting};
use crate::store::{Store, StoreError};

/// What a rewrapping came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// The fingerprint of the new master key, as the database keeps it from now on.
    pub fingerprint: String,
    /// How many data keys it wraps.
    pub keys: usize,
    /// Whether the new master key was made just now.
    pub is_new: bool,
}

/// Wraps all data keys by the master key in `new_file`, which is made where it is not there. The one
/// in `present_file` must be that of the database.
///
/// # Errors
/// Where a file cannot be used, or is of another database; then nothing was changed.
pub async fn rewrap(
    store: &Store,
    present_file: &Path,
    new_file: &Path,
    actor: &Actor,
    seam: &Seam,
) -> Result<Rewrapped, KeyStoreError> {
    let present = MasterKey::load(present_file)?;
    let found = present.fingerprint()?;
    let is_new = !new_file.exists();
    let new = if is_new {
        MasterKey::create(new_file, &seam.randomness)?
    } else {
        MasterKey::load(new_file)?
    };
    let fingerprint = new.fingerprint()?;
    let now = seam.clock.now();
    let work = store.begin().await?;
    // Under its lock: of two at once the second sees what the first did.
    let kept = setting::Entity::find_by_id(FINGERPRINT)
        .lock_exclusive()
        .one(work.connection())
        .await
        .map_err(StoreError::from)?
        .ok_or(KeyStoreError::Unreadable { what: "the fingerprint of the master key" })?;
    if kept.value != found {
        return Err(KeyStoreError::OtherMasterKey {
            path: present_file.display().to_string(),
            found,
            expected: kept.value,
        });
    }
    let rows = data_key::Entity::find()
        .lock_exclusive()
        .all(work.connection())
        .await
        .map_err(StoreError::from)?;
    let keys = rows.len();
    for row in rows {
        let id = row.id;
        let moved = read_wrapped(row)?.rewrap(&present, &new, &seam.randomness)?;
        data_key::Entity::update_many()
            .col_expr(data_key::Column::Wrapped, Expr::value(moved.bytes))
            .filter(data_key::Column::Id.eq(id))
            .exec(work.connection())
            .await
            .map_err(StoreError::from)?;
    }
    setting::Entity::update_many()
        .col_expr(setting::Column::Value, Expr::value(fingerprint.clone()))
        .filter(setting::Column::Name.eq(FINGERPRINT))
        .exec(work.connection())
        .await
        .map_err(StoreError::from)?;
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action: "keys.rewrap",
        subject: format!("master-key:{fingerprint}"),
        detail: Some(serde_json::json!({ "former": found, "dataKeys": keys })),
    };
    audit::append(&work, entry, actor, now, &seam.randomness).await?;
    let _no_routing = work.commit(now).await?;
    Ok(Rewrapped { fingerprint, keys, is_new })
}
