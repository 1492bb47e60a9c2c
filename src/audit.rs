//! The audit: who did what, in a chain per org that shows every later change.
//!
//! Each link's digest covers the former link's digest and a salted digest of its own content. What
//! must be erased can be, with its salt: the chain still holds, and nothing can be guessed back
//! from the digest that stays.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::{ActiveValue::Set, EntityTrait, QuerySelect, sea_query::OnConflict};

use crate::seam::{Randomness, Timestamp};
use crate::store::entity::{audit, audit_head};
use crate::store::{StoreError, UnitOfWork};

/// The chain of what belongs to no org.
pub const PLATFORM_CHAIN: &str = "";

/// Who acts, for history and audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// A role and what names its holder, such as `admin:0198…` or `system:reconciler`.
    pub name: String,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

impl Actor {
    /// Mortise itself.
    pub fn system(part: &str) -> Self {
        Self { name: format!("system:{part}"), address: None }
    }
}

/// What is to be remembered.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The org, or [`PLATFORM_CHAIN`].
    pub chain: &'a str,
    /// What was done, such as `installation.authorize` or `webhook.edit-refused`.
    pub action: &'a str,
    /// What it was done to, such as `installation:0198…`.
    pub subject: String,
    /// What else there is to say, as JSON; never a secret.
    pub detail: Option<serde_json::Value>,
}

/// Adds a link to a chain, in the transaction of what it tells of.
pub async fn append(
    work: &UnitOfWork,
    entry: Entry<'_>,
    actor: &Actor,
    now: Timestamp,
    randomness: &Randomness,
) -> Result<(), StoreError> {
    let connection = work.connection();
    // The head is held until the commit, so links of one chain are written in turn.
    audit_head::Entity::insert(audit_head::ActiveModel {
        chain: Set(entry.chain.to_owned()),
        sequence: Set(0),
        digest: Set(vec![0; 32]),
        ..Default::default()
    })
    .on_conflict(OnConflict::new().do_nothing().to_owned())
    .exec_without_returning(connection)
    .await
    .or_else(|error| match error {
        sea_orm::DbErr::RecordNotInserted => Ok(0),
        other => Err(other),
    })?;
    let head = audit_head::Entity::find_by_id(entry.chain)
        .lock_exclusive()
        .one(connection)
        .await?
        .ok_or(StoreError::Corrupt { what: "audit head" })?;
    let sequence = head.sequence + 1;
    let salt: [u8; 16] =
        randomness.bytes().map_err(|_| StoreError::Corrupt { what: "source of randomness" })?;
    let link = Link {
        chain: entry.chain.to_owned(),
        sequence,
        at: now.micros(),
        actor: actor.name.clone(),
        address: actor.address.map(|address| address.to_string()),
        action: entry.action.to_owned(),
        subject: entry.subject,
        detail: entry.detail.map(|detail| detail.to_string()),
    };
    let content_digest = link.content_digest(&salt);
    let link_digest = chain_digest(&head.digest, sequence, &content_digest);
    audit::Entity::insert(audit::ActiveModel {
        chain: Set(link.chain),
        sequence: Set(sequence),
        at: Set(link.at),
        actor: Set(link.actor),
        address: Set(link.address),
        action: Set(link.action),
        subject: Set(link.subject),
        detail: Set(link.detail),
        salt: Set(Some(salt.to_vec())),
        content_digest: Set(content_digest),
        digest: Set(link_digest.clone()),
    })
    .exec_without_returning(connection)
    .await?;
    audit_head::Entity::update(audit_head::ActiveModel {
        chain: sea_orm::ActiveValue::Unchanged(entry.chain.to_owned()),
        sequence: Set(sequence),
        digest: Set(link_digest),
        ..Default::default()
    })
    .exec(connection)
    .await?;
    Ok(())
}

/// The content of a link.
struct Link {
    chain: String,
    sequence: i64,
    at: i64,
    actor: String,
    address: Option<String>,
    action: String,
    subject: String,
    detail: Option<String>,
}

impl Link {
    /// The salted digest of the content; every part is preceded by its length, so that no two
    /// contents read alike.
    fn content_digest(&self, salt: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(256);
        let mut part = |bytes: &[u8]| {
            text.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            text.extend_from_slice(bytes);
        };
        part(salt);
        part(self.chain.as_bytes());
        part(&self.sequence.to_be_bytes());
        part(&self.at.to_be_bytes());
        part(self.actor.as_bytes());
        part(self.address.as_deref().unwrap_or_default().as_bytes());
        part(self.action.as_bytes());
        part(self.subject.as_bytes());
        part(self.detail.as_deref().unwrap_or_default().as_bytes());
        digest(&SHA256, &text).as_ref().to_vec()
    }
}

fn chain_digest(former: &[u8], sequence: i64, content_digest: &[u8]) -> Vec<u8> {
    let text = [former, &sequence.to_be_bytes(), content_digest].concat();
    digest(&SHA256, &text).as_ref().to_vec()
}

/// The first link of a chain that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenLink {
    /// Its place in the chain.
    pub sequence: i64,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads a whole chain and says where it is broken, if anywhere.
