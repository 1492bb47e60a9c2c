//! What a repair of the reconciler brings about besides: one connection of several breaks as it does
//! by itself, an end is the ordinary end, and a long pass comes to everything in turn.

use std::collections::BTreeMap;

use mortise::development::{DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions};
use serde_json::{Value, json};

use crate::reconciler::{bytes, counts, pass, sql_id};
use crate::support::on_both;
use crate::support::server::{Backend, Installation, ORG, TestServer, eventually};

on_both!(
    a_dead_connection_breaks_itself_and_no_other,
    an_end_by_hand_becomes_the_ordinary_end,
    what_a_former_release_uninstalled_is_ended_wholly,
    whoever_reads_what_changed_sees_a_repair,
    a_pass_that_runs_out_of_time_goes_on_in_the_next_turn,
    a_long_audit_is_checked_stretch_by_stretch,
);

const CALLBACKS: &str = "/callbacks";

/// Two connectors with a service of their own; the second is each user's.
async fn with_connectors(
    backend: Backend,
) -> (TestServer, DevelopmentAuthorizationServer, Installation) {
    let options = DevelopmentAuthorizationServerOptions {
        client_id: "crm-client".to_owned(),
        client_secret: "client-secret-of-the-operator".to_owned(),
        ..Default::default()
    };
    let crm = DevelopmentAuthorizationServer::start(options).await.expect("it starts");
    let server = TestServer::start(backend, |settings| {
        for (name, value) in [
            ("authorize_url", crm.authorize_url()),
            ("token_url", crm.token_url()),
            ("revoke_url", crm.revoke_url()),
            ("client_id", crm.client_id().to_owned()),
            ("client_secret", crm.client_secret().to_owned()),
            ("token_scheme", "Bearer".to_owned()),
            ("api_origins", crm.issuer().to_owned()),
        ] {
            settings.set(&format!("oauth.providers.crm.{name}"), value.clone());
            settings.set(&format!("oauth.providers.desk_crm.{name}"), value);
        }
        settings.set("reconcile.every", "0s");
    })
    .await;
    crm.register_redirect_uri(server.client.url("/oauth/callback"));
    let package = server.package().with(|package| {
        let connector = |name: &str, service: &str, user_access: bool| {
            json!({
                "connectionName": name, "serviceName": service, "connectionLinkName": name,
                "userAccess": user_access, "isUserDefinedService": true, "sharedBy": "77",
                "scope": ["contacts.read"],
            })
        };
        package.manifest["connectors"] =
            json!([connector("org_crm", "crm", false), connector("user_crm", "desk_crm", true),]);
    });
    let installation = server.active_package(&package, ORG).await;
    for (name, user) in [("org_crm", None), ("user_crm", Some("u-1")), ("user_crm", Some("u-2"))] {
        let mut body = json!({ "installationId": installation.id, "connectionLinkName": name });
        if let Some(user) = user {
            body["userId"] = user.into();
        }
        let asked = server.callback("connect", &body).await.expect(200);
        let answer = server.consent(&asked.text_of("authorizationUrl")).await;
        server.authorize(&installation.id, &answer).await.expect(200);
    }
    (server, crm, installation)
}

/// The health of each connection by name and user.
async fn health(server: &TestServer) -> Vec<String> {
    let query = "select name || ' ' || user_id || ' ' || health from connections
         where name in ('org_crm', 'user_crm') order by 1";
    server.texts(query).await
}

