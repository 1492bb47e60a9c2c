//! Users and orgs that leave, and extensions that are a user's own.

use std::time::Duration;

use mortise::oauth::{HOST_CONNECTION, OAuthError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::client::Answer;
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, Installation, ORG, TestServer, eventually};

on_both!(
    a_removed_user_takes_his_grants_along,
    a_user_is_removed_during_a_refresh,
    a_closed_org_is_uninstalled_and_goes_on_after_a_crash,
    a_personal_extension_is_installed_by_each_user,
);

/// A personal extension, which has no webhook.
fn personal(server: &TestServer) -> Package {
    server.package().key("my-notes").with(|package| {
        package.manifest["type"] = json!("personal");
        package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ"]);
        package.resources = json!({});
    })
}

async fn install_for(server: &TestServer, org: &str, user: &str) -> Installation {
    let body = json!({ "extensionKey": "my-notes", "orgId": org, "userId": user });
    let installation = server.install_with(body).await;
    let answer = server.consent(&installation.authorization_url).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    installation
}

async fn a_removed_user_takes_his_grants_along(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    server.publish(&personal(&server)).await.expect(201);
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "installedBy": "u-1" });
    let shared = server.install_with(request).await;
    let answer = server.consent(&shared.authorization_url).await;
    server.authorize(&shared.id, &answer).await.expect(200);
    let id: Uuid = shared.id.parse().expect("an id");
    for user in ["u-1", "u-2"] {
        let body = json!({
            "installationId": shared.id, "connectionLinkName": HOST_CONNECTION, "userId": user,
        });
        let asked = server.callback("connect", &body).await.expect(200);
        let answer = server.consent(&asked.text_of("authorizationUrl")).await;
        server.authorize(&shared.id, &answer).await.expect(200);
    }
    let his = install_for(&server, ORG, "u-1").await;
    let hers = install_for(&server, ORG, "u-2").await;
    let elsewhere = install_for(&server, "2", "u-1").await;
    // He is about to grant more.
    let body = json!({ "installationId": shared.id, "grantedBy": "u-1" });
    let begun = server.callback("reauthorize", &body).await.expect(200);

    let removed = json!({ "orgId": ORG, "userId": "u-1" });
    let left = server.callback("user-removed", &removed).await.expect(200);
    assert_eq!(left.json["brokenConnections"], 1, "{}", left.text);
    assert_eq!(left.json["removedConnections"], 1, "{}", left.text);
    assert_eq!(left.json["uninstalled"], 1, "{}", left.text);
    let seen = server.installation(&shared.id).await;
    assert_eq!(seen["connection"]["health"], "broken");
    let reason = seen["connection"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("user u-1") && reason.contains("removed"), "{reason}");
    let of = |user| server.connections().access_token(id, HOST_CONNECTION, user, None);
    assert!(matches!(of(None).await, Err(OAuthError::Broken { .. })));
    assert!(matches!(of(Some("u-1")).await, Err(OAuthError::NoConnection { .. })));
    let _hers = of(Some("u-2")).await.expect("she is still there");
    assert_eq!(server.installation(&his.id).await["state"], "uninstalled");
    assert_eq!(server.installation(&hers.id).await["state"], "active");
    assert_eq!(server.installation(&elsewhere.id).await["state"], "active", "another org");
    let answer = server.consent(&begun.text_of("authorizationUrl")).await;
    server.authorize(&shared.id, &answer).await.refused(422, "INVALID_STATE");
    eventually("his tokens are revoked", || async {
        // Hers for the shared one, hers personal, and his of the other org: two each.
        (server.provider.live_tokens().len() == 6).then_some(())
    })
    .await;
    let again = server.callback("user-removed", &removed).await.expect(200);
    assert_eq!(again.json["brokenConnections"], 0, "{}", again.text);
    // The marketplace heals it.
    let body = json!({ "installationId": shared.id, "grantedBy": "u-2" });
    let asked = server.callback("reauthorize", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(&shared.id, &answer).await.expect(200);
    let _healed = of(None).await.expect("it works again");
    for bad in [json!({ "orgId": ORG, "userId": "" }), json!({ "orgId": "", "userId": "u" })] {
        assert_eq!(server.callback("user-removed", &bad).await.status, 422);
    }
    server.stop().await.audit_holds(&[ORG, "2"]).await;
}

