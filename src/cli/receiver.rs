//! `mortise doctor receiver`: whether a receiver does what a vendor's must: takes signed deliveries in
//! time and more than once, and refuses what is not signed, forged, changed or old.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::Method;
use serde::Serialize;
use url::Url;
use uuid::Uuid;

use super::listen::signing_secret;
use super::output::{CliError, Exit, Output};
use super::remote_server::{Out, SecretArgument};
use super::sample_delivery::{SAMPLE_ORG, body, headers, known_type, payload};
use super::trigger::span;
use crate::crypto::{Signer, SigningSecret};
use crate::delivery::status_hint;
use crate::seam::{Seam, Timestamp};

/// What the exit codes mean.
const EXIT_CODES: &str = "\
Exit codes:
  0  the receiver does all that it must; warnings are told
  1  it does not
  2  flags or the secret cannot be used";

/// An answer that takes longer than this is in danger of missing the deadline.
const SLOW: Duration = Duration::from_secs(3);

/// How old a delivery is that nobody should believe: twice what is tolerated.
const OLD: Duration = Duration::from_mins(10);

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The receiver's address
    url: Url,
    /// The secret that it verifies with: whsec_… or the webhook's own
    #[arg(long, value_name = "SECRET")]
    secret: SecretArgument,
    /// The type of the event that is sent
    #[arg(long, value_name = "TYPE", default_value = "Ticket_Add")]
    event_type: String,
    /// The org in the address and the body
    #[arg(long, value_name = "ORG", default_value = SAMPLE_ORG)]
    org: String,
    /// How long it may take to answer; a server waits for 10s unless told otherwise
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span)]
    deadline: Duration,
    /// A PEM file with certificates to trust besides the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<std::path::PathBuf>,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line a check
    #[default]
    Text,
    /// One document
    Json,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Ok,
    Warning,
    Problem,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    healthy: bool,
    checks: &'a [Finding],
}

/// What is sent for a check, and what the receiver must answer.
struct Probe {
    check: &'static str,
    id: Uuid,
    at: Timestamp,
    signed_body: Bytes,
    sent_body: Bytes,
    signer: Option<Signer>,
    must_take: bool,
}

pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<Exit, CliError> {
    let seam = Seam::default();
    let findings = examine(&arguments, &seam).await?;
    let is_healthy = findings.iter().all(|finding| finding.status != Status::Problem);
    match arguments.format {
        Format::Json => {
            let document = Document { healthy: is_healthy, checks: &findings };
            output.answer(serde_json::to_string_pretty(&document).map_err(CliError::failed)?)?;
        }
        Format::Text => {
            for finding in &findings {
                print(finding, output)?;
            }
        }
    }
    Ok(if is_healthy { Exit::Success } else { Exit::Negative })
}

fn print(finding: &Finding, output: &mut Output) -> Result<(), CliError> {
    let (mark, color) = match finding.status {
        Status::Ok => ("ok     ", "32"),
        Status::Warning => ("warning", "33"),
        Status::Problem => ("PROBLEM", "31"),
    };
    let mark = if output.are_answers_colored() {
        format!("\u{1b}[{color}m{mark}\u{1b}[0m")
    } else {
        mark.to_owned()
    };
    output.answer(format_args!("{mark} {}: {}", finding.check, finding.detail))?;
    if let Some(hint) = &finding.hint {
        output.answer(format_args!("        {hint}"))?;
    }
    Ok(())
}

