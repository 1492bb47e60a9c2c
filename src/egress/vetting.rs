//! Which URLs and addresses may be called. Pure: no name is resolved here.
//!
//! Only what is globally routable passes, by IANA's special-purpose registries for IPv4 and IPv6
//! and with everything left out that embeds another address (RFC 4291, 6052, 3056, 4380). The
//! operator's [`Policy::allow`] is the only exception.

mod address;
mod allow;
mod name;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use url::{Host, Position, Url};

use super::own_server;

pub use allow::{AllowRule, InvalidAllowRule};

/// What the operator allows beyond public addresses, and whether plain http may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Addresses that may be called although they are not public.
    pub allow: Vec<AllowRule>,
    /// Whether only `https` URLs may be called.
    pub require_https: bool,
    /// Ports that may not be called, besides those of other protocols.
    pub refuse_ports: Vec<u16>,
    /// Whether it is for orgs that are for development: names that mean something inside of a network
    /// only are judged by their addresses.
    pub is_development: bool,
    /// Ports of this very server: never called at a loopback address.
    pub own_ports: Vec<u16>,
}

/// Networks that an org for development may call. Link-local and metadata addresses are in none of
/// them for a rule of a whole network.
const OF_DEVELOPMENT: [&str; 6] =
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "[fc00::]/7"];

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            require_https: true,
            refuse_ports: Vec::new(),
            is_development: false,
            own_ports: Vec::new(),
        }
    }
}

impl Policy {
    /// The same for orgs that are for development: private addresses and plain http too, but never a
    /// listener of this server.
    pub(super) fn for_development(&self, own_ports: Vec<u16>) -> Result<Self, InvalidAllowRule> {
        let mut policy = self.clone();
        for network in OF_DEVELOPMENT {
            policy.allow.push(network.parse()?);
        }
        policy.require_https = false;
        policy.is_development = true;
        policy.own_ports = own_ports;
        Ok(policy)
    }

    fn allows(&self, address: IpAddr, port: u16) -> bool {
        self.allow.iter().any(|rule| rule.covers(address, port))
    }

    /// Refuses ports at which another protocol is at home, and the operator's own list. A rule
    /// that names the port lifts the ban on it.
    fn vet_port(&self, port: u16) -> Result<(), Refusal> {
        let is_banned = address::is_foreign_port(port) || self.refuse_ports.contains(&port);
        let is_named = || self.allow.iter().any(|rule| rule.port() == Some(port));
        if is_banned && !is_named() { Err(Refusal::Port { port }) } else { Ok(()) }
    }
}

/// Why a URL or an address may not be called. Contains nothing but host, address and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address is not public.
    #[error(
        "{address} is not a public address ({range}); the operator can allow it with egress.allow"
    )]
    Address {
        /// The address.
        address: IpAddr,
        /// The range that it belongs to.
        range: &'static str,
    },
    /// The name cannot be public.
    #[error("the host {name} cannot be public: it {rule}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// Another protocol is at home on the port, or the operator refuses it.
    #[error("port {port} belongs to another protocol or is refused; use 443 or another port")]
    Port {
        /// The port.
        port: u16,
    },
    /// Plain http, although https is required.
    #[error("the URL must be https (egress.require_https is on)")]
    HttpsRequired,
    /// Neither http nor https.
    #[error("the URL must be absolute and https, not {scheme}")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL carries a user name or password.
    #[error("the URL must not contain a user name or password")]
    Userinfo,
    /// The URL has no host.
    #[error("the URL must name a host")]
    NoHost,
}

impl Refusal {
    /// A stable name for the reason.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Address { .. } => "addressNotPublic",
            Self::Name { .. } => "nameNotPublic",
            Self::Port { .. } => "portRefused",
            Self::HttpsRequired => "httpsRequired",
            Self::Scheme { .. } => "schemeRefused",
            Self::Userinfo => "userinfoRefused",
            Self::NoHost => "hostMissing",
        }
    }
}

/// What a host can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostVerdict {
    /// It can be public, or the operator allows it.
    Public,
    /// A name for documentation and tests (RFC 2606): never more than a warning.
    Documentation,
    /// It cannot be public.
    NotPublic {
        /// Why.
        reason: Refusal,
    },
}

/// Whether a URL was vetted, or is one of the operator's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// A vendor's or an administrator's: addresses are vetted when they are resolved.
    Vetted,
    /// The operator's own: called whatever its address and scheme.
    Operator,
    /// An inspector of this very server: its listener is connected to, without asking for the name.
    Inspector,
}

/// Where connections go: what two URLs must share to use the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) is_https: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

/// How a URL is written in a request, made ready once.
#[derive(Clone)]
struct Written {
    origin: Arc<Origin>,
    target: Uri,
    host: HeaderValue,
}

impl Written {
    /// Nothing where it cannot be written, as with a path of more than 65,534 bytes.
    fn of(url: &Url) -> Option<Self> {
        let port = url.port_or_known_default()?;
        let name = url.host_str()?;
        let host = match url.port() {
            Some(port) => HeaderValue::try_from(format!("{name}:{port}")),
            None => HeaderValue::try_from(name),
        };
        let origin =
            Origin { is_https: url.scheme() == "https", host: url.host()?.to_owned(), port };
        Some(Self {
            origin: Arc::new(origin),
            target: Uri::try_from(&url[Position::BeforePath..Position::AfterQuery]).ok()?,
            host: host.ok()?,
        })
    }
}

