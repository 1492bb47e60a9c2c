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
    DeliveryFilter, DeliveryView, EndpointScope, WantedEvent, events_of, id_at, later_attempts_of,
    name_variants, view,
};
use crate::seam::Timestamp;
use crate::store::claims::DeliveryState;
use crate::store::entity::{delivery, endpoint};
use crate::store::{Store, StoreError};

/// Up to how many webhooks are walked one by one; of more, all deliveries are walked.
const FEW: u64 = 50;

/// How many rows a page with filters looks at.
const LOOKED_AT: u64 = 10_000;

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
    let walked = if let Some(ids) = webhooks {
        let each = (LOOKED_AT / (ids.len() as u64).max(1)).max(LEAST);
        let mut walks = Vec::with_capacity(ids.len());
        for id in ids {
            walks.push(walk(store, scope, filter, &Path::Webhook(id), each).await?);
        }
        join(walks, filter.limit)
    } else {
        let is_plain = *scope == EndpointScope::All
            && filter.org_id.is_none()
            && filter.state.is_none()
            && filter.status_code.is_none()
            && filter.event.is_none();
        let most = if is_plain { LOOKED_AT_PLAINLY } else { LOOKED_AT };
        walk(store, scope, filter, &Path::Everything, most).await?
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
    if *scope == EndpointScope::All && !narrow && filter.org_id.is_none() {
        return Ok(None);
    }
    let mut query = endpoint::Entity::find()
        .select_only()
        .column(endpoint::Column::Id)
        .filter(scope.condition())
        .filter(endpoint::Column::Lane.is_in(["webhook", "incoming"]))
        .limit(FEW + 1);
    if let Some(id) = filter.webhook_id {
        query = query.filter(endpoint::Column::Id.eq(id));
    }
    if let Some(id) = filter.installation_id {
        query = query.filter(endpoint::Column::InstallationId.eq(id));
    }
    if let Some(org) = &filter.org_id {
        query = query.filter(endpoint::Column::OrgId.eq(org));
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

/// A stretch of an index, and what its rows must be beside, as SQL with its values.
#[derive(Clone)]
struct Stretch {
    /// Of one webhook; of all where there is none.
    webhook: Option<Uuid>,
    /// From here on.
    lower: Uuid,
    /// Up to before here.
    upper: Uuid,
    filters: String,
    values: Vec<Value>,
}

async fn walk(
    store: &Store,
    scope: &EndpointScope,
    filter: &DeliveryFilter,
    path: &Path,
    most: u64,
) -> Result<Walked, StoreError> {
    let mut stretch = Stretch::new(filter, path);
    let has_filters = filter.state.is_some()
        || filter.status_code.is_some()
        || filter.event.is_some()
        || matches!(path, Path::Everything);
    let mut looked_at_from = None;
    if has_filters {
        let (sql, values) = stretch.bound(most);
        if let Some(row) = store.reader().query_one_raw(statement(store, &sql, values)).await? {
            let bound: Uuid = row.try_get_by_index(0)?;
            stretch.lower = bound;
            looked_at_from = Some(bound);
        }
        stretch.narrow(scope, filter);
    }
    let (sql, values) = stretch.page(most, filter.limit + 1);
    let rows = store.reader().query_all_raw(statement(store, &sql, values)).await?;
    let ids = rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<Vec<Uuid>, _>>()?;
    Ok(Walked { ids, looked_at_from })
}

impl Stretch {
    /// The ids are ordered in time: bounds on the time become bounds on the index.
    fn new(filter: &DeliveryFilter, path: &Path) -> Self {
        let upper = [filter.before, filter.until.map(id_at)].into_iter().flatten().min();
        Self {
            webhook: match path {
                Path::Webhook(id) => Some(*id),
                Path::Everything => None,
            },
            lower: filter.since.map_or(Uuid::nil(), id_at),
            upper: upper.unwrap_or(Uuid::max()),
            filters: String::new(),
            values: Vec::new(),
        }
    }

    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// The rows of the stretch and their order. Both columns of the history's index are named in
    /// both, since a planner that takes the webhook for frequent would go along the primary key.
    fn walked(&mut self) -> (String, &'static str) {
        let (lower, upper) = (self.lower, self.upper);
        if let Some(webhook) = self.webhook {
            let (webhook, lower, upper) =
                (self.value(webhook), self.value(lower), self.value(upper));
            let range = format!(
                "(d.endpoint_id, d.id) >= ({webhook}, {lower}) \
                 and (d.endpoint_id, d.id) < ({webhook}, {upper})"
            );
            (range, "d.endpoint_id desc, d.id desc")
        } else {
            let (lower, upper) = (self.value(lower), self.value(upper));
            (format!("d.id >= {lower} and d.id < {upper}"), "d.id desc")
        }
    }

    /// Where a page that looks at so many rows ends.
    fn bound(&self, most: u64) -> (String, Vec<Value>) {
        let mut stretch = Self { values: Vec::new(), ..self.clone() };
        let (range, order) = stretch.walked();
        let before = most.saturating_sub(1);
        let sql = format!(
            "select d.id from deliveries d where {range} order by {order} limit 1 offset {before}"
        );
        (sql, stretch.values)
    }

    /// What the rows of the stretch must be beside. Events are looked up one by one: a join would
    /// have the planner read all events of a type.
    fn narrow(&mut self, scope: &EndpointScope, filter: &DeliveryFilter) {
        let mut filters = String::new();
        let mut and = |condition: String| {
            filters.push_str(if filters.is_empty() { " where " } else { " and " });
            filters.push_str(&condition);
        };
        if let Some(state) = filter.state {
            let state = self.value(state.number());
            and(format!("w.state = {state}"));
        }
        if let Some(status) = filter.status_code {
            let status = self.value(i32::from(status));
            and(format!("w.first_status = {status}"));
        }
        match &filter.event {
            None => {}
            Some(WantedEvent::Type(name)) => {
                let name = self.value(name.clone());
                and(format!(
                    "(select e.event_type from events e where e.id = w.event_id) = {name}"
                ));
            }
            Some(WantedEvent::Told(name)) => {
                let name = self.value(name.clone());
                and(format!(
                    "(select v.variant from delivery_variants v where v.delivery_id = w.id) = {name}"
                ));
            }
        }
        if self.webhook.is_none() {
            let owned = match scope {
                EndpointScope::All => String::new(),
                EndpointScope::Org(org) => format!(" and p.org_id = {}", self.value(org.clone())),
                EndpointScope::Extensions(keys) => {
                    let places: Vec<String> =
                        keys.iter().map(|key| self.value(key.clone())).collect();
                    format!(" and p.extension_key in ({})", places.join(", "))
                }
            };
            let named =
                filter.org_id.clone().map(|org| format!(" and p.org_id = {}", self.value(org)));
            let named = named.unwrap_or_default();
            and(format!(
                "exists (select 1 from endpoints p where p.id = w.endpoint_id \
                 and p.lane in ('webhook', 'incoming'){owned}{named})"
            ));
        }
        self.filters = filters;
    }

    /// The newest rows of the stretch that are as they must be.
    fn page(mut self, most: u64, limit: u64) -> (String, Vec<Value>) {
        let (range, order) = self.walked();
        let sql = if self.filters.is_empty() {
            format!("select d.id from deliveries d where {range} order by {order} limit {limit}")
        } else {
            // The inner limit keeps the stretch a stretch, whatever the planner thinks of it.
            format!(
                "select w.id from (select d.id, d.endpoint_id, d.event_id, d.state, d.first_status \
                 from deliveries d where {range} order by {order} limit {most}) w{} \
                 order by w.id desc limit {limit}",
                self.filters
            )
        };
        (sql, self.values)
    }
}

fn statement(store: &Store, sql: &str, values: Vec<Value>) -> Statement {
    Statement::from_sql_and_values(store.dialect(), sql, values)
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
    let mut views: Vec<DeliveryView> = rows
        .into_iter()
        .filter_map(|row| {
            let event = events.get(&row.event_id)?.clone();
            let owner = owners.get(&row.endpoint_id)?.clone();
            let attempts = later.remove(&row.id).unwrap_or_default();
            Some(view(row, event, owner, attempts))
        })
        .collect();
    name_variants(store, &mut views).await?;
    Ok(views)
}

/// The statements of every combination of filters with their values in them, for those who look
/// at their plans; pages end where the two seconds before `now` begin.
#[doc(hidden)]
pub fn plans(
    postgres: bool,
    scope: &EndpointScope,
    webhook: Uuid,
    now: Timestamp,
) -> Vec<(String, String)> {
    let backend = if postgres { DatabaseBackend::Postgres } else { DatabaseBackend::Sqlite };
    let text = |(sql, values): (String, Vec<Value>)| {
        Statement::from_sql_and_values(backend, sql, values).to_string()
    };
    let day_before = now.minus(std::time::Duration::from_hours(24));
    let mut all = Vec::new();
    for bits in 0_u8..64 {
        let filter = DeliveryFilter {
            webhook_id: None,
            installation_id: None,
            org_id: None,
            state: (bits & 1 != 0).then_some(DeliveryState::Failed),
            event: match (bits & 2 != 0, bits & 4 != 0) {
                (false, _) => None,
                (true, false) => Some(WantedEvent::Type("Ticket_Add".to_owned())),
                (true, true) => Some(WantedEvent::Told("request.created".to_owned())),
            },
            status_code: (bits & 4 != 0).then_some(500),
            since: (bits & 8 != 0).then_some(day_before),
            until: (bits & 16 != 0).then_some(now),
            before: (bits & 32 != 0).then(|| id_at(now)),
            limit: 50,
        };
        for path in [Path::Webhook(webhook), Path::Everything] {
            let name = format!("{path:?} {bits:06b}");
            let mut stretch = Stretch::new(&filter, &path);
            all.push((format!("bound of {name}"), text(stretch.bound(LOOKED_AT))));
            stretch.lower = id_at(now.minus(std::time::Duration::from_secs(2)));
            stretch.narrow(scope, &filter);
            all.push((format!("page of {name}"), text(stretch.page(LOOKED_AT, 51))));
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
