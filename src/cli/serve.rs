//! `mortise serve`: the server, until it is told to stop.

use clap::Args;

use super::configuration::ConfigurationArguments;
use super::logging;
use super::output::{CliError, Exit, Output};
use super::signals::Signals;
use crate::seam::Seam;
use crate::server::{self, StartError};
use crate::store::StoreError;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let config = arguments.configuration.load()?;
    logging::start(&config.log, output.is_colored())?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen()?;
    let mut running = server::start(config, Seam::default()).await.map_err(|error| {
        let hint = hint(&error);
        let failed = CliError::failed(error);
        match hint {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    })?;
    let is_told = tokio::select! {
        () = signals.next() => true,
        () = running.wait() => false,
    };
    if is_told {
        tracing::info!("stopping: requests under way may finish; a second signal ends at once");
    }
    tokio::select! {
        () = running.stop() => {}
        () = signals.next() => return Err(CliError::failed("ended before everything had finished")),
    }
    if is_told { Ok(Exit::Success) } else { Err(CliError::failed("the listener ended by itself")) }
}

fn hint(error: &StartError) -> Option<&'static str> {
    match error {
        StartError::Store { source: StoreError::Unavailable(_), .. } => {
            Some("is the database running, and `database.url` right?")
        }
        StartError::Store { source: StoreError::File { .. }, .. } => Some(
            "`data_dir` and `database.url` name the folder; this user must be able to write there",
        ),
        _ => None,
    }
}
