//! What third parties post for a user of an extension, and the users' tokens for it.

use std::time::Duration;

use mortise::development::{Behaviour, Check, Secrets, verify};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::delivery_world::{SOON, World, a_while};
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, ORG, Settings, TestServer, assert_absent, eventually};

on_both!(
    what_is_posted_goes_signed_to_the_vendor,
    every_token_that_does_not_work_is_refused_alike,
    tokens_are_one_a_user_told_once_and_rotated,
    it_is_durable_held_by_a_suspension_and_ends_with_the_installation,
    bodies_and_rates_are_bounded,
    a_token_that_does_not_work_is_refused_alike_however_often,
    the_tokens_of_one_installation_share_an_allowance,
);

const HANDLER: &str = "/incoming";

async fn start(backend: Backend, settings: impl FnOnce(&mut Settings)) -> World {
    World::with(backend, settings, |package: &mut Package| {
        let hook = package.resources["webhook"]["url"].as_str().expect("a URL").to_owned();
        let origin = hook.split("/hooks").next().expect("an origin").to_owned();
        package.manifest["mortise"] =
            json!({ "incomingWebhook": { "url": format!("{origin}{HANDLER}?fixed=1") } });
    })
    .await
}

fn tokens_path(world: &World) -> String {
    format!("/api/v1/installations/{}/user-tokens", world.installation.id)
}

async fn token(world: &World, user: &str) -> String {
    let admin = world.server.admin(ORG).await;
    let body = json!({ "userId": user });
    let made = world.server.client.post(&tokens_path(world), &admin, &body).await.expect(201);
    made.text_of("zapikey")
}

async fn post(server: &TestServer, key: &str, zapikey: &str, body: &str) -> Answer {
    let path = format!("/api/v1/incoming/{key}?zapikey={zapikey}&source=crm");
    let request = server.client.request(Method::POST, &path, "");
    let request = request.header("content-type", "application/json").header("x-sender", "crm");
    server.client.send(request.header("cookie", "a=b").body(body.to_owned())).await
}

