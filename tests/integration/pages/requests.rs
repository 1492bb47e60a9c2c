//! What a request is known by: where it comes from, behind a proxy too; one id on its answer, its
//! page and its log lines; and counted once, however much the page asked of the API.

use reqwest::Method;
use serde_json::json;

use super::visitor::{Visitor, cookie_of};
use crate::support::server::{Backend, ORG, TestServer};

const CLIENT: &str = "198.51.100.7";

/// What a proxy hands on of a client that says that it comes from elsewhere.
const FORWARDED: &str = "203.0.113.66, 198.51.100.7";

/// Comes in by a link as an administrator, through a proxy; the cookie.
async fn enter(server: &TestServer) -> String {
    let link = json!({ "role": "admin", "orgId": ORG, "subject": "ada-4711" });
    let request = server.client.request(Method::POST, "/api/v1/portal-links", &server.operator);
    let request = request.header("x-forwarded-for", FORWARDED).json(&link);
    let made = server.client.send(request).await.expect(201);
    let url = made.text_of("url");
    let path = url.strip_prefix(&server.client.url("")).expect("ours");
    let request = server.client.request(Method::POST, path, "");
    let request = request.header("x-forwarded-for", FORWARDED);
    let request = request.header("origin", server.client.url(""));
    cookie_of(&server.client.send(request).await.expect(303))
}

async fn addresses(server: &TestServer, action: &str) -> Vec<String> {
    server.texts(&format!("select address from audit where action = '{action}'")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_trusted_says_where_a_request_comes_from() {
    let server = TestServer::start(Backend::Sqlite, |settings| {
        settings.set("server.trusted_proxies", "127.0.0.0/8");
    })
    .await;
    let active = server.active(ORG).await;
    let mut ada = Visitor::nobody(&server);
    ada.cookie = enter(&server).await;
    for action in ["portal-link.create", "session.begin"] {
        assert_eq!(addresses(&server, action).await, [CLIENT], "{action}");
    }
    // Suspended on the page, which asks the API within the process: the same address.
    let token = ada.form_token().await;
    let path = format!("/pages/installations/{}", active.id);
    let request = server
        .client
        .request(Method::POST, &format!("{path}/suspend"), "")
        .header("forwarded", "for=203.0.113.66, for=\"198.51.100.7:4711\"")
        .header("origin", server.client.url(""))
        .header("cookie", &ada.cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={token}&key=k&reason=too+loud"));
    server.client.send(request).await.expect(303);
    let own = ada.get(&path).await.expect(200).text;
    assert!(own.contains(CLIENT) && own.contains("ada-4711") && own.contains("too loud"), "{own}");
    // The vendor learns what happened and why: not who sits where in somebody else's org.
    let vic = Visitor::vendor(&server, "acme").await;
    let seen = vic.get(&path).await.expect(200).text;
    assert!(seen.contains("too loud") && !seen.contains(CLIENT) && !seen.contains("ada-4711"));
    let vendor = server.vendor_token("acme").await;
    let history = format!("/api/v1/installations/{}/history", active.id);
    let steps = server.client.get(&history, &vendor).await.expect(200);
    assert!(steps.data().iter().all(|step| step["address"].is_null()), "{}", steps.text);
    let last = steps.data().last().expect("a step");
    assert_eq!((&last["actor"], &last["reason"]), (&json!("admin"), &json!("too loud")));
    let admin = server.admin(ORG).await;
    let steps = server.client.get(&history, &admin).await.expect(200);
    assert_eq!(steps.data().last().expect("a step")["address"], CLIENT);
}

/// All answers that were counted so far.
async fn counted(server: &TestServer) -> u64 {
    let metrics = server.client.get("/metrics", &server.operator).await.expect(200).text;
    let lines = metrics.lines().filter(|line| line.starts_with("mortise_http_requests_total{"));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_one_request_with_one_id_and_nobody_chooses_where_it_is_from() {
    let server = TestServer::start(Backend::Sqlite, |_| {}).await;
    let mut ada = Visitor::nobody(&server);
    // No proxy is trusted here: what a client says of itself is no matter.
    ada.cookie = enter(&server).await;
    for action in ["portal-link.create", "session.begin"] {
        assert_eq!(addresses(&server, action).await, ["127.0.0.1"], "{action}");
    }
    let before = counted(&server).await;
    ada.get("/pages").await.expect(200);
    // The page, and the question before it, which was counted after it was answered.
    assert_eq!(counted(&server).await - before, 2);
    for path in [
        // The API refuses the first, the pages the second, nobody serves the third.
        "/pages/installations/01890000-0000-7000-8000-000000000000",
        "/pages/tokens",
        "/nowhere",
    ] {
        let request = server.client.request(Method::GET, path, "");
        let request = request.header("accept", "text/html").header("cookie", &ada.cookie);
        let request = request.header("x-correlation-id", "quoted-4711");
        let page = server.client.send(request).await.expect(404);
        assert_eq!(page.header("x-correlation-id"), "quoted-4711", "{path}");
        assert!(page.text.contains("<code>quoted-4711</code>"), "{path}: {}", page.text);
    }
    // Whoever brings none is given one, and the page says that one.
    let page = ada.get("/pages/tokens").await.expect(404);
    let id = page.header("x-correlation-id");
    assert!(page.text.contains(&format!("<code>{id}</code>")), "{id}: {}", page.text);
}
