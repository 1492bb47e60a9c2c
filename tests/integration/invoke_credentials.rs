//! Tokens of connections go where they were granted for, whatever a vendor makes of a connection's
//! name afterwards.

use std::time::Duration;

use mortise::development::{
    Behaviour, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
};
use serde_json::{Value, json};

use crate::support::delivery_world::{SOON, a_while};
use crate::support::invoke_world::{InvokeWorld, inner};
use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, eventually};

on_both!(
    a_token_does_not_follow_its_name_to_where_an_upgrade_leads_it,
    a_token_that_was_granted_elsewhere_stays_here,
    a_call_under_way_gets_no_token_of_what_came_after_it,
    a_name_leads_to_one_connection,
    a_token_that_comes_back_is_not_handed_out,
);

async fn crm() -> DevelopmentAuthorizationServer {
    let options = DevelopmentAuthorizationServerOptions {
        client_id: "crm-client".to_owned(),
        client_secret: "client-secret-of-the-vendor".to_owned(),
        ..Default::default()
    };
    DevelopmentAuthorizationServer::start(options).await.expect("it starts")
}

/// The entry of `TPAOauth` for a server, whose tokens come from `token_url`.
fn own_server(package: &mut Package, crm: &DevelopmentAuthorizationServer, token_url: &str) {
    package.manifest["TPAOauth"] = json!([{
        "name": "crm", "clientId": crm.client_id(), "clientSecret": crm.client_secret(),
        "authoriseUrl": crm.authorize_url(), "tokenUrl": token_url, "revokeUrl": crm.revoke_url(),
        "params": { "scope": "contacts.read" },
    }]);
}

/// Connects a connection of the installation.
async fn connect(world: &InvokeWorld, name: &str, at: Option<&DevelopmentAuthorizationServer>) {
    let server = &world.world.server;
    let id = &world.world.installation.id;
    let body = json!({ "installationId": id, "connectionLinkName": name });
    let asked = server.callback("connect", &body).await.expect(200);
    if let Some(own) = at {
        own.register_redirect_uri(asked.text_of("redirectUri"));
    }
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(id, &answer).await.expect(200);
}

async fn a_token_does_not_follow_its_name_to_where_an_upgrade_leads_it(backend: Backend) {
    let crm = crm().await;
    let world =
        InvokeWorld::with(backend, |_| {}, |package| own_server(package, &crm, &crm.token_url()))
            .await;
    let server = &world.world.server;
    connect(&world, "crm", Some(&crm)).await;
    let call = async |url: &str| world.call_with("GET", url, "connectionLinkName", "crm").await;
    let at_home = format!("{}/api/v1/contacts", crm.issuer());
    assert_eq!(inner(&call(&at_home).await)["statusCode"], 200);
    assert!(crm.api_calls()[0].authorized, "with the customer's token");
    // The vendor leads the name to a server of his choice; nobody is asked, since nothing grows.
    let stranger = world.stranger.url("/token");
    let moved = server.package().version("2.0.0").with(|package| {
        own_server(package, &crm, &stranger);
    });
    server.publish(&moved).await.expect(201);
    let body = json!({ "installationId": world.world.installation.id, "version": "2.0.0" });
    let done = server.callback("upgrade", &body).await.expect(200);
    assert_eq!(done.json["version"], "2.0.0", "{}", done.text);
    call(&world.stranger.url("/contacts")).await.refused(409, "CONNECTION_BROKEN");
    call(&at_home).await.refused(409, "CONNECTION_BROKEN");
    a_while().await;
    assert_eq!(world.stranger.connections(), 0, "no packet went there");
    eventually("the tokens are revoked", async || crm.live_tokens().is_empty().then_some(())).await;
}

/// Whatever else went wrong: the row of a token says whose it is, and that is asked last.
async fn a_token_that_was_granted_elsewhere_stays_here(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    connect(&world, "chat", None).await;
    let chat = async || {
        let url = world.chat.url("/messages");
        world.call_with("POST", &url, "connectionLinkName", "chat").await
    };
    assert_eq!(chat().await.status, 200);
    assert_eq!(world.get("/api/v1/tickets/1").await.status, 200);
    let calls = server.provider.api_calls().len();
    for (name, service) in [("chat", "zlabs_integration"), ("zohoAuthorisation", "chat")] {
        let moved =
            format!("update connections set service_name = '{service}' where name = '{name}'");
        server.execute(&moved).await;
    }
    let refused = chat().await.refused(409, "CONNECTION_BROKEN");
    assert!(refused.text.contains("another service"), "{}", refused.text);
    world.get("/api/v1/tickets/1").await.refused(409, "CONNECTION_BROKEN");
    assert_eq!(world.chat.count(), 1, "nothing more went there");
    assert_eq!(server.provider.api_calls().len(), calls);
}

