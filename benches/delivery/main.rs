//! How fast events are taken and delivered: `cargo bench --bench delivery`.
//!
//! Starts everything by itself on the loopback interface: a throw-away PostgreSQL with full
//! durability, the release server as a process of its own, a receiver and a load generator.
//! `docs/PERFORMANCE.md` says what each line means. Ends with 1 where a delivery was lost.

mod api;
mod arguments;
mod backlog;
mod ceiling;
mod child;
mod cluster;
mod connection;
mod counters;
mod event;
mod hanging;
mod installations;
mod ledger;
mod load;
mod machine;
mod measure;
mod paced;
mod pacer;
mod plan;
mod process;
mod receiver;
mod report;
mod server;
mod throughput;
mod world;

use std::process::ExitCode;

use clap::Parser;

/// What can go wrong: said once, at the end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What may fail.
type Outcome<T> = Result<T, Failure>;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(plan::run(&arguments))),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("FAILED: deliveries were lost, altered or wrongly signed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}
