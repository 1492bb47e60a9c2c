//! Everything that is sealed in the database: a row here for each column.
//!
//! What is not in this list is lost when its key is retired; a test reads the schema and refuses a
//! sealed column that is missing.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::crypto::{AssociatedData, Purpose};
use crate::store::StoreError;

/// A part of a primary key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPart {
    /// A UUID.
    Uuid(&'static str),
    /// A digest.
    Bytes(&'static str),
    /// A text.
    Text(&'static str),
}

impl KeyPart {
    /// The column's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uuid(name) | Self::Bytes(name) | Self::Text(name) => name,
        }
    }
}

/// A value of a primary key's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyValue {
    /// Of a UUID.
    Uuid(Uuid),
    /// Of a digest.
    Bytes(Vec<u8>),
    /// Of a text.
    Text(String),
}

impl KeyValue {
    fn read(part: KeyPart, row: &QueryResult, index: usize) -> Result<Self, StoreError> {
        Ok(match part {
            KeyPart::Uuid(_) => Self::Uuid(row.try_get_by_index(index)?),
            KeyPart::Bytes(_) => Self::Bytes(row.try_get_by_index(index)?),
            KeyPart::Text(_) => Self::Text(row.try_get_by_index(index)?),
        })
    }

    /// What a statement takes.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Uuid(id) => (*id).into(),
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::Text(text) => text.clone().into(),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Uuid(id) => id.to_string(),
            Self::Bytes(bytes) => STANDARD.encode(bytes),
            Self::Text(text) => text.clone(),
        }
    }

    fn parse(part: KeyPart, text: &str) -> Option<Self> {
        Some(match part {
            KeyPart::Uuid(_) => Self::Uuid(text.parse().ok()?),
            KeyPart::Bytes(_) => Self::Bytes(STANDARD.decode(text).ok()?),
            KeyPart::Text(_) => Self::Text(text.to_owned()),
        })
    }
}

/// How a ciphertext is written in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As it is.
    Bytes,
    /// As text, in base64.
    Base64,
}

impl Encoding {
    /// Reads the first column of a row.
    pub(crate) fn read(self, row: &QueryResult, index: usize) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Bytes => Ok(row.try_get_by_index(index)?),
            Self::Base64 => {
                let text: String = row.try_get_by_index(index)?;
                // What is no base64 is no ciphertext either: it is counted as one that does not open.
                Ok(STANDARD.decode(text).unwrap_or_default())
            }
        }
    }

    /// What a statement takes.
    pub(crate) fn value(self, sealed: &[u8]) -> Value {
        match self {
            Self::Bytes => sealed.to_vec().into(),
            Self::Base64 => STANDARD.encode(sealed).into(),
        }
    }
}

/// What a ciphertext is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The row's own UUID, and a field.
    Row(&'static str),
    /// The installation that the row names, and a field made from the row's own UUID. Releases
    /// before this one bound it to the row alone: that is read too, and sealed anew as it should be.
    Connection(&'static str),
    /// The first half of the digest that is the row's key, and a field.
    Digest(&'static str),
    /// The nil UUID, and a field.
    Nowhere(&'static str),
    /// The extension that a row's key names first, and a field made from what it names second.
    Property,
}

/// What one ciphertext is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    subject: Uuid,
    field: Cow<'static, str>,
    /// What releases before this one bound it to, where that was something else.
    former: Option<(Uuid, &'static str)>,
}

impl Bound {
    /// As the ring takes it.
    pub(crate) fn as_data(&self) -> AssociatedData<'_> {
        AssociatedData { subject: self.subject, field: &self.field }
    }

    /// As the ring took it before, where that was something else.
    pub(crate) fn as_former_data(&self) -> Option<AssociatedData<'static>> {
        self.former.map(|(subject, field)| AssociatedData { subject, field })
    }

    /// All that it may be bound to.
    pub(crate) fn places(&self) -> impl Iterator<Item = AssociatedData<'_>> {
        std::iter::once(self.as_data()).chain(self.as_former_data())
    }
}

