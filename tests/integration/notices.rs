//! What people must know, and requests that only try an address.

use std::time::Duration;

use mortise::development::{Behaviour, SampleVendor, SampleVendorOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, SOON, World, a_while};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    notices_are_counted_dismissed_and_shown_to_those_they_concern,
    a_success_that_another_node_saw_ends_the_failing,
    notices_are_sent_as_signed_events_until_they_arrive,
    a_test_tells_all_and_stores_nothing,
    what_is_not_saved_can_be_tried,
    tests_have_a_rate,
);

const SECRET: &str = "a secret of the operator's own";

/// Lets the webhook fail, and then recover.
async fn fail_and_recover(world: &World, round: usize) {
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    let name = format!("failing-{round}");
    world.ticket(&name).await;
    world.attempted(&name, 1).await;
    server.advance(Duration::from_secs(2));
    world.in_state(&name, "failed").await;
    world.health("failing").await;
    server.vendor.behave(HOOK, Behaviour::status(200));
    world.ticket(&format!("fine-{round}")).await;
    world.in_state(&format!("fine-{round}"), "delivered").await;
    world.health("ok").await;
}

async fn notices_are_counted_dismissed_and_shown_to_those_they_concern(backend: Backend) {
    let world = World::with(backend, |s| s.set("delivery.schedule", "1s"), |_| {}).await;
    let server = &world.server;
    fail_and_recover(&world, 1).await;
    let admin = server.admin(ORG).await;
    let vendor = server.vendor_token("acme").await;
    let list = async |token: &str, query: &str| {
        server.client.all(&format!("/api/v1/notices?limit=1{query}"), token).await
    };
    for token in [&admin, &vendor, &server.operator] {
        let notices = list(token, "").await;
        let kinds: Vec<_> = notices.iter().map(|notice| &notice["kind"]).collect();
        assert_eq!(kinds, ["webhook.recovered", "webhook.failing"], "the latest first");
        assert!(notices[1]["resolvedTime"].is_string() && notices[0]["resolvedTime"].is_null());
        assert_eq!(notices[1]["count"], 1);
        assert_eq!(notices[1]["webhookId"], world.webhook.as_str());
        assert_eq!(notices[1]["installationId"], world.installation.id.as_str());
        assert!(notices[1]["message"].as_str().expect("a text").contains("ticket-mirror"));
    }
    // What one administrator puts aside, the vendor still sees; and once more brings it back.
    let failing = list(&admin, "").await[1]["id"].as_str().expect("an id").to_owned();
    let dismiss = format!("/api/v1/notices/{failing}/dismiss");
    let dismissed = server.client.post(&dismiss, &admin, &json!({})).await.expect(200);
    assert_eq!(dismissed.json["dismissed"], true);
    assert_eq!(list(&admin, "").await.len(), 1);
    assert_eq!(list(&server.admin(ORG).await, "").await.len(), 1, "for the whole org");
    assert_eq!(list(&admin, "&dismissed=true").await.len(), 2);
    assert_eq!(list(&vendor, "").await.len(), 2);
    fail_and_recover(&world, 2).await;
    let again = list(&admin, "").await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|notice| notice["count"] == 2), "{again:?}");
    for faulty in ["cursor=x", "limit=0", "dismissed=perhaps", "x=1"] {
        let refused = server.client.get(&format!("/api/v1/notices?{faulty}"), &admin).await;
        refused.refused(422, "INVALID_DATA");
    }
}

/// Its index did not know of the failing when the success ended: nothing told that it is over.
async fn a_success_that_another_node_saw_ends_the_failing(backend: Backend) {
    let world = World::with(backend, |s| s.set("delivery.schedule", "1s"), |_| {}).await;
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("failing").await;
    world.attempted("failing", 1).await;
    server.advance(Duration::from_secs(2));
    world.in_state("failing", "failed").await;
    world.health("failing").await;
    server.advance(Duration::from_secs(11));
    world.health("failing").await;
    server
        .execute(
            "update endpoint_states set consecutive_failures = 0, \
             last_success_at = last_failure_at + 1 where health = 'failing'",
        )
        .await;
    server.advance(Duration::from_secs(11));
    world.health("ok").await;
}

