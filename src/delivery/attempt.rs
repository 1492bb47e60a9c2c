//! One attempt: the gate, the request, and what came of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt_span::{begin_span, end_span};
use super::concealing::Told;
use super::dispatcher::Dispatcher;
use super::hint::{control_hint, status_hint};
use super::lane::{Job, Kind, LaneOutcome};
use super::retry::{self, Decision, Reply, RetryPolicy, Schedule};
use super::tap::Offered;
use crate::crypto::{CryptoError, JwtClaims, SecurityContext, Signer, desk_hash};
use crate::dialect::{self, EventParts};
use crate::egress::{
    Answer, ErrorClass, Gate as SendGate, OutgoingRequest, Phases, SendError, VettedUrl,
    receiver_control, retry_after,
};
use crate::seam::{Timestamp, crash_point};
use crate::store::claims::DeliveryState;
use crate::store::committer::AttemptResult;
use crate::telemetry::{self, AttemptOutcome, METRICS};
use crate::webhook::{Endpoint, Gate};

/// How much of a response body is kept.
pub(super) const EXCERPT: usize = 1_024;

/// For how long nothing is sent to an endpoint that said that it wants no more, while its health is
/// being written.
const CLOSING: Duration = Duration::from_secs(30);

/// How long an `X-ZDesk-JWT` is valid.
const JWT_LIFE: Duration = Duration::from_hours(1);

pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
pub(super) const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
pub(super) const DESK_JWT: HeaderName = HeaderName::from_static("x-zdesk-jwt");
const DESK_HASH: HeaderName = HeaderName::from_static("hash");
const REPLAY: HeaderName = HeaderName::from_static("x-mortise-replay");
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("Mortise/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How much of the headers of an answer is kept: so many, and so many bytes in all.
pub(super) const HEADERS_KEPT: (usize, usize) = (32, 2_048);

/// The phases of an attempt in microseconds, as they are kept.
#[derive(Debug, Serialize)]
struct PhasesKept {
    #[serde(rename = "dnsMicros", skip_serializing_if = "Option::is_none")]
    dns: Option<u32>,
    #[serde(rename = "connectMicros", skip_serializing_if = "Option::is_none")]
    connect: Option<u32>,
    #[serde(rename = "firstByteMicros", skip_serializing_if = "Option::is_none")]
    first_byte: Option<u32>,
    #[serde(rename = "bodyMicros", skip_serializing_if = "Option::is_none")]
    body: Option<u32>,
}

impl From<Phases> for PhasesKept {
    fn from(phases: Phases) -> Self {
        Self {
            dns: phases.dns_micros,
            connect: phases.connect_micros,
            first_byte: phases.first_byte_micros,
            body: phases.body_micros,
        }
    }
}

/// What is kept of an attempt beside its status, as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    phases: PhasesKept,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "str::is_empty")]
    body: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    empty_placeholders: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay: bool,
}

impl Dispatcher {
    /// Makes one attempt and has its result written.
    pub(super) async fn attempt(&self, mut job: Job, cancel: CancellationToken) -> LaneOutcome {
        // Without a lease another node may hold this claim; it comes back, or this node stops.
        self.inner.lease.valid(&self.inner.stop).await;
        if self.inner.stop.is_cancelled() {
            self.give_back(&mut job).await;
            return LaneOutcome::Untried;
        }
        // It must end within its lease, or another may send it meanwhile; it comes back by itself.
        if let Some(until) = job.lease_until
            && until < self.inner.seam.clock.now().plus(self.deadline_of(job.endpoint_id))
        {
            return LaneOutcome::Untried;
        }
        match job.kind {
            Kind::Callback => self.attempt_callback(job, cancel).await,
            Kind::Webhook | Kind::OrderedWebhook | Kind::Incoming => {
                self.attempt_webhook(job, cancel).await
            }
        }
    }

