//! How endpoints are told who calls, and that nobody else learns it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS, event};
use crate::support::server::{Backend, assert_absent, eventually};
use crate::support::tls_receiver::{TlsReceiver, TlsRequest};

on_both!(
    credentials_arrive_in_their_headers_and_stand_nowhere_else,
    credentials_do_not_follow_an_address_to_another_origin,
    access_tokens_are_fetched_once_and_refreshed_by_themselves,
    a_node_that_fetches_a_token_is_waited_for,
    a_token_endpoint_that_refuses_is_told_of_in_the_attempt,
    a_token_that_ends_is_told_of_ahead,
    an_authority_of_ones_own_is_trusted_for_one_webhook,
    a_certificate_of_ours_opens_the_door,
    an_endpoint_that_asks_who_calls_can_be_saved,
);

/// Makes a webhook of the receiver.
async fn make(
    world: &OwnWorld,
    receiver: &TlsReceiver,
    path: &str,
    authentication: Value,
) -> Answer {
    let more = json!({
        "url": receiver.url(path), "tls": { "caCertificates": receiver.ca },
        "authentication": authentication,
    });
    world.try_make(path, &more).await
}

async fn posted(receiver: &TlsReceiver, path: &str, wanted: usize) -> Vec<TlsRequest> {
    eventually(&format!("{wanted} requests at {path}"), async || {
        let all = receiver.posted(path);
        (all.len() >= wanted).then_some(all)
    })
    .await
}

async fn credentials_arrive_in_their_headers_and_stand_nowhere_else(backend: Backend) {
    const SECRET: &str = "hunter2-is-long-enough";
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    // It tells everything that it was told.
    receiver.answer(|request| (200, format!("{:?}", request.headers)));
    for (path, authentication, header, expected, shown) in [
        (
            "/basic",
            json!({ "type": "basic", "username": "ann", "password": SECRET }),
            "authorization",
            // base64 of `ann:` and the secret.
            "Basic YW5uOmh1bnRlcjItaXMtbG9uZy1lbm91Z2g=",
            json!({ "type": "basic", "username": "ann" }),
        ),
        (
            "/bearer",
            json!({ "type": "bearer", "token": SECRET }),
            "authorization",
            "Bearer hunter2-is-long-enough",
            json!({ "type": "bearer", "expiresAt": null }),
        ),
        (
            "/key",
            json!({ "type": "apiKey", "header": "X-Team", "value": SECRET }),
            "x-team",
            SECRET,
            json!({ "type": "apiKey", "header": "x-team" }),
        ),
    ] {
        let made = make(&world, &receiver, path, authentication).await.expect(201);
        assert_eq!(made.json["authentication"], shown);
        let id = made.text_of("id");
        world.fans_out(&event("Ticket_Add", &path[1..])).await;
        let request = posted(&receiver, path, 1).await.remove(0);
        assert_eq!(request.header(header), expected);
        let delivery = world.settled(&id, "delivered", 1).await.remove(0);
        let kept = delivery["attempts"][0].to_string();
        assert!(kept.contains("***") && !kept.contains(SECRET), "{kept}");
        assert!(!kept.contains("aHVudGVyMi") && !kept.contains(&expected[6..]), "{kept}");
        let told = world.act(&id, "/test", &json!({ "eventType": "Ticket_Add" })).await.expect(200);
        assert!(told.text.contains("***") && !told.text.contains(SECRET), "{}", told.text);
        assert_eq!(posted(&receiver, path, 2).await[1].header(header), expected);
        // A copy has the same, and is told as little of it.
        let copy = world.act(&id, "/clone", &json!({})).await.expect(201);
        assert!(!copy.text.contains(SECRET));
        let path = OwnWorld::path(&copy.text_of("id"), "/ping");
        let ping = world.server.client.post(&path, &world.admin, &json!({})).await.expect(200);
        assert_eq!(ping.json["outcome"], "delivered", "{}", ping.text);
        for id in [&id, &copy.text_of("id")] {
            let path = OwnWorld::path(id, "");
            let operator = world.server.operator.clone();
            world
                .server
                .client
                .call(reqwest::Method::DELETE, &path, &operator, None)
                .await
                .expect(204);
        }
    }
    assert_absent(&world.server.dump().await, SECRET);
}

