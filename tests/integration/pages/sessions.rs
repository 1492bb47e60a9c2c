//! The way in and out: one-time links, tokens, cookies, forms that nobody else can send.

use std::time::Duration;

use mortise::web::{Visitors, table};
use reqwest::Method;
use serde_json::json;

use super::visitor::{Visitor, cookie_of, forms};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer};

on_both!(
    a_link_shows_a_button_and_works_once,
    who_may_open_the_pages_for_whom,
    a_token_opens_the_pages_of_its_role,
    a_session_ends_by_time_by_leaving_and_with_its_token,
    whoever_leaves_the_org_leaves_the_pages,
    all_sessions_of_somebody_are_ended_at_once,
    a_form_brings_no_more_than_it_may,
    a_form_of_somebody_else_does_nothing,
    a_page_is_not_shown_in_frames_of_others,
    pages_exist_for_their_role_only,
);

const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

async fn a_link_shows_a_button_and_works_once(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let host = server.host().await;
    let request = json!({
        "role": "admin", "orgId": ORG, "subject": "ada-1", "displayName": "Ada <b>L.", "ttlSeconds": 60,
    });
    let made = server.client.post("/api/v1/portal-links", &host, &request).await.expect(201);
    let url = made.text_of("url");
    let path = url.strip_prefix(&server.client.url("")).expect("ours").to_owned();
    let secret = path.rsplit('/').next().expect("a secret");
    assert!(!server.dump().await.contains(secret), "only a digest is kept");
    // A scanner looks, and looks again.
    let nobody = Visitor::nobody(&server);
    for _ in 0..3 {
        let page = nobody.get(&path).await.expect(200);
        assert!(page.header("set-cookie").is_empty());
        assert!(page.text.contains("Ada &#60;b&#62;L.") || page.text.contains("Ada &lt;b&gt;L."));
        assert_eq!(forms(&page.text)[0].action, path);
    }
    let entered = nobody.send(&path, &[]).await.expect(303);
    let cookie = entered.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "there is no TLS here: {cookie}");
    nobody.send(&path, &[]).await.expect(410);
    nobody.get(&path).await.expect(410);
    // Pressed at the same time by several, it lets one in, and the others are told.
    let wanted = link(&server, &host, "ada-3").await;
    // A page of somebody else's does not press it.
    nobody.send_from(Some("https://evil.example"), &wanted, &[]).await.expect(403);
    let pressed = futures_util::future::join_all((0..4).map(|_| nobody.send(&wanted, &[]))).await;
    let mut statuses: Vec<u16> = pressed.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 410, 410, 410]);
    for late in pressed.iter().filter(|answer| answer.status == 410) {
        assert!(late.text.contains("does not work any more") && !late.text.contains("ada-3"));
        assert!(late.header("set-cookie").is_empty());
    }
    let begun = server
        .texts("select actor from audit where action = 'session.begin' and actor = 'admin:ada-3'")
        .await;
    assert_eq!(begun.len(), 1);
    nobody.get("/portal/x").await.expect(410);
    let ada = Visitor::by_link(&server, &link(&server, &host, "ada-2").await).await;
    let home = ada.get("/pages").await.expect(200);
    assert!(home.text.contains("ada-2") && home.text.contains("Administrator"));
    // Who came is in the audit by the host's name for him.
    let actors = server.texts("select actor from audit where action = 'session.begin'").await;
    assert!(actors.contains(&"admin:ada-1".to_owned()), "{actors:?}");
    server.advance(Duration::from_secs(61));
    let late = link(&server, &host, "late").await;
    server.advance(Duration::from_secs(61));
    nobody.get(&late).await.expect(410);
    nobody.send(&late, &[]).await.expect(410);
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn link(server: &TestServer, token: &str, subject: &str) -> String {
    let request = json!({ "role": "admin", "orgId": ORG, "subject": subject, "ttlSeconds": 60 });
    let made = server.client.post("/api/v1/portal-links", token, &request).await.expect(201);
    made.text_of("url").replace(&server.client.url(""), "")
}

