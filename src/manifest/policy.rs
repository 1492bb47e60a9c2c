//! What an operator decides about packages.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use url::Host;

/// What a host can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostVerdict {
    /// It can be public, or the operator allows it.
    Public,
    /// A name for documentation and tests (RFC 2606): never more than a warning.
    Documentation,
    /// It cannot be public.
    NotPublic {
        /// Why, as the end of the sentence "this host …".
        reason: String,
    },
}

/// Judges a host and port without resolving the name.
pub type HostVetting = Arc<dyn Fn(&Host<&str>, u16) -> HostVerdict + Send + Sync>;

/// What an operator decides about packages.
#[derive(Clone)]
pub struct Policy {
    /// Whether webhook and callback URLs must be https; otherwise http passes too.
    pub require_https: bool,
    /// Scopes that no extension may hold. Compared without case; a `*` at the end stands for any
    /// rest (`Desk.organization.*`). What covers a denied scope is denied with it:
    /// `Desk.settings.ALL` where `Desk.settings.READ` is.
    pub denied_scopes: Vec<String>,
    /// Whether a host can be called.
    pub host_vetting: HostVetting,
    /// The most diagnostics that one check tells.
    pub most_diagnostics: usize,
}

impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Policy")
            .field("require_https", &self.require_https)
            .field("denied_scopes", &self.denied_scopes)
            .field("most_diagnostics", &self.most_diagnostics)
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// The rules without any exception of an operator: https everywhere, no denied scopes, and
    /// hosts judged by name and by the ranges that are never public.
    pub fn strict_offline() -> Self {
        Self {
            require_https: true,
            denied_scopes: Vec::new(),
            host_vetting: Arc::new(|host, _port| offline_verdict(host)),
            most_diagnostics: 1_000,
        }
    }

    /// The denied scopes, made ready to be looked up.
    pub(crate) fn denials(&self) -> Denials<'_> {
        let mut denials = Denials::default();
        for entry in &self.denied_scopes {
            let folded = entry.to_ascii_lowercase();
            if let Some(start) = folded.strip_suffix('*') {
                denials.starts.entry(start.len()).or_default().insert(start.to_owned(), entry);
            } else {
                if let Some((group, _)) = folded.rsplit_once('.') {
                    denials.groups.entry(group.to_owned()).or_insert(entry);
                }
                denials.whole.insert(folded, entry);
            }
        }
        denials
    }
}

/// The denied scopes in lower case, each with the entry of the list that says so. Looking a scope
/// up takes no longer where the list is long.
#[derive(Debug, Default)]
pub(crate) struct Denials<'p> {
    whole: HashMap<String, &'p str>,
    /// What stands before the last dot of those: `ALL` behind it covers them.
    groups: HashMap<String, &'p str>,
    /// What stands before a `*`, by its length.
    starts: BTreeMap<usize, HashMap<String, &'p str>>,
}

impl<'p> Denials<'p> {
    /// Whether no extension may hold the scope: the entry of the list that says so.
    ///
    /// A provider takes a list for what stands between separators, so each part is looked at.
    pub(crate) fn denial(&self, scope: &str) -> Option<&'p str> {
        let scope = scope.to_ascii_lowercase();
        let separates = |character: char| character == ',' || character.is_whitespace();
        let mut parts = scope.split(separates).filter(|part| !part.is_empty());
        parts.find_map(|part| {
            let covered = || self.groups.get(part.strip_suffix(".all")?);
            let begun = || {
                let mut starts = self.starts.range(..=part.len());
                starts.find_map(|(length, starts)| starts.get(part.get(..*length)?))
            };
            self.whole.get(part).or_else(covered).or_else(begun).copied()
        })
    }
}

/// Judges a host by what is written alone.
pub fn offline_verdict(host: &Host<&str>) -> HostVerdict {
    let refused = |reason: &str| HostVerdict::NotPublic { reason: reason.to_owned() };
    let reason = match host {
        Host::Domain(name) => return name_verdict(name),
        Host::Ipv4(address) => special_range(IpAddr::V4(*address)),
        Host::Ipv6(address) => special_range(IpAddr::V6(*address)),
    };
    reason.map_or(HostVerdict::Public, refused)
}

fn name_verdict(name: &str) -> HostVerdict {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    if matches!(last, "example" | "test" | "invalid") {
        return HostVerdict::Documentation;
    }
    let internal = ["localhost", "local", "internal", "lan", "corp"].contains(&last)
        || name == "home.arpa"
        || name.ends_with(".home.arpa");
    let reason = if internal {
        format!("is a name for internal networks (`{last}`)")
    } else if name.contains('.') {
        return HostVerdict::Public;
    } else {
        "is a name without a dot, which cannot be public".to_owned()
    };
    HostVerdict::NotPublic { reason }
}

