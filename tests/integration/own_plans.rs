//! What an org may have of its own: counts, rates and dialects by its plan.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::delivery_world::{HOOK, a_while};
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS, event};
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    a_plan_is_twenty_and_ten_where_nobody_says_otherwise,
    a_lowered_plan_switches_the_newest_off_and_never_an_extensions,
    a_dialect_can_be_for_one_edition_only,
    what_is_over_the_rate_waits,
    the_rate_is_of_all_own_webhooks_of_an_org_together,
    a_change_passes_no_limit_that_a_new_one_would_not,
    many_at_once_do_not_pass_the_limit,
    plans_are_set_by_the_marketplace_and_read_by_the_org,
);

const PLAN: &str = "/api/v1/orgs/60001280952/plan";

async fn set(world: &OwnWorld, plan: Value) -> Answer {
    let operator = world.server.operator.clone();
    world.server.client.call(Method::PUT, PLAN, &operator, Some(&plan)).await
}

fn limited(answer: Answer, feature: &str, limit: u64) {
    let refused = answer.refused(403, "LICENSE_ACCESS_LIMITED");
    assert_eq!(refused.json["feature"], feature, "{}", refused.text);
    assert_eq!(refused.json["maxAllowedEntity"], limit, "{}", refused.text);
}

async fn a_plan_is_twenty_and_ten_where_nobody_says_otherwise(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    world.server.active(ORG).await;
    let plan = world.server.client.get(PLAN, &world.admin).await.expect(200).json;
    for (member, value) in [
        ("webhooks", json!(20)),
        ("webhooksPerEvent", json!(10)),
        ("invocationsPerMinute", Value::Null),
        ("dialects", Value::Null),
        ("used", json!({ "webhooks": 0, "enabled": 0, "perEvent": {} })),
    ] {
        assert_eq!(plan[member], value, "{member}: {plan}");
    }
    for _ in 0..10 {
        world.make("/own", json!({ "dialect": "standard" })).await;
    }
    let contacts = json!({ "dialect": "standard", "subscriptions": { "Contact_Add": null } });
    limited(
        world.try_make("/own", &json!({ "dialect": "standard" })).await,
        "webhooksPerEvent",
        10,
    );
    // Another dialect's event is another event.
    world.make("/own", json!({})).await;
    for _ in 0..9 {
        world.make("/own", contacts.clone()).await;
    }
    limited(world.try_make("/own", &contacts).await, "webhooks", 20);
    let off =
        json!({ "dialect": "standard", "subscriptions": { "Task_Add": null }, "isEnabled": false });
    limited(world.try_make("/own", &off).await, "webhooks", 20);
    let used = world.server.client.get(PLAN, &world.admin).await.expect(200).json["used"].clone();
    assert_eq!(used["webhooks"], 20);
    assert_eq!(used["perEvent"]["standard:Ticket_Add"], 10);
}