async fn a_dead_connection_breaks_itself_and_no_other(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let (server, crm, installation) = with_connectors(backend).await;
    let live = (crm.live_tokens().len(), server.provider.live_tokens().len());
    assert_eq!(live, (6, 2));
    // The org's connector has ended without a refresh; the tokens of one user cannot be read.
    server
        .execute(
            "update connections set access_expires_at = 1, sealed_refresh_token = null
             where name = 'org_crm'",
        )
        .await;
    let unreadable = format!("update connections set sealed_access_token = {}", bytes(is_sqlite));
    server.execute(&format!("{unreadable} where user_id = 'u-1'")).await;

    let done = pass(&server, true).await;
    let wanted = BTreeMap::from([
        ("connection.expired".to_owned(), 1),
        ("connection.unreadable".to_owned(), 1),
    ]);
    assert_eq!(counts(&done), wanted, "{done:#}");
    assert_eq!(
        health(&server).await,
        ["org_crm  broken", "user_crm u-1 broken", "user_crm u-2 ok"]
    );
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["connection"]["health"], "ok", "the host's works: {seen:#}");
    let host = server.connections().access_token(
        installation.id.parse().expect("an id"),
        mortise::oauth::HOST_CONNECTION,
        None,
        None,
    );
    assert!(server.provider.is_live(host.await.expect("the host's").token.expose()));
    // As connections break by themselves: said with the connection, and their tokens are revoked.
    let notices = server.client.all("/api/v1/notices", &server.operator).await;
    let broken = notices.iter().filter(|notice| notice["kind"] == "connection.broken").count();
    assert_eq!(broken, 2, "{notices:?}");
    let path = format!("/api/v1/installations/{}/history", installation.id);
    let history = server.client.all(&path, &server.operator).await;
    let told = history.iter().filter(|step| step["command"] == "connectionBroken").count();
    assert_eq!(told, 2, "{history:?}");
    eventually("what can be read of them is revoked", async || {
        (crm.live_tokens().len() < live.0).then_some(())
    })
    .await;
    assert_eq!(server.provider.live_tokens().len(), live.1, "nothing of the host's is");
    // What is broken is found no more, and hides nothing else.
    assert_eq!(pass(&server, false).await["found"], 0);
    let host = format!(
        "update connections set access_expires_at = 1, sealed_refresh_token = null
         where name not in ('org_crm', 'user_crm') and installation_id = {}",
        sql_id(is_sqlite, &installation.id)
    );
    server.execute(&host).await;
    server.execute("update connections set access_expires_at = 1 where user_id = 'u-1'").await;
    let done = pass(&server, true).await;
    assert_eq!(counts(&done), BTreeMap::from([("connection.expired".to_owned(), 1)]), "{done:#}");
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["connection"]["health"], "broken", "{seen:#}");
    let last = format!("{unreadable} where user_id = 'u-2'");
    server.execute(&last).await;
    let done = pass(&server, true).await;
    let wanted = BTreeMap::from([("connection.unreadable".to_owned(), 1)]);
    assert_eq!(counts(&done), wanted, "a broken host connection hides no other: {done:#}");
    assert_eq!(pass(&server, true).await["found"], 0);
    server.stop().await.audit_holds(&[ORG]).await;
}

/// An active installation whose upgrade waits with a secret.
async fn waiting(backend: Backend) -> (TestServer, Installation) {
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "0s")).await;
    let installation = server.active(ORG).await;
    let growing = server.package().version("2.0.0").with(|package| {
        package.resources["webhook"]["subscriptions"]["Ticket_Delete"] = Value::Null;
    });
    server.publish(&growing).await.expect(201);
    let body = json!({ "installationId": installation.id, "version": "2.0.0",
        "config": { "mirrorToken": "a secret that comes with it" } });
    let waits = server.callback("upgrade", &body).await.expect(200);
    assert_eq!(waits.json["consentRequired"], true, "{}", waits.text);
    assert_eq!(sealed(&server).await, 1);
    (server, installation)
}

/// How many upgrades keep a secret.
async fn sealed(server: &TestServer) -> usize {
    let query = "select state from upgrades where sealed_config is not null or waiting is not null";
    server.texts(query).await.len()
}

fn ends(server: &TestServer) -> usize {
    let received = server.vendor.received_at(CALLBACKS);
    let bodies = received.iter().map(|one| one.json().expect("JSON"));
    bodies.filter(|body: &Value| body["event"] == "onUninstall").count()
}