/// What makes an address other than public.
fn special_range(address: IpAddr) -> Option<&'static str> {
    let v4 = |address: Ipv4Addr| {
        let [first, second, third, _] = address.octets();
        if address.is_unspecified() || first == 0 {
            Some("is an address of this network")
        } else if address.is_loopback() {
            Some("is a loopback address")
        } else if address.is_private() {
            Some("is a private address")
        } else if address.is_link_local() {
            Some("is a link-local address")
        } else if address.is_documentation() {
            Some("is an address for documentation")
        } else if address.is_multicast() || first >= 240 {
            Some("is a multicast or reserved address")
        } else if (first == 100 && (64..128).contains(&second))
            || (first == 198 && (second == 18 || second == 19))
            || (first == 192 && second == 0 && third == 0)
            || (first == 192 && second == 88 && third == 99)
        {
            Some("is an address for special purposes")
        } else {
            None
        }
    };
    let v6 = |address: Ipv6Addr| {
        let segments = address.segments();
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Ipv4Addr::new(a, b, c, d)
        };
        match segments {
            // NAT64 and 6to4 lead to the IPv4 address that they carry.
            [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                return v4(embedded(high, low));
            }
            _ => {}
        }
        if address.is_loopback() || address.is_unspecified() {
            Some("is a loopback address")
        } else if address.is_unique_local() || segments[0] & 0xFFC0 == 0xFEC0 {
            Some("is a private address")
        } else if address.is_unicast_link_local() {
            Some("is a link-local address")
        } else if segments[..2] == [0x2001, 0xDB8]
            || (segments[0] == 0x3FFF && segments[1] < 0x1000)
        {
            Some("is an address for documentation")
        } else if segments[0] & 0xE000 != 0x2000 || segments[..2] == [0x2001, 0] {
            Some("is an address for special purposes")
        } else {
            None
        }
    };
    match address.to_canonical() {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn verdict(url: &str) -> HostVerdict {
        offline_verdict(&Url::parse(url).expect("a URL").host().expect("a host"))
    }

    #[test]
    fn hosts_that_cannot_be_public_are_known() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "printer.local",
            "x.internal",
            "a.home.arpa",
            "nas.lan",
            "intra.corp",
            "intranet",
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "10.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "[fd00::1]",
            "[fe80::1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:db8::1]",
            "[ff02::1]",
            "[::]",
        ] {
            let verdict = verdict(&format!("https://{host}/"));
            assert!(matches!(verdict, HostVerdict::NotPublic { .. }), "{host}: {verdict:?}");
        }
    }

    #[test]
    fn public_and_documentation_hosts_are_told_apart() {
        for host in ["vendor.example", "a.test", "b.invalid.", "example"] {
            assert_eq!(verdict(&format!("https://{host}/")), HostVerdict::Documentation, "{host}");
        }
        for host in [
            "example.com",
            "a.b.co",
            "8.8.8.8",
            "[2606:4700::1111]",
            "[2002:808:808::]",
            "xn--bcher-kva.de",
        ] {
            assert_eq!(verdict(&format!("https://{host}/")), HostVerdict::Public, "{host}");
        }
    }

    #[test]
    fn denied_scopes_may_end_in_a_star() {
        let policy = Policy {
            denied_scopes: vec!["Desk.organization.*".into(), "Desk.settings.ALL".into()],
            ..Policy::strict_offline()
        };
        let denials = policy.denials();
        assert!(denials.denial("Desk.organization.READ").is_some());
        assert!(denials.denial("desk.settings.all").is_some());
        assert!(denials.denial("Desk.settings.READ").is_none());
        assert!(denials.denial("Desk.org").is_none());
    }

    #[test]
    fn no_spelling_gets_around_a_denial() {
        let denied_scopes = vec!["Desk.settings.READ".into(), "Desk.organization.*".into()];
        let policy = Policy { denied_scopes, ..Policy::strict_offline() };
        let denials = policy.denials();
        for scope in [
            "desk.SETTINGS.read",
            "Desk.settings.ALL",
            "Desk.events.ALL,Desk.settings.READ",
            "Desk.events.ALL Desk.organization.ALL",
            " Desk.settings.READ ",
            "Desk.events.ALL\n,\tdesk.organization.read",
        ] {
            assert!(denials.denial(scope).is_some(), "{scope:?}");
        }
        for scope in ["Desk.settings.UPDATE", "Desk.ALL", "Desk.tickets.ALL", "", "é.all", "ALL"] {
            assert!(denials.denial(scope).is_none(), "{scope:?}");
        }
    }
}
