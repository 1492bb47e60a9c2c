//! Pages of the history: a page takes the same short time however much there is.
//!
//! A page goes along an index and looks at a bounded number of rows. Where filters leave few of
//! them, it ends early with what it found and a cursor to go on from, and is never slow. Filters on
//! the state or the status have no index of their own: one would be written with each delivery.

use std::cmp::Reverse;
use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QuerySelect,
    Statement, Value,
};
use uuid::Uuid;

use super::views::{
    DeliveryFilter, DeliveryView, EndpointScope, events_of, id_at, later_attempts_of, view,
};
use crate::seam::Timestamp;
use crate::store::claims::DeliveryState;
use crate::store::entity::{delivery, endpoint};
use crate::store::{Store, StoreError};

/// Up to how many webhooks are walked one by one; of more, all deliveries are walked.
const FEW: u64 = 50;

/// How many rows a page with filters looks at.
const LOOKED_AT: u64 = 20_000;

/// How many rows a page of everything without filters looks at: all but lifecycle callbacks fit.
const LOOKED_AT_PLAINLY: u64 = 2_000;

/// How many of them of one webhook at the least.
const LEAST: u64 = 1_000;

/// A page of the history.
#[derive(Clone, Debug)]
pub struct DeliveryPage {
    /// What was found, newest first.
    pub views: Vec<DeliveryView>,
    /// Where the next page begins: before this one. Nothing where there is no more.
    pub next: Option<Uuid>,
}

/// Which rows a walk goes along.
#[derive(Clone, Debug)]
enum Path {
    /// Those of one webhook, by the history's index.
    Webhook(Uuid),
    /// All of them, by the primary key, limited to what the caller may see.
    Everything,
}

/// What one walk found.
struct Walked {
    ids: Vec<Uuid>,
    /// Everything from here on was looked at; nothing where all was.
    looked_at_from: Option<Uuid>,
}

/// Reads a page of deliveries, newest first.
pub async fn list(
    store: &Store,
    scope: &EndpointScope,
    filter: &DeliveryFilter,
) -> Result<DeliveryPage, StoreError> {
    let webhooks = few_webhooks(store, scope, filter).await?;
    let walked = match webhooks {
        Some(ids) => {
            let each = (LOOKED_AT / (ids.len() as u64).max(1)).max(LEAST);
            let mut walks = Vec::with_capacity(ids.len());
            for id in ids {
                walks.push(walk(store, scope, filter, &Path::Webhook(id), each).await?);
            }
            join(walks, filter.limit)
        }
        None => {
            let is_plain = *scope == EndpointScope::All
                && filter.state.is_none()
                && filter.status_code.is_none()
                && filter.event_type.is_none();
            let most = if is_plain { LOOKED_AT_PLAINLY } else { LOOKED_AT };
            walk(store, scope, filter, &Path::Everything, most).await?
        }
    };
    let Walked { mut ids, looked_at_from } = walked;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let next = if ids.len() > limit {
        ids.truncate(limit);
        ids.last().copied()
    } else {
        looked_at_from
    };
    Ok(DeliveryPage { views: read(store, &ids).await?, next })
}

/// The webhooks to walk one by one; nothing where there are too many.
async fn few_webhooks(
    store: &Store,
    scope: &EndpointScope,
    filter: &DeliveryFilter,
) -> Result<Option<Vec<Uuid>>, StoreError> {
    let narrow = filter.webhook_id.is_some() || filter.installation_id.is_some();
    if *scope == EndpointScope::All && !narrow {
        return Ok(None);
    }
    let mut query = endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::Id)
        .filter(scope.condition())
        .filter(endpoint::Column::Lane.eq("webhook"))
        .limit(FEW + 1);
    if let Some(id) = filter.webhook_id {
        query = query.filter(endpoint::Column::Id.eq(id));
    }
    if let Some(id) = filter.installation_id {
        query = query.filter(endpoint::Column::InstallationId.eq(id));
    }
    let ids: Vec<Uuid> = query.into_tuple().all(store.reader()).await?;
    // Of one installation all are walked, however many it has had.
    Ok((narrow || ids.len() as u64 <= FEW).then_some(ids))
}

