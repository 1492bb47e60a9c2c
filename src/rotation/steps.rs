//! The steps of rotations: small, and each one transaction.
//!
//! A step locks the rotation's row, does its part, and writes how far it came with what it did. It
//! never waits for a row that somebody else holds: that one is left for the next pass, so that no
//! request ever waits in a circle with it.

use std::time::Duration;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect,
    Statement, Value,
};
use tokio_util::sync::CancellationToken;

use super::columns::{KeyValue, SealedColumn};
use super::job::{
    RotationError, RotationState, RotationView, Rotations, append, overlap_until, save,
};
use crate::audit::Actor;
use crate::crypto::{
    CryptoError, KeyId, Purpose, activate_data_key, retire_data_keys, sealing_key,
};
use crate::seam::{Timestamp, crash_point};
use crate::store::entity::{key_rotation, routing};
use crate::store::{StoreError, UnitOfWork};

/// How often rotations are looked for where nothing pokes.
const POLL: Duration = Duration::from_millis(500);

/// How long others get their turn between two steps.
const PAUSE: Duration = Duration::from_millis(5);

/// How many rows one step looks at.
const LOOKED_AT: usize = 1_000;

/// How many rows one step seals anew at the most.
const STEP: usize = 100;

/// How many rows of a column are counted beforehand at the most.
const COUNTED: i64 = 100_000;

/// How long after the new key began to seal the pass begins that has to find nothing: what was sealed
/// before that moment has long been written then, or never is.
const GRACE: Duration = Duration::from_mins(1);

/// How soon everything is looked through again where something was found.
const AGAIN: Duration = Duration::from_secs(1);

/// The same, where what was found does not open: somebody has to see to it.
const TROUBLE: Duration = Duration::from_mins(5);

/// How far ahead a step may put the next one; more shows a clock that was set back.
const FURTHEST: Duration = Duration::from_mins(30);

/// A stretch of a column, as far as one step goes.
#[derive(Debug)]
struct Stretch {
    position: String,
    is_last: bool,
    looked_at: i64,
    /// Those that another key than the newest sealed.
    stale: Vec<Vec<KeyValue>>,
}

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Resealed,
    /// Somebody else holds or changed it, or it is gone: the next pass tells.
    Left,
    Unreadable,
}

impl Rotations {
    /// Takes steps of the rotations that run until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.inner.seam.clock.clone();
        while !stop.is_cancelled() {
            let pause = match self.step_all().await {
                Ok(true) => PAUSE,
                Ok(false) => POLL,
                Err(error) => {
                    tracing::warn!(%error, "rotations of data keys could not be read; tried again");
                    POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.poked.notified() => {}
                () = clock.sleep(pause) => {}
            }
        }
    }

    /// Takes steps until a rotation has nothing left to wait for but its overlap, and tells how far it
    /// is after each.
    pub async fn run_through(
        &self,
        purpose: Purpose,
        mut told: impl FnMut(&RotationView) + Send,
    ) -> Result<RotationView, RotationError> {
        loop {
            let did = self.step_all().await?;
            let rotation = self.list().await?.into_iter().find(|one| one.purpose == purpose);
            let rotation = rotation.ok_or(RotationError::Unreadable { what: "it is gone" })?;
            told(&rotation);
            if rotation.is_settled() {
                return Ok(rotation);
            }
            self.inner.seam.clock.sleep(if did { PAUSE } else { POLL }).await;
        }
    }

