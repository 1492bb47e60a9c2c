//! An administrator sees an extension's webhook and finds nothing that changes it: no control in any
//! page, and no request of any page's kind.

use mortise::api::Role;
use mortise::web::{Visitors, table};
use reqwest::Method;
use serde_json::{Value, json};

use super::visitor::{Visitor, forms};
use crate::support::delivery_world::World;
use crate::support::on_both;
use crate::support::server::{Backend, ORG};

on_both!(
    no_control_of_an_administrator_touches_an_extensions_webhook,
    no_request_of_an_administrator_touches_an_extensions_webhook,
);

async fn no_control_of_an_administrator_touches_an_extensions_webhook(backend: Backend) {
    let world = World::start(backend).await;
    world.ticket("t-1").await;
    let delivery =
        world.in_state("t-1", "delivered").await["id"].as_str().expect("an id").to_owned();
    let pages = [
        "/pages".to_owned(),
        "/pages/webhooks".to_owned(),
        format!("/pages/webhooks/{}", world.webhook),
        format!("/pages/deliveries/{delivery}"),
        "/pages/deliveries".to_owned(),
        "/pages/events/t-1".to_owned(),
    ];
    let ada = Visitor::admin(&world.server, ORG).await;
    for path in &pages {
        let html = ada.get(path).await.expect(200).text;
        for form in forms(&html) {
            let is_harmless = form.method == "get"
                || form.action == "/sign-out"
                || form.action.starts_with("/pages/notices/");
            assert!(is_harmless, "{path}: {form:?}");
        }
        assert!(!html.contains(&format!("/pages/webhooks/{}/test", world.webhook)), "{path}");
    }
    let page = ada.get(&pages[2]).await.text;
    assert!(page.contains("Locked. Belongs to") && page.contains("Ticket Mirror"), "{page}");
    // The owner of the extension has them, so the test would see them.
    let vic = Visitor::vendor(&world.server, "acme").await;
    let actions: Vec<String> =
        forms(&vic.get(&pages[2]).await.text).into_iter().map(|form| form.action).collect();
    for step in ["ping", "recover"] {
        assert!(
            actions.contains(&format!("/pages/webhooks/{}/{step}", world.webhook)),
            "{actions:?}"
        );
    }
}

/// What is kept of webhooks and deliveries, but for what changes by itself.
async fn kept(world: &World) -> (Vec<Value>, Vec<String>) {
    let webhooks = world.server.webhooks(ORG).await;
    let mut deliveries =
        world.server.texts("select cast(attempts as text) from deliveries order by id").await;
    deliveries.extend(world.server.texts("select action from audit where action not like 'session.%' and action not like 'portal%' order by sequence").await);
    (webhooks, deliveries)
}

async fn no_request_of_an_administrator_touches_an_extensions_webhook(backend: Backend) {
    let world = World::start(backend).await;
    world.ticket("t-1").await;
    let delivery =
        world.in_state("t-1", "delivered").await["id"].as_str().expect("an id").to_owned();
    // A job of the vendor's, which an administrator must not call off.
    let path = format!("/api/v1/webhooks/{}/recover", world.webhook);
    let body = json!({ "since": "2020-01-01T00:00:00Z", "state": "failed" });
    let job = world.server.client.post(&path, &world.server.operator, &body).await.expect(202);
    let job = job.text_of("jobId");
    for visitor in
        [Visitor::admin(&world.server, ORG).await, Visitor::viewer(&world.server, ORG).await]
    {
        let token = visitor.form_token().await;
        let before = kept(&world).await;
        let mut tried = 0;
        for route in table() {
            let Visitors::Roles(roles) = route.visitors else { continue };
            if route.method != Method::POST || !roles.contains(&Role::Admin) {
                continue;
            }
            // Those of an installation and of notices are the org's own to decide.
            let id = match route.path {
                path if path.starts_with("/pages/webhooks/") => &world.webhook,
                path if path.starts_with("/pages/deliveries/") => &delivery,
                path if path.starts_with("/pages/jobs/") => &job,
                _ => continue,
            };
            tried += 1;
            let fields = [
                ("csrf", token.as_str()),
                ("key", ""),
                ("type", "Ticket_Add"),
                ("since", "2020-01-01T00:00"),
                ("state", "delivered"),
                ("release", "yes"),
            ];
            let refused = visitor.send(&route.path.replace("{id}", id), &fields).await;
            // An administrator is told that it is locked; for a viewer there is no such page.
            assert!([403, 404].contains(&refused.status), "{}: {}", route.path, refused.text);
        }
        assert!(tried >= 6, "{tried}");
        let before_page = format!("/pages/webhooks/{}/test", world.webhook);
        visitor.get(&before_page).await.expect(404);
        assert_eq!(kept(&world).await, before, "nothing changed");
    }
    assert_eq!(
        world
            .server
            .vendor
            .wait_for_path("/hooks/desk", 1, std::time::Duration::from_secs(1))
            .await
            .expect("the first")
            .len(),
        1
    );
}
