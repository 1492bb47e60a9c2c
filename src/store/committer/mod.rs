//! The group commit: what waits together is written in one transaction.
//!
//! Accepted events and results of attempts arrive over one bounded channel. One task takes all that
//! waits, writes it in one transaction, and answers everybody. Nothing lingers to
//! make a group larger: groups grow by themselves while the former one is being written.
//!
//! Where the database cannot be reached the group is tried again until it succeeds, with the same
//! ids: an insert that had succeeded unseen is then found to be there. Whoever waits for an answer
//! may give up earlier; what was written is handed over all the same.

mod budget;
mod postgres;
mod share;
mod sqlite;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use super::claims::{DeliveryState, HELD};
use super::database::{Backend, Store};
use super::error::StoreError;
use super::nodes::Epoch;
use crate::seam::{Clock, Timestamp, crash_point};
use crate::telemetry::METRICS;
use crate::telemetry::beat::Beat;

pub(crate) use budget::{MemoryBudget, Place};
use share::{Share, Shares};

/// How many events and results one group holds at the most.
pub(crate) const GROUP_LIMIT: usize = 512;

/// How many commands may wait before callers are told to come back later.
const CHANNEL_CAPACITY: usize = 4_096;

/// How many bytes of events may wait to be written, in permits of a KiB.
const WAITING_KIB: u32 = 64 * 1_024;

/// The least that a request counts for, in KiB, so that the room ends before the channel does.
const REQUEST_KIB: u32 = 16;

/// How much of the room one org may have: one part in so many.
const ORG_SHARE: u32 = 2;

/// How many bytes of events one group takes before it is written.
const GROUP_BYTES: usize = 16 * 1_024 * 1_024;

/// The pause before a group that could not be written is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What an event takes in memory beside its documents, in bytes.
pub(crate) const EVENT_OVERHEAD: usize = 512;

/// An event to be written with everything that it fans out to.
#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) id: Uuid,
    pub(crate) org_id: Arc<str>,
    pub(crate) event_type: Arc<str>,
    pub(crate) department_id: Option<String>,
    /// Milliseconds since the epoch, as the host said.
    pub(crate) event_time: i64,
    pub(crate) automation: bool,
    pub(crate) source_id: Option<String>,
    pub(crate) actor: Option<String>,
    /// The caller's own id, which deduplicates.
    pub(crate) event_key: Option<String>,
    pub(crate) accepted_at: Timestamp,
    pub(crate) payload: Bytes,
    pub(crate) previous: Option<Bytes>,
    pub(crate) deliveries: Vec<NewDelivery>,
}

impl NewEvent {
    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        EVENT_OVERHEAD + self.payload.len() + self.previous.as_ref().map_or(0, Bytes::len)
    }
}

/// A delivery to be written with its event.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    pub(crate) id: Uuid,
    pub(crate) endpoint_id: Uuid,
    pub(crate) generation: i32,
    pub(crate) placement: Placement,
    /// Its place in memory, with [`Placement::Memory`].
    pub(crate) place: Option<Place>,
}

/// Where a new delivery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In this node's memory, which has room for it.
    Memory,
    /// In the table, until somebody has room.
    Table,
    /// In the table, behind its predecessors.
    Ordered,
    /// In the table, until its webhook is active again.
    Held,
    /// As [`Placement::Held`], and in its order once released.
    HeldOrdered,
}

impl Placement {
    pub(crate) fn state(self) -> DeliveryState {
        match self {
            Self::Held | Self::HeldOrdered => DeliveryState::Held,
            Self::Memory | Self::Table | Self::Ordered => DeliveryState::Pending,
        }
    }

    pub(crate) fn due_at(self, now: Timestamp) -> Option<i64> {
        match self {
            Self::Memory => None,
            Self::Table | Self::Ordered => Some(now.micros()),
            Self::Held | Self::HeldOrdered => Some(HELD),
        }
    }

    pub(crate) fn claim(self, epoch: Epoch) -> Option<i64> {
        (self == Self::Memory).then(|| epoch.number())
    }

    pub(crate) fn ordered(self) -> Option<i16> {
        self.is_ordered().then_some(1)
    }

