//! What an installation keeps: parameters in the reference's forms, and the key-value store.

use std::time::Duration;

use mortise::development::Received;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::delivery_world::SOON;
use crate::support::invoke_world::{InvokeWorld, inner};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, assert_absent};

on_both!(
    parameters_are_read_and_set_by_administrators_and_the_installation,
    secure_parameters_are_never_returned,
    the_store_keeps_what_the_reference_keeps,
    the_store_has_the_references_limits,
    the_store_is_the_installations_own_and_ends_with_it,
);

fn parameters_path(world: &InvokeWorld) -> String {
    format!("/api/v1/installedExtensions/{}/configParams", world.world.installation.id)
}

fn storage_path(world: &InvokeWorld) -> String {
    format!("/api/v1/installedExtensions/{}/storage", world.world.installation.id)
}

fn value_of<'v>(rows: &'v Value, name: &str) -> &'v Value {
    let rows = rows.as_array().expect("a list");
    let row = rows.iter().find(|row| row["name"] == name).expect("the parameter is there");
    &row["value"]
}

async fn parameters_are_read_and_set_by_administrators_and_the_installation(backend: Backend) {
    let world = InvokeWorld::with(
        backend,
        |_| {},
        |package| {
            let callbacks = package.manifest["callbackListener"]["onInstall"].clone();
            package.manifest["callbackListener"]["onConfigParamAdd"] = callbacks;
        },
    )
    .await;
    let server = &world.world.server;
    let path = parameters_path(&world);
    let (admin, viewer) = (server.admin(ORG).await, server.viewer(ORG).await);
    let body = json!({ "variables": [{ "name": "mirrorHost", "value": "a.example" }] });
    let set = server.client.post(&path, &admin, &body).await.expect(200);
    assert_eq!(value_of(&set.json["data"], "mirrorHost"), "a.example");
    // The reference's scheme, and the org that the token implies.
    let request = server.client.request(Method::GET, &path, "");
    let request = request.header("authorization", format!("Zoho-oauthtoken {viewer}"));
    let read = server.client.send(request.header("orgId", ORG)).await.expect(200);
    assert_eq!(read.json, set.json);
    let request = server.client.request(Method::GET, &path, &viewer).header("orgId", "60002");
    server.client.send(request).await.refused(403, "OAUTH_ORG_MISMATCH");
    // As the installation, in the form that vendors of the reference send and read.
    let url = "/api/v1/installedExtensions/{{installationId}}/configParams";
    let got = inner(&world.get(url).await);
    assert_eq!(got["statusCode"], 200);
    assert_eq!(got["statusMessage"], read.json);
    let body = json!({ "variables": [{ "name": "mirrorHost", "value": "b.example" }] });
    let set = inner(&world.call_with("POST", url, "postBody", &body.to_string()).await);
    assert_eq!(value_of(&set["statusMessage"]["data"], "mirrorHost"), "b.example");
    let read = server.client.get(&path, &admin).await.expect(200);
    assert_eq!(value_of(&read.json["data"], "mirrorHost"), "b.example");
    // Both told the vendor, and both are in the history.
    let is_told =
        |received: &Received| received.json().is_ok_and(|body| body["event"] == "onConfigParamAdd");
    server.vendor.wait_where(2, SOON, is_told).await.expect("the vendor is told of both");
    let history = format!("/api/v1/installations/{}/history", world.world.installation.id);
    let actors: Vec<String> = server
        .client
        .all(&history, &server.operator)
        .await
        .iter()
        .filter(|step| step["command"] == "configure")
        .map(|step| step["actor"].as_str().expect("an actor").to_owned())
        .collect();
    assert!(actors[0].starts_with("admin:"), "{actors:?}");
    assert_eq!(actors[1], format!("installation:{}", world.world.installation.id));
    // Faults are said of the variable that has them.
    for (body, field) in [
        (json!({ "variables": [{ "name": "nobody", "value": "x" }] }), "/variables/0"),
        (json!({ "variables": [] }), "/variables"),
        (
            json!({ "variables": [{ "name": "mirrorHost", "value": "x" }, { "name": "mirrorHost", "value": "y" }] }),
            "/variables/1/name",
        ),
    ] {
        let refused = server.client.post(&path, &admin, &body).await.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], field);
        let told = inner(&world.call_with("POST", url, "postBody", &body.to_string()).await);
        assert_eq!(told["statusCode"], 422);
    }
    let unreadable = inner(&world.call_with("POST", url, "postBody", "[1").await);
    assert_eq!(unreadable["statusCode"], 422);
    server.client.post(&path, &viewer, &body).await.refused(403, "FORBIDDEN");
    let stranger = server.admin("60002").await;
    server.client.get(&path, &stranger).await.refused(404, "RESOURCE_NOT_FOUND");
    // Another installation's id is nobody's, for the installation that calls.
    let other = url.replace("{{installationId}}", "01890000-0000-7000-8000-000000000000");
    assert_eq!(inner(&world.get(&other).await)["statusCode"], 404);
    for (method, url, status) in [
        ("DELETE", url, 405),
        ("GET", "/api/v1/installedExtensions/{{installationId}}", 404),
        ("GET", "/api/v1/installedExtensions/{{installationId}}/tokens", 404),
    ] {
        let answer = world.call(&world.fields(method, url)).await;
        assert_eq!(inner(&answer)["statusCode"], status, "{method} {url}");
    }
    assert!(server.provider.api_calls().is_empty(), "nothing of it reached the host");
}