async fn credentials_do_not_follow_an_address_to_another_origin(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let (one, other) = (TlsReceiver::start(false).await, TlsReceiver::start(false).await);
    let authentication = json!({ "type": "bearer", "token": "first" });
    let id = make(&world, &one, "/own", authentication).await.expect(201).text_of("id");
    // Within the origin they stay.
    world.patch(&id, &json!({ "url": one.url("/moved") })).await.expect(200);
    let away = json!({ "url": other.url("/own"), "tls": { "caCertificates": other.ca } });
    let refused = world.patch(&id, &away).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication");
    let mut given = away.clone();
    given["authentication"] = json!({ "type": "bearer" });
    let refused = world.patch(&id, &given).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication/token");
    let refused = world.act(&id, "/clone", &away).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication");
    let open = json!({ "url": world.server.vendor.url("/own"), "tls": null });
    world.patch(&id, &open).await.refused(422, "INVALID_DATA");
    given["authentication"] = json!({ "type": "bearer", "token": "second" });
    world.patch(&id, &given).await.expect(200);
    world.fans_out(&event("Ticket_Add", "one")).await;
    assert_eq!(posted(&other, "/own", 1).await[0].header("authorization"), "Bearer second");
    // The same kind keeps its secret where it is not given; another has none.
    world
        .patch(
            &id,
            &json!({ "authentication": { "type": "bearer", "expiresAt": "2099-01-01T00:00:00Z" } }),
        )
        .await
        .expect(200);
    world.fans_out(&event("Ticket_Add", "two")).await;
    assert_eq!(posted(&other, "/own", 2).await[1].header("authorization"), "Bearer second");
    world
        .patch(&id, &json!({ "authentication": { "type": "basic", "username": "a" } }))
        .await
        .refused(422, "INVALID_DATA");
    world.patch(&id, &json!({ "authentication": null })).await.expect(200);
    world.fans_out(&event("Ticket_Add", "three")).await;
    assert_eq!(posted(&other, "/own", 3).await[2].header("authorization"), "");
}

fn client_credentials(receiver: &TlsReceiver) -> Value {
    json!({
        "type": "oauth2ClientCredentials", "tokenUrl": receiver.url("/token"), "clientId": "us",
        "clientSecret": "our-client-secret", "scope": "a b", "clientAuthentication": "body",
    })
}

/// Hands out tokens by number; the endpoint takes the one that is named last.
fn oauth(receiver: &TlsReceiver, taken: &'static str) {
    let given = std::sync::atomic::AtomicUsize::new(receiver.posted("/token").len());
    receiver.answer(move |request| {
        if request.path == "/token" {
            let number = given.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            let body = json!({
                "access_token": format!("token-number-{number}"), "token_type": "Bearer",
                "expires_in": 3_600,
            });
            return (200, body.to_string());
        }
        let is_taken = request.method == "GET" || request.header("authorization") == taken;
        (if is_taken { 200 } else { 401 }, String::new())
    });
}

