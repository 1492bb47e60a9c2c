//! Who may look at the pages: one-time links, and the sessions that they or a token lead to.
//!
//! Both are known by the digest of a random value, lie in the database so that every node knows
//! them, and end with the token that they come from.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use uuid::Uuid;

use super::extract::sha256;
use super::role::{Role, Scopes};
use super::subject;
use super::token_store::{TokenRecord, find_by_id};
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::SecretText;
use crate::identifier::{OrgId, TokenId, VendorKey};
use crate::seam::{Randomness, Seam, Timestamp};
use crate::store::entity::{page_session, portal_link};
use crate::store::{Store, StoreError, UnitOfWork};

/// How long a session lives at the most.
pub const SESSION_LIFE: Duration = Duration::from_hours(12);

/// How many rows one step of pruning removes.
const STEP: u64 = 1_000;

/// 32 bytes in base64url.
const TEXT_LENGTH: usize = 43;

/// The random value of a link or a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSecret(SecretText);

impl PageSecret {
    fn generate(randomness: &Randomness) -> Result<Self, SessionError> {
        let bytes = randomness.bytes::<32>().map_err(|_| SessionError::Randomness)?;
        Ok(Self(SecretText::new(URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Checks the form, so that nothing else ever reaches the database.
    pub fn parse(text: &str) -> Option<Self> {
        let is_base64 =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        (text.len() == TEXT_LENGTH && is_base64).then(|| Self(SecretText::new(text)))
    }

    /// The text, for the link or the cookie.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What the database keeps of it: 256 random bits need no more than a digest.
    fn digest(&self) -> [u8; 32] {
        sha256(self.0.expose().as_bytes())
    }

    /// What every form of the session carries: follows from the cookie, and does not lead back to it.
    pub fn form_token(&self) -> String {
        let text = [b"form\0", self.0.expose().as_bytes()].concat();
        URL_SAFE_NO_PAD.encode(sha256(&text))
    }
}

/// Why a link or session cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes, so no session can begin")]
    Randomness,
}

impl From<sea_orm::DbErr> for SessionError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

impl From<SessionError> for super::problem::Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            SessionError::Randomness => Self::internal(&error),
        }
    }
}

/// As whom somebody looks at the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The role.
    pub role: Role,
    /// The org, for an admin or viewer.
    pub org: Option<OrgId>,
    /// The vendor, for a vendor.
    pub vendor: Option<VendorKey>,
    /// What the token was narrowed to.
    pub scopes: Option<Scopes>,
    /// Who it is, as the host names him; nobody in particular where a token was pasted.
    pub subject: Option<String>,
    /// What he is called.
    pub display_name: Option<String>,
}

impl Visitor {
    /// The chain of the audit that his coming and going belongs to.
    fn chain(&self) -> &str {
        self.org.as_ref().map_or(PLATFORM_CHAIN, OrgId::as_str)
    }

    fn detail(&self) -> serde_json::Value {
        serde_json::json!({
            "role": self.role,
            "vendor": self.vendor,
            "subject": self.subject,
        })
    }
}

/// A session that lives.
#[derive(Clone, Debug)]
pub struct PageSession {
    /// Its id.
    pub id: Uuid,
    /// As whom.
    pub visitor: Visitor,
    /// The token that it comes from.
    pub token: TokenId,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// The parts of a visitor as columns hold them.
type Columns = (String, Option<String>, Option<String>);

fn columns(visitor: &Visitor) -> Columns {
    (
        visitor.role.as_str().to_owned(),
        visitor.org.clone().map(String::from),
        visitor.vendor.clone().map(String::from),
    )
}

fn visitor(
    (role, org, vendor): Columns,
    scopes: &str,
    subject: Option<String>,
    display_name: Option<String>,
) -> Result<Visitor, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "session" };
    Ok(Visitor {
        role: role.parse().map_err(|_| corrupt())?,
        org: org.map(OrgId::new).transpose().map_err(|_| corrupt())?,
        vendor: vendor.map(VendorKey::new).transpose().map_err(|_| corrupt())?,
        scopes: Scopes::from_column(scopes).map_err(|_| corrupt())?,
        subject,
        display_name,
    })
}

