//! Orgs that the operator marks as being for development: what they may, and what they may not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS, event};
use crate::support::server::{Backend, ORG, eventually};
use crate::support::tls_receiver::TlsReceiver;

on_both!(
    private_addresses_and_plain_http_are_for_marked_orgs,
    what_does_not_pass_any_more_is_switched_off,
    a_certificate_is_pinned_in_marked_orgs_only,
    only_the_operator_marks_an_org,
);

const MARK: &str = "/api/v1/orgs/60001280952/development";

/// A server as it is in production: public addresses by https, and nothing else.
async fn strict(backend: Backend) -> OwnWorld {
    OwnWorld::with(backend, |settings| {
        settings.unset("egress.allow");
        settings.set("egress.require_https", "true");
    })
    .await
}

async fn mark(world: &OwnWorld, is_development: bool) -> Value {
    let operator = world.server.operator.clone();
    let body = json!({ "isDevelopment": is_development });
    let answer = world.server.client.call(Method::PUT, MARK, &operator, Some(&body)).await;
    answer.expect(200).json
}

fn refused_at(answer: Answer, place: &str) -> String {
    let refused = answer.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], place, "{}", refused.text);
    refused.json["errors"][0]["errorMessage"].to_string()
}

async fn private_addresses_and_plain_http_are_for_marked_orgs(backend: Backend) {
    let world = strict(backend).await;
    let refused = world.try_make("/own", &json!({})).await;
    assert!(refused_at(refused, "/url").contains("https"));
    let marked = mark(&world, true).await;
    assert_eq!((&marked["isDevelopment"], &marked["orgId"]), (&json!(true), &json!(ORG)));
    assert!(marked["markedTime"].is_string());
    let id = world.make("/own", json!({})).await;
    assert_eq!(world.read(&id).await["isDevelopment"], true);
    let plan = format!("/api/v1/orgs/{ORG}/plan");
    let plan = world.server.client.get(&plan, &world.admin).await.expect(200).json;
    assert_eq!(plan["isDevelopment"], true);
    world.fans_out(&event("Ticket_Add", "one")).await;
    world.settled(&id, "delivered", 1).await;
    // What is tried before it is saved goes by the same rules.
    let body = json!({ "url": world.server.vendor.url("/ping") });
    let path = format!("{WEBHOOKS}/ping");
    let ping = world.server.client.post(&path, &world.admin, &body).await.expect(200).json;
    assert_eq!(ping["outcome"], "delivered", "{ping}");
    // Where clouds serve credentials, and this server's own listener, nobody is led.
    let own_port = world.server.client.url("");
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
        "http://127.0.0.1:5432/",
        own_port.as_str(),
    ] {
        refused_at(world.try_make("/own", &json!({ "url": url })).await, "/url");
    }
    for url in
        ["http://192.168.7.7:3000/hook", "http://crm.internal/hook", "http://localhost:3000/"]
    {
        let more = json!({ "url": url, "dialect": "standard" });
        world.try_make("/own", &more).await.expect(201);
    }
    // Another org may none of it.
    let other = world.server.admin("7").await;
    let body =
        json!({ "url": world.server.vendor.url("/own"), "subscriptions": { "Ticket_Add": null } });
    world.server.client.post(WEBHOOKS, &other, &body).await.refused(422, "INVALID_DATA");
    let ping = json!({ "url": world.server.vendor.url("/ping") });
    let told = world.server.client.post(&path, &other, &ping).await.expect(200).json;
    assert_eq!(told["outcome"], "refused", "{told}");
}

