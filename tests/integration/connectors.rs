//! Connections to others: declared in the manifest, authorised by the org or by each user, refreshed
//! apart from all the rest, and taken back.

use std::collections::BTreeMap;
use std::time::Duration;

use mortise::development::{
    Browser, Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
};
use mortise::oauth::{HOST_CONNECTION, OAuthError};
use mortise::seam::Clock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{
    Backend, Installation, ORG, RETURN_ORIGIN, TestServer, assert_absent, eventually,
};

on_both!(
    a_connector_is_connected_and_taken_back,
    each_user_has_a_connection_of_his_own,
    a_vendors_own_provider_serves_its_extension_only,
    no_server_gets_the_code_of_another,
    a_slow_provider_holds_nobody_else,
    what_cannot_be_connected_is_said,
);

const CALLBACKS: &str = "/callbacks";
const CLIENT_SECRET: &str = "client-secret-of-the-vendor";

async fn second_provider() -> DevelopmentAuthorizationServer {
    let options = DevelopmentAuthorizationServerOptions {
        client_id: "crm-client".to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        ..Default::default()
    };
    DevelopmentAuthorizationServer::start(options).await.expect("the second provider starts")
}

/// A server whose operator knows the service `crm` too.
pub(crate) async fn world(
    backend: Backend,
    is_operators: bool,
) -> (TestServer, DevelopmentAuthorizationServer) {
    let crm = second_provider().await;
    let server = TestServer::start(backend, |settings| {
        if is_operators {
            for (name, value) in [
                ("authorize_url", crm.authorize_url()),
                ("token_url", crm.token_url()),
                ("revoke_url", crm.revoke_url()),
                ("client_id", crm.client_id().to_owned()),
                ("client_secret", crm.client_secret().to_owned()),
                ("token_scheme", "Bearer".to_owned()),
                ("api_origins", crm.issuer().to_owned()),
            ] {
                settings.set(&format!("oauth.providers.crm.{name}"), value);
            }
        }
    })
    .await;
    crm.register_redirect_uri(server.client.url("/oauth/callback"));
    (server, crm)
}

pub(crate) fn with_connector(server: &TestServer, user_access: bool) -> Package {
    server.package().with(|package| {
        package.manifest["connectors"] = json!([{
            "connectionName": "Crm", "serviceName": "crm", "connectionLinkName": "my_crm",
            "userAccess": user_access, "isUserDefinedService": true, "sharedBy": "77",
            "scope": ["contacts.read", "contacts.write"],
        }]);
        let callbacks = json!(server.vendor.url(CALLBACKS));
        package.manifest["callbackListener"]["onTPAAuthorise"] = callbacks.clone();
        package.manifest["callbackListener"]["onTPARevoke"] = callbacks;
    })
}

async fn connection(server: &TestServer, installation: &Installation, name: &str) -> Value {
    let seen = server.installation(&installation.id).await;
    let all = seen["connections"].as_array().expect("connections").clone();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{seen}"))
}

fn told(server: &TestServer, event: &str) -> Vec<Value> {
    let received = server.vendor.received_at(CALLBACKS);
    let bodies = received.iter().map(|one| one.json().expect("JSON"));
    bodies.filter(|body| body["event"] == event).collect()
}

async fn told_once(server: &TestServer, event: &str) -> Value {
    eventually("the vendor is told", || async { told(server, event).pop() }).await
}

