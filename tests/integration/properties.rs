//! Properties of extensions: texts for all orgs, secret ones write-only.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::server::{Backend, TestServer, assert_absent};

on_both!(
    properties_are_set_listed_and_deleted_by_their_vendor,
    secret_properties_are_sealed_and_never_shown,
    names_values_and_numbers_are_bounded,
);

const PATH: &str = "/api/v1/extensions/ticket-mirror/properties";

async fn published(backend: Backend) -> (TestServer, String) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let vendor = server.vendor_token("acme").await;
    (server, vendor)
}

async fn set(server: &TestServer, token: &str, name: &str, body: Value) -> Answer {
    server.client.call(Method::PUT, &format!("{PATH}/{name}"), token, Some(&body)).await
}

async fn properties_are_set_listed_and_deleted_by_their_vendor(backend: Backend) {
    let (server, vendor) = published(backend).await;
    for name in ["b", "a", "c"] {
        let body = json!({ "value": format!("value of {name}") });
        let answer = set(&server, &vendor, name, body).await.expect(200);
        assert_eq!(answer.json["value"], format!("value of {name}"));
        assert_eq!(answer.json["secret"], false);
    }
    set(&server, &vendor, "a", json!({ "value": "anew" })).await.expect(200);
    let rows = server.client.all(&format!("{PATH}?limit=2"), &vendor).await;
    let names: Vec<&Value> = rows.iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let one = server.client.get(&format!("{PATH}/a"), &vendor).await.expect(200);
    assert_eq!(one.json["value"], "anew");
    let delete = async |name: &str, token: &str| {
        server.client.call(Method::DELETE, &format!("{PATH}/{name}"), token, None).await
    };
    delete("b", &vendor).await.expect(204);
    delete("b", &vendor).await.refused(404, "RESOURCE_NOT_FOUND");
    server.client.get(&format!("{PATH}/b"), &vendor).await.refused(404, "RESOURCE_NOT_FOUND");
    // Nobody else's business.
    let other = server.vendor_token("other").await;
    server.client.get(PATH, &other).await.refused(404, "RESOURCE_NOT_FOUND");
    set(&server, &other, "a", json!({ "value": "x" })).await.refused(404, "RESOURCE_NOT_FOUND");
    delete("a", &other).await.refused(404, "RESOURCE_NOT_FOUND");
    server.client.get(PATH, &server.admin("1").await).await.refused(403, "FORBIDDEN");
    // Each change leaves a link in the audit, without the value.
    let actions = server.texts("select action from audit where action like 'extension.%property'");
    assert_eq!(actions.await.len(), 5);
}

async fn secret_properties_are_sealed_and_never_shown(backend: Backend) {
    let (server, vendor) = published(backend).await;
    let secret = "property-that-nobody-may-see";
    let answer = set(&server, &vendor, "key", json!({ "value": secret, "secret": true })).await;
    let answer = answer.expect(200);
    let one = server.client.get(&format!("{PATH}/key"), &vendor).await.expect(200);
    let list = server.client.get(PATH, &server.operator).await.expect(200);
    for answer in [&answer, &one, &list] {
        assert!(!answer.text.contains(secret), "{}", answer.text);
    }
    assert_eq!((&one.json["value"], &one.json["secret"]), (&Value::Null, &json!(true)));
    assert_absent(&server.dump().await, secret);
}

async fn names_values_and_numbers_are_bounded(backend: Backend) {
    let (server, vendor) = published(backend).await;
    for name in ["9a", "a%20b", "a%2Fb", &"a".repeat(65)] {
        let refused = set(&server, &vendor, name, json!({ "value": "x" })).await;
        refused.refused(422, "INVALID_DATA");
    }
    for body in [
        json!({ "value": "x".repeat(8_193) }),
        json!({ "value": "a\u{0}b" }),
        json!({ "value": 5 }),
        json!({}),
        json!({ "value": "x", "sealed": true }),
    ] {
        set(&server, &vendor, "a", body).await.refused(422, "INVALID_DATA");
    }
    for number in 0..200 {
        set(&server, &vendor, &format!("p{number}"), json!({ "value": "x" })).await.expect(200);
    }
    let full = set(&server, &vendor, "one-more", json!({ "value": "x" })).await;
    full.refused(422, "UNPROCESSABLE_ENTITY");
    set(&server, &vendor, "p7", json!({ "value": "y" })).await.expect(200);
}
