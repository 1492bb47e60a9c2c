//! `mortise serve`: the server, until it is told to stop.

use clap::Args;

use super::companions::{CompanionPorts, Companions};
use super::configuration::ConfigurationArguments;
use super::logging;
use super::output::{CliError, Exit, Output};
use super::signals::Signals;
use crate::seam::Seam;
use crate::server::{self, StartError};
use crate::store::StoreError;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For trying things out: run an authorisation server that consents by itself (port 8181) and
    /// a vendor's receiver (port 8182) beside it, and call any port of 127.0.0.1
    #[arg(long)]
    development: bool,
    #[command(flatten)]
    ports: CompanionPorts,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let companions =
        if arguments.development { Some(Companions::start(arguments.ports).await?) } else { None };
    let values = companions.as_ref().map(Companions::settings).unwrap_or_default();
    let config = arguments.configuration.load_over(values)?;
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
    if let Some(companions) = &companions {
        companions.join(&running);
    }
    let is_told = tokio::select! {
        () = signals.next() => true,
        () = running.wait() => false,
        () = Companions::watch(companions.as_ref()) => false,
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
