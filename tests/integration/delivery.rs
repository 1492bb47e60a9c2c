//! What arrives at a vendor, and what happens where it does not.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use mortise::development::{Behaviour, Received};
use mortise::seam::{Clock, Timestamp};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::delivery_world::{HOOK, SOON, World, a_while, ticket, tickets, webhook_of};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    what_arrives_is_the_reference_byte_for_byte,
    failures_are_tried_again_by_the_schedule_and_then_given_up,
    every_way_to_fail_is_recorded_with_its_hint,
    a_webhook_that_is_gone_holds_its_deliveries,
    retry_after_is_honoured,
    a_hanging_webhook_delays_nobody,
    the_breaker_pauses_probes_and_loses_nothing,
    ordered_webhooks_keep_their_order,
    both_secrets_sign_while_a_rotation_overlaps,
);

const MINUTE: Duration = Duration::from_mins(1);

fn header_map(received: &Received) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let name = http::HeaderName::from_static(name);
        let value = received.header(name.as_str()).expect("the header is there");
        headers.insert(name, value.parse().expect("a header value"));
    }
    headers
}

/// Whether one of the signatures is what the reference's own library makes with a secret. The
/// clock of the server was moved, so its check of the timestamp is left out.
fn is_signed_with(received: &Received, secret: &str) -> bool {
    let webhook = Webhook::new(secret).expect("a secret of Standard Webhooks");
    let header = |name: &str| received.header(name).expect("the header is there");
    let timestamp = header("webhook-timestamp").parse().expect("seconds");
    let expected = webhook.sign(header("webhook-id"), timestamp, &received.body);
    let expected = expected.expect("a signature");
    header("webhook-signature").split(' ').any(|signature| signature == expected)
}

fn moment(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("no moment: {value}"));
    Timestamp::parse_rfc3339(text).expect("RFC 3339")
}

async fn what_arrives_is_the_reference_byte_for_byte(backend: Backend) {
    let world = World::with(
        backend,
        |_| {},
        |package| {
            let url = package.resources["webhook"]["url"].as_str().expect("a URL").to_owned();
            let url = format!("{url}&b=%20c&orgId=1&securityContext=forged&a=+#fragment");
            package.resources["webhook"]["url"] = url.into();
        },
    )
    .await;
    let payload = r#"{ "id" : "1", "n":1.0,"big":12345678901234567890123,"x":"\u00e4\/" }"#;
    let previous = r#"{"status" :"New"}"#;
    let text = format!(
        r#"{{"eventId":"e","eventType":"Ticket_Update","orgId":"{ORG}","eventTime":"1618493667780","payload":{payload},"prevState":{previous}}}"#
    );
    world.post_text(&text).await.expect(202);
    let received = world.arrived(1).await.remove(0);
    let body = format!(
        r#"[{{"payload":{payload},"eventTime":"1618493667780","eventType":"Ticket_Update","orgId":"{ORG}","prevState":{previous}}}]"#
    );
    assert_eq!(std::str::from_utf8(&received.body), Ok(body.as_str()));
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", HOOK));
    let query = received.query.as_deref().expect("a query");
    let start = format!("tenant=a&b=%20c&a=+&orgId={ORG}&securityContext=");
    let context = query.strip_prefix(&start).unwrap_or_else(|| panic!("{query}"));
    assert!(!context.is_empty() && !context.contains('&') && context != "forged");
    assert_eq!(received.header("content-type"), Some("application/json"));
    let agent = concat!("Mortise/", env!("CARGO_PKG_VERSION"));
    assert_eq!(received.header("user-agent"), Some(agent));
    assert_eq!(received.header("x-mortise-replay"), None);
    let delivery = world.in_state("e", "delivered").await;
    assert_eq!(received.header("webhook-id"), delivery["id"].as_str());
    // The reference's own library, its check of the timestamp included.
    let webhook = Webhook::new(&world.secret().await).expect("a secret");
    webhook.verify(&received.body, &header_map(&received)).expect("the signature is right");
    assert!(webhook.verify(b"[]", &header_map(&received)).is_err());

    // The JWT, against the published keys.
    let client = &world.server.client;
    let keys = client.get("/.well-known/jwks.json", "").await.expect(200).json;
    let token = received.header("x-zdesk-jwt").expect("the header is there");
    let header = jsonwebtoken::decode_header(token).expect("a JWT");
    let keys = keys["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["kid"].as_str() == header.kid.as_deref());
    let key = key.expect("the key is published");
    let part = |name: &str| key[name].as_str().expect("a part of the key");
    let key = DecodingKey::from_rsa_components(part("n"), part("e")).expect("a key");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[format!("webhookId:{}", world.webhook)]);
    validation.set_issuer(&[format!("orgId:{ORG}")]);
    validation.set_required_spec_claims(&["iss", "aud", "exp"]);
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).expect("it is right");
    let age = claims.claims["exp"].as_i64().expect("it is there")
        - claims.claims["iat"].as_i64().expect("it is there");
    assert!((1..=86_400).contains(&age), "{age}");

    // The same context each time, another one for another org.
    world.ticket("next").await;
    let arrived = world.arrived(2).await;
    assert_eq!(arrived[1].parameter("securityContext"), received.parameter("securityContext"));
    let installation = world.server.install("ticket-mirror", "other-org").await;
    let consent = world.server.consent(&installation.authorization_url).await;
    world.server.authorize(&installation.id, &consent).await.expect(200);
    assert_eq!(world.fans_out(&ticket("other-org", "z")).await, 1);
    let other = world.arrived(3).await[2].clone();
    assert_eq!(other.parameter("orgId").as_deref(), Some("other-org"));
    assert_ne!(other.parameter("securityContext"), received.parameter("securityContext"));

    // It stands in no answer.
    let context = received.parameter("securityContext").expect("a context");
    let answers = [
        format!("/api/v1/webhooks?orgId={ORG}"),
        format!("/api/v1/webhooks/{}", world.webhook),
        "/api/v1/deliveries".to_owned(),
        format!("/api/v1/deliveries/{}", delivery["id"].as_str().expect("it is there")),
        format!("/api/v1/installations/{}", world.installation.id),
        format!("/api/v1/installations/{}/history", world.installation.id),
        "/api/v1/journal".to_owned(),
        format!("/api/v1/events/e?orgId={ORG}"),
        "/api/v1/extensions/ticket-mirror/versions/1.0.0".to_owned(),
    ];
    for path in answers {
        let answer = client.get(&path, &world.server.operator).await.expect(200);
        for hidden in [context.as_str(), "forged"] {
            let masked = path.contains("/versions/") && hidden == "forged";
            assert!(masked || !answer.text.contains(hidden), "{path}: {}", answer.text);
        }
    }
}

