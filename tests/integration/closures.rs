//! An org closes: nothing of it is left, whatever else happens at the time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::package::Package;
use crate::support::server::{Backend, ORG, TestServer, assert_absent, eventually};

on_both!(
    what_was_uninstalled_before_is_erased_too,
    a_clock_that_is_ahead_hides_no_installation,
    one_that_cannot_be_read_ends_as_the_others,
    one_that_cannot_be_ended_holds_no_other_and_is_told,
    nothing_is_installed_in_an_org_that_closes,
    closing_many_times_at_once_is_closing,
    nobody_who_was_there_is_remembered,
);

const PERSON: &str = "person-4713";

async fn report(server: &TestServer, id: &str) -> Value {
    let path = format!("/api/v1/installations/{id}/erasure");
    server.client.get(&path, &server.operator).await.expect(200).json
}

async fn close(server: &TestServer) -> Value {
    server.callback("org-closed", &json!({ "orgId": ORG })).await.expect(200).json
}

/// A personal extension, which each user installs: many installations in one org.
async fn publish_personal(server: &TestServer) {
    let personal = server.package().key("my-notes").with(|package| {
        package.manifest["type"] = json!("personal");
        package.manifest["zohoAuthorisation"]["scope"] = json!(["Desk.tickets.READ"]);
        package.resources = json!({});
    });
    server.publish(&personal).await.expect(201);
}

async fn install_for(server: &TestServer, user: &str) -> String {
    let body = json!({ "extensionKey": "my-notes", "orgId": ORG, "userId": user });
    server.callback("install", &body).await.expect(201).text_of("installationId")
}

/// A package of a key whose stored manifest is broken behind the server's back.
async fn unreadable(server: &TestServer) -> (String, Package) {
    let package = server.package().key("a-broken-one");
    let installation = server.active_package(&package, ORG).await;
    server
        .execute(
            "update extension_versions set manifest = '[' || manifest \
             where extension_key = 'a-broken-one'",
        )
        .await;
    (installation.id, package)
}

async fn what_was_uninstalled_before_is_erased_too(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let former = server.active(ORG).await;
    server.callback("uninstall", &json!({ "installationId": former.id })).await.expect(200);
    assert_eq!(report(&server, &former.id).await["cause"], "policy");
    let body = json!({ "extensionKey": "ticket-mirror", "orgId": ORG });
    let live = server.install_with(body).await;
    let closed = close(&server).await;
    assert_eq!((&closed["finished"], &closed["uninstalled"]), (&json!(true), &json!(1)));
    assert_eq!(closed["lastError"], Value::Null);
    for id in [&former.id, &live.id] {
        let report = report(&server, id).await;
        assert_eq!(report["cause"], "request", "{report}");
    }
    let told = "select subject from audit where action = 'installation.erasure-choice'";
    assert_eq!(server.texts(told).await.len(), 2);
    close(&server).await;
    assert_eq!(server.texts(told).await.len(), 2, "again is the same");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_clock_that_is_ahead_hides_no_installation(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    // Another node installed it, whose clock is an hour ahead.
    server.execute("update installations set created_at = created_at + 3600000000").await;
    let closed = close(&server).await;
    assert_eq!((&closed["finished"], &closed["uninstalled"]), (&json!(true), &json!(1)));
    assert_eq!(server.installation(&installation.id).await["state"], "uninstalled");
}

async fn one_that_cannot_be_read_ends_as_the_others(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let (broken, _) = unreadable(&server).await;
    publish_personal(&server).await;
    install_for(&server, "u-1").await;
    let closed = close(&server).await;
    assert_eq!((&closed["finished"], &closed["uninstalled"]), (&json!(true), &json!(2)));
    assert_eq!(server.installation(&broken).await["state"], "uninstalled");
    for left in ["webhooks", "connections"] {
        let rows = server.texts(&format!("select 'x' from {left}")).await;
        assert!(rows.is_empty(), "{left}: {rows:?}");
    }
    // Nobody knows whom to tell.
    let told = "select event from journal where event = 'onUninstall' \
                and extension_key = 'a-broken-one'";
    assert!(server.texts(told).await.is_empty());
    server.stop().await.audit_holds(&[ORG]).await;
}

/// Makes an installation one that the database will not end, behind the server's back.
async fn stubborn(server: &TestServer, is_sqlite: bool) -> String {
    let installation = server.active_package(&server.package().key("a-broken-one"), ORG).await;
    let guard = if is_sqlite {
        "create trigger stubborn before update of live on installations
         when new.live = 0 and old.extension_key = 'a-broken-one'
         begin select raise(abort, 'it stays'); end"
    } else {
        "create function stubborn() returns trigger language plpgsql as $$
         begin raise exception 'it stays'; end $$"
    };
    server.execute(guard).await;
    if !is_sqlite {
        let guard = "create trigger stubborn before update of live on installations for each row
            when (new.live = 0 and old.extension_key = 'a-broken-one')
            execute function stubborn()";
        server.execute(guard).await;
    }
    installation.id
}

async fn give_way(server: &TestServer, is_sqlite: bool) {
    let on = if is_sqlite { "" } else { " on installations" };
    server.execute(&format!("drop trigger stubborn{on}")).await;
}

async fn one_that_cannot_be_ended_holds_no_other_and_is_told(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    let broken = stubborn(&server, is_sqlite).await;
    publish_personal(&server).await;
    for number in 0..25 {
        install_for(&server, &format!("u-{number}")).await;
    }
    let closed = close(&server).await;
    assert_eq!((&closed["finished"], &closed["uninstalled"]), (&json!(false), &json!(25)));
    let said = closed["lastError"].as_str().expect("why").to_owned();
    assert!(said.contains(&broken), "{said}");
    let notices = async || {
        let all = server.client.all("/api/v1/notices", &server.operator).await;
        all.into_iter().filter(|one| one["kind"] == "org.closing").collect::<Vec<_>>()
    };
    let told = notices().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["message"].as_str().is_some_and(|text| text.contains(&broken)), "{told:?}");
    // Tried again in vain, nobody is told anew.
    server.advance(Duration::from_secs(6));
    close(&server).await;
    assert_eq!(notices().await[0]["count"], told[0]["count"]);
    give_way(&server, is_sqlite).await;
    server.advance(Duration::from_secs(6));
    eventually("it goes on by itself", async || {
        (server.installation(&broken).await["state"] == "uninstalled").then_some(())
    })
    .await;
    eventually("it is finished", async || {
        let closed = close(&server).await;
        (closed["finished"] == true && closed["lastError"].is_null()).then_some(())
    })
    .await;
    assert!(notices().await.iter().all(|one| !one["resolvedTime"].is_null()), "it is over");
}

