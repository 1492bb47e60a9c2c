//! The requests of an org's own webhooks: rendered in their dialect, with what the endpoint is to
//! believe us by.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use sea_orm::EntityTrait as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::attempt::{DESK_JWT, EXCERPT, lag_micros, policy_of, refused};
use super::attempt_span::begin_span;
use super::automations;
use super::concealing::Told;
use super::dispatcher::Dispatcher;
use super::endpoint_tokens::{Fetching, NoToken};
use super::lane::{Job, LaneOutcome};
use super::retry::{RetryPolicy, Schedule};
use super::tap::Offered;
use super::views::keep_reason;
use crate::crypto::{SecretText, Signer};
use crate::dialect::{self, Dialect, EventParts, Occasion, Rendered, Template};
use crate::egress::{
    Egress, ErrorClass, Gate as SendGate, Outcome, OutgoingRequest, Phases, SendError, VettedUrl,
};
use crate::seam::{Timestamp, crash_point};
use crate::store::claims::DeliveryState;
use crate::store::entity::webhook_rule;
use crate::telemetry::METRICS;
use crate::webhook::own::{OwnFace, RequestForm, RoutedRule, add_secret};
use crate::webhook::{Endpoint, Gate};

/// When it is looked again for what this node cannot read.
const ANOTHER_LOOK: Duration = Duration::from_mins(1);

/// Why a delivery is given up whose rule is no more.
const ENDED: &str = "the trigger or automation was deleted or switched off meanwhile";

/// Why a delivery of an automation is given up, with its name.
const OVERTAKEN: &str = "meanwhile an event came that fulfils `unless` of the automation";

/// What is left of a deadline at the least, where fetching a token took long.
const LEAST: Duration = Duration::from_millis(500);

/// What a delivery of an own webhook tells of.
pub(super) struct Occurrence<'a> {
    pub(super) event: EventParts<'a>,
    /// The dialect's name of it.
    pub(super) name: &'a str,
    pub(super) delivery_id: Uuid,
    /// What a trigger or automation sends.
    pub(super) template: Option<&'a Template>,
    pub(super) is_test: bool,
    pub(super) is_replay: bool,
}

/// What is known of the trigger or automation that a delivery is of.
enum RuleState {
    /// It says what is sent.
    Known(Arc<RoutedRule>),
    /// It was removed or switched off.
    Ended,
    /// This node cannot read it; another one may, or this one later.
    Unreadable,
}

/// Whom a request is for.
#[derive(Clone, Copy)]
pub(super) struct Receiver<'a> {
    pub(super) id: Uuid,
    pub(super) dialect: Dialect,
    pub(super) own: &'a OwnFace,
    pub(super) signer: &'a Signer,
}

/// A request without credentials.
#[derive(Debug)]
pub(super) struct OwnRequest {
    pub(super) method: http::Method,
    pub(super) url: VettedUrl,
    pub(super) headers: HeaderMap,
    pub(super) body: bytes::Bytes,
    pub(super) empty_placeholders: Vec<String>,
}

/// Why there is no request.
#[derive(Clone, Debug)]
pub(super) enum Unrendered {
    /// The address may not be called; another time it may.
    Address(String),
    /// Trying again would not help.
    Content(String),
}

/// Renders what a receiver is told.
pub(super) fn render(
    destination: &Result<VettedUrl, String>,
    to: Receiver<'_>,
    occurrence: &Occurrence<'_>,
    at: Timestamp,
) -> Result<OwnRequest, Unrendered> {
    let destination = destination.as_ref().map_err(|reason| Unrendered::Address(reason.clone()))?;
    let occasion = Occasion {
        event: occurrence.event,
        name: occurrence.name,
        delivery_id: occurrence.delivery_id,
        webhook: to.own.as_seen(to.id),
        at,
        signer: to.signer,
        is_test: occurrence.is_test,
        is_replay: occurrence.is_replay,
        settings: &to.own.request,
        template: occurrence.template,
    };
    let rendered = dialect::render(to.dialect, &occasion)
        .map_err(|error| Unrendered::Content(error.to_string()))?;
    let Rendered { method, address, query, headers, body, empty_placeholders } = rendered;
    let url = addressed(destination, address, &query)?;
    Ok(OwnRequest { method, url, headers, body, empty_placeholders })
}

