//! The table of notations: every way to write a host that somebody has tried to get past a check
//! like ours with, and the verdict.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use url::Url;

use super::{HostVerdict, Policy, host_verdict, vet_address, vet_url};

/// What is expected of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// May be called.
    Public,
    /// A documentation name.
    Documentation,
    /// Refused with this code.
    Refused(&'static str),
    /// No URL at all.
    Unreadable,
}

use Expected::{Documentation, Public, Refused, Unreadable};

const ADDRESS: Expected = Refused("addressNotPublic");
const NAME: Expected = Refused("nameNotPublic");
const PORT: Expected = Refused("portRefused");

/// Hosts behind `https://`, with what follows them.
const HOSTS: &[(&str, Expected)] = &[
    // IPv4 loopback in every base, length and mixture.
    ("127.0.0.1", ADDRESS),
    ("127.0.0.1.", ADDRESS),
    ("127.1", ADDRESS),
    ("127.0.1", ADDRESS),
    ("127.255.255.254", ADDRESS),
    ("2130706433", ADDRESS),
    ("0x7f000001", ADDRESS),
    ("0X7F000001", ADDRESS),
    ("0x7f.0.0.1", ADDRESS),
    ("0x7f.0x0.0x0.0x1", ADDRESS),
    ("0x7f.1", ADDRESS),
    ("017700000001", ADDRESS),
    ("0177.0.0.1", ADDRESS),
    ("0177.0000.0000.0001", ADDRESS),
    ("0177.1", ADDRESS),
    ("127.0.0.01", ADDRESS),
    ("127.0.0x1", ADDRESS),
    // Octal 127 is 87, which is public.
    ("00000127.0.0.1", Public),
    ("00000177.0.0.1", ADDRESS),
    ("%31%32%37.0.0.1", ADDRESS),
    ("%31%32%37%2e%30%2e%30%2e%31", ADDRESS),
    ("127%2E0.0.1", ADDRESS),
    ("１２７.0.0.1", ADDRESS),
    ("127。0。0。1", ADDRESS),
    ("①②⑦.⓪.⓪.①", ADDRESS),
    ("127.0.0.1:8443", ADDRESS),
    ("127.0.0.1:443", ADDRESS),
    ("127.0.0.1/path?query", ADDRESS),
    ("127.0.0.1\\@hooks.example.com/", ADDRESS),
    ("0", ADDRESS),
    ("0.0.0.0", ADDRESS),
    ("0x0", ADDRESS),
    ("00", ADDRESS),
    ("0.1.2.3", ADDRESS),
    // Private, shared, link-local, metadata.
    ("10.0.0.1", ADDRESS),
    ("10.1", ADDRESS),
    ("012.0.0.1", ADDRESS),
    ("167772161", ADDRESS),
    ("0xa000001", ADDRESS),
    ("10.255.255.255", ADDRESS),
    ("172.16.0.1", ADDRESS),
    ("172.31.255.255", ADDRESS),
    ("2886729729", ADDRESS),
    ("192.168.0.1", ADDRESS),
    ("192.168.1", ADDRESS),
    ("0xc0.0xa8.1.1", ADDRESS),
    ("3232235777", ADDRESS),
    ("100.64.0.1", ADDRESS),
    ("100.127.255.255", ADDRESS),
    ("100.100.100.200", ADDRESS),
    ("169.254.169.254", ADDRESS),
    ("169.254.43518", ADDRESS),
    ("169.16689662", ADDRESS),
    ("2852039166", ADDRESS),
    ("0xa9fea9fe", ADDRESS),
    ("0xA9.0xFE.0xA9.0xFE", ADDRESS),
    ("0251.0376.0251.0376", ADDRESS),
    ("025177524776", ADDRESS),
    ("169.254.170.2", ADDRESS),
    ("168.63.129.16", ADDRESS),
    ("192.0.0.192", ADDRESS),
    // More addresses at which clouds answer to whoever asks, and other ways to write them.
    ("169.254.170.23", ADDRESS),
    ("169.254.0.23", ADDRESS),
    ("169.254.169.123", ADDRESS),
    ("169.254.169.253", ADDRESS),
    ("0x64.0x64.0x64.0xc8", ADDRESS),
    ("1684301000", ADDRESS),
    ("0144.0144.0144.0310", ADDRESS),
    ("2822734096", ADDRESS),
    ("0xa83f8110", ADDRESS),
    ("168.63.33040", ADDRESS),
    ("3221225664", ADDRESS),
    ("１６９.２５４.１６９.２５４", ADDRESS),
    ("169｡254｡169｡254", ADDRESS),
    ("169．254．169．254", ADDRESS),
    ("𝟏𝟔𝟗.𝟐𝟓𝟒.𝟏𝟔𝟗.𝟐𝟓𝟒", ADDRESS),
    ("169.254.169.254.", ADDRESS),
    ("169.254.169.254:80", ADDRESS),
    // Special and reserved IPv4.
    ("192.0.0.1", ADDRESS),
    ("192.0.0.9", ADDRESS),
    ("192.0.2.1", ADDRESS),
    ("192.88.99.1", ADDRESS),
    ("198.18.0.1", ADDRESS),
    ("198.19.255.255", ADDRESS),
    ("198.51.100.1", ADDRESS),
    ("203.0.113.1", ADDRESS),
    ("224.0.0.1", ADDRESS),
    ("239.255.255.255", ADDRESS),
    ("240.0.0.1", ADDRESS),
    ("255.255.255.255", ADDRESS),
    ("4294967295", ADDRESS),
    ("0xffffffff", ADDRESS),
    // No address at all.
    ("256.0.0.1", Unreadable),
    ("4294967296", Unreadable),
    ("1.2.3.4.5", Unreadable),
    ("0x100000000", Unreadable),
    ("127.0.0.1.5", Unreadable),
    ("127.0.0.1.nip.0x1", Unreadable),
    // IPv6 loopback, unspecified, and other spellings.
    ("[::1]", ADDRESS),
    ("[0:0:0:0:0:0:0:1]", ADDRESS),
    ("[0000:0000:0000:0000:0000:0000:0000:0001]", ADDRESS),
    ("[::0001]", ADDRESS),
    ("[0::1]", ADDRESS),
    ("[::1]:8443", ADDRESS),
    ("[::]", ADDRESS),
    ("[0:0:0:0:0:0:0:0]", ADDRESS),
    ("[::0.0.0.1]", ADDRESS),
    ("%5B::1%5D", Unreadable),
    ("[::1", Unreadable),
    ("::1", Unreadable),
    ("[::1%25eth0]", Unreadable),
    ("[fe80::1%25eth0]", Unreadable),
    ("[::1.2.3]", Unreadable),
    // IPv6 that leads to IPv4.
    ("[::ffff:127.0.0.1]", ADDRESS),
    ("[::ffff:7f00:1]", ADDRESS),
    ("[::FFFF:7F00:0001]", ADDRESS),
    ("[0:0:0:0:0:ffff:127.0.0.1]", ADDRESS),
    ("[::ffff:10.0.0.1]", ADDRESS),
    ("[::ffff:169.254.169.254]", ADDRESS),
    ("[::ffff:a9fe:a9fe]", ADDRESS),
    ("[::ffff:8.8.8.8]", ADDRESS),
    ("[::ffff:0:127.0.0.1]", ADDRESS),
    ("[::ffff:0:8.8.8.8]", ADDRESS),
    ("[::127.0.0.1]", ADDRESS),
    ("[::7f00:1]", ADDRESS),
    ("[::8.8.8.8]", ADDRESS),
    ("[64:ff9b::127.0.0.1]", ADDRESS),
    ("[64:ff9b::7f00:1]", ADDRESS),
    ("[64:ff9b::a9fe:a9fe]", ADDRESS),
    ("[64:ff9b::8.8.8.8]", ADDRESS),
    ("[64:ff9b:1::10.0.0.1]", ADDRESS),
    ("[64:ff9b:1:ffff::1]", ADDRESS),
    ("[2002:7f00:1::]", ADDRESS),
    ("[2002:a00:1::1]", ADDRESS),
    ("[2002:a9fe:a9fe::1]", ADDRESS),
    ("[2002:808:808::1]", ADDRESS),
    ("[2001:0:4136:e378:8000:63bf:3fff:fdd2]", ADDRESS),
    ("[2001::1]", ADDRESS),
    // ISATAP (RFC 5214): an interface id that leads to an IPv4 address, behind any prefix.
    ("[fe80::5efe:10.0.0.1]", ADDRESS),
    ("[fe80::200:5efe:7f00:1]", ADDRESS),
    ("[2606:4700::5efe:7f00:1]", ADDRESS),
    ("[2606:4700:0:0:0:5efe:169.254.169.254]", ADDRESS),
    ("[2606:4700::200:5efe:8.8.8.8]", ADDRESS),
    // 64:ff9b::/96 ends where the low bits of its third to sixth group begin to count.
    ("[64:ff9b:0:0:0:1:7f00:1]", ADDRESS),
    ("[64:ff9b:1:7f00:0:100::]", ADDRESS),
    ("[0064:FF9B:0001:abcd::1]", ADDRESS),
    // Special and reserved IPv6.
    ("[fc00::1]", ADDRESS),
    ("[fd00::1]", ADDRESS),
    ("[fd00:ec2::254]", ADDRESS),
    ("[fd00:ec2::23]", ADDRESS),
    ("[fd20:ce::254]", ADDRESS),
    ("[fd00:42::42]", ADDRESS),
    ("[FD00:0EC2:0000:0000:0000:0000:0000:0254]", ADDRESS),
    ("[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", ADDRESS),
    ("[fe80::1]", ADDRESS),
    ("[fe80::a9fe:a9fe]", ADDRESS),
    ("[febf::1]", ADDRESS),
    ("[fec0::1]", ADDRESS),
    ("[feff::1]", ADDRESS),
    ("[ff02::1]", ADDRESS),
    ("[ff0e::1]", ADDRESS),
    ("[100::1]", ADDRESS),
    ("[2001:2::1]", ADDRESS),
    ("[2001:10::1]", ADDRESS),
    ("[2001:20::1]", ADDRESS),
    ("[2001:1ff::1]", ADDRESS),
    ("[2001:db8::1]", ADDRESS),
    ("[3ffe::1]", ADDRESS),
    ("[3fff::1]", ADDRESS),
    ("[3fff:fff::1]", ADDRESS),
    ("[4000::1]", ADDRESS),
    ("[5f00::1]", ADDRESS),
    ("[5fff:ffff::1]", ADDRESS),
    ("[1::1]", ADDRESS),
    ("[1fff::1]", ADDRESS),
    ("[8000::1]", ADDRESS),
    ("[fb00::1]", ADDRESS),
    // Names that cannot be public.
    ("localhost", NAME),
    ("LOCALHOST", NAME),
    ("LocalHost", NAME),
    ("localhost.", NAME),
    ("localhost:8443", NAME),
    ("loc%61lhost", NAME),
    ("ｌｏｃａｌｈｏｓｔ", NAME),
    ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", NAME),
    ("lo\u{ad}calhost", NAME),
    ("a.localhost", NAME),
    ("a.b.localhost.", NAME),
    ("printer.local", NAME),
    ("printer.LOCAL", NAME),
    ("local", NAME),
    ("metadata.google.internal", NAME),
    ("instance-data.ec2.internal", NAME),
    ("router.home.arpa", NAME),
    ("home.arpa", NAME),
    ("nas.lan", NAME),
    ("wiki.corp", NAME),
    ("wiki.corp.", NAME),
    ("intranet", NAME),
    ("intranet.", NAME),
    ("kubernetes", NAME),
    ("test", NAME),
    ("metadata", NAME),
    ("metadata.google.internal.", NAME),
    ("METADATA。google。internal", NAME),
    ("host.docker.internal", NAME),
    ("kubernetes.default.svc.cluster.local", NAME),
    ("127.0.0.1.localhost", NAME),
    ("a..b.com", NAME),
    ("a.com..", NAME),
    (".", NAME),
    ("a.b$c.com", NAME),
    ("a'b.com", NAME),
    ("hooks.com/\u{1f600}", Public),
    ("exa mple.com", Unreadable),
    ("exa<mple.com", Unreadable),
    ("", Unreadable),
    ("/127.0.0.1/", ADDRESS),
    // User names and passwords.
    ("user@vendor.com/", Refused("userinfoRefused")),
    ("user:secret@vendor.com/", Refused("userinfoRefused")),
    (":secret@vendor.com/", Refused("userinfoRefused")),
    ("vendor.com@127.0.0.1/", Refused("userinfoRefused")),
    ("vendor.com:443@127.0.0.1/", Refused("userinfoRefused")),
    ("@vendor.com/", Public),
    // Ports.
    ("vendor.com:0/", PORT),
    ("vendor.com:22/", PORT),
    ("vendor.com:25/", PORT),
    ("vendor.com:6379/", PORT),
    ("vendor.com:6667/", PORT),
    ("vendor.com:023/", PORT),
    ("vendor.com:00000025/", PORT),
    ("vendor.com:2375/", PORT),
    ("vendor.com:10250/", PORT),
    ("8.8.8.8:25/", PORT),
    ("[2606:4700:4700::1111]:5432/", PORT),
    ("vendor.com:65536/", Unreadable),
    ("vendor.com:-1/", Unreadable),
    ("vendor.com:+443/", Unreadable),
    ("vendor.com:0x1bb/", Unreadable),
    // What must pass.
    ("vendor.com", Public),
    ("vendor.com.", Public),
    ("VENDOR.com:8443/hooks", Public),
    ("vendor.com:", Public),
    ("vendor.com#fragment", Public),
    ("hooks_1.vendor.com", Public),
    ("münchen.de", Public),
    ("xn--mnchen-3ya.de", Public),
    ("localhost.vendor.com", Public),
    ("internal.vendor.com", Public),
    ("mylocal", NAME),
    ("notlocal.net", Public),
    ("notlocalhost.net", Public),
    ("127.0.0.1.nip.io", Public),
    ("8.8.8.8", Public),
    ("134744072", Public),
    ("0x8.8.8.8", Public),
    ("1.1", Public),
    ("172.32.0.1", Public),
    ("100.128.0.1", Public),
    ("[2606:4700:4700::1111]", Public),
    ("[2001:4860:4860::8888]", Public),
    ("[2a00:1450::1]", Public),
    ("vendor.example", Documentation),
    ("vendor.example.", Documentation),
    ("hooks.vendor.test", Documentation),
    ("VENDOR.INVALID", Documentation),
    ("example.com", Public),
];

