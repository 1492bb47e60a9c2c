//! The pooled clients behind the door.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::tls::{Certificate, Identity};
use reqwest::{NoProxy, Proxy, redirect};
use url::Url;

use super::exchange::{self, Outcome, OutgoingRequest, ProbeLayer};
use super::resolver::{Resolver, VettingResolver};
use super::vetting::{Policy, Refusal, Trust, VettedUrl, vet_url};
use crate::crypto::SecretBytes;
use crate::seam::Clock;

/// A kept connection is given up before the usual receiver does so: many close theirs after 5 s,
/// and a request that crosses the closing is lost.
const IDLE: Duration = Duration::from_secs(4);
/// Kept connections of one host; more are closed when they fall idle.
const IDLE_PER_HOST: usize = 256;
/// Time for a whole connection. Where a name has several addresses, each gets its part of it, so
/// that a dead first address leaves time for the second within the deadline.
const CONNECT: Duration = Duration::from_secs(8);

/// How the door is built.
#[derive(Clone, Debug, Default)]
pub struct EgressOptions {
    /// What may be called beyond public addresses.
    pub policy: Policy,
    /// The proxy through which everything goes. It resolves the names, so it must vet addresses
    /// itself; names and literal addresses are still judged here.
    pub proxy: Option<Url>,
    /// A PEM file with certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The `User-Agent` of requests that bring none.
    pub user_agent: String,
    /// Who answers for names.
    pub resolver: Resolver,
}

/// TLS settings of one webhook.
#[derive(Clone, Debug, Default)]
pub struct TlsProfile {
    /// Certificates (PEM) that are trusted besides the others.
    pub extra_roots: Option<Vec<u8>>,
    /// Our certificate and key (PEM), for receivers that ask for one.
    pub identity: Option<SecretBytes>,
    /// Whether any certificate passes; only where the operator allows it.
    pub accept_any_certificate: bool,
}

/// Why the door could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The file of `egress.ca_file` cannot be read.
    #[error("egress.ca_file {path} cannot be read: {source}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Certificates cannot be used.
    #[error("{what} holds no usable PEM certificates")]
    Certificates {
        /// Where they came from.
        what: String,
    },
    /// A client certificate or its key cannot be used.
    #[error("the client certificate and its key are not usable PEM")]
    Identity,
    /// The proxy's address cannot be used.
    #[error("egress.proxy cannot be used; write http://host:port")]
    Proxy,
    /// The client could not be built.
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// The door. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    vetted: reqwest::Client,
    trusted: reqwest::Client,
    policy: Arc<Policy>,
    options: EgressOptions,
    clock: Clock,
}

impl fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Egress").field("policy", &self.0.policy).finish_non_exhaustive()
    }
}

impl Egress {
    /// Builds the door.
    ///
    /// Where the system has no root certificates, https calls fail until it has some or
    /// `egress.ca_file` names some; a warning says so.
    pub fn new(options: EgressOptions, clock: Clock) -> Result<Self, EgressError> {
        Self::with_profile(options, clock, &TlsProfile::default())
    }

    /// The same door with the TLS settings of one webhook, and connections of its own.
    pub fn with_tls(&self, profile: &TlsProfile) -> Result<Self, EgressError> {
        Self::with_profile(self.0.options.clone(), self.0.clock.clone(), profile)
    }

    fn with_profile(
        options: EgressOptions,
        clock: Clock,
        profile: &TlsProfile,
    ) -> Result<Self, EgressError> {
        let policy = Arc::new(options.policy.clone());
        let mut roots = Vec::new();
        if let Some(path) = &options.ca_file {
            roots.extend(read_roots(path)?);
        }
        if let Some(pem) = &profile.extra_roots {
            roots.extend(certificates(pem, "the webhook's own CA")?);
        }
        let build = |trust| build_client(&options, &clock, &policy, &roots, profile, trust);
        let (vetted, trusted) = (build(Trust::Vetted)?, build(Trust::Operator)?);
        Ok(Self(Arc::new(Inner { vetted, trusted, policy, options, clock })))
    }

