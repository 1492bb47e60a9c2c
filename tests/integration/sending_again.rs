//! Sending many again, and bringing a webhook back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mortise::development::{Behaviour, Received};
use mortise::seam::{Clock, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::delivery_world::{HOOK, World, a_while, assert_all_there, ticket, tickets};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, Settings, eventually};

on_both!(
    recover_sends_what_failed_again_and_counts_all_of_it,
    a_job_is_paced_and_can_be_called_off,
    a_job_goes_on_after_a_restart,
    a_job_ends_with_the_installation,
    a_webhook_comes_back_with_what_was_held,
    a_webhook_comes_back_without_what_was_held,
    ordered_webhooks_keep_their_order_over_a_release,
    a_webhook_that_fails_for_too_long_is_disabled,
    what_is_suspended_says_so,
    nobody_reaches_what_is_not_theirs,
);

fn quick(settings: &mut Settings) {
    settings.set("delivery.schedule", "1s");
    settings.set("delivery.breaker.failures", "10000");
    settings.set("delivery.breaker.volume", "1000000");
}

async fn world(backend: Backend) -> World {
    World::with(backend, quick, |_| {}).await
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

async fn post_all(world: &World, names: &[String]) {
    let many: Vec<_> = names.iter().map(|name| ticket(ORG, name)).collect();
    world.post(&json!(many)).await.expect(202);
}

async fn wait_for(world: &World, state: &str, count: usize) {
    eventually(&format!("{count} are {state}"), async || {
        (world.deliveries(&format!("&state={state}")).await.len() == count).then_some(())
    })
    .await;
}

/// Posts events whose deliveries fail for good.
async fn fail(world: &World, names: &[String]) {
    let before = world.deliveries("&state=failed").await.len();
    world.server.vendor.behave(HOOK, Behaviour::status(500));
    post_all(world, names).await;
    for name in names {
        world.attempted(name, 1).await;
    }
    world.server.advance(Duration::from_secs(2));
    wait_for(world, "failed", before + names.len()).await;
    world.server.vendor.behave(HOOK, Behaviour::status(200));
}

async fn recover(world: &World, token: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/webhooks/{}/recover", world.webhook);
    world.server.client.post(&path, token, body).await
}

async fn reactivate(world: &World, release: bool) -> Answer {
    let path = format!("/api/v1/webhooks/{}/reactivate", world.webhook);
    let body = json!({ "release": release });
    world.server.client.post(&path, &world.server.operator, &body).await
}

async fn job(world: &World, id: &str) -> Value {
    let path = format!("/api/v1/jobs/{id}");
    world.server.client.get(&path, &world.server.operator).await.expect(200).json
}

async fn ended(world: &World, id: &str) -> Value {
    eventually("the job ends", async || {
        let job = job(world, id).await;
        (!["queued", "running"].contains(&job["state"].as_str().unwrap_or_default())).then_some(job)
    })
    .await
}

/// Moves the clock along while a paced job works.
async fn hurry(world: &World, is_done: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if is_done().await {
            return;
        }
        world.server.advance(Duration::from_millis(500));
        Clock::default().sleep(Duration::from_millis(20)).await;
    }
    panic!("it takes too long");
}

fn long_ago() -> String {
    Timestamp::from_millis(1_000).rfc3339()
}

