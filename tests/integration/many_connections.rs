//! An installation with very many connections of users: it ends in a bounded transaction, and their
//! tokens are moved in steps.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::server::{Backend, Installation, ORG, TestServer, eventually};
use crate::support::statements::Statements;

on_both!(it_ends_in_a_bounded_transaction, a_pass_looks_at_all_of_them, a_user_leaves_with_his_own);

/// How many users have a connection: more than one step moves.
const USERS: u32 = 1_200;

/// Copies the host's connection for so many users, behind the server's back. Their tokens are bound
/// to another row, and open nowhere.
async fn copy(server: &TestServer, is_sqlite: bool) {
    let numbers = if is_sqlite {
        format!(
            "with recursive numbers(n) as (select 1 union all select n + 1 from numbers \
             where n < {USERS})"
        )
    } else {
        format!("with numbers(n) as (select generate_series(1, {USERS}))")
    };
    let id = if is_sqlite {
        "unhex('0189000000007000b000' || printf('%012x', n))"
    } else {
        "('0189000000007000b000' || lpad(to_hex(n), 12, '0'))::uuid"
    };
    let names = if is_sqlite {
        "select name from pragma_table_info('connections')"
    } else {
        "select column_name::text from information_schema.columns where table_name = 'connections'"
    };
    let names = server.texts(names).await;
    let values: Vec<String> = names
        .iter()
        .map(|name| match name.as_str() {
            "id" => id.to_owned(),
            "user_id" | "granted_by" => "'u-' || n".to_owned(),
            "shared" => "0".to_owned(),
            name => format!("c.{name}"),
        })
        .collect();
    let (names, values) = (names.join(", "), values.join(", "));
    let copied = format!(
        "insert into connections ({names}) {numbers} select {values} from connections c, numbers"
    );
    server.execute(&copied).await;
}

async fn start(backend: Backend) -> (TestServer, Installation) {
    let is_sqlite = matches!(backend, Backend::Sqlite);
    let server = TestServer::start(backend, |_| {}).await;
    let installation = server.active(ORG).await;
    copy(&server, is_sqlite).await;
    (server, installation)
}

async fn number(server: &TestServer, what: &str) -> i64 {
    let rows = server.texts(&format!("select cast(count(*) as text) from {what}")).await;
    rows[0].parse().expect("a number")
}

async fn look(server: &TestServer) -> Value {
    let body = json!({ "repair": false });
    server.client.post("/api/v1/reconcile", &server.operator, &body).await.expect(200).json
}

async fn it_ends_in_a_bounded_transaction(backend: Backend) {
    let statements = Statements::count();
    let (server, installation) = start(backend).await;
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["connectionCount"], USERS + 1);
    let body = json!({ "installationId": installation.id });
    server.callback("uninstall", &body).await.expect(200);
    let made = statements.take("/api/v1/callbacks/uninstall");
    assert!((1..=60).contains(&made.len()), "{} statements: {made:#?}", made.len());
    // None of them is anybody's any more, whether its tokens were moved or not.
    let seen = server.installation(&installation.id).await;
    assert_eq!((&seen["state"], &seen["connectionCount"]), (&json!("uninstalled"), &json!(0)));
    assert_eq!(look(&server).await["found"], 0);
    eventually("the tokens that can be are revoked", async || {
        (number(&server, "connections").await == 0
            && server.provider.live_tokens().is_empty()
            && server.installation(&installation.id).await["cleanup"] == "done")
            .then_some(())
    })
    .await;
    assert_eq!(look(&server).await["found"], 0);
    server.stop().await.audit_holds(&[ORG]).await;
}

async fn a_pass_looks_at_all_of_them(backend: Backend) {
    let (server, _) = start(backend).await;
    // A call that takes long says where to go on.
    let (mut found, mut after) = (0, Value::Null);
    loop {
        let body = json!({ "repair": false, "after": after });
        let path = "/api/v1/reconcile";
        let report = server.client.post(path, &server.operator, &body).await.expect(200).json;
        let counts = report["counts"].as_object().expect("counts");
        assert!(counts.keys().all(|kind| kind == "connection.unreadable"), "{counts:?}");
        found += report["found"].as_u64().expect("a number");
        after = report["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(found, u64::from(USERS));
}

async fn a_user_leaves_with_his_own(backend: Backend) {
    let (server, installation) = start(backend).await;
    let body = json!({ "orgId": ORG, "userId": "u-7" });
    let left = server.callback("user-removed", &body).await.expect(200);
    assert_eq!(
        (&left.json["removedConnections"], &left.json["brokenConnections"]),
        (&json!(1), &json!(0))
    );
    let seen = server.installation(&installation.id).await;
    assert_eq!(seen["connectionCount"], USERS);
    assert_eq!(seen["connection"]["health"], "ok");
}
