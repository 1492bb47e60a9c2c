//! The running processes: their leases, their epochs, and how far their routing is.
//!
//! A node lives as long as it renews its lease; the database's clock decides, so that clocks of
//! machines that differ harm nothing. An SQLite file has one process, so its lease is never judged.

use std::time::Duration;

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, Statement};
use uuid::Uuid;

use super::database::{Backend, Store, UnitOfWork};
use super::entity::routing;
use super::error::StoreError;
use crate::seam::Timestamp;

/// How long a node may go on after its last renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// The number of one run of one process: what its claims carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub(crate) i64);

impl Epoch {
    /// The number.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// A node whose lease has run out: its claims are free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LapsedNode {
    pub(crate) epoch: Epoch,
    pub(crate) low_water: Uuid,
}

/// How many nodes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodesStanding {
    /// With a live lease.
    pub(crate) live: u64,
    /// Whose lease ran out so long ago that somebody should have taken over.
    pub(crate) long_dead: u64,
}

/// How far epochs and revisions leap at a restore: a process of the life before has none beyond.
const LEAP: i64 = 1_000_000;

/// How far the positions of changes leap at a restore: whoever read on from a position of the life
/// before must find what comes now behind it, however much came between the backup and its loss.
const POSITIONS_LEAP: i64 = 1_000_000_000;

/// How far a node has followed the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The newest revision of routing that it has applied.
    pub revision: i64,
    /// The newest data key that it can open with.
    pub known_data_key: i64,
}

/// The table of nodes.
#[derive(Clone, Debug)]
pub struct Nodes {
    store: Store,
}

#[derive(FromQueryResult)]
struct NodeRow {
    epoch: i64,
    low_water: Uuid,
}

#[derive(FromQueryResult)]
struct Revision {
    revision: Option<i64>,
}

impl Nodes {
    /// The nodes of a database.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Enters this process, with a new epoch.
    pub async fn register(&self, now: Timestamp, low_water: Uuid) -> Result<Epoch, StoreError> {
        let work = self.store.begin().await?;
        routing::Entity::update_many()
            .col_expr(routing::Column::NextEpoch, Expr::col(routing::Column::NextEpoch).add(1))
            .filter(routing::Column::Singleton.eq(1))
            .exec(work.connection())
            .await?;
        let row = routing::Entity::find_by_id(1)
            .one(work.connection())
            .await?
            .ok_or(StoreError::Corrupt { what: "routing row" })?;
        let epoch = row.next_epoch - 1;
        let sql = format!(
            "insert into nodes (epoch, started_at, lease_until, applied_revision, low_water) \
             values ($1, $2, {} + {}, $3, $4)",
            self.clock(now),
            LEASE.as_micros()
        );
        work.connection()
            .execute_raw(self.statement(
                sql,
                [epoch.into(), now.micros().into(), row.revision.into(), low_water.into()],
            ))
            .await?;
        let _settled = work.commit(now).await?;
        Ok(Epoch(epoch))
    }

