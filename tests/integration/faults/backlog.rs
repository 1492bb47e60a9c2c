//! Much waits: memory stays bounded, nobody waits for another's backlog, and receivers that hang
//! cannot take all workers.

use std::collections::BTreeSet;
use std::time::Duration;

use mortise::development::{Behaviour, SampleVendor};
use mortise::seam::Clock;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, SOON, World, ticket, tickets};
use crate::support::load::report;
use crate::support::on_both;
use crate::support::program::{Stage, long_form};
use crate::support::server::{Backend, ORG, eventually};

on_both!(a_backlog_waits_in_the_database_and_delays_nobody);

const MIB: u64 = 1 << 20;

/// How many requests to a webhook may be under way.
const CAP: usize = 32;

/// How long a slow receiver thinks; less than the deadline.
const SLOW: Duration = Duration::from_secs(6);

/// Installs one more extension, in an org of its own, whose webhook is at this path.
async fn extension(world: &World, vendor: &SampleVendor, key: &str, org: &str, path: &str) {
    let package = world.server.package().key(key).with(|package| {
        package.resources["webhook"]["url"] = vendor.url(path).into();
        package.manifest["callbackListener"] = json!({ "onInstall": vendor.url("/callbacks") });
    });
    world.server.active_package(&package, org).await;
}

async fn a_backlog_waits_in_the_database_and_delays_nobody(backend: Backend) {
    let events = usize::try_from(long_form("MORTISE_TEST_BACKLOG", 2_000)).expect("a number");
    let settings = |settings: &mut crate::support::server::Settings| {
        settings.set("delivery.queue_bytes", "1MiB");
    };
    let stage = Stage::with(backend, settings, async |world, vendor| {
        extension(world, vendor, "other", "other-org", "/hooks/other").await;
    })
    .await;
    let vendor = &stage.vendor;
    let program = stage.launch().await;
    // Slow, and never so slow that it fails: its breaker stays closed.
    vendor.behave(HOOK, Behaviour::status(200).after(SLOW));
    let text = "x".repeat(2_000);
    let names: Vec<String> = (0..events).map(|number| format!("b-{number}")).collect();
    for some in names.chunks(500) {
        let batch: Vec<Value> = some
            .iter()
            .map(|name| {
                let mut event = ticket(ORG, name);
                event["payload"]["text"] = text.as_str().into();
                event
            })
            .collect();
        program.client.post("/api/v1/events", &stage.host, &json!(batch)).await.expect(202);
    }
    // At most so many fit into a mebibyte; the others have a due time in the table.
    let in_memory = "select cast(count(*) as text) from deliveries d
        join endpoints e on e.id = d.endpoint_id
        where e.lane = 'webhook' and d.state = 0 and d.due_at is null";
    let in_memory: usize = stage.place.texts(in_memory).await[0].parse().expect("a number");
    let fit = usize::try_from(MIB).expect("a number") / text.len();
    assert!(in_memory <= fit, "{in_memory} of {events} wait in memory, where {fit} fit");
    // What comes for another while all of this waits arrives before any of it is through.
    for number in 0..10 {
        let event = ticket("other-org", &format!("o-{number}"));
        program.client.post("/api/v1/events", &stage.host, &event).await.expect(202);
    }
    let arrived = vendor.wait_for_path("/hooks/other", 10, SOON).await.expect("it arrives");
    let last = arrived.iter().map(|received| received.number).max().expect("the last");
    let before = vendor.received_at(HOOK).iter().filter(|one| one.number < last).count();
    assert!(before <= CAP, "{before} of the backlog went ahead of another webhook's events");
    let peak = program.peak_memory();
    vendor.behave(HOOK, Behaviour::status(200));
    let clock = Clock::default();
    let end = clock.instant() + Duration::from_secs(60 + events as u64 / 200);
    let all = format!("2:{}", events + 10);
    while stage.states().await != [all.as_str()] {
        assert!(clock.instant() < end, "{:?}", stage.states().await);
        clock.sleep(Duration::from_millis(100)).await;
    }
    let there: BTreeSet<String> = tickets(&vendor.received_at(HOOK)).into_iter().collect();
    assert_eq!(there.len(), events);
    let database =
        if stage.settings.contains_key("database.url") { "PostgreSQL" } else { "SQLite" };
    report(&format!(
        "backlog, {database}: {events} waited, {in_memory} of them in memory, peak memory {} MiB \
         while they waited and {} MiB in the end, lost 0",
        peak.unwrap_or(0) / MIB,
        program.peak_memory().unwrap_or(0) / MIB
    ));
}

/// As many hanging webhooks as would take every worker with their caps, and some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_hang_leave_workers_to_the_others() {
    const HANGING: usize = 10;
    let deadline = Duration::from_secs(20);
    let settings = |settings: &mut crate::support::server::Settings| {
        // 8 webhooks times 8 take 64.
        settings.set("delivery.concurrency", "64");
        settings.set("delivery.concurrency_per_webhook", "8");
        settings.set("delivery.deadline", "20s");
    };
    let stage = Stage::with(Backend::Sqlite, settings, async |world, vendor| {
        for number in 0..HANGING {
            let key = format!("hanging-{number}");
            extension(world, vendor, &key, "hanging-org", &format!("/hang/{number}")).await;
        }
        extension(world, vendor, "late", "late-org", "/hooks/late").await;
    })
    .await;
    let vendor = &stage.vendor;
    for number in 0..HANGING {
        vendor.behave(&format!("/hang/{number}"), Behaviour::Hang);
    }
    let program = stage.launch().await;
    let clock = Clock::default();
    let many: Vec<Value> =
        (0..40).map(|number| ticket("hanging-org", &format!("h-{number}"))).collect();
    let answer = program.client.post("/api/v1/events", &stage.host, &json!(many)).await.expect(202);
    assert_eq!(answer.json["events"][0]["deliveries"], HANGING);
    let hanging = || (0..HANGING).map(|number| vendor.in_hand(&format!("/hang/{number}"))).sum();
    eventually("they hang", async || {
        let before: usize = hanging();
        clock.sleep(Duration::from_millis(300)).await;
        (before >= 40 && hanging() == before).then_some(())
    })
    .await;
    let began = clock.instant();
    for (org, path) in [(ORG, HOOK), ("late-org", "/hooks/late")] {
        for number in 0..20 {
            let event = ticket(org, &format!("{org}-{number}"));
            program.client.post("/api/v1/events", &stage.host, &event).await.expect(202);
        }
        vendor
            .wait_for_path(path, 20, deadline / 2)
            .await
            .expect("it need not wait for the others");
    }
    let took = began.elapsed();
    assert!(took < deadline / 2, "{took:?}");
    assert!(hanging() >= 40, "the others hang all the while");
}
