//! What was accepted arrives, whatever becomes of the process that accepted it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise::config::{Config, Inputs};
use mortise::development::{Behaviour, SampleVendor, SampleVendorOptions};
use mortise::seam::{Clock, Seam};
use mortise::server::RunningServer;
use serde_json::json;

use crate::support::client::Client;
use crate::support::delivery_world::{
    HOOK, SOON, World, a_while, assert_all_there, ticket, tickets,
};
use crate::support::on_both;
use crate::support::postgres::database;
use crate::support::program::{Program, free_address};
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(
    a_graceful_restart_loses_nothing,
    a_killed_process_loses_nothing,
    more_events_than_memory_takes_all_arrive,
    a_restart_keeps_the_order_of_ordered_webhooks,
    what_a_node_has_not_heard_of_yet_is_left_to_others,
);

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn a_graceful_restart_loses_nothing(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.deadline", "1s");
            settings.set("delivery.concurrency_per_webhook", "2");
            settings.set("delivery.breaker.failures", "1000");
        },
        |_| {},
    )
    .await;
    world.server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("retrying").await;
    world.attempted("retrying", 1).await;
    world.server.vendor.behave(HOOK, Behaviour::Hang);
    let mut wanted = names("waiting", 20);
    let many: Vec<_> = wanted.iter().map(|name| ticket(ORG, name)).collect();
    world.post(&json!(many)).await.expect(202);
    let World { server, host, installation, webhook } = world;
    let server = server.restart().await;
    server.vendor.forget();
    server.vendor.behave(HOOK, Behaviour::status(200));
    let world = World { server, host, installation, webhook };
    // Those that hung when the server stopped, and those that it began with before the vendor was
    // back, have had an attempt and wait for their next.
    eventually("nothing hangs", async || (world.server.vendor.in_hand(HOOK) == 0).then_some(()))
        .await;
    a_while().await;
    world.server.advance(Duration::from_mins(2));
    wanted.push("retrying".to_owned());
    for name in &wanted {
        world.in_state(name, "delivered").await;
    }
    assert_all_there(&world.server.vendor.received_at(HOOK), &wanted);
    assert_eq!(world.attempted("retrying", 2).await["attempts"][0]["status"], 500);
    world.ticket("afterwards").await;
    world.in_state("afterwards", "delivered").await;

    // What was delivered before a stop is not delivered again after it.
    let World { server, .. } = world;
    let before = server.vendor.received_at(HOOK).len();
    let server = server.restart().await;
    a_while().await;
    assert_eq!(server.vendor.received_at(HOOK).len(), before);
}

fn shared_settings(folder: &Path, database: Option<&str>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::from([
        ("data_dir".to_owned(), folder.display().to_string()),
        ("egress.allow".to_owned(), "127.0.0.0/8".to_owned()),
        ("egress.require_https".to_owned(), "false".to_owned()),
    ]);
    if let Some(url) = database {
        settings.insert("database.url".to_owned(), url.to_owned());
    }
    settings
}

fn database_url(backend: &Backend) -> Option<String> {
    match backend {
        Backend::Sqlite => None,
        Backend::Postgres(database) => Some(database.url().to_owned()),
    }
}

