//! A call from beginning to end: believed, within its rates, prepared, recorded, made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::answer::InvokeAnswer;
use super::directory::Directory;
use super::error::InvokeError;
use super::ledger::{Ledger, Made, Place, Writer};
use super::prepared::{Prepared, prepare};
use super::proof::{Proof, nobodys_secret};
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

/// How long a caller waits before it comes back where too much is under way.
const SHORTLY: Duration = Duration::from_secs(1);

/// The part of all calls under way that one installation may have.
const SHARE: usize = 8;

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
    places: Arc<Semaphore>,
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
        let reader = TenantReader {
            store: store.clone(),
            keys: keys.clone(),
            providers,
            api_base: options.api_base.clone(),
            places: (options.under_way / SHARE).max(1),
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
            places: Arc::new(Semaphore::new(options.under_way)),
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
        let present = self.believe(request, proof).await?;
        let tenant = &*present.tenant;
        let what = "the installation calls too often";
        inner.rate.take(tenant.id, 1).map_err(|wait| InvokeError::TooMany { what, wait })?;
        let _places = [
            take_place(&tenant.places, "too many calls of the installation are under way")?,
            take_place(&inner.places, "too many calls are under way")?,
        ];
        let call = prepare(request, &tenant.org_id, &tenant.reach, &tenant.values)?;
        let recording = Recording {
            place: Some(inner.ledger.place().await?),
            made: made(tenant, &call, inner.seam.clock.now()),
            started: inner.seam.clock.instant(),
        };
        let result = tokio::select! {
            biased;
            () = tenant.ended.cancelled() => Err(InvokeError::Unproven),
            result = self.make(tenant, call) => result,
        };
        recording.end(&result);
        result
    }

    async fn make(&self, tenant: &Tenant, call: Prepared) -> Result<InvokeAnswer, InvokeError> {
        match &call.target {
            Target::Own => self.serve(tenant, &call).await,
            Target::Trusted(None) | Target::Listed => self.send(tenant, &call, None).await,
            Target::Trusted(Some(name)) | Target::Vetted(name) => {
                let credential = self.credential(tenant.id, name, None).await?;
                let answer = self.send(tenant, &call, Some(&credential)).await?;
                if answer.status != StatusCode::UNAUTHORIZED {
                    return Ok(answer);
                }
                // Once more with a newer token; what is refused then is the upstream's answer.
                let newer = self.credential(tenant.id, name, Some(&credential)).await?;
                if newer.version == credential.version {
                    return Ok(answer);
                }
                self.send(tenant, &call, Some(&newer)).await
            }
        }
    }

    /// Sends a call. Redirects are not followed; any status is an answer.
    async fn send(
        &self,
        tenant: &Tenant,
        call: &Prepared,
        credential: Option<&AccessToken>,
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
                deadline: inner.options.deadline,
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
            Err(error) => Err(unsent(error)),
        }
    }
}

fn unsent(error: SendError) -> InvokeError {
    match error.class {
        ErrorClass::AddressRefused => InvokeError::NotAllowed(error.detail),
        ErrorClass::Withdrawn => InvokeError::Unproven,
        class => InvokeError::NoAnswer { class, detail: error.detail },
    }
}

fn take_place(
    places: &Arc<Semaphore>,
    what: &'static str,
) -> Result<OwnedSemaphorePermit, InvokeError> {
    let permit = Arc::clone(places).try_acquire_owned();
    permit.map_err(|_| InvokeError::TooMany { what, wait: SHORTLY })
}

fn made(tenant: &Tenant, call: &Prepared, at: crate::seam::Timestamp) -> Made {
    let host = |url: &Url| match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    Made {
        installation_id: tenant.id,
        at,
        method: call.method.to_string(),
        host: host(&call.url),
        path: call.path.clone(),
        connection: match &call.target {
            Target::Trusted(connection) => connection.clone(),
            Target::Vetted(connection) => Some(connection.clone()),
            Target::Own | Target::Listed => None,
        },
        status: None,
        error: None,
        took: Duration::ZERO,
    }
}
