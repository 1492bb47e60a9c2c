//! What is changed below the API is found, all of it in one pass, and put right in place.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, a_while, ticket, tickets, webhook_of};
use crate::support::on_both;
use crate::support::own_world::WEBHOOKS;
use crate::support::server::{Backend, Installation, TestServer, eventually};

on_both!(
    every_kind_of_drift_is_found_at_once_and_repaired_in_place,
    steps_beside_a_pass_are_neither_found_nor_undone,
    passes_come_by_themselves_on_one_node_at_a_time,
    a_node_that_routes_by_something_else_is_put_right,
);

/// An id as SQL writes it.
pub(crate) fn sql_id(is_sqlite: bool, id: &str) -> String {
    if is_sqlite { format!("x'{}'", id.replace('-', "")) } else { format!("'{id}'::uuid") }
}

pub(crate) fn bytes(is_sqlite: bool) -> &'static str {
    if is_sqlite { "x'00'" } else { "'\\x00'::bytea" }
}

pub(crate) async fn pass(server: &TestServer, repair: bool) -> Value {
    let body = json!({ "repair": repair });
    let answer = server.client.post("/api/v1/reconcile", &server.operator, &body).await;
    let report = answer.expect(200).json;
    assert_eq!(report["complete"], true, "{report}");
    report
}

pub(crate) fn counts(report: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(report["counts"].clone()).expect("counts")
}

/// Installs in an org and authorises; says the webhook too.
async fn active(server: &TestServer, org: &str) -> (Installation, String) {
    let installation = server.active(org).await;
    let webhook = webhook_of(server, &installation).await;
    (installation, webhook)
}

/// A copy of an org's webhook under other values of some columns.
fn copy(is_sqlite: bool, from: &str, changes: &[(&str, String)]) -> String {
    let columns = [
        "id",
        "org_id",
        "kind",
        "installation_id",
        "extension_key",
        "resource_name",
        "generation",
        "name",
        "description",
        "url",
        "subscriptions",
        "ignore_source_id",
        "include_events_from",
        "is_enabled",
        "ordered",
        "dialect",
        "created_by",
        "created_at",
        "modified_at",
        "delivery",
    ];
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let change = changes.iter().find(|(name, _)| name == column);
            change.map_or((*column).to_owned(), |(_, value)| value.clone())
        })
        .collect();
    format!(
        "insert into webhooks ({}) select {} from webhooks where id = {}",
        columns.join(", "),
        values.join(", "),
        sql_id(is_sqlite, from)
    )
}

/// The rows that nobody but lifecycle and reconciler changes.
async fn quiet_dump(server: &TestServer) -> String {
    let dump = server.dump().await;
    let is_quiet = |line: &&str| {
        !["nodes:", "deliveries:", "attempts:", "endpoint_states:", "reconcile_turns:"]
            .iter()
            .any(|table| line.starts_with(table))
    };
    let mut lines: Vec<&str> = dump.lines().filter(is_quiet).collect();
    lines.sort_unstable();
    lines.join("\n")
}