/// A URL that may be called. Cloning is cheap. Only vetting makes one, and only
/// [`Egress::send`](super::Egress::send) takes one.
#[derive(Clone)]
pub struct VettedUrl {
    inner: Arc<Vetted>,
}

#[derive(Clone)]
struct Vetted {
    url: Url,
    port: u16,
    trust: Trust,
    documentation: bool,
    written: Option<Written>,
}

impl VettedUrl {
    fn new(url: &Url, port: u16, trust: Trust, documentation: bool) -> Self {
        let written = Written::of(url);
        Self { inner: Arc::new(Vetted { url: url.clone(), port, trust, documentation, written }) }
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.inner.url
    }

    /// Whether its name is one for documentation, which no receiver has.
    pub fn is_documentation(&self) -> bool {
        self.inner.documentation
    }

    /// The same destination with another path and query.
    ///
    /// # Errors
    /// Gives nothing where the origin or the user name differs: that must be vetted anew.
    pub fn with_url(&self, url: &Url) -> Option<Self> {
        let own = self.url();
        let same = url.origin() == own.origin()
            && url.username() == own.username()
            && url.password() == own.password()
            && (self.trust() != Trust::Inspector || own_server::is_inspector(url));
        let Vetted { port, trust, documentation, .. } = *self.inner;
        same.then(|| Self::new(url, port, trust, documentation))
    }

    pub(super) fn port(&self) -> u16 {
        self.inner.port
    }

    pub(super) fn trust(&self) -> Trust {
        self.inner.trust
    }

    /// Origin, request target and `Host`, where it can be written.
    pub(super) fn written(&self) -> Option<(&Arc<Origin>, &Uri, &HeaderValue)> {
        self.inner.written.as_ref().map(|written| (&written.origin, &written.target, &written.host))
    }

    /// Accepts the address of an inspector of this server.
    pub(super) fn inspector(url: &Url) -> Result<Self, Refusal> {
        let (_, port) = host_and_port(url)?;
        Ok(Self::new(url, port, Trust::Inspector, false))
    }

    /// Accepts one of the operator's own URLs as it is.
    pub(super) fn operator(url: &Url) -> Result<Self, Refusal> {
        let (_, port) = host_and_port(url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme { scheme: url.scheme().to_owned() });
        }
        Ok(Self::new(url, port, Trust::Operator, false))
    }
}

/// Shows the origin only: the query may hold a securityContext.
impl fmt::Debug for VettedUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("VettedUrl")
            .field("origin", &self.url().origin().ascii_serialization())
            .field("trust", &self.trust())
            .finish_non_exhaustive()
    }
}

/// Whether a URL may be called, as far as it shows without resolving its name.
pub fn vet_url(url: &Url, policy: &Policy) -> Result<VettedUrl, Refusal> {
    match url.scheme() {
        "https" => {}
        "http" if !policy.require_https => {}
        "http" => return Err(Refusal::HttpsRequired),
        other => return Err(Refusal::Scheme { scheme: other.to_owned() }),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Userinfo);
    }
    let (host, port) = host_and_port(url)?;
    let documentation = match host_verdict(&host, port, policy) {
        HostVerdict::Public => false,
        HostVerdict::Documentation => true,
        HostVerdict::NotPublic { reason } => return Err(reason),
    };
    Ok(VettedUrl::new(url, port, Trust::Vetted, documentation))
}

/// What a host can be, for a call to the given port.
pub fn host_verdict(host: &Host<&str>, port: u16, policy: &Policy) -> HostVerdict {
    let address = match host {
        Host::Domain(name) => {
            return match (name::verdict(name, port, policy), policy.vet_port(port)) {
                (HostVerdict::NotPublic { reason }, _) | (_, Err(reason)) => {
                    HostVerdict::NotPublic { reason }
                }
                (verdict, Ok(())) => verdict,
            };
        }
        Host::Ipv4(address) => IpAddr::V4(*address),
        Host::Ipv6(address) => IpAddr::V6(*address),
    };
    match vet_address(address, port, policy) {
        Ok(()) => HostVerdict::Public,
        Err(reason) => HostVerdict::NotPublic { reason },
    }
}

/// Whether an address may be connected to at the given port.
pub fn vet_address(address: IpAddr, port: u16, policy: &Policy) -> Result<(), Refusal> {
    if policy.own_ports.contains(&port) && address.to_canonical().is_loopback() {
        return Err(Refusal::Port { port });
    }
    if !policy.allows(address, port)
        && let Some(range) = address::special_range(address)
    {
        return Err(Refusal::Address { address, range });
    }
    policy.vet_port(port)
}

fn host_and_port(url: &Url) -> Result<(Host<&str>, u16), Refusal> {
    let host = url.host().ok_or(Refusal::NoHost)?;
    let port = url.port_or_known_default().ok_or(Refusal::NoHost)?;
    Ok((host, port))
}
