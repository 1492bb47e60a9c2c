//! The audit: who did what, in a chain per org that shows every later change.
//!
//! Each link's digest covers the former link's digest and a salted digest of its own content. What
//! must be erased can be, with its salt: the chain still holds, and nothing can be guessed back
//! from the digest that stays.

mod search;

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, QuerySelect, Statement, Value};

use crate::seam::{Randomness, Timestamp};
use crate::store::entity::{audit, audit_head};
use crate::store::writes::ChainEnd;
use crate::store::{StoreError, UnitOfWork};

pub use search::{AuditCursor, AuditFilter, AuditLink, AuditPage, search};

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
    let head = match work.chain_end(entry.chain) {
        Some(head) => head,
        None => take_head(work, entry.chain).await?,
    };
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
    work.write_later(&audit::Entity::insert(audit::ActiveModel {
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
    }));
    work.set_chain_end(entry.chain, ChainEnd { sequence, digest: link_digest });
    Ok(())
}

/// Takes the head of a chain, which is made where there is none. It is held until the commit, so
/// that links of one chain are written in turn.
async fn take_head(work: &UnitOfWork, chain: &str) -> Result<ChainEnd, StoreError> {
    let connection = work.connection();
    let values: [Value; 2] = [chain.into(), vec![0_u8; 32].into()];
    let row = connection
        .query_one_raw(Statement::from_sql_and_values(
            connection.get_database_backend(),
            // The update of an unchanged value locks the row.
            "insert into audit_heads (chain, sequence, digest) values ($1, 0, $2)
             on conflict (chain) do update set sequence = audit_heads.sequence
             returning sequence, digest",
            values,
        ))
        .await?
        .ok_or(StoreError::Corrupt { what: "audit head" })?;
    Ok(ChainEnd { sequence: row.try_get_by_index(0)?, digest: row.try_get_by_index(1)? })
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

/// Reads a whole chain and says where it is broken, if anywhere. What is appended meanwhile is left
/// out.
pub async fn verify(
    store: &crate::store::Store,
    chain: &str,
) -> Result<Option<BrokenLink>, StoreError> {
    let mut links = u64::MAX;
    Ok(match verify_from(store, chain, None, &mut links).await? {
        Verdict::Broken(link) => Some(link),
        Verdict::Holds | Verdict::Unfinished(_) => None,
    })
}

/// What a reading of a chain came to.
enum Verdict {
    Holds,
    Broken(BrokenLink),
    /// It may go on after this link, which holds.
    Unfinished(i64),
}

/// How many links one statement reads.
const LINKS: u64 = 1_000;

/// Reads a chain after a link that was found to hold, `links` of them at the most; takes off as many
/// as were read.
async fn verify_from(
    store: &crate::store::Store,
    chain: &str,
    after: Option<i64>,
    links: &mut u64,
) -> Result<Verdict, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};

    let mut former = vec![0_u8; 32];
    let mut expected = 1_i64;
    let Some(head) = audit_head::Entity::find_by_id(chain).one(store.reader()).await? else {
        let any = audit::Entity::find()
            .filter(audit::Column::Chain.eq(chain))
            .order_by_asc(audit::Column::Sequence)
            .one(store.reader())
            .await?;
        return Ok(any.map_or(Verdict::Holds, |row| {
            Verdict::Broken(BrokenLink { sequence: row.sequence, reason: "its head is missing" })
        }));
    };
    // What was too old is gone; the chain is held to what it ended with.
    if let (Some(sequence), Some(digest)) = (head.pruned_sequence, &head.pruned_digest) {
        former.clone_from(digest);
        expected = sequence + 1;
    }
    if let Some(after) = after.filter(|after| *after >= expected) {
        let known =
            audit::Entity::find_by_id((chain.to_owned(), after)).one(store.reader()).await?;
        let Some(known) = known else {
            let reason = "a link is missing";
            return Ok(Verdict::Broken(BrokenLink { sequence: after, reason }));
        };
        former = known.digest;
        expected = after + 1;
    }
    while expected <= head.sequence {
        let page = audit::Entity::find()
            .filter(audit::Column::Chain.eq(chain))
            .filter(audit::Column::Sequence.gte(expected))
            .filter(audit::Column::Sequence.lte(head.sequence))
            .order_by_asc(audit::Column::Sequence)
            .limit((*links).min(LINKS))
            .all(store.reader())
            .await?;
        *links = links.saturating_sub((page.len() as u64).max(1));
        if page.is_empty() {
            break;
        }
        for row in page {
            let broken = |reason| Ok(Verdict::Broken(BrokenLink { sequence: expected, reason }));
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
        if *links == 0 && expected <= head.sequence {
            return Ok(Verdict::Unfinished(expected - 1));
        }
    }
    if head.sequence != expected - 1 || head.digest != former {
        let reason = "the chain ends too early";
        return Ok(Verdict::Broken(BrokenLink { sequence: expected, reason }));
    }
    // A link beyond the head was appended just now, with the head, or by somebody else.
    let newest = audit::Entity::find()
        .filter(audit::Column::Chain.eq(chain))
        .order_by_desc(audit::Column::Sequence)
        .one(store.reader())
        .await?
        .map_or(0, |row| row.sequence);
    let known = audit_head::Entity::find_by_id(chain).one(store.reader()).await?;
    if known.is_none_or(|head| newest > head.sequence) {
        let reason = "it lies beyond the head";
        return Ok(Verdict::Broken(BrokenLink { sequence: newest, reason }));
    }
    Ok(Verdict::Holds)
}

