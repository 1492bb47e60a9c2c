//! The servers as others meet them: over sockets.

use std::time::Duration;

use url::Url;

use super::grants::challenge_of;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";
const REDIRECT: &str = "http://127.0.0.1:1/oauth/callback";

#[expect(clippy::disallowed_methods, reason = "a plain client against a development server")]
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

async fn server() -> DevelopmentAuthorizationServer {
    let options = DevelopmentAuthorizationServerOptions {
        redirect_uris: vec![REDIRECT.to_owned()],
        ..Default::default()
    };
    DevelopmentAuthorizationServer::start(options).await.expect("the server starts")
}

fn authorization_url(server: &DevelopmentAuthorizationServer, more: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("client_id", server.client_id().to_owned()),
        ("redirect_uri", REDIRECT.to_owned()),
        ("response_type", "code".to_owned()),
        ("scope", "Desk.events.ALL,Desk.tickets.READ".to_owned()),
        ("state", "s t&a=te".to_owned()),
        ("code_challenge", challenge_of(VERIFIER)),
        ("code_challenge_method", "S256".to_owned()),
    ];
    for (name, value) in more {
        fields.retain(|(known, _)| known != name);
        fields.push((name, (*value).to_owned()));
    }
    fields.retain(|(_, value)| !value.is_empty());
    Url::parse_with_params(&server.authorize_url(), fields).expect("a URL").into()
}

async fn post(url: String, fields: &[(&str, &str)]) -> (u16, serde_json::Value) {
    let response = client().post(url).form(fields).send().await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or_default())
}

async fn redeem(server: &DevelopmentAuthorizationServer, code: &str) -> (u16, serde_json::Value) {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", server.client_id()),
        ("client_secret", server.client_secret()),
    ];
    post(server.token_url(), &fields).await
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn the_whole_story_of_a_token() {
    let server = server().await;
    let mut browser = Browser::new().expect("a browser");
    let url = authorization_url(&server, &[]);
    let answer = browser.consent(&url, Decision::Approve).await.expect("an answer");
    assert_eq!(answer.state.as_deref(), Some("s t&a=te"));
    assert_eq!(answer.iss.as_deref(), Some(server.issuer()));
    let (status, tokens) = redeem(&server, &answer.code.expect("a code")).await;
    assert_eq!((status, &tokens["scope"]), (200, &"Desk.events.ALL Desk.tickets.READ".into()));
    let (access, refresh) = (text(&tokens["access_token"]), text(&tokens["refresh_token"]));

    let ticket = format!("{}/api/v1/tickets/42", server.issuer());
    let call = |scheme: &str, token: &str| {
        client().get(&ticket).header("authorization", format!("{scheme} {token}")).send()
    };
    let got = call("Zoho-oauthtoken", &access).await.expect("an answer");
    assert_eq!(got.status(), 200);
    assert_eq!(got.json::<serde_json::Value>().await.expect("JSON")["id"], "42");
    assert_eq!(call("Bearer", "wrong").await.expect("an answer").status(), 401);
    assert_eq!(server.api_calls().len(), 2);

    let secret = [("client_id", server.client_id()), ("client_secret", server.client_secret())];
    let fields =
        [("grant_type", "refresh_token"), ("refresh_token", &refresh), secret[0], secret[1]];
    let (status, renewed) = post(server.token_url(), &fields).await;
    assert_eq!(status, 200);
    let (new_access, new_refresh) =
        (text(&renewed["access_token"]), text(&renewed["refresh_token"]));
    assert!(server.is_live(&new_access) && !server.is_live(&refresh), "refresh tokens rotate");

    server.conduct(|conduct| conduct.revocation_failures.extend([503, 503]));
    for expected in [503, 503, 200] {
        let fields = [("token", new_refresh.as_str()), secret[0], secret[1]];
        assert_eq!(post(server.revoke_url(), &fields).await.0, expected);
    }
    assert!(server.live_tokens().is_empty(), "the refresh token takes its family along");
    assert_eq!((server.token_requests(), server.revocation_requests()), (2, 3));
}

