//! Which names can be public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HostVerdict, Policy, Refusal};

/// Last labels that stand for documentation and tests (RFC 2606).
const DOCUMENTATION: [&str; 3] = ["example", "test", "invalid"];
/// Ends of names that only mean something inside of a network.
const PRIVATE_ENDS: [(&str, &str); 5] = [
    ("local", "ends in .local"),
    ("internal", "ends in .internal"),
    ("home.arpa", "ends in .home.arpa"),
    ("lan", "ends in .lan"),
    ("corp", "ends in .corp"),
];
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Judges a name as the URL parser gives it: lower case, in Punycode, percent-decoded.
pub(super) fn verdict(given: &str, port: u16, policy: &Policy) -> HostVerdict {
    let lower = given.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    let refuse = |rule| HostVerdict::NotPublic {
        reason: Refusal::Name { name: given.chars().take(LONGEST_NAME).collect(), rule },
    };
    if name.split('.').any(str::is_empty) {
        return refuse("has an empty label");
    }
    if name.len() > LONGEST_NAME || name.split('.').any(|label| label.len() > LONGEST_LABEL) {
        return refuse("is longer than DNS allows");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(plain) {
        return refuse("has characters that no host name has");
    }
    if ends_in(name, "localhost") {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return if loopback.into_iter().any(|address| policy.allows(address, port)) {
            HostVerdict::Public
        } else {
            refuse("means this machine; the operator can allow 127.0.0.1 with egress.allow")
        };
    }
    let Some((_, last)) = name.rsplit_once('.') else {
        let is_digits = name.starts_with("0x") || name.bytes().all(|byte| byte.is_ascii_digit());
        return if policy.is_development && !is_digits {
            HostVerdict::Public
        } else {
            refuse("is a single label")
        };
    };
    if DOCUMENTATION.contains(&last) {
        return HostVerdict::Documentation;
    }
    let private = PRIVATE_ENDS.iter().find(|(end, _)| ends_in(name, end));
    if let Some((_, rule)) = private.filter(|_| !policy.is_development) {
        return refuse(rule);
    }
    let hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("looks like an address and is none");
    }
    HostVerdict::Public
}

/// Whether the name is the end itself or something below it.
fn ends_in(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}
