//! Rollouts: one version for all installations, as a job.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, TestServer, eventually};

on_both!(
    every_installation_has_its_turn_once,
    those_that_ask_for_more_wait_for_consent,
    what_fails_is_told_and_keeps_nobody,
    a_dry_run_and_filters_change_nothing_else,
    it_is_called_off,
    another_process_goes_on,
    who_comes_and_goes_meanwhile_is_right,
    only_those_who_may_see_and_ask,
);

const PATH: &str = "/api/v1/extensions/ticket-mirror/versions";

/// A package that is active at once.
fn version(server: &TestServer, version: &str) -> Package {
    server.package().without_authorization().version(version)
}

/// One that asks for a secret more.
fn growing(server: &TestServer, number: &str) -> Package {
    version(server, number).with(|package| {
        let parameter = json!({
            "name": "extra", "displayName": "Extra", "userdefined": true, "type": "text",
            "mandatory": false, "secure": true,
        });
        package.manifest["config"].as_array_mut().expect("a list").push(parameter);
    })
}

async fn install(server: &TestServer, org: &str, version: &str) -> String {
    let body = json!({ "extensionKey": "ticket-mirror", "orgId": org, "version": version });
    let made = server.callback("install", &body).await.expect(201);
    assert_eq!(made.json["state"], "active");
    made.text_of("installationId")
}

/// A server with so many installations of 1.0.0.
async fn start(backend: Backend, orgs: usize) -> (TestServer, Vec<String>) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&version(&server, "1.0.0")).await.expect(201);
    let mut ids = Vec::new();
    for org in 0..orgs {
        ids.push(install(&server, &format!("org-{org}"), "1.0.0").await);
    }
    (server, ids)
}

async fn roll_out(server: &TestServer, version: &str, body: &Value) -> Answer {
    let path = format!("{PATH}/{version}/rollout");
    server.client.post(&path, &server.operator, body).await
}

async fn begin(server: &TestServer, version: &str, body: &Value) -> String {
    let job = roll_out(server, version, body).await.expect(202);
    assert_eq!(job.json["kind"], "rollout");
    assert_eq!(job.json["version"], version);
    job.text_of("jobId")
}

async fn job(server: &TestServer, id: &str) -> Value {
    server.client.get(&format!("/api/v1/jobs/{id}"), &server.operator).await.expect(200).json
}

async fn ended(server: &TestServer, id: &str) -> Value {
    eventually("the rollout ends", async || {
        let job = job(server, id).await;
        let is_over = !["queued", "running"].contains(&job["state"].as_str().expect("a state"));
        is_over.then_some(job)
    })
    .await
}

async fn serving(server: &TestServer, id: &str) -> String {
    server.installation(id).await["version"].as_str().expect("a version").to_owned()
}

/// How often an installation was upgraded.
async fn upgrades(server: &TestServer, id: &str) -> usize {
    let path = format!("/api/v1/installations/{id}/history");
    let steps = server.client.all(&path, &server.operator).await;
    steps.iter().filter(|step| step["command"] == "upgrade").count()
}

fn counts(job: &Value) -> [i64; 6] {
    ["total", "processed", "upgraded", "unchanged", "failed", "skipped"]
        .map(|name| job[name].as_i64().unwrap_or(-1))
}

