//! A throw-away PostgreSQL with full durability, from the programs that are installed.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mortise::seam::Clock;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::child::Watched;
use super::{Failure, Outcome};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster that is stopped when this is dropped; its folder belongs to the caller.
#[derive(Debug)]
pub(crate) struct Cluster {
    server: Watched,
    port: u16,
    /// What it says of itself.
    pub(crate) version: String,
    /// Its settings that matter, as `name=value`.
    pub(crate) settings: Vec<String>,
}

/// The newest server programs.
pub(crate) fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// The account without rights that runs it where we are root, as PostgreSQL asks for.
fn account() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = uid.and_then(|line| line.split_whitespace().nth(1)) == Some("0");
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let nobody = accounts.lines().find_map(|line| {
        let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    if is_root { nobody } else { None }
}

fn command(program: &Path, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command.env("LC_ALL", "C");
    command
}

impl Cluster {
    /// Makes and starts a cluster in a folder.
    pub(crate) async fn start(
        programs: &Path,
        folder: &Path,
        with_statements: bool,
    ) -> Outcome<Self> {
        let account = account();
        let data = folder.join("postgres");
        std::fs::create_dir_all(&data)?;
        if let Some((user, group)) = account {
            std::os::unix::fs::chown(&data, Some(user), Some(group))?;
        }
        let made = command(&programs.join("initdb"), account)
            .arg("--pgdata")
            .arg(&data)
            .args(["--username=mortise", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .current_dir(&data)
            .stdout(Stdio::null())
            .output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
        }
        let port = super::server::free_port()?;
        let log = std::fs::File::create(folder.join("postgres.log"))?;
        let mut postgres = command(&programs.join("postgres"), account);
        postgres.arg("-D").arg(&data).arg("-p").arg(port.to_string()).args([
            "-clisten_addresses=127.0.0.1",
            "-cunix_socket_directories=",
            "-cfsync=on",
            "-csynchronous_commit=on",
            "-cfull_page_writes=on",
        ]);
        if with_statements {
            postgres.arg("-cshared_preload_libraries=pg_stat_statements");
        }
        postgres.current_dir(&data).stdout(log.try_clone()?).stderr(log);
        let server = Watched::start(&mut postgres)?;
        let mut cluster = Self { server, port, version: String::new(), settings: Vec::new() };
        let mut connection = cluster.first_connection().await?;
        cluster.version =
            sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
        for name in [
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "wal_sync_method",
            "max_wal_size",
            "shared_buffers",
            "autovacuum",
        ] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
            cluster.settings.push(format!("{name}={value}"));
        }
        Ok(cluster)
    }

    async fn first_connection(&mut self) -> Outcome<PgConnection> {
        let clock = Clock::default();
        let end = clock.instant() + PATIENCE;
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return Ok(connection),
                Err(error) if self.server.has_ended() || clock.instant() > end => {
                    return Err(Failure::from(format!("PostgreSQL does not start: {error}")));
                }
                Err(_) => clock.sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The process that all its others are children of.
    pub(crate) fn id(&self) -> u32 {
        self.server.id()
    }

    /// The address of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://mortise@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database.
    pub(crate) async fn create(&self, database: &str, with_statements: bool) -> Outcome<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let create = format!("create database {database} template template0");
        connection.execute(sqlx::AssertSqlSafe(create)).await?;
        if with_statements {
            let mut connection = PgConnection::connect(&self.url(database)).await?;
            connection.execute("create extension pg_stat_statements").await?;
        }
        Ok(())
    }

    /// Drops a database and writes what is left to disk, so that no scenario pays for the former.
    pub(crate) async fn drop_database(&self, database: &str) -> Outcome<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let drop = format!("drop database {database} with (force)");
        connection.execute(sqlx::AssertSqlSafe(drop)).await?;
        connection.execute("checkpoint").await?;
        Ok(())
    }
}