    /// What is allowed.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// Vets a vendor's or an administrator's URL. What its name resolves to is vetted again
    /// whenever a connection is opened.
    pub fn vet(&self, url: &Url) -> Result<VettedUrl, Refusal> {
        vet_url(url, &self.0.policy)
    }

    /// Takes one of the operator's own URLs (`host.api_base`, an authorisation server) as it is:
    /// whatever its address, http or https. Never for a URL that came from anybody else.
    pub fn trusted(&self, url: &Url) -> Result<VettedUrl, Refusal> {
        VettedUrl::operator(url)
    }

    /// Sends a request and reads the answer up to the limit, within the deadline. Any status is an
    /// answer; redirects are not followed and nothing is retried.
    ///
    /// Dropping the future ends the exchange; what was not written by then is never sent.
    pub async fn send(&self, request: OutgoingRequest) -> Outcome {
        let client = match request.url.trust() {
            Trust::Vetted => &self.0.vetted,
            Trust::Operator => &self.0.trusted,
        };
        exchange::run(client, &self.0.clock, request).await
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door that the rule keeps shut")]
fn build_client(
    options: &EgressOptions,
    clock: &Clock,
    policy: &Arc<Policy>,
    roots: &[Certificate],
    profile: &TlsProfile,
    trust: Trust,
) -> Result<reqwest::Client, EgressError> {
    let proxy_host = options.proxy.as_ref().and_then(Url::host_str).map(Box::from);
    let resolver = || VettingResolver {
        resolver: options.resolver.clone(),
        policy: (trust == Trust::Vetted).then(|| Arc::clone(policy)),
        proxy: proxy_host.clone(),
        clock: clock.clone(),
    };
    let identity = match &profile.identity {
        None => None,
        Some(pem) => Some(Identity::from_pem(pem.expose()).map_err(|_| EgressError::Identity)?),
    };
    let proxy = match &options.proxy {
        None => None,
        Some(url) => {
            let proxy = Proxy::all(url.clone()).map_err(|_| EgressError::Proxy)?;
            // The operator's own services on this machine are not behind the proxy.
            let local = (trust == Trust::Operator)
                .then(|| NoProxy::from_string("localhost,127.0.0.0/8,::1"))
                .flatten();
            Some(proxy.no_proxy(local))
        }
    };
    let prepare = || {
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .user_agent(&options.user_agent)
            .dns_resolver(resolver())
            .connector_layer(ProbeLayer { clock: clock.clone() })
            .tls_danger_accept_invalid_certs(profile.accept_any_certificate);
        if let Some(identity) = identity.clone() {
            builder = builder.identity(identity);
        }
        if let Some(proxy) = proxy.clone() {
            builder = builder.proxy(proxy);
        }
        builder
    };
    let failed = |error: reqwest::Error| EgressError::Client(chain(&error));
    match prepare().tls_certs_merge(roots.iter().cloned()).build() {
        Ok(client) => Ok(client),
        // Most often the system has no root certificates at all, as in a bare container. The
        // server is of use without them; what fails then is each https call, as a TLS error.
        Err(error) => {
            let client = prepare().tls_certs_only(roots.iter().cloned()).build().map_err(failed)?;
            tracing::warn!(
                error = chain(&error),
                "the system's root certificates cannot be used: https calls will fail unless egress.ca_file names some"
            );
            Ok(client)
        }
    }
}

fn read_roots(path: &Path) -> Result<Vec<Certificate>, EgressError> {
    let pem = std::fs::read(path)
        .map_err(|source| EgressError::CaFile { path: path.to_owned(), source })?;
    certificates(&pem, &format!("egress.ca_file {}", path.display()))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<Certificate>, EgressError> {
    Certificate::from_pem_bundle(pem)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| EgressError::Certificates { what: what.to_owned() })
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