    /// A step of every rotation that runs: there is one of a purpose at the most. Returns whether
    /// there may be more to do at once. One that fails does not stop the others.
    async fn step_all(&self) -> Result<bool, RotationError> {
        let rows = key_rotation::Entity::find()
            .filter(key_rotation::Column::Running.is_not_null())
            .order_by_asc(key_rotation::Column::Id)
            .limit(u64::try_from(Purpose::ALL.len()).unwrap_or(1))
            .all(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?;
        let mut did = false;
        for row in rows {
            let purpose = row.purpose.clone();
            match self.step(row).await {
                Ok(done) => did |= done,
                Err(error) => {
                    tracing::warn!(%error, %purpose, "a step of a rotation failed; tried again");
                }
            }
        }
        Ok(did)
    }

    async fn step(&self, seen: key_rotation::Model) -> Result<bool, RotationError> {
        let now = self.inner.seam.clock.now();
        let next_at = Timestamp::from_micros(seen.next_at);
        if next_at > now && next_at.since(now) < FURTHEST {
            return Ok(false);
        }
        let purpose: Purpose = seen.purpose.parse()?;
        let state = RotationState::of(&seen)?;
        let is_active = matches!(state, RotationState::Resealing | RotationState::Overlapping);
        if is_active && seen.activated_revision.is_none() {
            return self.note_revision(seen).await;
        }
        match state {
            RotationState::Introducing => self.activate(seen, purpose).await,
            RotationState::Resealing => self.reseal(seen, purpose).await,
            RotationState::Overlapping => {
                if overlap_until(&seen, purpose).is_some_and(|until| until > now) {
                    return Ok(false);
                }
                self.retire(seen, purpose).await
            }
            RotationState::Retiring => self.finish(seen).await,
            RotationState::Done => Ok(false),
        }
    }

    /// Follows what was committed, as every node does by itself.
    async fn follow(&self) -> Result<(), RotationError> {
        match &self.inner.routing {
            Some(routing) => {
                let _was_there = routing.apply().await?;
            }
            None => self.inner.keys.reload(&self.inner.store).await?,
        }
        Ok(())
    }

    /// Writes what a rotation came to, where it is as it was seen.
    async fn advance(
        &self,
        seen: &key_rotation::Model,
        change: impl FnOnce(&mut key_rotation::Model),
    ) -> Result<bool, RotationError> {
        let work = self.inner.store.begin().await?;
        let Some(mut row) = current(&work, seen).await? else {
            work.rollback().await?;
            return Ok(true);
        };
        change(&mut row);
        row.steps += 1;
        save(&work, &row).await?;
        let _no_routing = work.commit(self.inner.seam.clock.now()).await?;
        Ok(true)
    }

    /// Says what a rotation waits for; written once.
    async fn wait(&self, seen: &key_rotation::Model, reason: &str) -> Result<bool, RotationError> {
        if seen.reason.as_deref() != Some(reason) {
            self.advance(seen, |row| row.reason = Some(reason.to_owned())).await?;
        }
        Ok(false)
    }

    /// Lets the new key seal once every node opens with it.
    async fn activate(
        &self,
        seen: key_rotation::Model,
        purpose: Purpose,
    ) -> Result<bool, RotationError> {
        let inner = &self.inner;
        self.follow().await?;
        if !inner.keys.ring.holds(purpose, new_key(&seen)?) {
            let reason = "a node cannot unwrap the new key: bring the present master key there";
            return self.wait(&seen, reason).await;
        }
        let now = inner.seam.clock.now();
        let unaware = inner.nodes.without_data_key(seen.key_id, now).await?;
        if unaware > 0 {
            let reason = format!("{unaware} nodes do not know the new key yet");
            return self.wait(&seen, &reason).await;
        }
        let mut work = inner.store.begin().await?;
        let Some(mut row) = current(&work, &seen).await? else {
            work.rollback().await?;
            return Ok(true);
        };
        activate_data_key(&mut work, purpose, row.key_id).await?;
        let state = match purpose {
            // Nothing of it is stored here.
            Purpose::SecurityContext => RotationState::Overlapping,
            Purpose::Vault | Purpose::Answers => RotationState::Resealing,
        };
        state.name().clone_into(&mut row.state);
        row.activated_at = Some(now.micros());
        row.reason = None;
        row.steps += 1;
        save(&work, &row).await?;
        let detail = serde_json::json!({ "keyId": row.key_id });
        append(&work, "keys.activate", purpose, detail, &actor(), inner).await?;
        crash_point("keys.before-activate");
        let _followed_below = work.commit(now).await?;
        self.follow().await?;
        Ok(true)
    }

    /// Writes down a revision of routing with which every node surely seals with the new key.
    async fn note_revision(&self, seen: key_rotation::Model) -> Result<bool, RotationError> {
        let revision = routing::Entity::find_by_id(1)
            .one(self.inner.store.reader())
            .await
            .map_err(StoreError::from)?
            .map_or(0, |row| row.revision);
        self.advance(&seen, |row| row.activated_revision = Some(revision)).await
    }

    async fn reseal(
        &self,
        seen: key_rotation::Model,
        purpose: Purpose,
    ) -> Result<bool, RotationError> {
        let inner = &self.inner;
        let key = new_key(&seen)?;
        if inner.keys.ring.newest(purpose)? != key {
            self.follow().await?;
            if inner.keys.ring.newest(purpose)? != key {
                return Ok(false);
            }
        }
        let columns = SealedColumn::of(purpose);
        let place = usize::try_from(seen.place).unwrap_or(usize::MAX);
        let Some(column) = columns.get(place) else {
            return self.end_pass(seen, purpose).await;
        };
        let counted = match seen.total {
            None => Some(self.count(&columns).await?),
            Some(_) => None,
        };
        let found = self.look(column, &seen.position, key).await?;
        let work = inner.store.begin().await?;
        let Some(mut row) = current(&work, &seen).await? else {
            work.rollback().await?;
            return Ok(true);
        };
        if row.pass_started_at.is_none() {
            row.pass_started_at = Some(inner.seam.clock.now().micros());
            row.unreadable = 0;
            row.reason = None;
        }
        for key in &found.stale {
            match self.reseal_row(&work, column, key).await? {
                Outcome::Resealed => row.resealed += 1,
                Outcome::Unreadable => row.unreadable += 1,
                Outcome::Left => {}
            }
        }
        row.pass_found += i64::try_from(found.stale.len()).unwrap_or(i64::MAX);
        row.total = row.total.or(counted);
        if row.pass == 1 {
            row.processed += found.looked_at;
        }
        if found.is_last {
            row.place += 1;
            row.position = String::new();
        } else {
            row.position = found.position;
        }
        row.steps += 1;
        save(&work, &row).await?;
        crash_point("keys.reseal-step");
        let _no_routing = work.commit(inner.seam.clock.now()).await?;
        Ok(true)
    }

    /// How many values there are, up to a bound for each column.
    async fn count(&self, columns: &[&SealedColumn]) -> Result<i64, StoreError> {
        let mut total = 0;
        for column in columns {
            let sql = format!(
                "select count(*) from (select 1 from {} where {} limit {COUNTED}) counted",
                column.table,
                column.is_sealed()
            );
            let row = self
                .inner
                .store
                .reader()
                .query_one_raw(self.statement(sql, Vec::new()))
                .await?
                .ok_or(StoreError::Corrupt { what: "count" })?;
            let count: i64 = row.try_get_by_index(0)?;
            total += count;
        }
        Ok(total)
    }

    /// Reads the next stretch, outside of the transaction.
    async fn look(
        &self,
        column: &SealedColumn,
        position: &str,
        newest: KeyId,
    ) -> Result<Stretch, StoreError> {
        let keys = column.key_list();
        let after = column.read_position(position)?;
        let beyond = column.beyond(after.as_deref());
        let sql = format!(
            "select {keys}, {} from {} where {} {beyond} order by {keys} limit {LOOKED_AT}",
            column.beginning(),
            column.table,
            column.is_sealed(),
        );
        let values = after.iter().flatten().map(KeyValue::value).collect();
        let rows = self.inner.store.reader().query_all_raw(self.statement(sql, values)).await?;
        let mut stretch = Stretch {
            position: position.to_owned(),
            is_last: rows.len() < LOOKED_AT,
            looked_at: 0,
            stale: Vec::new(),
        };
        for row in rows {
            if stretch.stale.len() == STEP {
                // The rest of the stretch comes with the next step.
                stretch.is_last = false;
                break;
            }
            let key = column.read_key(&row)?;
            let sealed = column.encoding.read(&row, column.key.len())?;
            stretch.position = SealedColumn::write_position(&key)?;
            stretch.looked_at += 1;
            if sealing_key(&sealed) != Some(newest) {
                stretch.stale.push(key);
            }
        }
        Ok(stretch)
    }

    /// Seals one value anew, where nobody else is at it.
    async fn reseal_row(
        &self,
        work: &UnitOfWork,
        column: &SealedColumn,
        key: &[KeyValue],
    ) -> Result<Outcome, RotationError> {
        let inner = &self.inner;
        let Some(row) = self.lock_row(work, column, key).await? else { return Ok(Outcome::Left) };
        let (sealed, bound) = column.read_sealed(&row, 0, key)?;
        let place = bound.as_data();
        let ring = &inner.keys.ring;
        let resealed = ring.reseal(column.purpose, &place, &sealed, &inner.seam.randomness);
        let resealed = match (resealed, bound.as_former_data()) {
            (Err(CryptoError::Refused { .. }), Some(former)) => ring
                .unseal(column.purpose, &former, &sealed)
                .and_then(|text| {
                    let randomness = &inner.seam.randomness;
                    ring.seal(column.purpose, &place, text.expose(), randomness)
                })
                .map(Some),
            (resealed, _) => resealed,
        };
        let fresh = match resealed {
            Ok(Some(fresh)) => fresh,
            Ok(None) => return Ok(Outcome::Left),
            Err(
                error @ (CryptoError::Malformed { .. }
                | CryptoError::Refused { .. }
                | CryptoError::UnknownKey { .. }),
            ) => {
                tracing::error!(
                    table = column.table, column = column.column, ?key, %error,
                    "a sealed value does not open, so the old key is kept"
                );
                return Ok(Outcome::Unreadable);
            }
            Err(error) => return Err(error.into()),
        };
        let (condition, mut values) = of_key(column, key, 3);
        let sql = format!(
            "update {} set {} = $1 where {} = $2 and {condition}",
            column.table, column.column, column.column
        );
        let mut all = vec![column.encoding.value(&fresh), column.encoding.value(&sealed)];
        all.append(&mut values);
        let done = work
            .connection()
            .execute_raw(self.statement(sql, all))
            .await
            .map_err(StoreError::from)?;
        Ok(if done.rows_affected() == 1 { Outcome::Resealed } else { Outcome::Left })
    }

    async fn lock_row(
        &self,
        work: &UnitOfWork,
        column: &SealedColumn,
        key: &[KeyValue],
    ) -> Result<Option<QueryResult>, StoreError> {
        let (condition, values) = of_key(column, key, 1);
        let lock = if self.inner.nodes.is_shared() { "for update skip locked" } else { "" };
        let sql = format!(
            "select {} from {} where {} and {condition} {lock}",
            column.sealed_list(),
            column.table,
            column.is_sealed()
        );
        Ok(work.connection().query_one_raw(self.statement(sql, values)).await?)
    }

    fn statement(&self, sql: String, values: Vec<Value>) -> Statement {
        Statement::from_sql_and_values(self.inner.store.dialect(), sql, values)
    }

    /// Everything was looked through: the old keys go where nothing was found, long enough after the
    /// new one began to seal.
    async fn end_pass(
        &self,
        seen: key_rotation::Model,
        purpose: Purpose,
    ) -> Result<bool, RotationError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        // Nobody else has the file of SQLite that a command has opened.
        let is_alone = inner.routing.is_none() && !inner.nodes.is_shared();
        let activated = Timestamp::from_micros(seen.activated_at.unwrap_or(seen.created_at));
        let sure = if is_alone { activated } else { activated.plus(GRACE) };
        let began = seen.pass_started_at.map_or(now, Timestamp::from_micros);
        if seen.pass_found == 0 && began >= sure {
            return self.retire(seen, purpose).await;
        }
        let (next, reason) = if seen.unreadable > 0 {
            let reason = format!(
                "{} sealed values do not open, so the old key is kept: see the log, and repair or \
                 delete them",
                seen.unreadable
            );
            (now.plus(TROUBLE), Some(reason))
        } else if now < sure {
            (sure, Some("what began before the new key sealed comes to its end".to_owned()))
        } else if is_alone {
            (now, None)
        } else {
            (now.plus(AGAIN), None)
        };
        self.advance(&seen, |row| {
            row.place = 0;
            row.position = String::new();
            row.pass += 1;
            row.pass_started_at = None;
            row.pass_found = 0;
            row.next_at = next.micros();
            row.reason = reason;
        })
        .await
    }

