//! The flags that every command with a configuration takes.

use std::path::PathBuf;

use clap::Args;

use super::output::CliError;
use crate::config::{Config, Inputs};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigurationArguments {
    /// The configuration file; else MORTISE_CONFIG names it, else `mortise.toml` is read if there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address and port of the server, as the setting `listen`
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Set one value, as in the file: `--set database.migrate=false`; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

impl ConfigurationArguments {
    /// Reads and checks everything.
    pub(crate) fn load(self) -> Result<Config, CliError> {
        self.load_over(Vec::new())
    }

    /// The same, with values that are stronger than file and variables and weaker than the flags.
    pub(crate) fn load_over(self, values: Vec<(String, String)>) -> Result<Config, CliError> {
        let listen = self.listen.map(|address| ("listen".to_owned(), address));
        let overrides = values.into_iter().chain(self.set).chain(listen).collect();
        Config::load(&Inputs::of_process(self.config, overrides)).map_err(|error| {
            CliError::unusable(error)
                .hint("docs/configuration.md lists every setting with its rule")
        })
    }

    /// The flags that set these values.
    #[cfg(test)]
    pub(crate) fn setting(values: &[(&str, &str)]) -> Self {
        let set = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self { set: set.collect(), ..Self::default() }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}
