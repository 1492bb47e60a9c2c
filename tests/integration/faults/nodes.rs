//! Two nodes on one database, of which one dies, freezes, or has not heard yet.

use std::collections::BTreeSet;
use std::time::Duration;

use mortise::development::Behaviour;
use mortise::seam::Clock;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, a_while, ticket, tickets};
use crate::support::load::{Load, Pace, report};
use crate::support::postgres::database;
use crate::support::program::{Program, Stage, free_address, long_form, signal};
use crate::support::server::{Backend, ORG, eventually};

/// The lease of a node, the round of whoever looks for dead ones, the poll of the table, and as
/// much again for a machine that does much else.
const TAKEN_OVER: Duration = Duration::from_secs(12);

async fn second(stage: &Stage) -> Program {
    Program::start(&stage.settings, free_address()).await
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn post(program: &Program, stage: &Stage, names: &[String]) {
    let events: Vec<Value> = names.iter().map(|name| ticket(ORG, name)).collect();
    program.client.post("/api/v1/events", &stage.host, &json!(events)).await.expect(202);
}

/// Waits until so many requests are in the vendor's hands.
async fn in_hand(stage: &Stage, wanted: usize) {
    eventually("the requests", async || (stage.vendor.in_hand(HOOK) == wanted).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_nodes_work_is_done_within_its_lease() {
    let Some(database) = database().await else { return };
    let stage = Stage::new(Backend::Postgres(database), |settings| {
        // What is claimed in the table is leased for longer than a node: that must not matter.
        settings.set("delivery.deadline", "40s");
        settings.set("delivery.schedule", "1s,1s,1s,1s");
        settings.set("delivery.breaker.failures", "10000");
    })
    .await;
    let vendor = &stage.vendor;
    let doomed = stage.launch().await;
    // Retries, claimed in the table.
    vendor.behave(HOOK, Behaviour::status(500));
    let retried = names("retried", 16);
    post(&doomed, &stage, &retried).await;
    vendor.wait_for_path(HOOK, 16, TAKEN_OVER).await.expect("their first attempts");
    vendor.behave(HOOK, Behaviour::Hang);
    in_hand(&stage, 16).await;
    // First attempts, in memory: some under way, some waiting.
    let fresh = names("fresh", 40);
    post(&doomed, &stage, &fresh).await;
    in_hand(&stage, 32).await;
    let survivor = second(&stage).await;
    a_while().await;
    assert_eq!(vendor.in_hand(HOOK), 32, "the other has nothing to do yet");

    vendor.behave(HOOK, Behaviour::status(200));
    vendor.forget();
    let clock = Clock::default();
    let killed = clock.instant();
    doomed.kill();
    let wanted: BTreeSet<String> = retried.into_iter().chain(fresh).collect();
    loop {
        let there: BTreeSet<String> = tickets(&vendor.received_at(HOOK)).into_iter().collect();
        if there == wanted {
            break;
        }
        let late = killed.elapsed();
        assert!(late < TAKEN_OVER, "{} of {} after {late:?}", there.len(), wanted.len());
        clock.sleep(Duration::from_millis(50)).await;
    }
    report(&format!("a killed node's work, PostgreSQL: done after {:.1?}", killed.elapsed()));
    eventually("they are recorded", async || (stage.states().await == ["2:56"]).then_some(()))
        .await;
    assert_eq!(vendor.received_at(HOOK).len(), wanted.len(), "each of them once");
    drop(survivor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_frozen_changes_nothing_when_it_thaws() {
    let Some(database) = database().await else { return };
    let frozen_for = Duration::from_secs(long_form("MORTISE_TEST_FROZEN_SECONDS", 9));
    let stage = Stage::new(Backend::Postgres(database), |settings| {
        // Over when it thaws, so that it has results to write that come too late.
        settings.set("delivery.deadline", "8s");
        settings.set("delivery.schedule", "1s,10m");
        settings.set("delivery.breaker.failures", "10000");
    })
    .await;
    let vendor = &stage.vendor;
    let frozen = stage.launch().await;
    // A retry and first attempts hang, and more of them wait.
    vendor.behave(HOOK, Behaviour::status(500));
    post(&frozen, &stage, &names("retried", 4)).await;
    vendor.wait_for_path(HOOK, 4, TAKEN_OVER).await.expect("their first attempts");
    vendor.behave(HOOK, Behaviour::Hang);
    in_hand(&stage, 4).await;
    post(&frozen, &stage, &names("fresh", 60)).await;
    in_hand(&stage, 32).await;

    let clock = Clock::default();
    let began = clock.instant();
    signal(frozen.process(), "STOP");
    let survivor = second(&stage).await;
    vendor.forget();
    // Half of them are taken, half are refused once more and wait.
    let mixed = (0..64).map(|number| Behaviour::status(if number % 2 == 0 { 200 } else { 500 }));
    vendor.behave_in_turn(HOOK, mixed, Behaviour::status(200));
    vendor.wait_for_path(HOOK, 64, TAKEN_OVER).await.expect("the other node does them all");
    let snapshot = async || {
        let rows = survivor.client.all("/api/v1/deliveries?limit=200", &stage.operator).await;
        let of = |row: &Value| {
            json!([row["id"], row["state"], row["attemptsMade"], row["nextAttemptTime"]])
        };
        rows.iter().map(of).collect::<Vec<_>>()
    };
    // Retries of the schedule's first step are over; what is left waits for ten minutes.
    eventually("the retries", async || {
        let states = stage.states().await;
        let rows = snapshot().await;
        let waits = rows.iter().all(|row| row[1] == "delivered" || row[2].as_u64() >= Some(2));
        (waits && states.iter().all(|state| state.starts_with("0:") || state.starts_with("2:")))
            .then_some(())
    })
    .await;
    a_while().await;
    let before = snapshot().await;
    clock.sleep(frozen_for.saturating_sub(began.elapsed())).await;
    vendor.forget();
    signal(frozen.process(), "CONT");
    // It finds that its lease ran out, and ends, so that whoever runs it starts it anew.
    let refused = Client::post_once(&frozen, &stage).await;
    assert!(refused, "a node without a lease accepts nothing that it would lose");
    let ended = frozen.ended(Duration::from_secs(20)).await;
    assert!(!ended.success(), "it says that something was wrong: {ended}");
    a_while().await;
    let arrived = tickets(&vendor.received_at(HOOK));
    let own: Vec<_> = arrived.iter().filter(|ticket| *ticket != "thawed").collect();
    assert!(own.is_empty(), "sent without a lease: {own:?}");
    let after: Vec<_> = snapshot().await.into_iter().filter(|row| before.contains(row)).collect();
    assert_eq!(after.len(), before.len(), "something newer was overwritten");
    drop(survivor);
}

/// A post to a node that has just thawed.
struct Client;

impl Client {
    /// Whether nothing was accepted, or what was accepted arrives.
    async fn post_once(program: &Program, stage: &Stage) -> bool {
        let event = ticket(ORG, "thawed");
        let request = program.client.request(reqwest::Method::POST, "/api/v1/events", &stage.host);
        match program.client.try_send(request.json(&event)).await {
            Ok(answer) if answer.status == 202 => {
                let clock = Clock::default();
                let end = clock.instant() + TAKEN_OVER;
                while !tickets(&stage.vendor.received_at(HOOK)).contains(&"thawed".to_owned()) {
                    if clock.instant() > end {
                        return false;
                    }
                    clock.sleep(Duration::from_millis(50)).await;
                }
                true
            }
            Ok(_) | Err(_) => true,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_answers_holds_on_the_other_at_full_speed() {
    let Some(database) = database().await else { return };
    let stage = Stage::new(Backend::Postgres(database), |_| {}).await;
    let vendor = &stage.vendor;
    let delivering = stage.launch().await;
    let answering = second(&stage).await;
    let pace = Pace { posters: 3, batch: 20, pause: Duration::from_millis(2), text: 0 };
    let load = Load::start(std::slice::from_ref(&delivering.client), &stage.host, pace);
    let clock = Clock::default();
    let call = async |path: &str, body: &Value| {
        let before = vendor.received_at(HOOK).len();
        vendor.wait_for_path(HOOK, before + 100, TAKEN_OVER).await.expect("it delivers");
        answering.client.post(path, &stage.operator, body).await.expect(200);
        clock.instant()
    };
    let silent_since = async |answered: tokio::time::Instant, what: &str| {
        load.more(100).await;
        a_while().await;
        let arrived = vendor.received_at(HOOK);
        let late = arrived.iter().filter(|received| received.instant > answered).count();
        assert_eq!(late, 0, "{what}: of {} requests", arrived.len());
    };
    let id = &stage.installation.id;
    let reason = json!({ "reason": "a test" });
    for round in 0..long_form("MORTISE_TEST_BARRIERS", 2) {
        let answered = call("/api/v1/extensions/ticket-mirror/suspend", &reason).await;
        silent_since(answered, &format!("the kill switch, round {round}")).await;
        let resume = "/api/v1/extensions/ticket-mirror/resume";
        answering.client.post(resume, &stage.operator, &reason).await.expect(200);
        vendor.forget();
    }
    let answered = call("/api/v1/callbacks/uninstall", &json!({ "installationId": id })).await;
    silent_since(answered, "uninstall").await;
    let posted = load.finish().await;
    assert!(posted.accepted.len() > 500);
    eventually("nothing waits any more", async || {
        let states = stage.states().await;
        states.iter().all(|state| state.starts_with("2:") || state.starts_with("4:")).then_some(())
    })
    .await;
    drop((delivering, answering));
}
