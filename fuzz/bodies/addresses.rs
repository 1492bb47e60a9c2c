//! Any text as the address of a callback: what is let through leads outside and to nobody's own
//! network, and what is appended to it is there once, at the end, whatever was declared.

use std::net::IpAddr;

use mortise::egress::{Policy, vet_url};
use mortise::identifier::OrgId;
use mortise::webhook::{append_context, mask_context};
use url::{Host, Url};

/// What stands for a sealed context.
const CONTEXT: &str = "sealed~context/+&=of%20it";

/// One input.
pub(super) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(url) = Url::parse(&text) else { return };
    let policy = Policy::default();
    let vetted = vet_url(&url, &policy).is_ok();
    if vetted {
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none());
        match url.host() {
            Some(Host::Ipv4(address)) => assert!(is_outside(address.into()), "{address}"),
            Some(Host::Ipv6(address)) => assert!(is_outside(address.into()), "{address}"),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                assert!(name != "localhost" && !name.ends_with(".localhost"), "{name}");
            }
            None => panic!("{url} has no host"),
        }
    }
    // No other address gets as far as being called.
    if !matches!(url.scheme(), "http" | "https") {
        return;
    }
    let Ok(org) = OrgId::new("4242") else { panic!("an org id") };
    let called = append_context(&url, &org, CONTEXT);
    assert_eq!(vet_url(&called, &policy).is_ok(), vetted, "{called}");
    assert_eq!(called.fragment(), None);
    assert_eq!((called.origin(), called.path()), (url.origin(), url.path()));
    let is_ours = |name: &str| name == "orgId" || name == "securityContext";
    let pairs: Vec<(String, String)> = called.query_pairs().into_owned().collect();
    let (declared, ours) = pairs.split_at(pairs.len() - 2);
    assert_eq!(ours[0], ("orgId".to_owned(), "4242".to_owned()));
    assert_eq!(ours[1], ("securityContext".to_owned(), CONTEXT.to_owned()));
    assert!(declared.iter().all(|(name, _)| !is_ours(name)), "{called}");
    let kept: Vec<(String, String)> =
        url.query_pairs().into_owned().filter(|(name, _)| !is_ours(name)).collect();
    assert_eq!(declared, kept, "{called}");
    let shown = mask_context(&called);
    assert!(!shown.contains("sealed~context"), "{shown}");
}

/// By the standard library's own rules, which know less than ours and contradict them nowhere.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            address.to_ipv4_mapped().is_none()
                && !(address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || address.is_unique_local()
                    || address.is_unicast_link_local())
        }
    }
}
