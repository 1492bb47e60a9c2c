//! `mortise backup`: a copy of the SQLite database, while the server runs or not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::Args;

use super::configuration::ConfigurationArguments;
use super::output::{CliError, Exit, Output};
use super::progress::{WORTH_TELLING, of_bytes, telling};
use crate::seam::Seam;
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
    let size = |file: &Path| std::fs::metadata(file).map_or(0, |found| found.len());
    let whole = size(&path);
    let growing = Arc::new(OnceLock::new());
    let begun = Arc::clone(&growing);
    let copying = tokio::task::spawn_blocking(move || {
        backup::copy(&path, &target, |part| {
            let _first_and_last = begun.set(part.to_owned());
        })
    });
    let line = || {
        // What is free in the file is left out of the copy: it may be shorter.
        let done = growing.get().map(|part: &PathBuf| size(part))?;
        let sizes = of_bytes(done.min(whole), whole);
        (whole >= WORTH_TELLING).then(|| format!("{sizes} at the most are written …"))
    };
    let copied = telling(copying, &Seam::default().clock, output, line)
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
