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
    let load = Load::start(std::slice::from_ref(&program.client), &stage.host, Pace::default());
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
    let load = Load::start(std::slice::from_ref(&program.client), &stage.host, Pace::default());
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

/// Crash points are in builds with the feature `fault-injection` only, as `scripts/test` makes them.
#[cfg(feature = "fault-injection")]
mod at_points {
    use std::time::Duration;

    use serde_json::json;

    use crate::support::delivery_world::{HOOK, SOON, a_while, ticket, tickets};
    use crate::support::on_both;
    use crate::support::package::Package;
    use crate::support::program::{Program, Stage};
    use crate::support::server::{Backend, ORG, eventually};

    on_both!(
        before_the_answer_to_an_event,
        before_a_request_to_a_vendor,
        after_a_request_to_a_vendor,
        before_a_step_of_an_installation_is_committed,
        an_upgrade_happens_whole_or_not_at_all,
        a_rollout_goes_on_where_it_was,
    );

    async fn armed(stage: &Stage, point: &str) -> Program {
        Program::start_armed(&stage.settings, stage.address, Some(point)).await
    }

    /// Waits until the vendor has heard of the installation, so that the event is what is sent next.
    async fn callbacks_are_out(stage: &Stage) {
        let program = stage.launch().await;
        let waiting = "select cast(state as text) from deliveries where state = 0";
        eventually("the callbacks are out", async || {
            stage.place.texts(waiting).await.is_empty().then_some(())
        })
        .await;
        program.terminate(SOON).await;
    }

    /// Posts an event to a program that dies of it; says whether it was accepted before.
    async fn post_and_crash(program: Program, stage: &Stage) -> bool {
        let event = ticket(ORG, "t");
        let request = program.client.request(reqwest::Method::POST, "/api/v1/events", &stage.host);
        let answer = program.client.try_send(request.json(&event)).await;
        let ended = program.ended(Duration::from_secs(20)).await;
        assert!(!ended.success(), "{ended}");
        answer.is_ok_and(|answer| answer.status == 202)
    }

    /// Starts anew, waits until the event is delivered, and says how often it arrived.
    async fn delivered(stage: &Stage) -> usize {
        let program = stage.launch().await;
        eventually("it is delivered", async || (stage.states().await == ["2:1"]).then_some(()))
            .await;
        a_while().await;
        let arrived = stage.vendor.received_at(HOOK);
        let ids: Vec<_> = arrived.iter().map(|one| one.header("webhook-id")).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
        // The host that heard nothing, or not enough, posts it again.
        let answer = program.client.post("/api/v1/events", &stage.host, &ticket(ORG, "t")).await;
        assert_eq!(answer.expect(202).json["events"][0]["duplicate"], true);
        a_while().await;
        assert_eq!(stage.vendor.received_at(HOOK).len(), arrived.len());
        assert_eq!(tickets(&arrived)[0], "t");
        arrived.len()
    }

    async fn before_the_answer_to_an_event(backend: Backend) {
        let stage = Stage::new(backend, |_| {}).await;
        let program = armed(&stage, "intake.before-answer").await;
        assert!(!post_and_crash(program, &stage).await, "nobody was told");
        assert_eq!(delivered(&stage).await, 1);
    }

    async fn before_a_request_to_a_vendor(backend: Backend) {
        let stage = Stage::new(backend, |_| {}).await;
        callbacks_are_out(&stage).await;
        let program = armed(&stage, "delivery.before-send").await;
        post_and_crash(program, &stage).await;
        assert_eq!(delivered(&stage).await, 1);
    }

    async fn after_a_request_to_a_vendor(backend: Backend) {
        let stage = Stage::new(backend, |_| {}).await;
        callbacks_are_out(&stage).await;
        let program = armed(&stage, "delivery.after-send").await;
        post_and_crash(program, &stage).await;
        assert_eq!(delivered(&stage).await, 2, "at least once, and under the same id");
    }

    async fn before_a_step_of_an_installation_is_committed(backend: Backend) {
        let stage = Stage::new(backend, |_| {}).await;
        let program = armed(&stage, "lifecycle.before-commit").await;
        let body = json!({ "installationId": stage.installation.id });
        let path = "/api/v1/callbacks/uninstall";
        let request = program.client.request(reqwest::Method::POST, path, &stage.operator);
        assert!(program.client.try_send(request.json(&body)).await.is_err(), "no answer");
        assert!(!program.ended(Duration::from_secs(20)).await.success());
        let program = stage.launch().await;
        let installation = format!("/api/v1/installations/{}", stage.installation.id);
        let seen = program.client.get(&installation, &stage.operator).await.expect(200);
        assert_eq!(seen.json["state"], "active", "nothing of it has happened");
        let answer = program.client.post(path, &stage.operator, &body).await.expect(200);
        assert_eq!(answer.json["removedWebhooks"], 1);
        let seen = program.client.get(&installation, &stage.operator).await.expect(200);
        assert_eq!(seen.json["state"], "uninstalled");
        drop(program);
    }
    /// Publishes a version whose webhook has another name.
    async fn publish(stage: &Stage, program: &Program, version: &str) {
        let package = Package::new(&stage.vendor.url("")).version(version).with(|package| {
            package.resources["webhook"]["name"] = version.into();
        });
        let path = "/api/v1/extensions";
        program.client.post(path, &stage.operator, &package.json()).await.expect(201);
    }