    async fn attempt_webhook(&self, mut job: Job, cancel: CancellationToken) -> LaneOutcome {
        let Gate::Open(endpoint) = self.gate(&job) else {
            self.withdraw(&mut job).await;
            return LaneOutcome::Untried;
        };
        if endpoint.is_incoming {
            job.kind = Kind::Incoming;
        }
        if let Some(own) = &endpoint.own {
            // Larger, and not on the way of the others.
            return Box::pin(self.attempt_own(&mut job, &endpoint, own, cancel)).await;
        }
        let mut request = match self.webhook_request(&job, &endpoint) {
            Ok(request) => request,
            Err(Unprepared::Address(refusal)) => {
                let error = refused(&refusal);
                let at = self.inner.seam.clock.now();
                let policy = policy_of(&endpoint);
                let (outcome, decision) =
                    self.record(&mut job, at, 0, Some(Err(error)), Told::default(), &policy).await;
                self.note_webhook(&endpoint, decision);
                return outcome;
            }
            Err(Unprepared::Crypto(error)) => {
                tracing::error!(delivery = %job.id, error = %error, "cannot prepare a delivery");
                self.settle(&mut job, DeliveryState::Pending, Some(self.in_a_minute())).await;
                return LaneOutcome::Untried;
            }
        };
        begin_span(&mut job, &mut request.headers, &request.method, request.url.url());
        if self.inner.taps.is_active() {
            let offered = Offered {
                method: &request.method,
                url: request.url.url(),
                headers: &request.headers,
                body: &request.body,
            };
            self.inner.taps.offer(&job, &endpoint, &offered, self.inner.seam.clock.now());
        }
        let context = endpoint.security_context.as_ref();
        let policy = policy_of(&endpoint);
        match self.send_and_record(&mut job, request, context, cancel, &policy).await {
            Some((outcome, decision)) => {
                self.note_webhook(&endpoint, decision);
                outcome
            }
            None => LaneOutcome::Untried,
        }
    }

    fn gate(&self, job: &Job) -> Gate {
        self.inner.routing.gate(job.endpoint_id, job.generation)
    }

    /// Gives up a delivery whose webhook does not deliver now: held or cancelled, as the gate says.
    pub(super) async fn withdraw(&self, job: &mut Job) {
        let (state, due_at) = self.withdrawn_state(job);
        self.settle(job, state, due_at).await;
    }

    fn withdrawn_state(&self, job: &Job) -> (DeliveryState, Option<Timestamp>) {
        match self.gate(job) {
            Gate::Held => (DeliveryState::Held, None),
            Gate::Closed => (DeliveryState::Cancelled, None),
            Gate::Open(_) => (DeliveryState::Pending, Some(self.inner.seam.clock.now())),
        }
    }

