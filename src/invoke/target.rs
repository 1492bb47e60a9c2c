//! Where a call goes, and which credential may go with it. Pure.
//!
//! The rule is about origins (scheme, host and port) after placeholders: the token of
//! `zohoAuthorisation` goes to the origin of `host.api_base`, a connector's to the origins of its
//! provider, and what else `whiteListedDomains` names is called without any credential of ours.

use url::Url;

use super::placeholders::{Filling, Place, Unfillable};
use crate::config::Origin;

/// The path below which this server answers itself.
pub(super) const OWN_PATH: &str = "/api/v1/installedExtensions/";

/// The longest URL with everything filled in, in bytes.
pub(super) const LONGEST_URL: usize = 8 * 1_024;

/// A connection that a manifest declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeclaredConnection {
    /// The name under which its tokens are kept.
    pub(super) name: String,
    /// The name by which calls refer to it; the host's own connection may have none.
    pub(super) link_name: Option<String>,
    /// The service that grants its tokens.
    pub(super) service: String,
    /// Where its token may go.
    pub(super) origins: Vec<Origin>,
    /// Whether the operator named these: then they are called whatever their address.
    pub(super) is_operators: bool,
}

/// What an installation may call.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// The origin of the host's API.
    pub(super) api_base: Option<Origin>,
    /// The connection to the host; its origins are that of `api_base`.
    pub(super) host: Option<DeclaredConnection>,
    /// The connections to others.
    pub(super) connectors: Vec<DeclaredConnection>,
    /// The origins of `whiteListedDomains`.
    pub(super) listed: Vec<Origin>,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To this server itself.
    Own,
    /// To the host or a provider, which are trusted for just that, with the token of this
    /// connection.
    Trusted(String),
    /// To a server that the manifest declares, vetted, with the token of this connection.
    Vetted(String),
    /// To a host of `whiteListedDomains`, without a credential.
    Listed,
}

impl Target {
    /// The connection whose token goes along.
    pub(super) fn connection(&self) -> Option<&str> {
        match self {
            Self::Trusted(name) | Self::Vetted(name) => Some(name),
            Self::Own | Self::Listed => None,
        }
    }
}

/// What is known of a token besides: who granted it, and where that one's tokens may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted<'a> {
    /// The service.
    pub(super) service: &'a str,
    /// Where its tokens may go; of the host's nothing, since that is `host.api_base`.
    pub(super) origins: &'a [Origin],
}

/// A URL to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadUrl {
    /// It, with placeholders filled in.
    pub(super) url: Url,
    /// Its path as it was written: no value of a placeholder.
    pub(super) path: String,
}

/// Why a call does not go anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The URL cannot be read.
    #[error(
        "requestURL must be an absolute http or https URL without a user name, or a path of the host's API"
    )]
    Malformed,
    /// Its path has steps.
    #[error("requestURL has a part of its path that is . or .., written out or escaped")]
    Steps,
    /// It is longer than what is sent.
    #[error("requestURL is longer than {LONGEST_URL} bytes with its placeholders filled in")]
    TooLong,
    /// A placeholder cannot be filled in.
    #[error(transparent)]
    Placeholder(#[from] Unfillable),
    /// The connection is not declared.
    #[error("connectionLinkName {0:?} is not a connection of the extension's manifest")]
    UnknownConnection(String),
    /// The host is not among those that the extension may call.
    #[error(
        "{0} may not be called: it is neither the host's API, nor an origin of the connection's \
         provider, nor in whiteListedDomains"
    )]
    NotAllowed(String),
    /// There is no host to call.
    #[error("the host's API cannot be called: {0}")]
    NoHost(&'static str),
}

/// Stands for the host's origin where the operator has not set one: what this server answers itself
/// can be called all the same, and nothing else.
const NO_HOST: &str = "https://host.invalid";
const NOT_SET: Unreachable = Unreachable::NoHost("the operator has not set host.api_base");

