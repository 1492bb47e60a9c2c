//! The span of an attempt: part of the trace that posted the event, and told to the receiver.

use http::{HeaderMap, Method};
use url::Url;

use super::lane::Job;
use crate::egress::{Answer, SendError};
use crate::telemetry::traces::SpanKind;

/// Begins the span of an attempt, where its event is part of a trace, and tells the receiver of it.
/// Of the address only the host is said: the rest may hold what must not be told.
pub(super) fn begin_span(job: &mut Job, headers: &mut HeaderMap, method: &Method, url: &Url) {
    let Some(trace) = &job.content.circumstances.trace else { return };
    let mut span = trace.begin(format!("deliver {}", job.content.event_type), SpanKind::Client);
    span.text("http.request.method", method.as_str());
    span.text("server.address", url.host_str().unwrap_or_default());
    span.text("mortise.event_type", &*job.content.event_type);
    span.text("mortise.delivery_id", job.id.to_string());
    span.text("mortise.webhook_id", job.endpoint_id.to_string());
    span.number("http.request.resend_count", job.attempts_before);
    span.tell(headers);
    job.span = Some(span);
}

/// Ends it with what came back; `sent` is nothing where we broke the attempt off ourselves.
pub(super) fn end_span(job: &mut Job, sent: Option<&Result<Answer, SendError>>) {
    let Some(mut span) = job.span.take() else { return };
    match sent {
        Some(Ok(answer)) => {
            span.number("http.response.status_code", answer.status.as_u16());
            if !answer.status.is_success() {
                span.fail(answer.status.as_str());
            }
        }
        Some(Err(error)) => {
            span.text("error.type", error.class.as_str());
            span.fail(error.class.as_str());
        }
        None => span.fail("interrupted"),
    }
    span.end();
}