/// The address with what is appended; never another origin than the one that was vetted.
fn addressed(
    destination: &VettedUrl,
    address: Option<Url>,
    query: &[(String, String)],
) -> Result<VettedUrl, Unrendered> {
    if address.is_none() && query.is_empty() {
        return Ok(destination.clone());
    }
    let mut url = address.unwrap_or_else(|| destination.url().clone());
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    destination.with_url(&url).ok_or_else(|| {
        Unrendered::Content("a placeholder would lead the request to another host".to_owned())
    })
}

/// What was sent, and what must not be shown of what came back.
pub(super) struct OwnExchange {
    pub(super) sent: Outcome,
    pub(super) secrets: Vec<SecretText>,
}

impl Dispatcher {
    /// Sends a request with credentials; once more where an access token was refused and another
    /// could be had. All of it within the deadline.
    pub(super) async fn exchange_own(
        &self,
        to: Receiver<'_>,
        request: &OwnRequest,
        deadline: Duration,
        gate: Option<SendGate>,
        is_saved: bool,
    ) -> OwnExchange {
        let inner = &self.inner;
        let own = to.own;
        let egress = match &own.egress {
            Ok(Some(door)) => door,
            _ => &inner.egress,
        };
        let fetching = Fetching {
            store: &inner.store,
            keys: &inner.keys,
            seam: &inner.seam,
            egress,
            board: &inner.options.notices,
            is_saved,
        };
        let end = inner.seam.clock.instant() + deadline;
        let mut secrets = own.concealed();
        // A token that was refused, with the answer that says so.
        let mut refused: Option<(SecretText, Outcome)> = None;
        loop {
            let former = refused.as_ref().map(|(token, _)| token);
            let token = tokio::select! {
                token = inner.tokens.token(to.id, own, fetching, former) => token,
                () = inner.seam.clock.sleep(self.left(end)) => Err(NoToken::late()),
            };
            let token = match (token, refused.take()) {
                // Nothing better is to be had: the refusal is the answer.
                (Err(_), Some((_, answer))) => return OwnExchange { sent: answer, secrets },
                (Ok(token), Some((former, answer))) if token.as_ref() == Some(&former) => {
                    return OwnExchange { sent: answer, secrets };
                }
                (Err(error), None) => {
                    let sent = Err(failed(ErrorClass::Credentials, &error.to_string()));
                    return OwnExchange { sent, secrets };
                }
                (Ok(token), former) => token.map(|token| (token, former.is_some())),
            };
            let mut headers = request.headers.clone();
            let mut is_told = own.authentication.add_to(&mut headers);
            if let Some((token, _)) = &token {
                let value = SecretText::new(format!("Bearer {}", token.expose()));
                is_told &= add_secret(&mut headers, header::AUTHORIZATION, value.expose());
                secrets.push(token.clone());
            }
            if !is_told {
                let sent = Err(unsendable("the credentials cannot be written in a header"));
                return OwnExchange { sent, secrets };
            }
            let sent = send(egress, request, headers, self.left(end), gate.clone()).await;
            let is_refused =
                matches!(&sent, Ok(answer) if answer.status == http::StatusCode::UNAUTHORIZED);
            match token {
                Some((token, false)) if is_refused => refused = Some((token, sent)),
                _ => return OwnExchange { sent, secrets },
            }
        }
    }

    fn left(&self, end: Instant) -> Duration {
        end.saturating_duration_since(self.inner.seam.clock.instant()).max(LEAST)
    }

