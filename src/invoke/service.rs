//! A call from beginning to end: believed, within its rates, prepared, recorded, made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::answer::InvokeAnswer;
use super::directory::Directory;
use super::error::InvokeError;
use super::ledger::{Ledger, Made, Place, Writer};
use super::memory::{Meter, SharedProperties};
use super::placeholders::Filling;
use super::places::Places;
use super::prepared::{Aimed, Prepared, aim, prepare};
use super::proof::{Proof, nobodys_secret};
use super::refusals::Refusals;
use super::request::InvokeRequest;
use super::storage_rates::StorageRates;
use super::target::Target;
use super::tenant::{Tenant, TenantReader};
use crate::config::Origin;
use crate::crypto::{CryptoError, Keys, SecretText, SigningSecret, Verifier};
use crate::delivery::NodeLease;
use crate::egress::{Egress, ErrorClass, Gate, OutgoingRequest, SendError};
use crate::lifecycle::Lifecycle;
use crate::oauth::{AccessToken, Connections, Providers};
use crate::rate::KeyedRate;
use crate::seam::Seam;
use crate::store::{RoutingChange, Store};

/// The bounds of calls.
#[derive(Clone, Debug)]
pub struct InvokeOptions {
    /// The origin of the host's API.
    pub api_base: Option<Origin>,
    /// Calls of one installation a minute.
    pub per_minute: u32,
    /// Calls under way on this node.
    pub under_way: usize,
    /// The time for a whole call.
    pub deadline: Duration,
    /// How much of an answer is handed back, in bytes.
    pub response_bytes: usize,
    /// How many calls are remembered.
    pub kept: u64,
}

/// The rooms that calls need.
#[derive(Clone, Debug)]
pub struct InvokeParts {
    /// The database.
    pub store: Store,
    /// The keys.
    pub keys: Keys,
    /// The door out.
    pub egress: Egress,
    /// Authorisation servers.
    pub providers: Providers,
    /// Hands out tokens.
    pub connections: Connections,
    /// Installations.
    pub lifecycle: Lifecycle,
    /// Whether this node may send.
    pub lease: NodeLease,
    /// Clock and randomness.
    pub seam: Seam,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) seam: Seam,
    pub(super) lifecycle: Lifecycle,
    pub(super) connections: Connections,
    pub(super) directory: Directory,
    pub(super) ledger: Ledger,
    pub(super) storage_rates: StorageRates,
    pub(super) nobodys_secret: SecretText,
    pub(super) nobodys_verifier: Verifier,
    egress: Egress,
    lease: NodeLease,
    rate: KeyedRate<uuid::Uuid>,
    places: Places,
    refusals: Refusals,
    options: InvokeOptions,
}

/// The vendor's way back in. Cloning shares it.
#[derive(Clone)]
pub struct Invoke {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Invoke {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Invoke").finish_non_exhaustive()
    }
}

/// What writes the records of calls; to be run beside the server.
pub struct InvokeWriter(Writer);

impl fmt::Debug for InvokeWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InvokeWriter")
    }
}

impl InvokeWriter {
    /// Writes until told to stop, and then what is left.
    pub async fn run(self, stop: CancellationToken) {
        self.0.run(stop).await;
    }
}

/// A call under way, which is recorded however it ends.
struct Recording {
    place: Option<Place>,
    made: Made,
    started: Instant,
}

impl Recording {
    fn end(mut self, result: &Result<InvokeAnswer, InvokeError>) {
        match result {
            Ok(answer) => self.made.status = Some(answer.status.as_u16()),
            Err(error) => self.made.error = Some(class_of(error)),
        }
        self.write();
    }

    fn write(&mut self) {
        if let Some(place) = self.place.take() {
            self.made.took = self.started.elapsed();
            place.write(self.made.clone());
        }
    }
}

impl Drop for Recording {
    /// The caller went away: the call may have been made.
    fn drop(&mut self) {
        if self.place.is_some() {
            self.made.error = Some("interrupted");
            self.write();
        }
    }
}

fn class_of(error: &InvokeError) -> &'static str {
    match error {
        InvokeError::NoAnswer { class, .. } => class.as_str(),
        InvokeError::NotAllowed(_) => "hostNotAllowed",
        InvokeError::ConnectionBroken { .. } => "connectionBroken",
        InvokeError::Unproven => "installationEnded",
        InvokeError::Unavailable => "unavailable",
        InvokeError::Invalid { .. } => "invalid",
        InvokeError::OAuth(_) => "provider",
        _ => "internal",
    }
}