async fn an_end_by_hand_becomes_the_ordinary_end(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let (server, installation) = waiting(backend).await;
    let id = sql_id(is_sqlite, &installation.id);
    server.execute(&format!("update installations set live = 0 where id = {id}")).await;
    let dry = pass(&server, false).await;
    assert_eq!(counts(&dry)["upgrade.zombie"], 1, "{dry:#}");
    let done = pass(&server, true).await;
    assert_eq!(done["repaired"], done["found"], "{done:#}");
    assert_eq!(sealed(&server).await, 0, "what came with the upgrade is gone");
    eventually("the vendor is told", async || (ends(&server) == 1).then_some(())).await;
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["state"], "uninstalled");
    assert_eq!(seen["connection"]["health"], "none");
    assert_eq!(seen["waitingUpgrade"], Value::Null, "{seen:#}");
    let journal = server.client.all("/api/v1/journal", &server.operator).await;
    let last = journal.last().expect("an entry");
    assert_eq!(last["callback"]["event"], "onUninstall", "{last}");
    let open = "select kind from notices where installation_id is not null and resolved_at is null";
    assert_eq!(server.texts(open).await, Vec::<String>::new());
    let erasures = server.texts("select cause from erasures").await;
    assert_eq!(erasures, ["policy"]);
    eventually("its tokens are revoked", async || {
        server.provider.live_tokens().is_empty().then_some(())
    })
    .await;
    eventually("nothing is left", async || (pass(&server, true).await["found"] == 0).then_some(()))
        .await;
    assert_eq!(ends(&server), 1, "once");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn what_a_former_release_uninstalled_is_ended_wholly(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let (server, installation) = waiting(backend).await;
    let id = sql_id(is_sqlite, &installation.id);
    let body = json!({ "installationId": installation.id });
    // What waits is kept aside: a node of the former release does not touch these tables.
    server.execute("create table kept as select * from upgrades").await;
    server.callback("uninstall", &body).await.expect(200);
    eventually("the ordinary end", async || {
        let is_done = server.installation(&installation.id).await["cleanup"] == "done";
        (is_done && ends(&server) == 1).then_some(())
    })
    .await;
    server.execute("delete from upgrades").await;
    server.execute("insert into upgrades select * from kept").await;
    server.execute("drop table kept").await;
    server.execute("delete from erasures").await;
    server.execute("delete from journal where event = 'onUninstall'").await;
    let former = "update installations set erase_at = null,
         waiting_upgrade_id = (select u.id from upgrades u)";
    server.execute(&format!("{former} where id = {id}")).await;
    // A code that nobody exchanged for longer than codes live.
    let exchange = format!(
        "insert into token_exchanges (id, installation_id, service_name, sealed, started_at,
                                      attempts, next_at)
         values ({0}, {0}, 'zlabs_integration', {1}, 1, 0, 1)",
        id,
        bytes(is_sqlite)
    );
    server.execute(&exchange).await;
    assert_eq!(sealed(&server).await, 1);

    let done = pass(&server, true).await;
    // The loop of exchanges may be faster with what cannot be read.
    let mut found = counts(&done);
    found.remove("exchange.zombie");
    let wanted =
        BTreeMap::from([("erasure.missing".to_owned(), 1), ("upgrade.zombie".to_owned(), 1)]);
    assert_eq!(found, wanted, "{done:#}");
    assert!(server.texts("select service_name from token_exchanges").await.is_empty());
    assert_eq!(sealed(&server).await, 0);
    assert_eq!(server.texts("select state from upgrades").await, ["uninstalled"]);
    assert_eq!(server.texts("select cause from erasures where pending = 1").await, ["policy"]);
    let journal = server.texts("select event from journal order by position").await;
    assert_eq!(journal.last().map(String::as_str), Some("onUninstall"), "{journal:?}");
    assert_eq!(pass(&server, true).await["found"], 0);
    assert_eq!(ends(&server), 1, "it was told already");
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn whoever_reads_what_changed_sees_a_repair(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "0s")).await;
    let first = server.active("1").await;
    server.active("2").await;
    let id = sql_id(is_sqlite, &first.id);
    server.execute(&format!("delete from webhooks where installation_id = {id}")).await;
    let places = async || {
        let query = "select cast(change_position as text) from installations where org_id = '1'";
        server.texts(query).await[0].parse::<i64>().expect("a number")
    };
    let before = places().await;
    server.advance(std::time::Duration::from_mins(1));
    let since = server.seam.clock.now().rfc3339();
    let path = format!("/api/v1/installations?since={since}");
    assert!(server.client.all(&path, &server.operator).await.is_empty());
    assert_eq!(pass(&server, true).await["repaired"], 1);
    let changed = server.client.all(&path, &server.operator).await;
    let ids: Vec<&Value> = changed.iter().map(|row| &row["installationId"]).collect();
    assert_eq!(ids, [first.id.as_str()], "{changed:?}");
    assert!(places().await > before, "at a place after all others");
}

