//! `mortise replay`: deliveries sent again, one or those of a stretch of time.

use std::time::Duration;

use clap::Args;
use mortise_client::deliveries::{Delivery, DeliveryState};
use mortise_client::jobs::{Job, JobState};
use mortise_client::webhooks::RecoverRequest;
use mortise_client::{Client, DeliveryId, Error, JobId, WebhookId};
use uuid::Uuid;

use super::output::{CliError, Exit, Output};
use super::remote_server::{ServerArguments, printable};
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
    let client = &server.client;
    if let Some(id) = arguments.delivery.map(DeliveryId) {
        let before = client.delivery(id).await?;
        client.retry_delivery(id).await?;
        output.message(format_args!("{id} is on its way again"));
        if arguments.no_wait {
            return Ok(Exit::Success);
        }
        return follow_delivery(client, &before, &seam, is_over, output).await;
    }
    let (Some(webhook), Some(since)) = (arguments.webhook, arguments.since) else {
        return Err(CliError::unusable("give --delivery, or --webhook with --since"));
    };
    let now = seam.clock.now();
    let mut request = RecoverRequest::since(since.text(now));
    request.until = arguments.until.map(|until| until.text(now));
    request.state = arguments.state;
    let job = client.recover(WebhookId(webhook), &request).await?;
    if arguments.no_wait {
        output.answer(format_args!("job {} begins", job.job_id))?;
        return Ok(Exit::Success);
    }
    follow_job(client, job.job_id, &seam, is_over, output).await
}

fn too_long() -> CliError {
    CliError::failed("it is not settled yet, and the wait is over")
        .hint("it goes on at the server; --wait gives it longer")
}

/// What was read; nothing where that failed for a moment.
fn read<T>(answer: Result<T, Error>) -> Result<Option<T>, CliError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_passing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn follow_delivery(
    client: &Client,
    before: &Delivery,
    seam: &Seam,
    is_over: impl Fn() -> bool,
    output: &mut Output,
) -> Result<Exit, CliError> {
    loop {
        if let Some(delivery) = read(client.delivery(before.id).await)?
            && delivery.attempts_made > before.attempts_made
        {
            let last = delivery.attempts.last();
            let status = match last.and_then(|last| last.status) {
                Some(status) => format!("answered {status}"),
                None => printable(last.and_then(|last| last.error.as_deref()).unwrap_or("?")),
            };
            let state = name(delivery.state);
            output.answer(format_args!("{state}: attempt {}, {status}", delivery.attempts_made))?;
            if let Some(hint) = last.and_then(|last| last.hint.as_deref()) {
                output.message(format_args!("hint: {}", printable(hint)));
            }
            let is_delivered = delivery.state == DeliveryState::Delivered;
            return Ok(if is_delivered { Exit::Success } else { Exit::Negative });
        }
        if is_over() {
            return Err(too_long());
        }
        seam.clock.sleep(LOOK).await;
    }
}

fn name(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Held => "held",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
        DeliveryState::Cancelled => "cancelled",
        _ => "?",
    }
}

async fn follow_job(
    client: &Client,
    id: JobId,
    seam: &Seam,
    is_over: impl Fn() -> bool,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let mut shown = String::new();
    loop {
        if let Some(Job::Recovery(job)) = read(client.job(id).await)? {
            let total = job.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
            let line = format!(
                "job {id}: {}, {} of {total} looked at, {} on their way again",
                job.state.as_str(),
                job.processed,
                job.requeued
            );
            if line != shown {
                output.message(&line);
                shown.clone_from(&line);
            }
            if job.state.is_over() {
                output.answer(line)?;
                let is_done = job.state == JobState::Done;
                return Ok(if is_done { Exit::Success } else { Exit::Negative });
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
