//! Extensions that are published, installed and authorised.

use futures_util::{StreamExt as _, TryStreamExt as _};
use mortise::development::{Browser, Decision};
use serde_json::{Value, json};

use super::api::text;
use super::event::org;
use super::receiver::Receiver;
use super::server::Server;
use super::{Failure, Outcome};

/// How many installations are made at a time.
const AT_A_TIME: usize = 16;

/// The key of an extension by its number.
fn key(number: usize) -> String {
    format!("bench-{number}")
}

/// A package whose webhook is at `/hooks/<number>` of the receiver.
fn package(number: usize, receiver: &str) -> Value {
    json!({
        "key": key(number),
        "name": "Bench",
        "version": "1.0.0",
        "vendor": "acme",
        "manifest": {
            "locale": ["en"],
            "service": "DESK",
            "storage": true,
            "type": "org",
            "whiteListedDomains": ["https://bench.example.com"],
            "modules": { "widgets": [{
                "name": "Bench", "title": "Bench", "url": "/app/widget.html",
                "location": "desk.ticket.detail.rightpanel",
                "logo": "/app/icon.svg", "icon": "/app/icon.svg",
            }] },
            "cspDomains": { "connect-src": ["https://bench.example.com"] },
            "zohoAuthorisation": {
                "type": "connectors",
                "connectionLinkName": "bench_desk",
                "connectionName": "BenchDesk",
                "serviceName": "zlabs_integration",
                "userAccess": true,
                "isUserDefinedService": false,
                "sharedBy": "1",
                "scope": ["Desk.events.ALL", "Desk.tickets.READ"],
            },
            "connectors": [],
            "config": [],
            "secret": "a-manifest-secret-of-the-benchmark",
        },
        "resources": { "webhook": {
            "resourceName": "bench",
            "name": "Bench",
            "description": "Receives tickets.",
            "url": format!("{receiver}/hooks/{number}"),
            "subscriptions": { "Ticket_Add": null },
            "ignoreSourceId": "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13",
        } },
    })
}

/// Publishes so many extensions and tells the receiver their secrets.
pub(crate) async fn publish(server: &Server, receiver: &Receiver, count: usize) -> Outcome<()> {
    for number in 0..count {
        server.operator.post("/api/v1/extensions", &package(number, &receiver.origin())).await?;
        let path = format!("/api/v1/extensions/{}/signing-secret", key(number));
        let answer = server.operator.get(&path).await?;
        receiver.know(&format!("/hooks/{number}"), text(&answer, "secret")?.to_owned());
    }
    Ok(())
}

/// Installs so many extensions in so many orgs and authorises them.
pub(crate) async fn install(server: &Server, extensions: usize, orgs: usize) -> Outcome<()> {
    let pairs = (0..orgs).flat_map(|org| (0..extensions).map(move |extension| (extension, org)));
    install_all(server, pairs).await
}

/// Installs the first extension in so many orgs from one on.
pub(crate) async fn install_from(server: &Server, first: usize, orgs: usize) -> Outcome<()> {
    install_all(server, (first..first + orgs).map(|org| (0, org))).await
}

async fn install_all(server: &Server, pairs: impl Iterator<Item = (usize, usize)>) -> Outcome<()> {
    let browser = Browser::new()?;
    futures_util::stream::iter(pairs)
        .map(|(extension, org)| install_one(server, browser.clone(), extension, org))
        .buffer_unordered(AT_A_TIME)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn install_one(
    server: &Server,
    mut browser: Browser,
    extension: usize,
    number: usize,
) -> Outcome<()> {
    let body = json!({ "extensionKey": key(extension), "orgId": org(number) });
    let installed = server.operator.post("/api/v1/callbacks/install", &body).await?;
    let id = text(&installed, "installationId")?;
    let answer = browser.consent(text(&installed, "authorizationUrl")?, Decision::Approve).await?;
    let body = json!({ "installationId": id, "code": answer.code, "state": answer.state });
    let active = server.operator.post("/api/v1/callbacks/authorize", &body).await?;
    if text(&active, "state")? == "active" {
        Ok(())
    } else {
        Err(Failure::from(format!("an installation is not active: {active}")))
    }
}

/// A token that may post events.
pub(crate) async fn host_token(server: &Server) -> Outcome<String> {
    let answer = server.operator.post("/api/v1/tokens", &json!({ "role": "host" })).await?;
    Ok(text(&answer, "token")?.to_owned())
}
