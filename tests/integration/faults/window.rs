//! Events are posted without a pause while the extension comes and goes: none is delivered outside
//! of the time in which it is installed, and none inside is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise::seam::{Clock, Randomness};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::support::client::Client;
use crate::support::delivery_world::{HOOK, a_while, ticket};
use crate::support::ground::Ground;
use crate::support::load::report;
use crate::support::on_both;
use crate::support::program::{Program, long_form};
use crate::support::server::{Backend, eventually};

on_both!(nothing_outside_of_the_window_and_all_of_it_inside);

/// How many orgs do it at the same time.
const ORGS: usize = 4;

/// For how long the extension stays at the most once an event has come, before it goes again.
const STAY: Duration = Duration::from_millis(100);

/// What is accepted so shortly before the uninstallation may still be queued then: it is cancelled,
/// since nothing is sent after the answer.
const QUEUED: Duration = Duration::from_millis(100);

/// Of how many events inside one may be cut off so at the most.
const CUT: usize = 50;

/// One life of an installation, as the marketplace saw it.
#[derive(Clone, Copy, Debug)]
struct Life {
    authorize_called: Instant,
    authorize_answered: Instant,
    uninstall_called: Instant,
    uninstall_answered: Instant,
}

/// One event, as the host saw it.
#[derive(Clone, Debug)]
struct Posted {
    name: String,
    called: Instant,
    answered: Instant,
    deliveries: u64,
}

/// Where an event lies.
#[derive(Clone, Copy, Debug)]
enum Place {
    Inside(Life),
    Outside,
    /// At an edge: a step was under way.
    Edge,
}

fn place(event: &Posted, lives: &[Life]) -> Place {
    for life in lives {
        if event.called > life.authorize_answered && event.answered < life.uninstall_called {
            return Place::Inside(*life);
        }
        if event.answered >= life.authorize_called && event.called <= life.uninstall_answered {
            return Place::Edge;
        }
    }
    Place::Outside
}

async fn post_without_a_pause(
    client: Client,
    host: String,
    org: String,
    answers: watch::Sender<u64>,
    stop: Arc<AtomicBool>,
) -> Vec<Posted> {
    let clock = Clock::default();
    let mut all = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let name = format!("{org}-{}", all.len());
        let called = clock.instant();
        let answer = client.post("/api/v1/events", &host, &ticket(&org, &name)).await.expect(202);
        let answered = clock.instant();
        let deliveries = answer.json["events"][0]["deliveries"].as_u64().expect("a number");
        all.push(Posted { name, called, answered, deliveries });
        answers.send_modify(|count| *count += 1);
    }
    all
}

async fn come_and_go(
    ground: &Ground,
    program: &Program,
    org: &str,
    mut answers: watch::Receiver<u64>,
    times: usize,
) -> Vec<Life> {
    let (clock, randomness) = (Clock::default(), Randomness::default());
    let mut lives = Vec::new();
    for _ in 0..times {
        let install = json!({ "extensionKey": "ticket-mirror", "orgId": org });
        let made = ground.call(program, "install", &install).await;
        let id = made["installationId"].as_str().expect("an id");
        let answer = ground.consent(made["authorizationUrl"].as_str().expect("a URL")).await;
        let body = json!({ "installationId": id, "code": answer.code, "state": answer.state });
        let authorize_called = clock.instant();
        ground.call(program, "authorize", &body).await;
        let authorize_answered = clock.instant();
        // The second answer from here on is to an event that was posted from here on.
        let wanted = *answers.borrow() + 2;
        answers.wait_for(|count| *count >= wanted).await.expect("it posts");
        clock.sleep(STAY.mul_f64(randomness.fraction())).await;
        let body = json!({ "installationId": id });
        let uninstall_called = clock.instant();
        ground.call(program, "uninstall", &body).await;
        let uninstall_answered = clock.instant();
        lives.push(Life {
            authorize_called,
            authorize_answered,
            uninstall_called,
            uninstall_answered,
        });
    }
    lives
}

/// The state of the delivery of every event that made one.
async fn states(ground: &Ground) -> BTreeMap<String, i64> {
    let query = "select v.event_key || ':' || cast(d.state as text) from deliveries d
         join events v on v.id = d.event_id join endpoints e on e.id = d.endpoint_id
         where e.lane = 'webhook'";
    let rows = ground.place.texts(query).await;
    rows.iter()
        .map(|row| {
            let (name, state) = row.rsplit_once(':').expect("a state");
            (name.to_owned(), state.parse().expect("a number"))
        })
        .collect()
}

