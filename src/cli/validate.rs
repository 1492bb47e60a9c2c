//! `mortise validate`: checks a package as the server would, without one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{CliError, Exit, Output};
use crate::api::invalid_package;
use crate::manifest::{self, PackageSource, Policy};

#[derive(Debug, Args)]
#[command(after_help = "\
Hosts are judged by name alone, nothing is resolved. A server with `egress.allow` or without
`egress.require_https` accepts more.

Exit codes:
  0  valid, perhaps with warnings
  1  not valid
  2  the path cannot be read as a package")]
pub(crate) struct Arguments {
    /// The extension's folder, or a `.zip` archive of it
    path: PathBuf,
    /// How findings are shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// As a compiler shows them.
    #[default]
    Text,
    /// The same document as `POST /api/v1/extensions/validate` answers.
    Json,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let source = PackageSource::from_path(&arguments.path).map_err(|error| {
        CliError::unusable(error).hint("name a folder with plugin-manifest.json, or a .zip archive")
    })?;
    let checked = manifest::check(&source, &Policy::offline());
    let is_valid = checked.package.is_some();
    match arguments.format {
        Format::Text => {
            let color = output.are_answers_colored();
            let text = manifest::render_text(&checked.diagnostics, &source, color);
            output.answer(text.trim_end())?;
        }
        Format::Json => {
            let document = if is_valid {
                manifest::validation_document(&checked.diagnostics)
            } else {
                invalid_package(&checked.diagnostics).document("", None)
            };
            output.answer(serde_json::to_string_pretty(&document).map_err(CliError::failed)?)?;
        }
    }
    Ok(if is_valid { Exit::Success } else { Exit::Negative })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::cli::output::tests::kept;

    fn call(path: &str, format: Format) -> Result<(Exit, String), CliError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
        let (mut output, answers, _) = kept();
        run(&Arguments { path, format }, &mut output).map(|exit| (exit, answers.text()))
    }

    #[test]
    fn a_valid_package_is_said_to_be_so() {
        let (exit, text) = call("ticket-mirror", Format::Text).unwrap();
        assert!(exit == Exit::Success && text.contains("0 errors"), "{text}");
        let (_, json) = call("ticket-mirror", Format::Json).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["valid"], true);
    }

    #[test]
    fn faults_have_places_in_both_forms() {
        let broken = "broken/webhook-without-scope-and-org";
        let (exit, text) = call(broken, Format::Text).unwrap();
        assert!(exit == Exit::Negative && text.contains("--> resources.json:2:"), "{text}");
        let (exit, json) = call(broken, Format::Json).unwrap();
        let document: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((exit, &document["status"]), (Exit::Negative, &422.into()));
        assert_eq!(document["errorCode"], "UNPROCESSABLE_ENTITY");
        assert!(document["errors"][0]["line"].is_u64(), "{json}");
        assert!(document["message"].as_str().unwrap().contains("resourcesJson"), "{json}");
    }

    #[test]
    fn what_is_no_package_cannot_be_used() {
        let error = call("payloads/ticket-add.json", Format::Text).unwrap_err();
        let (mut output, _, messages) = kept();
        assert_eq!(output.report(&error), Exit::Unusable);
        assert!(messages.text().contains(".zip"), "{}", messages.text());
        assert!(call("nowhere", Format::Text).is_err());
    }
}