/// Makes a link. Its value is told here and never again.
pub async fn make_link(
    work: &UnitOfWork,
    seam: &Seam,
    visitor: &Visitor,
    token: TokenId,
    life: Duration,
    actor: &Actor,
) -> Result<(PageSecret, Timestamp), SessionError> {
    let secret = PageSecret::generate(&seam.randomness)?;
    let now = seam.clock.now();
    let expires_at = now.plus(life);
    let id = seam.randomness.id();
    let (role, org_id, vendor) = columns(visitor);
    portal_link::Entity::insert(portal_link::ActiveModel {
        id: Set(id),
        digest: Set(secret.digest().to_vec()),
        role: Set(role),
        org_id: Set(org_id),
        vendor: Set(vendor),
        subject: Set(visitor.subject.clone().unwrap_or_default()),
        display_name: Set(visitor.display_name.clone()),
        token_id: Set(token.0),
        created_at: Set(now.micros()),
        expires_at: Set(expires_at.micros()),
        used_at: Set(None),
    })
    .exec_without_returning(work.connection())
    .await?;
    let entry = Entry {
        chain: visitor.chain(),
        action: "portal-link.create",
        subject: format!("portal-link:{id}"),
        detail: Some(visitor.detail()),
    };
    audit::append(work, entry, actor, now, &seam.randomness).await?;
    Ok((secret, expires_at))
}

fn visitor_of(link: &portal_link::Model) -> Result<Visitor, StoreError> {
    visitor(
        (link.role.clone(), link.org_id.clone(), link.vendor.clone()),
        "",
        Some(link.subject.clone()),
        link.display_name.clone(),
    )
}

/// As whom a link lets in; nothing where it is unknown, used, expired, or its token is revoked.
/// Looking does not use it up.
pub async fn look_at_link(
    store: &Store,
    secret: &PageSecret,
    now: Timestamp,
) -> Result<Option<Visitor>, StoreError> {
    let link = portal_link::Entity::find()
        .filter(portal_link::Column::Digest.eq(secret.digest().to_vec()))
        .one(store.reader())
        .await?;
    let Some(link) = link.filter(|link| link.used_at.is_none() && link.expires_at > now.micros())
    else {
        return Ok(None);
    };
    let token = find_by_id(store, TokenId(link.token_id)).await?;
    if !token.is_some_and(|token| token.is_live(now)) {
        return Ok(None);
    }
    visitor_of(&link).map(Some)
}

/// Uses a link up, and begins the session that it leads to.
pub async fn use_link(
    store: &Store,
    seam: &Seam,
    secret: &PageSecret,
    address: Option<std::net::IpAddr>,
) -> Result<Option<(PageSecret, PageSession)>, SessionError> {
    let now = seam.clock.now();
    if look_at_link(store, secret, now).await?.is_none() {
        return Ok(None);
    }
    let work = store.begin().await?;
    let link = portal_link::Entity::find()
        .filter(portal_link::Column::Digest.eq(secret.digest().to_vec()))
        .filter(portal_link::Column::UsedAt.is_null())
        .filter(portal_link::Column::ExpiresAt.gt(now.micros()))
        .lock_exclusive()
        .one(work.connection())
        .await?;
    let Some(link) = link else {
        work.rollback().await?;
        return Ok(None);
    };
    let used = portal_link::Entity::update_many()
        .col_expr(portal_link::Column::UsedAt, Expr::value(now.micros()))
        .filter(portal_link::Column::Id.eq(link.id))
        .filter(portal_link::Column::UsedAt.is_null())
        .exec(work.connection())
        .await?;
    if used.rows_affected != 1 {
        work.rollback().await?;
        return Ok(None);
    }
    let begun = insert_session(
        &work,
        seam,
        visitor_of(&link)?,
        TokenId(link.token_id),
        now.plus(SESSION_LIFE),
        address,
    )
    .await?;
    let _no_routing = work.commit(now).await?;
    Ok(Some(begun))
}

/// Begins a session for the holder of a token, whose role has pages.
pub async fn begin_by_token(
    store: &Store,
    seam: &Seam,
    token: &TokenRecord,
    address: Option<std::net::IpAddr>,
) -> Result<(PageSecret, PageSession), SessionError> {
    let now = seam.clock.now();
    let longest = now.plus(SESSION_LIFE);
    let visitor = Visitor {
        role: token.role,
        org: token.org.clone(),
        vendor: token.vendor.clone(),
        scopes: token.scopes.clone(),
        subject: None,
        display_name: token.name.clone(),
    };
    let until = token.expires_at.map_or(longest, |until| until.min(longest));
    let work = store.begin().await?;
    let begun = insert_session(&work, seam, visitor, token.id, until, address).await?;
    let _no_routing = work.commit(now).await?;
    Ok(begun)
}

