//! Listeners: deliveries followed as they are made.

use std::time::Duration;

use mortise::development::Behaviour;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::delivery_world::{HOOK, World, a_while, ticket};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    copies_have_the_exact_bytes_and_what_the_reader_may_see,
    who_reads_on_misses_nothing_and_notes_answers,
    listeners_are_bound_to_token_and_tenant_and_end,
);

async fn begin(world: &World, token: &str, to: Value) -> String {
    world.server.client.post("/api/v1/listeners", token, &to).await.expect(201).text_of("id")
}

/// What came for a listener after a cursor, with the next cursor.
async fn read(
    world: &World,
    token: &str,
    id: &str,
    cursor: &str,
    wait: u64,
) -> (Vec<Value>, String) {
    let cursor = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
    let path = format!("/api/v1/listeners/{id}/deliveries?waitSeconds={wait}{cursor}");
    let page = world.server.client.get(&path, token).await.expect(200);
    (page.data().clone(), page.text_of("nextCursor"))
}

fn header<'c>(copy: &'c Value, name: &str) -> Option<&'c str> {
    let headers = copy["headers"].as_array().expect("headers");
    let found = headers.iter().find(|pair| pair[0] == name)?;
    found[1].as_str()
}

async fn copies_have_the_exact_bytes_and_what_the_reader_may_see(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let vendor = server.vendor_token("acme").await;
    let (admin, viewer) = (server.admin(ORG).await, server.viewer(ORG).await);
    let of_vendor = begin(&world, &vendor, json!({ "extensionKey": "ticket-mirror" })).await;
    let of_admin = begin(&world, &admin, json!({ "installationId": world.installation.id })).await;
    let of_viewer = begin(&world, &viewer, json!({ "webhookId": world.webhook })).await;
    let of_operator = begin(&world, &server.operator, json!({ "webhookId": world.webhook })).await;
    let odd = json!({
        "eventId": "1", "eventType": "Ticket_Add", "orgId": ORG,
        "payload": { "id": "1", "subject": "Grüße 👋\u{0} \"quoted\"", "n": 1.50 },
    });
    assert_eq!(world.fans_out(&odd).await, 1);
    let received = world.arrived(1).await[0].clone();
    let (copies, _) = read(&world, &vendor, &of_vendor, "", 20).await;
    assert_eq!(copies.len(), 1);
    let copy = &copies[0];
    assert_eq!(copy["body"].as_str().map(str::as_bytes), Some(&*received.body), "every byte");
    assert_eq!((&copy["eventType"], &copy["attempt"]), (&json!("Ticket_Add"), &json!(1)));
    assert_eq!((&copy["method"], &copy["sequence"]), (&json!("POST"), &json!(1)));
    assert_eq!(copy["extensionKey"], "ticket-mirror");
    for name in
        ["webhook-id", "webhook-timestamp", "webhook-signature", "x-zdesk-jwt", "content-type"]
    {
        assert_eq!(header(copy, name), received.header(name), "{name}");
    }
    let query = received.query.as_deref().expect("a query");
    let url = copy["url"].as_str().expect("an address");
    assert!(url.ends_with(&format!("?{query}")), "{url} has {query}");
    let context = received.parameter("securityContext").expect("a context");
    for (token, id) in
        [(&admin, &of_admin), (&viewer, &of_viewer), (&server.operator, &of_operator)]
    {
        let (copies, _) = read(&world, token, id, "", 20).await;
        let copy = &copies[0];
        assert_eq!(copy["body"].as_str().map(str::as_bytes), Some(&*received.body));
        let text = copy.to_string();
        assert!(!text.contains(&context) && text.contains("securityContext=***"), "{text}");
        // Neither is of use to whoever has no secret to check with, and both to a forger.
        assert_eq!(header(copy, "x-zdesk-jwt"), Some("***"));
        let is_masked = header(copy, "webhook-signature") == Some("***");
        assert_eq!(is_masked, token != &server.operator);
    }
    let dump = server.dump().await;
    assert!(!dump.contains(&context), "no context is kept");
    // What is sent goes on as ever.
    world.in_state("1", "delivered").await;
    assert_eq!(world.arrived(1).await.len(), 1);
}