async fn access_tokens_are_fetched_once_and_refreshed_by_themselves(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    oauth(&receiver, "Bearer token-number-1");
    let made = make(&world, &receiver, "/own", client_credentials(&receiver)).await.expect(201);
    let id = made.text_of("id");
    assert!(!made.text.contains("our-client-secret"));
    let batch: Vec<Value> =
        (0..10).map(|number| event("Ticket_Add", &format!("b{number}"))).collect();
    world.server.client.post("/api/v1/events", &world.host, &json!(batch)).await.expect(202);
    world.settled(&id, "delivered", 10).await;
    let asked = receiver.posted("/token");
    assert_eq!(asked.len(), 1, "however many need one at once");
    for part in [
        "grant_type=client_credentials",
        "client_id=us",
        "client_secret=our-client-secret",
        "scope=a+b",
    ] {
        assert!(asked[0].body.contains(part), "{part} in {}", asked[0].body);
    }
    // The endpoint refuses it: one refresh, in the same attempt.
    world.server.advance(Duration::from_secs(11));
    oauth(&receiver, "Bearer token-number-2");
    world.fans_out(&event("Ticket_Add", "refused")).await;
    let all = world.settled(&id, "delivered", 11).await;
    assert_eq!(
        (&all[0]["attemptsMade"], &all[0]["attempts"][0]["status"]),
        (&json!(1), &json!(200))
    );
    assert_eq!(receiver.posted("/token").len(), 2);
    // Before it ends, by itself.
    world.server.advance(Duration::from_secs(3_590));
    oauth(&receiver, "Bearer token-number-3");
    world.fans_out(&event("Ticket_Add", "ended")).await;
    world.settled(&id, "delivered", 12).await;
    let tokens: Vec<_> =
        receiver.posted("/own").iter().map(|one| one.header("authorization").to_owned()).collect();
    assert_eq!(tokens.last().map(String::as_str), Some("Bearer token-number-3"));
    // An endpoint that refuses every token is not stormed.
    oauth(&receiver, "nothing");
    world.fans_out(&event("Ticket_Add", "never")).await;
    let path = format!("/api/v1/deliveries?webhookId={id}&limit=1");
    let attempt = eventually("it is refused", async || {
        let newest = world.server.client.get(&path, &world.admin).await.expect(200);
        let attempt = newest.data()[0]["attempts"][0].clone();
        attempt["status"].is_number().then_some(attempt)
    })
    .await;
    assert_eq!(attempt["status"], 401);
    assert_eq!(receiver.posted("/token").len(), 3);
    let dump = world.server.dump().await;
    for secret in ["our-client-secret", "token-number-1", "token-number-3"] {
        assert_absent(&dump, secret);
    }
    // After a restart the kept one is used.
    let server = world.server.restart().await;
    assert!(server.texts("select 'x' from own_webhook_tokens").await.len() == 1);
}

async fn a_token_endpoint_that_refuses_is_told_of_in_the_attempt(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    receiver.answer(|request| {
        if request.path == "/token" {
            (
                400,
                json!({ "error": "invalid_client", "error_description": "our-client-secret" })
                    .to_string(),
            )
        } else {
            (200, String::new())
        }
    });
    let made = make(&world, &receiver, "/own", client_credentials(&receiver)).await.expect(201);
    let id = made.text_of("id");
    world.fans_out(&event("Ticket_Add", "one")).await;
    let path = format!("/api/v1/deliveries?webhookId={id}");
    let attempt = eventually("it is tried", async || {
        let all = world.server.client.get(&path, &world.admin).await.expect(200);
        let attempt = all.data()[0]["attempts"][0].clone();
        attempt["error"].is_string().then_some(attempt)
    })
    .await;
    assert_eq!(attempt["error"], "credentials");
    assert!(attempt["message"].as_str().expect("a text").contains("token endpoint"));
    assert!(!attempt.to_string().contains("our-client-secret"));
    assert!(receiver.posted("/own").is_empty());
    let told = world.act(&id, "/ping", &json!({})).await.expect(200).json;
    assert_eq!((&told["outcome"], &told["by"]), (&json!("refused"), &json!("mortise")));
    let plain = json!({ "authentication": {
        "type": "oauth2ClientCredentials", "tokenUrl": world.server.vendor.url("/token"),
        "clientId": "us", "clientSecret": "s",
    } });
    let refused = world.patch(&id, &plain).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication/tokenUrl");
}

