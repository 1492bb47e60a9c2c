//! One measured run: the meters before, the load, the meters after, and what follows from them.

use std::sync::Arc;
use std::time::Duration;

use mortise::seam::Clock;
use serde::Serialize;

use super::counters::{Counters, Counts};
use super::ledger::{From, Ledger};
use super::load::{Load, Orgs};
use super::pacer::Pace;
use super::process::{self, Reading, Watched, ratio};
use super::receiver::{Faults, Receiver};
use super::server::Server;
use super::world;
use super::{Failure, Outcome};

/// How long nothing may arrive before the rest counts as lost.
const STALLED: Duration = Duration::from_secs(90);

/// How often is looked whether all have arrived.
const LOOK: Duration = Duration::from_millis(5);

/// How long results may take to be written after the last arrival; counted into the CPU.
const TAIL: Duration = Duration::from_millis(200);

/// PostgreSQL's processes tell their counts at most once a second.
const TELLING: Duration = Duration::from_millis(1_100);

/// A server with what is around it, ready to be measured.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) receiver: Receiver,
    pub(crate) counters: Counters,
    pub(crate) token: String,
    pub(crate) connections: usize,
    /// How many webhooks an org has.
    pub(crate) fan_out: usize,
    pub(crate) watched: Watched,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) events: usize,
    /// Arrays of so many; single events where there is none.
    pub(crate) array: Option<usize>,
    pub(crate) keyed: bool,
    pub(crate) orgs: Orgs,
}

impl Shape {
    /// Single events for one org.
    pub(crate) fn singles(events: usize) -> Self {
        Self { events, array: None, keyed: false, orgs: Orgs { first: 0, count: 1 } }
    }

    /// The same in arrays of a hundred.
    pub(crate) fn arrays(events: usize) -> Self {
        Self { array: Some(100), ..Self::singles(events) }
    }
}

/// The figures of one run. Latencies are p50, p95, p99 and the longest, in milliseconds; CPU is
/// microseconds a delivery.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) scenario: String,
    pub(crate) part: String,
    pub(crate) server: String,
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    pub(crate) seconds: f64,
    pub(crate) deliveries_per_second: f64,
    /// Against the bare loop right before it.
    pub(crate) ratio_to_bare: Option<f64>,
    pub(crate) planned_to_arrival: Option<[f64; 4]>,
    pub(crate) sent_to_arrival: [f64; 4],
    pub(crate) accepted_to_arrival: [f64; 4],
    pub(crate) sent_to_accepted: [f64; 4],
    pub(crate) cpu_server: f64,
    pub(crate) cpu_database: f64,
    pub(crate) cpu_driver: f64,
    pub(crate) idle: f64,
    pub(crate) stolen: f64,
    pub(crate) foreign: f64,
    pub(crate) peak_mib: u64,
    pub(crate) commits_per_event: f64,
    pub(crate) rows_inserted_per_event: f64,
    pub(crate) rows_updated_per_event: f64,
    pub(crate) hot_share: f64,
    pub(crate) log_bytes_per_event: f64,
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
    /// Requests that were told to come back later.
    pub(crate) refused: u64,
    pub(crate) faulty: u64,
    pub(crate) wrongly_signed: u64,
    /// Further figures of the scenario, by name.
    pub(crate) more: serde_json::Map<String, serde_json::Value>,
}

impl Figures {
    /// Whether everything arrived as it was sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost == 0 && self.faulty == 0 && self.wrongly_signed == 0
    }

    /// Adds a figure of the scenario.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.more.insert(name.to_owned(), value.into());
    }
}

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) number: usize,
    counts: Counts,
    reading: Reading,
}

impl Stage {
    /// Makes extensions and orgs on a fresh server.
    pub(crate) async fn furnish(
        server: Server,
        receiver: Receiver,
        counters: Counters,
        database: Option<u32>,
        connections: usize,
        (fan_out, orgs): (usize, usize),
    ) -> Outcome<Self> {
        receiver.forget();
        world::publish(&server, &receiver, fan_out).await?;
        world::install(&server, fan_out, orgs).await?;
        let token = world::host_token(&server).await?;
        let watched = Watched { server: server.id(), database };
        Ok(Self { server, receiver, counters, token, connections, fan_out, watched })
    }

    /// Reads the meters and expects the events of a run.
    pub(crate) async fn begin(&self, events: usize) -> Outcome<Run> {
        self.tell_counts().await?;
        self.counters.reset_statements().await?;
        let counts = self.counters.read().await?;
        let ledger = Arc::new(Ledger::new(events, self.fan_out));
        let number = self.receiver.expect(&ledger);
        self.receiver.take_faults();
        process::reset_peak(self.watched.server);
        Ok(Run { ledger, number, counts, reading: self.watched.read()? })
    }

    /// Sends events in a closed loop, and does not wait for their arrival.
    pub(crate) async fn send(&self, run: &Run, shape: Shape) -> Outcome<u64> {
        let load = Load {
            authority: self.server.authority.clone(),
            token: self.token.clone(),
            connections: self.connections,
            array: shape.array,
            keyed: shape.keyed,
            run: run.number,
            ledger: Arc::clone(&run.ledger),
            orgs: shape.orgs,
        };
        load.run().await
    }