    /// Makes one attempt of an own webhook's delivery, and has its result written.
    pub(super) async fn attempt_own(
        &self,
        job: &mut Job,
        endpoint: &Endpoint,
        own: &OwnFace,
        cancel: CancellationToken,
    ) -> LaneOutcome {
        let clock = &self.inner.seam.clock;
        let (at, started) = (clock.now(), clock.instant());
        let policy = policy_of(endpoint);
        let content = Arc::clone(&job.content);
        let variant = job.variant.clone();
        let wants_previous =
            endpoint.dialect.has_names() || endpoint.wants_previous.contains(&content.event_type);
        let circumstances = &content.circumstances;
        let rule = match variant.as_deref().and_then(RoutedRule::id_of) {
            None => None,
            Some(id) => match self.rule_of(own, id).await {
                RuleState::Known(rule) => Some(rule),
                RuleState::Ended => {
                    // Nobody knows any more what to send.
                    self.give_up(job, ENDED).await;
                    return LaneOutcome::Untried;
                }
                RuleState::Unreadable => {
                    let later = clock.now().plus(ANOTHER_LOOK);
                    self.settle(job, DeliveryState::Pending, Some(later)).await;
                    return LaneOutcome::Untried;
                }
            },
        };
        let rule = rule.as_deref();
        if let Some(rule) = rule
            && job.attempts_before == 0
            && !job.is_replay
        {
            match automations::is_overtaken(&self.inner.store, rule, job.id, &content).await {
                Ok(false) => {}
                Ok(true) => {
                    let reason = format!("{OVERTAKEN} `{}`", rule.name);
                    self.give_up(job, &reason).await;
                    return LaneOutcome::Untried;
                }
                Err(error) => {
                    tracing::error!(delivery = %job.id, %error, "cannot read what an automation waits for");
                    let in_a_minute = clock.now().plus(Duration::from_mins(1));
                    self.settle(job, DeliveryState::Pending, Some(in_a_minute)).await;
                    return LaneOutcome::Untried;
                }
            }
        }
        let occurrence = Occurrence {
            event: EventParts {
                event_type: &content.event_type,
                org: &content.org_id,
                event_time: Timestamp::from_millis(content.event_time),
                payload: &content.payload,
                previous: content.previous.as_deref().filter(|_| wants_previous),
                department: circumstances.department_id.as_deref(),
                automation: circumstances.automation,
                actor: circumstances.actor.as_deref(),
            },
            name: match (rule, variant.as_deref()) {
                (None, Some(variant)) => variant,
                _ => &content.event_type,
            },
            template: rule.map(|rule| &rule.template),
            delivery_id: job.id,
            is_test: false,
            is_replay: job.is_replay,
        };
        let to =
            Receiver { id: endpoint.id, dialect: endpoint.dialect, own, signer: &endpoint.signer };
        let request = match render(&endpoint.destination, to, &occurrence, at) {
            Ok(request) => request,
            Err(unrendered) => {
                let (error, policy) = match unrendered {
                    Unrendered::Address(reason) => (refused(&reason), policy),
                    Unrendered::Content(reason) => (unsendable(&reason), final_policy(&policy)),
                };
                let is_ours = error.class == ErrorClass::InvalidRequest;
                let (outcome, decision) =
                    self.record(job, at, 0, Some(Err(error)), Told::default(), &policy).await;
                // What a value makes unfit to be sent says nothing of the endpoint: nobody called it.
                if !is_ours {
                    self.note_webhook(endpoint, decision);
                }
                return outcome;
            }
        };
        let mut request = match self.with_jwt(endpoint, request) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(delivery = %job.id, %error, "cannot prepare a delivery");
                let in_a_minute = clock.now().plus(Duration::from_mins(1));
                self.settle(job, DeliveryState::Pending, Some(in_a_minute)).await;
                return LaneOutcome::Untried;
            }
        };
        begin_span(job, &mut request.headers, &request.method, request.url.url());
        if self.inner.taps.is_active() {
            let offered = Offered {
                method: &request.method,
                url: request.url.url(),
                headers: &request.headers,
                body: &request.body,
            };
            self.inner.taps.offer(job, endpoint, &offered, at);
        }
        // What an automation puts off is no lag.
        let is_put_off = rule.is_some_and(|rule| rule.after.is_some());
        if job.attempts_before == 0 && !job.is_replay && !is_put_off {
            METRICS.lag_micros.note(lag_micros(job.id, clock.now()));
        }
        crash_point("delivery.before-send");
        let gate = self.gate_of(job);
        let exchange = self.exchange_own(to, &request, endpoint.terms.deadline, Some(gate), true);
        let exchanged = tokio::select! {
            exchanged = exchange => Some(exchanged),
            () = cancel.cancelled() => None,
        };
        crash_point("delivery.after-send");
        let (sent, secrets) = match exchanged {
            Some(OwnExchange { sent, secrets }) => (Some(sent), secrets),
            None => (None, Vec::new()),
        };
        if matches!(&sent, Some(Err(error)) if error.class == ErrorClass::Withdrawn) {
            self.withdraw(job).await;
            return LaneOutcome::Untried;
        }
        let micros = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
        let told = Told {
            context: None,
            secrets: &secrets,
            empty_placeholders: &request.empty_placeholders,
            is_replay: job.is_replay,
        };
        let (outcome, decision) = self.record(job, at, micros, sent, told, &policy).await;
        self.note_webhook(endpoint, decision);
        outcome
    }

    /// Cancels a delivery that nobody tried, and keeps why.
    async fn give_up(&self, job: &mut Job, reason: &str) {
        let inner = &self.inner;
        let kept = keep_reason(&inner.store, job.id, reason, inner.seam.clock.now()).await;
        if let Err(error) = kept {
            tracing::warn!(delivery = %job.id, %error, "cannot keep why a delivery was given up");
        }
        self.settle(job, DeliveryState::Cancelled, None).await;
    }

    /// The trigger or automation that a delivery is of. What the index does not have is asked of the
    /// table: it may have come a moment ago, have gone to another webhook since, or be of a later
    /// release.
    async fn rule_of(&self, own: &OwnFace, id: Uuid) -> RuleState {
        if let Some(rule) = own.rule(id) {
            return RuleState::Known(Arc::clone(rule));
        }
        let row = webhook_rule::Entity::find_by_id(id).one(self.inner.store.reader()).await;
        match row {
            Ok(Some(row)) if row.is_active != 0 => {
                let form =
                    RequestForm { method: own.request.method(), format: own.request.format() };
                RoutedRule::read(&row, form)
                    .map_or(RuleState::Unreadable, |rule| RuleState::Known(Arc::new(rule)))
            }
            Ok(_) => RuleState::Ended,
            Err(error) => {
                tracing::error!(rule = %id, %error, "cannot read the rule of a delivery");
                RuleState::Unreadable
            }
        }
    }

    /// Adds what the desk dialect's receivers may verify beside the signature.
    fn with_jwt(
        &self,
        endpoint: &Endpoint,
        mut request: OwnRequest,
    ) -> Result<OwnRequest, crate::crypto::CryptoError> {
        if endpoint.dialect == Dialect::Desk {
            request.headers.insert(DESK_JWT, self.desk_jwt(endpoint)?);
        }
        Ok(request)
    }

    /// Asked once more when the connection stands: connecting may take its time.
    fn gate_of(&self, job: &Job) -> SendGate {
        let (routing, id, generation) =
            (self.inner.routing.clone(), job.endpoint_id, job.generation);
        let lease = self.inner.lease.clone();
        SendGate::new(move || {
            lease.may_deliver() && matches!(routing.gate(id, generation), Gate::Open(_))
        })
    }
}

