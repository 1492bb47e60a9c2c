//! `mortise keys`: the platform's keys, in the database or, where a server holds it, through that
//! server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::configuration::ConfigurationArguments;
use super::local_server::LocalServer;
use super::output::{CliError, Exit, Output};
use crate::api::keys::{
    KeyBody, KeysBody, LONGEST_CONTEXT_OVERLAP, LONGEST_OVERLAP, RotatedBody, RotationBody,
    data_key_bodies,
};
use crate::audit::Actor;
use crate::config::{Config, parse_duration};
use crate::crypto::{
    KeyStoreError, NewSigningKey, Purpose, Rewrapped, SigningPurpose, data_keys, open_keys, rewrap,
    rotate_signing_key,
};
use crate::rotation::{RotationError, RotationState, Rotations};
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
    /// List signing keys, data keys, and rotations that run
    List(List),
    /// Replace a key while everything runs; interrupted, the same again shows how far it is
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
    /// jwt (X-ZDesk-JWT) or ed25519 (v1a signatures); vault, securityContext or answers (data keys)
    #[arg(value_parser = rotatable)]
    purpose: Rotatable,
    /// How long the former signing keys stay published (24h), or a former securityContext opens (30d);
    /// 0s ends them at once
    #[arg(long, value_name = "SPAN", value_parser = overlap)]
    overlap: Option<Duration>,
    #[command(flatten)]
    configuration: ConfigurationArguments,
}

/// What can be rotated.
#[derive(Clone, Copy, Debug)]
enum Rotatable {
    Signing(SigningPurpose),
    Data(Purpose),
}

fn rotatable(text: &str) -> Result<Rotatable, String> {
    let signing = text.parse().map(Rotatable::Signing).ok();
    signing.or_else(|| text.parse().map(Rotatable::Data).ok()).ok_or_else(|| {
        "must be `jwt`, `ed25519`, `vault`, `securityContext` or `answers`".to_owned()
    })
}

/// The overlap of signing keys where nobody says otherwise.
const ONE_DAY: Duration = Duration::from_hours(24);

/// How often the progress is asked for.
const POLL: Duration = Duration::from_millis(500);

fn overlap(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|span| span.as_secs() <= LONGEST_CONTEXT_OVERLAP)
        .ok_or_else(|| "must be a span such as `24h`, `7d` or `0s`, at most `365d`".to_owned())
}

