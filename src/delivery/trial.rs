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
    header_value, mask_context_text,
};
use super::dispatcher::Dispatcher;
use super::hint::status_hint;
use crate::crypto::{CryptoError, SecurityContext, Signer};
use crate::dialect::{Dialect, EventParts};
use crate::egress::{ErrorClass, Gate as SendGate, OutgoingRequest, SendError};
use crate::webhook::{Endpoint, Passage, mask_context};

const TEST: HeaderName = HeaderName::from_static("x-mortise-test");

/// What stands for a secret.
const MASK: &str = "***";

/// How much of our own body is shown, in bytes.
const SHOWN_BODY: usize = 64 * 1_024;

/// The type of the event that a ping sends.
pub const PING_EVENT: &str = "Ping";

/// The event that is sent.
#[derive(Clone, Debug)]
pub struct TrialEvent {
    /// Its type.
    pub event_type: String,
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
    /// Its address.
    pub url: Url,
    /// The org that the event is of.
    pub org_id: String,
    /// Its wire format.
    pub dialect: Dialect,
    /// Signs the request.
    pub signer: Signer,
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
    pub method: &'static str,
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
    pub async fn try_unsaved(
        &self,
        webhook: &UnsavedWebhook,
        event: TrialEvent,
    ) -> Result<Trial, CryptoError> {
        let lease = self.inner.lease.clone();
        let destination = Destination {
            address: Ok(webhook.url.clone()),
            org_id: &webhook.org_id,
            dialect: webhook.dialect,
            signer: &webhook.signer,
            context: None,
            jwt: None,
            gate: SendGate::new(move || lease.is_valid()),
        };
        self.send_trial(destination, event).await
    }

    async fn send_trial(
        &self,
        to: Destination<'_>,
        event: TrialEvent,
    ) -> Result<Trial, CryptoError> {
        let clock = &self.inner.seam.clock;
        let body = to.dialect.body(&EventParts {
            event_type: &event.event_type,
            org: to.org_id,
            event_time: clock.now(),
            payload: &event.payload,
            previous: event.previous.as_deref(),
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
            method: "POST",
            url: address.as_ref().map(mask_context).unwrap_or_default(),
            headers: shown_headers(&headers),
            body: shown_body(&body),
        };
        let vetted = address
            .and_then(|url| self.inner.egress.vet(&url).map_err(|refusal| refusal.to_string()));
        let vetted = match vetted {
            Ok(vetted) => vetted,
            Err(refusal) => {
                return Ok(Trial {
                    outcome: TrialOutcome::Refused,
                    by: Party::Mortise,
                    hint: Some(ErrorClass::AddressRefused.hint().to_owned()),
                    error: Some(refusal),
                    request: shown,
                    response: None,
                    duration: Duration::ZERO,
                });
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
        let duration = started.elapsed();
        let mask = |text: &str| mask_context_text(text, to.context).into_owned();
        Ok(match sent {
            Ok(answer) => {
                let status = answer.status.as_u16();
                let headers = answer.header_texts(HEADERS_KEPT.0, HEADERS_KEPT.1);
                Trial {
                    outcome: if answer.status.is_success() {
                        TrialOutcome::Delivered
                    } else {
                        TrialOutcome::Failed
                    },
                    by: Party::Endpoint,
                    hint: status_hint(status).map(str::to_owned),
                    error: None,
                    request: shown,
                    response: Some(TrialResponse {
                        status,
                        headers: headers
                            .into_iter()
                            .map(|(name, value)| (name, mask(&value)))
                            .collect(),
                        body: mask(&String::from_utf8_lossy(&answer.body_excerpt)),
                        truncated: answer.truncated,
                    }),
                    duration,
                }
            }
            Err(error) => unanswered(&error, shown, duration),
        })
    }
}

fn unanswered(error: &SendError, request: TrialRequest, duration: Duration) -> Trial {
    // What was never sent is ours; a name, a port or a certificate that does not work is theirs.
    let is_ours = matches!(
        error.class,
        ErrorClass::AddressRefused | ErrorClass::InvalidRequest | ErrorClass::Withdrawn
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

/// Headers for showing: signatures as they are, credentials masked.
pub(super) fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    const SECRET: [&str; 6] = ["authorization", "cookie", "token", "secret", "password", "key"];
    headers
        .iter()
        .map(|(name, value)| {
            let is_secret = SECRET.iter().any(|word| name.as_str().contains(word));
            let value = if is_secret {
                MASK.to_owned()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), value)
        })
        .collect()
}

fn shown_body(body: &Bytes) -> String {
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
        headers.insert("webhook-signature", HeaderValue::from_static("v1,abc"));
        let shown = shown_headers(&headers);
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