async fn who_may_open_the_pages_for_whom(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let tokens = [
        ("operator", server.operator.clone()),
        ("marketplace", server.marketplace().await),
        ("host", server.host().await),
        ("vendor", server.vendor_token("acme").await),
        ("admin", server.admin(ORG).await),
    ];
    for (caller, token) in &tokens {
        for (role, body) in [
            ("operator", json!({})),
            ("vendor", json!({ "vendor": "acme" })),
            ("admin", json!({ "orgId": ORG })),
            ("viewer", json!({ "orgId": ORG })),
            ("host", json!({})),
            ("marketplace", json!({})),
        ] {
            let mut request = body;
            request["role"] = role.into();
            request["subject"] = "s".into();
            let answer = server.client.post("/api/v1/portal-links", token, &request).await;
            let may = match *caller {
                "operator" => !["host", "marketplace"].contains(&role),
                "marketplace" => ["vendor", "admin", "viewer"].contains(&role),
                "host" => ["admin", "viewer"].contains(&role),
                _ => false,
            };
            assert_eq!(answer.status, if may { 201 } else { 403 }, "{caller} for {role}");
        }
    }
    for bad in [
        json!({ "role": "admin", "subject": "s" }),
        json!({ "role": "admin", "orgId": ORG, "vendor": "acme", "subject": "s" }),
        json!({ "role": "vendor", "orgId": ORG, "vendor": "acme", "subject": "s" }),
        json!({ "role": "admin", "orgId": ORG, "subject": "" }),
        json!({ "role": "admin", "orgId": ORG, "subject": "a\nb" }),
        json!({ "role": "admin", "orgId": ORG, "subject": "ada\u{200b}" }),
        json!({ "role": "admin", "orgId": ORG, "subject": "token:01890000-0000-7000-8000-000000000000" }),
        json!({ "role": "admin", "orgId": ORG, "subject": "s", "displayName": "a\u{202e}b" }),
        json!({ "role": "admin", "orgId": ORG, "subject": "s", "ttlSeconds": 901 }),
        json!({ "role": "admin", "orgId": ORG, "subject": "s", "ttlSeconds": 0 }),
        json!({ "role": "admin", "orgId": ORG }),
    ] {
        let answer = server.client.post("/api/v1/portal-links", &server.operator, &bad).await;
        answer.refused(422, "INVALID_DATA");
    }
}