async fn failures_are_tried_again_by_the_schedule_and_then_given_up(backend: Backend) {
    let world = World::start(backend).await;
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::status(500).with_body("out of order"));
    world.ticket("t").await;
    for (made, pause) in [(1, MINUTE), (2, MINUTE * 5), (3, MINUTE * 30), (4, MINUTE * 120)] {
        let delivery = world.attempted("t", made).await;
        assert_eq!(delivery["state"], "pending");
        let attempt = &delivery["attempts"][usize::try_from(made).expect("it is there") - 1];
        let wait = moment(&delivery["nextAttemptTime"]).since(moment(&attempt["time"]));
        assert!(wait >= pause, "attempt {made}: {wait:?}");
        assert!(wait <= pause.mul_f64(1.1) + Duration::from_secs(10), "attempt {made}: {wait:?}");
        if made == 1 {
            let before = Duration::from_secs(10);
            world.server.advance(pause.checked_sub(before).expect("it is there"));
            a_while().await;
            assert_eq!(vendor.received_at(HOOK).len(), 1, "nothing comes before its time");
        }
        world.server.advance(pause.mul_f64(1.1));
    }
    let delivery = world.in_state("t", "failed").await;
    assert_eq!(
        (&delivery["attemptsMade"], &delivery["nextAttemptTime"]),
        (&json!(5), &Value::Null)
    );
    let numbers: Vec<_> = delivery["attempts"]
        .as_array()
        .expect("it is there")
        .iter()
        .map(|a| a["number"].clone())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    world.health("failing").await;
    world.server.advance(MINUTE * 60 * 24);
    a_while().await;
    let arrived = world.arrived(5).await;
    assert_eq!(arrived.len(), 5, "then it is given up");
    let secret = world.secret().await;
    let mut timestamps = Vec::new();
    for received in &arrived {
        assert_eq!(received.header("webhook-id"), delivery["id"].as_str());
        assert_eq!(received.body, arrived[0].body);
        assert!(is_signed_with(received, &secret));
        timestamps.push(received.header("webhook-timestamp").expect("it is there").to_owned());
    }
    timestamps.dedup();
    assert_eq!(timestamps.len(), 5, "each attempt is signed anew");
    // A success lifts the health again.
    vendor.behave(HOOK, Behaviour::status(204));
    world.ticket("u").await;
    world.in_state("u", "delivered").await;
    world.health("ok").await;
}