fn judge(text: &str, policy: &Policy) -> Expected {
    let Ok(url) = Url::parse(text) else {
        return Unreadable;
    };
    match vet_url(&url, policy) {
        Ok(vetted) if vetted.is_documentation() => Documentation,
        Ok(_) => Public,
        Err(refusal) => Refused(refusal.as_str()),
    }
}

#[test]
fn every_notation_is_judged_rightly() {
    assert!(HOSTS.len() >= 250, "{}", HOSTS.len());
    let policy = Policy::default();
    let wrong: Vec<_> = HOSTS
        .iter()
        .map(|(host, expected)| (*host, *expected, judge(&format!("https://{host}"), &policy)))
        .filter(|(_, expected, verdict)| expected != verdict)
        .collect();
    assert!(wrong.is_empty(), "(host, expected, verdict): {wrong:#?}");
}

#[test]
fn no_notation_becomes_public_over_http_or_with_a_trailing_path() {
    let policy = Policy { require_https: false, ..Policy::default() };
    for (host, expected) in HOSTS.iter().filter(|(_, expected)| *expected != Unreadable) {
        assert_eq!(judge(&format!("http://{host}"), &policy), *expected, "http://{host}");
        let strict = judge(&format!("http://{host}"), &Policy::default());
        assert_eq!(strict, Refused("httpsRequired"), "{host}");
    }
}

