//! Reading deliveries and their attempts, for whoever may see them.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::Value;
use uuid::Uuid;

use super::dispatcher::Dispatcher;
use super::recovery::{Standing, standing};
use crate::seam::Timestamp;
use crate::store::claims::{DeliveryState, PARKED};
use crate::store::entity::{
    attempt, delivery, delivery_reason, delivery_variant, endpoint, event, webhook_rule,
};
use crate::store::{Store, StoreError};
use crate::webhook::Endpoint;
use crate::webhook::own::RoutedRule;

/// The time that an endpoint's id and those of deliveries share in a UUIDv7, as its upper bits.
const V7_TIME_SHIFT: u32 = 80;

/// Which deliveries a caller may see: every query carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointScope {
    /// All of them.
    All,
    /// Those of one org.
    Org(String),
    /// Those of a vendor's extensions.
    Extensions(Vec<String>),
}

impl EndpointScope {
    /// Whether an endpoint that exists is among them.
    pub fn covers(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::All => true,
            Self::Org(org) => *endpoint.org_id == **org,
            Self::Extensions(keys) => endpoint
                .owner
                .as_ref()
                .is_some_and(|owner| keys.iter().any(|key| **key == *owner.extension_key)),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::All => Condition::all(),
            Self::Org(org) => Condition::all().add(endpoint::Column::OrgId.eq(org)),
            Self::Extensions(keys) => {
                Condition::all().add(endpoint::Column::ExtensionKey.is_in(keys.iter().cloned()))
            }
        }
    }
}

/// An event that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedEvent {
    /// Of this type of the host's.
    Type(String),
    /// Told by this name of a dialect.
    Told(String),
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Of one webhook.
    pub webhook_id: Option<Uuid>,
    /// Of one installation.
    pub installation_id: Option<Uuid>,
    /// To webhooks of one org.
    pub org_id: Option<String>,
    /// In one state.
    pub state: Option<DeliveryState>,
    /// Of one event.
    pub event: Option<WantedEvent>,
    /// Whose first attempt had this status.
    pub status_code: Option<u16>,
    /// Made at this moment or later.
    pub since: Option<Timestamp>,
    /// Made before this moment.
    pub until: Option<Timestamp>,
    /// Older than this one.
    pub before: Option<Uuid>,
    /// How many at the most.
    pub limit: u64,
}

/// A delivery with its event and its attempts.
#[derive(Clone, Debug)]
pub struct DeliveryView {
    /// Its id, which is the `webhook-id` header.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// The id that the caller gave to the event.
    pub event_key: Option<String>,
    /// The event's type.
    pub event_type: String,
    /// What it tells of, where the webhook's dialect has names of its own.
    pub variant: Option<String>,
    /// Why it was given up that nobody tried, where that is known.
    pub reason: Option<String>,
    /// The webhook.
    pub webhook_id: Uuid,
    /// The org.
    pub org_id: String,
    /// The installation that owns the webhook.
    pub installation_id: Option<Uuid>,
    /// The extension that owns the webhook.
    pub extension_key: Option<String>,
    /// Its state.
    pub state: DeliveryState,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many attempts were made.
    pub attempts_made: i32,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct AttemptView {
    /// Its number, from 1.
    pub number: i32,
    /// When it began.
    pub at: Timestamp,
    /// The status of the answer.
    pub status: Option<i32>,
    /// How long it took, in microseconds.
    pub micros: i64,
    /// The class of the error.
    pub error: Option<String>,
    /// Phases, address, headers, excerpt of the body, hint.
    pub detail: Value,
}

/// What a delivery shows of its event: never the payload, which may be large.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct EventHead {
    id: Uuid,
    event_key: Option<String>,
    event_type: String,
}