async fn every_kind_of_drift_is_found_at_once_and_repaired_in_place(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "0s")).await;
    let id = |id: &str| sql_id(is_sqlite, id);
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    let mut expect = |kind: &str| *wanted.entry(kind.to_owned()).or_default() += 1;
    let mut orgs = Vec::new();
    let mut next = async || {
        let org = format!("{}", 100 + orgs.len());
        let made = active(&server, &org).await;
        orgs.push((org, made.0.id.clone(), made.1.clone()));
        (made.0.id, made.1)
    };
    let (_, sound) = next().await;
    let edits = [
        ("webhook.edited", "subscriptions = '{}'"),
        ("webhook.edited", "description = 'other', include_events_from = '[\"AUTOMATION\"]'"),
        ("webhook.edited", "dialect = 'standard', ordered = 1"),
        ("webhook.edited", "resource_name = 'other'"),
        ("webhook.wrong-url", "url = 'https://elsewhere.example/hook'"),
        ("webhook.disabled", "is_enabled = 0"),
        ("webhook.wrong-owner", "org_id = 'another'"),
        ("webhook.wrong-owner", "extension_key = 'another'"),
        ("webhook.wrong-owner", "installation_id = null"),
        ("webhook.wrong-generation", "generation = 7"),
    ];
    for (kind, change) in edits {
        let (_, webhook) = next().await;
        server.execute(&format!("update webhooks set {change} where id = {}", id(&webhook))).await;
        expect(kind);
    }
    let (_, lost) = next().await;
    server.execute(&format!("delete from webhooks where id = {}", id(&lost))).await;
    expect("webhook.missing");
    let (_, doubled) = next().await;
    let (duplicate, extra, zombie) = (uuid(), uuid(), uuid());
    let double = [("id", id(&duplicate)), ("resource_name", "'copy'".to_owned())];
    server.execute(&copy(is_sqlite, &doubled, &double)).await;
    expect("webhook.duplicate");
    let elsewhere = [
        ("id", id(&extra)),
        ("resource_name", "'extra'".to_owned()),
        ("url", "'https://elsewhere.example/'".to_owned()),
    ];
    server.execute(&copy(is_sqlite, &doubled, &elsewhere)).await;
    expect("webhook.extra");
    let ownerless = [("id", id(&uuid())), ("installation_id", id(&uuid()))];
    server.execute(&copy(is_sqlite, &sound, &ownerless)).await;
    expect("webhook.zombie");
    let (_, endpoint) = next().await;
    server
        .execute(&format!("update endpoints set org_id = 'x' where id = {}", id(&endpoint)))
        .await;
    expect("endpoint.edited");
    let connections = [
        ("connection.unreadable", "sealed_access_token = BYTES"),
        ("connection.expired", "access_expires_at = 1, sealed_refresh_token = null"),
    ];
    for (kind, change) in connections {
        let (owner, _) = next().await;
        let change = change.replace("BYTES", bytes(is_sqlite));
        let statement =
            format!("update connections set {change} where installation_id = {}", id(&owner));
        server.execute(&statement).await;
        expect(kind);
    }
    let (tokenless, _) = next().await;
    server
        .execute(&format!("delete from connections where installation_id = {}", id(&tokenless)))
        .await;
    expect("connection.missing");
    // Ended, and then somebody put things back.
    let (ended, _) = next().await;
    server.callback("uninstall", &json!({ "installationId": ended })).await.expect(200);
    eventually("its clean-up is done", async || {
        (server.installation(&ended).await["cleanup"] == "done").then_some(())
    })
    .await;
    let back = [("id", id(&zombie)), ("installation_id", id(&ended))];
    server.execute(&copy(is_sqlite, &sound, &back)).await;
    expect("webhook.zombie");
    let secret = format!(
        "update installations set sealed_config = {}, cleanup = 'pending' where id = {}",
        bytes(is_sqlite),
        id(&ended)
    );
    server.execute(&secret).await;
    expect("secret.zombie");
    expect("cleanup.stuck");
    // Ended by hand: everything of it is left.
    let (cut, _) = next().await;
    let statement = format!("update installations set live = 0 where id = {}", id(&cut));
    server.execute(&statement).await;
    for kind in
        ["installation.contradiction", "webhook.zombie", "connection.zombie", "secret.zombie"]
    {
        expect(kind);
    }
    let tokens = server.provider.live_tokens().len();
    // A pending one with a state that expired long ago.
    server.install("ticket-mirror", "pending").await;
    server.execute("update authorization_requests set expires_at = 1").await;
    expect("authorization.expired");

    let before = quiet_dump(&server).await;
    let dry = pass(&server, false).await;
    assert_eq!(counts(&dry), wanted, "{dry:#}");
    assert_eq!(dry["repaired"], 0);
    assert_eq!(quiet_dump(&server).await, before, "a dry run writes nothing");

    let done = pass(&server, true).await;
    assert_eq!(counts(&done), wanted, "{done:#}");
    assert_eq!(done["repaired"], done["found"]);
    let again = pass(&server, false).await;
    assert_eq!(again["found"], 0, "{again:#}");
    let kept = server.client.get("/api/v1/reconcile", &server.operator).await.expect(200).json;
    assert_eq!(kept["report"]["found"], done["found"]);
    let notices = server.client.all("/api/v1/notices", &server.operator).await;
    assert!(notices.iter().any(|notice| notice["kind"] == "lifecycle.drift"), "{notices:?}");

    // In place: each live installation has the webhook that it had, and it delivers.
    let host = server.host().await;
    for (org, installation, webhook) in &orgs {
        let seen = server.webhooks(org).await;
        let is_over = [&ended, &cut].contains(&installation);
        let ids: Vec<&Value> = seen.iter().map(|row| &row["id"]).collect();
        if is_over {
            assert!(ids.is_empty(), "{org}: {ids:?}");
            continue;
        }
        assert_eq!(ids, [webhook], "{org}");
        let answer =
            server.client.post("/api/v1/events", &host, &ticket(org, org)).await.expect(202);
        assert_eq!(answer.json["events"][0]["deliveries"], 1, "{org}");
    }
    let living = orgs.len() - 2;
    let arrived = server.vendor.wait_for_path(HOOK, living, crate::support::delivery_world::SOON);
    assert_eq!(tickets(&arrived.await.expect("they arrive")).len(), living);
    eventually("the left tokens are revoked", async || {
        (server.provider.live_tokens().len() < tokens).then_some(())
    })
    .await;
    let history = server
        .client
        .all(&format!("/api/v1/installations/{}/history", orgs[1].1), &server.operator)
        .await;
    assert!(history.iter().any(|step| step["command"] == "reconcile"), "{history:?}");
    let health = server.installation(&tokenless).await["connection"]["health"].clone();
    assert_eq!(health, "broken");
    let orgs: Vec<String> = orgs.into_iter().map(|(org, ..)| org).collect();
    let orgs: Vec<&str> = orgs.iter().map(String::as_str).collect();
    server.stop().await.audit_holds(&orgs).await;
}