async fn every_way_to_fail_is_recorded_with_its_hint(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.deadline", "1s");
            settings.set("delivery.breaker.failures", "1000");
        },
        |_| {},
    )
    .await;
    let vendor = &world.server.vendor;
    let elsewhere = vendor.url("/elsewhere");
    let slowly = Behaviour::Trickle { interval: Duration::from_millis(100) };
    let late = Behaviour::status(200).after(Duration::from_secs(3));
    let table = [
        ("ok", Behaviour::status(200).with_body("thanks"), Some(200), None, None),
        ("accepted", Behaviour::status(202), Some(202), None, None),
        ("empty", Behaviour::status(204), Some(204), None, None),
        ("flood", Behaviour::Flood, Some(200), None, None),
        (
            "moved",
            Behaviour::status(302).with_header("location", &elsewhere),
            Some(302),
            Some("status"),
            Some("redirect"),
        ),
        (
            "kept",
            Behaviour::status(307).with_header("location", &elsewhere),
            Some(307),
            Some("status"),
            Some("redirect"),
        ),
        ("bad", Behaviour::status(400).with_body("no"), Some(400), Some("status"), Some("read")),
        ("forbidden", Behaviour::status(403), Some(403), Some("status"), Some("signature")),
        ("missing", Behaviour::status(404), Some(404), Some("status"), Some("path")),
        ("broken", Behaviour::status(500), Some(500), Some("status"), Some("log")),
        ("odd", Behaviour::status(599), Some(599), Some("status"), Some("log")),
        ("hang", Behaviour::Hang, None, Some("timeout"), Some("too long")),
        ("late", late, None, Some("timeout"), Some("too long")),
        ("trickle", slowly, None, Some("timeout"), Some("too long")),
        ("close", Behaviour::Close, None, Some("connectionClosed"), Some("closed")),
        ("reset", Behaviour::Reset, None, Some("connectionClosed"), Some("closed")),
        ("garbage", Behaviour::Garbage, None, Some("protocol"), Some("HTTP")),
    ];
    for (name, behaviour, status, error, hint) in table {
        vendor.behave(HOOK, behaviour);
        world.ticket(name).await;
        let delivery = world.attempted(name, 1).await;
        let expected = if error.is_some() { "pending" } else { "delivered" };
        assert_eq!(delivery["state"], expected, "{name}: {delivery}");
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["status"], json!(status), "{name}: {delivery}");
        assert_eq!(attempt["error"], json!(error), "{name}: {delivery}");
        let given = attempt["hint"].as_str();
        match hint {
            Some(hint) => {
                assert!(given.is_some_and(|given| given.contains(hint)), "{name}: {given:?}");
            }
            None => assert_eq!(given, None, "{name}"),
        }
        let milliseconds = attempt["durationMs"].as_f64().expect("a duration");
        assert!(milliseconds > 0.0 && milliseconds < 1_800.0, "{name}: {milliseconds}");
        if error == Some("timeout") {
            assert!(milliseconds >= 950.0, "{name}: {milliseconds}");
        }
        if status.is_some() {
            let address = attempt["address"].as_str().expect("an address");
            assert_eq!(address, vendor.address().to_string(), "{name}");
        }
        let body = attempt["response"]["body"].as_str().unwrap_or_default();
        match name {
            "ok" => assert_eq!(body, "thanks"),
            "bad" => assert_eq!(body, "no"),
            "flood" => {
                assert_eq!(attempt["response"]["truncated"], true);
                assert!(body.len() <= 1_024 && body.starts_with('x'), "{}", body.len());
            }
            _ => {}
        }
    }
    assert!(vendor.received_at("/elsewhere").is_empty(), "redirects are not followed");
    // Nobody there at all.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let package = world.server.package().key("nobody").with(|package| {
        package.resources["webhook"]["url"] = format!("http://{address}/x").into();
    });
    world.server.active_package(&package, "nobody-org").await;
    world.fans_out(&ticket("nobody-org", "n")).await;
    let delivery = eventually("the attempt", async || {
        let rows = world.deliveries("&state=pending").await;
        rows.into_iter().find(|row| row["orgId"] == "nobody-org" && row["attemptsMade"] == 1)
    })
    .await;
    assert_eq!(delivery["attempts"][0]["error"], "connect", "{delivery}");
}

