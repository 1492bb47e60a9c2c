//! What is written for calls: the ids of signed ones, which count once, and a row for each call
//! that was made. Both are written in groups, since a transaction for each call would cost more than
//! the call.
//!
//! A place for its row is taken before a call is made: where the database cannot keep up, calls wait
//! and are then refused, and none goes unrecorded but those in memory when the process dies.

use std::time::Duration;

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement, sea_query::OnConflict,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::InvokeError;
use super::record_quota::surplus;
use crate::seam::{Seam, Timestamp};
use crate::store::entity::{invocation, invoke_message_id};
use crate::store::{Store, StoreError};

/// How many rows wait to be written at the most.
const QUEUE: usize = 8_192;

/// How many rows one transaction writes.
const GROUP: usize = 512;

/// How long a call waits for a place.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a group is tried before it is given up.
const MOST_TRIES: u32 = 5;

/// The pause before a group is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often what is too old is removed.
const PRUNING: Duration = Duration::from_mins(1);

/// How long ids are kept: longer than any timestamp is believed, in either direction.
const IDS_KEPT: Duration = Duration::from_hours(24);

/// How many rows one step of pruning removes.
const STEP: u64 = 1_000;

/// How many installations one round of pruning cuts down to their share.
const MOST_CUT: usize = 500;

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) installation_id: Uuid,
    pub(super) at: Timestamp,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) connection: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) error: Option<&'static str>,
    pub(super) took: Duration,
}

enum Entry {
    Spend { extension_key: String, message_id: String, is_first: oneshot::Sender<bool> },
    Made(invocation::Model),
}

/// Writes for calls. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    sender: mpsc::Sender<Entry>,
    seam: Seam,
}

/// A place for the row of one call.
pub(super) struct Place {
    permit: mpsc::OwnedPermit<Entry>,
    seam: Seam,
}

/// The writing end, to be run.
pub(super) struct Writer {
    receiver: mpsc::Receiver<Entry>,
    store: Store,
    seam: Seam,
    kept: u64,
}

impl Ledger {
    /// A ledger, and what writes it. `kept` calls are remembered.
    pub(super) fn new(store: Store, seam: Seam, kept: u64) -> (Self, Writer) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer { receiver, store, seam: seam.clone(), kept };
        (Self { sender, seam }, writer)
    }

    /// Takes a place for a row.
    pub(super) async fn place(&self) -> Result<Place, InvokeError> {
        let reserved = self.sender.clone().reserve_owned();
        tokio::select! {
            permit = reserved => {
                let permit = permit.map_err(|_| InvokeError::Unavailable)?;
                Ok(Place { permit, seam: self.seam.clone() })
            }
            () = self.seam.clock.sleep(PATIENCE) => Err(InvokeError::Unavailable),
        }
    }

    /// Uses an id of an extension up. Returns whether it was fresh; when this returns that is on
    /// disk.
    pub(super) async fn spend(
        &self,
        extension_key: &str,
        message_id: &str,
    ) -> Result<bool, InvokeError> {
        let place = self.place().await?;
        let (is_first, answer) = oneshot::channel();
        place.permit.send(Entry::Spend {
            extension_key: extension_key.to_owned(),
            message_id: message_id.to_owned(),
            is_first,
        });
        answer.await.map_err(|_| InvokeError::Unavailable)
    }
}

impl Place {
    /// Writes the row.
    pub(super) fn write(self, made: Made) {
        let row = invocation::Model {
            id: self.seam.randomness.id(),
            installation_id: made.installation_id,
            at: made.at.micros(),
            method: made.method,
            host: made.host,
            path: made.path,
            connection: made.connection,
            status: made.status.map(i32::from),
            error: made.error.map(str::to_owned),
            micros: i64::try_from(made.took.as_micros()).unwrap_or(i64::MAX),
        };
        self.permit.send(Entry::Made(row));
    }
}

