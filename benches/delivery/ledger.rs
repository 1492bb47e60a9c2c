//! Who was sent, accepted and arrived when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mortise::seam::Clock;
use tokio::time::Instant;

/// The moments of all events of a run, in nanoseconds since its beginning; 0 is never.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Clock,
    begin: Instant,
    fan_out: usize,
    planned: Vec<AtomicU64>,
    sent: Vec<AtomicU64>,
    accepted: Vec<AtomicU64>,
    /// A place for each event and webhook.
    arrived: Vec<AtomicU64>,
    arrivals: AtomicU64,
    duplicates: AtomicU64,
    last_arrival: AtomicU64,
}

fn moments(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn read(moments: &[AtomicU64], index: usize) -> u64 {
    moments.get(index).map_or(0, |moment| moment.load(Ordering::Relaxed))
}

impl Ledger {
    /// For so many events, each for so many webhooks.
    pub(crate) fn new(events: usize, fan_out: usize) -> Self {
        let clock = Clock::default();
        Self {
            begin: clock.instant(),
            clock,
            fan_out,
            planned: moments(events),
            sent: moments(events),
            accepted: moments(events),
            arrived: moments(events * fan_out),
            arrivals: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            last_arrival: AtomicU64::new(0),
        }
    }

    /// How many events there are.
    pub(crate) fn events(&self) -> usize {
        self.sent.len()
    }

    /// How many deliveries there are to be.
    pub(crate) fn deliveries(&self) -> usize {
        self.arrived.len()
    }

    /// Now.
    pub(crate) fn now(&self) -> u64 {
        let elapsed = self.clock.instant().saturating_duration_since(self.begin);
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Notes when an event was to be sent.
    pub(crate) fn plan(&self, event: usize, at: u64) {
        if let Some(planned) = self.planned.get(event) {
            planned.store(at, Ordering::Relaxed);
        }
    }

    /// Notes that events are sent now.
    pub(crate) fn send(&self, events: std::ops::Range<usize>) {
        let now = self.now();
        for event in self.sent.get(events).unwrap_or_default() {
            event.store(now, Ordering::Relaxed);
        }
    }

    /// Notes that events were accepted now.
    pub(crate) fn accept(&self, events: std::ops::Range<usize>) {
        let now = self.now();
        for event in self.accepted.get(events).unwrap_or_default() {
            event.store(now, Ordering::Relaxed);
        }
    }

    /// Notes an arrival; false where there is no such event or webhook.
    pub(crate) fn arrive(&self, event: usize, webhook: usize) -> bool {
        if webhook >= self.fan_out {
            return false;
        }
        let Some(place) = self.arrived.get(event * self.fan_out + webhook) else { return false };
        let now = self.now();
        if place.load(Ordering::Relaxed) != 0 {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        place.store(now, Ordering::Relaxed);
        self.last_arrival.store(now, Ordering::Relaxed);
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How many different deliveries arrived.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// How many deliveries arrived once more.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// How many events were accepted.
    pub(crate) fn acceptances(&self) -> usize {
        self.accepted.iter().filter(|moment| moment.load(Ordering::Relaxed) != 0).count()
    }

    /// How many deliveries of accepted events did not arrive.
    pub(crate) fn lost(&self) -> usize {
        (0..self.deliveries())
            .filter(|delivery| {
                read(&self.accepted, delivery / self.fan_out) != 0
                    && read(&self.arrived, *delivery) == 0
            })
            .count()
    }

    /// From the first request to the last arrival.
    pub(crate) fn span(&self) -> Duration {
        let first = self.sent.iter().map(|moment| moment.load(Ordering::Relaxed));
        let first = first.filter(|moment| *moment != 0).min().unwrap_or_default();
        Duration::from_nanos(self.last_arrival.load(Ordering::Relaxed).saturating_sub(first))
    }

    /// From the first request to the last acceptance.
    pub(crate) fn intake_span(&self) -> Duration {
        let first = self.sent.iter().map(|moment| moment.load(Ordering::Relaxed));
        let first = first.filter(|moment| *moment != 0).min().unwrap_or_default();
        let last = self.accepted.iter().map(|moment| moment.load(Ordering::Relaxed)).max();
        Duration::from_nanos(last.unwrap_or_default().saturating_sub(first))
    }

    /// The moments at which a part of the deliveries had arrived, parts of a thousand.
    pub(crate) fn arrived_at(&self, parts: [usize; 2]) -> [u64; 2] {
        let mut moments: Vec<u64> =
            self.arrived.iter().map(|moment| moment.load(Ordering::Relaxed)).collect();
        moments.retain(|moment| *moment != 0);
        moments.sort_unstable();
        let last = moments.len().saturating_sub(1);
        parts.map(|part| moments.get(last * part / 1_000).copied().unwrap_or_default())
    }

    /// How long deliveries took from a moment of their event to their arrival.
    pub(crate) fn latencies(&self, from: From, which: impl Fn(usize) -> bool) -> Latencies {
        let begins = match from {
            From::Planned => &self.planned,
            From::Sent => &self.sent,
            From::Accepted => &self.accepted,
        };
        let mut nanos: Vec<u64> = (0..self.deliveries())
            .filter(|delivery| which(delivery / self.fan_out))
            .filter_map(|delivery| {
                let begin = read(begins, delivery / self.fan_out);
                let end = read(&self.arrived, delivery);
                // An arrival may be seen before the answer that it follows from.
                (begin != 0 && end != 0).then(|| end.saturating_sub(begin))
            })
            .collect();
        nanos.sort_unstable();
        Latencies { nanos }
    }

    /// How long requests took from the first byte sent to the answer.
    pub(crate) fn answers(&self, which: impl Fn(usize) -> bool) -> Latencies {
        let mut nanos: Vec<u64> = (0..self.events())
            .filter(|event| which(*event))
            .filter_map(|event| {
                let (begin, end) = (read(&self.sent, event), read(&self.accepted, event));
                (begin != 0 && end != 0).then(|| end.saturating_sub(begin))
            })
            .collect();
        nanos.sort_unstable();
        Latencies { nanos }
    }
}

/// The moment of an event from which is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// When it was to be sent.
    Planned,
    /// When it was sent.
    Sent,
    /// When it was accepted.
    Accepted,
}

/// Spans in order.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    /// The span that so many of a thousand do not exceed, in milliseconds.
    pub(crate) fn quantile(&self, of_thousand: usize) -> f64 {
        let last = self.nanos.len().saturating_sub(1);
        let index = (self.nanos.len() * of_thousand).div_ceil(1_000).saturating_sub(1).min(last);
        self.nanos.get(index).map_or(0.0, |nanos| Duration::from_nanos(*nanos).as_secs_f64() * 1e3)
    }

    /// p50, p95, p99 and the longest, in milliseconds.
    pub(crate) fn usual(&self) -> [f64; 4] {
        [500, 950, 990, 1_000].map(|part| self.quantile(part))
    }
}
