//! Origins, addresses that may be called, URLs that hold a password, and the database's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// Scheme, host and port of an http or https address (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(url::Origin);

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// It is no absolute URL with a host.
    #[error("it is not an absolute http or https URL")]
    NotAbsolute,
    /// It says more than an origin.
    #[error("write scheme, host and port only, without a path, query or user")]
    TooMuch,
}

impl Origin {
    /// The origin of an http or https URL; nothing for any other scheme.
    pub fn of(url: &Url) -> Option<Self> {
        let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
        fits.then(|| Self(url.origin()))
    }

    /// Whether a URL has this scheme, host and port.
    pub fn contains(&self, url: &Url) -> bool {
        Self::of(url).as_ref() == Some(self)
    }

    /// Whether what goes there goes unencrypted.
    pub fn is_plain_http(&self) -> bool {
        matches!(&self.0, url::Origin::Tuple(scheme, ..) if scheme == "http")
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| InvalidOrigin::NotAbsolute)?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let origin = Self::of(&url).ok_or(InvalidOrigin::NotAbsolute)?;
        if bare { Ok(origin) } else { Err(InvalidOrigin::TooMuch) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.ascii_serialization())
    }
}

/// One entry of `egress.allow`: a network, or a port of it, that may be called although its
/// addresses are not public.
///
/// Link-local addresses and the well-known addresses of cloud metadata services are opened only
/// by an entry that names just that address: a wider network never opens them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllowedNetwork {
    network: IpNet,
    port: Option<u16>,
}

/// Why a text is not an entry of `egress.allow`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// Neither an address nor a network.
    #[error("it is not an address or network such as 10.1.2.3, 10.0.0.0/8:8080 or [fd00::1]:443")]
    Shape,
    /// Bits are set behind the prefix.
    #[error("bits are set behind its prefix: write {0}")]
    HostBits(IpNet),
    /// A network inside a range of which only single addresses can be opened.
    #[error("link-local and metadata addresses can be allowed only one by one")]
    SingleAddressesOnly,
}

const LINK_LOCAL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
const LINK_LOCAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Metadata services outside of the link-local ranges: AWS over IPv6, Alibaba Cloud, Oracle
/// Cloud, Azure.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

fn is_link_local_or_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(address) => LINK_LOCAL_V4.contains(&address),
            IpAddr::V6(address) => LINK_LOCAL_V6.contains(&address),
        }
}

impl AllowedNetwork {
    /// The network; a single address has the longest prefix.
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// The port, where only one is opened.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether this entry opens a port of an address. An IPv4 address in IPv6 form counts as the
    /// IPv4 address that it is.
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.port.is_none_or(|allowed| allowed == port)
            && self.network.contains(&address)
            && (self.is_single() || !is_link_local_or_metadata(address))
    }

    fn is_single(&self) -> bool {
        self.network.prefix_len() == self.network.max_prefix_len()
    }
}

impl FromStr for AllowedNetwork {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, prefix, port) = split_network(text).ok_or(InvalidNetwork::Shape)?;
        let address: IpAddr = host.parse().map_err(|_| InvalidNetwork::Shape)?;
        let address = address.to_canonical();
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => number(digits).ok_or(InvalidNetwork::Shape)?,
            None => longest,
        };
        let port = match port {
            Some(digits) => Some(number(digits).ok_or(InvalidNetwork::Shape)?),
            None => None,
        };
        let network = IpNet::new(address, prefix).map_err(|_| InvalidNetwork::Shape)?;
        if network.trunc() != network {
            return Err(InvalidNetwork::HostBits(network.trunc()));
        }
        let within_link_local = match network {
            IpNet::V4(network) => LINK_LOCAL_V4.contains(&network),
            IpNet::V6(network) => LINK_LOCAL_V6.contains(&network),
        };
        let allowed = Self { network, port };
        if within_link_local && !allowed.is_single() {
            return Err(InvalidNetwork::SingleAddressesOnly);
        }
        Ok(allowed)
    }
}

/// Cuts `address[/prefix][:port]`, brackets around an IPv6 address or network being optional
/// where no port follows a bare address.
fn split_network(text: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let (host, inner_prefix) = cut(inside, '/');
        let (outer_prefix, port) = match after.strip_prefix('/') {
            Some(rest) => {
                let (prefix, port) = cut(rest, ':');
                (Some(prefix), port)
            }
            None if after.is_empty() => (None, None),
            None => (None, Some(after.strip_prefix(':')?)),
        };
        if !host.contains(':') || (inner_prefix.is_some() && outer_prefix.is_some()) {
            return None;
        }
        return Some((host, inner_prefix.or(outer_prefix), port));
    }
    if let Some((host, rest)) = text.split_once('/') {
        let (prefix, port) = cut(rest, ':');
        return Some((host, Some(prefix), port));
    }
    if text.matches(':').count() > 1 {
        return Some((text, None, None));
    }
    let (host, port) = cut(text, ':');
    Some((host, None, port))
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Digits only: `u16::from_str` alone would take a plus sign.
fn number<T: FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

impl fmt::Display for AllowedNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.network)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

/// A URL that may hold a password: shown without it.
#[derive(Clone)]
pub struct SecretUrl {
    secret: SecretString,
    shown: String,
}

