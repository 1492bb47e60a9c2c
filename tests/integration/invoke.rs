//! The vendor's way back in: who is believed, what may be called, and what comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise::development::{Behaviour, hash_of};
use mortise::seam::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::delivery_world::{HOOK, SOON, a_while, ticket};
use crate::support::invoke_world::{InvokeWorld, canonical, inner};
use crate::support::on_both;
use crate::support::package::MANIFEST_SECRET;
use crate::support::server::{Backend, ORG, assert_absent, eventually};

on_both!(
    the_host_is_called_with_its_token_and_nothing_of_it_comes_back,
    a_form_and_json_say_the_same,
    whoever_is_not_proven_gets_one_and_the_same_refusal,
    fields_have_their_rules,
    only_declared_hosts_are_called,
    redirects_are_not_followed_and_private_addresses_not_called,
    a_connectors_token_goes_to_its_own_service_only,
    a_refused_token_is_refreshed_once_and_a_dead_one_is_said_to_be,
    placeholders_are_filled_in,
    answers_are_bounded_and_lose_what_is_not_the_vendors,
    rates_and_places_are_bounded,
    signed_calls_count_once_and_are_required_from_then_on,
    the_end_of_an_installation_ends_its_calls,
    a_suspended_installation_does_not_call,
    what_a_call_causes_does_not_come_back,
    an_upstream_that_gives_no_answer_is_said_to,
    calls_are_recorded_and_bounded,
);

/// Two nodes on one database: what is answered as ended on one is over on the other, calls under way
/// among it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_on_one_node_is_over_on_the_other() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let url = database.url().to_owned();
    let world = Box::pin(InvokeWorld::start(Backend::Postgres(database))).await;
    let server = &world.world.server;
    let config = server.config_of_another_node(&url);
    let second = mortise::server::start(config, server.seam.clone()).await.expect("it starts");
    let there = Client::new(format!("http://{}", second.address()));
    let call = async |url: &str| {
        let fields = world.fields("GET", url);
        let hash = hash_of(MANIFEST_SECRET, canonical(&fields).as_bytes());
        world.call_at(&there, ORG, &fields, &hash).await
    };
    assert_eq!(call("/api/v1/tickets/1").await.status, 200);
    assert_eq!(world.get("/api/v1/tickets/1").await.status, 200);
    for what in ["suspend", "resume"] {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        server.client.post(&path, &server.operator, &json!({ "reason": "r" })).await.expect(200);
        let status = if what == "suspend" { 401 } else { 200 };
        assert_eq!(call("/api/v1/tickets/1").await.status, status, "{what}");
    }
    world.upstream.behave("/slow", Behaviour::status(200).after(Duration::from_secs(8)));
    let slow = world.upstream.url("/slow");
    let clock = Clock::default();
    let began = clock.instant();
    let (cut, ()) = tokio::join!(call(&slow), async {
        world.upstream.wait_for_path("/slow", 1, SOON).await.expect("it is under way");
        let body = json!({ "installationId": world.world.installation.id });
        server.callback("uninstall", &body).await.expect(200);
        call(&world.upstream.url("/late")).await.refused(401, "SIGNATURE_INVALID");
    });
    cut.refused(401, "SIGNATURE_INVALID");
    assert!(began.elapsed() < Duration::from_secs(6), "it was cut, not waited for");
    assert!(world.upstream.received_at("/late").is_empty());
    second.stop().await;
}

