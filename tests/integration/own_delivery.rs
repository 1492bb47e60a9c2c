//! Deliveries of own webhooks: what they are for, how they look, and what becomes of them.

use std::time::Duration;

use mortise::crypto::{Signer, SigningSecret};
use mortise::development::{Behaviour, Received};
use serde_json::{Value, json};

use crate::support::delivery_world::a_while;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS, event};
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    an_event_arrives_in_the_desk_dialect,
    subscriptions_narrow_and_the_refusal_is_told,
    a_dialect_tells_events_by_its_own_names,
    dzdesk_gives_up_what_the_receiver_calls_a_bad_request,
    what_fails_is_retried_and_sent_again_by_the_administrator,
    what_comes_while_off_is_dropped_or_queued,
    what_was_queued_is_released_in_order_or_discarded,
    a_queue_has_an_age_and_a_length,
    a_gone_webhook_is_reactivated_by_its_administrator,
    pings_and_tests_show_both_sides,
    what_is_not_saved_is_tested_as_it_would_be_sent,
    secrets_outlive_a_rotation_of_the_data_key,
);

const SECRET: &str = "a secret that is known here";

fn signed(received: &Received, secret: &str) -> bool {
    let secret = SigningSecret::from_chosen_bytes(secret.as_bytes()).expect("a secret");
    let signer = Signer::new([&secret]).expect("a signer");
    let header = |name: &str| received.header(name).expect("the header is there");
    let timestamp = header("webhook-timestamp").parse().expect("a number");
    signer.sign(header("webhook-id"), timestamp, &[&received.body]) == header("webhook-signature")
}

async fn an_event_arrives_in_the_desk_dialect(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world
        .make("/own", json!({ "secret": SECRET, "dialect": "desk", "headers": { "X-Team": "a" },
            "url": world.server.vendor.url("/own?key=1"),
            "subscriptions": { "Ticket_Update": { "includePrevState": true }, "Ticket_Add": null } }))
        .await;
    world.server.vendor.forget();
    let server = &world.server;
    let lags = async || {
        let told = server.client.get("/metrics", &server.operator).await.expect(200).text;
        let line = told.lines().find(|line| line.starts_with("mortise_delivery_lag_seconds_count"));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok()).expect("a number")
    };
    let lags_before = lags().await;
    let update = json!({
        "eventId": "one", "eventType": "Ticket_Update", "orgId": ORG, "eventTime": 1_700_000_000_123_i64,
        "payload": { "id": "1", "status": "Closed" }, "prevState": { "id": "1", "status": "Open" },
    });
    assert_eq!(world.fans_out(&update).await, 1);
    let received = world.arrived("/own", 1).await.remove(0);
    assert!(lags().await > lags_before, "an own webhook's events have a lag too");
    assert_eq!(received.method, "POST");
    assert_eq!(received.parameters(), [("key".to_owned(), "1".to_owned())], "nothing is added");
    assert_eq!(
        received.json().expect("JSON"),
        json!([{ "payload": { "id": "1", "status": "Closed" }, "eventTime": "1700000000123",
            "eventType": "Ticket_Update", "orgId": ORG, "prevState": { "id": "1", "status": "Open" } }])
    );
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.header("x-team"), Some("a"));
    assert!(received.header("x-zdesk-jwt").is_some());
    assert!(signed(&received, SECRET));
    let delivery = world.settled(&id, "delivered", 1).await.remove(0);
    assert_eq!(delivery["id"], received.header("webhook-id").expect("an id"));
    assert_eq!(delivery["attempts"][0]["status"], 200);
    assert!(delivery.get("eventName").is_none());
    // Without being asked for, what was before is not sent.
    let add = json!({
        "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "2" }, "prevState": { "id": "2" },
    });
    assert_eq!(world.fans_out(&add).await, 1);
    let received = world.arrived("/own", 2).await.remove(1);
    assert!(received.json().expect("JSON")[0].get("prevState").is_none());
}