async fn secure_parameters_are_never_returned(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let path = parameters_path(&world);
    let admin = server.admin(ORG).await;
    let secret = "token-that-nobody-may-read";
    let body = json!({ "variables": [{ "name": "mirrorToken", "value": secret }] });
    let set = server.client.post(&path, &admin, &body).await.expect(200);
    let read = server.client.get(&path, &admin).await.expect(200);
    let url = "/api/v1/installedExtensions/{{installationId}}/configParams";
    let called = world.get(url).await;
    for answer in [&set, &read, &called] {
        assert!(!answer.text.contains(secret), "{}", answer.text);
    }
    assert_eq!(value_of(&read.json["data"], "mirrorToken"), "********");
    assert_absent(&server.dump().await, secret);
    // What was read is written back: the secret stays, and can still be used.
    let body = json!({ "variables": [
        { "name": "mirrorToken", "value": "********" }, { "name": "mirrorHost", "value": "x" },
    ] });
    server.client.post(&path, &admin, &body).await.expect(200);
    let headers = "{\"X-Token\":\"{{mirrorToken}}\"}";
    let call = world.call_with("GET", &world.upstream.url("/t"), "headers", headers).await;
    assert_eq!(call.status, 200, "{}", call.text);
    let received = world.upstream.wait_for(1, SOON).await.expect("it arrives");
    assert_eq!(received[0].header("x-token"), Some(secret));
    // Asterisks stand for a secret that is declared, once, and for nothing else.
    let stars = |names: &[&str]| {
        let variables = names.iter().map(|name| json!({ "name": name, "value": "********" }));
        json!({ "variables": variables.collect::<Vec<_>>() })
    };
    let refused = server.client.post(&path, &admin, &stars(&["nobody"])).await;
    assert_eq!(refused.refused(422, "INVALID_DATA").json["errors"][0]["fieldName"], "/variables/0");
    let twice = server.client.post(&path, &admin, &stars(&["mirrorToken", "mirrorToken"])).await;
    let twice = twice.refused(422, "INVALID_DATA");
    assert_eq!(twice.json["errors"][0]["fieldName"], "/variables/1/name");
    let set = server.client.post(&path, &admin, &stars(&["mirrorHost"])).await.expect(200);
    assert_eq!(
        value_of(&set.json["data"], "mirrorHost"),
        "********",
        "no secret: a text as others"
    );
}

