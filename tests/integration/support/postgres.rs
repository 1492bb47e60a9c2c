//! An empty PostgreSQL database for one test.
//!
//! The server is started once a run by `scripts/postgres-for-tests`, which nextest calls. Each test
//! makes its own database on it and drops it at its end.

use std::io::Write as _;

use mortise::seam::Randomness;
use sqlx::{Connection as _, Executor as _, PgConnection};
use url::Url;

/// The variable in which the run's server is named.
const SERVER: &str = "MORTISE_TEST_POSTGRES_URL";

/// A database of one test; dropped with this, connections and all.
#[derive(Debug)]
pub(crate) struct Database {
    server: String,
    name: String,
    url: String,
}

impl Database {
    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> PgConnection {
        connect(&self.url).await
    }
}

/// Makes an empty database. Nothing where there is no server: a test then has nothing to do and
/// says so, but under `CI=true` it fails.
pub(crate) async fn database() -> Option<Database> {
    let server = std::env::var(SERVER).ok().filter(|url| !url.is_empty());
    let Some(server) = server else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{SERVER} is not set: run the tests with nextest and install a PostgreSQL server"
        );
        // Straight to the terminal: what a test prints through the harness is hidden.
        let _ = writeln!(std::io::stderr(), "NOT TESTED on PostgreSQL: there is no server");
        return None;
    };
    Some(database_on(server).await)
}

/// Makes an empty database on a server.
pub(crate) async fn database_on(server: String) -> Database {
    let name = format!("test_{}", Randomness::default().id().simple());
    let mut connection = connect(&server).await;
    execute(&mut connection, format!("create database {name} template template0")).await;
    connection.close().await.expect("the connection closes");
    let mut url = Url::parse(&server).expect("the server's address is a URL");
    url.set_path(&name);
    Database { server, url: url.into(), name }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The test's runtime may be gone or busy: this has its own.
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut connection = connect(&server).await;
                execute(&mut connection, format!("drop database {name} with (force)")).await;
            });
        });
        let dropped = dropping.join();
        assert!(dropped.is_ok() || std::thread::panicking(), "the database cannot be dropped");
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the PostgreSQL server answers")
}

async fn execute(connection: &mut PgConnection, statement: String) {
    let statement = sqlx::AssertSqlSafe(statement);
    connection.execute(sqlx::query(statement)).await.expect("the statement succeeds");
}

/// Names of databases that the server has.
async fn databases(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select datname from pg_database")
        .fetch_all(connection)
        .await
        .expect("the catalogue is readable")
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own_until_its_end() {
    let (Some(first), Some(second)) = (database().await, database().await) else { return };
    execute(&mut first.connect().await, "create table only_here (id bigint)".to_owned()).await;
    let there: Option<String> = sqlx::query_scalar("select to_regclass('only_here')::text")
        .fetch_one(&mut second.connect().await)
        .await
        .expect("the question is answered");
    assert_eq!(there, None);

    assert_ne!(first.url(), second.url());
    let mut still_open = first.connect().await;
    let name = first.name.clone();
    drop(first);
    assert!(still_open.ping().await.is_err(), "its connections are cut");
    let left = databases(&mut second.connect().await).await;
    assert!(left.contains(&second.name) && !left.contains(&name), "{left:?}");
}
