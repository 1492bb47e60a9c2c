//! Those who see many orgs look for the deliveries of one.

use serde_json::Value;

use super::visitor::Visitor;
use crate::support::delivery_world::{World, ticket};
use crate::support::on_both;
use crate::support::server::{Backend, ORG};

on_both!(deliveries_are_looked_for_by_org);

async fn deliveries_are_looked_for_by_org(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    server.active("2").await;
    world.ticket("t-1").await;
    for id in ["t-2", "t-3"] {
        assert_eq!(world.fans_out(&ticket("2", id)).await, 1);
    }
    let vendor = server.vendor_token("acme").await;
    let orgs = async |token: &str, query: &str| {
        let rows = server.client.all(&format!("/api/v1/deliveries?limit=1{query}"), token).await;
        let org = |row: &Value| row["orgId"].as_str().expect("an org").to_owned();
        rows.iter().map(org).collect::<Vec<_>>()
    };
    for token in [&server.operator, &vendor] {
        assert_eq!(orgs(token, "").await.len(), 3);
        assert_eq!(orgs(token, "&orgId=2").await, ["2", "2"]);
        assert_eq!(orgs(token, &format!("&orgId={ORG}")).await, [ORG]);
        assert_eq!(orgs(token, "&orgId=3").await, Vec::<String>::new());
        let other = format!("&orgId=2&webhookId={}", world.webhook);
        assert_eq!(orgs(token, &other).await, Vec::<String>::new(), "both have to hold");
    }
    // Who belongs to an org may name it, and no other.
    let admin = server.admin("2").await;
    assert_eq!(orgs(&admin, "&orgId=2").await, ["2", "2"]);
    let refused = server.client.get(&format!("/api/v1/deliveries?orgId={ORG}"), &admin).await;
    refused.refused(403, "OAUTH_ORG_MISMATCH");
    // On the pages there is a field for it, where there is more than one org to see.
    let rows = |html: &str| html.matches("data-label=\"Event\"").count();
    for visitor in [Visitor::operator(server).await, Visitor::vendor(server, "acme").await] {
        let all = visitor.get("/pages/deliveries").await.expect(200).text;
        assert!(all.contains("name=\"org\"") && rows(&all) == 3, "{all}");
        let some = visitor.get("/pages/deliveries?org=2").await.expect(200).text;
        assert!(some.contains("name=\"org\" value=\"2\"") && rows(&some) == 2, "{some}");
    }
    let own = Visitor::admin(server, "2").await.get("/pages/deliveries").await.expect(200).text;
    assert!(!own.contains("name=\"org\"") && rows(&own) == 2, "{own}");
}
