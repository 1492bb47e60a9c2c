//! `mortise publish`: packs an extension's folder and publishes it as a version.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use mortise_client::catalogue::PackageIdentity;
use mortise_client::{ExtensionKey, VendorKey};
use url::Url;

use super::output::{CliError, Exit, Output};
use super::progress::{WORTH_TELLING, of_bytes, telling};
use super::remote_server::{ServerArguments, printable};
use crate::manifest::{Limits, pack_folder};
use crate::seam::Seam;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the version is published, or was with the same content before
  1  the server refused it
  2  flags or files cannot be used")]
pub(crate) struct Arguments {
    /// The extension's folder (the one with plugin-manifest.json), or its zip
    path: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
    /// The extension's key
    #[arg(long, value_name = "KEY")]
    key: String,
    /// The extension's name, as people see it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The vendor
    #[arg(long, value_name = "VENDOR")]
    vendor: String,
    /// The version (SemVer 2.0), such as 1.0.0
    #[arg(long, value_name = "VERSION")]
    version: String,
    /// Lead the addresses of webhook and callbacks to this origin, such as http://127.0.0.1:9000:
    /// for trying out; the folder stays as it is
    #[arg(long, value_name = "URL")]
    receiver: Option<Url>,
    /// Print the secret that deliveries are signed with, and nothing else, as the answer
    #[arg(long)]
    signing_secret: bool,
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    let Some(server) = arguments.server.open(&seam)? else {
        return Err(CliError::unusable("which server it is for is not said")
            .hint("give --server, such as --server http://127.0.0.1:8080"));
    };
    let archive = archive(&arguments)?;
    let identity = PackageIdentity::new(
        ExtensionKey::new(&*arguments.key).map_err(CliError::unusable)?,
        &*arguments.name,
        &*arguments.version,
        VendorKey::new(&*arguments.vendor).map_err(CliError::unusable)?,
    );
    let whole = u64::try_from(archive.len()).unwrap_or(u64::MAX);
    let sent = Arc::new(AtomicU64::new(0));
    let watch = {
        let sent = Arc::clone(&sent);
        move |bytes| sent.store(bytes, Ordering::Relaxed)
    };
    let publishing = server.client.publish_watched(&identity, archive, watch);
    let line = || match sent.load(Ordering::Relaxed) {
        _ if whole < WORTH_TELLING => None,
        done if done < whole => Some(format!("{} are sent …", of_bytes(done, whole))),
        _ => Some("the server checks the package …".to_owned()),
    };
    let published = telling(publishing, &seam.clock, output, line).await?;
    for warning in &published.warnings {
        let (code, text) = (warning["code"].as_str(), warning["message"].as_str());
        let (code, text) = (code.unwrap_or_default(), text.unwrap_or_default());
        output.message(format_args!("warning[{}]: {}", printable(code), printable(text)));
    }
    let line = printable(&format!("{} {} {}", published.key, published.version, published.digest));
    if !arguments.signing_secret {
        output.answer(line)?;
        return Ok(Exit::Success);
    }
    output.message(line);
    let secret = server.client.signing_secret(&published.key).await?;
    output.answer(secret.secret.expose())?;
    Ok(Exit::Success)
}

/// The archive to send: the folder packed, or the zip as it is.
fn archive(arguments: &Arguments) -> Result<Vec<u8>, CliError> {
    let path = &arguments.path;
    let limits = Limits::default();
    if path.is_dir() {
        return pack_folder(path, &limits, arguments.receiver.as_ref()).map_err(CliError::unusable);
    }
    if arguments.receiver.is_some() {
        return Err(CliError::unusable("--receiver needs the extension's folder, not its zip"));
    }
    let cannot = |what: &dyn std::fmt::Display| {
        CliError::unusable(format_args!("{}: {what}", path.display()))
            .hint("name a folder with plugin-manifest.json, or a .zip archive")
    };
    let size = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > limits.total_bytes {
        return Err(cannot(&format_args!("is longer than {} bytes", limits.total_bytes)));
    }
    std::fs::read(path).map_err(|error| cannot(&error))
}