#[test]
fn other_schemes_are_refused() {
    for (text, code) in [
        ("ftp://vendor.com/", "schemeRefused"),
        ("file:///etc/passwd", "schemeRefused"),
        ("gopher://vendor.com/", "schemeRefused"),
        ("ws://vendor.com/", "schemeRefused"),
        ("data:text/plain,x", "schemeRefused"),
        ("javascript:alert(1)", "schemeRefused"),
        ("mailto:a@vendor.com", "schemeRefused"),
        ("http://vendor.com/", "httpsRequired"),
        ("HTTP://vendor.com/", "httpsRequired"),
    ] {
        assert_eq!(judge(text, &Policy::default()), Refused(code), "{text}");
    }
    assert_eq!(judge("/hooks", &Policy::default()), Unreadable);
}

#[test]
fn the_operator_can_open_what_is_named_and_nothing_else() {
    let policy = Policy {
        allow: [
            "127.0.0.1:8443",
            "10.0.0.0/8",
            "[::1]/128:9443",
            "169.254.169.254:8080",
            "192.168.1.5:25",
        ]
        .map(|rule| rule.parse().unwrap())
        .to_vec(),
        ..Policy::default()
    };
    for (host, expected) in [
        ("127.0.0.1:8443", Public),
        ("2130706433:8443", Public),
        ("0x7f.1:8443", Public),
        ("127.0.0.1", ADDRESS),
        ("127.0.0.2:8443", ADDRESS),
        ("localhost:8443", Public),
        ("localhost:9443", Public),
        ("a.localhost:9443", Public),
        ("localhost", NAME),
        ("[::1]:9443", Public),
        ("[::1]:8443", ADDRESS),
        ("10.200.0.1", Public),
        ("10.200.0.1:9000", Public),
        ("10.200.0.1:22", PORT),
        ("[::ffff:10.0.0.1]", Public),
        ("169.254.169.254:8080", Public),
        ("169.254.169.254", ADDRESS),
        ("192.168.1.5:25", Public),
        ("192.168.1.6:25", ADDRESS),
        ("printer.local", NAME),
        ("intranet", NAME),
    ] {
        assert_eq!(judge(&format!("https://{host}"), &policy), expected, "{host}");
    }
}