fn uuid() -> String {
    mortise::seam::Randomness::default().id().to_string()
}

async fn steps_beside_a_pass_are_neither_found_nor_undone(backend: Backend) {
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "0s")).await;
    server.publish(&server.package()).await.expect(201);
    let steps = async {
        for round in 0..6 {
            for org in ["1", "2", "3", "4"] {
                let installation = server.install("ticket-mirror", org).await;
                let answer = server.consent(&installation.authorization_url).await;
                server.authorize(&installation.id, &answer).await.expect(200);
                if round < 5 {
                    let body = json!({ "installationId": installation.id });
                    server.callback("uninstall", &body).await.expect(200);
                }
            }
        }
    };
    let passes = async {
        loop {
            let report = pass(&server, true).await;
            assert_eq!(report["found"], 0, "{report:#}");
        }
    };
    tokio::select! {
        () = steps => {}
        () = passes => {}
    }
    let report = pass(&server, true).await;
    assert_eq!((&report["found"], &report["installations"]), (&json!(0), &json!(4)), "{report:#}");
    for org in ["1", "2", "3", "4"] {
        assert_eq!(server.webhooks(org).await.len(), 1);
    }
}

async fn passes_come_by_themselves_on_one_node_at_a_time(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let url = match &backend {
        Backend::Postgres(database) => Some(database.url().to_owned()),
        Backend::Sqlite => None,
    };
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "1h")).await;
    // A second node takes no turn of its own.
    let other = match &url {
        Some(url) => {
            let config = server.config_of_another_node(url);
            Some(mortise::server::start(config, server.seam.clone()).await.expect("it starts"))
        }
        None => None,
    };
    let (_, webhook) = active(&server, "1").await;
    let last =
        async || server.client.get("/api/v1/reconcile", &server.operator).await.expect(200).json;
    // The first turn is due at once; every look takes a minute at the most.
    server.advance(std::time::Duration::from_mins(2));
    eventually("the first pass", async || (!last().await["report"].is_null()).then_some(())).await;
    let change = format!("delete from webhooks where id = {}", sql_id(is_sqlite, &webhook));
    server.execute(&change).await;
    server.advance(std::time::Duration::from_mins(2));
    a_while().await;
    assert_eq!(server.webhooks("1").await.len(), 0, "it is not time yet");
    for _ in 0..40 {
        server.advance(std::time::Duration::from_mins(2));
    }
    eventually("the next pass", async || {
        (last().await["report"]["counts"]["webhook.missing"] == 1).then_some(())
    })
    .await;
    assert_eq!(server.webhooks("1").await[0]["id"], webhook.as_str());
    assert_eq!(last().await["requestedBy"], "system:reconciler");
    if let Some(other) = other {
        other.stop().await;
    }
}

