//! Where log lines go, and how they look.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::output::CliError;
use crate::config::{Log, LogFormat};

/// Starts logging to standard error, for the rest of the process.
pub(crate) fn start(log: &Log, is_colored: bool) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| CliError::unusable(format_args!("`log.filter`: {error}")))?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(is_colored).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| CliError::failed(format_args!("logging cannot start: {error}")))
}
