//! `mortise demo`: the whole story of an extension, told on this machine.

use clap::Args;

use super::logging;
use super::output::{CliError, Exit, Output};
use super::signals::Signals;
use crate::config::{Log, LogFormat};
use crate::demo::{Demo, DemoError, Narrator};
use crate::seam::Seam;

/// What goes wrong on the way is told by the step; the log only has what nobody expected.
const FILTER: &str = "error";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// End after the story, within 30 s: exit 0 only if every step did what it says
    #[arg(long)]
    once: bool,
    /// What is logged to standard error, as the setting `log.filter`
    #[arg(long, value_name = "FILTER", default_value = FILTER)]
    log: String,
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let log = Log { format: LogFormat::Text, filter: arguments.log };
    logging::start(&log, output.is_colored())?;
    let mut signals = Signals::listen()?;
    let mut demo = Box::pin(Demo::open(Seam::default())).await.map_err(CliError::failed)?;
    let is_colored = output.are_answers_colored();
    let told = {
        let mut narrator = Narrator::new(output.answers(), is_colored);
        let story = async {
            demo.tell(&mut narrator).await?;
            if arguments.once { Ok(()) } else { demo.stay(&mut narrator).await }
        };
        tokio::select! {
            told = Box::pin(story) => told.map(|()| Exit::Success),
            // The story cut short has not done what it says; the stay has no other end.
            () = signals.next() => Ok(if arguments.once { Exit::Negative } else { Exit::Success }),
        }
    };
    let closed = tokio::select! {
        closed = Box::pin(demo.close()) => closed,
        () = signals.next() => return Err(CliError::failed("ended before everything had stopped")),
    };
    match (told, closed) {
        (Ok(exit), Ok(())) => Ok(exit),
        (Err(error), _) | (Ok(_), Err(error)) => Err(failed(&error)),
    }
}

fn failed(error: &DemoError) -> CliError {
    CliError::failed(error).hint("`mortise demo --log debug` shows what the server says")
}
