//! What a deployment allows: which hosts may be named, which scopes may not.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use url::Host;

/// What may be said of a host by its name alone; nothing is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostVerdict {
    /// It may be public.
    Public,
    /// A name that is reserved for documentation and never resolves.
    Documentation,
    /// It can't be public, or is not allowed.
    NotPublic {
        /// Why, as a clause: "it is a loopback address".
        reason: String,
    },
}

/// Judges the host and the port of a URL.
pub type HostVetting = Arc<dyn Fn(&Host<&str>, u16) -> HostVerdict + Send + Sync>;

/// What a deployment allows.
#[derive(Clone)]
pub struct Policy {
    /// Whether webhooks and callbacks must be https; else http is accepted too.
    pub require_https: bool,
    /// The scopes that no extension may ask for, spelled exactly.
    pub denied_scopes: Vec<String>,
    /// Judges the host of every URL of a package.
    pub host_vetting: HostVetting,
}

impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Policy")
            .field("require_https", &self.require_https)
            .field("denied_scopes", &self.denied_scopes)
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// What a vendor's own machine can judge: https only, no scope denied, hosts by name alone.
    pub fn offline() -> Self {
        Self {
            require_https: true,
            denied_scopes: Vec::new(),
            host_vetting: Arc::new(|host, _| judge(host)),
        }
    }
}

fn not_public(reason: &str) -> HostVerdict {
    HostVerdict::NotPublic { reason: reason.to_owned() }
}

fn judge(host: &Host<&str>) -> HostVerdict {
    match host {
        Host::Ipv4(address) if is_public_v4(*address) => HostVerdict::Public,
        Host::Ipv6(address) if is_public_v6(*address) => HostVerdict::Public,
        Host::Ipv4(_) | Host::Ipv6(_) => not_public("it is not a public address"),
        Host::Domain(name) => judge_name(name),
    }
}

fn judge_name(name: &str) -> HostVerdict {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" {
        return not_public("it names the machine itself");
    }
    let Some((rest, last)) = name.rsplit_once('.') else {
        return not_public("it is a single label, which only a local network resolves");
    };
    match last {
        "localhost" => not_public("it names the machine itself"),
        "local" | "internal" | "lan" | "corp" => not_public("its ending is for private networks"),
        "arpa" if rest.rsplit('.').next() == Some("home") => {
            not_public("its ending is for private networks")
        }
        "example" | "test" | "invalid" => HostVerdict::Documentation,
        _ => HostVerdict::Public,
    }
}

/// The IANA special-purpose registry for IPv4: what is not globally reachable.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (b & 0xc0) == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b & 0xfe) == 18))
}

/// Global unicast (2000::/3) without documentation, tunnels and protocol assignments.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    (a & 0xe000) == 0x2000
        && !(a == 0x2001 && (b & 0xfe00) == 0)
        && !(a == 0x2001 && b == 0xdb8)
        && a != 0x2002
        && !(a == 0x3fff && (b & 0xf000) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(url: &str) -> HostVerdict {
        let url = url::Url::parse(url).expect("a URL");
        judge(&url.host().expect("a host"))
    }

    #[test]
    fn hosts_are_judged_by_name() {
        for url in [
            "https://localhost",
            "https://LOCALHOST.",
            "https://a.localhost",
            "https://printer.local",
            "https://a.internal",
            "https://a.home.arpa",
            "https://a.lan",
            "https://a.corp",
            "https://intranet",
            "https://127.0.0.1",
            "https://2130706433",
            "https://0x7f.1",
            "https://10.1.2.3",
            "https://169.254.169.254",
            "https://100.64.0.1",
            "https://[::1]",
            "https://[::ffff:8.8.8.8]",
            "https://[fd00::1]",
            "https://[2001:db8::1]",
        ] {
            assert!(matches!(verdict(url), HostVerdict::NotPublic { .. }), "{url}");
        }
        for url in ["https://vendor.example", "https://a.test", "https://a.invalid."] {
            assert_eq!(verdict(url), HostVerdict::Documentation, "{url}");
        }
        for url in ["https://zoho.com", "https://8.8.8.8", "https://[2606:4700::1111]"] {
            assert_eq!(verdict(url), HostVerdict::Public, "{url}");
        }
    }
}
