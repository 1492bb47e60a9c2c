//! The disk is full for a while. The limit on the size of files (RLIMIT_FSIZE) stands for it: that
//! needs no rights, and to whoever writes it looks alike.

use std::time::Duration;

use mortise::development::Behaviour;
use mortise::seam::Clock;

use crate::support::cluster::Cluster;
use crate::support::delivery_world::HOOK;
use crate::support::load::{Load, Pace, all_arrive};
use crate::support::postgres::database_on;
use crate::support::program::{Program, Stage, limit_files};
use crate::support::server::{Backend, eventually};

const HEAVY: Pace = Pace { posters: 2, batch: 10, pause: Duration::from_millis(5), text: 4_000 };

/// Waits until nothing is accepted any more.
async fn full(load: &Load) {
    let clock = Clock::default();
    eventually("the disk is full", async || {
        let before = load.accepted();
        clock.sleep(Duration::from_millis(700)).await;
        (load.accepted() == before).then_some(())
    })
    .await;
}

/// Fills the disk, looks at what that does, makes room, and counts what arrived.
async fn fills_up(
    stage: &Stage,
    program: &mut Program,
    limit: impl Fn(u32, Option<u64>),
    bytes: u64,
) {
    stage.vendor.behave(HOOK, Behaviour::status(200));
    let load = Load::start(&[program.client.clone()], &stage.host, HEAVY);
    load.more(50).await;
    limit(program.process(), Some(bytes));
    full(&load).await;
    assert!(program.is_running(), "the server survives");
    program.client.get("/health/live", "").await.expect(200);
    // What is read needs no room.
    program.client.get("/api/v1/webhooks", &stage.operator).await.expect(200);
    // Callers that wait too long are told so; the posters hold them to it.
    let request = program.client.request(reqwest::Method::POST, "/api/v1/tokens", &stage.operator);
    let body = serde_json::json!({ "role": "host", "name": "during" });
    let answer = program.client.send(request.json(&body)).await;
    assert!([201, 503].contains(&answer.status), "{}", answer.text);
    assert!(program.is_running(), "the server survives");
    limit(program.process(), None);
    load.more(50).await;
    let posted = load.finish().await;
    all_arrive(stage, "full disk", &posted).await;
    eventually("it is ready", async || program.is_ready().await.then_some(())).await;
    assert!(program.is_running(), "the server survives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_waits_for_room() {
    let stage = Stage::new(Backend::Sqlite, |_| {}).await;
    let mut program = stage.launch().await;
    // The journal takes no more than this: less than what starts a checkpoint.
    let limit = |program: u32, bytes: Option<u64>| limit_files(program, None, bytes);
    fills_up(&stage, &mut program, limit, 2 << 20).await;
    let ended = program.terminate(Duration::from_secs(20)).await;
    assert!(ended.success(), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_waits_for_room() {
    let Some(cluster) = Cluster::start().await else { return };
    let backend = Backend::Postgres(database_on(cluster.url()).await);
    let stage = Stage::new(backend, |_| {}).await;
    let mut program = stage.launch().await;
    // Segments of its journal have 1 MiB: there is room for those, and not for the events.
    let limit = |_program: u32, bytes: Option<u64>| cluster.limit_files(bytes);
    fills_up(&stage, &mut program, limit, 2 << 20).await;
    drop(program);
}
