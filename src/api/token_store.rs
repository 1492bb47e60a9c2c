//! API tokens in the database. A token's value is told once and kept only as a digest.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::extract::sha256;
use super::role::{Binding, Role, Scopes};
use crate::audit::{self, Actor, PLATFORM_CHAIN};
use crate::crypto::SecretText;
use crate::identifier::{OrgId, TokenId, VendorKey};
use crate::seam::{Randomness, Seam, Timestamp};
use crate::store::entity::{api_token, setting};
use crate::store::{RoutingChange, RoutingRevision, Store, StoreError, UnitOfWork};

/// How every token begins, so that scanners for leaked secrets find it.
const PREFIX: &str = "mortise_";
const RANDOM_BYTES: usize = 32;
/// 32 bytes in base64url.
const TEXT_LENGTH: usize = 43;

/// The longest name of a token, in characters.
const NAME_LIMIT: usize = 100;

/// The setting that says which token was made at the first start.
const FIRST_TOKEN: &str = "first_operator_token";

pub use crate::config::OPERATOR_TOKEN_FILE;

/// Why a token cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// What was asked for breaks a rule.
    #[error(transparent)]
    Unfit(#[from] UnfitToken),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes, so no token can be made")]
    Randomness,
    /// The file for the first operator token cannot be written.
    #[error("the operator token cannot be written to {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// The rule that a wanted token breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitToken {
    /// The role needs an org.
    #[error("the role {0} needs an org: it is for one org only")]
    OrgMissing(Role),
    /// The role takes no org.
    #[error("the role {0} takes no org")]
    OrgUnwanted(Role),
    /// The role needs a vendor.
    #[error("the role {0} needs a vendor: it is for one vendor only")]
    VendorMissing(Role),
    /// The role takes no vendor.
    #[error("the role {0} takes no vendor")]
    VendorUnwanted(Role),
    /// The name is empty, too long or has control characters.
    #[error("a token's name must have 1 to 100 characters without control characters")]
    Name,
    /// It would have expired before it is made.
    #[error("a token's expiry must lie in the future")]
    Expired,
}

impl UnfitToken {
    /// The field of a request that is at fault.
    pub fn field(self) -> &'static str {
        match self {
            Self::OrgMissing(_) | Self::OrgUnwanted(_) => "/orgId",
            Self::VendorMissing(_) | Self::VendorUnwanted(_) => "/vendor",
            Self::Name => "/name",
            Self::Expired => "/expiresAt",
        }
    }
}

/// A text in the form of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenValue(SecretText);

impl TokenValue {
    fn generate(randomness: &Randomness) -> Result<Self, TokenError> {
        let bytes = randomness.bytes::<RANDOM_BYTES>().map_err(|_| TokenError::Randomness)?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self(SecretText::new(text)))
    }

    /// Checks the form, so that nothing else ever reaches the database.
    pub fn parse(text: &str) -> Option<Self> {
        let random = text.strip_prefix(PREFIX)?;
        let is_base64 =
            random.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        (random.len() == TEXT_LENGTH && is_base64).then(|| Self(SecretText::new(text)))
    }

    /// What the database keeps of it. The value has 256 random bits, so a plain digest is enough.
    pub fn digest(&self) -> [u8; 32] {
        sha256(self.0.expose().as_bytes())
    }

    /// The text, to be told once.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A token that is to be made, checked.
#[derive(Clone, Debug)]
pub struct NewToken {
    role: Role,
    org: Option<OrgId>,
    vendor: Option<VendorKey>,
    scopes: Option<Scopes>,
    name: Option<String>,
    expires_at: Option<Timestamp>,
}

impl NewToken {
    /// A token of a role, bound as the role asks for.
    pub fn new(
        role: Role,
        org: Option<OrgId>,
        vendor: Option<VendorKey>,
    ) -> Result<Self, UnfitToken> {
        match (role.binding(), &org, &vendor) {
            (Binding::Org, None, _) => Err(UnfitToken::OrgMissing(role)),
            (Binding::Vendor, _, None) => Err(UnfitToken::VendorMissing(role)),
            (Binding::Platform | Binding::Vendor, Some(_), _) => Err(UnfitToken::OrgUnwanted(role)),
            (Binding::Platform | Binding::Org, _, Some(_)) => Err(UnfitToken::VendorUnwanted(role)),
            _ => Ok(Self { role, org, vendor, scopes: None, name: None, expires_at: None }),
        }
    }

    /// Narrows it to scopes.
    #[must_use]
    pub fn narrowed(mut self, scopes: Option<Scopes>) -> Self {
        self.scopes = scopes;
        self
    }

