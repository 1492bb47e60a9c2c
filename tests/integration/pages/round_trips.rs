//! What a page costs the database with a long history: statements, each a round trip to PostgreSQL,
//! and rows that come back. Both are bounded however much was delivered.

use std::time::Duration;

use mortise::seam::Clock;
use serde_json::json;

use super::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::postgres::database;
use crate::support::server::{Backend, ORG};
use crate::support::statements::Statements;

/// The most statements of a page, its session among them.
const MOST_STATEMENTS: usize = 22;

/// The most rows that come back for a page: 300 tell how long answers take.
const MOST_ROWS: u64 = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_costs_the_same_however_long_the_history_is() {
    let Some(database) = database().await else { return };
    let statements = Statements::count();
    let world = World::start(Backend::Postgres(database)).await;
    world.ticket("t-1").await;
    world.in_state("t-1", "delivered").await;
    let admin = world.server.admin(ORG).await;
    let own = json!({
        "name": "Own", "url": world.server.vendor.url("/own"), "subscriptions": { "Contact_Add": null },
    });
    let own = world.server.client.post("/api/v1/webhooks", &admin, &own).await.expect(201);
    let own = own.text_of("id");
    let webhook: uuid::Uuid = world.webhook.parse().expect("an id");
    world.server.fill_history(webhook, ORG, 100_000).await;
    let newest = format!("/api/v1/deliveries?webhookId={webhook}&limit=1");
    let newest = world.server.client.get(&newest, &admin).await.expect(200);
    let delivery = newest.json["data"][0]["id"].as_str().expect("an id").to_owned();
    let ada = Visitor::admin(&world.server, ORG).await;
    let vic = Visitor::vendor(&world.server, "acme").await;
    let otto = Visitor::operator(&world.server).await;
    let everybody = [
        "/pages".to_owned(),
        "/pages/notices".to_owned(),
        "/pages/webhooks".to_owned(),
        format!("/pages/webhooks/{webhook}"),
        format!("/pages/webhooks/{webhook}?state=delivered"),
        format!("/pages/webhooks/{webhook}?state=cancelled"),
        format!("/pages/webhooks/{webhook}?status=599"),
        format!("/pages/webhooks/{webhook}?type=Nothing_Like_It"),
        "/pages/deliveries".to_owned(),
        "/pages/deliveries?type=Nothing_Like_It".to_owned(),
        format!("/pages/deliveries/{delivery}"),
        "/pages/jobs".to_owned(),
        "/pages/installations".to_owned(),
        format!("/pages/installations/{}", world.installation.id),
        "/pages/event-types".to_owned(),
    ];
    let of_org = [
        format!("/pages/webhooks/{own}"),
        format!("/pages/webhooks/{own}/edit"),
        format!("/pages/webhooks/{own}/test"),
        format!("/pages/events/t-1?org={ORG}"),
        format!("/pages/rules?org={ORG}"),
    ];
    let of_vendor = ["/pages/journal".to_owned(), "/pages/extensions/ticket-mirror".to_owned()];
    let of_operator = ["/pages/audit", "/pages/tokens", "/pages/findings"].map(str::to_owned);
    let clock = Clock::default();
    for (role, visitor, paths) in [
        ("admin", &ada, everybody.iter().chain(&of_org).collect::<Vec<_>>()),
        ("vendor", &vic, everybody.iter().chain(&of_vendor).collect()),
        (
            "operator",
            &otto,
            everybody.iter().chain(&of_org).chain(&of_vendor).chain(&of_operator).collect(),
        ),
    ] {
        for path in paths {
            visitor.get(path).await.expect(200);
            drop(statements.take_all());
            let began = clock.instant();
            visitor.get(path).await.expect(200);
            let took: Duration = clock.instant() - began;
            let (made, rows) = statements.take_all();
            println!("{role:<9}{:>4} statements {rows:>5} rows {took:>10.2?}  {path}", made.len());
            let listed = made.join("\n  ");
            assert!(!made.is_empty(), "{role} {path}: the statements were counted");
            assert!(
                made.len() <= MOST_STATEMENTS,
                "{role} {path} makes {} statements, and may make {MOST_STATEMENTS}:\n  {listed}",
                made.len()
            );
            assert!(rows <= MOST_ROWS, "{role} {path} reads {rows} rows:\n  {listed}");
        }
    }
}
