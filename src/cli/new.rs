//! `mortise new`: a folder with a new extension, ready to be checked and published.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::output::{CliError, Exit, Output};
use crate::identifier::{ExtensionKey, VendorKey};
use crate::seam::Seam;
use crate::starter::{Language, Starter, StarterError, key_of, name_of};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the folder was made
  1  it cannot be written
  2  the folder is not empty, or a name or address cannot be used")]
pub(crate) struct Arguments {
    /// The folder to make; it must not be there yet, or be empty
    folder: PathBuf,
    /// The extension's key [default: from the folder's name]
    #[arg(long, value_name = "KEY", value_parser = extension_key)]
    key: Option<ExtensionKey>,
    /// The extension's name, as people see it [default: from the key]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The vendor, as the marketplace knows it
    #[arg(long, value_name = "VENDOR", default_value = "my-company", value_parser = vendor_key)]
    vendor: VendorKey,
    /// Where the receiver will be reached, such as https://hooks.example.com [default: a name that
    /// stands for it, under `.example`]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// The language of the receiver
    #[arg(long, value_enum, default_value_t)]
    language: Language,
}

fn extension_key(text: &str) -> Result<ExtensionKey, String> {
    ExtensionKey::new(text).map_err(|error| error.to_string())
}

fn vendor_key(text: &str) -> Result<VendorKey, String> {
    VendorKey::new(text).map_err(|error| error.to_string())
}

/// Makes the folder, and says what is in it and what comes next.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let folder = &arguments.folder;
    let key = match &arguments.key {
        Some(key) => key.clone(),
        None => folder.file_name().and_then(|name| key_of(&name.to_string_lossy())).ok_or_else(
            || {
                CliError::unusable("the folder's name has nothing that a key can be made of")
                    .hint("give one with --key")
            },
        )?,
    };
    let name = arguments.name.clone().unwrap_or_else(|| name_of(&key));
    let failed = |error: StarterError| match error {
        StarterError::Unwritable { .. } | StarterError::Randomness(_) => CliError::failed(error),
        _ => CliError::unusable(error),
    };
    let url = arguments.url.as_ref();
    let starter = Starter::new(key, name, arguments.vendor.clone(), url, arguments.language)
        .map_err(failed)?;
    let randomness = Seam::default().randomness;
    for file in starter.write(folder, &randomness).map_err(failed)? {
        output.answer(folder.join(&file.path).display())?;
    }
    let folder = folder.display();
    output.message(format_args!(
        "next: mortise validate {folder}/extension, and then what {folder}/README.md says"
    ));
    Ok(Exit::Success)
}
