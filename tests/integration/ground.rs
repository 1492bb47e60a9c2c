//! The ground that the other tests stand on: a server starts, serves the main way and stops.

use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer};

on_both!(a_server_serves_the_main_way, what_was_made_outlives_a_restart);

async fn a_server_serves_the_main_way(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.client.get("/health/live", "").await.expect(200);
    server.client.get("/health/ready", "").await.expect(200);
    let installation = server.active(ORG).await;
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["state"], "active");
    assert_eq!(seen["orgId"], ORG);
    let webhooks = server.webhooks(ORG).await;
    assert_eq!(webhooks.len(), 1, "{webhooks:?}");
    assert_eq!(webhooks[0]["type"], "EXTENSION_WEBHOOK");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_was_made_outlives_a_restart(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    let before = server.installation(&installation.id).await;
    let server = server.restart().await;
    assert_eq!(server.installation(&installation.id).await, before);
    assert_eq!(server.webhooks(ORG).await.len(), 1);
}