impl EventHead {
    const COLUMNS: [event::Column; 3] =
        [event::Column::Id, event::Column::EventKey, event::Column::EventType];

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    fn of(event: &event::Model) -> Self {
        Self {
            id: event.id,
            event_key: event.event_key.clone(),
            event_type: event.event_type.clone(),
        }
    }
}

pub(super) async fn events_of(
    store: &Store,
    rows: &[delivery::Model],
) -> Result<Vec<EventHead>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Ok(event::Entity::find()
        .select_only()
        .columns(EventHead::COLUMNS)
        .filter(event::Column::Id.is_in(rows.iter().map(|row| row.event_id)))
        .into_model()
        .all(store.reader())
        .await?)
}

/// Reads one delivery with all its attempts; nothing where the caller may not see it.
pub async fn find(
    store: &Store,
    scope: &EndpointScope,
    id: Uuid,
) -> Result<Option<DeliveryView>, StoreError> {
    let Some(row) = delivery::Entity::find_by_id(id).one(store.reader()).await? else {
        return Ok(None);
    };
    let owner = endpoint::Entity::find_by_id(row.endpoint_id)
        .filter(scope.condition())
        .one(store.reader())
        .await?;
    let event = events_of(store, std::slice::from_ref(&row)).await?.pop();
    let (Some(owner), Some(event)) = (owner, event) else { return Ok(None) };
    let later = later_attempts(store, id).await?;
    let mut views = [view(row, event, owner, later)];
    name_variants(store, &mut views).await?;
    let [view] = views;
    Ok(Some(view))
}

/// The endpoint of a delivery, whoever asks: what is told of it must be vetted by the caller.
pub async fn endpoint_of(store: &Store, id: Uuid) -> Result<Option<Uuid>, StoreError> {
    let row = delivery::Entity::find_by_id(id).one(store.reader()).await?;
    Ok(row.map(|row| row.endpoint_id))
}

/// The deliveries of an event, whatever became of their webhooks. `scope` limits to what the caller
/// may see.
pub async fn of_event(
    store: &Store,
    scope: &EndpointScope,
    event: &event::Model,
) -> Result<Vec<DeliveryView>, StoreError> {
    let endpoints = endpoint::Entity::find()
        .filter(endpoint::Column::OrgId.eq(&event.org_id))
        .filter(scope.condition())
        .filter(endpoint::Column::Lane.eq("webhook"))
        .all(store.reader())
        .await?;
    let mut views = Vec::new();
    // Deliveries are made right after their event, so their ids follow its own closely. Not by the
    // time of acceptance: ids go on growing where the time of day is set back.
    let made = u64::try_from(event.id.as_u128() >> V7_TIME_SHIFT).unwrap_or(0);
    let made = Timestamp::from_millis(i64::try_from(made).unwrap_or(i64::MAX));
    let latest = id_at(made.plus(std::time::Duration::from_mins(1)));
    for owner in endpoints {
        let rows = delivery::Entity::find()
            .filter(delivery::Column::EndpointId.eq(owner.id))
            .filter(delivery::Column::Id.gte(event.id))
            .filter(delivery::Column::Id.lt(latest))
            .filter(delivery::Column::EventId.eq(event.id))
            .all(store.reader())
            .await?;
        for row in rows {
            let later = later_attempts(store, row.id).await?;
            views.push(view(row, EventHead::of(event), owner.clone(), later));
        }
    }
    name_variants(store, &mut views).await?;
    Ok(views)
}

/// What some deliveries tell of, where that is not just their event.
pub(super) async fn variants_of(
    store: &Store,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, String>, StoreError> {
    let rows = delivery_variant::Entity::find()
        .filter(delivery_variant::Column::DeliveryId.is_in(ids))
        .all(store.reader())
        .await?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, row.variant)).collect())
}

