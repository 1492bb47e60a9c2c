//! Suspending one installation or a whole extension: who holds, who lifts, and what waits meanwhile.

use std::time::Duration;

use mortise::development::Behaviour;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, World, a_while, ticket, tickets};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, eventually};
use crate::support::statements::Statements;

on_both!(
    each_holder_lifts_its_own_and_the_last_one_releases_in_order,
    the_marketplace_suspends_by_callback,
    only_those_who_may_hold_an_installation,
    what_a_reactivation_parked_stays_parked,
    the_kill_switch_leaves_single_suspensions_alone,
    notices_end_with_what_they_tell_of,
    ten_thousand_installations_are_switched_off_and_on,
);

fn named(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

async fn each_holder_lifts_its_own_and_the_last_one_releases_in_order(backend: Backend) {
    let world = World::with(
        backend,
        |settings| settings.set("delivery.concurrency_per_webhook", "1"),
        |_| {},
    )
    .await;
    let (server, client) = (&world.server, &world.server.client);
    let admin = server.admin(ORG).await;
    let vendor = server.vendor_token("acme").await;
    let marketplace = server.marketplace().await;
    let by = [
        ("admin", &admin),
        ("vendor", &vendor),
        ("marketplace", &marketplace),
        ("operator", &server.operator),
    ];
    let call = async |what: &str, token: &str, reason: &str| {
        let path = format!("/api/v1/installations/{}/{what}", world.installation.id);
        client.post(&path, token, &json!({ "reason": reason })).await
    };
    server.vendor.behave(HOOK, Behaviour::Hang);
    let names: Vec<String> = (0..30).map(|number| format!("s-{number}")).collect();
    for name in &names {
        world.ticket(name).await;
    }
    eventually("one hangs", async || (server.vendor.in_hand(HOOK) == 1).then_some(())).await;
    for (index, (role, token)) in by.iter().enumerate() {
        let held = call("suspend", token, &format!("as {role}")).await.expect(200);
        assert_eq!(held.json["state"], "suspended");
        assert_eq!(named(&held.json["suspendedBy"]).len(), index + 1, "{}", held.text);
        // Again is the same.
        call("suspend", token, "again").await.expect(200);
    }
    server.vendor.behave(HOOK, Behaviour::status(200));
    for name in &names {
        world.in_state(name, "held").await;
    }
    let before = server.vendor.received_at(HOOK).len();
    assert_eq!(world.fans_out(&ticket(ORG, "meanwhile")).await, 0);
    for (index, (_, token)) in by.iter().enumerate() {
        if index > 0 {
            // Who lifted already holds nothing any more.
            let refused = call("resume", by[0].1, "not mine").await.refused(409, "STATE_CONFLICT");
            assert_eq!(named(&refused.json["heldBy"]).len(), by.len() - index, "{}", refused.text);
        }
        a_while().await;
        assert_eq!(server.vendor.received_at(HOOK).len(), before, "still held");
        let lifted = call("resume", token, "enough").await.expect(200);
        let state = if index + 1 == by.len() { "active" } else { "suspended" };
        assert_eq!(lifted.json["state"], state, "{}", lifted.text);
    }
    // Nobody holds it: nothing to lift, and nothing wrong.
    call("resume", &admin, "again").await.expect(200);
    for name in &names {
        world.in_state(name, "delivered").await;
    }
    assert_eq!(tickets(&server.vendor.received_at(HOOK)[before..]), names, "in order");

    let path = format!("/api/v1/installations/{}/history", world.installation.id);
    let rows = client.all(&path, &admin).await;
    let steps: Vec<_> = rows
        .iter()
        .skip(2)
        .map(|row| format!("{} {}>{}", row["command"], row["from"], row["to"]).replace('"', ""))
        .collect();
    assert_eq!(
        steps,
        [
            "suspend active>suspended",
            "suspend suspended>suspended",
            "suspend suspended>suspended",
            "suspend suspended>suspended",
            "resume suspended>suspended",
            "resume suspended>suspended",
            "resume suspended>suspended",
            "resume suspended>active",
        ]
    );
    assert_eq!(rows[2]["reason"], "as admin");
    let notices = client.all("/api/v1/notices", &admin).await;
    let kinds: Vec<_> = notices.iter().map(|row| row["kind"].as_str().unwrap_or("-")).collect();
    assert!(kinds.contains(&"installation.suspended"), "{kinds:?}");
    assert!(kinds.contains(&"installation.resumed"), "{kinds:?}");
    let audit = "select action from audit where action in \
                 ('installation.suspend', 'installation.resume')";
    assert_eq!(server.texts(audit).await.len(), 8);
    let World { server, .. } = world;
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn the_marketplace_suspends_by_callback(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    let marketplace = server.marketplace().await;
    let body = json!({ "installationId": world.installation.id, "reason": "unpaid" });
    let post = async |what: &str, body: &Value| {
        client.post(&format!("/api/v1/callbacks/{what}"), &marketplace, body).await
    };
    let held = post("suspend", &body).await.expect(200);
    assert_eq!(held.json["suspendedBy"], json!(["marketplace"]));
    // The operator holds nothing of it.
    let refused = server.callback("resume", &body).await.refused(409, "STATE_CONFLICT");
    assert_eq!(refused.json["heldBy"], json!(["marketplace"]));
    let late = json!({ "installationId": world.installation.id, "generation": 0 });
    assert_eq!(post("resume", &late).await.expect(200).json["state"], "suspended", "it is late");
    assert_eq!(post("resume", &body).await.expect(200).json["state"], "active");
    world.ticket("again").await;
    world.in_state("again", "delivered").await;
    let long = json!({ "installationId": world.installation.id, "reason": "x".repeat(501) });
    post("suspend", &long).await.refused(422, "INVALID_DATA");
    server.callback("uninstall", &body).await.expect(200);
    post("suspend", &body).await.refused(409, "STATE_CONFLICT");
    post("resume", &body).await.refused(409, "STATE_CONFLICT");
}

async fn only_those_who_may_hold_an_installation(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    let path = format!("/api/v1/installations/{}/suspend", world.installation.id);
    for (token, status) in [
        (server.admin("another").await, 404),
        (server.vendor_token("others").await, 404),
        (server.viewer(ORG).await, 403),
        (server.host().await, 403),
    ] {
        assert_eq!(client.post(&path, &token, &json!({})).await.status, status);
    }
    assert_eq!(server.installation(&world.installation.id).await["state"], "active");
    // The kill switch is the vendor's for its own extension.
    let switch = |what: &str| format!("/api/v1/extensions/ticket-mirror/{what}");
    let stranger = server.vendor_token("others").await;
    client.post(&switch("suspend"), &stranger, &json!({})).await.expect(404);
    let admin = server.admin(ORG).await;
    client.post(&switch("suspend"), &admin, &json!({})).await.expect(403);
    let vendor = server.vendor_token("acme").await;
    let off = client.post(&switch("suspend"), &vendor, &json!({ "reason": "a leak" })).await;
    assert_eq!(off.expect(200).json["installations"], 1);
    let seen = server.installation(&world.installation.id).await;
    assert_eq!(seen["suspendedBy"], json!(["vendor"]));
    client.post(&switch("resume"), &server.operator, &json!({})).await.expect(409);
    client.post(&switch("resume"), &vendor, &json!({})).await.expect(200);
    assert_eq!(server.installation(&world.installation.id).await["state"], "active");
}

async fn what_a_reactivation_parked_stays_parked(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    server.vendor.behave(HOOK, Behaviour::status(410));
    world.ticket("gone").await;
    world.health("gone").await;
    for number in 0..5 {
        world.ticket(&format!("left-{number}")).await;
    }
    server.vendor.behave(HOOK, Behaviour::status(200));
    let path = format!("/api/v1/webhooks/{}/reactivate", world.webhook);
    client.post(&path, &server.operator, &json!({ "release": false })).await.expect(200);
    // Right after it, before anybody has put them aside: off and on again, both ways.
    let one = |what: &str| format!("/api/v1/installations/{}/{what}", world.installation.id);
    let all = |what: &str| format!("/api/v1/extensions/ticket-mirror/{what}");
    for path in [one("suspend"), one("resume"), all("suspend"), all("resume")] {
        client.post(&path, &server.operator, &json!({})).await.expect(200);
    }
    let before = server.vendor.received_at(HOOK).len();
    world.ticket("afterwards").await;
    world.in_state("afterwards", "delivered").await;
    a_while().await;
    assert_eq!(tickets(&server.vendor.received_at(HOOK)[before..]), ["afterwards"]);
    for number in 0..5 {
        world.in_state(&format!("left-{number}"), "held").await;
    }
}

async fn the_kill_switch_leaves_single_suspensions_alone(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    let other = server.active("other-org").await;
    let one = format!("/api/v1/installations/{}", world.installation.id);
    let post = async |path: String| client.post(&path, &server.operator, &json!({})).await;
    post(format!("{one}/suspend")).await.expect(200);
    let off = post("/api/v1/extensions/ticket-mirror/suspend".to_owned()).await.expect(200);
    assert_eq!(off.json["installations"], 2);
    // Lifting the single one does not lift the switch.
    assert_eq!(post(format!("{one}/resume")).await.expect(200).json["state"], "suspended");
    post(format!("{one}/resume")).await.refused(409, "STATE_CONFLICT");
    post(format!("{one}/suspend")).await.expect(200);
    post("/api/v1/extensions/ticket-mirror/resume".to_owned()).await.expect(200);
    assert_eq!(server.installation(&other.id).await["state"], "active");
    let seen = server.installation(&world.installation.id).await;
    assert_eq!((&seen["state"], &seen["suspendedBy"]), (&json!("suspended"), &json!(["operator"])));
    assert_eq!(post(format!("{one}/resume")).await.expect(200).json["state"], "active");
}

async fn notices_end_with_what_they_tell_of(backend: Backend) {
    let world = World::start(backend).await;
    let (server, client) = (&world.server, &world.server.client);
    let id = &world.installation.id;
    let open = async |kind: &str| {
        let sql = format!("select kind from notices where kind = '{kind}' and resolved_at is null");
        server.texts(&sql).await.len()
    };
    let one = async |token: &str, what: &str| {
        let path = format!("/api/v1/installations/{id}/{what}");
        client.post(&path, token, &json!({})).await.expect(200);
    };
    let switch = async |token: &str, what: &str| {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        client.post(&path, token, &json!({})).await.expect(200);
    };
    let (admin, vendor) = (server.admin(ORG).await, server.vendor_token("acme").await);
    let operator = server.operator.clone();
    // The administrator lifts his while the kill switch is on: his notice is over, and nothing is
    // resumed.
    one(&admin, "suspend").await;
    switch(&vendor, "suspend").await;
    assert_eq!(open("installation.suspended").await, 1);
    one(&admin, "resume").await;
    assert_eq!((open("installation.suspended").await, open("installation.resumed").await), (0, 0));
    // Two hold the switch: what one lifts resumes nothing.
    switch(&operator, "suspend").await;
    switch(&vendor, "resume").await;
    assert_eq!((open("extension.suspended").await, open("extension.resumed").await), (1, 0));
    switch(&operator, "resume").await;
    assert_eq!((open("extension.suspended").await, open("extension.resumed").await), (0, 1));
    // Two hold the installation alone: it is held until both have let go.
    one(&admin, "suspend").await;
    one(&operator, "suspend").await;
    one(&admin, "resume").await;
    assert_eq!((open("installation.suspended").await, open("installation.resumed").await), (1, 0));
    // An upgrade that expired, and a webhook that is gone.
    one(&operator, "resume").await;
    assert_eq!((open("installation.suspended").await, open("installation.resumed").await), (0, 1));
    server.vendor.behave(HOOK, Behaviour::status(410));
    world.ticket("gone").await;
    world.health("gone").await;
    one(&admin, "suspend").await;
    let newer = server.package().version("2.0.0").with(|package| {
        package.resources["webhook"]["subscriptions"]["Contact_Add"] = Value::Null;
    });
    server.publish(&newer).await.expect(201);
    let body =
        json!({ "updateBefore": server.seam.clock.now().plus(Duration::from_hours(1)).rfc3339() });
    let path = "/api/v1/extensions/ticket-mirror/versions/2.0.0/rollout";
    client.post(path, &operator, &body).await.expect(202);
    eventually("it waits", async || (open("upgrade.waiting").await == 1).then_some(())).await;
    server.advance(Duration::from_hours(2));
    eventually("it expired", async || (open("upgrade.expired").await == 1).then_some(())).await;
    assert_eq!((open("installation.suspended").await, open("webhook.gone").await), (1, 1));
    // With the installation all of that is over.
    server.callback("uninstall", &json!({ "installationId": id })).await.expect(200);
    let sql = "select kind from notices where resolved_at is null and installation_id is not null";
    let left = server.texts(sql).await;
    assert!(left.is_empty(), "{left:?}");
}

/// Copies an installation with its webhook into so many orgs, behind the server's back.
async fn copy(server: &TestServer, installation: &str, webhook: &str, is_sqlite: bool, count: u32) {
    let numbers = if is_sqlite {
        format!(
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers \
             where n < {count})"
        )
    } else {
        format!("with numbers(n) as (select generate_series(1, {count}))")
    };
    let id = |tail: &str| {
        if is_sqlite {
            format!("unhex('0189000000007000{tail}' || printf('%012x', n))")
        } else {
            format!("('0189000000007000{tail}' || lpad(to_hex(n), 12, '0'))::uuid")
        }
    };
    let from = |id: &str| {
        if is_sqlite { format!("x'{}'", id.replace('-', "")) } else { format!("'{id}'::uuid") }
    };
    let (owner, hook) = (id("b000"), id("b001"));
    let (installation, webhook) = (from(installation), from(webhook));
    // Every column as it is, but for these.
    let columns = async |table: &str, changed: &[(&str, &str)]| {
        let names = if is_sqlite {
            format!("select name from pragma_table_info('{table}')")
        } else {
            format!(
                "select column_name::text from information_schema.columns where table_name = '{table}'"
            )
        };
        let names = server.texts(&names).await;
        let values: Vec<String> = names
            .iter()
            .map(|name| {
                let change = changed.iter().find(|(column, _)| column == name);
                change.map_or_else(|| format!("t.{name}"), |(_, value)| (*value).to_owned())
            })
            .collect();
        (names.join(", "), values.join(", "))
    };
    let org = "'copy-' || n";
    let (owner, hook) = (owner.as_str(), hook.as_str());
    let of_owner = vec![("id", owner), ("org_id", org)];
    let of_lane = vec![("id", owner), ("org_id", org), ("installation_id", owner)];
    let of_hook = vec![("id", hook), ("org_id", org), ("installation_id", owner)];
    for (table, source, changed) in [
        ("installations", &installation, &of_owner),
        ("endpoints", &installation, &of_lane),
        ("endpoints", &webhook, &of_hook),
        ("webhooks", &webhook, &of_hook),
    ] {
        let (names, values) = columns(table, changed).await;
        let sql = format!(
            "{numbers} insert into {table} ({names}) select {values} from {table} t, numbers \
             where t.id = {source}"
        );
        server.execute(&sql).await;
    }
}

async fn ten_thousand_installations_are_switched_off_and_on(backend: Backend) {
    const COUNT: u32 = 10_000;
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let statements = Statements::count();
    let world = World::start(backend).await;
    let server = &world.server;
    copy(server, &world.installation.id, &world.webhook, is_sqlite, COUNT).await;
    // The copies are read when routing is: a change of the extension reads all of it.
    let switch = async |what: &str| {
        let path = format!("/api/v1/extensions/ticket-mirror/{what}");
        server
            .client
            .post(&path, &server.operator, &json!({ "reason": "a leak" }))
            .await
            .expect(200)
    };
    // Pages of 500: each is touched and noted by a statement, and read again by a few when routing is.
    let pages = (COUNT / 500 + 1) as usize;
    let bounded = |what: &str| {
        let made = statements.take(&format!("/api/v1/extensions/{{key}}/{what}"));
        assert!(
            (2 * pages..=6 * pages + 20).contains(&made.len()),
            "{what} of {COUNT} made {} statements: {made:#?}",
            made.len()
        );
    };
    assert_eq!(switch("suspend").await.json["installations"], COUNT + 1);
    bounded("suspend");
    switch("resume").await;
    bounded("resume");
    let orgs = ["copy-1", "copy-777", "copy-9999", "copy-10000"];
    for org in orgs {
        assert_eq!(world.fans_out(&ticket(org, &format!("live-{org}"))).await, 1, "{org}");
    }
    world.arrived(orgs.len()).await;
    server.vendor.behave(HOOK, Behaviour::status(500));
    for org in orgs {
        world.fans_out(&ticket(org, &format!("held-{org}"))).await;
    }
    world.arrived(2 * orgs.len()).await;
    let off = switch("suspend").await;
    assert_eq!(off.json["installations"], COUNT + 1, "{}", off.text);
    server.vendor.behave(HOOK, Behaviour::status(200));
    let before = server.vendor.received_at(HOOK).len();
    let count = async |query: &str| {
        let rows = server.texts(&format!("select cast(count(*) as text) from {query}")).await;
        rows[0].parse::<u32>().expect("a number")
    };
    assert_eq!(count("installations where suspended_by <> 0 and live = 1").await, COUNT + 1);
    assert_eq!(count("transitions where command = 'suspend'").await, 2 * (COUNT + 1));
    let to = "transitions where command = 'suspend' and from_state = 'active' and to_state = 'suspended'";
    assert_eq!(count(to).await, 2 * (COUNT + 1));
    for org in orgs {
        assert_eq!(world.fans_out(&ticket(org, &format!("no-{org}"))).await, 0, "{org}");
    }
    server.advance(Duration::from_hours(3));
    a_while().await;
    assert_eq!(server.vendor.received_at(HOOK).len(), before, "nothing is delivered");
    assert_eq!(switch("resume").await.json["installations"], COUNT + 1);
    // What was held is not lost.
    eventually("what was held arrives", async || {
        let came = tickets(&server.vendor.received_at(HOOK)[before..]);
        orgs.iter().all(|org| came.contains(&format!("held-{org}"))).then_some(())
    })
    .await;
    assert_eq!(count("installations where suspended_by <> 0").await, 0);
    assert_eq!(count("audit where action = 'extension.suspend'").await, 2);
}
