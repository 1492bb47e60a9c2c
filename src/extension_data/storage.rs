//! The key-value store of an installation (reference: extension storage). A key has a JSON object
//! and, where it is to be found with others, a queriable value.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::ExtensionDataError;
use crate::seam::Timestamp;
use crate::store::entity::extension_storage;
use crate::store::{Store, StoreError, UnitOfWork};

/// The longest key and queriable value, in characters (reference).
pub const LONGEST_KEY: usize = 50;
/// The longest value as JSON, in bytes (reference: 5.1 KB).
pub const LONGEST_VALUE: usize = 5_100;
/// The most values that one call writes (reference).
pub const MOST_VALUES: usize = 10;
/// How many values a page has where nothing is asked for (reference).
pub const PAGE: u64 = 20;
/// The most values of a page.
pub const LARGEST_PAGE: u64 = 200;
/// The most keys of an installation.
pub const MOST_KEYS: u64 = 10_000;
/// Writes a minute for each installation (reference).
pub const WRITES_PER_MINUTE: u32 = 50;
/// Reads a minute for each installation (reference).
pub const READS_PER_MINUTE: u32 = 250;
/// Deletions a minute for each installation (reference).
pub const DELETES_PER_MINUTE: u32 = 50;

/// A value under its key, as it is sent and answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoredValue {
    /// Letters, digits and `, _ : -`, 1 to 50.
    pub key: String,
    /// What it is found by together with others; the same characters.
    #[serde(default)]
    pub queriable_value: Option<String>,
    /// A JSON object, at most 5,100 bytes.
    pub value: Map<String, Value>,
}

/// Which values.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StorageQuery {
    /// Of one key.
    #[serde(default)]
    pub key: Option<String>,
    /// With this queriable value.
    #[serde(default)]
    pub queriable_value: Option<String>,
    /// How many are passed over, in the order of keys.
    #[serde(default)]
    pub from: Option<u64>,
    /// How many at the most: 20, up to 200.
    #[serde(default)]
    pub limit: Option<u64>,
}