async fn notices_are_sent_as_signed_events_until_they_arrive(backend: Backend) {
    let receiver = SampleVendor::start(SampleVendorOptions::default()).await;
    let receiver = receiver.expect("the receiver starts");
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.schedule", "1s");
            settings.set("notices.url", receiver.url("/notices"));
            settings.set("notices.signing_secret", SECRET);
        },
        |_| {},
    )
    .await;
    let server = &world.server;
    receiver.behave_in_turn("/notices", [Behaviour::status(500)], Behaviour::status(204));
    server.vendor.behave(HOOK, Behaviour::status(410));
    world.ticket("gone").await;
    world.health("gone").await;
    receiver.wait_for_path("/notices", 1, SOON).await.expect("it comes");
    a_while().await;
    server.advance(Duration::from_secs(6));
    let came = receiver.wait_for_path("/notices", 2, SOON).await.expect("it comes again");
    assert_eq!(came[0].header("webhook-id"), came[1].header("webhook-id"));
    assert_eq!(came[0].body, came[1].body);
    let event = came[1].json().expect("JSON");
    assert_eq!(event["type"], "webhook.gone");
    assert_eq!(event["data"]["webhookId"], world.webhook.as_str());
    assert_eq!((&event["data"]["count"], &event["data"]["orgId"]), (&json!(1), &json!(ORG)));
    for received in &came {
        assert!(is_signed(received), "signed as Standard Webhooks say");
    }
    eventually("it is done with", async || {
        let left = server.texts("select body from notice_outbox").await;
        left.is_empty().then_some(())
    })
    .await;
}

fn is_signed(received: &mortise::development::Received) -> bool {
    use mortise::crypto::{Signer, SigningSecret};
    let secret = SigningSecret::from_chosen_bytes(SECRET.as_bytes()).expect("a secret");
    let signer = Signer::new([&secret]).expect("a signer");
    let header = |name: &str| received.header(name).expect("the header is there");
    let timestamp = header("webhook-timestamp").parse().expect("a number");
    signer.sign(header("webhook-id"), timestamp, &[&received.body]) == header("webhook-signature")
}

async fn a_test_tells_all_and_stores_nothing(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let vendor = server.vendor_token("acme").await;
    let post = async |what: &str, body: &Value| {
        let path = format!("/api/v1/webhooks/{}/{what}", world.webhook);
        server.client.post(&path, &vendor, body).await
    };
    let context = {
        world.ticket("real").await;
        world.arrived(1).await[0].parameter("securityContext").expect("a context")
    };
    server.vendor.behave(
        HOOK,
        Behaviour::status(200)
            .with_body(format!("thanks for {context}"))
            .with_header("x-seen", "yes"),
    );
    let body = json!({
        "eventType": "Ticket_Add", "params": { "a b": "c&d" }, "headers": { "X-Api-Key": "hunter2" },
    });
    let answer = post("test", &body).await.expect(200);
    let told = &answer.json;
    assert_eq!((&told["outcome"], &told["by"]), (&json!("delivered"), &json!("endpoint")));
    assert_eq!((&told["hint"], &told["error"]), (&Value::Null, &Value::Null));
    assert!(told["durationMs"].as_f64().expect("a number") > 0.0);
    let url = told["request"]["url"].as_str().expect("an address");
    assert!(url.contains("securityContext=***") && url.ends_with("&a+b=c%26d"), "{url}");
    assert!(!answer.text.contains(&context), "no context is told: {}", answer.text);
    assert!(!answer.text.contains("hunter2"), "no credential is told");
    assert_eq!(told["response"]["status"], 200);
    assert_eq!(told["response"]["body"], "thanks for ***");
    let arrived = world.arrived(2).await[1].clone();
    assert_eq!(arrived.header("x-mortise-test"), Some("true"));
    assert_eq!(arrived.header("x-api-key"), Some("hunter2"));
    assert_eq!(arrived.parameter("a b").as_deref(), Some("c&d"));
    assert_eq!(arrived.parameter("securityContext").as_ref(), Some(&context));
    let sent = arrived.json().expect("JSON");
    assert_eq!(sent[0]["eventType"], "Ticket_Add");
    assert!(sent[0]["payload"].as_object().expect("a sample").len() > 10, "{sent}");
    assert!(world.arrived(1).await[0].header("x-mortise-test").is_none(), "real ones have no mark");
    let own = post("test", &json!({ "eventType": "Ticket_Add", "body": { "id": "mine" } })).await;
    assert_eq!(own.expect(200).json["outcome"], "delivered");
    assert_eq!(
        world.arrived(3).await[2].json().expect("JSON")[0]["payload"],
        json!({ "id": "mine" })
    );
    post("ping", &json!({})).await.expect(200);
    assert_eq!(world.arrived(4).await[3].json().expect("JSON")[0]["eventType"], "Ping");
    assert_eq!(world.deliveries("").await.len(), 1, "nothing is stored of tests");

    // Whatever the endpoint does, the answer is 200 and says so.
    for (behaviour, status) in [
        (Behaviour::status(500), json!(500)),
        (Behaviour::Close, Value::Null),
        (Behaviour::Garbage, Value::Null),
    ] {
        server.vendor.behave(HOOK, behaviour);
        let told = post("ping", &json!({})).await.expect(200).json;
        assert_eq!(
            (&told["outcome"], &told["by"]),
            (&json!("failed"), &json!("endpoint")),
            "{told}"
        );
        assert_eq!(told["response"]["status"], status);
        assert!(told["hint"].is_string(), "{told}");
    }
    for faulty in [
        json!({ "eventType": "Ticket_Ad" }),
        json!({ "eventType": "Ticket_Add", "body": [] }),
        json!({ "eventType": "Ticket_Add", "headers": { "Webhook-Id": "x" } }),
        json!({ "eventType": "Ticket_Add", "headers": { "Host": "x" } }),
        json!({ "eventType": "Ticket_Add", "headers": { "x": "a\r\nb: c" } }),
        json!({ "eventType": "Ticket_Add", "params": { "orgId": "2" } }),
        json!({}),
    ] {
        post("test", &faulty).await.refused(422, "INVALID_DATA");
    }
    // Of a suspended installation nothing is sent.
    let path = "/api/v1/extensions/ticket-mirror/suspend";
    server.client.post(path, &server.operator, &json!({ "reason": "a test" })).await.expect(200);
    let before = server.vendor.received_at(HOOK).len();
    post("ping", &json!({})).await.refused(409, "STATE_CONFLICT");
    assert_eq!(server.vendor.received_at(HOOK).len(), before);
}

