//! What is kept and for how long, and pages of it that stay quick.

use std::time::Duration;

use mortise::delivery::{EndpointScope, Retention, history_plans, retention_plans};
use mortise::development::Behaviour;
use serde_json::json;
use uuid::Uuid;

use crate::support::delivery_world::{HOOK, World, a_while, ticket};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    what_is_too_old_goes_step_by_step,
    pages_and_pruning_go_along_indexes,
    a_page_with_rare_finds_ends_early_and_goes_on,
);

const DAY: Duration = Duration::from_hours(24);

async fn count(world: &World, table: &str) -> u64 {
    let query = format!("select cast(count(*) as text) from {table}");
    world.server.texts(&query).await[0].parse().expect("a number")
}

async fn counts(world: &World, table: &str, wanted: u64) {
    eventually(&format!("{wanted} in {table}"), async || {
        (count(world, table).await == wanted).then_some(())
    })
    .await;
}

async fn what_is_too_old_goes_step_by_step(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.retention.payload", "10d");
            settings.set("delivery.retention.attempts", "20d");
            settings.set("delivery.schedule", "1s");
            settings.set("audit.retention", "30d");
        },
        |_| {},
    )
    .await;
    let server = &world.server;
    server.vendor.behave_in_turn(HOOK, [Behaviour::status(500)], Behaviour::status(200));
    world.ticket("delivered").await;
    world.attempted("delivered", 1).await;
    server.advance(Duration::from_secs(2));
    let old = world.in_state("delivered", "delivered").await;
    server.vendor.behave(HOOK, Behaviour::status(410));
    world.ticket("held").await;
    world.in_state("held", "held").await;
    world.health("gone").await;
    // More than one step.
    for page in 0..3 {
        let many: Vec<_> = (0..500).map(|n| ticket(ORG, &format!("{page}-{n}"))).collect();
        world.post(&json!(many)).await.expect(202);
    }
    let empty = "events where length(payload) = 0";
    assert_eq!(count(&world, empty).await, 0);
    assert_eq!(count(&world, "deliveries where state = 1").await, 1_501);
    let callbacks = count(&world, "deliveries").await - 1_502;
    server.advance(DAY * 10 + Duration::from_mins(2));
    counts(&world, "deliveries where state = 1", 0).await;
    assert_eq!(
        count(&world, "deliveries where state = 4").await,
        1_501,
        "cancelled, and seen as such"
    );
    counts(&world, empty, 1_502).await;
    assert_eq!(count(&world, "deliveries").await, 1_502 + callbacks, "the history is there");
    let retry = format!("/api/v1/deliveries/{}/retry", old["id"].as_str().expect("an id"));
    let path = format!("/api/v1/webhooks/{}/reactivate", world.webhook);
    server.client.post(&path, &server.operator, &json!({ "release": false })).await.expect(200);
    server.client.post(&retry, &server.operator, &json!({})).await.refused(409, "STATE_CONFLICT");
    let body = json!({ "since": "1970-01-02T00:00:00Z", "state": "delivered" });
    let path = format!("/api/v1/webhooks/{}/recover", world.webhook);
    let job = server.client.post(&path, &server.operator, &body).await.expect(202).text_of("jobId");
    let done = eventually("the job ends", async || {
        let job = server.client.get(&format!("/api/v1/jobs/{job}"), &server.operator).await.json;
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!((&done["requeued"], &done["skipped"]), (&json!(0), &json!({ "payloadExpired": 1 })));
    // The driven clock is ahead of the ids of what is new, so that this is judged by its age too.
    server.advance(DAY * 10);
    counts(&world, "deliveries", 0).await;
    counts(&world, "events", 0).await;
    counts(&world, "attempts", 0).await;
    counts(&world, "notices", 0).await;
    counts(&world, "recovery_jobs", 0).await;
    assert!(count(&world, "audit").await > 5);
    server.advance(DAY * 15);
    eventually("the audit is shorter", async || (count(&world, "audit").await < 5).then_some(()))
        .await;
    world.server.vendor.behave(HOOK, Behaviour::status(200));
    world.ticket("afterwards").await;
    world.in_state("afterwards", "delivered").await;
    let place = world.server.stop().await;
    place.audit_holds(&[ORG]).await;
}

/// The plan of a statement, in lines.
async fn plan(world: &World, is_postgres: bool, sql: &str) -> Vec<String> {
    if is_postgres {
        world.server.texts(&format!("explain {sql}")).await
    } else {
        // The text stands in the fourth column.
        world.server.plans_of_sqlite(sql).await
    }
}

async fn pages_and_pruning_go_along_indexes(backend: Backend) {
    let is_postgres = matches!(backend, Backend::Postgres(_));
    let world = World::start(backend).await;
    let server = &world.server;
    let webhook: Uuid = world.webhook.parse().expect("an id");
    server.fill_history(webhook, ORG, 60_000).await;
    // The rows lie a millisecond apart, from now on: a page ends within the last two thousand.
    let now = server.seam.clock.now().plus(Duration::from_mins(1));
    let retention =
        Retention { payload: DAY * 30, attempts: DAY * 60, deduplication: DAY, audit: DAY * 700 };
    let mut statements: Vec<(String, String)> = retention_plans(is_postgres, now, retention)
        .into_iter()
        .map(|(name, sql)| (name.to_owned(), sql))
        .collect();
    for scope in [
        EndpointScope::All,
        EndpointScope::Org(ORG.to_owned()),
        EndpointScope::Extensions(vec!["ticket-mirror".to_owned()]),
    ] {
        statements.extend(history_plans(is_postgres, &scope, webhook, now));
    }
    assert!(statements.len() > 700);
    for (name, sql) in statements {
        let lines = plan(&world, is_postgres, &sql).await;
        assert!(!lines.is_empty(), "{name}");
        for line in &lines {
            // The large tables; small ones are read as a whole where that is cheaper.
            let is_scan = if is_postgres {
                line.contains("Seq Scan on deliveries") || line.contains("Seq Scan on events")
            } else {
                ["deliveries", "events", "attempts", "d", "e"]
                    .iter()
                    .any(|table| line == &format!("SCAN {table}"))
            };
            assert!(!is_scan, "{name}: {sql}\n{}", lines.join("\n"));
            // The end of a page is found along an index; what a page looks at may be sorted.
            let sorts = line.contains("TEMP B-TREE") || line.contains("Sort Key");
            assert!(!sorts || !name.starts_with("bound"), "{name}: {}", lines.join("\n"));
        }
    }
}

async fn a_page_with_rare_finds_ends_early_and_goes_on(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let webhook: Uuid = world.webhook.parse().expect("an id");
    server.vendor.behave(HOOK, Behaviour::status(410));
    world.ticket("oldest").await;
    world.in_state("oldest", "held").await;
    server.fill_history(webhook, ORG, 45_000).await;
    a_while().await;
    for path in [
        format!("/api/v1/deliveries?state=held&webhookId={webhook}"),
        "/api/v1/deliveries?state=held".to_owned(),
        "/api/v1/deliveries?statusCode=410".to_owned(),
        "/api/v1/deliveries?statusCode=410&eventType=Ticket_Add&state=held".to_owned(),
    ] {
        let first = server.client.get(&path, &server.operator).await.expect(200);
        assert!(first.data().is_empty() && first.json["nextCursor"].is_string(), "{path}");
        let all = server.client.all(&path, &server.operator).await;
        assert_eq!(all.len(), 1, "{path}");
        assert_eq!(all[0]["eventId"], "oldest");
    }
    let page =
        server.client.get("/api/v1/deliveries?limit=200", &server.operator).await.expect(200);
    assert_eq!(page.data().len(), 200);
}
