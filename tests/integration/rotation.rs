//! Data keys that take each other's place while everything runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise::crypto::{Purpose, open_keys};
use mortise::development::Received;
use mortise::oauth::{AccessToken, HOST_CONNECTION, OAuthError};
use mortise::rotation::{RotationState, Rotations};
use mortise::seam::{Clock, Seam};
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::delivery_world::{World, a_while};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, Place, TestServer, eventually};

on_both!(
    under_traffic_nothing_fails_and_nothing_of_the_old_key_is_left,
    what_was_moved_keeps_the_old_key_until_it_is_seen_to,
    a_context_opens_within_the_overlap_and_not_after,
    operators_rotate_and_one_rotation_of_a_purpose_runs,
    a_command_rotates_where_no_server_runs,
);

const HOUR: Duration = Duration::from_hours(1);

/// Longer than what began before the new key sealed may take.
const GRACE: Duration = Duration::from_secs(90);

/// The hexadecimal form of an expression, in the dialect of a database.
fn hex(is_sqlite: bool, expression: &str) -> String {
    if is_sqlite {
        format!("lower(hex({expression}))")
    } else {
        format!("encode({expression}, 'hex')")
    }
}

/// How every value begins that a key sealed.
fn header(key: &Value) -> String {
    format!("01{:08x}", key.as_u64().expect("the number of a key"))
}

async fn listed(client: &Client, operator: &str) -> Value {
    client.get("/api/v1/keys", operator).await.expect(200).json
}

async fn rotation(client: &Client, operator: &str, purpose: &str) -> Value {
    let keys = listed(client, operator).await;
    let rotations = keys["rotations"].as_array().expect("rotations").clone();
    rotations.into_iter().find(|one| one["purpose"] == purpose).expect("there is one")
}

/// The numbers of the keys of a purpose, the newest first.
async fn key_ids(server: &TestServer, purpose: &str) -> Vec<u64> {
    let keys = listed(&server.client, &server.operator).await;
    let keys = keys["dataKeys"].as_array().expect("data keys").clone();
    let of_purpose = keys.iter().filter(|key| key["purpose"] == purpose);
    of_purpose.map(|key| key["keyId"].as_u64().expect("a number")).collect()
}

async fn begin(server: &TestServer, purpose: &str, body: &Value) -> Value {
    let path = format!("/api/v1/keys/{purpose}/rotate");
    server.client.post(&path, &server.operator, body).await.expect(202).json
}

/// Waits until the rotation of a purpose is so.
async fn until(server: &TestServer, purpose: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("the rotation of {purpose}"), async || {
        let rotation = rotation(&server.client, &server.operator, purpose).await;
        is_so(&rotation).then_some(rotation)
    })
    .await
}

/// Whether everything was looked through once, and only time has to pass.
fn is_looked_through(rotation: &Value) -> bool {
    rotation["reason"].as_str().is_some_and(|reason| reason.contains("comes to its end"))
}

/// Waits until everything was looked through, then until nothing is left of the old key.
async fn through(server: &TestServer, purpose: &str) -> Value {
    until(server, purpose, is_looked_through).await;
    server.advance(GRACE);
    until(server, purpose, |one| one["state"] == "done").await
}

async fn ask(server: &TestServer, id: Uuid) -> Result<AccessToken, OAuthError> {
    server.connections().access_token(id, HOST_CONNECTION, None, None).await
}

fn is_signed_with(received: &Received, secret: &str) -> bool {
    let webhook = Webhook::new(secret).expect("a secret of Standard Webhooks");
    let header = |name: &str| received.header(name).expect("the header is there");
    let timestamp = header("webhook-timestamp").parse().expect("seconds");
    let expected = webhook.sign(header("webhook-id"), timestamp, &received.body);
    let expected = expected.expect("a signature");
    header("webhook-signature").split(' ').any(|signature| signature == expected)
}

/// Makes a token with the same key each time: the first answer is the only one.
async fn answered_once(client: &Client, operator: &str) -> Value {
    let request = client.request(Method::POST, "/api/v1/tokens", operator);
    let request = request.header("Idempotency-Key", "once").json(&json!({ "role": "host" }));
    client.send(request).await.expect(201).json
}

