//! Sends finished spans to a collector (OTLP over HTTP, in JSON). What cannot be sent is dropped and
//! said: nobody's request waits for it, and nothing is kept for it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::wiring::StartError;
use crate::config::Otlp;
use crate::egress::{Egress, OutgoingRequest};
use crate::seam::Seam;
use crate::telemetry::otlp;
use crate::telemetry::traces::{Span, Tracer};

/// How long spans are gathered before they are sent.
const GATHER: Duration = Duration::from_secs(1);

/// How many spans one request has at the most.
const GROUP: usize = 512;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The pauses before a request is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// How much of an answer is read, in bytes.
const ANSWER_LIMIT: usize = 4_096;

/// Sends spans while the server runs.
#[derive(Debug)]
pub(super) struct TraceExport {
    url: Url,
    headers: HeaderMap,
    instance: String,
    egress: Egress,
    seam: Seam,
    tracer: Tracer,
    spans: mpsc::Receiver<Span>,
}

impl TraceExport {
    /// What the configuration asks for; nothing where it asks for none.
    pub(super) fn of(
        config: &Otlp,
        egress: &Egress,
        seam: &Seam,
    ) -> Result<Option<(Tracer, Self)>, StartError> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let mut url = endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| StartError::Egress("otlp.endpoint has no path".to_owned()))?
            .pop_if_empty()
            .extend(otlp::PATH.split('/'));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &config.authorization {
            let mut value = HeaderValue::from_str(authorization.expose_secret())
                .map_err(|error| StartError::Egress(format!("otlp.authorization: {error}")))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let (tracer, spans) = Tracer::new(config.sample_percent, seam.clone());
        let export = Self {
            url,
            headers,
            instance: seam.randomness.id().to_string(),
            egress: egress.clone(),
            seam: seam.clone(),
            tracer: tracer.clone(),
            spans,
        };
        Ok(Some((tracer, export)))
    }

    /// Sends until told to stop, and then what there still is.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let is_last = tokio::select! {
                received = self.spans.recv_many(&mut group, GROUP) => received == 0,
                () = stop.cancelled() => true,
            };
            if !is_last {
                tokio::select! {
                    () = self.seam.clock.sleep(GATHER) => {}
                    () = stop.cancelled() => {}
                }
            }
            while group.len() < GROUP
                && let Ok(span) = self.spans.try_recv()
            {
                group.push(span);
            }
            if !group.is_empty() {
                self.send(&group, &stop).await;
                group.clear();
            }
            let dropped = self.tracer.take_dropped();
            if dropped > 0 {
                tracing::warn!(dropped, "more spans came than the collector was given");
            }
            if is_last {
                return;
            }
        }
    }

    async fn send(&self, group: &[Span], stop: &CancellationToken) {
        let body = Bytes::from(otlp::request(&self.instance, group).to_string());
        for pause in PAUSES.iter().map(Some).chain([None]) {
            let failure = match self.send_once(body.clone()).await {
                Ok(()) => return,
                Err(failure) => failure,
            };
            let is_worth_it = failure.is_passing && !stop.is_cancelled();
            let Some(pause) = pause.filter(|_| is_worth_it) else {
                let (spans, error) = (group.len(), failure.what);
                tracing::warn!(spans, error, "the collector does not take spans; dropped");
                return;
            };
            tokio::select! {
                () = self.seam.clock.sleep(*pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn send_once(&self, body: Bytes) -> Result<(), Failure> {
        let url = self
            .egress
            .trusted(&self.url)
            .map_err(|refusal| Failure { what: refusal.to_string(), is_passing: false })?;
        let request = OutgoingRequest {
            method: Method::POST,
            url,
            headers: self.headers.clone(),
            body,
            deadline: DEADLINE,
            response_limit: ANSWER_LIMIT,
            gate: None,
        };
        match self.egress.send(request).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(Failure {
                what: format!("it answered {}", answer.status),
                is_passing: matches!(answer.status.as_u16(), 429 | 502..=504),
            }),
            Err(error) => Err(Failure { what: error.to_string(), is_passing: true }),
        }
    }
}

/// Why spans were not taken.
struct Failure {
    what: String,
    /// Whether the protocol has it tried again.
    is_passing: bool,
}