async fn recover_sends_what_failed_again_and_counts_all_of_it(backend: Backend) {
    let world = world(backend).await;
    let server = &world.server;
    let failed = names("failed", 25);
    fail(&world, &failed).await;
    world.ticket("fine").await;
    world.in_state("fine", "delivered").await;
    let before = server.vendor.received_at(HOOK).len();
    let vendor = server.vendor_token("acme").await;
    let path = format!("/api/v1/webhooks/{}/recover", world.webhook);
    let send = async || {
        let request = server.client.request(Method::POST, &path, &vendor);
        let request =
            request.header("Idempotency-Key", "once").json(&json!({ "since": long_ago() }));
        server.client.send(request).await.expect(202)
    };
    let (answer, again) = (send().await, send().await);
    assert_eq!(answer.json, again.json, "a repeat begins no second job");
    let started = answer.json;
    assert_eq!((&started["state"], &started["total"]), (&json!("queued"), &Value::Null));
    assert_eq!(started["filter"]["state"], "failed");
    assert!(started["createdBy"].as_str().expect("it is there").starts_with("vendor:"));
    let id = started["jobId"].as_str().expect("it is there");
    let done = ended(&world, id).await;
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(
        (&done["requeued"], &done["processed"], &done["total"], &done["skipped"]),
        (&json!(25), &json!(26), &json!(26), &json!({})),
        "{done}"
    );
    assert!(done["startedAt"].is_string() && done["finishedAt"].is_string());
    wait_for(&world, "delivered", 26).await;
    let arrived = &server.vendor.received_at(HOOK)[before..];
    assert_eq!(arrived.len(), 25);
    assert_all_there(arrived, &failed);
    assert!(arrived.iter().all(|received| received.header("x-mortise-replay") == Some("true")));
    let ids = |received: &[Arc<Received>]| -> BTreeSet<String> {
        received.iter().filter_map(|r| r.header("webhook-id").map(str::to_owned)).collect()
    };
    let first: BTreeSet<_> = ids(&server.vendor.received_at(HOOK)[..before]);
    assert!(ids(arrived).is_subset(&first), "they keep their ids");

    // By filter: of one type, of one status, until a moment.
    let comment = json!({ "eventId": "c", "eventType": "Ticket_Comment_Add", "orgId": ORG,
                          "payload": { "id": "c" } });
    server.vendor.behave(HOOK, Behaviour::status(503));
    assert_eq!(world.fans_out(&comment).await, 1);
    world.attempted("c", 1).await;
    server.advance(Duration::from_secs(2));
    world.in_state("c", "failed").await;
    fail(&world, &names("other", 2)).await;
    for (filter, expected) in [
        (json!({ "since": long_ago(), "eventType": "Ticket_Delete" }), 0),
        (json!({ "since": long_ago(), "statusCode": 404 }), 0),
        (json!({ "since": long_ago(), "until": Timestamp::from_millis(9_000).rfc3339() }), 0),
        (json!({ "since": long_ago(), "eventType": "Ticket_Comment_Add", "statusCode": 503 }), 1),
        (json!({ "since": long_ago(), "state": "delivered", "perSecond": 50 }), 27),
    ] {
        let answer = recover(&world, &vendor, &filter).await.expect(202);
        let done = ended(&world, &answer.text_of("jobId")).await;
        assert_eq!(
            (&done["state"], &done["requeued"]),
            (&json!("done"), &json!(expected)),
            "{filter}"
        );
        wait_for(&world, "pending", 0).await;
    }
    assert_eq!(world.deliveries("&state=failed").await.len(), 2);
    let path = format!("/api/v1/jobs?webhookId={}&state=done", world.webhook);
    assert_eq!(server.client.all(&format!("{path}&limit=2"), &vendor).await.len(), 6);
    for faulty in [
        json!({}),
        json!({ "since": "yesterday" }),
        json!({ "since": long_ago(), "state": "lost" }),
        json!({ "since": long_ago(), "eventType": "Ticket_Ad" }),
        json!({ "since": long_ago(), "perSecond": 101 }),
        json!({ "since": long_ago(), "perSecond": 0 }),
        json!({ "since": long_ago(), "until": long_ago() }),
        json!({ "since": long_ago(), "statusCode": 7 }),
        json!({ "since": long_ago(), "unknown": 1 }),
    ] {
        recover(&world, &vendor, &faulty).await.refused(422, "INVALID_DATA");
    }
    let audit = server.texts("select action from audit where action = 'webhook.recover'").await;
    assert_eq!(audit.len(), 6);
}

