//! Test requests: what a delivery would be, sent at once, and what came back told in full.
//!
//! Nothing is stored of them. They pass the same vetting as deliveries, are marked by
//! `X-Mortise-Test: true`, and are shown without securityContext.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;
use uuid::Uuid;

use super::attempt::{
    DESK_JWT, EXCERPT, HEADERS_KEPT, USER_AGENT, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP,
    header_value,
};
use super::concealing::{MASK, Told};
use super::dispatcher::Dispatcher;
use super::hint::status_hint;
use super::own_trial::OwnDestination;
use crate::crypto::{CryptoError, SecurityContext, Signer};
use crate::dialect::{self, Dialect, EventParts, Template};
use crate::egress::{ErrorClass, Gate as SendGate, Outcome, OutgoingRequest, SendError, VettedUrl};
use crate::webhook::own::OwnFace;
use crate::webhook::{Endpoint, Passage, mask_context};

const TEST: HeaderName = HeaderName::from_static("x-mortise-test");

/// How much of our own body is shown, in bytes.
const SHOWN_BODY: usize = 64 * 1_024;

/// The type of the event that a ping sends.
pub const PING_EVENT: &str = "Ping";

/// The event that is sent.
#[derive(Clone, Debug)]
pub struct TrialEvent {
    /// Its type, as the host names it.
    pub event_type: String,
    /// What the webhook's dialect calls it, where it has names of its own.
    pub name: Option<String>,
    /// What is sent instead of the dialect's own body, where triggers or automations call the
    /// webhook.
    pub template: Option<Template>,
    /// Its payload: one JSON text.
    pub payload: Bytes,
    /// The state before it, where the webhook asked for that.
    pub previous: Option<Bytes>,
    /// Query parameters to append.
    pub params: Vec<(String, String)>,
    /// Headers to add.
    pub headers: HeaderMap,
}

/// A webhook that is not saved yet.
#[derive(Debug)]
pub struct UnsavedWebhook {
    /// Its address; or why it may not be called.
    pub destination: Result<VettedUrl, String>,
    /// The address as it was written.
    pub url: Url,
    /// The org that the event is of.
    pub org_id: String,
    /// Its wire format.
    pub dialect: Dialect,
    /// Signs the request.
    pub signer: Signer,
    /// What else its requests are made of.
    pub own: OwnFace,
}

/// What came of a test request.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Whether it was taken, was not, or was never sent.
    pub outcome: TrialOutcome,
    /// Whose doing the outcome is.
    pub by: Party,
    /// What usually lies behind it.
    pub hint: Option<String>,
    /// What was seen, in words, where there was no answer.
    pub error: Option<String>,
    /// What was sent, or would have been.
    pub request: TrialRequest,
    /// What came back.
    pub response: Option<TrialResponse>,
    /// How long it took.
    pub duration: Duration,
}

/// Whether a test request was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialOutcome {
    /// The endpoint answered 2xx.
    Delivered,
    /// It did not.
    Failed,
    /// It was not sent.
    Refused,
}

impl TrialOutcome {
    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// Whose doing something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The receiver, or the way to it.
    Endpoint,
    /// This server.
    Mortise,
}

impl Party {
    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Mortise => "mortise",
        }
    }
}

/// A test request as it is shown.
#[derive(Clone, Debug)]
pub struct TrialRequest {
    /// Its method.
    pub method: String,
    /// Its address, without securityContext.
    pub url: String,
    /// Its headers, without what is secret in them.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// An answer as it is shown.
#[derive(Clone, Debug)]
pub struct TrialResponse {
    /// Its status.
    pub status: u16,
    /// Its headers, up to a bound.
    pub headers: Vec<(String, String)>,
    /// The beginning of its body.
    pub body: String,
    /// Whether more followed.
    pub truncated: bool,
}

/// Where a test request goes.
struct Destination<'a> {
    /// The address, or why it may not be called.
    address: Result<Url, String>,
    org_id: &'a str,
    dialect: Dialect,
    signer: &'a Signer,
    context: Option<&'a SecurityContext>,
    jwt: Option<HeaderValue>,
    gate: SendGate,
}

