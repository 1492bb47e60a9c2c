//! Holding, stopping, sending again and looking at deliveries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise::development::Behaviour;
use mortise::seam::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, World, a_while, assert_all_there, ticket, tickets};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    a_delivery_can_be_sent_again,
    the_kill_switch_holds_everything_and_loses_nothing,
    nothing_begins_after_uninstall_was_answered,
    uninstall_is_not_held_by_a_vendor_that_hangs,
    what_waits_for_one_installation_never_reaches_the_next,
    deliveries_are_listed_by_filter_page_and_tenant,
);

async fn a_delivery_can_be_sent_again(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    world.ticket("t").await;
    let delivery = world.in_state("t", "delivered").await;
    let path =
        format!("/api/v1/deliveries/{}/retry", delivery["id"].as_str().expect("it is there"));
    let admin = server.admin(ORG).await;
    let refused = client.post(&path, &admin, &json!({})).await.refused(403, "FORBIDDEN");
    assert_eq!(refused.json["lockedBy"]["extensionKey"], "ticket-mirror");
    assert_eq!(refused.json["lockedBy"]["installationId"], world.installation.id);
    let viewer = server.viewer(ORG).await;
    assert_eq!(client.post(&path, &viewer, &json!({})).await.status, 403);
    let stranger = server.vendor_token("others").await;
    assert_eq!(client.post(&path, &stranger, &json!({})).await.status, 404);
    let vendor = server.vendor_token("acme").await;
    let answer = client.post(&path, &vendor, &json!({})).await.expect(200);
    assert_eq!(answer.json, json!({ "id": delivery["id"], "state": "pending" }));
    let arrived = world.arrived(2).await;
    assert_eq!(arrived[1].header("webhook-id"), arrived[0].header("webhook-id"));
    assert_eq!(arrived[1].header("x-mortise-replay"), Some("true"));
    assert_eq!(arrived[1].body, arrived[0].body);
    let again = world.attempted("t", 2).await;
    assert_eq!(
        (&again["state"], &again["attempts"][1]["status"]),
        (&json!("delivered"), &json!(200))
    );

    // One that waits for its next attempt goes at once.
    server.vendor.behave_in_turn(HOOK, [Behaviour::status(500)], Behaviour::status(200));
    world.ticket("hurried").await;
    let hurried = world.attempted("hurried", 1).await;
    let at_once =
        format!("/api/v1/deliveries/{}/retry", hurried["id"].as_str().expect("it is there"));
    client.post(&at_once, &vendor, &json!({})).await.expect(200);
    world.in_state("hurried", "delivered").await;

    // One that is under way is not sent a second time.
    server.vendor.behave(HOOK, Behaviour::status(200).after(Duration::from_secs(2)));
    world.ticket("slow").await;
    world.arrived(5).await;
    let slow = world.delivery("slow", |_| true).await;
    let path = format!("/api/v1/deliveries/{}/retry", slow["id"].as_str().expect("it is there"));
    assert_eq!(client.post(&path, &vendor, &json!({})).await.status, 409);
    world.in_state("slow", "delivered").await;

    // After the end of its webhook there is nowhere to send it to.
    let gone = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &gone).await.expect(200);
    assert_eq!(client.post(&path, &vendor, &json!({})).await.status, 409);
}

