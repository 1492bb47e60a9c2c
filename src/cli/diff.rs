//! `mortise diff`: what an upgrade would change, and whether it needs consent.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::output::{CliError, Exit, Output};
use super::policy::PolicyArguments;
use super::validate;
use crate::manifest::{CheckedPackage, Policy, Upgrade, check, render_text};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  both are valid, and what differs was said
  1  one of them is not valid, and why was said
  2  a path cannot be read as a package")]
pub(crate) struct Arguments {
    /// The version in force: a folder or a zip
    old: PathBuf,
    /// The version to come: a folder or a zip
    new: PathBuf,
    /// How to say it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    policy: PolicyArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// As the API's `plan`, with what the new version asks for beyond the old one
    Json,
}

/// Compares the two. One that is not valid is said to be so instead.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let policy = arguments.policy.policy()?;
    let old = package(&arguments.old, &policy, output)?;
    let new = package(&arguments.new, &policy, output)?;
    let (Some(old), Some(new)) = (old, new) else { return Ok(Exit::Negative) };
    let upgrade = Upgrade::between(&old, &new);
    match arguments.format {
        Format::Text => output.answer(upgrade.to_string().trim_end())?,
        Format::Json => output.answer(format_args!("{:#}", serde_json::json!(upgrade)))?,
    }
    Ok(Exit::Success)
}

fn package(
    path: &Path,
    policy: &Policy,
    output: &mut Output,
) -> Result<Option<CheckedPackage>, CliError> {
    let source = validate::read(path)?;
    let checked = check(&source, policy);
    if checked.package.is_none() {
        output.message(format_args!("{}:", path.display()));
        output.message(render_text(&checked.diagnostics, &source, output.is_colored()));
    }
    Ok(checked.package)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::kept;
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "/fixtures/", name].concat().into()
    }

    #[test]
    fn equals_differ_in_nothing_and_broken_ones_are_said_to_be() {
        let (mut output, answers, messages) = kept();
        let of = |new: &str, format| Arguments {
            old: fixture("ticket-mirror"),
            new: fixture(new),
            format,
            policy: PolicyArguments::default(),
        };
        let exit = run(&of("ticket-mirror", Format::Text), &mut output).expect("an answer");
        assert_eq!(exit, Exit::Success);
        assert!(answers.text().contains("No resource changes."));
        run(&of("ticket-mirror", Format::Json), &mut output).expect("an answer");
        assert!(answers.text().contains("\"consentRequired\": false"));
        let exit =
            run(&of("broken/no-secret/package", Format::Text), &mut output).expect("an answer");
        assert_eq!(exit, Exit::Negative);
        assert!(messages.text().contains("error[callback.secret-missing]"));
    }
}
