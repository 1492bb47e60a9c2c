//! The configuration: file, environment and flags become one checked value.
//!
//! First everything that was said is gathered, each value with its place; then each is checked
//! against the list in `settings.rs`. All faults are answered at once, and each says which key,
//! where it was set and what the rule is.

mod address;
mod build;
mod fault;
mod key;
mod layers;
mod reader;
mod reference;
mod settings;
mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

pub use address::{AllowedNetwork, DatabaseUrl, InvalidNetwork, InvalidOrigin, Origin, SecretUrl};
pub use fault::{ConfigError, Fault, Source};
pub use layers::{FILE_VARIABLE, Inputs, OTHER_VARIABLES, USUAL_FILE};
pub use reference::reference;
pub(crate) use value::parse_duration;

/// The whole configuration of a process, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API and the pages are served.
    pub listen: SocketAddr,
    /// The origin under which others reach this server.
    pub public_url: Url,
    /// Whether somebody set `public_url`; else it follows from `listen`.
    public_url_is_set: bool,
    /// What stands before this server.
    pub server: Server,
    /// The folder for the SQLite file, the master key and the first operator token.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Database,
    /// Where the keys are.
    pub keys: Keys,
    /// Whom installations authorise with.
    pub oauth: OAuth,
    /// The help desk that we serve.
    pub host: Host,
    /// What may be called for vendors and administrators.
    pub egress: Egress,
    /// Which extensions may be published.
    pub catalogue: Catalogue,
    /// The marketplace that calls us.
    pub marketplace: Marketplace,
    /// How events are delivered.
    pub delivery: Delivery,
    /// What a request may cost.
    pub limits: Limits,
    /// Where notices go.
    pub notices: Notices,
    /// What is kept of installations.
    pub installations: Installations,
    /// What is kept of the audit.
    pub audit: Audit,
    /// The comparison of what is there with what should be.
    pub reconcile: Reconcile,
    /// The orgs' own webhooks.
    pub webhooks: Webhooks,
    /// How the pages are shown.
    pub pages: Pages,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// Where traces go.
    pub otlp: Otlp,
    /// What is logged.
    pub log: Log,
    warnings: Vec<Fault>,
}

/// The file that the first operator token is written to, in the data folder.
pub const OPERATOR_TOKEN_FILE: &str = "operator.token";

/// The group `server`.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// The proxies whose word is taken for where a request comes from.
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

/// The group `database`.
#[derive(Clone, Debug)]
pub struct Database {
    /// Which database.
    pub url: DatabaseUrl,
    /// The most connections to PostgreSQL.
    pub max_connections: u32,
    /// Whether `serve` migrates by itself.
    pub migrate: bool,
}

/// The group `keys`.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The file with the master key.
    pub master_file: PathBuf,
}

/// The group `oauth`.
#[derive(Clone, Debug, Default)]
pub struct OAuth {
    /// The providers by the `serviceName` of manifests.
    pub providers: BTreeMap<String, Provider>,
}

/// An authorisation server that installations authorise with.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Where the browser is sent.
    pub authorize_url: Url,
    /// Where codes and refresh tokens are exchanged.
    pub token_url: Url,
    /// Where tokens are revoked (RFC 7009).
    pub revoke_url: Option<Url>,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there.
    pub client_secret: SecretString,
    /// The issuer identifier that `iss` must equal, as it was written (RFC 9207).
    pub issuer: Option<String>,
    /// The word before the access token in `Authorization`.
    pub token_scheme: String,
    /// What stands between scopes.
    pub scope_separator: String,
    /// Where a connector's token may go.
    pub api_origins: Vec<Origin>,
}

/// The group `host`.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The origin of the host's API.
    pub api_base: Option<Origin>,
}

/// The group `egress`.
#[derive(Clone, Debug)]
pub struct Egress {
    /// What may be called although it is not public.
    pub allow: Vec<AllowedNetwork>,
    /// Whether URLs must be https.
    pub require_https: bool,
    /// A forward proxy.
    pub proxy: Option<SecretUrl>,
    /// A PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Ports that are refused besides those of other protocols.
    pub refuse_ports: Vec<u16>,
}

/// The group `catalogue`.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Scopes that no extension may ask for; a `*` at the end stands for any rest.
    pub denied_scopes: Vec<String>,
}

/// The group `marketplace`.
#[derive(Clone, Debug, Default)]
pub struct Marketplace {
    /// The secret that callbacks must be signed with.
    pub signing_secret: Option<SecretString>,
    /// The origins that a `returnUrl` may have.
    pub return_urls: Vec<Origin>,
}

/// The group `delivery`.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// How long one attempt may take in all.
    pub deadline: Duration,
    /// The most requests under way to one webhook.
    pub concurrency_per_webhook: usize,
    /// The most requests under way in all.
    pub concurrency: usize,
    /// The waits before the second and later attempts.
    pub schedule: Vec<Duration>,
    /// How much memory waiting events may take, in bytes.
    pub queue_bytes: usize,
    /// How long things are kept.
    pub retention: Retention,
    /// When a webhook is paused.
    pub breaker: Breaker,
    /// How far the wishes of a webhook go.
    pub overrides: Overrides,
    /// Whether deliveries carry an Ed25519 signature (`v1a`) too.
    pub ed25519: bool,
    /// After how long without a success a failing webhook is disabled; never where it is nothing.
    pub disable_after: Option<Duration>,
    /// How many deliveries a second a recovery puts on their way.
    pub recovery_per_second: u32,
}