    /// Renews the lease; `false` where another node has already taken this one for dead.
    pub async fn renew(
        &self,
        epoch: Epoch,
        applied: Applied,
        low_water: Uuid,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "update nodes set lease_until = {} + {}, applied_revision = $1, low_water = $2, \
             known_data_key = $4 where epoch = $3",
            self.clock(now),
            LEASE.as_micros(),
        );
        let work = self.store.begin().await?;
        let done = work
            .connection()
            .execute_raw(self.statement(
                sql,
                [
                    applied.revision.into(),
                    low_water.into(),
                    epoch.0.into(),
                    applied.known_data_key.into(),
                ],
            ))
            .await?;
        let _settled = work.commit(now).await?;
        Ok(done.rows_affected() == 1)
    }

    /// The nodes whose lease has run out. On SQLite every other node is one: the file is ours.
    pub(crate) async fn lapsed(
        &self,
        this: Epoch,
        now: Timestamp,
    ) -> Result<Vec<LapsedNode>, StoreError> {
        let condition = if self.is_shared() {
            format!("lease_until <= {}", self.clock(now))
        } else {
            "epoch <> $1".to_owned()
        };
        let sql = format!(
            "select epoch, low_water from nodes where epoch <> $1 and {condition} order by epoch"
        );
        let rows = NodeRow::find_by_statement(self.statement(sql, [this.0.into()]))
            .all(self.store.reader())
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| LapsedNode { epoch: Epoch(row.epoch), low_water: row.low_water })
            .collect())
    }

    /// Takes this node out, in the transaction that frees its claims.
    pub(crate) async fn remove(&self, work: &UnitOfWork, epoch: Epoch) -> Result<(), StoreError> {
        let sql = "delete from nodes where epoch = $1".to_owned();
        work.connection().execute_raw(self.statement(sql, [epoch.0.into()])).await?;
        Ok(())
    }

    /// Takes a lapsed node out, in the transaction that frees its claims; `false` where it has
    /// renewed meanwhile, or another node was first.
    pub(crate) async fn remove_lapsed(
        &self,
        work: &UnitOfWork,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let condition = if self.is_shared() {
            format!("and lease_until <= {}", self.clock(now))
        } else {
            String::new()
        };
        let sql = format!("delete from nodes where epoch = $1 {condition}");
        let done = work.connection().execute_raw(self.statement(sql, [epoch.0.into()])).await?;
        Ok(done.rows_affected() == 1)
    }

    /// The lowest revision that a node with a live lease has applied, this one left out; nothing
    /// where there is no other.
    pub(crate) async fn slowest_other(
        &self,
        this: Epoch,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let sql = format!(
            "select min(applied_revision) as revision from nodes where epoch <> $1 and lease_until > {}",
            self.clock(now)
        );
        let row = Revision::find_by_statement(self.statement(sql, [this.0.into()]))
            .one(self.store.reader())
            .await?;
        Ok(row.and_then(|row| row.revision))
    }

    /// How many nodes with a live lease cannot open yet what a data key sealed.
    pub(crate) async fn without_data_key(
        &self,
        id: i32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.behind("known_data_key < $1", id.into(), now).await
    }

    /// How many nodes with a live lease have not applied a revision of routing yet.
    pub(crate) async fn without_revision(
        &self,
        revision: i64,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.behind("applied_revision < $1", revision.into(), now).await
    }

    async fn behind(
        &self,
        condition: &str,
        value: sea_orm::Value,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        if !self.is_shared() {
            return Ok(0);
        }
        let sql = format!(
            "select count(*) as revision from nodes where {condition} and lease_until > {}",
            self.clock(now)
        );
        let row = Revision::find_by_statement(self.statement(sql, [value]))
            .one(self.store.reader())
            .await?;
        Ok(row.and_then(|row| u64::try_from(row.revision?).ok()).unwrap_or(0))
    }

    /// How many nodes have a live lease.
    pub(crate) async fn live(&self, now: Timestamp) -> Result<u32, StoreError> {
        if !self.is_shared() {
            return Ok(1);
        }
        let sql = format!(
            "select count(*) as revision from nodes where lease_until > {}",
            self.clock(now)
        );
        let row =
            Revision::find_by_statement(self.statement(sql, [])).one(self.store.reader()).await?;
        Ok(row.and_then(|row| u32::try_from(row.revision?).ok()).unwrap_or(1))
    }

    /// How many nodes live, and how many are dead for longer than `long`.
    pub(crate) async fn standing(
        &self,
        now: Timestamp,
        long: Duration,
    ) -> Result<NodesStanding, StoreError> {
        let clock = self.clock(now);
        let count = async |condition: String| {
            let sql = format!("select count(*) as revision from nodes where {condition}");
            let row = Revision::find_by_statement(self.statement(sql, []))
                .one(self.store.reader())
                .await?;
            let count = row.and_then(|row| u64::try_from(row.revision?).ok());
            Ok::<u64, StoreError>(count.unwrap_or(0))
        };
        Ok(NodesStanding {
            live: count(format!("lease_until > {clock}")).await?,
            long_dead: count(format!("lease_until <= {clock} - {}", long.as_micros())).await?,
        })
    }

    /// How many processes hold a lease on a database that several may share. An SQLite file that this
    /// process has opened has no other.
    pub(crate) async fn live_elsewhere(&self, now: Timestamp) -> Result<u64, StoreError> {
        if self.is_shared() { Ok(self.standing(now, LEASE).await?.live) } else { Ok(0) }
    }

    /// Begins a new life after a restore: no node of the life before is known any more, and none of
    /// its epochs and revisions is given again, nor a position in the journal or among changes: the
    /// cursors that vendors hold lie ahead of those that the backup knows.
    pub(crate) async fn begin_anew(&self, work: &UnitOfWork) -> Result<(), StoreError> {
        let sql = "delete from nodes".to_owned();
        work.connection().execute_raw(self.statement(sql, [])).await?;
        let leap = |column: routing::Column| Expr::col(column).add(LEAP);
        routing::Entity::update_many()
            .col_expr(routing::Column::NextEpoch, leap(routing::Column::NextEpoch))
            .col_expr(routing::Column::Revision, leap(routing::Column::Revision))
            .filter(routing::Column::Singleton.eq(1))
            .exec(work.connection())
            .await?;
        let sql = "update change_positions set last = last + $1 where singleton = 1".to_owned();
        let done = work.connection().execute_raw(self.statement(sql, [POSITIONS_LEAP.into()]));
        if done.await?.rows_affected() != 1 {
            return Err(StoreError::Corrupt { what: "row of change positions" });
        }
        Ok(())
    }

    /// Whether other nodes may be there.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.store.backend(), Backend::Postgres { .. })
    }

    /// The clock that judges leases, in microseconds, as SQL.
    fn clock(&self, now: Timestamp) -> String {
        if self.is_shared() {
            "(extract(epoch from clock_timestamp()) * 1000000)::bigint".to_owned()
        } else {
            now.micros().to_string()
        }
    }

    fn statement(
        &self,
        sql: String,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Statement {
        Statement::from_sql_and_values(self.store.dialect(), sql, values)
    }
}
