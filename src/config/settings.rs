//! The list of all settings: the one place where a name, its rule, its default and its meaning
//! stand together. The reader, the errors and `docs/configuration.md` come from it.

use std::time::Duration;

use super::key::Key;
use super::value::{duration_text, size_text};

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An address and port to listen on.
    Listener,
    /// A path of the file system.
    Path,
    /// An absolute http or https URL.
    Url,
    /// Scheme, host and port.
    Origin,
    /// The URL of a database.
    DatabaseUrl,
    /// The URL of a proxy.
    ProxyUrl,
    /// A text of at most so many characters.
    Text { most: usize },
    /// A text that is never shown.
    Secret,
    /// A key for Standard Webhooks that is never shown.
    SigningSecret,
    /// The name of an HTTP authentication scheme.
    Scheme,
    /// An OAuth scope, or the beginning of some with a `*` behind it.
    Scope,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Integer { least: i64, most: i64 },
    /// A size in bytes.
    Size { least: u64, most: u64 },
    /// A span of time.
    Duration { least: Duration, most: Duration },
    /// An entry of `egress.allow`.
    Network,
    /// A network or a single address.
    Subnet,
    /// A filter of log lines.
    LogFilter,
    /// A list of so many values.
    List { of: &'static Kind, least: usize, most: usize },
}

impl Kind {
    /// The rule in words, after "must be".
    pub(crate) fn rule(&self) -> String {
        match self {
            Self::Listener => {
                "an address and port to listen on, such as `127.0.0.1:8080`".to_owned()
            }
            Self::Path => "a path".to_owned(),
            Self::Url => "an absolute http or https URL".to_owned(),
            Self::Origin => {
                "an origin: scheme, host and port, such as `https://desk.example`".to_owned()
            }
            Self::DatabaseUrl => {
                "`sqlite://<path of a file>` or `postgres://user:password@host:port/database`"
                    .to_owned()
            }
            Self::ProxyUrl => "an http or https URL of a proxy".to_owned(),
            Self::Text { most } => {
                format!("a text of 1 to {most} characters without control characters")
            }
            Self::Secret => {
                "a secret of 1 to 4096 bytes without control characters or spaces around it"
                    .to_owned()
            }
            Self::SigningSecret => {
                "`whsec_` and the base64 form of 24 to 64 bytes, or a text of at least 24 bytes"
                    .to_owned()
            }
            Self::Scheme => "the name of an HTTP authentication scheme".to_owned(),
            Self::Scope => {
                "a scope such as `Desk.settings.ALL`, or the beginning of scopes and a `*`, such as `Desk.organization.*`, of 1 to 200 visible ASCII characters without commas"
                    .to_owned()
            }
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Choice(words) => format!("one of `{}`", words.join("`, `")),
            Self::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Self::Size { least, most } => format!(
                "a size from {} to {}, such as `512KiB`, `64MiB` or a number of bytes",
                size_text(*least),
                size_text(*most)
            ),
            Self::Duration { least, most } => format!(
                "a duration from {} to {}, such as `500ms`, `10s`, `5m`, `2h` or `30d`",
                duration_text(*least),
                duration_text(*most)
            ),
            Self::Network => {
                "`CIDR[:port]`, such as `10.0.0.0/8`, `127.0.0.1:9000` or `[fd00::1]:443`"
                    .to_owned()
            }
            Self::Subnet => {
                "an address or network, such as `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`".to_owned()
            }
            Self::LogFilter => {
                "a filter, such as `info` or `info,mortise::delivery=debug`".to_owned()
            }
            Self::List { of, least, most } => {
                format!("a list of {least} to {most} values, each {}", of.rule())
            }
        }
    }

    /// Whether the value must never be shown.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret | Self::SigningSecret | Self::DatabaseUrl | Self::ProxyUrl)
    }
}