async fn send(
    egress: &Egress,
    request: &OwnRequest,
    headers: HeaderMap,
    deadline: Duration,
    gate: Option<SendGate>,
) -> Outcome {
    egress
        .send(OutgoingRequest {
            method: request.method.clone(),
            url: request.url.clone(),
            headers,
            body: request.body.clone(),
            deadline,
            response_limit: EXCERPT,
            gate,
        })
        .await
}

/// The same without another attempt.
fn final_policy(policy: &RetryPolicy) -> RetryPolicy {
    RetryPolicy { schedule: Schedule::new(Vec::new()), ..policy.clone() }
}

fn failed(class: ErrorClass, detail: &str) -> SendError {
    SendError {
        class,
        detail: detail.to_owned(),
        hint: class.hint(),
        timing: Phases::default(),
        status: None,
    }
}

fn unsendable(detail: &str) -> SendError {
    failed(ErrorClass::InvalidRequest, detail)
}

/// The header that an authentication puts its secret in, so that it is masked where it is shown.
pub(super) fn secret_header(own: &OwnFace) -> Option<HeaderName> {
    match &own.authentication.how {
        crate::webhook::own::Authentication::ApiKey { header } => {
            HeaderName::from_bytes(header.as_bytes()).ok()
        }
        _ => None,
    }
}