async fn a_job_is_paced_and_can_be_called_off(backend: Backend) {
    let world = world(backend).await;
    let server = &world.server;
    fail(&world, &names("f", 20)).await;
    let before = server.vendor.received_at(HOOK).len();
    let body = json!({ "since": long_ago(), "perSecond": 1 });
    let token = &server.operator;
    let first = recover(&world, token, &body).await.expect(202).text_of("jobId");
    let refused = recover(&world, token, &body).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["jobId"], first.as_str(), "it names the one that runs");
    assert_eq!(reactivate(&world, true).await.status, 409);
    eventually("it has begun", async || {
        (job(&world, &first).await["requeued"].as_i64() >= Some(1)).then_some(())
    })
    .await;
    a_while().await;
    let running = job(&world, &first).await;
    assert_eq!(running["state"], "running", "{running}");
    assert!(running["requeued"].as_i64() <= Some(4), "one a second: {running}");
    let cancel = format!("/api/v1/jobs/{first}/cancel");
    let cancelled = server.client.post(&cancel, token, &json!({})).await.expect(200);
    assert_eq!(cancelled.json["state"], "cancelled");
    let requeued = cancelled.json["requeued"].as_u64().expect("a number");
    server.advance(Duration::from_mins(1));
    a_while().await;
    let still = job(&world, &first).await;
    assert_eq!((&still["state"], &still["requeued"]), (&json!("cancelled"), &json!(requeued)));
    let arrived = server.vendor.received_at(HOOK).len() - before;
    assert_eq!(arrived as u64, requeued, "nothing more goes out");
    assert_eq!(world.deliveries("&state=failed").await.len() as u64, 20 - requeued);
    server.client.post(&cancel, token, &json!({})).await.expect(200);
    let second = recover(&world, token, &json!({ "since": long_ago() })).await.expect(202);
    let done = ended(&world, &second.text_of("jobId")).await;
    assert_eq!(done["requeued"].as_u64(), Some(20 - requeued));
    let late = format!("/api/v1/jobs/{}/cancel", second.text_of("jobId"));
    server.client.post(&late, token, &json!({})).await.refused(409, "STATE_CONFLICT");
    // Filed under what it is about, so that it is erased with the installation.
    let filed = server.texts("select subject from audit where action = 'job.cancel'").await;
    assert_eq!(filed, [format!("webhook:{}", world.webhook)]);
    let id = &world.installation.id;
    let body = json!({ "installationId": id, "eraseData": true });
    server.callback("uninstall", &body).await.expect(200);
    eventually("what is kept of it is erased", async || {
        server.advance(Duration::from_mins(2));
        let path = format!("/api/v1/installations/{id}/erasure");
        let report = server.client.get(&path, token).await.expect(200).json;
        (report["state"] == "done").then_some(())
    })
    .await;
    let kept = "select actor from audit where action = 'job.cancel' and salt is not null";
    assert!(server.texts(kept).await.is_empty(), "who called it off is forgotten");
}

async fn a_job_goes_on_after_a_restart(backend: Backend) {
    let world = world(backend).await;
    fail(&world, &names("f", 30)).await;
    let before = world.server.vendor.received_at(HOOK).len();
    let body = json!({ "since": long_ago(), "perSecond": 4 });
    let id = recover(&world, &world.server.operator, &body).await.expect(202).text_of("jobId");
    eventually("it has begun", async || {
        (job(&world, &id).await["requeued"].as_i64() >= Some(2)).then_some(())
    })
    .await;
    let World { server, host, installation, webhook } = world;
    let server = server.restart().await;
    let world = World { server, host, installation, webhook };
    hurry(&world, async || job(&world, &id).await["state"] == "done").await;
    let done = job(&world, &id).await;
    assert_eq!((&done["requeued"], &done["processed"]), (&json!(30), &json!(30)), "{done}");
    wait_for(&world, "delivered", 30).await;
    let arrived = world.server.vendor.received_at(HOOK).len() - before;
    assert_eq!(arrived, 30, "each once");
}

