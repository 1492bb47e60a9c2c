//! Own webhooks: made, read, changed, copied, removed, by those who may.

use reqwest::Method;
use serde_json::{Value, json};

use mortise::development::Behaviour;

use crate::support::on_both;
use crate::support::own_world::{OwnWorld, WEBHOOKS};
use crate::support::server::{Backend, ORG, TestServer, assert_absent};

on_both!(
    only_an_address_and_an_event_are_needed,
    everything_that_is_wrong_is_said_at_once,
    a_change_keeps_what_it_does_not_name,
    a_change_of_what_was_changed_is_refused,
    a_copy_is_another_webhook,
    secrets_are_told_once_and_stand_nowhere,
    only_administrators_and_operators_change_them,
    a_custom_role_has_just_its_scopes,
    an_extensions_webhook_stays_locked,
    the_list_is_searched_and_filtered,
    the_address_is_asked_before_it_is_saved,
    every_change_is_in_the_audit,
    a_removed_webhook_leaves_its_history,
    a_closed_org_keeps_none,
    zoho_assists_names_are_another_form_of_the_same,
);

async fn only_an_address_and_an_event_are_needed(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let url = world.server.vendor.url("/own?a=1");
    let body = json!({ "url": url, "subscriptions": { "Ticket_Add": null } });
    let made = world.server.client.post(WEBHOOKS, &world.admin, &body).await.expect(201);
    assert!(made.text_of("secret").starts_with("whsec_"));
    assert_eq!(made.json["warnings"], json!([]));
    let id = made.text_of("id");
    let read = world.read(&id).await;
    for (member, value) in [
        ("url", json!(url)),
        ("orgId", json!(ORG)),
        ("subscriptions", json!({ "Ticket_Add": null })),
        ("type", json!("CUSTOMER_WEBHOOK")),
        ("isEnabled", json!(true)),
        ("locked", json!(false)),
        ("dialect", json!("desk")),
        ("connection", json!("events")),
        ("method", json!("POST")),
        ("format", json!("json")),
        ("authentication", json!({ "type": "none" })),
        ("whileDisabled", json!("drop")),
        ("includeEventsFrom", Value::Null),
        ("name", Value::Null),
        ("extension", Value::Null),
    ] {
        assert_eq!(read[member], value, "{member}: {read}");
    }
    let source = read["ignoreSourceId"].as_str().expect("a source is made");
    assert!(source.parse::<uuid::Uuid>().is_ok());
    assert!(read["alias"].as_str().is_some_and(|alias| alias.parse::<i64>().is_ok_and(|n| n > 0)));
    assert!(read["createdBy"].as_str().is_some_and(|by| by.starts_with("admin:")));
    assert!(read.get("secret").is_none());
    // The same members as an extension's, and more.
    let list = world.server.client.get(WEBHOOKS, &world.admin).await.expect(200);
    assert_eq!(list.data(), &vec![read]);
    // An operator names the org.
    let none = world.server.client.post(WEBHOOKS, &world.server.operator, &body).await;
    none.refused(422, "INVALID_DATA");
    let path = format!("{WEBHOOKS}?orgId=7");
    let other = world.server.client.post(&path, &world.server.operator, &body).await.expect(201);
    assert_eq!(other.json["orgId"], "7");
    // Another org's is not there.
    let foreign = OwnWorld::path(&other.text_of("id"), "");
    world.server.client.get(&foreign, &world.admin).await.refused(404, "RESOURCE_NOT_FOUND");
    let named = json!({ "name": "mine" });
    for method in [Method::PATCH, Method::PUT, Method::DELETE] {
        let refused = world.server.client.call(method, &foreign, &world.admin, Some(&named)).await;
        refused.refused(404, "RESOURCE_NOT_FOUND");
    }
}