/// Installs, posts and refreshes until told to stop; says how many events it posted. Who holds `turn`
/// keeps it from beginning anything.
async fn traffic(world: &World, stop: &AtomicBool, turn: &Mutex<()>) -> usize {
    let server = &world.server;
    let id: Uuid = world.installation.id.parse().expect("an id");
    let mut posted = 0;
    while !stop.load(Ordering::Relaxed) {
        let _mine = turn.lock().await;
        world.ticket(&format!("ticket-{posted}")).await;
        posted += 1;
        if posted % 4 == 0 {
            let other = server.active(&format!("org-{posted}")).await;
            let other: Uuid = other.id.parse().expect("an id");
            ask(server, other).await.expect("the token of a fresh installation");
        }
        if posted % 3 == 0 {
            let token = ask(server, id).await.expect("a token");
            let again = server.connections();
            let fresh = again.access_token(id, HOST_CONNECTION, None, Some(token.version)).await;
            assert!(server.provider.is_live(fresh.expect("a token").token.expose()));
        }
    }
    posted
}

async fn under_traffic_nothing_fails_and_nothing_of_the_old_key_is_left(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let world = World::start(backend).await;
    let server = &world.server;
    let secret = world.secret().await;
    // A browser on its way, an answer that is kept, and a secret of the vendor.
    server.install("ticket-mirror", "pending").await;
    let kept = answered_once(&server.client, &server.operator).await;
    let property = "/api/v1/extensions/ticket-mirror/properties/apiKey";
    let value = json!({ "value": "a-secret-of-the-vendor", "secret": true });
    server.client.call(Method::PUT, property, &server.operator, Some(&value)).await.expect(200);
    let wrapped = format!(
        "select {} from data_keys where purpose in ('vault', 'answers')",
        hex(is_sqlite, "wrapped")
    );
    let former = server.texts(&wrapped).await;
    assert_eq!(former.len(), 2);

    let stop = AtomicBool::new(false);
    let turn = Mutex::new(());
    let rotate = async {
        let begun = begin(server, "vault", &json!({})).await;
        assert_eq!(
            (&begun["state"], &begun["activatedTime"]),
            (&json!("introducing"), &Value::Null)
        );
        begin(server, "answers", &json!({})).await;
        until(server, "vault", is_looked_through).await;
        until(server, "answers", is_looked_through).await;
        {
            // A code that a browser brings back lives for less than that.
            let _nobody = turn.lock().await;
            server.advance(GRACE);
        }
        let vault = until(server, "vault", |one| one["state"] == "done").await;
        let answers = until(server, "answers", |one| one["state"] == "done").await;
        stop.store(true, Ordering::Relaxed);
        (vault, answers)
    };
    let (posted, (vault, answers)) = tokio::join!(traffic(&world, &stop, &turn), rotate);

    assert!(vault["resealed"].as_i64() >= Some(6), "{vault}");
    assert!(vault["processed"].as_i64() >= vault["resealed"].as_i64().min(Some(1)), "{vault}");
    assert_eq!((&vault["unreadable"], &vault["reason"]), (&json!(0), &Value::Null));
    let arrived = world.arrived(posted).await;
    assert!(arrived.iter().all(|one| is_signed_with(one, &secret)), "every signature is right");
    assert_eq!(key_ids(server, "vault").await, [vault["keyId"].as_u64().expect("a number")]);
    for (table, column, key) in [
        ("connections", "sealed_access_token", &vault),
        ("connections", "sealed_refresh_token", &vault),
        ("signing_secrets", "sealed", &vault),
        ("signing_keys", "sealed", &vault),
        ("installations", "request_digest", &vault),
        ("authorization_requests", "sealed_url", &vault),
        ("extension_properties", "sealed_value", &vault),
        ("kept_answers", "sealed", &answers),
    ] {
        let beginning = hex(is_sqlite, &format!("substr({column}, 1, 5)"));
        let sql = format!("select {beginning} from {table} where length({column}) > 0");
        let found = server.texts(&sql).await;
        assert!(!found.is_empty(), "{table}.{column} was written");
        for found in found {
            assert_eq!(found, header(&key["keyId"]), "{table}.{column}");
        }
    }

    // After a restart everything opens, too: the doctor opens it all.
    let server = world.server.restart().await;
    let doctor = server.client.get("/api/v1/doctor", &server.operator).await.expect(200).json;
    let checks = doctor["checks"].as_array().expect("checks").clone();
    let sealed = checks.iter().find(|check| check["name"] == "sealed values").expect("a check");
    assert_eq!(sealed["status"], "ok", "{sealed}");
    ask(&server, world.installation.id.parse().expect("an id")).await.expect("a token");
    let again = answered_once(&server.client, &server.operator).await;
    assert_eq!(again, kept, "the answer that was kept");
    let dump = server.dump().await.to_lowercase();
    let place = server.stop().await;
    let raw = place.raw();
    for wrapped in former {
        assert!(!dump.contains(&wrapped), "the old key is in the tables");
        let bytes: Vec<u8> = (0..wrapped.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&wrapped[at..at + 2], 16).expect("hex"))
            .collect();
        let is_left = raw.windows(bytes.len()).any(|window| window == bytes);
        assert!(!is_left, "the old key is in the file");
    }
    place.audit_holds(&[ORG]).await;
}

