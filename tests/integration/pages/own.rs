//! An org's own webhooks on the pages, without JavaScript: made, tried before they are saved,
//! changed, copied, switched, deleted. And no such page for an extension's.

use mortise::development::Behaviour;
use serde_json::json;

use super::visitor::{Visitor, forms, unescaped};
use crate::support::delivery_world::World;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, event};
use crate::support::server::{Backend, ORG};

on_both!(
    an_administrator_makes_a_webhook_and_changes_it,
    what_is_wrong_is_said_at_its_field,
    a_webhook_is_tried_before_it_is_saved,
    a_webhook_is_copied_switched_and_deleted,
    a_change_that_came_second_is_not_made,
    an_extensions_webhook_has_none_of_these_pages,
    the_operator_makes_one_for_an_org,
);

const NEW: &str = "/pages/webhooks/new";
const LIST: &str = "/pages/webhooks";

/// The id in a path of a webhook's page.
fn id_in(text: &str) -> String {
    let at = text.find("/pages/webhooks/0").expect("a link to a webhook") + LIST.len() + 1;
    text[at..at + 36].to_owned()
}

async fn an_administrator_makes_a_webhook_and_changes_it(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    assert!(ada.get(LIST).await.expect(200).text.contains("make one of the org's own"));
    let url = world.server.vendor.url("/own");
    let fields = [
        ("name", "Mine"),
        ("description", "first\r\nsecond"),
        ("url", url.as_str()),
        ("event", "Ticket_Add"),
        ("departments.Ticket_Add", "7, 8"),
        ("headers", "X-Team: blue"),
        ("authentication", "basic"),
        ("username", "ann"),
        ("password", "open sesame"),
        ("secret-choice", "make"),
        ("while-disabled", "queue"),
        ("enabled", "yes"),
        ("action", "save"),
    ];
    // Credentials are not sent over plain http.
    let refused = ada.submit(NEW, LIST, &fields).await.expect(422).text;
    assert!(refused.contains("needs https"), "{refused}");
    assert!(!refused.contains("open sesame"), "what is secret is not shown again");
    let mut fields = fields.to_vec();
    fields.retain(|(name, _)| *name != "authentication");
    fields.push(("authentication", "none"));
    let made = ada.submit(NEW, LIST, &fields).await.expect(200).text;
    assert!(made.contains("not shown again") && made.contains("whsec_"), "{made}");
    let id = id_in(&made);
    let read = world.read(&id).await;
    assert_eq!(read["description"], "first\nsecond");
    assert_eq!(read["subscriptions"], json!({ "Ticket_Add": { "departmentIds": ["7", "8"] } }));
    assert_eq!(read["headers"], json!({ "X-Team": "blue" }));
    assert_eq!(read["whileDisabled"], "queue");
    let page = format!("{LIST}/{id}");
    let shown = ada.get(&page).await.expect(200).text;
    for words in ["Mine", "Change…", "Switch off", "Delete…", "Ticket_Add", "Zoho Desk"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(world.fans_out(&event("Ticket_Add", "t-1")).await, 1);
    world.arrived("/own", 1).await;
    // What the form shows, sent as it is, changes nothing.
    let edit = format!("{page}/edit");
    let form = ada.get(&edit).await.expect(200).text;
    assert!(form.contains("value=\"7, 8\""), "{form}");
    let other = world.server.vendor.url("/other");
    let changes = [
        ("name", "Renamed"),
        ("url", other.as_str()),
        ("description", ""),
        ("headers", ""),
        ("event", "Contact_Add"),
        ("secret-choice", "keep"),
        ("authentication", "none"),
        ("while-disabled", "drop"),
        ("action", "save"),
    ];
    let saved = ada.act(&edit, &edit, &changes).await.expect(200).text;
    assert!(saved.contains("Saved.") && saved.contains("Renamed"), "{saved}");
    let read = world.read(&id).await;
    assert_eq!(read["subscriptions"], json!({ "Contact_Add": null }));
    assert_eq!((&read["description"], &read["headers"]), (&json!(null), &json!({})));
    assert_eq!(read["url"], json!(other));
    // The same by a viewer: looks, and finds no control.
    let vera = Visitor::viewer(&world.server, ORG).await;
    let seen = vera.get(&page).await.expect(200).text;
    assert!(forms(&seen).iter().all(|form| form.method == "get" || form.action == "/sign-out"));
    vera.get(&edit).await.expect(404);
    vera.get(NEW).await.expect(404);
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_is_wrong_is_said_at_its_field(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let fields = [
        ("name", "Kept <b>"),
        ("url", "not an address"),
        ("event", "Ticket_Thread_Add"),
        ("direction.Ticket_Thread_Add", "up"),
        ("headers", "no colon here"),
        ("secret-choice", "make"),
        ("authentication", "none"),
        ("action", "save"),
    ];
    let own = ada.submit(NEW, LIST, &fields).await.expect(422).text;
    assert!(own.contains("id=\"headers-fault\""), "{own}");
    let mut fields = fields.to_vec();
    fields.retain(|(name, _)| *name != "headers");
    let refused = ada.submit(NEW, LIST, &fields).await.expect(422).text;
    for words in [
        "2 things have to be put right",
        "id=\"url-fault\"",
        "aria-describedby=\"url-fault\"",
        "href=\"#url\"",
        "must be in or out",
        "value=\"Kept &#60;b&#62;\"",
    ] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    // Nobody answers there: the address was asked, and it is said at the field.
    world.server.vendor.behave("/dead", Behaviour::status(500));
    let url = world.server.vendor.url("/dead");
    let fields = [
        ("url", url.as_str()),
        ("event", "Ticket_Add"),
        ("secret-choice", "make"),
        ("authentication", "none"),
        ("action", "save"),
    ];
    let refused = ada.submit(NEW, LIST, &fields).await.expect(422).text;
    assert!(refused.contains("nothing takes requests at this address"), "{refused}");
    // The plan says how many there may be.
    let plan = json!({ "webhooks": 0 });
    let path = format!("/api/v1/orgs/{ORG}/plan");
    let set =
        world.server.client.call(reqwest::Method::PUT, &path, &world.server.operator, Some(&plan));
    set.await.expect(200);
    let url = world.server.vendor.url("/own");
    let fields = [
        ("url", url.as_str()),
        ("event", "Ticket_Add"),
        ("secret-choice", "make"),
        ("authentication", "none"),
        ("action", "save"),
    ];
    let refused = ada.submit(NEW, LIST, &fields).await.expect(422).text;
    assert!(refused.contains("The plan of the org has room for 0"), "{refused}");
    assert!(world.server.webhooks(ORG).await.is_empty());
}

async fn a_webhook_is_tried_before_it_is_saved(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let busy = Behaviour::status(503).with_body("the queue is full");
    world.server.vendor.behave("/try", busy);
    let url = world.server.vendor.url("/try");
    let fields = [
        ("name", "Kept"),
        ("url", url.as_str()),
        ("event", "Ticket_Add"),
        ("type", "Ticket_Add"),
        ("headers", "X-Team: blue"),
        ("secret-choice", "own"),
        ("secret", "my own secret"),
        ("authentication", "none"),
        ("action", "test"),
    ];
    let tried = ada.submit(NEW, LIST, &fields).await.expect(200).text;
    let shown = unescaped(&tried);
    for words in [
        "What came of it",
        "The endpoint answered, but not with success.",
        "the queue is full",
        "x-team: blue",
        "webhook-signature",
        "value=\"Kept\"",
    ] {
        assert!(shown.to_lowercase().contains(&words.to_lowercase()), "{words}: {shown}");
    }
    assert!(!tried.contains("my own secret"), "a page keeps no secret");
    let received = world.arrived("/try", 1).await.remove(0);
    assert_eq!(received.header("x-mortise-test"), Some("true"));
    let mut ping = fields.to_vec();
    ping.retain(|(name, _)| *name != "action");
    ping.push(("action", "ping"));
    let pinged = ada.submit(NEW, LIST, &ping).await.expect(200).text;
    assert!(pinged.contains("What came of it"), "{pinged}");
    world.arrived("/try", 2).await;
    // What may not be called is not called, and that is said in words.
    let mut inside = fields.to_vec();
    inside.retain(|(name, _)| *name != "url");
    inside.push(("url", "http://169.254.169.254/latest"));
    let refused = ada.submit(NEW, LIST, &inside).await.expect(200).text;
    assert!(refused.contains("Nothing was sent: this address may not be called."), "{refused}");
    // A secret of one's own has to be typed again where the page asks for it.
    let mut without = fields.to_vec();
    without.retain(|(name, _)| !["action", "secret"].contains(name));
    without.push(("action", "save"));
    let asked = ada.submit(NEW, LIST, &without).await.expect(422).text;
    assert!(asked.contains("id=\"secret-fault\""), "{asked}");
    assert!(world.server.webhooks(ORG).await.is_empty(), "nothing was saved");
}

async fn a_webhook_is_copied_switched_and_deleted(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let id = world.make("/own", json!({ "name": "Mine", "whileDisabled": "queue" })).await;
    let page = format!("{LIST}/{id}");
    let copied = ada.submit(&page, &format!("{page}/clone"), &[]).await.expect(200).text;
    assert!(copied.contains("The copy is there, switched off."), "{copied}");
    let copy = id_in(&copied);
    assert_ne!(copy, id);
    assert_eq!(world.read(&copy).await["isEnabled"], false);
    let off = ada.act(&page, &format!("{page}/switch"), &[("to", "off")]).await.expect(200).text;
    assert!(off.contains("Switched off.") && off.contains("Switch it on"), "{off}");
    world.fans_out(&event("Ticket_Add", "waits")).await;
    let on = [("to", "on"), ("waiting", "release")];
    ada.act(&page, &format!("{page}/switch"), &on).await.expect(200);
    world.arrived("/own", 1).await;
    let copy_page = format!("{LIST}/{copy}");
    ada.act(&copy_page, &format!("{copy_page}/switch"), &on).await.expect(200);
    assert_eq!(world.read(&copy).await["isEnabled"], true);
    // Before it goes, it is said what that means.
    let delete = format!("{copy_page}/delete");
    let before = ada.get(&delete).await.expect(200).text;
    assert!(before.contains("What will happen") && before.contains("Keep it"), "{before}");
    let gone = ada.act(&delete, &delete, &[]).await.expect(200).text;
    assert!(gone.contains("Deleted."), "{gone}");
    ada.get(&copy_page).await.expect(404);
    assert_eq!(world.server.webhooks(ORG).await.len(), 1);
    // Tests of a saved one are by its own names, with a payload of one's own where one is wanted.
    let tested = format!("{page}/test");
    let shown = ada
        .submit(&tested, &tested, &[("type", "Ticket_Add"), ("body", "{\"id\":\"own-1\"}")])
        .await
        .expect(200)
        .text;
    assert!(unescaped(&shown).contains("\"own-1\""), "{shown}");
    let faulty = ada.submit(&tested, &tested, &[("body", "{no")]).await.expect(422).text;
    assert!(faulty.contains("id=\"body-fault\""), "{faulty}");
    let named = json!({ "dialect": "dzdesk", "subscriptions": { "request.updated": null } });
    let other = world.make("/named", named).await;
    let form = ada.get(&format!("{LIST}/{other}/test")).await.expect(200).text;
    let chosen = form.find("value=\"request.updated\" selected").expect("what it subscribes to");
    let first = form.find("<option").expect("an option");
    assert!(chosen - first < 40, "it comes first");
}

async fn a_change_that_came_second_is_not_made(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let ada = Visitor::admin(&world.server, ORG).await;
    let id = world.make("/own", json!({ "name": "Mine" })).await;
    let edit = format!("{LIST}/{id}/edit");
    let html = ada.get(&edit).await.expect(200).text;
    let form = forms(&html).into_iter().find(|form| form.action == edit).expect("the form");
    world.patch(&id, &json!({ "name": "Of somebody else" })).await.expect(200);
    let mut fields: Vec<(&str, &str)> =
        form.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    fields.retain(|(name, _)| {
        ["csrf", "key", "dialect", "connection", "modified", "url"].contains(name)
    });
    fields.extend([
        ("name", "Late"),
        ("event", "Ticket_Add"),
        ("secret-choice", "keep"),
        ("authentication", "none"),
        ("action", "save"),
    ]);
    let late = ada.send(&edit, &fields).await.expect(422).text;
    assert!(late.contains("Somebody else changed it"), "{late}");
    assert_eq!(world.read(&id).await["name"], "Of somebody else");
}

async fn an_extensions_webhook_has_none_of_these_pages(backend: Backend) {
    let world = World::start(backend).await;
    let before = world.server.webhooks(ORG).await;
    for visitor in
        [Visitor::admin(&world.server, ORG).await, Visitor::operator(&world.server).await]
    {
        let token = visitor.form_token().await;
        let page = format!("{LIST}/{}", world.webhook);
        for step in ["edit", "delete"] {
            visitor.get(&format!("{page}/{step}")).await.expect(404);
        }
        for step in ["edit", "clone", "switch", "delete"] {
            let fields = [
                ("csrf", token.as_str()),
                ("key", ""),
                ("to", "off"),
                ("url", "https://evil.example/"),
                ("action", "save"),
            ];
            visitor.send(&format!("{page}/{step}"), &fields).await.expect(404);
        }
        let shown = visitor.get(&page).await.expect(200).text;
        for step in ["edit", "clone", "switch", "delete"] {
            assert!(!shown.contains(&format!("{page}/{step}")), "{step}");
        }
    }
    assert_eq!(world.server.webhooks(ORG).await, before);
}

async fn the_operator_makes_one_for_an_org(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let otto = Visitor::operator(&world.server).await;
    let url = world.server.vendor.url("/own");
    let fields = [
        ("org", ORG),
        ("url", url.as_str()),
        ("event", "Ticket_Add"),
        ("secret-choice", "make"),
        ("authentication", "none"),
        ("enabled", "yes"),
        ("action", "save"),
    ];
    let made = otto.submit(NEW, LIST, &fields).await.expect(200).text;
    let id = id_in(&made);
    assert_eq!(world.read(&id).await["url"], json!(url));
    let mut without = fields.to_vec();
    without.retain(|(name, _)| *name != "org");
    let refused = otto.submit(NEW, LIST, &without).await.expect(422).text;
    assert!(refused.contains("orgId"), "{refused}");
    assert!(otto.get(&format!("{LIST}/{id}")).await.expect(200).text.contains("Change…"));
}
