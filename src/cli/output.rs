//! What the program says: answers on standard output, everything else on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was done, or the answer is yes.
    Success,
    /// It failed, or the answer is no.
    Negative,
    /// The input cannot be used.
    Unusable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Negative => 1,
            Exit::Unusable => 2,
        })
    }
}

/// Why a command ended without doing what it should.
#[derive(Debug)]
pub struct CliError {
    what: String,
    hint: Option<String>,
    exit: Exit,
}

impl CliError {
    /// It was tried and failed.
    pub fn failed(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, exit: Exit::Negative }
    }

    /// What was given cannot be used.
    pub fn unusable(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, exit: Exit::Unusable }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for CliError {}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::failed(format_args!("the output cannot be written: {error}"))
    }
}

/// Where a command writes.
pub struct Output {
    answers: Box<dyn Write + Send>,
    messages: Box<dyn Write + Send>,
    is_colored: bool,
    are_answers_colored: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Output")
            .field("is_colored", &self.is_colored)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// The streams of the process. Each is coloured on a terminal, unless `NO_COLOR` is set.
    pub fn of_process() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            answers: Box::new(io::stdout()),
            messages: Box::new(io::stderr()),
            is_colored: !no_color && io::stderr().is_terminal(),
            are_answers_colored: !no_color && io::stdout().is_terminal(),
        }
    }

    /// Other streams, without colours.
    pub fn new(answers: Box<dyn Write + Send>, messages: Box<dyn Write + Send>) -> Self {
        Self { answers, messages, is_colored: false, are_answers_colored: false }
    }

    /// Whether colours are wanted in messages.
    pub fn is_colored(&self) -> bool {
        self.is_colored
    }

    /// Whether colours are wanted in answers.
    pub fn are_answers_colored(&self) -> bool {
        self.are_answers_colored
    }

    /// The stream of answers, for those who write many lines.
    pub(crate) fn answers(&mut self) -> &mut (dyn Write + Send) {
        &mut *self.answers
    }

    /// Writes a line of the answer. A reader that went away, such as `head`, is no fault.
    pub fn answer(&mut self, line: impl fmt::Display) -> Result<(), CliError> {
        match writeln!(self.answers, "{line}").and_then(|()| self.answers.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes a line beside the answer.
    pub fn message(&mut self, line: impl fmt::Display) {
        // Where nobody can be told anything there is nobody to tell that either.
        let _closed = writeln!(self.messages, "{line}");
    }

    /// Says what went wrong and what to do, and returns how to end.
    pub fn report(&mut self, error: &CliError) -> Exit {
        let label = self.painted("error:", "1;31");
        self.message(format_args!("{label} {error}"));
        if let Some(hint) = &error.hint {
            let label = self.painted("hint:", "1;36");
            self.message(format_args!("{label} {hint}"));
        }
        error.exit
    }

    fn painted(&self, text: &str, color: &str) -> String {
        if self.is_colored { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output, and what is written to it as answers and as messages.
    pub(crate) fn kept() -> (Output, Kept, Kept) {
        let (answers, messages) = (Kept::default(), Kept::default());
        let output = Output::new(Box::new(answers.clone()), Box::new(messages.clone()));
        (output, answers, messages)
    }

    #[test]
    fn errors_say_what_to_do_and_leave_the_answer_clean() {
        let (mut output, answers, messages) = kept();
        let error = CliError::unusable("no such file: a.toml").hint("name another with --config");
        assert_eq!(output.report(&error), Exit::Unusable);
        assert_eq!(
            messages.text(),
            "error: no such file: a.toml\nhint: name another with --config\n"
        );
        assert_eq!(answers.text(), "");
        output.is_colored = true;
        output.report(&CliError::failed("x"));
        assert!(messages.text().ends_with("\u{1b}[1;31merror:\u{1b}[0m x\n"));
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_fault() {
        let mut output = Output::new(Box::new(Gone), Box::new(Gone));
        assert!(output.answer("line").is_ok());
        output.message("line");
    }
}
