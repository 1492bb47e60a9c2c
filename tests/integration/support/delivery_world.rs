//! An installed extension whose webhook points to a vendor on the loopback interface, and a host
//! that posts events.

use std::sync::Arc;
use std::time::Duration;

use mortise::development::Received;
use mortise::seam::Clock;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Answer;
use super::package::Package;
use super::server::{Backend, Installation, ORG, Settings, TestServer, eventually};

/// The path of the webhook of the usual package.
pub(crate) const HOOK: &str = "/hooks/desk";

/// How long a request may take to arrive.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A pause in which whatever is wrongly on its way would arrive: longer than every poll.
pub(crate) async fn a_while() {
    Clock::default().sleep(Duration::from_millis(900)).await;
}

/// A server with an active installation.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) host: String,
    pub(crate) installation: Installation,
    /// The id of the installation's webhook.
    pub(crate) webhook: String,
}

impl World {
    /// Starts with the usual package.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::with(backend, |_| {}, |_| {}).await
    }

    /// Starts with other settings and another package. Its callbacks are answered and forgotten.
    pub(crate) async fn with(
        backend: Backend,
        settings: impl FnOnce(&mut Settings),
        package: impl FnOnce(&mut Package),
    ) -> Self {
        let server = TestServer::start(backend, settings).await;
        let package = server.package().with(package);
        let installation = server.active_package(&package, ORG).await;
        let host = server.host().await;
        let webhook = webhook_of(&server, &installation).await;
        Self { server, host, installation, webhook }
    }

    /// Posts what is sent, as it is.
    pub(crate) async fn post_text(&self, text: &str) -> Answer {
        let client = &self.server.client;
        let request = client.request(Method::POST, "/api/v1/events", &self.host);
        let request = request.header("content-type", "application/json").body(text.to_owned());
        client.send(request).await
    }

    /// Posts one event or many.
    pub(crate) async fn post(&self, body: &Value) -> Answer {
        self.server.client.post("/api/v1/events", &self.host, body).await
    }

    /// Posts an event that must be accepted; says how many deliveries it made.
    pub(crate) async fn fans_out(&self, event: &Value) -> u64 {
        let answer = self.post(event).await.expect(202);
        answer.json["events"][0]["deliveries"].as_u64().expect("a number of deliveries")
    }

    /// Posts a `Ticket_Add` of a name that makes one delivery.
    pub(crate) async fn ticket(&self, id: &str) {
        assert_eq!(self.fans_out(&ticket(ORG, id)).await, 1, "{id}");
    }

    /// The deliveries of the webhook, newest first.
    pub(crate) async fn deliveries(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/deliveries?limit=200{query}");
        self.server.client.all(&path, &self.server.operator).await
    }

    /// Waits for the one delivery of an event to fulfil a condition.
    pub(crate) async fn delivery(&self, event: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/events/{event}?orgId={ORG}");
        eventually(&format!("the delivery of {event}"), async || {
            let answer = self.server.client.get(&path, &self.server.operator).await.expect(200);
            let delivery = &answer.json["webhooks"][0]["delivery"];
            (!delivery.is_null() && is_so(delivery)).then(|| delivery.clone())
        })
        .await
    }

    /// Waits until an event's delivery has had so many attempts.
    pub(crate) async fn attempted(&self, event: &str, attempts: u64) -> Value {
        self.delivery(event, |delivery| delivery["attemptsMade"] == attempts).await
    }

    /// Waits until an event's delivery is in a state.
    pub(crate) async fn in_state(&self, event: &str, state: &str) -> Value {
        self.delivery(event, |delivery| delivery["state"] == state).await
    }

    /// Waits until so many requests came to the webhook.
    pub(crate) async fn arrived(&self, wanted: usize) -> Vec<Arc<Received>> {
        let arrived = self.server.vendor.wait_for_path(HOOK, wanted, SOON).await;
        arrived.expect("the deliveries arrive")
    }

    /// The webhook, as the operator sees it.
    pub(crate) async fn webhook(&self) -> Value {
        let path = format!("/api/v1/webhooks/{}", self.webhook);
        self.server.client.get(&path, &self.server.operator).await.expect(200).json
    }

    /// Waits until the webhook's health is so.
    pub(crate) async fn health(&self, health: &str) {
        eventually(&format!("health {health}"), async || {
            (self.webhook().await["health"]["state"] == health).then_some(())
        })
        .await;
    }

    /// The secret that signs deliveries.
    pub(crate) async fn secret(&self) -> String {
        let path = "/api/v1/extensions/ticket-mirror/signing-secret";
        self.server.client.get(path, &self.server.operator).await.expect(200).text_of("secret")
    }
}

/// The id of the webhook of an installation.
pub(crate) async fn webhook_of(server: &TestServer, installation: &Installation) -> String {
    let webhooks = server.installation(&installation.id).await["webhooks"].clone();
    webhooks[0]["id"].as_str().expect("the installation has a webhook").to_owned()
}

/// A `Ticket_Add` whose event and ticket have the same id.
pub(crate) fn ticket(org: &str, id: &str) -> Value {
    json!({ "eventId": id, "eventType": "Ticket_Add", "orgId": org, "payload": { "id": id } })
}

/// The tickets in requests, in the order of arrival.
pub(crate) fn tickets(received: &[Arc<Received>]) -> Vec<String> {
    received
        .iter()
        .map(|received| {
            let body = received.json().expect("a body of JSON");
            body[0]["payload"]["id"].as_str().expect("the ticket has an id").to_owned()
        })
        .collect()
}

/// Asserts that every one of these tickets arrived once at least.
#[track_caller]
pub(crate) fn assert_all_there(received: &[Arc<Received>], wanted: &[String]) {
    let there: std::collections::BTreeSet<String> = tickets(received).into_iter().collect();
    let missing: Vec<_> = wanted.iter().filter(|id| !there.contains(*id)).collect();
    assert!(missing.is_empty(), "{} are missing: {missing:?}", missing.len());
}
