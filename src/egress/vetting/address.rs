//! The ranges that are not public, and the ports that are not HTTP's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 ranges that are not globally routable (IANA special-purpose registry), or that lead to a
/// cloud's own services. The anycast exceptions inside of 192.0.0.0/24 stay closed: they lead to
/// the network's own routers.
const IPV4: &[([u8; 4], u32, &str)] = &[
    ([0, 0, 0, 0], 8, "this network, RFC 791"),
    ([10, 0, 0, 0], 8, "private network, RFC 1918"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT, RFC 6598"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local, where clouds serve metadata"),
    ([172, 16, 0, 0], 12, "private network, RFC 1918"),
    ([192, 0, 0, 0], 24, "IETF protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation, TEST-NET-1"),
    ([192, 88, 99, 0], 24, "6to4 relays, RFC 7526"),
    ([192, 168, 0, 0], 16, "private network, RFC 1918"),
    ([198, 18, 0, 0], 15, "benchmarks, RFC 2544"),
    ([198, 51, 100, 0], 24, "documentation, TEST-NET-2"),
    ([203, 0, 113, 0], 24, "documentation, TEST-NET-3"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved, RFC 1112"),
    ([168, 63, 129, 16], 32, "a cloud's internal service"),
];

/// IPv6 ranges that are not globally routable. The more telling ones come first; all outside of
/// 2000::/3 is not assigned.
const IPV6: &[(u128, u32, &str)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0]), 128, "the unspecified address"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1]), 128, "loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0]), 96, "IPv4-mapped"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0]), 96, "IPv4-translated, RFC 2765"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0]), 96, "IPv4-compatible"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0]), 96, "NAT64, RFC 6052"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0]), 48, "local NAT64, RFC 8215"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0]), 64, "discard, RFC 6666"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0]), 32, "Teredo, RFC 4380"),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0]), 28, "ORCHID, RFC 4843"),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0]), 28, "ORCHIDv2, RFC 7343"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0]), 23, "IETF protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]), 32, "documentation, RFC 3849"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0]), 16, "6to4, RFC 3056"),
    (v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0]), 16, "6bone, returned"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0]), 20, "documentation, RFC 9637"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0]), 16, "segment routing, RFC 9602"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7, "unique local, RFC 4193"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10, "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0]), 10, "site-local, RFC 3879"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8, "multicast"),
];

/// Addresses at which clouds give credentials to whoever asks, beyond link-local ones.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// Ports on which a plain request could speak to another protocol: the list of the Fetch standard,
/// and the common databases and control ports that answer to whoever reaches them.
const FOREIGN_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    445, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989,
    990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049, 2375, 2379, 3306, 3389, 3659, 4045, 4190,
    5060, 5061, 5432, 5672, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9092,
    10080, 10250, 11211, 27017,
];

/// The bits of an address from its eight segments.
const fn v6(segments: [u16; 8]) -> u128 {
    let mut bits = 0;
    let mut index = 0;
    while index < segments.len() {
        bits = bits << 16 | segments[index] as u128;
        index += 1;
    }
    bits
}

/// Whether another protocol is at home on the port.
pub(super) fn is_foreign_port(port: u16) -> bool {
    FOREIGN_PORTS.binary_search(&port).is_ok()
}

/// The range that makes an address not public; nothing where it is.
pub(super) fn special_range(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            IPV4.iter()
                .find(|(network, length, _)| {
                    (bits ^ Ipv4Addr::from(*network).to_bits()) >> (32 - length) == 0
                })
                .map(|(_, _, name)| *name)
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let named = IPV6
                .iter()
                .find(|(network, length, _)| (bits ^ network) >> (128 - length) == 0)
                .map(|(_, _, name)| *name);
            let global_unicast = bits >> 125 == 1;
            // RFC 5214: behind any prefix, this interface id leads to the IPv4 address in it.
            let is_isatap = matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _]);
            named
                .or((!global_unicast).then_some("not assigned"))
                .or(is_isatap.then_some("ISATAP, RFC 5214"))
        }
    }
}

/// Whether an address may only be allowed by itself, never as part of a network.
pub(super) fn is_sensitive(address: IpAddr) -> bool {
    if METADATA.contains(&address) {
        return true;
    }
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || embedded(address).is_some_and(|inner| is_sensitive(IpAddr::V4(inner)))
        }
    }
}

/// The IPv4 address that an IPv6 address leads to by way of a translator or tunnel.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let joined = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, .., high, low]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low]
        | [0x2002, high, low, ..] => Some(joined(high, low)),
        [0x2001, 0, .., high, low] => Some(joined(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_sorted_for_the_search() {
        assert!(FOREIGN_PORTS.is_sorted());
        for port in [0, 22, 25, 6379, 10080, 27017] {
            assert!(is_foreign_port(port), "{port}");
        }
        for port in [80, 443, 3000, 8080, 8443, 9000, 65535] {
            assert!(!is_foreign_port(port), "{port}");
        }
    }

    #[test]
    fn both_edges_of_every_ipv4_range_are_closed_and_their_neighbours_open() {
        let named = |bits: u32| special_range(IpAddr::V4(Ipv4Addr::from_bits(bits)));
        for (network, length, name) in IPV4 {
            let first = Ipv4Addr::from(*network).to_bits();
            let last = first | u32::MAX.checked_shr(*length).unwrap_or(0);
            for bits in [first, last] {
                assert!(named(bits).is_some(), "{} {name}", Ipv4Addr::from_bits(bits));
            }
        }
        for open in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "168.63.129.15",
        ] {
            assert_eq!(special_range(open.parse().unwrap()), None, "{open}");
        }
    }

    #[test]
    fn metadata_is_found_through_every_disguise() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:0:0:0:0:5601:5601",
            "::ffff:0:169.254.169.254",
            "2606:4700::5efe:a9fe:a9fe",
            "fd00:ec2::23",
        ] {
            assert!(is_sensitive(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "fd00::1", "127.0.0.1", "::1", "2002:808:808::1"] {
            assert!(!is_sensitive(text.parse().unwrap()), "{text}");
        }
    }
}