async fn subscriptions_narrow_and_the_refusal_is_told(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world
        .make(
            "/own",
            json!({ "subscriptions": {
                "Ticket_Add": { "departmentIds": ["7", "8"] },
                "Ticket_Update": { "fields": ["status", "cf_a"] },
                "Ticket_Thread_Add": { "direction": "in" },
            } }),
        )
        .await;
    let source = world.read(&id).await["ignoreSourceId"].as_str().expect("a source").to_owned();
    let with = |name: &str, event_type: &str, more: Value| {
        let mut event = event(event_type, name);
        for (member, value) in more.as_object().expect("members") {
            event[member] = value.clone();
        }
        event
    };
    for (event, rule) in [
        (with("d7", "Ticket_Add", json!({ "departmentId": "7" })), None),
        (with("d9", "Ticket_Add", json!({ "departmentId": "9" })), Some("departmentIds")),
        (with("d0", "Ticket_Add", json!({})), None),
        (with("src", "Ticket_Add", json!({ "sourceId": source })), Some("ignoreSourceId")),
        (with("auto", "Ticket_Add", json!({ "origin": "AUTOMATION" })), Some("includeEventsFrom")),
        (
            with(
                "same",
                "Ticket_Update",
                json!({ "payload": { "status": "Open", "x": 1 }, "prevState": { "status": "Open" } }),
            ),
            Some("fields"),
        ),
        (
            with(
                "cf",
                "Ticket_Update",
                json!({ "payload": { "cf": { "cf_a": "1" } }, "prevState": { "cf": { "cf_a": "2" } } }),
            ),
            None,
        ),
        (with("in", "Ticket_Thread_Add", json!({ "payload": { "direction": "in" } })), None),
        (
            with("out", "Ticket_Thread_Add", json!({ "payload": { "direction": "out" } })),
            Some("direction"),
        ),
        (with("not", "Contact_Add", json!({})), Some("subscriptions")),
    ] {
        let name = event["eventId"].as_str().expect("a name").to_owned();
        assert_eq!(world.fans_out(&event).await, u64::from(rule.is_none()), "{name}");
        let verdict = world.verdict(&name, &id).await;
        assert_eq!(verdict["matched"], rule.is_none(), "{name}: {verdict}");
        assert_eq!(verdict["rule"], json!(rule), "{name}: {verdict}");
        // The same of one that is only made up.
        let told = world.act(&id, "/explain", &json!({ "event": event })).await.expect(200);
        assert_eq!(told.json["rule"], json!(rule), "{name}: {}", told.text);
    }
    world.patch(&id, &json!({ "isEnabled": false })).await.expect(200);
    assert_eq!(world.fans_out(&event("Ticket_Add", "off")).await, 0);
    assert_eq!(world.verdict("off", &id).await["rule"], "isEnabled");
}