/// Whether a text can be a key or a queriable value.
fn is_key(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b",_:-".contains(&byte);
    (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(is_fit)
}

const KEY_RULE: &str = "must have 1 to 50 letters, digits or `, _ : -`";

impl StorageQuery {
    /// Checks it. A key or a queriable value must be given where `needs_one`.
    fn check(&self, needs_one: bool) -> Result<(), ExtensionDataError> {
        for (name, text) in [("key", &self.key), ("queriableValue", &self.queriable_value)] {
            if text.as_ref().is_some_and(|text| !is_key(text)) {
                return Err(ExtensionDataError::invalid(name, KEY_RULE));
            }
        }
        if self.limit.is_some_and(|limit| !(1..=LARGEST_PAGE).contains(&limit)) {
            return Err(ExtensionDataError::invalid("limit", "must be from 1 to 200"));
        }
        if self.from.is_some_and(|from| from > MOST_KEYS) {
            return Err(ExtensionDataError::invalid("from", "must be at most 10000"));
        }
        if needs_one && self.key.is_none() && self.queriable_value.is_none() {
            return Err(ExtensionDataError::invalid("key", "or queriableValue is needed"));
        }
        Ok(())
    }
}

/// Reads values, in the order of their keys.
pub async fn read(
    store: &Store,
    installation_id: Uuid,
    query: &StorageQuery,
) -> Result<Vec<StoredValue>, ExtensionDataError> {
    query.check(false)?;
    let mut rows = extension_storage::Entity::find()
        .filter(extension_storage::Column::InstallationId.eq(installation_id))
        .order_by_asc(extension_storage::Column::StorageKey)
        .offset(query.from.unwrap_or(0))
        .limit(query.limit.unwrap_or(PAGE));
    if let Some(key) = &query.key {
        rows = rows.filter(extension_storage::Column::StorageKey.eq(key));
    }
    if let Some(value) = &query.queriable_value {
        rows = rows.filter(extension_storage::Column::QueriableValue.eq(value));
    }
    rows.all(store.reader())
        .await?
        .into_iter()
        .map(|row| {
            let value = serde_json::from_str(&row.value)
                .map_err(|_| ExtensionDataError::Unreadable("value of the store"))?;
            Ok(StoredValue { key: row.storage_key, queriable_value: row.queriable_value, value })
        })
        .collect()
}

/// Checks values that are to be written. `is_list` says how they were sent.
pub fn check(values: &[StoredValue], is_list: bool) -> Result<(), ExtensionDataError> {
    if values.is_empty() || values.len() > MOST_VALUES {
        return Err(ExtensionDataError::invalid("", "must be a value, or a list of 1 to 10"));
    }
    for (index, value) in values.iter().enumerate() {
        let place = |member: &str| {
            if is_list { format!("/{index}/{member}") } else { format!("/{member}") }
        };
        if !is_key(&value.key) {
            return Err(ExtensionDataError::invalid(place("key"), KEY_RULE));
        }
        if value.queriable_value.as_ref().is_some_and(|text| !is_key(text)) {
            return Err(ExtensionDataError::invalid(place("queriableValue"), KEY_RULE));
        }
        let text = serde_json::to_string(&value.value)
            .map_err(|_| ExtensionDataError::Unreadable("value"))?;
        if text.len() > LONGEST_VALUE {
            let message = "must be a JSON object of at most 5100 bytes";
            return Err(ExtensionDataError::invalid(place("value"), message));
        }
        if values[..index].iter().any(|former| former.key == value.key) {
            return Err(ExtensionDataError::invalid(place("key"), "is there twice"));
        }
    }
    Ok(())
}

/// Writes checked values, each in place of the former one under its key.
pub async fn write(
    work: &UnitOfWork,
    installation_id: Uuid,
    values: &[StoredValue],
    now: Timestamp,
) -> Result<(), ExtensionDataError> {
    // In one order everywhere, so that two writers wait for each other and never in a ring.
    let mut sorted: Vec<&StoredValue> = values.iter().collect();
    sorted.sort_unstable_by(|left, right| left.key.cmp(&right.key));
    for value in sorted {
        let row = extension_storage::ActiveModel {
            installation_id: Set(installation_id),
            storage_key: Set(value.key.clone()),
            queriable_value: Set(value.queriable_value.clone()),
            value: Set(Value::Object(value.value.clone()).to_string()),
            updated_at: Set(now.micros()),
        };
        extension_storage::Entity::insert(row)
            .on_conflict(
                OnConflict::columns([
                    extension_storage::Column::InstallationId,
                    extension_storage::Column::StorageKey,
                ])
                .update_columns([
                    extension_storage::Column::QueriableValue,
                    extension_storage::Column::Value,
                    extension_storage::Column::UpdatedAt,
                ])
                .to_owned(),
            )
            .exec_without_returning(work.connection())
            .await?;
    }
    let count = extension_storage::Entity::find()
        .filter(extension_storage::Column::InstallationId.eq(installation_id))
        .count(work.connection())
        .await?;
    if count > MOST_KEYS {
        return Err(ExtensionDataError::Full { what: "keys", most: MOST_KEYS });
    }
    Ok(())
}

/// Deletes the values of a key, or with a queriable value. Returns how many there were.
pub async fn delete(
    work: &UnitOfWork,
    installation_id: Uuid,
    query: &StorageQuery,
) -> Result<u64, ExtensionDataError> {
    query.check(true)?;
    let mut rows = extension_storage::Entity::delete_many()
        .filter(extension_storage::Column::InstallationId.eq(installation_id));
    if let Some(key) = &query.key {
        rows = rows.filter(extension_storage::Column::StorageKey.eq(key));
    }
    if let Some(value) = &query.queriable_value {
        rows = rows.filter(extension_storage::Column::QueriableValue.eq(value));
    }
    Ok(rows.exec(work.connection()).await?.rows_affected)
}

pub(super) async fn erase(work: &UnitOfWork, installation_id: Uuid) -> Result<(), StoreError> {
    extension_storage::Entity::delete_many()
        .filter(extension_storage::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: &str, bytes: usize) -> StoredValue {
        let mut object = Map::new();
        object.insert("v".to_owned(), "x".repeat(bytes.saturating_sub(8)).into());
        StoredValue { key: key.to_owned(), queriable_value: None, value: object }
    }

    #[test]
    fn keys_and_values_follow_the_reference() {
        for good in ["a", "color-red:1", "A_b,9", &"k".repeat(50)] {
            assert!(check(&[value(good, 10)], false).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", "a.b", &"k".repeat(51)] {
            assert!(check(&[value(bad, 10)], false).is_err(), "{bad}");
        }
        assert!(check(&[value("k", 5_100)], false).is_ok());
        assert!(check(&[value("k", 5_101)], false).is_err());
        let many: Vec<_> = (0..10).map(|n| value(&format!("k{n}"), 10)).collect();
        assert!(check(&many, true).is_ok());
        assert!(check(&[many, vec![value("k", 10)]].concat(), true).is_err());
        let twice = check(&[value("k", 10), value("k", 10)], true).unwrap_err();
        assert_eq!(twice.to_string(), "/1/key: is there twice");
        assert!(check(&[], true).is_err());
    }

    #[test]
    fn a_deletion_names_what_it_deletes() {
        assert!(StorageQuery::default().check(true).is_err());
        let key = StorageQuery { key: Some("a".to_owned()), ..StorageQuery::default() };
        assert!(key.check(true).is_ok());
    }
}
