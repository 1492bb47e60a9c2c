//! `mortise validate`: checks a package as the server would, without one.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::output::{CliError, Exit, Output};
use super::policy::PolicyArguments;
use crate::api::invalid_package;
use crate::manifest::{
    Limits, PackageSource, ValidationDocument, check, render_github, render_sarif, render_text,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Hosts are judged by what is written, nothing is resolved. With --config it is the verdict of that
server, whose `egress.allow` and `catalogue.denied_scopes` may accept or refuse more.

Exit codes:
  0  valid, perhaps with warnings
  1  not valid
  2  the path cannot be read as a package")]
pub(crate) struct Arguments {
    /// The extension's folder, its zip, a plugin-manifest.json, or `-` for the standard input
    path: PathBuf,
    /// How findings are shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    policy: PolicyArguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As a compiler shows them.
    #[default]
    Text,
    /// The same document as `POST /api/v1/extensions/validate` answers, on one line.
    Json,
    /// The Static Analysis Results Interchange Format 2.1.0.
    Sarif,
    /// Annotations for GitHub Actions.
    Github,
}

/// Reads what a path names; `-` is the standard input.
pub(super) fn read(path: &Path) -> Result<PackageSource, CliError> {
    let limits = Limits::default();
    let source = if path.as_os_str() == "-" {
        PackageSource::from_reader(std::io::stdin().lock(), &limits)
    } else {
        PackageSource::from_path(path, &limits)
    };
    source.map_err(|error| {
        CliError::unusable(error).hint("name a folder with plugin-manifest.json, or a .zip archive")
    })
}

/// Checks the package. Everything that it says about it is the answer.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let source = read(&arguments.path)?;
    let checked = check(&source, &arguments.policy.policy()?);
    let diagnostics = &checked.diagnostics;
    // Paths of files are told from where the program runs, as the readers of both formats want it.
    let folder = || {
        let folder = arguments.path.is_dir().then(|| arguments.path.to_string_lossy());
        folder.unwrap_or_default().into_owned()
    };
    let text = match arguments.format {
        Format::Text => render_text(diagnostics, &source, output.are_answers_colored()),
        Format::Json => {
            if checked.is_valid() {
                let document = serde_json::to_string(&ValidationDocument::new(diagnostics));
                document.map_err(CliError::failed)?
            } else {
                invalid_package(diagnostics).document("", None).to_string()
            }
        }
        Format::Sarif => render_sarif(diagnostics, &folder()),
        Format::Github => render_github(diagnostics, &folder()),
    };
    if !text.is_empty() {
        output.answer(text.trim_end_matches('\n'))?;
    }
    Ok(if checked.is_valid() { Exit::Success } else { Exit::Negative })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::output::tests::kept;
    use crate::manifest::Policy;

    const BROKEN: &str = "broken/personal-with-webhook/package";

    fn arguments(path: &str, format: Format) -> Arguments {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
        Arguments { path, format, policy: PolicyArguments::default() }
    }

    fn call(arguments: &Arguments) -> (Exit, String) {
        let (mut output, answers, _) = kept();
        let exit = run(arguments, &mut output).expect("an answer");
        (exit, answers.text())
    }

    #[test]
    fn a_valid_package_is_said_to_be_so() {
        let (exit, text) = call(&arguments("ticket-mirror", Format::Text));
        assert!(exit == Exit::Success && text.contains("The package is valid"), "{text}");
        let (_, json) = call(&arguments("ticket-mirror", Format::Json));
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["valid"], true);
    }

    #[test]
    fn faults_have_places_in_every_form() {
        let (exit, text) = call(&arguments(BROKEN, Format::Text));
        assert!(exit == Exit::Negative && text.contains("--> resources.json:2:"), "{text}");
        let (exit, json) = call(&arguments(BROKEN, Format::Json));
        let document: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((exit, &document["status"]), (Exit::Negative, &422.into()));
        assert_eq!(document["errorCode"], "UNPROCESSABLE_ENTITY");
        assert!(document["errors"][0]["line"].is_u64(), "{json}");
        assert!(document["message"].as_str().unwrap().contains("resourcesJson"), "{json}");
        let (_, sarif) = call(&arguments(BROKEN, Format::Sarif));
        let sarif: Value = serde_json::from_str(&sarif).unwrap();
        let region = "/runs/0/results/0/locations/0/physicalLocation/region/startLine";
        assert_eq!(sarif.pointer(region), Some(&json!(2)), "{sarif}");
        let (exit, github) = call(&arguments(BROKEN, Format::Github));
        assert_eq!((exit, github.lines().count()), (Exit::Negative, 2), "{github}");
        let annotation = "personal-with-webhook/package/resources.json,line=2,col=3";
        assert!(github.contains(annotation), "{github}");
    }

    #[test]
    fn the_checkers_own_document_is_a_part_of_the_apis() {
        let source = read(&arguments(BROKEN, Format::Json).path).unwrap();
        let checked = check(&source, &Policy::strict_offline());
        let own = json!(ValidationDocument::new(&checked.diagnostics));
        let mut of_api = invalid_package(&checked.diagnostics).document("", None);
        of_api.as_object_mut().unwrap().remove("detail");
        assert_eq!(own, of_api);
    }

    #[test]
    fn what_an_operator_forbids_can_be_asked_for() {
        let mut strict = arguments("ticket-mirror", Format::Text);
        strict.policy.denied_scopes = vec!["Desk.tickets.*".to_owned()];
        let (exit, text) = call(&strict);
        assert!(exit == Exit::Negative && text.contains("error[scope.denied]"), "{text}");
    }

    #[test]
    fn what_is_no_package_cannot_be_used() {
        let (mut output, answers, messages) = kept();
        let error = run(&arguments("nowhere", Format::Text), &mut output).unwrap_err();
        assert_eq!(output.report(&error), Exit::Unusable);
        assert!(messages.text().contains(".zip"), "{}", messages.text());
        assert_eq!(answers.text(), "");
    }
}