/// Reads `requestURL` and fills its placeholders in. A path is one of the host's API.
pub(super) fn read_url(
    text: &str,
    api_base: Option<&Origin>,
    filling: &mut Filling<'_>,
) -> Result<ReadUrl, Unreachable> {
    // The URL Standard forgives blanks and backslashes, which others read differently.
    if text.is_empty() || text.contains('\\') || text.chars().any(char::is_control) {
        return Err(Unreachable::Malformed);
    }
    // What follows is never sent.
    let text = text.split('#').next().unwrap_or_default();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ if text.starts_with('/') && !text.starts_with("//") => {
            let base = api_base.map_or_else(|| NO_HOST.to_owned(), ToString::to_string);
            let (path, query) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
            return join(&base, path, query, filling);
        }
        _ => return Err(Unreachable::Malformed),
    };
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(Unreachable::Malformed);
    }
    let end = authority_end(rest);
    let authority = filling.fill(&rest[..end], Place::Authority, false)?;
    if authority.is_empty() || authority.contains('@') {
        return Err(Unreachable::Malformed);
    }
    let base = format!("{scheme}://{authority}");
    let rest = &rest[end..];
    let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    join(&base, path, query, filling)
}

/// Where the authority ends; a placeholder in it may hold none of these characters.
fn authority_end(text: &str) -> usize {
    text.find(['/', '?', '#']).unwrap_or(text.len())
}

