//! The keys at rest: the master key's file, and the wrapped keys in the database.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sea_orm::{ActiveValue::Set, EntityTrait};
use uuid::Uuid;

use super::{
    AssociatedData, CryptoError, JwtSigningKey, KeyId, KeyRing, MasterKey, Purpose, SecretBytes,
    SigningKeys, WrappedKey, key_rotation,
};
use crate::seam::Seam;
use crate::store::entity::{data_key, setting};
use crate::store::{Store, StoreError};

pub(super) const FINGERPRINT: &str = "master_key_fingerprint";
const JWT_KEY: &str = "jwt_signing_key";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The database was sealed with another master key.
    #[error(
        "the master key in {path} is not the one that this database was sealed with (its \
         fingerprint is {found}, the database says {expected}): bring the right file, or restore it \
         from the backup that belongs to this database"
    )]
    OtherMasterKey {
        /// The file.
        path: String,
        /// The fingerprint of the file's key.
        found: String,
        /// The fingerprint that the database keeps.
        expected: String,
    },
    /// The file is not there, but the database has keys already.
    #[error(
        "the database's keys are sealed by the master key {expected}, and there is no file {path}: \
         copy `master.key` there from another node or from your backup"
    )]
    MasterKeyMissing {
        /// The file.
        path: String,
        /// The fingerprint that the database keeps.
        expected: String,
    },
    /// The keys could not be read or made.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key's folder cannot be made.
    #[error("the folder {path} for the master key cannot be made: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// What is kept of a key cannot be read.
    #[error("a key in the database cannot be read: {what}")]
    Unreadable {
        /// Which.
        what: &'static str,
    },
}

/// The keys of a running process.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Seals and unseals.
    pub ring: KeyRing,
    /// Sign for the platform.
    pub signing: SigningKeys,
    /// Whether the master key was made just now.
    pub master_key_is_new: bool,
}

/// Opens the keys; a database without any gets its first ones.
pub async fn open_keys(
    store: &Store,
    master_file: &Path,
    seam: &Seam,
) -> Result<Keys, KeyStoreError> {
    loop {
        match open_once(store, master_file, seam).await {
            // Another node made the keys at the same moment: read those.
            Err(KeyStoreError::Store(StoreError::Conflict)) => {}
            outcome => return outcome,
        }
    }
}

/// Makes a folder that only its owner can enter; one that is there stays as it is.
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

async fn open_once(store: &Store, master_file: &Path, seam: &Seam) -> Result<Keys, KeyStoreError> {
    let kept = setting::Entity::find_by_id(FINGERPRINT)
        .one(store.reader())
        .await
        .map_err(StoreError::from)?;
    let is_there = master_file.exists();
    if let Some(row) = &kept
        && !is_there
    {
        return Err(KeyStoreError::MasterKeyMissing {
            path: master_file.display().to_string(),
            expected: row.value.clone(),
        });
    }
    let master_key_is_new = kept.is_none() && !is_there;
    let master = if master_key_is_new {
        if let Some(folder) = master_file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_private_folder(folder).map_err(|source| KeyStoreError::Folder {
                path: folder.display().to_string(),
                source,
            })?;
        }
        MasterKey::create(master_file, &seam.randomness)?
    } else {
        MasterKey::load(master_file)?
    };
    let found = master.fingerprint()?;
    match kept {
        Some(row) if row.value != found => {
            return Err(KeyStoreError::OtherMasterKey {
                path: master_file.display().to_string(),
                found,
                expected: row.value,
            });
        }
        Some(_) => {}
        None => make_first_keys(store, &master, found, seam).await?,
    }
    let wrapped = data_key::Entity::find()
        .all(store.reader())
        .await
        .map_err(StoreError::from)?
        .into_iter()
        .map(read_wrapped)
        .collect::<Result<Vec<_>, _>>()?;
    let ring = KeyRing::open(wrapped, &master)?;
    let signing = key_rotation::open_signing_keys(store, &ring, seam).await?;
    Ok(Keys { ring, signing, master_key_is_new })
}

/// A data key of the table, still wrapped.
pub(super) fn read_wrapped(row: data_key::Model) -> Result<WrappedKey, KeyStoreError> {
    let (Ok(purpose), Ok(id)) = (row.purpose.parse::<Purpose>(), u32::try_from(row.id)) else {
        return Err(KeyStoreError::Unreadable { what: "its purpose or id" });
    };
    Ok(WrappedKey { purpose, id: KeyId(id), bytes: row.wrapped })
}

impl Keys {
    /// Reads the signing keys anew, for everybody who has a clone of these.
    pub async fn reload(&self, store: &Store) -> Result<(), KeyStoreError> {
        let held = key_rotation::read_signing_keys(store, &self.ring).await?;
        Ok(self.signing.replace(held)?)
    }
}

/// The key that signed tokens before there was a table of signing keys. A database still gets one
/// there, so that nodes of the former release, which know no other place, can start beside.
pub(super) async fn former_jwt_key(
    store: &Store,
    ring: &KeyRing,
) -> Result<SecretBytes, KeyStoreError> {
    let row = setting::Entity::find_by_id(JWT_KEY)
        .one(store.reader())
        .await
        .map_err(StoreError::from)?
        .ok_or(KeyStoreError::Unreadable { what: "the key that signs tokens" })?;
    let sealed = STANDARD
        .decode(row.value)
        .map_err(|_| KeyStoreError::Unreadable { what: "the key that signs tokens" })?;
    Ok(ring.unseal(Purpose::Vault, &jwt_place(), &sealed)?)
}

fn jwt_place() -> AssociatedData<'static> {
    AssociatedData { subject: Uuid::nil(), field: JWT_KEY }
}

async fn make_first_keys(
    store: &Store,
    master: &MasterKey,
    fingerprint: String,
    seam: &Seam,
) -> Result<(), KeyStoreError> {
    let now = seam.clock.now();
    let wrapped = Purpose::ALL
        .into_iter()
        .zip(1_u32..)
        .map(|(purpose, id)| {
            KeyRing::generate_wrapped(purpose, KeyId(id), master, &seam.randomness)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let ring = KeyRing::open(wrapped.clone(), master)?;
    let jwt = ring.seal(
        Purpose::Vault,
        &jwt_place(),
        JwtSigningKey::generate()?.expose(),
        &seam.randomness,
    )?;
    let work = store.begin().await?;
    let settings =
        [(FINGERPRINT, fingerprint), (JWT_KEY, STANDARD.encode(jwt))].map(|(name, value)| {
            setting::ActiveModel { name: Set(name.to_owned()), value: Set(value) }
        });
    setting::Entity::insert_many(settings)
        .exec_without_returning(work.connection())
        .await
        .map_err(StoreError::from)?;
    let keys = wrapped.into_iter().map(|key| data_key::ActiveModel {
        id: Set(i32::try_from(key.id.0).unwrap_or(i32::MAX)),
        purpose: Set(key.purpose.as_str().to_owned()),
        wrapped: Set(key.bytes),
        created_at: Set(now.micros()),
    });
    data_key::Entity::insert_many(keys)
        .exec_without_returning(work.connection())
        .await
        .map_err(StoreError::from)?;
    let _settled = work.commit(now).await?;
    Ok(())
}
