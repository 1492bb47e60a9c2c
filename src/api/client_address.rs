//! Where a request comes from: the peer of its connection, or, behind proxies that the operator
//! trusts, the one whom they say that they speak for.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are read only where the peer is such a proxy, and
//! from the right: each proxy adds whom it saw, so that what stands left of the last address that is
//! no trusted proxy was written by whoever sent the request, and is worth nothing.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of whoever made a request. The listener lays it on every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The address that was laid on a request; nothing on one that this process made itself.
    pub(crate) fn of(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get::<Self>().map(|address| address.0)
    }
}

/// The proxies whose word is taken for whom they speak for. Cloning shares the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Those in these networks.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who made a request that came over a connection of this peer.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return ClientAddress(peer);
        }
        let given = headers.contains_key(X_FORWARDED_FOR).then(|| {
            let hops = elements(headers, &X_FORWARDED_FOR);
            self.last_stranger(peer, hops.rev().map(|hop| hop.and_then(node)))
        });
        let standard = headers.contains_key(FORWARDED).then(|| {
            let hops = elements(headers, &FORWARDED);
            self.last_stranger(peer, hops.rev().map(|hop| hop.and_then(forwarded_for)))
        });
        let address = match (given, standard) {
            // A proxy writes one of them and hands the other on as it came from outside: where they
            // do not say the same, nobody knows which.
            (Some(one), Some(other)) if one != other => peer,
            (Some(one), _) | (None, Some(one)) => one,
            (None, None) => peer,
        };
        ClientAddress(address)
    }

    /// The first address from the right that is no trusted proxy's; where there is none, or what
    /// stands there is no address, the last proxy that was trusted.
    fn last_stranger(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut nearest = peer;
        for hop in hops {
            let Some(address) = hop else { return nearest };
            nearest = address;
            if !self.trust(address) {
                return nearest;
            }
        }
        nearest
    }
}

/// The elements of a list header over all its lines, from left to right; nothing for a line that
/// cannot be read. Commas in quotes are no separators (RFC 9110, section 5.6.1).
fn elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> std::vec::IntoIter<Option<&'h str>> {
    let mut found = Vec::new();
    for line in headers.get_all(name) {
        let Ok(line) = line.to_str() else {
            found.push(None);
            continue;
        };
        let mut is_quoted = false;
        let mut begins = 0;
        let mut is_escaped = false;
        for (place, letter) in line.char_indices() {
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                ',' if !is_quoted => {
                    found.push(Some(line[begins..place].trim()));
                    begins = place + 1;
                }
                _ => {}
            }
        }
        found.push(if is_quoted { None } else { Some(line[begins..].trim()) });
    }
    found.into_iter()
}

/// The address of a node: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    let bare = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let is_port = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        (is_port && inside.contains(':')).then_some(inside)?
    } else {
        match text.split_once(':') {
            // One colon stands before a port; more are of an IPv6 address.
            Some((host, port)) if !port.contains(':') => is_port(port).then_some(host)?,
            _ => text,
        }
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What `for` says in an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pair = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    let quoted = pair.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    node(quoted.unwrap_or(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "x-forwarded-for";
    const STANDARD: &str = "forwarded";

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let proxies = TrustedProxies::new(&networks);
        let ClientAddress(address) = proxies.client(peer.parse().unwrap(), &headers);
        address.to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let says = [(GIVEN, "198.51.100.7")];
        assert_eq!(client("10.0.0.1", &says), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &says), "198.51.100.7");
        assert_eq!(client("203.0.113.9", &says), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, http::HeaderValue::from_static("198.51.100.7"));
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(TrustedProxies::default().client(peer, &headers), ClientAddress(peer));
    }

    #[test]
    fn what_a_client_wrote_itself_is_passed_over() {
        for (lines, said) in [
            (vec!["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (vec!["1.2.3.4", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (vec!["1.2.3.4,198.51.100.7:5123,fd00::5"], "198.51.100.7"),
            (vec!["10.9.9.9, 198.51.100.7"], "198.51.100.7"),
            (vec!["198.51.100.7", "nonsense"], "10.0.0.1"),
            (vec!["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (vec!["198.51.100.7, "], "10.0.0.1"),
            (vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (vec!["[2001:db8::1]:443"], "2001:db8::1"),
            (vec!["2001:db8::1"], "2001:db8::1"),
            (vec!["::ffff:198.51.100.7"], "198.51.100.7"),
            (vec!["198.51.100.7:x"], "10.0.0.1"),
            (vec!["[198.51.100.7]"], "10.0.0.1"),
            (vec![""], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines.into_iter().map(|line| (GIVEN, line)).collect();
            assert_eq!(client("10.0.0.1", &lines), said, "{lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_alike() {
        for (line, said) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1", "2001:db8::1"),
            ("for=1.2.3.4, proto=https;for=\"198.51.100.7:80\", for=10.0.0.2", "198.51.100.7"),
            ("for=198.51.100.7;host=\"a,b\"", "198.51.100.7"),
            ("for=1.2.3.4;host=\"\\\",for=5.6.7.8\"", "1.2.3.4"),
            ("for=_hidden", "10.0.0.1"),
            ("for=\"198.51.100.7", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[(STANDARD, line)]), said, "{line}");
        }
    }

    #[test]
    fn two_headers_that_differ_say_nothing() {
        let (given, standard) = ("198.51.100.7", "for=198.51.100.7");
        assert_eq!(client("10.0.0.1", &[(GIVEN, given), (STANDARD, standard)]), given);
        let differ = [(GIVEN, given), (STANDARD, "for=1.2.3.4")];
        assert_eq!(client("10.0.0.1", &differ), "10.0.0.1");
    }
}
