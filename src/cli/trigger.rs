//! `mortise trigger`: a sample event, sent to a receiver on this machine as a delivery, or posted to a
//! server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use mortise_client::events::Event;
use mortise_client::webhooks::TestRequest;
use mortise_client::{Client, OrgId, WebhookId};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::listen::signing_secret;
use super::output::{CliError, Exit, Output};
use super::remote_server::{Out, SecretArgument, ServerArguments, printable};
use super::sample_delivery::{SAMPLE_ORG, body, headers, known_type, payload};
use crate::crypto::Signer;
use crate::delivery::status_hint;
use crate::seam::Seam;

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  the receiver answered with success; or the server took the event, or delivered the test
  1  it did not
  2  flags, files or secrets cannot be used, or there is no such event type";

/// How much of an answer's body is printed, in characters.
const SHOWN: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The type of the event, such as Ticket_Add
    event_type: String,
    /// The receiver to send it to, as a delivery
    #[arg(long, value_name = "URL", conflicts_with = "server", required_unless_present = "server")]
    to: Option<Url>,
    /// Signs the delivery: whsec_… or the webhook's own; without one it is not signed
    #[arg(long, value_name = "SECRET", conflicts_with = "server")]
    secret: Option<SecretArgument>,
    #[command(flatten)]
    server: ServerArguments,
    /// With --server: have this webhook tested, as its vendor or administrator may. Otherwise the event
    /// is posted, as the host or operator may, and goes to every webhook that it matches
    #[arg(long, value_name = "ID", requires = "server")]
    webhook: Option<Uuid>,
    /// The org that the event is of
    #[arg(long, value_name = "ORG", default_value = SAMPLE_ORG)]
    org: String,
    /// A file with the payload, a JSON object; the catalogue's sample where it is left out
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// How long the receiver may take
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span)]
    deadline: Duration,
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    let span = crate::config::parse_duration(text).ok_or("a span such as 500ms, 2s or 1m")?;
    let is_fit = !span.is_zero() && span <= Duration::from_mins(10);
    if is_fit { Ok(span) } else { Err("more than 0, at most 10m".to_owned()) }
}

/// Sends the event.
pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    let known = known_type(&arguments.event_type)?;
    let payload = payload(known, arguments.data.as_deref())?;
    if let Some(server) = arguments.server.open(&seam)? {
        let payload = serde_json::from_slice(&payload).map_err(CliError::unusable)?;
        let client = &server.client;
        return match arguments.webhook.map(WebhookId) {
            Some(webhook) => test(client, webhook, known.name, payload, output).await,
            None => post(client, &arguments.org, known.name, payload, output).await,
        };
    }
    let Some(to) = &arguments.to else {
        return Err(CliError::unusable("give --to or --server"));
    };
    let signer = match &arguments.secret {
        Some(secret) => {
            let secret = signing_secret(secret.expose()).map_err(CliError::unusable)?;
            Some(Signer::new([&secret]).map_err(CliError::unusable)?)
        }
        None => None,
    };
    let now = seam.clock.now();
    let body = body(known, &arguments.org, &payload, now);
    let id = seam.randomness.id();
    let headers = headers(id, now, &body, signer.as_ref())?;
    let mut url = to.clone();
    url.query_pairs_mut().append_pair("orgId", &arguments.org);
    let out = Out::open(arguments.server.ca_file.clone(), &seam)?;
    let began = seam.clock.instant();
    match out.send(Method::POST, &url, headers, body, arguments.deadline).await {
        Ok(answer) => {
            let (status, took) = (answer.status.as_u16(), began.elapsed().as_millis());
            output.answer(format_args!("{} {id}: answered {status} in {took} ms", known.name))?;
            let text = String::from_utf8_lossy(&answer.body_excerpt);
            for line in text.chars().take(SHOWN).collect::<String>().lines() {
                output.answer(format_args!("    {}", printable(line)))?;
            }
            if answer.status.is_success() {
                return Ok(Exit::Success);
            }
            if let Some(hint) = status_hint(status) {
                output.message(format_args!("hint: {hint}"));
            }
            Ok(Exit::Negative)
        }
        Err(failed) => Err(CliError::failed(&failed).hint(failed.hint)),
    }
}

/// Posts the event as the host would.
async fn post(
    client: &Client,
    org: &str,
    event_type: &str,
    payload: Map<String, Value>,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let org = OrgId::new(org).map_err(CliError::unusable)?;
    let answer = client.post_events(&[Event::new(event_type, org.clone(), payload)]).await?;
    let Some(event) = answer.events.first() else {
        return Err(CliError::failed("the server names no event that it took"));
    };
    let (id, deliveries) = (printable(&event.event_id), event.deliveries);
    output.answer(format_args!("{event_type} {id}: accepted, {deliveries} deliveries"))?;
    if deliveries == 0 {
        output.message(format_args!(
            "hint: no webhook of org {} matched; GET /api/v1/events/{id} says why for each",
            printable(org.as_str())
        ));
    }
    Ok(Exit::Success)
}

/// Has the server test a webhook.
async fn test(
    client: &Client,
    webhook: WebhookId,
    event_type: &str,
    payload: Map<String, Value>,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let mut request = TestRequest::new(event_type);
    request.body = Some(Value::Object(payload));
    let told = client.test_webhook(webhook, &request).await?;
    let status =
        told.status().map_or_else(|| "no answer".to_owned(), |status| format!("answered {status}"));
    output.answer(format_args!(
        "{event_type} to {webhook}: {}, {status} in {} ms",
        printable(&told.outcome),
        told.duration_ms.round()
    ))?;
    for (label, text) in [("error", &told.error), ("hint", &told.hint)] {
        if let Some(text) = text {
            output.message(format_args!("{label}: {}", printable(text)));
        }
    }
    Ok(if told.is_delivered() { Exit::Success } else { Exit::Negative })
}