async fn a_token_opens_the_pages_of_its_role(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let nobody = Visitor::nobody(&server);
    let asked = nobody.get("/pages/webhooks?state=failed").await.expect(303);
    assert_eq!(asked.header("location"), "/sign-in?next=%2Fpages%2Fwebhooks%3Fstate%3Dfailed");
    for (token, words) in [
        (String::new(), "unknown, expired or revoked"),
        ("mortise_nonsense".to_owned(), "unknown, expired or revoked"),
        (server.host().await, "have no pages"),
        (server.marketplace().await, "have no pages"),
    ] {
        let refused = nobody.send("/sign-in", &[("token", &token)]).await.expect(422);
        assert!(refused.text.contains(words), "{token}: {}", refused.text);
        assert!(refused.header("set-cookie").is_empty());
    }
    for token in [
        server.operator.clone(),
        server.vendor_token("acme").await,
        server.admin(ORG).await,
        server.viewer(ORG).await,
    ] {
        let fields = [("token", token.as_str()), ("next", "//evil.example/")];
        let entered = nobody.send("/sign-in", &fields).await.expect(303);
        assert_eq!(entered.header("location"), "/pages");
        let mut visitor = Visitor::nobody(&server);
        visitor.cookie = cookie_of(&entered);
        visitor.get("/pages").await.expect(200);
    }
    // A token that is narrowed sees and does no more than it may.
    let narrow = server
        .token(json!({ "role": "admin", "orgId": ORG, "scopes": ["Desk.webhooks.READ"] }))
        .await;
    let entered = nobody.send("/sign-in", &[("token", &narrow)]).await.expect(303);
    let mut visitor = Visitor::nobody(&server);
    visitor.cookie = cookie_of(&entered);
    visitor.get("/pages/webhooks").await.expect(200);
    visitor.get("/pages/installations").await.expect(403);
    // Signing in leads to a page that works, and no entry to one that does not.
    for (role, scopes, first, wanted, refused) in [
        (
            json!({ "role": "admin", "orgId": ORG }),
            vec!["Desk.webhooks.READ"],
            "/pages/webhooks",
            vec!["/pages/webhooks", "/pages/rules", "/pages/deliveries", "/pages/session"],
            vec!["href=\"/pages/events\"", "New webhook", "href=\"/pages/event-types\""],
        ),
        (
            json!({ "role": "viewer", "orgId": ORG }),
            vec!["Desk.extensions.READ"],
            "/pages",
            vec!["/pages", "/pages/session"],
            vec!["href=\"/pages/webhooks\"", "href=\"/pages/deliveries\""],
        ),
        (
            json!({ "role": "vendor", "vendor": "acme" }),
            vec!["Desk.events.READ"],
            "/pages/event-types",
            vec!["/pages/event-types"],
            vec!["href=\"/pages/publish\"", "href=\"/pages\">"],
        ),
        (
            json!({ "role": "operator" }),
            vec!["Desk.extensions.READ", "Desk.webhooks.READ"],
            "/pages/extensions",
            vec!["/pages/extensions", "/pages/installations", "/pages/journal", "/pages/webhooks"],
            vec!["href=\"/pages/tokens\"", "href=\"/pages/audit\"", "Publish a version"],
        ),
    ] {
        let mut request = role;
        request["scopes"] = json!(scopes);
        let token = server.token(request).await;
        let entered = nobody.send("/sign-in", &[("token", &token)]).await.expect(303);
        let mut visitor = Visitor::nobody(&server);
        visitor.cookie = cookie_of(&entered);
        let home = visitor.get(entered.header("location")).await;
        if first == "/pages" {
            home.expect(200);
        } else {
            assert_eq!(home.expect(303).header("location"), first);
        }
        for path in wanted {
            let page = visitor.get(path).await.expect(200).text;
            for refused in &refused {
                assert!(!page.contains(refused), "{scopes:?} {path} has {refused}: {page}");
            }
        }
        // What is refused leads back to what works.
        let trouble = visitor.get("/pages/installations/x").await.expect(404).text;
        assert!(trouble.contains(&format!("href=\"{first}\">To the first page")), "{trouble}");
    }
    // A token that opens nothing is told so, and gets out.
    let nothing = json!({ "role": "operator", "scopes": ["Desk.nothing.READ"] });
    let nothing = server.token(nothing).await;
    let entered = nobody.send("/sign-in", &[("token", &nothing)]).await.expect(303);
    visitor.cookie = cookie_of(&entered);
    let told = visitor.get("/pages").await.expect(403).text;
    assert!(told.contains("This token opens no page") && told.contains("/sign-out"), "{told}");
    assert!(!told.contains("To the first page"), "{told}");
    let actors = server.texts("select actor from audit where action = 'session.begin'").await;
    let is_of_token = |actor: &String| actor.contains(":token:");
    assert!(!actors.is_empty() && actors.iter().all(is_of_token), "{actors:?}");
}

