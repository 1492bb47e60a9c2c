//! The hold: nothing is delivered by any node until it is released. A restored backup sets it.

use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};
use serde::{Deserialize, Serialize};

use super::database::{Store, UnitOfWork};
use super::entity::setting;
use super::error::StoreError;
use crate::seam::Timestamp;

const SETTING: &str = "deliveries_held";

/// Since when nothing is delivered, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Microseconds since the epoch.
    since: i64,
    /// Why, in words.
    pub reason: String,
}

impl Hold {
    /// Since when.
    pub fn since(&self) -> Timestamp {
        Timestamp::from_micros(self.since)
    }
}

/// Holds everything; nodes obey within a second.
pub async fn hold(work: &UnitOfWork, reason: &str, now: Timestamp) -> Result<(), StoreError> {
    let value = serde_json::to_string(&Hold { since: now.micros(), reason: reason.to_owned() })
        .map_err(|_| StoreError::Corrupt { what: "hold" })?;
    setting::Entity::insert(setting::ActiveModel {
        name: Set(SETTING.to_owned()),
        value: Set(value),
    })
    .on_conflict(
        OnConflict::column(setting::Column::Name).update_column(setting::Column::Value).to_owned(),
    )
    .exec_without_returning(work.connection())
    .await?;
    Ok(())
}

/// Lets everything go; `false` where nothing was held.
pub async fn release(work: &UnitOfWork) -> Result<bool, StoreError> {
    let done = setting::Entity::delete_by_id(SETTING).exec(work.connection()).await?;
    Ok(done.rows_affected == 1)
}

/// The hold, where there is one. One that cannot be read holds all the same.
pub async fn held(store: &Store) -> Result<Option<Hold>, StoreError> {
    let row = setting::Entity::find_by_id(SETTING).one(store.reader()).await?;
    Ok(row.map(|row| {
        serde_json::from_str(&row.value)
            .unwrap_or_else(|_| Hold { since: 0, reason: "the reason cannot be read".to_owned() })
    }))
}