    async fn attempt_callback(&self, mut job: Job, cancel: CancellationToken) -> LaneOutcome {
        let lane = match self.inner.routing.callback_lane(job.endpoint_id).await {
            Ok(Some(lane)) => lane,
            Ok(None) => {
                self.settle(&mut job, DeliveryState::Cancelled, None).await;
                return LaneOutcome::Untried;
            }
            Err(error) => {
                tracing::error!(installation = %job.endpoint_id, error = %error, "cannot read a callback's address");
                self.settle(&mut job, DeliveryState::Pending, Some(self.in_a_minute())).await;
                return LaneOutcome::Untried;
            }
        };
        let Some(url) = super::callbacks::address(&lane, &job.content.event_type) else {
            self.settle(&mut job, DeliveryState::Cancelled, None).await;
            return LaneOutcome::Untried;
        };
        let prepared = super::callbacks::body(&lane, &job.content).and_then(|body| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, JSON);
            if let Some(secret) = &lane.hash_secret {
                headers.insert(DESK_HASH, header_value(&desk_hash(secret, &body)?)?);
            }
            self.common_headers(&mut headers, &job, &lane.signer, &body)?;
            Ok((headers, body))
        });
        match prepared {
            Ok((headers, body)) => {
                let at = self.inner.seam.clock.now();
                let policy = RetryPolicy {
                    statuses: &dialect::DESK,
                    schedule: self.inner.options.schedule.clone(),
                };
                let ended = match self.inner.egress.vet(url) {
                    Ok(url) => {
                        let deadline = self.inner.options.deadline;
                        let request = request(url, headers, body, deadline, None);
                        self.send_and_record(
                            &mut job,
                            request,
                            Some(&lane.security_context),
                            cancel,
                            &policy,
                        )
                        .await
                    }
                    Err(refusal) => {
                        let error = refused(&refusal.to_string());
                        let told = Told::default();
                        Some(self.record(&mut job, at, 0, Some(Err(error)), told, &policy).await)
                    }
                };
                let Some((outcome, decision)) = ended else { return LaneOutcome::Untried };
                self.note_callback(job.endpoint_id, &job.content.event_type, decision);
                outcome
            }
            Err(error) => {
                tracing::error!(delivery = %job.id, error = %error, "cannot prepare a callback");
                self.settle(&mut job, DeliveryState::Pending, Some(self.in_a_minute())).await;
                LaneOutcome::Untried
            }
        }
    }

    fn in_a_minute(&self) -> Timestamp {
        self.inner.seam.clock.now().plus(Duration::from_mins(1))
    }

    fn webhook_request(
        &self,
        job: &Job,
        endpoint: &Arc<Endpoint>,
    ) -> Result<OutgoingRequest, Unprepared> {
        let url = endpoint.destination.clone().map_err(Unprepared::Address)?;
        let content = &job.content;
        let body = dialect::desk_body(&EventParts {
            event_type: &content.event_type,
            org: &content.org_id,
            event_time: Timestamp::from_millis(content.event_time),
            payload: &content.payload,
            previous: content
                .previous
                .as_deref()
                .filter(|_| endpoint.wants_previous.contains(&content.event_type)),
            department: None,
            automation: false,
            actor: None,
        });
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, endpoint.dialect.content_type());
        self.common_headers(&mut headers, job, &endpoint.signer, &body)?;
        headers.insert(DESK_JWT, self.desk_jwt(endpoint)?);
        // Asked once more when the connection stands: connecting may take its time.
        let (routing, id, generation) =
            (self.inner.routing.clone(), job.endpoint_id, job.generation);
        let lease = self.inner.lease.clone();
        let gate = SendGate::new(move || {
            lease.may_deliver() && matches!(routing.gate(id, generation), Gate::Open(_))
        });
        Ok(request(url, headers, body, endpoint.terms.deadline, Some(gate)))
    }

    /// The time that one attempt to an endpoint may take.
    pub(super) fn deadline_of(&self, endpoint: Uuid) -> Duration {
        let endpoint = self.inner.routing.endpoint(endpoint);
        endpoint.map_or(self.inner.options.deadline, |endpoint| endpoint.terms.deadline)
    }

    /// The headers of Standard Webhooks, with a fresh timestamp for each attempt.
    fn common_headers(
        &self,
        headers: &mut HeaderMap,
        job: &Job,
        signer: &Signer,
        body: &[u8],
    ) -> Result<(), CryptoError> {
        let mut id = Uuid::encode_buffer();
        let id: &str = job.id.hyphenated().encode_lower(&mut id);
        let timestamp = self.inner.seam.clock.now().seconds();
        let signature = signer.sign(id, timestamp, &[body]);
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(WEBHOOK_ID, header_value(id)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(WEBHOOK_SIGNATURE, owned_header_value(signature)?);
        if job.is_replay {
            headers.insert(REPLAY, HeaderValue::from_static("true"));
        }
        Ok(())
    }

    pub(super) fn desk_jwt(&self, endpoint: &Endpoint) -> Result<HeaderValue, CryptoError> {
        let now = self.inner.seam.clock.now();
        let key = self.inner.keys.signing.jwt()?;
        if let Some(token) = self.inner.jwt.get(endpoint.id, key.key_id(), now) {
            return Ok(token);
        }
        let until = now.plus(JWT_LIFE);
        let token = key.sign(&JwtClaims {
            iss: &format!("orgId:{}", endpoint.org_id),
            aud: &format!("webhookId:{}", endpoint.id),
            iat: now.seconds(),
            exp: until.seconds(),
        })?;
        let token = header_value(&token)?;
        self.inner.jwt.put(endpoint.id, key.key_id(), token.clone(), until);
        Ok(token)
    }

    /// Sends, and has the result written; nothing where the gate closed before the first byte.
    async fn send_and_record(
        &self,
        job: &mut Job,
        request: OutgoingRequest,
        context: Option<&SecurityContext>,
        cancel: CancellationToken,
        policy: &RetryPolicy,
    ) -> Option<(LaneOutcome, Decision)> {
        crash_point("delivery.before-send");
        let clock = &self.inner.seam.clock;
        let at = clock.now();
        let started = clock.instant();
        // Callbacks tell of steps, not of events.
        if job.attempts_before == 0 && !job.is_replay && job.kind != Kind::Callback {
            METRICS.lag_micros.note(lag_micros(job.id, at));
        }
        let sent = tokio::select! {
            sent = self.inner.egress.send(request) => Some(sent),
            () = cancel.cancelled() => None,
        };
        crash_point("delivery.after-send");
        if matches!(&sent, Some(Err(error)) if error.class == ErrorClass::Withdrawn) {
            self.withdraw(job).await;
            return None;
        }
        let micros = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
        Some(self.record(job, at, micros, sent, Told::of_context(context), policy).await)
    }

    /// Decides what follows from an attempt and has it written. `sent` is nothing where we broke
    /// the attempt off ourselves.
    pub(super) async fn record(
        &self,
        job: &mut Job,
        at: Timestamp,
        micros: i64,
        sent: Option<Result<Answer, SendError>>,
        told: Told<'_>,
        policy: &RetryPolicy,
    ) -> (LaneOutcome, Decision) {
        end_span(job, sent.as_ref());
        let ended_at = self.inner.seam.clock.now();
        let made = usize::try_from(job.attempts_before).unwrap_or(0) + 1;
        let told = Told { is_replay: job.is_replay, ..told };
        let (reply, status, error, detail) = match &sent {
            Some(Ok(answer)) => answered(answer, ended_at, told),
            Some(Err(error)) => unanswered(error, told),
            None => (Reply::Nothing, None, Some("interrupted"), None),
        };
        let is_success = matches!(reply, Reply::Status { code: 200..=299, .. });
        let jitter = if is_success { 0.0 } else { self.inner.seam.randomness.fraction() };
        let decision = retry::decide(policy, reply, made, ended_at, jitter);
        let (state, due_at) = match decision {
            // We broke it off since its webhook stopped delivering: it follows its webhook, and
            // it must not have been the last attempt.
            _ if sent.is_none() => self.withdrawn_state(job),
            Decision::Delivered | Decision::Disabled { delivered: true } => {
                (DeliveryState::Delivered, None)
            }
            // Nobody reactivates these addresses: the next delivery goes on.
            Decision::Gone | Decision::Disabled { .. } if !job.kind.has_webhook() => {
                (DeliveryState::Failed, None)
            }
            // What a gone webhook still has waiting is kept until somebody reactivates it.
            Decision::Gone | Decision::Disabled { .. } => (DeliveryState::Held, None),
            Decision::RetryAt(due_at) => (DeliveryState::Pending, Some(due_at)),
            Decision::Failed | Decision::Aborted => (DeliveryState::Failed, None),
        };
        let closes = matches!(decision, Decision::Gone | Decision::Disabled { .. });
        if closes && job.kind.has_webhook() {
            // Nothing more goes there until that is known everywhere.
            self.lanes().pause(job.endpoint_id, ended_at.plus(CLOSING), ended_at);
        }
        // What could not even be written says nothing of an endpoint that nobody called.
        let is_unwritten =
            matches!(&sent, Some(Err(error)) if error.class == ErrorClass::InvalidRequest);
        if job.kind.has_webhook() && !is_unwritten {
            self.note_pulse(job.endpoint_id, ended_at, sent.as_ref());
            // What we broke off ourselves says nothing of the endpoint.
            if sent.is_some() {
                self.inner.tallies.count(job.endpoint_id, at, is_success, micros);
            }
        }
        let result = AttemptResult {
            _place: job.place.take(),
            delivery_id: job.id,
            attempts_before: job.attempts_before,
            state,
            due_at,
            at,
            status,
            micros,
            error,
            detail,
        };
        if let Some(committer) = self.inner.committer.get() {
            if job.kind.is_ordered() {
                committer.result_on_disk(result).await;
            } else {
                committer.result(result).await;
            }
        }
        count_attempt(decision, sent.as_ref(), micros);
        let outcome = match decision {
            Decision::Delivered | Decision::Disabled { delivered: true } => LaneOutcome::Success,
            _ if sent.is_none() || is_unwritten => LaneOutcome::Untried,
            // The receiver is there and says what it wants: no reason to pause it.
            Decision::Aborted => LaneOutcome::Success,
            Decision::RetryAt(_)
            | Decision::Failed
            | Decision::Gone
            | Decision::Disabled { .. } => LaneOutcome::Failure,
        };
        (outcome, decision)
    }
}

