//! Triggers and automations: when an own webhook is called, with what, and when not.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::delivery_world::a_while;
use crate::support::on_both;
use crate::support::own_world::{OwnWorld, event};
use crate::support::server::{Backend, ORG, eventually};

on_both!(
    a_trigger_calls_its_webhook_with_what_it_sends,
    each_firing_trigger_makes_a_delivery_of_its_own,
    parameters_go_where_the_method_has_room,
    a_rule_is_checked_before_it_is_written,
    a_rule_is_changed_listed_and_deleted,
    a_webhook_in_use_is_not_deleted,
    rules_belong_to_their_org,
    an_automation_fires_when_its_time_has_come,
    an_automation_does_not_fire_where_something_happened,
    an_automation_keeps_its_time_while_its_webhook_is_off,
    an_automation_that_went_to_another_webhook_still_fires,
    what_cannot_be_sent_says_nothing_of_the_endpoint,
    placeholders_and_names_are_listed,
    a_test_sends_what_a_trigger_would,
);

const TRIGGERS: &str = "/api/v1/triggers";
const AUTOMATIONS: &str = "/api/v1/automations";

/// A webhook of Zendesk's kind with a connection to rules.
async fn connected(world: &OwnWorld, receiver: &str, connection: &str, more: Value) -> String {
    let mut body = json!({
        "dialect": "zendesk", "connection": connection, "subscriptions": {}, "secret": "known here",
    });
    for (name, value) in more.as_object().expect("members") {
        body[name] = value.clone();
    }
    world.make(receiver, body).await
}

fn rule(webhook: &str, name: &str, conditions: &Value, payload: &str) -> Value {
    json!({
        "name": name, "conditions": conditions,
        "action": { "webhookId": webhook, "payload": payload },
    })
}

fn is(field: &str, value: &str) -> Value {
    json!({ "field": field, "operator": "is", "value": value })
}

fn new_tickets() -> Value {
    json!({ "all": [is("eventType", "Ticket_Add")] })
}

async fn make(world: &OwnWorld, path: &str, rule: &Value) -> String {
    world.server.client.post(path, &world.admin, rule).await.expect(201).text_of("id")
}

fn ticket(id: &str, payload: Value) -> Value {
    let mut event = event("Ticket_Add", id);
    event["payload"] = payload;
    event
}

async fn a_trigger_calls_its_webhook_with_what_it_sends(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let url = world.server.vendor.url("/hook/{{ticket.id}}?subject={{ticket.subject}}");
    let id = connected(&world, "/hook", "trigger", json!({ "url": url, "method": "PUT" })).await;
    assert_eq!(world.read(&id).await["setup"], "needsTrigger");
    assert_eq!(world.read(&id).await["url"], json!(url), "as it was written");
    let payload = r#"{"ticket":{"id":{{ticket.id}},"title":"{{ticket.title}}","team":"{{ticket.teamId}}","by":"{{current_user.name}}"}}"#;
    let conditions = json!({
        "all": [is("eventType", "Ticket_Add"), is("payload.priority", "High")],
        "any": [is("departmentId", "7"), is("departmentId", "8")],
    });
    let trigger = make(&world, TRIGGERS, &rule(&id, "New", &conditions, payload)).await;
    assert_eq!(world.read(&id).await["setup"], "complete");
    for (name, priority, department, fires) in
        [("low", "Low", "7", false), ("other", "High", "9", false), ("both", "High", "8", true)]
    {
        let mut event = ticket(
            name,
            json!({ "id": "4711", "subject": "a \"b\" & c/d", "priority": priority, "teamId": null }),
        );
        event["departmentId"] = json!(department);
        event["actor"] = json!({ "id": "5", "name": "Ines" });
        assert_eq!(world.fans_out(&event).await, u64::from(fires), "{name}");
        let verdict = world.verdict(name, &id).await;
        assert_eq!(verdict["matched"], fires, "{verdict}");
        if !fires {
            assert_eq!(verdict["rule"], "conditions", "{verdict}");
        }
    }
    let received = world.arrived("/hook/4711", 1).await.remove(0);
    assert_eq!(received.method, "PUT");
    assert_eq!(
        received.json().expect("JSON"),
        json!({ "ticket": { "id": 4711, "title": "a \"b\" & c/d", "team": "", "by": "Ines" } })
    );
    assert_eq!(received.parameters(), [("subject".to_owned(), "a \"b\" & c/d".to_owned())]);
    assert!(received.header("x-zendesk-webhook-signature").is_some());
    let delivery = world.settled(&id, "delivered", 1).await.remove(0);
    assert_eq!(delivery["eventName"], format!("trigger:{trigger}"));
    assert_eq!(delivery["attempts"][0]["emptyPlaceholders"], json!(["ticket.teamId"]));
}