/// Adds to deliveries what they tell of.
pub(super) async fn name_variants(
    store: &Store,
    views: &mut [DeliveryView],
) -> Result<(), StoreError> {
    // An extension's never tell of anything else.
    let own: Vec<Uuid> =
        views.iter().filter(|view| view.installation_id.is_none()).map(|view| view.id).collect();
    if own.is_empty() {
        return Ok(());
    }
    let mut variants = variants_of(store, own).await?;
    let mut given_up = Vec::new();
    for view in views.iter_mut() {
        view.variant = variants.remove(&view.id);
        if view.variant.is_some() && view.state == DeliveryState::Cancelled {
            given_up.push(view.id);
        }
    }
    if given_up.is_empty() {
        return Ok(());
    }
    let rows = delivery_reason::Entity::find()
        .filter(delivery_reason::Column::DeliveryId.is_in(given_up))
        .all(store.reader())
        .await?;
    let mut reasons: HashMap<Uuid, String> =
        rows.into_iter().map(|row| (row.delivery_id, row.reason)).collect();
    for view in views {
        view.reason = reasons.remove(&view.id);
    }
    Ok(())
}

/// Keeps why a delivery is given up that nobody tried.
pub(super) async fn keep_reason(
    store: &Store,
    delivery_id: Uuid,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let work = store.begin().await?;
    delivery_reason::Entity::insert(delivery_reason::ActiveModel {
        delivery_id: Set(delivery_id),
        reason: Set(reason.to_owned()),
    })
    .on_conflict(
        OnConflict::column(delivery_reason::Column::DeliveryId)
            .update_column(delivery_reason::Column::Reason)
            .to_owned(),
    )
    .exec_without_returning(work.connection())
    .await?;
    let _settled = work.commit(now).await?;
    Ok(())
}

/// The smallest UUIDv7 of a moment.
pub(super) fn id_at(moment: Timestamp) -> Uuid {
    let millis = u128::from(u64::try_from(moment.millis()).unwrap_or(0));
    Uuid::from_u128(millis << V7_TIME_SHIFT)
}

/// The attempts from the second on of some deliveries, each in order.
pub(super) async fn later_attempts_of(
    store: &Store,
    rows: &[delivery::Model],
) -> Result<HashMap<Uuid, Vec<attempt::Model>>, StoreError> {
    let several: Vec<Uuid> = rows.iter().filter(|row| row.attempts > 1).map(|row| row.id).collect();
    let mut by_delivery: HashMap<Uuid, Vec<attempt::Model>> = HashMap::new();
    if several.is_empty() {
        return Ok(by_delivery);
    }
    let attempts = attempt::Entity::find()
        .filter(attempt::Column::DeliveryId.is_in(several))
        .order_by_asc(attempt::Column::DeliveryId)
        .order_by_asc(attempt::Column::Number)
        .all(store.reader())
        .await?;
    for attempt in attempts {
        by_delivery.entry(attempt.delivery_id).or_default().push(attempt);
    }
    Ok(by_delivery)
}

async fn later_attempts(store: &Store, id: Uuid) -> Result<Vec<attempt::Model>, StoreError> {
    Ok(attempt::Entity::find()
        .filter(attempt::Column::DeliveryId.eq(id))
        .order_by_asc(attempt::Column::Number)
        .all(store.reader())
        .await?)
}

pub(super) fn view(
    row: delivery::Model,
    event: EventHead,
    owner: endpoint::Model,
    later: Vec<attempt::Model>,
) -> DeliveryView {
    let detail = |text: Option<String>| {
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
    };
    let first = row.first_at.map(|at| AttemptView {
        number: 1,
        at: Timestamp::from_micros(at),
        status: row.first_status,
        micros: row.first_micros.unwrap_or(0),
        error: row.first_error,
        detail: detail(row.first_detail),
    });
    let later = later.into_iter().map(|attempt| AttemptView {
        number: attempt.number,
        at: Timestamp::from_micros(attempt.at),
        status: attempt.status,
        micros: attempt.micros,
        error: attempt.error,
        detail: detail(attempt.detail),
    });
    DeliveryView {
        reason: None,
        id: row.id,
        event_id: event.id,
        event_key: event.event_key,
        event_type: event.event_type,
        variant: None,
        webhook_id: row.endpoint_id,
        org_id: owner.org_id,
        installation_id: owner.installation_id,
        extension_key: owner.extension_key,
        state: DeliveryState::from_number(row.state).unwrap_or(DeliveryState::Pending),
        next_attempt_at: row.due_at.filter(|due| *due < PARKED).map(Timestamp::from_micros),
        created_at: Timestamp::from_micros(row.created_at),
        attempts_made: row.attempts,
        attempts: first.into_iter().chain(later).collect(),
    }
}