async fn a_session_ends_by_time_by_leaving_and_with_its_token(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let leaving = Visitor::admin(&server, ORG).await;
    let left = leaving.submit("/pages", "/sign-out", &[]).await.expect(303);
    assert!(left.header("set-cookie").contains("Max-Age=0"));
    leaving.get("/pages").await.expect(303);

    let admin = server.admin(ORG).await;
    let entered = Visitor::nobody(&server).send("/sign-in", &[("token", &admin)]).await.expect(303);
    let mut revoked = Visitor::nobody(&server);
    revoked.cookie = cookie_of(&entered);
    revoked.get("/pages").await.expect(200);
    let tokens = server.client.all("/api/v1/tokens", &server.operator).await;
    let id = tokens.iter().find(|token| token["role"] == "admin").expect("it")["id"].clone();
    let path = format!("/api/v1/tokens/{}", id.as_str().expect("an id"));
    let gone = server.client.call(Method::DELETE, &path, &server.operator, None).await;
    assert!((200..300).contains(&gone.status), "{}", gone.text);
    revoked.get("/pages").await.expect(303);

    let late = Visitor::viewer(&server, ORG).await;
    server.advance(Duration::from_mins(12 * 60 - 1));
    late.get("/pages").await.expect(200);
    server.advance(Duration::from_mins(2));
    late.get("/pages").await.expect(303);
    // Another's cookie, or one that never was, is nobody's.
    let mut forged = Visitor::nobody(&server);
    forged.cookie = format!("mortise-session={}", "A".repeat(43));
    forged.get("/pages").await.expect(303);
    assert!(!server.dump().await.contains(&leaving.cookie["mortise-session=".len()..]));
}

async fn whoever_leaves_the_org_leaves_the_pages(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let host = server.host().await;
    let ada = Visitor::by_link(&server, &link(&server, &host, "4711").await).await;
    let ben = Visitor::by_link(&server, &link(&server, &host, "4712").await).await;
    let elsewhere = json!({ "role": "admin", "orgId": "2", "subject": "4711" });
    let elsewhere = Visitor::invited(&server, elsewhere).await;
    let unused = link(&server, &host, "4711").await;
    let left = json!({ "orgId": ORG, "userId": "4711" });
    server.callback("user-removed", &left).await.expect(200);
    ada.get("/pages").await.expect(303);
    Visitor::nobody(&server).send(&unused, &[]).await.expect(410);
    ben.get("/pages").await.expect(200);
    elsewhere.get("/pages").await.expect(200);
    server.callback("org-closed", &json!({ "orgId": ORG })).await.expect(200);
    ben.get("/pages").await.expect(303);
    elsewhere.get("/pages").await.expect(200);
}

/// Somebody who comes by a link of his own.
async fn ada<'s>(server: &'s TestServer, host: &str) -> Visitor<'s> {
    Visitor::by_link(server, &link(server, host, "4711").await).await
}

/// Somebody who pastes a token.
async fn by_token<'s>(server: &'s TestServer, token: &str) -> Visitor<'s> {
    let mut visitor = Visitor::nobody(server);
    visitor.cookie = cookie_of(&visitor.send("/sign-in", &[("token", token)]).await.expect(303));
    visitor
}

