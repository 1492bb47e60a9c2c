//! `mortise backup`: a copy of the SQLite database, while the server runs or not.

use std::path::PathBuf;

use clap::Args;

use super::configuration::ConfigurationArguments;
use super::output::{CliError, Exit, Output};
use crate::server::store_options;
use crate::store::Backend;
use crate::store::backup;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file to write; it must not be there yet
    file: PathBuf,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let config = arguments.configuration.load()?;
    let options = store_options(&config).map_err(CliError::unusable)?;
    let Backend::Sqlite { path } = options.backend else {
        return Err(CliError::unusable("the database is PostgreSQL, which has its own ways to be backed up")
            .hint("pg_dump for a copy, pg_basebackup with archived logs for any moment: docs/DEPLOYMENT.md"));
    };
    let target = arguments.file.clone();
    let copied = tokio::task::spawn_blocking(move || backup::copy(&path, &target))
        .await
        .map_err(CliError::failed)?
        .map_err(CliError::failed)?;
    output.answer(format_args!("{}  {copied} bytes", arguments.file.display()))?;
    output.message(format_args!(
        "the master key is not in it, and without it no secret can be opened: keep a copy of {} \
         somewhere else",
        config.keys.master_file.display()
    ));
    Ok(Exit::Success)
}