/// How long ago a delivery was made, by its time-ordered id, in microseconds.
pub(super) fn lag_micros(id: Uuid, now: Timestamp) -> u64 {
    let millis = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
    let since = now.since(Timestamp::from_millis(millis)).as_micros();
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// Counts an attempt: additions to atomics, nothing else.
fn count_attempt(decision: Decision, sent: Option<&Result<Answer, SendError>>, micros: i64) {
    let outcome = match decision {
        _ if sent.is_none() => AttemptOutcome::Interrupted,
        Decision::Delivered | Decision::Disabled { delivered: true } => AttemptOutcome::Delivered,
        Decision::RetryAt(_) => AttemptOutcome::Retry,
        Decision::Failed | Decision::Aborted => AttemptOutcome::Failed,
        Decision::Gone | Decision::Disabled { .. } => AttemptOutcome::Stopped,
    };
    let (answer, timing) = match sent {
        Some(Ok(answer)) => (telemetry::answer_of_status(answer.status.as_u16()), answer.timing),
        Some(Err(error)) => (telemetry::answer_of_failure(error.class.as_str()), error.timing),
        None => (telemetry::answer_of_failure("interrupted"), Phases::default()),
    };
    let phases =
        [timing.dns_micros, timing.connect_micros, timing.first_byte_micros, timing.body_micros];
    METRICS.attempted(outcome, answer, u64::try_from(micros).unwrap_or(0), phases);
}

pub(super) fn policy_of(endpoint: &Endpoint) -> RetryPolicy {
    RetryPolicy {
        statuses: endpoint.dialect.statuses(),
        schedule: Schedule::new(Arc::clone(&endpoint.terms.pauses)),
    }
}

fn request(
    url: VettedUrl,
    headers: HeaderMap,
    body: Bytes,
    deadline: Duration,
    gate: Option<SendGate>,
) -> OutgoingRequest {
    let response_limit = EXCERPT;
    OutgoingRequest { method: Method::POST, url, headers, body, deadline, response_limit, gate }
}

impl Dispatcher {
    /// Notes when an endpoint last took a delivery, or did not and why.
    fn note_pulse(&self, endpoint: Uuid, at: Timestamp, sent: Option<&Result<Answer, SendError>>) {
        let pulses = &self.inner.pulses;
        match sent {
            Some(Ok(answer)) if answer.status.is_success() => pulses.succeeded(endpoint, at),
            Some(Ok(answer)) => {
                let hint = status_hint(answer.status.as_u16()).unwrap_or_default();
                let error = format!("answered {}: {hint}", answer.status.as_u16());
                pulses.failed(endpoint, at, &error);
            }
            Some(Err(error)) => pulses.failed(endpoint, at, &error.to_string()),
            // We broke it off ourselves.
            None => {}
        }
    }
}

/// Why a request could not be prepared.
#[derive(Debug)]
enum Unprepared {
    /// The address is not one that may be called.
    Address(String),
    /// Signing failed.
    Crypto(CryptoError),
}

impl From<CryptoError> for Unprepared {
    fn from(error: CryptoError) -> Self {
        Self::Crypto(error)
    }
}

pub(super) fn refused(refusal: &str) -> SendError {
    SendError {
        class: ErrorClass::AddressRefused,
        detail: refusal.to_owned(),
        hint: ErrorClass::AddressRefused.hint(),
        timing: Phases::default(),
        status: None,
    }
}

type Recorded = (Reply, Option<u16>, Option<&'static str>, Option<String>);

fn answered(answer: &Answer, now: Timestamp, told: Told<'_>) -> Recorded {
    let code = answer.status.as_u16();
    let control = receiver_control(&answer.headers);
    let reply = Reply::Status { code, retry_after: retry_after(&answer.headers, now), control };
    let error = (!answer.status.is_success()).then_some("status");
    // A receiver that redirects or echoes would bring the context into the history.
    let body = String::from_utf8_lossy(&answer.body_excerpt);
    let body = told.mask(&body);
    let mut headers = answer.header_texts(HEADERS_KEPT.0, HEADERS_KEPT.1);
    for (_, value) in &mut headers {
        if let Cow::Owned(masked) = told.mask(value) {
            *value = masked;
        }
    }
    let detail = Detail {
        phases: answer.timing.into(),
        address: answer.remote_address.map(|address| address.to_string()),
        headers,
        body: &body,
        truncated: answer.truncated,
        message: None,
        hint: control.map(control_hint).or_else(|| status_hint(code)),
        empty_placeholders: told.empty_placeholders,
        replay: told.is_replay,
    };
    (reply, Some(code), error, serde_json::to_string(&detail).ok())
}

fn unanswered(error: &SendError, told: Told<'_>) -> Recorded {
    let detail = Detail {
        phases: error.timing.into(),
        address: None,
        headers: Vec::new(),
        body: "",
        truncated: false,
        message: Some(&error.detail),
        hint: Some(error.hint),
        empty_placeholders: told.empty_placeholders,
        replay: told.is_replay,
    };
    (Reply::Nothing, None, Some(error.class.as_str()), serde_json::to_string(&detail).ok())
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, CryptoError> {
    HeaderValue::from_str(text).map_err(|_| CryptoError::Malformed { what: "header value" })
}

/// The same without a copy.
fn owned_header_value(text: String) -> Result<HeaderValue, CryptoError> {
    HeaderValue::try_from(text).map_err(|_| CryptoError::Malformed { what: "header value" })
}
