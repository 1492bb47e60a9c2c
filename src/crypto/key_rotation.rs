//! The signing keys at rest, and their rotation while everything runs.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::key_store::former_jwt_key;
use super::signing_keys::{HeldKey, Material};
use super::{
    AssociatedData, CryptoError, Ed25519SigningKey, JwtSigningKey, KeyRing, KeyStoreError, Keys,
    Purpose, SecretBytes, SigningKeys, SigningPurpose,
};
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::signing_key;
use crate::store::{RoutingChange, Store, StoreError, UnitOfWork};

/// The ids of the first keys: fixed, so that nodes that make them at the same time make one.
const FIRST_JWT: Uuid = Uuid::from_u128(1);
const FIRST_ED25519: Uuid = Uuid::from_u128(2);

fn place(id: Uuid) -> AssociatedData<'static> {
    AssociatedData { subject: id, field: "signing-key" }
}

/// Opens the signing keys; a database without any gets its first ones.
pub(super) async fn open_signing_keys(
    store: &Store,
    ring: &KeyRing,
    seam: &Seam,
) -> Result<SigningKeys, KeyStoreError> {
    let held = read_signing_keys(store, ring).await?;
    let has = |purpose: SigningPurpose| {
        held.iter().any(|key| match key.material {
            Material::Jwt(_) => purpose == SigningPurpose::Jwt,
            Material::Ed25519(_) => purpose == SigningPurpose::Ed25519,
        })
    };
    let mut first = Vec::new();
    if !has(SigningPurpose::Jwt) {
        first.push((FIRST_JWT, SigningPurpose::Jwt, former_jwt_key(store, ring).await?));
    }
    if !has(SigningPurpose::Ed25519) {
        first.push((
            FIRST_ED25519,
            SigningPurpose::Ed25519,
            generate(SigningPurpose::Ed25519, seam)?,
        ));
    }
    if first.is_empty() {
        return Ok(SigningKeys::new(held)?);
    }
    let now = seam.clock.now();
    let work = store.begin().await?;
    for (id, purpose, secret) in first {
        let row = sealed_row(ring, id, purpose, &secret, now, seam)?;
        signing_key::Entity::insert(row)
            .on_conflict(OnConflict::column(signing_key::Column::Id).do_nothing().to_owned())
            .exec_without_returning(work.connection())
            .await
            .map_err(StoreError::from)?;
    }
    let _no_routing = work.commit(now).await?;
    Ok(SigningKeys::new(read_signing_keys(store, ring).await?)?)
}

/// Reads the signing keys. One of a purpose that this release does not know is passed over.
pub(super) async fn read_signing_keys(
    store: &Store,
    ring: &KeyRing,
) -> Result<Vec<HeldKey>, KeyStoreError> {
    let rows = signing_key::Entity::find().all(store.reader()).await.map_err(StoreError::from)?;
    let mut held = Vec::with_capacity(rows.len());
    for row in rows {
        let Ok(purpose) = row.purpose.parse::<SigningPurpose>() else { continue };
        let secret = ring.unseal(Purpose::Vault, &place(row.id), &row.sealed)?;
        let material = match purpose {
            SigningPurpose::Jwt => Material::Jwt(Arc::new(JwtSigningKey::load(&secret)?)),
            SigningPurpose::Ed25519 => Material::Ed25519(Arc::new(read_ed25519(&secret)?)),
        };
        held.push(HeldKey {
            id: row.id,
            material,
            created_at: Timestamp::from_micros(row.created_at),
            expires_at: row.expires_at.map(Timestamp::from_micros),
        });
    }
    Ok(held)
}

/// Makes a key. For tokens that takes a tenth of a second or more.
fn generate(purpose: SigningPurpose, seam: &Seam) -> Result<SecretBytes, CryptoError> {
    match purpose {
        SigningPurpose::Jwt => JwtSigningKey::generate(),
        SigningPurpose::Ed25519 => {
            let key = Ed25519SigningKey::generate(&seam.randomness)?;
            Ok(SecretBytes::new(key.encode().expose().as_bytes()))
        }
    }
}