async fn a_connector_is_connected_and_taken_back(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let package = with_connector(&server, false);
    let installation = server.active_package(&package, ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let none = connection(&server, &installation, "my_crm").await;
    assert_eq!((&none["health"], &none["sharedBy"]), (&json!("none"), &json!("77")));
    let token = || server.connections().access_token(id, "my_crm", None, None);
    assert!(matches!(token().await, Err(OAuthError::NoConnection { .. })));

    let body = json!({
        "installationId": installation.id, "connectionLinkName": "my_crm", "userId": "u-9",
    });
    let asked = server.callback("connect", &body).await.expect(200);
    assert!(asked.text_of("authorizationUrl").starts_with(&crm.authorize_url()), "{}", asked.text);
    // The browser that began ends it; the state alone says what for.
    let mut browser = Browser::new().expect("a browser");
    let page = browser.walk(&asked.text_of("startUrl"), Decision::Approve).await.expect("a page");
    assert_eq!(page.status, 200, "{}", page.body);
    let connected = connection(&server, &installation, "my_crm").await;
    assert_eq!(connected["health"], "ok");
    assert_eq!(connected["grantedBy"], "u-9", "who granted is known, not who is claimed to share");
    assert_eq!(connected["userId"], Value::Null);
    assert_eq!(connected["scopes"], json!(["contacts.read", "contacts.write"]));
    let event = told_once(&server, "onTPAAuthorise").await;
    assert_eq!(event["connection"], "my_crm", "{event}");
    assert_eq!(event["installationId"], installation.id.as_str());
    assert!(event["securityContext"].is_string());

    let first = token().await.expect("a token");
    assert!(crm.is_live(first.token.expose()));
    assert_eq!(first.scheme, "Bearer");
    assert_eq!(first.service, "crm");
    assert_eq!(first.api_origins.len(), 1);
    let host = server.connections().access_token(id, HOST_CONNECTION, None, None).await;
    assert_ne!(host.expect("the host's").token, first.token);
    let dump = server.dump().await;
    for issued in crm.issued_tokens() {
        assert_absent(&dump, &issued.token);
    }

    // Authorised again, its old tokens go; the host's are not touched.
    let body = json!({ "installationId": installation.id, "connection": "my_crm" });
    let asked = server.callback("reauthorize", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    eventually("the old ones are revoked", || async {
        (crm.live_tokens().len() == 2).then_some(())
    })
    .await;
    assert_eq!(server.provider.live_tokens().len(), 2);

    let body = json!({
        "installationId": installation.id, "connectionLinkName": "my_crm", "reason": "not wanted",
    });
    let gone = server.callback("disconnect", &body).await.expect(200);
    assert_eq!(gone.json["disconnected"], true);
    let again = server.callback("disconnect", &body).await.expect(200);
    assert_eq!(again.json["disconnected"], false);
    assert_eq!(connection(&server, &installation, "my_crm").await["health"], "none");
    assert!(matches!(token().await, Err(OAuthError::NoConnection { .. })));
    let event = told_once(&server, "onTPARevoke").await;
    assert_eq!((&event["connection"], &event["reason"]), (&json!("my_crm"), &json!("not wanted")));
    eventually("its tokens are revoked", || async { crm.live_tokens().is_empty().then_some(()) })
        .await;
    assert_eq!(server.provider.live_tokens().len(), 2);
    let path = format!("/api/v1/installations/{}/history", installation.id);
    let history = server.client.all(&path, &server.operator).await;
    let commands: Vec<&str> = history.iter().filter_map(|one| one["command"].as_str()).collect();
    assert_eq!(commands, ["install", "authorize", "connect", "reauthorize", "disconnect"]);
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn each_user_has_a_connection_of_his_own(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let installation = server.active_package(&with_connector(&server, true), ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let body = json!({ "installationId": installation.id, "connectionLinkName": "my_crm" });
    server.callback("connect", &body).await.refused(422, "INVALID_DATA");
    for user in ["u-1", "u-2"] {
        let body = json!({
            "installationId": installation.id, "connectionLinkName": "my_crm", "userId": user,
        });
        let asked = server.callback("connect", &body).await.expect(200);
        let answer = server.consent(&asked.text_of("authorizationUrl")).await;
        server.authorize(&installation.id, &answer).await.expect(200);
    }
    let connections = server.connections();
    let of = |user: Option<&'static str>| connections.access_token(id, "my_crm", user, None);
    let (one, two) = (of(Some("u-1")).await.expect("his"), of(Some("u-2")).await.expect("his"));
    assert_ne!(one.token, two.token);
    for nobody in [None, Some("u-3")] {
        assert!(matches!(of(nobody).await, Err(OAuthError::NoConnection { .. })));
    }
    let body = json!({
        "installationId": installation.id, "connectionLinkName": "my_crm", "userId": "u-1",
    });
    server.callback("disconnect", &body).await.expect(200);
    assert!(matches!(of(Some("u-1")).await, Err(OAuthError::NoConnection { .. })));
    assert_eq!(of(Some("u-2")).await.expect("his").token, two.token);
    // One consent of two is left at the provider.
    eventually("his tokens are revoked", || async { (crm.live_tokens().len() == 2).then_some(()) })
        .await;
    let events = told_once(&server, "onTPARevoke").await;
    assert_eq!(events["userId"], "u-1");
    // Uninstalling takes all of them.
    let body = json!({ "installationId": installation.id });
    server.callback("uninstall", &body).await.expect(200);
    eventually("all are revoked", || async {
        (crm.live_tokens().is_empty() && server.provider.live_tokens().is_empty()).then_some(())
    })
    .await;
}

async fn a_vendors_own_provider_serves_its_extension_only(backend: Backend) {
    let (server, crm) = world(backend, false).await;
    let package = with_connector(&server, false).with(|package| {
        package.manifest["TPAOauth"] = json!([{
            "name": "crm", "clientId": crm.client_id(), "clientSecret": CLIENT_SECRET,
            "authoriseUrl": crm.authorize_url(), "tokenUrl": crm.token_url(),
            "revokeUrl": crm.revoke_url(), "params": { "prompt": "consent", "state": "mine" },
        }]);
    });
    let installation = server.active_package(&package, ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let body = json!({ "installationId": installation.id, "connectionLinkName": "my_crm" });
    let asked = server.callback("connect", &body).await.expect(200);
    let url = asked.text_of("authorizationUrl");
    assert!(url.starts_with(&crm.authorize_url()), "{url}");
    assert!(url.contains("prompt=consent") && !url.contains("state=mine"), "{url}");
    crm.register_redirect_uri(asked.text_of("redirectUri"));
    let answer = server.consent(&url).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    let token = server.connections().access_token(id, "my_crm", None, None).await;
    let token = token.expect("a token");
    assert!(crm.is_live(token.token.expose()));
    assert!(!server.provider.is_live(token.token.expose()));
    let refused = Some(token.version);
    let fresh = server.connections().access_token(id, "my_crm", None, refused).await;
    assert!(crm.is_live(fresh.expect("a token").token.expose()));
    assert_absent(&server.dump().await, CLIENT_SECRET);
    // The provider is found for the revocation after the installation is gone.
    let body = json!({ "installationId": installation.id });
    server.callback("uninstall", &body).await.expect(200);
    eventually("its tokens are revoked", || async { crm.live_tokens().is_empty().then_some(()) })
        .await;
    // Another extension with a connector of the same name knows nothing of it.
    let other = with_connector(&server, false).key("other-mirror");
    let installation = server.active_package(&other, "2").await;
    let body = json!({ "installationId": installation.id, "connectionLinkName": "my_crm" });
    let refused = server.callback("connect", &body).await.refused(422, "UNPROCESSABLE_ENTITY");
    assert!(refused.text.contains("oauth.providers.crm"), "{}", refused.text);
}

/// A vendor's server sends the browser on to the operator's, with its own state: the code that comes
/// of it must not be presented at the vendor's.
async fn no_server_gets_the_code_of_another(backend: Backend) {
    let (server, crm) = world(backend, false).await;
    let package = with_connector(&server, false).with(|package| {
        package.manifest["TPAOauth"] = json!([{
            "name": "crm", "clientId": crm.client_id(), "clientSecret": CLIENT_SECRET,
            "authoriseUrl": crm.authorize_url(), "tokenUrl": crm.token_url(),
        }]);
    });
    let installation = server.active_package(&package, ORG).await;
    let body = json!({
        "installationId": installation.id, "connectionLinkName": "my_crm",
        "returnUrl": format!("{RETURN_ORIGIN}/back"),
    });
    let asked = server.callback("connect", &body).await.expect(200);
    let operators = server.client.url("/oauth/callback");
    let own = asked.text_of("redirectUri");
    assert!(own.starts_with(&format!("{operators}/")), "{own}");
    let address = url::Url::parse(&asked.text_of("authorizationUrl")).expect("a URL");
    let fields: BTreeMap<String, String> = address.query_pairs().into_owned().collect();
    assert_eq!(fields["redirect_uri"], own);
    let state = &fields["state"];
    // The browser that began, so that a cookie is there.
    let mut browser = Browser::new().expect("a browser");
    let start = url::Url::parse(&asked.text_of("startUrl")).expect("a URL");
    assert_eq!(browser.open(&start).await.expect("a page").status, 303);
    let at = |place: &str| {
        let address = format!("{place}?code=of-another&state={state}");
        url::Url::parse(&address).expect("a URL")
    };
    let elsewhere = format!("{operators}/{}", "0".repeat(32));
    for place in [&operators, &elsewhere] {
        for mut browser in [browser.clone(), Browser::new().expect("a browser")] {
            let page = browser.open(&at(place.as_str())).await.expect("a page");
            assert_eq!((page.status, page.location), (422, None), "{}", page.body);
        }
    }
    assert_eq!(crm.token_requests(), 0, "the code was presented nowhere");
    assert_eq!(server.provider.token_requests(), 1, "the installation's own");
    // Nothing was used up.
    crm.register_redirect_uri(own);
    let answer = server.consent(address.as_str()).await;
    let page = browser.open(&answer.redirect).await.expect("a page");
    assert_eq!(page.status, 303, "{}", page.body);
    assert_eq!(connection(&server, &installation, "my_crm").await["health"], "ok");
    // The place is the same for all versions, and the operator's servers have the common one.
    let body = json!({ "installationId": installation.id });
    let asked = server.callback("reauthorize", &body).await.expect(200);
    assert_eq!(asked.text_of("redirectUri"), operators);
}

async fn a_slow_provider_holds_nobody_else(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let installation = server.active_package(&with_connector(&server, true), ORG).await;
    let id: Uuid = installation.id.parse().expect("an id");
    let users: Vec<String> = (0..12).map(|number| format!("u-{number}")).collect();
    for user in &users {
        let body = json!({
            "installationId": installation.id, "connectionLinkName": "my_crm", "userId": user,
        });
        let asked = server.callback("connect", &body).await.expect(200);
        let answer = server.consent(&asked.text_of("authorizationUrl")).await;
        server.authorize(&installation.id, &answer).await.expect(200);
    }
    let asked_before = crm.token_requests();
    crm.conduct(|conduct| conduct.token_delay = Duration::from_secs(30));
    server.advance(Duration::from_secs(3_700));
    // More than its lane is wide wait for the slow one.
    let waiting: Vec<_> = users
        .iter()
        .map(|user| {
            let (connections, user) = (server.connections().clone(), user.clone());
            tokio::spawn(async move {
                connections.access_token(id, "my_crm", Some(&user), None).await.map(|_| ())
            })
        })
        .collect();
    eventually("its lane is full", || async {
        (crm.token_requests() >= asked_before + 8).then_some(())
    })
    .await;
    let clock = Clock::default();
    let began = clock.instant();
    let host = server.connections().access_token(id, HOST_CONNECTION, None, None).await;
    assert!(server.provider.is_live(host.expect("the host's").token.expose()));
    let took = clock.instant() - began;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(crm.token_requests() <= asked_before + 8, "its lane is not wider");
    for one in waiting {
        one.abort();
    }
}

async fn what_cannot_be_connected_is_said(backend: Backend) {
    let (server, crm) = world(backend, true).await;
    let package = with_connector(&server, false);
    server.publish(&package).await.expect(201);
    let pending = server.install(&package.key, ORG).await;
    let connect = |name: &str| json!({ "installationId": pending.id, "connectionLinkName": name });
    server.callback("connect", &connect("my_crm")).await.refused(409, "STATE_CONFLICT");
    let body = json!({ "installationId": pending.id });
    server.callback("reauthorize", &body).await.refused(409, "STATE_CONFLICT");
    let answer = server.consent(&pending.authorization_url).await;
    server.authorize(&pending.id, &answer).await.expect(200);
    let refused = server.callback("connect", &connect("my_krm")).await;
    let refused = refused.refused(422, "INVALID_DATA");
    assert!(refused.text.contains("my_crm"), "{}", refused.text);
    // The host's is authorised by install, and ends with it.
    server.callback("disconnect", &connect("mirror_desk")).await.refused(422, "INVALID_DATA");
    let body = json!({ "installationId": pending.id, "connection": "my_crm", "userId": "u-1" });
    server.callback("reauthorize", &body).await.refused(422, "INVALID_DATA");
    // Less than what was asked for is not kept.
    let asked = server.callback("connect", &connect("my_crm")).await.expect(200);
    crm.conduct(|conduct| conduct.grant_only = Some(vec!["contacts.read".to_owned()]));
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    let refused = server.authorize(&pending.id, &answer).await.refused(422, "UNPROCESSABLE_ENTITY");
    assert_eq!(refused.json["missingScopes"], json!(["contacts.write"]));
    assert_eq!(connection(&server, &pending, "my_crm").await["health"], "none");
    eventually("they are revoked", || async { crm.live_tokens().is_empty().then_some(()) }).await;
    // An earlier generation changes nothing, a gone installation nothing either.
    let body = json!({ "installationId": pending.id });
    server.callback("uninstall", &body).await.expect(200);
    server.callback("connect", &connect("my_crm")).await.refused(409, "STATE_CONFLICT");
    let gone = server.callback("disconnect", &connect("my_crm")).await.expect(200);
    assert_eq!(gone.json["disconnected"], false);
    let unknown = json!({ "installationId": Uuid::nil(), "connectionLinkName": "my_crm" });
    server.callback("connect", &unknown).await.refused(404, "RESOURCE_NOT_FOUND");
}
