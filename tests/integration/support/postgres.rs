//! An empty PostgreSQL database for one test.
//!
//! The server is started once a run by `scripts/postgres-for-tests`, which nextest calls. Each test
//! makes its own database on it and drops it at its end. Where the server is the run's own, databases
//! that a server shall find migrated are copies of one that the first test migrates.

use std::io::Write as _;

use mortise::seam::Randomness;
use mortise_migrations::Migrator;
use sea_orm_migration::MigratorTrait as _;
use sqlx::{Connection as _, Executor as _, PgConnection};
use url::Url;

/// The variable in which the run's server is named.
const SERVER: &str = "MORTISE_TEST_POSTGRES_URL";

/// The variable which says that the server is the run's own, and ends with it.
const IS_THROWN_AWAY: &str = "POSTGRES_FOR_TESTS_IS_THROWN_AWAY";

/// What is copied where a migrated database is wanted.
const MIGRATED: &str = "migrated";

/// The lock under which it is made.
const MIGRATING: i64 = 0x6d69_6772_6174_6564;

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
    Some(database_on(server()?).await)
}

/// Makes a database of which a server need not migrate anything; otherwise as [`database`]. On a
/// server that outlives the run it is empty, for what was migrated there once may be outdated.
pub(crate) async fn migrated_database() -> Option<Database> {
    let server = server()?;
    if std::env::var_os(IS_THROWN_AWAY).is_none() {
        return Some(database_on(server).await);
    }
    let mut connection = connect(&server).await;
    let is_there = "select exists (select from pg_database where datname = $1 and datistemplate)";
    let is_there = || sqlx::query_scalar::<_, bool>(is_there).bind(MIGRATED);
    if !is_there().fetch_one(&mut connection).await.expect("the catalogue is readable") {
        execute(&mut connection, format!("select pg_advisory_lock({MIGRATING})")).await;
        if !is_there().fetch_one(&mut connection).await.expect("the catalogue is readable") {
            migrate(&mut connection, &server).await;
        }
    }
    connection.close().await.expect("the connection closes");
    Some(copy_on(server, MIGRATED).await)
}

/// Makes what is copied; anew where a test was ended while it did so.
async fn migrate(connection: &mut PgConnection, server: &str) {
    execute(connection, format!("drop database if exists {MIGRATED} with (force)")).await;
    execute(connection, format!("create database {MIGRATED} template template0")).await;
    let mut url = Url::parse(server).expect("the server's address is a URL");
    url.set_path(MIGRATED);
    let database = sea_orm::Database::connect(url.as_str()).await.expect("the server answers");
    Migrator::up(&database, None).await.expect("the migrations succeed");
    database.close().await.expect("the connection closes");
    execute(connection, format!("alter database {MIGRATED} is_template true")).await;
}

fn server() -> Option<String> {
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
    Some(server)
}

/// Makes an empty database on a server.
pub(crate) async fn database_on(server: String) -> Database {
    copy_on(server, "template0").await
}

async fn copy_on(server: String, template: &str) -> Database {
    let name = format!("test_{}", Randomness::default().id().simple());
    let mut connection = connect(&server).await;
    execute(&mut connection, format!("create database {name} template {template}")).await;
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
