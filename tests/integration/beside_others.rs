//! What happens at the same moment as a step: who ends while the kill switch waits for him, who is
//! read in the middle of a step, and what only one node has in its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise::seam::Clock;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use crate::support::on_both;
use crate::support::postgres::database;
use crate::support::server::{Backend, ORG, TestServer};

on_both!(
    an_installation_is_shown_as_it_was_at_one_moment,
    a_node_looks_at_all_that_it_holds_itself,
);

/// Longer than the switch takes to come to a row that somebody holds.
const WHILE: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switch_leaves_alone_who_ends_while_it_waits() {
    let Some(database) = database().await else { return };
    let mut beside = database.connect().await;
    let server = TestServer::start(Backend::Postgres(database), |_| {}).await;
    let first = server.active("1").await;
    let mut others = Vec::new();
    for org in ["2", "3"] {
        let made = server.install("ticket-mirror", org).await;
        let answer = server.consent(&made.authorization_url).await;
        server.authorize(&made.id, &answer).await.expect(200);
        others.push(made.id);
    }
    // Another node is just ending the first one.
    let mut ending = beside.begin().await.expect("a transaction");
    let ended = format!(
        "update installations set live = 0, state = 'uninstalled' where id = '{}'::uuid",
        first.id
    );
    ending.execute(sqlx::AssertSqlSafe(ended)).await.expect("it holds the row");
    let path = "/api/v1/extensions/ticket-mirror/suspend";
    let body = json!({ "reason": "a leak" });
    let switching = async { server.client.post(path, &server.operator, &body).await };
    let end = async {
        Clock::default().sleep(WHILE).await;
        ending.commit().await.expect("it is committed");
    };
    let (switched, ()) = tokio::join!(switching, end);
    assert_eq!(switched.expect(200).json["installations"], 2);
    let held = "select cast(suspended_by as text) from installations where live = 0";
    assert_eq!(server.texts(held).await, ["0"], "it had ended");
    let steps = "select cast(count(*) as text) from transitions t join installations i
                 on i.id = t.installation_id where i.live = 0 and t.command = 'suspend'";
    assert_eq!(server.texts(steps).await, ["0"]);
    for id in others {
        assert_eq!(server.installation(&id).await["state"], "suspended");
    }
}

async fn an_installation_is_shown_as_it_was_at_one_moment(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let stop = Arc::new(AtomicBool::new(false));
    // Both say the same at every moment: they change in one transaction.
    let breaking = async {
        for number in 0..150 {
            let health = if number % 2 == 0 { "broken" } else { "ok" };
            let shown = format!("update installations set connection_health = '{health}'");
            let kept = format!("update connections set health = '{health}'");
            let both = if is_sqlite {
                format!("begin; {shown}; {kept}; commit")
            } else {
                format!("with shown as ({shown}) {kept}")
            };
            server.execute(&both).await;
        }
        stop.store(true, Ordering::Release);
    };
    let reading = async {
        let mut read = 0;
        while !stop.load(Ordering::Acquire) {
            let seen = server.installation(&installation.id).await;
            let hosts = &seen["connections"][0]["health"];
            assert_eq!(&seen["connection"]["health"], hosts, "{read}: {seen:#}");
            read += 1;
        }
        assert!(read > 20, "{read} readings");
    };
    tokio::join!(breaking, reading);
}

/// What a node holds of an org of which nothing lives any more is in no list of the database.
async fn a_node_looks_at_all_that_it_holds_itself(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    server.active(ORG).await;
    // It ends below the API, wholly, and no node is told.
    for table in ["webhooks", "provisioned_webhooks", "connections"] {
        server.execute(&format!("delete from {table}")).await;
    }
    let nothing = if is_sqlite { "x''" } else { "''::bytea" };
    server
        .execute(&format!(
            "update installations set live = 0, state = 'erased', erased_at = 1, cleanup = 'done',
             sealed_config = null, request_digest = {nothing}"
        ))
        .await;
    let pass = async |repair: bool| {
        let body = json!({ "repair": repair });
        server.client.post("/api/v1/reconcile", &server.operator, &body).await.expect(200).json
    };
    let found = pass(false).await;
    assert_eq!(found["counts"], json!({ "routing.stale": 1 }), "{found:#}");
    assert_eq!(found["findings"][0]["orgId"], ORG);
    assert_eq!(pass(true).await["repaired"], 1);
    assert_eq!(pass(false).await["found"], 0);
}