/// Joins walks: valid as far as every one of them has looked.
fn join(walks: Vec<Walked>, limit: u64) -> Walked {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut ids = Vec::new();
    let mut looked_at_from: Option<Uuid> = None;
    for walked in walks {
        // A walk that found more than a page has looked down to its last find only.
        let from = if walked.ids.len() > limit {
            walked.ids.last().copied()
        } else {
            walked.looked_at_from
        };
        looked_at_from = looked_at_from.max(from);
        ids.extend(walked.ids);
    }
    ids.sort_unstable_by_key(|id| Reverse(*id));
    if let Some(from) = looked_at_from {
        ids.retain(|id| *id >= from);
    }
    ids.truncate(limit + 1);
    Walked { ids, looked_at_from }
}

/// The conditions of a walk, as SQL with its values.
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    fn new() -> Self {
        Self { sql: "true".to_owned(), values: Vec::new() }
    }

    /// Adds one; a question mark stands for its value.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let place = format!("${}", self.values.len());
        self.sql.push_str(" and ");
        self.sql.push_str(&condition.replace('?', &place));
    }
}

async fn walk(
    store: &Store,
    scope: &EndpointScope,
    filter: &DeliveryFilter,
    path: &Path,
    most: u64,
) -> Result<Walked, StoreError> {
    let mut range = range(filter, path);
    let has_filters = filter.state.is_some()
        || filter.status_code.is_some()
        || filter.event_type.is_some()
        || matches!(path, Path::Everything);
    let mut looked_at_from = None;
    if has_filters {
        let bound = statement(store, &bound_sql(&range, most), &range.values);
        if let Some(row) = store.reader().query_one_raw(bound).await? {
            let bound: Uuid = row.try_get_by_index(0)?;
            range.and("d.id >= ?", bound);
            looked_at_from = Some(bound);
        }
    }
    narrow(&mut range, scope, filter, path);
    let rows = store
        .reader()
        .query_all_raw(statement(store, &ids_sql(&range, filter.limit + 1), &range.values))
        .await?;
    let ids = rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<Vec<Uuid>, _>>()?;
    Ok(Walked { ids, looked_at_from })
}

/// The stretch of the index.
fn range(filter: &DeliveryFilter, path: &Path) -> Conditions {
    let mut range = Conditions::new();
    if let Path::Webhook(id) = path {
        range.and("d.endpoint_id = ?", *id);
    }
    // The ids are ordered in time: bounds on the time become bounds on the index.
    if let Some(since) = filter.since {
        range.and("d.id >= ?", id_at(since));
    }
    let upper = [filter.before, filter.until.map(id_at)].into_iter().flatten().min();
    if let Some(upper) = upper {
        range.and("d.id < ?", upper);
    }
    range
}

/// What the rows of the stretch must be beside.
fn narrow(range: &mut Conditions, scope: &EndpointScope, filter: &DeliveryFilter, path: &Path) {
    if let Some(state) = filter.state {
        range.and("d.state = ?", state.number());
        if state == DeliveryState::Held {
            // These have an index.
            range.sql.push_str(" and d.due_at >= 9223372036854775806");
        }
    }
    if let Some(status) = filter.status_code {
        range.and("d.first_status = ?", i32::from(status));
    }
    if let Some(event_type) = &filter.event_type {
        range.and(
            "exists (select 1 from events e where e.id = d.event_id and e.event_type = ?)",
            event_type.clone(),
        );
    }
    if matches!(path, Path::Everything) {
        let mut sql = "exists (select 1 from endpoints p where p.id = d.endpoint_id \
                       and p.lane = 'webhook'"
            .to_owned();
        match scope {
            EndpointScope::All => {}
            EndpointScope::Org(org) => {
                range.values.push(org.clone().into());
                sql.push_str(&format!(" and p.org_id = ${}", range.values.len()));
            }
            EndpointScope::Extensions(keys) => {
                let places: Vec<String> = keys
                    .iter()
                    .map(|key| {
                        range.values.push(key.clone().into());
                        format!("${}", range.values.len())
                    })
                    .collect();
                sql.push_str(&format!(" and p.extension_key in ({})", places.join(", ")));
            }
        }
        range.sql.push_str(" and ");
        range.sql.push_str(&sql);
        range.sql.push(')');
    }
}

/// Where a page that looks at so many rows ends.
fn bound_sql(range: &Conditions, most: u64) -> String {
    format!(
        "select d.id from deliveries d where {} order by d.id desc limit 1 offset {}",
        range.sql,
        most.saturating_sub(1)
    )
}

