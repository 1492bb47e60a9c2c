//! The line that is printed of each event.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::cli::output::{CliError, Output};
use crate::cli::remote_server::printable;
use crate::inspector::SignatureVerdict;
use crate::seam::Timestamp;

/// An event that came, and what was answered.
pub(super) struct Line<'a> {
    pub(super) at: Timestamp,
    pub(super) event_type: &'a str,
    pub(super) org_id: &'a str,
    pub(super) delivery: &'a str,
    /// Which attempt it is, where that is known.
    pub(super) attempt: Option<i64>,
    pub(super) verdict: &'a SignatureVerdict,
    pub(super) answer: &'a Answer,
}

/// What an event was answered with.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// With a status, by this command itself.
    Chosen(u16),
    /// With what the local server answered.
    Forwarded(u16, Duration),
    /// The local server did not answer.
    Unanswered(String, Duration),
}

impl Answer {
    /// Whether it is a success.
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Chosen(200..=299) | Self::Forwarded(200..=299, _))
    }
}

/// Prints the line; colours say what went wrong.
pub(super) fn print(line: &Line<'_>, output: &mut Output) -> Result<(), CliError> {
    let is_colored = output.are_answers_colored();
    let paint = |text: String, color: &str| {
        if is_colored { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text }
    };
    let signature = match line.verdict {
        SignatureVerdict::Valid => paint("signature valid".to_owned(), "32"),
        SignatureVerdict::Invalid(why) => paint(format!("signature INVALID: {why}"), "31"),
        SignatureVerdict::Unsigned(why) => paint(format!("not signed: {why}"), "31"),
        SignatureVerdict::Unknown(_) => {
            paint("signature not checked, no secret is known".to_owned(), "33")
        }
    };
    let answer = match line.answer {
        Answer::Chosen(status) => format!("answered {status}"),
        Answer::Forwarded(status, took) => {
            format!("forwarded: {status} in {} ms", took.as_millis())
        }
        Answer::Unanswered(why, took) => {
            format!("forwarded: no answer after {} ms: {}", took.as_millis(), printable(why))
        }
    };
    let color = if line.answer.is_success() { "32" } else { "31" };
    let answer = paint(answer, color);
    let attempt = match line.attempt {
        Some(attempt) if attempt > 1 => format!(" attempt {attempt}"),
        _ => String::new(),
    };
    output.answer(format_args!(
        "{} {} org {} {}{attempt}  {signature}  {answer}",
        line.at,
        printable(line.event_type),
        printable(line.org_id),
        printable(line.delivery),
    ))
}

/// Prints headers and body below the line.
pub(super) fn print_whole(
    headers: &[(String, String)],
    body: &[u8],
    output: &mut Output,
) -> Result<(), CliError> {
    for (name, value) in headers {
        output.answer(format_args!("    {}: {}", printable(name), printable(value)))?;
    }
    let text = serde_json::from_slice::<serde_json::Value>(body)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
    for line in text.lines() {
        output.answer(format_args!("    {}", printable(line)))?;
    }
    Ok(())
}

/// Headers that came, as a map; what is none is left out.
pub(super) fn header_map(headers: &[(String, String)]) -> HeaderMap {
    headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::kept;

    #[test]
    fn a_line_says_what_came_and_what_was_answered_without_steering_a_terminal() {
        let (mut output, answers, _) = kept();
        let line = Line {
            at: Timestamp::from_millis(0),
            event_type: "Ticket\u{1b}[2J",
            org_id: "1",
            delivery: "d",
            attempt: Some(2),
            verdict: &SignatureVerdict::Invalid("no match".to_owned()),
            answer: &Answer::Forwarded(500, Duration::from_millis(12)),
        };
        print(&line, &mut output).expect("it is written");
        assert_eq!(
            answers.text(),
            "1970-01-01T00:00:00.000Z Ticket\u{fffd}[2J org 1 d attempt 2  signature INVALID: no match  \
             forwarded: 500 in 12 ms\n"
        );
    }
}
