//! What keeps calls apart: places, ids, deadlines, secrets, and the record of what was called.

use std::time::Duration;

use mortise::development::{Behaviour, hash_of};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::delivery_world::{SOON, a_while};
use crate::support::invoke_world::{InvokeWorld, canonical, inner};
use crate::support::on_both;
use crate::support::package::{MANIFEST_SECRET, Package};
use crate::support::server::{Backend, Installation, ORG, Settings, TestServer, eventually};

on_both!(
    one_vendor_does_not_hold_the_places_of_all,
    a_call_that_had_no_place_can_be_sent_again_as_it_is,
    a_whole_call_has_one_deadline,
    an_extension_without_a_secret_cannot_call_however_it_signs,
    the_secrets_of_the_serving_and_the_former_version_count,
    what_ends_while_it_is_answered_is_refused_alike,
    what_is_refused_by_rule_is_recorded,
    nobody_empties_the_record_of_another,
    the_host_is_told_no_other_org,
);

/// The securityContext that the vendor was told of an installation.
async fn context_of(server: &TestServer, installation: &Installation) -> Value {
    eventually("the vendor is told", async || {
        let told = server.vendor.received_at("/callbacks");
        let mut bodies = told.iter().filter_map(|received| received.json().ok());
        bodies.find(|body| body["installationId"] == installation.id)
    })
    .await["securityContext"]
        .clone()
}

/// Makes a call as another installation, with the usual secret.
async fn call_of(world: &InvokeWorld, org: &str, context: &Value, url: &str) -> Answer {
    let mut fields = world.fields("GET", url);
    fields["securityContext"] = context.clone();
    let hash = hash_of(MANIFEST_SECRET, canonical(&fields).as_bytes());
    world.call_as(org, &fields, &hash).await
}

/// Sends a call that is signed by Standard Webhooks, under an id.
async fn signed(server: &TestServer, secret: &str, id: &str, fields: &Value) -> Answer {
    let signer = standardwebhooks::Webhook::new(secret).expect("a secret");
    let body = fields.to_string();
    let timestamp = server.seam.clock.now().seconds();
    let signature = signer.sign(id, timestamp, body.as_bytes()).expect("a signature");
    let path = format!("/api/v1/invoke?orgId={ORG}");
    let request = server
        .client
        .request(Method::POST, &path, "")
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature);
    server.client.send(request.body(body)).await
}

async fn one_vendor_does_not_hold_the_places_of_all(backend: Backend) {
    // One place an installation, two a vendor.
    let settings = |settings: &mut Settings| settings.set("limits.invoke_under_way", "8");
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    let server = &world.world.server;
    let mut contexts = vec![(ORG, json!(world.context))];
    for org in ["60002", "60003"] {
        let installation = world.another(org).await;
        contexts.push((org, context_of(server, &installation).await));
    }
    let others = server.package().key("other").vendor("others");
    let others = server.active_package(&others, ORG).await;
    let others = context_of(server, &others).await;
    world.upstream.behave("/slow", Behaviour::status(200).after(Duration::from_secs(6)));
    let slow = world.upstream.url("/slow");
    let [first, second, third] = &contexts[..] else { panic!("three") };
    let (one, two, ()) = tokio::join!(
        call_of(&world, first.0, &first.1, &slow),
        call_of(&world, second.0, &second.1, &slow),
        async {
            world.upstream.wait_for_path("/slow", 2, SOON).await.expect("both are under way");
            let refused = call_of(&world, third.0, &third.1, "/api/v1/tickets/1").await;
            let refused = refused.refused(429, "TOO_MANY_REQUESTS");
            assert!(refused.text.contains("vendor"), "{}", refused.text);
            assert_eq!(refused.header("retry-after"), "1");
            // Another vendor's calls go on.
            call_of(&world, ORG, &others, "/api/v1/tickets/1").await.expect(200);
        }
    );
    assert_eq!((one.status, two.status), (200, 200), "{} {}", one.text, two.text);
    call_of(&world, third.0, &third.1, "/api/v1/tickets/1").await.expect(200);
}

async fn a_call_that_had_no_place_can_be_sent_again_as_it_is(backend: Backend) {
    let settings = |settings: &mut Settings| settings.set("limits.invoke_under_way", "8");
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    let server = &world.world.server;
    let secret = world.world.secret().await;
    world.upstream.behave("/slow", Behaviour::status(200).after(Duration::from_secs(3)));
    let slow = world.upstream.url("/slow");
    let fields = world.fields("GET", "/api/v1/tickets/7");
    let (first, ()) = tokio::join!(world.get(&slow), async {
        world.upstream.wait_for_path("/slow", 1, SOON).await.expect("it is under way");
        signed(server, &secret, "m-1", &fields).await.refused(429, "TOO_MANY_REQUESTS");
        // It left nothing behind.
        assert!(server.texts("select message_id from invoke_message_ids").await.is_empty());
    });
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(inner(&signed(server, &secret, "m-1", &fields).await)["statusCode"], 200);
    signed(server, &secret, "m-1", &fields).await.refused(401, "SIGNATURE_INVALID");
}

