//! What every handler can reach.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::access::Authenticator;
use super::answers::Answers;
use super::health::Readiness;
use super::problem::{Code, Problem};
use super::services::Services;
use crate::config::Config;
use crate::crypto::Keys;
use crate::seam::Seam;
use crate::store::{RoutingRevision, Store};
use crate::telemetry::traces::Tracer;

/// What settling returns.
pub type SettleFuture = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

/// Waits until every node has applied a revision of routing.
pub type Settle = Box<dyn Fn(RoutingRevision) -> SettleFuture + Send + Sync>;

/// What the state is made of.
#[derive(Clone, Debug)]
pub struct ApiParts {
    /// The database.
    pub store: Store,
    /// The keys.
    pub keys: Keys,
    /// The configuration, with the address that was really bound.
    pub config: Arc<Config>,
    /// Clock and randomness.
    pub seam: Seam,
}

/// What every handler can reach. Cloning shares it.
#[derive(Clone)]
pub struct ApiState {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ApiParts,
    origin: String,
    answers: Answers,
    authenticator: Authenticator,
    readiness: Readiness,
    ending: CancellationToken,
    settle: OnceLock<Settle>,
    services: OnceLock<Services>,
    document: OnceLock<Bytes>,
    tracer: OnceLock<Tracer>,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiState")
            .field("origin", &self.inner.origin)
            .finish_non_exhaustive()
    }
}

impl ApiState {
    /// A state whose readiness asks for the database.
    pub fn new(parts: ApiParts) -> Self {
        let readiness = Readiness::default();
        let store = parts.store.clone();
        readiness.add("database", move || {
            let store = store.clone();
            Box::pin(async move {
                store.ping().await.map_err(|error| {
                    tracing::warn!(%error, "the database does not answer");
                    "does not answer".to_owned()
                })
            })
        });
        let inner = Inner {
            origin: parts.config.public_url.as_str().trim_end_matches('/').to_owned(),
            answers: Answers::new(parts.store.clone(), parts.keys.ring.clone(), parts.seam.clone()),
            authenticator: Authenticator::new(parts.store.clone(), parts.seam.clock.clone()),
            readiness,
            ending: CancellationToken::new(),
            settle: OnceLock::new(),
            services: OnceLock::new(),
            document: OnceLock::new(),
            tracer: OnceLock::new(),
            parts,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.inner.parts.keys
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.inner.parts.config
    }

    /// Clock and randomness.
    pub fn seam(&self) -> &Seam {
        &self.inner.parts.seam
    }

    /// The origin under which others reach this server, without a slash at its end.
    pub fn origin(&self) -> &str {
        &self.inner.origin
    }

    /// The answers kept for repeated requests.
    pub fn answers(&self) -> &Answers {
        &self.inner.answers
    }

    /// Knows tokens.
    pub fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    /// What must hold for this node to be sent requests.
    pub fn readiness(&self) -> &Readiness {
        &self.inner.readiness
    }

    /// Cancelled when the server takes nothing new: whoever only waits answers then.
    pub fn ending(&self) -> &CancellationToken {
        &self.inner.ending
    }

    /// Sets how revisions are settled. Only the first call counts.
    pub fn settle_with(&self, settle: Settle) {
        let _first_counts = self.inner.settle.set(settle);
    }

    /// Waits until every node has applied a revision; a handler answers only after it. A process
    /// without routing has nobody to wait for.
    pub async fn settle(&self, revision: RoutingRevision) -> Result<(), Problem> {
        match self.inner.settle.get() {
            Some(settle) => settle(revision).await,
            None => Ok(()),
        }
    }

    /// Sets the rooms below. Only the first call counts.
    pub fn serve_with(&self, services: Services) {
        let _first_counts = self.inner.services.set(services);
    }

    /// The rooms below. A process that serves the ground alone has none.
    pub fn services(&self) -> Result<&Services, Problem> {
        self.inner.services.get().ok_or_else(|| Problem::new(Code::ServiceUnavailable))
    }

    /// Sets who records traces. Only the first call counts.
    pub fn trace_with(&self, tracer: Tracer) {
        let _first_counts = self.inner.tracer.set(tracer);
    }

    /// Who records traces, where somebody does.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.inner.tracer.get()
    }

    /// The OpenAPI document, once the router is made.
    pub(crate) fn document(&self) -> Option<&Bytes> {
        self.inner.document.get()
    }

    pub(crate) fn publish_document(&self, document: Bytes) {
        let _first_counts = self.inner.document.set(document);
    }
}