async fn a_killed_process_loses_nothing(backend: Backend) {
    let database = database_url(&backend);
    // This vendor outlives the server that installs.
    let vendor = SampleVendor::start(SampleVendorOptions::default()).await.expect("a vendor");
    let world = World::with(
        backend,
        |_| {},
        |package| {
            package.resources["webhook"]["url"] = vendor.url(HOOK).into();
            package.manifest["callbackListener"] =
                json!({ "onInstall": vendor.url("/callbacks"), "onUninstall": vendor.url("/callbacks") });
        },
    )
    .await;
    let (host, operator) = (world.host.clone(), world.server.operator.clone());
    let mut settings = shared_settings(&world.server.folder(), database.as_deref());
    settings.insert("delivery.schedule".to_owned(), "2s,2s,2s,2s,2s".to_owned());
    settings.insert("delivery.deadline".to_owned(), "2s".to_owned());
    settings.insert("delivery.breaker.failures".to_owned(), "1000".to_owned());
    let place = world.server.stop().await;

    let address = free_address();
    let process = Program::start(&settings, address).await;
    vendor.behave(HOOK, Behaviour::status(500));
    let mut wanted = names("retrying", 5);
    let many: Vec<_> = wanted.iter().map(|name| ticket(ORG, name)).collect();
    process.client.post("/api/v1/events", &host, &json!(many)).await.expect(202);
    vendor.wait_for_path(HOOK, 5, SOON).await.expect("their first attempts");
    vendor.behave(HOOK, Behaviour::Hang);
    let waiting = names("waiting", 300);
    for some in waiting.chunks(50) {
        let many: Vec<_> = some.iter().map(|name| ticket(ORG, name)).collect();
        process.client.post("/api/v1/events", &host, &json!(many)).await.expect(202);
    }
    // Accepted a moment before the end: the 202 means on disk.
    process.kill();
    wanted.extend(waiting);

    vendor.behave(HOOK, Behaviour::status(200));
    vendor.forget();
    let process = Program::start(&settings, address).await;
    let vendor = &vendor;
    eventually("everything arrives", async || {
        let there: BTreeSet<String> = tickets(&vendor.received_at(HOOK)).into_iter().collect();
        (there.len() == wanted.len()).then_some(())
    })
    .await;
    assert_all_there(&vendor.received_at(HOOK), &wanted);
    eventually("everything is recorded", async || {
        let path = "/api/v1/deliveries?limit=200&state=delivered";
        (process.client.all(path, &operator).await.len() == wanted.len()).then_some(())
    })
    .await;
    drop(process);
    drop(place);
}

async fn more_events_than_memory_takes_all_arrive(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.queue_bytes", "1MiB");
            settings.set("delivery.concurrency_per_webhook", "8");
        },
        |_| {},
    )
    .await;
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::status(200).after(Duration::from_millis(5)));
    let wanted = names("m", 400);
    let text = "x".repeat(20_000);
    for some in wanted.chunks(50) {
        let many: Vec<_> = some
            .iter()
            .map(|name| {
                let mut event = ticket(ORG, name);
                event["payload"]["text"] = text.as_str().into();
                event
            })
            .collect();
        world.post(&json!(many)).await.expect(202);
    }
    let arrived = world.arrived(wanted.len()).await;
    assert_all_there(&arrived, &wanted);
    a_while().await;
    assert_eq!(world.arrived(wanted.len()).await.len(), wanted.len(), "each of them once");
    assert_eq!(world.deliveries("&state=delivered").await.len(), wanted.len());
}

async fn a_restart_keeps_the_order_of_ordered_webhooks(backend: Backend) {
    let world = World::with(
        backend,
        |settings| settings.set("delivery.deadline", "1s"),
        |package| package.resources["webhook"]["mortise"] = json!({ "ordered": true }),
    )
    .await;
    let behaviours = [Behaviour::status(200), Behaviour::status(500)];
    world.server.vendor.behave_in_turn(HOOK, behaviours, Behaviour::status(200));
    let mut wanted = names("before", 10);
    let many: Vec<_> = wanted.iter().map(|name| ticket(ORG, name)).collect();
    world.post(&json!(many)).await.expect(202);
    world.attempted("before-1", 1).await;
    let World { server, host, installation, webhook } = world;
    let server = server.restart().await;
    let world = World { server, host, installation, webhook };
    for name in names("after", 5) {
        world.ticket(&name).await;
        wanted.push(name);
    }
    a_while().await;
    assert_eq!(world.arrived(2).await.len(), 2, "those behind the one that failed wait");
    world.server.advance(Duration::from_secs(70));
    world.in_state("after-4", "delivered").await;
    let mut order = tickets(&world.server.vendor.received_at(HOOK));
    order.dedup();
    assert_eq!(order, wanted);
    assert_eq!(world.server.vendor.most_in_hand(HOOK), 1);
}