/// An exchange, a refresh and the exchange after it: each within the time, and all together not.
async fn a_whole_call_has_one_deadline(backend: Backend) {
    let settings = |settings: &mut Settings| settings.set("limits.invoke_deadline", "4s");
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    let server = &world.world.server;
    let id = &world.world.installation.id;
    let body = json!({ "installationId": id, "connectionLinkName": "chat" });
    let asked = server.callback("connect", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(id, &answer).await.expect(200);
    let slowly = |status| Behaviour::status(status).after(Duration::from_millis(2_500));
    world.chat.behave_in_turn("/twice", [slowly(401)], slowly(200));
    let url = world.chat.url("/twice");
    let answer = world.call_with("GET", &url, "connectionLinkName", "chat").await;
    let answer = answer.refused(502, "UPSTREAM_FAILED");
    assert_eq!(answer.json["error"], "timeout");
    assert_eq!(world.chat.received_at("/twice").len(), 2, "the second one was begun");
}

async fn an_extension_without_a_secret_cannot_call_however_it_signs(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let bare = server.package().key("bare").with(|package| {
        let manifest = package.manifest.as_object_mut().expect("an object");
        manifest.remove("secret");
        manifest.remove("callbackListener");
    });
    server.active_package(&bare, ORG).await;
    let path = "/api/v1/extensions/bare/signing-secret";
    let secret = server.client.get(path, &server.operator).await.expect(200).text_of("secret");
    // Its webhook tells it a context that opens.
    let event = crate::support::delivery_world::ticket(ORG, "t");
    assert_eq!(world.world.fans_out(&event).await, 2);
    let arrived = world.world.arrived(2).await;
    let mut statuses = Vec::new();
    for received in &arrived {
        let mut fields = world.fields("GET", "/api/v1/tickets/7");
        fields["securityContext"] = received.parameter("securityContext").expect("one").into();
        statuses
            .push(signed(server, &secret, &format!("m-{}", received.number), &fields).await.status);
    }
    assert_eq!(statuses, [401, 401]);
    assert!(server.provider.api_calls().is_empty());
    assert!(server.texts("select extension_key from invoke_signers").await.is_empty());
}

async fn the_secrets_of_the_serving_and_the_former_version_count(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let version = |number: u32| -> Package {
        server.package().version(&format!("{number}.0.0")).with(|package| {
            package.manifest["secret"] = format!("the-secret-of-version-{number}").into();
        })
    };
    for number in 1..=4 {
        server.publish(&version(number)).await.expect(201);
    }
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "version": "1.0.0" });
    let installation = server.install_with(request).await;
    let upgrade = async |number: u32| {
        let version = format!("{number}.0.0");
        let body = json!({ "installationId": installation.id, "version": version });
        let done = server.callback("upgrade", &body).await.expect(200);
        assert_eq!(done.json["version"], version, "{}", done.text);
        done
    };
    // The first one never served: it waited to be authorised.
    let waits = upgrade(2).await;
    let answer = server.consent(&waits.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    let context = context_of(&server, &installation).await;
    let counting = async || {
        let mut counting = Vec::new();
        for number in 1..=4 {
            let fields = json!({
                "securityContext": context, "requestURL": "/api/v1/tickets/7", "requestType": "GET",
            });
            let secret = format!("the-secret-of-version-{number}");
            let hash = hash_of(&secret, canonical(&fields).as_bytes());
            let path = format!("/api/v1/invoke?orgId={ORG}");
            let request = server.client.request(Method::POST, &path, "").header("HASH", hash);
            match server.client.send(request.json(&fields)).await.status {
                200 => counting.push(number),
                status => assert_eq!(status, 401),
            }
        }
        counting
    };
    assert_eq!(counting().await, [2]);
    upgrade(3).await;
    assert_eq!(counting().await, [2, 3], "the former one for a day more");
    upgrade(4).await;
    assert_eq!(counting().await, [3, 4], "the former one, and none before it");
    server.advance(Duration::from_hours(24));
    assert_eq!(counting().await, [4]);
}

