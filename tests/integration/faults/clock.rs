//! The time of day is set while the server runs. In process, where the clock can be set.

use std::time::Duration;

use mortise::development::Behaviour;
use serde_json::json;

use crate::support::delivery_world::{HOOK, World, a_while, ticket};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    a_clock_that_is_set_back_holds_nothing_up,
    a_clock_that_is_set_forward_loses_nothing,
    a_clock_that_was_ahead_before_the_start_holds_nothing_up,
);

const HOUR: Duration = Duration::from_hours(1);

async fn world(backend: Backend) -> World {
    World::with(
        backend,
        |settings| {
            settings.set("delivery.schedule", "2s,3s,3s,3s,3s,3s,3s,3s");
            settings.set("delivery.deadline", "1s");
            settings.set("delivery.breaker.failures", "4");
            settings.set("delivery.breaker.pause", "1s");
            settings.set("delivery.breaker.pause_limit", "2s");
        },
        |_| {},
    )
    .await
}

/// Several deliveries have failed and wait, their webhook is paused, one request hangs.
async fn trouble(world: &World) -> Vec<String> {
    world.server.vendor.behave(HOOK, Behaviour::status(500));
    let names: Vec<String> = (0..12).map(|number| format!("t-{number}")).collect();
    let events: Vec<_> = names.iter().map(|name| ticket(ORG, name)).collect();
    world.post(&json!(events)).await.expect(202);
    eventually("the pause", async || {
        world.webhook().await["health"]["pausedUntil"].is_string().then_some(())
    })
    .await;
    names
}

async fn is_ready(world: &World) -> bool {
    world.server.client.get("/health/ready", "").await.status == 200
}

async fn a_clock_that_is_set_back_holds_nothing_up(backend: Backend) {
    let world = world(backend).await;
    let names = trouble(&world).await;
    world.server.seam.clock.set_back(HOUR);
    // The lease is judged by the monotonic clock, and renewed by it.
    for _ in 0..6 {
        a_while().await;
        assert!(is_ready(&world).await, "the node sends all the while");
    }
    world.server.vendor.behave(HOOK, Behaviour::status(200));
    for name in &names {
        world.in_state(name, "delivered").await;
    }
    world.ticket("afterwards").await;
    world.in_state("afterwards", "delivered").await;
}

async fn a_clock_that_is_set_forward_loses_nothing(backend: Backend) {
    let world = world(backend).await;
    let names = trouble(&world).await;
    world.server.vendor.behave(HOOK, Behaviour::Hang);
    world.server.seam.clock.set_forward(HOUR);
    // What waited is due, and no sooner lost than tried as often as it may be.
    a_while().await;
    assert!(is_ready(&world).await);
    world.server.vendor.behave(HOOK, Behaviour::status(200));
    for name in &names {
        world.in_state(name, "delivered").await;
    }
    world.ticket("afterwards").await;
    world.in_state("afterwards", "delivered").await;
    assert!(is_ready(&world).await);
}

async fn a_clock_that_was_ahead_before_the_start_holds_nothing_up(backend: Backend) {
    let world = world(backend).await;
    world.server.seam.clock.set_forward(HOUR * 3);
    world.server.vendor.behave(HOOK, Behaviour::status(500));
    let names: Vec<String> = (0..3).map(|number| format!("ahead-{number}")).collect();
    for name in &names {
        world.ticket(name).await;
        world.attempted(name, 1).await;
    }
    let World { server, host, installation, webhook } = world;
    // Stopped, set right, and started again.
    server.seam.clock.set_back(HOUR * 3);
    let server = server.restart().await;
    let world = World { server, host, installation, webhook };
    world.server.vendor.behave(HOOK, Behaviour::status(200));
    for name in &names {
        world.in_state(name, "delivered").await;
    }
}
