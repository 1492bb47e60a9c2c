//! The end of an installation: what is erased when, what is proved of it, and what stays.

use std::time::Duration;

use mortise::development::Behaviour;
use serde_json::{Value, json};

use crate::support::delivery_world::{HOOK, SOON, World, ticket};
use crate::support::on_both;
use crate::support::server::{Backend, ORG, TestServer, assert_absent, eventually};

on_both!(
    everything_goes_at_the_date_of_the_policy_and_the_chain_holds,
    an_erasure_that_is_asked_for_begins_at_once_and_can_be_asked_for_later,
    an_erasure_waits_for_the_last_callback,
    a_vendor_that_is_down_for_three_days_is_told_or_a_notice_says_so,
    what_a_removed_webhook_leaves_behind_is_gone,
    erasing_is_of_this_installation_alone,
    many_uninstalls_at_once_end_it_once,
    uninstall_and_authorise_at_once_leave_no_token,
    a_quick_reinstall_is_told_in_order,
);

const HOST_VALUE: &str = "parameter-that-is-shown.example";
const SECRET_VALUE: &str = "parameter-that-only-the-vendor-may-know";
const INSTALLER: &str = "installer-4711";
const DEPARTMENT: &str = "department-4712";
const WORDS: &str = "because Mister Miller said so";
const ANSWER: &str = "an answer that quotes a customer";
const PAYLOAD: &str = "a ticket that only this extension got";

async fn report(server: &TestServer, id: &str) -> Value {
    let path = format!("/api/v1/installations/{id}/erasure");
    server.client.get(&path, &server.operator).await.expect(200).json
}

async fn erased(server: &TestServer, id: &str) -> Value {
    eventually("the erasure is done", async || {
        let report = report(server, id).await;
        (report["state"] == "done").then_some(report)
    })
    .await
}

/// An installation with everything that can be erased.
async fn full(server: &TestServer) -> String {
    server.publish(&server.package()).await.expect(201);
    let installed = server
        .install_with(json!({
            "extensionKey": "ticket-mirror", "orgId": ORG, "installedBy": INSTALLER,
            "departmentIds": [DEPARTMENT],
            "config": { "mirrorHost": HOST_VALUE, "mirrorToken": SECRET_VALUE },
        }))
        .await;
    let answer = server.consent(&installed.authorization_url).await;
    server.authorize(&installed.id, &answer).await.expect(200);
    let configure = json!({
        "installationId": installed.id, "config": { "mirrorHost": format!("{HOST_VALUE}.second") },
    });
    server.callback("configure", &configure).await.expect(200);
    let host = server.host().await;
    server.vendor.behave_in_turn(
        HOOK,
        [Behaviour::status(500).with_body(ANSWER)],
        Behaviour::status(200).with_body(ANSWER),
    );
    let mut event = ticket(ORG, "alone");
    event["payload"]["subject"] = json!(PAYLOAD);
    server.client.post("/api/v1/events", &host, &event).await.expect(202);
    server.vendor.wait_for_path(HOOK, 1, SOON).await.expect("it arrives");
    eventually("the first attempt is written", async || {
        let failed = "select 'x' from deliveries where attempts = 1 and first_status = 500";
        (!server.texts(failed).await.is_empty()).then_some(())
    })
    .await;
    server.advance(Duration::from_mins(2));
    server.vendor.wait_for_path(HOOK, 2, SOON).await.expect("it arrives again");
    eventually("the second attempt is written", async || {
        (!server.texts("select detail from attempts").await.is_empty()).then_some(())
    })
    .await;
    let reason = json!({ "reason": WORDS });
    let path = format!("/api/v1/installations/{}", installed.id);
    for what in ["suspend", "resume"] {
        server.client.post(&format!("{path}/{what}"), &server.operator, &reason).await.expect(200);
    }
    installed.id
}

