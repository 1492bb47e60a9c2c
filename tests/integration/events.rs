//! Events from the host: what is accepted, what is matched, and what is said of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::delivery_world::{World, a_while, ticket, tickets};
use crate::support::on_both;
use crate::support::server::{Backend, ORG};

on_both!(
    one_event_and_many_are_accepted,
    the_first_of_two_events_with_one_id_wins,
    faulty_events_are_refused_all_together,
    eight_mebibytes_are_taken_and_not_a_byte_more,
    a_repeated_request_is_answered_as_before,
    the_whole_matching_rule_holds,
    departments_decide_and_configure_changes_them_at_once,
    what_became_of_an_event_can_be_asked,
    every_event_type_is_described,
);

async fn one_event_and_many_are_accepted(backend: Backend) {
    let world = World::start(backend).await;
    let answer = world.post(&ticket(ORG, "t-1")).await.expect(202);
    let expected = json!({ "accepted": 1, "events": [{ "eventId": "t-1", "deliveries": 1 }] });
    assert_eq!(answer.json, expected);
    let unnamed = json!({ "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "t-2" } });
    let many = json!([unnamed, ticket("another-org", "t-3"), ticket(ORG, "t-4")]);
    let answer = world.post(&many).await.expect(202);
    assert_eq!(answer.json["accepted"], 3);
    let deliveries: Vec<_> = answer.json["events"]
        .as_array()
        .expect("it is there")
        .iter()
        .map(|e| e["deliveries"].clone())
        .collect();
    assert_eq!(deliveries, [1, 0, 1]);
    let ours = answer.json["events"][0]["eventId"].as_str().expect("our id");
    assert_eq!(uuid::Uuid::parse_str(ours).expect("a UUID").get_version_num(), 7);
    let mut arrived = tickets(&world.arrived(3).await);
    arrived.sort();
    assert_eq!(arrived, ["t-1", "t-2", "t-4"]);
    assert_eq!(world.post(&json!([])).await.expect(202).json["accepted"], 0);
}

async fn the_first_of_two_events_with_one_id_wins(backend: Backend) {
    let world = World::start(backend).await;
    world.ticket("same").await;
    let mut second = ticket(ORG, "same");
    second["payload"]["id"] = "another".into();
    let answer = world.post(&second).await.expect(202);
    let expected = json!([{ "eventId": "same", "deliveries": 1, "duplicate": true }]);
    assert_eq!(answer.json["events"], expected);
    // Another org has ids of its own.
    let elsewhere = world.post(&ticket("another-org", "same")).await.expect(202);
    assert_eq!(elsewhere.json["events"][0]["duplicate"], Value::Null);
    // Within one request the first wins too.
    let twins: Vec<Value> = (0..20)
        .map(|number| {
            let mut event = ticket(ORG, "twins");
            event["payload"]["id"] = format!("twin-{number}").into();
            event
        })
        .collect();
    let answer = world.post(&json!(twins)).await.expect(202);
    let events = answer.json["events"].as_array().expect("it is there");
    assert_eq!(events[0]["duplicate"], Value::Null);
    assert!(events[1..].iter().all(|event| event["duplicate"] == true), "{}", answer.text);
    world.arrived(2).await;
    a_while().await;
    assert_eq!(tickets(&world.arrived(2).await), ["same", "twin-0"]);
}

async fn faulty_events_are_refused_all_together(backend: Backend) {
    let world =
        World::with(backend, |settings| settings.set("limits.event_body_bytes", "64KiB"), |_| {})
            .await;
    let good = ticket(ORG, "good");
    let unknown = json!({ "eventType": "ticket.add", "orgId": ORG, "payload": {} });
    let refused = world.post(&unknown).await.refused(422, "INVALID_DATA");
    assert!(refused.text.contains("Ticket_Add"), "the nearest name: {}", refused.text);
    let refused = world.post(&json!([good, unknown, good])).await;
    let refused = refused.refused(422, "INVALID_DATA");
    assert!(refused.text.contains("/1"), "the index is named: {}", refused.text);
    for (field, value) in [
        ("payload", json!("text")),
        ("payload", Value::Null),
        ("orgId", json!("")),
        ("orgId", json!(7)),
        ("eventId", json!("x".repeat(129))),
        ("eventTime", json!("yesterday")),
        ("origin", json!("ROBOT")),
        ("sourceId", json!("a\u{0}b")),
        ("prevState", json!([])),
        ("surprise", json!(1)),
    ] {
        let mut event = good.clone();
        event[field] = value;
        let refused = world.post(&event).await;
        assert_eq!(refused.status, 422, "{field}: {}", refused.text);
    }
    let thousand: Vec<_> = (0..=1_000)
        .map(|_| json!({ "eventType": "Ticket_Add", "orgId": "o", "payload": {} }))
        .collect();
    assert_eq!(world.post(&json!(thousand[..1_000])).await.status, 202);
    let refused = world.post(&json!(thousand)).await;
    assert!([413, 422].contains(&refused.status), "{}", refused.text);
    assert!(refused.text.contains("1000"), "{}", refused.text);
    for text in ["", "[", "nonsense", "[1]"] {
        let refused = world.post_text(text).await;
        assert!([400, 422].contains(&refused.status), "{text}: {}", refused.text);
    }
    let mut large = good.clone();
    large["payload"]["text"] = "x".repeat(64 << 10).into();
    assert_eq!(world.post(&large).await.status, 413);
    // The boundary itself: the largest body that is taken.
    let text = good.to_string();
    let padded = format!("{text}{}", " ".repeat((64 << 10) - text.len()));
    assert_eq!(world.post_text(&padded).await.expect(202).json["accepted"], 1);
    a_while().await;
    assert_eq!(tickets(&world.arrived(1).await), ["good"], "of all of them only the last");
}

async fn eight_mebibytes_are_taken_and_not_a_byte_more(backend: Backend) {
    const LIMIT: usize = 8 << 20;
    let world = World::start(backend).await;
    let padded = |length: usize| {
        let mut event = ticket(ORG, "large");
        event["payload"]["text"] = "".into();
        let frame = event.to_string().len();
        event["payload"]["text"] = "x".repeat(length - frame).into();
        event.to_string()
    };
    assert_eq!(world.post_text(&padded(LIMIT + 1)).await.status, 413);
    assert_eq!(world.post_text(&padded(LIMIT)).await.expect(202).json["accepted"], 1);
    let arrived = world.arrived(1).await;
    assert!(arrived[0].body.len() > LIMIT - 200, "{}", arrived[0].body.len());
}

async fn a_repeated_request_is_answered_as_before(backend: Backend) {
    let world = World::start(backend).await;
    let client = &world.server.client;
    let send = async |body: &Value, key: &str| {
        let request = client.request(Method::POST, "/api/v1/events", &world.host);
        client.send(request.header("Idempotency-Key", key).json(body)).await
    };
    let body = json!([
        { "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "a" } },
        { "eventType": "Ticket_Add", "orgId": ORG, "payload": { "id": "b" } },
    ]);
    let first = send(&body, "key-1").await.expect(202);
    let again = send(&body, "key-1").await.expect(202);
    assert_eq!(first.text, again.text);
    assert_eq!(send(&ticket(ORG, "c"), "key-1").await.status, 409);
    send(&body, "key-2").await.expect(202);
    world.arrived(4).await;
    a_while().await;
    assert_eq!(world.arrived(4).await.len(), 4, "the repeat made none");
}

async fn the_whole_matching_rule_holds(backend: Backend) {
    let world = World::with(
        backend,
        |_| {},
        |package| {
            package.resources["webhook"]["subscriptions"] = json!({
                "Ticket_Add": null,
                "Ticket_Update": { "fields": ["status", "severity"], "includePrevState": true },
                "Ticket_Thread_Add": { "direction": "in" },
                "Contact_Update": null,
            });
        },
    )
    .await;
    let update = |payload: Value, previous: Value| json!({ "eventType": "Ticket_Update", "orgId": ORG, "payload": payload, "prevState": previous });
    let thread = |direction: &str| {
        json!({ "eventType": "Ticket_Thread_Add", "orgId": ORG,
                "payload": { "id": "1", "direction": direction } })
    };
    let ignored = "7d3b1c2e-91f4-11ef-9c5e-0b6a4f2d8e13";
    let with = |name: &str, value: Value| {
        let mut event = ticket(ORG, &format!("with-{name}-{value}").replace('"', ""));
        event[name] = value;
        event
    };
    let table = [
        ("plain", ticket(ORG, "plain"), 1),
        ("another org", ticket("another-org", "x"), 0),
        ("not subscribed", json!({ "eventType": "Account_Add", "orgId": ORG, "payload": {} }), 0),
        ("field changed", update(json!({ "status": "Open" }), json!({ "status": "New" })), 1),
        ("field same", update(json!({ "status": "Open" }), json!({ "status": "Open" })), 0),
        (
            "other field",
            update(json!({ "status": "a", "x": 1 }), json!({ "status": "a", "x": 2 })),
            0,
        ),
        ("missing is null", update(json!({ "status": null }), json!({})), 0),
        (
            "custom field",
            update(json!({ "cf": { "severity": 2 } }), json!({ "cf": { "severity": 1 } })),
            1,
        ),
        (
            "same number",
            update(json!({ "cf": { "severity": 1.0 } }), json!({ "cf": { "severity": 1 } })),
            0,
        ),
        ("no previous", update(json!({ "status": "Open" }), Value::Null), 1),
        ("in", thread("in"), 1),
        ("out", thread("out"), 0),
        ("user", with("origin", json!("USER")), 1),
        ("automation", with("origin", json!("AUTOMATION")), 0),
        ("own source", with("sourceId", json!(ignored)), 0),
        ("other source", with("sourceId", json!("another")), 1),
    ];
    let mut wanted = 0;
    for (name, event, deliveries) in table {
        assert_eq!(world.fans_out(&event).await, deliveries, "{name}");
        wanted += usize::try_from(deliveries).expect("it is there");
    }
    // The header stands for a missing field only.
    let client = &world.server.client;
    for (field, deliveries) in [(None, 0), (Some("another"), 1)] {
        let mut event = ticket(ORG, &format!("header-{field:?}"));
        if let Some(field) = field {
            event["sourceId"] = field.into();
        }
        let request = client.request(Method::POST, "/api/v1/events", &world.host);
        let answer = client.send(request.header("sourceId", ignored).json(&event)).await;
        let answer = answer.expect(202);
        assert_eq!(answer.json["events"][0]["deliveries"], deliveries, "{field:?}");
        wanted += usize::try_from(deliveries).expect("it is there");
    }
    // What was before goes only to who asked for it.
    let contact = json!({ "eventType": "Contact_Update", "orgId": ORG,
                          "payload": { "id": "1" }, "prevState": { "id": "0" } });
    assert_eq!(world.fans_out(&contact).await, 1);
    let arrived = world.arrived(wanted + 1).await;
    a_while().await;
    assert_eq!(world.arrived(wanted + 1).await.len(), wanted + 1);
    for received in arrived {
        let event = received.json().expect("JSON")[0].clone();
        match event["eventType"].as_str() {
            Some("Contact_Update") => assert_eq!(event.get("prevState"), None),
            Some("Ticket_Update") if event["payload"] == json!({ "status": "Open" }) => {
                let previous = event.get("prevState");
                assert!(previous.is_none_or(|previous| *previous == json!({ "status": "New" })));
            }
            Some("Ticket_Update") => {
                assert_eq!(event["prevState"], json!({ "cf": { "severity": 1 } }));
            }
            _ => {}
        }
    }

    // AUTOMATION reaches those who asked for it.
    let eager = world.server.package().key("eager").with(|package| {
        package.resources["webhook"]["includeEventsFrom"] = json!(["AUTOMATION"]);
    });
    world.server.active_package(&eager, "eager-org").await;
    for origin in ["USER", "AUTOMATION"] {
        let mut event = ticket("eager-org", origin);
        event["origin"] = origin.into();
        assert_eq!(world.fans_out(&event).await, 1, "{origin}");
    }
}

async fn departments_decide_and_configure_changes_them_at_once(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let mut number = 0;
    let mut fans_out = async |org: &str, top: Option<&str>, within: Option<Value>| {
        number += 1;
        let mut event = ticket(org, &format!("d-{number}"));
        if let Some(top) = top {
            event["departmentId"] = top.into();
        }
        if let Some(within) = within {
            event["payload"]["departmentId"] = within;
        }
        world.fans_out(&event).await
    };
    assert_eq!(fans_out(ORG, Some("7"), None).await, 1, "none chosen means all");
    let request =
        json!({ "extensionKey": "ticket-mirror", "orgId": "dep", "departmentIds": ["7", "8"] });
    let installation = server.install_with(request).await;
    let answer = server.consent(&installation.authorization_url).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    assert_eq!(fans_out("dep", Some("7"), None).await, 1);
    assert_eq!(fans_out("dep", Some("9"), None).await, 0);
    assert_eq!(fans_out("dep", None, Some(json!("8"))).await, 1);
    assert_eq!(fans_out("dep", None, Some(json!(9))).await, 0, "a number is an id too");
    assert_eq!(fans_out("dep", Some("7"), Some(json!("9"))).await, 1, "the event's own goes first");
    assert_eq!(fans_out("dep", None, None).await, 1, "without a department it passes");
    let configure = async |departments: Value| {
        let body = json!({ "installationId": installation.id, "departmentIds": departments });
        server.callback("configure", &body).await.expect(200);
    };
    configure(json!(["9"])).await;
    assert_eq!(fans_out("dep", Some("7"), None).await, 0, "narrowed at once");
    assert_eq!(fans_out("dep", Some("9"), None).await, 1);
    configure(Value::Null).await;
    assert_eq!(fans_out("dep", Some("7"), None).await, 1, "widened at once");
}

async fn what_became_of_an_event_can_be_asked(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    world.ticket("went").await;
    world.in_state("went", "delivered").await;
    let update = json!({ "eventId": "stayed", "eventType": "Ticket_Update", "orgId": ORG,
        "departmentId": "7", "payload": { "status": "a" }, "prevState": { "status": "a" },
        "actor": { "id": "u1", "name": "Ann" }, "sourceId": "s-1", "eventTime": 1_618_493_667_780_u64 });
    assert_eq!(world.fans_out(&update).await, 0);
    let read = async |id: &str, token: &str| {
        client.get(&format!("/api/v1/events/{id}?orgId={ORG}"), token).await
    };
    let admin = server.admin(ORG).await;
    let went = client.get("/api/v1/events/went", &admin).await.expect(200).json;
    assert_eq!(went["webhooks"][0]["matched"], true);
    assert_eq!(went["webhooks"][0]["delivery"]["state"], "delivered");
    let stayed = read("stayed", &server.operator).await.expect(200).json;
    assert_eq!(stayed["eventTime"], "2021-04-15T13:34:27.780Z");
    assert_eq!(stayed["actor"]["name"], "Ann");
    assert_eq!((&stayed["departmentId"], &stayed["sourceId"]), (&json!("7"), &json!("s-1")));
    let verdict = &stayed["webhooks"][0];
    assert_eq!(verdict["webhookId"], world.webhook);
    assert_eq!((&verdict["matched"], &verdict["rule"]), (&json!(false), &json!("fields")));
    assert!(verdict["reason"].as_str().is_some_and(|reason| reason.contains("status")));
    assert_eq!(read("never", &server.operator).await.status, 404);
    let stranger = server.admin("another-org").await;
    assert_eq!(client.get("/api/v1/events/went", &stranger).await.status, 404);

    let explain = async |event: Value, token: &str| {
        let path = format!("/api/v1/webhooks/{}/explain", world.webhook);
        client.post(&path, token, &json!({ "event": event })).await
    };
    let vendor = server.vendor_token("acme").await;
    assert_eq!(explain(ticket(ORG, "x"), &vendor).await.expect(200).json["matched"], true);
    let rule = async |event: Value| explain(event, &admin).await.expect(200).json["rule"].clone();
    assert_eq!(rule(update.clone()).await, "fields");
    assert_eq!(rule(ticket("another-org", "x")).await, "orgId");
    assert_eq!(
        rule(json!({ "eventType": "Agent_Add", "orgId": ORG, "payload": {} })).await,
        "subscriptions"
    );
    assert_eq!(explain(ticket(ORG, "x"), &stranger).await.status, 404);
    let others = server.vendor_token("others").await;
    assert_eq!(explain(ticket(ORG, "x"), &others).await.status, 404);
    assert_eq!(explain(json!({ "eventType": "Nonsense" }), &admin).await.status, 422);
    a_while().await;
    assert_eq!(world.arrived(1).await.len(), 1, "what is made up goes nowhere");
}

async fn every_event_type_is_described(backend: Backend) {
    let world = World::start(backend).await;
    let (client, token) = (&world.server.client, &world.host);
    let all = client.get("/api/v1/event-types", token).await.expect(200);
    assert_eq!(all.data().len(), 56);
    for one in all.data() {
        let sample = &one["sample"][0];
        assert_eq!(sample["eventType"], one["name"], "the sample is as delivered");
        let schema = &one["schema"];
        assert!(jsonschema::draft202012::is_valid(schema, &sample["payload"]), "{}", one["name"]);
    }
    let tickets = client.get("/api/v1/event-types?module=tickets&dialect=desk", token).await;
    assert_eq!(tickets.expect(200).data().len(), 15);
    let refused = client.get("/api/v1/event-types?dialect=unheard-of", token).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
}
