//! A receiver on a local port: for a server on this machine, or behind a tunnel of one's own.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::lines::{Answer, Line, header_map, print, print_whole};
use super::{Arguments, USUAL_PORT};
use crate::cli::output::{CliError, Exit, Output};
use crate::cli::remote_server::Out;
use crate::cli::signals::Signals;
use crate::crypto::Verifier;
use crate::development::{
    Behaviour, DevelopmentError, Received, SampleVendor, SampleVendorOptions,
};
use crate::inspector::judge;
use crate::seam::Seam;

/// How many requests are kept until they are printed.
const CAPACITY: usize = 1_000;

/// How long one look for the next request takes.
const LOOK: Duration = Duration::from_secs(1);

/// How long the local server may take.
const FORWARD_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(
    arguments: Arguments,
    verifier: Option<Verifier>,
    seam: &Seam,
    output: &mut Output,
) -> Result<Exit, CliError> {
    let options = SampleVendorOptions {
        seam: seam.clone(),
        port: arguments.port.unwrap_or(USUAL_PORT),
        capacity: CAPACITY,
        ..SampleVendorOptions::default()
    };
    let receiver = SampleVendor::start(options).await.map_err(CliError::unusable)?;
    receiver.behave_otherwise(Behaviour::status(arguments.status).after(arguments.delay));
    output.message(format_args!("listening on http://{}, every path", receiver.address()));
    let forward = match &arguments.forward {
        Some(url) => Some((Out::open(arguments.server.ca_file.clone(), seam)?, url)),
        None => None,
    };
    let mut signals = Signals::listen()?;
    let (mut left, mut is_fine) = (arguments.count, true);
    while left != Some(0) {
        let next = tokio::select! {
            () = signals.next() => return Ok(Exit::Success),
            next = receiver.next(LOOK) => next,
        };
        let request = match next {
            Ok(request) => request,
            Err(DevelopmentError::TimedOut { .. }) => continue,
            Err(error) => return Err(CliError::failed(error)),
        };
        left = left.map(|left| left - 1);
        let headers = header_map(&request.headers);
        let verdict = judge(&headers, &request.body, verifier.as_ref(), request.arrived);
        let answer = match &forward {
            Some((out, url)) => forwarded(out, url, &request, seam).await,
            None => Answer::Chosen(arguments.status),
        };
        let org = request.parameter("orgId").unwrap_or_else(|| "?".to_owned());
        let line = Line {
            at: request.arrived,
            event_type: &request.event_name(),
            org_id: &org,
            delivery: request.header("webhook-id").unwrap_or("-"),
            attempt: None,
            verdict: &verdict,
            answer: &answer,
        };
        print(&line, output)?;
        if arguments.verbose {
            print_whole(&request.headers, &request.body, output)?;
        }
        let is_believed = match verdict.name() {
            "valid" => true,
            "unknown" => verifier.is_none(),
            _ => verifier.is_none() && verdict.name() == "unsigned",
        };
        is_fine &= is_believed && answer.is_success();
    }
    receiver.stop().await;
    Ok(if is_fine { Exit::Success } else { Exit::Negative })
}

/// Passes a request on as it came. Its sender has its answer already: what comes back is printed.
async fn forwarded(out: &Out, url: &url::Url, received: &Received, seam: &Seam) -> Answer {
    let mut url = url.clone();
    super::tunnel::add_query(&mut url, received.query.as_deref());
    let method = Method::from_bytes(received.method.as_bytes()).unwrap_or(Method::POST);
    let (headers, body) = (header_map(&received.headers), Bytes::clone(&received.body));
    let began = seam.clock.instant();
    match out.send(method, &url, headers, body, FORWARD_LIMIT).await {
        Ok(answer) => Answer::Forwarded(answer.status.as_u16(), began.elapsed()),
        Err(failed) => Answer::Unanswered(failed.to_string(), began.elapsed()),
    }
}