/// The group `delivery.overrides`: the bounds of what a package may ask for under
/// `mortise.delivery`.
#[derive(Clone, Copy, Debug)]
pub struct Overrides {
    /// The most attempts, the first among them.
    pub attempts: usize,
    /// The shortest wait between two attempts.
    pub shortest_pause: Duration,
    /// The longest wait between two attempts.
    pub longest_pause: Duration,
    /// The longest deadline.
    pub deadline: Duration,
    /// The most requests under way to one webhook.
    pub concurrency: usize,
}

/// The group `retention`.
#[derive(Clone, Copy, Debug)]
pub struct Installations {
    /// How long after its uninstall what is kept of an installation is erased.
    pub erase_after: Duration,
}

/// The group `audit`.
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    /// How long the audit is kept.
    pub retention: Duration,
}

/// The group `reconcile`.
#[derive(Clone, Copy, Debug)]
pub struct Reconcile {
    /// How often what is there is compared with what should be; nothing where that is off.
    pub every: Option<Duration>,
    /// Whether what is found is repaired.
    pub repair: bool,
}

/// The group `webhooks`.
#[derive(Clone, Copy, Debug)]
pub struct Webhooks {
    /// Whether addresses are asked before they are saved.
    pub check_url: bool,
}

/// The group `delivery.retention`.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Payloads, and held deliveries.
    pub payload: Duration,
    /// Deliveries and their attempts.
    pub attempts: Duration,
    /// Deduplication keys.
    pub deduplication: Duration,
}

/// The group `delivery.breaker`.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// How many failures in a row pause a webhook.
    pub failures: u32,
    /// The rate of failures that pauses a webhook, of a hundred attempts within a minute.
    pub failure_percent: u32,
    /// How many attempts a minute must have before their rate counts.
    pub volume: u32,
    /// How long until the first probe.
    pub pause: Duration,
    /// The longest wait between probes.
    pub pause_limit: Duration,
}

/// The group `limits`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body of `POST /events`, in bytes.
    pub event_body_bytes: usize,
    /// The most events in one request.
    pub events_per_request: usize,
    /// The largest body of any other request but a package, in bytes.
    pub request_body_bytes: usize,
    /// The largest package, in bytes.
    pub package_bytes: usize,
    /// How many pings and tests one token may make a minute.
    pub tests_per_minute: u32,
    /// How many calls one installation may make through invoke a minute.
    pub invoke_per_minute: u32,
    /// How many calls through invoke are under way at the most.
    pub invoke_under_way: usize,
    /// How long a call through invoke may take.
    pub invoke_deadline: Duration,
    /// How much of an answer invoke hands back, in bytes.
    pub invoke_response_bytes: usize,
    /// How many calls through invoke are remembered.
    pub invocations_kept: u64,
    /// The largest body that a third party may post, in bytes.
    pub incoming_body_bytes: usize,
    /// How many requests a user's token may post a minute.
    pub incoming_per_minute: u32,
    /// How many requests third parties may post to one installation a minute.
    pub incoming_installation_per_minute: u32,
    /// The most connections of clients at a time.
    pub connections: usize,
    /// How long headers may take.
    pub header_read_timeout: Duration,
    /// How long a body may take.
    pub body_read_timeout: Duration,
    /// How long requests may finish at the end.
    pub drain: Duration,
}

/// The group `notices`.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// Where notices are sent.
    pub url: Option<Url>,
    /// The secret that signs them; there where `url` is.
    pub signing_secret: Option<SecretString>,
}

/// The group `pages`.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// The origins whose pages may show ours in a frame.
    pub frame_ancestors: Vec<Origin>,
}

/// The group `metrics`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    /// A listener for metrics without a token.
    pub listen: Option<SocketAddr>,
}

/// The group `otlp`.
#[derive(Clone, Debug, Default)]
pub struct Otlp {
    /// The collector that gets traces; nothing is traced where there is none.
    pub endpoint: Option<Url>,
    /// What is sent to it in `Authorization`.
    pub authorization: Option<SecretString>,
    /// How many of a hundred traces that begin here are recorded.
    pub sample_percent: u8,
}

/// The group `log`.
#[derive(Clone, Debug)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// Which lines are written, as `tracing_subscriber::EnvFilter` reads it.
    pub filter: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// A JSON object a line.
    Json,
}

impl Config {
    /// Reads and checks everything.
    pub fn load(inputs: &Inputs) -> Result<Self, ConfigError> {
        build::build(inputs)
    }

    /// What is allowed but unwise, to be logged at the start.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// This configuration with the address that was really bound, for a `listen` with port 0.
    /// A `public_url` that follows from `listen` follows.
    #[must_use]
    pub fn bound_to(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        if !self.public_url_is_set
            && let Some(url) = build::url_of_listener(address)
        {
            self.public_url = url;
        }
        self
    }
}