async fn everything_goes_at_the_date_of_the_policy_and_the_chain_holds(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |settings| {
        settings.set("retention.erase_after", "10d");
    })
    .await;
    let id = full(&server).await;
    let before = server.dump().await;
    for there in [HOST_VALUE, INSTALLER, DEPARTMENT, WORDS, ANSWER] {
        assert!(before.contains(there), "the test would prove nothing: {there}");
    }
    let path = format!("/api/v1/installations/{id}/erasure");
    server.client.get(&path, &server.operator).await.expect(404);
    let body = json!({ "installationId": id, "reason": WORDS, "eraseData": false });
    server.callback("uninstall", &body).await.expect(200);
    let due = report(&server, &id).await;
    assert_eq!((&due["state"], &due["cause"]), (&json!("scheduled"), &json!("policy")));
    let told = server.vendor.wait_for_path("/callbacks", 3, SOON).await.expect("it is told");
    let last = told.last().expect("a call").json().expect("JSON");
    assert_eq!(last["event"], "onUninstall");
    assert_eq!(last["eraseAt"], due["dueTime"], "the vendor is told the date: {last}");
    let seen = server.installation(&id).await;
    assert_eq!(seen["eraseTime"], due["dueTime"]);
    assert_eq!(seen["config"]["mirrorHost"], format!("{HOST_VALUE}.second"), "kept until then");
    eventually("the clean-up is done", async || {
        (server.installation(&id).await["cleanup"] == "done").then_some(())
    })
    .await;

    server.advance(Duration::from_hours(9 * 24));
    assert_eq!(report(&server, &id).await["state"], "scheduled");
    server.advance(Duration::from_hours(25));
    let proof = erased(&server, &id).await;
    for (kind, least) in [
        ("installationFields", 3),
        ("responses", 2),
        ("payloads", 1),
        ("historyRows", 5),
        ("auditRows", 5),
        ("callbacks", 3),
    ] {
        let rows = proof["erased"][kind]["rows"].as_u64().unwrap_or(0);
        assert!(rows >= least, "{kind}: {proof}");
        assert!(proof["erased"][kind]["at"].is_string(), "{proof}");
    }
    let seen = server.installation(&id).await;
    assert_eq!(seen["state"], "erased");
    assert!(seen["erasedTime"].is_string());
    assert_eq!(
        (&seen["config"], &seen["departmentIds"], &seen["installedBy"]),
        (&json!({}), &Value::Null, &Value::Null)
    );
    // The history can still be read, without who and why.
    let history = format!("/api/v1/installations/{id}/history");
    let rows = server.client.all(&history, &server.admin(ORG).await).await;
    let commands: Vec<_> = rows.iter().map(|row| row["command"].as_str().unwrap_or("-")).collect();
    assert_eq!(
        commands,
        ["install", "authorize", "configure", "suspend", "resume", "uninstall", "erase"]
    );
    assert!(rows.iter().all(|row| row["reason"].is_null() && row["address"].is_null()));
    // The journal keeps its sequence, and nothing is sent again.
    let journal = server.client.all("/api/v1/journal", &server.operator).await;
    assert_eq!(journal.len(), 3);
    assert_eq!(journal[2]["callback"]["reason"], Value::Null);
    let again = format!("/api/v1/journal/{}/redeliver", journal[2]["id"].as_str().expect("an id"));
    server.client.post(&again, &server.operator, &json!({})).await.refused(409, "STATE_CONFLICT");
    let uninstall = json!({ "installationId": id });
    let still = server.callback("uninstall", &uninstall).await.expect(200);
    assert_eq!(still.json["state"], "erased");

    let dump = server.dump().await;
    let place = server.stop().await;
    for gone in [HOST_VALUE, SECRET_VALUE, INSTALLER, DEPARTMENT, WORDS, ANSWER, PAYLOAD] {
        assert_absent(&dump, gone);
        if is_sqlite {
            let raw = place.raw();
            let found = raw.windows(gone.len()).any(|window| window == gone.as_bytes());
            assert!(!found, "{gone} is still in the file");
        }
    }
    assert!(dump.contains(&id.replace('-', "")) || dump.contains(&id), "the tombstone stays");
    place.audit_holds(&[ORG]).await;
}