async fn insert_session(
    work: &UnitOfWork,
    seam: &Seam,
    visitor: Visitor,
    token: TokenId,
    expires_at: Timestamp,
    address: Option<std::net::IpAddr>,
) -> Result<(PageSecret, PageSession), SessionError> {
    let secret = PageSecret::generate(&seam.randomness)?;
    let now = seam.clock.now();
    let session = PageSession { id: seam.randomness.id(), visitor, token, expires_at };
    let visitor = &session.visitor;
    let (role, org_id, vendor) = columns(visitor);
    page_session::Entity::insert(page_session::ActiveModel {
        id: Set(session.id),
        digest: Set(secret.digest().to_vec()),
        role: Set(role),
        org_id: Set(org_id),
        vendor: Set(vendor),
        scopes: Set(Scopes::column(visitor.scopes.as_ref())),
        subject: Set(visitor.subject.clone()),
        display_name: Set(visitor.display_name.clone()),
        token_id: Set(token.0),
        created_at: Set(now.micros()),
        expires_at: Set(expires_at.micros()),
    })
    .exec_without_returning(work.connection())
    .await?;
    remember(work, seam, &session, "session.begin", address).await?;
    Ok((secret, session))
}

async fn remember(
    work: &UnitOfWork,
    seam: &Seam,
    session: &PageSession,
    action: &str,
    address: Option<std::net::IpAddr>,
) -> Result<(), StoreError> {
    let visitor = &session.visitor;
    let entry = Entry {
        chain: visitor.chain(),
        action,
        subject: format!("session:{}", session.id),
        detail: Some(visitor.detail()),
    };
    let name = subject::actor_name(visitor.role, visitor.subject.as_deref(), session.token);
    let actor = Actor { name, address };
    audit::append(work, entry, &actor, seam.clock.now(), &seam.randomness).await
}

/// The session of a cookie; nothing where it is unknown or over, or its token is revoked.
pub async fn find_session(
    store: &Store,
    secret: &PageSecret,
    now: Timestamp,
) -> Result<Option<PageSession>, StoreError> {
    let row = page_session::Entity::find()
        .filter(page_session::Column::Digest.eq(secret.digest().to_vec()))
        .one(store.reader())
        .await?;
    let Some(row) = row.filter(|row| row.expires_at > now.micros()) else { return Ok(None) };
    let token = find_by_id(store, TokenId(row.token_id)).await?;
    if !token.is_some_and(|token| token.is_live(now)) {
        return Ok(None);
    }
    Ok(Some(PageSession {
        id: row.id,
        visitor: visitor(
            (row.role, row.org_id, row.vendor),
            &row.scopes,
            row.subject,
            row.display_name,
        )?,
        token: TokenId(row.token_id),
        expires_at: Timestamp::from_micros(row.expires_at),
    }))
}

/// Whether a session that was found before still lives.
pub async fn still_lives(
    store: &Store,
    session: &PageSession,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = page_session::Entity::find_by_id(session.id).one(store.reader()).await?;
    if row.is_none_or(|row| row.expires_at <= now.micros()) {
        return Ok(false);
    }
    Ok(find_by_id(store, session.token).await?.is_some_and(|token| token.is_live(now)))
}

/// Ends a session.
pub async fn end_session(
    store: &Store,
    seam: &Seam,
    session: &PageSession,
    address: Option<std::net::IpAddr>,
) -> Result<(), StoreError> {
    let now = seam.clock.now();
    let work = store.begin().await?;
    page_session::Entity::delete_by_id(session.id).exec(work.connection()).await?;
    remember(&work, seam, session, "session.end", address).await?;
    let _no_routing = work.commit(now).await?;
    Ok(())
}

/// Whose sessions and unused links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Of an org's pages.
    pub org: Option<OrgId>,
    /// Of a vendor's.
    pub vendor: Option<VendorKey>,
    /// Of one person.
    pub person: Person,
}

/// Of whom among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Person {
    /// Of everybody.
    Anybody,
    /// Of somebody by the host's name for him.
    Named(String),
    /// Of whoever pasted a token.
    Holder(TokenId),
}

impl Whose {
    /// Everything that the person has who has a session.
    pub fn of(session: &PageSession) -> Self {
        let visitor = &session.visitor;
        let person = match &visitor.subject {
            Some(subject) => Person::Named(subject.clone()),
            None => Person::Holder(session.token),
        };
        Self { org: visitor.org.clone(), vendor: visitor.vendor.clone(), person }
    }

    /// Neither an org nor a vendor: the operators' own.
    fn is_platform(&self) -> bool {
        self.org.is_none() && self.vendor.is_none()
    }
}

/// What was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Sessions.
    pub sessions: u64,
    /// Links that nobody had used.
    pub links: u64,
}

fn sessions_of(whose: &Whose) -> Condition {
    use page_session::Column;
    let mut condition = Condition::all()
        .add_option(whose.org.as_ref().map(|org| Column::OrgId.eq(org.as_str())))
        .add_option(whose.vendor.as_ref().map(|vendor| Column::Vendor.eq(vendor.as_str())));
    if whose.is_platform() {
        condition = condition.add(Column::OrgId.is_null()).add(Column::Vendor.is_null());
    }
    match &whose.person {
        Person::Anybody => condition,
        Person::Named(subject) => condition.add(Column::Subject.eq(subject)),
        Person::Holder(token) => {
            condition.add(Column::Subject.is_null()).add(Column::TokenId.eq(token.0))
        }
    }
}