async fn examine(arguments: &Arguments, seam: &Seam) -> Result<Vec<Finding>, CliError> {
    let known = known_type(&arguments.event_type)?;
    let secret = signing_secret(arguments.secret.expose()).map_err(CliError::unusable)?;
    let other = SigningSecret::generate(&seam.randomness).map_err(CliError::failed)?;
    let signer = |secret: &SigningSecret| Signer::new([secret]).map_err(CliError::unusable);
    let out = Out::open(arguments.ca_file.clone(), seam)?;
    let now = seam.clock.now();
    let good = body(known, &arguments.org, &payload(known, None)?, now);
    let mut changed = good.to_vec();
    // The signature covers every byte: white space is enough.
    changed.push(b' ');
    let probe = |check, must_take| Probe {
        check,
        id: seam.randomness.id(),
        at: now,
        signed_body: good.clone(),
        sent_body: good.clone(),
        signer: None,
        must_take,
    };
    let first = Probe { signer: Some(signer(&secret)?), ..probe("takes a signed delivery", true) };
    let probes = [
        Probe {
            signer: Some(signer(&secret)?),
            id: first.id,
            ..probe("absorbs a duplicate", true)
        },
        probe("refuses what is not signed", false),
        Probe { signer: Some(signer(&other)?), ..probe("refuses a forged signature", false) },
        Probe {
            signer: Some(signer(&secret)?),
            sent_body: changed.into(),
            ..probe("refuses a changed body", false)
        },
        Probe {
            signer: Some(signer(&secret)?),
            at: now.minus(OLD),
            ..probe("refuses an old delivery that is sent again", false)
        },
    ];
    let mut findings = vec![try_one(&first, arguments, &out, seam).await?];
    for probe in &probes {
        findings.push(try_one(probe, arguments, &out, seam).await?);
    }
    Ok(findings)
}

async fn try_one(
    probe: &Probe,
    arguments: &Arguments,
    out: &Out,
    seam: &Seam,
) -> Result<Finding, CliError> {
    let headers = headers(probe.id, probe.at, &probe.signed_body, probe.signer.as_ref())?;
    let mut url = arguments.url.clone();
    url.query_pairs_mut().append_pair("orgId", &arguments.org);
    let began = seam.clock.instant();
    let body = probe.sent_body.clone();
    let sent = out.send(Method::POST, &url, headers, body, arguments.deadline).await;
    Ok(match sent {
        Ok(answer) => judge(probe, answer.status.as_u16(), began.elapsed()),
        Err(failed) => Finding {
            check: probe.check,
            status: Status::Problem,
            detail: failed.what,
            hint: Some(failed.hint),
        },
    })
}

/// What an answer to a probe is worth. Pure.
fn judge(probe: &Probe, status: u16, took: Duration) -> Finding {
    let answered = format!("answered {status} in {} ms", took.as_millis());
    let finding = |status, hint: Option<&str>| Finding {
        check: probe.check,
        status,
        detail: answered.clone(),
        hint: hint.map(str::to_owned),
    };
    let is_success = (200..=299).contains(&status);
    if probe.must_take {
        if !is_success {
            return finding(Status::Problem, status_hint(status));
        }
        let hint =
            "Answer first and do the work afterwards: whoever takes too long is sent it again.";
        let is_slow = took > SLOW;
        return finding(
            if is_slow { Status::Warning } else { Status::Ok },
            is_slow.then_some(hint),
        );
    }
    match status {
        401 | 403 => finding(Status::Ok, None),
        400..=499 => finding(
            Status::Warning,
            Some("It is refused; 401 would say why, and is not taken for another fault."),
        ),
        200..=299 => finding(
            Status::Problem,
            Some(
                "Anybody could send events in our name: verify webhook-signature over the raw body \
                 with the secret, and refuse timestamps that are more than 5 minutes off.",
            ),
        ),
        _ => finding(
            Status::Problem,
            Some(
                "It must be refused with 401: a 3xx or 5xx is tried again, and looks like an outage.",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(must_take: bool) -> Probe {
        Probe {
            check: "a check",
            id: Uuid::nil(),
            at: Timestamp::from_micros(0),
            signed_body: Bytes::new(),
            sent_body: Bytes::new(),
            signer: None,
            must_take,
        }
    }

    #[test]
    fn answers_are_judged_by_what_was_sent() {
        let (quick, slow) = (Duration::from_millis(5), Duration::from_secs(4));
        for (must_take, status, took, worth) in [
            (true, 200, quick, Status::Ok),
            (true, 204, slow, Status::Warning),
            (true, 401, quick, Status::Problem),
            (true, 302, quick, Status::Problem),
            (false, 401, quick, Status::Ok),
            (false, 403, slow, Status::Ok),
            (false, 422, quick, Status::Warning),
            (false, 200, quick, Status::Problem),
            (false, 500, quick, Status::Problem),
            (false, 302, quick, Status::Problem),
        ] {
            let finding = judge(&probe(must_take), status, took);
            assert_eq!(finding.status, worth, "{must_take} {status}");
            let needs_hint = worth != Status::Ok;
            assert_eq!(finding.hint.is_some(), needs_hint, "{must_take} {status}");
        }
    }
}
