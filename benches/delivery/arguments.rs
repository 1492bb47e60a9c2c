//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Events before a measurement, which are not measured.
    pub(crate) warm_up: usize,
    /// Single events in a closed loop.
    pub(crate) singles: usize,
    /// Events in arrays in a closed loop.
    pub(crate) in_arrays: usize,
    /// Events at 100 a second.
    pub(crate) paced: usize,
    /// Events around a hanging webhook, at [`Sizes::hanging_rate`].
    pub(crate) hanging: usize,
    /// Events a second around a hanging webhook.
    pub(crate) hanging_rate: u32,
    /// Deliveries that wait.
    pub(crate) backlog: usize,
    /// Installations, each in an org of its own.
    pub(crate) installations: usize,
    /// Requests of the bare loop.
    pub(crate) bare: usize,
}

/// Measures how events are delivered, on SQLite and on PostgreSQL.
#[derive(Clone, Debug, Parser)]
#[command(name = "delivery")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Arguments {
    /// A short form that ends within a minute: its figures say that it works, and little more.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only scenarios whose names have all parts of one of these, such as `single.postgres`,
    /// `arrays` or `sqlite`; `--list` says all names.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Says the names of all scenarios and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Another server program to measure, as `PATH` or `NAME=PATH`; several are measured in turn.
    #[arg(long)]
    pub(crate) server: Vec<String>,
    /// How often all of it is measured, in turn.
    #[arg(long, default_value_t = 1)]
    pub(crate) repeat: usize,
    /// A setting of the server, as `key=value`, such as `delivery.concurrency_per_webhook=64`.
    #[arg(long)]
    pub(crate) set: Vec<String>,
    /// Writes all figures to a file, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Clients in the closed loop.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// How many deliveries wait in `backlog`.
    #[arg(long)]
    pub(crate) backlog: Option<usize>,
    /// How many installations `installations` makes.
    #[arg(long)]
    pub(crate) installations: Option<usize>,
    /// How many times as many events are measured.
    #[arg(long, default_value_t = 1)]
    pub(crate) longer: usize,
    /// Loads `pg_stat_statements` into PostgreSQL and says which statements took how long; costs
    /// PostgreSQL some time.
    #[arg(long)]
    pub(crate) statements: bool,
    /// A folder for databases and logs, on the disk that is to be measured; a temporary one where
    /// it is not given.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Keeps the logs of servers in the folder.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Cargo passes this; it means nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// The sizes that were asked for.
    pub(crate) fn sizes(&self) -> Sizes {
        let sizes = if self.quick {
            Sizes {
                warm_up: 500,
                singles: 5_000,
                in_arrays: 10_000,
                paced: 100,
                hanging: 1_000,
                hanging_rate: 1_000,
                backlog: 10_000,
                installations: 50,
                bare: 10_000,
            }
        } else {
            Sizes {
                warm_up: 3_000,
                singles: 60_000 * self.longer,
                in_arrays: 200_000 * self.longer,
                paced: 1_200 * self.longer,
                hanging: 24_000,
                hanging_rate: 2_000,
                backlog: 1_000_000,
                installations: 10_000,
                bare: 60_000,
            }
        };
        Sizes {
            backlog: self.backlog.unwrap_or(sizes.backlog),
            installations: self.installations.unwrap_or(sizes.installations),
            ..sizes
        }
    }
}