impl Dispatcher {
    /// Sends a test request to a webhook that exists, whatever its health. One whose installation
    /// is suspended or gone is not called.
    pub async fn try_webhook(
        &self,
        endpoint: &Endpoint,
        event: TrialEvent,
    ) -> Result<Trial, CryptoError> {
        let (routing, lease) = (self.inner.routing.clone(), self.inner.lease.clone());
        let (id, generation) = (endpoint.id, endpoint.generation);
        // As for deliveries: no request of an installation begins after its end was answered.
        let gate = SendGate::new(move || {
            lease.is_valid()
                && routing.endpoint(id).is_some_and(|now| {
                    now.generation == generation && now.passage != Passage::Suspended
                })
        });
        if let Some(own) = &endpoint.own {
            let to = OwnDestination {
                id: endpoint.id,
                address: &endpoint.destination,
                shown_address: None,
                org_id: &endpoint.org_id,
                dialect: endpoint.dialect,
                signer: &endpoint.signer,
                own,
                jwt: match endpoint.dialect {
                    Dialect::Desk => Some(self.desk_jwt(endpoint)?),
                    _ => None,
                },
                gate,
                is_saved: true,
            };
            return Ok(Box::pin(self.send_own_trial(to, event)).await);
        }
        let destination = Destination {
            address: endpoint
                .destination
                .as_ref()
                .map(|vetted| vetted.url().clone())
                .map_err(Clone::clone),
            org_id: &endpoint.org_id,
            dialect: endpoint.dialect,
            signer: &endpoint.signer,
            context: endpoint.security_context.as_ref(),
            jwt: Some(self.desk_jwt(endpoint)?),
            gate,
        };
        self.send_trial(destination, event).await
    }

    /// Sends a test request to an address that is not saved yet.
    pub async fn try_unsaved(&self, webhook: &UnsavedWebhook, event: TrialEvent) -> Trial {
        let lease = self.inner.lease.clone();
        let to = OwnDestination {
            id: self.inner.seam.randomness.id(),
            address: &webhook.destination,
            shown_address: Some(&webhook.url),
            org_id: &webhook.org_id,
            dialect: webhook.dialect,
            signer: &webhook.signer,
            own: &webhook.own,
            jwt: None,
            gate: SendGate::new(move || lease.is_valid()),
            is_saved: false,
        };
        Box::pin(self.send_own_trial(to, event)).await
    }

    async fn send_trial(
        &self,
        to: Destination<'_>,
        event: TrialEvent,
    ) -> Result<Trial, CryptoError> {
        let clock = &self.inner.seam.clock;
        let body = dialect::desk_body(&EventParts {
            event_type: &event.event_type,
            org: to.org_id,
            event_time: clock.now(),
            payload: &event.payload,
            previous: event.previous.as_deref(),
            department: None,
            automation: false,
            actor: None,
        });
        let address = to.address.map(|mut url| {
            if !event.params.is_empty() {
                url.query_pairs_mut().extend_pairs(&event.params);
            }
            url
        });
        let mut headers = event.headers;
        let id: Uuid = self.inner.seam.randomness.id();
        let timestamp = clock.now().seconds();
        let signature = to.signer.sign(&id.to_string(), timestamp, &[&body]);
        headers.insert(header::CONTENT_TYPE, to.dialect.content_type());
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(WEBHOOK_ID, header_value(&id.to_string())?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(WEBHOOK_SIGNATURE, header_value(&signature)?);
        headers.insert(TEST, HeaderValue::from_static("true"));
        if let Some(jwt) = to.jwt {
            headers.insert(DESK_JWT, jwt);
        }
        let shown = TrialRequest {
            method: Method::POST.to_string(),
            url: address.as_ref().map(mask_context).unwrap_or_default(),
            headers: shown_headers(&headers, None),
            body: shown_body(&body),
        };
        let vetted = address
            .and_then(|url| self.inner.egress.vet(&url).map_err(|refusal| refusal.to_string()));
        let vetted = match vetted {
            Ok(vetted) => vetted,
            Err(refusal) => {
                return Ok(not_sent(ErrorClass::AddressRefused.hint(), refusal, shown));
            }
        };
        let started = clock.instant();
        let sent = self
            .inner
            .egress
            .send(OutgoingRequest {
                method: Method::POST,
                url: vetted,
                headers,
                body,
                deadline: self.inner.options.deadline,
                response_limit: EXCERPT,
                gate: Some(to.gate),
            })
            .await;
        Ok(ended(sent, shown, started.elapsed(), Told::of_context(to.context)))
    }
}

/// A request that was never sent, since of what we were to send or where.
pub(super) fn not_sent(hint: &str, error: String, request: TrialRequest) -> Trial {
    Trial {
        outcome: TrialOutcome::Refused,
        by: Party::Mortise,
        hint: Some(hint.to_owned()),
        error: Some(error),
        request,
        response: None,
        duration: Duration::ZERO,
    }
}

/// What came of a request that was sent.
pub(super) fn ended(
    sent: Outcome,
    request: TrialRequest,
    duration: Duration,
    told: Told<'_>,
) -> Trial {
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return unanswered(&error, request, duration),
    };
    let status = answer.status.as_u16();
    let headers = answer.header_texts(HEADERS_KEPT.0, HEADERS_KEPT.1);
    let mask = |text: &str| told.mask(text).into_owned();
    Trial {
        outcome: if answer.status.is_success() {
            TrialOutcome::Delivered
        } else {
            TrialOutcome::Failed
        },
        by: Party::Endpoint,
        hint: status_hint(status).map(str::to_owned),
        error: None,
        request,
        response: Some(TrialResponse {
            status,
            headers: headers.into_iter().map(|(name, value)| (name, mask(&value))).collect(),
            body: mask(&String::from_utf8_lossy(&answer.body_excerpt)),
            truncated: answer.truncated,
        }),
        duration,
    }
}

