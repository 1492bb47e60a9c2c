//! Test requests of orgs' own webhooks, saved or not: rendered and authenticated as deliveries are.

use http::{HeaderValue, Method};
use url::Url;
use uuid::Uuid;

use super::attempt::DESK_JWT;
use super::concealing::Told;
use super::dispatcher::Dispatcher;
use super::own_request::{Occurrence, OwnExchange, Receiver, Unrendered, render, secret_header};
use super::trial::{Trial, TrialEvent, TrialRequest, ended, not_sent, shown_body, shown_headers};
use crate::crypto::Signer;
use crate::dialect::{Dialect, EventParts};
use crate::egress::{ErrorClass, Gate as SendGate, VettedUrl};
use crate::webhook::own::OwnFace;

/// Where a test request of an own webhook goes.
pub(super) struct OwnDestination<'a> {
    pub(super) id: Uuid,
    /// The address, or why it may not be called.
    pub(super) address: &'a Result<VettedUrl, String>,
    /// The address to be shown where it may not be called.
    pub(super) shown_address: Option<&'a Url>,
    pub(super) org_id: &'a str,
    pub(super) dialect: Dialect,
    pub(super) signer: &'a Signer,
    pub(super) own: &'a OwnFace,
    pub(super) jwt: Option<HeaderValue>,
    pub(super) gate: SendGate,
    /// Whether an access token may be kept for it.
    pub(super) is_saved: bool,
}

impl Dispatcher {
    pub(super) async fn send_own_trial(&self, to: OwnDestination<'_>, event: TrialEvent) -> Trial {
        let clock = &self.inner.seam.clock;
        let now = clock.now();
        let parts = EventParts {
            previous: event.previous.as_deref(),
            ..EventParts::new(&event.event_type, to.org_id, now, &event.payload)
        };
        let occurrence = Occurrence {
            event: parts,
            template: event.template.as_ref(),
            name: event.name.as_deref().unwrap_or(&event.event_type),
            delivery_id: self.inner.seam.randomness.id(),
            is_test: true,
            is_replay: false,
        };
        let receiver = Receiver { id: to.id, dialect: to.dialect, own: to.own, signer: to.signer };
        let mut request = match render(to.address, receiver, &occurrence, now) {
            Ok(request) => request,
            Err(unrendered) => {
                let shown = TrialRequest {
                    method: Method::POST.to_string(),
                    url: to.shown_address.map(Url::to_string).unwrap_or_default(),
                    headers: Vec::new(),
                    body: String::new(),
                };
                let (class, reason) = match unrendered {
                    Unrendered::Address(reason) => (ErrorClass::AddressRefused, reason),
                    Unrendered::Content(reason) => (ErrorClass::InvalidRequest, reason),
                };
                return not_sent(class.hint(), reason, shown);
            }
        };
        if !event.params.is_empty() {
            let mut url = request.url.url().clone();
            url.query_pairs_mut().extend_pairs(&event.params);
            // Another query leads to no other host.
            if let Some(vetted) = request.url.with_url(&url) {
                request.url = vetted;
            }
        }
        for (name, value) in &event.headers {
            request.headers.insert(name.clone(), value.clone());
        }
        if let Some(jwt) = to.jwt {
            request.headers.insert(DESK_JWT, jwt);
        }
        let mut told_headers = request.headers.clone();
        // Shown as it is sent, with its secret masked.
        let _is_writable = to.own.authentication.add_to(&mut told_headers);
        let shown = TrialRequest {
            method: request.method.to_string(),
            url: request.url.url().to_string(),
            headers: shown_headers(&told_headers, secret_header(to.own).as_ref()),
            body: shown_body(&request.body),
        };
        let started = clock.instant();
        let deadline = to.dialect.deadline().unwrap_or(self.inner.options.deadline);
        let OwnExchange { sent, secrets } =
            self.exchange_own(receiver, &request, deadline, Some(to.gate), to.is_saved).await;
        let told = Told { secrets: &secrets, ..Told::default() };
        ended(sent, shown, started.elapsed(), told)
    }
}