    /// Sends single events at an even rate.
    pub(crate) async fn pace(&self, run: &Run, rate: u32, orgs: Orgs) -> Outcome<u64> {
        let pace = Pace {
            authority: self.server.authority.clone(),
            token: self.token.clone(),
            rate,
            run: run.number,
            ledger: Arc::clone(&run.ledger),
            orgs,
        };
        pace.run().await
    }

    /// Waits until all deliveries of accepted events have arrived, or none does any more.
    pub(crate) async fn drain(&self, ledger: &Ledger) {
        let clock = Clock::default();
        let wanted = u64::try_from(ledger.acceptances() * self.fan_out).unwrap_or(u64::MAX);
        let (mut former, mut end) = (ledger.arrivals(), clock.instant() + STALLED);
        while former < wanted && clock.instant() < end {
            clock.sleep(LOOK).await;
            let now = ledger.arrivals();
            if now > former {
                (former, end) = (now, clock.instant() + STALLED);
            }
        }
    }

    /// Reads the meters again.
    pub(crate) async fn end(&self, run: &Run, refused: u64) -> Outcome<Figures> {
        let at_arrival = self.watched.read()?;
        Clock::default().sleep(TAIL).await;
        let usage = run.reading.until(&self.watched.read()?);
        let idle = run.reading.until(&at_arrival);
        let (_, peak_mib) = process::memory(self.watched.server);
        let faults = self.receiver.take_faults();
        self.tell_counts().await?;
        let counts = run.counts.until(&self.counters.read().await?);
        let ledger = &run.ledger;
        let events = u64::try_from(ledger.acceptances())?;
        let deliveries = ledger.arrivals();
        let seconds = ledger.span().as_secs_f64();
        let micros =
            |span: Duration| ratio(u64::try_from(span.as_micros()).unwrap_or(0), deliveries);
        let all = |from| ledger.latencies(from, |_| true).usual();
        let Faults { faulty, wrongly_signed, strays } = faults;
        Ok(Figures {
            events,
            deliveries,
            seconds,
            deliveries_per_second: ratio(deliveries, 1) / seconds.max(1e-9),
            sent_to_arrival: all(From::Sent),
            accepted_to_arrival: all(From::Accepted),
            sent_to_accepted: ledger.answers(|_| true).usual(),
            cpu_server: micros(usage.server),
            cpu_database: micros(usage.database),
            cpu_driver: micros(usage.driver),
            idle: idle.idle,
            stolen: idle.stolen,
            foreign: idle.foreign,
            peak_mib,
            commits_per_event: ratio(counts.commits, events),
            rows_inserted_per_event: ratio(counts.rows_inserted, events),
            rows_updated_per_event: ratio(counts.rows_updated, events),
            hot_share: ratio(counts.rows_updated_hot, counts.rows_updated),
            log_bytes_per_event: ratio(counts.log_bytes, events),
            duplicates: ledger.duplicates(),
            lost: u64::try_from(ledger.lost())?,
            refused,
            faulty: faulty + strays,
            wrongly_signed,
            ..Figures::default()
        })
    }

    /// A whole run in a closed loop.
    pub(crate) async fn closed(&self, shape: Shape) -> Outcome<(Figures, Arc<Ledger>)> {
        let run = self.begin(shape.events).await?;
        let refused = self.send(&run, shape).await?;
        self.drain(&run.ledger).await;
        let figures = self.end(&run, refused).await?;
        Ok((figures, run.ledger))
    }

    /// A whole run at an even rate.
    pub(crate) async fn open(
        &self,
        events: usize,
        rate: u32,
        orgs: Orgs,
    ) -> Outcome<(Figures, Arc<Ledger>)> {
        let run = self.begin(events).await?;
        let refused = self.pace(&run, rate, orgs).await?;
        self.drain(&run.ledger).await;
        let mut figures = self.end(&run, refused).await?;
        figures.planned_to_arrival = Some(run.ledger.latencies(From::Planned, |_| true).usual());
        Ok((figures, run.ledger))
    }

    /// Sends events that are not measured, so that connections, caches and tables are as in use.
    pub(crate) async fn warm_up(&self, shape: Shape) -> Outcome<()> {
        let ledger = Arc::new(Ledger::new(shape.events, self.fan_out));
        let number = self.receiver.expect(&ledger);
        let load = Load {
            authority: self.server.authority.clone(),
            token: self.token.clone(),
            connections: self.connections,
            array: shape.array,
            keyed: shape.keyed,
            run: number,
            ledger: Arc::clone(&ledger),
            orgs: shape.orgs,
        };
        load.run().await?;
        self.drain(&ledger).await;
        if ledger.lost() > 0 {
            return Err(Failure::from("events of the warm-up did not arrive"));
        }
        Ok(())
    }

    /// Has PostgreSQL's processes tell what they counted: each does with its first statement a
    /// second after it last did.
    async fn tell_counts(&self) -> Outcome<()> {
        if matches!(self.counters, Counters::Sqlite { .. }) {
            return Ok(());
        }
        Clock::default().sleep(TELLING).await;
        self.warm_up(Shape::singles(1)).await?;
        Clock::default().sleep(Duration::from_millis(50)).await;
        Ok(())
    }
}
