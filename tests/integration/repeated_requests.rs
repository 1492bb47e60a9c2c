//! Requests that come twice: `Idempotency-Key`, and the signed callbacks of the marketplace.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, assert_absent, eventually};

on_both!(
    the_same_key_gives_the_first_answer,
    a_key_belongs_to_token_method_and_path,
    a_refusal_is_not_kept,
    the_same_key_at_the_same_moment_has_one_effect,
    a_key_is_forgotten_after_a_day,
    every_creating_route_takes_a_key,
    a_step_that_gave_way_to_another_is_begun_anew,
    a_callback_must_be_signed,
    a_webhook_id_works_once,
    both_kinds_of_keys_work_together,
);

const INSTALL: &str = "/api/v1/callbacks/install";

async fn start(backend: Backend) -> TestServer {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    server
}

fn of(org: &str) -> Value {
    json!({ "extensionKey": "ticket-mirror", "orgId": org })
}

async fn keyed(server: &TestServer, path: &str, token: &str, key: &str, body: &Value) -> Answer {
    let request = server.client.request(Method::POST, path, token);
    server.client.send(request.header("Idempotency-Key", key).json(body)).await
}

async fn installations(server: &TestServer) -> usize {
    server.client.all("/api/v1/installations", &server.operator).await.len()
}

