//! What a webhook wishes of delivery, what its receiver asks for, and webhooks that a node is too old
//! to read.

use std::time::Duration;

use mortise::development::Behaviour;
use mortise::seam::Timestamp;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, World, a_while, ticket, webhook_of};
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, ORG};

on_both!(
    a_webhook_has_its_own_schedule_deadline_and_cap,
    wishes_beyond_the_bounds_are_brought_to_them,
    what_is_over_the_rate_waits_and_no_attempt_is_lost,
    a_receiver_can_switch_its_webhook_off,
    a_receiver_can_refuse_one_delivery_for_good,
    a_webhook_that_a_later_release_wrote_waits_by_itself,
);

fn wishing(delivery: Value) -> impl FnOnce(&mut Package) {
    move |package| package.resources["webhook"]["mortise"] = json!({ "delivery": delivery })
}

/// Seconds from the last attempt's beginning to the next.
fn pause(delivery: &Value) -> Duration {
    let read = |text: &Value| Timestamp::parse_rfc3339(text.as_str().expect("a time"));
    let attempts = delivery["attempts"].as_array().expect("attempts");
    let last = read(&attempts[attempts.len() - 1]["time"]).expect("RFC 3339");
    read(&delivery["nextAttemptTime"]).expect("RFC 3339").since(last)
}

async fn a_webhook_has_its_own_schedule_deadline_and_cap(backend: Backend) {
    let world = World::with(
        backend,
        |_| {},
        wishing(json!({ "schedule": ["30s", 20], "deadlineSeconds": 1, "concurrency": 1 })),
    )
    .await;
    let shown = world.webhook().await["delivery"].clone();
    assert_eq!(
        shown,
        json!({
            "schedule": [30, 20], "deadlineSeconds": 1, "concurrency": 1, "ratePerMinute": null,
            "requested": { "schedule": [30, 20], "deadlineSeconds": 1, "concurrency": 1 },
            "clamped": [],
        })
    );
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::status(200).after(Duration::from_millis(200)));
    for name in ["a", "b", "c"] {
        world.ticket(name).await;
    }
    world.arrived(3).await;
    assert_eq!(vendor.most_in_hand(HOOK), 1, "one at a time");

    vendor.behave(HOOK, Behaviour::Hang);
    world.ticket("slow").await;
    let slow = world.attempted("slow", 1).await;
    assert_eq!(slow["attempts"][0]["error"], "timeout");
    let took = slow["attempts"][0]["durationMs"].as_f64().expect("a duration");
    assert!((1_000.0..5_000.0).contains(&took), "{took}");

    vendor.behave(HOOK, Behaviour::status(500));
    let first = pause(&slow);
    assert!(first >= Duration::from_secs(30) && first < Duration::from_secs(36), "{first:?}");
    world.server.advance(Duration::from_secs(34));
    let second = pause(&world.attempted("slow", 2).await);
    assert!(second >= Duration::from_secs(20) && second < Duration::from_secs(26), "{second:?}");
    world.server.advance(Duration::from_secs(23));
    let failed = world.in_state("slow", "failed").await;
    assert_eq!(failed["attemptsMade"], 3);
}

async fn wishes_beyond_the_bounds_are_brought_to_them(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.overrides.attempts", "3");
            settings.set("delivery.overrides.shortest_pause", "10s");
            settings.set("delivery.overrides.deadline", "12s");
            settings.set("delivery.overrides.concurrency", "40");
        },
        wishing(json!({
            "schedule": [1, "1m", "2h"], "deadlineSeconds": 60, "concurrency": 1_024,
            "ratePerMinute": 600,
        })),
    )
    .await;
    let shown = world.webhook().await["delivery"].clone();
    assert_eq!(shown["schedule"], json!([10, 60]));
    assert_eq!((&shown["deadlineSeconds"], &shown["concurrency"]), (&json!(12), &json!(40)));
    assert_eq!(shown["clamped"], json!(["schedule", "deadlineSeconds", "concurrency"]));
    assert_eq!(shown["ratePerMinute"], 600);
    assert_eq!(shown["requested"]["concurrency"], 1_024, "what was wished stays to be seen");
    let listed = world.server.webhooks(ORG).await;
    assert_eq!(listed[0]["delivery"], shown);
}