/// A column that holds ciphertexts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedColumn {
    /// The table.
    pub(crate) table: &'static str,
    /// The primary key, in its order.
    pub(crate) key: &'static [KeyPart],
    /// The column.
    pub(crate) column: &'static str,
    /// What its ciphertexts are sealed for.
    pub(crate) purpose: Purpose,
    /// What they are bound to.
    pub(crate) place: Place,
    /// How they are written.
    pub(crate) encoding: Encoding,
    /// Which rows hold one, where not all do.
    pub(crate) only: Option<&'static str>,
}

const ID: &[KeyPart] = &[KeyPart::Uuid("id")];
const STATE: &[KeyPart] = &[KeyPart::Bytes("state_digest")];
const SCOPE: &[KeyPart] = &[KeyPart::Bytes("scope")];
const PROPERTY: &[KeyPart] = &[KeyPart::Text("extension_key"), KeyPart::Text("name")];
const NAME: &[KeyPart] = &[KeyPart::Text("name")];

const fn vault(table: &'static str, column: &'static str, field: &'static str) -> SealedColumn {
    SealedColumn {
        table,
        key: ID,
        column,
        purpose: Purpose::Vault,
        place: Place::Row(field),
        encoding: Encoding::Bytes,
        only: None,
    }
}

const fn of_connection(column: &'static str, field: &'static str) -> SealedColumn {
    SealedColumn { place: Place::Connection(field), ..vault("connections", column, field) }
}

const fn of_state(column: &'static str, field: &'static str) -> SealedColumn {
    let place = Place::Digest(field);
    SealedColumn { key: STATE, place, ..vault("authorization_requests", column, field) }
}

/// The id of the extension of a property, as SQL.
const OWNER: &str = "(select e.id from extensions e \
                     where e.extension_key = extension_properties.extension_key)";

/// Every sealed column. Its order is the order in which a rotation walks: a new one comes last.
pub(crate) const SEALED_COLUMNS: &[SealedColumn] = &[
    vault("extension_versions", "sealed_secrets", "manifest-secrets"),
    vault("signing_secrets", "sealed", "signing-secret"),
    vault("signing_keys", "sealed", "signing-key"),
    vault("installations", "sealed_config", "config"),
    vault("installations", "request_digest", "install-request"),
    vault("upgrades", "sealed_config", "upgrade-config"),
    of_state("sealed_verifier", "pkce-verifier"),
    of_state("sealed_url", "authorization-url"),
    of_connection("sealed_access_token", "connection-access-token"),
    of_connection("sealed_refresh_token", "connection-refresh-token"),
    of_connection("sealed_former_refresh_token", "connection-former-refresh-token"),
    vault("revocations", "sealed_token", "revocation"),
    vault("token_exchanges", "sealed", "token-exchange"),
    SealedColumn {
        key: PROPERTY,
        place: Place::Property,
        ..vault("extension_properties", "sealed_value", "property")
    },
    // The key that signed tokens before there was a table of signing keys.
    SealedColumn {
        key: NAME,
        place: Place::Nowhere("jwt_signing_key"),
        encoding: Encoding::Base64,
        only: Some("name = 'jwt_signing_key'"),
        ..vault("settings", "value", "jwt_signing_key")
    },
    SealedColumn {
        key: SCOPE,
        purpose: Purpose::Answers,
        place: Place::Digest("answer"),
        ..vault("kept_answers", "sealed", "answer")
    },
    vault("own_webhooks", "sealed_secret", "own-webhook-secret"),
    vault("own_webhooks", "sealed_credentials", "own-webhook-credentials"),
    vault("own_webhook_former_secrets", "sealed_secret", "own-webhook-former-secret"),
    vault("own_webhook_tokens", "sealed_access_token", "own-webhook-access-token"),
    vault("own_webhook_grants", "sealed_tokens", "own-webhook-grant"),
    vault("own_webhook_authorizations", "sealed_request", "own-webhook-authorization"),
];