async fn all_sessions_of_somebody_are_ended_at_once(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let (host, marketplace) = (server.host().await, server.marketplace().await);
    let (one, other) = (ada(&server, &host).await, ada(&server, &host).await);
    let unused = link(&server, &host, "4711").await;
    let ben = Visitor::by_link(&server, &link(&server, &host, "4712").await).await;
    let elsewhere = json!({ "role": "admin", "orgId": "2", "subject": "4711" });
    let elsewhere = Visitor::invited(&server, elsewhere).await;
    let vic = Visitor::vendor(&server, "acme").await;
    // By himself, on his page: everything of his, and nothing of anybody else's.
    let page = one.get("/pages/session").await.expect(200).text;
    assert_eq!(page.matches("data-label=\"Session\"").count(), 2, "{page}");
    let left = one.submit("/pages/session", "/sign-out/everywhere", &[]).await.expect(303);
    assert!(left.header("set-cookie").contains("Max-Age=0"));
    one.get("/pages").await.expect(303);
    other.get("/pages").await.expect(303);
    Visitor::nobody(&server).get(&unused).await.expect(410);
    ben.get("/pages").await.expect(200);
    elsewhere.get("/pages").await.expect(200);
    // By the host: of one person, then of the whole org.
    let end = async |token: &str, query: &str| {
        let path = format!("/api/v1/portal-sessions?{query}");
        server.client.call(Method::DELETE, &path, token, None).await
    };
    let (one, other) = (ada(&server, &host).await, ada(&server, &host).await);
    let unused = link(&server, &host, "4711").await;
    let ended = end(&host, &format!("orgId={ORG}&subject=4711")).await.expect(200);
    assert_eq!(ended.json, json!({ "sessions": 2, "links": 1 }));
    one.get("/pages").await.expect(303);
    other.get("/pages").await.expect(303);
    Visitor::nobody(&server).send(&unused, &[]).await.expect(410);
    ben.get("/pages").await.expect(200);
    let again = end(&host, &format!("orgId={ORG}&subject=4711")).await.expect(200);
    assert_eq!(again.json, json!({ "sessions": 0, "links": 0 }));
    let ended = end(&host, &format!("orgId={ORG}")).await.expect(200);
    assert_eq!(ended.json, json!({ "sessions": 1, "links": 0 }));
    ben.get("/pages").await.expect(303);
    elsewhere.get("/pages").await.expect(200);
    // A vendor's by the marketplace; the operators' own by an operator. Nobody ends more.
    end(&host, "vendor=acme").await.refused(422, "INVALID_DATA");
    end(&host, "subject=4711").await.refused(422, "INVALID_DATA");
    end(&marketplace, "subject=vic").await.refused(422, "INVALID_DATA");
    end(&server.operator, "").await.refused(422, "INVALID_DATA");
    end(&server.operator, &format!("orgId={ORG}&vendor=acme")).await.refused(422, "INVALID_DATA");
    for token in [server.admin(ORG).await, server.vendor_token("acme").await] {
        end(&token, &format!("orgId={ORG}")).await.refused(403, "FORBIDDEN");
    }
    vic.get("/pages").await.expect(200);
    end(&marketplace, "vendor=acme&subject=vic").await.expect(200);
    vic.get("/pages").await.expect(303);
    let otto = Visitor::operator(&server).await;
    end(&server.operator, "subject=otto").await.expect(200);
    otto.get("/pages").await.expect(303);
    elsewhere.get("/pages").await.expect(200);
    // Whoever came by a token ends what that token began; another token's session stays.
    let admin = server.admin(ORG).await;
    let other = server.admin(ORG).await;
    let (first, second) = (by_token(&server, &admin).await, by_token(&server, &admin).await);
    let third = by_token(&server, &other).await;
    first.submit("/pages/session", "/sign-out/everywhere", &[]).await.expect(303);
    second.get("/pages").await.expect(303);
    third.get("/pages").await.expect(200);
    let told = server.texts("select detail from audit where action = 'session.end-all'").await;
    assert_eq!(told.len(), 7, "{told:?}");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_form_brings_no_more_than_it_may(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let nobody = Visitor::nobody(&server);
    let long = "x".repeat(9_000);
    nobody.send("/sign-in", &[("token", long.as_str())]).await.expect(413);
    let ada = Visitor::admin(&server, ORG).await;
    let token = ada.form_token().await;
    let long = "x".repeat(600_000);
    let fields = [("csrf", token.as_str()), ("name", long.as_str())];
    ada.send("/pages/webhooks", &fields).await.expect(413);
    // What looks like a package is one on the page for packages only.
    let request = server.client.request(Method::POST, "/sign-in", "");
    let request = request
        .header("origin", server.client.url(""))
        .header("content-type", "multipart/form-data; boundary=x")
        .body("x".repeat(100_000));
    assert_eq!(server.client.send(request).await.status, 413);
}

async fn a_form_of_somebody_else_does_nothing(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let ada = Visitor::admin(&server, ORG).await;
    let other = Visitor::admin(&server, ORG).await;
    let (token, foreign) = (ada.form_token().await, other.form_token().await);
    assert_ne!(token, foreign);
    let path = format!("/pages/installations/{}/suspend", active.id);
    let origin = server.client.url("");
    for (from, csrf) in [
        (Some(origin.as_str()), ""),
        (Some(origin.as_str()), foreign.as_str()),
        (Some(origin.as_str()), &token[1..]),
        (Some("https://evil.example"), token.as_str()),
        (Some("null"), token.as_str()),
        (None, ""),
    ] {
        let fields = [("csrf", csrf), ("key", "k")];
        ada.send_from(from, &path, &fields).await.expect(403);
    }
    assert_eq!(server.installation(&active.id).await["state"], "active");
    // The way in asks where a form comes from, since it has no session yet.
    let fields = [("token", server.operator.as_str())];
    let nobody = Visitor::nobody(&server);
    nobody.send_from(None, "/sign-in", &fields).await.expect(403);
    nobody.send_from(Some("https://evil.example"), "/sign-in", &fields).await.expect(403);
    // Without a session nothing is carried out, and it is said.
    nobody.send(&path, &[("csrf", token.as_str())]).await.expect(401);
    // With everything right it works; sent twice it is carried out once.
    let fields = [("csrf", token.as_str()), ("key", "twice")];
    ada.send(&path, &fields).await.expect(303);
    ada.send(&path, &fields).await.expect(303);
    let suspended = "select command from transitions where command = 'suspend'";
    assert_eq!(server.texts(suspended).await.len(), 1);
    // What changes something is no link.
    ada.get(&path).await.expect(405);
    // The token of forms leads nobody to the cookie, and every POST of the table asks for it.
    for route in table() {
        if route.method != Method::POST || route.visitors == Visitors::Everybody {
            continue;
        }
        let path = route.path.replace("{id}", NOBODY).replace("{key}", "nobody");
        ada.send(&path, &[("csrf", foreign.as_str())]).await.expect(
            // Pages that do not exist for the role are not found before anything else.
            match route.visitors {
                Visitors::Roles(roles) if !roles.contains(&mortise::api::Role::Admin) => 404,
                _ => 403,
            },
        );
    }
}

async fn a_page_is_not_shown_in_frames_of_others(backend: Backend) {
    let server = TestServer::start(backend, |settings| {
        settings.set("pages.frame_ancestors", "https://desk.example");
    })
    .await;
    let page = Visitor::nobody(&server).get("/sign-in").await.expect(200);
    let policy = page.header("content-security-policy");
    assert!(policy.ends_with("frame-ancestors https://desk.example"), "{policy}");
    assert_eq!(page.header("x-frame-options"), "");
    drop(server);
}

async fn pages_exist_for_their_role_only(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let visitors = [
        (mortise::api::Role::Operator, Visitor::operator(&server).await),
        (mortise::api::Role::Vendor, Visitor::vendor(&server, "acme").await),
        (mortise::api::Role::Admin, Visitor::admin(&server, ORG).await),
        (mortise::api::Role::Viewer, Visitor::viewer(&server, ORG).await),
    ];
    for route in table() {
        let Visitors::Roles(roles) = route.visitors else { continue };
        if route.method != Method::GET || route.path.contains('{') {
            continue;
        }
        Visitor::nobody(&server).get(route.path).await.expect(303);
        for (role, visitor) in &visitors {
            let wanted = if roles.contains(role) { 200 } else { 404 };
            let page = visitor.get(route.path).await;
            assert_eq!(page.status, wanted, "{role} {}: {}", route.path, page.text);
        }
    }
    // The rest of the server is as it was.
    let nobody = Visitor::nobody(&server);
    let root = nobody.get("/").await.expect(303);
    assert_eq!(root.header("location"), "/sign-in");
    assert!(nobody.get("/nowhere").await.expect(404).text.contains("There is no such page"));
    server.client.get("/nowhere", "").await.refused(404, "URL_NOT_FOUND");
    server.client.get("/api/v1/nowhere", "").await.refused(404, "URL_NOT_FOUND");
}