async fn what_is_over_the_rate_waits_and_no_attempt_is_lost(backend: Backend) {
    let world = World::with(backend, |_| {}, wishing(json!({ "ratePerMinute": 120 }))).await;
    let names: Vec<String> = (0..8).map(|number| format!("r-{number}")).collect();
    let events: Vec<Value> = names.iter().map(|name| ticket(ORG, name)).collect();
    world.post(&json!(events)).await.expect(202);
    let arrived = world.arrived(8).await;
    // Two at once, and then two a second.
    let since = |place: usize| arrived[place].instant.duration_since(arrived[0].instant);
    assert!(since(7) >= Duration::from_millis(2_700), "{:?}", since(7));
    assert!(since(7) < Duration::from_secs(12), "{:?}", since(7));
    for window in arrived.windows(4) {
        let span = window[3].instant.duration_since(window[0].instant);
        assert!(span >= Duration::from_millis(800), "four of them within {span:?}");
    }
    for name in &names {
        assert_eq!(world.in_state(name, "delivered").await["attemptsMade"], 1, "{name}");
    }
    assert_eq!(world.server.vendor.received_at(HOOK).len(), 8);
}

async fn a_receiver_can_switch_its_webhook_off(backend: Backend) {
    let world = World::start(backend).await;
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::status(200).with_header("webhook-delivery", "disable"));
    world.ticket("last").await;
    world.in_state("last", "delivered").await;
    world.health("disabled").await;
    vendor.behave(HOOK, Behaviour::status(200));
    // The table says it a moment before the node's own index: what is accepted in between goes out.
    let mut sent = 0;
    loop {
        let event = format!("kept-{sent}");
        world.ticket(&event).await;
        let is_over = |delivery: &Value| delivery["state"] != "pending";
        if world.delivery(&event, is_over).await["state"] == "held" {
            break;
        }
        sent += 1;
        assert!(sent < 20, "it is never held");
    }
    a_while().await;
    assert_eq!(vendor.received_at(HOOK).len(), 1 + sent, "nothing more is sent");
    let reason = world.webhook().await["health"]["reason"].clone();
    assert!(reason.as_str().is_some_and(|reason| reason.contains("disable")), "{reason}");
}

async fn a_receiver_can_refuse_one_delivery_for_good(backend: Backend) {
    let world = World::start(backend).await;
    let refusing = Behaviour::status(503).with_header("webhook-delivery", "abort-message");
    world.server.vendor.behave_in_turn(HOOK, [refusing], Behaviour::status(200));
    world.ticket("refused").await;
    let refused = world.in_state("refused", "failed").await;
    assert_eq!(refused["attemptsMade"], 1);
    let hint = refused["attempts"][0]["hint"].as_str().expect("a hint");
    assert!(hint.contains("abort-message"), "{hint}");
    world.ticket("next").await;
    world.in_state("next", "delivered").await;
    assert_eq!(world.webhook().await["health"]["state"], "ok", "its receiver is well");
}

async fn a_webhook_that_a_later_release_wrote_waits_by_itself(backend: Backend) {
    let world = World::start(backend).await;
    let other = world.server.active("other-org").await;
    let readable = webhook_of(&world.server, &other).await;
    for (column, later) in [
        ("dialect", "'future'"),
        ("delivery", r#"'{"burst":9}'"#),
        ("subscriptions", r#"'{"Ticket_Add":{"fields":"all"}}'"#),
    ] {
        let statement = format!("update webhooks set {column} = {later} where org_id = '{ORG}'");
        world.server.execute(&statement).await;
    }
    let world = World { server: world.server.restart().await, ..world };
    let path = format!("/api/v1/webhooks/{readable}");
    let shown = world.server.client.get(&path, &world.server.operator).await.expect(200).json;
    assert_eq!(shown["health"]["state"], "ok");
    assert_eq!(world.fans_out(&ticket("other-org", "there")).await, 1);
    world.arrived(1).await;

    let shown = world.webhook().await;
    assert_eq!(shown["health"]["state"], "unreadable");
    assert!(
        shown["health"]["reason"].as_str().is_some_and(|reason| reason.contains("cannot read"))
    );
    world.ticket("held").await;
    world.in_state("held", "held").await;
    a_while().await;
    assert_eq!(world.server.vendor.received_at(HOOK).len(), 1);

    for (column, now) in
        [("dialect", "'desk'"), ("delivery", "null"), ("subscriptions", r#"'{"Ticket_Add":null}'"#)]
    {
        let statement = format!("update webhooks set {column} = {now} where org_id = '{ORG}'");
        world.server.execute(&statement).await;
    }
    let world = World { server: world.server.restart().await, ..world };
    world.in_state("held", "delivered").await;
    assert_eq!(world.webhook().await["health"]["state"], "ok");
}