#[test]
fn the_operator_can_refuse_more_ports_and_lift_a_ban() {
    let policy = Policy {
        allow: vec!["203.0.113.7:9001".parse().unwrap()],
        refuse_ports: vec![9_000, 9_001],
        ..Policy::default()
    };
    for (host, expected) in [
        ("vendor.com:9000", PORT),
        ("8.8.8.8:9000", PORT),
        ("vendor.com:9001", Public),
        ("203.0.113.7:9001", Public),
        ("vendor.com:22", PORT),
        ("vendor.com:9002", Public),
    ] {
        assert_eq!(judge(&format!("https://{host}"), &policy), expected, "{host}");
    }
}

/// The package checker asks for the host alone; what it is told is what saving and calling decide.
#[test]
fn a_host_alone_is_judged_as_its_url_is() {
    let policy = Policy::default();
    for (host, expected) in HOSTS {
        let Ok(url) = Url::parse(&format!("https://{host}")) else { continue };
        if matches!(expected, Refused("userinfoRefused")) {
            continue;
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { continue };
        let verdict = match host_verdict(&host, port, &policy) {
            HostVerdict::Public => Public,
            HostVerdict::Documentation => Documentation,
            HostVerdict::NotPublic { reason } => Refused(reason.as_str()),
        };
        assert_eq!(verdict, *expected, "{host}");
    }
}

proptest! {
    #[test]
    fn every_spelling_of_an_address_has_the_addresss_verdict(bits: u32, special in 0_u32..8) {
        // Half of them near the beginning of a range that matters.
        let bases = [0x7f00_0000, 0x0a00_0000, 0xa9fe_0000, 0xc0a8_0000, 0xac10_0000, 0x6440_0000, 0];
        let bits = bases.get(special as usize).map_or(bits, |base| base | bits & 0xffff);
        let address = Ipv4Addr::from_bits(bits);
        let expected = vet_address(IpAddr::V4(address), 443, &Policy::default()).is_ok();
        let [a, b, c, d] = address.octets();
        for host in [
            address.to_string(),
            format!("{address}."),
            bits.to_string(),
            format!("{bits:#x}"),
            format!("0{bits:o}"),
            format!("{a:#x}.{b}.0{c:o}.{d}"),
            format!("{a}.{}", bits & 0x00ff_ffff),
            format!("{a}.{b:#X}.{}", bits & 0xffff).replace("0X", "0x"),
        ] {
            let verdict = judge(&format!("https://{host}/"), &Policy::default());
            prop_assert_eq!(verdict == Public, expected, "{}", host);
        }
        // Wrapped into IPv6 it is never public.
        for wrapped in [
            address.to_ipv6_mapped(),
            address.to_ipv6_compatible(),
            Ipv6Addr::from_bits(0x64_ff9b_u128 << 96 | u128::from(bits)),
            Ipv6Addr::from_bits(0x2002_u128 << 112 | u128::from(bits) << 80),
        ] {
            let verdict = judge(&format!("https://[{wrapped}]/"), &Policy::default());
            prop_assert_eq!(verdict, ADDRESS, "{}", wrapped);
        }
    }

    #[test]
    fn hostile_hosts_never_panic(host in "\\PC{0,40}|[0-9a-fx.:%\\[\\]]{0,40}") {
        let _ = judge(&format!("https://{host}/"), &Policy::default());
    }
}