async fn what_a_node_has_not_heard_of_yet_is_left_to_others(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let literal = |id: uuid::Uuid| {
        if is_sqlite { format!("x'{}'", id.simple()) } else { format!("'{id}'::uuid") }
    };
    let world = World::start(backend).await;
    world.ticket("known").await;
    world.in_state("known", "delivered").await;
    // As another node provisions a webhook and accepts an event for it, before this one hears.
    let (webhook, delivery) =
        (literal(Seam::default().randomness.id()), literal(Seam::default().randomness.id()));
    let known = literal(world.webhook.parse().expect("an id"));
    for statement in [
        format!(
            "insert into endpoints (id, org_id, lane, installation_id, extension_key, created_at)
             select {webhook}, org_id, lane, installation_id, extension_key, created_at
             from endpoints where id = {known}"
        ),
        format!(
            "insert into webhooks (id, org_id, kind, installation_id, extension_key, resource_name,
                generation, name, url, subscriptions, is_enabled, ordered, dialect, created_at,
                modified_at)
             select {webhook}, org_id, kind, installation_id, extension_key, 'another', generation,
                name, url, subscriptions, is_enabled, ordered, dialect, created_at, modified_at
             from webhooks where id = {known}"
        ),
        format!(
            "insert into deliveries (id, event_id, endpoint_id, generation, state, due_at, created_at)
             select {delivery}, event_id, {webhook}, generation, 0, created_at, created_at
             from deliveries where endpoint_id = {known}"
        ),
    ] {
        world.server.execute(&statement).await;
    }
    let state = format!("select cast(state as text) from deliveries where id = {delivery}");
    a_while().await;
    assert_eq!(world.server.texts(&state).await, ["0"], "its webhook is there");
    world.server.execute(&format!("delete from webhooks where id = {webhook}")).await;
    eventually("the end of what has no webhook", async || {
        (world.server.texts(&state).await == ["4"]).then_some(())
    })
    .await;
}

/// A further node on the database of a server.
async fn further_node(folder: &Path, database: &str, seam: Seam) -> RunningServer {
    let mut settings = shared_settings(folder, Some(database));
    settings.insert("listen".to_owned(), "127.0.0.1:0".to_owned());
    let overrides = settings.into_iter().collect();
    let config = Config::load(&Inputs { overrides, ..Inputs::default() }).expect("it is valid");
    mortise::server::start(config, seam).await.expect("the further node starts")
}