    pub(crate) fn is_ordered(self) -> bool {
        matches!(self, Self::Ordered | Self::HeldOrdered)
    }
}

/// What became of an event that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is on disk.
    New,
    /// An event with the same key was there before.
    Duplicate {
        /// Its id.
        event_id: Uuid,
        /// How many deliveries it had.
        deliveries: i32,
    },
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) struct AttemptResult {
    /// Its place in memory: given back only when this is on disk, since the oldest place says from
    /// where on a dead node's claims are looked for.
    pub(crate) _place: Option<Place>,
    pub(crate) delivery_id: Uuid,
    /// The attempts before this one; part of the fence.
    pub(crate) attempts_before: i32,
    pub(crate) state: DeliveryState,
    /// When the delivery is to be tried again.
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) at: Timestamp,
    pub(crate) status: Option<u16>,
    pub(crate) micros: i64,
    pub(crate) error: Option<&'static str>,
    /// What else there is to know, as a JSON document.
    pub(crate) detail: Option<String>,
}

/// A delivery given back without an attempt.
#[derive(Debug)]
pub(crate) struct Settlement {
    /// As in [`AttemptResult`].
    pub(crate) _place: Option<Place>,
    pub(crate) delivery_id: Uuid,
    pub(crate) state: DeliveryState,
    pub(crate) due_at: Option<Timestamp>,
}

/// The due time to write with a state.
fn due_micros(state: DeliveryState, due_at: Option<Timestamp>) -> Option<i64> {
    match state {
        DeliveryState::Pending => due_at.map(Timestamp::micros),
        DeliveryState::Held => Some(HELD),
        DeliveryState::Delivered | DeliveryState::Failed | DeliveryState::Cancelled => None,
    }
}

/// What the committer writes.
#[derive(Debug)]
enum Command {
    Intake(Intake),
    Result(AttemptResult, Option<oneshot::Sender<()>>),
    Settle(Settlement),
    /// What came before is written; then the committer ends.
    End,
}

/// Events of one request, written all or none.
#[derive(Debug)]
struct Intake {
    events: Vec<NewEvent>,
    bytes: usize,
    /// Room among what waits; given back when it is written.
    _room: OwnedSemaphorePermit,
    /// The same for each org.
    _shares: Vec<Share>,
    answer: oneshot::Sender<Result<Vec<Written>, StoreError>>,
}

/// A group that is written at once.
#[derive(Debug, Default)]
struct Group {
    intakes: Vec<Intake>,
    results: Vec<AttemptResult>,
    settlements: Vec<Settlement>,
    /// Who waits for the results of this group to be on disk.
    heard: Vec<oneshot::Sender<()>>,
    /// Whether it is the last one.
    is_last: bool,
}

impl Group {
    fn push(&mut self, command: Command) {
        match command {
            Command::Intake(intake) => self.intakes.push(intake),
            Command::Result(result, heard) => {
                self.results.push(result);
                self.heard.extend(heard);
            }
            Command::Settle(settlement) => self.settlements.push(settlement),
            Command::End => self.is_last = true,
        }
    }

    fn events(&self) -> impl Iterator<Item = &NewEvent> {
        self.intakes.iter().flat_map(|intake| &intake.events)
    }

    fn is_empty(&self) -> bool {
        self.intakes.is_empty() && self.results.is_empty() && self.settlements.is_empty()
    }

    /// Whether it is to be written before it grows further.
    fn is_full(&self) -> bool {
        self.weight() >= GROUP_LIMIT
            || self.intakes.iter().map(|intake| intake.bytes).sum::<usize>() >= GROUP_BYTES
    }

    /// How much is in it: events and results, not requests.
    fn weight(&self) -> usize {
        self.intakes.iter().map(|intake| intake.events.len()).sum::<usize>()
            + self.results.len()
            + self.settlements.len()
    }

    /// Keys in order, so that two groups never wait for each other in a circle.
    fn sort(&mut self) {
        self.results.sort_unstable_by_key(|result| result.delivery_id);
        self.settlements.sort_unstable_by_key(|settlement| settlement.delivery_id);
    }
}

/// Receives what was written, to hand it over in memory.
pub(crate) type HandOver = Arc<dyn Fn(Vec<NewEvent>) + Send + Sync>;