async fn every_installation_has_its_turn_once(backend: Backend) {
    let (server, ids) = start(backend, 30).await;
    server.publish(&version(&server, "2.0.0")).await.expect(201);
    // One has it already, one is gone, one is suspended with all the others.
    let body = json!({ "installationId": ids[0], "version": "2.0.0" });
    server.callback("upgrade", &body).await.expect(200);
    server.callback("uninstall", &json!({ "installationId": ids[1] })).await.expect(200);
    let switch = "/api/v1/extensions/ticket-mirror/suspend";
    let reason = json!({ "reason": "a look" });
    server.client.post(switch, &server.operator, &reason).await.expect(200);

    let vendor = server.vendor_token("acme").await;
    let path = format!("{PATH}/2.0.0/rollout");
    let asked = server.client.post(&path, &vendor, &json!({ "perSecond": 500 })).await.expect(202);
    assert_eq!((&asked.json["state"], &asked.json["total"]), (&json!("queued"), &Value::Null));
    let id = asked.text_of("jobId");
    let done = ended(&server, &id).await;
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(counts(&done), [29, 29, 28, 1, 0, 0]);
    assert_eq!((&done["remaining"], &done["waitingForConsent"]), (&json!(0), &json!(0)));
    assert_eq!(done["failures"], json!([]));
    assert!(done["createdBy"].as_str().is_some_and(|actor| actor.starts_with("vendor")));
    for (place, id) in ids.iter().enumerate() {
        let seen = server.installation(id).await;
        let (version, state) =
            if place == 1 { ("1.0.0", "uninstalled") } else { ("2.0.0", "suspended") };
        assert_eq!((&seen["version"], &seen["state"]), (&json!(version), &json!(state)));
        assert_eq!(upgrades(&server, id).await, usize::from(place != 1));
    }
    let listed = server.client.all("/api/v1/jobs", &vendor).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["jobId"], &listed[0]["failures"]), (&json!(id), &Value::Null));
    assert!(server.client.all("/api/v1/jobs?state=running", &vendor).await.is_empty());
    // Once more there is nothing to do.
    let again = begin(&server, "2.0.0", &json!({})).await;
    assert_eq!(counts(&ended(&server, &again).await), [29, 29, 0, 29, 0, 0]);
    let orgs: Vec<String> = (0..30).map(|org| format!("org-{org}")).collect();
    let orgs: Vec<&str> = orgs.iter().map(String::as_str).collect();
    server.stop().await.audit_holds(&orgs).await;
}

async fn those_that_ask_for_more_wait_for_consent(backend: Backend) {
    let (server, ids) = start(backend, 4).await;
    server.publish(&growing(&server, "2.0.0")).await.expect(201);
    let until = server.seam.clock.now().plus(Duration::from_hours(1)).rfc3339();
    let id = begin(&server, "2.0.0", &json!({ "updateBefore": until })).await;
    let done = ended(&server, &id).await;
    assert_eq!(done["updateBefore"], until.as_str());
    assert_eq!(counts(&done), [4, 4, 0, 0, 0, 0]);
    assert_eq!(done["waitingForConsent"], 4);
    let waiting = server.installation(&ids[0]).await["waitingUpgrade"].clone();
    assert_eq!(waiting["deadline"], until.as_str());
    let consent = json!({
        "installationId": ids[0], "consentId": waiting["consentId"], "digest": waiting["digest"],
        "grantedBy": "7",
    });
    server.callback("consent", &consent).await.expect(200);
    let later = job(&server, &id).await;
    assert_eq!((&later["upgraded"], &later["waitingForConsent"]), (&json!(1), &json!(3)));
    let admin = server.admin("org-1").await;
    let notices = server.client.all("/api/v1/notices", &admin).await;
    assert_eq!(notices[0]["kind"], "upgrade.waiting");

    server.advance(Duration::from_hours(1) + Duration::from_secs(1));
    let lapsed = eventually("nobody waits any more", async || {
        let job = job(&server, &id).await;
        (job["waitingForConsent"] == 0).then_some(job)
    })
    .await;
    assert_eq!((&lapsed["upgraded"], &lapsed["lapsed"]), (&json!(1), &json!(3)));
    assert_eq!(serving(&server, &ids[1]).await, "1.0.0");
    assert_eq!(serving(&server, &ids[0]).await, "2.0.0");
    // A second rollout asks anew, and takes over what waits already.
    let first = begin(&server, "2.0.0", &json!({})).await;
    assert_eq!(ended(&server, &first).await["waitingForConsent"], 3);
    let consent = server.installation(&ids[1]).await["waitingUpgrade"]["consentId"].clone();
    let second = begin(&server, "2.0.0", &json!({})).await;
    assert_eq!(ended(&server, &second).await["waitingForConsent"], 3);
    assert_eq!(server.installation(&ids[1]).await["waitingUpgrade"]["consentId"], consent);
}