#[tokio::test]
async fn refusals_reach_the_client_and_only_a_registered_one() {
    let server = server().await;
    let mut browser = Browser::new().expect("a browser");
    let denied = browser.consent(&authorization_url(&server, &[]), Decision::Deny).await;
    let denied = denied.expect("an answer");
    assert_eq!((denied.error.as_deref(), denied.code), (Some("access_denied"), None));
    for (field, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("state", "", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
    ] {
        let url = authorization_url(&server, &[(field, value)]);
        let answer = browser.consent(&url, Decision::Approve).await.expect("a redirect");
        assert_eq!(answer.error.as_deref(), Some(error), "{field}={value}");
    }
    for (field, value) in [("client_id", "other"), ("redirect_uri", "http://evil.test/")] {
        let url = authorization_url(&server, &[(field, value)]);
        let page = browser.open(&Url::parse(&url).expect("a URL")).await.expect("a page");
        assert_eq!((page.status, page.location), (400, None), "{field}");
    }
}

#[tokio::test]
async fn clients_prove_who_they_are() {
    let server = server().await;
    let url = server.token_url();
    let grant = ("grant_type", "client_credentials");
    let (status, body) = post(url.clone(), &[grant, ("client_id", server.client_id())]).await;
    assert_eq!((status, &body["error"]), (401, &"invalid_client".into()));
    let basic = |secret: &str| {
        client().post(&url).basic_auth(server.client_id(), Some(secret)).form(&[grant]).send()
    };
    let refused = basic("wrong").await.expect("an answer");
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(basic(server.client_secret()).await.expect("an answer").status(), 200);
    let both = client()
        .post(&url)
        .basic_auth(server.client_id(), Some(server.client_secret()))
        .form(&[grant, ("client_secret", server.client_secret())]);
    assert_eq!(both.send().await.expect("an answer").status(), 400);
}

#[tokio::test]
async fn conduct_can_be_changed() {
    let server = server().await;
    server.conduct(|conduct| {
        conduct.auto = Some(Decision::Approve);
        conduct.grant_only = Some(vec!["Desk.tickets.READ".to_owned()]);
        conduct.announce_issuer = false;
        conduct.issue_refresh_tokens = false;
        conduct.token_failures.push_back(500);
    });
    let mut browser = Browser::new().expect("a browser");
    let url = authorization_url(&server, &[]);
    let answer = browser.consent(&url, Decision::Deny).await.expect("an answer");
    assert_eq!(answer.iss, None);
    let code = answer.code.expect("approved without asking");
    assert_eq!(redeem(&server, &code).await.0, 500);
    let (status, tokens) = redeem(&server, &code).await;
    assert_eq!((status, &tokens["scope"]), (200, &"Desk.tickets.READ".into()));
    assert!(tokens.get("refresh_token").is_none());
    server.conduct(|conduct| conduct.omit_scope = true);
    let code = browser.consent(&url, Decision::Approve).await.expect("an answer").code;
    let (_, tokens) = redeem(&server, &code.expect("a code")).await;
    assert!(tokens.get("scope").is_none());
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let server = server().await;
    let address = server.address();
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_vendor_keeps_what_comes_and_answers_as_told() {
    let vendor = SampleVendor::start(SampleVendorOptions::default()).await.expect("it starts");
    let told = Behaviour::status(429).with_header("Retry-After", "7").with_body("later");
    vendor.behave_in_turn("/hooks/desk", [told], Behaviour::status(204));
    let send = || client().post(vendor.url("/hooks/desk?orgId=1")).body("[1]").send();
    let first = send().await.expect("an answer");
    assert_eq!(first.status(), 429);
    assert_eq!(first.headers()["retry-after"], "7");
    assert_eq!(first.text().await.expect("a body"), "later");
    assert_eq!(send().await.expect("an answer").status(), 204);
    assert_eq!(client().get(vendor.url("/other")).send().await.expect("an answer").status(), 200);
    let got = vendor.wait_for_path("/hooks/desk", 2, SECOND).await.expect("two requests");
    assert_eq!((got[1].number, got[1].query.as_deref()), (2, Some("orgId=1")));
    assert_eq!(got[1].body.as_ref(), b"[1]");
    let numbers = [vendor.next(SECOND).await, vendor.next(SECOND).await, vendor.next(SECOND).await];
    let numbers: Vec<u64> = numbers.into_iter().map(|r| r.expect("a request").number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let late = vendor.wait_for(4, Duration::from_millis(20)).await.expect_err("no fourth came");
    assert!(late.to_string().contains("4 requests, 3 came"), "{late}");
}

#[tokio::test]
async fn the_vendor_misbehaves_in_every_way() {
    let vendor = SampleVendor::start(SampleVendorOptions::default()).await.expect("it starts");
    let send = |path: &str| {
        let url = vendor.url(path);
        async move {
            let sent = client().post(url).timeout(SECOND / 4).body("x").send().await?;
            sent.bytes().await
        }
    };
    for (path, behaviour) in [
        ("/hang", Behaviour::Hang),
        ("/close", Behaviour::Close),
        ("/reset", Behaviour::Reset),
        ("/garbage", Behaviour::Garbage),
        ("/flood", Behaviour::Flood),
        ("/trickle", Behaviour::Trickle { interval: Duration::from_millis(50) }),
        ("/late", Behaviour::status(200).after(SECOND)),
    ] {
        vendor.behave(path, behaviour);
        assert!(send(path).await.is_err(), "{path}");
        assert_eq!(vendor.received_at(path).len(), 1, "{path}");
    }
    vendor.behave("/trickle", Behaviour::Trickle { interval: Duration::ZERO });
    assert_eq!(send("/trickle").await.expect("an answer"), "slowly");
}

#[tokio::test]
async fn the_vendor_counts_what_it_has_in_hand() {
    let vendor = SampleVendor::start(SampleVendorOptions::default()).await.expect("it starts");
    vendor.behave("/slow", Behaviour::status(200).after(Duration::from_millis(100)));
    let client = client();
    let calls = (0..3).map(|_| client.post(vendor.url("/slow")).body("x").send());
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    assert_eq!(vendor.most_in_hand("/slow"), 3);
    assert!(vendor.connections() <= 3);
}

#[tokio::test]
async fn the_vendor_forgets_the_oldest() {
    let options = SampleVendorOptions { capacity: 3, capacity_bytes: 10, ..Default::default() };
    let vendor = SampleVendor::start(options).await.expect("it starts");
    for _ in 0..4 {
        client().post(vendor.url("/")).body("123").send().await.expect("an answer");
    }
    let numbers: Vec<u64> = vendor.received().iter().map(|r| r.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
    client().post(vendor.url("/")).body("12345").send().await.expect("an answer");
    let numbers: Vec<u64> = vendor.received().iter().map(|r| r.number).collect();
    assert_eq!(numbers, [4, 5]);
    assert_eq!(vendor.count(), 5);
}

#[tokio::test]
async fn the_browser_walks_with_its_cookies_to_the_end() {
    let server = server().await;
    let application = SampleVendor::start(SampleVendorOptions::default()).await.expect("it starts");
    let callback = application.url("/oauth/callback");
    server.register_redirect_uri(&callback);
    let authorization = authorization_url(&server, &[("redirect_uri", &callback)]);
    let start = Behaviour::status(302)
        .with_header("Location", &authorization)
        .with_header("Set-Cookie", "__Host-start=abc; Path=/; Secure; HttpOnly")
        .with_header("Set-Cookie", "other=1");
    application.behave("/start", start);
    let end = Behaviour::status(200)
        .with_header("Set-Cookie", "__Host-start=; Max-Age=0")
        .with_body("connected");
    application.behave("/oauth/callback", end);
    let mut browser = Browser::new().expect("a browser");
    let page = browser.walk(&application.url("/start"), Decision::Approve).await.expect("an end");
    assert_eq!((page.status, page.body.as_str()), (200, "connected"));
    let arrived = &application.received_at("/oauth/callback")[0];
    assert_eq!(arrived.header("cookie"), Some("__Host-start=abc; other=1"));
    assert_eq!(arrived.parameter("state").as_deref(), Some("s t&a=te"));
    assert!(arrived.parameter("code").is_some_and(|code| code.len() >= 32));
    assert!(browser.has_cookie("127.0.0.1", "other"));
    assert!(!browser.has_cookie("127.0.0.1", "__Host-start"), "it was taken back");
}
