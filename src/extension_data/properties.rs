//! Properties of an extension: a text for a name, the same in all orgs. Secret ones are sealed and
//! never shown again.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};
use uuid::Uuid;

use super::error::ExtensionDataError;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::{AssociatedData, Keys, Purpose, SecretText};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::extension_property;
use crate::store::{RoutingChange, Store, UnitOfWork};

/// The longest name.
pub const LONGEST_NAME: usize = 64;
/// The longest value, in bytes.
pub const LONGEST_VALUE: usize = 8_192;
/// The most properties of an extension.
pub const MOST: u64 = 200;

/// The extension whose properties are meant.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its id, which sealed values are bound to.
    pub id: Uuid,
    /// Its key.
    pub key: &'a str,
}

/// A property as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value; none of a secret one.
    pub value: Option<String>,
    /// Whether it is secret.
    pub is_secret: bool,
    /// When it was set.
    pub updated_at: Timestamp,
}

impl From<extension_property::Model> for Property {
    fn from(row: extension_property::Model) -> Self {
        Self {
            name: row.name,
            value: row.value,
            is_secret: row.sealed_value.is_some(),
            updated_at: Timestamp::from_micros(row.updated_at),
        }
    }
}

/// A property as calls use it.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Open(String),
    Secret(SecretText),
}

fn check_name(name: &str) -> Result<(), ExtensionDataError> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic());
    if begins && name.len() <= LONGEST_NAME && name.bytes().all(is_fit) {
        return Ok(());
    }
    let rule = "must begin with a letter and have at most 64 letters, digits or `_ . -`";
    Err(ExtensionDataError::invalid("name", rule))
}

fn field(name: &str) -> String {
    format!("property:{name}")
}

/// Lists properties in the order of their names.
pub async fn list(
    store: &Store,
    key: &str,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Property>, ExtensionDataError> {
    let mut rows = extension_property::Entity::find()
        .filter(extension_property::Column::ExtensionKey.eq(key))
        .order_by_asc(extension_property::Column::Name)
        .limit(limit);
    if let Some(after) = after {
        rows = rows.filter(extension_property::Column::Name.gt(after));
    }
    Ok(rows.all(store.reader()).await?.into_iter().map(Property::from).collect())
}

/// Reads a property.
pub async fn read(
    store: &Store,
    key: &str,
    name: &str,
) -> Result<Option<Property>, ExtensionDataError> {
    let row = extension_property::Entity::find_by_id((key.to_owned(), name.to_owned()))
        .one(store.reader())
        .await?;
    Ok(row.map(Property::from))
}

/// A property to set.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a SecretText,
    /// Whether it is sealed and never shown again.
    pub is_secret: bool,
}

/// Sets a property; the former value is gone.
pub async fn set(
    work: &mut UnitOfWork,
    owner: Owner<'_>,
    new: New<'_>,
    actor: &Actor,
    keys: &Keys,
    seam: &Seam,
) -> Result<Property, ExtensionDataError> {
    let New { name, value, is_secret } = new;
    check_name(name)?;
    if value.expose().len() > LONGEST_VALUE || value.expose().contains('\0') {
        let rule = "must have at most 8192 bytes and no NUL character";
        return Err(ExtensionDataError::invalid("/value", rule));
    }
    let now = seam.clock.now();
    let place = field(name);
    let sealed = if is_secret {
        let place = AssociatedData { subject: owner.id, field: &place };
        let bytes = value.expose().as_bytes();
        Some(keys.ring.seal(Purpose::Vault, &place, bytes, &seam.randomness)?)
    } else {
        None
    };
    let row = extension_property::Model {
        extension_key: owner.key.to_owned(),
        name: name.to_owned(),
        value: (!is_secret).then(|| value.expose().to_owned()),
        sealed_value: sealed,
        updated_at: now.micros(),
        updated_by: actor.name.clone(),
    };
    extension_property::Entity::insert(extension_property::ActiveModel {
        extension_key: Set(row.extension_key.clone()),
        name: Set(row.name.clone()),
        value: Set(row.value.clone()),
        sealed_value: Set(row.sealed_value.clone()),
        updated_at: Set(row.updated_at),
        updated_by: Set(row.updated_by.clone()),
    })
    .on_conflict(
        OnConflict::columns([
            extension_property::Column::ExtensionKey,
            extension_property::Column::Name,
        ])
        .update_columns([
            extension_property::Column::Value,
            extension_property::Column::SealedValue,
            extension_property::Column::UpdatedAt,
            extension_property::Column::UpdatedBy,
        ])
        .to_owned(),
    )
    .exec_without_returning(work.connection())
    .await?;
    let count = extension_property::Entity::find()
        .filter(extension_property::Column::ExtensionKey.eq(owner.key))
        .count(work.connection())
        .await?;
    if count > MOST {
        return Err(ExtensionDataError::Full { what: "properties", most: MOST });
    }
    note(work, owner, "extension.set-property", name, actor, now, seam).await?;
    Ok(row.into())
}

/// Deletes a property. Returns whether there was one.
pub async fn delete(
    work: &mut UnitOfWork,
    owner: Owner<'_>,
    name: &str,
    actor: &Actor,
    seam: &Seam,
) -> Result<bool, ExtensionDataError> {
    let deleted = extension_property::Entity::delete_by_id((owner.key.to_owned(), name.to_owned()))
        .exec(work.connection())
        .await?;
    if deleted.rows_affected == 0 {
        return Ok(false);
    }
    let now = seam.clock.now();
    note(work, owner, "extension.delete-property", name, actor, now, seam).await?;
    Ok(true)
}

/// Writes the audit row, and has every node read the properties anew.
async fn note(
    work: &mut UnitOfWork,
    owner: Owner<'_>,
    action: &str,
    name: &str,
    actor: &Actor,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), ExtensionDataError> {
    work.routing_changed(RoutingChange::Extension(owner.key.to_owned()));
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action,
        subject: format!("extension:{}", owner.key),
        detail: Some(serde_json::json!({ "property": name })),
    };
    audit::append(work, entry, actor, now, &seam.randomness).await?;
    Ok(())
}

/// All properties of an extension with their values, for its calls.
pub(crate) async fn values(
    store: &Store,
    owner: Owner<'_>,
    keys: &Keys,
) -> Result<Vec<(String, Value)>, ExtensionDataError> {
    let rows = extension_property::Entity::find()
        .filter(extension_property::Column::ExtensionKey.eq(owner.key))
        .limit(MOST)
        .all(store.reader())
        .await?;
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let value = match (row.value, row.sealed_value) {
            (Some(value), _) => Value::Open(value),
            (None, Some(sealed)) => {
                let place = field(&row.name);
                let place = AssociatedData { subject: owner.id, field: &place };
                let bytes = keys.ring.unseal(Purpose::Vault, &place, &sealed)?;
                let text = std::str::from_utf8(bytes.expose())
                    .map_err(|_| ExtensionDataError::Unreadable("property"))?;
                Value::Secret(SecretText::new(text))
            }
            (None, None) => return Err(ExtensionDataError::Unreadable("property")),
        };
        values.push((row.name, value));
    }
    Ok(values)
}