async fn everything_that_is_wrong_is_said_at_once(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let post = async |body: Value| world.server.client.post(WEBHOOKS, &world.admin, &body).await;
    let refused = post(json!({
        "url": "http://10.1.2.3/", "subscriptions": { "Ticket_Ad": null, "Contact_Add": { "fields": ["x"] } },
        "dialect": "dsk", "method": "FETCH", "whileDisabled": "maybe", "ignoreSourceId": "no",
        "includeEventsFrom": ["USER"], "secret": "", "headers": { "Host": "x" },
        "authentication": { "type": "basic", "token": "t" },
    }))
    .await
    .refused(422, "INVALID_DATA");
    let errors = refused.json["errors"].as_array().expect("errors");
    let places: Vec<_> =
        errors.iter().map(|error| error["fieldName"].as_str().expect("a place")).collect();
    for place in [
        "/dialect",
        "/method",
        "/whileDisabled",
        "/secret",
        "/ignoreSourceId",
        "/includeEventsFrom",
        "/subscriptions/Ticket_Ad",
        "/subscriptions/Contact_Add/fields",
        "/url",
        "/headers/Host",
        "/authentication/token",
        "/authentication/username",
    ] {
        assert!(places.contains(&place), "{place} in {places:?}");
    }
    let nearest = errors.iter().find(|error| error["fieldName"] == "/subscriptions/Ticket_Ad");
    assert_eq!(nearest.expect("it is there")["suggestion"], "Ticket_Add");
    for faulty in [
        json!({}),
        json!({ "url": "https://a.example/" }),
        json!({ "url": "ftp://a.example/", "subscriptions": { "Ticket_Add": null } }),
        json!({ "url": "https://u:p@a.example/", "subscriptions": { "Ticket_Add": null } }),
        json!({ "url": "https://a.example/", "subscriptions": { "Ticket_Add": null }, "type": "x" }),
        json!({ "url": "https://a.example/", "subscriptions": { "Ticket_Add": { "departmentIds": [] } } }),
        json!({ "url": "https://a.example/", "connection": "trigger" }),
        json!({ "url": "https://a.example/", "dialect": "zendesk", "connection": "trigger", "subscriptions": { "Ticket_Add": null } }),
        json!({ "url": "https://a.example/{{ticket.id}}", "subscriptions": { "Ticket_Add": null } }),
        json!({ "url": "https://a.example/", "subscriptions": { "Ticket_Add": null }, "method": "PUT" }),
        json!({ "url": "https://a.example/", "subscriptions": { "Ticket_Add": null }, "cloudEvents": "binary" }),
        json!({ "url": "https://a.example/", "subscriptions": { "Ticket_Add": null }, "tls": { "caCertificates": "none" } }),
    ] {
        post(faulty).await.refused(422, "INVALID_DATA");
    }
    // Credentials do not go over plain http.
    let open = json!({ "authentication": { "type": "bearer", "token": "t" } });
    let refused = world.try_make("/own", &open).await.refused(422, "INVALID_DATA");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/authentication");
    assert!(world.server.webhooks(ORG).await.is_empty());
}

async fn a_change_keeps_what_it_does_not_name(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world
        .make(
            "/own",
            json!({
                "name": "One", "description": "d", "headers": { "X-Team": "a" }, "ordered": true,
                "includeEventsFrom": ["AUTOMATION"], "whileDisabled": "queue",
                "subscriptions": { "Ticket_Update": { "fields": ["status"], "includePrevState": true } },
            }),
        )
        .await;
    let before = world.read(&id).await;
    let changed = world.patch(&id, &json!({ "name": "Two" })).await.expect(200);
    assert!(changed.json.get("secret").is_none(), "nothing made anew");
    let mut expected = before.clone();
    expected["name"] = json!("Two");
    let mut after = world.read(&id).await;
    assert_ne!(after["modifiedTime"], before["modifiedTime"]);
    after["modifiedTime"] = before["modifiedTime"].clone();
    assert_eq!(after, expected);
    // Null is as if it had never been said; objects are replaced whole.
    let nulls = json!({
        "description": null, "headers": null, "includeEventsFrom": null, "ordered": null,
        "subscriptions": { "Contact_Add": null }, "ignoreSourceId": null,
    });
    world.patch(&id, &nulls).await.expect(200);
    let after = world.read(&id).await;
    assert_eq!(after["description"], Value::Null);
    assert_eq!(after["headers"], json!({}));
    assert_eq!(after["ordered"], false);
    assert_eq!(after["subscriptions"], json!({ "Contact_Add": null }));
    assert_eq!(after["whileDisabled"], "queue");
    assert_ne!(after["ignoreSourceId"], before["ignoreSourceId"], "another is made");
    // PUT is the same; nothing that is said changes nothing.
    let path = OwnWorld::path(&id, "");
    let put = world.server.client.call(Method::PUT, &path, &world.admin, Some(&json!({}))).await;
    assert_eq!(put.expect(200).json["modifiedTime"], after["modifiedTime"]);
    for faulty in [
        json!({ "url": null }),
        json!({ "uri": "x" }),
        json!({ "subscriptions": {} }),
        json!({ "connection": "trigger" }),
        json!([]),
    ] {
        world.patch(&id, &faulty).await.refused(422, "INVALID_DATA");
    }
    assert_eq!(world.read(&id).await, after);
}