async fn a_lowered_plan_switches_the_newest_off_and_never_an_extensions(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    world.server.active(ORG).await;
    let mut ids = Vec::new();
    for number in 0..4 {
        let name = json!({ "name": format!("n{number}"), "whileDisabled": "queue" });
        ids.push(world.make("/own", name).await);
    }
    let set_to = set(&world, json!({ "webhooks": 2 })).await.expect(200).json;
    assert_eq!(set_to["disabled"], json!(ids[2..]), "the newest");
    assert_eq!((&set_to["webhooks"], &set_to["used"]["enabled"]), (&json!(2), &json!(2)));
    for (index, id) in ids.iter().enumerate() {
        let read = world.read(id).await;
        assert_eq!(read["isEnabled"], index < 2, "{read}");
        if index >= 2 {
            let reason = read["health"]["reason"].as_str().expect("a reason");
            assert!(reason.contains("plan"), "{reason}");
        }
    }
    // The extension's is one of the three that get the event; those that are off queue it.
    assert_eq!(world.fans_out(&event("Ticket_Add", "one")).await, 5);
    world.settled(&ids[3], "held", 1).await;
    let extension = world.server.webhooks(ORG).await;
    let extension = extension.iter().find(|one| one["locked"] == true).expect("it is there");
    assert_eq!(extension["isEnabled"], true);
    let notices = world.notices("webhook.over-plan").await;
    let mut told: Vec<_> = notices.iter().map(|one| one["webhookId"].clone()).collect();
    told.sort_by_key(Value::to_string);
    assert_eq!(told, [json!(ids[2]), json!(ids[3])]);
    let query = format!(
        "select subject from audit where chain = '{ORG}' and action = 'webhook.disable' order by sequence"
    );
    let subjects: Vec<String> = ids[2..].iter().map(|id| format!("webhook:{id}")).collect();
    assert_eq!(world.server.texts(&query).await, subjects);
    // There is no room for it until another one goes.
    limited(world.act(&ids[2], "/enable", &json!({})).await, "webhooks", 2);
    limited(world.patch(&ids[2], &json!({ "isEnabled": true })).await, "webhooks", 2);
    world
        .act(&ids[2], "/reactivate", &json!({ "release": true }))
        .await
        .refused(409, "STATE_CONFLICT");
    world.patch(&ids[2], &json!({ "name": "still to be changed" })).await.expect(200);
    let path = OwnWorld::path(&ids[0], "");
    world.server.client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    world.act(&ids[2], "/enable", &json!({})).await.expect(200);
    world.settled(&ids[2], "delivered", 1).await;
    let resolved = world.notices("webhook.over-plan").await;
    let of = |id: &str| {
        let one = resolved.iter().find(|one| one["webhookId"] == id).expect("a notice");
        one["resolvedTime"].clone()
    };
    assert!(of(&ids[2]).is_string() && of(&ids[3]).is_null());
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_dialect_can_be_for_one_edition_only(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let assist = json!({ "dialect": "assist", "subscriptions": { "13": null } });
    let id = world.make("/own", assist.clone()).await;
    assert_eq!(world.read(&id).await["subscriptions"], json!({ "Device Online": null }));
    let plan = json!({ "dialects": ["desk", "standard", "zendesk", "dzdesk"] });
    let set_to = set(&world, plan).await.expect(200).json;
    assert_eq!(set_to["disabled"], json!([id]));
    let refused = world.try_make("/own", &assist).await.refused(403, "LICENSE_ACCESS_LIMITED");
    assert_eq!(refused.json["feature"], "dialects");
    world.act(&id, "/enable", &json!({})).await.refused(403, "LICENSE_ACCESS_LIMITED");
    let other = world.make("/own", json!({})).await;
    let moved = json!({ "dialect": "assist", "subscriptions": { "13": null } });
    world.patch(&other, &moved).await.refused(403, "LICENSE_ACCESS_LIMITED");
    // As for everybody again.
    set(&world, json!({})).await.expect(200);
    world.act(&id, "/enable", &json!({})).await.expect(200);
    let online = json!({ "eventType": "Device Online", "orgId": ORG, "payload": { "id": "1" } });
    assert_eq!(world.fans_out(&online).await, 1);
    for faulty in [
        json!({ "dialects": ["disk"] }),
        json!({ "webhooks": -1 }),
        json!({ "webhooks": 100_000 }),
        json!({ "invocationsPerMinute": 0 }),
        json!({ "hooks": 1 }),
    ] {
        set(&world, faulty).await.refused(422, "INVALID_DATA");
    }
}

async fn what_is_over_the_rate_waits(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({})).await;
    world.server.vendor.forget();
    set(&world, json!({ "invocationsPerMinute": 6 })).await.expect(200);
    assert_eq!(world.read(&id).await["delivery"]["ratePerMinute"], 6);
    for name in ["1", "2", "3"] {
        assert_eq!(world.fans_out(&event("Ticket_Add", name)).await, 1);
    }
    world.arrived("/own", 1).await;
    a_while().await;
    assert_eq!(world.server.vendor.received_at("/own").len(), 1, "the others wait");
    for count in [2, 3] {
        world.server.advance(Duration::from_secs(11));
        world.arrived("/own", count).await;
    }
    world.settled(&id, "delivered", 3).await;
}