async fn what_fails_is_told_and_keeps_nobody(backend: Backend) {
    let (server, ids) = start(backend, 25).await;
    let needs = version(&server, "2.0.0").with(|package| {
        package.manifest["config"][0]["mandatory"] = json!(true);
    });
    server.publish(&needs).await.expect(201);
    let configure = json!({ "installationId": ids[24], "config": { "mirrorHost": "a" } });
    server.callback("configure", &configure).await.expect(200);
    let id = begin(&server, "2.0.0", &json!({ "perSecond": 500 })).await;
    let done = ended(&server, &id).await;
    assert_eq!(done["state"], "done");
    assert_eq!(counts(&done), [25, 25, 1, 0, 24, 0]);
    let failures = done["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 20, "a sample");
    for failure in failures {
        let reason = failure["reason"].as_str().expect("a reason");
        assert!(reason.contains("mirrorHost is mandatory"), "{reason}");
    }
    assert_eq!(serving(&server, &ids[0]).await, "1.0.0");
    assert_eq!(serving(&server, &ids[24]).await, "2.0.0");

    // A version that is withdrawn meanwhile goes to nobody more.
    server.publish(&version(&server, "3.0.0")).await.expect(201);
    let id = begin(&server, "3.0.0", &json!({ "perSecond": 1 })).await;
    let withdraw = format!("{PATH}/3.0.0/withdraw");
    server.client.post(&withdraw, &server.operator, &json!({})).await.expect(200);
    let ended = eventually("it ends", async || {
        let job = job(&server, &id).await;
        (job["state"] == "failed").then_some(job)
    })
    .await;
    assert!(ended["reason"].as_str().is_some_and(|why| why.contains("withdrawn")), "{ended}");
    roll_out(&server, "3.0.0", &json!({})).await.refused(409, "STATE_CONFLICT");
}

async fn a_dry_run_and_filters_change_nothing_else(backend: Backend) {
    let (server, ids) = start(backend, 6).await;
    server.publish(&version(&server, "1.1.0")).await.expect(201);
    server.publish(&growing(&server, "2.0.0")).await.expect(201);
    for id in &ids[..2] {
        let body = json!({ "installationId": id, "version": "1.1.0" });
        server.callback("upgrade", &body).await.expect(200);
    }
    let steps = server.texts("select 'x' from transitions").await.len();
    let id = begin(&server, "2.0.0", &json!({ "dryRun": true })).await;
    let done = ended(&server, &id).await;
    assert_eq!((&done["dryRun"], &done["waitingForConsent"]), (&json!(true), &json!(6)));
    let id = begin(&server, "1.1.0", &json!({ "dryRun": true })).await;
    assert_eq!(counts(&ended(&server, &id).await), [6, 6, 4, 2, 0, 0]);
    assert_eq!(server.texts("select 'x' from transitions").await.len(), steps);
    assert!(server.texts("select 'x' from upgrades").await.is_empty());

    let body = json!({ "fromVersions": ["1.0.0"], "orgIds": ["org-1", "org-2", "org-3", "x"] });
    let id = begin(&server, "1.1.0", &body).await;
    let done = ended(&server, &id).await;
    assert_eq!(counts(&done), [2, 2, 2, 0, 0, 0]);
    assert_eq!(done["filter"]["fromVersions"], json!(["1.0.0"]));
    assert_eq!(serving(&server, &ids[2]).await, "1.1.0");
    assert_eq!(serving(&server, &ids[4]).await, "1.0.0");

    for body in [
        json!({ "perSecond": 0 }),
        json!({ "perSecond": 501 }),
        json!({ "updateBefore": "tomorrow" }),
        json!({ "updateBefore": "2020-01-01T00:00:00Z" }),
        json!({ "orgIds": [] }),
        json!({ "orgIds": [""] }),
        json!({ "fromVersions": ["one"] }),
        json!({ "fromVersions": [] }),
        json!({ "colour": "red" }),
    ] {
        roll_out(&server, "1.1.0", &body).await.refused(422, "INVALID_DATA");
    }
    roll_out(&server, "9.9.9", &json!({})).await.refused(404, "RESOURCE_NOT_FOUND");
}

async fn it_is_called_off(backend: Backend) {
    let (server, ids) = start(backend, 6).await;
    server.publish(&version(&server, "2.0.0")).await.expect(201);
    let id = begin(&server, "2.0.0", &json!({ "perSecond": 1 })).await;
    eventually("some had their turn", async || {
        (job(&server, &id).await["processed"].as_i64() >= Some(1)).then_some(())
    })
    .await;
    let refused = roll_out(&server, "2.0.0", &json!({})).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["jobId"], id.as_str());
    let path = format!("/api/v1/jobs/{id}/cancel");
    let marketplace = server.marketplace().await;
    let cancelled = server.client.post(&path, &marketplace, &json!({})).await.expect(200);
    assert_eq!(cancelled.json["state"], "cancelled");
    let processed = cancelled.json["processed"].as_i64().expect("a number");
    assert!((1..6).contains(&processed), "{processed}");
    server.advance(Duration::from_secs(30));
    crate::support::delivery_world::a_while().await;
    let mut moved = 0;
    for id in &ids {
        moved += i64::from(serving(&server, id).await == "2.0.0");
    }
    assert_eq!(moved, processed, "nothing more after the answer");
    assert_eq!(server.client.post(&path, &marketplace, &json!({})).await.expect(200).status, 200);
    let again = begin(&server, "2.0.0", &json!({ "perSecond": 500 })).await;
    let done = ended(&server, &again).await;
    assert_eq!(counts(&done), [6, 6, 6 - processed, processed, 0, 0]);
    let over = format!("/api/v1/jobs/{again}/cancel");
    server.client.post(&over, &marketplace, &json!({})).await.refused(409, "STATE_CONFLICT");
}