/// Between the end of an installation and the moment at which this node has heard of it.
async fn what_ends_while_it_is_answered_is_refused_alike(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let url = "/api/v1/installedExtensions/{{installationId}}";
    let value = json!({ "key": "k", "value": {} }).to_string();
    let storage = format!("{url}/storage");
    inner(&world.call_with("POST", &storage, "postBody", &value).await);
    world.world.server.execute("update installations set live = 0, state = 'uninstalled'").await;
    let refused = world.call_with("POST", &storage, "postBody", &value).await;
    let refused = refused.refused(401, "SIGNATURE_INVALID");
    assert!(!refused.text.contains(&world.world.installation.id), "{}", refused.text);
    let deleted = world.call_with("DELETE", &storage, "queryParams", "{\"key\":\"k\"}").await;
    deleted.refused(401, "SIGNATURE_INVALID");
    let variables = json!({ "variables": [{ "name": "mirrorHost", "value": "x" }] }).to_string();
    let parameters = format!("{url}/configParams");
    let refused = world.call_with("POST", &parameters, "postBody", &variables).await;
    refused.refused(401, "SIGNATURE_INVALID");
}

async fn what_is_refused_by_rule_is_recorded(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let stranger = world.stranger.url("/probe?x=1");
    world.get(&stranger).await.refused(403, "HOST_NOT_ALLOWED");
    world.get("/admin://desk/tickets").await.expect(200);
    let headers = "{\"Authorization\":\"Bearer x\"}";
    let refused = world.call_with("GET", "/api/v1/tickets/9", "headers", headers).await;
    refused.refused(422, "INVALID_DATA");
    let row = async |path: &str| {
        eventually(path, async || {
            world.invocations().await.into_iter().find(|row| row["path"] == path)
        })
        .await
    };
    let refused = row("/probe").await;
    assert_eq!(
        (&refused["error"], &refused["statusCode"]),
        (&json!("hostNotAllowed"), &Value::Null)
    );
    let host = world.stranger.address().to_string();
    assert_eq!(refused["host"], host.as_str());
    // The path that is called is the one that is told, whatever it looks like.
    assert_eq!(row("/admin://desk/tickets").await["connection"], "zohoAuthorisation");
    assert_eq!(row("/api/v1/tickets/9").await["error"], "invalid");
    // What is not proven is nobody's.
    let fields = world.fields("GET", "/api/v1/tickets/unproven");
    world.call_as(ORG, &fields, "").await.refused(401, "SIGNATURE_INVALID");
    a_while().await;
    let rows = world.invocations().await;
    assert!(rows.iter().all(|row| row["path"] != "/api/v1/tickets/unproven"), "{rows:?}");
}

async fn nobody_empties_the_record_of_another(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let settings = |settings: &mut Settings| settings.set("limits.invocations_kept", "1000");
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    let server = &world.world.server;
    for number in 0..3 {
        world.get(&format!("/api/v1/tickets/{number}")).await.expect(200);
    }
    eventually("they are recorded", async || (world.invocations().await.len() == 3).then_some(()))
        .await;
    // Another installation calls far more often, and later.
    let (id, noisy) = if is_sqlite {
        ("randomblob(16)", "x'00000000000000000000000000000001'")
    } else {
        ("gen_random_uuid()", "'00000000-0000-0000-0000-000000000001'::uuid")
    };
    let rows = format!(
        "insert into invocations (id, installation_id, \"at\", method, host, path, micros) \
         with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500) \
         select {id}, {noisy}, 0, 'GET', 'h', '/noise', 1 from n"
    );
    server.execute(&rows).await;
    server.advance(Duration::from_secs(61));
    eventually("the record is pruned", async || {
        let left = server.texts("select path from invocations where path = '/noise'").await.len();
        (left <= 1_000).then_some(())
    })
    .await;
    let left = server.texts("select path from invocations where path = '/noise'").await.len();
    assert_eq!(left, 997, "so many as there is room for");
    assert_eq!(world.invocations().await.len(), 3, "all of the quiet one's");
}

async fn the_host_is_told_no_other_org(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    for query in ["orgId=60002", "OrgID=60002", "a=1&%6FrgId=60002", "orgId=60001280952&orgId=2"] {
        let refused = world.get(&format!("/api/v1/tickets?{query}")).await;
        let refused = refused.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], "requestURL", "{query}");
    }
    let query = "{\"orgid\":\"60002\"}";
    let refused = world.call_with("GET", "/api/v1/tickets", "queryParams", query).await;
    let refused = refused.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "queryParams");
    assert!(world.world.server.provider.api_calls().is_empty(), "nothing went out");
    world.get(&format!("/api/v1/tickets?orgId={ORG}")).await.expect(200);
    // Of others it is no business of ours.
    world.get(&world.upstream.url("/x?orgId=60002")).await.expect(200);
}
