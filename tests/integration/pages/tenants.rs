//! Whatever belongs to another org or vendor is not there: every page that names a thing is asked for
//! the real thing of somebody else, and every form about it is sent.

use mortise::api::Role;
use mortise::web::{Visitors, table};
use reqwest::Method;
use serde_json::{Value, json};

use super::visitor::Visitor;
use crate::support::delivery_world::World;
use crate::support::on_both;
use crate::support::server::{Backend, ORG};

on_both!(what_belongs_to_others_is_not_there);

/// The things of one org and one vendor.
struct Things {
    installation: String,
    webhook: String,
    own: String,
    delivery: String,
    job: String,
    rule: String,
    notice: String,
    callback: String,
}

impl Things {
    async fn of(world: &World) -> Self {
        let server = &world.server;
        world.ticket("t-secret").await;
        let delivery = world.in_state("t-secret", "delivered").await;
        let admin = server.admin(ORG).await;
        let made = async |path: &str, token: &str, body: Value, member: &str| {
            let answer = server.client.post(path, token, &body).await;
            assert!([200, 201, 202].contains(&answer.status), "{path}: {}", answer.text);
            if member.is_empty() { String::new() } else { answer.text_of(member) }
        };
        let own = json!({
            "name": "Own of the org", "url": server.vendor.url("/own"), "dialect": "zendesk",
            "connection": "trigger", "subscriptions": {},
        });
        let own = made("/api/v1/webhooks", &admin, own, "id").await;
        let rule = json!({
            "name": "Rule of the org",
            "conditions": { "all": [
                { "field": "eventType", "operator": "is", "value": "Ticket_Add" },
            ] },
            "action": { "webhookId": own, "payload": "{}" },
        });
        let rule = made("/api/v1/triggers", &admin, rule, "id").await;
        let recover = format!("/api/v1/webhooks/{}/recover", world.webhook);
        let since = json!({ "since": "2020-01-01T00:00:00Z", "state": "failed" });
        let job = made(&recover, &server.operator, since, "jobId").await;
        let held = format!("/api/v1/installations/{}", world.installation.id);
        made(&format!("{held}/suspend"), &admin, json!({ "reason": "why" }), "").await;
        made(&format!("{held}/resume"), &admin, json!({}), "").await;
        let first = async |path: &str| {
            let rows = server.client.get(path, &server.operator).await.expect(200);
            rows.data()[0]["id"].as_str().expect("an id").to_owned()
        };
        Self {
            installation: world.installation.id.clone(),
            webhook: world.webhook.clone(),
            own,
            delivery: delivery["id"].as_str().expect("an id").to_owned(),
            job,
            rule,
            notice: first("/api/v1/notices").await,
            callback: first("/api/v1/journal").await,
        }
    }

    /// The addresses of a page about these things; none for pages that are about nothing of anybody.
    fn addresses(&self, page: &str) -> Vec<String> {
        let ids: Vec<&str> = match page {
            page if page.starts_with("/pages/webhooks/{id}") => vec![&self.webhook, &self.own],
            page if page.starts_with("/pages/installations/{id}") => vec![&self.installation],
            page if page.starts_with("/pages/deliveries/{id}") => vec![&self.delivery],
            page if page.starts_with("/pages/jobs/{id}") => vec![&self.job],
            page if page.starts_with("/pages/notices/{id}") => vec![&self.notice],
            page if page.starts_with("/pages/journal/{id}") => vec![&self.callback],
            page if page.starts_with("/pages/rules/{kind}/{id}") => vec![&self.rule],
            "/pages/events/{id}" => vec!["t-secret"],
            page if page.starts_with("/pages/extensions/{key}") => vec!["ticket-mirror"],
            // Of the operator's.
            page if page.starts_with("/pages/tokens/{id}") => vec![&self.job],
            // These belong to nobody.
            page if ["/pages/event-types/", "/pages/rules/{kind}", "/pages/recipes"]
                .iter()
                .any(|open| page.starts_with(open)) =>
            {
                return Vec::new();
            }
            page => panic!("{page}: say here whose thing it is about"),
        };
        let filled = |id: &&str| {
            let page = page.replace("{id}", id).replace("{key}", id).replace("{kind}", "triggers");
            if page.ends_with("/compare") { format!("{page}?from=1.0.0&to=1.0.0") } else { page }
        };
        ids.iter().map(filled).collect()
    }
}

/// What would give the things away.
const TRACES: &[&str] = &[
    "Ticket Mirror",
    "ticket-mirror",
    ORG,
    "acme",
    "/hooks/desk",
    "Own of the org",
    "Rule of the org",
];