async fn a_change_of_what_was_changed_is_refused(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({})).await;
    let seen = world.read(&id).await["modifiedTime"].clone();
    let patch = json!({ "name": "first", "modifiedTime": seen });
    world.patch(&id, &patch).await.expect(200);
    let late = json!({ "name": "second", "modifiedTime": seen });
    world.patch(&id, &late).await.refused(409, "CONFLICT");
    assert_eq!(world.read(&id).await["name"], "first");
    // Changes that say nothing of what they were made from all come through.
    let many = (0..8).map(|number| {
        let world = &world;
        let id = &id;
        async move { world.patch(id, &json!({ "description": format!("{number}") })).await.status }
    });
    let statuses = futures_util::future::join_all(many).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

async fn a_copy_is_another_webhook(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({ "name": "One", "headers": { "X-Team": "a" } })).await;
    let copy = world.act(&id, "/clone", &json!({})).await.expect(201);
    assert!(copy.text_of("secret").starts_with("whsec_"));
    assert_ne!(copy.text_of("id"), id);
    let (one, other) = (world.read(&id).await, world.read(&copy.text_of("id")).await);
    assert_eq!(other["name"], "One (copy)");
    assert_eq!(other["isEnabled"], false, "nothing is sent twice by it");
    for same in ["url", "subscriptions", "headers", "dialect"] {
        assert_eq!(one[same], other[same], "{same}");
    }
    for another in ["alias", "ignoreSourceId", "createdTime"] {
        assert_ne!(one[another], other[another], "{another}");
    }
    let change = json!({ "name": "Mine", "isEnabled": true });
    let copy = world.act(&id, "/clone", &change).await.expect(201);
    assert_eq!((&copy.json["name"], &copy.json["isEnabled"]), (&json!("Mine"), &json!(true)));
    let request = || {
        let path = OwnWorld::path(&id, "/clone");
        let request = world.server.client.request(Method::POST, &path, &world.admin);
        request.header("Idempotency-Key", "once").json(&json!({}))
    };
    let first = world.server.client.send(request()).await.expect(201);
    assert_eq!(world.server.client.send(request()).await.expect(201).json, first.json);
    assert_eq!(world.server.webhooks(ORG).await.len(), 4);
}

async fn secrets_are_told_once_and_stand_nowhere(backend: Backend) {
    const CHOSEN: &str = "a secret that somebody chose";
    let world = OwnWorld::start(backend).await;
    let made = world.try_make("/own", &json!({ "secret": CHOSEN })).await.expect(201);
    assert!(made.json.get("secret").is_none(), "who chose it knows it");
    let id = made.text_of("id");
    let made = world.patch(&id, &json!({ "secret": null })).await.expect(200);
    let fresh = made.text_of("secret");
    assert!(fresh.starts_with("whsec_"));
    let again = world.patch(&id, &json!({ "name": "x" })).await.expect(200);
    assert!(again.json.get("secret").is_none());
    world.patch(&id, &json!({ "secret": CHOSEN })).await.expect(200);
    let dump = world.server.dump().await;
    assert_absent(&dump, CHOSEN);
    assert_absent(&dump, &fresh);
    assert!(!world.read(&id).await.to_string().contains(CHOSEN));
}