async fn an_erasure_that_is_asked_for_begins_at_once_and_can_be_asked_for_later(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let first = server.active("1").await;
    let second = server.active("2").await;
    let ask = json!({ "installationId": first.id, "eraseData": true });
    server.callback("uninstall", &ask).await.expect(200);
    assert_eq!(report(&server, &first.id).await["cause"], "request");
    server.callback("uninstall", &json!({ "installationId": second.id })).await.expect(200);
    assert_eq!(report(&server, &second.id).await["cause"], "policy");
    server.vendor.wait_for_path("/callbacks", 6, SOON).await.expect("both are told");
    eventually("the callbacks are settled", async || {
        let open = "select 'x' from deliveries where ordered is not null";
        server.texts(open).await.is_empty().then_some(())
    })
    .await;
    server.advance(Duration::from_mins(2));
    erased(&server, &first.id).await;
    assert_eq!(report(&server, &second.id).await["state"], "scheduled");
    // Later is not too late, and again is the same.
    for _ in 0..2 {
        let ask = json!({ "installationId": second.id, "eraseData": true });
        server.callback("uninstall", &ask).await.expect(200);
    }
    let sooner = report(&server, &second.id).await;
    assert_eq!((&sooner["state"], &sooner["cause"]), (&json!("scheduled"), &json!("request")));
    server.advance(Duration::from_mins(2));
    erased(&server, &second.id).await;
    let audit = "select action from audit where action = 'installation.erased'";
    assert_eq!(server.texts(audit).await.len(), 2);
    // The next generation begins with nothing of it.
    let next = server.active("1").await;
    assert_eq!(next.generation, 2);
    server.stop().await.audit_holds(&["1", "2"]).await;
}

async fn an_erasure_waits_for_the_last_callback(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    server.vendor.wait_for_path("/callbacks", 2, SOON).await.expect("it is told");
    server.vendor.behave("/callbacks", Behaviour::status(503));
    let ask = json!({ "installationId": active.id, "eraseData": true, "reason": WORDS });
    server.callback("uninstall", &ask).await.expect(200);
    server.vendor.wait_for_path("/callbacks", 3, SOON).await.expect("it is tried");
    server.advance(Duration::from_secs(62));
    eventually("it waits", async || {
        (report(&server, &active.id).await["state"] == "running").then_some(())
    })
    .await;
    server.vendor.behave("/callbacks", Behaviour::status(200));
    for _ in 0..3 {
        server.advance(Duration::from_mins(1));
        mortise::seam::Clock::default().sleep(Duration::from_millis(300)).await;
    }
    let calls = server.vendor.received_at("/callbacks");
    let last = calls.last().expect("a call").json().expect("JSON");
    assert_eq!((&last["event"], &last["reason"]), (&json!("onUninstall"), &json!(WORDS)));
    eventually("it goes on", async || {
        server.advance(Duration::from_secs(31));
        (report(&server, &active.id).await["state"] == "done").then_some(())
    })
    .await;
    assert_absent(&server.dump().await, WORDS);
}

async fn a_vendor_that_is_down_for_three_days_is_told_or_a_notice_says_so(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let active = server.active(ORG).await;
    server.vendor.wait_for_path("/callbacks", 2, SOON).await.expect("it is told");
    server.vendor.behave("/callbacks", Behaviour::Close);
    let answer = server.callback("uninstall", &json!({ "installationId": active.id })).await;
    assert_eq!(answer.expect(200).json["removedWebhooks"], 1, "a vendor that is down holds nobody");
    assert!(server.webhooks(ORG).await.is_empty());
    let vendor = server.vendor_token("acme").await;
    let state = async || {
        let rows = server.client.all("/api/v1/journal", &vendor).await;
        rows.last().expect("an entry")["state"].as_str().expect("a state").to_owned()
    };
    eventually("it is given up", async || {
        server.advance(Duration::from_hours(3));
        (state().await == "failed").then_some(())
    })
    .await;
    eventually("a notice says so", async || {
        let notices = server.client.all("/api/v1/notices", &vendor).await;
        notices.iter().any(|notice| notice["kind"] == "callback.failed").then_some(())
    })
    .await;
    server.advance(Duration::from_hours(72));
    server.vendor.behave("/callbacks", Behaviour::status(200));
    let before = server.vendor.received_at("/callbacks").len();
    let rows = server.client.all("/api/v1/journal", &vendor).await;
    let last = rows.last().expect("an entry");
    assert_eq!(last["callback"]["event"], "onUninstall");
    assert_eq!(last["attemptsMade"], 5);
    assert!(last["lastAttempt"]["error"].is_string(), "{last}");
    let again = format!("/api/v1/journal/{}/redeliver", last["id"].as_str().expect("an id"));
    server.client.post(&again, &vendor, &json!({})).await.expect(200);
    let calls = server.vendor.wait_for_path("/callbacks", before + 1, SOON).await;
    let call = calls.expect("it arrives").pop().expect("a call");
    assert_eq!(call.header("webhook-id"), last["id"].as_str(), "the same id");
    assert_eq!(call.header("x-mortise-replay"), Some("true"));
    assert_eq!(call.json().expect("JSON")["event"], "onUninstall");
    eventually("the journal knows", async || (state().await == "delivered").then_some(())).await;
}