fn join(
    base: &str,
    path: &str,
    query: Option<&str>,
    filling: &mut Filling<'_>,
) -> Result<ReadUrl, Unreachable> {
    let filled = filling.fill(path, Place::Path, false)?;
    // What is called must be what is written in the record.
    if filled.split('/').any(is_step) {
        return Err(Unreachable::Steps);
    }
    let mut text = format!("{base}{filled}");
    if let Some(query) = query {
        text.push('?');
        text.push_str(&filling.fill(query, Place::Query, false)?);
    }
    if text.len() > LONGEST_URL {
        return Err(Unreachable::TooLong);
    }
    let url = Url::parse(&text).map_err(|_| Unreachable::Malformed)?;
    // Whatever was filled in: the origin is the one that was written before the path.
    let is_as_written = Url::parse(base).is_ok_and(|base| base.origin() == url.origin());
    let is_plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    if !is_as_written || !is_plain {
        return Err(Unreachable::Malformed);
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(ReadUrl { url, path: path.to_owned() })
}

/// Whether a part of a path leads up or nowhere, for some reader of it: the URL Standard takes
/// `%2e` for a dot, and servers that know parameters of a part leave out what follows a `;`.
fn is_step(part: &str) -> bool {
    let part = part.split(';').next().unwrap_or_default();
    part.len() <= 6 && matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The origins of `whiteListedDomains`, with placeholders filled in. What cannot be called over
/// HTTP, or has a parameter without a value, names nothing.
pub(super) fn listed_origins(domains: &[String], filling: &mut Filling<'_>) -> Vec<Origin> {
    domains
        .iter()
        .filter_map(|domain| {
            let (scheme, rest) = domain.split_once("://")?;
            let authority =
                filling.fill(&rest[..authority_end(rest)], Place::Authority, false).ok()?;
            Origin::of(&Url::parse(&format!("{scheme}://{authority}")).ok()?)
        })
        .collect()
}

impl Reach {
    /// Where a URL leads.
    pub(super) fn classify(&self, url: &Url, link_name: &str) -> Result<Target, Unreachable> {
        let is_nowhere = self.api_base.is_none() && url.as_str().starts_with(NO_HOST);
        let is_host = self.api_base.as_ref().is_some_and(|origin| origin.contains(url));
        if (is_host || is_nowhere) && url.path().starts_with(OWN_PATH) {
            return Ok(Target::Own);
        }
        if is_nowhere {
            return Err(NOT_SET);
        }
        let named = |connection: &&DeclaredConnection| {
            connection.name == link_name || connection.link_name.as_deref() == Some(link_name)
        };
        let connection = match link_name {
            "" => None,
            link_name => {
                let found = self.host.iter().chain(&self.connectors).find(named);
                Some(found.ok_or_else(|| {
                    Unreachable::UnknownConnection(link_name.chars().take(100).collect())
                })?)
            }
        };
        let reaches =
            |connection: &DeclaredConnection| connection.origins.iter().any(|o| o.contains(url));
        if let Some(connection) = connection.filter(|connection| reaches(connection)) {
            let name = connection.name.clone();
            let is_operators = connection.is_operators;
            return Ok(if is_operators { Target::Trusted(name) } else { Target::Vetted(name) });
        }
        if is_host && connection.is_none() {
            return match &self.host {
                Some(host) => Ok(Target::Trusted(host.name.clone())),
                None => Err(Unreachable::NoHost("the extension declares no zohoAuthorisation")),
            };
        }
        if self.listed.iter().any(|origin| origin.contains(url)) {
            return Ok(Target::Listed);
        }
        Err(Unreachable::NotAllowed(url.origin().ascii_serialization()))
    }

    /// Whether a token of a connection may go to a URL: the last question before it does. The row
    /// that it came from may be of another version than what is known here: connected before an
    /// upgrade that led the name elsewhere, or after one that came while the call was under way.
    pub(super) fn lets(&self, name: &str, granted: Granted<'_>, url: &Url) -> bool {
        let has = |origins: &[Origin]| origins.iter().any(|origin| origin.contains(url));
        if let Some(host) = self.host.as_ref().filter(|host| host.name == name) {
            return host.service == granted.service && has(self.api_base.as_slice());
        }
        let declared = self.connectors.iter().find(|connector| connector.name == name);
        declared.is_some_and(|one| one.service == granted.service && has(&one.origins))
            && has(granted.origins)
    }
}

#[cfg(test)]
mod tests {
    use super::super::placeholders::{Value, Values};
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().expect("an origin")
    }

    fn reach() -> Reach {
        Reach {
            api_base: Some(origin("https://desk.example")),
            host: Some(DeclaredConnection {
                name: "zohoAuthorisation".to_owned(),
                link_name: Some("mirror_desk".to_owned()),
                service: "zlabs_integration".to_owned(),
                origins: vec![origin("https://desk.example")],
                is_operators: true,
            }),
            connectors: vec![
                DeclaredConnection {
                    name: "chat".to_owned(),
                    link_name: Some("chat".to_owned()),
                    service: "chatter".to_owned(),
                    origins: vec![
                        origin("https://api.chat.example"),
                        origin("https://eu.chat.example"),
                    ],
                    is_operators: true,
                },
                DeclaredConnection {
                    name: "own".to_owned(),
                    link_name: Some("own".to_owned()),
                    service: "own".to_owned(),
                    origins: vec![origin("https://own.example")],
                    is_operators: false,
                },
            ],
            listed: vec![origin("https://mirror.example"), origin("http://mirror.example:8080")],
        }
    }

    fn classify(url: &str, link_name: &str) -> Result<Target, Unreachable> {
        reach().classify(&Url::parse(url).expect("a URL"), link_name)
    }

    #[test]
    fn each_credential_goes_to_its_own_origin_only() {
        let host = Ok(Target::Trusted("zohoAuthorisation".to_owned()));
        let chat = Ok(Target::Trusted("chat".to_owned()));
        assert_eq!(classify("https://desk.example/api/v1/tickets", ""), host);
        assert_eq!(classify("https://desk.example:443/x", "mirror_desk"), host);
        assert_eq!(classify("https://desk.example/x", "zohoAuthorisation"), host);
        assert_eq!(classify("https://eu.chat.example/post", "chat"), chat);
        assert_eq!(classify("https://mirror.example/x", ""), Ok(Target::Listed));
        assert_eq!(classify("http://mirror.example:8080/x", ""), Ok(Target::Listed));
        // What a manifest brings itself is vetted as every address of a vendor's.
        assert_eq!(classify("https://own.example/x", "own"), Ok(Target::Vetted("own".to_owned())));
        // Allowed, but nobody's token goes there.
        assert_eq!(classify("https://mirror.example/x", "chat"), Ok(Target::Listed));
        assert_eq!(classify("https://mirror.example/x", "mirror_desk"), Ok(Target::Listed));
        for (url, link_name) in [
            ("https://desk.example/x", "chat"),
            ("https://api.chat.example/x", "mirror_desk"),
            // A service that is reached with a token is not called without one.
            ("https://api.chat.example/post", ""),
            ("https://own.example/x", ""),
            ("http://desk.example/x", ""),
            ("https://desk.example:8443/x", ""),
            ("https://desk.example.evil.example/x", ""),
            ("https://evil.example/desk.example", ""),
            ("http://mirror.example/x", ""),
            ("https://sub.mirror.example/x", ""),
            ("http://169.254.169.254/latest", ""),
        ] {
            let refused = classify(url, link_name);
            assert!(matches!(refused, Err(Unreachable::NotAllowed(_))), "{url} {refused:?}");
        }
        assert!(matches!(
            classify("https://desk.example/x", "nobody"),
            Err(Unreachable::UnknownConnection(_))
        ));
    }

    #[test]
    fn without_an_authorisation_the_host_is_not_called() {
        let mut reach = reach();
        reach.host = None;
        let url = Url::parse("https://desk.example/api/v1/tickets").expect("a URL");
        assert!(matches!(reach.classify(&url, ""), Err(Unreachable::NoHost(_))));
        let own = Url::parse("https://desk.example/api/v1/installedExtensions/1/storage");
        assert_eq!(reach.classify(&own.expect("a URL"), ""), Ok(Target::Own));
    }

    #[test]
    fn without_a_host_this_server_still_answers_itself() {
        let reach = Reach { api_base: None, ..reach() };
        let values = Values::default();
        let classify = |text: &str| {
            let read = read_url(text, None, &mut Filling::new(&values, false))?;
            reach.classify(&read.url, "")
        };
        assert_eq!(classify("/api/v1/installedExtensions/1/storage"), Ok(Target::Own));
        assert_eq!(classify("/api/v1/tickets"), Err(NOT_SET));
        assert_eq!(classify("https://mirror.example/x"), Ok(Target::Listed));
    }

    #[test]
    fn a_token_goes_only_where_its_own_grant_lets_it() {
        let (reach, host) = (reach(), "zohoAuthorisation");
        let lets = |name: &str, service: &str, origins: &[&str], url: &str| {
            let origins: Vec<Origin> = origins.iter().map(|text| origin(text)).collect();
            let granted = Granted { service, origins: &origins };
            reach.lets(name, granted, &Url::parse(url).expect("a URL"))
        };
        let own = ["https://own.example"];
        assert!(lets("own", "own", &own, "https://own.example/x"));
        assert!(lets("chat", "chatter", &["https://api.chat.example"], "https://api.chat.example"));
        assert!(lets(host, "zlabs_integration", &[], "https://desk.example/x"));
        for (name, service, origins, url) in [
            // Granted by another server of the same name, which the manifest led elsewhere since.
            ("own", "own", &["https://former.example"][..], "https://own.example/x"),
            ("own", "own", &[], "https://own.example/x"),
            ("own", "own", &["https://former.example"], "https://former.example/x"),
            // The name stands for another service now.
            ("own", "chatter", &own, "https://own.example/x"),
            ("chat", "own", &own, "https://own.example/x"),
            (host, "chatter", &["https://desk.example"], "https://desk.example/x"),
            (host, "zlabs_integration", &["https://desk.example", own[0]], own[0]),
            ("nobody", "own", &own, "https://own.example/x"),
        ] {
            assert!(!lets(name, service, origins, url), "{name} {service} {origins:?} {url}");
        }
    }

    fn read(text: &str) -> Result<String, Unreachable> {
        let mut values = Values::default();
        for (name, value) in [
            ("id", "7"),
            ("host", "api.example"),
            ("hostile", "evil.example/x"),
            ("user", "a@evil.example"),
            ("slash", "../../admin?x#y"),
            ("port", "8080"),
            ("e", "e"),
        ] {
            values.add(name, Value::Open(value.to_owned()));
        }
        let base = origin("https://desk.example");
        read_url(text, Some(&base), &mut Filling::new(&values, false))
            .map(|read| String::from(read.url))
    }

    #[test]
    fn the_path_of_the_record_is_the_one_that_is_called() {
        let mut values = Values::default();
        values.add("id", Value::Open("7".to_owned()));
        let path = |text: &str| {
            let base = origin("https://desk.example");
            let read = read_url(text, Some(&base), &mut Filling::new(&values, false));
            read.map(|read| read.path)
        };
        for (text, wanted) in [
            ("/tickets/{{id}}?a=b#c", "/tickets/{{id}}"),
            ("/admin?x=a://b/tickets", "/admin"),
            ("/admin://b/tickets", "/admin://b/tickets"),
            ("https://desk.example/a/{{id}}", "/a/{{id}}"),
            ("https://desk.example?x", "/"),
        ] {
            assert_eq!(path(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn paths_have_no_steps_however_they_are_written() {
        for text in [
            "/api/v1/tickets/../agents",
            "/api/v1/tickets/%2e%2E/agents",
            "/api/v1/./tickets",
            "/api/v1/tickets/.%2e",
            "/api/v1/tickets/..;a=b/agents",
            "/api/v1/installedExtensions/../tickets",
            "https://desk.example/a/%2E/b",
            "/x/%2{{e}}/y",
            "/x/.%2{{e}}/y",
        ] {
            assert_eq!(read(text), Err(Unreachable::Steps), "{text}");
        }
        for text in ["/a..b/...", "/.well-known/x", "/a/..b", "/%2e%2e%2e"] {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn urls_are_read_with_their_placeholders() {
        for (text, wanted) in [
            (
                "/api/v1/tickets/{{id}}?a={{slash}}",
                "https://desk.example/api/v1/tickets/7?a=..%2F..%2Fadmin%3Fx%23y",
            ),
            ("/x/{{slash}}/y", "https://desk.example/x/..%2F..%2Fadmin%3Fx%23y/y"),
            ("/x#y{{nobody}}", "https://desk.example/x"),
            ("https://{{host}}/a", "https://api.example/a"),
            ("HTTPS://{{host}}:{{port}}?q", "https://api.example:8080/?q"),
            ("https://desk.example", "https://desk.example/"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn nothing_changes_the_origin() {
        for text in [
            "",
            "//evil.example/x",
            "tickets",
            "ftp://desk.example/",
            "https:///x",
            "https://a@desk.example/",
            "https://desk.example\\@evil.example/",
            "https://{{hostile}}/",
            "https://{{user}}/",
            "https://desk.example/\n",
            "javascript://x",
            "{{host}}/x",
        ] {
            assert!(read(text).is_err(), "{text}: {:?}", read(text));
        }
        let long = format!("/{}", "x".repeat(LONGEST_URL));
        assert_eq!(read(&long), Err(Unreachable::TooLong));
    }

    #[test]
    fn lists_of_domains_become_origins() {
        let mut values = Values::default();
        values.add("host", Value::Open("mirror.example".to_owned()));
        values.add("star", Value::Open("*".to_owned()));
        let domains = [
            "https://{{host}}/path",
            "https://{{star}}",
            "https://{{missing}}",
            "wss://socket.example",
            "http://plain.example:8080",
        ]
        .map(str::to_owned);
        let origins = listed_origins(&domains, &mut Filling::new(&values, false));
        let texts: Vec<String> = origins.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["https://mirror.example", "http://plain.example:8080"]);
    }
}