async fn only_administrators_and_operators_change_them(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let server = &world.server;
    let id = world.make("/own", json!({})).await;
    let before = world.read(&id).await;
    let path = OwnWorld::path(&id, "");
    for token in [server.marketplace().await, server.host().await, server.viewer(ORG).await] {
        for method in [Method::PATCH, Method::PUT, Method::DELETE] {
            let body = json!({ "name": "x" });
            let refused = server.client.call(method, &path, &token, Some(&body)).await;
            assert_eq!(
                refused.refused(403, "FORBIDDEN").json["neededRoles"],
                json!(["operator", "admin"])
            );
        }
        for action in ["/clone", "/enable", "/disable"] {
            let path = OwnWorld::path(&id, action);
            server.client.post(&path, &token, &json!({})).await.refused(403, "FORBIDDEN");
        }
        let body = json!({ "url": "https://a.example/", "subscriptions": { "Ticket_Add": null } });
        server.client.post(WEBHOOKS, &token, &body).await.refused(403, "FORBIDDEN");
    }
    let vendor = server.vendor_token("acme").await;
    server
        .client
        .call(Method::DELETE, &path, &vendor, None)
        .await
        .refused(404, "RESOURCE_NOT_FOUND");
    assert_eq!(world.read(&id).await, before);
    let viewer = server.viewer(ORG).await;
    assert_eq!(server.client.get(&path, &viewer).await.expect(200).json, before);
    let named = json!({ "name": "by the operator" });
    let operator = server.operator.clone();
    server.client.call(Method::PATCH, &path, &operator, Some(&named)).await.expect(200);
}

async fn a_custom_role_has_just_its_scopes(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let server = &world.server;
    let scoped = async |scopes: Value| {
        server.token(json!({ "role": "admin", "orgId": ORG, "scopes": scopes })).await
    };
    let body = json!({ "url": server.vendor.url("/own"), "subscriptions": { "Ticket_Add": null } });
    let (reads, creates) = (
        scoped(json!(["Desk.webhooks.READ"])).await,
        scoped(json!(["Desk.webhooks.CREATE"])).await,
    );
    server.client.post(WEBHOOKS, &reads, &body).await.refused(403, "SCOPE_MISMATCH");
    let id = server.client.post(WEBHOOKS, &creates, &body).await.expect(201).text_of("id");
    let path = OwnWorld::path(&id, "");
    server.client.get(&path, &creates).await.refused(403, "SCOPE_MISMATCH");
    server.client.get(&path, &reads).await.expect(200);
    let updates = scoped(json!(["Desk.webhooks.UPDATE"])).await;
    let name = json!({ "name": "x" });
    server
        .client
        .call(Method::PATCH, &path, &reads, Some(&name))
        .await
        .refused(403, "SCOPE_MISMATCH");
    server.client.call(Method::PATCH, &path, &updates, Some(&name)).await.expect(200);
    server.client.post(&OwnWorld::path(&id, "/disable"), &updates, &json!({})).await.expect(200);
    let refused = server.client.call(Method::DELETE, &path, &updates, None).await;
    assert_eq!(refused.refused(403, "SCOPE_MISMATCH").json["neededScope"], "Desk.webhooks.DELETE");
    let all = scoped(json!(["Desk.webhooks.ALL"])).await;
    server.client.call(Method::DELETE, &path, &all, None).await.expect(204);
    server.client.get("/api/v1/installations", &all).await.refused(403, "SCOPE_MISMATCH");
}

async fn an_extensions_webhook_stays_locked(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    let before = server.webhooks(ORG).await;
    let id = before[0]["id"].as_str().expect("an id").to_owned();
    for token in [server.operator.clone(), server.admin(ORG).await] {
        for action in ["/clone", "/enable", "/disable"] {
            let path = OwnWorld::path(&id, action);
            // The body is no JSON: nobody looks.
            let request = server.client.request(Method::POST, &path, &token).body("{ broken");
            let refused = server.client.send(request).await.refused(403, "FORBIDDEN");
            assert_eq!(
                refused.json["lockedBy"],
                json!({ "extensionKey": "ticket-mirror", "installationId": active.id })
            );
        }
    }
    assert_eq!(server.webhooks(ORG).await, before, "nothing changed");
    assert!(before[0].get("dialect").is_none() && before[0].get("authentication").is_none());
}

