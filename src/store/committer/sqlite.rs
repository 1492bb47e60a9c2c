//! The group commit on SQLite: one thread, one IMMEDIATE transaction a group, prepared statements.
//!
//! A thread and not a task: every call would otherwise hop to another thread and back, which costs
//! more than the statement (facts: -25 % with one JSON statement a table through the pool).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use super::{
    AttemptResult, Command, Group, HandOver, NewEvent, RETRY_PAUSE, Settlement, Written,
    due_micros, finish,
};
use crate::seam::Clock;
use crate::store::error::StoreError;
use crate::store::nodes::Epoch;

/// Owns the connection.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    epoch: Epoch,
}

impl Writer {
    pub(super) fn open(path: &Path, epoch: Epoch) -> Result<Self, StoreError> {
        let connection = Connection::open(path).and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(10))?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            // Overwrites what leaves a page, where that costs no further write.
            connection.pragma_update(None, "secure_delete", "FAST")?;
            connection.set_prepared_statement_cache_capacity(32);
            Ok(connection)
        });
        match connection {
            Ok(connection) => Ok(Self { connection, epoch }),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Writes a group in one transaction. Returns what became of each event, in order.
    fn write(&mut self, group: &Group) -> rusqlite::Result<Vec<Written>> {
        let epoch = self.epoch;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut written = Vec::new();
        for event in group.events() {
            written.push(insert_event(&transaction, event, epoch)?);
        }
        for result in &group.results {
            write_result(&transaction, result, epoch)?;
        }
        for settlement in &group.settlements {
            settle(&transaction, settlement, epoch)?;
        }
        transaction.commit()?;
        Ok(written)
    }
}

/// Takes all that waits, writes it, answers, until it is told to end.
pub(super) fn run(
    mut writer: Writer,
    mut received: mpsc::Receiver<Command>,
    turn: &Arc<Mutex<()>>,
    clock: &Clock,
    hand_over: &HandOver,
) {
    while let Some(command) = received.blocking_recv() {
        let mut group = Group::default();
        group.push(command);
        while !group.is_full() && !group.is_last {
            match received.try_recv() {
                Ok(command) => group.push(command),
                Err(_) => break,
            }
        }
        group.sort();
        let is_last = group.is_last;
        commit(&mut writer, group, turn, clock, hand_over);
        if is_last {
            return;
        }
    }
}

/// Writes a group, again and again while the disk is full or busy. A group with data that the
/// database refuses is split, so that only the request to blame fails.
fn commit(
    writer: &mut Writer,
    group: Group,
    turn: &Arc<Mutex<()>>,
    clock: &Clock,
    hand_over: &HandOver,
) {
    let mut groups = vec![group];
    while let Some(group) = groups.pop() {
        let outcome = {
            let _mine = turn.blocking_lock();
            writer.write(&group)
        };
        match outcome {
            Ok(written) => finish(group, written, hand_over),
            Err(error) if is_passing(&error) => {
                tracing::warn!(error = %error, "the database cannot be written; trying again");
                groups.push(group);
                clock.pause_thread(RETRY_PAUSE);
            }
            Err(error) => super::split(group, refused(&error), &mut groups),
        }
    }
}

/// Whether an error says nothing of the data: busy, full, or the disk failed.
fn is_passing(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
    error.sqlite_error_code().is_some_and(|code| {
        matches!(code, DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure)
    })
}

fn refused(error: &rusqlite::Error) -> StoreError {
    StoreError::Refused(sea_orm::DbErr::Custom(error.to_string()))
}

fn insert_event(
    connection: &Connection,
    event: &NewEvent,
    epoch: Epoch,
) -> rusqlite::Result<Written> {
    if let Some(key) = &event.event_key
        && let Some(duplicate) = insert_key(connection, event, key)?
    {
        return Ok(duplicate);
    }
    connection
        .prepare_cached(
            "insert into events (id, org_id, event_type, department_id, event_time, origin, \
             source_id, actor, event_key, accepted_at, payload, previous) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            event.id.as_bytes(),
            &*event.org_id,
            &*event.event_type,
            event.department_id,
            event.event_time,
            i16::from(event.automation),
            event.source_id,
            event.actor,
            event.event_key,
            event.accepted_at.micros(),
            &*event.payload,
            event.previous.as_deref(),
        ])?;
    let mut insert = connection.prepare_cached(
        "insert into deliveries (id, event_id, endpoint_id, generation, state, due_at, claim, \
         ordered, created_at, sequence) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for delivery in &event.deliveries {
        let sequence = if delivery.placement.is_ordered() {
            next_in_sequence(connection, delivery.endpoint_id)?
        } else {
            0
        };
        insert.execute(params![
            delivery.id.as_bytes(),
            event.id.as_bytes(),
            delivery.endpoint_id.as_bytes(),
            delivery.generation,
            delivery.placement.state().number(),
            delivery.placement.due_at(event.accepted_at),
            delivery.placement.claim(epoch),
            delivery.placement.ordered(),
            event.accepted_at.micros(),
            sequence,
        ])?;
    }
    super::variants::insert(connection, event)?;
    super::marks::insert(connection, event)?;
    Ok(Written::New)
}