async fn nothing_is_installed_in_an_org_that_closes(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    publish_personal(&server).await;
    stubborn(&server, is_sqlite).await;
    assert_eq!(close(&server).await["finished"], false);
    let body = json!({ "extensionKey": "my-notes", "orgId": ORG, "userId": "u-1" });
    let refused = server.callback("install", &body).await.refused(409, "STATE_CONFLICT");
    assert!(refused.text.contains("is being closed"), "{}", refused.text);
    let elsewhere = json!({ "extensionKey": "my-notes", "orgId": "2", "userId": "u-1" });
    server.callback("install", &elsewhere).await.expect(201);
    give_way(&server, is_sqlite).await;
    // Installs and the end of the closure at once: what comes in came after it.
    let installing = async {
        for number in 0..20 {
            let body = json!({ "extensionKey": "my-notes", "orgId": ORG, "userId": format!("v-{number}") });
            let answer = server.callback("install", &body).await;
            assert!([201, 409].contains(&answer.status), "{}", answer.text);
        }
    };
    let (closed, ()) = tokio::join!(close(&server), installing);
    assert_eq!(closed["finished"], true, "{closed}");
    let before = "select 'x' from installations i join org_closures c on c.org_id = i.org_id \
                  where i.live = 1 and i.created_at < c.requested_at";
    assert!(server.texts(before).await.is_empty());
    // A closed org may come back: a new life.
    install_for(&server, "u-2").await;
}

async fn closing_many_times_at_once_is_closing(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    publish_personal(&server).await;
    for number in 0..12 {
        install_for(&server, &format!("u-{number}")).await;
    }
    let all = futures_util::future::join_all((0..6).map(|_| close(&server))).await;
    assert!(all.iter().any(|closed| closed["finished"] == true), "{all:?}");
    let last = close(&server).await;
    assert_eq!((&last["finished"], &last["uninstalled"]), (&json!(true), &json!(12)));
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn nobody_who_was_there_is_remembered(backend: Backend) {
    let server = TestServer::start(backend, |_| {}).await;
    let package = server.package().with(|package| {
        let callbacks = package.manifest["callbackListener"]["onInstall"].clone();
        package.manifest["callbackListener"]["onTPAAuthorise"] = callbacks.clone();
        package.manifest["callbackListener"]["onTPARevoke"] = callbacks;
    });
    let installation = server.active_package(&package, ORG).await;
    let body = json!({
        "installationId": installation.id, "connectionLinkName": "zohoAuthorisation",
        "userId": PERSON,
    });
    let asked = server.callback("connect", &body).await.expect(200);
    let answer = server.consent(&asked.text_of("authorizationUrl")).await;
    server.authorize(&installation.id, &answer).await.expect(200);
    let journal = server.client.all("/api/v1/journal", &server.operator).await;
    assert!(journal.iter().any(|one| one["callback"]["userId"] == PERSON), "{journal:?}");
    let removed = json!({ "orgId": ORG, "userId": PERSON });
    server.callback("user-removed", &removed).await.expect(200);
    assert!(server.dump().await.contains(PERSON), "the test would prove nothing");
    assert_eq!(close(&server).await["finished"], true);
    eventually("the callbacks are settled", async || {
        let open = "select 'x' from deliveries where ordered is not null";
        server.texts(open).await.is_empty().then_some(())
    })
    .await;
    let who = "select actor from org_closures";
    assert!(server.texts(who).await[0].contains(':'), "who closed it is known until then");
    server.advance(Duration::from_mins(2));
    eventually("the erasure is done", async || {
        (report(&server, &installation.id).await["state"] == "done").then_some(())
    })
    .await;
    let actor = server.texts(who).await.remove(0);
    assert!(!actor.contains(':'), "{actor}");
    assert!(
        server.texts("select address from org_closures where address is not null").await.is_empty()
    );
    assert_absent(&server.dump().await, PERSON);
    server.stop().await.audit_holds(&[ORG]).await;
}
