//! The journal of callbacks and the list of installations: a vendor that lost everything rebuilds it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mortise::development::Behaviour;
use serde_json::{Value, json};

use crate::support::delivery_world::SOON;
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, eventually};

on_both!(
    a_vendor_that_lost_everything_rebuilds_it,
    nothing_is_passed_over_while_others_write,
    changes_that_come_while_one_pages_come_once_more,
    the_setup_is_sent_again,
    older_spellings_are_told_too,
    a_callback_is_sent_again_by_those_who_may,
);

const PATH: &str = "/callbacks";

/// What a vendor knows of its installations: by id the last event, generation and sequence.
type Picture = BTreeMap<String, (String, i64, i64)>;

fn paint<'a>(bodies: impl IntoIterator<Item = &'a Value>) -> Picture {
    let mut picture = Picture::new();
    for body in bodies {
        let id = body["installationId"].as_str().expect("an id").to_owned();
        let sequence = body["sequence"].as_i64().expect("a number");
        let generation = body["generation"].as_i64().expect("a number");
        let event = body["event"].as_str().expect("a name").to_owned();
        let known = picture.entry(id).or_insert_with(|| (String::new(), generation, 0));
        if sequence > known.2 {
            *known = (event, generation, sequence);
        }
    }
    picture
}

async fn a_vendor_that_lost_everything_rebuilds_it(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let vendor = server.vendor_token("acme").await;
    // It listens at first, and knows where it was.
    server.active("1").await;
    server.vendor.wait_for_path(PATH, 2, SOON).await.expect("it is told");
    let known = server.client.all("/api/v1/journal", &vendor).await;
    let cursor = known.last().expect("an entry")["cursor"].as_str().expect("a cursor").to_owned();
    // Then it is down, and much happens.
    server.vendor.behave(PATH, Behaviour::Close);
    for org in ["2", "3", "4"] {
        server.active(org).await;
    }
    server
        .callback("uninstall", &json!({ "extensionKey": "ticket-mirror", "orgId": "2" }))
        .await
        .expect(200);
    server.install("ticket-mirror", "2").await;
    server.install("ticket-mirror", "5").await;
    server
        .callback("uninstall", &json!({ "extensionKey": "ticket-mirror", "orgId": "1" }))
        .await
        .expect(200);
    server.advance(Duration::from_hours(24));
    // From the journal alone: what it would have heard.
    let missed = server.client.all(&format!("/api/v1/journal?cursor={cursor}"), &vendor).await;
    let rebuilt = paint(known.iter().chain(&missed).map(|row| &row["callback"]));
    let whole = server.client.all("/api/v1/journal?limit=3", &vendor).await;
    assert_eq!(paint(whole.iter().map(|row| &row["callback"])), rebuilt);
    let ids: BTreeSet<_> = whole.iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len(), whole.len(), "each once");
    eventually("all is cleaned up", async || {
        let left = "select 'x' from installations where cleanup <> 'done'";
        server.texts(left).await.is_empty().then_some(())
    })
    .await;
    // From the list alone: the state of each, as it is read one by one.
    let since = "/api/v1/installations?since=2000-01-01T00:00:00Z&limit=2";
    let listed = server.client.all(since, &vendor).await;
    assert_eq!(listed.len(), 6);
    for row in &listed {
        let id = row["installationId"].as_str().expect("an id");
        assert_eq!(*row, server.installation(id).await);
        let (last, generation, _) = &rebuilt[id];
        assert_eq!(row["generation"], *generation);
        let state = match last.as_str() {
            "onInstall" => "pendingAuthorization",
            "onZohoAuthorise" => "active",
            "onUninstall" => "uninstalled",
            other => panic!("{other}"),
        };
        assert_eq!(row["state"], state);
        for member in [
            "version",
            "grantedScopes",
            "pendingScopes",
            "departmentIds",
            "eraseTime",
            "uninstalledTime",
        ] {
            assert!(row.get(member).is_some(), "{member}: {row}");
        }
        let pending = row["pendingScopes"].as_array().expect("a list").len();
        assert_eq!(pending, if state == "pendingAuthorization" { 2 } else { 0 }, "{row}");
        assert_eq!(row["eraseTime"].is_string(), state == "uninstalled", "{row}");
    }
}

