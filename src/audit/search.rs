//! Looking something up in the audit: newest first, a bounded stretch at a time.

use std::fmt::Write as _;

use sea_orm::{FromQueryResult, Statement, Value};

use crate::seam::Timestamp;
use crate::store::{Store, StoreError};

/// How many links one page looks at, at the most.
const LOOKED_AT: usize = 2_000;

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of one chain: an org, or [`super::PLATFORM_CHAIN`].
    pub chain: Option<String>,
    /// Actors that begin so, such as `admin:`.
    pub actor: Option<String>,
    /// Actions that begin so, such as `webhook.`.
    pub action: Option<String>,
    /// Subjects that begin so, such as `installation:0198…`.
    pub subject: Option<String>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// After the last one of the page before.
    pub after: Option<AuditCursor>,
    /// How many at the most.
    pub limit: usize,
}

/// The place of a link in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// When it was written, in microseconds.
    pub at: i64,
    /// Its number in its chain.
    pub sequence: i64,
    /// Its chain.
    pub chain: String,
}

/// A link of the audit, as it is shown. What was erased is empty.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct AuditLink {
    /// Its chain.
    pub chain: String,
    /// Its number there.
    pub sequence: i64,
    /// When it was written, in microseconds.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// Where the request came from.
    pub address: Option<String>,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// What else there is to say, as JSON.
    pub detail: Option<String>,
}

impl AuditLink {
    fn place(&self) -> AuditCursor {
        AuditCursor { at: self.at, sequence: self.sequence, chain: self.chain.clone() }
    }
}

/// A page of what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// Newest first.
    pub links: Vec<AuditLink>,
    /// Where the next page begins; nothing where there is no more. A page may hold less than was
    /// asked for, or nothing, and still have one.
    pub next: Option<AuditCursor>,
}

impl AuditFilter {
    fn takes(&self, link: &AuditLink) -> bool {
        let begins = |text: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| text.starts_with(wanted))
        };
        begins(&link.actor, &self.actor)
            && begins(&link.action, &self.action)
            && begins(&link.subject, &self.subject)
    }

    /// The newest links of the stretch, whatever they say.
    fn stretch(&self) -> (String, Vec<Value>) {
        let mut values: Vec<Value> = Vec::new();
        let mut place = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let mut sql = String::from(
            "select chain, sequence, at, actor, address, action, subject, detail from audit \
             where at < ",
        );
        sql.push_str(&place(self.until.map_or(i64::MAX, Timestamp::micros).into()));
        if let Some(chain) = &self.chain {
            // Writing to a text never fails.
            let _infallible = write!(sql, " and chain = {}", place(chain.clone().into()));
        }
        if let Some(after) = &self.after {
            let sequence = place(after.sequence.into());
            let _infallible = if self.chain.is_some() {
                write!(sql, " and sequence < {sequence}")
            } else {
                let (at, chain) = (place(after.at.into()), place(after.chain.clone().into()));
                write!(
                    sql,
                    " and at <= {at} and (at, chain, sequence) < ({at}, {chain}, {sequence})"
                )
            };
        }
        // One chain goes along its key, all of them along the index of their age.
        sql.push_str(if self.chain.is_some() {
            " order by chain desc, sequence desc"
        } else {
            " order by at desc, chain desc, sequence desc"
        });
        let _infallible = write!(sql, " limit {LOOKED_AT}");
        (sql, values)
    }
}

/// Looks links up, newest first.
pub async fn search(store: &Store, filter: &AuditFilter) -> Result<AuditPage, StoreError> {
    let (sql, values) = filter.stretch();
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    let looked_at = AuditLink::find_by_statement(statement).all(store.reader()).await?;
    Ok(page(looked_at, filter))
}

fn page(looked_at: Vec<AuditLink>, filter: &AuditFilter) -> AuditPage {
    let is_whole = looked_at.len() < LOOKED_AT;
    let end = looked_at.last().map(AuditLink::place);
    let mut links: Vec<AuditLink> =
        looked_at.into_iter().filter(|link| filter.takes(link)).collect();
    if links.len() > filter.limit {
        links.truncate(filter.limit);
        let next = links.last().map(AuditLink::place);
        return AuditPage { links, next };
    }
    AuditPage { links, next: end.filter(|_| !is_whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(sequence: i64, action: &str) -> AuditLink {
        AuditLink {
            chain: "1".to_owned(),
            sequence,
            at: sequence,
            actor: "admin:a".to_owned(),
            address: None,
            action: action.to_owned(),
            subject: "webhook:1".to_owned(),
            detail: None,
        }
    }

    #[test]
    fn a_page_ends_with_its_last_find_or_where_it_has_looked() {
        let filter =
            AuditFilter { action: Some("token.".to_owned()), limit: 1, ..AuditFilter::default() };
        let few = vec![link(3, "token.create"), link(2, "webhook.x"), link(1, "token.revoke")];
        let found = page(few.clone(), &filter);
        assert_eq!(found.links, [link(3, "token.create")]);
        assert_eq!(found.next, Some(link(3, "").place()));
        let found = page(few[1..].to_vec(), &filter);
        assert_eq!((found.links.len(), found.next), (1, None));
        let number = i64::try_from(LOOKED_AT).unwrap();
        let many: Vec<_> = (0..number).map(|at| link(number - at, "webhook.x")).collect();
        let found = page(many, &filter);
        assert_eq!((found.links.len(), found.next), (0, Some(link(1, "").place())));
    }

    #[test]
    fn the_places_of_a_statement_are_those_of_its_values() {
        let after = AuditCursor { at: 5, sequence: 2, chain: "1".to_owned() };
        for chain in [None, Some("1".to_owned())] {
            let filter =
                AuditFilter { chain, after: Some(after.clone()), ..AuditFilter::default() };
            let (sql, values) = filter.stretch();
            for place in 1..=values.len() {
                assert!(sql.contains(&format!("${place}")), "{sql}");
            }
            assert!(!sql.contains(&format!("${}", values.len() + 1)), "{sql}");
        }
    }
}