async fn what_a_removed_webhook_leaves_behind_is_gone(backend: Backend) {
    let world = World::with(
        backend,
        |_| {},
        |package| package.resources["webhook"]["mortise"] = json!({ "ordered": true }),
    )
    .await;
    let server = &world.server;
    server.vendor.behave(HOOK, Behaviour::status(500));
    for number in 0..3 {
        world.ticket(&format!("o-{number}")).await;
    }
    world.attempted("o-0", 1).await;
    assert!(!server.texts("select 'x' from endpoint_sequences").await.is_empty());
    let body = json!({ "installationId": world.installation.id });
    server.callback("uninstall", &body).await.expect(200);
    // What delivering found out is written now and then; it must not come back.
    for _ in 0..8 {
        server.advance(Duration::from_secs(10));
        mortise::seam::Clock::default().sleep(Duration::from_millis(100)).await;
    }
    assert!(server.texts("select 'x' from endpoint_sequences").await.is_empty());
    let left = "select 'x' from endpoint_states s join endpoints e on e.id = s.endpoint_id \
                where e.lane = 'webhook'";
    assert!(server.texts(left).await.is_empty());
    let open = "select 'x' from deliveries d join endpoints e on e.id = d.endpoint_id \
                where e.lane = 'webhook' and (d.due_at is not null or d.ordered is not null \
                or d.state in (0, 1))";
    eventually("nothing waits", async || server.texts(open).await.is_empty().then_some(())).await;
}

async fn erasing_is_of_this_installation_alone(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let first = server.active(ORG).await;
    // Inspectors that name no webhook, as most do: one of the vendor's, one of the org's.
    let admin = server.admin(ORG).await;
    let mut inspectors = Vec::new();
    for token in [&server.vendor_token("acme").await, &admin] {
        let made = server.client.post("/api/v1/inspectors", token, &json!({})).await.expect(201);
        inspectors.push(made.text_of("url"));
    }
    let other = server.package().key("other").with(|package| {
        package.resources["webhook"]["resourceName"] = json!("other");
        package.resources["webhook"]["url"] = json!(server.vendor.url("/hooks/other"));
    });
    server.active_package(&other, ORG).await;
    let host = server.host().await;
    let mut event = ticket(ORG, "shared");
    event["payload"]["subject"] = json!("both of them got this");
    let made = server.client.post("/api/v1/events", &host, &event).await.expect(202);
    assert_eq!(made.json["events"][0]["deliveries"], 2);
    server.vendor.wait_for_path("/hooks/other", 1, SOON).await.expect("it arrives");
    server.vendor.wait_for_path(HOOK, 1, SOON).await.expect("it arrives");
    // What a vendor's receiver got is led to the inspectors, as deliveries are.
    let took = async |hook: &str, url: &str| {
        let path = format!("/{}", url.splitn(4, '/').nth(3).expect("a path"));
        let got = server.vendor.wait_for_path(hook, 1, SOON).await.expect("it is there").remove(0);
        let id = got.header("webhook-id").expect("an id").to_owned();
        let request = server.client.request(reqwest::Method::POST, &path, "");
        let request = request.header("webhook-id", id).body(got.body.to_vec());
        assert_eq!(request.send().await.expect("it answers").status(), 200);
    };
    took(HOOK, &inspectors[0]).await;
    took(HOOK, &inspectors[1]).await;
    took("/hooks/other", &inspectors[0]).await;
    let inspected = async || server.texts("select method from inspected_requests").await.len();
    assert_eq!(inspected().await, 3);
    let ask = json!({ "installationId": first.id, "eraseData": true });
    server.callback("uninstall", &ask).await.expect(200);
    server.vendor.wait_for_path("/callbacks", 5, SOON).await.expect("it is told");
    eventually("it is erased", async || {
        server.advance(Duration::from_secs(61));
        (report(&server, &first.id).await["state"] == "done").then_some(())
    })
    .await;
    let path = format!("/api/v1/events/shared?orgId={ORG}");
    let seen = server.client.get(&path, &server.operator).await.expect(200);
    assert!(seen.text.contains("both of them got this"), "the other one's: {}", seen.text);
    let rows = server.client.all("/api/v1/deliveries", &server.operator).await;
    let of = |key: &str| rows.iter().find(|row| row["extensionKey"] == key).expect("a delivery");
    assert!(of("other")["attempts"][0]["phases"]["firstByteMicros"].is_number());
    assert_eq!(of("ticket-mirror")["attempts"][0]["phases"], json!({}), "{rows:?}");
    assert_eq!(of("ticket-mirror")["attempts"][0]["status"], 200);
    assert_eq!(inspected().await, 1, "the other one's alone");
    // A closed org has no address left that takes anything, and nothing of it lies anywhere.
    server.callback("org-closed", &json!({ "orgId": ORG })).await.expect(200);
    let path = format!("/{}", inspectors[1].splitn(4, '/').nth(3).expect("a path"));
    eventually("what inspectors took of it is gone, and so are its own", async || {
        server.advance(Duration::from_secs(61));
        let after = server.client.call(reqwest::Method::POST, &path, "", None).await;
        (after.status == 404 && inspected().await == 0).then_some(())
    })
    .await;
}

