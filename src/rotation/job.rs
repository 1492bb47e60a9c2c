//! Rotations: how they begin, and how an operator sees them.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};
use tokio::sync::Notify;

use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::crypto::{CryptoError, KeyId, KeyStoreError, Keys, Purpose, introduce_data_key};
use crate::seam::{Seam, Timestamp};
use crate::store::entity::key_rotation;
use crate::store::{Nodes, Store, StoreError, UnitOfWork};
use crate::webhook::{Routing, RoutingError};

/// For how long a securityContext of the old key opens where nobody says otherwise: a vendor keeps the
/// one that came last, and that may be a while ago.
const USUAL_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// How many rotations are told of at the most.
const TOLD: u64 = 20;

/// Why a rotation cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// A cipher failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Routing could not be followed.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// What is stored of a rotation cannot be read.
    #[error("a stored rotation cannot be read: {what}")]
    Unreadable {
        /// Which part.
        what: &'static str,
    },
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationState {
    /// The new key is made known to every node; nobody seals with it.
    Introducing,
    /// The new key seals, and what the old one sealed is sealed anew.
    Resealing,
    /// The new key seals; the old one opens until the overlap ends.
    Overlapping,
    /// The old key is deleted, and its traces with it.
    Retiring,
    /// Nothing is left of the old key.
    Done,
}

impl RotationState {
    const ALL: [Self; 5] =
        [Self::Introducing, Self::Resealing, Self::Overlapping, Self::Retiring, Self::Done];

    /// The name in the database and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Introducing => "introducing",
            Self::Resealing => "resealing",
            Self::Overlapping => "overlapping",
            Self::Retiring => "retiring",
            Self::Done => "done",
        }
    }

    pub(super) fn of(row: &key_rotation::Model) -> Result<Self, RotationError> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == row.state)
            .ok_or(RotationError::Unreadable { what: "its state" })
    }
}

/// A rotation, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationView {
    /// What the key is for.
    pub purpose: Purpose,
    /// The new key.
    pub key_id: KeyId,
    /// How far it is.
    pub state: RotationState,
    /// How many sealed values there were to look at, where that is known; at least so many.
    pub total: Option<i64>,
    /// How many were looked at.
    pub processed: i64,
    /// How many were sealed anew.
    pub resealed: i64,
    /// How many do not open: as long as there are any, the old key is kept.
    pub unreadable: i64,
    /// What it waits for.
    pub reason: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// Since when the new key seals.
    pub activated_at: Option<Timestamp>,
    /// Until when the old key opens what is presented from outside; nothing for what is stored here.
    pub overlap_until: Option<Timestamp>,
    /// When nothing was left of the old key.
    pub finished_at: Option<Timestamp>,
}

impl RotationView {
    pub(super) fn of(row: &key_rotation::Model) -> Result<Self, RotationError> {
        let at = |micros: Option<i64>| micros.map(Timestamp::from_micros);
        let purpose: Purpose = row.purpose.parse()?;
        Ok(Self {
            purpose,
            key_id: KeyId(
                u32::try_from(row.key_id)
                    .map_err(|_| RotationError::Unreadable { what: "its key" })?,
            ),
            state: RotationState::of(row)?,
            total: row.total.map(|total| total.max(row.processed)),
            processed: row.processed,
            resealed: row.resealed,
            unreadable: row.unreadable,
            reason: row.reason.clone(),
            created_at: Timestamp::from_micros(row.created_at),
            activated_at: at(row.activated_at),
            overlap_until: overlap_until(row, purpose),
            finished_at: at(row.finished_at),
        })
    }

    /// Whether there is nothing left to wait for but the overlap.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, RotationState::Overlapping | RotationState::Done)
    }
}

/// Until when an old key opens what is presented from outside.
pub(super) fn overlap_until(row: &key_rotation::Model, purpose: Purpose) -> Option<Timestamp> {
    let activated = row.activated_at.filter(|_| purpose == Purpose::SecurityContext)?;
    let overlap = Duration::from_secs(u64::try_from(row.overlap_seconds).unwrap_or(0));
    Some(Timestamp::from_micros(activated).plus(overlap))
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) nodes: Nodes,
    pub(super) keys: Keys,
    pub(super) routing: Option<Routing>,
    pub(super) seam: Seam,
    pub(super) poked: Notify,
}

/// The rotations of a database. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Rotations {
    pub(super) inner: Arc<Inner>,
}

impl Rotations {
    /// Those of a server, which follows what other nodes change by its routing.
    pub fn of_server(store: Store, keys: Keys, routing: Routing, seam: Seam) -> Self {
        Self::new(store, keys, Some(routing), seam)
    }