async fn a_pass_that_runs_out_of_time_goes_on_in_the_next_turn(backend: Backend) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |settings| {
        settings.set("reconcile.every", "1s");
        settings.set("reconcile.repair", "false");
    })
    .await;
    let gone = server.active("gone").await;
    server.callback("uninstall", &json!({ "installationId": gone.id })).await.expect(200);
    server.install("ticket-mirror", "waits").await;
    // So many that one turn does not come to the end of them.
    let columns = if is_sqlite {
        "select name from pragma_table_info('installations') order by cid"
    } else {
        "select column_name::text from information_schema.columns
         where table_name = 'installations' order by ordinal_position"
    };
    let columns = server.texts(columns).await;
    let (random, text) = if is_sqlite {
        ("randomblob(16)", "cast(n.i as text)")
    } else {
        ("gen_random_uuid()", "n.i::text")
    };
    let values: Vec<&str> = columns
        .iter()
        .map(|column| match column.as_str() {
            "id" => random,
            "org_id" => text,
            other => other,
        })
        .collect();
    let copies = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 700)
         insert into installations ({}) select {} from installations, n where org_id = 'waits'",
        columns.join(", "),
        values.join(", ")
    );
    server.execute(&copies).await;
    let secret = format!("update installations set sealed_config = {}", bytes(is_sqlite));
    let id = sql_id(is_sqlite, &gone.id);
    server.execute(&format!("{secret} where id = {id}")).await;
    // Time passes by itself: a turn a second, and none longer than that.
    let reports = async || server.texts("select report from reconcile_runs order by id").await;
    eventually("a turn that stops in the middle", async || {
        reports().await.iter().any(|text| text.contains("\"complete\":false")).then_some(())
    })
    .await;
    eventually("what ended is looked at in turn", async || {
        reports().await.iter().any(|text| text.contains("secret.zombie")).then_some(())
    })
    .await;
    // Whoever asks meanwhile waits for a page, and goes on where an answer stopped.
    let answer = server
        .client
        .post("/api/v1/reconcile", &server.operator, &json!({ "after": "1:" }))
        .await
        .expect(200);
    assert_eq!(counts(&answer.json)["secret.zombie"], 1, "{}", answer.text);
    assert_eq!(answer.json["installations"], 0, "those that live are behind it");
    for wrong in ["10:", "0:x", "nowhere"] {
        let body = json!({ "after": wrong });
        let answer = server.client.post("/api/v1/reconcile", &server.operator, &body).await;
        answer.refused(422, "INVALID_DATA");
    }
}

async fn a_long_audit_is_checked_stretch_by_stretch(backend: Backend) {
    let server = TestServer::start(backend, |settings| settings.set("reconcile.every", "0s")).await;
    for org in ["1", "2", "3"] {
        server.active(org).await;
    }
    let chains = server.texts("select chain from audit_heads").await.len() as u64;
    let check = async |links: u64| {
        let (mut after, mut read, mut answers, mut wrong) =
            (None::<String>, 0, 0, Vec::<String>::new());
        loop {
            let next = after.map_or_else(String::new, |after| format!("&auditAfter={after}"));
            let path = format!("/api/v1/doctor?auditLinks={links}{next}");
            let answer = server.client.get(&path, &server.operator).await.expect(200).json;
            answers += 1;
            read += answer["auditChains"].as_u64().expect("a count");
            let checks = answer["checks"].as_array().expect("checks");
            let audit = checks.iter().find(|check| check["name"] == "audit").expect("the audit");
            if audit["status"] == "problem" {
                wrong.push(audit["detail"].to_string());
            }
            after = answer["auditNext"].as_str().map(str::to_owned);
            if after.is_none() {
                return (read, answers, wrong);
            }
            assert!(answers < 200, "it comes to an end");
        }
    };
    assert_eq!(check(100_000).await, (chains, 1, Vec::new()));
    let (read, answers, wrong) = check(2).await;
    assert_eq!((read, wrong), (chains, Vec::new()));
    assert!(answers > 3, "{answers}");
    for query in ["auditLinks=0", "auditLinks=100001", "auditAfter=nowhere", "colour=red"] {
        let path = format!("/api/v1/doctor?{query}");
        server.client.get(&path, &server.operator).await.refused(422, "INVALID_DATA");
    }
}