async fn a_node_that_routes_by_something_else_is_put_right(backend: Backend) {
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "0s")).await;
    active(&server, "1").await;
    let other = active(&server, "2").await.1;
    // The node is made to read another address, which is then taken back without its knowing.
    let kept = server.texts("select url from webhooks where org_id = '1'").await.remove(0);
    server.execute("update webhooks set url = 'http://127.0.0.1:1/' where org_id = '1'").await;
    server.execute("update routing set revision = revision + 1").await;
    let told = "insert into routing_changes (revision, kind, subject, at)
         select revision, 'org', '1', 0 from routing";
    server.execute(told).await;
    a_while().await;
    server.execute(&format!("update webhooks set url = '{kept}' where org_id = '1'")).await;
    let dry = pass(&server, false).await;
    assert_eq!(counts(&dry), BTreeMap::from([("routing.stale".to_owned(), 1)]), "{dry:#}");
    assert_eq!(dry["findings"][0]["orgId"], "1");
    assert_eq!(pass(&server, true).await["repaired"], 1);
    assert_eq!(pass(&server, false).await["found"], 0);
    let host = server.host().await;
    server.client.post("/api/v1/events", &host, &ticket("1", "t")).await.expect(202);
    let arrived = server.vendor.wait_for_path(HOOK, 1, crate::support::delivery_world::SOON);
    assert_eq!(tickets(&arrived.await.expect("it arrives")), ["t"]);
    assert_eq!(server.webhooks("2").await[0]["id"], other.as_str());

    // The same of what own webhooks have beside: their settings, and the triggers that call them.
    let admin = server.admin("1").await;
    let webhook = json!({
        "url": "https://hooks.example/own", "dialect": "zendesk", "connection": "trigger",
        "subscriptions": {}, "headers": { "x-team": "alpha" },
    });
    let id = server.client.post(WEBHOOKS, &admin, &webhook).await.expect(201).text_of("id");
    let trigger = json!({
        "name": "New", "action": { "webhookId": id, "payload": "{\"team\":\"alpha\"}" },
        "conditions": { "all": [{ "field": "eventType", "operator": "is", "value": "Ticket_Add" }] },
    });
    server.client.post("/api/v1/triggers", &admin, &trigger).await.expect(201);
    for (table, column) in [("own_webhooks", "settings"), ("webhook_rules", "content")] {
        let write = |from: &str, to: &str| {
            format!("update {table} set {column} = replace({column}, '{from}', '{to}')")
        };
        server.execute(&write("alpha", "omega")).await;
        server.execute("update routing set revision = revision + 1").await;
        server.execute(told).await;
        a_while().await;
        server.execute(&write("omega", "alpha")).await;
        let dry = pass(&server, false).await;
        assert_eq!(counts(&dry), BTreeMap::from([("routing.stale".to_owned(), 1)]), "{table}");
        assert_eq!(pass(&server, true).await["repaired"], 1);
    }
    assert_eq!(pass(&server, false).await["found"], 0);
}
