//! `mortise migrate`: what the database's schema lacks, and bringing it up to date.

use clap::{Args, Subcommand};

use super::configuration::ConfigurationArguments;
use super::output::{CliError, Exit, Output};
use crate::config::Config;
use crate::server::store_options;
use crate::store::{Backend, Store, StoreError, StoreOptions};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Apply the migrations that are not applied yet
    Up(ConfigurationArguments),
    /// List the migrations; exit 1 where one is not applied yet
    Status(ConfigurationArguments),
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    match arguments.step {
        Step::Up(configuration) => up(&configuration.load()?, output).await,
        Step::Status(configuration) => status(&configuration.load()?, output).await,
    }
}

async fn up(config: &Config, output: &mut Output) -> Result<Exit, CliError> {
    let store = open(config, false).await?;
    let pending = store.pending_migrations().await.map_err(|error| failed(config, &error))?;
    close(store).await;
    if pending.is_empty() {
        output.answer("the schema is up to date")?;
        return Ok(Exit::Success);
    }
    close(open(config, true).await?).await;
    for name in &pending {
        output.answer(format_args!("applied  {name}"))?;
    }
    Ok(Exit::Success)
}

async fn status(config: &Config, output: &mut Output) -> Result<Exit, CliError> {
    let options = store_options(config).map_err(CliError::unusable)?;
    if let Backend::Sqlite { path } = &options.backend
        && !path.exists()
    {
        output.answer(format_args!(
            "there is no database at {} yet; `mortise serve` makes it",
            path.display()
        ))?;
        return Ok(Exit::Negative);
    }
    let store = open(config, false).await?;
    let unread = |error: StoreError| failed(config, &error);
    let applied = store.applied_migrations().await.map_err(unread)?;
    let pending = store.pending_migrations().await.map_err(unread)?;
    close(store).await;
    for name in &applied {
        output.answer(format_args!("applied  {name}"))?;
    }
    for name in &pending {
        output.answer(format_args!("pending  {name}"))?;
    }
    Ok(if pending.is_empty() { Exit::Success } else { Exit::Negative })
}

async fn open(config: &Config, migrate: bool) -> Result<Store, CliError> {
    let options = store_options(config).map_err(CliError::unusable)?;
    Store::open(&StoreOptions { migrate, ..options }).await.map_err(|error| failed(config, &error))
}

async fn close(store: Store) {
    // Everything asked for is done by now; what cannot be closed is closed by the process's end.
    let _closed = store.close().await;
}

fn failed(config: &Config, error: &StoreError) -> CliError {
    let failed = CliError::failed(format_args!("the database {}: {error}", config.database.url));
    match error {
        StoreError::Locked { .. } => failed.hint(
            "the server that runs there brought the schema up to date at its start, unless \
             `database.migrate` is off",
        ),
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::kept;

    #[tokio::test]
    async fn up_makes_the_schema_and_status_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().display().to_string();
        let flags = || ConfigurationArguments::setting(&[("data_dir", &data_dir)]);
        let call = async |step: Step| {
            let (mut output, answers, _) = kept();
            let exit = run(Arguments { step }, &mut output).await.unwrap();
            (exit, answers.text())
        };
        let (exit, text) = call(Step::Status(flags())).await;
        assert_eq!(exit, Exit::Negative, "{text}");
        let (exit, text) = call(Step::Up(flags())).await;
        assert_eq!((exit, text.starts_with("applied  m2")), (Exit::Success, true), "{text}");
        let (_, again) = call(Step::Up(flags())).await;
        assert_eq!(again, "the schema is up to date\n");
        let (exit, status) = call(Step::Status(flags())).await;
        assert_eq!((exit, status), (Exit::Success, text));
    }
}
