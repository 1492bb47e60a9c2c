//! One entry of `egress.allow`: a network and, where given, the only port in it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::address::is_sensitive;

/// Allows a network that is not public: `10.1.0.0/16`, `10.1.0.0/16:8080`, `127.0.0.1:8080`,
/// `::1/128`, `[::1]/128:8080`, `[fd00::]/8`.
///
/// Link-local and metadata addresses are covered only by a rule for that single address: a network
/// around them, however wide, leaves them closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowRule {
    net: IpNet,
    port: Option<u16>,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot stand in egress.allow: {problem}")]
pub struct InvalidAllowRule {
    text: String,
    problem: &'static str,
}

impl AllowRule {
    /// A rule for a network and, where given, one port of it.
    pub fn new(net: IpNet, port: Option<u16>) -> Result<Self, InvalidAllowRule> {
        let refused = |problem| Err(InvalidAllowRule { text: net.to_string(), problem });
        if net.addr() != net.network() {
            return refused("bits are set after the prefix; write the network's first address");
        }
        if port == Some(0) {
            return refused("there is no port 0");
        }
        if let IpNet::V6(v6) = net
            && v6.prefix_len() >= 96
            && v6.addr().to_ipv4_mapped().is_some()
        {
            return refused("write the IPv4 address itself");
        }
        if net.prefix_len() != net.max_prefix_len()
            && is_sensitive(net.network())
            && is_sensitive(net.broadcast())
        {
            return refused("link-local and metadata addresses are allowed one by one only");
        }
        Ok(Self { net, port })
    }

    /// The network.
    pub fn net(&self) -> IpNet {
        self.net
    }

    /// The only port; every port that is not another protocol's where there is none.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn covers(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        let single = self.net.prefix_len() == self.net.max_prefix_len();
        self.port.is_none_or(|only| only == port)
            && self.net.contains(&address)
            && (single || !is_sensitive(address))
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.net, self.port) {
            (net, None) => write!(formatter, "{net}"),
            (IpNet::V4(net), Some(port)) => write!(formatter, "{net}:{port}"),
            (IpNet::V6(net), Some(port)) => {
                write!(formatter, "[{}]/{}:{port}", net.addr(), net.prefix_len())
            }
        }
    }
}

impl FromStr for AllowRule {
    type Err = InvalidAllowRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let refused = |problem| InvalidAllowRule { text: text.to_owned(), problem };
        let (address, length, port) = split(text)
            .ok_or_else(|| refused("write CIDR or CIDR:port, as 10.0.0.0/8 or [::1]/128:8080"))?;
        let address: IpAddr = address
            .parse()
            .map_err(|_| refused("the address cannot be read; names are not taken"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) => number(length)
                .and_then(|length| u8::try_from(length).ok())
                .ok_or_else(|| refused("the prefix length cannot be read"))?,
        };
        let net = IpNet::new(address, length)
            .map_err(|_| refused("the prefix is longer than the address"))?;
        let port = match port {
            None => None,
            Some(port) => Some(number(port).ok_or_else(|| refused("the port cannot be read"))?),
        };
        Self::new(net, port).map_err(|error| refused(error.problem))
    }
}