async fn who_reads_on_misses_nothing_and_notes_answers(backend: Backend) {
    let world = World::with(backend, |s| s.set("delivery.schedule", "1s"), |_| {}).await;
    let server = &world.server;
    let vendor = server.vendor_token("acme").await;
    let id = begin(&world, &vendor, json!({ "webhookId": world.webhook })).await;
    // Nothing is there: it waits, and answers as soon as something is.
    let clock = mortise::seam::Clock::default();
    let began = clock.instant();
    let (waited, ()) = tokio::join!(read(&world, &vendor, &id, "", 20), async {
        a_while().await;
        world.ticket("a").await;
    });
    assert_eq!(waited.0.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(15), "it does not wait to the end");
    let (none, cursor) = read(&world, &vendor, &id, &waited.1, 0).await;
    assert!(none.is_empty());
    // Attempts that fail are seen as they are made, each as one.
    server.vendor.behave(HOOK, Behaviour::status(500));
    world.ticket("b").await;
    world.attempted("b", 1).await;
    server.advance(Duration::from_secs(2));
    world.in_state("b", "failed").await;
    let all = eventually("both attempts are there", async || {
        let (copies, _) = read(&world, &vendor, &id, &cursor, 0).await;
        (copies.len() == 2).then_some(copies)
    })
    .await;
    let attempts: Vec<_> = all.iter().map(|copy| copy["attempt"].as_i64().expect("it")).collect();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(header(&all[0], "webhook-id"), header(&all[1], "webhook-id"));
    let noted = json!({ "answers": [
        { "sequence": 1, "status": 204, "durationMs": 7 },
        { "sequence": 2, "error": "connect: \u{7}refused" },
        { "sequence": 99, "status": 200 },
    ] });
    let path = format!("/api/v1/listeners/{id}/answers");
    let answer = server.client.post(&path, &vendor, &noted).await.expect(200);
    assert_eq!(answer.json["noted"], 2);
    let (copies, _) = read(&world, &vendor, &id, "", 0).await;
    assert_eq!(copies[0]["answered"], 204);
    assert_eq!(
        (&copies[1]["answered"], &copies[1]["answerError"]),
        (&Value::Null, &json!("connect: refused"))
    );
    let shown = server.client.get(&format!("/api/v1/listeners/{id}"), &vendor).await.expect(200);
    assert_eq!((&shown.json["tapped"], &shown.json["dropped"]), (&json!(3), &json!(0)));
    // What was answered locally changes nothing of the delivery.
    assert_eq!(world.in_state("b", "failed").await["attemptsMade"], 2);
    // Copies are kept for ten minutes, and who comes late is told what he missed.
    server.vendor.behave(HOOK, Behaviour::status(200));
    for _ in 0..3 {
        server.advance(Duration::from_secs(200));
        read(&world, &vendor, &id, &cursor, 0).await;
    }
    eventually("old copies are gone", async || {
        server.advance(Duration::from_secs(31));
        read(&world, &vendor, &id, &cursor, 0).await;
        server.texts("select method from tapped_deliveries").await.is_empty().then_some(())
    })
    .await;
    world.ticket("c").await;
    let late = eventually("the late one", async || {
        let path = format!("/api/v1/listeners/{id}/deliveries");
        let page = server.client.get(&path, &vendor).await.expect(200);
        (!page.data().is_empty()).then_some(page)
    })
    .await;
    assert_eq!((late.data().len(), &late.json["missed"]), (1, &json!(3)));
}

