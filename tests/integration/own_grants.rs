//! Own webhooks that somebody authorises at their endpoint's authorisation server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, event};
use crate::support::server::{Backend, ORG, assert_absent, eventually};
use crate::support::tls_receiver::TlsReceiver;

on_both!(
    somebody_authorises_and_tokens_refresh_by_themselves,
    what_the_server_takes_back_is_told_of,
    only_the_browser_that_began_can_finish,
    an_authorisation_is_for_its_settings,
);

/// An authorisation server whose refresh tokens are good for one use.
#[derive(Default)]
struct Server {
    given: usize,
    refuses: bool,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Server>>;

fn authorization_server(receiver: &TlsReceiver) -> Shared {
    let shared = Shared::default();
    let state = Arc::clone(&shared);
    receiver.answer(move |request| {
        let mut state = state.lock().expect("a lock");
        if request.path != "/token" {
            let taken = format!("Bearer access-number-{}", state.given);
            let is_taken = request.method == "GET" || request.header("authorization") == taken;
            return (if is_taken { 200 } else { 401 }, String::new());
        }
        state.asked.push(request.body.clone());
        let is_fit = request.body.contains("code=good-code")
            || request.body.contains(&format!("refresh_token=refresh-number-{}", state.given));
        if !is_fit || state.refuses {
            return (400, json!({ "error": "invalid_grant" }).to_string());
        }
        state.given += 1;
        let body = json!({
            "access_token": format!("access-number-{}", state.given), "token_type": "Bearer",
            "expires_in": 3_600, "refresh_token": format!("refresh-number-{}", state.given),
        });
        (200, body.to_string())
    });
    shared
}

fn authentication(receiver: &TlsReceiver) -> Value {
    json!({
        "type": "oauth2AuthorizationCode", "authorizationUrl": receiver.url("/authorize?x=1"),
        "tokenUrl": receiver.url("/token"), "clientId": "us", "clientSecret": "our-client-secret",
        "scope": "a b", "clientAuthentication": "body",
    })
}

async fn make(world: &OwnWorld, receiver: &TlsReceiver) -> String {
    let more = json!({
        "url": receiver.url("/own"), "tls": { "caCertificates": receiver.ca },
        "authentication": authentication(receiver),
    });
    let made = world.try_make("/own", &more).await.expect(201);
    assert_eq!(made.json["authorization"]["state"], "needed");
    assert!(!made.text.contains("our-client-secret"));
    made.text_of("id")
}

/// Begins; says where the browser is sent, and what it is bound by.
async fn begin(world: &OwnWorld, id: &str) -> (Url, String) {
    let begun = world.act(id, "/authorization", &json!({})).await.expect(201);
    let start = begun.text_of("startUrl");
    let path = start.strip_prefix(&world.server.client.url("")).expect("our address").to_owned();
    // Whoever only looks does not use the link up.
    let looked = world.server.client.call(Method::HEAD, &path, "", None).await;
    assert_eq!(looked.status, 200);
    let started = world.server.client.get(&path, "").await.expect(303);
    let cookie = started.header("set-cookie");
    assert!(cookie.starts_with("__Host-") && cookie.contains("HttpOnly"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    world.server.client.get(&path, "").await.expect(410);
    (Url::parse(started.header("location")).expect("an address"), cookie)
}

fn parameter(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn back(world: &OwnWorld, url: &Url, code: &str, cookie: &str) -> Answer {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("code", code)
        .append_pair("state", &parameter(url, "state"))
        .finish();
    let path = format!("/oauth/webhooks/callback?{query}");
    let request = world.server.client.request(Method::GET, &path, "");
    world.server.client.send(request.header("cookie", cookie)).await
}

async fn authorize(world: &OwnWorld, id: &str) {
    let (url, cookie) = begin(world, id).await;
    back(world, &url, "good-code", &cookie).await.expect(200);
}

async fn newest(world: &OwnWorld, id: &str) -> Value {
    let path = format!("/api/v1/deliveries?webhookId={id}&limit=1");
    eventually("it is tried", async || {
        let all = world.server.client.get(&path, &world.admin).await.expect(200);
        let attempt = all.data()[0]["attempts"][0].clone();
        attempt.is_object().then_some(attempt)
    })
    .await
}

async fn somebody_authorises_and_tokens_refresh_by_themselves(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    let server = authorization_server(&receiver);
    let id = make(&world, &receiver).await;
    world.fans_out(&event("Ticket_Add", "early")).await;
    let attempt = newest(&world, &id).await;
    assert_eq!(attempt["error"], "credentials");
    assert!(attempt["message"].as_str().is_some_and(|text| text.contains("authorised")));
    let (url, cookie) = begin(&world, &id).await;
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "us"),
        ("scope", "a b"),
        ("x", "1"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(parameter(&url, name), value, "{url}");
    }
    assert!(parameter(&url, "redirect_uri").ends_with("/oauth/webhooks/callback"));
    let page = back(&world, &url, "good-code", &cookie).await.expect(200);
    assert!(page.text.contains("Authorised"), "{}", page.text);
    let asked = server.lock().expect("a lock").asked.remove(0);
    assert!(asked.contains("grant_type=authorization_code") && asked.contains("code_verifier="));
    let shown = world.read(&id).await["authorization"].clone();
    assert_eq!(shown["state"], "live");
    assert!(shown["grantedBy"].as_str().is_some_and(|by| by.starts_with("admin:")), "{shown}");
    // What was waiting goes out at its next attempt.
    world.server.advance(Duration::from_mins(2));
    world.settled(&id, "delivered", 1).await;
    // When it ends: once, however many need it.
    world.server.advance(Duration::from_mins(59));
    let batch: Vec<Value> =
        (0..10).map(|number| event("Ticket_Add", &format!("b{number}"))).collect();
    world.server.client.post("/api/v1/events", &world.host, &json!(batch)).await.expect(202);
    world.settled(&id, "delivered", 11).await;
    let asked = server.lock().expect("a lock").asked.clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains("grant_type=refresh_token"));
    let last = receiver.posted("/own").pop().expect("a request");
    assert_eq!(last.header("authorization"), "Bearer access-number-2");
    // The state was good for one use.
    back(&world, &url, "good-code", &cookie).await.expect(422);
    let dump = world.server.dump().await;
    for secret in ["our-client-secret", "access-number-", "refresh-number-", "good-code"] {
        assert_absent(&dump, secret);
    }
    let actions = format!(
        "select action from audit where chain = '{ORG}' and subject = 'webhook:{id}' order by sequence"
    );
    assert_eq!(
        world.server.texts(&actions).await,
        ["webhook.create", "webhook.authorization-begun", "webhook.authorize"]
    );
    let path = OwnWorld::path(&id, "");
    world.server.client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    assert!(world.server.texts("select 'x' from own_webhook_grants").await.is_empty());
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_the_server_takes_back_is_told_of(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    let server = authorization_server(&receiver);
    let id = make(&world, &receiver).await;
    authorize(&world, &id).await;
    server.lock().expect("a lock").refuses = true;
    world.server.advance(Duration::from_hours(1));
    world.fans_out(&event("Ticket_Add", "one")).await;
    let attempt = newest(&world, &id).await;
    assert_eq!(attempt["error"], "credentials", "{attempt}");
    let shown = world.read(&id).await["authorization"].clone();
    assert_eq!(shown["state"], "broken", "{shown}");
    assert!(shown["reason"].as_str().is_some_and(|text| text.contains("took it back")), "{shown}");
    let notices = world.notices("connection.broken").await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0]["webhookId"], json!(id));
    // It is not asked again and again.
    let before = server.lock().expect("a lock").asked.len();
    world.fans_out(&event("Ticket_Add", "two")).await;
    newest(&world, &id).await;
    assert_eq!(server.lock().expect("a lock").asked.len(), before);
    server.lock().expect("a lock").refuses = false;
    authorize(&world, &id).await;
    assert_eq!(world.read(&id).await["authorization"]["state"], "live");
    assert!(world.notices("connection.broken").await[0]["resolvedTime"].is_string());
    world.server.advance(Duration::from_mins(2));
    world.settled(&id, "delivered", 2).await;
}

async fn only_the_browser_that_began_can_finish(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    authorization_server(&receiver);
    let id = make(&world, &receiver).await;
    let (url, cookie) = begin(&world, &id).await;
    let (_, foreign) = begin(&world, &id).await;
    for wrong in ["", "__Host-mortise-oauth-x=nonsense", foreign.as_str()] {
        back(&world, &url, "good-code", wrong).await.expect(422);
    }
    let mut other = url.clone();
    other.query_pairs_mut().clear().append_pair("state", "nonsense");
    back(&world, &other, "good-code", &cookie).await.expect(422);
    assert_eq!(world.read(&id).await["authorization"]["state"], "needed");
    // A wrong one did not burn the right one, and a bad code does.
    back(&world, &url, "bad-code", &cookie).await.expect(422);
    back(&world, &url, "good-code", &cookie).await.expect(422);
    let (late, cookie) = begin(&world, &id).await;
    world.server.advance(Duration::from_mins(11));
    back(&world, &late, "good-code", &cookie).await.expect(422);
    authorize(&world, &id).await;
    assert_eq!(world.read(&id).await["authorization"]["state"], "live");
}

async fn an_authorisation_is_for_its_settings(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let receiver = TlsReceiver::start(false).await;
    authorization_server(&receiver);
    let id = make(&world, &receiver).await;
    authorize(&world, &id).await;
    let mut wider = authentication(&receiver);
    wider["scope"] = json!("a b c");
    world.patch(&id, &json!({ "authentication": wider })).await.expect(200);
    assert_eq!(world.read(&id).await["authorization"]["state"], "needed");
    authorize(&world, &id).await;
    assert_eq!(world.read(&id).await["authorization"]["state"], "live");
    // Others have nothing to be authorised.
    let plain = world.make("/plain", json!({})).await;
    world.act(&plain, "/authorization", &json!({})).await.expect(409);
    let viewer = world.server.viewer(ORG).await;
    let path = OwnWorld::path(&id, "/authorization");
    world.server.client.post(&path, &viewer, &json!({})).await.refused(403, "FORBIDDEN");
    let mut open = authentication(&receiver);
    open["authorizationUrl"] = json!("http://127.0.0.1/authorize");
    let refused = world.patch(&id, &json!({ "authentication": open })).await;
    let refused = refused.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication/authorizationUrl");
}
