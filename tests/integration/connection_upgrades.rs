//! What an upgrade does to connections: what the new version drops ends, what it shares otherwise is
//! shared otherwise, and whose an installation is stays.

use mortise::development::{DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions};
use mortise::oauth::{HOST_CONNECTION, OAuthError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, Installation, ORG, TestServer, eventually};

on_both!(
    a_connection_that_the_version_drops_is_revoked_and_told,
    a_server_of_its_own_needs_consent,
    what_becomes_each_users_own_is_shared_no_more,
    an_installation_stays_the_orgs_or_a_users,
    lists_show_the_first_connections_and_count_the_rest,
);

const CALLBACKS: &str = "/callbacks";

async fn crm(server: &TestServer) -> DevelopmentAuthorizationServer {
    let options = DevelopmentAuthorizationServerOptions {
        client_id: "crm-client".to_owned(),
        client_secret: "client-secret-of-the-vendor".to_owned(),
        ..Default::default()
    };
    let crm = DevelopmentAuthorizationServer::start(options).await.expect("it starts");
    crm.register_redirect_uri(server.client.url("/oauth/callback"));
    crm
}

/// A version whose only connection beside the host's is an entry of `TPAOauth` that no connector
/// names.
fn with_own_server(package: Package, crm: &DevelopmentAuthorizationServer) -> Package {
    package.with(|package| {
        package.manifest["TPAOauth"] = json!([{
            "name": "crm", "clientId": crm.client_id(), "clientSecret": crm.client_secret(),
            "authoriseUrl": crm.authorize_url(), "tokenUrl": crm.token_url(),
            "revokeUrl": crm.revoke_url(), "params": { "scope": "contacts.read" },
        }]);
    })
}

fn version(server: &TestServer, number: &str) -> Package {
    server.package().version(number).with(|package| {
        let callbacks = json!(server.vendor.url(CALLBACKS));
        for event in ["onUpdate", "onTPARevoke"] {
            package.manifest["callbackListener"][event] = callbacks.clone();
        }
    })
}