async fn nothing_is_passed_over_while_others_write(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let vendor = server.vendor_token("acme").await;
    let writing = async {
        let all: Vec<_> = (0..8)
            .map(|writer| {
                let server = &server;
                async move {
                    for number in 0..6 {
                        server.install("ticket-mirror", &format!("w-{writer}-{number}")).await;
                    }
                }
            })
            .collect();
        futures_util::future::join_all(all).await;
    };
    let reading = async {
        let (mut cursor, mut read) = (None::<String>, Vec::new());
        let end = mortise::seam::Clock::default().instant() + Duration::from_mins(1);
        // Reads on from the last entry that it saw, as a vendor does.
        while read.len() < 48 && mortise::seam::Clock::default().instant() < end {
            let from =
                cursor.as_ref().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
            let path = format!("/api/v1/journal?limit=5{from}");
            let page = server.client.get(&path, &vendor).await.expect(200);
            for row in page.data() {
                read.push(row["callback"]["installationId"].as_str().expect("an id").to_owned());
                cursor = row["cursor"].as_str().map(str::to_owned);
            }
        }
        read
    };
    let ((), read) = futures_util::future::join(writing, reading).await;
    let seen: BTreeSet<_> = read.iter().collect();
    assert_eq!((read.len(), seen.len()), (48, 48), "each once, none passed over");
}