async fn what_is_posted_goes_signed_to_the_vendor(backend: Backend) {
    let world = start(backend, |_| {}).await;
    let zapikey = token(&world, "user-7").await;
    let answer = post(&world.server, "ticket-mirror", &zapikey, "{\"lead\": 1}").await.expect(202);
    let received = world.server.vendor.wait_for_path(HANDLER, 1, SOON).await.expect("it arrives");
    let received = &received[0];
    assert_eq!(received.header("webhook-id"), Some(answer.text_of("id").as_str()));
    let secrets = Secrets { signing: vec![world.secret().await], ..Secrets::default() };
    assert_eq!(verify(received, &secrets).standard, Check::Valid);
    assert_eq!(received.parameter("orgId").as_deref(), Some(ORG));
    assert_eq!(received.parameter("fixed").as_deref(), Some("1"));
    let context = received.parameter("securityContext").expect("a context");
    let body = received.json().expect("JSON");
    assert_eq!(body[0]["eventType"], "Incoming_Webhook");
    let payload = &body[0]["payload"];
    assert_eq!(payload["orgId"], ORG);
    assert_eq!(payload["installationId"], world.installation.id);
    assert_eq!(payload["userId"], "user-7");
    assert_eq!(payload["body"], "{\"lead\": 1}");
    assert_eq!(payload["isBase64Encoded"], false);
    assert_eq!(payload["query"], json!({ "source": "crm" }), "the token goes no further");
    assert_eq!(payload["headers"]["x-sender"], "crm");
    assert!(payload["headers"].get("cookie").is_none());
    // The context is one to call back with.
    let fields = json!({
        "securityContext": context, "requestURL": "/api/v1/tickets/1", "requestType": "GET",
    });
    let hash = mortise::development::hash_of(
        crate::support::package::MANIFEST_SECRET,
        b"requestURL=/api/v1/tickets/1&requestType=GET",
    );
    let path = format!("/api/v1/invoke?orgId={ORG}");
    let request = world.server.client.request(Method::POST, &path, "").header("HASH", hash);
    world.server.client.send(request.json(&fields)).await.expect(200);
    // Nothing that was written holds the token or the context.
    let dump = world.server.dump().await;
    assert_absent(&dump, &zapikey);
    assert_absent(&dump, &context);
    // A body that is no text comes as base64.
    let path = format!("/api/v1/incoming/ticket-mirror?zapikey={zapikey}");
    let request = world.server.client.request(Method::POST, &path, "").body(vec![0xff, 0x00]);
    world.server.client.send(request).await.expect(202);
    let received = world.server.vendor.wait_for_path(HANDLER, 2, SOON).await.expect("it arrives");
    let payload = received[1].json().expect("JSON")[0]["payload"].clone();
    assert_eq!((&payload["body"], &payload["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    // It is a delivery like others, of the vendor's; events are not.
    let deliveries = world.deliveries("&eventType=Incoming_Webhook").await;
    assert_eq!(deliveries.len(), 2, "{deliveries:?}");
}

async fn every_token_that_does_not_work_is_refused_alike(backend: Backend) {
    let world = start(backend, |_| {}).await;
    let server = &world.server;
    let zapikey = token(&world, "u").await;
    let plain = server.package().key("plain");
    let plain = server.active_package(&plain, ORG).await;
    let path = format!("/api/v1/installations/{}/user-tokens", plain.id);
    let body = json!({ "userId": "u" });
    let without = server.client.post(&path, &server.operator, &body).await.expect(201);
    let without = without.text_of("zapikey");
    let former = zapikey.clone();
    let zapikey = token(&world, "u").await;
    assert_ne!(former, zapikey);
    let unknown = format!("zapi_{}", "A".repeat(43));
    let mut seen: Option<Value> = None;
    let mut check = |what: &str, answer: Answer| {
        let mut refused = answer.refused(401, "INVALID_OAUTH").json;
        refused["correlationId"] = Value::Null;
        match &seen {
            None => seen = Some(refused),
            Some(first) => assert_eq!(*first, refused, "{what}"),
        }
    };
    for (what, key, zapikey) in [
        ("none", "ticket-mirror", ""),
        ("nonsense", "ticket-mirror", "nonsense"),
        ("unknown", "ticket-mirror", unknown.as_str()),
        ("rotated", "ticket-mirror", former.as_str()),
        ("another extension's", "plain", zapikey.as_str()),
        ("an unknown extension", "nobody", zapikey.as_str()),
        ("an extension without a handler", "plain", without.as_str()),
        ("twice", "ticket-mirror", &format!("{zapikey}&zapikey={zapikey}")),
    ] {
        check(what, post(server, key, zapikey, "{}").await);
    }
    let suspend = "/api/v1/extensions/ticket-mirror/suspend";
    let reason = json!({ "reason": "r" });
    server.client.post(suspend, &server.operator, &reason).await.expect(200);
    check("suspended", post(server, "ticket-mirror", &zapikey, "{}").await);
    let resume = "/api/v1/extensions/ticket-mirror/resume";
    server.client.post(resume, &server.operator, &reason).await.expect(200);
    post(server, "ticket-mirror", &zapikey, "{}").await.expect(202);
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    check("uninstalled", post(server, "ticket-mirror", &zapikey, "{}").await);
}

async fn tokens_are_one_a_user_told_once_and_rotated(backend: Backend) {
    let world = start(backend, |_| {}).await;
    let (client, path) = (&world.server.client, tokens_path(&world));
    let (admin, viewer) = (world.server.admin(ORG).await, world.server.viewer(ORG).await);
    let first = token(&world, "one").await;
    token(&world, "two").await;
    let again = token(&world, "one").await;
    let rows = client.all(&path, &viewer).await;
    assert_eq!(rows.len(), 2, "one a user: {rows:?}");
    for row in &rows {
        let text = row.to_string();
        assert!(!text.contains("zapi") && !text.contains(&first) && !text.contains(&again));
    }
    let id = rows.iter().find(|row| row["userId"] == "one").expect("it is there")["id"].clone();
    let one = format!("{path}/{}", id.as_str().expect("an id"));
    client.call(Method::DELETE, &one, &viewer, None).await.refused(403, "FORBIDDEN");
    let other = world.server.admin("60002").await;
    client.call(Method::DELETE, &one, &other, None).await.refused(404, "RESOURCE_NOT_FOUND");
    post(&world.server, "ticket-mirror", &again, "{}").await.expect(202);
    client.call(Method::DELETE, &one, &admin, None).await.expect(204);
    client.call(Method::DELETE, &one, &admin, None).await.refused(404, "RESOURCE_NOT_FOUND");
    post(&world.server, "ticket-mirror", &again, "{}").await.refused(401, "INVALID_OAUTH");
    for user in [json!(""), json!("x".repeat(65)), json!("a\nb"), json!(5)] {
        let body = json!({ "userId": user });
        client.post(&path, &admin, &body).await.refused(422, "INVALID_DATA");
    }
    // The same request with a key is answered the same, and makes one token.
    let request = || {
        client
            .request(Method::POST, &path, &admin)
            .header("Idempotency-Key", "k-1")
            .json(&json!({ "userId": "three" }))
    };
    let made = client.send(request()).await.expect(201);
    let repeated = client.send(request()).await.expect(201);
    assert_eq!(made.text_of("zapikey"), repeated.text_of("zapikey"));
    assert_absent(&world.server.dump().await, &made.text_of("zapikey"));
}

async fn it_is_durable_held_by_a_suspension_and_ends_with_the_installation(backend: Backend) {
    let world = start(backend, |_| {}).await;
    let zapikey = token(&world, "u").await;
    let server = &world.server;
    // What the vendor does not take is tried again.
    server.vendor.behave(HANDLER, Behaviour::status(503));
    post(server, "ticket-mirror", &zapikey, "first").await.expect(202);
    server.vendor.wait_for_path(HANDLER, 1, SOON).await.expect("the first attempt");
    let state = async |state: &str| {
        eventually(&format!("a delivery that is {state}"), async || {
            let rows = world.deliveries("&eventType=Incoming_Webhook").await;
            rows.into_iter().find(|row| row["state"] == state)
        })
        .await
    };
    eventually("the attempt is recorded", async || {
        let rows = world.deliveries("&eventType=Incoming_Webhook").await;
        (rows[0]["attemptsMade"] == 1).then_some(())
    })
    .await;
    // A suspension holds it, and lets it go on.
    let reason = json!({ "reason": "r" });
    let suspend = "/api/v1/extensions/ticket-mirror/suspend";
    server.client.post(suspend, &server.operator, &reason).await.expect(200);
    server.vendor.behave(HANDLER, Behaviour::status(200));
    server.advance(Duration::from_secs(70));
    a_while().await;
    assert_eq!(server.vendor.received_at(HANDLER).len(), 1, "nothing goes out");
    let resume = "/api/v1/extensions/ticket-mirror/resume";
    server.client.post(resume, &server.operator, &reason).await.expect(200);
    server.vendor.wait_for_path(HANDLER, 2, SOON).await.expect("it goes on");
    state("delivered").await;
    // What waits when the installation ends is cancelled.
    server.vendor.behave(HANDLER, Behaviour::status(503));
    post(server, "ticket-mirror", &zapikey, "last").await.expect(202);
    server.vendor.wait_for_path(HANDLER, 3, SOON).await.expect("the first attempt");
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    server.advance(Duration::from_secs(70));
    a_while().await;
    assert_eq!(server.vendor.received_at(HANDLER).len(), 3, "nothing more goes out");
    state("cancelled").await;
    assert!(server.texts("select user_id from user_tokens").await.is_empty());
}

async fn bodies_and_rates_are_bounded(backend: Backend) {
    let world = start(backend, |settings| {
        settings.set("limits.incoming_body_bytes", "1KiB");
        settings.set("limits.incoming_per_minute", "60");
    })
    .await;
    let zapikey = token(&world, "u").await;
    let large = "x".repeat(1_025);
    let refused = post(&world.server, "ticket-mirror", &zapikey, &large).await;
    refused.refused(413, "RESOURCE_SIZE_EXCEEDED");
    let mut taken = 0;
    let limited = loop {
        let answer = post(&world.server, "ticket-mirror", &zapikey, "{}").await;
        if answer.status == 429 {
            break answer;
        }
        taken += 1;
        assert!(taken < 30, "the rate never ends");
    };
    assert!(taken >= 6, "{taken}");
    assert_eq!(limited.refused(429, "TOO_MANY_REQUESTS").header("retry-after"), "1");
    // Another user's token has its own.
    let other = token(&world, "v").await;
    post(&world.server, "ticket-mirror", &other, "{}").await.expect(202);
}

async fn a_token_that_does_not_work_is_refused_alike_however_often(backend: Backend) {
    let world = start(backend, |settings| settings.set("limits.incoming_per_minute", "20")).await;
    let zapikey = token(&world, "u").await;
    let suspend = json!({ "installationId": world.installation.id, "reason": "r" });
    world.server.callback("suspend", &suspend).await.expect(200);
    // Far more than may come at once.
    for _ in 0..6 {
        post(&world.server, "ticket-mirror", &zapikey, "{}").await.refused(401, "INVALID_OAUTH");
        post(&world.server, "another", &zapikey, "{}").await.refused(401, "INVALID_OAUTH");
    }
    // What was refused took nothing of the allowance.
    world.server.callback("resume", &suspend).await.expect(200);
    post(&world.server, "ticket-mirror", &zapikey, "{}").await.expect(202);
}

async fn the_tokens_of_one_installation_share_an_allowance(backend: Backend) {
    let world = start(backend, |settings| {
        settings.set("limits.incoming_installation_per_minute", "30");
    })
    .await;
    let mut limited = None;
    for number in 0..20 {
        let zapikey = token(&world, &format!("u-{number}")).await;
        let answer = post(&world.server, "ticket-mirror", &zapikey, "{}").await;
        if answer.status == 429 {
            limited = Some((number, answer));
            break;
        }
        answer.expect(202);
    }
    let (number, limited) = limited.expect("the allowance ends");
    assert!(number >= 3, "a tenth of a minute's come at once: {number}");
    let limited = limited.refused(429, "TOO_MANY_REQUESTS");
    assert!(!limited.header("retry-after").is_empty());
}
