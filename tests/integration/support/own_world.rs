//! A server with an org that has webhooks of its own, and a host that posts events.

use std::sync::Arc;

use mortise::development::Received;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Answer;
use super::delivery_world::SOON;
use super::server::{Backend, ORG, Settings, TestServer, eventually};

/// The path of the webhooks.
pub(crate) const WEBHOOKS: &str = "/api/v1/webhooks";

/// A server, its host, and an administrator of one org.
#[derive(Debug)]
pub(crate) struct OwnWorld {
    pub(crate) server: TestServer,
    pub(crate) host: String,
    pub(crate) admin: String,
}

impl OwnWorld {
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::with(backend, |_| {}).await
    }

    pub(crate) async fn with(backend: Backend, settings: impl FnOnce(&mut Settings)) -> Self {
        let server = TestServer::start(backend, settings).await;
        let (host, admin) = (server.host().await, server.admin(ORG).await);
        Self { server, host, admin }
    }

    /// A path of one webhook.
    pub(crate) fn path(id: &str, rest: &str) -> String {
        format!("{WEBHOOKS}/{id}{rest}")
    }

    /// Makes a webhook at a path of the receiver; `more` is put over it.
    pub(crate) async fn try_make(&self, receiver: &str, more: &Value) -> Answer {
        let mut body = json!({
            "url": self.server.vendor.url(receiver), "subscriptions": { "Ticket_Add": null },
        });
        for (name, value) in more.as_object().expect("members") {
            body[name] = value.clone();
        }
        self.server.client.post(WEBHOOKS, &self.admin, &body).await
    }

    /// The same where it must succeed; says its id.
    pub(crate) async fn make(&self, receiver: &str, more: Value) -> String {
        self.try_make(receiver, &more).await.expect(201).text_of("id")
    }

    /// Changes a webhook as the administrator.
    pub(crate) async fn patch(&self, id: &str, change: &Value) -> Answer {
        let path = Self::path(id, "");
        self.server.client.call(Method::PATCH, &path, &self.admin, Some(change)).await
    }

    /// Does something with a webhook as the administrator.
    pub(crate) async fn act(&self, id: &str, action: &str, body: &Value) -> Answer {
        self.server.client.post(&Self::path(id, action), &self.admin, body).await
    }

    /// Reads a webhook as the administrator.
    pub(crate) async fn read(&self, id: &str) -> Value {
        self.server.client.get(&Self::path(id, ""), &self.admin).await.expect(200).json
    }

    /// Posts an event that must be accepted; says how many deliveries it made.
    pub(crate) async fn fans_out(&self, event: &Value) -> u64 {
        let answer = self.server.client.post("/api/v1/events", &self.host, event).await.expect(202);
        answer.json["events"][0]["deliveries"].as_u64().expect("a number of deliveries")
    }

    /// Waits until so many requests came to a path of the receiver.
    pub(crate) async fn arrived(&self, receiver: &str, wanted: usize) -> Vec<Arc<Received>> {
        let arrived = self.server.vendor.wait_for_path(receiver, wanted, SOON).await;
        arrived.expect("the deliveries arrive")
    }

    /// The deliveries of a webhook as its administrator sees them, newest first.
    pub(crate) async fn deliveries(&self, id: &str) -> Vec<Value> {
        let path = format!("/api/v1/deliveries?limit=200&webhookId={id}");
        self.server.client.all(&path, &self.admin).await
    }

    /// Waits until all deliveries of a webhook are in a state, and are so many.
    pub(crate) async fn settled(&self, id: &str, state: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} deliveries {state}"), async || {
            let all = self.deliveries(id).await;
            let is_so = all.len() == count && all.iter().all(|one| one["state"] == state);
            is_so.then_some(all)
        })
        .await
    }

    /// What an event made of a webhook.
    pub(crate) async fn verdict(&self, event: &str, id: &str) -> Value {
        let path = format!("/api/v1/events/{event}");
        let told = self.server.client.get(&path, &self.admin).await.expect(200).json;
        let webhooks = told["webhooks"].as_array().expect("webhooks").clone();
        webhooks.into_iter().find(|one| one["webhookId"] == id).expect("the webhook is told of")
    }

    /// The notices of a kind, as the administrator sees them.
    pub(crate) async fn notices(&self, kind: &str) -> Vec<Value> {
        let all = self.server.client.all("/api/v1/notices", &self.admin).await;
        all.into_iter().filter(|one| one["kind"] == kind).collect()
    }
}

/// An event whose id is the ticket's.
pub(crate) fn event(event_type: &str, id: &str) -> Value {
    json!({ "eventId": id, "eventType": event_type, "orgId": ORG, "payload": { "id": id } })
}