async fn a_job_ends_with_the_installation(backend: Backend) {
    let world = world(backend).await;
    let server = &world.server;
    fail(&world, &names("f", 20)).await;
    let body = json!({ "since": long_ago(), "perSecond": 1 });
    let id = recover(&world, &server.operator, &body).await.expect(202).text_of("jobId");
    eventually("it has begun", async || {
        (job(&world, &id).await["requeued"].as_i64() >= Some(1)).then_some(())
    })
    .await;
    let gone = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &gone).await.expect(200);
    let answered = Clock::default().instant();
    server.advance(Duration::from_mins(5));
    let end = ended(&world, &id).await;
    assert_eq!(end["state"], "failed");
    assert!(end["reason"].as_str().expect("a reason").contains("no more"), "{end}");
    a_while().await;
    let arrived = server.vendor.received_at(HOOK);
    assert!(arrived.iter().all(|received| received.instant <= answered), "nothing begins after");
    assert!(world.deliveries("&state=pending").await.is_empty());
    recover(&world, &server.operator, &body).await.refused(404, "RESOURCE_NOT_FOUND");
}

/// Makes the webhook gone, with so many held deliveries beside the one that was refused.
async fn gone_with(world: &World, refused: &str, held: &[String]) {
    world.server.vendor.behave(HOOK, Behaviour::status(410));
    world.ticket(refused).await;
    world.in_state(refused, "held").await;
    world.health("gone").await;
    world.server.vendor.behave(HOOK, Behaviour::status(200));
    post_all(world, held).await;
    wait_for(world, "held", held.len() + 1).await;
}

async fn a_webhook_comes_back_with_what_was_held(backend: Backend) {
    let world = world(backend).await;
    let server = &world.server;
    let held = names("h", 30);
    gone_with(&world, "gone", &held).await;
    let path = format!("/api/v1/webhooks/{}/recover", world.webhook);
    let body = json!({ "since": long_ago(), "state": "held" });
    server.client.post(&path, &server.operator, &body).await.refused(409, "STATE_CONFLICT");
    let one = world.in_state(&held[0], "held").await;
    let retry = format!("/api/v1/deliveries/{}/retry", one["id"].as_str().expect("an id"));
    let refused = server.client.post(&retry, &server.operator, &json!({})).await;
    assert!(refused.refused(409, "STATE_CONFLICT").text.contains("reactivate"));
    let answer = reactivate(&world, true).await.expect(200);
    assert_eq!((&answer.json["from"], &answer.json["health"]), (&json!("gone"), &json!("ok")));
    let id = answer.json["job"]["jobId"].as_str().expect("a job").to_owned();
    assert_eq!(answer.json["job"]["kind"], "release");
    let done = ended(&world, &id).await;
    assert_eq!((&done["state"], &done["requeued"]), (&json!("done"), &json!(31)), "{done}");
    wait_for(&world, "delivered", 31).await;
    assert_all_there(&server.vendor.received_at(HOOK), &held);
    world.health("ok").await;
    let again = reactivate(&world, false).await.expect(200);
    assert_eq!((&again.json["from"], &again.json["stillHeld"]), (&json!("ok"), &json!(0)));
    let actions =
        server.texts("select action from audit where action = 'webhook.reactivate'").await;
    assert_eq!(actions.len(), 2);
}

async fn a_webhook_comes_back_without_what_was_held(backend: Backend) {
    let world = world(backend).await;
    let server = &world.server;
    let held = names("h", 5);
    gone_with(&world, "gone", &held).await;
    let answer = reactivate(&world, false).await.expect(200);
    assert_eq!((&answer.json["job"], &answer.json["stillHeld"]), (&Value::Null, &json!(6)));
    world.ticket("new").await;
    world.in_state("new", "delivered").await;
    a_while().await;
    a_while().await;
    assert_eq!(world.deliveries("&state=held").await.len(), 6, "what was held stays held");
    assert_eq!(tickets(&server.vendor.received_at(HOOK)), ["gone", "new"]);
    // Through a suspension too.
    let suspend = json!({ "reason": "a test" });
    for what in ["suspend", "resume"] {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        server.client.post(&path, &server.operator, &suspend).await.expect(200);
        a_while().await;
    }
    assert_eq!(world.deliveries("&state=held").await.len(), 6);
    // And where the time of day is set back: what is due at no time is brought forward to none.
    server.seam.clock.set_back(Duration::from_secs(20));
    a_while().await;
    let due = server.texts("select cast(due_at as text) from deliveries where state = 1").await;
    assert!(due.iter().all(|due| due == "9223372036854775806"), "{due:?}");
    server.seam.clock.set_forward(Duration::from_secs(20));
    // Until somebody asks for it: one, then the rest.
    let one = world.in_state(&held[3], "held").await;
    let retry = format!("/api/v1/deliveries/{}/retry", one["id"].as_str().expect("an id"));
    server.client.post(&retry, &server.operator, &json!({})).await.expect(200);
    world.in_state(&held[3], "delivered").await;
    let body = json!({ "since": long_ago(), "state": "held" });
    let id = recover(&world, &server.operator, &body).await.expect(202).text_of("jobId");
    assert_eq!(ended(&world, &id).await["requeued"], 5);
    wait_for(&world, "delivered", 7).await;
}