async fn many_uninstalls_at_once_end_it_once(backend: Backend) {
    let world = World::start(backend).await;
    let server = &world.server;
    let body = json!({ "installationId": world.installation.id, "eraseData": true });
    let by_name = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    let calls = (0..6)
        .map(|index| server.callback("uninstall", if index % 2 == 0 { &body } else { &by_name }));
    for answer in futures_util::future::join_all(calls).await {
        let answer = answer.expect(200);
        assert_eq!(answer.json["state"], "uninstalled");
        assert_eq!(answer.json["removedWebhooks"], 1);
    }
    let path = format!("/api/v1/installations/{}/history", world.installation.id);
    let rows = server.client.all(&path, &server.operator).await;
    assert_eq!(rows.iter().filter(|row| row["command"] == "uninstall").count(), 1);
    let told = "select 'x' from journal where event = 'onUninstall'";
    assert_eq!(server.texts(told).await.len(), 1);
    assert_eq!(report(server, &world.installation.id).await["cause"], "request");
}

async fn uninstall_and_authorise_at_once_leave_no_token(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    for round in 0..6_u64 {
        let org = format!("race-{round}");
        let waiting = server.install("ticket-mirror", &org).await;
        let answer = server.consent(&waiting.authorization_url).await;
        let uninstall = async {
            mortise::seam::Clock::default().sleep(Duration::from_millis(round * 3)).await;
            let body = json!({ "installationId": waiting.id });
            server.callback("uninstall", &body).await.expect(200)
        };
        let (authorized, _) =
            futures_util::future::join(server.authorize(&waiting.id, &answer), uninstall).await;
        assert!([200, 409, 422].contains(&authorized.status), "{}", authorized.text);
        assert_eq!(server.installation(&waiting.id).await["state"], "uninstalled");
        assert!(server.webhooks(&org).await.is_empty(), "no webhook outlives its installation");
    }
    eventually("no token lives on", async || {
        server.advance(Duration::from_secs(5));
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    assert!(server.texts("select 'x' from connections").await.is_empty());
}

async fn a_quick_reinstall_is_told_in_order(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    server.vendor.behave("/callbacks", Behaviour::status(200).after(Duration::from_millis(300)));
    let first = server.install("ticket-mirror", ORG).await;
    let gone = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    server.callback("uninstall", &gone).await.expect(200);
    let second = server.install("ticket-mirror", ORG).await;
    assert_ne!(first.id, second.id);
    // The late end of the first harms nothing of the second.
    let late = json!({ "extensionKey": "ticket-mirror", "orgId": ORG, "generation": 1 });
    let answer = server.callback("uninstall", &late).await.expect(200);
    assert_eq!(answer.json["installationId"], first.id.as_str());
    assert_eq!(server.installation(&second.id).await["state"], "pendingAuthorization");
    server.vendor.wait_for_path("/callbacks", 3, SOON).await.expect("all are told");
    let journal = server.client.all("/api/v1/journal", &server.operator).await;
    let told: Vec<_> = journal
        .iter()
        .map(|row| {
            let body = &row["callback"];
            format!(
                "{} {} {} {}",
                body["event"], body["generation"], body["sequence"], body["reason"]
            )
            .replace('"', "")
        })
        .collect();
    assert_eq!(
        told,
        ["onInstall 1 1 first_install", "onUninstall 1 2 uninstalled", "onInstall 2 1 reinstall"]
    );
}