    /// Gives it a name for people.
    pub fn named(mut self, name: Option<String>) -> Result<Self, UnfitToken> {
        let is_fit = |name: &String| {
            (1..=NAME_LIMIT).contains(&name.chars().count()) && !name.chars().any(char::is_control)
        };
        if !name.iter().all(is_fit) {
            return Err(UnfitToken::Name);
        }
        self.name = name;
        Ok(self)
    }

    /// Lets it expire.
    pub fn until(mut self, moment: Option<Timestamp>, now: Timestamp) -> Result<Self, UnfitToken> {
        if moment.is_some_and(|moment| moment <= now) {
            return Err(UnfitToken::Expired);
        }
        self.expires_at = moment;
        Ok(self)
    }
}

/// A token as it is known: everything but its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Its role.
    pub role: Role,
    /// Its org, for an admin or viewer.
    pub org: Option<OrgId>,
    /// Its vendor, for a vendor.
    pub vendor: Option<VendorKey>,
    /// What it was narrowed to.
    pub scopes: Option<Scopes>,
    /// Its name.
    pub name: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    fn read(row: api_token::Model) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt { what: "API token" };
        Ok(Self {
            id: TokenId(row.id),
            role: row.role.parse().map_err(|_| corrupt())?,
            org: row.org_id.map(OrgId::new).transpose().map_err(|_| corrupt())?,
            vendor: row.vendor.map(VendorKey::new).transpose().map_err(|_| corrupt())?,
            scopes: Scopes::from_column(&row.scopes).map_err(|_| corrupt())?,
            name: row.name,
            created_at: Timestamp::from_micros(row.created_at),
            expires_at: row.expires_at.map(Timestamp::from_micros),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
        })
    }

    /// Whether it can be used.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|moment| now < moment)
    }
}