async fn the_host_is_called_with_its_token_and_nothing_of_it_comes_back(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let answer = world.get("/api/v1/tickets/7?include=contacts").await;
    let upstream = inner(&answer);
    assert_eq!(upstream["statusCode"], 200, "{upstream}");
    let ticket: Value =
        serde_json::from_str(upstream["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!(ticket["id"], "7");
    assert_eq!(upstream["headers"]["content-type"], "application/json");
    let calls = world.world.server.provider.api_calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].authorized, "the token went along");
    assert_eq!(calls[0].path_and_query, "/api/v1/tickets/7?include=contacts");
    let header = |name: &str| {
        let found = calls[0].headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    assert_eq!(header("orgid"), ORG);
    let tokens = world.access_tokens();
    let sent = header("authorization");
    assert!(tokens.iter().any(|token| sent == format!("Zoho-oauthtoken {token}")), "the host's");
    // A host that repeats everything it was told, the token among it, does not hand it out.
    let echo = inner(&world.get("/api/v1/echo?a=1").await);
    let said: Value = serde_json::from_str(echo["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!(said["headers"]["authorization"], "Zoho-oauthtoken ***");
    assert_eq!(said["headers"]["accept-encoding"], "identity", "coded, it would not be found");
    for token in &tokens {
        assert!(
            !answer.text.contains(token.as_str()) && !echo.to_string().contains(token.as_str())
        );
    }
    // An absolute address of the host is the same, and a bearer token is not looked at.
    let absolute = format!("{}/api/v1/tickets/8", world.world.server.provider.issuer());
    let fields = world.fields("GET", &absolute);
    let hash = hash_of(MANIFEST_SECRET, canonical(&fields).as_bytes());
    let client = &world.world.server.client;
    let path = format!("/api/v1/invoke?orgId={ORG}");
    let request = client.request(Method::POST, &path, "nonsense").header("hash", hash);
    assert_eq!(inner(&client.send(request.json(&fields)).await)["statusCode"], 200);
    // What the host refuses is handed back as it is.
    world.world.server.provider.conduct(|conduct| conduct.api_failures.push_back(404));
    assert_eq!(inner(&world.get("/api/v1/tickets/9").await)["statusCode"], 404);
}

async fn a_form_and_json_say_the_same(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let mut fields = world.fields("POST", "/api/v1/tickets?a=1");
    fields["postBody"] = json!({ "subject": "größer & kleiner = 1" }).to_string().into();
    fields["queryParams"] = "{\"b\":\"2 3\"}".into();
    fields["headers"] = "{\"X-Note\":\"x\"}".into();
    fields["connectionLinkName"] = "mirror_desk".into();
    let form = inner(&world.call(&fields).await);
    let hash = hash_of(MANIFEST_SECRET, canonical(&fields).as_bytes());
    let client = &world.world.server.client;
    let path = format!("/api/v1/invoke?orgId={ORG}");
    let request = client.request(Method::POST, &path, "").header("HASH", hash.to_uppercase());
    let json = inner(&client.send(request.json(&fields)).await);
    assert_eq!(form["body"], json["body"]);
    let echoed: Value = serde_json::from_str(form["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!(echoed["query"], "a=1&b=2+3");
    assert_eq!(echoed["body"], fields["postBody"]);
    assert_eq!(echoed["method"], "POST");
}

/// A refusal without what differs by design.
fn refusal(answer: &Answer) -> (u16, Value) {
    let mut json = answer.json.clone();
    json["correlationId"] = Value::Null;
    (answer.status, json)
}

async fn whoever_is_not_proven_gets_one_and_the_same_refusal(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    // A second extension without `secret`, a second org, and an installation that is no more.
    let bare = server.package().key("bare").with(|package| {
        let manifest = package.manifest.as_object_mut().expect("an object");
        manifest.remove("secret");
        manifest.remove("callbackListener");
    });
    server.active_package(&bare, ORG).await;
    world.another("60002").await;
    let callbacks = server.vendor.wait_for_path("/callbacks", 4, SOON).await.expect("told");
    let foreign = callbacks[3].json().expect("JSON")["securityContext"].clone();
    assert_eq!(world.world.fans_out(&ticket(ORG, "t")).await, 2);
    let arrived = server.vendor.wait_for_path(HOOK, 2, SOON).await.expect("both get it");
    let contexts: Vec<String> = arrived
        .iter()
        .map(|received| received.parameter("securityContext").expect("a context"))
        .collect();
    let fields = world.fields("GET", "/api/v1/tickets/7");
    let good = hash_of(MANIFEST_SECRET, canonical(&fields).as_bytes());
    // Every context that was given out works: of the callback, and of the webhook.
    assert_eq!(world.call(&fields).await.status, 200);
    let mut refused = Vec::new();
    for context in &contexts {
        let mut fields = fields.clone();
        fields["securityContext"] = context.clone().into();
        if world.call_as(ORG, &fields, &good).await.status != 200 {
            refused.push(context.clone());
        }
    }
    assert_eq!(refused.len(), 1, "the extension without a secret proves nothing");
    let before = server.provider.api_calls().len();

    let context = &world.context;
    let mut swapped = context.clone().into_bytes();
    swapped[10..].reverse();
    let swapped = String::from_utf8(swapped).expect("text");
    let with = |context: &str| {
        let mut fields = fields.clone();
        fields["securityContext"] = context.into();
        fields
    };
    let empty = hash_of("", canonical(&fields).as_bytes());
    let bare_context = &refused[0];
    let mut tampered = fields.clone();
    tampered["requestURL"] = "/api/v1/tickets/8".into();
    let mut without = fields.clone();
    without.as_object_mut().expect("an object").remove("securityContext");
    let other = hash_of("another secret", canonical(&fields).as_bytes());
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("no HASH", ORG, fields.clone(), ""),
        ("a wrong HASH", ORG, fields.clone(), &other),
        ("a HASH of something else", ORG, tampered, &good),
        ("half a HASH", ORG, fields.clone(), &good[..32]),
        ("another org", "60002", fields.clone(), &good),
        ("no org", "", fields.clone(), &good),
        ("an unknown org", "1", fields.clone(), &good),
        ("the context of another org", ORG, with(foreign.as_str().expect("text")), &good),
        ("no context", ORG, without, &good),
        ("an empty context", ORG, with(""), &good),
        ("nonsense", ORG, with("AAAA"), &good),
        ("a cut context", ORG, with(&context[..context.len() - 1]), &good),
        ("a swapped context", ORG, with(&swapped), &good),
        ("a long context", ORG, with(&"A".repeat(100_000)), &good),
        ("no secret", ORG, with(bare_context), &good),
        ("no secret, and the HASH of none", ORG, with(bare_context), &empty),
    ];
    let mut seen: Option<(u16, Value)> = None;
    let mut check = |what: &str, answer: &Answer| {
        let refusal = refusal(answer);
        assert_eq!(refusal.0, 401, "{what}: {}", answer.text);
        assert!(!answer.text.contains(context.as_str()), "{what}");
        match &seen {
            None => seen = Some(refusal),
            Some(first) => assert_eq!(*first, refusal, "{what}"),
        }
    };
    for (what, org, fields, hash) in &cases {
        check(what, &world.call_as(org, fields, hash).await);
    }
    // Suspended, then uninstalled.
    let body = json!({ "reason": "test" });
    let suspend = "/api/v1/extensions/ticket-mirror/suspend";
    server.client.post(suspend, &server.operator, &body).await.expect(200);
    check("suspended", &world.call(&fields).await);
    let resume = "/api/v1/extensions/ticket-mirror/resume";
    server.client.post(resume, &server.operator, &body).await.expect(200);
    assert_eq!(world.call(&fields).await.status, 200);
    let body = json!({ "installationId": world.world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    check("uninstalled", &world.call(&fields).await);
    // Its successor has a context of its own; the dead one stays dead.
    world.another(ORG).await;
    check("of a former generation", &world.call(&fields).await);
    assert_eq!(server.provider.api_calls().len(), before + 1, "nothing went out but one call");
}

async fn fields_have_their_rules(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let client = &world.world.server.client;
    let path = format!("/api/v1/invoke?orgId={ORG}");
    let send = async |content_type: &str, body: String| {
        let request = client.request(Method::POST, &path, "").header("content-type", content_type);
        client.send(request.header("HASH", "0".repeat(64)).body(body)).await
    };
    let form = "application/x-www-form-urlencoded";
    // Twice, in both forms; unknown; no text.
    for (content_type, body) in [
        (form, "requestURL=/a&requestURL=/b".to_owned()),
        (form, "requestURL=/a&requestUrl=/b".to_owned()),
        ("application/json", "{\"requestURL\":\"/a\",\"requestURL\":\"/b\"}".to_owned()),
        ("application/json", "{\"requestURL\":\"/a\",\"headers\":{}}".to_owned()),
        ("application/json", "{\"requestURL\":null}".to_owned()),
    ] {
        send(content_type, body.clone()).await.refused(422, "INVALID_DATA");
    }
    send("text/plain", "requestURL=/a".to_owned()).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    // One field that poses as another: two requests would have one HASH.
    let mut posing = world.fields("POST", "/api/v1/tickets");
    posing["queryParams"] = "{\"a\":\"1&postBody=2\"}".into();
    let refused = world.call(&posing).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "queryParams");
    // Rules that hold for a proven call.
    for (field, value) in [
        ("requestType", "TRACE"),
        ("requestURL", "tickets"),
        ("requestURL", "ftp://127.0.0.1/"),
        ("requestURL", "/x/{{nobody}}"),
        ("queryParams", "[1]"),
        ("headers", "{\"Authorization\":\"Bearer x\"}"),
        ("headers", "{\"host\":\"x\"}"),
        ("headers", "{\"COOKIE\":\"x\"}"),
        ("headers", "{\"Proxy-Authorization\":\"x\"}"),
        ("headers", "{\"Connection\":\"close\"}"),
        ("headers", "{\"Transfer-Encoding\":\"chunked\"}"),
        ("headers", "{\"Content-Length\":\"5\"}"),
        ("headers", "{\"a\":\"b\\r\\nc: d\"}"),
        ("headers", "{\"orgId\":\"60002\"}"),
        ("headers", "{\"Accept-Encoding\":\"gzip\"}"),
        ("headers", "{\"Range\":\"bytes=5-\"}"),
        ("queryParams", "{\"orgId\":\"60002\"}"),
        ("queryParams", "{\"ORGID\":60002}"),
        ("requestURL", "/api/v1/tickets?orgId=60002"),
        ("requestURL", "/api/v1/tickets?a=1&%4Frg%49d=60002"),
        ("requestURL", "/api/v1/tickets?orgid=%7B%7Bother%7D%7D"),
        ("requestURL", "/api/v1/tickets/../agents"),
        ("requestURL", "/api/v1/tickets/%2e%2E/agents"),
        ("connectionLinkName", "nobody"),
    ] {
        let mut fields = world.fields("GET", "/api/v1/tickets/1");
        fields[field] = value.into();
        let refused = world.call(&fields).await.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], field, "{value}: {}", refused.text);
    }
    // Too large is refused before it is read.
    let large = format!("postBody={}", "x".repeat(3 << 20));
    send(form, large).await.refused(413, "RESOURCE_SIZE_EXCEEDED");
    assert!(world.world.server.provider.api_calls().is_empty(), "nothing went out");
}

async fn only_declared_hosts_are_called(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    world.upstream.behave("/data", Behaviour::status(200).with_body("{\"ok\":true}"));
    // A listed host is called, without any credential.
    for link in ["", "mirror_desk"] {
        let mut fields = world.fields("GET", &world.upstream.url("/data?x=1"));
        fields["connectionLinkName"] = link.into();
        let answer = inner(&world.call(&fields).await);
        assert_eq!(answer["body"], "{\"ok\":true}", "{answer}");
    }
    for received in world.upstream.received_at("/data") {
        assert_eq!(received.header("authorization"), None);
        assert_eq!(received.header("orgid"), None);
        assert_eq!(received.header("cookie"), None);
    }
    // Everybody else is not, however the address is written.
    let stranger = world.stranger.url("/data");
    let upstream = world.upstream.url("");
    for url in [
        stranger.clone(),
        stranger.replace("http://", "https://"),
        stranger.replace("127.0.0.1", "localhost"),
        stranger.replace("127.0.0.1", "127.0.0.2"),
        stranger.replace("127.0.0.1", "2130706433"),
        upstream.replace("http://", "https://"),
        format!("{upstream}0/"),
    ] {
        let refused = world.get(&url).await;
        assert!([403, 422].contains(&refused.status), "{url}: {}", refused.text);
        if refused.status == 403 {
            refused.refused(403, "HOST_NOT_ALLOWED");
        }
    }
    a_while().await;
    assert_eq!(world.stranger.connections(), 0, "no packet left");
    // The host's token goes to the host only, and no further than its origin.
    let issuer = world.world.server.provider.issuer().to_owned();
    let other_port = format!("{issuer}0/api/v1/x");
    let refused = world.get(&other_port).await;
    assert!([403, 422].contains(&refused.status), "{}", refused.text);
}

async fn redirects_are_not_followed_and_private_addresses_not_called(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let elsewhere = world.stranger.url("/caught");
    let moved = Behaviour::status(302).with_header("location", &elsewhere);
    world.upstream.behave("/moved", moved);
    let answer = inner(&world.get(&world.upstream.url("/moved")).await);
    assert_eq!(answer["statusCode"], 302);
    assert_eq!(answer["headers"]["location"], elsewhere);
    // Listed, but not public, and not allowed by the operator.
    world.get("http://10.1.2.3:8443/").await.refused(403, "HOST_NOT_ALLOWED");
    a_while().await;
    assert_eq!(world.stranger.connections(), 0, "no packet left");
    let kinds: Vec<Value> =
        world.invocations().await.iter().map(|row| row["error"].clone()).collect();
    assert!(kinds.contains(&json!("hostNotAllowed")), "{kinds:?}");
}

async fn a_connectors_token_goes_to_its_own_service_only(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let url = world.chat.url("/messages");
    let call = async |link: &str, url: &str| {
        world.call_with("POST", url, "connectionLinkName", link).await
    };
    // Nobody has connected it yet.
    call("chat", &url).await.refused(409, "CONNECTION_BROKEN");
    assert_eq!(world.chat.connections(), 0);
    let id = &world.world.installation.id;
    let body = json!({ "installationId": id, "connectionLinkName": "chat" });
    let asked = server.callback("connect", &body).await.expect(200);
    let before = world.access_tokens();
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(id, &answer).await.expect(200);
    let granted: Vec<String> =
        world.access_tokens().into_iter().filter(|token| !before.contains(token)).collect();
    let answer = call("chat", &url).await;
    assert_eq!(inner(&answer)["statusCode"], 200);
    let received = world.chat.wait_for(1, SOON).await.expect("it arrives").remove(0);
    let sent = received.header("authorization").expect("a token").to_owned();
    let token = sent.strip_prefix("Chat-token ").expect("the provider's scheme");
    assert!(granted.iter().any(|one| one == token), "the connector's own token");
    assert!(!answer.text.contains(token));
    // Without the name it is no host of the extension's; with it, nobody else is called.
    call("", &url).await.refused(403, "HOST_NOT_ALLOWED");
    assert_eq!(world.chat.count(), 1);
    call("chat", "/api/v1/tickets").await.refused(403, "HOST_NOT_ALLOWED");
    call("chat", &world.stranger.url("/x")).await.refused(403, "HOST_NOT_ALLOWED");
    call("mirror_desk", &url).await.refused(403, "HOST_NOT_ALLOWED");
    call("chat", &world.upstream.url("/x")).await.expect(200);
    let listed = world.upstream.wait_for(1, SOON).await.expect("it arrives").remove(0);
    assert_eq!(listed.header("authorization"), None);
    assert_eq!(world.stranger.connections(), 0);
    assert!(server.provider.api_calls().is_empty());
    // A second org's installation of the same extension has no part in it.
    let second = world.another("60002").await;
    let told = server.vendor.wait_for_path("/callbacks", 4, SOON).await.expect("it is told");
    let context = told
        .iter()
        .filter_map(|received| received.json().ok())
        .find(|body| body["installationId"] == second.id)
        .expect("its callback")["securityContext"]
        .clone();
    let mut fields = world.fields("POST", &url);
    fields["securityContext"] = context;
    fields["connectionLinkName"] = "chat".into();
    let hash = hash_of(MANIFEST_SECRET, canonical(&fields).as_bytes());
    world.call_as("60002", &fields, &hash).await.refused(409, "CONNECTION_BROKEN");
}

async fn a_refused_token_is_refreshed_once_and_a_dead_one_is_said_to_be(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let provider = &world.world.server.provider;
    let asked = provider.token_requests();
    provider.conduct(|conduct| conduct.api_failures.push_back(401));
    assert_eq!(inner(&world.get("/api/v1/tickets/1").await)["statusCode"], 200);
    assert_eq!(provider.token_requests(), asked + 1, "one refresh");
    let calls = provider.api_calls();
    let token = |index: usize| {
        let call: &mortise::development::ApiCall = &calls[index];
        call.headers.iter().find(|(name, _)| name == "authorization").map(|(_, v)| v.clone())
    };
    assert_eq!(calls.len(), 2);
    assert_ne!(token(0), token(1), "the second time with the new token");
    // A service that refuses every token is told as it is, and makes no storm.
    provider.conduct(|conduct| conduct.api_failures.extend([401, 401, 401, 401]));
    assert_eq!(inner(&world.get("/api/v1/tickets/1").await)["statusCode"], 401);
    assert!(provider.token_requests() <= asked + 2);
    provider.conduct(|conduct| conduct.api_failures.clear());
    // A grant that is dead can only be given anew.
    world.world.server.advance(Duration::from_mins(2));
    provider.revoke_all();
    let before = provider.api_calls().len();
    world.get("/api/v1/tickets/1").await.refused(409, "CONNECTION_BROKEN");
    assert!(provider.api_calls().len() <= before + 1);
}

async fn placeholders_are_filled_in(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let id = &world.world.installation.id;
    let config = json!({ "mirrorHost": "a/b?c \"d\"", "mirrorToken": "token-of-the-customer" });
    let body = json!({ "installationId": id, "config": config });
    server.callback("configure", &body).await.expect(200);
    let vendor = server.vendor_token("acme").await;
    for (name, body) in [
        ("region", json!({ "value": "eu" })),
        ("key", json!({ "value": "property-secret", "secret": true })),
    ] {
        let path = format!("/api/v1/extensions/ticket-mirror/properties/{name}");
        server.client.call(Method::PUT, &path, &vendor, Some(&body)).await.expect(200);
    }
    let mut fields = world.fields(
        "POST",
        &world
            .upstream
            .url("/{{property.region}}/{{mirrorHost}}/{{installationId}}?q={{mirrorHost}}"),
    );
    fields["queryParams"] = "{\"r\":\"{{ property.region }}\"}".into();
    fields["headers"] =
        "{\"X-Key\":\"{{property.key}}\",\"X-Token\":\"{{mirrorToken}}\",\"Content-Type\":\"application/json\"}"
            .into();
    fields["postBody"] = "{\"h\":\"{{mirrorHost}}\",\"t\":\"Dear {{customer}}\"}".into();
    let answer = world.call(&fields).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let received = world.upstream.wait_for(1, SOON).await.expect("it arrives").remove(0);
    assert_eq!(received.path, format!("/eu/a%2Fb%3Fc%20%22d%22/{id}"));
    assert_eq!(received.query.as_deref(), Some("q=a%2Fb%3Fc%20%22d%22&r=eu"));
    assert_eq!(received.header("x-key"), Some("property-secret"));
    assert_eq!(received.header("x-token"), Some("token-of-the-customer"));
    let sent = received.json().expect("JSON");
    assert_eq!(sent, json!({ "h": "a/b?c \"d\"", "t": "Dear {{customer}}" }));
    // A secret is not put into an address, nor where the extension could read it back.
    for url in [world.upstream.url("/{{mirrorToken}}"), world.upstream.url("/?k={{property.key}}")]
    {
        world.get(&url).await.refused(422, "INVALID_DATA");
    }
    let own = format!("/api/v1/installedExtensions/{id}/storage");
    let value = json!({ "key": "k", "value": { "stolen": "{{mirrorToken}}" } }).to_string();
    world.call_with("POST", &own, "postBody", &value).await.refused(422, "INVALID_DATA");
    // An upstream that repeats them does not hand them to whoever calls.
    let echo = Behaviour::status(200).with_body("you sent property-secret, Dear");
    world.upstream.behave("/echo", echo);
    let mut fields = world.fields("GET", &world.upstream.url("/echo"));
    fields["headers"] = "{\"X-Key\":\"{{property.key}}\"}".into();
    assert_eq!(inner(&world.call(&fields).await)["body"], "you sent ***, Dear");
}

async fn answers_are_bounded_and_lose_what_is_not_the_vendors(backend: Backend) {
    let settings = |settings: &mut crate::support::server::Settings| {
        settings.set("limits.invoke_response_bytes", "1KiB");
    };
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    let body = Behaviour::status(201)
        .with_header("set-cookie", "session=1")
        .with_header("x-plain", "yes")
        .with_body("x".repeat(5_000));
    world.upstream.behave("/large", body);
    let answer = inner(&world.get(&world.upstream.url("/large")).await);
    assert_eq!(answer["statusCode"], 201);
    assert_eq!(answer["body"].as_str().expect("a text").len(), 1_024);
    assert_eq!(answer["isTruncated"], true);
    assert_eq!(answer["headers"]["x-plain"], "yes");
    assert!(answer["headers"].get("set-cookie").is_none());
    let binary = Behaviour::status(200).with_body(vec![0xff, 0xfe, 0x00]);
    world.upstream.behave("/binary", binary);
    let answer = inner(&world.get(&world.upstream.url("/binary")).await);
    assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("//4A"), &json!(true)));
}

async fn rates_and_places_are_bounded(backend: Backend) {
    let settings = |settings: &mut crate::support::server::Settings| {
        settings.set("limits.invoke_per_minute", "60");
        settings.set("limits.invoke_under_way", "8");
    };
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    // A tenth of a minute's calls at once, then one a second.
    for _ in 0..6 {
        assert_eq!(world.get("/api/v1/tickets/1").await.status, 200);
    }
    let limited = eventually("the rate is used up", async || {
        let answer = world.get("/api/v1/tickets/1").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert_eq!(limited.refused(429, "TOO_MANY_REQUESTS").header("retry-after"), "1");
    world.world.server.advance(Duration::from_mins(1));
    // One installation has an eighth of all places: here one.
    let slow = Behaviour::status(200).after(Duration::from_secs(2));
    world.upstream.behave("/slow", slow);
    let url = world.upstream.url("/slow");
    let (first, second) = tokio::join!(world.get(&url), async {
        world.upstream.wait_for_path("/slow", 1, SOON).await.expect("the first is under way");
        world.get(&url).await
    });
    assert_eq!(first.status, 200, "{}", first.text);
    second.refused(429, "TOO_MANY_REQUESTS");
}

async fn signed_calls_count_once_and_are_required_from_then_on(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let secret = world.world.secret().await;
    let signer = standardwebhooks::Webhook::new(&secret).expect("a secret");
    let path = format!("/api/v1/invoke?orgId={ORG}");
    let fields = world.fields("GET", "/api/v1/tickets/7");
    let send = async |id: &str, age: i64, body: &str, signed: &str| {
        let timestamp = server.seam.clock.now().seconds() - age;
        let signature = signer.sign(id, timestamp, signed.as_bytes()).expect("a signature");
        let request = server
            .client
            .request(Method::POST, &path, "")
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature);
        server.client.send(request.body(body.to_owned())).await
    };
    let body = fields.to_string();
    assert_eq!(world.call(&fields).await.status, 200, "unsigned is enough until the first");
    send("m-0", 0, &body, "another body").await.refused(401, "SIGNATURE_INVALID");
    send("m-1", 600, &body, &body).await.refused(401, "SIGNATURE_INVALID");
    assert_eq!(world.call(&fields).await.status, 200, "a failed try changes nothing");
    assert_eq!(inner(&send("m-2", 0, &body, &body).await)["statusCode"], 200);
    send("m-2", 0, &body, &body).await.refused(401, "SIGNATURE_INVALID");
    send("m-2", 1, &body, &body).await.refused(401, "SIGNATURE_INVALID");
    world.call(&fields).await.refused(401, "SIGNATURE_INVALID");
    assert_eq!(send("m-3", 0, &body, &body).await.status, 200);
    // For good: also after a restart, and the id as well.
    let world = InvokeWorld { world: restarted(world.world).await, ..world };
    let server = &world.world.server;
    world.call(&fields).await.refused(401, "SIGNATURE_INVALID");
    let timestamp = server.seam.clock.now().seconds();
    let again = async |id: &str| {
        let signature = signer.sign(id, timestamp, body.as_bytes()).expect("a signature");
        let request = server
            .client
            .request(Method::POST, &path, "")
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature);
        server.client.send(request.body(body.clone())).await.status
    };
    assert_eq!(again("m-3").await, 401);
    assert_eq!(again("m-4").await, 200);
}

async fn restarted(
    world: crate::support::delivery_world::World,
) -> crate::support::delivery_world::World {
    let crate::support::delivery_world::World { server, host, installation, webhook } = world;
    let server = server.restart().await;
    crate::support::delivery_world::World { server, host, installation, webhook }
}

async fn the_end_of_an_installation_ends_its_calls(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    world.upstream.behave("/slow", Behaviour::status(200).after(Duration::from_secs(8)));
    let url = world.upstream.url("/slow");
    let clock = Clock::default();
    let began = clock.instant();
    let (call, ()) = tokio::join!(world.get(&url), async {
        world.upstream.wait_for_path("/slow", 1, SOON).await.expect("it is under way");
        let body = json!({ "installationId": world.world.installation.id });
        world.world.server.callback("uninstall", &body).await.expect(200);
        // From here on nothing of it begins.
        world.get(&world.upstream.url("/late")).await.refused(401, "SIGNATURE_INVALID");
    });
    call.refused(401, "SIGNATURE_INVALID");
    assert!(began.elapsed() < Duration::from_secs(6), "it was cut, not waited for");
    assert_eq!(world.upstream.received_at("/late").len(), 0);
}

async fn a_suspended_installation_does_not_call(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    assert_eq!(world.get("/api/v1/tickets/1").await.status, 200);
    let post = async |what: &str| {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        server.client.post(&path, &server.operator, &json!({ "reason": "r" })).await.expect(200);
    };
    for _ in 0..3 {
        post("suspend").await;
        world.get("/api/v1/tickets/1").await.refused(401, "SIGNATURE_INVALID");
        post("resume").await;
        assert_eq!(world.get("/api/v1/tickets/1").await.status, 200);
    }
}

/// The call carries the webhook's `ignoreSourceId` to the host, which posts the event that the call
/// caused with it: the vendor does not hear its own echo, and everybody else's it does.
async fn what_a_call_causes_does_not_come_back(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let source = "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13";
    let headers = json!({ "sourceId": source }).to_string();
    let answer = world.call_with("POST", "/api/v1/tickets", "headers", &headers).await;
    assert_eq!(inner(&answer)["statusCode"], 200);
    let calls = world.world.server.provider.api_calls();
    let sent = calls[0].headers.iter().find(|(name, _)| name == "sourceid");
    let sent = sent.map(|(_, value)| value.clone()).expect("the host is told");
    // As the host would: what it was told goes along with the event.
    let mut event = ticket(ORG, "echo");
    event["sourceId"] = sent.into();
    assert_eq!(world.world.fans_out(&event).await, 0);
    assert_eq!(world.world.fans_out(&ticket(ORG, "other")).await, 1);
    let arrived = world.world.arrived(1).await;
    a_while().await;
    assert_eq!(world.world.server.vendor.received_at(HOOK).len(), 1);
    assert_eq!(arrived[0].json().expect("JSON")[0]["payload"]["id"], "other");
}

async fn an_upstream_that_gives_no_answer_is_said_to(backend: Backend) {
    let settings = |settings: &mut crate::support::server::Settings| {
        settings.set("limits.invoke_deadline", "1s");
    };
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    world.upstream.behave("/slow", Behaviour::status(200).after(Duration::from_secs(5)));
    let answer = world.get(&world.upstream.url("/slow")).await.refused(502, "UPSTREAM_FAILED");
    assert_eq!(answer.json["error"], "timeout");
    let record = eventually("the call is recorded", async || {
        world.invocations().await.into_iter().find(|row| row["path"] == "/slow")
    })
    .await;
    assert_eq!((&record["error"], &record["statusCode"]), (&json!("timeout"), &Value::Null));
}

async fn calls_are_recorded_and_bounded(backend: Backend) {
    let log = Log::capture();
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    assert_eq!(world.get("/api/v1/tickets/{{installationId}}?secret=1").await.status, 200);
    let row =
        eventually("the call is recorded", async || world.invocations().await.first().cloned())
            .await;
    assert_eq!(row["method"], "GET");
    assert_eq!(row["path"], "/api/v1/tickets/{{installationId}}", "neither values nor query");
    assert_eq!(row["connection"], "zohoAuthorisation");
    assert_eq!(row["statusCode"], 200);
    let host = server.provider.issuer().trim_start_matches("http://");
    assert_eq!(row["host"], host);
    assert!(row["durationMs"].as_f64().expect("a number") > 0.0);
    // The org's and the vendor's, and nobody else's.
    let path = format!("/api/v1/installations/{}/invocations", world.world.installation.id);
    for token in
        [server.admin(ORG).await, server.viewer(ORG).await, server.vendor_token("acme").await]
    {
        assert_eq!(server.client.get(&path, &token).await.expect(200).data().len(), 1);
    }
    for token in [server.admin("2").await, server.vendor_token("other").await] {
        server.client.get(&path, &token).await.refused(404, "RESOURCE_NOT_FOUND");
    }
    // What a run writes has no securityContext and no token in it.
    let dump = server.dump().await;
    assert_absent(&dump, &world.context);
    let log = log.text();
    assert!(log.contains("/api/v1/invoke"), "requests are in the log at this level");
    for secret in world.access_tokens().iter().chain([&world.context]) {
        assert_absent(&dump, secret);
        assert_absent(&log, secret);
    }
}

/// Everything that this process logs, of the server's own code.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("mortise=trace,info")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("each test has its process");
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panicked")).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
