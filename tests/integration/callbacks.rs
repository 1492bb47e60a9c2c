//! What a vendor is told of the life of its installations.

use std::time::Duration;

use mortise::development::{Behaviour, Check, Received, Secrets, verify};
use serde_json::json;

use crate::support::delivery_world::{SOON, a_while, ticket};
use crate::support::on_both;
use crate::support::package::MANIFEST_SECRET;
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(
    every_step_is_told_in_order_and_signed,
    a_vendor_that_fails_holds_up_only_its_own_callbacks,
    a_callback_that_is_answered_410_is_given_up,
    the_journal_is_the_vendors_own,
);

const PATH: &str = "/callbacks";

async fn told(server: &TestServer, wanted: usize) -> Vec<std::sync::Arc<Received>> {
    server.vendor.wait_for_path(PATH, wanted, SOON).await.expect("the vendor is told")
}

async fn setup(server: &TestServer, id: &str, wanted: &str) {
    eventually(&format!("vendorSetup {wanted}"), async || {
        (server.installation(id).await["vendorSetup"] == wanted).then_some(())
    })
    .await;
}

async fn every_step_is_told_in_order_and_signed(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    told(&server, 2).await;
    setup(&server, &installation.id, "ok").await;
    let body = json!({ "installationId": installation.id, "reason": "no longer needed" });
    server.callback("uninstall", &body).await.expect(200);
    let calls = told(&server, 3).await;
    let path = "/api/v1/extensions/ticket-mirror/signing-secret";
    let secret = server.client.get(path, &server.operator).await.expect(200).text_of("secret");
    let secrets = Secrets {
        signing: vec![secret],
        manifest: Some(MANIFEST_SECRET.to_owned()),
        ..Secrets::default()
    };
    let mut contexts = Vec::new();
    for (index, (event, received)) in
        ["onInstall", "onZohoAuthorise", "onUninstall"].into_iter().zip(&calls).enumerate()
    {
        let body = received.json().expect("JSON");
        assert_eq!(body["event"], event);
        assert_eq!(
            body["orgId"],
            json!(ORG.parse::<u64>().expect("it is there")),
            "a number where it is one"
        );
        assert_eq!(body["installationId"], installation.id);
        assert_eq!(body["generation"], 1);
        assert_eq!(body["sequence"], index + 1);
        assert_eq!(body["version"], "1.0.0");
        assert!(body["occurredAt"].is_string());
        let reason = ["first_install", "authorization", "no longer needed"][index];
        assert_eq!(body["reason"], reason);
        contexts.push(body["securityContext"].as_str().expect("a context").to_owned());
        let verification = verify(received, &secrets);
        assert_eq!(verification.standard, Check::Valid, "{event}");
        assert_eq!(verification.hash, Check::Valid, "{event}");
        assert_eq!(received.header("content-type"), Some("application/json"));
        assert_eq!(received.query, None, "the declared address as it is");
    }
    assert!(contexts.iter().all(|context| !context.is_empty() && *context == contexts[0]));
    let ids: Vec<_> = calls.iter().map(|received| received.header("webhook-id")).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);

    // The next generation begins anew, and an org that is no number stays a text.
    let again = server.install("ticket-mirror", ORG).await;
    assert_eq!(again.generation, 2);
    let body = told(&server, 4).await[3].json().expect("JSON");
    assert_eq!((&body["generation"], &body["sequence"]), (&json!(2), &json!(1)));
    assert_ne!(body["securityContext"], json!(contexts[0]));
    server.install("ticket-mirror", "org-x").await;
    assert_eq!(told(&server, 5).await[4].json().expect("JSON")["orgId"], "org-x");
}