    /// Deletes the older keys, once every node seals with the new one.
    async fn retire(
        &self,
        seen: key_rotation::Model,
        purpose: Purpose,
    ) -> Result<bool, RotationError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let revision = seen.activated_revision.unwrap_or(i64::MAX);
        let behind = inner.nodes.without_revision(revision, now).await?;
        if behind > 0 {
            let reason = format!("{behind} nodes may still seal with the old key");
            return self.wait(&seen, &reason).await;
        }
        let mut work = inner.store.begin().await?;
        let Some(mut row) = current(&work, &seen).await? else {
            work.rollback().await?;
            return Ok(true);
        };
        let retired = retire_data_keys(&mut work, purpose, row.key_id).await?;
        RotationState::Retiring.name().clone_into(&mut row.state);
        row.reason = None;
        row.next_at = now.micros();
        row.steps += 1;
        save(&work, &row).await?;
        let detail = serde_json::json!({ "keyId": row.key_id, "retired": retired });
        append(&work, "keys.retire", purpose, detail, &actor(), inner).await?;
        crash_point("keys.before-retire");
        let _followed_below = work.commit(now).await?;
        crash_point("keys.after-retire");
        self.follow().await?;
        Ok(true)
    }

    /// Empties SQLite's journal, in which the wrapped key may stand still.
    async fn finish(&self, seen: key_rotation::Model) -> Result<bool, RotationError> {
        if !self.inner.store.empty_journal().await? {
            return Ok(false);
        }
        let now = self.inner.seam.clock.now();
        self.advance(&seen, |row| {
            RotationState::Done.name().clone_into(&mut row.state);
            row.running = None;
            row.finished_at = Some(now.micros());
            row.reason = None;
        })
        .await
    }
}

/// Who does what nobody asks for at that moment.
fn actor() -> Actor {
    Actor::system("rotation")
}

fn new_key(row: &key_rotation::Model) -> Result<KeyId, RotationError> {
    u32::try_from(row.key_id).map(KeyId).map_err(|_| RotationError::Unreadable { what: "its key" })
}

/// The condition for one row, with its parameters from `first` on.
fn of_key(column: &SealedColumn, key: &[KeyValue], first: usize) -> (String, Vec<Value>) {
    let conditions: Vec<String> = column
        .key
        .iter()
        .zip(first..)
        .map(|(part, number)| format!("{} = ${number}", part.name()))
        .collect();
    (conditions.join(" and "), key.iter().map(KeyValue::value).collect())
}

/// The rotation under its lock, where it is as it was seen.
async fn current(
    work: &UnitOfWork,
    seen: &key_rotation::Model,
) -> Result<Option<key_rotation::Model>, StoreError> {
    let row =
        key_rotation::Entity::find_by_id(seen.id).lock_exclusive().one(work.connection()).await?;
    Ok(row.filter(|row| row == seen))
}