async fn ordered_webhooks_keep_their_order_over_a_release(backend: Backend) {
    let world = World::with(backend, quick, |package| {
        package.resources["webhook"]["mortise"] = json!({ "ordered": true });
    })
    .await;
    let held = names("h", 12);
    gone_with(&world, "gone", &held).await;
    let answer = reactivate(&world, true).await.expect(200);
    world.ticket("afterwards").await;
    ended(&world, answer.json["job"]["jobId"].as_str().expect("a job")).await;
    wait_for(&world, "delivered", 14).await;
    let arrived = tickets(&world.server.vendor.received_at(HOOK));
    let expected: Vec<String> = ["gone".to_owned(), "gone".to_owned()]
        .into_iter()
        .chain(held)
        .chain(["afterwards".to_owned()])
        .collect();
    assert_eq!(arrived, expected);
    // What stays held does not hold up what comes.
    gone_with(&world, "gone-again", &names("left", 2)).await;
    reactivate(&world, false).await.expect(200);
    world.ticket("next").await;
    world.in_state("next", "delivered").await;
}

async fn a_webhook_that_fails_for_too_long_is_disabled(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            quick(settings);
            settings.set("delivery.disable_after", "2h");
        },
        |_| {},
    )
    .await;
    let server = &world.server;
    fail(&world, &names("first", 1)).await;
    world.health("failing").await;
    let health = world.webhook().await["health"].clone();
    assert!(health["since"].is_string() && health["reason"].is_string(), "{health}");
    assert!(
        health["lastError"].as_str().expect("an error").starts_with("answered 500"),
        "{health}"
    );
    assert_eq!(health["consecutiveFailures"], 2, "{health}");
    // Silence is no failure.
    server.advance(Duration::from_hours(3));
    a_while().await;
    world.health("failing").await;
    fail(&world, &names("second", 1)).await;
    hurry(&world, async || {
        server.advance(Duration::from_secs(10));
        world.webhook().await["health"]["state"] == "disabled"
    })
    .await;
    server.vendor.behave(HOOK, Behaviour::status(200));
    world.ticket("held").await;
    world.in_state("held", "held").await;
    let audit = server.texts("select subject from audit where action = 'webhook.disable'").await;
    assert_eq!(audit, [format!("webhook:{}", world.webhook)]);
    let admin = server.admin(ORG).await;
    let kinds = async || -> Vec<(String, bool)> {
        let notices = server.client.all("/api/v1/notices", &admin).await;
        let mut kinds: Vec<_> = notices
            .iter()
            .map(|n| {
                (n["kind"].as_str().unwrap_or_default().to_owned(), n["resolvedTime"].is_string())
            })
            .collect();
        kinds.sort();
        kinds
    };
    let open = |kind: &str| (kind.to_owned(), false);
    assert_eq!(kinds().await, [open("webhook.disabled"), open("webhook.failing")]);
    reactivate(&world, true).await.expect(200);
    world.in_state("held", "delivered").await;
    assert!(kinds().await.iter().all(|(_, resolved)| *resolved));
    // A success is seen without a change of health.
    hurry(&world, async || {
        server.advance(Duration::from_secs(10));
        let health = world.webhook().await["health"].clone();
        health["lastSuccessAt"].is_string() && health["consecutiveFailures"] == 0
    })
    .await;
}