/// What holds where nobody set a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// This value, written as a variable would say it.
    Value(&'static str),
    /// A value that follows from others, in words.
    Derived(&'static str),
    /// Nothing: what it is for is off.
    Nothing,
    /// None; it must be set wherever its group is.
    Required,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The dotted name; a segment in angle brackets stands for any name.
    pub(crate) key: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// What holds without it.
    pub(crate) fallback: Fallback,
    /// What it does.
    pub(crate) meaning: &'static str,
}

const fn setting(
    key: &'static str,
    kind: Kind,
    fallback: Fallback,
    meaning: &'static str,
) -> Setting {
    Setting { key, kind, fallback, meaning }
}

const fn seconds(least: u64, most: u64) -> Kind {
    Kind::Duration { least: Duration::from_secs(least), most: Duration::from_secs(most) }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;
const STEP: Kind = seconds(1, 7 * DAY);

use Fallback::{Derived, Nothing, Required, Value};

/// Every setting, in the order of the documentation.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "listen",
        Kind::Listener,
        Value("127.0.0.1:8080"),
        "Where the API and the pages are served.",
    ),
    setting(
        "public_url",
        Kind::Origin,
        Derived("`http://` and `listen`"),
        "The origin under which browsers, marketplaces and providers reach this server; part of redirect addresses and links.",
    ),
    setting(
        "data_dir",
        Kind::Path,
        Value("data"),
        "The folder for the SQLite file, the master key and the first operator token.",
    ),
    setting(
        "server.trusted_proxies",
        Kind::List { of: &Kind::Subnet, least: 0, most: 100 },
        Value(""),
        "The proxies and balancers in front of this server. Only from them `X-Forwarded-For` and `Forwarded` are read, from the right, for where a request comes from: what audit, history and sessions say. Where it is empty, it is the peer of the connection.",
    ),
    setting(
        "database.url",
        Kind::DatabaseUrl,
        Derived("`sqlite://<data_dir>/mortise.db`"),
        "The database. SQLite for one node, PostgreSQL for one or many.",
    ),
    setting(
        "database.max_connections",
        Kind::Integer { least: 2, most: 1_000 },
        Value("16"),
        "The most connections that this node opens to PostgreSQL.",
    ),
    setting(
        "database.migrate",
        Kind::Switch,
        Value("true"),
        "Whether `serve` brings the schema up to date by itself; where it is off, run `mortise migrate up`.",
    ),
    setting(
        "keys.master_file",
        Kind::Path,
        Derived("`<data_dir>/master.key`"),
        "The file with the master key, which all secrets are sealed with. Keep a copy apart from the database's.",
    ),
    setting(
        "oauth.providers.<serviceName>.authorize_url",
        Kind::Url,
        Required,
        "Where the administrator's browser is sent for consent.",
    ),
    setting(
        "oauth.providers.<serviceName>.token_url",
        Kind::Url,
        Required,
        "Where codes and refresh tokens are exchanged.",
    ),
    setting(
        "oauth.providers.<serviceName>.revoke_url",
        Kind::Url,
        Nothing,
        "Where tokens are revoked (RFC 7009).",
    ),
    setting(
        "oauth.providers.<serviceName>.client_id",
        Kind::Text { most: 500 },
        Required,
        "The client id that the provider gave.",
    ),
    setting(
        "oauth.providers.<serviceName>.client_secret",
        Kind::Secret,
        Required,
        "The client secret that the provider gave.",
    ),
    setting(
        "oauth.providers.<serviceName>.issuer",
        Kind::Url,
        Nothing,
        "The provider's issuer identifier; where it is set, the `iss` of each answer must equal it (RFC 9207).",
    ),
    setting(
        "oauth.providers.<serviceName>.token_scheme",
        Kind::Scheme,
        Value("Zoho-oauthtoken"),
        "The word before the access token in the `Authorization` header.",
    ),
    setting(
        "oauth.providers.<serviceName>.scope_separator",
        Kind::Text { most: 3 },
        Value(","),
        "What stands between scopes in the consent address.",
    ),
    setting(
        "oauth.providers.<serviceName>.api_origins",
        Kind::List { of: &Kind::Origin, least: 0, most: 100 },
        Value(""),
        "The origins to which a connector's token of this provider may go, through `POST /invoke` with its `connectionLinkName`.",
    ),
    setting(
        "host.api_base",
        Kind::Origin,
        Nothing,
        "The origin of the host's API: the only place to which tokens of `zohoAuthorisation` go, and what relative addresses of invoke calls mean.",
    ),
    setting(
        "egress.allow",
        Kind::List { of: &Kind::Network, least: 0, most: 1_000 },
        Value(""),
        "Addresses that may be called for vendors and administrators although they are not public. Link-local and metadata addresses are opened only by an entry of just that address.",
    ),
    setting(
        "egress.require_https",
        Kind::Switch,
        Value("true"),
        "Whether the URLs of vendors and administrators must be https.",
    ),
    setting(
        "egress.proxy",
        Kind::ProxyUrl,
        Nothing,
        "A forward proxy for the calls to vendors and administrators' URLs.",
    ),
    setting(
        "egress.ca_file",
        Kind::Path,
        Nothing,
        "A PEM file of certificate authorities that are trusted beside the usual ones.",
    ),
    setting(
        "egress.refuse_ports",
        Kind::List { of: &Kind::Integer { least: 1, most: 65_535 }, least: 0, most: 1_000 },
        Value(""),
        "Ports that vendors' and administrators' URLs must not have, besides those of other protocols (22, 25, 5432, 6379 and so on), which are refused anyhow. An entry of `egress.allow` that names the port lifts either.",
    ),
    setting(
        "catalogue.denied_scopes",
        Kind::List { of: &Kind::Scope, least: 0, most: 1_000 },
        Value(""),
        "Scopes that no extension may ask for. Compared without case; what covers a denied scope is denied with it (`Desk.settings.ALL` where `Desk.settings.READ` is). Versions that were published before keep theirs.",
    ),
    setting(
        "marketplace.signing_secret",
        Kind::SigningSecret,
        Nothing,
        "Where it is set, every callback of the marketplace must carry Standard Webhooks headers made with it.",
    ),
    setting(
        "marketplace.return_urls",
        Kind::List { of: &Kind::Origin, least: 0, most: 100 },
        Value(""),
        "The origins that a `returnUrl` may have.",
    ),
    setting(
        "delivery.deadline",
        seconds(1, 60),
        Value("10s"),
        "How long one attempt may take, from name resolution to the last byte of the answer.",
    ),
    setting(
        "delivery.concurrency_per_webhook",
        Kind::Integer { least: 1, most: 1_024 },
        Value("32"),
        "The most requests under way to one webhook from this node.",
    ),
    setting(
        "delivery.concurrency",
        Kind::Integer { least: 1, most: 65_536 },
        Value("1024"),
        "The most requests under way from this node in all.",
    ),
    setting(
        "delivery.schedule",
        Kind::List { of: &STEP, least: 1, most: 20 },
        Value("1m,5m,30m,2h"),
        "The waits before the second and later attempts, each from the end of the attempt before.",
    ),
    setting(
        "delivery.overrides.attempts",
        Kind::Integer { least: 1, most: 21 },
        Value("10"),
        "The most attempts that a package may ask for (`mortise.delivery.schedule`); further waits are left out.",
    ),
    setting(
        "delivery.overrides.shortest_pause",
        STEP,
        Value("5s"),
        "The shortest wait between two attempts that a package may ask for; shorter ones are lengthened to it.",
    ),
    setting(
        "delivery.overrides.longest_pause",
        STEP,
        Value("24h"),
        "The longest wait between two attempts that a package may ask for; longer ones are shortened to it.",
    ),
    setting(
        "delivery.overrides.deadline",
        seconds(1, 60),
        Value("30s"),
        "The longest deadline that a package may ask for (`mortise.delivery.deadlineSeconds`).",
    ),
    setting(
        "delivery.overrides.concurrency",
        Kind::Integer { least: 1, most: 1_024 },
        Value("128"),
        "The most requests under way to one webhook from this node that a package may ask for (`mortise.delivery.concurrency`).",
    ),
    setting(
        "delivery.ed25519",
        Kind::Switch,
        Value("false"),
        "Whether deliveries carry an Ed25519 signature (`v1a`) besides those of the extension's secrets. Its public keys are at `/.well-known/jwks.json`.",
    ),
    setting(
        "delivery.queue_bytes",
        Kind::Size { least: MIB, most: 64 * GIB },
        Value("64MiB"),
        "How much memory events that wait for their first attempt may take on this node; what goes beyond waits in the database.",
    ),
    setting(
        "delivery.disable_after",
        seconds(0, 3_650 * DAY),
        Value("5d"),
        "A webhook that fails, and still fails this long after without having taken anything, is disabled: its deliveries are held until somebody reactivates it. `0s` means never.",
    ),
    setting(
        "delivery.recovery_per_second",
        Kind::Integer { least: 1, most: 100_000 },
        Value("100"),
        "How many deliveries a second a job of `recover` or `reactivate` puts on their way; a request may ask for fewer.",
    ),
    setting(
        "delivery.retention.payload",
        seconds(HOUR, 3_650 * DAY),
        Value("30d"),
        "How long payloads are kept, for replay, and held deliveries wait.",
    ),
    setting(
        "delivery.retention.attempts",
        seconds(HOUR, 3_650 * DAY),
        Value("60d"),
        "How long deliveries and their attempts are kept, without the payload; notices and ended jobs too. Never shorter than payloads are.",
    ),
    setting(
        "delivery.retention.deduplication",
        seconds(DAY, 30 * DAY),
        Value("24h"),
        "How long an `eventId` keeps a second event of that name out.",
    ),
    setting(
        "delivery.breaker.failures",
        Kind::Integer { least: 1, most: 10_000 },
        Value("10"),
        "How many failures in a row pause a webhook.",
    ),
    setting(
        "delivery.breaker.failure_percent",
        Kind::Integer { least: 1, most: 100 },
        Value("70"),
        "How many of a hundred attempts within a minute have to fail to pause a webhook.",
    ),
    setting(
        "delivery.breaker.volume",
        Kind::Integer { least: 1, most: 1_000_000 },
        Value("20"),
        "How many attempts a minute must have before their rate of failures counts.",
    ),
    setting(
        "delivery.breaker.pause",
        seconds(1, DAY),
        Value("30s"),
        "How long a paused webhook waits for its first probe; each failed probe doubles the wait.",
    ),
    setting(
        "delivery.breaker.pause_limit",
        seconds(1, DAY),
        Value("10m"),
        "The longest wait between two probes.",
    ),
    setting(
        "retention.erase_after",
        seconds(60, 3_650 * DAY),
        Value("30d"),
        "How long after its uninstall what is kept of an installation is erased: parameters, departments, names, answers and payloads. Where the org asks for it (`eraseData`) that is done at once.",
    ),
    setting(
        "audit.retention",
        seconds(DAY, 36_500 * DAY),
        Value("730d"),
        "How long the audit is kept; what remains still proves itself.",
    ),
    setting(
        "limits.event_body_bytes",
        Kind::Size { least: KIB, most: GIB },
        Value("8MiB"),
        "The largest body of `POST /events`.",
    ),
    setting(
        "limits.events_per_request",
        Kind::Integer { least: 1, most: 100_000 },
        Value("1000"),
        "The most events in one request.",
    ),
    setting(
        "limits.request_body_bytes",
        Kind::Size { least: KIB, most: GIB },
        Value("2MiB"),
        "The largest body of any other request but a package.",
    ),
    setting(
        "limits.package_bytes",
        Kind::Size { least: KIB, most: GIB },
        Value("20MB"),
        "The largest extension package.",
    ),
    setting(
        "limits.tests_per_minute",
        Kind::Integer { least: 1, most: 6_000 },
        Value("30"),
        "How many pings and test requests one token may make a minute, on each node.",
    ),
    setting(
        "limits.invoke_per_minute",
        Kind::Integer { least: 1, most: 10_000_000 },
        Value("600"),
        "How many calls one installation may make through `POST /invoke` a minute, on each node.",
    ),
    setting(
        "limits.invoke_under_way",
        Kind::Integer { least: 1, most: 100_000 },
        Value("512"),
        "How many calls through `POST /invoke` are under way on a node; one installation has an eighth of them, one vendor a quarter.",
    ),
    setting(
        "limits.invoke_deadline",
        seconds(1, 120),
        Value("20s"),
        "How long a call through `POST /invoke` may take in all, with a refresh of its token and the second exchange after it.",
    ),
    setting(
        "limits.invoke_response_bytes",
        Kind::Size { least: KIB, most: GIB },
        Value("1MiB"),
        "How much of an answer is read and handed back by `POST /invoke`.",
    ),
    setting(
        "limits.invocations_kept",
        Kind::Integer { least: 1_000, most: 1_000_000_000 },
        Value("1000000"),
        "How many calls through `POST /invoke` are remembered; of the installations with most of them the oldest go first.",
    ),
    setting(
        "limits.incoming_body_bytes",
        Kind::Size { least: KIB, most: 64 * (1 << 20) },
        Value("256KiB"),
        "The largest body of `POST /incoming/{extensionKey}`.",
    ),
    setting(
        "limits.incoming_per_minute",
        Kind::Integer { least: 1, most: 1_000_000 },
        Value("600"),
        "How many requests one user's token may post to `POST /incoming/{extensionKey}` a minute, on each node.",
    ),
    setting(
        "limits.incoming_installation_per_minute",
        Kind::Integer { least: 1, most: 10_000_000 },
        Value("6000"),
        "How many requests may be posted to `POST /incoming/{extensionKey}` for one installation a minute, by all its users' tokens, on each node.",
    ),
    setting(
        "limits.connections",
        Kind::Integer { least: 1, most: 1_000_000 },
        Value("10000"),
        "The most connections from clients at a time; further ones wait to be accepted.",
    ),
    setting(
        "limits.header_read_timeout",
        seconds(1, 300),
        Value("10s"),
        "How long a client may take to send the headers of a request.",
    ),
    setting(
        "limits.body_read_timeout",
        seconds(1, 3_600),
        Value("60s"),
        "How long a client may take to send the body of a request.",
    ),
    setting(
        "limits.drain",
        seconds(0, 3_600),
        Value("30s"),
        "How long requests under way may finish when the server is told to stop.",
    ),
    setting(
        "notices.url",
        Kind::Url,
        Nothing,
        "Where notices are sent as signed events. The operator's own: called whatever its address and scheme.",
    ),
    setting(
        "notices.signing_secret",
        Kind::SigningSecret,
        Nothing,
        "Signs the events to `notices.url` by Standard Webhooks; needed where that is set.",
    ),
    setting(
        "pages.frame_ancestors",
        Kind::List { of: &Kind::Origin, least: 0, most: 20 },
        Value(""),
        "The origins whose pages may show these pages in a frame, such as the host's own console; nobody may where it is empty. Their cookie travels in frames over https only.",
    ),
    setting(
        "metrics.listen",
        Kind::Listener,
        Nothing,
        "A second listener that serves `/metrics` and nothing else, without a token: for an address that only the operator's machines reach.",
    ),
    setting(
        "otlp.endpoint",
        Kind::Url,
        Nothing,
        "The OpenTelemetry collector that gets traces, by OTLP over HTTP in JSON, at `v1/traces` below this address, such as `http://127.0.0.1:4318`. Nothing is traced where it is not set.",
    ),
    setting(
        "otlp.authorization",
        Kind::Secret,
        Nothing,
        "What the collector gets in the header `Authorization`, such as `Bearer …`.",
    ),
    setting(
        "otlp.sample_percent",
        Kind::Integer { least: 0, most: 100 },
        Value("100"),
        "How many of a hundred traces that begin here are recorded. Callers who send `traceparent` decide for theirs.",
    ),
    setting(
        "webhooks.check_url",
        Kind::Switch,
        Value("true"),
        "Whether the address of an org's own webhook of the dialect `desk` is asked, by GET and then by POST, before it is saved.",
    ),
    setting(
        "reconcile.every",
        seconds(0, 30 * DAY),
        Value("1h"),
        "How often what is there is compared with what should be, on one node at a time; `0s` switches it off.",
    ),
    setting(
        "reconcile.repair",
        Kind::Switch,
        Value("true"),
        "Whether the periodic comparison repairs what it finds; otherwise it only tells.",
    ),
    setting(
        "log.format",
        Kind::Choice(&["text", "json"]),
        Value("text"),
        "How log lines are written.",
    ),
    setting(
        "log.filter",
        Kind::LogFilter,
        Value("info"),
        "Which log lines are written, by level and module.",
    ),
];