async fn another_process_goes_on(backend: Backend) {
    let (server, ids) = start(backend, 12).await;
    server.publish(&version(&server, "2.0.0")).await.expect(201);
    let id = begin(&server, "2.0.0", &json!({ "perSecond": 3 })).await;
    eventually("some had their turn", async || {
        (job(&server, &id).await["processed"].as_i64() >= Some(2)).then_some(())
    })
    .await;
    let server = server.restart().await;
    let before = job(&server, &id).await["processed"].as_i64().expect("a number");
    assert!((2..12).contains(&before), "{before}");
    let done = ended(&server, &id).await;
    assert_eq!((&done["state"], counts(&done)), (&json!("done"), [12, 12, 12, 0, 0, 0]));
    for id in &ids {
        assert_eq!(upgrades(&server, id).await, 1);
    }
}

async fn who_comes_and_goes_meanwhile_is_right(backend: Backend) {
    let (server, ids) = start(backend, 5).await;
    server.publish(&version(&server, "2.0.0")).await.expect(201);
    let id = begin(&server, "2.0.0", &json!({ "perSecond": 2 })).await;
    eventually("some had their turn", async || {
        (job(&server, &id).await["processed"].as_i64() >= Some(1)).then_some(())
    })
    .await;
    let late = install(&server, "late", "1.0.0").await;
    server.callback("uninstall", &json!({ "installationId": ids[4] })).await.expect(200);
    let done = ended(&server, &id).await;
    assert_eq!(serving(&server, &late).await, "2.0.0");
    assert_eq!(server.installation(&ids[4]).await["state"], "uninstalled");
    assert_eq!(serving(&server, &ids[4]).await, "1.0.0");
    let [total, processed, upgraded, _, failed, _] = counts(&done);
    assert_eq!((upgraded, failed), (5, 0), "{done}");
    assert_eq!(total, processed);
}

async fn only_those_who_may_see_and_ask(backend: Backend) {
    let (server, _) = start(backend, 1).await;
    server.publish(&version(&server, "2.0.0")).await.expect(201);
    server.publish(&version(&server, "1.0.0").key("other").vendor("other")).await.expect(201);
    let path = format!("{PATH}/2.0.0/rollout");
    let stranger = server.vendor_token("other").await;
    let refused = server.client.post(&path, &stranger, &json!({})).await;
    refused.refused(404, "RESOURCE_NOT_FOUND");
    let (admin, viewer) = (server.admin("org-0").await, server.viewer("org-0").await);
    for token in [&admin, &viewer, &server.host().await] {
        server.client.post(&path, token, &json!({})).await.refused(403, "FORBIDDEN");
    }
    let key = ("Idempotency-Key", "one-rollout");
    let ask = async || {
        let request = server.client.request(reqwest::Method::POST, &path, &server.operator);
        server.client.send(request.header(key.0, key.1).json(&json!({}))).await.expect(202)
    };
    let first = ask().await;
    assert_eq!(ask().await.json, first.json);
    let job = format!("/api/v1/jobs/{}", first.text_of("jobId"));
    let cancel = format!("{job}/cancel");
    for token in [&stranger, &admin, &viewer] {
        server.client.get(&job, token).await.refused(404, "RESOURCE_NOT_FOUND");
        assert!(server.client.all("/api/v1/jobs", token).await.is_empty());
    }
    for token in [&stranger, &admin] {
        let refused = server.client.post(&cancel, token, &json!({})).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    server.client.post(&cancel, &viewer, &json!({})).await.refused(403, "FORBIDDEN");
    for token in [&server.vendor_token("acme").await, &server.marketplace().await] {
        server.client.get(&job, token).await.expect(200);
        assert_eq!(server.client.all("/api/v1/jobs", token).await.len(), 1);
    }
    ended(&server, &first.text_of("jobId")).await;
}