fn client_of(node: &RunningServer) -> Client {
    Client::new(format!("http://{}", node.address()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uninstall_answered_by_one_node_stops_the_other() {
    let Some(database) = database().await else { return };
    let url = database.url().to_owned();
    let world = Arc::new(World::start(Backend::Postgres(database)).await);
    let seam = world.server.seam.clone();
    let other = further_node(&world.server.folder(), &url, seam).await;
    let client = client_of(&other);
    world.ticket("first").await;
    let answer = client.post("/api/v1/events", &world.host, &ticket(ORG, "second")).await;
    assert_eq!(answer.expect(202).json["events"][0]["deliveries"], 1);
    world.arrived(2).await;
    // One id is one event, whichever node hears of it.
    let answer = client.post("/api/v1/events", &world.host, &ticket(ORG, "first")).await;
    assert_eq!(answer.expect(202).json["events"][0]["duplicate"], true);

    let stop = Arc::new(AtomicBool::new(false));
    let posting = tokio::spawn({
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let many: Vec<_> =
                    (0..20).map(|index| ticket(ORG, &format!("u-{number}-{index}"))).collect();
                world.post(&json!(many)).await.expect(202);
                number += 1;
            }
        }
    });
    world.arrived(200).await;
    let body = json!({ "installationId": world.installation.id });
    let answer = client.post("/api/v1/callbacks/uninstall", &world.server.operator, &body).await;
    let answered = Clock::default().instant();
    answer.expect(200);
    a_while().await;
    stop.store(true, Ordering::Relaxed);
    posting.await.expect("posting goes on");
    let arrived = world.server.vendor.received_at(HOOK);
    let late = arrived.iter().filter(|received| received.instant > answered).count();
    assert_eq!(late, 0, "of {} requests", arrived.len());
    assert_eq!(world.fans_out(&ticket(ORG, "late")).await, 0, "the other node knows");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_that_of_acceptance_whatever_the_clocks_say() {
    let Some(database) = database().await else { return };
    let url = database.url().to_owned();
    let world = World::with(
        Backend::Postgres(database),
        |settings| settings.set("delivery.breaker.failures", "1000"),
        |package| package.resources["webhook"]["mortise"] = json!({ "ordered": true }),
    )
    .await;
    // Ids are ordered by the clock of whoever makes them: the other node's are ahead.
    let ahead = Seam::default();
    ahead.clock.advance(Duration::from_secs(2));
    let other = further_node(&world.server.folder(), &url, ahead.clone()).await;
    let client = client_of(&other);
    world.server.vendor.behave(HOOK, Behaviour::status(500));
    let wanted = names("c", 20);
    for pair in wanted.chunks(2) {
        let answer = client.post("/api/v1/events", &world.host, &ticket(ORG, &pair[0])).await;
        answer.expect(202);
        world.ticket(&pair[1]).await;
    }
    world.attempted(&wanted[0], 1).await;
    world.server.vendor.behave(HOOK, Behaviour::status(200));
    world.server.advance(Duration::from_secs(70));
    ahead.clock.advance(Duration::from_secs(70));
    for name in &wanted {
        world.in_state(name, "delivered").await;
    }
    let mut order = tickets(&world.server.vendor.received_at(HOOK));
    order.dedup();
    assert_eq!(order, wanted);
    assert_eq!(world.server.vendor.most_in_hand(HOOK), 1, "one at a time, of both nodes");
    other.stop().await;
}

#[test]
fn a_node_that_dies_leaves_its_work_to_the_other() {
    let survivor = tokio::runtime::Runtime::new().expect("a runtime");
    // The node that dies has a runtime of its own: its end takes all of it at once.
    let doomed = tokio::runtime::Runtime::new().expect("a runtime");
    let wanted = names("d", 60);
    let Some((world, running)) = survivor.block_on(async {
        let database = database().await?;
        let url = database.url().to_owned();
        let world = World::start(Backend::Postgres(database)).await;
        world.server.vendor.behave(HOOK, Behaviour::Hang);
        let seam = world.server.seam.clone();
        let folder = world.server.folder();
        let node = doomed.spawn(async move { further_node(&folder, &url, seam).await });
        let node = node.await.expect("the node starts");
        let client = client_of(&node);
        let many: Vec<_> = wanted.iter().map(|name| ticket(ORG, name)).collect();
        client.post("/api/v1/events", &world.host, &json!(many)).await.expect(202);
        world.arrived(32).await;
        Some((world, node))
    }) else {
        return;
    };
    doomed.shutdown_background();
    drop(running);
    survivor.block_on(async {
        world.server.vendor.behave(HOOK, Behaviour::status(200));
        world.server.vendor.forget();
        for name in &wanted {
            world.in_state(name, "delivered").await;
        }
        assert_all_there(&world.server.vendor.received_at(HOOK), &wanted);
        drop(world);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_has_one_server() {
    let server = TestServer::start(Backend::Sqlite, |_| {}).await;
    let settings = shared_settings(&server.folder(), None);
    let overrides = settings.into_iter().chain([("listen".to_owned(), "127.0.0.1:0".to_owned())]);
    let inputs = Inputs { overrides: overrides.collect(), ..Inputs::default() };
    let config = Config::load(&inputs).expect("it is valid");
    let refused = mortise::server::start(config.clone(), Seam::default()).await;
    assert!(refused.is_err(), "a second server on one file is refused");
    let place = server.stop().await;
    let next = mortise::server::start(config, Seam::default()).await.expect("the file is free");
    next.stop().await;
    drop(place);
}
