//! `mortise keys`: the platform's signing keys, in the database or, where a server holds it, through
//! that server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::configuration::ConfigurationArguments;
use super::local_server::LocalServer;
use super::output::{CliError, Exit, Output};
use crate::api::keys::{KeyBody, KeysBody, LONGEST_OVERLAP, RotatedBody};
use crate::audit::Actor;
use crate::config::{Config, parse_duration};
use crate::crypto::{
    KeyStoreError, NewSigningKey, Rewrapped, SigningPurpose, open_keys, rewrap, rotate_signing_key,
};
use crate::seam::Seam;
use crate::server::store_options;
use crate::store::{Store, StoreError};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// List the live signing keys, as they are published
    List(List),
    /// Replace a signing key; running servers take the new one at once
    Rotate(Rotate),
    /// Wrap the data keys by another master key; what they seal is not touched
    Rewrap(Rewrap),
}

#[derive(Debug, Args)]
struct Rewrap {
    /// The file of the new master key; made where it is not there
    #[arg(long, value_name = "FILE")]
    new_master: PathBuf,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

#[derive(Debug, Args)]
struct Rotate {
    /// jwt (X-ZDesk-JWT) or ed25519 (v1a signatures)
    purpose: SigningPurpose,
    /// How long the former keys stay published, such as 24h; 0s ends them at once
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = overlap)]
    overlap: Duration,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

fn overlap(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|span| span.as_secs() <= LONGEST_OVERLAP)
        .ok_or_else(|| "must be a span such as `24h`, `7d` or `0s`, at most `30d`".to_owned())
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    match arguments.step {
        Step::List(list) => {
            for key in keys(&list.configuration.load()?, seam).await? {
                let until = key.expires_time.as_deref().unwrap_or("signs");
                output.answer(format!(
                    "{}  {}  {}  {until}",
                    key.purpose, key.key_id, key.created_time
                ))?;
            }
        }
        Step::Rotate(rotate) => {
            let (purpose, overlap) = (rotate.purpose, rotate.overlap);
            let rotated = rotate_key(&rotate.configuration.load()?, seam, purpose, overlap).await?;
            output.message(format_args!(
                "a new key signs for {purpose}; the former ones are published until {}",
                rotated.former_until
            ));
            output.answer(&rotated.key_id)?;
        }
        Step::Rewrap(wanted) => {
            let config = wanted.configuration.load()?;
            let rewrapped = rewrap_here(&config, &seam, &wanted.new_master).await?;
            output.message(format_args!(
                "{} data keys are wrapped by the master key in {} now; nodes that run go on. Before \
                 the next start of any node put this file in the place of {}, and keep the former \
                 one with the backups that it belongs to",
                rewrapped.keys,
                wanted.new_master.display(),
                config.keys.master_file.display(),
            ));
            output.answer(&rewrapped.fingerprint)?;
        }
    }
    Ok(Exit::Success)
}

/// The database, or the server that holds it.
async fn door(config: &Config, seam: &Seam) -> Result<Result<Store, LocalServer>, CliError> {
    let options = store_options(config).map_err(CliError::unusable)?;
    match Store::open(&options).await {
        Ok(store) => {
            if !store.pending_migrations().await.map_err(|error| failed(&error))?.is_empty() {
                return Err(CliError::failed("the database's schema is not up to date")
                    .hint("run `mortise migrate up` first"));
            }
            Ok(Ok(store))
        }
        Err(StoreError::Locked { .. }) => LocalServer::of(config, seam.clone()).map(Err),
        Err(error) => Err(failed(&error)),
    }
}

async fn keys(config: &Config, seam: Seam) -> Result<Vec<KeyBody>, CliError> {
    match door(config, &seam).await? {
        Ok(store) => {
            let opened = open_keys(&store, &config.keys.master_file, &seam).await;
            let listed = opened.map(|keys| {
                let views = keys.signing.views(seam.clock.now());
                views.into_iter().map(KeyBody::from).collect()
            });
            close(&store).await;
            listed.map_err(unusable)
        }
        Err(server) => {
            let listed: Option<KeysBody> = server.call(Method::GET, "/api/v1/keys", None).await?;
            listed
                .map(|body| body.data)
                .ok_or_else(|| CliError::failed("the server answered without the keys"))
        }
    }
}

async fn rotate_key(
    config: &Config,
    seam: Seam,
    purpose: SigningPurpose,
    overlap: Duration,
) -> Result<RotatedBody, CliError> {
    match door(config, &seam).await? {
        Ok(store) => {
            let rotated = rotate_here(&store, config, &seam, purpose, overlap).await;
            close(&store).await;
            rotated.map_err(unusable)
        }
        Err(server) => {
            let path = format!("/api/v1/keys/{purpose}/rotate");
            let body = json!({ "overlapSeconds": overlap.as_secs() });
            server
                .call(Method::POST, &path, Some(body))
                .await?
                .ok_or_else(|| CliError::failed("the server answered without the key"))
        }
    }
}

/// No server of this file runs; nodes on PostgreSQL follow the revision by themselves.
async fn rotate_here(
    store: &Store,
    config: &Config,
    seam: &Seam,
    purpose: SigningPurpose,
    overlap: Duration,
) -> Result<RotatedBody, KeyStoreError> {
    let keys = open_keys(store, &config.keys.master_file, seam).await?;
    let new = NewSigningKey::generate(purpose, seam).await?;
    let now = seam.clock.now();
    let mut work = store.begin().await?;
    let actor = Actor::system("command-line");
    let rotated = rotate_signing_key(&mut work, &keys, &new, overlap, &actor, now, seam).await?;
    let _followed = work.commit(now).await?;
    Ok(RotatedBody {
        purpose: purpose.as_str().to_owned(),
        key_id: rotated.key_id,
        former_until: rotated.former_until.rfc3339(),
    })
}

/// A server that holds the file of `SQLite` has to be stopped: it must start with the new key.
async fn rewrap_here(
    config: &Config,
    seam: &Seam,
    new_master: &Path,
) -> Result<Rewrapped, CliError> {
    let Ok(store) = door(config, seam).await? else {
        return Err(CliError::failed("a server holds this database")
            .hint("stop it first: it needs the new master key at its next start"));
    };
    let actor = Actor::system("command-line");
    let master = &config.keys.master_file;
    let rewrapped = rewrap(&store, master, new_master, &actor, seam).await;
    close(&store).await;
    rewrapped.map_err(unusable)
}

/// Closes the database, so that SQLite takes its log into the file.
async fn close(store: &Store) {
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

fn failed(error: &StoreError) -> CliError {
    CliError::failed(format_args!("the database: {error}"))
}

fn unusable(error: KeyStoreError) -> CliError {
    CliError::failed(error)
}