async fn the_rate_is_of_all_own_webhooks_of_an_org_together(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    world.server.active(ORG).await;
    let other_admin = world.server.admin("2").await;
    let vendor = &world.server.vendor;
    let other = json!({ "url": vendor.url("/other"), "subscriptions": { "Ticket_Add": null } });
    world.server.client.post(WEBHOOKS, &other_admin, &other).await.expect(201);
    let (first, second) = (world.make("/a", json!({})).await, world.make("/b", json!({})).await);
    set(&world, json!({ "invocationsPerMinute": 6 })).await.expect(200);
    vendor.forget();
    for name in ["1", "2"] {
        assert_eq!(world.fans_out(&event("Ticket_Add", name)).await, 3);
        for number in 0..3 {
            let mut elsewhere = event("Ticket_Add", &format!("{name}.{number}"));
            elsewhere["orgId"] = json!("2");
            assert_eq!(world.fans_out(&elsewhere).await, 1);
        }
    }
    let own = || vendor.received_at("/a").len() + vendor.received_at("/b").len();
    let come_to = async |count: usize| {
        eventually(&format!("{count} of the org's own"), async || (own() == count).then_some(()))
            .await;
    };
    // The extension's and those of another org wait for nothing.
    world.arrived(HOOK, 2).await;
    world.arrived("/other", 6).await;
    come_to(1).await;
    a_while().await;
    assert_eq!(own(), 1, "the others wait, whichever webhook they are of");
    for count in 2..=4 {
        world.server.advance(Duration::from_secs(11));
        come_to(count).await;
    }
    for id in [first, second] {
        world.settled(&id, "delivered", 2).await;
    }
}

async fn a_change_passes_no_limit_that_a_new_one_would_not(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    set(&world, json!({ "webhooksPerEvent": 2 })).await.expect(200);
    let off = |subscriptions: Value| json!({ "subscriptions": subscriptions, "isEnabled": false });
    for _ in 0..2 {
        world.make("/own", off(json!({ "Ticket_Add": null }))).await;
    }
    let third = world.make("/own", off(json!({ "Contact_Add": null }))).await;
    let moved = json!({ "subscriptions": { "Ticket_Add": null } });
    limited(world.patch(&third, &moved).await, "webhooksPerEvent", 2);
    world.patch(&third, &json!({ "subscriptions": { "Contact_Update": null } })).await.expect(200);
    // Zendesk's name of an event and the host's are one event.
    let zendesk = |name: &str| json!({ "dialect": "zendesk", "subscriptions": { name: null } });
    world.make("/own", zendesk("Ticket_Add")).await;
    world.make("/own", zendesk("zen:event-type:ticket.created")).await;
    for name in ["Ticket_Add", "ticket.created"] {
        limited(world.try_make("/own", &zendesk(name)).await, "webhooksPerEvent", 2);
    }
    world.make("/own", zendesk("ticket.status_changed")).await;
}

async fn many_at_once_do_not_pass_the_limit(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    set(&world, json!({ "webhooks": 3 })).await.expect(200);
    let body = json!({ "dialect": "standard" });
    let many = (0..12).map(|_| world.try_make("/own", &body));
    let statuses: Vec<u16> =
        futures_util::future::join_all(many).await.into_iter().map(|one| one.status).collect();
    let made = statuses.iter().filter(|status| **status == 201).count();
    assert_eq!(made, 3, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 403].contains(status)), "{statuses:?}");
    assert_eq!(world.server.webhooks(ORG).await.len(), 3);
}

async fn plans_are_set_by_the_marketplace_and_read_by_the_org(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let server = &world.server;
    let plan = json!({ "webhooks": 7 });
    let marketplace = server.marketplace().await;
    server.client.call(Method::PUT, PLAN, &marketplace, Some(&plan)).await.expect(200);
    for token in [&world.admin, &world.host] {
        server.client.call(Method::PUT, PLAN, token, Some(&plan)).await.refused(403, "FORBIDDEN");
    }
    for token in [&world.admin, &server.viewer(ORG).await, &marketplace] {
        let read = server.client.get(PLAN, token).await.expect(200);
        assert_eq!(read.json["webhooks"], 7);
        assert!(read.json.get("disabled").is_none());
    }
    let other = server.admin("2").await;
    server.client.get(PLAN, &other).await.refused(404, "RESOURCE_NOT_FOUND");
    let actions = server
        .texts(&format!("select actor from audit where chain = '{ORG}' and action = 'plan.set'"))
        .await;
    assert!(actions.len() == 1 && actions[0].starts_with("marketplace:"), "{actions:?}");
}