/// The setting of a key, where there is one.
pub(crate) fn find(key: &Key) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| {
        let pattern = setting.key.split('.');
        pattern.clone().count() == key.segments().len()
            && pattern.zip(key.segments()).all(|(pattern, given)| fits(pattern, given))
    })
}

/// The settings below a key, where it is a group.
pub(crate) fn below(key: &Key) -> Vec<&'static str> {
    let depth = key.segments().len();
    let is_below = |setting: &&Setting| {
        setting.key.split('.').count() > depth
            && setting
                .key
                .split('.')
                .zip(key.segments())
                .all(|(pattern, given)| fits(pattern, given))
    };
    SETTINGS.iter().filter(is_below).map(|setting| setting.key).collect()
}

/// The known key that is spelled most like an unknown one, where one is near.
pub(crate) fn nearest(key: &Key) -> Option<Key> {
    let written = key.to_string();
    let last = key.segments().last()?;
    let candidates = SETTINGS.iter().map(|setting| {
        let segments = setting.key.split('.').enumerate().map(|(index, pattern)| {
            match key.segments().get(index) {
                Some(given) if pattern.starts_with('<') => given.clone(),
                _ => pattern.to_owned(),
            }
        });
        Key::new(segments.collect())
    });
    candidates
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&candidate.to_string(), &written);
            let same_last = candidate.segments().last() == Some(last);
            let near = same_last || distance <= (written.chars().count() / 3).max(2);
            near.then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fits(pattern: &str, given: &str) -> bool {
    pattern.starts_with('<') || pattern == given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_name() {
        assert!(find(&Key::from("oauth.providers.zlabs.token_url")).is_some());
        assert!(find(&Key::from("oauth.providers.token_url")).is_none());
        assert!(find(&Key::from("oauth.providers.a.b.token_url")).is_none());
        assert_eq!(below(&Key::from("metrics")), ["metrics.listen"]);
        assert!(below(&Key::from("metrics.listen")).is_empty());
    }

    #[test]
    fn misspelled_keys_find_their_neighbour() {
        for (written, meant) in [
            ("databse.url", "database.url"),
            ("deadline", "delivery.deadline"),
            ("delivery.retention.payloads", "delivery.retention.payload"),
            ("oauth.providers.zlabs.token_uri", "oauth.providers.zlabs.token_url"),
        ] {
            let found = nearest(&Key::from(written)).map(|key| key.to_string());
            assert_eq!(found.as_deref(), Some(meant), "{written}");
        }
        assert_eq!(nearest(&Key::from("wholly.different")), None);
    }
}