/// There is no room for more right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// For anybody.
    AtAll,
    /// For this org, which has its share waiting.
    ForOrg(Arc<str>),
}

/// The sending end of the committer. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Committer {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    shares: Shares,
}

impl Committer {
    /// Starts the committer. It ends when it is told to, and all is written.
    pub(crate) fn start(
        store: &Store,
        epoch: Epoch,
        clock: Clock,
        hand_over: HandOver,
        beat: Beat,
    ) -> Result<(Self, CommitterEnd), StoreError> {
        let (commands, received) = mpsc::channel(CHANNEL_CAPACITY);
        let (ended, end) = oneshot::channel();
        match store.backend() {
            Backend::Postgres { options } => {
                let writers = [(); 2].map(|()| postgres::Writer::new((**options).clone(), epoch));
                tokio::spawn(async move {
                    postgres::run(writers, received, clock, hand_over, beat).await;
                    let _unheard = ended.send(());
                });
            }
            Backend::Sqlite { path } => {
                let turn = store.write_turn().unwrap_or_default();
                let writer = sqlite::Writer::open(path, epoch)?;
                std::thread::Builder::new()
                    .name("mortise-committer".to_owned())
                    .spawn(move || {
                        sqlite::run(writer, received, &turn, &clock, &hand_over, &beat);
                        let _unheard = ended.send(());
                    })
                    .map_err(|source| StoreError::File {
                        path: "the committer's thread".to_owned(),
                        source,
                    })?;
            }
        }
        let room = Arc::new(Semaphore::new(WAITING_KIB as usize));
        let shares = Shares::new(WAITING_KIB / ORG_SHARE);
        Ok((Self { commands, room, shares }, CommitterEnd { end }))
    }

    /// Writes the events of one request, all or none. Returns what became of each, in order, or at
    /// once where there is no room.
    pub(crate) fn intake(
        &self,
        events: Vec<NewEvent>,
    ) -> Result<oneshot::Receiver<Result<Vec<Written>, StoreError>>, NoRoom> {
        let bytes: usize = events.iter().map(NewEvent::bytes).sum();
        let permits = kibibytes(bytes);
        let room =
            Arc::clone(&self.room).try_acquire_many_owned(permits).map_err(|_| NoRoom::AtAll)?;
        let shares = self.shares_of(&events)?;
        let (answer, receiver) = oneshot::channel();
        let intake = Intake { events, bytes, _room: room, _shares: shares, answer };
        self.commands.try_send(Command::Intake(intake)).map_err(|_| NoRoom::AtAll)?;
        Ok(receiver)
    }

    /// Counts what each org of a request has waiting.
    fn shares_of(&self, events: &[NewEvent]) -> Result<Vec<Share>, NoRoom> {
        let mut sizes: Vec<(&Arc<str>, usize)> =
            events.iter().map(|event| (&event.org_id, event.bytes())).collect();
        sizes.sort_unstable();
        sizes
            .chunk_by(|(one, _), (next, _)| one == next)
            .map(|run| {
                let (org, _) = run[0];
                let amount = kibibytes(run.iter().map(|(_, bytes)| bytes).sum());
                self.shares.take(org, amount).ok_or_else(|| NoRoom::ForOrg(Arc::clone(org)))
            })
            .collect()
    }

    /// Writes what an attempt came to. Waits for room.
    pub(crate) async fn result(&self, result: AttemptResult) {
        // Closed only when the process ends, where the lease frees the claim.
        let _closed = self.commands.send(Command::Result(result, None)).await;
    }

    /// Writes what an attempt came to, and waits until it is on disk: the next delivery of an
    /// ordered endpoint may only then be looked for.
    pub(crate) async fn result_on_disk(&self, result: AttemptResult) {
        let (heard, on_disk) = oneshot::channel();
        if self.commands.send(Command::Result(result, Some(heard))).await.is_ok() {
            let _closed = on_disk.await;
        }
    }

    /// Gives a delivery back without an attempt. Waits for room.
    pub(crate) async fn settle(&self, settlement: Settlement) {
        let _closed = self.commands.send(Command::Settle(settlement)).await;
    }