async fn what_does_not_pass_any_more_is_switched_off(backend: Backend) {
    let world = strict(backend).await;
    mark(&world, true).await;
    let id = world.make("/own", json!({ "whileDisabled": "queue" })).await;
    let public = json!({ "url": "https://hooks.example/a", "dialect": "standard" });
    let public = world.make("/own", public).await;
    let lifted = mark(&world, false).await;
    assert_eq!(lifted["disabled"], json!([id]));
    assert_eq!(world.read(&id).await["isEnabled"], false);
    assert_eq!(world.read(&id).await["isDevelopment"], false);
    assert_eq!(world.read(&public).await["isEnabled"], true);
    let notices = world.notices("webhook.disabled").await;
    assert_eq!(notices.len(), 1);
    assert!(notices[0]["message"].as_str().is_some_and(|text| text.contains("development")));
    // It cannot be switched on again as it is, and what was queued goes nowhere.
    world.fans_out(&event("Ticket_Add", "later")).await;
    world.settled(&id, "held", 1).await;
    refused_at(world.act(&id, "/enable", &json!({})).await, "/url");
    mark(&world, true).await;
    world.act(&id, "/enable", &json!({})).await.expect(200);
    world.settled(&id, "delivered", 1).await;
    let actions =
        format!("select action from audit where chain = '{ORG}' and subject = 'org:{ORG}'");
    let mut actions = world.server.texts(&actions).await;
    actions.sort_unstable();
    assert_eq!(actions, ["org.development", "org.development", "org.development-ended"]);
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_certificate_is_pinned_in_marked_orgs_only(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let (receiver, other) = (TlsReceiver::start(false).await, TlsReceiver::start(false).await);
    let pinned = |receiver: &TlsReceiver| {
        json!({ "url": receiver.url("/own"), "dialect": "standard",
            "tls": { "pinnedCertificate": receiver.certificate } })
    };
    let refused = world.try_make("/own", &pinned(&receiver)).await;
    assert!(refused_at(refused, "/tls/pinnedCertificate").contains("development"));
    mark(&world, true).await;
    let id = world.try_make("/own", &pinned(&receiver)).await.expect(201).text_of("id");
    world.fans_out(&event("Ticket_Add", "one")).await;
    world.settled(&id, "delivered", 1).await;
    // Another certificate is another receiver, and which one it has is said.
    let moved = json!({ "url": other.url("/own") });
    world.patch(&id, &moved).await.expect(200);
    let told = world.act(&id, "/ping", &json!({})).await.expect(200).json;
    assert_eq!(told["outcome"], "failed", "{told}");
    assert!(told["error"].as_str().is_some_and(|text| text.contains("not the one")), "{told}");
    assert!(told["hint"].as_str().is_some_and(|text| text.contains("pinnedCertificate")), "{told}");
    let both =
        json!({ "tls": { "pinnedCertificate": other.certificate, "caCertificates": other.ca } });
    refused_at(world.patch(&id, &both).await, "/tls/pinnedCertificate");
    refused_at(world.patch(&id, &json!({ "tls": {} })).await, "/tls/caCertificates");
    world.patch(&id, &pinned(&other)).await.expect(200);
    let told = world.act(&id, "/ping", &json!({})).await.expect(200).json;
    assert_eq!(told["outcome"], "delivered", "{told}");
    let lifted = mark(&world, false).await;
    assert_eq!(lifted["disabled"], json!([id]));
}

async fn only_the_operator_marks_an_org(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let body = json!({ "isDevelopment": true });
    let client = &world.server.client;
    for token in [&world.admin, &world.server.marketplace().await] {
        let answer = client.call(Method::PUT, MARK, token, Some(&body)).await;
        answer.refused(403, "FORBIDDEN");
    }
    let read = client.get(MARK, &world.admin).await.expect(200).json;
    assert_eq!((&read["isDevelopment"], &read["markedBy"]), (&json!(false), &Value::Null));
    let other = world.server.admin("7").await;
    client.get(MARK, &other).await.refused(404, "RESOURCE_NOT_FOUND");
    mark(&world, true).await;
    // The same again is no news.
    let first = client.get(MARK, &world.admin).await.expect(200).json;
    world.server.advance(std::time::Duration::from_secs(5));
    assert_eq!(mark(&world, true).await["markedTime"], first["markedTime"]);
    eventually("it is shown", async || {
        let read = client.get(MARK, &world.admin).await.expect(200).json;
        (read["isDevelopment"] == true).then_some(())
    })
    .await;
}