async fn a_user_is_removed_during_a_refresh(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let request = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "installedBy": "u-1" });
    let installation = server.install_with(request).await;
    let answer = server.consent(&installation.authorization_url).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    let id: Uuid = installation.id.parse().expect("an id");
    server.provider.conduct(|conduct| {
        conduct.token_answer_delay = Duration::from_millis(700);
    });
    server.advance(Duration::from_secs(3_700));
    let refreshing = server.connections().access_token(id, HOST_CONNECTION, None, None);
    let removing = async {
        eventually("tokens were issued", || async {
            (server.provider.issued_tokens().len() == 4).then_some(())
        })
        .await;
        let removed = json!({ "orgId": ORG, "userId": "u-1" });
        server.callback("user-removed", &removed).await.expect(200)
    };
    let (refreshed, removed) = tokio::join!(refreshing, removing);
    assert_eq!(removed.json["brokenConnections"], 1, "{}", removed.text);
    assert!(matches!(refreshed, Err(OAuthError::Broken { .. })), "{refreshed:?}");
    eventually("what came too late is revoked", || async {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
}

async fn a_closed_org_is_uninstalled_and_goes_on_after_a_crash(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    server.publish(&personal(&server)).await.expect(201);
    let install = |org: &'static str, user: String| {
        let server = &server;
        async move {
            let body = json!({ "extensionKey": "my-notes", "orgId": org, "userId": user });
            server.callback("install", &body).await.expect(201)
        }
    };
    let hook = server.active(ORG).await;
    for number in 0..45 {
        install(ORG, format!("u-{number}")).await;
    }
    install("2", "u-1".to_owned()).await;
    let live = || async {
        let path = format!("/api/v1/installations?orgId={ORG}");
        let all = server.client.all(&path, &server.operator).await;
        all.iter().filter(|one| one["state"] != "uninstalled").count()
    };
    assert_eq!(live().await, 46);
    let closed = server.callback("org-closed", &json!({ "orgId": ORG })).await.expect(200);
    assert_eq!(closed.json["uninstalled"], 46, "{}", closed.text);
    assert_eq!(closed.json["finished"], true);
    assert_eq!(live().await, 0);
    assert!(server.webhooks(ORG).await.is_empty());
    let again = server.callback("org-closed", &json!({ "orgId": ORG })).await.expect(200);
    assert_eq!(again.json["finished"], true);
    let others = server.client.all("/api/v1/installations?orgId=2", &server.operator).await;
    assert_eq!(others[0]["state"], "pendingAuthorization");
    let path = format!("/api/v1/installations/{}/history", hook.id);
    let history = server.client.all(&path, &server.operator).await;
    let last = history.last().expect("a step");
    assert_eq!(
        (&last["command"], &last["reason"]),
        (&json!("uninstall"), &json!("the org was closed"))
    );
    // What a crash cut off goes on by itself.
    for number in 0..25 {
        install(ORG, format!("v-{number}")).await;
    }
    let now = server.seam.clock.now().micros();
    server
        .execute(&format!(
            "update org_closures set finished_at = null, requested_at = {now} where org_id = '{ORG}'"
        ))
        .await;
    server.advance(Duration::from_secs(6));
    eventually("nothing is left", || async { (live().await == 0).then_some(()) }).await;
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_personal_extension_is_installed_by_each_user(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    server.publish(&personal(&server)).await.expect(201);
    let fault = |refused: Answer, pointer: &str| {
        let refused = refused.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], pointer, "{}", refused.text);
    };
    let body = json!({ "extensionKey": "my-notes", "orgId": ORG });
    fault(server.callback("install", &body).await, "/userId");
    let body = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "userId": "u-1" });
    fault(server.callback("install", &body).await, "/userId");

    let (one, two) =
        (install_for(&server, ORG, "u-1").await, install_for(&server, ORG, "u-2").await);
    assert_ne!(one.id, two.id);
    let body = json!({ "extensionKey": "my-notes", "orgId": ORG, "userId": "u-1" });
    let again = server.callback("install", &body).await.expect(200);
    assert_eq!(again.text_of("installationId"), one.id);
    let seen = server.installation(&one.id).await;
    assert_eq!((&seen["userId"], &seen["webhooks"]), (&json!("u-1"), &json!([])));
    assert_eq!(seen["connections"][0]["userId"], "u-1");
    assert_eq!(seen["connections"][0]["grantedBy"], "u-1");
    let id: Uuid = one.id.parse().expect("an id");
    let of = |user| server.connections().access_token(id, HOST_CONNECTION, user, None);
    let _his = of(None).await.expect("his own");
    let _same = of(Some("u-1")).await.expect("his own");
    assert!(matches!(of(Some("u-2")).await, Err(OAuthError::NoConnection { .. })));
    // A dead one is authorised again in his name.
    let body = json!({ "installationId": one.id, "userId": "u-2" });
    fault(server.callback("reauthorize", &body).await, "/userId");
    let body = json!({ "installationId": one.id });
    let asked = server.callback("reauthorize", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    let healed = server.authorize(&one.id, &answer).await.expect(200);
    let all = healed.json["connections"].as_array().expect("a list");
    assert_eq!(all.len(), 1, "it took the place of the former one: {}", healed.text);

    let body = json!({ "extensionKey": "my-notes", "orgId": ORG });
    server.callback("uninstall", &body).await.refused(404, "RESOURCE_NOT_FOUND");
    let body = json!({ "extensionKey": "my-notes", "orgId": ORG, "userId": "u-1" });
    let gone = server.callback("uninstall", &body).await.expect(200);
    assert_eq!(gone.text_of("installationId"), one.id);
    assert_eq!(server.installation(&two.id).await["state"], "active");
    let back: Value = server.callback("install", &body).await.expect(201).json;
    assert_eq!(back["generation"], 3, "one count for the org: {back}");
}