async fn what_was_moved_keeps_the_old_key_until_it_is_seen_to(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let id: Uuid = server.active(ORG).await.id.parse().expect("an id");
    let other: Uuid = server.active("2").await.id.parse().expect("an id");
    ask(&server, id).await.expect("a token");
    // The token of one stands in the row of the other, and the other way round.
    server
        .execute(
            "update connections set sealed_access_token = (select o.sealed_access_token \
             from connections o where o.id <> connections.id)",
        )
        .await;
    let is_refused = |outcome: &Result<_, _>| matches!(outcome, Err(OAuthError::Crypto(_)));
    let outcomes = [ask(&server, id).await, ask(&server, other).await];
    assert!(outcomes.iter().any(is_refused), "{outcomes:?}");
    let before = key_ids(&server, "vault").await;
    begin(&server, "vault", &json!({})).await;
    let is_stuck =
        |one: &Value| one["reason"].as_str().is_some_and(|reason| reason.contains("do not open"));
    let stuck = until(&server, "vault", is_stuck).await;
    assert!(stuck["unreadable"].as_i64() >= Some(1), "{stuck}");
    let during = key_ids(&server, "vault").await;
    assert_eq!((during.len(), during[1]), (2, before[0]), "the old key is kept");
    let outcomes = [ask(&server, id).await, ask(&server, other).await];
    assert!(outcomes.iter().any(is_refused), "moved, it does not open under the new key either");

    server.execute("update connections set sealed_refresh_token = null").await;
    server.execute("delete from connections").await;
    server.advance(Duration::from_mins(6));
    let done = until(&server, "vault", |one| one["state"] == "done").await;
    assert_eq!((&done["unreadable"], key_ids(&server, "vault").await.len()), (&json!(0), 1));
}

/// What the webhook's URL carried last.
async fn context(world: &World, arrived: usize) -> String {
    world.ticket(&format!("context-{arrived}")).await;
    let received: Arc<Received> = world.arrived(arrived).await[arrived - 1].clone();
    received.parameter("securityContext").expect("a context").clone()
}

/// Whether contexts open with the keys that a stopped server leaves.
async fn open(place: &Place, contexts: &[&String]) -> Vec<bool> {
    let store = place.store().await;
    let keys = open_keys(&store, &place.folder().join("master.key"), &Seam::default()).await;
    let ring = keys.expect("the keys open").ring;
    let opened = contexts.iter().map(|one| ring.open_security_context(one).is_ok()).collect();
    store.close().await.expect("it closes");
    opened
}

async fn a_context_opens_within_the_overlap_and_not_after(backend: Backend) {
    let world = World::start(backend).await;
    let former = context(&world, 1).await;
    let hour = json!({ "overlapSeconds": HOUR.as_secs() });
    begin(&world.server, "securityContext", &hour).await;
    let during = until(&world.server, "securityContext", |one| one["state"] == "overlapping").await;
    assert!(during["overlapUntil"].is_string(), "{during}");
    let present = context(&world, 2).await;
    assert_ne!(present, former, "endpoints were made anew with the new key");
    // Looked at by the keys as they are on disk, in between.
    let (kept_former, kept_present) = (former.clone(), present.clone());
    let server = world
        .server
        .restart_after(async |place| {
            assert_eq!(open(&place, &[&kept_former, &kept_present]).await, [true, true]);
            place
        })
        .await;
    let world = World { server, ..world };
    assert_eq!(context(&world, 3).await, present);
    world.server.advance(Duration::from_mins(55));
    a_while().await;
    let during = rotation(&world.server.client, &world.server.operator, "securityContext").await;
    assert_eq!(during["state"], "overlapping", "the hour is not over");
    world.server.advance(Duration::from_mins(10));
    until(&world.server, "securityContext", |one| one["state"] == "done").await;
    assert_eq!(context(&world, 4).await, present);

    // Shortened while it runs, as where the key was stolen.
    begin(&world.server, "securityContext", &json!({})).await;
    let usual = until(&world.server, "securityContext", |one| one["state"] == "overlapping").await;
    begin(&world.server, "securityContext", &json!({ "overlapSeconds": 0 })).await;
    let ended = until(&world.server, "securityContext", |one| one["state"] == "done").await;
    assert_eq!(ended["keyId"], usual["keyId"], "it was the one that ran");
    let newest = context(&world, 5).await;
    let place = world.server.stop().await;
    assert_eq!(open(&place, &[&former, &present, &newest]).await, [false, false, true]);
    place.audit_holds(&[]).await;
}