async fn the_same_key_gives_the_first_answer(backend: Backend) {
    let server = start(backend).await;
    let operator = server.operator.clone();
    let first = keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.expect(201);
    let again = keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.expect(201);
    assert_eq!(again.text, first.text, "to the letter, one-time address and all");
    assert_ne!(again.header("x-correlation-id"), first.header("x-correlation-id"));
    keyed(&server, INSTALL, &operator, "a", &of("2")).await.refused(409, "IDEMPOTENCY_KEY_REUSED");
    // Another spelling of the same body is another body.
    let request = server.client.request(Method::POST, INSTALL, &operator);
    let request = request
        .header("Idempotency-Key", "a")
        .header("content-type", "application/json")
        .body(format!(" {}", of(ORG)));
    server.client.send(request).await.refused(409, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(installations(&server).await, 1);
    // The kept answer holds what it told, sealed.
    let dump = server.dump().await;
    assert_absent(&dump, &first.text_of("authorizationUrl"));
    assert_absent(&dump, &first.text_of("startUrl"));
    // It outlives the server.
    let server = server.restart().await;
    let after = keyed(&server, INSTALL, &server.operator, "a", &of(ORG)).await.expect(201);
    assert_eq!(after.text, first.text);
    for bad in ["", "a b", &"x".repeat(256)] {
        keyed(&server, INSTALL, &server.operator, bad, &of("9")).await.refused(422, "INVALID_DATA");
    }
    let request = server.client.request(Method::POST, INSTALL, &server.operator);
    let request = request.header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    server.client.send(request.json(&of("9"))).await.refused(422, "INVALID_DATA");
    assert_eq!(installations(&server).await, 1);
}

async fn a_key_belongs_to_token_method_and_path(backend: Backend) {
    let server = start(backend).await;
    let marketplace = server.marketplace().await;
    let operator = server.operator.clone();
    let first = keyed(&server, INSTALL, &operator, "a", &of("1")).await.expect(201);
    let other = keyed(&server, INSTALL, &marketplace, "a", &of("2")).await.expect(201);
    assert_ne!(first.json["installationId"], other.json["installationId"]);
    let path = "/api/v1/callbacks/uninstall";
    let ended = keyed(&server, path, &operator, "a", &of("1")).await.expect(200);
    assert_eq!(ended.json["state"], "uninstalled");
    // The first answer comes back though the installation is gone: it is an answer, not a call.
    let again = keyed(&server, INSTALL, &operator, "a", &of("1")).await.expect(201);
    assert_eq!(again.text, first.text);
    assert_eq!(installations(&server).await, 2);
}

async fn a_refusal_is_not_kept(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let operator = server.operator.clone();
    keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.refused(404, "RESOURCE_NOT_FOUND");
    server.publish(&server.package()).await.expect(201);
    keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.expect(201);
}

async fn the_same_key_at_the_same_moment_has_one_effect(backend: Backend) {
    let server = start(backend).await;
    let operator = server.operator.clone();
    let body = json!({ "role": "host" });
    let calls = (0..10).map(|_| keyed(&server, "/api/v1/tokens", &operator, "a", &body));
    let answers = futures_util::future::join_all(calls).await;
    let mut values = Vec::new();
    for answer in answers {
        if answer.status == 409 {
            let _under_way = answer.refused(409, "REQUEST_IN_PROGRESS");
        } else {
            values.push(answer.expect(201).text_of("token"));
        }
    }
    assert!(!values.is_empty());
    values.dedup();
    assert_eq!(values.len(), 1, "all that were answered were answered alike");
    let hosts = "select 'x' from api_tokens where role = 'host'";
    assert_eq!(server.texts(hosts).await.len(), 1);
}

async fn a_key_is_forgotten_after_a_day(backend: Backend) {
    let server = start(backend).await;
    let operator = server.operator.clone();
    let first = keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.expect(201);
    server.advance(Duration::from_hours(23));
    let again = keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.expect(201);
    assert_eq!(again.text, first.text);
    server.advance(Duration::from_hours(2));
    let later = keyed(&server, INSTALL, &operator, "a", &of(ORG)).await.expect(200);
    assert_eq!(later.json["installationId"], first.json["installationId"]);
    assert_ne!(later.text, first.text);
}

/// PostgreSQL alone has transactions that meet; a sequence counts turns that are taken back.
async fn a_step_that_gave_way_to_another_is_begun_anew(backend: Backend) {
    if matches!(backend, Backend::Sqlite) {
        return;
    }
    let server = start(backend).await;
    for statement in [
        "create sequence turns",
        "create function give_way() returns trigger as $$ begin \
         if nextval('turns') % 6 in (1, 2) then \
         raise exception 'gave way' using errcode = '40P01'; end if; return new; end \
         $$ language plpgsql",
        "create trigger give_way before insert on transitions \
         for each row execute function give_way()",
    ] {
        server.execute(statement).await;
    }
    let installed = server.callback("install", &of(ORG)).await.expect(201);
    let turns = server.texts("select last_value::text from turns").await;
    assert_eq!(turns, ["3"], "two turns gave way, the third was taken");
    let body = json!({ "installationId": installed.json["installationId"] });
    server
        .execute(
            "create or replace function give_way() returns trigger as $$ begin \
        perform nextval('turns'); raise exception 'gave way' using errcode = '40001'; end \
        $$ language plpgsql",
        )
        .await;
    server.callback("uninstall", &body).await.refused(503, "SERVICE_UNAVAILABLE");
    let turns = server.texts("select last_value::text from turns").await;
    assert_eq!(turns, ["9"], "not without end");
    server.execute("drop trigger give_way on transitions").await;
    server.callback("uninstall", &body).await.expect(200);
}

async fn every_creating_route_takes_a_key(backend: Backend) {
    let server = start(backend).await;
    let operator = server.operator.clone();
    let active = server.active(ORG).await;
    let waiting = server.install("ticket-mirror", "2").await;
    let answer = server.consent(&waiting.authorization_url).await;
    let configure = json!({ "installationId": active.id, "departmentIds": ["1"] });
    let authorize = json!({
        "installationId": waiting.id, "code": answer.code, "state": answer.state,
    });
    let event = json!({ "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "1" } });
    let calls = [
        ("/api/v1/extensions", server.package().version("2.0.0").json(), 201),
        ("/api/v1/callbacks/configure", configure, 200),
        ("/api/v1/callbacks/authorize", authorize, 200),
        ("/api/v1/callbacks/suspend", json!({ "installationId": active.id }), 200),
        ("/api/v1/callbacks/resume", json!({ "installationId": active.id }), 200),
        ("/api/v1/callbacks/uninstall", of("2"), 200),
        ("/api/v1/extensions/ticket-mirror/versions/2.0.0/withdraw", json!({}), 200),
        ("/api/v1/extensions/ticket-mirror/suspend", json!({ "reason": "a" }), 200),
        ("/api/v1/extensions/ticket-mirror/resume", json!({ "reason": "a" }), 200),
        ("/api/v1/extensions/ticket-mirror/signing-secret/rotate", json!({}), 200),
        ("/api/v1/keys/ed25519/rotate", json!({}), 200),
        ("/api/v1/tokens", json!({ "role": "host" }), 201),
        ("/api/v1/events", event, 202),
    ];
    for (path, body, status) in calls {
        let first = keyed(&server, path, &operator, "k", &body).await.expect(status);
        let again = keyed(&server, path, &operator, "k", &body).await.expect(status);
        assert_eq!(again.text, first.text, "{path}");
        let mut other = body.clone();
        other["x"] = json!(1);
        let refused = keyed(&server, path, &operator, "k", &other).await;
        assert!([409, 422].contains(&refused.status), "{path}: {}", refused.text);
    }
    let events = server.texts("select 'x' from events where event_type = 'Ticket_Add'").await;
    assert_eq!(events.len(), 1, "the event was taken once");
    server.stop().await.audit_holds(&[ORG, "2"]).await;
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn signed_server(backend: Backend) -> TestServer {
    let server = TestServer::start(backend, |settings| {
        settings.set("marketplace.signing_secret", SECRET);
    })
    .await;
    server.publish(&server.package()).await.expect(201);
    server
}

/// A callback as the marketplace signs it: with somebody else's implementation.
struct Signed<'a> {
    id: &'a str,
    secret: &'a str,
    /// How far its time is off, in seconds.
    off: i64,
    key: Option<&'a str>,
}

impl<'a> Signed<'a> {
    fn new(id: &'a str) -> Self {
        Self { id, secret: SECRET, off: 0, key: None }
    }

    async fn send(&self, server: &TestServer, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.send_as(server, path, &body, &body).await
    }

    /// Sends one body with the signature of another.
    async fn send_as(&self, server: &TestServer, path: &str, sent: &str, signed: &str) -> Answer {
        let timestamp = server.seam.clock.now().seconds() + self.off;
        let webhook = Webhook::new(self.secret).expect("a secret");
        let signature = webhook.sign(self.id, timestamp, signed.as_bytes()).expect("a signature");
        let mut request = server
            .client
            .request(Method::POST, path, &server.operator)
            .header("content-type", "application/json")
            .header("webhook-id", self.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .body(sent.to_owned());
        if let Some(key) = self.key {
            request = request.header("Idempotency-Key", key);
        }
        server.client.send(request).await
    }
}

async fn refused_callbacks(server: &TestServer) -> usize {
    server.texts("select action from audit where action = 'callback.refused'").await.len()
}

async fn a_callback_must_be_signed(backend: Backend) {
    let server = signed_server(backend).await;
    let body = of(ORG);
    server.callback("install", &body).await.refused(401, "SIGNATURE_INVALID");
    for path in ["authorize", "configure", "uninstall"] {
        server.callback(path, &json!({})).await.refused(401, "SIGNATURE_INVALID");
    }
    assert_eq!(refused_callbacks(&server).await, 4);
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let forged = Signed { secret: other, ..Signed::new("forged") };
    forged.send(&server, INSTALL, &body).await.refused(401, "SIGNATURE_INVALID");
    for off in [-301, 301, -86_400] {
        let stale = Signed { off, ..Signed::new("stale") };
        stale.send(&server, INSTALL, &body).await.refused(401, "SIGNATURE_INVALID");
    }
    let (text, altered) = (body.to_string(), of("2").to_string());
    let tampered = Signed::new("tampered").send_as(&server, INSTALL, &altered, &text).await;
    tampered.refused(401, "SIGNATURE_INVALID");
    assert_eq!(refused_callbacks(&server).await, 9);
    assert_eq!(installations(&server).await, 0, "none of them had an effect");

    // A signature stands beside a token, not for it.
    let timestamp = server.seam.clock.now().seconds();
    let webhook = Webhook::new(SECRET).expect("a secret");
    let signature = webhook.sign("x", timestamp, text.as_bytes()).expect("a signature");
    let request = server
        .client
        .request(Method::POST, INSTALL, "")
        .header("content-type", "application/json")
        .header("webhook-id", "x")
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", signature)
        .body(text.clone());
    server.client.send(request).await.refused(401, "UNAUTHORIZED");

    // An id of a refused call is not used up; up to five minutes are no matter.
    Signed { off: -290, ..Signed::new("forged") }.send(&server, INSTALL, &body).await.expect(201);
    assert_eq!(installations(&server).await, 1);
    // What is signed well and wrong in content is refused for its content.
    let malformed = Signed::new("m").send_as(&server, INSTALL, "{", "{").await;
    malformed.refused(400, "BAD_REQUEST");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_webhook_id_works_once(backend: Backend) {
    let server = signed_server(backend).await;
    let first = Signed::new("one").send(&server, INSTALL, &of(ORG)).await.expect(201);
    let later = Signed { off: 30, ..Signed::new("one") };
    let again = later.send(&server, INSTALL, &of(ORG)).await.expect(201);
    assert_eq!(again.text, first.text);
    assert_eq!(refused_callbacks(&server).await, 0);
    let replay = Signed::new("one").send(&server, INSTALL, &of("2")).await;
    replay.refused(401, "SIGNATURE_INVALID");
    let uninstall = "/api/v1/callbacks/uninstall";
    let replay = Signed::new("one").send(&server, uninstall, &of(ORG)).await;
    replay.refused(401, "SIGNATURE_INVALID");
    assert_eq!(refused_callbacks(&server).await, 2);
    assert_eq!(installations(&server).await, 1);
    let id = first.text_of("installationId");
    assert_eq!(server.installation(&id).await["state"], "pendingAuthorization");

    // The replayed answer has no effect: the uninstalled one does not come back.
    Signed::new("two").send(&server, uninstall, &of(ORG)).await.expect(200);
    let again = Signed::new("one").send(&server, INSTALL, &of(ORG)).await.expect(201);
    assert_eq!(again.text, first.text);
    assert_eq!(server.installation(&id).await["state"], "uninstalled");
    assert_eq!(installations(&server).await, 1);

    server.advance(Duration::from_hours(25));
    let fresh = eventually("the id is forgotten", || async {
        let answer = Signed::new("one").send(&server, INSTALL, &of(ORG)).await.expect(201);
        (answer.json["generation"] == 2).then_some(answer)
    });
    assert_ne!(fresh.await.text_of("installationId"), id);
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn both_kinds_of_keys_work_together(backend: Backend) {
    let server = signed_server(backend).await;
    let with_key = |id| Signed { key: Some("k"), ..Signed::new(id) };
    let first = with_key("one").send(&server, INSTALL, &of(ORG)).await.expect(201);
    // A new message of the same request: its idempotency key answers.
    let again = with_key("two").send(&server, INSTALL, &of(ORG)).await.expect(201);
    assert_eq!(again.text, first.text);
    let reused = with_key("three").send(&server, INSTALL, &of("2")).await;
    reused.refused(409, "IDEMPOTENCY_KEY_REUSED");
    let same_message = Signed::new("one").send(&server, INSTALL, &of(ORG)).await.expect(201);
    assert_eq!(same_message.text, first.text);
    assert_eq!(installations(&server).await, 1);
}