/// A call that began with one version gets a 401 when another serves: the token that the name stands
/// for by then is another service's.
async fn a_call_under_way_gets_no_token_of_what_came_after_it(backend: Backend) {
    let settings = |settings: &mut crate::support::server::Settings| {
        for name in ["authorize_url", "token_url", "revoke_url", "client_id", "client_secret"] {
            let value = settings.get(&format!("oauth.providers.zlabs_integration.{name}"));
            settings.set(&format!("oauth.providers.crm.{name}"), value);
        }
        settings.set("oauth.providers.crm.api_origins", "http://127.0.0.1:1");
    };
    let world = InvokeWorld::with(backend, settings, |_| {}).await;
    let server = &world.world.server;
    let id = &world.world.installation.id;
    connect(&world, "chat", None).await;
    let slow = Behaviour::status(401).after(Duration::from_secs(6));
    world.chat.behave("/slow", slow);
    let url = world.chat.url("/slow");
    let (answer, ()) =
        tokio::join!(world.call_with("GET", &url, "connectionLinkName", "chat"), async {
            world.chat.wait_for_path("/slow", 1, SOON).await.expect("it is under way");
            let moved = server.package().version("2.0.0").with(|package| {
                package.manifest["connectors"] = json!([{
                    "connectionName": "Chat", "serviceName": "crm", "connectionLinkName": "chat",
                    "scope": ["contacts.read"],
                }]);
            });
            server.publish(&moved).await.expect(201);
            let body = json!({ "installationId": id, "version": "2.0.0" });
            let waits = server.callback("upgrade", &body).await.expect(200);
            assert_eq!(waits.json["consentRequired"], true, "{}", waits.text);
            let shown = server.installation(id).await["waitingUpgrade"].clone();
            let body = json!({
                "installationId": id, "consentId": waits.text_of("consentId"),
                "digest": shown["digest"], "grantedBy": "user-7",
            });
            server.callback("consent", &body).await.expect(200);
            connect(&world, "chat", None).await;
        });
    let answer = answer.refused(409, "CONNECTION_BROKEN");
    assert!(answer.text.contains("another service"), "{}", answer.text);
    assert_eq!(world.chat.received_at("/slow").len(), 1, "the second service's token stayed here");
}

async fn a_name_leads_to_one_connection(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    let server = &world.world.server;
    let connector = |name: &str, link_name: &str| json!({ "connectionName": name, "serviceName": name, "connectionLinkName": link_name });
    for (connectors, code, pointer) in [
        (
            json!([connector("one", "x"), connector("two", "x")]),
            "connection.link-name-duplicate",
            "/connectors/1/connectionLinkName",
        ),
        (
            json!([connector("one", "mirror_desk")]),
            "connection.link-name-duplicate",
            "/connectors/0/connectionLinkName",
        ),
        (
            json!([connector("one", "zohoAuthorisation")]),
            "connection.name-reserved",
            "/connectors/0/connectionLinkName",
        ),
    ] {
        let package = server.package().version("2.0.0").with(|package| {
            package.manifest["connectors"] = connectors;
        });
        let refused = server.publish(&package).await.expect(422);
        let errors: Vec<(&Value, &Value)> = refused.json["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|error| (&error["code"], &error["pointer"]))
            .collect();
        assert_eq!(errors, [(&json!(code), &json!(pointer))], "{}", refused.text);
    }
    // Nor does an authorisation server that the manifest brings, where there is no host to hide it.
    let crm = crm().await;
    let package = server.package().version("2.0.0").without_authorization().with(|package| {
        own_server(package, &crm, &crm.token_url());
        package.manifest["TPAOauth"][0]["name"] = "zohoAuthorisation".into();
    });
    let refused = server.publish(&package).await.expect(422);
    assert_eq!(refused.json["errors"][0]["code"], "connection.name-reserved", "{}", refused.text);
}

async fn a_token_that_comes_back_is_not_handed_out(backend: Backend) {
    let world = InvokeWorld::start(backend).await;
    connect(&world, "chat", None).await;
    world.chat.behave("/echo", Behaviour::Echo);
    let url = world.chat.url("/echo");
    let answer = world.call_with("GET", &url, "connectionLinkName", "chat").await;
    let told = inner(&answer);
    assert_eq!(told["headers"]["x-echo"], "Chat-token ***");
    let said: Value = serde_json::from_str(told["body"].as_str().expect("a text")).expect("JSON");
    assert_eq!(said["headers"]["authorization"], "Chat-token ***");
    assert_eq!(said["headers"]["accept-encoding"], "identity", "coded, it would not be found");
    let sent = world.chat.received()[0].header("authorization").expect("a token").to_owned();
    let token = sent.strip_prefix("Chat-token ").expect("the scheme");
    assert!(!answer.text.contains(token));
}
