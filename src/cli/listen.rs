//! `mortise listen`: a vendor's receiver on this machine. Deliveries come to a local port, or, with
//! `--server`, over a connection that goes out: no tunnel, no public address, no certificate.

mod lines;
mod receive;
mod tunnel;

use std::time::Duration;

use clap::Args;
use url::Url;
use uuid::Uuid;

use super::output::{CliError, Exit, Output};
use super::remote_server::{SecretArgument, ServerArguments};
use crate::config::parse_duration;
use crate::crypto::{CryptoError, SigningSecret, Verifier};
use crate::seam::Seam;

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  stopped by a signal; with --count: all events had a valid signature (or no secret was known) and
     were answered with success
  1  with --count: a signature was not valid or an answer no success; or the server refused
  2  flags, secrets or files cannot be used";

/// The port where nothing is said.
const USUAL_PORT: u16 = 9_000;

/// The longest delay of an answer.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Listen to one webhook
    #[arg(long, value_name = "ID", requires = "server", group = "what")]
    webhook: Option<Uuid>,
    /// Listen to the webhooks of an installation
    #[arg(long, value_name = "ID", requires = "server", group = "what")]
    installation: Option<Uuid>,
    /// Listen to the webhooks of an extension
    #[arg(long, value_name = "KEY", requires = "server", group = "what")]
    extension: Option<String>,
    /// Forward every event to this address, with its headers, query and body
    #[arg(long, value_name = "URL")]
    forward: Option<Url>,
    /// The local port, without --server [default: 9000]
    #[arg(long, conflicts_with = "server")]
    port: Option<u16>,
    /// A secret that signs deliveries: whsec_… or the webhook's own. May be given more than once.
    /// With --server and a vendor's token it is fetched where it is left out
    #[arg(long, value_name = "SECRET")]
    secret: Vec<SecretArgument>,
    /// The status to answer with, where nothing is forwarded
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// How long to wait before answering, such as 2s
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = delay)]
    delay: Duration,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print headers and body of each event too
    #[arg(long)]
    verbose: bool,
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text).ok_or("a span such as 500ms, 2s or 1m")?;
    if delay > LONGEST_DELAY { Err("at most 5m".to_owned()) } else { Ok(delay) }
}

/// Checks signatures by the secrets that were given.
fn verifier(secrets: &[SecretArgument]) -> Result<Option<Verifier>, CliError> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let secrets: Vec<SigningSecret> = secrets
        .iter()
        .map(|secret| signing_secret(secret.expose()))
        .collect::<Result<_, _>>()
        .map_err(|error| CliError::unusable(format_args!("--secret cannot be used: {error}")))?;
    Verifier::new(&secrets, []).map(Some).map_err(CliError::unusable)
}

/// A secret as its owner has it: `whsec_…`, or the bytes that were chosen.
pub(crate) fn signing_secret(text: &str) -> Result<SigningSecret, CryptoError> {
    if text.starts_with("whsec_") {
        SigningSecret::parse(text)
    } else {
        SigningSecret::from_chosen_bytes(text.as_bytes())
    }
}

/// Listens until told to stop, or until so many events came.
pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    let verifier = verifier(&arguments.secret)?;
    match arguments.server.open(&seam)? {
        Some(server) => tunnel::run(server, arguments, verifier, &seam, output).await,
        None => receive::run(arguments, verifier, &seam, output).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_bounded() {
        assert_eq!(delay("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["", "x", "6m", "-1s"] {
            assert!(delay(wrong).is_err(), "{wrong}");
        }
    }
}