fn unanswered(error: &SendError, request: TrialRequest, duration: Duration) -> Trial {
    // What was never sent is ours; a name, a port or a certificate that does not work is theirs.
    let is_ours = matches!(
        error.class,
        ErrorClass::AddressRefused
            | ErrorClass::InvalidRequest
            | ErrorClass::Withdrawn
            | ErrorClass::Credentials
    );
    Trial {
        outcome: if is_ours { TrialOutcome::Refused } else { TrialOutcome::Failed },
        by: if is_ours { Party::Mortise } else { Party::Endpoint },
        hint: Some(error.hint.to_owned()),
        error: Some(error.to_string()),
        request,
        response: None,
        duration,
    }
}

/// Whether what a header says is somebody's secret, by its name.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    const SECRET: [&str; 6] = ["authorization", "cookie", "token", "secret", "password", "key"];
    SECRET.iter().any(|word| name.as_str().contains(word))
}

/// Headers for showing: signatures as they are, credentials masked.
pub(super) fn shown_headers(
    headers: &HeaderMap,
    secret: Option<&HeaderName>,
) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let is_secret = secret == Some(name) || value.is_sensitive() || is_credential(name);
            let value = if is_secret {
                MASK.to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), value)
        })
        .collect()
}

pub(super) fn shown_body(body: &Bytes) -> String {
    let shown = body.get(..SHOWN_BODY).unwrap_or(body);
    let mut text = String::from_utf8_lossy(shown).into_owned();
    if shown.len() < body.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_and_signatures_shown() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("hunter2"));
        headers.insert("authorization", HeaderValue::from_static("Bearer hunter2"));
        headers.insert("x-team", HeaderValue::from_static("hunter2"));
        headers.insert("webhook-signature", HeaderValue::from_static("v1,abc"));
        let shown = shown_headers(&headers, Some(&HeaderName::from_static("x-team")));
        assert!(shown.iter().all(|(_, value)| !value.contains("hunter2")), "{shown:?}");
        assert!(shown.contains(&("webhook-signature".to_owned(), "v1,abc".to_owned())));
    }

    #[test]
    fn a_long_body_is_cut() {
        let body = Bytes::from(vec![b'a'; SHOWN_BODY + 1]);
        assert!(shown_body(&body).ends_with('…'));
        assert_eq!(shown_body(&Bytes::from_static(b"{}")), "{}");
    }
}
