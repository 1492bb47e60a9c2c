//! Webhooks under the attribute names of Zoho Assist.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS};
use crate::support::server::{Backend, ORG};

on_both!(
    the_attributes_of_the_page_are_taken_and_shown,
    an_event_arrives_with_numbers,
    twenty_in_all_and_ten_for_an_event,
);

const HOOKS: &str = "/api/v1/assist/webhooks";

fn hook(more: &Value) -> Value {
    let mut body = json!({
        "name": "Wall", "desc": "Shows sessions", "url": "https://hooks.example/assist",
        "ignore_src": "console-7", "subscriptions": [{ "event_id": 13, "dept_ids": [7, 8] }, { "event_id": 0 }],
        "status": 1,
    });
    for (name, value) in more.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

async fn the_attributes_of_the_page_are_taken_and_shown(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    let made = client.post(HOOKS, &world.admin, &hook(&json!({}))).await.expect(201);
    let id = made.json["hook_id"].as_i64().expect("a number");
    assert!(id > 0 && made.json["secret"].is_string());
    let path = format!("{HOOKS}/{id}");
    let read = client.get(&path, &world.admin).await.expect(200).json;
    assert_eq!(
        read,
        json!({
            "hook_id": id, "name": "Wall", "desc": "Shows sessions",
            "url": "https://hooks.example/assist", "ignore_src": "console-7", "status": 1,
            "subscriptions": [{ "event_id": 0 }, { "event_id": 13, "dept_ids": [7, 8] }],
        })
    );
    // It is the same webhook under its other names.
    let listed = client.get(&format!("{WEBHOOKS}?dialect=assist"), &world.admin).await.expect(200);
    assert_eq!(listed.data()[0]["alias"], id.to_string());
    assert_eq!(
        listed.data()[0]["subscriptions"]["Device Online"]["departmentIds"],
        json!(["7", "8"])
    );
    let off = json!({ "status": 0, "subscriptions": [{ "event_id": 17 }] });
    let changed = client.call(Method::PUT, &path, &world.admin, Some(&off)).await.expect(200).json;
    assert_eq!((&changed["status"], &changed["name"]), (&json!(0), &json!("Wall")));
    assert_eq!(changed["subscriptions"], json!([{ "event_id": 17 }]));
    assert_eq!(client.get(HOOKS, &world.admin).await.expect(200).data().len(), 1);
    for (wrong, place) in [
        (json!({ "url": "ftp://hooks.example/" }), "/url"),
        (json!({ "subscriptions": [{ "event_id": 18 }] }), "/subscriptions/0/event_id"),
        (json!({ "status": 2 }), "/status"),
    ] {
        let refused = client.post(HOOKS, &world.admin, &hook(&wrong)).await;
        let refused = refused.refused(422, "INVALID_DATA");
        assert_eq!(refused.json["errors"][0]["fieldName"], place, "{}", refused.text);
    }
    let stranger = world.server.admin("another-org").await;
    client.get(&path, &stranger).await.refused(404, "RESOURCE_NOT_FOUND");
    client.call(Method::DELETE, &path, &stranger, None).await.expect(404);
    // A webhook of another dialect is none of these.
    let other = world.make("/own", json!({})).await;
    let alias = world.read(&other).await["alias"].as_str().expect("an alias").to_owned();
    client.get(&format!("{HOOKS}/{alias}"), &world.admin).await.expect(404);
    client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    client.get(&path, &world.admin).await.expect(404);
}

async fn an_event_arrives_with_numbers(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world
        .make("/assist", json!({ "dialect": "assist", "subscriptions": { "13": null, "16 Session Start": null } }))
        .await;
    let alias = world.read(&id).await["alias"].as_str().expect("an alias").to_owned();
    for event_type in ["Device Online", "13", "Device Offline"] {
        let event = json!({
            "eventType": event_type, "orgId": ORG, "departmentId": "7", "payload": { "id": "pc-1" },
        });
        assert_eq!(world.fans_out(&event).await, u64::from(event_type != "Device Offline"));
    }
    for received in world.arrived("/assist", 2).await {
        let body = received.json().expect("JSON");
        assert_eq!((&body["event_id"], &body["event_name"]), (&json!(13), &json!("Device Online")));
        assert_eq!((&body["org_id"], &body["dept_id"]), (&json!(ORG), &json!("7")));
        assert_eq!(body["hook_id"].to_string(), alias);
        assert_eq!(body["data"], json!({ "id": "pc-1" }));
    }
    // Ping URL and Ping Event of its page, before a webhook is made and after.
    let client = &world.server.client;
    let url = world.server.vendor.url("/ping");
    let ping = async |path: &str, body: Value| {
        client.post(&format!("{HOOKS}{path}"), &world.admin, &body).await
    };
    let pinged = ping("/ping_url", json!({ "url": url })).await.expect(200).json;
    assert_eq!(
        (&pinged["outcome"], &pinged["response"]["status"]),
        (&json!("delivered"), &json!(200))
    );
    let event = json!({ "url": url, "event_id": 13 });
    assert_eq!(ping("/ping_event", event).await.expect(200).json["outcome"], "delivered");
    let received = world.arrived("/ping", 2).await;
    assert_eq!(received[0].json().expect("JSON")["event_id"], Value::Null);
    assert_eq!(received[1].json().expect("JSON")["event_name"], "Device Online");
    assert_eq!(received[1].header("x-mortise-test"), Some("true"));
    let saved = format!("/{alias}/ping_event");
    assert_eq!(
        ping(&saved, json!({ "event_id": 16 })).await.expect(200).json["outcome"],
        "delivered"
    );
    let received = world.arrived("/assist", 3).await.pop().expect("one").json().expect("JSON");
    assert_eq!(
        (&received["event_id"], received["hook_id"].to_string()),
        (&json!(16), alias.clone())
    );
    let refused = ping(&saved, json!({ "event_id": 18 })).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/event_id");
    let stranger = world.server.admin("another-org").await;
    let body = json!({ "event_id": 16 });
    client.post(&format!("{HOOKS}{saved}"), &stranger, &body).await.expect(404);
}

async fn twenty_in_all_and_ten_for_an_event(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    for number in 0..20 {
        let event = json!({ "subscriptions": [{ "event_id": if number < 10 { 13 } else { 14 } }] });
        client.post(HOOKS, &world.admin, &hook(&event)).await.expect(201);
        if number == 9 {
            let eleventh = client.post(HOOKS, &world.admin, &hook(&event)).await;
            eleventh.refused(403, "LICENSE_ACCESS_LIMITED");
        }
    }
    // The list has pages, and every one of them is on one.
    let mut ids = Vec::new();
    let mut cursor = String::new();
    for count in [8, 8, 4] {
        let page = client.get(&format!("{HOOKS}?limit=8{cursor}"), &world.admin).await.expect(200);
        assert_eq!(page.data().len(), count);
        ids.extend(page.data().iter().map(|one| one["hook_id"].as_i64().expect("a number")));
        cursor = page.json["nextCursor"]
            .as_str()
            .map(|next| format!("&cursor={next}"))
            .unwrap_or_default();
    }
    assert!(cursor.is_empty());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    let whole = client.get(&format!("{HOOKS}?orgId={ORG}"), &world.admin).await.expect(200);
    assert_eq!((whole.data().len(), &whole.json["nextCursor"]), (20, &Value::Null));
    client.get(&format!("{HOOKS}?limit=201"), &world.admin).await.refused(422, "INVALID_DATA");
    let last = hook(&json!({ "subscriptions": [{ "event_id": 15 }] }));
    client.post(HOOKS, &world.admin, &last).await.refused(403, "LICENSE_ACCESS_LIMITED");
}