impl Writer {
    /// Writes until told to stop, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut next_pruning = self.seam.clock.now();
        let mut group = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                read = self.receiver.recv_many(&mut group, GROUP) => {
                    if read == 0 {
                        return;
                    }
                    self.write(&mut group).await;
                }
                () = stop.cancelled() => break,
                () = self.seam.clock.sleep(PRUNING) => {}
            }
            if self.seam.clock.now() >= next_pruning {
                if let Err(error) = self.prune().await {
                    tracing::warn!(%error, "old calls could not be removed; tried again");
                }
                next_pruning = self.seam.clock.now().plus(PRUNING);
            }
        }
        self.receiver.close();
        while self.receiver.recv_many(&mut group, GROUP).await > 0 {
            self.write(&mut group).await;
        }
    }

    /// Writes a group; empties it in any case.
    async fn write(&self, group: &mut Vec<Entry>) {
        let mut tries = 1;
        let fresh = loop {
            match self.try_write(group).await {
                Ok(fresh) => break Some(fresh),
                Err(error) if tries < MOST_TRIES => {
                    tracing::warn!(%error, "calls cannot be written; tried again");
                    tries += 1;
                    self.seam.clock.sleep(PAUSE * tries).await;
                }
                Err(error) => {
                    let calls = group.iter().filter(|entry| matches!(entry, Entry::Made(_)));
                    let calls = calls.count();
                    tracing::error!(%error, calls, "the record of calls is lost: the database does not take it");
                    break None;
                }
            }
        };
        let mut fresh = fresh.unwrap_or_default().into_iter();
        for entry in group.drain(..) {
            if let Entry::Spend { is_first, .. } = entry
                && let Some(fresh) = fresh.next()
            {
                // Whoever asked may have gone away.
                let _gone = is_first.send(fresh);
            }
        }
    }

    /// One transaction for the group. Says of each id, in the order of the group, whether it was
    /// fresh.
    async fn try_write(&self, group: &[Entry]) -> Result<Vec<bool>, StoreError> {
        let now = self.seam.clock.now();
        let work = self.store.begin().await?;
        let ids: Vec<(&str, &str)> = group
            .iter()
            .filter_map(|entry| match entry {
                Entry::Spend { extension_key, message_id, .. } => {
                    Some((extension_key.as_str(), message_id.as_str()))
                }
                Entry::Made(_) => None,
            })
            .collect();
        // In one order everywhere, so that two writers wait for each other and never in a ring.
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|index| ids[*index]);
        let mut fresh = vec![false; ids.len()];
        for index in order {
            let (extension_key, message_id) = ids[index];
            let row = invoke_message_id::ActiveModel {
                extension_key: Set(extension_key.to_owned()),
                message_id: Set(message_id.to_owned()),
                used_at: Set(now.micros()),
            };
            let inserted = invoke_message_id::Entity::insert(row)
                .on_conflict(
                    OnConflict::columns([
                        invoke_message_id::Column::ExtensionKey,
                        invoke_message_id::Column::MessageId,
                    ])
                    .do_nothing()
                    .to_owned(),
                )
                .exec_without_returning(work.connection())
                .await?;
            fresh[index] = inserted > 0;
        }
        let rows: Vec<invocation::ActiveModel> = group
            .iter()
            .filter_map(|entry| match entry {
                Entry::Made(row) => Some(invocation::ActiveModel::from(row.clone()).reset_all()),
                Entry::Spend { .. } => None,
            })
            .collect();
        if !rows.is_empty() {
            invocation::Entity::insert_many(rows).exec_without_returning(work.connection()).await?;
        }
        let _no_routing = work.commit(now).await?;
        Ok(fresh)
    }

    /// Removes what is too old, or too much, in steps.
    async fn prune(&self) -> Result<(), StoreError> {
        let now = self.seam.clock.now();
        let ids = "delete from invoke_message_ids where (extension_key, message_id) in \
             (select extension_key, message_id from invoke_message_ids where used_at < $1 \
             order by used_at limit 1000)";
        while self.step(ids, now.minus(IDS_KEPT).micros().into(), now).await? >= STEP {}
        let former = "delete from former_versions where until < $1";
        self.step(former, now.micros().into(), now).await?;
        if self.newest_beyond().await?.is_none() {
            return Ok(());
        }
        // Whoever calls most loses first: nobody's record is emptied by another's calls.
        let counts: Vec<(Uuid, i64)> = invocation::Entity::find()
            .select_only()
            .column(invocation::Column::InstallationId)
            .column_as(invocation::Column::Id.count(), "calls")
            .group_by(invocation::Column::InstallationId)
            .into_tuple()
            .all(self.store.reader())
            .await?;
        let counts = counts.into_iter().map(|(id, count)| (id, u64::try_from(count).unwrap_or(0)));
        for (id, rows) in surplus(counts.collect(), self.kept, MOST_CUT) {
            self.cut(id, rows, now).await?;
        }
        // What is still too much is of very many that have few each, or came meanwhile.
        if let Some(newest) = self.newest_beyond().await? {
            let calls = "delete from invocations where id in \
                 (select id from invocations where id <= $1 order by id limit 1000)";
            while self.step(calls, newest.into(), now).await? >= STEP {}
        }
        Ok(())
    }

    /// The newest call that is one too many, where there is one.
    async fn newest_beyond(&self) -> Result<Option<Uuid>, StoreError> {
        let beyond = invocation::Entity::find()
            .select_only()
            .column(invocation::Column::Id)
            .order_by_desc(invocation::Column::Id)
            .offset(self.kept)
            .limit(1)
            .into_tuple::<Uuid>();
        Ok(beyond.one(self.store.reader()).await?)
    }

    /// Removes the oldest rows of an installation, in steps.
    async fn cut(&self, id: Uuid, rows: u64, now: Timestamp) -> Result<(), StoreError> {
        // The last that goes; what comes meanwhile is newer.
        let last = invocation::Entity::find()
            .select_only()
            .column(invocation::Column::Id)
            .filter(invocation::Column::InstallationId.eq(id))
            .order_by_asc(invocation::Column::Id)
            .offset(rows.saturating_sub(1))
            .limit(1)
            .into_tuple::<Uuid>()
            .one(self.store.reader())
            .await?;
        let Some(last) = last else { return Ok(()) };
        let oldest = "delete from invocations where id in (select id from invocations \
             where installation_id = $1 and id <= $2 order by id limit 1000)";
        while self.execute(oldest, [id.into(), last.into()], now).await? >= STEP {}
        Ok(())
    }

    async fn step(
        &self,
        sql: &str,
        value: sea_orm::Value,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.execute(sql, [value], now).await
    }

    async fn execute<const N: usize>(
        &self,
        sql: &str,
        values: [sea_orm::Value; N],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let work = self.store.begin().await?;
        let statement = Statement::from_sql_and_values(self.store.dialect(), sql, values);
        let done = work.connection().execute_raw(statement).await?;
        let _no_routing = work.commit(now).await?;
        Ok(done.rows_affected())
    }
}

/// A call as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvocationView {
    /// Its id.
    pub id: Uuid,
    /// When it began.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// Host and port.
    pub host: String,
    /// The path, without a query, before placeholders.
    pub path: String,
    /// The connection whose token went along.
    pub connection: Option<String>,
    /// The status of the answer.
    pub status: Option<i32>,
    /// Why there was none.
    pub error: Option<String>,
    /// How long it took, in microseconds.
    pub micros: i64,
}

/// Lists the calls of an installation, the newest first.
pub async fn invocations(
    store: &Store,
    installation_id: Uuid,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<InvocationView>, StoreError> {
    let mut rows = invocation::Entity::find()
        .filter(invocation::Column::InstallationId.eq(installation_id))
        .order_by_desc(invocation::Column::Id)
        .limit(limit);
    if let Some(before) = before {
        rows = rows.filter(invocation::Column::Id.lt(before));
    }
    let rows = rows.all(store.reader()).await?;
    Ok(rows
        .into_iter()
        .map(|row| InvocationView {
            id: row.id,
            at: Timestamp::from_micros(row.at),
            method: row.method,
            host: row.host,
            path: row.path,
            connection: row.connection,
            status: row.status,
            error: row.error,
            micros: row.micros,
        })
        .collect())
}