async fn connect(server: &TestServer, installation: &Installation, name: &str, user: Option<&str>) {
    let body = json!({
        "installationId": installation.id, "connectionLinkName": name, "userId": user,
    });
    let asked = server.callback("connect", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
}

async fn upgrade(server: &TestServer, installation: &Installation, version: &str) -> Value {
    let body = json!({ "installationId": installation.id, "version": version });
    server.callback("upgrade", &body).await.expect(200).json
}

fn told(server: &TestServer, event: &str) -> Vec<Value> {
    let received = server.vendor.received_at(CALLBACKS);
    let bodies = received.iter().map(|one| one.json().expect("JSON"));
    bodies.filter(|body| body["event"] == event).collect()
}

async fn a_connection_that_the_version_drops_is_revoked_and_told(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let crm = crm(&server).await;
    let first = with_own_server(version(&server, "1.0.0"), &crm);
    let installation = server.active_package(&first, ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let begun = json!({ "installationId": installation.id, "connectionLinkName": "crm" });
    let begun = server.callback("connect", &begun).await.expect(200);
    // A server of the vendor's has a redirect address of its own.
    crm.register_redirect_uri(begun.text_of("redirectUri"));
    connect(&server, &installation, "crm", None).await;
    let token = || server.connections().access_token(id, "crm", None, None);
    token().await.expect("a token");
    server.publish(&version(&server, "2.0.0")).await.expect(201);
    let done = upgrade(&server, &installation, "2.0.0").await;
    assert_eq!(done["version"], "2.0.0", "{done}");
    assert!(matches!(token().await, Err(OAuthError::NoConnection { .. })));
    eventually("its tokens are revoked", async || crm.live_tokens().is_empty().then_some(())).await;
    let revoked =
        eventually("the vendor is told", async || told(&server, "onTPARevoke").pop()).await;
    assert_eq!(
        (&revoked["connection"], &revoked["reason"]),
        (&json!("crm"), &json!("version_change"))
    );
    assert_eq!(
        (&revoked["version"], &revoked["formerVersion"]),
        (&json!("2.0.0"), &json!("1.0.0"))
    );
    let path = format!("/api/v1/installations/{}/history", installation.id);
    let history = server.client.all(&path, &server.operator).await;
    let ended: Vec<&Value> = history.iter().filter(|row| row["command"] == "disconnect").collect();
    assert_eq!(ended.len(), 1, "{history:?}");
    assert!(ended[0]["reason"].as_str().is_some_and(|why| why.contains("crm")), "{ended:?}");
    // The host's is not touched.
    server.connections().access_token(id, HOST_CONNECTION, None, None).await.expect("a token");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_server_of_its_own_needs_consent(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let crm = crm(&server).await;
    let installation = server.active_package(&version(&server, "1.0.0"), ORG).await;
    server.publish(&with_own_server(version(&server, "2.0.0"), &crm)).await.expect(201);
    let waits = upgrade(&server, &installation, "2.0.0").await;
    assert_eq!((&waits["consentRequired"], &waits["version"]), (&json!(true), &json!("1.0.0")));
    assert_eq!(
        waits["growth"],
        json!([
            { "kind": "connection", "serviceName": "crm" },
            { "kind": "scope", "serviceName": "crm", "scope": "contacts.read" },
        ])
    );
}

async fn what_becomes_each_users_own_is_shared_no_more(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let access = |number: &str, own: bool| {
        version(&server, number).with(|package| {
            package.manifest["zohoAuthorisation"]["userAccess"] = json!(own);
        })
    };
    let installation = server.active_package(&access("1.0.0", false), ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let of = |user| server.connections().access_token(id, HOST_CONNECTION, user, None);
    of(Some("u-1")).await.expect("the administrator's serves everybody");
    server.publish(&access("2.0.0", true)).await.expect(201);
    assert_eq!(upgrade(&server, &installation, "2.0.0").await["version"], "2.0.0");
    assert!(matches!(of(Some("u-1")).await, Err(OAuthError::NoConnection { .. })));
    of(None).await.expect("the installation's own work goes on");
    // And back again.
    assert_eq!(upgrade(&server, &installation, "1.0.0").await["version"], "1.0.0");
    of(Some("u-1")).await.expect("it is shared again");
    // Through an authorisation it is the same: the version that comes says it.
    let third = access("3.0.0", true).with(|package| {
        package.manifest["zohoAuthorisation"]["scope"] =
            json!(["Desk.events.ALL", "Desk.tickets.READ", "Desk.contacts.READ"]);
    });
    server.publish(&third).await.expect(201);
    let waits = upgrade(&server, &installation, "3.0.0").await;
    let url = waits["authorizationUrl"].as_str().expect("an address").to_owned();
    let answer = server.consent(&url).await;
    let done = server.authorize(&installation.id, &answer).await.expect(200);
    assert_eq!((&done.json["version"], &done.json["pendingScopes"]), (&json!("3.0.0"), &json!([])));
    assert!(matches!(of(Some("u-1")).await, Err(OAuthError::NoConnection { .. })));
    of(None).await.expect("the new token serves");
}

async fn an_installation_stays_the_orgs_or_a_users(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let personal = |number: &str| {
        version(&server, number).with(|package| {
            package.manifest["type"] = json!("personal");
            package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ"]);
            package.resources = json!({});
        })
    };
    let installation = server.active_package(&version(&server, "1.0.0"), ORG).await;
    server.publish(&personal("2.0.0")).await.expect(201);
    let body = json!({ "installationId": installation.id, "version": "2.0.0" });
    for path in ["upgrade", "upgrade?dryRun=true"] {
        let refused = server.callback(path, &body).await.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], "/version", "{}", refused.text);
        assert!(refused.text.contains("personal"), "{}", refused.text);
    }
    let path = "/api/v1/extensions/ticket-mirror/versions/2.0.0/rollout";
    let job = server.client.post(path, &server.operator, &json!({})).await.expect(202);
    let job = format!("/api/v1/jobs/{}", job.text_of("jobId"));
    let done = eventually("it ends", async || {
        let seen = server.client.get(&job, &server.operator).await.expect(200).json;
        (seen["state"] == "done").then_some(seen)
    })
    .await;
    assert_eq!((&done["failed"], &done["upgraded"]), (&json!(1), &json!(0)), "{done}");
    let reason = done["failures"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("personal"), "{reason}");
    // Neither the other way round.
    let his = server
        .install_with(json!({ "extensionKey": "ticket-mirror", "orgId": "2", "userId": "u-1",
            "version": "2.0.0" }))
        .await;
    let body = json!({ "installationId": his.id, "version": "1.0.0" });
    server.callback("upgrade", &body).await.refused(422, "INVALID_DATA");
}

async fn lists_show_the_first_connections_and_count_the_rest(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let package = version(&server, "1.0.0").with(|package| {
        package.manifest["connectors"] = json!([{
            "connectionName": "Crm", "serviceName": "crm", "connectionLinkName": "my_crm",
            "userAccess": true, "isUserDefinedService": true, "scope": ["contacts.read"],
        }]);
    });
    let installation = server.active_package(&package, ORG).await;
    for number in 0..23 {
        connect(&server, &installation, HOST_CONNECTION, Some(&format!("u-{number}"))).await;
    }
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["connections"].as_array().map(Vec::len), Some(25), "all, and one that is not");
    assert_eq!(seen["connectionCount"], 24);
    let all = server.client.all("/api/v1/installations", &server.operator).await;
    let listed = all[0]["connections"].as_array().expect("a list");
    assert_eq!((listed.len(), &all[0]["connectionCount"]), (21, &json!(24)));
    assert_eq!(listed[0]["userId"], Value::Null, "the org's own is never left out");
    let none: Vec<&Value> = listed.iter().filter(|one| one["health"] == "none").collect();
    assert_eq!(none.len(), 1, "{listed:?}");
    assert_eq!(none[0]["name"], "my_crm");
}