async fn nothing_outside_of_the_window_and_all_of_it_inside(backend: Backend) {
    let database = if matches!(backend, Backend::Sqlite) { "SQLite" } else { "PostgreSQL" };
    let lives = usize::try_from(long_form("MORTISE_TEST_WINDOWS", 60)).expect("a number");
    let ground = Ground::new(backend, |_| {}).await;
    let program = ground.launch().await;
    let stop = Arc::new(AtomicBool::new(false));
    let orgs: Vec<String> = (0..ORGS).map(|number| format!("org{number}")).collect();
    let (senders, answers): (Vec<_>, Vec<_>) = orgs.iter().map(|_| watch::channel(0)).unzip();
    let posters: Vec<_> = orgs
        .iter()
        .zip(senders)
        .map(|(org, sender)| {
            let (client, host) = (program.client.clone(), ground.host.clone());
            tokio::spawn(post_without_a_pause(client, host, org.clone(), sender, Arc::clone(&stop)))
        })
        .collect();
    let each = lives.div_ceil(ORGS);
    let comings = orgs
        .iter()
        .zip(answers)
        .map(|(org, answers)| come_and_go(&ground, &program, org, answers, each));
    let lives = futures_util::future::join_all(comings).await;
    a_while().await;
    stop.store(true, Ordering::Release);
    let mut posted = Vec::new();
    for poster in posters {
        posted.push(poster.await.expect("it posts to its end"));
    }
    eventually("nothing waits any more", async || {
        let waiting = "deliveries d join endpoints e on e.id = d.endpoint_id
             where e.lane = 'webhook' and d.state in (0, 1)";
        (ground.number(waiting).await == 0).then_some(())
    })
    .await;
    a_while().await;
    let mut arrived: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for received in ground.vendor.received_at(HOOK) {
        let body = received.json().expect("JSON");
        let name = body[0]["payload"]["id"].as_str().expect("an id").to_owned();
        arrived.entry(name).or_default().push(received.instant);
    }
    let states = states(&ground).await;
    let (mut inside, mut outside, mut edge, mut cut) = (0, 0, 0, 0);
    for (org, (events, lives)) in orgs.iter().zip(posted.iter().zip(&lives)) {
        for event in events {
            let times = arrived.get(&event.name).map_or(0, Vec::len);
            assert!(times <= 1, "{} arrived {times} times", event.name);
            match place(event, lives) {
                Place::Outside => {
                    outside += 1;
                    assert_eq!((event.deliveries, times), (0, 0), "outside: {event:?}");
                }
                Place::Inside(life) => {
                    inside += 1;
                    assert_eq!(event.deliveries, 1, "inside: {event:?}");
                    if times == 0 {
                        cut += 1;
                        // Only what was still queued when the uninstallation came.
                        assert_eq!(states.get(&event.name), Some(&4), "missed: {event:?}");
                        let before = life.uninstall_called.duration_since(event.answered);
                        assert!(before < QUEUED, "missed {before:?} before the end: {event:?}");
                    }
                }
                Place::Edge => edge += 1,
            }
        }
        // Nothing begins after the answer, whenever it was accepted.
        let names: BTreeSet<&str> = events.iter().map(|event| event.name.as_str()).collect();
        for (name, times) in arrived.iter().filter(|(name, _)| names.contains(name.as_str())) {
            for at in times {
                let is_inside = lives
                    .iter()
                    .any(|life| *at >= life.authorize_called && *at <= life.uninstall_answered);
                assert!(is_inside, "{name} of {org} arrived outside of every life");
            }
        }
    }
    let count: usize = lives.iter().map(Vec::len).sum();
    assert!(inside >= count && outside > 0, "{inside} inside, {outside} outside");
    assert!(cut * CUT <= inside, "{cut} of {inside} were cut off by the end");
    report(&format!(
        "{count} installs and uninstalls, {database}: {} events posted; {inside} inside (all made a \
         delivery, {} arrived, {cut} still queued at the end), {outside} outside (none), {edge} at an \
         edge; none lost, none late, none twice",
        posted.iter().map(Vec::len).sum::<usize>(),
        inside - cut,
    ));
    let body = json!({ "repair": false });
    let request = program.client.request(Method::POST, "/api/v1/reconcile", &ground.operator);
    let found: Value = program.client.send(request.json(&body)).await.expect(200).json;
    assert_eq!(found["found"], 0, "{found:#}");
}