async fn the_kill_switch_holds_everything_and_loses_nothing(backend: Backend) {
    let world = World::with(
        backend,
        |settings| settings.set("delivery.concurrency_per_webhook", "2"),
        |_| {},
    )
    .await;
    let (server, client) = (&world.server, &world.server.client);
    let switch = async |what: &str| {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        client.post(&path, &server.operator, &json!({ "reason": "a test" })).await.expect(200)
    };
    server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("failed-once").await;
    world.attempted("failed-once", 1).await;
    server.vendor.behave(HOOK, Behaviour::Hang);
    let names: Vec<String> = (0..10).map(|number| format!("k-{number}")).collect();
    for name in &names {
        world.ticket(name).await;
    }
    eventually("two hang", async || (server.vendor.in_hand(HOOK) == 2).then_some(())).await;
    let suspended = switch("suspend").await;
    assert_eq!(suspended.json["installations"], 1);
    server.vendor.behave(HOOK, Behaviour::status(200));
    let before = server.vendor.received_at(HOOK).len();
    assert_eq!(world.fans_out(&ticket(ORG, "meanwhile")).await, 0, "no new ones are made");
    server.advance(Duration::from_hours(1));
    for name in &names {
        world.in_state(name, "held").await;
    }
    world.in_state("failed-once", "held").await;
    a_while().await;
    assert_eq!(server.vendor.received_at(HOOK).len(), before, "nothing is delivered");
    switch("resume").await;
    for name in names.iter().chain([&"failed-once".to_owned()]) {
        world.in_state(name, "delivered").await;
    }
    assert_all_there(&server.vendor.received_at(HOOK)[before..], &names);
    world.ticket("afterwards").await;
    world.in_state("afterwards", "delivered").await;
}

async fn nothing_begins_after_uninstall_was_answered(backend: Backend) {
    let world = Arc::new(World::start(backend).await);
    let stop = Arc::new(AtomicBool::new(false));
    let posting: Vec<_> = (0..3)
        .map(|poster| {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let many: Vec<_> = (0..20)
                        .map(|index| ticket(ORG, &format!("u-{poster}-{number}-{index}")))
                        .collect();
                    world.post(&json!(many)).await.expect(202);
                    number += 1;
                }
            })
        })
        .collect();
    world.arrived(200).await;
    let body = json!({ "installationId": world.installation.id });
    let answer = world.server.callback("uninstall", &body).await.expect(200);
    let answered = Clock::default().instant();
    assert_eq!(answer.json["removedWebhooks"], 1);
    a_while().await;
    stop.store(true, Ordering::Relaxed);
    for posting in posting {
        posting.await.expect("posting goes on");
    }
    a_while().await;
    let arrived = world.server.vendor.received_at(HOOK);
    let late = arrived.iter().filter(|received| received.instant > answered).count();
    assert_eq!(late, 0, "of {} requests", arrived.len());
    assert_eq!(world.fans_out(&ticket(ORG, "late")).await, 0);
    eventually("nothing waits any more", async || {
        world.deliveries("&state=pending").await.is_empty().then_some(())
    })
    .await;
}

async fn uninstall_is_not_held_by_a_vendor_that_hangs(backend: Backend) {
    let world = World::start(backend).await;
    world.server.vendor.behave_otherwise(Behaviour::Hang);
    for number in 0..40 {
        world.ticket(&format!("h-{number}")).await;
    }
    eventually("they hang", async || (world.server.vendor.in_hand(HOOK) > 30).then_some(())).await;
    let clock = Clock::default();
    let began = clock.instant();
    let body = json!({ "installationId": world.installation.id });
    world.server.callback("uninstall", &body).await.expect(200);
    let took = clock.instant().duration_since(began);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let seen = world.server.vendor.received_at(HOOK).len();
    for number in 0..40 {
        world.in_state(&format!("h-{number}"), "cancelled").await;
    }
    a_while().await;
    assert_eq!(world.server.vendor.received_at(HOOK).len(), seen);
}

async fn what_waits_for_one_installation_never_reaches_the_next(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("of-the-first").await;
    world.attempted("of-the-first", 1).await;
    let first = server.vendor.received_at(HOOK)[0].clone();
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    world.in_state("of-the-first", "cancelled").await;
    let next = server.install("ticket-mirror", ORG).await;
    assert_eq!(next.generation, 2);
    assert_eq!(world.fans_out(&ticket(ORG, "between")).await, 0, "it is not authorised yet");
    let consent = server.consent(&next.authorization_url).await;
    server.authorize(&next.id, &consent).await.expect(200);
    server.vendor.behave(HOOK, Behaviour::status(200));
    server.advance(Duration::from_hours(3));
    world.ticket("of-the-next").await;
    let arrived = world.arrived(2).await;
    a_while().await;
    assert_eq!(tickets(&world.arrived(2).await), ["of-the-first", "of-the-next"]);
    assert_ne!(arrived[1].parameter("securityContext"), first.parameter("securityContext"));
    // A late uninstall of the first one changes nothing for the next.
    server.callback("uninstall", &body).await.expect(200);
    let late = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "generation": 1 });
    server.callback("uninstall", &late).await.expect(200);
    world.ticket("still").await;
    world.arrived(3).await;
}

