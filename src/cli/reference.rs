//! `docs/COMMANDS.md`, made from the same definitions as `--help`.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

/// The page.
fn reference() -> String {
    let mut text = String::from(
        "# Commands\n\n\
         What `--help` says of each, made from the code. Answers go to standard output, everything \
         else to standard error. Colours are left out where the output is no terminal, or \
         `NO_COLOR` is set to anything. `mortise completions SHELL` prints what makes a shell \
         complete all this, `mortise man FOLDER` writes it as manual pages.\n\n\
         | exit code | means |\n| --- | --- |\n\
         | 0 | it was done, or the answer is yes |\n\
         | 1 | it failed, or the answer is no |\n\
         | 2 | the input cannot be used: flags, configuration, files |\n\n\
         This file is written by `UPDATE_DOCS=1 cargo nextest run --lib cli::reference`.\n",
    );
    let mut program = super::Arguments::command().term_width(100);
    program.build();
    for command in program.get_subcommands_mut() {
        add(&mut text, command, "");
    }
    text
}

fn add(text: &mut String, command: &mut Command, above: &str) {
    let name = format!("{above}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _infallible =
        write!(text, "\n## mortise {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        add(text, below, &format!("{name} "));
    }
}

#[test]
fn the_documentation_lists_every_command() {
    crate::api::testing::documented("docs/COMMANDS.md", &reference());
}