async fn each_firing_trigger_makes_a_delivery_of_its_own(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = connected(&world, "/hook", "trigger", json!({ "format": "xml" })).await;
    let closed = json!({ "all": [{ "field": "payload.status", "operator": "changedTo", "value": "Closed" }] });
    for (name, conditions) in [("Any", closed.clone()), ("Again", closed), ("New", new_tickets())] {
        let body =
            rule(&id, name, &conditions, &format!("<n by=\"{name}\">{{{{event.type}}}}</n>"));
        make(&world, TRIGGERS, &body).await;
    }
    let update = json!({
        "eventType": "Ticket_Update", "orgId": ORG,
        "payload": { "id": "1", "status": "Closed" }, "prevState": { "id": "1", "status": "Open" },
    });
    assert_eq!(world.fans_out(&update).await, 2);
    let received = world.arrived("/hook", 2).await;
    let mut bodies: Vec<_> =
        received.iter().map(|one| String::from_utf8_lossy(&one.body)).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["<n by=\"Again\">Ticket_Update</n>", "<n by=\"Any\">Ticket_Update</n>"]);
    assert!(received.iter().all(|one| one.header("content-type") == Some("application/xml")));
    // What automation caused fires only where the webhook asks for it, as with every webhook.
    let mut automatic = event("Ticket_Add", "auto");
    automatic["origin"] = json!("AUTOMATION");
    assert_eq!(world.fans_out(&automatic).await, 0);
    assert_eq!(world.verdict("auto", &id).await["rule"], "includeEventsFrom");
    world.patch(&id, &json!({ "includeEventsFrom": ["AUTOMATION"] })).await.expect(200);
    automatic["eventId"] = json!("auto again");
    assert_eq!(world.fans_out(&automatic).await, 1);
}