impl Invoke {
    /// Puts the parts together; also gives what is to be run beside.
    pub fn new(
        parts: InvokeParts,
        options: InvokeOptions,
    ) -> Result<(Self, InvokeWriter), CryptoError> {
        let InvokeParts { store, keys, egress, providers, connections, lifecycle, lease, seam } =
            parts;
        let nobody = SigningSecret::generate(&seam.randomness)?;
        let bytes = seam.randomness.bytes::<32>().map_err(|_| CryptoError::Randomness)?;
        let (ledger, writer) = Ledger::new(store.clone(), seam.clone(), options.kept);
        let meter = Meter::default();
        let reader = TenantReader {
            store: store.clone(),
            keys: keys.clone(),
            providers,
            api_base: options.api_base.clone(),
            properties: Arc::new(SharedProperties::new(meter.clone())),
            meter,
        };
        // A tenth of a minute's calls may come at once.
        let burst = (options.per_minute / 10).max(1);
        let inner = Inner {
            directory: Directory::new(reader, seam.clock.clone()),
            ledger,
            storage_rates: StorageRates::new(&seam.clock),
            nobodys_secret: nobodys_secret(&bytes),
            nobodys_verifier: Verifier::new([&nobody], [])?,
            rate: KeyedRate::new(options.per_minute, burst, seam.clock.clone()),
            places: Places::new(options.under_way),
            refusals: Refusals::new(seam.clock.clone()),
            store,
            keys,
            seam,
            lifecycle,
            connections,
            egress,
            lease,
            options,
        };
        Ok((Self { inner: Arc::new(inner) }, InvokeWriter(writer)))
    }

    /// Follows changes of routing: when this returns, what they ended has no call under way.
    pub async fn apply(&self, changes: &[RoutingChange]) {
        self.inner.directory.apply(changes).await;
    }

    /// The rates of the key-value stores, for those who reach them without invoke.
    pub fn storage_rates(&self) -> &StorageRates {
        &self.inner.storage_rates
    }

    /// Makes a call.
    pub async fn call(
        &self,
        request: &InvokeRequest,
        proof: &Proof<'_>,
    ) -> Result<InvokeAnswer, InvokeError> {
        request.check_unambiguous()?;
        let inner = &self.inner;
        if !inner.lease.is_valid() {
            return Err(InvokeError::Unavailable);
        }
        let came = inner.seam.clock.instant();
        let present = self.held_back(came, self.believe(request, proof).await).await?;
        let tenant = &*present.tenant;
        let what = "the installation calls too often";
        inner.rate.take(tenant.id, 1).map_err(|wait| InvokeError::TooMany { what, wait })?;
        let _place = inner.places.take(tenant.id, &tenant.vendor)?;
        let row = inner.ledger.place().await?;
        self.held_back(came, self.use_up(tenant, proof).await).await?;
        let mut filling = Filling::new(&tenant.values, false);
        let aimed = aim(request, &tenant.reach, &mut filling)?;
        let started = inner.seam.clock.instant();
        let mut recording = Recording {
            place: Some(row),
            made: made(tenant, &aimed, inner.seam.clock.now()),
            started,
        };
        // From here on there is something to tell of, also where the call is refused.
        let result = match prepare(request, aimed, &tenant.org_id, &tenant.reach, filling) {
            Ok(call) => {
                recording.made.connection = call.target.connection().map(str::to_owned);
                let deadline = started + inner.options.deadline;
                tokio::select! {
                    biased;
                    () = tenant.ended.cancelled() => Err(InvokeError::Unproven),
                    made = tokio::time::timeout_at(deadline, self.make(tenant, call, deadline)) => {
                        made.unwrap_or_else(|_| Err(overdue()))
                    }
                }
            }
            Err(refused) => Err(refused),
        };
        recording.end(&result);
        result
    }

    /// Holds a refusal back that says nothing of its reason.
    async fn held_back<T>(
        &self,
        came: Instant,
        result: Result<T, InvokeError>,
    ) -> Result<T, InvokeError> {
        if matches!(result, Err(InvokeError::Unproven)) {
            self.inner.refusals.hold(came).await;
        }
        result
    }

