//! What changes where browsers come over TLS, as they do wherever this is used in earnest: the
//! session's cookie, and who may show the pages in a frame.

use serde_json::json;

use super::visitor::{Visitor, cookie_of, forms};
use crate::support::client::Answer;
use crate::support::server::{Backend, ORG, TestServer};

const PUBLIC: &str = "https://mortise.example";

/// Comes in by a link; what the button answers.
async fn enter(server: &TestServer) -> Answer {
    let request = json!({ "role": "admin", "orgId": ORG, "subject": "ada" });
    let made = server.client.post("/api/v1/portal-links", &server.operator, &request).await;
    let url = made.expect(201).text_of("url");
    let path = url.strip_prefix(PUBLIC).expect("links lead to the public address").to_owned();
    let nobody = Visitor::nobody(server);
    nobody.get(&path).await.expect(200);
    // A page of another site cannot use it up, in whatever way it says where it is from.
    for foreign in [
        Some("https://evil.example"),
        Some("https://mortise.example.evil.example"),
        Some("http://mortise.example"),
        Some("https://mortise.example:8443"),
        Some("null"),
        None,
    ] {
        let refused = nobody.send_from(foreign, &path, &[]).await.expect(403);
        assert!(refused.header("set-cookie").is_empty(), "{foreign:?}");
    }
    nobody.send_from(Some(PUBLIC), &path, &[]).await.expect(303)
}

/// The attributes of the cookie that an answer sets, without its value and its age.
fn attributes(answer: &Answer) -> Vec<String> {
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = answer.header("set-cookie");
    let (name, _) = cookie.split_once('=').expect("a name");
    assert_eq!(name, "__Host-mortise-session", "{cookie}");
    let rest = cookie.split("; ").skip(1).filter(|part| !part.starts_with("Max-Age="));
    rest.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_is_for_this_host_over_tls_alone() {
    let server =
        TestServer::start(Backend::Sqlite, |settings| settings.set("public_url", PUBLIC)).await;
    let entered = enter(&server).await;
    let wanted = ["Path=/", "HttpOnly", "Secure", "SameSite=Lax"];
    assert_eq!(attributes(&entered), wanted);
    let mut ada = Visitor::nobody(&server);
    // Without its prefix, which browsers hold to TLS, it is nobody's.
    let cookie = cookie_of(&entered);
    ada.cookie = cookie.replace("__Host-", "");
    ada.get("/pages").await.expect(303);
    ada.cookie = cookie;
    let home = ada.get("/pages").await.expect(200);
    let policy = home.header("content-security-policy");
    assert!(policy.contains("form-action 'self';") && policy.ends_with("frame-ancestors 'none'"));
    assert_eq!(home.header("x-frame-options"), "DENY");
    // A page is kept by nobody; what has its digest in its name is, by everybody.
    let style = home.text.split("href=\"").find(|part| part.starts_with("/assets/pages"));
    let style = style.and_then(|part| part.split('"').next()).expect("a stylesheet");
    let asset = ada.get(style).await.expect(200);
    assert!(asset.header("cache-control").ends_with("immutable"), "{style}");
    let token = forms(&home.text).into_iter().find(|form| form.action == "/sign-out");
    let token = token.expect("a way out").fields[0].1.clone();
    let left = ada.send_from(Some(PUBLIC), "/sign-out", &[("csrf", &token)]).await.expect(303);
    assert_eq!(attributes(&left), wanted, "the browser has to know which cookie ends");
    assert!(left.header("set-cookie").ends_with("Max-Age=0"));
    ada.get("/pages").await.expect(303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_frame_of_the_host_the_cookie_travels_and_is_kept_apart() {
    let server = TestServer::start(Backend::Sqlite, |settings| {
        settings.set("public_url", PUBLIC);
        settings.set("pages.frame_ancestors", "https://desk.example,https://console.example:8443");
    })
    .await;
    let entered = enter(&server).await;
    let wanted = ["Path=/", "HttpOnly", "Secure", "SameSite=None", "Partitioned"];
    assert_eq!(attributes(&entered), wanted);
    let mut ada = Visitor::nobody(&server);
    ada.cookie = cookie_of(&entered);
    for path in ["/pages", "/pages/webhooks", "/pages/nothing", "/sign-in?done=signed-out"] {
        let page = ada.get(path).await;
        let policy = page.header("content-security-policy");
        let named = "frame-ancestors https://desk.example https://console.example:8443";
        assert!(policy.ends_with(named), "{path}: {policy}");
        assert!(policy.contains("form-action 'self';"), "{path}: {policy}");
        assert!(!page.headers.contains_key("x-frame-options"), "{path}");
    }
    // `SameSite=None` sends the cookie with what other sites ask for: their forms bring no token.
    let foreign = ada.send_from(Some("https://desk.example"), "/sign-out", &[]).await;
    foreign.expect(403);
    ada.get("/pages").await.expect(200);
}