async fn the_store_keeps_what_the_reference_keeps(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let vendor = server.vendor_token("acme").await;
    let path = storage_path(&world);
    let url = "/api/v1/installedExtensions/{{installationId}}/storage";
    let one = json!({ "key": "user:1", "queriableValue": "users", "value": { "name": "Zoë" } });
    // Through invoke, and read by the vendor's token; and the other way round.
    let kept = inner(&world.call_with("POST", url, "postBody", &one.to_string()).await);
    assert_eq!(kept["statusMessage"], one, "{kept}");
    let read = server.client.get(&format!("{path}?key=user:1"), &vendor).await.expect(200);
    assert_eq!(read.json, json!({ "data": [one] }));
    let many: Vec<Value> = (2..=9)
        .map(|n| json!({ "key": format!("user:{n}"), "queriableValue": "users", "value": { "n": n } }))
        .collect();
    let kept = server.client.post(&path, &vendor, &json!(many)).await.expect(200);
    assert_eq!(kept.json["data"].as_array().expect("a list").len(), 8);
    let lone = json!({ "key": "lone", "value": {} });
    server.client.post(&path, &vendor, &lone).await.expect(200);
    let query = "{\"queriableValue\":\"users\",\"from\":2,\"limit\":3}";
    let page = inner(&world.call_with("GET", url, "queryParams", query).await);
    let keys: Vec<&Value> = page["statusMessage"]["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| &row["key"])
        .collect();
    assert_eq!(keys, ["user:3", "user:4", "user:5"]);
    assert_eq!(server.client.get(&path, &vendor).await.expect(200).data().len(), 10);
    // A value takes the place of the former one under its key.
    let again = json!({ "key": "user:1", "queriableValue": null, "value": { "name": "Zoe" } });
    server.client.post(&path, &vendor, &again).await.expect(200);
    let read = server.client.get(&format!("{path}?key=user:1"), &vendor).await.expect(200);
    assert_eq!(read.json, json!({ "data": [again] }));
    // Deletion by key and by queriable value.
    let fields = "{\"key\":\"lone\"}";
    let gone = inner(&world.call_with("DELETE", url, "queryParams", fields).await);
    assert_eq!(gone["statusMessage"], json!({ "deleted": 1 }));
    let gone = server
        .client
        .call(Method::DELETE, &format!("{path}?queriableValue=users"), &vendor, None)
        .await;
    assert_eq!(gone.expect(200).json, json!({ "deleted": 8 }));
    assert_eq!(server.client.get(&path, &vendor).await.expect(200).data().len(), 1);
}

async fn the_store_has_the_references_limits(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let vendor = server.vendor_token("acme").await;
    let path = storage_path(&world);
    let post = async |body: Value| -> Answer { server.client.post(&path, &vendor, &body).await };
    for body in [
        json!({ "key": "", "value": {} }),
        json!({ "key": "a b", "value": {} }),
        json!({ "key": "k".repeat(51), "value": {} }),
        json!({ "key": "k", "queriableValue": "q".repeat(51), "value": {} }),
        json!({ "key": "k", "value": "text" }),
        json!({ "key": "k", "value": { "v": "x".repeat(5_100) } }),
        json!({ "key": "k" }),
        json!({ "key": "k", "value": {}, "more": 1 }),
        json!((0..11).map(|n| json!({ "key": format!("k{n}"), "value": {} })).collect::<Vec<_>>()),
        json!([{ "key": "k", "value": {} }, { "key": "k", "value": {} }]),
    ] {
        post(body).await.refused(422, "INVALID_DATA");
    }
    for query in ["key=a/b", "limit=0", "limit=201", "from=x", "other=1"] {
        let refused = server.client.get(&format!("{path}?{query}"), &vendor).await;
        refused.refused(422, "INVALID_DATA");
    }
    let nothing = server.client.call(Method::DELETE, &path, &vendor, None).await;
    nothing.refused(422, "INVALID_DATA");
    // 50 writes a minute, whichever way they come.
    let body = json!({ "key": "k", "value": {} });
    let url = "/api/v1/installedExtensions/{{installationId}}/storage";
    for _ in 0..45 {
        post(body.clone()).await.expect(200);
    }
    let mut written = 45;
    let limited = loop {
        let told = inner(&world.call_with("POST", url, "postBody", &body.to_string()).await);
        if told["statusCode"] == 429 {
            break told;
        }
        written += 1;
        assert!(written < 60, "the rate never ends");
    };
    assert_eq!(written, 50, "{limited}");
    let refused = post(body.clone()).await.refused(429, "TOO_MANY_REQUESTS");
    let wait: u64 = refused.header("retry-after").parse().expect("a number of seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    // Half a minute later the minute is still the same: none comes back little by little.
    server.advance(Duration::from_secs(20));
    post(body.clone()).await.refused(429, "TOO_MANY_REQUESTS");
    server.advance(Duration::from_secs(40));
    for _ in 0..50 {
        post(body.clone()).await.expect(200);
    }
    post(body).await.refused(429, "TOO_MANY_REQUESTS");
}

async fn the_store_is_the_installations_own_and_ends_with_it(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let (vendor, other) = (server.vendor_token("acme").await, server.vendor_token("other").await);
    let path = storage_path(&world);
    let marker = "what-only-this-installation-knows";
    let body = json!({ "key": "k", "value": { "v": marker } });
    server.client.post(&path, &vendor, &body).await.expect(200);
    server.client.get(&path, &other).await.refused(404, "RESOURCE_NOT_FOUND");
    server.client.get(&path, &server.admin(ORG).await).await.refused(403, "FORBIDDEN");
    let second = world.another("60002").await;
    let theirs = format!("/api/v1/installedExtensions/{}/storage", second.id);
    assert!(server.client.get(&theirs, &vendor).await.expect(200).data().is_empty());
    // Without `storage` in the manifest there is none.
    let bare = server.package().key("bare").with(|package| {
        package.manifest["storage"] = false.into();
    });
    let bare = server.active_package(&bare, ORG).await;
    let none = format!("/api/v1/installedExtensions/{}/storage", bare.id);
    server.client.get(&none, &vendor).await.refused(403, "FORBIDDEN");
    // It is erased in the transaction that ends the installation.
    assert!(server.dump().await.contains(marker));
    let body = json!({ "installationId": world.world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    assert!(!server.dump().await.contains(marker), "nothing of it is left");
    server.client.get(&path, &vendor).await.refused(404, "RESOURCE_NOT_FOUND");
}
