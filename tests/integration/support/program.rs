//! The real program as a process of its own, to be killed, frozen and starved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use mortise::development::{SampleVendor, SampleVendorOptions};
use mortise::seam::{Clock, Randomness};
use serde_json::{Value, json};

use super::client::Client;
use super::delivery_world::{HOOK, World};
use super::package::Package;
use super::server::{Backend, Installation, Place, Settings};

/// How long the program may take to be ready, on a machine that does much else.
const STARTING: Duration = Duration::from_secs(30);

/// An address whose port was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    probe.local_addr().expect("an address")
}

/// A number from the environment, for the long form of a test; otherwise that of the short form.
pub(crate) fn long_form(name: &str, short: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: a number")),
        Err(_) => short,
    }
}

/// Where the log of programs goes: nowhere, or into the folder of `MORTISE_TEST_LOGS`.
fn log() -> Stdio {
    let Ok(folder) = std::env::var("MORTISE_TEST_LOGS") else { return Stdio::null() };
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test").replace("::", "-");
    let id = Randomness::default().id().simple();
    let path = PathBuf::from(folder).join(format!("{name}-{id}.log"));
    std::fs::File::create(path).expect("a log file").into()
}

/// Sends a signal by its name, such as `STOP`.
pub(crate) fn signal(process: u32, name: &str) {
    let number = process.to_string();
    let status = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &number]).status();
    assert!(status.expect("a shell").success(), "SIG{name} for {process}");
}

/// Bounds the files that a process may write, in bytes, or lifts the bound. Only the soft limit:
/// that needs no rights.
pub(crate) fn limit_files(process: u32, bytes: Option<u64>) {
    let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let limit = format!("--fsize={limit}:");
    let output = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).output();
    let output = output.expect("prlimit (util-linux)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "prlimit {limit} of {process}: {said}");
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) client: Client,
    child: Child,
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(settings: &BTreeMap<String, String>, address: SocketAddr) -> Self {
        Self::start_armed(settings, address, None).await
    }

    /// The same with a crash point armed: there it ends as by a power cut.
    pub(crate) async fn start_armed(
        settings: &BTreeMap<String, String>,
        address: SocketAddr,
        crash_at: Option<&str>,
    ) -> Self {
        Self::try_start_armed(settings, address, crash_at).await.expect("it ended")
    }

    /// The same; nothing where it came to its point before it was ready.
    pub(crate) async fn try_start_armed(
        settings: &BTreeMap<String, String>,
        address: SocketAddr,
        crash_at: Option<&str>,
    ) -> Option<Self> {
        let mut command = Command::new("sh");
        // A limit on the size of files would end the process by a signal that a full disk does
        // not send: it is ignored, as what is ignored stays so over an exec.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_mortise")]);
        command.arg("serve");
        for (key, value) in settings.iter().filter(|(key, _)| *key != "listen") {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.arg("--listen").arg(address.to_string());
        // Variables of the test are no settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MORTISE_") {
                command.env_remove(name);
            }
        }
        if let Some(point) = crash_at {
            command.env("MORTISE_CRASH_AT", point);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log());
        let child = command.spawn().expect("the program starts");
        let client = Client::new(format!("http://{address}"));
        let mut program = Self { client, child };
        let clock = Clock::default();
        let end = clock.instant() + STARTING;
        while !program.is_ready().await {
            if !program.is_running() {
                return None;
            }
            assert!(clock.instant() < end, "it is never ready");
            clock.sleep(Duration::from_millis(20)).await;
        }
        Some(program)
    }

    /// Whether it answers that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        // Not a problem of the API where it is not: the answer is not held to that.
        let request = self.client.request(reqwest::Method::GET, "/health/ready", "");
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// Whether the process is still there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state is known").is_none()
    }

    /// The number of the process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self, limit: Duration) -> ExitStatus {
        let clock = Clock::default();
        let end = clock.instant() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state is known") {
                return status;
            }
            assert!(clock.instant() < end, "it does not end");
            clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(self, limit: Duration) -> ExitStatus {
        signal(self.process(), "TERM");
        self.ended(limit).await
    }

    /// The most memory that it ever had, in bytes; nothing where the system does not tell.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kibibytes * 1_024)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone where the test ended it.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An installed extension on a database that programs are started on, and a vendor that outlives
/// all of them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) vendor: SampleVendor,
    pub(crate) host: String,
    pub(crate) operator: String,
    pub(crate) installation: Installation,
    /// What signs the deliveries.
    pub(crate) secret: String,
    pub(crate) settings: BTreeMap<String, String>,
    /// Where the first program listens, each time that it is started.
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
}

impl Stage {
    /// Sets it up with settings for the programs.
    pub(crate) async fn new(backend: Backend, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(backend, change, async |_, _| {}).await
    }

    /// The same, and lets more be made while the server of the preparation runs.
    pub(crate) async fn with(
        backend: Backend,
        change: impl FnOnce(&mut Settings),
        prepare: impl AsyncFnOnce(&World, &SampleVendor),
    ) -> Self {
        let options = SampleVendorOptions {
            capacity: 4_000_000,
            capacity_bytes: 4 << 30,
            ..SampleVendorOptions::default()
        };
        let vendor = SampleVendor::start(options).await.expect("a vendor");
        let point = |package: &mut Package| {
            package.resources["webhook"]["url"] = vendor.url(HOOK).into();
            let callbacks = Value::from(vendor.url("/callbacks"));
            package.manifest["callbackListener"] =
                json!({ "onInstall": callbacks, "onUninstall": callbacks });
        };
        let mut changed = Settings::default();
        change(&mut changed);
        let given = changed.clone();
        let world = World::with(backend, |settings| settings.extend(given), point).await;
        prepare(&world, &vendor).await;
        let secret = world.secret().await;
        let World { server, host, installation, webhook: _ } = world;
        let operator = server.operator.clone();
        let place = server.stop().await;
        let settings = place.settings();
        let address = free_address();
        Self { vendor, host, operator, installation, secret, settings, address, place }
    }

    /// Starts the first program, at the same address each time.
    pub(crate) async fn launch(&self) -> Program {
        Program::start(&self.settings, self.address).await
    }

    /// How many deliveries of the webhooks are in each state, such as `2:40`.
    pub(crate) async fn states(&self) -> Vec<String> {
        let query = "select cast(d.state as text) || ':' || cast(count(*) as text)
             from deliveries d join endpoints e on e.id = d.endpoint_id
             where e.lane = 'webhook' group by d.state order by d.state";
        self.place.texts(query).await
    }
}