pub async fn verify(
    store: &crate::store::Store,
    chain: &str,
) -> Result<Option<BrokenLink>, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};

    let mut former = vec![0_u8; 32];
    let mut expected = 1_i64;
    // What was too old is gone; the chain is held to what it ended with.
    if let Some(head) = audit_head::Entity::find_by_id(chain).one(store.reader()).await?
        && let (Some(sequence), Some(digest)) = (head.pruned_sequence, head.pruned_digest)
    {
        former = digest;
        expected = sequence + 1;
    }
    loop {
        let page = audit::Entity::find()
            .filter(audit::Column::Chain.eq(chain))
            .filter(audit::Column::Sequence.gte(expected))
            .order_by_asc(audit::Column::Sequence)
            .limit(1_000)
            .all(store.reader())
            .await?;
        if page.is_empty() {
            break;
        }
        for row in page {
            let broken = |reason| Ok(Some(BrokenLink { sequence: expected, reason }));
            if row.sequence != expected {
                return broken("a link is missing");
            }
            if chain_digest(&former, row.sequence, &row.content_digest) != row.digest {
                return broken("its digest does not follow from the former link");
            }
            if let Some(salt) = &row.salt {
                let link = Link {
                    chain: row.chain,
                    sequence: row.sequence,
                    at: row.at,
                    actor: row.actor,
                    address: row.address,
                    action: row.action,
                    subject: row.subject,
                    detail: row.detail,
                };
                if link.content_digest(salt) != row.content_digest {
                    return broken("its content was changed");
                }
            }
            former = row.digest;
            expected += 1;
        }
    }
    let head = audit_head::Entity::find_by_id(chain).one(store.reader()).await?;
    match head {
        Some(head) if head.sequence != expected - 1 || head.digest != former => {
            Ok(Some(BrokenLink { sequence: expected, reason: "the chain ends too early" }))
        }
        _ => Ok(None),
    }
}

/// What [`erase`] did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErasedLinks {
    /// How many links lost their content.
    pub(crate) rows: u64,
    /// The last link that was looked at; nothing at the end of the chain.
    pub(crate) last: Option<i64>,
}

/// Takes the content out of links whose subject is to be forgotten, among the next `limit` links of
/// a chain: who, from where and why. Action, subject and time stay, and the digest, which without
/// its salt tells nothing; the chain holds as before.
pub(crate) async fn erase(
    work: &UnitOfWork,
    chain: &str,
    after: i64,
    limit: u64,
    is_meant: impl Fn(&str) -> bool,
) -> Result<ErasedLinks, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, sea_query::Expr};

    let links = audit::Entity::find()
        .filter(audit::Column::Chain.eq(chain))
        .filter(audit::Column::Sequence.gt(after))
        .order_by_asc(audit::Column::Sequence)
        .limit(limit)
        .all(work.connection())
        .await?;
    let last = links.last().map(|link| link.sequence);
    let mut rows = 0;
    for link in links.into_iter().filter(|link| link.salt.is_some() && is_meant(&link.subject)) {
        let role = link.actor.split_once(':').map_or(link.actor.as_str(), |(role, _)| role);
        let done = audit::Entity::update_many()
            .col_expr(audit::Column::Actor, Expr::value(role))
            .col_expr(audit::Column::Address, Expr::value(Option::<String>::None))
            .col_expr(audit::Column::Detail, Expr::value(Option::<String>::None))
            .col_expr(audit::Column::Salt, Expr::value(Option::<Vec<u8>>::None))
            .filter(audit::Column::Chain.eq(chain))
            .filter(audit::Column::Sequence.eq(link.sequence))
            .exec(work.connection())
            .await?;
        rows += done.rows_affected;
    }
    Ok(ErasedLinks { rows, last })
}

/// The chains that have links which are too old.
pub(crate) const PRUNE_NEXT: &str = "select distinct chain from \
     (select chain from audit where at < $1 order by at limit 1000) oldest";

/// How many links of a chain one step removes.
const PRUNE_STEP: u64 = 1_000;

/// Removes the links from before a moment, a step of each chain; the head keeps what the rest
/// follows from. Returns whether there may be more.
pub(crate) async fn prune(
    store: &crate::store::Store,
    before: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QueryOrder, Statement};

    let rows = store
        .reader()
        .query_all_raw(Statement::from_sql_and_values(
            store.dialect(),
            PRUNE_NEXT,
            [before.micros().into()],
        ))
        .await?;
    let mut more = false;
    for row in rows {
        let chain: String = row.try_get_by_index(0)?;
        let work = store.begin().await?;
        let Some(head) = audit_head::Entity::find_by_id(chain.as_str())
            .lock_exclusive()
            .one(work.connection())
            .await?
        else {
            work.rollback().await?;
            continue;
        };
        let links = audit::Entity::find()
            .filter(audit::Column::Chain.eq(chain.as_str()))
            .filter(audit::Column::Sequence.gt(head.pruned_sequence.unwrap_or(0)))
            .order_by_asc(audit::Column::Sequence)
            .limit(PRUNE_STEP)
            .all(work.connection())
            .await?;
        // Clocks of nodes differ: only what no younger link precedes goes.
        let old = links.iter().take_while(|link| link.at < before.micros());
        let Some(last) = old.last() else {
            work.rollback().await?;
            continue;
        };
        audit::Entity::delete_many()
            .filter(audit::Column::Chain.eq(chain.as_str()))
            .filter(audit::Column::Sequence.lte(last.sequence))
            .exec(work.connection())
            .await?;
        audit_head::Entity::update(audit_head::ActiveModel {
            chain: sea_orm::ActiveValue::Unchanged(chain),
            pruned_sequence: Set(Some(last.sequence)),
            pruned_digest: Set(Some(last.digest.clone())),
            ..Default::default()
        })
        .exec(work.connection())
        .await?;
        let _settled = work.commit(now).await?;
        more |= links.len() as u64 == PRUNE_STEP;
    }
    Ok(more)
}
