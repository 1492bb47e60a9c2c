//! `mortise replay`: deliveries sent again, one or those of a stretch of time.

use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::output::{CliError, Exit, Output};
use super::remote_server::{RemoteError, RemoteServer, ServerArguments, printable};
use super::trigger::span;
use crate::seam::{Seam, Timestamp};

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  it was delivered; with --webhook: the job is done. With --no-wait: it is on its way
  1  it was not delivered, the job failed or was cancelled, the server refused, or it took too long
  2  flags or files cannot be used";

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// One delivery
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "webhook",
        conflicts_with = "webhook"
    )]
    delivery: Option<Uuid>,
    /// Many deliveries of this webhook
    #[arg(long, value_name = "ID", requires = "since")]
    webhook: Option<Uuid>,
    /// Those made at this moment or later: RFC 3339, or a span back from now such as 2h
    #[arg(long, value_name = "TIME", requires = "webhook", value_parser = moment)]
    since: Option<Moment>,
    /// Those made before this moment
    #[arg(long, value_name = "TIME", requires = "webhook", value_parser = moment)]
    until: Option<Moment>,
    /// Those in this state: failed, held, delivered, cancelled or pending [default: failed]
    #[arg(long, requires = "webhook")]
    state: Option<String>,
    /// Do not wait for what becomes of it
    #[arg(long)]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span)]
    wait: Duration,
}

/// A moment, by itself or as a span back from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    fn text(self, now: Timestamp) -> String {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.minus(span),
        }
        .rfc3339()
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let at = Timestamp::parse_rfc3339(text).map(Moment::At);
    at.or_else(|| crate::config::parse_duration(text).map(Moment::Ago))
        .ok_or_else(|| "RFC 3339, or a span back from now such as 2h".to_owned())
}

/// Sends again.
pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    let Some(server) = arguments.server.open(&seam)? else {
        return Err(CliError::unusable("--server is needed"));
    };
    let until = seam.clock.instant() + arguments.wait;
    let is_over = || seam.clock.instant() >= until;
    if let Some(delivery) = arguments.delivery {
        let path = format!("/deliveries/{delivery}");
        let before = server.call(Method::GET, &path, None).await?;
        server.call(Method::POST, &format!("{path}/retry"), Some(&json!({}))).await?;
        output.message(format_args!("{delivery} is on its way again"));
        if arguments.no_wait {
            return Ok(Exit::Success);
        }
        return follow_delivery(&server, &path, &before, &seam, is_over, output).await;
    }
    let (Some(webhook), Some(since)) = (arguments.webhook, arguments.since) else {
        return Err(CliError::unusable("give --delivery, or --webhook with --since"));
    };
    let now = seam.clock.now();
    let body = json!({
        "since": since.text(now),
        "until": arguments.until.map(|until| until.text(now)),
        "state": arguments.state,
    });
    let path = format!("/webhooks/{webhook}/recover");
    let job = server.call(Method::POST, &path, Some(&body)).await?;
    if arguments.no_wait {
        output.answer(format_args!("job {} begins", text(&job, "jobId")))?;
        return Ok(Exit::Success);
    }
    follow_job(&server, &job, &seam, is_over, output).await
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or("?")
}

fn too_long() -> CliError {
    CliError::failed("it is not settled yet, and the wait is over")
        .hint("it goes on at the server; --wait gives it longer")
}

/// A call that may fail for a moment.
async fn read(server: &RemoteServer, path: &str) -> Result<Option<Value>, CliError> {
    match server.call(Method::GET, path, None).await {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_passing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn follow_delivery(
    server: &RemoteServer,
    path: &str,
    before: &Value,
    seam: &Seam,
    is_over: impl Fn() -> bool,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let made = |value: &Value| value["attemptsMade"].as_u64().unwrap_or(0);
    loop {
        let Some(delivery) = read(server, path).await? else {
            if is_over() {
                return Err(too_long());
            }
            seam.clock.sleep(LOOK).await;
            continue;
        };
        if made(&delivery) > made(before) {
            let attempts = delivery["attempts"].as_array();
            let last = attempts.and_then(|attempts| attempts.last()).unwrap_or(&Value::Null);
            let status = &last["status"];
            let status = match status.as_u64() {
                Some(status) => format!("answered {status}"),
                None => printable(text(last, "error")),
            };
            let state = text(&delivery, "state");
            output.answer(format_args!("{state}: attempt {}, {status}", made(&delivery)))?;
            if let Some(hint) = last["hint"].as_str() {
                output.message(format_args!("hint: {}", printable(hint)));
            }
            return Ok(if state == "delivered" { Exit::Success } else { Exit::Negative });
        }
        if is_over() {
            return Err(too_long());
        }
        seam.clock.sleep(LOOK).await;
    }
}

async fn follow_job(
    server: &RemoteServer,
    job: &Value,
    seam: &Seam,
    is_over: impl Fn() -> bool,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let id = job["jobId"]
        .as_str()
        .ok_or_else(|| CliError::from(RemoteError::Unreadable("it names no job".to_owned())))?;
    let (path, mut shown) = (format!("/jobs/{id}"), String::new());
    loop {
        if let Some(job) = read(server, &path).await? {
            let total = job["total"].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
            let state = text(&job, "state");
            let line = format!(
                "job {id}: {state}, {} of {total} looked at, {} on their way again",
                job["processed"], job["requeued"]
            );
            if line != shown {
                output.message(&line);
                shown.clone_from(&line);
            }
            let exit = match state {
                "done" => Some(Exit::Success),
                "cancelled" | "failed" => Some(Exit::Negative),
                _ => None,
            };
            if let Some(exit) = exit {
                output.answer(line)?;
                return Ok(exit);
            }
        }
        if is_over() {
            return Err(too_long());
        }
        seam.clock.sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans_back() {
        let now = Timestamp::from_millis(7_200_000);
        assert_eq!(moment("2h").expect("a span").text(now), "1970-01-01T00:00:00.000Z");
        let at = moment("1970-01-01T01:00:00Z").expect("a time");
        assert_eq!(at.text(now), "1970-01-01T01:00:00.000Z");
        assert!(moment("yesterday").is_err());
    }
}