    /// Those of a command that has opened the database itself. On SQLite nobody else has then.
    pub fn of_command(store: Store, keys: Keys, seam: Seam) -> Self {
        Self::new(store, keys, None, seam)
    }

    fn new(store: Store, keys: Keys, routing: Option<Routing>, seam: Seam) -> Self {
        let nodes = Nodes::new(store.clone());
        let inner = Inner { store, nodes, keys, routing, seam, poked: Notify::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Has the loop look at once.
    pub fn poke(&self) {
        self.inner.poked.notify_one();
    }

    /// Begins the rotation of a purpose, or finds the one that runs: then a shorter `overlap` than it
    /// has counts from now on. It is for the securityContext alone; everything else is stored here, and
    /// sealed anew.
    pub async fn start(
        &self,
        work: &mut UnitOfWork,
        purpose: Purpose,
        overlap: Option<Duration>,
        actor: &Actor,
    ) -> Result<RotationView, RotationError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let running = key_rotation::Entity::find()
            .filter(key_rotation::Column::Running.is_not_null())
            .filter(key_rotation::Column::Purpose.eq(purpose.as_str()))
            .lock_exclusive()
            .one(work.connection())
            .await
            .map_err(StoreError::from)?;
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        if let Some(mut row) = running {
            if let Some(wanted) = overlap.map(seconds).filter(|span| *span < row.overlap_seconds) {
                row.overlap_seconds = wanted;
                row.next_at = now.micros();
                row.steps += 1;
                let detail = serde_json::json!({ "keyId": row.key_id, "overlapSeconds": wanted });
                append(work, "keys.shorten-overlap", purpose, detail, actor, inner).await?;
                save(work, &row).await?;
            }
            return RotationView::of(&row);
        }
        let overlap = match purpose {
            Purpose::SecurityContext => overlap.unwrap_or(USUAL_OVERLAP),
            Purpose::Vault | Purpose::Answers => Duration::ZERO,
        };
        let key = introduce_data_key(work, &inner.keys, purpose, now, &inner.seam).await?;
        let row = key_rotation::Model {
            id: inner.seam.randomness.id(),
            purpose: purpose.as_str().to_owned(),
            key_id: i32::try_from(key.0)
                .map_err(|_| RotationError::Unreadable { what: "its key" })?,
            state: RotationState::Introducing.name().to_owned(),
            running: Some(1),
            overlap_seconds: seconds(overlap),
            place: 0,
            position: String::new(),
            pass: 1,
            pass_started_at: None,
            pass_found: 0,
            total: None,
            processed: 0,
            resealed: 0,
            unreadable: 0,
            steps: 0,
            reason: None,
            created_by: actor.name.clone(),
            created_at: now.micros(),
            activated_at: None,
            activated_revision: None,
            finished_at: None,
            next_at: now.micros(),
        };
        let mut fresh = row.clone().into_active_model().reset_all();
        fresh.id = Set(row.id);
        key_rotation::Entity::insert(fresh)
            .exec_without_returning(work.connection())
            .await
            .map_err(StoreError::from)?;
        let detail = serde_json::json!({ "keyId": key.0, "overlapSeconds": overlap.as_secs() });
        append(work, "keys.introduce", purpose, detail, actor, inner).await?;
        RotationView::of(&row)
    }

    /// The last rotations, the newest first.
    pub async fn list(&self) -> Result<Vec<RotationView>, RotationError> {
        let rows = key_rotation::Entity::find()
            .order_by_desc(key_rotation::Column::Id)
            .limit(TOLD)
            .all(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?;
        rows.iter().map(RotationView::of).collect()
    }
}

/// Says in the platform's chain what was done to a key.
pub(super) async fn append(
    work: &UnitOfWork,
    action: &'static str,
    purpose: Purpose,
    detail: serde_json::Value,
    actor: &Actor,
    inner: &Inner,
) -> Result<(), StoreError> {
    let entry = Entry {
        chain: PLATFORM_CHAIN,
        action,
        subject: format!("data-key:{purpose}"),
        detail: Some(detail),
    };
    audit::append(work, entry, actor, inner.seam.clock.now(), &inner.seam.randomness).await
}

pub(super) async fn save(work: &UnitOfWork, row: &key_rotation::Model) -> Result<(), StoreError> {
    let active = row.clone().into_active_model().reset_all();
    key_rotation::Entity::update(active).exec(work.connection()).await?;
    Ok(())
}