async fn a_dialect_tells_events_by_its_own_names(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let subscriptions = json!({
        "request.created": null, "request.updated": null, "request.status_changed": null,
        "sla.warning": null,
    });
    let id = world
        .make(
            "/dz",
            json!({ "dialect": "dzdesk", "secret": SECRET, "subscriptions": subscriptions }),
        )
        .await;
    let update = json!({
        "eventId": "changed", "eventType": "Ticket_Update", "orgId": ORG,
        "payload": { "id": "1", "status": "Closed" }, "prevState": { "id": "1", "status": "Open" },
        "actor": { "id": "usr_1", "email": "jane@company.example" },
    });
    assert_eq!(world.fans_out(&update).await, 2);
    let names = |received: &[std::sync::Arc<Received>]| {
        let mut names: Vec<String> = received
            .iter()
            .map(|one| one.json().expect("JSON")["event"].as_str().expect("a name").to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    let received = world.arrived("/dz", 2).await;
    assert_eq!(names(&received), ["request.status_changed", "request.updated"]);
    for one in &received {
        let signature = one.header("x-dzdesk-signature").expect("a signature");
        let expected = mortise::development::hash_of(SECRET, &one.body);
        assert_eq!(signature, format!("sha256={expected}"));
    }
    // They are found by what they were told as, and by the host's name.
    for (name, count) in [("request.updated", 1), ("request.created", 0), ("Ticket_Update", 2)] {
        let path = format!("/api/v1/deliveries?eventType={name}");
        let found = world.server.client.all(&path, &world.admin).await;
        assert_eq!(found.len(), count, "{name}");
        assert!(count != 1 || found[0]["eventName"] == name, "{found:?}");
    }
    let deliveries = world.settled(&id, "delivered", 2).await;
    let mut told: Vec<_> =
        deliveries.iter().map(|one| one["eventName"].as_str().expect("a name")).collect();
    told.sort_unstable();
    assert_eq!(told, ["request.status_changed", "request.updated"]);
    // An event that only this dialect knows.
    let warning = json!({
        "eventId": "sla", "eventType": "sla.warning", "orgId": ORG,
        "payload": { "requestId": "1", "slaType": "resolution" },
    });
    assert_eq!(world.fans_out(&warning).await, 1);
    assert_eq!(names(&world.arrived("/dz", 3).await[2..]), ["sla.warning"]);
    // What was not subscribed to is told under its names.
    let other = json!({ "eventId": "gone", "eventType": "Ticket_Delete", "orgId": ORG, "payload": { "id": "1" } });
    assert_eq!(world.fans_out(&other).await, 0);
    assert_eq!(world.verdict("gone", &id).await["rule"], "subscriptions");
    let unknown = json!({ "dialect": "dzdesk", "subscriptions": { "request.create": null } });
    let refused = world.try_make("/dz", &unknown).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["suggestion"], "request.created");
    // Retries read the name back from the table.
    world.server.vendor.behave("/dz", Behaviour::status(500));
    let add = event("Ticket_Add", "again");
    assert_eq!(world.fans_out(&add).await, 1);
    world.arrived("/dz", 4).await;
    world.server.vendor.behave("/dz", Behaviour::status(200));
    eventually("the first attempt is kept", async || {
        let all = world.deliveries(&id).await;
        (all[0]["attemptsMade"] == 1).then_some(())
    })
    .await;
    world.server.advance(Duration::from_secs(90));
    let received = world.arrived("/dz", 5).await;
    assert_eq!(names(&received[4..]), ["request.created"]);
    world.settled(&id, "delivered", 4).await;
}

async fn dzdesk_gives_up_what_the_receiver_calls_a_bad_request(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world
        .make("/dz", json!({ "dialect": "dzdesk", "subscriptions": { "request.created": null } }))
        .await;
    let read = world.read(&id).await;
    assert_eq!(read["delivery"]["deadlineSeconds"], 5);
    assert_eq!(read["delivery"]["schedule"], json!([60, 300, 1800, 7200]));
    world.server.vendor.behave("/dz", Behaviour::status(422));
    assert_eq!(world.fans_out(&event("Ticket_Add", "bad")).await, 1);
    let failed = world.settled(&id, "failed", 1).await.remove(0);
    assert_eq!(failed["attemptsMade"], 1);
    eventually("it is marked as failing", async || {
        (world.read(&id).await["health"]["state"] == "failing").then_some(())
    })
    .await;
    let notices = world.notices("webhook.failing").await;
    assert_eq!(notices[0]["webhookId"], id.as_str());
    // Manual retry.
    world.server.vendor.behave("/dz", Behaviour::status(200));
    let path = format!("/api/v1/deliveries/{}/retry", failed["id"].as_str().expect("an id"));
    world.server.client.post(&path, &world.admin, &json!({})).await.expect(200);
    world.settled(&id, "delivered", 1).await;
    let received = world.arrived("/dz", 2).await;
    assert_eq!(received[1].header("x-mortise-replay"), Some("true"));
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
}

async fn what_fails_is_retried_and_sent_again_by_the_administrator(backend: Backend) {
    let world = OwnWorld::with(backend, |s| s.set("delivery.schedule", "1s")).await;
    let id = world.make("/own", json!({})).await;
    world.server.vendor.forget();
    world.server.vendor.behave("/own", Behaviour::status(500));
    let since = world.server.seam.clock.now().rfc3339();
    for name in ["a", "b", "c"] {
        world.fans_out(&event("Ticket_Add", name)).await;
    }
    world.arrived("/own", 3).await;
    world.server.advance(Duration::from_secs(2));
    world.settled(&id, "failed", 3).await;
    world.server.vendor.behave("/own", Behaviour::status(200));
    let job = world.act(&id, "/recover", &json!({ "since": since })).await.expect(202);
    world.settled(&id, "delivered", 3).await;
    let path = format!("/api/v1/jobs/{}", job.text_of("jobId"));
    let job = eventually("the job ends", async || {
        let job = world.server.client.get(&path, &world.admin).await.expect(200).json;
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!(job["requeued"], 3);
}

async fn what_comes_while_off_is_dropped_or_queued(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let drops = world.make("/drops", json!({ "isEnabled": false })).await;
    let queues =
        world.make("/queues", json!({ "isEnabled": false, "whileDisabled": "queue" })).await;
    world.server.vendor.forget();
    assert_eq!(world.fans_out(&event("Ticket_Add", "one")).await, 1);
    world.settled(&queues, "held", 1).await;
    assert!(world.deliveries(&drops).await.is_empty());
    let read = world.read(&queues).await;
    assert_eq!(read["health"]["state"], "disabled");
    assert!(read["disabledTime"].is_string());
    a_while().await;
    assert!(world.server.vendor.received().is_empty(), "nothing is sent");
    for id in [&drops, &queues] {
        world.act(id, "/enable", &json!({})).await.expect(200);
        assert_eq!(world.read(id).await["disabledTime"], Value::Null);
    }
    world.settled(&queues, "delivered", 1).await;
    assert!(world.deliveries(&drops).await.is_empty(), "it was not for it");
    assert_eq!(world.fans_out(&event("Ticket_Add", "two")).await, 2);
}

async fn what_was_queued_is_released_in_order_or_discarded(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let more = json!({ "isEnabled": false, "whileDisabled": "queue", "ordered": true });
    let id = world.make("/own", more).await;
    world.server.vendor.forget();
    let names = ["1", "2", "3", "4", "5"];
    for name in names {
        world.fans_out(&event("Ticket_Add", name)).await;
    }
    world.settled(&id, "held", 5).await;
    world.act(&id, "/reactivate", &json!({ "release": true })).await.expect(200);
    assert_eq!(world.read(&id).await["isEnabled"], true, "it is switched on with it");
    world.settled(&id, "delivered", 5).await;
    let arrived: Vec<String> = world
        .arrived("/own", 5)
        .await
        .iter()
        .map(|one| {
            one.json().expect("JSON")[0]["payload"]["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(arrived, names);
    for (action, body) in
        [("/enable", json!({ "release": false })), ("/reactivate", json!({ "release": false }))]
    {
        world.act(&id, "/disable", &json!({})).await.expect(200);
        let name = format!("late{}", action.replace('/', "-"));
        world.fans_out(&event("Ticket_Add", &name)).await;
        eventually("it is held", async || {
            (world.deliveries(&id).await[0]["state"] == "held").then_some(())
        })
        .await;
        world.act(&id, action, &body).await.expect(200);
        assert_eq!(world.deliveries(&id).await[0]["state"], "cancelled", "{action}");
    }
    a_while().await;
    assert_eq!(world.server.vendor.received_at("/own").len(), 5);
    assert_eq!(world.fans_out(&event("Ticket_Add", "fresh")).await, 1);
    world.arrived("/own", 6).await;
}

async fn a_queue_has_an_age_and_a_length(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({ "isEnabled": false, "whileDisabled": "queue" })).await;
    world.fans_out(&event("Ticket_Add", "old")).await;
    world.settled(&id, "held", 1).await;
    world.server.advance(Duration::from_hours(73));
    world.fans_out(&event("Ticket_Add", "young")).await;
    eventually("the old one goes", async || {
        let all = world.deliveries(&id).await;
        let states: Vec<_> =
            all.iter().map(|one| one["state"].as_str().unwrap_or_default()).collect();
        (states == ["held", "cancelled"]).then_some(())
    })
    .await;
    // Of more than ten thousand the oldest goes.
    let batch: Vec<Value> = (0..1_000)
        .map(|_| json!({ "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "1" } }))
        .collect();
    for _ in 0..10 {
        world.server.client.post("/api/v1/events", &world.host, &json!(batch)).await.expect(202);
    }
    let held = "select cast(count(*) as text) from deliveries where state = 1";
    assert_eq!(world.server.texts(held).await, ["10001"]);
    world.server.advance(Duration::from_secs(61));
    eventually("the oldest goes", async || {
        (world.server.texts(held).await == ["10000"]).then_some(())
    })
    .await;
    let path = "/api/v1/events/young";
    let told = world.server.client.get(path, &world.admin).await.expect(200);
    assert_eq!(told.json["webhooks"][0]["delivery"]["state"], "cancelled");
}

async fn a_gone_webhook_is_reactivated_by_its_administrator(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({})).await;
    world.server.vendor.behave("/own", Behaviour::status(410));
    world.fans_out(&event("Ticket_Add", "one")).await;
    eventually("it is gone", async || {
        (world.read(&id).await["health"]["state"] == "gone").then_some(())
    })
    .await;
    assert_eq!(world.fans_out(&event("Ticket_Add", "two")).await, 1);
    world.settled(&id, "held", 2).await;
    assert_eq!(world.notices("webhook.gone").await.len(), 1);
    world.server.vendor.behave("/own", Behaviour::status(200));
    let done = world.act(&id, "/reactivate", &json!({ "release": true })).await.expect(200);
    assert_eq!(done.json["from"], "gone");
    world.settled(&id, "delivered", 2).await;
    assert_eq!(world.read(&id).await["health"]["state"], "ok");
}

async fn pings_and_tests_show_both_sides(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world
        .make("/dz", json!({ "dialect": "dzdesk", "secret": SECRET, "subscriptions": { "request.created": null } }))
        .await;
    let told = world
        .act(
            &id,
            "/test",
            &json!({ "eventType": "request.status_changed", "params": { "a": "b c" } }),
        )
        .await
        .expect(200)
        .json;
    assert_eq!(
        (&told["outcome"], &told["by"]),
        (&json!("delivered"), &json!("endpoint")),
        "{told}"
    );
    let received = world.arrived("/dz", 1).await.remove(0);
    assert_eq!(received.json().expect("JSON")["event"], "request.status_changed");
    assert_eq!(received.header("x-mortise-test"), Some("true"));
    assert_eq!(received.parameter("a").as_deref(), Some("b c"));
    let shown: Value =
        serde_json::from_str(told["request"]["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(shown, received.json().expect("JSON"));
    let unknown = world.act(&id, "/test", &json!({ "eventType": "request.create" })).await;
    let unknown = unknown.refused(422, "INVALID_DATA");
    assert_eq!(unknown.json["errors"][0]["suggestion"], "request.created");
    world.server.vendor.behave("/dz", Behaviour::status(401));
    let told = world.act(&id, "/ping", &json!({})).await.expect(200).json;
    assert_eq!(told["outcome"], "failed");
    assert_eq!(told["response"]["status"], 401);
    assert!(told["hint"].is_string());
    assert!(world.deliveries(&id).await.is_empty(), "nothing is stored of them");
}

async fn what_is_not_saved_is_tested_as_it_would_be_sent(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let path = format!("{WEBHOOKS}/test");
    let body = json!({
        "webhook": {
            "url": world.server.vendor.url("/trial"), "dialect": "dzdesk", "secret": SECRET,
            "headers": { "X-Team": "a" },
        },
        "eventType": "request.created",
        "body": { "id": "77", "subject": "Hello" },
    });
    let told = world.server.client.post(&path, &world.admin, &body).await.expect(200).json;
    assert_eq!(told["outcome"], "delivered", "{told}");
    let received = world.arrived("/trial", 1).await.remove(0);
    let json = received.json().expect("JSON");
    assert_eq!((&json["event"], &json["data"]["id"]), (&json!("request.created"), &json!("77")));
    assert_eq!(received.header("x-team"), Some("a"));
    let expected = mortise::development::hash_of(SECRET, &received.body);
    assert_eq!(received.header("x-dzdesk-signature"), Some(&*format!("sha256={expected}")));
    let faulty = json!({ "webhook": { "url": "https://a.example", "dialect": "x" }, "eventType": "Ticket_Add" });
    let refused = world.server.client.post(&path, &world.admin, &faulty).await;
    assert_eq!(
        refused.refused(422, "INVALID_DATA").json["errors"][0]["fieldName"],
        "/webhook/dialect"
    );
    let private = json!({ "webhook": { "url": "http://10.0.0.1/" }, "eventType": "Ticket_Add" });
    let told = world.server.client.post(&path, &world.admin, &private).await.expect(200).json;
    assert_eq!((&told["outcome"], &told["by"]), (&json!("refused"), &json!("mortise")));
    assert!(world.server.webhooks(ORG).await.is_empty());
}

async fn secrets_outlive_a_rotation_of_the_data_key(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({ "secret": SECRET })).await;
    world.server.vendor.forget();
    let begun = json!({});
    let path = "/api/v1/keys/vault/rotate";
    world.server.client.post(path, &world.server.operator, &begun).await.expect(202);
    eventually("the rotation is done", async || {
        world.server.advance(Duration::from_secs(90));
        let keys =
            world.server.client.get("/api/v1/keys", &world.server.operator).await.expect(200);
        let rotations = keys.json["rotations"].as_array().expect("rotations").clone();
        rotations
            .iter()
            .any(|one| one["purpose"] == "vault" && one["state"] == "done")
            .then_some(())
    })
    .await;
    world.fans_out(&event("Ticket_Add", "after")).await;
    let received = world.arrived("/own", 1).await.remove(0);
    assert!(signed(&received, SECRET));
    world.settled(&id, "delivered", 1).await;
}