impl SecretUrl {
    /// Reads a URL with one of the schemes.
    pub(crate) fn new(text: &str, schemes: &[&str]) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| schemes.contains(&url.scheme()))?;
        let mut shown = url.clone();
        if url.password().is_some() {
            shown.set_password(Some("***")).ok()?;
        }
        // Parameters can hold a password too (`?password=`), so none is shown.
        if url.query().is_some() {
            shown.set_query(Some("***"));
        }
        Some(Self { secret: SecretString::from(text), shown: shown.into() })
    }

    /// The whole URL, with its password.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretUrl({})", self.shown)
    }
}

/// Where the data is.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(SecretUrl),
}

impl DatabaseUrl {
    /// Reads `sqlite://<path>` or `postgres://…`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            let is_file =
                !path.is_empty() && !path.contains(['?', '#', '\0']) && path != ":memory:";
            return is_file.then(|| Self::Sqlite(PathBuf::from(path)));
        }
        SecretUrl::new(text, &["postgres", "postgresql"]).map(Self::Postgres)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite://{}", path.display()),
            Self::Postgres(url) => url.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> AllowedNetwork {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn networks_are_read_in_every_spelling() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3:8080", "10.1.2.3/32:8080"),
            ("127.0.0.0/8:9000", "127.0.0.0/8:9000"),
            ("::1", "::1/128"),
            ("[::1]:8080", "::1/128:8080"),
            ("[::1]", "::1/128"),
            ("fd12::/16", "fd12::/16"),
            ("fd12::/16:443", "fd12::/16:443"),
            ("[fd12::/16]:443", "fd12::/16:443"),
            ("[fd12::]/16:443", "fd12::/16:443"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            assert_eq!(allowed(text).to_string(), shown, "{text}");
            assert_eq!(allowed(shown), allowed(text), "{shown} reads back");
        }
    }

    #[test]
    fn nonsense_is_no_network() {
        for text in [
            "",
            "*",
            "example.com",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/8:",
            "10.0.0.0/8:65536",
            "10.0.0.0/",
            "[10.0.0.1]:80",
            "[::1]x",
            "[::1",
            "::1/129",
            "10.0.0.1:+80",
            "[fd::/16]/16",
            "169.254.0.0/16",
            "169.254.169.0/24",
            "fe80::/10",
            "fe80::/64",
        ] {
            assert!(text.parse::<AllowedNetwork>().is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_is_opened_by_name_only() {
        let metadata: IpAddr = [169, 254, 169, 254].into();
        let alibaba: IpAddr = [100, 100, 100, 200].into();
        assert!(!allowed("0.0.0.0/0").allows(metadata, 80));
        assert!(!allowed("100.64.0.0/10").allows(alibaba, 80));
        assert!(allowed("100.64.0.0/10").allows([100, 100, 100, 201].into(), 80));
        assert!(allowed("169.254.169.254").allows(metadata, 80));
        assert!(!allowed("169.254.169.254:81").allows(metadata, 80));
        assert!(!allowed("fd00::/8").allows(METADATA[0], 80));
        assert!(allowed("fd00::/8").allows("fd00::1".parse().expect("an address"), 80));
    }

    #[test]
    fn mapped_addresses_count_as_what_they_are() {
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().expect("an address");
        assert!(allowed("127.0.0.1:80").allows(mapped, 80));
    }

    #[test]
    fn origins_compare_by_scheme_host_and_port() {
        let origin: Origin = "https://Desk.example:443".parse().expect("an origin");
        let contains = |text: &str| origin.contains(&Url::parse(text).expect("a URL"));
        assert!(contains("https://desk.example/api/v1/tickets?x=1"));
        assert!(!contains("http://desk.example/"));
        assert!(!contains("https://desk.example:8443/"));
        assert!(!contains("https://desk.example.evil.test/"));
        assert_eq!(origin.to_string(), "https://desk.example");
        for bad in [
            "desk.example",
            "ftp://desk.example",
            "https://desk.example/api",
            "https://u@h.example",
            "data:x",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url = DatabaseUrl::parse("postgres://mortise:hunter2@db:5432/mortise?password=hunter3");
        let url = url.expect("a URL");
        for shown in [url.to_string(), format!("{url:?}")] {
            assert!(!shown.contains("hunter") && shown.contains("db:5432/mortise"), "{shown}");
        }
        assert!(matches!(&url, DatabaseUrl::Postgres(url) if url.expose().contains("hunter2")));
    }

    #[test]
    fn sqlite_needs_a_file() {
        assert!(matches!(DatabaseUrl::parse("sqlite://data/mortise.db"),
            Some(DatabaseUrl::Sqlite(path)) if path == std::path::Path::new("data/mortise.db")));
        assert!(matches!(DatabaseUrl::parse("sqlite:///var/mortise.db"),
            Some(DatabaseUrl::Sqlite(path)) if path.is_absolute()));
        for bad in ["sqlite://", "sqlite://:memory:", "sqlite://a?mode=memory", "mysql://x/y", "x"]
        {
            assert!(DatabaseUrl::parse(bad).is_none(), "{bad}");
        }
    }
}
