//! What an installation costs the database. A statement is a round trip to PostgreSQL, made while
//! the locks of an org and an extension are held; each transaction has two more, its beginning and its
//! commit.

use serde_json::json;

use crate::support::postgres::database;
use crate::support::server::{Backend, TestServer};
use crate::support::statements::Statements;

const INSTALL: &str = "/api/v1/callbacks/install";
const AUTHORIZE: &str = "/api/v1/callbacks/authorize";
const UNINSTALL: &str = "/api/v1/callbacks/uninstall";

/// The most statements of an install, with its commit.
const MOST_OF_INSTALL: usize = 10;

/// The most statements of an authorisation, with the exchange of the code, the answer that shows all
/// of it, and the commits of both transactions.
const MOST_OF_AUTHORIZE: usize = 15;

/// The most statements that wait for the other nodes, after the last commit.
const MOST_OF_WAITING: usize = 8;

fn assert_most(what: &str, statements: &[String], most: usize) {
    let listed = statements.join("\n  ");
    let committed = statements.iter().rposition(|one| one == "COMMIT");
    let made = committed.expect("the statements were counted, and one is the commit") + 1;
    assert!(made <= most, "{what} makes {made} statements, and may make {most}:\n  {listed}");
    let waited = statements.len() - made;
    assert!(waited <= MOST_OF_WAITING, "{what} waits by {waited} statements:\n  {listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_costs_a_handful_of_round_trips() {
    let Some(database) = database().await else { return };
    let statements = Statements::count();
    let server = TestServer::start(Backend::Postgres(database), |_| {}).await;
    server.publish(&server.package()).await.expect(201);
    // What is read once for each token is read.
    let first = server.install("ticket-mirror", "first").await;
    let answer = server.consent(&first.authorization_url).await;
    server.authorize(&first.id, &answer).await.expect(200);
    for route in [INSTALL, AUTHORIZE, UNINSTALL] {
        drop(statements.take(route));
    }
    for org in ["second", "third"] {
        let made = server.install("ticket-mirror", org).await;
        assert_most("install", &statements.take(INSTALL), MOST_OF_INSTALL);
        let answer = server.consent(&made.authorization_url).await;
        let active = server.authorize(&made.id, &answer).await.expect(200);
        assert_eq!(active.json["webhooks"].as_array().map(Vec::len), Some(1));
        assert_most("authorize", &statements.take(AUTHORIZE), MOST_OF_AUTHORIZE);
        let body = json!({ "installationId": made.id });
        server.callback("uninstall", &body).await.expect(200);
        assert_most("uninstall", &statements.take(UNINSTALL), 40);
    }
    server.stop().await.audit_holds(&["first", "second", "third"]).await;
}
