//! The pooled clients behind the door.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_rustls::TlsConnector;
use url::Url;

use super::answer::Outcome;
use super::connecting::Connector;
use super::connections::Connections;
use super::exchange::{self, Carrier, OutgoingRequest};
use super::library::Library;
use super::own_server::OwnServer;
use super::resolver::Resolver;
use super::tls::client_config;
use super::vetting::{Policy, Refusal, Trust, VettedUrl, vet_url};
use crate::crypto::SecretBytes;
use crate::seam::Clock;

/// A kept connection is given up before the usual receiver does so: many close theirs after 5 s,
/// and a request that crosses the closing is lost.
pub(super) const IDLE: Duration = Duration::from_secs(4);
/// Kept connections of one host; more are closed when they fall idle.
pub(super) const IDLE_PER_HOST: usize = 256;
/// Time for a whole connection, within the deadline of its request.
pub(super) const CONNECT: Duration = Duration::from_secs(8);

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
    /// This very server, whose inspectors may be called; none in a process that serves nothing.
    pub own_server: Option<OwnServer>,
}

/// TLS settings of one webhook.
#[derive(Clone, Debug, Default)]
pub struct TlsProfile {
    /// Certificates (PEM) that are trusted besides the others.
    pub extra_roots: Option<Vec<u8>>,
    /// Our certificate and key (PEM), for receivers that ask for one.
    pub identity: Option<SecretBytes>,
    /// The one certificate (PEM) that passes, whatever it says of itself and whoever signed it.
    pub pinned: Option<Vec<u8>>,
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
    vetted: Carrier,
    trusted: Carrier,
    /// Calls the inspectors of this server, at its own listener.
    inspectors: Option<Carrier>,
    policy: Arc<Policy>,
    options: EgressOptions,
    clock: Clock,
    /// The door for orgs that are for development, opened when it is first needed.
    development: OnceLock<Egress>,
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
        let tls = client_config(&options, profile)?;
        let library =
            |tls, trust| Library::new(&options, &clock, &policy, tls, trust).map(Carrier::Library);
        let trusted = library(tls.clone(), Trust::Operator)?;
        let own = |tls, listener| {
            let connector = Connector {
                resolver: options.resolver.clone(),
                policy: Arc::clone(&policy),
                tls: TlsConnector::from(Arc::new(tls)),
                clock: clock.clone(),
                listener,
            };
            Carrier::Own(Connections::new(connector, &options.user_agent, clock.clone()))
        };
        let inspectors =
            options.own_server.as_ref().map(|server| own(tls.clone(), Some(server.listener())));
        let vetted =
            if options.proxy.is_some() { library(tls, Trust::Vetted)? } else { own(tls, None) };
        let development = OnceLock::new();
        Ok(Self(Arc::new(Inner {
            vetted,
            trusted,
            inspectors,
            policy,
            options,
            clock,
            development,
        })))
    }

    /// The door for orgs that are for development: private addresses and plain http too, but neither
    /// link-local addresses, nor those where clouds serve credentials, nor this server's own ports.
    pub fn development(&self) -> Result<Self, EgressError> {
        if self.is_development() {
            return Ok(self.clone());
        }
        if let Some(door) = self.0.development.get() {
            return Ok(door.clone());
        }
        let own = &self.0.options.own_server;
        let own_ports = own.iter().flat_map(|server| server.ports().iter().copied()).collect();
        let mut options = self.0.options.clone();
        options.policy = (self.0.policy.for_development(own_ports))
            .map_err(|error| EgressError::Client(error.to_string()))?;
        let door = Self::new(options, self.0.clock.clone())?;
        Ok(self.0.development.get_or_init(|| door).clone())
    }

    /// Whether it is a door for orgs that are for development.
    pub fn is_development(&self) -> bool {
        self.0.policy.is_development
    }

    /// What is allowed.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// Vets a vendor's or an administrator's URL. What its name resolves to is vetted again
    /// whenever a connection is opened.
    ///
    /// An inspector of this very server is called whatever the server's address and scheme: nothing
    /// else is there to be reached.
    pub fn vet(&self, url: &Url) -> Result<VettedUrl, Refusal> {
        match &self.0.options.own_server {
            Some(server) if server.has_inspector(url) => VettedUrl::inspector(url),
            _ => vet_url(url, &self.0.policy),
        }
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
        let carrier = match request.url.trust() {
            Trust::Vetted => &self.0.vetted,
            Trust::Operator => &self.0.trusted,
            // Only a door that knows its server makes such an address.
            Trust::Inspector => self.0.inspectors.as_ref().unwrap_or(&self.0.vetted),
        };
        exchange::run(carrier, &self.0.clock, request).await
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