async fn what_is_not_saved_can_be_tried(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let admin = server.admin(ORG).await;
    let url = server.vendor.url("/not-saved");
    let ping = server.client.post("/api/v1/webhooks/ping", &admin, &json!({ "url": url })).await;
    assert_eq!(ping.expect(200).json["outcome"], "delivered");
    let body = json!({
        "webhook": { "url": url, "secret": SECRET, "subscriptions": { "Ticket_Update": { "includePrevState": true } } },
        "eventType": "Ticket_Update",
    });
    let request = server.client.request(Method::POST, "/api/v1/webhooks/test", &admin);
    let request = request.header("Idempotency-Key", "one").json(&body);
    let again = request.try_clone().expect("it can be sent twice");
    let first = server.client.send(request).await.expect(200);
    assert_eq!(first.json, server.client.send(again).await.expect(200).json);
    let arrived = server.vendor.received_at("/not-saved");
    assert_eq!(arrived.len(), 2, "a repeat sends nothing");
    let sent = arrived[1].json().expect("JSON");
    assert_eq!(sent[0]["orgId"], ORG);
    assert!(sent[0]["prevState"].is_object());
    assert!(is_signed(&arrived[1]));
    // The same vetting as for deliveries.
    for (address, class) in [
        ("http://169.254.169.254/latest", "refused"),
        ("http://10.0.0.1/", "refused"),
        ("http://printer.local/", "refused"),
    ] {
        let told = server
            .client
            .post("/api/v1/webhooks/ping", &admin, &json!({ "url": address }))
            .await
            .expect(200)
            .json;
        assert_eq!((&told["outcome"], &told["by"]), (&json!(class), &json!("mortise")), "{told}");
        assert!(told["hint"].is_string() && told["response"].is_null());
    }
    for faulty in [json!({ "url": "ftp://x.example" }), json!({ "url": "nonsense" }), json!({})] {
        let refused = server.client.post("/api/v1/webhooks/ping", &admin, &faulty).await;
        refused.refused(422, "INVALID_DATA");
    }
}

async fn tests_have_a_rate(backend: Backend) {
    let world = World::with(backend, |s| s.set("limits.tests_per_minute", "6"), |_| {}).await;
    let server = &world.server;
    let admin = server.admin(ORG).await;
    let body = json!({ "url": server.vendor.url("/rate") });
    for _ in 0..10 {
        server.client.post("/api/v1/webhooks/ping", &admin, &body).await.expect(200);
    }
    let refused = server.client.post("/api/v1/webhooks/ping", &admin, &body).await;
    let refused = refused.refused(429, "TOO_MANY_REQUESTS");
    assert!(
        refused.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=10).contains(&wait))
    );
    let other = server.admin(ORG).await;
    server.client.post("/api/v1/webhooks/ping", &other, &body).await.expect(200);
    server.advance(Duration::from_secs(10));
    server.client.post("/api/v1/webhooks/ping", &admin, &body).await.expect(200);
}