async fn the_list_is_searched_and_filtered(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    world.server.active(ORG).await;
    let one = world.make("/one", json!({ "name": "Slack 100%", "isEnabled": false })).await;
    let two = world
        .make(
            "/two",
            json!({ "name": "Jira", "description": "copies REQUESTS", "dialect": "standard",
                "subscriptions": { "Contact_Add": null, "Ticket_Add": null } }),
        )
        .await;
    let list = async |query: &str| -> Vec<String> {
        let path = format!("{WEBHOOKS}?{query}");
        let all = world.server.client.all(&path, &world.admin).await;
        all.iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(list("").await.len(), 3);
    assert_eq!(list("type=CUSTOMER_WEBHOOK").await, [one.clone(), two.clone()]);
    assert_eq!(list("type=EXTENSION_WEBHOOK").await.len(), 1);
    assert_eq!(list("search=slack").await, std::slice::from_ref(&one));
    assert_eq!(list("search=100%25").await, std::slice::from_ref(&one), "a sign is a sign");
    assert_eq!(list("search=%25").await, std::slice::from_ref(&one));
    assert_eq!(list("search=requests").await, std::slice::from_ref(&two));
    assert_eq!(list("search=%2Ftwo").await, std::slice::from_ref(&two), "the address too");
    assert_eq!(list("dialect=standard").await, std::slice::from_ref(&two));
    assert_eq!(list("eventType=Contact_Add").await, std::slice::from_ref(&two));
    assert_eq!(list("eventType=Contact").await, Vec::<String>::new());
    assert_eq!(list("isEnabled=false").await, std::slice::from_ref(&one));
    assert_eq!(list("isEnabled=true&type=CUSTOMER_WEBHOOK").await, [two]);
    let wrong = world.server.client.get(&format!("{WEBHOOKS}?type=own"), &world.admin).await;
    wrong.refused(422, "INVALID_DATA");
}

async fn the_address_is_asked_before_it_is_saved(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let vendor = &world.server.vendor;
    let methods = |path: &str| -> Vec<String> {
        vendor.received_at(path).iter().map(|one| one.method.clone()).collect()
    };
    world.make("/get", json!({})).await;
    assert_eq!(methods("/get"), ["GET"]);
    vendor.behave_in_turn("/post", [Behaviour::status(405)], Behaviour::status(200));
    let id = world.make("/post", json!({})).await;
    assert_eq!(methods("/post"), ["GET", "POST"]);
    assert_eq!(&vendor.received_at("/post")[1].body[..], b"[]");
    vendor.behave("/neither", Behaviour::status(404));
    let refused = world.try_make("/neither", &json!({})).await;
    let refused = refused.refused(422, "UNPROCESSABLE_ENTITY");
    assert_eq!(refused.json["errors"][0]["fieldName"], "/url");
    assert!(refused.text_of("detail").contains("404"), "{}", refused.text);
    let moved = json!({ "url": vendor.url("/neither") });
    world.patch(&id, &moved).await.refused(422, "UNPROCESSABLE_ENTITY");
    // Only where the address changes, and only in the dialect that does it.
    vendor.behave("/post", Behaviour::status(500));
    world.patch(&id, &json!({ "name": "x" })).await.expect(200);
    world.make("/neither", json!({ "dialect": "standard" })).await;
    let documented = json!({ "url": "https://hooks.example/x" });
    world.try_make("/", &documented).await.expect(201);
}

async fn every_change_is_in_the_audit(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({ "headers": { "X-Team": "visible-value" } })).await;
    world.patch(&id, &json!({ "name": "Two" })).await.expect(200);
    world.act(&id, "/disable", &json!({})).await.expect(200);
    world.act(&id, "/enable", &json!({})).await.expect(200);
    let path = OwnWorld::path(&id, "");
    world.server.client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    let query = format!(
        "select action from audit where chain = '{ORG}' and subject = 'webhook:{id}' order by sequence"
    );
    assert_eq!(
        world.server.texts(&query).await,
        ["webhook.create", "webhook.update", "webhook.disable", "webhook.enable", "webhook.delete"]
    );
    let details = world.server.texts(&query.replace("select action", "select detail")).await;
    let update: Value = serde_json::from_str(&details[1]).expect("JSON");
    assert_eq!(update["before"]["name"], Value::Null);
    assert_eq!(update["after"]["name"], "Two");
    assert!(details.iter().all(|detail| !detail.contains("visible-value")), "names alone");
    world.server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_removed_webhook_leaves_its_history(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    let id = world.make("/own", json!({})).await;
    let event = crate::support::own_world::event("Ticket_Add", "one");
    assert_eq!(world.fans_out(&event).await, 1);
    world.settled(&id, "delivered", 1).await;
    let path = OwnWorld::path(&id, "");
    world.server.client.call(Method::DELETE, &path, &world.admin, None).await.expect(204);
    world.server.client.get(&path, &world.admin).await.refused(404, "RESOURCE_NOT_FOUND");
    let again = world.server.client.call(Method::DELETE, &path, &world.admin, None).await;
    again.refused(404, "RESOURCE_NOT_FOUND");
    let event = crate::support::own_world::event("Ticket_Add", "two");
    assert_eq!(world.fans_out(&event).await, 0, "from the answer on");
    assert_eq!(world.deliveries(&id).await.len(), 1);
    for table in ["webhooks", "own_webhooks", "own_webhook_tokens"] {
        assert!(
            world.server.texts(&format!("select 'x' from {table}")).await.is_empty(),
            "{table}"
        );
    }
}

async fn a_closed_org_keeps_none(backend: Backend) {
    let world = OwnWorld::start(backend).await;
    for number in 0..7 {
        world.make(&format!("/own-{number}"), json!({})).await;
    }
    let closed = world.server.callback("org-closed", &json!({ "orgId": ORG })).await.expect(200);
    assert_eq!(closed.json["finished"], true, "{}", closed.text);
    assert!(world.server.webhooks(ORG).await.is_empty());
    let event = crate::support::own_world::event("Ticket_Add", "late");
    assert_eq!(world.fans_out(&event).await, 0);
    let query =
        format!("select action from audit where chain = '{ORG}' and action = 'webhook.delete'");
    assert_eq!(world.server.texts(&query).await.len(), 7);
}

async fn zoho_assists_names_are_another_form_of_the_same(backend: Backend) {
    const ASSIST: &str = "/api/v1/assist/webhooks";
    let world = OwnWorld::start(backend).await;
    let client = &world.server.client;
    let scoped = async |scopes: Value| {
        world.server.token(json!({ "role": "admin", "orgId": ORG, "scopes": scopes })).await
    };
    let all = scoped(json!(["ZohoAssist.webhooks.ALL"])).await;
    let body = json!({
        "name": "Devices", "desc": "d", "url": world.server.vendor.url("/assist"),
        "ignore_src": "client-7", "status": 1,
        "subscriptions": [{ "event_id": 13, "dept_ids": [7, "900000000000000001"] }, { "event_id": 0 }],
    });
    let reads = scoped(json!(["ZohoAssist.webhooks.READ"])).await;
    client.post(ASSIST, &reads, &body).await.refused(403, "SCOPE_MISMATCH");
    let made = client.post(ASSIST, &all, &body).await.expect(201);
    assert!(made.text_of("secret").starts_with("whsec_"));
    let hook = made.json["hook_id"].as_i64().expect("a number");
    assert!(hook > 0);
    let path = format!("{ASSIST}/{hook}");
    let read = client.get(&path, &reads).await.expect(200).json;
    for (member, value) in [
        ("name", json!("Devices")),
        ("desc", json!("d")),
        ("ignore_src", json!("client-7")),
        ("status", json!(1)),
        (
            "subscriptions",
            json!([{ "event_id": 0 },
                { "event_id": 13, "dept_ids": [7, 900_000_000_000_000_001_i64] }]),
        ),
    ] {
        assert_eq!(read[member], value, "{member}: {read}");
    }
    // The same webhook by its other names.
    let own = client.get(WEBHOOKS, &world.admin).await.expect(200).data()[0].clone();
    assert_eq!((&own["alias"], &own["dialect"]), (&json!(hook.to_string()), &json!("assist")));
    assert_eq!(
        own["subscriptions"]["Device Online"],
        json!({ "departmentIds": ["7", "900000000000000001"] })
    );
    let online = json!({ "eventType": "Device Online", "orgId": ORG, "departmentId": "7", "payload": { "device_id": "1" } });
    assert_eq!(world.fans_out(&online).await, 1);
    world.arrived("/assist", 1).await;
    let off =
        client.call(Method::PUT, &path, &all, Some(&json!({ "status": 0 }))).await.expect(200);
    assert_eq!((&off.json["status"], &off.json["name"]), (&json!(0), &json!("Devices")));
    for faulty in [
        json!({ "status": 2 }),
        json!({ "subscriptions": [{ "event_id": 18 }] }),
        json!({ "hook_id": 1 }),
    ] {
        client.call(Method::PUT, &path, &all, Some(&faulty)).await.refused(422, "INVALID_DATA");
    }
    let other = world.server.admin("2").await;
    client.get(&path, &other).await.refused(404, "RESOURCE_NOT_FOUND");
    assert_eq!(client.get(ASSIST, &all).await.expect(200).data().len(), 1);
    client.call(Method::DELETE, &path, &all, None).await.expect(204);
    client.get(&path, &all).await.refused(404, "RESOURCE_NOT_FOUND");
}
