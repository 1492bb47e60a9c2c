//! Tokens of users (the reference's extension token, or ZAPI key): with one, a third party posts to
//! an extension on a user's behalf. One for each user of an installation, told once, kept as a
//! digest, dead with the installation and with the user.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::error::ExtensionDataError;
use crate::audit::{self, Actor, Entry};
use crate::crypto::{CryptoError, SecretText};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::user_token;
use crate::store::{Store, StoreError, UnitOfWork};

/// The most tokens of an installation.
pub const MOST: u64 = 10_000;

/// What every token begins with, so that scanners know it.
const PREFIX: &str = "zapi_";
const RANDOM_BYTES: usize = 32;
/// The length of the random part in base64url.
const TEXT_LENGTH: usize = 43;

/// A token without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserToken {
    /// Its id.
    pub id: Uuid,
    /// The installation.
    pub installation_id: Uuid,
    /// The org.
    pub org_id: String,
    /// The extension.
    pub extension_key: String,
    /// The user, as the host names him.
    pub user_id: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<user_token::Model> for UserToken {
    fn from(row: user_token::Model) -> Self {
        Self {
            id: row.id,
            installation_id: row.installation_id,
            org_id: row.org_id,
            extension_key: row.extension_key,
            user_id: row.user_id,
            created_at: Timestamp::from_micros(row.created_at),
        }
    }
}

/// Whose token is made.
#[derive(Clone, Copy, Debug)]
pub struct NewUserToken<'a> {
    /// The installation.
    pub installation_id: Uuid,
    /// Its org.
    pub org_id: &'a str,
    /// Its extension.
    pub extension_key: &'a str,
    /// The user.
    pub user_id: &'a str,
}

fn digest_of(text: &str) -> Vec<u8> {
    // The value has 256 random bits, so a plain digest is enough.
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Makes a user's token; a former one of the same user is dead with it.
pub async fn make(
    work: &UnitOfWork,
    new: NewUserToken<'_>,
    actor: &Actor,
    seam: &Seam,
) -> Result<(UserToken, SecretText), ExtensionDataError> {
    let is_fit = (1..=64).contains(&new.user_id.chars().count())
        && !new.user_id.chars().any(char::is_control);
    if !is_fit {
        let rule = "must have 1 to 64 characters, none a control character";
        return Err(ExtensionDataError::invalid("/userId", rule));
    }
    let replaced = user_token::Entity::delete_many()
        .filter(user_token::Column::InstallationId.eq(new.installation_id))
        .filter(user_token::Column::UserId.eq(new.user_id))
        .exec(work.connection())
        .await?
        .rows_affected;
    let count = user_token::Entity::find()
        .filter(user_token::Column::InstallationId.eq(new.installation_id))
        .count(work.connection())
        .await?;
    if count >= MOST {
        return Err(ExtensionDataError::Full { what: "tokens", most: MOST });
    }
    let bytes = seam.randomness.bytes::<RANDOM_BYTES>().map_err(|_| CryptoError::Randomness)?;
    let value = SecretText::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
    let now = seam.clock.now();
    let row = user_token::Model {
        id: seam.randomness.id(),
        installation_id: new.installation_id,
        org_id: new.org_id.to_owned(),
        extension_key: new.extension_key.to_owned(),
        user_id: new.user_id.to_owned(),
        digest: digest_of(value.expose()),
        created_at: now.micros(),
        created_by: actor.name.clone(),
    };
    user_token::Entity::insert(user_token::ActiveModel {
        id: Set(row.id),
        installation_id: Set(row.installation_id),
        org_id: Set(row.org_id.clone()),
        extension_key: Set(row.extension_key.clone()),
        user_id: Set(row.user_id.clone()),
        digest: Set(row.digest.clone()),
        created_at: Set(row.created_at),
        created_by: Set(row.created_by.clone()),
    })
    .exec_without_returning(work.connection())
    .await?;
    let action = if replaced > 0 { "user-token.rotate" } else { "user-token.make" };
    note(work, &row, action, actor, now, seam).await?;
    Ok((row.into(), value))
}

async fn note(
    work: &UnitOfWork,
    row: &user_token::Model,
    action: &str,
    actor: &Actor,
    now: Timestamp,
    seam: &Seam,
) -> Result<(), StoreError> {
    let entry = Entry {
        chain: &row.org_id,
        action,
        subject: format!("installation:{}", row.installation_id),
        detail: Some(serde_json::json!({ "tokenId": row.id, "userId": row.user_id })),
    };
    audit::append(work, entry, actor, now, &seam.randomness).await
}

/// Revokes a token of an installation. Returns whether there was one.
pub async fn revoke(
    work: &UnitOfWork,
    installation_id: Uuid,
    id: Uuid,
    actor: &Actor,
    seam: &Seam,
) -> Result<bool, ExtensionDataError> {
    let row = user_token::Entity::find_by_id(id)
        .filter(user_token::Column::InstallationId.eq(installation_id))
        .one(work.connection())
        .await?;
    let Some(row) = row else { return Ok(false) };
    user_token::Entity::delete_by_id(id).exec(work.connection()).await?;
    note(work, &row, "user-token.revoke", actor, seam.clock.now(), seam).await?;
    Ok(true)
}

/// Revokes all tokens of a user who left the org. Returns how many there were. Part of the
/// transaction that breaks his connections.
pub async fn user_removed(
    work: &UnitOfWork,
    org_id: &str,
    user_id: &str,
) -> Result<u64, StoreError> {
    let deleted = user_token::Entity::delete_many()
        .filter(user_token::Column::OrgId.eq(org_id))
        .filter(user_token::Column::UserId.eq(user_id))
        .exec(work.connection())
        .await?;
    Ok(deleted.rows_affected)
}

/// Lists the tokens of an installation, the oldest first.
pub async fn list(
    store: &Store,
    installation_id: Uuid,
    after: Option<Uuid>,
    limit: u64,
) -> Result<Vec<UserToken>, StoreError> {
    let mut rows = user_token::Entity::find()
        .filter(user_token::Column::InstallationId.eq(installation_id))
        .order_by_asc(user_token::Column::Id)
        .limit(limit);
    if let Some(after) = after {
        rows = rows.filter(user_token::Column::Id.gt(after));
    }
    Ok(rows.all(store.reader()).await?.into_iter().map(UserToken::from).collect())
}

/// The token with a value. Whoever relies on it asks once more within the transaction.
pub async fn find(store: &Store, value: &str) -> Result<Option<UserToken>, StoreError> {
    find_on(store.reader(), value).await
}

/// The same within the transaction that relies on it.
pub async fn find_within(work: &UnitOfWork, value: &str) -> Result<Option<UserToken>, StoreError> {
    find_on(work.connection(), value).await
}

async fn find_on(
    connection: &impl ConnectionTrait,
    value: &str,
) -> Result<Option<UserToken>, StoreError> {
    let is_token = value.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == TEXT_LENGTH
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    if !is_token {
        return Ok(None);
    }
    let row = user_token::Entity::find()
        .filter(user_token::Column::Digest.eq(digest_of(value)))
        .one(connection)
        .await?;
    Ok(row.map(UserToken::from))
}

pub(super) async fn erase(work: &UnitOfWork, installation_id: Uuid) -> Result<(), StoreError> {
    user_token::Entity::delete_many()
        .filter(user_token::Column::InstallationId.eq(installation_id))
        .exec(work.connection())
        .await?;
    Ok(())
}