async fn what_is_suspended_says_so(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("later").await;
    let pending = world.attempted("later", 1).await;
    assert_eq!(pending["state"], "pending");
    let reason = json!({ "reason": "a test" });
    let switch = async |what: &str| {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        server.client.post(&path, &server.operator, &reason).await.expect(200);
    };
    switch("suspend").await;
    // It is not due for a minute, and yet it is held at once.
    let held = world.in_state("later", "held").await;
    assert_eq!(held["nextAttemptTime"], Value::Null);
    let retry = format!("/api/v1/deliveries/{}/retry", held["id"].as_str().expect("an id"));
    let refused = server.client.post(&retry, &server.operator, &json!({})).await;
    assert!(refused.refused(409, "STATE_CONFLICT").text.contains("suspended"));
    recover(&world, &server.operator, &json!({ "since": long_ago() }))
        .await
        .refused(409, "STATE_CONFLICT");
    assert_eq!(reactivate(&world, false).await.status, 409);
    server.vendor.behave(HOOK, Behaviour::status(200));
    switch("resume").await;
    world.in_state("later", "delivered").await;
}

async fn nobody_reaches_what_is_not_theirs(backend: Backend) {
    let world = world(backend).await;
    let server = &world.server;
    fail(&world, &names("f", 1)).await;
    world.health("failing").await;
    let job = recover(&world, &server.operator, &json!({ "since": long_ago() })).await.expect(202);
    let job = job.text_of("jobId");
    let notices = server.client.all("/api/v1/notices", &server.operator).await;
    let notice = notices[0]["id"].as_str().expect("a notice").to_owned();
    let strangers = [server.admin("other-org").await, server.vendor_token("others").await];
    let hook = format!("/api/v1/webhooks/{}", world.webhook);
    for stranger in &strangers {
        for (path, body) in [
            (format!("{hook}/recover"), json!({ "since": long_ago() })),
            (format!("{hook}/reactivate"), json!({ "release": true })),
            (format!("{hook}/ping"), json!({})),
            (format!("{hook}/test"), json!({ "eventType": "Ticket_Add" })),
            (format!("/api/v1/jobs/{job}/cancel"), json!({})),
            (format!("/api/v1/notices/{notice}/dismiss"), json!({})),
        ] {
            server.client.post(&path, stranger, &body).await.refused(404, "RESOURCE_NOT_FOUND");
        }
        assert_eq!(server.client.get(&format!("/api/v1/jobs/{job}"), stranger).await.status, 404);
        assert!(server.client.all("/api/v1/jobs", stranger).await.is_empty());
        assert!(server.client.all("/api/v1/notices", stranger).await.is_empty());
    }
    // The org's own administrator sees all of it and changes none, whatever the body.
    let admin = server.admin(ORG).await;
    assert_eq!(server.client.get(&format!("/api/v1/jobs/{job}"), &admin).await.status, 200);
    assert_eq!(server.client.all("/api/v1/jobs", &admin).await.len(), 1);
    for path in [
        format!("{hook}/recover"),
        format!("{hook}/reactivate"),
        format!("{hook}/ping"),
        format!("{hook}/test"),
        format!("/api/v1/jobs/{job}/cancel"),
    ] {
        let request = server.client.request(Method::POST, &path, &admin).body("no JSON at all");
        let refused = server.client.send(request).await.refused(403, "FORBIDDEN");
        assert_eq!(refused.json["lockedBy"]["extensionKey"], "ticket-mirror", "{path}");
        assert_eq!(refused.json["lockedBy"]["installationId"], world.installation.id.as_str());
    }
    let viewer = server.viewer(ORG).await;
    assert!(!server.client.all("/api/v1/notices", &viewer).await.is_empty());
    let dismiss = format!("/api/v1/notices/{notice}/dismiss");
    assert_eq!(server.client.post(&dismiss, &viewer, &json!({})).await.status, 403);
}
