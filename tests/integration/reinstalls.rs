//! What an installation is told to be: the first or another one, with what was given to it, and with
//! as many webhooks as it had at its end.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer};

on_both!(
    each_user_installs_for_the_first_time,
    a_parameter_that_is_null_is_not_set,
    what_is_removed_is_counted_at_the_end,
    one_whose_version_cannot_be_read_ends,
);

/// The reason of the last `onInstall`.
async fn reason(server: &TestServer) -> Value {
    let journal = server.client.all("/api/v1/journal", &server.operator).await;
    let told = journal
        .iter()
        .rev()
        .find(|one| one["callback"]["event"] == "onInstall")
        .expect("it is told");
    told["callback"]["reason"].clone()
}

async fn each_user_installs_for_the_first_time(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let personal = server.package().key("my-notes").with(|package| {
        package.manifest["type"] = json!("personal");
        package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ"]);
        package.resources = json!({});
    });
    server.publish(&personal).await.expect(201);
    let install = async |user: &str| {
        let body = json!({ "extensionKey": "my-notes", "orgId": ORG, "userId": user });
        let made = server.callback("install", &body).await.expect(201);
        (made.text_of("installationId"), made.json["generation"].clone(), reason(&server).await)
    };
    let (first, generation, why) = install("u-1").await;
    assert_eq!((generation, why), (json!(1), json!("first_install")));
    let (_, generation, why) = install("u-2").await;
    assert_eq!((generation, why), (json!(2), json!("first_install")), "it is his first one");
    server.callback("uninstall", &json!({ "installationId": first })).await.expect(200);
    let (_, generation, why) = install("u-1").await;
    assert_eq!((generation, why), (json!(3), json!("reinstall")));
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_parameter_that_is_null_is_not_set(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let body = json!({ "extensionKey": "ticket-mirror", "orgId": ORG,
        "config": { "mirrorToken": null, "mirrorHost": null } });
    let made = server.callback("install", &body).await.expect(201);
    let id = made.text_of("installationId");
    assert_eq!(server.installation(&id).await["config"], json!({}));
    let sealed = "select 'x' from installations where sealed_config is not null";
    assert!(server.texts(sealed).await.is_empty(), "nothing was given to be kept");
    let path = format!("/api/v1/installedExtensions/{id}/configParams");
    let admin = server.admin(ORG).await;
    let shown = server.client.get(&path, &admin).await.expect(200);
    assert!(!shown.text.contains("***"), "it looks set: {}", shown.text);
    // The same request again is the same.
    server.callback("install", &body).await.expect(200);
}

async fn what_is_removed_is_counted_at_the_end(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    // The webhook of the first version goes, that of the second has another name.
    let second = server.package().version("2.0.0").with(|package| {
        package.resources["webhook"]["resourceName"] = json!("another");
    });
    server.publish(&second).await.expect(201);
    let body = json!({ "installationId": installation.id, "version": "2.0.0" });
    server.callback("upgrade", &body).await.expect(200);
    let endpoints = server.texts("select 'x' from endpoints where lane = 'webhook'").await;
    assert_eq!(endpoints.len(), 2, "what the first one did stays to be looked at");
    let body = json!({ "installationId": installation.id });
    for _ in 0..2 {
        let ended = server.callback("uninstall", &body).await.expect(200);
        assert_eq!(ended.json["removedWebhooks"], 1, "{}", ended.text);
    }
}

async fn one_whose_version_cannot_be_read_ends(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    server.execute("update extension_versions set manifest = '[' || manifest").await;
    let body = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "reason": "no more" });
    let ended = server.callback("uninstall", &body).await.expect(200);
    assert_eq!(ended.json["state"], "uninstalled");
    assert_eq!(ended.json["removedWebhooks"], 1);
    let by_id = json!({ "installationId": installation.id });
    assert_eq!(server.callback("uninstall", &by_id).await.expect(200).json, ended.json);
    for left in ["webhooks", "connections", "provisioned_webhooks"] {
        assert!(server.texts(&format!("select 'x' from {left}")).await.is_empty(), "{left}");
    }
    server.stop().await.audit_holds(&[ORG]).await;
}