async fn a_webhook_that_is_gone_holds_its_deliveries(backend: Backend) {
    let world = World::start(backend).await;
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::status(410));
    world.ticket("first").await;
    let delivery = world.in_state("first", "held").await;
    assert_eq!(delivery["attempts"][0]["status"], 410);
    assert!(delivery["attempts"][0]["hint"].as_str().expect("it is there").contains("gone"));
    world.health("gone").await;
    vendor.behave(HOOK, Behaviour::status(200));
    world.ticket("second").await;
    world.in_state("second", "held").await;
    world.server.advance(MINUTE * 60 * 24);
    a_while().await;
    assert_eq!(vendor.received_at(HOOK).len(), 1, "nothing is sent any more");
    assert_eq!(world.deliveries("&state=held").await.len(), 2);
}

async fn retry_after_is_honoured(backend: Backend) {
    let world = World::start(backend).await;
    let vendor = &world.server.vendor;
    let now = world.server.seam.clock.now();
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let later =
        time::OffsetDateTime::from_unix_timestamp(now.seconds() + 7_200).expect("it is there");
    let date = later.format(format).expect("a date of HTTP");
    let wait = async |name: &str, status: u16, asked: &str| {
        vendor.behave(HOOK, Behaviour::status(status).with_header("retry-after", asked));
        world.ticket(name).await;
        let delivery = world.attempted(name, 1).await;
        let began = moment(&delivery["attempts"][0]["time"]);
        moment(&delivery["nextAttemptTime"]).since(began).as_secs()
    };
    let near = |seconds: u64, expected: u64| (expected..expected + 15).contains(&seconds);
    let seconds = wait("seconds", 429, "3600").await;
    assert!(near(seconds, 3_600), "{seconds}");
    let seconds = wait("date", 503, &date).await;
    assert!((7_170..=7_200).contains(&seconds), "{seconds}");
    let seconds = wait("sooner", 429, "1").await;
    assert!((60..=70).contains(&seconds), "not sooner than the schedule: {seconds}");
    let seconds = wait("other", 500, "3600").await;
    assert!((60..=70).contains(&seconds), "of 429 and 503 only: {seconds}");
    let seconds = wait("nonsense", 503, "soon").await;
    assert!((60..=70).contains(&seconds), "{seconds}");
    let seconds = wait("endless", 503, "99999999999999999999").await;
    assert!(near(seconds, 86_400), "bounded: {seconds}");
}

async fn a_hanging_webhook_delays_nobody(backend: Backend) {
    let world = World::with(
        backend,
        |settings| settings.set("delivery.concurrency_per_webhook", "3"),
        |_| {},
    )
    .await;
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::Hang);
    let other = world.server.package().key("other").with(|package| {
        package.resources["webhook"]["url"] = vendor.url("/hooks/other").into();
    });
    let installation = world.server.active_package(&other, "other-org").await;
    webhook_of(&world.server, &installation).await;
    let many: Vec<_> = (0..200).map(|number| ticket(ORG, &format!("h-{number}"))).collect();
    world.post(&json!(many)).await.expect(202);
    eventually("the hanging requests", async || (vendor.in_hand(HOOK) == 3).then_some(())).await;
    let clock = Clock::default();
    for number in 0..20 {
        let posted = clock.instant();
        world.fans_out(&ticket("other-org", &format!("o-{number}"))).await;
        let arrived = vendor.wait_for_path("/hooks/other", number + 1, SOON).await;
        let arrived = arrived.expect("it arrives")[number].instant;
        let took = arrived.saturating_duration_since(posted);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(vendor.most_in_hand(HOOK), 3, "the cap of a webhook");
}

