//! `mortise completions`: what makes a shell complete commands, flags and their values.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::output::{CliError, Exit, Output};

#[derive(Debug, Args)]
#[command(after_help = "\
For example, in bash: source <(mortise completions bash)

Exit codes:
  0  it was printed
  2  there is nothing for such a shell")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "mortise", &mut script);
    output.answer(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cli::output::tests::kept;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let (mut output, answers, _) = kept();
            run(&Arguments { shell: *shell }, &mut output).expect("a script");
            let script = answers.text();
            for command in super::super::Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("signing-secret"), "{shell}: flags too");
        }
    }
}