async fn operators_rotate_and_one_rotation_of_a_purpose_runs(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let vendor = server.vendor_token("acme").await;
    let path = "/api/v1/keys/vault/rotate";
    assert_eq!(server.client.post(path, &vendor, &json!({})).await.status, 403);
    assert_eq!(server.client.post(path, "", &json!({})).await.status, 401);
    let overlap = json!({ "overlapSeconds": 60 });
    server.client.post(path, &server.operator, &overlap).await.refused(422, "INVALID_DATA");
    let long = json!({ "overlapSeconds": 31_536_001 });
    let context = "/api/v1/keys/securityContext/rotate";
    server.client.post(context, &server.operator, &long).await.refused(422, "INVALID_DATA");
    assert_eq!(key_ids(&server, "vault").await.len(), 1);

    let first = begin(&server, "vault", &json!({})).await;
    until(&server, "vault", |one| one["total"].is_number()).await;
    let again = begin(&server, "vault", &json!({})).await;
    assert_eq!(again["keyId"], first["keyId"], "asked for again it is the one that runs");
    let keys = listed(&server.client, &server.operator).await;
    let states: Vec<_> = keys["dataKeys"]
        .as_array()
        .expect("data keys")
        .iter()
        .filter(|key| key["purpose"] == "vault")
        .map(|key| key["state"].as_str().expect("a state").to_owned())
        .collect();
    assert_eq!(states, ["seals", "opens"]);
    // A restart in the middle: it goes on.
    let server = server.restart().await;
    through(&server, "vault").await;
    let next = begin(&server, "vault", &json!({})).await;
    assert!(next["keyId"].as_u64() > first["keyId"].as_u64(), "ids are not given again");
}

async fn a_command_rotates_where_no_server_runs(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let server = server
        .restart_after(async |place| {
            let store = place.store().await;
            // On PostgreSQL nobody can know that there is no other: time has to pass.
            let seam = Seam::default();
            let master = place.folder().join("master.key");
            let keys = open_keys(&store, &master, &seam).await.expect("the keys open");
            let rotations = Rotations::of_command(store.clone(), keys, seam.clone());
            let mut work = store.begin().await.expect("a transaction");
            let actor = mortise::audit::Actor::system("test");
            rotations.start(&mut work, Purpose::Vault, None, &actor).await.expect("it begins");
            let _revision = work.commit(seam.clock.now()).await.expect("it is committed");
            let mut told = 0;
            let through = rotations.run_through(Purpose::Vault, |rotation| {
                told += 1;
                if rotation.reason.is_some() {
                    assert!(!is_sqlite, "alone there is nothing to wait for: {rotation:?}");
                    seam.clock.advance(GRACE);
                }
            });
            let done = through.await.expect("it comes to its end");
            assert_eq!(done.state, RotationState::Done);
            assert!(told > 3 && done.resealed >= 6, "{done:?}");
            store.close().await.expect("it closes");
            place
        })
        .await;
    let token = ask(&server, installation.id.parse().expect("an id")).await.expect("a token");
    assert!(server.provider.is_live(token.token.expose()));
}

