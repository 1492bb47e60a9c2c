//! The disk is full for a while. On SQLite a limit on the size of files (RLIMIT_FSIZE) stands for
//! it: that needs no rights, and to whoever writes it looks alike. On PostgreSQL the disk is not ours:
//! what is seen of it is the error that its statements end with.

use std::time::Duration;

use mortise::development::Behaviour;
use mortise::seam::Clock;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::delivery_world::HOOK;
use crate::support::load::{Load, Pace, all_arrive};
use crate::support::postgres::database;
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
async fn fills_up(stage: &Stage, program: &mut Program, fill: impl AsyncFn(bool)) {
    stage.vendor.behave(HOOK, Behaviour::status(200));
    let load = Load::start(std::slice::from_ref(&program.client), &stage.host, HEAVY);
    load.more(50).await;
    fill(true).await;
    full(&load).await;
    assert!(program.is_running(), "the server survives");
    program.client.get("/health/live", "").await.expect(200);
    // What is read needs no room.
    program.client.get("/api/v1/webhooks", &stage.operator).await.expect(200);
    let body = serde_json::json!({ "role": "host", "name": "during" });
    let answer = program.client.post("/api/v1/tokens", &stage.operator, &body).await;
    assert!([201, 503].contains(&answer.status), "{}", answer.text);
    assert!(program.is_running(), "the server survives");
    fill(false).await;
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
    let process = program.process();
    // The journal takes no more than this: less than what starts a checkpoint.
    let fill = async |full: bool| limit_files(process, full.then_some(2 << 20));
    fills_up(&stage, &mut program, fill).await;
    let ended = program.terminate(Duration::from_secs(20)).await;
    assert!(ended.success(), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_waits_for_room() {
    let Some(database) = database().await else { return };
    let url = database.url().to_owned();
    let stage = Stage::new(Backend::Postgres(database), |_| {}).await;
    let mut program = stage.launch().await;
    let fill = async |full: bool| {
        let statements = if full {
            "create or replace function no_room() returns trigger language plpgsql as $$ begin
                raise exception 'could not extend file: No space left on device'
                using errcode = 'disk_full'; end $$;
             create trigger no_room before insert or update on events
                for each statement execute function no_room();
             create trigger no_room before insert or update on deliveries
                for each statement execute function no_room();"
        } else {
            "drop trigger no_room on events; drop trigger no_room on deliveries;"
        };
        let mut connection = PgConnection::connect(&url).await.expect("the server answers");
        connection.execute(sqlx::raw_sql(statements)).await.expect("the statements succeed");
    };
    fills_up(&stage, &mut program, fill).await;
    drop(program);
}