/// The next number of an ordered endpoint.
fn next_in_sequence(connection: &Connection, endpoint: Uuid) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "insert into endpoint_sequences (endpoint_id, last) values (?1, 1) \
             on conflict (endpoint_id) do update set last = last + 1 returning last",
        )?
        .query_row(params![endpoint.as_bytes()], |row| row.get(0))
}

/// Enters the caller's id of an event; returns what was there before.
fn insert_key(
    connection: &Connection,
    event: &NewEvent,
    key: &str,
) -> rusqlite::Result<Option<Written>> {
    let deliveries = i32::try_from(event.deliveries.len()).unwrap_or(i32::MAX);
    let inserted = connection
        .prepare_cached(
            "insert into event_keys (org_id, event_key, event_id, deliveries, accepted_at) \
             values (?1, ?2, ?3, ?4, ?5) on conflict do nothing",
        )?
        .execute(params![
            &*event.org_id,
            key,
            event.id.as_bytes(),
            deliveries,
            event.accepted_at.micros(),
        ])?;
    if inserted == 1 {
        return Ok(None);
    }
    let found: Option<(Vec<u8>, i32)> = connection
        .prepare_cached(
            "select event_id, deliveries from event_keys where org_id = ?1 and event_key = ?2",
        )?
        .query_row(params![&*event.org_id, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(id, deliveries)| Written::Duplicate {
        event_id: Uuid::from_slice(&id).unwrap_or_default(),
        deliveries,
    }))
}

fn write_result(
    connection: &Connection,
    result: &AttemptResult,
    epoch: Epoch,
) -> rusqlite::Result<()> {
    let state = result.state.number();
    let due_at = due_micros(result.state, result.due_at);
    let id = result.delivery_id.as_bytes();
    if result.attempts_before == 0 {
        let updated = connection
            .prepare_cached(
                "update deliveries set state = ?2, due_at = ?3, claim = null, \
                 ordered = case when ?2 in (0, 1) then ordered end, attempts = 1, first_at = ?4, \
                 first_status = ?5, first_micros = ?6, first_error = ?7, first_detail = ?8 \
                 where id = ?1 and claim = ?9 and attempts = 0",
            )?
            .execute(params![
                id,
                state,
                due_at,
                result.at.micros(),
                result.status,
                result.micros,
                result.error,
                result.detail,
                epoch.number(),
            ])?;
        if updated == 1 {
            return Ok(());
        }
        return insert_attempt(connection, result);
    }
    insert_attempt(connection, result)?;
    connection
        .prepare_cached(
            "update deliveries set state = ?2, due_at = ?3, claim = null, replay = 0, \
             ordered = case when ?2 in (0, 1) then ordered end, attempts = ?4 + 1 \
             where id = ?1 and claim = ?5 and attempts = ?4",
        )?
        .execute(params![id, state, due_at, result.attempts_before, epoch.number()])?;
    Ok(())
}

fn insert_attempt(connection: &Connection, result: &AttemptResult) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "insert into attempts (delivery_id, number, at, status, micros, error, detail) \
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict do nothing",
        )?
        .execute(params![
            result.delivery_id.as_bytes(),
            result.attempts_before + 1,
            result.at.micros(),
            result.status,
            result.micros,
            result.error,
            result.detail,
        ])?;
    Ok(())
}

fn settle(connection: &Connection, settlement: &Settlement, epoch: Epoch) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "update deliveries set state = ?2, due_at = ?3, claim = null, \
             ordered = case when ?2 in (0, 1) then ordered end where id = ?1 and claim = ?4",
        )?
        .execute(params![
            settlement.delivery_id.as_bytes(),
            settlement.state.number(),
            due_micros(settlement.state, settlement.due_at),
            epoch.number(),
        ])?;
    Ok(())
}
