//! Reading notices, and putting them aside.

use std::collections::HashMap;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};
use uuid::Uuid;

use crate::seam::Timestamp;
use crate::store::entity::{notice, notice_dismissal};
use crate::store::{Store, StoreError, UnitOfWork};

/// How many rows one statement reads while it looks for some that were not dismissed.
const CHUNK: u64 = 500;

/// How many rows one page looks at; then it ends, with a cursor to go on from.
const MOST_LOOKED_AT: usize = 5_000;

/// Who reads: what they may see, and under which name they dismiss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The operator: all notices.
    Operator,
    /// An org's administrators.
    Org(String),
    /// A vendor, with its extensions.
    Vendor {
        /// The vendor.
        vendor: String,
        /// The keys of its extensions.
        extensions: Vec<String>,
    },
}

impl Audience {
    fn condition(&self) -> Condition {
        match self {
            Self::Operator => Condition::all(),
            Self::Org(org) => Condition::all().add(notice::Column::OrgId.eq(org)),
            Self::Vendor { extensions, .. } => {
                Condition::all().add(notice::Column::ExtensionKey.is_in(extensions.iter().cloned()))
            }
        }
    }

    /// The name under which dismissals are kept: what one administrator dismisses, all of the org
    /// have seen.
    fn name(&self) -> String {
        match self {
            Self::Operator => "operator".to_owned(),
            Self::Org(org) => format!("org:{org}"),
            Self::Vendor { vendor, .. } => format!("vendor:{vendor}"),
        }
    }
}

/// Where a page begins: after the notice that happened last at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeCursor {
    /// Microseconds since the epoch.
    pub last_at: i64,
    /// Its id.
    pub id: Uuid,
}

/// A notice as it is shown.
#[derive(Clone, Debug)]
pub struct NoticeView {
    pub(crate) row: notice::Model,
    /// Whether the reader put it aside, and it did not happen since.
    pub dismissed: bool,
}

/// Lists notices, the latest first, without those that the reader dismissed unless asked to.
/// Returns where the next page begins.
pub async fn list(
    store: &Store,
    audience: &Audience,
    with_dismissed: bool,
    after: Option<NoticeCursor>,
    limit: usize,
) -> Result<(Vec<NoticeView>, Option<NoticeCursor>), StoreError> {
    let mut page: Vec<NoticeView> = Vec::new();
    let (mut after, mut looked_at) = (after, 0_usize);
    loop {
        let mut query = notice::Entity::find()
            .filter(audience.condition())
            .order_by_desc(notice::Column::LastAt)
            .order_by_desc(notice::Column::Id)
            .limit(CHUNK);
        if let Some(after) = after {
            let same = Condition::all()
                .add(notice::Column::LastAt.eq(after.last_at))
                .add(notice::Column::Id.lt(after.id));
            query = query
                .filter(notice::Column::LastAt.lte(after.last_at))
                .filter(Condition::any().add(notice::Column::LastAt.lt(after.last_at)).add(same));
        }
        let rows = query.all(store.reader()).await?;
        let is_last = (rows.len() as u64) < CHUNK;
        let seen = dismissals(store, audience, &rows).await?;
        for row in rows {
            looked_at += 1;
            let cursor = NoticeCursor { last_at: row.last_at, id: row.id };
            let dismissed = seen.get(&row.id).is_some_and(|count| *count >= row.occurrences);
            if dismissed && !with_dismissed {
                after = Some(cursor);
                continue;
            }
            if page.len() == limit {
                return Ok((page, after));
            }
            after = Some(cursor);
            page.push(NoticeView { row, dismissed });
        }
        if is_last {
            return Ok((page, None));
        }
        if looked_at >= MOST_LOOKED_AT {
            return Ok((page, after));
        }
    }
}

/// How often each of some notices had happened when the reader dismissed it.
async fn dismissals(
    store: &Store,
    audience: &Audience,
    rows: &[notice::Model],
) -> Result<HashMap<Uuid, i64>, StoreError> {
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    Ok(notice_dismissal::Entity::find()
        .filter(notice_dismissal::Column::Audience.eq(audience.name()))
        .filter(notice_dismissal::Column::NoticeId.is_in(rows.iter().map(|row| row.id)))
        .all(store.reader())
        .await?
        .into_iter()
        .map(|row| (row.notice_id, row.occurrences))
        .collect())
}

/// Puts a notice aside until it happens again; nothing where the reader may not see it.
pub async fn dismiss(
    work: &UnitOfWork,
    audience: &Audience,
    id: Uuid,
    actor: &str,
    now: Timestamp,
) -> Result<Option<NoticeView>, StoreError> {
    let found =
        notice::Entity::find_by_id(id).filter(audience.condition()).one(work.connection()).await?;
    let Some(row) = found else { return Ok(None) };
    notice_dismissal::Entity::insert(notice_dismissal::ActiveModel {
        notice_id: Set(id),
        audience: Set(audience.name()),
        occurrences: Set(row.occurrences),
        at: Set(now.micros()),
        actor: Set(actor.to_owned()),
    })
    .on_conflict(
        OnConflict::columns([
            notice_dismissal::Column::NoticeId,
            notice_dismissal::Column::Audience,
        ])
        .update_columns([
            notice_dismissal::Column::Occurrences,
            notice_dismissal::Column::At,
            notice_dismissal::Column::Actor,
        ])
        .to_owned(),
    )
    .exec_without_returning(work.connection())
    .await?;
    Ok(Some(NoticeView { row, dismissed: true }))
}

impl NoticeView {
    /// Where the page after it begins.
    pub fn cursor(&self) -> NoticeCursor {
        NoticeCursor { last_at: self.row.last_at, id: self.row.id }
    }
}
