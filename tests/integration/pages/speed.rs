//! A page takes the same short time however long the history is.

use std::time::Duration;

use mortise::seam::Clock;

use super::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::on_both;
use crate::support::server::{Backend, ORG};

on_both!(pages_are_quick_with_a_long_history);

/// How long a page may take in a program without optimisation, on a machine that does other things
/// too; a release takes a small part of it (docs/PAGES.md).
const LIMIT: Duration = Duration::from_millis(250);

async fn pages_are_quick_with_a_long_history(backend: Backend) {
    let world = World::start(backend).await;
    world.ticket("t-1").await;
    world.in_state("t-1", "delivered").await;
    let webhook: uuid::Uuid = world.webhook.parse().expect("an id");
    world.server.fill_history(webhook, ORG, 100_000).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let clock = Clock::default();
    for path in [
        "/pages".to_owned(),
        "/pages/webhooks".to_owned(),
        format!("/pages/webhooks/{webhook}"),
        format!("/pages/webhooks/{webhook}?state=delivered"),
        "/pages/deliveries".to_owned(),
        format!("/pages/installations/{}", world.installation.id),
    ] {
        let mut quickest = Duration::MAX;
        for _ in 0..5 {
            let began = clock.instant();
            ada.get(&path).await.expect(200);
            quickest = quickest.min(clock.instant() - began);
        }
        println!("{path}: {quickest:?}");
        assert!(quickest < LIMIT, "{path}: {quickest:?}");
    }
}