async fn deliveries_are_listed_by_filter_page_and_tenant(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    let other = server.active("other-org").await;
    for number in 0..5 {
        world.ticket(&format!("a-{number}")).await;
        world.in_state(&format!("a-{number}"), "delivered").await;
    }
    let middle = server.seam.clock.now();
    Clock::default().sleep(Duration::from_millis(20)).await;
    server.vendor.behave(HOOK, Behaviour::status(500));
    let comment = json!({ "eventId": "c", "eventType": "Ticket_Comment_Add", "orgId": ORG,
                          "payload": { "id": "c" } });
    assert_eq!(world.fans_out(&comment).await, 1);
    world.attempted("c", 1).await;
    server.vendor.behave(HOOK, Behaviour::status(200));
    assert_eq!(world.fans_out(&ticket("other-org", "o")).await, 1);
    let ids = async |query: &str, token: &str| -> Vec<String> {
        let path = format!("/api/v1/deliveries?{query}");
        let rows = client.all(&path, token).await;
        rows.iter().map(|row| row["eventId"].as_str().expect("an id").to_owned()).collect()
    };
    eventually("all are through", async || {
        (ids("state=delivered", &server.operator).await.len() == 6).then_some(())
    })
    .await;
    let token = &server.operator;
    let everything = ["o", "c", "a-4", "a-3", "a-2", "a-1", "a-0"];
    assert_eq!(ids("", token).await, everything, "newest first");
    for limit in [1, 2, 3] {
        assert_eq!(ids(&format!("limit={limit}"), token).await, everything, "pages of {limit}");
    }
    assert_eq!(ids("state=pending", token).await, ["c"]);
    assert_eq!(ids("statusCode=500", token).await, ["c"]);
    assert_eq!(ids("statusCode=200&limit=2", token).await.len(), 6);
    assert_eq!(ids("eventType=Ticket_Comment_Add", token).await, ["c"]);
    assert_eq!(ids(&format!("installationId={}", other.id), token).await, ["o"]);
    assert_eq!(ids(&format!("webhookId={}", world.webhook), token).await, everything[1..]);
    assert_eq!(ids(&format!("since={}", middle.rfc3339()), token).await, ["o", "c"]);
    assert_eq!(ids(&format!("until={}&limit=4", middle.rfc3339()), token).await, everything[2..]);
    let past = Timestamp::from_millis(1_000).rfc3339();
    assert!(ids(&format!("until={past}"), token).await.is_empty());

    // Tenants.
    assert_eq!(ids("", &server.admin(ORG).await).await, everything[1..]);
    assert_eq!(ids("limit=2", &server.viewer("other-org").await).await, ["o"]);
    assert_eq!(ids("", &server.vendor_token("acme").await).await, everything);
    assert!(ids("", &server.vendor_token("others").await).await.is_empty());
    let stranger = server.admin("third-org").await;
    assert!(ids("", &stranger).await.is_empty());
    let delivery = world.delivery("c", |_| true).await;
    let path = format!("/api/v1/deliveries/{}", delivery["id"].as_str().expect("it is there"));
    assert_eq!(client.get(&path, &stranger).await.status, 404);
    let one: Value = client.get(&path, &server.admin(ORG).await).await.expect(200).json;
    assert_eq!(one["attempts"][0]["status"], 500);
    for faulty in ["state=lost", "limit=0", "limit=201", "cursor=nonsense", "since=now", "x=1"] {
        let refused = client.get(&format!("/api/v1/deliveries?{faulty}"), token).await;
        assert!([400, 422].contains(&refused.status), "{faulty}: {}", refused.text);
    }
}