fn sealed_row(
    ring: &KeyRing,
    id: Uuid,
    purpose: SigningPurpose,
    secret: &SecretBytes,
    now: Timestamp,
    seam: &Seam,
) -> Result<signing_key::ActiveModel, CryptoError> {
    let sealed = ring.seal(Purpose::Vault, &place(id), secret.expose(), &seam.randomness)?;
    Ok(signing_key::ActiveModel {
        id: Set(id),
        purpose: Set(purpose.as_str().to_owned()),
        sealed: Set(sealed),
        created_at: Set(now.micros()),
        expires_at: Set(None),
    })
}

/// A key that was made and is not in force yet.
#[derive(Debug)]
pub struct NewSigningKey {
    purpose: SigningPurpose,
    key_id: String,
    secret: SecretBytes,
}

impl NewSigningKey {
    /// Makes a key, on a thread that serves nobody else: it takes a tenth of a second or more. Done
    /// before the transaction begins.
    pub async fn generate(purpose: SigningPurpose, seam: &Seam) -> Result<Self, KeyStoreError> {
        let making = seam.clone();
        let secret = tokio::task::spawn_blocking(move || generate(purpose, &making))
            .await
            .map_err(|_| CryptoError::Library { operation: "making a signing key" })??;
        let key_id = match purpose {
            SigningPurpose::Jwt => JwtSigningKey::load(&secret)?.key_id().to_owned(),
            SigningPurpose::Ed25519 => read_ed25519(&secret)?.public_key().key_id(),
        };
        Ok(Self { purpose, key_id, secret })
    }
}

fn read_ed25519(secret: &SecretBytes) -> Result<Ed25519SigningKey, KeyStoreError> {
    let text = std::str::from_utf8(secret.expose())
        .map_err(|_| KeyStoreError::Unreadable { what: "an Ed25519 signing key" })?;
    Ok(Ed25519SigningKey::parse(text)?)
}

/// What a rotation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The `kid` of the key that signs from now on.
    pub key_id: String,
    /// Until when the former ones are published, and sign where several do.
    pub former_until: Timestamp,
}

/// Puts a new key in force; the former ones of its purpose are published for `overlap` more. With
/// none of it they end at once, as is right for a key that was stolen: what they signed does not
/// count then.
///
/// Every node takes the new key before the change counts as applied.
pub async fn rotate_signing_key(
    work: &mut UnitOfWork,
    keys: &Keys,
    new: &NewSigningKey,
    overlap: Duration,
    actor: &Actor,
    now: Timestamp,
    seam: &Seam,
) -> Result<Rotated, KeyStoreError> {
    let NewSigningKey { purpose, key_id, secret } = new;
    let purpose = *purpose;
    let former_until = now.plus(overlap);
    signing_key::Entity::update_many()
        .col_expr(signing_key::Column::ExpiresAt, Expr::value(former_until.micros()))
        .filter(signing_key::Column::Purpose.eq(purpose.as_str()))
        .filter(
            Condition::any()
                .add(signing_key::Column::ExpiresAt.is_null())
                .add(signing_key::Column::ExpiresAt.gt(former_until.micros())),
        )
        .exec(work.connection())
        .await
        .map_err(StoreError::from)?;
    signing_key::Entity::delete_many()
        .filter(signing_key::Column::Purpose.eq(purpose.as_str()))
        .filter(signing_key::Column::ExpiresAt.lte(now.micros()))
        .exec(work.connection())
        .await
        .map_err(StoreError::from)?;
    let row = sealed_row(&keys.ring, seam.randomness.id(), purpose, secret, now, seam)?;
    signing_key::Entity::insert(row)
        .exec_without_returning(work.connection())
        .await
        .map_err(StoreError::from)?;
    work.routing_changed(RoutingChange::Keys);
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action: "keys.rotate",
        subject: format!("signing-key:{purpose}"),
        detail: Some(serde_json::json!({
            "keyId": key_id, "overlapSeconds": overlap.as_secs(),
        })),
    };
    audit::append(work, entry, actor, now, &seam.randomness).await?;
    Ok(Rotated { key_id: key_id.clone(), former_until })
}
