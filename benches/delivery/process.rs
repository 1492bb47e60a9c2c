//! What processes use, as `/proc` says.

use std::fs::read_to_string;
use std::time::Duration;

use super::{Failure, Outcome};

/// Ticks of `/proc` a second; every Linux says 100 to user space.
const TICKS: u32 = 100;

/// The fields of `/proc/<pid>/stat` from the state on.
fn fields(pid: &str) -> Option<Vec<String>> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], places: &[usize]) -> u32 {
    let values = places.iter().filter_map(|place| fields.get(*place)?.parse::<u32>().ok());
    values.sum()
}

/// Time on the CPU, user and system, in units of 10 ms.
pub(crate) fn cpu(pid: u32) -> Duration {
    let fields = fields(&pid.to_string()).unwrap_or_default();
    Duration::from_secs(1) * ticks(&fields, &[11, 12]) / TICKS
}

/// Time on the CPU of a process and its children, those that have ended as well.
pub(crate) fn tree_cpu(pid: u32) -> Duration {
    let own = fields(&pid.to_string()).unwrap_or_default();
    let mut sum = ticks(&own, &[11, 12, 13, 14]);
    let parent = pid.to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit())
            && let Some(child) = fields(&name)
            && child.get(1) == Some(&parent)
        {
            sum += ticks(&child, &[11, 12, 13, 14]);
        }
    }
    Duration::from_secs(1) * sum / TICKS
}

/// Memory in MiB: now, and at most since the last reset.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let text = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or_default() / 1_024
    };
    (value("VmRSS:"), value("VmHWM:"))
}

/// Lets the most memory begin anew.
pub(crate) fn reset_peak(pid: u32) {
    // Where the system does not let us, the peak is that since the start.
    let _kept = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The time of all processors: idle, stolen by other machines, all.
fn processors() -> (u64, u64, u64) {
    let text = read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let values: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|value| value.parse().ok()).collect();
    let value = |place: usize| values.get(place).copied().unwrap_or_default();
    (value(3) + value(4), value(7), values.iter().sum())
}

/// Processes to watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) server: u32,
    pub(crate) database: Option<u32>,
}

/// What they had used at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    server: Duration,
    database: Duration,
    driver: Duration,
    processors: (u64, u64, u64),
}

/// What they used between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) server: Duration,
    pub(crate) database: Duration,
    pub(crate) driver: Duration,
    /// Parts of all processor time.
    pub(crate) idle: f64,
    pub(crate) stolen: f64,
    /// Taken by processes that are not ours: figures beside them say little.
    pub(crate) foreign: f64,
}

impl Watched {
    /// Reads them.
    pub(crate) fn read(self) -> Outcome<Reading> {
        if fields("self").is_none() {
            return Err(Failure::from("there is no /proc: this needs Linux"));
        }
        Ok(Reading {
            server: cpu(self.server),
            database: self.database.map(tree_cpu).unwrap_or_default(),
            driver: cpu(std::process::id()),
            processors: processors(),
        })
    }
}

impl Reading {
    /// What was used since.
    pub(crate) fn until(&self, later: &Self) -> Usage {
        let all = later.processors.2.saturating_sub(self.processors.2).max(1);
        let part = |now: u64, then: u64| ratio(now.saturating_sub(then), all);
        let server = later.server.saturating_sub(self.server);
        let database = later.database.saturating_sub(self.database);
        let driver = later.driver.saturating_sub(self.driver);
        let idle = part(later.processors.0, self.processors.0);
        let stolen = part(later.processors.1, self.processors.1);
        let ours = (server + database + driver).as_secs_f64() * f64::from(TICKS) / ratio(all, 1);
        let foreign = (1.0 - idle - stolen - ours).max(0.0);
        Usage { server, database, driver, idle, stolen, foreign }
    }
}

/// One count over another.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub(crate) fn ratio(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}
