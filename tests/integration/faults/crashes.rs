//! The server is killed, or asked to stop, while hosts post and vendors receive.

use std::time::Duration;

use mortise::development::Behaviour;
use mortise::seam::{Clock, Randomness};

use crate::support::delivery_world::HOOK;
use crate::support::load::{Load, Pace, all_arrive};
use crate::support::on_both;
use crate::support::program::{Stage, long_form};
use crate::support::server::{Backend, Settings};

on_both!(killed_again_and_again_it_loses_nothing, stopped_under_load_it_loses_nothing);

/// How many requests to a webhook may be under way.
const CAP: u64 = 32;

/// The most results of one crash that may be in memory only: those being written and those that
/// wait for the next group.
const RESULTS_IN_MEMORY: u64 = 2 * 512;

fn quickly(settings: &mut Settings) {
    settings.set("delivery.schedule", "1s,1s,1s,1s,1s,1s,1s,1s");
    settings.set("delivery.deadline", "2s");
    settings.set("delivery.breaker.failures", "10000");
}

async fn killed_again_and_again_it_loses_nothing(backend: Backend) {
    let kills = long_form("MORTISE_TEST_KILLS", 6);
    let stage = Stage::new(backend, quickly).await;
    // Something is always under way.
    stage.vendor.behave(HOOK, Behaviour::status(200).after(Duration::from_millis(10)));
    let mut program = stage.launch().await;
    let load = Load::start(&[program.client.clone()], &stage.host, Pace::default());
    let (clock, randomness) = (Clock::default(), Randomness::default());
    for _ in 0..kills {
        // At any moment: while a group is written, before its answer, in the middle of a request.
        load.more(20).await;
        clock.sleep(Duration::from_millis(500).mul_f64(randomness.fraction())).await;
        program.kill();
        program = stage.launch().await;
    }
    let posted = load.finish().await;
    let tally = all_arrive(&stage, &format!("{kills} kills"), &posted).await;
    let most = kills * (CAP + RESULTS_IN_MEMORY);
    assert!(tally.duplicates() <= most, "{} duplicates", tally.duplicates());
    assert!(posted.accepted.len() as u64 >= kills * 20);
    // What was delivered is not delivered again.
    let before = stage.vendor.received_at(HOOK).len();
    program.kill();
    let program = stage.launch().await;
    clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.vendor.received_at(HOOK).len(), before);
    drop(program);
}

async fn stopped_under_load_it_loses_nothing(backend: Backend) {
    let stops = long_form("MORTISE_TEST_STOPS", 3);
    let stage = Stage::new(backend, quickly).await;
    stage.vendor.behave(HOOK, Behaviour::status(200).after(Duration::from_millis(50)));
    let mut program = stage.launch().await;
    let load = Load::start(&[program.client.clone()], &stage.host, Pace::default());
    for _ in 0..stops {
        load.more(100).await;
        let ended = program.terminate(Duration::from_secs(20)).await;
        assert!(ended.success(), "{ended}");
        program = stage.launch().await;
    }
    let posted = load.finish().await;
    let tally = all_arrive(&stage, &format!("{stops} stops"), &posted).await;
    assert_eq!(tally.duplicates(), 0, "what is under way finishes, and its result is written");
    let ended = program.terminate(Duration::from_secs(20)).await;
    assert!(ended.success(), "{ended}");
}
