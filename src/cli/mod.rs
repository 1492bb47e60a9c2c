//! The command line: one file a command, which calls the rooms and says what they answered.

mod backup;
mod companions;
mod completions;
mod configuration;
mod demo;
mod diff;
mod doctor;
mod explain;
mod import;
mod keys;
mod listen;
mod local_server;
mod logging;
mod manual;
mod migrate;
mod new;
mod output;
mod policy;
mod progress;
mod publish;
mod receiver;
#[cfg(test)]
mod reference;
mod remote_server;
mod replay;
mod sample_delivery;
mod serve;
mod signals;
mod token;
mod trigger;
mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::{CliError, Exit, Output};

/// What the exit codes mean, at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  it was done, or the answer is yes
  1  it failed, or the answer is no
  2  the input cannot be used: flags, configuration, files";

/// Manages the whole life of help desk extensions.
#[derive(Debug, Parser)]
#[command(name = "mortise", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order of `--help`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Arguments),
    /// Tell the whole life of an extension on this machine; needs nothing prepared
    Demo(demo::Arguments),
    /// Make a new extension: a package, a receiver that verifies signatures, the next commands
    New(new::Arguments),
    /// Check an extension package: a folder or a zip archive
    Validate(validate::Arguments),
    /// Explain a rule of packages, or list all rules
    Explain(explain::Arguments),
    /// Say what an upgrade from one package to another changes, and whether it needs consent
    Diff(diff::Arguments),
    /// Publish a version of an extension to a server
    Publish(publish::Arguments),
    /// Receive deliveries on this machine: verify, print, answer or forward them
    Listen(listen::Arguments),
    /// Send a sample event to a receiver, or to a server
    Trigger(trigger::Arguments),
    /// Send deliveries again
    Replay(replay::Arguments),
    /// Make another help desk's webhooks, triggers and automations on a server
    Import(import::Arguments),
    /// Look at the database's schema, or bring it up to date
    Migrate(migrate::Arguments),
    /// Copy the SQLite database to a file, while the server runs or not
    Backup(backup::Arguments),
    /// List, make and revoke API tokens
    Token(token::Arguments),
    /// List and rotate the platform's signing keys
    Keys(keys::Arguments),
    /// Check configuration, database, keys, clock, audit and orphans; repair; come back from a backup
    Doctor(doctor::Arguments),
    /// Print what makes a shell complete commands and flags
    Completions(completions::Arguments),
    /// Write the manual pages into a folder
    Man(manual::Arguments),
}

impl Arguments {
    /// Does what was asked for.
    pub async fn run(self, output: &mut Output) -> Result<Exit, CliError> {
        match self.command {
            Command::Serve(arguments) => Box::pin(serve::run(arguments, output)).await,
            Command::Demo(arguments) => Box::pin(demo::run(arguments, output)).await,
            Command::New(arguments) => new::run(&arguments, output),
            Command::Validate(arguments) => validate::run(&arguments, output),
            Command::Explain(arguments) => explain::run(&arguments, output),
            Command::Diff(arguments) => diff::run(&arguments, output),
            Command::Publish(arguments) => Box::pin(publish::run(arguments, output)).await,
            Command::Listen(arguments) => Box::pin(listen::run(arguments, output)).await,
            Command::Trigger(arguments) => Box::pin(trigger::run(arguments, output)).await,
            Command::Replay(arguments) => Box::pin(replay::run(arguments, output)).await,
            Command::Import(arguments) => Box::pin(import::run(arguments, output)).await,
            Command::Migrate(arguments) => migrate::run(arguments, output).await,
            Command::Backup(arguments) => backup::run(arguments, output).await,
            Command::Token(arguments) => token::run(arguments, output).await,
            Command::Keys(arguments) => Box::pin(keys::run(arguments, output)).await,
            Command::Doctor(arguments) => Box::pin(doctor::run(arguments, output)).await,
            Command::Completions(arguments) => completions::run(&arguments, output),
            Command::Man(arguments) => manual::run(&arguments, output),
        }
    }
}

/// Runs the program with the arguments of the process.
pub fn run_process() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers; everything else cannot be used.
            let exit = if error.use_stderr() { Exit::Unusable } else { Exit::Success };
            let _closed = error.print();
            return exit.into();
        }
    };
    let mut output = Output::of_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failed = CliError::failed(format!("the system gives no threads: {error}"));
            return output.report(&failed).into();
        }
    };
    match runtime.block_on(arguments.run(&mut output)) {
        Ok(exit) => exit.into(),
        Err(error) => output.report(&error).into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    /// What a script relies on is said where it is looked for.
    #[test]
    fn exit_codes_are_said() {
        let program = Arguments::command();
        let said = |command: &clap::Command| {
            command.get_after_help().is_some_and(|help| help.to_string().contains("Exit codes:"))
        };
        assert!(said(&program));
        for name in [
            "new",
            "validate",
            "explain",
            "diff",
            "publish",
            "listen",
            "trigger",
            "replay",
            "doctor",
            "completions",
            "man",
        ] {
            let command = program.find_subcommand(name).expect(name);
            assert!(said(command), "{name} answers yes or no");
        }
    }

    #[test]
    fn every_command_takes_the_configuration() {
        for command in [
            "serve",
            "migrate up",
            "migrate status",
            "token list",
            "backup copy.db",
            "keys list",
            "keys rotate jwt",
            "doctor --repair",
        ] {
            let flags = "--config a.toml --listen 127.0.0.1:9 --set log.format=json";
            let line = format!("mortise {command} {flags}");
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
        assert!(Arguments::try_parse_from(["mortise", "serve", "--set", "nonsense"]).is_err());
    }
}
