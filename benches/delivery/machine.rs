//! What is measured on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use mortise::seam::Clock;
use serde::Serialize;

use super::Outcome;
use super::cluster::Cluster;

/// The machine and the databases.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// How long one write of 4 KiB takes to be on disk, the middle of 200, in milliseconds.
    fsync_ms: f64,
    postgres: Option<String>,
    postgres_settings: Vec<String>,
    sqlite: String,
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

/// How long the disk takes to keep something.
pub(crate) fn fsync(folder: &Path) -> Outcome<f64> {
    let clock = Clock::default();
    let path = folder.join("fsync");
    let mut file = File::create(&path)?;
    let mut spans = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 4_096])?;
        let begin = clock.instant();
        file.sync_data()?;
        spans.push(begin.elapsed());
    }
    spans.sort_unstable();
    std::fs::remove_file(path)?;
    Ok(spans.get(100).map_or(0.0, Duration::as_secs_f64) * 1e3)
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look(folder: &Path, cluster: Option<&Cluster>) -> Outcome<Self> {
        let memory = field("/proc/meminfo", "MemTotal");
        let kibibytes =
            memory.split_whitespace().next().and_then(|value| value.parse::<u64>().ok());
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kibibytes.unwrap_or_default() / 1_024,
            kernel: kernel.trim().to_owned(),
            fsync_ms: fsync(folder)?,
            postgres: cluster.map(|cluster| cluster.version.clone()),
            postgres_settings: cluster.map(|cluster| cluster.settings.clone()).unwrap_or_default(),
            sqlite: format!("{} synchronous=FULL journal_mode=WAL", rusqlite::version()),
        })
    }

    /// The same for people.
    pub(crate) fn print(&self) {
        println!(
            "machine: {}, {} cores, {} MiB, Linux {}, fsync {:.3} ms",
            self.cpu, self.cores, self.memory_mib, self.kernel, self.fsync_ms
        );
        println!("SQLite {}", self.sqlite);
        if let Some(version) = &self.postgres {
            println!("PostgreSQL {version} {}", self.postgres_settings.join(" "));
        }
    }
}
