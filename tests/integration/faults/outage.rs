//! The database stops and starts while hosts post.

use std::time::Duration;

use crate::support::cluster::{Cluster, Stop};
use crate::support::delivery_world::ticket;
use crate::support::load::{Load, Pace, all_arrive};
use crate::support::postgres::database_on;
use crate::support::program::{Stage, long_form};
use crate::support::server::{Backend, ORG, eventually};
use mortise::seam::Clock;

/// Longer than the lease of a node.
const LONG: u64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_may_stop_and_come_back() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let rounds = long_form("MORTISE_TEST_OUTAGES", 2);
    let backend = Backend::Postgres(database_on(cluster.url()).await);
    let stage = Stage::new(backend, |settings| {
        settings.set("delivery.schedule", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s");
        settings.set("delivery.deadline", "2s");
    })
    .await;
    let mut program = stage.launch().await;
    let clock = Clock::default();
    let load = Load::start(std::slice::from_ref(&program.client), &stage.host, Pace::default());
    for round in 0..rounds {
        load.more(100).await;
        let (how, seconds) = match round % 3 {
            0 => (Stop::Fast, LONG),
            1 => (Stop::Immediate, 1),
            _ => (Stop::Immediate, LONG),
        };
        cluster.stop(how).await;
        let before = load.accepted();
        eventually("it is not ready", async || (!program.is_ready().await).then_some(())).await;
        clock.sleep(Duration::from_secs(seconds)).await;
        // What was on its way may still have been answered; nothing was accepted since.
        let meanwhile = load.accepted();
        assert!(meanwhile <= before + 30, "{before} and {meanwhile}");
        let live = program.client.get("/health/live", "").await;
        live.expect(200);
        assert!(program.is_running());
        cluster.resume().await;
        eventually("it is ready again", async || program.is_ready().await.then_some(())).await;
        assert!(program.is_running());
    }
    load.more(100).await;
    let posted = load.finish().await;
    let tally = all_arrive(&stage, &format!("{rounds} outages"), &posted).await;
    assert!(tally.duplicates() <= rounds * 200, "{}", tally.duplicates());
    drop(program);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_callers_are_told_to_come_back() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let backend = Backend::Postgres(database_on(cluster.url()).await);
    let stage = Stage::new(backend, |_| {}).await;
    let program = stage.launch().await;
    // Known to the server, so that the answer is not that of an unknown token.
    let event = ticket(ORG, "before");
    program.client.post("/api/v1/events", &stage.host, &event).await.expect(202);
    cluster.stop(Stop::Fast).await;
    for (path, token) in
        [("/api/v1/deliveries", &stage.operator), ("/api/v1/webhooks", &stage.host)]
    {
        let answer = program.client.get(path, token).await;
        assert!([403, 503].contains(&answer.status), "{path}: {}", answer.text);
    }
    let refused = program.client.post("/api/v1/events", &stage.host, &ticket(ORG, "during")).await;
    let refused = refused.refused(503, "SERVICE_UNAVAILABLE");
    assert!(!refused.header("retry-after").is_empty());
    cluster.resume().await;
    eventually("it is ready again", async || program.is_ready().await.then_some(())).await;
    // Told that it may have been accepted, the host sends it again: it is one event.
    let again = program.client.post("/api/v1/events", &stage.host, &ticket(ORG, "during")).await;
    again.expect(202);
    eventually("both are delivered", async || (stage.states().await == ["2:2"]).then_some(()))
        .await;
}