    /// The version that serves, the name of the webhook, and how often it was upgraded.
    async fn serving(stage: &Stage, program: &Program) -> (String, String, usize) {
        let path = format!("/api/v1/installations/{}", stage.installation.id);
        let seen = program.client.get(&path, &stage.operator).await.expect(200);
        let name = seen.json["webhooks"][0]["name"].as_str().expect("a name").to_owned();
        let steps = program.client.all(&format!("{path}/history"), &stage.operator).await;
        let upgrades = steps.iter().filter(|step| step["command"] == "upgrade").count();
        (seen.text_of("version"), name, upgrades)
    }

    async fn an_upgrade_happens_whole_or_not_at_all(backend: Backend) {
        let stage = Stage::new(backend, |_| {}).await;
        let program = stage.launch().await;
        for version in ["2.0.0", "3.0.0", "4.0.0"] {
            publish(&stage, &program, version).await;
        }
        let (_, mut name, _) = serving(&stage, &program).await;
        let (mut before, mut upgrades) = ("1.0.0", 0);
        assert!(program.terminate(SOON).await.success());
        for (point, version, is_done) in [
            ("upgrade.before-apply", "2.0.0", false),
            ("lifecycle.before-commit", "3.0.0", false),
            ("upgrade.after-commit", "4.0.0", true),
        ] {
            let program = armed(&stage, point).await;
            let body = json!({ "installationId": stage.installation.id, "version": version });
            let path = "/api/v1/callbacks/upgrade";
            let request = program.client.request(reqwest::Method::POST, path, &stage.operator);
            assert!(program.client.try_send(request.json(&body)).await.is_err(), "no answer");
            assert!(!program.ended(Duration::from_secs(20)).await.success());
            let program = stage.launch().await;
            let seen = serving(&stage, &program).await;
            if is_done {
                assert_eq!(seen, (version.to_owned(), version.to_owned(), upgrades + 1), "{point}");
            } else {
                assert_eq!(seen, (before.to_owned(), name.clone(), upgrades), "{point}");
            }
            program.client.post(path, &stage.operator, &body).await.expect(200);
            upgrades += 1;
            let seen = serving(&stage, &program).await;
            assert_eq!(seen, (version.to_owned(), version.to_owned(), upgrades), "{point}");
            (before, name) = (version, version.to_owned());
            assert!(program.terminate(SOON).await.success());
        }
        let Stage { place, .. } = stage;
        place.audit_holds(&[ORG]).await;
    }

    async fn a_rollout_goes_on_where_it_was(backend: Backend) {
        let stage = Stage::new(backend, |_| {}).await;
        for (point, version) in
            [("rollout.before-commit", "2.0.0"), ("upgrade.after-commit", "3.0.0")]
        {
            let program = stage.launch().await;
            let (_, _, upgrades) = serving(&stage, &program).await;
            publish(&stage, &program, version).await;
            assert!(program.terminate(SOON).await.success());
            let program = armed(&stage, point).await;
            let path = format!("/api/v1/extensions/ticket-mirror/versions/{version}/rollout");
            // It may die before this is answered: the job is on disk, or it is asked for again.
            let request = program.client.request(reqwest::Method::POST, &path, &stage.operator);
            let asked = program.client.try_send(request.json(&json!({}))).await;
            assert!(asked.is_err() || asked.is_ok_and(|answer| answer.status == 202));
            assert!(!program.ended(Duration::from_secs(20)).await.success(), "{point}");
            let program = stage.launch().await;
            eventually("the rollout ends", async || {
                let jobs = program.client.all("/api/v1/jobs", &stage.operator).await;
                (jobs[0]["version"] == version && jobs[0]["state"] == "done")
                    .then(|| assert_eq!(jobs[0]["upgraded"], 1, "{point}"))
            })
            .await;
            let seen = serving(&stage, &program).await;
            assert_eq!(seen, (version.to_owned(), version.to_owned(), upgrades + 1), "{point}");
            assert!(program.terminate(SOON).await.success());
        }
        let Stage { place, .. } = stage;
        place.audit_holds(&[ORG]).await;
    }
}
