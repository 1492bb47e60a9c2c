//! A PostgreSQL server of one test's own, to be stopped and started. It keeps what it
//! commits: `fsync` is on, unlike on the server that the other tests share.

use std::io::Write as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mortise::seam::Clock;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::program::signal;

/// How long the server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the server is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Connections are cut, what is under way is taken back (`pg_ctl stop -m fast`).
    Fast,
    /// As a crash (`pg_ctl stop -m immediate`).
    Immediate,
}

/// A server; stopped and deleted with this.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    /// Who it runs as: it refuses to run as root.
    account: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Cluster {
    /// Makes one and starts it. Nothing where no server is installed: a test then has nothing to do
    /// and says so, but under `CI=true` it fails.
    pub(crate) async fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "install a PostgreSQL server");
            // Straight to the terminal: what a test prints through the harness is hidden.
            let _ = writeln!(std::io::stderr(), "NOT TESTED on PostgreSQL: there is no server");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let account = account(folder.path());
        if let Some((user, group)) = account {
            chown(folder.path(), Some(user), Some(group)).expect("the folder changes hands");
        }
        let mut cluster = Self { folder, programs, account, server: None };
        let made = cluster
            .command("initdb")
            .args(["--username=mortise", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions"])
            .status();
        assert!(made.expect("initdb runs").success(), "the cluster is made");
        cluster.resume().await;
        Some(cluster)
    }

    /// The address of its first database.
    pub(crate) fn url(&self) -> String {
        let folder = self.folder.path().display();
        format!("postgres://mortise@localhost/postgres?host={folder}")
    }

    /// A program of the server, as its account and on its data.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.arg("-D").arg(self.folder.path().join("data")).current_dir("/");
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts it again, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        assert!(self.server.is_none(), "it is stopped");
        let sockets = self.folder.path().display().to_string();
        let mut command = self.command("postgres");
        for setting in [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={sockets}"),
            "max_connections=100".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        self.server = Some(command.spawn().expect("the server starts"));
        let clock = Clock::default();
        let end = clock.instant() + PATIENCE;
        while let Err(error) = PgConnection::connect(&self.url()).await {
            assert!(clock.instant() < end, "it does not start: {error}");
            clock.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops it, and waits until it has.
    pub(crate) async fn stop(&mut self, how: Stop) {
        let mut server = self.server.take().expect("it runs");
        let name = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        signal(server.id(), name);
        let clock = Clock::default();
        let end = clock.instant() + PATIENCE;
        while server.try_wait().expect("its state is known").is_none() {
            assert!(clock.instant() < end, "it does not stop");
            clock.sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id(), "QUIT");
            let _ended = server.wait();
        }
    }
}

/// The newest server programs of Debian's folders, else those of the PATH.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    found
        .into_iter()
        .rev()
        .map(|(_, path)| path)
        .chain(std::env::split_paths(&on_path))
        .find(|path| path.join("initdb").is_file() && path.join("postgres").is_file())
}

/// Who runs the server where this is root: an account without rights.
fn account(folder: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata(folder).expect("the folder is there").uid() != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("the accounts");
    let of = |wanted: &str| {
        accounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_it = fields.first() == Some(&wanted);
            is_it.then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("an account postgres or nobody"))
}