async fn listeners_are_bound_to_token_and_tenant_and_end(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let (vendor, other) = (server.vendor_token("acme").await, server.vendor_token("other").await);
    let (admin, foreign) = (server.admin(ORG).await, server.admin("2").await);
    for to in [
        json!({ "webhookId": world.webhook }),
        json!({ "installationId": world.installation.id }),
        json!({ "extensionKey": "ticket-mirror" }),
    ] {
        let refused = server.client.post("/api/v1/listeners", &other, &to).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    for to in
        [json!({ "webhookId": world.webhook }), json!({ "installationId": world.installation.id })]
    {
        let refused = server.client.post("/api/v1/listeners", &foreign, &to).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    // An admin's listener to an extension hears of that org only.
    let of_foreign = begin(&world, &foreign, json!({ "extensionKey": "ticket-mirror" })).await;
    let id = begin(&world, &vendor, json!({ "webhookId": world.webhook })).await;
    world.ticket("1").await;
    assert_eq!(read(&world, &vendor, &id, "", 20).await.0.len(), 1);
    assert!(read(&world, &foreign, &of_foreign, "", 1).await.0.is_empty());
    for token in [&other, &admin, &server.operator, &server.vendor_token("acme").await] {
        for path in
            [format!("/api/v1/listeners/{id}"), format!("/api/v1/listeners/{id}/deliveries")]
        {
            server.client.get(&path, token).await.refused(404, "RESOURCE_NOT_FOUND");
        }
        let path = format!("/api/v1/listeners/{id}");
        let refused = server.client.call(Method::DELETE, &path, token, None).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    for faulty in [
        json!({}),
        json!({ "webhookId": world.webhook, "extensionKey": "ticket-mirror" }),
        json!({ "webhook": world.webhook }),
    ] {
        let refused = server.client.post("/api/v1/listeners", &vendor, &faulty).await;
        refused.refused(422, "INVALID_DATA");
    }
    let path = format!("/api/v1/listeners/{id}/deliveries?waitSeconds=26");
    server.client.get(&path, &vendor).await.refused(422, "INVALID_DATA");
    let path = format!("/api/v1/listeners/{id}/answers");
    let faulty = json!({ "answers": [{ "sequence": 1, "status": 99 }] });
    server.client.post(&path, &vendor, &faulty).await.refused(422, "INVALID_DATA");
    for _ in 1..8 {
        begin(&world, &vendor, json!({ "webhookId": world.webhook })).await;
    }
    let to = json!({ "webhookId": world.webhook });
    let many = server.client.post("/api/v1/listeners", &vendor, &to).await;
    many.refused(429, "TOO_MANY_REQUESTS");
    let path = format!("/api/v1/listeners/{id}");
    assert_eq!(server.client.call(Method::DELETE, &path, &vendor, None).await.status, 204);
    server.client.get(&path, &vendor).await.refused(404, "RESOURCE_NOT_FOUND");
    let next = begin(&world, &vendor, to).await;
    // Who does not read for five minutes is forgotten; nothing is copied any more.
    server.advance(Duration::from_secs(301));
    let path = format!("/api/v1/listeners/{next}");
    server.client.get(&path, &vendor).await.refused(404, "RESOURCE_NOT_FOUND");
    eventually("listeners are forgotten", async || {
        server.advance(Duration::from_secs(31));
        server.texts("select cast(tapped as text) from listeners").await.is_empty().then_some(())
    })
    .await;
    let post = server.client.post("/api/v1/events", &world.host, &ticket(ORG, "2")).await;
    post.expect(202);
    world.in_state("2", "delivered").await;
}

/// What another node sends is heard too, and read at either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_copies_for_every_listener() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let url = database.url().to_owned();
    let world = World::start(Backend::Postgres(database)).await;
    let server = &world.server;
    let other = mortise::server::start(server.config_of_another_node(&url), server.seam.clone());
    let other = other.await.expect("the other node starts");
    let there = Client::new(format!("http://{}", other.address()));
    let vendor = server.vendor_token("acme").await;
    let id = begin(&world, &vendor, json!({ "webhookId": world.webhook })).await;
    // The other node looks within a second who listens.
    a_while().await;
    a_while().await;
    let event = ticket(ORG, "there");
    there.post("/api/v1/events", &world.host, &event).await.expect(202);
    let (copies, _) = read(&world, &vendor, &id, "", 20).await;
    assert_eq!(copies.len(), 1);
    let path = format!("/api/v1/listeners/{id}/deliveries?waitSeconds=5");
    let page = there.get(&path, &vendor).await.expect(200);
    assert_eq!(page.data()[0]["body"], copies[0]["body"]);
    other.stop().await;
}