async fn parameters_go_where_the_method_has_room(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    for (receiver, method, format) in [("/get", "GET", "json"), ("/form", "POST", "form")] {
        let more = json!({ "method": method, "format": format });
        let id = connected(&world, receiver, "trigger", more).await;
        let action = json!({
            "webhookId": id, "parameters": [["b", "{{ticket.id}}"], ["a", "x & y"], ["b", "2"]],
        });
        let rule = json!({ "name": receiver, "conditions": new_tickets(), "action": action });
        make(&world, TRIGGERS, &rule).await;
    }
    assert_eq!(world.fans_out(&event("Ticket_Add", "7")).await, 2);
    let pairs: Vec<(String, String)> = [("b", "7"), ("a", "x & y"), ("b", "2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let get = world.arrived("/get", 1).await.remove(0);
    assert_eq!((get.method.as_str(), get.parameters()), ("GET", pairs));
    assert!(get.body.is_empty());
    let form = world.arrived("/form", 1).await.remove(0);
    assert_eq!(form.body, "b=7&a=x+%26+y&b=2");
    assert_eq!(form.header("content-type"), Some("application/x-www-form-urlencoded"));
}

async fn a_rule_is_checked_before_it_is_written(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = connected(&world, "/hook", "trigger", json!({})).await;
    let events = world.make("/events", json!({})).await;
    let refused = async |rule: Value| {
        let answer = world.server.client.post(TRIGGERS, &world.admin, &rule).await;
        let answer = answer.refused(422, "INVALID_DATA");
        let error = answer.json["errors"][0].clone();
        (error["fieldName"].as_str().unwrap_or_default().to_owned(), error.to_string())
    };
    let (field, text) =
        refused(rule(&id, "a", &new_tickets(), r#"{"s":"{{ticket.subjct}}"}"#)).await;
    assert_eq!(field, "/action/payload");
    assert!(text.contains("did you mean ticket.subject?"), "{text}");
    let (field, text) =
        refused(rule(&id, "a", &json!({ "all": [is("eventType", "Ticket_Ad")] }), "{}")).await;
    assert_eq!(field, "/conditions/all/0/value");
    assert!(text.contains("did you mean Ticket_Add?"), "{text}");
    for (rule, wanted) in [
        (rule(&id, "a", &new_tickets(), "{"), "/action/payload"),
        (rule(&id, "a", &json!({}), "{}"), "/conditions"),
        (rule(&events, "a", &new_tickets(), "{}"), "/action/webhookId"),
        (rule(&uuid::Uuid::nil().to_string(), "a", &new_tickets(), "{}"), "/action/webhookId"),
        (
            rule(&id, "a", &new_tickets(), &format!("\"{}\"", "x".repeat(262_143))),
            "/action/payload",
        ),
    ] {
        assert_eq!(refused(rule).await.0, wanted);
    }
    let mut later = rule(&id, "a", &new_tickets(), "{}");
    later["afterMinutes"] = json!(5);
    assert_eq!(refused(later).await.0, "/afterMinutes");
    let empty = rule(&id, "a", &new_tickets(), "");
    let made = world.server.client.post(TRIGGERS, &world.admin, &empty).await.expect(201);
    assert_eq!(made.json["warnings"].as_array().map(Vec::len), Some(1), "{}", made.text);
    // What the webhook sends must stay fit for its triggers.
    make(&world, TRIGGERS, &rule(&id, "b", &new_tickets(), "{}")).await;
    let patched = world.patch(&id, &json!({ "method": "GET" })).await.refused(422, "INVALID_DATA");
    assert!(patched.text.contains("trigger `b`"), "{}", patched.text);
    let placeholder = world.server.vendor.url("/{{ticket.idd}}");
    let wrong = json!({
        "dialect": "zendesk", "connection": "trigger", "subscriptions": {}, "url": placeholder,
    });
    let refused = world.try_make("/x", &wrong).await.refused(422, "INVALID_DATA");
    assert!(refused.text.contains("did you mean ticket.id?"), "{}", refused.text);
}

async fn a_rule_is_changed_listed_and_deleted(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    let id = connected(&world, "/hook", "trigger", json!({})).await;
    let first = make(&world, TRIGGERS, &rule(&id, "first", &new_tickets(), "{}")).await;
    let second = make(&world, TRIGGERS, &rule(&id, "second", &new_tickets(), "{}")).await;
    let names = async || -> Vec<String> {
        let all = client.all(&format!("{TRIGGERS}?limit=1"), &world.admin).await;
        all.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names().await, ["first", "second"]);
    let of = |id: &str| format!("{TRIGGERS}/{id}");
    let patch = async |id: &str, patch: Value| {
        client.call(Method::PATCH, &of(id), &world.admin, Some(&patch)).await
    };
    patch(&first, json!({ "position": 9, "isActive": false })).await.expect(200);
    assert_eq!(names().await, ["second", "first"]);
    assert_eq!(world.fans_out(&event("Ticket_Add", "1")).await, 1, "one is switched off");
    let changed =
        patch(&second, json!({ "conditions": { "all": [is("eventType", "Contact_Add")] } }));
    assert_eq!(changed.await.expect(200).json["name"], "second");
    assert_eq!(world.fans_out(&event("Ticket_Add", "2")).await, 0);
    assert_eq!(world.fans_out(&event("Contact_Add", "3")).await, 1);
    patch(&second, json!({ "conditions": {} })).await.refused(422, "INVALID_DATA");
    let read = client.get(&of(&second), &world.admin).await.expect(200).json;
    assert_eq!(read["conditions"]["all"][0]["value"], "Contact_Add", "{read}");
    client.call(Method::DELETE, &of(&second), &world.admin, None).await.expect(204);
    assert_eq!(world.fans_out(&event("Contact_Add", "4")).await, 0);
    client.get(&of(&second), &world.admin).await.refused(404, "RESOURCE_NOT_FOUND");
    // The same request again is answered as the first time.
    let body = rule(&id, "third", &new_tickets(), "{}");
    let keyed = async || {
        let request = client.request(Method::POST, TRIGGERS, &world.admin);
        client.send(request.header("Idempotency-Key", "once").json(&body)).await.expect(201)
    };
    let (once, again) = (keyed().await, keyed().await);
    assert_eq!(once.json["id"], again.json["id"]);
}

async fn a_webhook_in_use_is_not_deleted(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    let id = connected(&world, "/hook", "trigger", json!({})).await;
    let trigger = make(&world, TRIGGERS, &rule(&id, "Tell the wall", &new_tickets(), "{}")).await;
    let path = OwnWorld::path(&id, "");
    let refused = client.call(Method::DELETE, &path, &world.admin, None).await;
    let refused = refused.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["usedBy"][0]["id"], json!(trigger));
    assert!(refused.text.contains("Tell the wall"), "{}", refused.text);
    client
        .call(Method::DELETE, &format!("{TRIGGERS}/{trigger}"), &world.admin, None)
        .await
        .expect(204);
    client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
}

async fn rules_belong_to_their_org(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    let id = connected(&world, "/hook", "trigger", json!({})).await;
    let trigger = make(&world, TRIGGERS, &rule(&id, "a", &new_tickets(), "{}")).await;
    let stranger = world.server.admin("another-org").await;
    let path = format!("{TRIGGERS}/{trigger}");
    client.get(&path, &stranger).await.refused(404, "RESOURCE_NOT_FOUND");
    client.call(Method::PATCH, &path, &stranger, Some(&json!({ "name": "b" }))).await.expect(404);
    client.call(Method::DELETE, &path, &stranger, None).await.expect(404);
    let body = rule(&id, "b", &new_tickets(), "{}");
    client.post(TRIGGERS, &stranger, &body).await.refused(422, "INVALID_DATA");
    assert!(client.get(TRIGGERS, &stranger).await.expect(200).data().is_empty());
    // An automation is no trigger.
    client.get(&format!("{AUTOMATIONS}/{trigger}"), &world.admin).await.expect(404);
    client.post(TRIGGERS, &world.host, &body).await.refused(403, "FORBIDDEN");
}

async fn automation(world: &OwnWorld, unless: Option<Value>) -> String {
    let id = connected(world, "/later", "automation", json!({})).await;
    assert_eq!(world.read(&id).await["setup"], "needsAutomation");
    let mut body = rule(&id, "Unanswered", &new_tickets(), r#"{"id":"{{ticket.id}}"}"#);
    let missing = world.server.client.post(AUTOMATIONS, &world.admin, &body).await;
    assert_eq!(
        missing.refused(422, "INVALID_DATA").json["errors"][0]["fieldName"],
        "/afterMinutes"
    );
    body["afterMinutes"] = json!(120);
    if let Some(unless) = unless {
        body["unless"] = unless;
    }
    make(world, AUTOMATIONS, &body).await;
    id
}

async fn an_automation_fires_when_its_time_has_come(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = automation(&world, None).await;
    assert_eq!(world.fans_out(&event("Ticket_Add", "1")).await, 1);
    a_while().await;
    let waiting = world.deliveries(&id).await.remove(0);
    assert_eq!(
        (&waiting["state"], waiting["attempts"].as_array().map(Vec::len)),
        (&json!("pending"), Some(0))
    );
    world.server.advance(Duration::from_mins(119));
    a_while().await;
    assert_eq!(world.deliveries(&id).await[0]["state"], "pending");
    world.server.advance(Duration::from_mins(2));
    let received = world.arrived("/later", 1).await.remove(0);
    assert_eq!(received.json().expect("JSON"), json!({ "id": "1" }));
    world.settled(&id, "delivered", 1).await;
}

async fn an_automation_keeps_its_time_while_its_webhook_is_off(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = automation(&world, None).await;
    assert_eq!(world.fans_out(&event("Ticket_Add", "1")).await, 1);
    for action in ["/disable", "/enable"] {
        world.act(&id, action, &json!({})).await.expect(200);
        a_while().await;
        let waiting = world.deliveries(&id).await.remove(0);
        assert_eq!(waiting["state"], "pending", "{action}: {waiting}");
    }
    world.server.advance(Duration::from_mins(119));
    a_while().await;
    assert_eq!(world.deliveries(&id).await[0]["state"], "pending");
    // Off when its time has come, it is held from then on, and goes out with the rest.
    world.act(&id, "/disable", &json!({})).await.expect(200);
    world.server.advance(Duration::from_mins(2));
    world.settled(&id, "held", 1).await;
    world.act(&id, "/enable", &json!({})).await.expect(200);
    assert_eq!(world.arrived("/later", 1).await.len(), 1);
    world.settled(&id, "delivered", 1).await;
}

async fn an_automation_that_went_to_another_webhook_still_fires(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = automation(&world, None).await;
    assert_eq!(world.fans_out(&event("Ticket_Add", "1")).await, 1);
    let other = connected(&world, "/other", "automation", json!({})).await;
    let path = format!("{AUTOMATIONS}?webhookId={id}");
    let rule = world.server.client.get(&path, &world.admin).await.expect(200).data()[0].clone();
    let path = format!("{AUTOMATIONS}/{}", rule["id"].as_str().expect("an id"));
    let moved =
        json!({ "action": { "webhookId": other, "payload": r#"{"moved":"{{ticket.id}}"}"# } });
    let client = &world.server.client;
    client.call(Method::PATCH, &path, &world.admin, Some(&moved)).await.expect(200);
    world.server.advance(Duration::from_mins(121));
    let received = world.arrived("/later", 1).await.remove(0);
    assert_eq!(received.json().expect("JSON"), json!({ "moved": "1" }));
    let delivered = world.settled(&id, "delivered", 1).await.remove(0);
    // One that was deleted fires no more.
    assert_eq!(world.fans_out(&event("Ticket_Add", "2")).await, 1);
    client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    world.server.advance(Duration::from_mins(121));
    world.settled(&other, "cancelled", 1).await;
    // What it sent stays as it was: nobody knows any more what to send again.
    let retry = format!("/api/v1/deliveries/{}/retry", delivered["id"].as_str().expect("an id"));
    let refused = client.post(&retry, &world.admin, &json!({})).await;
    let refused = refused.refused(409, "STATE_CONFLICT");
    assert!(refused.text.contains("trigger or automation"), "{}", refused.text);
    world.settled(&id, "delivered", 1).await;
    // Many at once neither: they are counted under the reason.
    let body = json!({ "since": "1970-01-02T00:00:00Z", "state": "cancelled" });
    let job = world.act(&other, "/recover", &body).await.expect(202).text_of("jobId");
    let done = eventually("the job ends", async || {
        let path = format!("/api/v1/jobs/{job}");
        let job = client.get(&path, &world.server.operator).await.expect(200).json;
        (job["state"] == "done").then_some(job)
    })
    .await;
    assert_eq!(done["skipped"], json!({ "ruleEnded": 1 }), "{done}");
}

async fn what_cannot_be_sent_says_nothing_of_the_endpoint(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let url = world.server.vendor.url("/t/{{ticket.subject}}");
    let id = connected(&world, "/t", "trigger", json!({ "url": url })).await;
    make(&world, TRIGGERS, &rule(&id, "New", &new_tickets(), "{}")).await;
    for number in 0..15 {
        let subject = if number % 2 == 0 { ".." } else { "" };
        let odd = ticket(&number.to_string(), json!({ "id": "1", "subject": subject }));
        assert_eq!(world.fans_out(&odd).await, 1);
    }
    world.settled(&id, "failed", 15).await;
    let read = world.read(&id).await;
    assert_eq!(read["health"]["state"], "ok", "{read}");
    assert!(world.notices("webhook.failing").await.is_empty());
    let fit = ticket("fit", json!({ "id": "1", "subject": "a" }));
    assert_eq!(world.fans_out(&fit).await, 1);
    world.arrived("/t/a", 1).await;
}

async fn an_automation_does_not_fire_where_something_happened(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let unless = json!({ "all": [{ "field": "eventType", "operator": "is",
        "value": ["Ticket_Comment_Add", "Ticket_Delete"] }] });
    let id = automation(&world, Some(unless)).await;
    for ticket in ["1", "2", "3"] {
        assert_eq!(world.fans_out(&event("Ticket_Add", ticket)).await, 1);
    }
    let comment = json!({
        "eventType": "Ticket_Comment_Add", "orgId": ORG, "payload": { "id": "9", "ticketId": "2" },
    });
    assert_eq!(world.fans_out(&comment).await, 0);
    assert_eq!(
        world
            .fans_out(
                &json!({ "eventType": "Ticket_Delete", "orgId": ORG, "payload": { "id": "3" } })
            )
            .await,
        0
    );
    world.server.advance(Duration::from_mins(121));
    let received = world.arrived("/later", 1).await.remove(0);
    assert_eq!(received.json().expect("JSON"), json!({ "id": "1" }));
    eventually("two that are cancelled", async || {
        let all = world.deliveries(&id).await;
        let cancelled = all.iter().filter(|one| one["state"] == "cancelled").count();
        (cancelled == 2).then_some(())
    })
    .await;
    // They say why.
    let path = format!("/api/v1/deliveries?webhookId={id}&state=cancelled");
    for one in world.server.client.all(&path, &world.admin).await {
        let reason = one["reason"].as_str().expect("a reason");
        assert!(reason.contains("unless") && reason.contains("Unanswered"), "{reason}");
    }
    a_while().await;
    assert_eq!(world.arrived("/later", 1).await.len(), 1, "and no more");
}

async fn placeholders_and_names_are_listed(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    let listed =
        client.get("/api/v1/placeholders?eventType=Ticket_Add", &world.admin).await.expect(200);
    let named = |name: &str| listed.data().iter().find(|one| one["name"] == name).cloned();
    let subject = named("ticket.subject").expect("it is listed");
    assert_eq!(subject["placeholder"], "{{ticket.subject}}");
    assert!(subject["sample"].is_string());
    assert_eq!(named("ticket.title").expect("it is listed")["sameAs"], "ticket.subject");
    // What a new rule begins with can be saved as it is.
    let id = connected(&world, "/hook", "trigger", json!({})).await;
    let starter = listed.json["templates"]["json"].as_str().expect("a template");
    let made = rule(&id, "a", &new_tickets(), starter);
    let made = client.post(TRIGGERS, &world.admin, &made).await.expect(201);
    assert_eq!(made.json["warnings"], json!([]));
    let of_dialect = "/api/v1/placeholders?eventType=request.created&dialect=dzdesk";
    assert_eq!(
        client.get(of_dialect, &world.admin).await.expect(200).json["eventType"],
        "Ticket_Add"
    );
    let unknown = client.get("/api/v1/placeholders?eventType=Ticket_Ad", &world.admin).await;
    assert!(unknown.refused(422, "INVALID_DATA").text.contains("did you mean Ticket_Add?"));
    for (dialect, count) in [("desk", 56), ("standard", 76), ("dzdesk", 11), ("assist", 18)] {
        let path = format!("/api/v1/event-types?dialect={dialect}");
        let types = client.get(&path, &world.admin).await.expect(200);
        assert_eq!(types.data().len(), count, "{dialect}");
        assert!(types.data().iter().all(|one| !one["sample"].is_null()), "{dialect}");
    }
    let zendesk = client.get("/api/v1/event-types?dialect=zendesk", &world.admin).await.expect(200);
    let created = zendesk.data().iter().find(|one| one["name"] == "zen:event-type:ticket.created");
    assert_eq!(created.expect("it is listed")["sample"]["type"], "zen:event-type:ticket.created");
    // A number of Assist's is posted as its name.
    let posted =
        json!({ "eventType": "13", "eventId": "on", "orgId": ORG, "payload": { "id": "1" } });
    world.fans_out(&posted).await;
    let told = client.get("/api/v1/events/on", &world.admin).await.expect(200);
    assert_eq!(told.json["eventType"], "Device Online");
}

async fn a_test_sends_what_a_trigger_would(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let described = json!({
        "dialect": "zendesk", "connection": "trigger", "subscriptions": {}, "method": "PATCH",
        "url": world.server.vendor.url("/trial/{{ticket.ticketNumber}}"),
    });
    let unsaved = json!({
        "webhook": described, "eventType": "Ticket_Add", "payload": "{\"n\":\"{{ticket.id}}\"}",
        "body": { "id": "77", "ticketNumber": "8" },
    });
    let path = "/api/v1/webhooks/test";
    let told = world.server.client.post(path, &world.admin, &unsaved).await.expect(200).json;
    assert_eq!(told["outcome"], "delivered", "{told}");
    let received = world.arrived("/trial/8", 1).await.remove(0);
    assert_eq!((received.method.as_str(), &received.body[..]), ("PATCH", &b"{\"n\":\"77\"}"[..]));
    assert_eq!(received.header("x-mortise-test"), Some("true"));
    for (member, value) in [
        ("payload", json!("{{ticket.idd}}")),
        ("payload", json!("{")),
        ("parameters", json!([["a", "b"]])),
    ] {
        let mut wrong = unsaved.clone();
        wrong["payload"] = Value::Null;
        wrong[member] = value;
        let refused = world.server.client.post(path, &world.admin, &wrong).await;
        let refused = refused.refused(422, "INVALID_DATA");
        assert_eq!(
            refused.json["errors"][0]["fieldName"],
            format!("/{member}"),
            "{}",
            refused.text
        );
    }
    // A saved one sends what its first trigger does; without one what a new one begins with.
    let id = connected(&world, "/saved", "trigger", json!({})).await;
    let test = async || {
        let told = world.act(&id, "/test", &json!({ "eventType": "Ticket_Add" })).await.expect(200);
        serde_json::from_str::<Value>(told.json["request"]["body"].as_str().expect("a body"))
            .expect("JSON")
    };
    assert!(test().await["ticket"]["subject"].is_string());
    make(&world, TRIGGERS, &rule(&id, "a", &new_tickets(), "[\"{{event.type}}\"]")).await;
    assert_eq!(test().await, json!(["Ticket_Add"]));
}