/// What an overlap may be for.
fn check_overlap(purpose: Rotatable, overlap: Option<Duration>) -> Result<(), CliError> {
    let Some(overlap) = overlap else { return Ok(()) };
    match purpose {
        Rotatable::Signing(_) if overlap.as_secs() > LONGEST_OVERLAP => {
            Err(CliError::unusable("--overlap of a signing key must be at most `30d`"))
        }
        Rotatable::Data(Purpose::Vault | Purpose::Answers) => Err(CliError::unusable(
            "--overlap is for signing keys and securityContext: what this key sealed is sealed anew",
        )),
        _ => Ok(()),
    }
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    match arguments.step {
        Step::List(list) => {
            let listed = keys(&list.configuration.load()?, seam).await?;
            for key in &listed.data {
                let until = key.expires_time.as_deref().unwrap_or("signs");
                output.answer(format!(
                    "{}  {}  {}  {until}",
                    key.purpose, key.key_id, key.created_time
                ))?;
            }
            for key in &listed.data_keys {
                let left = key.rows_left.map(|rows| format!("  {rows} values left"));
                output.answer(format!(
                    "{}  {}  {}  {}{}",
                    key.purpose,
                    key.key_id,
                    key.created_time,
                    key.state,
                    left.unwrap_or_default()
                ))?;
            }
            for rotation in listed.rotations.iter().filter(|one| one.finished_time.is_none()) {
                output.message(progress(rotation));
            }
        }
        Step::Rotate(rotate) => {
            check_overlap(rotate.purpose, rotate.overlap)?;
            let config = rotate.configuration.load()?;
            let purpose = match rotate.purpose {
                Rotatable::Signing(purpose) => purpose,
                Rotatable::Data(purpose) => {
                    let rotated =
                        rotate_data_key(&config, seam, purpose, rotate.overlap, output).await?;
                    output.answer(rotated.key_id)?;
                    return Ok(Exit::Success);
                }
            };
            let overlap = rotate.overlap.unwrap_or(ONE_DAY);
            let rotated = rotate_key(&config, seam, purpose, overlap).await?;
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
async fn door(config: &Config) -> Result<Result<Store, LocalServer>, CliError> {
    let options = store_options(config).map_err(CliError::unusable)?;
    match Store::open(&options).await {
        Ok(store) => {
            if !store.pending_migrations().await.map_err(|error| failed(&error))?.is_empty() {
                return Err(CliError::failed("the database's schema is not up to date")
                    .hint("run `mortise migrate up` first"));
            }
            Ok(Ok(store))
        }
        Err(StoreError::Locked { .. }) => LocalServer::of(config).map(Err),
        Err(error) => Err(failed(&error)),
    }
}

async fn keys(config: &Config, seam: Seam) -> Result<KeysBody, CliError> {
    match door(config).await? {
        Ok(store) => {
            let listed = keys_here(&store, config, seam).await;
            close(&store).await;
            listed.map_err(CliError::failed)
        }
        Err(server) => {
            let listed: Option<KeysBody> = server.call(Method::GET, "/api/v1/keys", None).await?;
            listed.ok_or_else(|| CliError::failed("the server answered without the keys"))
        }
    }
}

async fn keys_here(store: &Store, config: &Config, seam: Seam) -> Result<KeysBody, RotationError> {
    let opened = open_keys(store, &config.keys.master_file, &seam).await?;
    let views = opened.signing.views(seam.clock.now());
    let rotations = Rotations::of_command(store.clone(), opened, seam).list().await?;
    let keys = data_keys(store).await?;
    Ok(KeysBody {
        data: views.into_iter().map(KeyBody::from).collect(),
        next_cursor: None,
        data_keys: data_key_bodies(&keys, &rotations),
        rotations: rotations.iter().map(RotationBody::from).collect(),
    })
}

/// How far a rotation is, in a line.
fn progress(rotation: &RotationBody) -> String {
    let total = rotation.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
    let mut line = format!(
        "{}: {}, key {}, {} of {total} values looked at, {} sealed anew",
        rotation.purpose, rotation.state, rotation.key_id, rotation.processed, rotation.resealed
    );
    if let Some(until) = &rotation.overlap_until {
        line = format!(
            "{}: {}, key {}, the former one opens until {until}",
            rotation.purpose, rotation.state, rotation.key_id
        );
    }
    if let Some(reason) = &rotation.reason {
        line.push_str("; ");
        line.push_str(reason);
    }
    line
}

fn is_settled(rotation: &RotationBody) -> bool {
    [RotationState::Overlapping, RotationState::Done]
        .iter()
        .any(|state| state.name() == rotation.state)
}

/// Rotates a data key and shows how far that is. Where a server holds the database the work is the
/// server's: this only looks on, and may be interrupted.
async fn rotate_data_key(
    config: &Config,
    seam: Seam,
    purpose: Purpose,
    overlap: Option<Duration>,
    output: &mut Output,
) -> Result<RotationBody, CliError> {
    let mut shown = String::new();
    let mut show = |rotation: &RotationBody, output: &mut Output| {
        let line = progress(rotation);
        if line != shown {
            output.message(&line);
            shown = line;
        }
    };
    match door(config).await? {
        Ok(store) => {
            let mut told = |rotation: &RotationBody| show(rotation, output);
            let rotated =
                rotate_data_key_here(&store, config, seam, purpose, overlap, &mut told).await;
            close(&store).await;
            rotated.map_err(CliError::failed)
        }
        Err(server) => {
            let path = format!("/api/v1/keys/{purpose}/rotate");
            let body = overlap.map_or_else(
                || json!({}),
                |overlap| json!({ "overlapSeconds": overlap.as_secs() }),
            );
            let begun: Option<RotationBody> = server.call(Method::POST, &path, Some(body)).await?;
            let mut rotation = begun
                .ok_or_else(|| CliError::failed("the server answered without the rotation"))?;
            loop {
                show(&rotation, output);
                if is_settled(&rotation) {
                    return Ok(rotation);
                }
                seam.clock.sleep(POLL).await;
                let listed: Option<KeysBody> =
                    server.call(Method::GET, "/api/v1/keys", None).await?;
                let rotations = listed.map(|keys| keys.rotations).unwrap_or_default();
                rotation = rotations
                    .into_iter()
                    .find(|one| one.purpose == rotation.purpose && one.key_id == rotation.key_id)
                    .ok_or_else(|| CliError::failed("the server knows the rotation no more"))?;
            }
        }
    }
}

/// Takes the steps itself; nodes on PostgreSQL take theirs beside.
async fn rotate_data_key_here(
    store: &Store,
    config: &Config,
    seam: Seam,
    purpose: Purpose,
    overlap: Option<Duration>,
    told: &mut (dyn FnMut(&RotationBody) + Send),
) -> Result<RotationBody, RotationError> {
    let keys = open_keys(store, &config.keys.master_file, &seam).await?;
    let rotations = Rotations::of_command(store.clone(), keys, seam.clone());
    let mut work = store.begin().await?;
    let actor = Actor::system("command-line");
    let _begun = rotations.start(&mut work, purpose, overlap, &actor).await?;
    let _followed = work.commit(seam.clock.now()).await?;
    let done = rotations.run_through(purpose, |view| told(&RotationBody::from(view))).await?;
    Ok(RotationBody::from(&done))
}

async fn rotate_key(
    config: &Config,
    seam: Seam,
    purpose: SigningPurpose,
    overlap: Duration,
) -> Result<RotatedBody, CliError> {
    match door(config).await? {
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
    let Ok(store) = door(config).await? else {
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
