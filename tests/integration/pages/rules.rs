//! Triggers and automations on the pages, without JavaScript.

use serde_json::json;

use super::visitor::{Visitor, unescaped};
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, event};
use crate::support::server::{Backend, ORG};

on_both!(
    an_administrator_makes_a_trigger_and_changes_its_conditions,
    an_automation_waits_unless_something_happens,
    a_webhook_in_use_says_by_what,
    rules_of_another_org_are_not_there,
);

const RULES: &str = "/pages/rules";

async fn connected(world: &OwnWorld, connection: &str) -> String {
    let body = json!({
        "name": "Called by rules", "dialect": "zendesk", "connection": connection,
        "subscriptions": {}, "secret": "known here",
    });
    world.make("/hook", body).await
}

async fn only_rule(world: &OwnWorld, kind: &str) -> serde_json::Value {
    let mut all = world.server.client.all(&format!("/api/v1/{kind}"), &world.admin).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

async fn an_administrator_makes_a_trigger_and_changes_its_conditions(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let empty = ada.get(RULES).await.expect(200).text;
    assert!(empty.contains("There is no trigger") && empty.contains("There is no automation"));
    let new = format!("{RULES}/triggers/new");
    let nothing = ada.get(&new).await.expect(200).text;
    assert!(nothing.contains("no webhook that a trigger could call"), "{nothing}");
    let webhook = connected(&world, "trigger").await;
    let page = format!("/pages/webhooks/{webhook}");
    let needs = ada.get(&page).await.expect(200).text;
    assert!(needs.contains("it needs a trigger"), "{needs}");
    // The form begins with what such an event has.
    let begun =
        ada.get(&format!("{new}?type=Ticket_Update&webhook={webhook}")).await.expect(200).text;
    let begun = unescaped(&begun);
    assert!(
        begun.contains("value=\"Ticket_Update\"") && begun.contains("{{ticket.id}}"),
        "{begun}"
    );
    let create = format!("{RULES}/triggers");
    let fields = [
        ("name", "High <b>"),
        ("webhook", webhook.as_str()),
        ("active", "yes"),
        ("conditions.0.list", "all"),
        ("conditions.0.field", "eventType"),
        ("conditions.0.operator", "is"),
        ("conditions.0.value", "Ticket_Ad"),
        ("conditions.1.list", "all"),
        ("conditions.1.field", "payload.priority"),
        ("conditions.1.operator", "is"),
        ("conditions.1.value", "High"),
        ("content", "payload"),
        ("payload", "{\"id\":{{ticket.id}}}"),
        ("action", "save"),
    ];
    let refused = ada.submit(&new, &create, &fields).await.expect(422).text;
    assert!(unescaped(&refused).contains("did you mean Ticket_Add?"), "{refused}");
    assert!(refused.contains("id=\"conditions-all-0-fault\""), "{refused}");
    assert!(refused.contains("High &#60;b&#62;"), "what was typed in stays");
    let mut good = fields.to_vec();
    good.retain(|(name, _)| *name != "conditions.0.value");
    good.push(("conditions.0.value", "Ticket_Add"));
    // More room changes nothing.
    let mut more = good.clone();
    more.retain(|(name, _)| *name != "action");
    more.push(("action", "more"));
    let roomy = ada.submit(&new, &create, &more).await.expect(200).text;
    assert!(roomy.contains("conditions.7.field") && roomy.contains("value=\"High\""), "{roomy}");
    let made = ada.act(&new, &create, &good).await.expect(200).text;
    assert!(made.contains("It is there.") && made.contains("High &#60;b&#62;"), "{made}");
    let rule = only_rule(&world, "triggers").await;
    assert_eq!(rule["conditions"]["all"].as_array().map(Vec::len), Some(2), "{rule}");
    let mut high = event("Ticket_Add", "1");
    high["payload"]["priority"] = json!("High");
    assert_eq!(world.fans_out(&high).await, 1);
    // Its page shows what is there, and changes it.
    let path = format!("{RULES}/triggers/{}", rule["id"].as_str().expect("an id"));
    let shown = ada.get(&path).await.expect(200).text;
    assert!(shown.contains("is “High”") && shown.contains("Called by rules"), "{shown}");
    let mut changed = good.clone();
    changed.retain(|(name, _)| !["conditions.1.value", "position"].contains(name));
    changed.push(("conditions.1.value", "[\"Low\",\"Normal\"]"));
    let saved = ada.act(&path, &path, &changed).await.expect(200).text;
    assert!(saved.contains("Saved."), "{saved}");
    let rule = only_rule(&world, "triggers").await;
    assert_eq!(rule["conditions"]["all"][1]["value"], json!(["Low", "Normal"]));
    let off = ada.act(&path, &format!("{path}/switch"), &[("to", "off")]).await.expect(200).text;
    assert!(off.contains("Switched off."), "{off}");
    assert_eq!(only_rule(&world, "triggers").await["isActive"], false);
    // A viewer reads it.
    let vera = Visitor::viewer(&world.server, ORG).await;
    let seen = vera.get(&path).await.expect(200).text;
    assert!(seen.contains("And sends") && !seen.contains("<textarea"), "{seen}");
    vera.get(&new).await.expect(404);
    let gone = ada.act(&path, &format!("{path}/delete"), &[]).await.expect(200).text;
    assert!(gone.contains("Deleted."), "{gone}");
    ada.get(&path).await.expect(404);
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn an_automation_waits_unless_something_happens(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let webhook = connected(&world, "automation").await;
    let (new, create) = (format!("{RULES}/automations/new"), format!("{RULES}/automations"));
    let fields = [
        ("name", "Reminder"),
        ("webhook", webhook.as_str()),
        ("active", "yes"),
        ("conditions.0.list", "all"),
        ("conditions.0.field", "eventType"),
        ("conditions.0.operator", "is"),
        ("conditions.0.value", "Ticket_Add"),
        ("unless.0.list", "all"),
        ("unless.0.field", "eventType"),
        ("unless.0.operator", "is"),
        ("unless.0.value", "Ticket_Comment_Add"),
        ("content", "payload"),
        ("payload", "{\"id\":{{ticket.id}}}"),
        ("action", "save"),
    ];
    let refused = ada.submit(&new, &create, &fields).await.expect(422).text;
    assert!(refused.contains("id=\"afterMinutes-fault\""), "{refused}");
    let mut good = fields.to_vec();
    good.push(("after-minutes", "90"));
    let made = ada.act(&new, &create, &good).await.expect(200).text;
    assert!(made.contains("90 min"), "{made}");
    let rule = only_rule(&world, "automations").await;
    assert_eq!(
        (&rule["afterMinutes"], &rule["unless"]["all"][0]["value"]),
        (&json!(90), &json!("Ticket_Comment_Add"))
    );
    let listed = ada.get(RULES).await.expect(200).text;
    assert!(listed.contains("Reminder") && listed.contains("90 min"), "{listed}");
}

async fn a_webhook_in_use_says_by_what(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let webhook = connected(&world, "trigger").await;
    let rule = json!({
        "name": "Uses it", "action": { "webhookId": webhook, "payload": "{}" },
        "conditions": { "all": [{ "field": "eventType", "operator": "is", "value": "Ticket_Add" }] },
    });
    let made = world.server.client.post("/api/v1/triggers", &world.admin, &rule).await;
    let id = made.expect(201).text_of("id");
    let page = format!("/pages/webhooks/{webhook}");
    assert!(ada.get(&page).await.expect(200).text.contains("Uses it"));
    let delete = format!("{page}/delete");
    let refused = ada.submit(&delete, &delete, &[]).await.expect(409).text;
    assert!(refused.contains("It is in use"), "{refused}");
    assert!(refused.contains(&format!("{RULES}/triggers/{id}")), "{refused}");
    let rule = format!("{RULES}/triggers/{id}");
    ada.act(&rule, &format!("{rule}/delete"), &[]).await.expect(200);
    ada.act(&delete, &delete, &[]).await.expect(200);
    ada.get(&page).await.expect(404);
}

async fn rules_of_another_org_are_not_there(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let webhook = connected(&world, "trigger").await;
    let rule = json!({
        "name": "Of one org", "action": { "webhookId": webhook, "payload": "{}" },
        "conditions": { "all": [{ "field": "eventType", "operator": "is", "value": "Ticket_Add" }] },
    });
    let made = world.server.client.post("/api/v1/triggers", &world.admin, &rule).await;
    let path = format!("{RULES}/triggers/{}", made.expect(201).text_of("id"));
    let stranger = Visitor::admin(&world.server, "2").await;
    stranger.get(&path).await.expect(404);
    assert!(!stranger.get(RULES).await.expect(200).text.contains("Of one org"));
    let token = stranger.form_token().await;
    for step in ["", "/switch", "/delete"] {
        let fields = [("csrf", token.as_str()), ("key", ""), ("to", "off"), ("name", "Mine now")];
        stranger.send(&format!("{path}{step}"), &fields).await.expect(404);
    }
    assert_eq!(only_rule(&world, "triggers").await["name"], "Of one org");
    let otto = Visitor::operator(&world.server).await;
    assert!(otto.get(RULES).await.expect(200).text.contains("Which org?"));
    assert!(otto.get(&format!("{RULES}?org={ORG}")).await.expect(200).text.contains("Of one org"));
    otto.get(&path).await.expect(200);
}