fn ids_sql(range: &Conditions, limit: u64) -> String {
    format!("select d.id from deliveries d where {} order by d.id desc limit {limit}", range.sql)
}

fn statement(store: &Store, sql: &str, values: &[Value]) -> Statement {
    Statement::from_sql_and_values(store.dialect(), sql, values.iter().cloned())
}

/// Reads deliveries with all that is shown of them: four statements a page.
async fn read(store: &Store, ids: &[Uuid]) -> Result<Vec<DeliveryView>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = delivery::Entity::find()
        .filter(delivery::Column::Id.is_in(ids.iter().copied()))
        .all(store.reader())
        .await?;
    rows.sort_unstable_by_key(|row| Reverse(row.id));
    let owners: HashMap<Uuid, endpoint::Model> = endpoint::Entity::find()
        .filter(endpoint::Column::Id.is_in(rows.iter().map(|row| row.endpoint_id)))
        .all(store.reader())
        .await?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    let events: HashMap<Uuid, _> =
        events_of(store, &rows).await?.into_iter().map(|event| (event.id(), event)).collect();
    let mut later = later_attempts_of(store, &rows).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let event = events.get(&row.event_id)?.clone();
            let owner = owners.get(&row.endpoint_id)?.clone();
            let attempts = later.remove(&row.id).unwrap_or_default();
            Some(view(row, event, owner, attempts))
        })
        .collect())
}

/// The statements of every combination of filters with their values in them, for those who look
/// at their plans.
#[doc(hidden)]
pub fn plans(
    postgres: bool,
    scope: &EndpointScope,
    webhook: Uuid,
    now: Timestamp,
) -> Vec<(String, String)> {
    let backend = if postgres { DatabaseBackend::Postgres } else { DatabaseBackend::Sqlite };
    let text = |sql: String, values: &[Value]| {
        Statement::from_sql_and_values(backend, sql, values.iter().cloned()).to_string()
    };
    let day_before = now.minus(std::time::Duration::from_hours(24));
    let mut all = Vec::new();
    for bits in 0_u8..64 {
        let filter = DeliveryFilter {
            webhook_id: None,
            installation_id: None,
            state: (bits & 1 != 0).then_some(DeliveryState::Failed),
            event_type: (bits & 2 != 0).then(|| "Ticket_Add".to_owned()),
            status_code: (bits & 4 != 0).then_some(500),
            since: (bits & 8 != 0).then_some(day_before),
            until: (bits & 16 != 0).then_some(now),
            before: (bits & 32 != 0).then(|| id_at(now)),
            limit: 50,
        };
        for path in [Path::Webhook(webhook), Path::Everything] {
            let mut range = range(&filter, &path);
            let name = format!("{path:?} {bits:06b}");
            let bound = bound_sql(&range, LOOKED_AT);
            all.push((format!("bound of {name}"), text(bound, &range.values)));
            range.and("d.id >= ?", id_at(day_before));
            narrow(&mut range, scope, &filter, &path);
            all.push((format!("page of {name}"), text(ids_sql(&range, 51), &range.values)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(ids: &[u128], from: Option<u128>) -> Walked {
        Walked {
            ids: ids.iter().copied().map(Uuid::from_u128).collect(),
            looked_at_from: from.map(Uuid::from_u128),
        }
    }

    fn joined(walks: Vec<Walked>, limit: u64) -> (Vec<u128>, Option<u128>) {
        let all = join(walks, limit);
        (all.ids.iter().map(Uuid::as_u128).collect(), all.looked_at_from.map(|id| id.as_u128()))
    }

    #[test]
    fn what_one_walk_has_not_reached_waits_for_the_next_page() {
        // The second one has looked down to 50 only: what lies below could hide newer ones.
        let walks = vec![walked(&[90, 40], None), walked(&[60], Some(50))];
        assert_eq!(joined(walks, 10), (vec![90, 60], Some(50)));
    }

    #[test]
    fn a_full_walk_has_looked_down_to_its_last_find() {
        let walks = vec![walked(&[90, 80, 70], None), walked(&[75, 20], None)];
        assert_eq!(joined(walks, 2), (vec![90, 80, 75], Some(70)));
        assert_eq!(joined(vec![walked(&[9], None), walked(&[8], None)], 2), (vec![9, 8], None));
    }
}