    /// Ends the committer once all that was given to it is written.
    pub(crate) async fn end(&self) {
        // Closed where it has ended already.
        let _closed = self.commands.send(Command::End).await;
    }
}

/// Tells when the committer has written everything and ended.
#[derive(Debug)]
pub(crate) struct CommitterEnd {
    end: oneshot::Receiver<()>,
}

impl CommitterEnd {
    /// Waits for the end.
    pub(crate) async fn wait(self) {
        let _ended = self.end.await;
    }
}

/// What so many bytes count for.
fn kibibytes(bytes: usize) -> u32 {
    u32::try_from(bytes / 1_024 + 1).unwrap_or(u32::MAX).max(REQUEST_KIB)
}

/// Notes that a group was written, or given up, after so long.
fn note_commit(weight: usize, took: Duration) {
    METRICS.commit_rows.note(weight as u64);
    METRICS.commit_micros.note(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}

/// Answers everybody in a group that is on disk and hands its events over.
fn finish(group: Group, mut written: Vec<Written>, hand_over: &HandOver) {
    let Group { intakes, heard, .. } = group;
    if !intakes.is_empty() {
        crash_point("intake.before-answer");
    }
    for heard in heard {
        let _unheard = heard.send(());
    }
    let intake_events: usize = intakes.iter().map(|intake| intake.events.len()).sum();
    let mut fresh = Vec::with_capacity(written.len());
    for intake in intakes {
        let rest = written.split_off(intake.events.len().min(written.len()));
        let mine = std::mem::replace(&mut written, rest);
        fresh.extend(
            intake
                .events
                .into_iter()
                .zip(&mine)
                .filter(|(_, outcome)| **outcome == Written::New)
                .map(|(event, _)| event),
        );
        // The caller may have given up; what was written is handed over all the same.
        let _unheard = intake.answer.send(Ok(mine));
    }
    let deliveries: usize = fresh.iter().map(|event| event.deliveries.len()).sum();
    METRICS.events_accepted.add(fresh.len() as u64);
    METRICS.events_duplicate.add((intake_events - fresh.len()) as u64);
    METRICS.deliveries_made.add(deliveries as u64);
    if !fresh.is_empty() {
        hand_over(fresh);
    }
}

/// When a delivery is tried again whose result the database refused.
const PUT_OFF: Duration = Duration::from_mins(2);

/// Cuts a refused group in two. A single refused intake is answered; a single refused result is
/// said in the log, and its delivery put off without it.
fn split(group: Group, error: StoreError, groups: &mut Vec<Group>) {
    let Group { mut intakes, mut results, mut settlements, heard, is_last: _ } = group;
    if intakes.len() + results.len() + settlements.len() <= 1 {
        tracing::error!(error = %error, "the database refused a row");
        if let Some(intake) = intakes.pop() {
            let _unheard = intake.answer.send(Err(error));
        }
        if let Some(AttemptResult { _place: place, delivery_id, at, .. }) = results.pop() {
            let (state, due_at) = (DeliveryState::Pending, Some(at.plus(PUT_OFF)));
            let settlement = Settlement { _place: place, delivery_id, state, due_at };
            groups.push(Group { settlements: vec![settlement], heard, ..Group::default() });
        }
        return;
    }
    // Kinds apart first, then halves: each step makes the groups smaller.
    let second = if !intakes.is_empty() && results.len() + settlements.len() > 0 {
        Group {
            intakes: Vec::new(),
            results: std::mem::take(&mut results),
            settlements: std::mem::take(&mut settlements),
            ..Group::default()
        }
    } else if !results.is_empty() && !settlements.is_empty() {
        Group { settlements: std::mem::take(&mut settlements), ..Group::default() }
    } else {
        Group {
            intakes: intakes.split_off(intakes.len() / 2),
            results: results.split_off(results.len() / 2),
            settlements: settlements.split_off(settlements.len() / 2),
            ..Group::default()
        }
    };
    // Whoever waits for a result hears at the last part at the latest.
    let first = Group { intakes, results, settlements, ..Group::default() };
    let second = Group { heard, ..second };
    groups.extend([second, first].into_iter().filter(|group| group.weight() > 0));
}
