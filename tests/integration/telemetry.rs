//! Metrics: who gets them, what is in them, and that they move with what happens.

use std::collections::BTreeMap;
use std::time::Duration;

use mortise::development::Behaviour;
use mortise::telemetry::families::{FAMILIES, Kind};
use serde_json::json;

use crate::support::client::Client;
use crate::support::delivery_world::{HOOK, World};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(
    metrics_are_the_operators_and_have_every_family,
    metrics_move_with_what_happens,
    tokens_that_end_soon_are_told_of_once,
    a_database_that_hangs_leaves_the_scrape_what_the_process_knows,
);

/// Every series with its value.
fn parse(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

async fn metrics_are_the_operators_and_have_every_family(backend: Backend) {
    let server = TestServer::start(backend, |s| s.set("metrics.listen", "127.0.0.1:0")).await;
    server.client.get("/metrics", "").await.refused(401, "UNAUTHORIZED");
    for token in [server.admin(ORG).await, server.host().await, server.vendor_token("acme").await] {
        server.client.get("/metrics", &token).await.refused(403, "FORBIDDEN");
    }
    // So that what is counted by label has been counted once.
    server.active(ORG).await;
    let answer = server.client.get("/metrics", &server.operator).await.expect(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let series = parse(&answer.text);
    for family in FAMILIES {
        let head = format!("# TYPE {} {}\n", family.name, family.kind.name());
        assert_eq!(answer.text.matches(&head).count(), 1, "{}", family.name);
        if family.name.contains("reconciler_findings") {
            continue;
        }
        let name = match family.kind {
            Kind::Histogram => format!("{}_count", family.name),
            Kind::Counter | Kind::Gauge => family.name.to_owned(),
        };
        let there: Vec<_> = series
            .keys()
            .filter(|series| series.split('{').next() == Some(name.as_str()))
            .collect();
        assert!(!there.is_empty(), "{name} has no series");
        assert!(there.len() <= 200, "{name} has {} series", there.len());
        for label in family.labels {
            assert!(there.iter().all(|series| series.contains(&format!("{label}=\""))), "{name}");
        }
    }
    let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    for line in answer.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().expect("a name");
        assert!(names.contains(&name), "{name} is in no list");
    }
    // Nobody's payload, org or address is a label.
    assert!(!answer.text.contains(ORG) && !answer.text.contains("127.0.0.1"), "{}", answer.text);
    let open = server.metrics_address().expect("it listens");
    let open = crate::support::client::Client::new(format!("http://{open}"));
    let get = |path: &str| open.request(reqwest::Method::GET, path, "").send();
    let answer = get("/metrics").await.expect("it answers");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("text");
    assert!(parse(&text)["mortise_node_lease_valid"] > 0.5);
    for path in ["/", "/api/v1/tokens", "/health/live"] {
        assert_eq!(get(path).await.expect("it answers").status(), 404, "{path}");
    }
}

async fn metrics_move_with_what_happens(backend: Backend) {
    let world = World::with(backend, |s| s.set("delivery.schedule", "1s"), |_| {}).await;
    let server = &world.server;
    let scrape =
        async || parse(&server.client.get("/metrics", &server.operator).await.expect(200).text);
    let before = scrape().await;
    world.ticket("fine").await;
    world.in_state("fine", "delivered").await;
    let again = json!({
        "eventId": "fine", "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "fine" },
    });
    world.post(&again).await.expect(202);
    server.vendor.behave(HOOK, Behaviour::status(503));
    world.ticket("lost").await;
    world.attempted("lost", 1).await;
    server.advance(Duration::from_secs(2));
    world.in_state("lost", "failed").await;
    server.client.get("/api/v1/nowhere", "").await.expect(404);
    let after = scrape().await;
    let grew = |name: &str| {
        after.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0)
    };
    // Callbacks of the installation may still end meanwhile.
    for (name, least) in [
        ("mortise_events_accepted_total", 2.0),
        ("mortise_events_duplicate_total", 1.0),
        ("mortise_deliveries_created_total", 2.0),
        ("mortise_delivery_attempts_total{outcome=\"delivered\"}", 1.0),
        ("mortise_delivery_attempts_total{outcome=\"retry\"}", 1.0),
        ("mortise_delivery_attempts_total{outcome=\"failed\"}", 1.0),
        ("mortise_delivery_answers_total{answer=\"2xx\"}", 1.0),
        ("mortise_delivery_answers_total{answer=\"5xx\"}", 2.0),
        ("mortise_delivery_attempt_duration_seconds_count", 3.0),
        ("mortise_delivery_phase_duration_seconds_count{phase=\"first_byte\"}", 3.0),
        ("mortise_delivery_lag_seconds_count", 2.0),
        ("mortise_commit_rows_count", 3.0),
        ("mortise_commit_duration_seconds_count", 3.0),
        ("mortise_http_requests_total{class=\"2xx\"}", 4.0),
        ("mortise_http_problems_total{code=\"url_not_found\"}", 1.0),
        ("mortise_http_request_duration_seconds_count", 5.0),
    ] {
        assert!(grew(name) >= least, "{name} grew by {}", grew(name));
    }
    let active = "mortise_lifecycle_transitions_total{command=\"authorize\",to=\"active\"}";
    assert!(after[active] >= 1.0);
    for series in after.keys().filter(|series| series.contains("loop_silence")) {
        assert!(after[series] < 15.0, "{series}");
    }
    eventually("health is read", async || {
        scrape()
            .await
            .get("mortise_webhooks{health=\"failing\"}")
            .filter(|count| **count > 0.5)
            .map(|_| ())
    })
    .await;
    let ready = server.client.get("/health/ready", "").await.expect(200);
    let checks: Vec<_> =
        ready.json["checks"].as_array().expect("checks").iter().map(|one| &one["name"]).collect();
    assert!(checks.contains(&&json!("loops")), "{checks:?}");
}

