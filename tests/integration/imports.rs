//! Webhooks, triggers and automations of other help desks, imported.
#![expect(clippy::needless_pass_by_value, reason = "documents are written where they are used")]

use std::time::Duration;

use mortise::crypto::{Signer, SigningSecret};
use mortise::development::Behaviour;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS, event};
use crate::support::server::{Backend, ORG, assert_absent};

on_both!(
    zendesks_definitions_are_made_in_one_go_and_once,
    a_dry_run_makes_nothing_and_says_the_same,
    what_is_missing_is_named_and_can_be_given_later,
    what_has_no_room_in_the_plan_makes_nothing,
    what_was_imported_before_is_brought_up_to_date_where_that_is_asked_for,
    zoho_desks_webhooks_are_made_and_its_extensions_are_not,
    an_import_is_of_one_org_and_for_those_who_may,
);

const IMPORT: &str = "/api/v1/webhooks/import";
const ID: &str = "01EJFTSCC78X5V07NPY2MHR00M";

fn hook(world: &OwnWorld, id: &str, path: &str, more: Value) -> Value {
    let mut hook = json!({
        "id": id, "name": format!("Hook {id}"), "status": "active", "http_method": "POST",
        "endpoint": world.server.vendor.url(path), "request_format": "json",
        "subscriptions": ["conditional_ticket_events"],
    });
    for (name, value) in more.as_object().expect("members") {
        hook[name] = value.clone();
    }
    hook
}

fn calls(id: u64, webhook: &str, conditions: Value, payload: &str) -> Value {
    json!({
        "id": id, "title": format!("Rule {id}"), "active": true, "conditions": conditions,
        "actions": [
            { "field": "notification_user", "value": ["requester_id", "Hi", "there"] },
            { "field": "notification_webhook", "value": [webhook, payload] },
        ],
    })
}

/// One webhook that a trigger and an automation call, and one of events.
fn export(world: &OwnWorld) -> Value {
    let new = json!({ "all": [{ "field": "update_type", "operator": "is", "value": "Create" }] });
    let solved =
        json!({ "all": [{ "field": "SOLVED", "operator": "greater_than", "value": "24" }] });
    json!({
        "source": "zendesk",
        "webhooks": { "webhooks": [
            hook(world, ID, "/conditional", json!({})),
            hook(world, "02", "/events", json!({ "subscriptions": ["zen:event-type:ticket.created"] })),
        ], "meta": { "has_more": false } },
        "triggers": { "triggers": [
            calls(11, ID, new, "{\"id\":\"{{ticket.id}}\",\"title\":\"{{ticket.title}}\"}"),
            { "id": 12, "title": "Mail only", "actions": [{ "field": "notification_user", "value": [] }] },
        ] },
        "automations": { "automations": [calls(21, ID, solved, "{\"late\":{{ticket.id}}}")] },
        "credentials": { (ID): { "secret": "kept from before" } },
    })
}

fn outcomes(told: &Value) -> Vec<(String, String)> {
    let items = told["items"].as_array().expect("items");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    items.iter().map(|item| (text(&item["sourceId"]), text(&item["outcome"]))).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(one, two)| ((*one).to_owned(), (*two).to_owned())).collect()
}

async fn import(world: &OwnWorld, body: &Value) -> Value {
    world.server.client.post(IMPORT, &world.admin, body).await.expect(200).json
}

async fn count(world: &OwnWorld, path: &str) -> usize {
    world.server.client.all(path, &world.admin).await.len()
}

