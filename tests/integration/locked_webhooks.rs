//! An extension's webhook exists while the installation is authorised, and nobody changes it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer};

on_both!(
    nobody_changes_an_extensions_webhook,
    the_refusal_comes_before_the_body,
    a_webhook_exists_from_authorisation_to_uninstall,
    webhooks_are_read_in_the_dialect,
);

async fn nobody_changes_an_extensions_webhook(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let before = server.webhooks(ORG).await;
    let id = before[0]["id"].as_str().expect("an id");
    let path = format!("/api/v1/webhooks/{id}");
    let callers = [
        ("operator", server.operator.clone()),
        ("marketplace", server.marketplace().await),
        ("host", server.host().await),
        ("vendor", server.vendor_token("acme").await),
        ("admin", server.admin(ORG).await),
        ("viewer", server.viewer(ORG).await),
    ];
    let methods = [Method::PATCH, Method::PUT, Method::DELETE];
    for (role, token) in &callers {
        for method in &methods {
            // The body is no JSON, and its type is not said: nobody looks.
            let request = server.client.request(method.clone(), &path, token).body("{ broken");
            let refused = server.client.send(request).await.refused(403, "FORBIDDEN");
            assert_eq!(
                refused.json["lockedBy"],
                json!({ "extensionKey": "ticket-mirror", "installationId": active.id }),
                "{role} {method}: {}",
                refused.text
            );
            let body = json!({ "isEnabled": false, "url": "http://127.0.0.1:1/" });
            let refused = server.client.call(method.clone(), &path, token, Some(&body)).await;
            refused.refused(403, "FORBIDDEN");
        }
    }
    assert_eq!(server.webhooks(ORG).await, before, "nothing changed");
    let audit = "select actor from audit where action = 'webhook.edit-refused' order by sequence";
    let actors = server.texts(audit).await;
    assert_eq!(actors.len(), callers.len() * methods.len() * 2);
    for (role, _) in &callers {
        let prefix = format!("{role}:");
        let count = actors.iter().filter(|actor| actor.starts_with(&prefix)).count();
        assert_eq!(count, methods.len() * 2, "{role}");
    }
    // To others it does not exist.
    let strangers =
        [server.admin("2").await, server.viewer("2").await, server.vendor_token("other").await];
    for token in &strangers {
        for method in &methods {
            let refused = server.client.call(method.clone(), &path, token, None).await;
            refused.refused(404, "RESOURCE_NOT_FOUND");
        }
        server.client.get(&path, token).await.refused(404, "RESOURCE_NOT_FOUND");
    }
    for nobody in ["01890000-0000-7000-8000-000000000000", "no-id"] {
        let path = format!("/api/v1/webhooks/{nobody}");
        let refused = server.client.call(Method::PATCH, &path, &server.operator, None).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
    assert_eq!(server.texts(audit).await.len(), actors.len(), "nothing to be told of strangers");
    server.stop().await.audit_holds(&[ORG, "2"]).await;
}

async fn the_refusal_comes_before_the_body(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.active(ORG).await;
    let id = server.webhooks(ORG).await[0]["id"].as_str().expect("an id").to_owned();
    let address = server.client.url("").replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(&address).await.expect("it connects");
    let head = format!(
        "PATCH /api/v1/webhooks/{id} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n",
        server.operator
    );
    stream.write_all(head.as_bytes()).await.expect("it takes the head");
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0_u8; 4_096];
        while !String::from_utf8_lossy(&answer).contains("lockedBy") {
            let length = stream.read(&mut buffer).await.expect("it answers");
            assert_ne!(length, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..length]);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.expect("without the body");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

async fn a_webhook_exists_from_authorisation_to_uninstall(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let waiting = server.install("ticket-mirror", ORG).await;
    assert!(server.webhooks(ORG).await.is_empty());
    let answer = server.consent(&waiting.authorization_url).await;
    assert!(server.webhooks(ORG).await.is_empty());
    server.authorize(&waiting.id, &answer).await.expect(200);
    assert_eq!(server.webhooks(ORG).await.len(), 1);
    let body = json!({ "installationId": waiting.id });
    server.callback("uninstall", &body).await.expect(200);
    assert!(server.webhooks(ORG).await.is_empty());
    assert!(server.texts("select 'x' from webhooks").await.is_empty());
}

async fn webhooks_are_read_in_the_dialect(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    server.active("2").await;
    let (admin, vendor) = (server.admin(ORG).await, server.vendor_token("acme").await);
    let list = "/api/v1/webhooks";
    let own = server.client.get(list, &admin).await.expect(200);
    assert_eq!(own.data().len(), 1);
    let webhook = &own.data()[0];
    for member in [
        "id",
        "name",
        "description",
        "url",
        "subscriptions",
        "ignoreSourceId",
        "includeEventsFrom",
        "isEnabled",
        "type",
        "createdBy",
        "createdTime",
        "modifiedTime",
        "locked",
        "health",
    ] {
        assert!(webhook.get(member).is_some(), "{member} is there: {webhook}");
    }
    assert_eq!(webhook["name"], "Ticket Mirror");
    assert_eq!(webhook["url"], format!("{}/hooks/desk?tenant=a", server.vendor_origin()));
    assert_eq!(webhook["includeEventsFrom"], serde_json::Value::Null);
    for member in ["extensionName", "version", "installationId", "uuId"] {
        assert!(webhook["extension"][member].is_string(), "{member}: {webhook}");
    }
    assert_eq!(webhook["extension"]["installationId"], active.id.as_str());
    let id = webhook["id"].as_str().expect("an id");
    let one = server.client.get(&format!("{list}/{id}"), &admin).await.expect(200);
    assert_eq!(&one.json, webhook);

    assert_eq!(server.client.all(list, &vendor).await.len(), 2);
    assert_eq!(server.client.all(&format!("{list}?limit=1"), &vendor).await.len(), 2);
    assert_eq!(server.client.all(&format!("{list}?orgId=2"), &vendor).await.len(), 1);
    // The org by a header, the token in the reference's scheme.
    let request = server.client.request(Method::GET, list, "");
    let request = request.header("Authorization", format!("Zoho-oauthtoken {}", server.operator));
    let two = server.client.send(request.header("orgId", "2")).await.expect(200);
    assert_eq!(two.data().len(), 1);
    assert_eq!(two.data()[0]["orgId"], "2");
    let request = server.client.request(Method::GET, "/api/v1/installations", "");
    let request = request.header("Authorization", format!("Zoho-oauthtoken {}", server.operator));
    server.client.send(request).await.refused(401, "UNAUTHORIZED");
    // An admin's token implies the org, and no other can be named.
    let foreign = server.client.get(&format!("{list}?orgId=2"), &admin).await;
    foreign.refused(403, "OAUTH_ORG_MISMATCH");
    assert_eq!(
        server.client.get(&format!("{list}?orgId={ORG}"), &admin).await.expect(200).data().len(),
        1
    );
}