/// How often a chain is read that seems broken: it may have been pruned while it was read.
const READINGS: u32 = 3;

/// Where a reading of all chains stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditPosition {
    chain: String,
    /// The link; nothing where the whole chain was read.
    link: Option<i64>,
}

impl std::fmt::Display for AuditPosition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.link {
            Some(link) => write!(formatter, "{link}:{}", self.chain),
            None => write!(formatter, "end:{}", self.chain),
        }
    }
}

impl std::str::FromStr for AuditPosition {
    type Err = NoAuditPosition;

    fn from_str(text: &str) -> Result<Self, NoAuditPosition> {
        let (link, chain) = text.split_once(':').ok_or(NoAuditPosition)?;
        let link = match link {
            "end" => None,
            number => Some(number.parse().map_err(|_| NoAuditPosition)?),
        };
        if chain.contains('\0') {
            return Err(NoAuditPosition);
        }
        Ok(Self { chain: chain.to_owned(), link })
    }
}

/// The text is no place in the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not where a check of the audit stopped: give `next` of its answer as it is")]
pub(crate) struct NoAuditPosition;

/// What a stretch of all chains came to.
#[derive(Debug)]
pub(crate) struct Verified {
    /// How many chains were read to their end.
    pub(crate) chains: u64,
    /// How many of them are broken.
    pub(crate) broken: u64,
    /// The first of the broken ones.
    pub(crate) named: Vec<(String, BrokenLink)>,
    /// Where to go on; nothing where all were read.
    pub(crate) next: Option<AuditPosition>,
}

/// Verifies the chains after a position, as many links as asked for at the most and until told to
/// stop, but one page at the least; names `most` broken ones.
pub(crate) async fn verify_stretch(
    store: &crate::store::Store,
    after: Option<&AuditPosition>,
    mut links: u64,
    is_over: impl Fn() -> bool,
    most: usize,
) -> Result<Verified, StoreError> {
    let mut done = Verified { chains: 0, broken: 0, named: Vec::new(), next: after.cloned() };
    loop {
        let (chain, link) = match &done.next {
            Some(AuditPosition { chain, link: Some(link) }) => (Some(chain.clone()), Some(*link)),
            former => {
                let former = former.as_ref().map(|position| position.chain.as_str());
                (next_chain(store, former).await?, None)
            }
        };
        let Some(chain) = chain else {
            done.next = None;
            return Ok(done);
        };
        let mut verdict = Verdict::Holds;
        for _ in 0..READINGS {
            let mut page = links.clamp(1, LINKS);
            let asked = page;
            verdict = verify_from(store, &chain, link, &mut page).await?;
            if !matches!(verdict, Verdict::Broken(_)) {
                links = links.saturating_sub((asked - page).max(1));
                break;
            }
        }
        let link = match verdict {
            Verdict::Unfinished(link) => Some(link),
            Verdict::Holds => None,
            Verdict::Broken(broken) => {
                done.broken += 1;
                if done.named.len() < most {
                    done.named.push((chain.clone(), broken));
                }
                links = links.saturating_sub(1);
                None
            }
        };
        done.chains += u64::from(link.is_none());
        done.next = Some(AuditPosition { chain, link });
        if links == 0 || is_over() {
            return Ok(done);
        }
    }
}

