//! Hosts that post events and do not give up, and the count of what arrived in the end.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mortise::development::{Received, SampleVendor};
use mortise::seam::Clock;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::task::JoinHandle;

use super::client::Client;
use super::delivery_world::{HOOK, ticket};
use super::program::Stage;
use super::server::ORG;

/// How long a poster tries one request before the test fails.
const STUBBORN: Duration = Duration::from_mins(1);

/// How long all that was accepted may take to arrive.
const ARRIVING: Duration = Duration::from_mins(1);

/// How a load is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Posters at the same time.
    pub(crate) posters: usize,
    /// Events in one request.
    pub(crate) batch: usize,
    /// The pause of a poster between two requests.
    pub(crate) pause: Duration,
    /// Bytes of text in each payload.
    pub(crate) text: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { posters: 3, batch: 10, pause: Duration::from_millis(20), text: 0 }
    }
}

/// What posters count.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

/// Posters at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    posters: Vec<JoinHandle<Vec<String>>>,
}

/// What the posters were told.
#[derive(Debug)]
pub(crate) struct Posted {
    /// The events that were answered with 202.
    pub(crate) accepted: Vec<String>,
    /// How many requests were answered with 503 or 429.
    pub(crate) refused: u64,
    /// How many requests had no answer.
    pub(crate) unanswered: u64,
}