    async fn make(
        &self,
        tenant: &Tenant,
        call: Prepared,
        deadline: Instant,
    ) -> Result<InvokeAnswer, InvokeError> {
        match &call.target {
            Target::Own => self.serve(tenant, &call).await,
            Target::Listed => self.send(tenant, &call, None, deadline).await,
            Target::Trusted(name) | Target::Vetted(name) => {
                let credential = self.credential(tenant, name, &call.url, None).await?;
                let answer = self.send(tenant, &call, Some(&credential), deadline).await?;
                if answer.status != StatusCode::UNAUTHORIZED {
                    return Ok(answer);
                }
                // Once more with a newer token; what is refused then is the upstream's answer.
                let newer = self.credential(tenant, name, &call.url, Some(&credential)).await?;
                if newer.version == credential.version {
                    return Ok(answer);
                }
                self.send(tenant, &call, Some(&newer), deadline).await
            }
        }
    }

    /// Sends a call. Redirects are not followed; any status is an answer.
    async fn send(
        &self,
        tenant: &Tenant,
        call: &Prepared,
        credential: Option<&AccessToken>,
        deadline: Instant,
    ) -> Result<InvokeAnswer, InvokeError> {
        let inner = &self.inner;
        let vetted = match call.target {
            Target::Trusted(_) => inner.egress.trusted(&call.url),
            Target::Vetted(_) | Target::Listed | Target::Own => inner.egress.vet(&call.url),
        };
        let url = vetted.map_err(|refusal| InvokeError::NotAllowed(refusal.to_string()))?;
        let mut headers = call.headers.clone();
        let mut secrets = call.secrets.clone();
        if let Some(credential) = credential {
            let text = format!("{} {}", credential.scheme, credential.token.expose());
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| InvokeError::Unreadable("token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
            secrets.push(credential.token.clone());
        }
        let (lease, ended) = (inner.lease.clone(), tenant.ended.clone());
        let sent = inner
            .egress
            .send(OutgoingRequest {
                method: call.method.clone(),
                url,
                headers,
                body: call.body.clone(),
                deadline: deadline.saturating_duration_since(inner.seam.clock.instant()),
                response_limit: inner.options.response_bytes,
                gate: Some(Gate::new(move || lease.is_valid() && !ended.is_cancelled())),
            })
            .await;
        match sent {
            Ok(answer) => Ok(InvokeAnswer::of_upstream(
                answer.status,
                &answer.headers,
                &answer.body_excerpt,
                answer.truncated,
                &secrets,
            )),
            Err(error) => Err(unsent(error, tenant.ended.is_cancelled())),
        }
    }
}

/// Why nothing was answered. The gate is shut by the end of the installation, which the caller must
/// not be told of, or by the end of this node's lease, after which others serve.
fn unsent(error: SendError, is_ended: bool) -> InvokeError {
    match error.class {
        ErrorClass::AddressRefused => InvokeError::NotAllowed(error.detail),
        ErrorClass::Withdrawn if is_ended => InvokeError::Unproven,
        ErrorClass::Withdrawn => InvokeError::Unavailable,
        class => InvokeError::NoAnswer { class, detail: error.detail },
    }
}

/// The time for all of a call is up: exchanges with the upstream, and what came between them.
fn overdue() -> InvokeError {
    let detail = "the deadline of the call passed".to_owned();
    InvokeError::NoAnswer { class: ErrorClass::Timeout, detail }
}

fn made(tenant: &Tenant, aimed: &Aimed, at: crate::seam::Timestamp) -> Made {
    let host = |url: &Url| match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    Made {
        installation_id: tenant.id,
        at,
        method: aimed.method.to_string(),
        host: host(&aimed.url),
        path: aimed.path.clone(),
        connection: None,
        status: None,
        error: None,
        took: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Phases;

    fn sent(class: ErrorClass) -> SendError {
        SendError {
            class,
            detail: "so".to_owned(),
            hint: class.hint(),
            timing: Phases::default(),
            status: None,
        }
    }

    #[test]
    fn a_shut_gate_is_told_by_who_shut_it() {
        let withdrawn = |is_ended| unsent(sent(ErrorClass::Withdrawn), is_ended);
        assert!(matches!(withdrawn(true), InvokeError::Unproven));
        assert!(matches!(withdrawn(false), InvokeError::Unavailable));
        for is_ended in [true, false] {
            let refused = unsent(sent(ErrorClass::AddressRefused), is_ended);
            assert!(matches!(refused, InvokeError::NotAllowed(_)));
            let silent = unsent(sent(ErrorClass::Timeout), is_ended);
            assert!(matches!(silent, InvokeError::NoAnswer { class: ErrorClass::Timeout, .. }));
        }
    }
}