/// The next chain in order, of heads and of links whose head is gone. Each look is one step into an
/// index.
async fn next_chain(
    store: &crate::store::Store,
    after: Option<&str>,
) -> Result<Option<String>, StoreError> {
    let condition = if after.is_some() { "where chain > $1" } else { "where chain >= $1" };
    let sql = format!(
        "select min(chain) from (select min(chain) as chain from audit_heads {condition}
         union all select min(chain) as chain from audit {condition}) both_tables"
    );
    let values = [after.unwrap_or_default().into()];
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    let row = store.reader().query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get_by_index::<Option<String>>(0)).transpose()?.flatten())
}

/// What [`erase`] did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErasedLinks {
    /// How many links lost their content.
    pub(crate) rows: u64,
    /// The last of them; nothing where there was none.
    pub(crate) last: Option<i64>,
}

/// Takes the content out of links of these subjects, the next `limit` of a chain: who, from where and
/// why. Action, subject and time stay, and the digest, which without its salt tells nothing; the chain
/// holds as before.
pub(crate) async fn erase(
    work: &UnitOfWork,
    chain: &str,
    subjects: &[String],
    after: i64,
    limit: u64,
) -> Result<ErasedLinks, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, sea_query::Expr};

    work.flush().await?;
    let links: Vec<(i64, String)> = audit::Entity::find()
        .select_only()
        .columns([audit::Column::Sequence, audit::Column::Actor])
        .filter(audit::Column::Chain.eq(chain))
        .filter(audit::Column::Subject.is_in(subjects))
        .filter(audit::Column::Sequence.gt(after))
        .filter(audit::Column::Salt.is_not_null())
        .order_by_asc(audit::Column::Sequence)
        .limit(limit)
        .into_tuple()
        .all(work.connection())
        .await?;
    let last = links.last().map(|(sequence, _)| *sequence);
    let mut rows = 0;
    for (sequence, actor) in links {
        let role = actor.split_once(':').map_or(actor.as_str(), |(role, _)| role);
        let done = audit::Entity::update_many()
            .col_expr(audit::Column::Actor, Expr::value(role))
            .col_expr(audit::Column::Address, Expr::value(Option::<String>::None))
            .col_expr(audit::Column::Detail, Expr::value(Option::<String>::None))
            .col_expr(audit::Column::Salt, Expr::value(Option::<Vec<u8>>::None))
            .filter(audit::Column::Chain.eq(chain))
            .filter(audit::Column::Sequence.eq(sequence))
            .exec(work.connection())
            .await?;
        rows += done.rows_affected;
    }
    Ok(ErasedLinks { rows, last })
}

/// The chains that have links which are too old.
pub(crate) const PRUNE_NEXT: &str = "select distinct chain from \
     (select chain from audit where at < $1 order by at limit 1000) oldest";

/// The same without chains that cannot be pruned now; their names go into the braces.
const PRUNE_OTHERS: &str = "select distinct chain from \
     (select chain from audit where at < $1 and chain not in ({}) order by at limit 1000) oldest";

/// How many chains may be passed over in one step.
const MOST_BLOCKED: usize = 100;

/// How many links of a chain one step removes.
const PRUNE_STEP: u64 = 1_000;

/// Removes the links from before a moment, a step of each chain; the head keeps what the rest
/// follows from. Returns whether there may be more.
pub(crate) async fn prune(
    store: &crate::store::Store,
    before: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (mut more, mut blocked) = (false, Vec::<String>::new());
    loop {
        let chains = prunable(store, before, &blocked).await?;
        let passed_over = blocked.len();
        let found = chains.len();
        for chain in chains {
            match prune_chain(store, &chain, before, now).await? {
                Some(was_full) => more |= was_full,
                None => blocked.push(chain),
            }
        }
        // Chains that keep old links behind a younger one must not keep the others from being seen.
        let all_blocked = found > 0 && blocked.len() - passed_over == found;
        if !all_blocked || blocked.len() >= MOST_BLOCKED {
            return Ok(more);
        }
    }
}