/// Makes a token in a transaction. The value is told here and never again.
pub async fn create_in(
    work: &UnitOfWork,
    seam: &Seam,
    new: NewToken,
    actor: &Actor,
    now: Timestamp,
) -> Result<(TokenRecord, TokenValue), TokenError> {
    let value = TokenValue::generate(&seam.randomness)?;
    let record = TokenRecord {
        id: TokenId(seam.randomness.id()),
        role: new.role,
        org: new.org,
        vendor: new.vendor,
        scopes: new.scopes,
        name: new.name,
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    api_token::Entity::insert(api_token::ActiveModel {
        id: Set(record.id.0),
        digest: Set(value.digest().to_vec()),
        role: Set(record.role.as_str().to_owned()),
        org_id: Set(record.org.clone().map(String::from)),
        vendor: Set(record.vendor.clone().map(String::from)),
        scopes: Set(Scopes::column(record.scopes.as_ref())),
        name: Set(record.name.clone()),
        created_at: Set(now.micros()),
        expires_at: Set(record.expires_at.map(Timestamp::micros)),
        revoked_at: Set(None),
    })
    .exec_without_returning(work.connection())
    .await
    .map_err(StoreError::from)?;
    remember(work, &record, "token.create", actor, now, &seam.randomness).await?;
    Ok((record, value))
}

/// Makes a token in a transaction of its own.
pub async fn create_token(
    store: &Store,
    seam: &Seam,
    new: NewToken,
    actor: &Actor,
) -> Result<(TokenRecord, TokenValue), TokenError> {
    let now = seam.clock.now();
    let work = store.begin().await?;
    let made = create_in(&work, seam, new, actor, now).await?;
    let _no_routing = work.commit(now).await?;
    Ok(made)
}

/// Revokes a token for good; the revision must be settled before the caller is answered. Nothing
/// where there is no such token; a second time it changes nothing.
pub async fn revoke_token(
    store: &Store,
    seam: &Seam,
    id: TokenId,
    actor: &Actor,
) -> Result<Option<RoutingRevision>, StoreError> {
    let now = seam.clock.now();
    let mut work = store.begin().await?;
    let row = api_token::Entity::find_by_id(id.0).lock_exclusive().one(work.connection()).await?;
    let Some(record) = row.map(TokenRecord::read).transpose()? else { return Ok(None) };
    if record.revoked_at.is_none() {
        api_token::Entity::update(api_token::ActiveModel {
            id: sea_orm::ActiveValue::Unchanged(id.0),
            revoked_at: Set(Some(now.micros())),
            ..Default::default()
        })
        .exec(work.connection())
        .await?;
        remember(&work, &record, "token.revoke", actor, now, &seam.randomness).await?;
    }
    // Also the second time: its answer must not come before the first one's effect.
    work.routing_changed(RoutingChange::Token(id.to_string()));
    work.commit(now).await.map(Some)
}

async fn remember(
    work: &UnitOfWork,
    record: &TokenRecord,
    action: &str,
    actor: &Actor,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<(), StoreError> {
    let entry = audit::Entry {
        chain: record.org.as_ref().map_or(PLATFORM_CHAIN, OrgId::as_str),
        action,
        subject: format!("token:{}", record.id),
        detail: Some(serde_json::json!({
            "role": record.role,
            "vendor": record.vendor,
            "name": record.name,
        })),
    };
    audit::append(work, entry, actor, now, randomness).await
}

/// Tokens, the newest first, those before an id; revoked ones too.
pub async fn list_tokens(
    store: &Store,
    before: Option<Uuid>,
    rows: u64,
) -> Result<Vec<TokenRecord>, StoreError> {
    let mut query = api_token::Entity::find().order_by_desc(api_token::Column::Id).limit(rows);
    if let Some(before) = before {
        query = query.filter(api_token::Column::Id.lt(before));
    }
    query.all(store.reader()).await?.into_iter().map(TokenRecord::read).collect()
}

/// The token with a digest, live or not.
pub async fn find_by_digest(
    store: &Store,
    digest: &[u8; 32],
) -> Result<Option<TokenRecord>, StoreError> {
    api_token::Entity::find()
        .filter(api_token::Column::Digest.eq(digest.to_vec()))
        .one(store.reader())
        .await?
        .map(TokenRecord::read)
        .transpose()
}

/// The token with an id, live or not.
pub async fn find_by_id(store: &Store, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
    api_token::Entity::find_by_id(id.0)
        .one(store.reader())
        .await?
        .map(TokenRecord::read)
        .transpose()
}

/// Makes the first operator token where the database has no token at all, and writes it to
/// `operator.token` in the data folder, for its owner alone. Returns the file where it did.
pub async fn make_first_operator_token(
    store: &Store,
    seam: &Seam,
    data_dir: &Path,
) -> Result<Option<PathBuf>, TokenError> {
    let now = seam.clock.now();
    let work = store.begin().await?;
    let count =
        api_token::Entity::find().count(work.connection()).await.map_err(StoreError::from)?;
    if count > 0 {
        return Ok(None);
    }
    let new = NewToken::new(Role::Operator, None, None)?.named(Some("first start".to_owned()))?;
    let (record, value) = create_in(&work, seam, new, &Actor::system("first-start"), now).await?;
    // Nodes that start together: the row lets one of them through.
    let mark = setting::ActiveModel {
        name: Set(FIRST_TOKEN.to_owned()),
        value: Set(record.id.to_string()),
    };
    match setting::Entity::insert(mark).exec_without_returning(work.connection()).await {
        Ok(_) => {}
        Err(error) => match StoreError::from(error) {
            StoreError::Conflict => return Ok(None),
            other => return Err(other.into()),
        },
    }
    // The file comes before the commit: a token that nobody knows would lock everybody out, while
    // a file without its token is written anew at the next start.
    let path = data_dir.join(OPERATOR_TOKEN_FILE);
    write_private(&path, value.expose())
        .map_err(|source| TokenError::File { path: path.display().to_string(), source })?;
    let _no_routing = work.commit(now).await?;
    Ok(Some(path))
}

/// Writes a file that its owner alone may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;

    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_of_a_token_is_looked_up() {
        let value = TokenValue::generate(&Randomness::default()).unwrap();
        assert_eq!(TokenValue::parse(value.expose()), Some(value.clone()));
        assert!(!format!("{value:?}").contains(value.expose()));
        let text = value.expose();
        for bad in ["", "mortise_", &text[1..], &format!("{text}A"), &text.replace('m', "M")] {
            assert!(TokenValue::parse(bad).is_none(), "{bad}");
        }
        let padded = format!("mortise_{}", "=".repeat(43));
        assert!(TokenValue::parse(&padded).is_none());
    }

    #[test]
    fn a_role_is_bound_to_what_it_is_for() {
        let org = || Some(OrgId::new("1").unwrap());
        let vendor = || Some(VendorKey::new("v").unwrap());
        for role in Role::ALL.iter().copied() {
            let given = [
                (None, None, Binding::Platform),
                (org(), None, Binding::Org),
                (None, vendor(), Binding::Vendor),
            ];
            for (org, vendor, binding) in given {
                let made = NewToken::new(role, org, vendor);
                assert_eq!(made.is_ok(), role.binding() == binding, "{role}: {made:?}");
            }
            assert!(NewToken::new(role, org(), vendor()).is_err(), "{role}");
        }
    }
}