/// Why a delivery was not put back on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequeueRefusal {
    /// It is on its way already.
    UnderWay,
    /// Its webhook is no more.
    Closed,
    /// Its payload is older than what is kept.
    Emptied,
    /// Its trigger or automation is no more, or is switched off.
    RuleEnded,
    /// Its webhook delivers nothing now: it would only be held again.
    Held(&'static str),
}

/// Whether the trigger or automation of a delivery is there and switched on, where it is of one: what
/// it says is what is sent.
async fn has_live_rule(
    work: &crate::store::UnitOfWork,
    delivery_id: Uuid,
) -> Result<bool, StoreError> {
    let variant = delivery_variant::Entity::find_by_id(delivery_id).one(work.connection()).await?;
    let Some(rule) = variant.and_then(|row| RoutedRule::id_of(&row.variant)) else {
        return Ok(true);
    };
    let rule = webhook_rule::Entity::find_by_id(rule).one(work.connection()).await?;
    Ok(rule.is_some_and(|rule| rule.is_active != 0))
}

/// Puts a delivery back on its way, with the same id, to the webhook's present address.
pub async fn requeue(
    dispatcher: &Dispatcher,
    work: &crate::store::UnitOfWork,
    id: Uuid,
    now: Timestamp,
) -> Result<Result<(), RequeueRefusal>, StoreError> {
    let Some(row) =
        delivery::Entity::find_by_id(id).lock_exclusive().one(work.connection()).await?
    else {
        return Ok(Err(RequeueRefusal::Closed));
    };
    let ordered = match dispatcher.inner.routing.endpoint(row.endpoint_id) {
        Some(endpoint) if endpoint.generation == row.generation => endpoint.ordered,
        _ => return Ok(Err(RequeueRefusal::Closed)),
    };
    if let Standing::Held(why) = standing(work, row.endpoint_id).await? {
        return Ok(Err(RequeueRefusal::Held(why)));
    }
    let state = DeliveryState::from_number(row.state);
    if state == Some(DeliveryState::Pending)
        && row.due_at.is_none_or(|due| row.claim.is_some() && due > now.micros())
    {
        return Ok(Err(RequeueRefusal::UnderWay));
    }
    if !has_live_rule(work, id).await? {
        return Ok(Err(RequeueRefusal::RuleEnded));
    }
    let has_payload = event::Entity::find_by_id(row.event_id)
        .filter(Expr::cust("length(payload) > 0"))
        .one(work.connection())
        .await?
        .is_some();
    if !has_payload {
        return Ok(Err(RequeueRefusal::Emptied));
    }
    delivery::Entity::update_many()
        .col_expr(delivery::Column::State, Expr::value(DeliveryState::Pending.number()))
        .col_expr(delivery::Column::DueAt, Expr::value(now.micros()))
        .col_expr(delivery::Column::Claim, Expr::value(Option::<i64>::None))
        .col_expr(delivery::Column::Replay, Expr::value(i16::from(row.attempts > 0)))
        .col_expr(delivery::Column::Ordered, Expr::value(ordered.then_some(1_i16)))
        .filter(delivery::Column::Id.eq(id))
        .exec(work.connection())
        .await?;
    Ok(Ok(()))
}