async fn prunable(
    store: &crate::store::Store,
    before: Timestamp,
    blocked: &[String],
) -> Result<Vec<String>, StoreError> {
    let mut values: Vec<Value> = vec![before.micros().into()];
    let sql = if blocked.is_empty() {
        PRUNE_NEXT.to_owned()
    } else {
        values.extend(blocked.iter().map(|chain| Value::from(chain.clone())));
        let names: Vec<String> = (2..=values.len()).map(|number| format!("${number}")).collect();
        PRUNE_OTHERS.replace("{}", &names.join(", "))
    };
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    let rows = store.reader().query_all_raw(statement).await?;
    Ok(rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?)
}

/// Removes the old links at the beginning of a chain, a step of them. Says whether there may be
/// more; nothing where a younger link stands before the old ones.
async fn prune_chain(
    store: &crate::store::Store,
    chain: &str,
    before: Timestamp,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    use sea_orm::{ColumnTrait, QueryFilter, QueryOrder};

    let work = store.begin().await?;
    let Some(head) =
        audit_head::Entity::find_by_id(chain).lock_exclusive().one(work.connection()).await?
    else {
        work.rollback().await?;
        return Ok(None);
    };
    let links = audit::Entity::find()
        .filter(audit::Column::Chain.eq(chain))
        .filter(audit::Column::Sequence.gt(head.pruned_sequence.unwrap_or(0)))
        .order_by_asc(audit::Column::Sequence)
        .limit(PRUNE_STEP)
        .all(work.connection())
        .await?;
    let Some(last) = last_old(&links, before, now) else {
        work.rollback().await?;
        return Ok(None);
    };
    // The head first: the database itself lets go only what it says was pruned.
    audit_head::Entity::update(audit_head::ActiveModel {
        chain: sea_orm::ActiveValue::Unchanged(chain.to_owned()),
        pruned_sequence: Set(Some(last.sequence)),
        pruned_digest: Set(Some(last.digest.clone())),
        ..Default::default()
    })
    .exec(work.connection())
    .await?;
    audit::Entity::delete_many()
        .filter(audit::Column::Chain.eq(chain))
        .filter(audit::Column::Sequence.lte(last.sequence))
        .exec(work.connection())
        .await?;
    let _settled = work.commit(now).await?;
    Ok(Some(links.len() as u64 == PRUNE_STEP))
}

/// The last link that goes. Clocks of nodes differ: only what no younger link precedes. A link from
/// the future was written by a clock that was ahead, so it is as old as what follows it.
fn last_old(links: &[audit::Model], before: Timestamp, now: Timestamp) -> Option<&audit::Model> {
    let mut last = None;
    for link in links {
        if link.at < before.micros() {
            last = Some(link);
        } else if link.at <= now.micros() {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(sequence: i64, at: i64) -> audit::Model {
        audit::Model {
            chain: "1".to_owned(),
            sequence,
            at,
            actor: "system:test".to_owned(),
            address: None,
            action: "test".to_owned(),
            subject: "test:1".to_owned(),
            detail: None,
            salt: None,
            content_digest: Vec::new(),
            digest: Vec::new(),
        }
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nothing_behind_it() {
        let (before, now) = (Timestamp::from_micros(100), Timestamp::from_micros(200));
        let cases: &[(&[i64], Option<i64>)] = &[
            (&[], None),
            (&[50, 60, 150], Some(2)),
            (&[150, 60], None),
            (&[900, 60, 70, 150], Some(3)),
            (&[50, 900, 60, 900, 150, 70], Some(3)),
            (&[900, 900], None),
        ];
        for (times, wanted) in cases {
            let links: Vec<_> = (1..).zip(*times).map(|(number, at)| link(number, *at)).collect();
            let last = last_old(&links, before, now).map(|link| link.sequence);
            assert_eq!(last, *wanted, "{times:?}");
        }
    }
}