async fn tokens_that_end_soon_are_told_of_once(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    let ends =
        |days: u64| server.seam.clock.now().plus(Duration::from_secs(days * 86_400)).rfc3339();
    let made = server
        .client
        .post(
            "/api/v1/tokens",
            &server.operator,
            &json!({ "role": "admin", "orgId": ORG, "name": "night job", "expiresAt": ends(9) }),
        )
        .await
        .expect(201);
    let id = made.text_of("id");
    let admin = server.admin(ORG).await;
    // Hundreds of tokens for a few days each, as programs make them: they end sooner, nobody needs to
    // be told of them, and they stand in nobody's way.
    let (bytes, id_of) = if is_sqlite {
        ("randomblob(32)", "randomblob(16)")
    } else {
        ("uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())", "gen_random_uuid()")
    };
    let day = 86_400_000_000_i64;
    let now = server.seam.clock.now().micros();
    let (made_at, ends_at) = (now + day, now + 4 * day);
    server
        .execute(&format!(
            "insert into api_tokens (id, digest, role, scopes, created_at, expires_at) \
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 600) \
             select {id_of}, {bytes}, 'host', 'null', {made_at}, {ends_at} from n"
        ))
        .await;
    let expiring = async || {
        let notices = server.client.all("/api/v1/notices?dismissed=true", &admin).await;
        notices.into_iter().filter(|one| one["kind"] == "credential.expiring").collect::<Vec<_>>()
    };
    server.advance(Duration::from_secs(10));
    assert!(expiring().await.is_empty(), "nine days are long");
    server.advance(Duration::from_hours(48));
    let told = eventually("it is told", async || {
        // Whoever looks once an hour may have begun to wait just now.
        server.advance(Duration::from_secs(3_700));
        let told = expiring().await;
        (!told.is_empty()).then_some(told)
    })
    .await;
    let message = told[0]["message"].as_str().expect("a text");
    assert!(message.contains("night job") && message.contains("admin"), "{message}");
    assert!(!message.contains(&made.text_of("token")));
    // Looked at again every hour, and told of no second time.
    for _ in 0..3 {
        server.advance(Duration::from_secs(3_700));
        mortise::seam::Clock::default().sleep(Duration::from_millis(200)).await;
    }
    let told = expiring().await;
    assert_eq!((told.len(), &told[0]["count"]), (1, &json!(1)));
    let all = server.client.all("/api/v1/notices", &server.operator).await;
    let all = all.iter().filter(|one| one["kind"] == "credential.expiring").count();
    assert_eq!(all, 1, "and of no token that was made for a few days");
    assert!(told[0]["resolvedTime"].is_null());
    let other = server.admin("2").await;
    let others = server.client.all("/api/v1/notices", &other).await;
    assert!(others.is_empty(), "another org's");
    let path = format!("/api/v1/tokens/{id}");
    server.client.call(reqwest::Method::DELETE, &path, &server.operator, None).await;
    eventually("it is over with the token", async || {
        server.advance(Duration::from_secs(3_700));
        expiring().await[0]["resolvedTime"].is_string().then_some(())
    })
    .await;
}

async fn a_database_that_hangs_leaves_the_scrape_what_the_process_knows(backend: Backend) {
    // Readers of SQLite wait for nobody.
    let Backend::Postgres(database) = &backend else { return };
    let mut holder = database.connect().await;
    let server = TestServer::start(backend, |s| s.set("metrics.listen", "127.0.0.1:0")).await;
    for statement in ["begin", "lock table notice_outbox in access exclusive mode"] {
        sqlx::raw_sql(statement).execute(&mut holder).await.expect("it is locked");
    }
    let address = server.metrics_address().expect("a listener of its own");
    let client = Client::new(format!("http://{address}"));
    // Two at a time: neither waits for what the other waits for.
    let scrape = async || {
        let answer = client.request(reqwest::Method::GET, "/metrics", "").send().await;
        let answer = answer.expect("it answers").text().await.expect("a text");
        assert!(answer.contains("mortise_node_lease_valid"), "{answer}");
        assert!(answer.contains("mortise_loop_silence_seconds"), "{answer}");
        assert!(!answer.contains("mortise_webhooks{"), "the database did not tell: {answer}");
    };
    tokio::join!(scrape(), scrape());
    sqlx::raw_sql("rollback").execute(&mut holder).await.expect("it is free");
}
