//! Inspectors: addresses of this server's own that take any request and show it.

use std::time::Duration;

use mortise::seam::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::delivery_world::{ticket, webhook_of};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(
    any_request_is_taken_kept_and_answered_as_chosen,
    what_comes_is_bounded_and_ends,
    inspectors_are_their_owners_alone,
    the_signatures_of_deliveries_are_checked,
);

/// The answer of an inspector, which is its owner's and no problem of the API.
struct Seen {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

async fn send(server: &TestServer, method: &str, url: &str, body: &str) -> Seen {
    let path = format!("/{}", url.splitn(4, '/').nth(3).expect("a path"));
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = server.client.request(method, &path, "").body(body.to_owned());
    let response = request.header("x-sent", "yes").send().await.expect("it answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Seen { status, headers, body: response.text().await.expect("a text") }
}

async fn make(server: &TestServer, token: &str, body: &Value) -> (String, String) {
    let made = server.client.post("/api/v1/inspectors", token, body).await.expect(201);
    (made.text_of("id"), made.text_of("url"))
}

async fn requests(server: &TestServer, token: &str, id: &str) -> Vec<Value> {
    server.client.all(&format!("/api/v1/inspectors/{id}/requests?limit=7"), token).await
}

async fn any_request_is_taken_kept_and_answered_as_chosen(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let vendor = server.vendor_token("acme").await;
    let answer = json!({
        "status": 202, "body": "{\"taken\":true}", "delayMs": 40, "failFirst": 2, "failStatus": 500,
        "headers": { "Content-Type": "application/json", "Retry-After": "7", "X-Mine": "1" },
    });
    let body = json!({ "name": "bin", "answer": answer });
    let (id, url) = make(&server, &vendor, &body).await;
    assert!(url.starts_with(&server.client.url("/inspect/")), "{url}");
    let clock = Clock::default();
    let faults = async || {
        let told = server.client.get("/metrics", &server.operator).await.expect(200).text;
        let line = "mortise_http_requests_total{class=\"5xx\"} ";
        told.lines().find_map(|told| told.strip_prefix(line)).expect("a line").to_owned()
    };
    let faults_before = faults().await;
    let mut statuses = Vec::new();
    for (method, tail) in [
        ("GET", ""),
        ("POST", "/a/b?c=d&securityContext=geheim"),
        ("PROPFIND", "/"),
        ("DELETE", "?x"),
        ("OPTIONS", ""),
    ] {
        let began = clock.instant();
        let seen = send(&server, method, &format!("{url}{tail}"), "{\"a\":1}").await;
        assert!(began.elapsed() >= Duration::from_millis(40), "{method}: it waits");
        statuses.push(seen.status);
        assert_eq!(seen.body, "{\"taken\":true}");
        assert_eq!(seen.headers["content-type"], "application/json");
        assert_eq!(seen.headers["retry-after"], "7");
        assert_eq!(seen.headers["x-mine"], "1");
        assert_eq!(seen.headers["x-content-type-options"], "nosniff");
        let policy = seen.headers["content-security-policy"].to_str().expect("a text");
        assert!(policy.contains("sandbox"), "{policy}");
    }
    assert_eq!(statuses, [500, 500, 202, 202, 202]);
    assert_eq!(faults().await, faults_before, "what its owner chose is no fault of this server");
    let head = send(&server, "HEAD", &url, "").await;
    assert_eq!((head.status, head.body.as_str()), (202, ""));

    let kept = requests(&server, &vendor, &id).await;
    let methods: Vec<_> = kept.iter().map(|one| one["method"].as_str().expect("it")).collect();
    assert_eq!(methods, ["HEAD", "OPTIONS", "DELETE", "PROPFIND", "POST", "GET"], "latest first");
    let post = &kept[4];
    assert_eq!(post["path"], "/a/b");
    assert_eq!(post["query"], "c=d&securityContext=***");
    assert_eq!((&post["body"], &post["isBase64Encoded"]), (&json!("{\"a\":1}"), &json!(false)));
    assert_eq!((&post["answered"], &post["sequence"]), (&json!(500), &json!(2)));
    assert_eq!(post["signature"]["verdict"], "unsigned");
    let headers = post["headers"].as_array().expect("headers");
    assert!(headers.contains(&json!(["x-sent", "yes"])), "{headers:?}");
    let shown = server.client.get(&format!("/api/v1/inspectors/{id}"), &vendor).await.expect(200);
    assert_eq!((&shown.json["received"], &shown.json["vendor"]), (&json!(6), &json!("acme")));
    assert_eq!(shown.json["answer"]["failFirst"], 2);
    assert!(!shown.text.contains(url.rsplit('/').next().expect("a secret")), "told once");
    let dump = server.dump().await;
    assert!(!dump.contains(url.rsplit('/').next().expect("a secret")), "kept as a digest");
    assert!(!dump.contains("geheim"), "no context is kept");
}

async fn what_comes_is_bounded_and_ends(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let vendor = server.vendor_token("acme").await;
    let (id, url) = make(&server, &vendor, &json!({ "ttlSeconds": 90_000 })).await;
    assert_eq!(send(&server, "POST", &url, &"x".repeat((1 << 20) + 1)).await.status, 413);
    assert_eq!(send(&server, "POST", &url, &"ä".repeat(40_000)).await.status, 200);
    let kept = requests(&server, &vendor, &id).await;
    assert_eq!(kept.len(), 1, "what was refused is not kept");
    assert_eq!((&kept[0]["truncated"], &kept[0]["bodyBytes"]), (&json!(true), &json!(80_000)));
    assert_eq!(kept[0]["body"].as_str().expect("a text").len(), 65_536);
    let binary = server.client.request(Method::PUT, &path_of(&url), "");
    binary.body(vec![0_u8, 159, 146, 150]).send().await.expect("it answers");
    let kept = requests(&server, &vendor, &id).await;
    let (body, is_base64) = (&kept[0]["body"], &kept[0]["isBase64Encoded"]);
    assert_eq!((body, is_base64), (&json!("AJ+Slg=="), &json!(true)));

    // A rate, and no more than a hundred are kept.
    let mut refused = None;
    for _ in 0..70 {
        let seen = send(&server, "POST", &url, "{}").await;
        if seen.status == 429 {
            refused = Some(seen);
            break;
        }
    }
    let refused = refused.expect("the rate counts");
    assert!(refused.headers.contains_key("retry-after"));
    for _ in 0..2 {
        server.advance(Duration::from_mins(1));
        for _ in 0..50 {
            assert_eq!(send(&server, "POST", &url, "{}").await.status, 200);
        }
    }
    let kept = requests(&server, &vendor, &id).await;
    assert_eq!(kept.len(), 100);
    let sequences: Vec<_> = kept.iter().map(|one| one["sequence"].as_i64().expect("it")).collect();
    assert!(sequences.is_sorted_by(|one, next| *one == next + 1), "{sequences:?}");
    assert_eq!(server.texts("select method from inspected_requests").await.len(), 100);

    // Requests are kept for a day; then the inspector itself ends.
    server.advance(Duration::from_hours(24));
    assert!(requests(&server, &vendor, &id).await.is_empty());
    assert_eq!(send(&server, "POST", &url, "{}").await.status, 200);
    eventually("old ones are removed", async || {
        let left = server.texts("select method from inspected_requests").await;
        (left.len() == 1).then_some(())
    })
    .await;
    server.advance(Duration::from_hours(1));
    assert_eq!(send(&server, "POST", &url, "{}").await.status, 404);
    eventually("what came to it goes with it, long before a day is over", async || {
        server.texts("select method from inspected_requests").await.is_empty().then_some(())
    })
    .await;
    let path = format!("/api/v1/inspectors/{id}");
    server.client.get(&path, &vendor).await.refused(404, "RESOURCE_NOT_FOUND");
    // Strangers who guess are told at once, as many as they are, and hold nobody else up: made here,
    // or on another node a moment ago, an inspector is known.
    let (client, nothing) = (&server.client, json!({}));
    let guesses = (0..120).map(|number| async move {
        let path = format!("/inspect/{number:0>32}");
        client.call(Method::POST, &path, "", None).await.status
    });
    let (statuses, (_, new)) =
        tokio::join!(futures_util::future::join_all(guesses), make(&server, &vendor, &nothing));
    assert!(statuses.iter().all(|status| *status == 404), "{statuses:?}");
    assert_eq!(send(&server, "POST", &new, "{}").await.status, 200);
    for wrong in ["/inspect/x", "/inspect/", "/inspect/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = server.client.call(Method::PUT, wrong, "", None).await;
        assert_eq!(answer.status, 404, "{wrong}: {}", answer.text);
    }
}

fn path_of(url: &str) -> String {
    format!("/{}", url.splitn(4, '/').nth(3).expect("a path"))
}

async fn inspectors_are_their_owners_alone(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let (acme, other) = (server.vendor_token("acme").await, server.vendor_token("other").await);
    let (admin, viewer) = (server.admin(ORG).await, server.viewer(ORG).await);
    let foreign = server.admin("2").await;
    let (of_acme, _) = make(&server, &acme, &json!({})).await;
    let (of_org, url) = make(&server, &admin, &json!({})).await;
    let (for_acme, _) = make(&server, &server.operator, &json!({ "vendor": "acme" })).await;
    let ids = async |token: &str| -> Vec<String> {
        let rows = server.client.all("/api/v1/inspectors?limit=1", token).await;
        rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&acme).await, [of_acme.clone(), for_acme.clone()]);
    assert_eq!(ids(&admin).await, std::slice::from_ref(&of_org));
    assert_eq!(ids(&viewer).await, std::slice::from_ref(&of_org));
    assert!(ids(&other).await.is_empty() && ids(&foreign).await.is_empty());
    assert_eq!(ids(&server.operator).await.len(), 3);
    send(&server, "POST", &url, "{}").await;
    for (token, id) in
        [(&other, &of_acme), (&foreign, &of_org), (&admin, &of_acme), (&acme, &of_org)]
    {
        for path in
            [format!("/api/v1/inspectors/{id}"), format!("/api/v1/inspectors/{id}/requests")]
        {
            server.client.get(&path, token).await.refused(404, "RESOURCE_NOT_FOUND");
        }
        let path = format!("/api/v1/inspectors/{id}");
        let refused = server.client.call(Method::DELETE, &path, token, None).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    assert_eq!(requests(&server, &viewer, &of_org).await.len(), 1);
    for (token, body) in [
        (&acme, json!({ "vendor": "other" })),
        (&acme, json!({ "orgId": ORG })),
        (&admin, json!({ "orgId": "2" })),
        (&server.operator, json!({ "orgId": "2", "vendor": "acme" })),
        (&acme, json!({ "webhookId": "01890000-0000-7000-8000-000000000000" })),
        (&acme, json!({ "ttlSeconds": 59 })),
        (&acme, json!({ "ttlSeconds": 604_801 })),
        (&acme, json!({ "name": "a\nb" })),
        (&acme, json!({ "answer": { "status": 101 } })),
        (&acme, json!({ "answer": { "headers": { "Set-Cookie": "a=b" } } })),
        (&acme, json!({ "answer": { "headers": { "Content-Type": "text/html" } } })),
        (&acme, json!({ "answer": { "headers": { "Location": "https://a.example" } } })),
        (&acme, json!({ "answers": {} })),
    ] {
        let refused = server.client.post("/api/v1/inspectors", token, &body).await;
        refused.refused(422, "INVALID_DATA");
    }
    let repeated = async || {
        let request = server.client.request(Method::POST, "/api/v1/inspectors", &other);
        let request = request.header("idempotency-key", "once").json(&json!({}));
        server.client.send(request).await.expect(201).text_of("url")
    };
    assert_eq!(repeated().await, repeated().await, "made once");
    for _ in 1..20 {
        make(&server, &other, &json!({})).await;
    }
    let full = server.client.post("/api/v1/inspectors", &other, &json!({})).await;
    assert_eq!(full.refused(422, "UNPROCESSABLE_ENTITY").json["limit"], 20);
    let path = format!("/api/v1/inspectors/{of_org}");
    let gone = server.client.call(Method::DELETE, &path, &admin, None).await;
    assert_eq!(gone.status, 204);
    assert_eq!(send(&server, "POST", &url, "{}").await.status, 404);
    let place = server.stop().await;
    place.audit_holds(&[ORG]).await;
}

/// The server's own name leads nowhere: its inspectors are called at its own listener.
async fn the_signatures_of_deliveries_are_checked(backend: Backend) {
    let server = TestServer::start(backend, |settings| {
        settings.set("public_url", "https://mortise.example");
        settings.set("egress.allow", "192.0.2.1");
        settings.set("egress.require_https", "true");
    })
    .await;
    server.provider.register_redirect_uri("https://mortise.example/oauth/callback".to_owned());
    let (vendor, host) = (server.vendor_token("acme").await, server.host().await);
    let (id, url) = make(&server, &vendor, &json!({})).await;
    assert!(url.starts_with("https://mortise.example/inspect/"), "{url}");
    let package = server.package().with(|package| {
        package.resources["webhook"]["url"] = format!("{url}/desk").into();
        let manifest = package.manifest.as_object_mut().expect("an object");
        manifest.remove("callbackListener");
    });
    let installation = server.active_package(&package, ORG).await;
    let webhook = webhook_of(&server, &installation).await;
    server.client.post("/api/v1/events", &host, &ticket(ORG, "1")).await.expect(202);
    let delivered = eventually("it arrives at the inspector", async || {
        requests(&server, &vendor, &id).await.first().cloned()
    })
    .await;
    assert_eq!(delivered["path"], "/desk");
    assert_eq!(
        delivered["signature"],
        json!({ "verdict": "valid", "reason": null }),
        "{delivered}"
    );
    let query = delivered["query"].as_str().expect("a query");
    assert!(query.contains(&format!("orgId={ORG}")) && query.ends_with("securityContext=***"));
    let body: Value = serde_json::from_str(delivered["body"].as_str().expect("it")).expect("JSON");
    assert_eq!(body[0]["payload"]["id"], "1");
    eventually("it is delivered", async || {
        let rows = server.client.all("/api/v1/deliveries", &vendor).await;
        rows.iter().any(|row| row["state"] == "delivered").then_some(())
    })
    .await;
    // Replayed with another body the signature is no more worth anything, and why is said.
    let mut forged = server.client.request(Method::POST, &path_of(&url), "").body("[]");
    for pair in delivered["headers"].as_array().expect("headers") {
        let (name, value) = (pair[0].as_str().expect("it"), pair[1].as_str().expect("it"));
        if name.starts_with("webhook-") {
            forged = forged.header(name, value);
        }
    }
    forged.send().await.expect("it answers");
    let kept = requests(&server, &vendor, &id).await;
    assert_eq!(kept[0]["signature"]["verdict"], "invalid");
    let why = kept[0]["signature"]["reason"].as_str().expect("a reason");
    assert!(why.contains("no signature"), "{why}");

    // A test goes there too; whose it is is known only where the inspector knows its webhook.
    let test = format!("/api/v1/webhooks/{webhook}/ping");
    let told = server.client.post(&test, &vendor, &json!({})).await.expect(200);
    assert_eq!(told.json["outcome"], "delivered", "{}", told.text);
    assert_eq!(requests(&server, &vendor, &id).await[0]["signature"]["verdict"], "unknown");
    let (named, named_url) = make(&server, &vendor, &json!({ "webhookId": webhook })).await;
    let unsaved = json!({ "webhook": { "url": named_url }, "eventType": "Ticket_Add" });
    let told = server.client.post("/api/v1/webhooks/test", &vendor, &unsaved).await.expect(200);
    assert_eq!(told.json["outcome"], "delivered", "{}", told.text);
    let kept = requests(&server, &vendor, &named).await;
    assert_eq!(kept[0]["signature"]["verdict"], "invalid", "a secret that nobody knows made it");

    // Nothing but inspectors is reached by that way.
    for path in ["/api/v1/tokens", "/health/ready", "/inspect/../health/ready", "/inspect/"] {
        let body = json!({ "url": format!("https://mortise.example{path}") });
        let told = server.client.post("/api/v1/webhooks/ping", &vendor, &body).await.expect(200);
        assert_ne!(told.json["outcome"], "delivered", "{path}: {}", told.text);
    }
}
