//! A page takes the same short time however long the history is, and however little of it is looked
//! for: for an administrator, a vendor and the operator.

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

/// How often a page that took longer is asked for again, since others may have had the machine.
const TURNS: usize = 6;

async fn pages_are_quick_with_a_long_history(backend: Backend) {
    let world = World::start(backend).await;
    world.ticket("t-1").await;
    world.in_state("t-1", "delivered").await;
    let webhook: uuid::Uuid = world.webhook.parse().expect("an id");
    world.server.fill_history(webhook, ORG, 100_000).await;
    let everybody = [
        "/pages".to_owned(),
        "/pages/webhooks".to_owned(),
        format!("/pages/webhooks/{webhook}"),
        format!("/pages/webhooks/{webhook}?state=delivered"),
        // What matches nothing walks as far as a page may.
        format!("/pages/webhooks/{webhook}?state=cancelled"),
        format!("/pages/webhooks/{webhook}?status=599"),
        format!("/pages/webhooks/{webhook}?type=Ticket_Delete"),
        "/pages/deliveries".to_owned(),
        "/pages/deliveries?state=held&type=Ticket_Delete".to_owned(),
        format!("/pages/deliveries?installation={}", world.installation.id),
        "/pages/jobs".to_owned(),
        format!("/pages/installations/{}", world.installation.id),
    ];
    let over_orgs =
        [format!("/pages/deliveries?org={ORG}&status=599"), "/pages/deliveries?org=1".to_owned()];
    let of_owner = ["/pages/journal".to_owned(), "/pages/extensions/ticket-mirror".to_owned()];
    let of_operator = ["/pages/audit?action=nothing", "/pages/tokens"].map(str::to_owned);
    let ada = Visitor::admin(&world.server, ORG).await;
    let vic = Visitor::vendor(&world.server, "acme").await;
    let otto = Visitor::operator(&world.server).await;
    let clock = Clock::default();
    let owners = everybody.iter().chain(&over_orgs).chain(&of_owner);
    for (role, visitor, paths) in [
        ("admin", &ada, everybody.iter().collect::<Vec<_>>()),
        ("vendor", &vic, owners.clone().collect()),
        ("operator", &otto, owners.chain(&of_operator).collect()),
    ] {
        for path in paths {
            let mut quickest = Duration::MAX;
            for _ in 0..TURNS {
                let began = clock.instant();
                visitor.get(path).await.expect(200);
                quickest = quickest.min(clock.instant() - began);
                if quickest < LIMIT {
                    break;
                }
            }
            println!("{role} {path}: {quickest:?}");
            assert!(quickest < LIMIT, "{role} {path}: {quickest:?}");
        }
    }
}