/// Ends sessions, and calls off the links that nobody has used.
pub async fn end_all(
    work: &UnitOfWork,
    seam: &Seam,
    whose: &Whose,
    actor: &Actor,
) -> Result<Ended, SessionError> {
    // Links first: that waits for whoever is using one, whose session is then there to be ended.
    let links = match &whose.person {
        // Who pastes a token came by no link.
        Person::Holder(_) => 0,
        person => {
            use portal_link::Column;
            let mut unused = portal_link::Entity::delete_many().filter(Column::UsedAt.is_null());
            if let Some(org) = &whose.org {
                unused = unused.filter(Column::OrgId.eq(org.as_str()));
            }
            if let Some(vendor) = &whose.vendor {
                unused = unused.filter(Column::Vendor.eq(vendor.as_str()));
            }
            if whose.is_platform() {
                unused = unused.filter(Column::OrgId.is_null()).filter(Column::Vendor.is_null());
            }
            if let Person::Named(subject) = person {
                unused = unused.filter(Column::Subject.eq(subject));
            }
            unused.exec(work.connection()).await?.rows_affected
        }
    };
    let sessions = page_session::Entity::delete_many()
        .filter(sessions_of(whose))
        .exec(work.connection())
        .await?
        .rows_affected;
    let subject = match &whose.person {
        Person::Named(subject) => Some(subject.as_str()),
        Person::Anybody | Person::Holder(_) => None,
    };
    let entry = Entry {
        chain: whose.org.as_ref().map_or(PLATFORM_CHAIN, OrgId::as_str),
        action: "session.end-all",
        subject: "sessions".to_owned(),
        detail: Some(serde_json::json!({
            "vendor": whose.vendor, "subject": subject, "sessions": sessions, "links": links,
        })),
    };
    audit::append(work, entry, actor, seam.clock.now(), &seam.randomness).await?;
    Ok(Ended { sessions, links })
}

/// A session as its own person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: Uuid,
    /// Since when.
    pub began: Timestamp,
    /// Until when at the latest.
    pub expires_at: Timestamp,
}

/// The sessions of somebody that live, the newest first; so many at the most.
pub async fn list(
    store: &Store,
    whose: &Whose,
    now: Timestamp,
    most: u64,
) -> Result<Vec<SessionView>, StoreError> {
    let rows = page_session::Entity::find()
        .filter(sessions_of(whose))
        .filter(page_session::Column::ExpiresAt.gt(now.micros()))
        .order_by_desc(page_session::Column::Id)
        .limit(most)
        .all(store.reader())
        .await?;
    let view = |row: page_session::Model| SessionView {
        id: row.id,
        began: Timestamp::from_micros(row.created_at),
        expires_at: Timestamp::from_micros(row.expires_at),
    };
    Ok(rows.into_iter().map(view).collect())
}

/// Removes what is over, a bounded number at a time.
pub async fn prune(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    loop {
        let links: Vec<Uuid> = portal_link::Entity::find()
            .select_only()
            .column(portal_link::Column::Id)
            .filter(portal_link::Column::ExpiresAt.lt(now.micros()))
            .limit(STEP)
            .into_tuple()
            .all(store.reader())
            .await?;
        let sessions: Vec<Uuid> = page_session::Entity::find()
            .select_only()
            .column(page_session::Column::Id)
            .filter(page_session::Column::ExpiresAt.lt(now.micros()))
            .limit(STEP)
            .into_tuple()
            .all(store.reader())
            .await?;
        if links.is_empty() && sessions.is_empty() {
            return Ok(());
        }
        let work = store.begin().await?;
        portal_link::Entity::delete_many()
            .filter(portal_link::Column::Id.is_in(links))
            .exec(work.connection())
            .await?;
        page_session::Entity::delete_many()
            .filter(page_session::Column::Id.is_in(sessions))
            .exec(work.connection())
            .await?;
        let _no_routing = work.commit(now).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_neither_printed_nor_found_in_its_form_token() {
        let secret = PageSecret::generate(&Randomness::default()).unwrap();
        assert_eq!(PageSecret::parse(secret.expose()), Some(secret.clone()));
        assert!(!format!("{secret:?}").contains(secret.expose()));
        assert_ne!(secret.form_token(), secret.expose());
        assert_eq!(secret.form_token().len(), TEXT_LENGTH);
        for bad in ["", "a", &secret.expose()[1..], &"=".repeat(TEXT_LENGTH)] {
            assert!(PageSecret::parse(bad).is_none(), "{bad}");
        }
    }
}
