//! `mortise man`: the manual pages, made from the same definitions as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::output::{CliError, Exit, Output};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the pages were written
  1  the folder cannot be written")]
pub(crate) struct Arguments {
    /// The folder, such as /usr/local/share/man/man1; it is made where it is missing
    folder: PathBuf,
}

/// Writes a page for the program and one for each command, and prints their paths.
pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let failed = |what: &std::path::Path, error: &std::io::Error| {
        CliError::failed(format_args!("{} cannot be written: {error}", what.display()))
    };
    let folder = &arguments.folder;
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let mut program = super::Arguments::command();
    program.build();
    let mut waiting = vec![program];
    while let Some(command) = waiting.pop() {
        // What `help` would say is on the pages themselves.
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        waiting.extend(below.cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
        let mut page = Vec::new();
        clap_mangen::Man::new(command.display_name(name.clone())).render(&mut page)?;
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page).map_err(|error| failed(&path, &error))?;
        output.answer(path.display())?;
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::kept;

    #[test]
    fn every_command_has_a_page_with_its_exit_codes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut output, answers, _) = kept();
        let arguments = Arguments { folder: folder.path().join("man1") };
        run(&arguments, &mut output).expect("pages");
        for name in ["mortise", "mortise-serve", "mortise-new", "mortise-doctor-receiver"] {
            let path = arguments.folder.join(format!("{name}.1"));
            let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{page}");
            assert!(answers.text().contains(&format!("{name}.1\n")), "{name}");
        }
        let page = fs::read_to_string(arguments.folder.join("mortise-trigger.1")).expect("a page");
        assert!(page.contains("Exit codes"), "{page}");
    }
}