async fn the_breaker_pauses_probes_and_loses_nothing(backend: Backend) {
    let world = World::with(
        backend,
        |settings| {
            settings.set("delivery.concurrency_per_webhook", "1");
            settings.set("delivery.breaker.failures", "3");
            settings.set("delivery.breaker.pause", "30s");
        },
        |_| {},
    )
    .await;
    let vendor = &world.server.vendor;
    vendor.behave(HOOK, Behaviour::status(500));
    let many: Vec<_> = (0..8).map(|number| ticket(ORG, &format!("b-{number}"))).collect();
    world.post(&json!(many)).await.expect(202);
    eventually("the pause", async || {
        world.webhook().await["health"]["pausedUntil"].is_string().then_some(())
    })
    .await;
    world.ticket("b-8").await;
    a_while().await;
    assert_eq!(vendor.received_at(HOOK).len(), 3, "nothing is sent while it pauses");
    // A failed probe pauses longer.
    world.server.advance(Duration::from_secs(31));
    world.arrived(4).await;
    a_while().await;
    assert_eq!(vendor.received_at(HOOK).len(), 4, "one probe, not more");
    world.server.advance(Duration::from_secs(31));
    a_while().await;
    assert_eq!(vendor.received_at(HOOK).len(), 4, "the second pause is twice as long");
    vendor.behave(HOOK, Behaviour::status(200));
    world.server.advance(Duration::from_secs(31));
    eventually("the end of the pause", async || {
        world.webhook().await["health"]["pausedUntil"].is_null().then_some(())
    })
    .await;
    world.server.advance(MINUTE * 2);
    for number in 0..=8 {
        world.in_state(&format!("b-{number}"), "delivered").await;
    }
}

async fn ordered_webhooks_keep_their_order(backend: Backend) {
    let world = World::with(
        backend,
        |settings| settings.set("delivery.breaker.failures", "1000"),
        |package| package.resources["webhook"]["mortise"] = json!({ "ordered": true }),
    )
    .await;
    assert_eq!(world.webhook().await["ordered"], true);
    let vendor = &world.server.vendor;
    let (yes, no) = (|| Behaviour::status(200), || Behaviour::status(500));
    vendor.behave_in_turn(HOOK, [yes(), no(), yes(), Behaviour::Reset], yes());
    let names: Vec<String> = (0..30).map(|number| format!("o-{number}")).collect();
    for some in names.chunks(10) {
        let many: Vec<_> = some.iter().map(|name| ticket(ORG, name)).collect();
        world.post(&json!(many)).await.expect(202);
    }
    world.attempted("o-1", 1).await;
    a_while().await;
    assert_eq!(tickets(&world.arrived(2).await), ["o-0", "o-1"], "those behind it wait");
    world.server.advance(MINUTE * 2);
    world.attempted("o-2", 1).await;
    a_while().await;
    assert_eq!(world.arrived(4).await.len(), 4);
    world.server.advance(MINUTE * 2);
    world.in_state("o-29", "delivered").await;
    let mut order = tickets(&world.arrived(32).await);
    order.dedup();
    assert_eq!(order, names);
    assert_eq!(vendor.most_in_hand(HOOK), 1, "one at a time");

    // One that is given up lets the next go on.
    vendor.behave_in_turn(HOOK, (0..5).map(|_| no()), yes());
    world.ticket("lost").await;
    world.ticket("after").await;
    for (made, pause) in [(1, MINUTE), (2, MINUTE * 5), (3, MINUTE * 30), (4, MINUTE * 120)] {
        world.attempted("lost", made).await;
        let after = world.delivery("after", |_| true).await;
        assert_eq!(after["attemptsMade"], 0, "it waits");
        world.server.advance(pause.mul_f64(1.2));
    }
    world.in_state("lost", "failed").await;
    world.in_state("after", "delivered").await;
}

async fn both_secrets_sign_while_a_rotation_overlaps(backend: Backend) {
    let world = World::start(backend).await;
    let former = world.secret().await;
    let server = &world.server;
    let path = "/api/v1/extensions/ticket-mirror/signing-secret/rotate";
    let vendor = server.vendor_token("acme").await;
    let answer = server.client.post(path, &vendor, &json!({ "overlapSeconds": 3_600 })).await;
    let present = answer.expect(200).text_of("secret");
    assert_ne!(former, present);
    world.ticket("during").await;
    let during = world.arrived(1).await[0].clone();
    let signatures = during.header("webhook-signature").expect("signatures");
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    assert!(is_signed_with(&during, &former) && is_signed_with(&during, &present));
    server.advance(Duration::from_secs(3_700));
    a_while().await;
    world.ticket("after").await;
    let after = world.arrived(2).await[1].clone();
    assert!(!is_signed_with(&after, &former), "the former one has ended");
    assert!(is_signed_with(&after, &present));
    let signatures: HashMap<_, _> = [
        ("during", during.header("webhook-signature")),
        ("after", after.header("webhook-signature")),
    ]
    .into();
    assert_eq!(signatures["after"].expect("it is there").split(' ').count(), 1);
}