impl Load {
    /// Begins to post: each request again and again until it is answered with 202.
    pub(crate) fn start(clients: &[Client], host: &str, pace: Pace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Counters::default());
        let posters = (0..pace.posters)
            .map(|poster| {
                let poster = Poster {
                    number: poster,
                    pace,
                    clients: clients.to_vec(),
                    host: host.to_owned(),
                    counters: Arc::clone(&counters),
                };
                tokio::spawn(poster.run(Arc::clone(&stop)))
            })
            .collect();
        Self { stop, counters, posters }
    }

    /// How many events were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many more events are accepted.
    pub(crate) async fn more(&self, wanted: u64) {
        let (clock, goal) = (Clock::default(), self.accepted() + wanted);
        let end = clock.instant() + STUBBORN;
        while self.accepted() < goal {
            assert!(clock.instant() < end, "only {} of {goal} are accepted", self.accepted());
            assert!(!self.posters.iter().any(JoinHandle::is_finished), "a poster ended");
            clock.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends, when every request that was begun has been accepted.
    pub(crate) async fn finish(self) -> Posted {
        self.stop.store(true, Ordering::Relaxed);
        let mut accepted = Vec::new();
        for poster in self.posters {
            accepted.extend(poster.await.expect("the poster got only answers that it may get"));
        }
        Posted {
            accepted,
            refused: self.counters.refused.load(Ordering::Relaxed),
            unanswered: self.counters.unanswered.load(Ordering::Relaxed),
        }
    }
}

struct Poster {
    number: usize,
    pace: Pace,
    clients: Vec<Client>,
    host: String,
    counters: Arc<Counters>,
}

impl Poster {
    async fn run(self, stop: Arc<AtomicBool>) -> Vec<String> {
        let clock = Clock::default();
        let text = "x".repeat(self.pace.text);
        let mut accepted = Vec::new();
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let names: Vec<String> = (0..self.pace.batch)
                .map(|index| format!("l-{}-{number}-{index}", self.number))
                .collect();
            let events: Vec<Value> = names
                .iter()
                .map(|name| {
                    let mut event = ticket(ORG, name);
                    if !text.is_empty() {
                        event["payload"]["text"] = text.as_str().into();
                    }
                    event
                })
                .collect();
            self.post(&json!(events), number).await;
            self.counters.accepted.fetch_add(names.len() as u64, Ordering::Relaxed);
            accepted.extend(names);
            number += 1;
            clock.sleep(self.pace.pause).await;
        }
        accepted
    }

    /// Posts one request until it is accepted.
    async fn post(&self, events: &Value, number: u64) {
        let clock = Clock::default();
        let end = clock.instant() + STUBBORN;
        let first = usize::try_from(number).unwrap_or(0) + self.number;
        for client in self.clients.iter().cycle().skip(first % self.clients.len()) {
            let request = client.request(reqwest::Method::POST, "/api/v1/events", &self.host);
            match client.try_send(request.json(events)).await {
                Ok(answer) if answer.status == 202 => {
                    assert_eq!(answer.json["accepted"], self.pace.batch, "{}", answer.text);
                    return;
                }
                Ok(answer) => {
                    assert!([429, 503].contains(&answer.status), "{}", answer.text);
                    assert!(!answer.header("retry-after").is_empty(), "{}", answer.text);
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.counters.unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            assert!(clock.instant() < end, "never accepted");
            clock.sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Which tickets arrived at the webhook, as what, and how often.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    by_ticket: HashMap<String, (String, u64)>,
    arrivals: u64,
}

impl Tally {
    /// Counts what arrived, and holds each request to its signature and to one `webhook-id` for
    /// each ticket.
    fn of(received: &[Arc<Received>], secret: &str) -> Self {
        let webhook = Webhook::new(secret).expect("a secret of Standard Webhooks");
        let mut tally = Self::default();
        for received in received {
            let header = |name: &str| received.header(name).expect("the header is there");
            let timestamp = header("webhook-timestamp").parse().expect("seconds");
            let expected = webhook.sign(header("webhook-id"), timestamp, &received.body);
            let expected = expected.expect("a signature");
            let signed = header("webhook-signature").split(' ').any(|given| given == expected);
            assert!(signed, "the signature of {}", header("webhook-id"));
            let body = received.json().expect("a body of JSON");
            let ticket = body[0]["payload"]["id"].as_str().expect("an id").to_owned();
            let id = header("webhook-id").to_owned();
            let (first, count) = tally.by_ticket.entry(ticket).or_insert((id.clone(), 0));
            assert_eq!(*first, id, "a repeat carries the id of the first");
            *count += 1;
            tally.arrivals += 1;
        }
        tally
    }

    /// Arrivals beyond the first of each ticket.
    pub(crate) fn duplicates(&self) -> u64 {
        self.arrivals - self.by_ticket.len() as u64
    }
}

/// The tickets that have arrived at the webhook.
fn there(vendor: &SampleVendor) -> HashSet<String> {
    super::delivery_world::tickets(&vendor.received_at(HOOK)).into_iter().collect()
}

/// Waits until all that was accepted has arrived and is recorded as delivered; counts it.
pub(crate) async fn all_arrive(stage: &Stage, campaign: &str, posted: &Posted) -> Tally {
    let clock = Clock::default();
    let end = clock.instant() + ARRIVING;
    let unresolved = async || {
        let states = stage.states().await;
        states.iter().any(|state| !state.starts_with("2:")).then_some(states)
    };
    loop {
        let waiting = unresolved().await;
        if waiting.is_none() {
            break;
        }
        assert!(clock.instant() < end, "never delivered: {waiting:?}, {posted:.0?}");
        clock.sleep(Duration::from_millis(200)).await;
    }
    let there = there(&stage.vendor);
    let lost: Vec<_> = posted.accepted.iter().filter(|name| !there.contains(*name)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), posted.accepted.len());
    let tally = Tally::of(&stage.vendor.received_at(HOOK), &stage.secret);
    let database =
        if stage.settings.contains_key("database.url") { "PostgreSQL" } else { "SQLite" };
    let line = format!(
        "{campaign}, {database}: accepted {}, delivered {}, duplicates {}, lost {}; \
         {} requests refused, {} unanswered",
        posted.accepted.len(),
        tally.by_ticket.len(),
        tally.duplicates(),
        lost.len(),
        posted.refused,
        posted.unanswered
    );
    report(&line);
    tally
}

/// Says a figure: with the test's output, and in the file that `MORTISE_TEST_REPORT` names.
pub(crate) fn report(line: &str) {
    println!("{line}");
    if let Ok(path) = std::env::var("MORTISE_TEST_REPORT") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        writeln!(file.expect("the report's file opens"), "{line}").expect("it is written");
    }
}