async fn zendesks_definitions_are_made_in_one_go_and_once(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let body = export(&world);
    let told = import(&world, &body).await;
    assert_eq!(
        outcomes(&told),
        pairs(&[
            (ID, "made"),
            (ID, "made"),
            ("02", "made"),
            ("11", "made"),
            ("12", "skipped"),
            ("21", "made")
        ])
    );
    let items = told["items"].as_array().expect("items");
    // What was given is told to nobody; what was made is told once.
    assert_eq!(items[0]["secret"], Value::Null);
    assert!(items[2]["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
    assert_eq!(items[0]["webhook"]["setup"], "needsTrigger");
    let hook = items[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.read(&hook).await["setup"], "complete");
    assert!(items[3]["notes"][0].as_str().is_some_and(|note| note.contains("notification_user")));
    // They work.
    let mut new = event("Ticket_Add", "t1");
    new["payload"] = json!({ "id": "t1", "subject": "On \"fire\"" });
    assert_eq!(world.fans_out(&new).await, 2);
    let received = world.arrived("/conditional", 1).await.remove(0);
    assert_eq!(received.json().expect("JSON"), json!({ "id": "t1", "title": "On \"fire\"" }));
    assert!(received.header("x-zendesk-webhook-signature").is_some());
    world.arrived("/events", 1).await;
    // A second run makes nothing, and what was changed here meanwhile stays.
    world.patch(&hook, &json!({ "name": "Mine now" })).await.expect(200);
    let again = import(&world, &body).await;
    assert_eq!(
        outcomes(&again),
        pairs(&[
            (ID, "exists"),
            (ID, "exists"),
            ("02", "exists"),
            ("11", "exists"),
            ("12", "skipped"),
            ("21", "exists")
        ])
    );
    assert_eq!(again["items"][0]["id"], json!(hook));
    assert_eq!(world.read(&hook).await["name"], "Mine now");
    assert_eq!(count(&world, WEBHOOKS).await, 3);
    assert_eq!(count(&world, "/api/v1/triggers").await, 1);
    assert_eq!(count(&world, "/api/v1/automations").await, 1);
    // What was removed is made again by another run.
    let rule = items[3]["id"].as_str().expect("an id");
    for path in [format!("/api/v1/triggers/{rule}"), OwnWorld::path(&hook, "")] {
        world.server.client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    }
    let third = import(&world, &body).await;
    assert_eq!((&third["made"], &third["exists"]), (&json!(2), &json!(3)));
    // One row for the import, beside one for each thing.
    let imports =
        format!("select detail from audit where chain = '{ORG}' and action = 'webhook.import'");
    assert_eq!(world.server.texts(&imports).await.len(), 2);
    assert_absent(&world.server.dump().await, "kept from before");
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_dry_run_makes_nothing_and_says_the_same(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let body = export(&world);
    let path = format!("{IMPORT}?dryRun=true");
    let dry = world.server.client.post(&path, &world.admin, &body).await.expect(200).json;
    assert_eq!((&dry["dryRun"], &dry["made"]), (&json!(true), &json!(5)));
    assert_eq!(dry["items"][0]["webhook"]["url"], world.server.vendor.url("/conditional"));
    assert_eq!(dry["items"][3]["rule"]["conditions"]["all"][0]["value"], "Ticket_Add");
    assert!(dry["items"].as_array().expect("items").iter().all(|item| item["id"].is_null()));
    assert!(!dry.to_string().contains("whsec_"));
    assert_eq!(count(&world, WEBHOOKS).await, 0);
    let rows = format!("select action from audit where chain = '{ORG}' and action like 'webhook%'");
    assert!(world.server.texts(&rows).await.is_empty());
    let told = import(&world, &body).await;
    assert_eq!(outcomes(&told), outcomes(&dry));
    let dry = world.server.client.post(&path, &world.admin, &body).await.expect(200).json;
    assert_eq!((&dry["made"], &dry["exists"]), (&json!(0), &json!(5)));
    assert_eq!(dry["items"][0]["id"], told["items"][0]["id"]);
}

async fn what_was_imported_before_is_brought_up_to_date_where_that_is_asked_for(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let mut body = export(&world);
    let told = import(&world, &body).await;
    let id = |told: &Value, place: usize| told["items"][place]["id"].as_str().map(str::to_owned);
    let hook = id(&told, 0).expect("an id");
    world.act(&hook, "/disable", &json!({})).await.expect(200);
    let source = world.read(&hook).await["ignoreSourceId"].clone();
    // Another name, address and payload there.
    body["credentials"] = json!({});
    body["existing"] = json!("update");
    body["webhooks"]["webhooks"][0]["name"] = json!("Renamed");
    body["webhooks"]["webhooks"][0]["endpoint"] = json!(world.server.vendor.url("/moved"));
    body["triggers"]["triggers"][0]["actions"][1]["value"][1] = json!("{\"n\":{{ticket.id}}}");
    let path = format!("{IMPORT}?dryRun=true");
    let dry = world.server.client.post(&path, &world.admin, &body).await.expect(200).json;
    let expected = pairs(&[
        (ID, "updated"),
        (ID, "updated"),
        ("02", "exists"),
        ("11", "updated"),
        ("12", "skipped"),
        ("21", "exists"),
    ]);
    assert_eq!(outcomes(&dry), expected);
    assert_eq!((&dry["updated"], &dry["made"], &dry["exists"]), (&json!(3), &json!(0), &json!(2)));
    let changes = dry["items"][0]["changes"].as_array().expect("changes");
    let mut members: Vec<_> = changes.iter().map(|one| one["member"].to_string()).collect();
    members.sort_unstable();
    assert_eq!(members, ["\"name\"", "\"url\""], "{changes:?}");
    let name = changes.iter().find(|one| one["member"] == "name").expect("the name");
    assert!(name["before"] != name["after"] && name["after"].to_string().contains("Renamed"));
    assert_eq!(id(&dry, 0).as_deref(), Some(&*hook));
    assert_eq!(world.read(&hook).await["url"], world.server.vendor.url("/conditional"));
    let updated = import(&world, &body).await;
    assert_eq!(outcomes(&updated), expected);
    let read = world.read(&hook).await;
    assert_eq!(read["url"], world.server.vendor.url("/moved"));
    assert_eq!((&read["isEnabled"], &read["ignoreSourceId"]), (&json!(false), &source));
    // The same once more changes nothing, and what signs stays.
    let again = import(&world, &body).await;
    assert_eq!((&again["updated"], &again["exists"]), (&json!(0), &json!(5)));
    body["isEnabled"] = json!(true);
    let on = import(&world, &body).await;
    assert_eq!(on["items"][0]["changes"][0]["member"], "isEnabled", "{on}");
    assert_eq!(world.fans_out(&event("Ticket_Add", "t1")).await, 2);
    let received = world.arrived("/moved", 1).await.remove(0);
    assert_eq!(received.json().expect("JSON"), json!({ "n": "t1" }));
    let secret = SigningSecret::from_chosen_bytes(b"kept from before").expect("a secret");
    let header = |name: &str| received.header(name).expect("the header is there");
    let timestamp = header("webhook-timestamp").parse().expect("a number");
    let signer = Signer::new([&secret]).expect("a signer");
    let signature = signer.sign(header("webhook-id"), timestamp, &[&received.body]);
    assert_eq!(signature, header("webhook-signature"));
    body["existing"] = json!("replace");
    world.server.client.post(IMPORT, &world.admin, &body).await.refused(422, "INVALID_DATA");
    let rows = format!(
        "select detail from audit where chain = '{ORG}' and action = 'webhook.import' order by sequence"
    );
    let rows = world.server.texts(&rows).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_is_missing_is_named_and_can_be_given_later(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let mut body = export(&world);
    let basic =
        json!({ "type": "basic_auth", "add_position": "header", "data": { "username": "ann" } });
    body["webhooks"]["webhooks"][0]["authentication"] = basic;
    // Credentials are for https alone: here nobody is called.
    body["webhooks"]["webhooks"][0]["endpoint"] = json!("https://hooks.example/conditional");
    let unknown = "{\"c\":\"{{ticket.latest_comment}}\"}";
    body["triggers"]["triggers"][0]["actions"][1]["value"][1] = json!(unknown);
    let told = import(&world, &body).await;
    assert_eq!(
        outcomes(&told),
        pairs(&[
            (ID, "blocked"),
            (ID, "blocked"),
            ("02", "made"),
            ("11", "blocked"),
            ("12", "skipped"),
            ("21", "blocked")
        ])
    );
    let missing = &told["items"][0]["missing"][0];
    assert_eq!(missing["pointer"], format!("/credentials/{ID}/password"));
    assert_eq!(missing["isNeeded"], true);
    body["credentials"][ID]["password"] = json!("hunter2-is-long-enough");
    let told = import(&world, &body).await;
    assert_eq!(
        outcomes(&told),
        pairs(&[
            (ID, "made"),
            (ID, "made"),
            ("02", "exists"),
            ("11", "impossible"),
            ("12", "skipped"),
            ("21", "made")
        ])
    );
    assert!(!told.to_string().contains("hunter2"));
    let reasons = told["items"][3]["reasons"].to_string();
    assert!(reasons.contains("ticket.latest_comment") && reasons.contains("mapping.placeholders"));
    body["mapping"] = json!({ "placeholders": { "ticket.latest_comment": "ticket.description" } });
    let told = import(&world, &body).await;
    assert_eq!(told["made"], 1, "{told}");
    let hook = told["items"][0]["id"].as_str().expect("an id");
    let read = world.read(hook).await;
    assert_eq!(read["authentication"], json!({ "type": "basic", "username": "ann" }));
}

async fn what_has_no_room_in_the_plan_makes_nothing(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let plan = format!("/api/v1/orgs/{ORG}/plan");
    let operator = world.server.operator.clone();
    let two = json!({ "webhooks": 2 });
    world.server.client.call(Method::PUT, &plan, &operator, Some(&two)).await.expect(200);
    let body = export(&world);
    let path = format!("{IMPORT}?dryRun=true");
    let dry = world.server.client.post(&path, &world.admin, &body).await.expect(200).json;
    assert_eq!((&dry["made"], &dry["overPlan"]), (&json!(4), &json!(1)), "{dry}");
    let refused = world.server.client.post(IMPORT, &world.admin, &body).await;
    let refused = refused.refused(403, "LICENSE_ACCESS_LIMITED");
    assert_eq!(refused.json["maxAllowedEntity"], 2);
    assert_eq!(count(&world, WEBHOOKS).await, 0);
    assert_eq!(count(&world, "/api/v1/triggers").await, 0);
}

async fn zoho_desks_webhooks_are_made_and_its_extensions_are_not(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    world.server.vendor.behave("/deaf", Behaviour::status(500));
    let one = |id: &str, path: &str, kind: &str| {
        json!({
            "id": id, "name": id, "url": world.server.vendor.url(path), "type": kind,
            "subscriptions": { "Ticket_Add": null }, "isEnabled": true, "includeEventsFrom": null,
            "ignoreSourceId": "49ad222a-f812-11e7-8c3f-9a214cf093ae",
            "createdTime": "1515417983427", "modifiedTime": "1515417983427", "createdBy": "5",
        })
    };
    let body = json!({ "source": "zohoDesk", "webhooks": { "data": [
        one("1", "/zoho", "CUSTOMER_WEBHOOK"), one("2", "/zoho", "EXTENSION_WEBHOOK"),
        one("3", "/deaf", "CUSTOMER_WEBHOOK"),
    ] } });
    let told = import(&world, &body).await;
    assert_eq!(outcomes(&told), pairs(&[("1", "made"), ("2", "impossible"), ("3", "impossible")]));
    assert!(
        told["items"][2]["reasons"][0].as_str().is_some_and(|why| why.contains("500")),
        "{told}"
    );
    let id = told["items"][0]["id"].as_str().expect("an id").to_owned();
    let read = world.read(&id).await;
    assert_eq!(read["dialect"], "desk");
    assert_eq!(read["ignoreSourceId"], "49ad222a-f812-11e7-8c3f-9a214cf093ae");
    assert_eq!(world.fans_out(&event("Ticket_Add", "z1")).await, 1);
    let arrived = world.arrived("/zoho", 2).await;
    let received = arrived.iter().find(|one| one.header("webhook-id").is_some()).expect("an event");
    assert_eq!(received.json().expect("JSON")[0]["eventType"], "Ticket_Add");
}

async fn an_import_is_of_one_org_and_for_those_who_may(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let body = export(&world);
    import(&world, &body).await;
    // Another org has none of it.
    let other = world.server.admin("7").await;
    let told = world.server.client.post(IMPORT, &other, &body).await.expect(200).json;
    assert_eq!(told["made"], 5, "{told}");
    let viewer = world.server.token(json!({ "role": "viewer", "orgId": ORG })).await;
    world.server.client.post(IMPORT, &viewer, &body).await.refused(403, "FORBIDDEN");
    let empty = json!({ "source": "zendesk", "webhooks": { "webhooks": [] } });
    world.server.client.post(IMPORT, &world.admin, &empty).await.refused(422, "INVALID_DATA");
    // The same request under one key is one request.
    let third = world.server.admin("8").await;
    let send = async || {
        let request = world.server.client.request(Method::POST, IMPORT, &third);
        let request = request.header("Idempotency-Key", "one").json(&body);
        world.server.client.send(request).await.expect(200).json
    };
    assert_eq!(send().await, send().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_imports_files() {
    let world = OwnWorld::start(Backend::Sqlite).await;
    let body = export(&world);
    let folder = world.server.folder();
    let write = |name: &str, value: &Value| {
        let file = folder.join(name);
        std::fs::write(&file, value.to_string()).expect("a file");
        file.display().to_string()
    };
    let files: Vec<String> = ["webhooks", "triggers", "automations", "credentials"]
        .iter()
        .flat_map(|name| [format!("--{name}"), write(name, &body[*name])])
        .collect();
    let token = write("token", &Value::Null);
    std::fs::write(&token, &world.admin).expect("a file");
    let run = async |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mortise"));
        command.args(["import", "zendesk", "--token-file", &token, "--server"]);
        command.arg(world.server.client.url("")).args(&files).args(more);
        command.env_remove("MORTISE_TOKEN").kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_mins(1), command.output()).await;
        let ended = ended.expect("in time").expect("it runs");
        (ended.status.code(), String::from_utf8(ended.stdout).expect("text"))
    };
    let (code, said) = run(&["--dry-run"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("5 would be made") && said.contains("Rule 11"), "{said}");
    assert_eq!(count(&world, WEBHOOKS).await, 0);
    let (code, said) = run(&["--disabled", "--format", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["items"][0]["webhook"]["isEnabled"], false);
    let (code, said) = run(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0 made, 0 updated, 5 there already"), "{said}");
}
