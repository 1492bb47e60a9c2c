//! How the story is printed: calm, aligned, and coloured only where that is wanted.

use std::fmt::Display;
use std::io::{self, Write};

use super::DemoError;

/// The width of the column with the names.
const NAMES: usize = 18;

/// Prints the story to a stream.
pub struct Narrator<'w> {
    out: &'w mut (dyn Write + Send),
    is_colored: bool,
    step: usize,
    steps: usize,
    title: &'static str,
}

impl std::fmt::Debug for Narrator<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Narrator")
            .field("step", &self.step)
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

impl<'w> Narrator<'w> {
    /// Prints to `out`, in colours where they are wanted.
    pub fn new(out: &'w mut (dyn Write + Send), is_colored: bool) -> Self {
        Self { out, is_colored, step: 0, steps: 0, title: "before the first step" }
    }

    /// Says how many steps there are.
    pub(super) fn begin(&mut self, steps: usize) {
        (self.step, self.steps) = (0, steps);
    }

    /// A heading that is no step.
    pub(super) fn heading(&mut self, text: &str) -> Result<(), DemoError> {
        let text = self.painted(text, "1");
        self.line(format_args!("\n{text}"))
    }

    /// The next step begins.
    pub(super) fn step(&mut self, title: &'static str) -> Result<(), DemoError> {
        self.step += 1;
        self.title = title;
        let number = self.painted(&format!("{:>2}/{}", self.step, self.steps), "2");
        let title = self.painted(title, "1");
        self.line(format_args!("\n{number}  {title}"))
    }

    /// What the step is about, in a sentence.
    pub(super) fn note(&mut self, text: &str) -> Result<(), DemoError> {
        let text = self.painted(text, "2");
        self.line(format_args!("       {text}"))
    }

    /// A call and what it was answered.
    pub(super) fn call(
        &mut self,
        who: &str,
        method: &str,
        path: &str,
        status: u16,
    ) -> Result<(), DemoError> {
        let who = self.painted(&format!("{who:<NAMES$}"), "36");
        self.line(format_args!("       {who}{method:<6} {path}  →  {status}"))
    }

    /// Something to look at. Control characters of strangers are not printed.
    pub(super) fn field(&mut self, name: &str, value: impl Display) -> Result<(), DemoError> {
        let value: String = value
            .to_string()
            .chars()
            .map(|character| if character.is_control() { '\u{fffd}' } else { character })
            .collect();
        // A name that is too long keeps a space behind it.
        let gap = if name.len() < NAMES { "" } else { " " };
        self.line(format_args!("       {name:<NAMES$}{gap}{value}"))
    }

    /// Says whether something holds; where it does not the story ends.
    pub(super) fn check(
        &mut self,
        expected: &str,
        holds: bool,
        got: impl FnOnce() -> String,
    ) -> Result<(), DemoError> {
        if holds {
            let mark = self.painted("✓", "32");
            return self.line(format_args!("     {mark} {expected}"));
        }
        let mark = self.painted("✗", "31");
        self.line(format_args!("     {mark} {expected}"))?;
        Err(self.unkept(expected, got()))
    }

    /// The error of a step that did not do what it says.
    pub(super) fn unkept(&self, expected: impl Into<String>, got: String) -> DemoError {
        DemoError::Unkept { step: self.step, title: self.title, expected: expected.into(), got }
    }

    /// A line as it is. A reader that went away, such as `head`, is no fault.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), DemoError> {
        match writeln!(self.out, "{text}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn painted(&self, text: &str, color: &str) -> String {
        if self.is_colored { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(is_colored: bool, tell: impl FnOnce(&mut Narrator<'_>)) -> String {
        let mut bytes = Vec::new();
        tell(&mut Narrator::new(&mut bytes, is_colored));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn steps_are_counted_and_a_broken_promise_names_its_step() {
        let text = told(false, |say| {
            say.begin(2);
            say.step("First").unwrap();
            say.field("name", "a\u{1b}[2Jb").unwrap();
            say.check("it holds", true, String::new).unwrap();
            let error = say.check("it holds", false, || "nothing".to_owned()).unwrap_err();
            assert_eq!(error.to_string(), "step 1, First: expected it holds, got nothing");
        });
        let name = format!("{:<NAMES$}", "name");
        assert_eq!(
            text,
            format!(
                "\n 1/2  First\n       {name}a\u{fffd}[2Jb\n     ✓ it holds\n     ✗ it holds\n"
            )
        );
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let tell = |say: &mut Narrator<'_>| {
            say.begin(1);
            say.step("First").unwrap();
            say.call("host", "POST", "/api/v1/events", 202).unwrap();
        };
        assert!(!told(false, tell).contains('\u{1b}'));
        assert!(told(true, tell).contains("\u{1b}[1mFirst\u{1b}[0m"));
    }
}