/// The right to fetch a token, as another node would have it: for so many seconds of the server's clock.
async fn claim_elsewhere(world: &OwnWorld, id: &str, is_sqlite: bool) {
    let id = crate::reconciler::sql_id(is_sqlite, id);
    let until = world.server.seam.clock.now().plus(Duration::from_secs(25)).micros();
    let row = format!(
        "insert into own_webhook_token_claims (id, claim, claimed_until) values ({id}, {id}, {until})"
    );
    world.server.execute(&row).await;
}

async fn a_node_that_fetches_a_token_is_waited_for(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    oauth(&receiver, "Bearer token-number-1");
    let made = make(&world, &receiver, "/own", client_credentials(&receiver)).await.expect(201);
    claim_elsewhere(&world, &made.text_of("id"), is_sqlite).await;
    assert_eq!(world.fans_out(&event("Ticket_Add", "one")).await, 1);
    crate::support::delivery_world::a_while().await;
    assert!(receiver.posted("/token").is_empty() && receiver.posted("/own").is_empty());
    // That node is gone: its right ends by itself.
    world.server.execute("update own_webhook_token_claims set claimed_until = 1").await;
    posted(&receiver, "/own", 1).await;
    assert_eq!(receiver.posted("/token").len(), 1);
    let left = world.server.texts("select 'x' from own_webhook_token_claims").await;
    assert!(left.is_empty(), "the right is given back");
}

/// Whichever node has the right fetches; the other one takes what it kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_token() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let url = database.url().to_owned();
    let world = OwnWorld::start(Backend::Postgres(database)).await;
    let receiver = TlsReceiver::start(false).await;
    oauth(&receiver, "Bearer token-number-1");
    let made = make(&world, &receiver, "/own", client_credentials(&receiver)).await.expect(201);
    let server = &world.server;
    let other = mortise::server::start(server.config_of_another_node(&url), server.seam.clone());
    let other = other.await.expect("the other node starts");
    let there = crate::support::client::Client::new(format!("http://{}", other.address()));
    // Both want a token, and neither may fetch one.
    claim_elsewhere(&world, &made.text_of("id"), false).await;
    assert_eq!(world.fans_out(&event("Ticket_Add", "here")).await, 1);
    let event = event("Ticket_Add", "there");
    there.post("/api/v1/events", &world.host, &event).await.expect(202);
    crate::support::delivery_world::a_while().await;
    assert!(receiver.posted("/token").is_empty());
    server.execute("delete from own_webhook_token_claims").await;
    let arrived = posted(&receiver, "/own", 2).await;
    assert!(arrived.iter().all(|one| one.header("authorization") == "Bearer token-number-1"));
    assert_eq!(receiver.posted("/token").len(), 1, "asked for once");
    other.stop().await;
}

async fn a_token_that_ends_is_told_of_ahead(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    let now = world.server.seam.clock.now();
    let ends = now.plus(Duration::from_hours(24 * 20)).rfc3339();
    let authentication = json!({ "type": "bearer", "token": "t", "expiresAt": ends });
    let id = make(&world, &receiver, "/own", authentication).await.expect(201).text_of("id");
    world.server.advance(Duration::from_hours(24 * 12));
    crate::support::delivery_world::a_while().await;
    assert!(world.notices("credential.expiring").await.is_empty(), "a week before, not earlier");
    world.server.advance(Duration::from_hours(24 * 2));
    let notices = eventually("a notice", async || {
        let notices = world.notices("credential.expiring").await;
        (!notices.is_empty()).then_some(notices)
    })
    .await;
    assert_eq!(notices[0]["webhookId"], id.as_str());
    assert!(notices[0]["message"].as_str().expect("a text").contains(&ends[..10]));
    world.server.advance(Duration::from_hours(1));
    crate::support::delivery_world::a_while().await;
    assert_eq!(world.notices("credential.expiring").await[0]["count"], 1, "once");
    let fresh = json!({ "authentication": { "type": "bearer", "token": "u" } });
    world.patch(&id, &fresh).await.expect(200);
    assert!(world.notices("credential.expiring").await[0]["resolvedTime"].is_string());
}