async fn a_vendor_that_fails_holds_up_only_its_own_callbacks(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.vendor.behave(PATH, Behaviour::status(500));
    let installation = server.active(ORG).await;
    told(&server, 1).await;
    let host = server.host().await;
    // Events go on, whatever becomes of callbacks.
    let answer = server.client.post("/api/v1/events", &host, &ticket(ORG, "t")).await.expect(202);
    assert_eq!(answer.json["events"][0]["deliveries"], 1);
    server.vendor.wait_for_path("/hooks/desk", 1, SOON).await.expect("the event arrives");
    assert_eq!(server.installation(&installation.id).await["vendorSetup"], "pending");
    let entries = async || {
        let rows = server.client.all("/api/v1/journal", &server.operator).await;
        rows.iter()
            .map(|row| {
                (
                    row["state"].as_str().expect("it is there").to_owned(),
                    row["attemptsMade"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    for (made, minutes) in [(1_usize, 1), (2, 5), (3, 30), (4, 120)] {
        eventually("the attempt is recorded", async || {
            (entries().await[0].1 == made).then_some(())
        })
        .await;
        let calls = told(&server, made).await;
        assert!(
            calls.iter().all(|call| call.json().expect("it is there")["event"] == "onInstall"),
            "in order"
        );
        server.advance(Duration::from_secs(minutes * 66 + 1));
    }
    told(&server, 5).await;
    server.vendor.behave(PATH, Behaviour::status(200));
    eventually("the first is given up", async || (entries().await[0].0 == "failed").then_some(()))
        .await;
    // Whether the vendor was back in time for the first try of the second or not: it is told.
    server.advance(Duration::from_mins(2));
    eventually("the second arrives", async || (entries().await[1].0 == "delivered").then_some(()))
        .await;
    let last = server.vendor.received_at(PATH).pop().expect("a call");
    assert_eq!(last.json().expect("it is there")["event"], "onZohoAuthorise");
    // It is the installation handler that the set-up is judged by.
    setup(&server, &installation.id, "failed").await;
    assert_eq!(server.installation(&installation.id).await["state"], "active");

    // All of them fail: said, and nothing undone.
    server.vendor.behave(PATH, Behaviour::status(500));
    let second = server.active("second-org").await;
    setup(&server, &second.id, "pending").await;
    for minutes in [1, 5, 30, 120, 1, 5, 30, 120] {
        a_while().await;
        server.advance(Duration::from_secs(minutes * 66 + 1));
    }
    setup(&server, &second.id, "failed").await;
    assert_eq!(server.installation(&second.id).await["state"], "active");
}

async fn a_callback_that_is_answered_410_is_given_up(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.vendor.behave_in_turn(PATH, [Behaviour::status(410)], Behaviour::status(200));
    let installation = server.active(ORG).await;
    let calls = told(&server, 2).await;
    assert_eq!(
        calls[1].json().expect("it is there")["event"],
        "onZohoAuthorise",
        "the next goes on"
    );
    setup(&server, &installation.id, "failed").await;
    let rows = server.client.all("/api/v1/journal", &server.operator).await;
    assert_eq!(rows[0]["state"], "failed");
}

async fn the_journal_is_the_vendors_own(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.active(ORG).await;
    let other = server.package().key("other").vendor("others");
    server.active_package(&other, ORG).await;
    let calls = told(&server, 4).await;
    let token = server.vendor_token("acme").await;
    let journal = server.client.all("/api/v1/journal?limit=1", &token).await;
    let events: Vec<_> = journal.iter().map(|row| row["callback"]["event"].clone()).collect();
    assert_eq!(events, ["onInstall", "onZohoAuthorise"]);
    assert_eq!(server.client.all("/api/v1/journal", &server.operator).await.len(), 4);
    let text = json!(journal).to_string();
    assert!(!text.contains("securityContext"), "{text}");
    for call in calls {
        let body = call.json().expect("it is there");
        assert!(!text.contains(body["securityContext"].as_str().expect("it is there")));
    }
    // The id is the one that the call carried, and the body the same but for the context.
    let first = server.vendor.received_at(PATH)[0].clone();
    assert_eq!(journal[0]["id"].as_str(), first.header("webhook-id"));
    let mut sent = first.json().expect("it is there");
    sent.as_object_mut().expect("it is there").remove("securityContext");
    assert_eq!(journal[0]["callback"], sent);
    let since = server.seam.clock.now().plus(Duration::from_mins(1)).rfc3339();
    let path = format!("/api/v1/journal?since={since}");
    assert!(server.client.all(&path, &token).await.is_empty());
    let admin = server.admin(ORG).await;
    assert_eq!(server.client.get("/api/v1/journal", &admin).await.status, 403);
}
