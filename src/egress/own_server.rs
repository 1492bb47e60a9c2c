//! Which addresses are inspectors of this very server, and where its listener is.
//!
//! Deliveries may go to an inspector, whose address is this server's public one. That name may lead
//! to a load balancer on a private address, or to loopback on a developer's machine, which are not
//! called otherwise. So the listener is connected to directly, and only for paths below
//! `/inspect/`: nothing of the API, the pages or another service can be reached by this way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Origin, Url};

/// Below which path of this server inspectors are.
const INSPECT: &str = "/inspect/";

/// This very server.
#[derive(Clone, Debug)]
pub struct OwnServer {
    origin: Origin,
    listener: SocketAddr,
    /// Where it listens, for inspectors and for everything else.
    ports: Vec<u16>,
}

impl OwnServer {
    /// The server with a public address and a listener; one that listens everywhere is called on
    /// the loopback interface.
    pub fn new(public_url: &Url, listen: SocketAddr) -> Self {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let listener = SocketAddr::new(ip, listen.port());
        Self { origin: public_url.origin(), listener, ports: vec![listen.port()] }
    }

    /// The same with another port of this server's, such as that of its metrics.
    #[must_use]
    pub fn with_port(mut self, port: Option<u16>) -> Self {
        self.ports.extend(port);
        self
    }

    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Whether a URL is one of this server's inspectors.
    pub(super) fn has_inspector(&self, url: &Url) -> bool {
        url.origin() == self.origin
            && url.username().is_empty()
            && url.password().is_none()
            && is_inspector(url)
    }

    pub(super) fn listener(&self) -> SocketAddr {
        self.listener
    }
}

/// Whether a path is an inspector's. The URL's own parser has resolved all dot segments, encoded
/// ones too; a backslash is a slash to it.
pub(super) fn is_inspector(url: &Url) -> bool {
    url.path().strip_prefix(INSPECT).is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inspectors_of_this_server_are_its_own() {
        let public = Url::parse("https://mortise.example").expect("a URL");
        let server = OwnServer::new(&public, "0.0.0.0:8080".parse().expect("an address"));
        assert_eq!(server.listener(), "127.0.0.1:8080".parse().expect("an address"));
        for (url, is_own) in [
            ("https://mortise.example/inspect/abc", true),
            ("https://mortise.example:443/inspect/abc/d?orgId=1", true),
            ("https://MORTISE.example/inspect/abc", true),
            ("http://mortise.example/inspect/abc", false),
            ("https://mortise.example:8443/inspect/abc", false),
            ("https://mortise.example.evil.example/inspect/abc", false),
            ("https://u@mortise.example/inspect/abc", false),
            ("https://mortise.example/inspect/", false),
            ("https://mortise.example/inspect", false),
            ("https://mortise.example/api/v1/tokens", false),
            ("https://mortise.example/inspect/../api/v1/tokens", false),
            ("https://mortise.example/inspect/%2e%2e/api/v1/tokens", false),
            ("https://mortise.example/inspect/a/%2E./../../api/v1/tokens", false),
            ("https://mortise.example/inspect\\..\\metrics", false),
            ("https://mortise.example//inspect/abc", false),
        ] {
            let url = Url::parse(url).expect("a URL");
            assert_eq!(server.has_inspector(&url), is_own, "{url}");
        }
    }
}