/// Two nodes: what one of them seals with the new key the other opens, at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_knows_a_key_before_anybody_seals_with_it() {
    let Some(database) = crate::support::postgres::database().await else { return };
    let url = database.url().to_owned();
    let server = TestServer::start(Backend::Postgres(database), |_| {}).await;
    let id: Uuid = server.active(ORG).await.id.parse().expect("an id");
    let config = server.config_of_another_node(&url);
    let other = mortise::server::start(config, server.seam.clone()).await.expect("it starts");
    // A node of a release that knows nothing of this: as long as it lives, the new key seals nothing.
    server
        .execute(
            "insert into nodes (epoch, started_at, lease_until, applied_revision, low_water) values \
             (900000, 0, 8000000000000000000, 8000000000000000000, \
             '00000000-0000-0000-0000-000000000000')",
        )
        .await;
    let begun = begin(&server, "vault", &json!({})).await;
    let reason = "1 nodes do not know the new key yet";
    until(&server, "vault", |one| one["reason"] == reason).await;
    server.active("2").await;
    let sealed =
        "select distinct encode(substr(sealed_access_token, 1, 5), 'hex') from connections";
    let found = server.texts(sealed).await;
    assert!(!found.contains(&header(&begun["keyId"])), "{found:?}");

    server.execute("delete from nodes where epoch = 900000").await;
    let stop = AtomicBool::new(false);
    let traffic = async {
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            // One refreshes and seals, the other opens what came of it.
            let (one, two) = if asked % 2 == 0 {
                (server.connections(), other.connections())
            } else {
                (other.connections(), server.connections())
            };
            let token = one.access_token(id, HOST_CONNECTION, None, None).await.expect("a token");
            let refused = Some(token.version);
            one.access_token(id, HOST_CONNECTION, None, refused).await.expect("a fresh token");
            two.access_token(id, HOST_CONNECTION, None, None).await.expect("it opens here too");
            asked += 1;
            Clock::default().sleep(Duration::from_millis(5)).await;
        }
        asked
    };
    let rotate = async {
        let done = through(&server, "vault").await;
        stop.store(true, Ordering::Relaxed);
        done
    };
    let (asked, done) = tokio::join!(traffic, rotate);
    assert!(asked > 5, "{asked}");
    assert_eq!(server.texts(sealed).await, [header(&done["keyId"])]);
    other.stop().await;
}

/// Crash points are in builds with the feature `fault-injection` only, as `scripts/test` makes them.
#[cfg(feature = "fault-injection")]
mod at_points {
    use reqwest::Method;
    use serde_json::json;

    use super::{header, hex, is_signed_with, rotation};
    use crate::support::delivery_world::{HOOK, SOON, ticket};
    use crate::support::on_both;
    use crate::support::program::{Program, Stage};
    use crate::support::server::{Backend, ORG, eventually};

    on_both!(killed_in_a_step_it_goes_on_where_it_was);

    async fn killed_in_a_step_it_goes_on_where_it_was(backend: Backend) {
        let is_sqlite = matches!(backend, Backend::Sqlite);
        let stage = Stage::new(backend, |_| {}).await;
        let points = ["keys.before-activate", "keys.reseal-step"];
        for point in points {
            let started = Program::try_start_armed(&stage.settings, stage.address, Some(point));
            // What the first crash left may bring the second before the program is ready.
            let Some(program) = started.await else { continue };
            let path = "/api/v1/keys/vault/rotate";
            let request = program.client.request(Method::POST, path, &stage.operator);
            let request = request.header("Idempotency-Key", point).json(&json!({}));
            // The answer may be lost with the program.
            let _answer = program.client.try_send(request).await;
            program.ended(SOON).await;
        }
        let program = stage.launch().await;
        let rotated = eventually("everything is looked through", async || {
            let one = rotation(&program.client, &stage.operator, "vault").await;
            one["reason"].is_string().then_some(one)
        })
        .await;
        assert_eq!(rotated["processed"], rotated["total"], "{rotated}");
        assert_eq!(rotated["unreadable"], 0, "{rotated}");
        for (table, column) in
            [("connections", "sealed_access_token"), ("signing_secrets", "sealed")]
        {
            let beginning = hex(is_sqlite, &format!("substr({column}, 1, 5)"));
            let found = stage.place.texts(&format!("select {beginning} from {table}")).await;
            assert!(!found.is_empty());
            assert!(found.iter().all(|one| *one == header(&rotated["keyId"])), "{found:?}");
        }
        let event = ticket(ORG, "after");
        program.client.post("/api/v1/events", &stage.host, &event).await.expect(202);
        let arrived = stage.vendor.wait_for_path(HOOK, 1, SOON).await.expect("it arrives");
        assert!(is_signed_with(&arrived[0], &stage.secret));
        program.terminate(SOON).await;
        let keys = stage.place.texts("select cast(id as text) from data_keys").await;
        assert_eq!(keys.len(), 4, "of two crashes there is one new key");
    }
}