async fn an_authority_of_ones_own_is_trusted_for_one_webhook(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    let path = format!("{WEBHOOKS}/test");
    let try_it = async |tls: Value| {
        let body = json!({
            "webhook": { "url": receiver.url("/own"), "tls": tls }, "eventType": "Ticket_Add",
        });
        world.server.client.post(&path, &world.admin, &body).await
    };
    let told = try_it(Value::Null).await.expect(200).json;
    assert_eq!((&told["outcome"], &told["by"]), (&json!("failed"), &json!("endpoint")), "{told}");
    assert!(told["error"].as_str().expect("a text").starts_with("tls"), "{told}");
    let told = try_it(json!({ "caCertificates": receiver.ca })).await.expect(200).json;
    assert_eq!(told["outcome"], "delivered", "{told}");
    let refused = try_it(json!({ "caCertificates": "none" })).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/webhook/tls/caCertificates");
    let id =
        make(&world, &receiver, "/own", json!({ "type": "none" })).await.expect(201).text_of("id");
    world.fans_out(&event("Ticket_Add", "one")).await;
    world.settled(&id, "delivered", 1).await;
    assert_eq!(world.read(&id).await["tls"]["caCertificates"], receiver.ca.as_str());
}

async fn a_certificate_of_ours_opens_the_door(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(true).await;
    let (certificate, key) = receiver.client.clone();
    let without = make(&world, &receiver, "/own", json!({ "type": "none" })).await;
    without.refused(422, "UNPROCESSABLE_ENTITY");
    let authentication = json!({ "type": "mtls", "certificate": certificate, "privateKey": key });
    let made = make(&world, &receiver, "/own", authentication).await.expect(201);
    let id = made.text_of("id");
    assert_eq!(made.json["authentication"], json!({ "type": "mtls", "certificate": certificate }));
    world.fans_out(&event("Ticket_Add", "one")).await;
    world.settled(&id, "delivered", 1).await;
    assert_eq!(receiver.posted("/own").len(), 1);
    let middle = key.lines().nth(1).expect("a line").to_owned();
    assert_absent(&world.server.dump().await, &middle);
    let broken = json!({ "type": "mtls", "certificate": certificate, "privateKey": "no key" });
    let refused = make(&world, &receiver, "/own", broken).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication/certificate");
}

async fn an_endpoint_that_asks_who_calls_can_be_saved(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    receiver.answer(|request| match request.header("authorization") {
        "Bearer right" => (200, String::new()),
        _ => (401, String::new()),
    });
    // Nothing is known of who calls: so nobody takes requests there.
    let none = make(&world, &receiver, "/own", json!({ "type": "none" })).await;
    none.refused(422, "UNPROCESSABLE_ENTITY");
    // Credentials come along; those that are fetched, or kept, need not.
    let bearer = json!({ "type": "bearer", "token": "right" });
    let id = make(&world, &receiver, "/own", bearer).await.expect(201).text_of("id");
    world.patch(&id, &json!({ "url": receiver.url("/moved") })).await.expect(200);
    make(&world, &receiver, "/own", client_credentials(&receiver)).await.expect(201);
    // A receiver that asks for our certificate is asked with it, or not at all.
    let receiver = TlsReceiver::start(true).await;
    let (certificate, key) = receiver.client.clone();
    let mtls = json!({ "type": "mtls", "certificate": certificate, "privateKey": key });
    let id = make(&world, &receiver, "/own", mtls).await.expect(201).text_of("id");
    world.patch(&id, &json!({ "url": receiver.url("/moved") })).await.expect(200);
    // A key fits its own certificate alone.
    let other = TlsReceiver::start(true).await.client.0;
    let renewed = json!({ "authentication": { "type": "mtls", "certificate": other } });
    let refused = world.patch(&id, &renewed).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication/privateKey");
}