/// What is kept, but for the comings and goings of visitors.
async fn kept(world: &World) -> Vec<String> {
    let server = &world.server;
    let mut kept = Vec::new();
    for query in [
        "select cast(attempts as text) from deliveries order by id",
        "select cast(count(*) as text) from transitions",
        "select cast(count(*) as text) from own_webhooks",
        "select action from audit where action not like 'session.%' and action not like 'portal%' order by action",
    ] {
        kept.extend(server.texts(query).await);
    }
    kept.push(world.secret().await);
    kept
}

async fn what_belongs_to_others_is_not_there(backend: Backend) {
    let world = World::start(backend).await;
    let things = Things::of(&world).await;
    let server = &world.server;
    let owners = [Visitor::admin(server, ORG).await, Visitor::vendor(server, "acme").await];
    let strangers = [
        (Role::Admin, Visitor::admin(server, "2").await),
        (Role::Viewer, Visitor::viewer(server, "2").await),
        (Role::Vendor, Visitor::vendor(server, "other").await),
    ];
    let mut tokens = Vec::new();
    for (_, stranger) in &strangers {
        tokens.push(stranger.form_token().await);
    }
    let before = kept(&world).await;
    let (mut looked, mut sent) = (0, 0);
    for route in table() {
        if !route.path.contains('{') || route.visitors == Visitors::Everybody {
            continue;
        }
        for address in things.addresses(route.path) {
            let is_live = address.ends_with("/live");
            if route.method == Method::GET && !is_live && !route.path.contains("/tokens/") {
                let mut there = false;
                for owner in &owners {
                    there |= [200, 303].contains(&owner.get(&address).await.status);
                }
                // An extension's webhook has no such page.
                let is_for_others = address.contains(&things.webhook)
                    && ["/edit", "/delete"].iter().any(|end| address.ends_with(end));
                assert!(there || is_for_others, "{address} is there for its owner");
            }
            for ((role, stranger), token) in strangers.iter().zip(&tokens) {
                let page = if route.method == Method::GET {
                    looked += 1;
                    stranger.get(&address).await
                } else {
                    sent += 1;
                    let fields = [
                        ("csrf", token.as_str()),
                        ("key", ""),
                        ("type", "Ticket_Add"),
                        ("since", "2020-01-01T00:00"),
                        ("state", "delivered"),
                        ("hours", "24"),
                        ("version", "1.0.0"),
                        ("consent", things.job.as_str()),
                        ("digest", "x"),
                        ("to", "off"),
                        ("action", "save"),
                        ("name", "x"),
                        ("url", "https://receiver.example/x"),
                        ("release", "yes"),
                    ];
                    stranger.send(&address, &fields).await
                };
                assert_eq!(page.status, 404, "{role} {} {address}: {}", route.method, page.text);
                for trace in TRACES {
                    assert!(!page.text.contains(trace), "{role} {address} has {trace}");
                }
            }
        }
    }
    assert!(looked >= 45 && sent >= 75, "{looked} pages were looked at, {sent} forms sent");
    // Lists, and what is looked for by naming it.
    let named = [
        format!("/pages/webhooks?org={ORG}"),
        "/pages/webhooks?search=desk".to_owned(),
        format!("/pages/installations?org={ORG}"),
        "/pages/installations?key=ticket-mirror".to_owned(),
        format!("/pages/deliveries?org={ORG}"),
        format!("/pages/deliveries?installation={}", things.installation),
        format!("/pages/rules?org={ORG}"),
        format!("/pages/events?id=t-secret&org={ORG}"),
        format!("/pages/audit?org={ORG}"),
    ];
    let lists = ["/pages", "/pages/notices", "/pages/jobs", "/pages/journal", "/pages/extensions"];
    for (role, stranger) in &strangers {
        for path in named.iter().map(String::as_str).chain(lists) {
            let page = stranger.get(path).await;
            assert!([200, 303, 403, 404].contains(&page.status), "{role} {path}: {}", page.text);
            for trace in ["Ticket Mirror", "acme", "/hooks/desk", "Own of the org"] {
                assert!(!page.text.contains(trace), "{role} {path} has {trace}: {}", page.text);
            }
            for id in [&things.installation, &things.webhook, &things.delivery, &things.job] {
                let link = format!("/{id}\"");
                assert!(!page.text.contains(&link), "{role} {path} leads to {id}");
            }
        }
    }
    assert_eq!(kept(&world).await, before, "nothing changed");
}