impl SealedColumn {
    /// The columns of a purpose, in their order.
    pub(crate) fn of(purpose: Purpose) -> Vec<&'static Self> {
        SEALED_COLUMNS.iter().filter(|column| column.purpose == purpose).collect()
    }

    /// The condition for rows that hold a ciphertext, as SQL.
    pub(crate) fn is_sealed(&self) -> String {
        let column = self.column;
        match self.only {
            None => format!("length({column}) > 0"),
            Some(only) => format!("length({column}) > 0 and {only}"),
        }
    }

    /// The primary key's columns, as SQL.
    pub(crate) fn key_list(&self) -> String {
        self.key.iter().map(|part| part.name()).collect::<Vec<_>>().join(", ")
    }

    /// The condition for rows behind another, whose key is the first parameters, as SQL.
    pub(crate) fn beyond(&self, after: Option<&[KeyValue]>) -> String {
        let Some(after) = after else { return String::new() };
        let places: Vec<String> = (1..=after.len()).map(|number| format!("${number}")).collect();
        format!("and ({}) > ({})", self.key_list(), places.join(", "))
    }

    /// As much of a ciphertext as says which key it was sealed with, as SQL.
    pub(crate) fn beginning(&self) -> String {
        match self.encoding {
            Encoding::Bytes => format!("substr({}, 1, 5)", self.column),
            Encoding::Base64 => self.column.to_owned(),
        }
    }

    /// Reads the primary key from the first columns of a row.
    pub(crate) fn read_key(&self, row: &QueryResult) -> Result<Vec<KeyValue>, StoreError> {
        self.key.iter().enumerate().map(|(index, part)| KeyValue::read(*part, row, index)).collect()
    }

    /// A primary key as a rotation keeps its position.
    pub(crate) fn write_position(key: &[KeyValue]) -> Result<String, StoreError> {
        let parts: Vec<String> = key.iter().map(KeyValue::written).collect();
        serde_json::to_string(&parts).map_err(|_| StoreError::Corrupt { what: "position" })
    }

    /// Reads a position; nothing at the beginning of the table.
    pub(crate) fn read_position(&self, text: &str) -> Result<Option<Vec<KeyValue>>, StoreError> {
        const CORRUPT: StoreError = StoreError::Corrupt { what: "position of a rotation" };
        if text.is_empty() {
            return Ok(None);
        }
        let parts: Vec<String> = serde_json::from_str(text).map_err(|_| CORRUPT)?;
        if parts.len() != self.key.len() {
            return Err(CORRUPT);
        }
        let values = self.key.iter().zip(&parts).map(|(part, text)| KeyValue::parse(*part, text));
        values.collect::<Option<Vec<_>>>().ok_or(CORRUPT).map(Some)
    }

    /// What is selected to open the ciphertext of a row, as SQL; see [`SealedColumn::read_sealed`].
    pub(crate) fn sealed_list(&self) -> String {
        match self.place {
            Place::Property => format!("{}, {OWNER}", self.column),
            Place::Connection(_) => format!("{}, installation_id", self.column),
            Place::Row(_) | Place::Digest(_) | Place::Nowhere(_) => self.column.to_owned(),
        }
    }

    /// Reads a ciphertext and what it is bound to from a row, `index` columns behind its beginning.
    pub(crate) fn read_sealed(
        &self,
        row: &QueryResult,
        index: usize,
        key: &[KeyValue],
    ) -> Result<(Vec<u8>, Bound), StoreError> {
        let owner: Option<Uuid> = match self.place {
            Place::Property | Place::Connection(_) => row.try_get_by_index(index + 1)?,
            Place::Row(_) | Place::Digest(_) | Place::Nowhere(_) => None,
        };
        Ok((self.encoding.read(row, index)?, self.bound(key, owner)?))
    }

    /// What the ciphertext of a row is bound to.
    fn bound(&self, key: &[KeyValue], owner: Option<Uuid>) -> Result<Bound, StoreError> {
        let mut former = None;
        let (subject, field) = match (self.place, key) {
            (Place::Row(field), [KeyValue::Uuid(id)]) => (*id, Cow::Borrowed(field)),
            (Place::Connection(field), [KeyValue::Uuid(id)]) => {
                former = Some((*id, field));
                (owner.unwrap_or_default(), Cow::Owned(format!("{field}:{id}")))
            }
            (Place::Digest(field), [KeyValue::Bytes(digest)]) => {
                let half =
                    digest.first_chunk::<16>().ok_or(StoreError::Corrupt { what: "digest" })?;
                (Uuid::from_bytes(*half), Cow::Borrowed(field))
            }
            (Place::Nowhere(field), _) => (Uuid::nil(), Cow::Borrowed(field)),
            // Without its extension it opens nowhere, and is told of as such.
            (Place::Property, [_, KeyValue::Text(name)]) => {
                (owner.unwrap_or_default(), Cow::Owned(format!("property:{name}")))
            }
            _ => return Err(StoreError::Corrupt { what: "key of a sealed row" }),
        };
        Ok(Bound { subject, field, former })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_were_written() {
        let digest = SealedColumn::of(Purpose::Answers)[0];
        let key = vec![KeyValue::Bytes(vec![0, 255, 7])];
        let text = SealedColumn::write_position(&key).unwrap();
        assert_eq!(digest.read_position(&text).unwrap(), Some(key));
        assert_eq!(digest.read_position("").unwrap(), None);
        for wrong in ["x", "[]", "[\"a\", \"b\"]", "[\"%\"]"] {
            assert!(digest.read_position(wrong).is_err(), "{wrong}");
        }
        let row = SealedColumn::of(Purpose::Vault)[0];
        let key = vec![KeyValue::Uuid(Uuid::from_u128(7))];
        let text = SealedColumn::write_position(&key).unwrap();
        assert_eq!(row.read_position(&text).unwrap(), Some(key));
    }

    #[test]
    fn a_short_digest_stands_for_nothing() {
        let digest = SealedColumn::of(Purpose::Answers)[0];
        assert!(digest.bound(&[KeyValue::Bytes(vec![1; 15])], None).is_err());
        let place = digest.bound(&[KeyValue::Bytes(vec![1; 32])], None).unwrap();
        assert_eq!(place.subject, Uuid::from_bytes([1; 16]));
    }

    /// What is sealed and not in the list would be lost with its key.
    #[tokio::test]
    async fn every_sealed_column_of_the_schema_is_listed() {
        use crate::store::{Backend, Store, StoreOptions};
        use sea_orm::{ConnectionTrait, Statement};

        let folder = tempfile::tempdir().unwrap();
        let backend = Backend::Sqlite { path: folder.path().join("mortise.db") };
        let options = StoreOptions { backend, max_connections: 2, migrate: true };
        let store = Store::open(&options).await.unwrap();
        let sql = "select m.name, c.name, c.pk from sqlite_master m, pragma_table_info(m.name) c
                   where m.type = 'table'";
        let statement = Statement::from_string(store.dialect(), sql);
        let rows = store.reader().query_all_raw(statement).await.unwrap();
        let schema: Vec<(String, String, i64)> = rows
            .iter()
            .map(|row| {
                let text = |index| row.try_get_by_index::<String>(index).unwrap();
                (text(0), text(1), row.try_get_by_index(2).unwrap())
            })
            .collect();
        assert!(schema.len() > 100, "the schema was read");
        let is_listed = |table: &str, column: &str| {
            SEALED_COLUMNS.iter().any(|one| one.table == table && one.column == column)
        };
        for (table, column, _) in &schema {
            let looks_sealed = column.starts_with("sealed") || column == "request_digest";
            assert!(!looks_sealed || is_listed(table, column), "{table}.{column} is not listed");
        }
        for one in SEALED_COLUMNS {
            let is_there = schema.iter().any(|(t, c, _)| t == one.table && c == one.column);
            assert!(is_there, "{}.{} is not in the schema", one.table, one.column);
            let mut key: Vec<_> =
                schema.iter().filter(|(t, _, place)| t == one.table && *place > 0).collect();
            key.sort_by_key(|(_, _, place)| *place);
            let key: Vec<&str> = key.iter().map(|(_, column, _)| column.as_str()).collect();
            let listed: Vec<&str> = one.key.iter().map(|part| part.name()).collect();
            assert_eq!(listed, key, "the primary key of {}", one.table);
        }
        store.close().await.unwrap();
    }

    #[test]
    fn no_column_is_listed_twice() {
        let mut names: Vec<_> =
            SEALED_COLUMNS.iter().map(|column| (column.table, column.column)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