impl TryFrom<String> for AllowRule {
    type Error = InvalidAllowRule;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AllowRule> for String {
    fn from(rule: AllowRule) -> Self {
        rule.to_string()
    }
}

/// Digits only: no sign, no space.
fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Address, prefix length and port of the notations that are accepted.
fn split(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']')?;
        if let Some((address, length)) = inside.split_once('/') {
            return match rest.strip_prefix(':') {
                Some(port) => Some((address, Some(length), Some(port))),
                None if rest.is_empty() => Some((address, Some(length), None)),
                None => None,
            };
        }
        let (length, rest) = match rest.strip_prefix('/') {
            Some(rest) => {
                let end = rest.find(':').unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, rest),
        };
        return match rest.strip_prefix(':') {
            Some(port) => Some((inside, length, Some(port))),
            None if rest.is_empty() => Some((inside, length, None)),
            None => None,
        };
    }
    if let Some((address, rest)) = text.split_once('/') {
        return Some(match rest.split_once(':') {
            Some((length, port)) => (address, Some(length), Some(port)),
            None => (address, Some(rest), None),
        });
    }
    match text.split_once(':') {
        // One colon divides an IPv4 address from its port; more of them are an IPv6 address.
        Some((address, port)) if !port.contains(':') => Some((address, None, Some(port))),
        _ => Some((text, None, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_is_read_and_written_back() {
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/8:8080", "10.0.0.0/8:8080"),
            ("127.0.0.1", "127.0.0.1/32"),
            ("127.0.0.1:8080", "127.0.0.1/32:8080"),
            (" 127.0.0.1/32:8080 ", "127.0.0.1/32:8080"),
            ("::1", "::1/128"),
            ("::1/128", "::1/128"),
            ("::1/128:8080", "[::1]/128:8080"),
            ("[::1]", "::1/128"),
            ("[::1]:8080", "[::1]/128:8080"),
            ("[::1]/128", "::1/128"),
            ("[::1]/128:8080", "[::1]/128:8080"),
            ("[fd00::/8]:443", "[fd00::]/8:443"),
            ("[fd00::/8]", "fd00::/8"),
            ("fd00::/8", "fd00::/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("169.254.169.254", "169.254.169.254/32"),
            ("fe80::1", "fe80::1/128"),
        ] {
            let rule: AllowRule = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(rule.to_string(), written, "{text}");
            assert_eq!(rule.to_string().parse::<AllowRule>().unwrap(), rule);
        }
    }

    #[test]
    fn what_cannot_be_a_rule_is_refused_with_a_reason() {
        for text in [
            "",
            "localhost",
            "localhost:80",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "10.0.0.0/",
            "10.0.0.1/8",
            "10.0.0.0/8:",
            "10.0.0.0/8:0",
            "10.0.0.0/8:65536",
            "10.0.0.0/8:+80",
            "10.0.0.0/+8",
            "127.0.0.1:http",
            "::1/129",
            "[::1",
            "[::1]8080",
            "[::1]/128/1",
            "[fd00::/8]x",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.0/104",
            "169.254.0.0/16",
            "169.254.169.0/24",
            "169.254.169.254/31",
            "fe80::/10",
            "fe80::/64",
            "*",
            "10.*",
        ] {
            let error = text.parse::<AllowRule>().unwrap_err();
            assert!(error.to_string().contains("egress.allow"), "{text}: {error}");
        }
    }

    #[test]
    fn a_wide_rule_leaves_metadata_closed_and_a_single_one_opens_it() {
        let covers = |rule: &str, address: &str, port| {
            rule.parse::<AllowRule>().unwrap().covers(address.parse().unwrap(), port)
        };
        assert!(covers("0.0.0.0/0", "10.0.0.1", 80));
        assert!(covers("0.0.0.0/0", "::ffff:10.0.0.1", 80), "it is connected to as 10.0.0.1");
        assert!(!covers("0.0.0.0/0", "169.254.169.254", 80));
        assert!(!covers("0.0.0.0/0", "::ffff:169.254.169.254", 80));
        assert!(!covers("100.64.0.0/10", "100.100.100.200", 80));
        assert!(!covers("fc00::/7", "fd00:ec2::254", 80));
        assert!(!covers("::/0", "2002:a9fe:a9fe::", 80));
        assert!(covers("169.254.169.254", "169.254.169.254", 80));
        assert!(covers("169.254.169.254:80", "169.254.169.254", 80));
        assert!(!covers("169.254.169.254:80", "169.254.169.254", 81));
        assert!(!covers("127.0.0.0/8:8080", "127.0.0.1", 80));
        assert!(!covers("127.0.0.0/8", "128.0.0.1", 80));
        assert!(!covers("0.0.0.0/0", "fd00::1", 80));
    }
}
