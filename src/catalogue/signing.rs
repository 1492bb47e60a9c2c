//! The secrets that sign deliveries to an extension, and their rotation without a gap: while a
//! rotation overlaps, every live secret signs.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr,
};

use super::error::CatalogueError;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::{AssociatedData, Keys, Purpose, SecretText, SigningSecret};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::signing_secret;
use crate::store::{RoutingChange, Store, UnitOfWork};
use crate::webhook::unseal_signing_secret;

/// A former secret that still signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiringSecret {
    /// Until when.
    pub until: Timestamp,
}

/// What signs for an extension.
#[derive(Debug)]
pub struct SigningSecrets {
    /// The present one.
    pub secret: SecretText,
    /// Former ones that still sign.
    pub expiring: Vec<ExpiringSecret>,
}

/// Makes a secret for an extension.
pub(super) async fn add_secret(
    work: &UnitOfWork,
    key: &str,
    keys: &Keys,
    seam: &Seam,
) -> Result<SecretText, CatalogueError> {
    let id = seam.randomness.id();
    let text = SigningSecret::generate(&seam.randomness)?.encode();
    let place = AssociatedData { subject: id, field: "signing-secret" };
    let sealed =
        keys.ring.seal(Purpose::Vault, &place, text.expose().as_bytes(), &seam.randomness)?;
    signing_secret::Entity::insert(signing_secret::ActiveModel {
        id: Set(id),
        extension_key: Set(key.to_owned()),
        sealed: Set(sealed),
        created_at: Set(seam.clock.now().micros()),
        expires_at: Set(None),
    })
    .exec_without_returning(work.connection())
    .await?;
    Ok(text)
}

/// Reads what signs for an extension.
pub async fn signing_secrets(
    store: &Store,
    key: &str,
    keys: &Keys,
    now: Timestamp,
) -> Result<SigningSecrets, CatalogueError> {
    let rows = signing_secret::Entity::find()
        .filter(signing_secret::Column::ExtensionKey.eq(key))
        .order_by_desc(signing_secret::Column::Id)
        .all(store.reader())
        .await?;
    let mut secret = None;
    let mut expiring = Vec::new();
    for row in rows {
        match row.expires_at.map(Timestamp::from_micros) {
            None if secret.is_none() => {
                secret = Some(unseal_signing_secret(keys, &row)?.encode());
            }
            Some(until) if until > now => expiring.push(ExpiringSecret { until }),
            _ => {}
        }
    }
    let secret = secret.ok_or(CatalogueError::Unreadable { what: "signing secret" })?;
    Ok(SigningSecrets { secret, expiring })
}

/// Makes a new secret; the former ones sign for `overlap` more. Zero ends them at once.
pub async fn rotate(
    work: &mut UnitOfWork,
    key: &str,
    overlap: Duration,
    keys: &Keys,
    actor: &Actor,
    now: Timestamp,
    seam: &Seam,
) -> Result<SecretText, CatalogueError> {
    let until = now.plus(overlap);
    signing_secret::Entity::update_many()
        .col_expr(signing_secret::Column::ExpiresAt, Expr::value(until.micros()))
        .filter(signing_secret::Column::ExtensionKey.eq(key))
        .filter(
            Condition::any()
                .add(signing_secret::Column::ExpiresAt.is_null())
                .add(signing_secret::Column::ExpiresAt.gt(until.micros())),
        )
        .exec(work.connection())
        .await?;
    signing_secret::Entity::delete_many()
        .filter(signing_secret::Column::ExtensionKey.eq(key))
        .filter(signing_secret::Column::ExpiresAt.lte(now.micros()))
        .exec(work.connection())
        .await?;
    let secret = add_secret(work, key, keys, seam).await?;
    work.routing_changed(RoutingChange::Extension(key.to_owned()));
    audit::append(
        work,
        Entry {
            chain: PLATFORM_CHAIN,
            action: "extension.rotate-secret",
            subject: format!("extension:{key}"),
            detail: Some(serde_json::json!({ "overlapSeconds": overlap.as_secs() })),
        },
        actor,
        now,
        &seam.randomness,
    )
    .await?;
    Ok(secret)
}