async fn changes_that_come_while_one_pages_come_once_more(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    let vendor = server.vendor_token("acme").await;
    let mut ids = Vec::new();
    for org in ["1", "2", "3", "4"] {
        ids.push(server.install("ticket-mirror", org).await.id);
    }
    let path = "/api/v1/installations?since=2000-01-01T00:00:00Z&limit=2";
    let first = server.client.get(path, &vendor).await.expect(200);
    let seen = |page: &Vec<Value>| {
        page.iter()
            .map(|row| row["installationId"].as_str().unwrap_or("-").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(first.data()), ids[..2]);
    // The first changes after it was read, the third before.
    let configure = |id: &str| json!({ "installationId": id, "departmentIds": ["7"] });
    server.callback("configure", &configure(&ids[0])).await.expect(200);
    server.callback("configure", &configure(&ids[2])).await.expect(200);
    let cursor = first.text_of("nextCursor");
    let rest = format!("{}&cursor={cursor}", path.replace("limit=2", "limit=50"));
    let rest = server.client.get(&rest, &vendor).await.expect(200).data().clone();
    assert_eq!(seen(&rest), [ids[3].clone(), ids[0].clone(), ids[2].clone()]);
    assert_eq!(rest[1]["departmentIds"], json!(["7"]));
    // A cursor of the other list is refused.
    let other = server.client.get("/api/v1/installations?limit=1", &vendor).await.expect(200);
    let path = format!("{path}&cursor={}", other.text_of("nextCursor"));
    server.client.get(&path, &vendor).await.refused(422, "INVALID_DATA");
    let path = format!("/api/v1/installations?cursor={cursor}");
    server.client.get(&path, &vendor).await.refused(422, "INVALID_DATA");
}

async fn setup(server: &TestServer, id: &str, wanted: &str) {
    eventually(&format!("vendorSetup {wanted}"), async || {
        (server.installation(id).await["vendorSetup"] == wanted).then_some(())
    })
    .await;
}

async fn the_setup_is_sent_again(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.vendor.behave_in_turn(PATH, [Behaviour::status(410)], Behaviour::status(200));
    let active = server.active(ORG).await;
    server.vendor.wait_for_path(PATH, 2, SOON).await.expect("both are told");
    setup(&server, &active.id, "failed").await;
    assert_eq!(server.installation(&active.id).await["state"], "active", "nothing is undone");
    let path = format!("/api/v1/installations/{}/vendor-setup/resend", active.id);
    let stranger = server.vendor_token("others").await;
    server.client.post(&path, &stranger, &json!({})).await.expect(404);
    let admin = server.admin(ORG).await;
    server.client.post(&path, &admin, &json!({})).await.expect(403);
    let vendor = server.vendor_token("acme").await;
    let again = server.client.post(&path, &vendor, &json!({})).await.expect(200);
    assert_eq!(again.json["installationId"], active.id.as_str());
    let calls = server.vendor.wait_for_path(PATH, 3, SOON).await.expect("it is sent again");
    let (first, third) = (calls[0].json().expect("JSON"), calls[2].json().expect("JSON"));
    assert_eq!(third, first, "the same body");
    assert_eq!(calls[2].header("webhook-id"), calls[0].header("webhook-id"));
    setup(&server, &active.id, "ok").await;
    // A later callback that fails says nothing of the set-up.
    server.vendor.behave(PATH, Behaviour::status(410));
    server.callback("uninstall", &json!({ "installationId": active.id })).await.expect(200);
    server.vendor.wait_for_path(PATH, 4, SOON).await.expect("it is told");
    eventually("the last one failed", async || {
        let rows = server.client.all("/api/v1/journal", &vendor).await;
        (rows[2]["state"] == "failed").then_some(())
    })
    .await;
    assert_eq!(server.installation(&active.id).await["vendorSetup"], "ok");
    // Where nothing is declared there is nothing to send.
    let silent = server.package().key("silent").with(|package| {
        package.manifest.as_object_mut().expect("an object").remove("callbackListener");
    });
    let silent = server.active_package(&silent, ORG).await;
    assert_eq!(server.installation(&silent.id).await["vendorSetup"], "ok");
    let path = format!("/api/v1/installations/{}/vendor-setup/resend", silent.id);
    server.client.post(&path, &vendor, &json!({})).await.refused(409, "STATE_CONFLICT");
}

async fn older_spellings_are_told_too(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let url = server.vendor.url(PATH);
    let package = server.package().with(|package| {
        package.manifest["callbackListener"] =
            json!({ "onDeskAuthorise": url, "onConfigParamChange": url });
    });
    let active = server.active_package(&package, ORG).await;
    let configure = |config: Value| json!({ "installationId": active.id, "config": config });
    let set = configure(json!({ "mirrorHost": "a.example" }));
    server.callback("configure", &set).await.expect(200);
    server.callback("configure", &configure(json!({ "mirrorHost": null }))).await.expect(200);
    let calls = server.vendor.wait_for_path(PATH, 3, SOON).await.expect("they are told");
    let told: Vec<_> = calls
        .iter()
        .map(|call| {
            let body = call.json().expect("JSON");
            assert!(body["securityContext"].is_string() && body["occurredAt"].is_string());
            format!("{} {} {}", body["event"], body["sequence"], body["reason"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        told,
        [
            "onDeskAuthorise 1 authorization",
            "onConfigParamChange 2 config_change",
            "onConfigParamChange 3 config_change"
        ]
    );
}

async fn a_callback_is_sent_again_by_those_who_may(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.active(ORG).await;
    server.vendor.wait_for_path(PATH, 2, SOON).await.expect("it is told");
    let vendor = server.vendor_token("acme").await;
    let journal = eventually("both arrived", async || {
        let rows = server.client.all("/api/v1/journal", &vendor).await;
        rows.iter().all(|row| row["state"] == "delivered").then_some(rows)
    })
    .await;
    let path = format!("/api/v1/journal/{}/redeliver", journal[0]["id"].as_str().expect("an id"));
    for (token, status) in [
        (server.vendor_token("others").await, 404),
        (server.admin(ORG).await, 403),
        (server.host().await, 403),
    ] {
        assert_eq!(server.client.post(&path, &token, &json!({})).await.status, status);
    }
    let nobody = "/api/v1/journal/01890000-0000-7000-8000-000000000000/redeliver";
    server.client.post(nobody, &vendor, &json!({})).await.expect(404);
    for (index, token) in
        [vendor.clone(), server.marketplace().await, server.operator.clone()].iter().enumerate()
    {
        server.client.post(&path, token, &json!({})).await.expect(200);
        let calls = server.vendor.wait_for_path(PATH, 3 + index, SOON).await.expect("it is sent");
        assert_eq!(calls[2 + index].header("webhook-id"), journal[0]["id"].as_str());
        eventually("it is settled", async || {
            let rows = server.client.all("/api/v1/journal", &vendor).await;
            (rows[0]["state"] == "delivered" && rows[0]["attemptsMade"] == 2 + index).then_some(())
        })
        .await;
    }
    let rows = server.client.all("/api/v1/journal", &vendor).await;
    assert_eq!(rows[0]["lastAttempt"]["status"], 200);
    assert_eq!(
        rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(),
        journal.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(),
        "the order stays"
    );
}
