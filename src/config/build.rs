//! From the gathered values to the checked [`Config`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Url;

use super::address::DatabaseUrl;
use super::fault::ConfigError;
use super::key::Key;
use super::layers::{Inputs, Layers};
use super::reader::{Faulted, Read, Reader};
use super::value::{self, Broken};
use super::{
    Audit, Breaker, Catalogue, Config, Database, Delivery, Egress, Host, Installations, Keys,
    Limits, Log, LogFormat, Marketplace, Metrics, Notices, OAuth, Otlp, Overrides, Pages, Provider,
    Reconcile, Retention, Server, Webhooks,
};

/// Reads and checks everything. A part that is faulty is nothing, and its faults are kept.
pub(crate) fn build(inputs: &Inputs) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(Layers::gather(inputs)?);
    let config = read(&mut reader);
    let (faults, warnings) = reader.finish();
    match config {
        Ok(config) if faults.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(ConfigError::Faults(faults)),
    }
}

fn read(reader: &mut Reader) -> Read<Config> {
    let listen = reader.required("listen", value::listener);
    let public_origin = reader.optional("public_url", value::origin);
    let trusted_proxies = reader.required("server.trusted_proxies", value::list(value::subnet));
    let data_dir = reader.required("data_dir", value::path);
    let database_url = reader.optional("database.url", |raw, _| {
        raw.text().and_then(DatabaseUrl::parse).ok_or_else(Broken::new)
    });
    let max_connections = reader.required("database.max_connections", value::integer);
    let migrate = reader.required("database.migrate", value::switch);
    let master_file = reader.optional("keys.master_file", value::path);
    let oauth = read_oauth(reader);
    let api_base = reader.optional("host.api_base", value::origin);
    let egress = read_egress(reader);
    let denied_scopes = reader.required("catalogue.denied_scopes", value::list(value::scope));
    let signing_secret = reader.optional("marketplace.signing_secret", value::signing_secret);
    let return_urls = reader.required("marketplace.return_urls", value::list(value::origin));
    let delivery = read_delivery(reader);
    let limits = read_limits(reader);
    let erase_after = reader.required("retention.erase_after", value::duration);
    let audit_retention = reader.required("audit.retention", value::duration);
    let reconcile_every = reader.required("reconcile.every", value::duration);
    let reconcile_repair = reader.required("reconcile.repair", value::switch);
    let check_url = reader.required("webhooks.check_url", value::switch);
    let notices = read_notices(reader);
    let frame_ancestors = reader.required("pages.frame_ancestors", value::list(value::origin));
    let metrics = reader.optional("metrics.listen", value::listener);
    let otlp = read_otlp(reader);
    let log = read_log(reader);

    let (listen, public_origin, data_dir) = (listen?, public_origin?, data_dir?);
    let (api_base, metrics, trusted_proxies) = (api_base?, metrics?, trusted_proxies?);
    if trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        reader.warn(
            "server.trusted_proxies",
            "has a network of all addresses: every caller may say that it is somebody else",
        );
    }
    if metrics.is_some_and(|metrics| metrics == listen && listen.port() != 0) {
        let key = Key::from("metrics.listen");
        let source = reader.source(&key);
        reader.fault(&key, source, "must differ from `listen`".to_owned());
    }
    if api_base.as_ref().is_some_and(super::Origin::is_plain_http) {
        reader.warn("host.api_base", "is plain http: tokens of the host go there unencrypted");
    }
    if public_origin.is_none() && !listen.ip().is_loopback() {
        reader.warn(
            "public_url",
            "is not set, but `listen` is not a loopback address: links and redirect addresses \
             will work on this machine only",
        );
    }
    let public_url = match &public_origin {
        Some(origin) => Url::parse(&origin.to_string()).ok(),
        None => url_of_listener(listen),
    };
    Ok(Config {
        public_url: public_url.ok_or(Faulted)?,
        public_url_is_set: public_origin.is_some(),
        server: Server { trusted_proxies },
        database: Database {
            url: database_url?.unwrap_or_else(|| DatabaseUrl::Sqlite(data_dir.join("mortise.db"))),
            max_connections: max_connections?,
            migrate: migrate?,
        },
        keys: Keys { master_file: master_file?.unwrap_or_else(|| data_dir.join("master.key")) },
        listen,
        data_dir,
        oauth: oauth?,
        host: Host { api_base },
        egress: egress?,
        catalogue: Catalogue { denied_scopes: denied_scopes? },
        marketplace: Marketplace { signing_secret: signing_secret?, return_urls: return_urls? },
        delivery: delivery?,
        limits: limits?,
        installations: Installations { erase_after: erase_after? },
        audit: Audit { retention: audit_retention? },
        reconcile: Reconcile {
            every: Some(reconcile_every?).filter(|every| !every.is_zero()),
            repair: reconcile_repair?,
        },
        webhooks: Webhooks { check_url: check_url? },
        notices: notices?,
        pages: Pages { frame_ancestors: frame_ancestors? },
        metrics: Metrics { listen: metrics },
        otlp: otlp?,
        log: log?,
        warnings: Vec::new(),
    })
}

/// How a browser on this machine reaches a listener.
pub(crate) fn url_of_listener(address: SocketAddr) -> Option<Url> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Url::parse(&format!("http://{}", SocketAddr::new(ip, address.port()))).ok()
}

fn read_oauth(reader: &mut Reader) -> Read<OAuth> {
    let group = Key::from("oauth.providers");
    let mut oauth = OAuth::default();
    let mut complete = true;
    for name in reader.names_below(&group) {
        match read_provider(reader, &name, &group.child(&name)) {
            Ok(provider) => {
                oauth.providers.insert(name, provider);
            }
            Err(Faulted) => complete = false,
        }
    }
    if complete { Ok(oauth) } else { Err(Faulted) }
}

fn read_provider(reader: &mut Reader, name: &str, group: &Key) -> Read<Provider> {
    if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let source = reader.source_near(&group.child("client_id"));
        let problem = "must have a name of 1 to 100 characters without control characters";
        reader.fault(group, source, problem.to_owned());
        return Err(Faulted);
    }
    let authorize_url = reader.required(group.child("authorize_url"), value::url);
    let token_url = reader.required(group.child("token_url"), value::url);
    let revoke_url = reader.optional(group.child("revoke_url"), value::url);
    let client_id = reader.required(group.child("client_id"), value::text);
    let client_secret = reader.required(group.child("client_secret"), value::secret);
    let issuer = reader.optional(group.child("issuer"), value::issuer);
    let token_scheme = reader.required(group.child("token_scheme"), value::scheme);
    let scope_separator = reader.required(group.child("scope_separator"), value::text);
    let api_origins = reader.required(group.child("api_origins"), value::list(value::origin));
    let provider = Provider {
        authorize_url: authorize_url?,
        token_url: token_url?,
        revoke_url: revoke_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        issuer: issuer?,
        token_scheme: token_scheme?,
        scope_separator: scope_separator?,
        api_origins: api_origins?,
    };
    let urls = [
        ("authorize_url", Some(&provider.authorize_url)),
        ("token_url", Some(&provider.token_url)),
        ("revoke_url", provider.revoke_url.as_ref()),
    ];
    for (field, url) in urls {
        if url.is_some_and(|url| url.scheme() == "http") {
            reader.warn(group.child(field), "is plain http: secrets go there unencrypted");
        }
    }
    if provider.api_origins.iter().any(super::Origin::is_plain_http) {
        reader.warn(
            group.child("api_origins"),
            "has a plain http origin: tokens go there unencrypted",
        );
    }
    Ok(provider)
}

fn read_egress(reader: &mut Reader) -> Read<Egress> {
    let allow = reader.required("egress.allow", value::list(value::network));
    let require_https = reader.required("egress.require_https", value::switch);
    let proxy = reader.optional("egress.proxy", value::proxy_url);
    let ca_file = reader.optional("egress.ca_file", value::path);
    let refuse_ports = reader.required("egress.refuse_ports", value::list(value::integer));
    Ok(Egress {
        allow: allow?,
        require_https: require_https?,
        proxy: proxy?,
        ca_file: ca_file?,
        refuse_ports: refuse_ports?,
    })
}

fn read_delivery(reader: &mut Reader) -> Read<Delivery> {
    let deadline = reader.required("delivery.deadline", value::duration);
    let per_webhook = reader.required("delivery.concurrency_per_webhook", value::integer);
    let concurrency = reader.required("delivery.concurrency", value::integer);
    let schedule = reader.required("delivery.schedule", value::list(value::duration));
    let queue_bytes = reader.required("delivery.queue_bytes", value::size);
    let payload = reader.required("delivery.retention.payload", value::duration);
    let attempts = reader.required("delivery.retention.attempts", value::duration);
    let deduplication = reader.required("delivery.retention.deduplication", value::duration);
    let failures = reader.required("delivery.breaker.failures", value::integer);
    let failure_percent = reader.required("delivery.breaker.failure_percent", value::integer);
    let volume = reader.required("delivery.breaker.volume", value::integer);
    let pause = reader.required("delivery.breaker.pause", value::duration);
    let pause_limit = reader.required("delivery.breaker.pause_limit", value::duration);
    let ed25519 = reader.required("delivery.ed25519", value::switch);
    let overrides = read_overrides(reader);
    let disable_after = reader.required("delivery.disable_after", value::duration);
    let recovery_per_second = reader.required("delivery.recovery_per_second", value::integer);
    let (pause, pause_limit) = (pause?, pause_limit?);
    if pause > pause_limit {
        let key = Key::from("delivery.breaker.pause");
        let source = reader.source(&key);
        let problem = "must not be longer than `delivery.breaker.pause_limit`";
        reader.fault(&key, source, problem.to_owned());
    }
    Ok(Delivery {
        deadline: deadline?,
        concurrency_per_webhook: per_webhook?,
        concurrency: concurrency?,
        schedule: schedule?,
        queue_bytes: queue_bytes?,
        retention: Retention {
            payload: payload?,
            attempts: attempts?,
            deduplication: deduplication?,
        },
        breaker: Breaker {
            failures: failures?,
            failure_percent: failure_percent?,
            volume: volume?,
            pause,
            pause_limit,
        },
        overrides: overrides?,
        ed25519: ed25519?,
        disable_after: Some(disable_after?).filter(|after| !after.is_zero()),
        recovery_per_second: recovery_per_second?,
    })
}

fn read_overrides(reader: &mut Reader) -> Read<Overrides> {
    let attempts = reader.required("delivery.overrides.attempts", value::integer);
    let shortest_pause = reader.required("delivery.overrides.shortest_pause", value::duration);
    let longest_pause = reader.required("delivery.overrides.longest_pause", value::duration);
    let deadline = reader.required("delivery.overrides.deadline", value::duration);
    let concurrency = reader.required("delivery.overrides.concurrency", value::integer);
    let (shortest_pause, longest_pause) = (shortest_pause?, longest_pause?);
    if shortest_pause > longest_pause {
        let key = Key::from("delivery.overrides.shortest_pause");
        let source = reader.source(&key);
        let problem = "must not be longer than `delivery.overrides.longest_pause`";
        reader.fault(&key, source, problem.to_owned());
    }
    Ok(Overrides {
        attempts: attempts?,
        shortest_pause,
        longest_pause,
        deadline: deadline?,
        concurrency: concurrency?,
    })
}

fn read_notices(reader: &mut Reader) -> Read<Notices> {
    let url = reader.optional("notices.url", value::url);
    let secret = reader.optional("notices.signing_secret", value::signing_secret);
    let (url, signing_secret) = (url?, secret?);
    match &url {
        Some(_) if signing_secret.is_none() => {
            let key = Key::from("notices.url");
            let source = reader.source(&key);
            let problem = "needs `notices.signing_secret`, which signs what is sent there";
            reader.fault(&key, source, problem.to_owned());
        }
        Some(url) if url.scheme() == "http" => {
            reader.warn("notices.url", "is plain http: notices go there unencrypted");
        }
        _ => {}
    }
    Ok(Notices { url, signing_secret })
}

fn read_otlp(reader: &mut Reader) -> Read<Otlp> {
    let endpoint = reader.optional("otlp.endpoint", value::url);
    let authorization = reader.optional("otlp.authorization", value::secret);
    let sample_percent = reader.required("otlp.sample_percent", value::integer);
    let (endpoint, authorization) = (endpoint?, authorization?);
    if authorization.is_some() && endpoint.as_ref().is_some_and(|url| url.scheme() == "http") {
        reader.warn("otlp.endpoint", "is plain http: `otlp.authorization` goes there unencrypted");
    }
    Ok(Otlp { endpoint, authorization, sample_percent: sample_percent? })
}

fn read_limits(reader: &mut Reader) -> Read<Limits> {
    let event_body_bytes = reader.required("limits.event_body_bytes", value::size);
    let events_per_request = reader.required("limits.events_per_request", value::integer);
    let request_body_bytes = reader.required("limits.request_body_bytes", value::size);
    let package_bytes = reader.required("limits.package_bytes", value::size);
    let tests_per_minute = reader.required("limits.tests_per_minute", value::integer);
    let invoke_per_minute = reader.required("limits.invoke_per_minute", value::integer);
    let invoke_under_way = reader.required("limits.invoke_under_way", value::integer);
    let invoke_deadline = reader.required("limits.invoke_deadline", value::duration);
    let invoke_response_bytes = reader.required("limits.invoke_response_bytes", value::size);
    let invocations_kept = reader.required("limits.invocations_kept", value::integer);
    let incoming_body_bytes = reader.required("limits.incoming_body_bytes", value::size);
    let incoming_per_minute = reader.required("limits.incoming_per_minute", value::integer);
    let incoming_installation_per_minute =
        reader.required("limits.incoming_installation_per_minute", value::integer);
    let connections = reader.required("limits.connections", value::integer);
    let header_read_timeout = reader.required("limits.header_read_timeout", value::duration);
    let body_read_timeout = reader.required("limits.body_read_timeout", value::duration);
    let drain = reader.required("limits.drain", value::duration);
    Ok(Limits {
        event_body_bytes: event_body_bytes?,
        events_per_request: events_per_request?,
        request_body_bytes: request_body_bytes?,
        package_bytes: package_bytes?,
        tests_per_minute: tests_per_minute?,
        invoke_per_minute: invoke_per_minute?,
        invoke_under_way: invoke_under_way?,
        invoke_deadline: invoke_deadline?,
        invoke_response_bytes: invoke_response_bytes?,
        invocations_kept: invocations_kept?,
        incoming_body_bytes: incoming_body_bytes?,
        incoming_per_minute: incoming_per_minute?,
        incoming_installation_per_minute: incoming_installation_per_minute?,
        connections: connections?,
        header_read_timeout: header_read_timeout?,
        body_read_timeout: body_read_timeout?,
        drain: drain?,
    })
}

fn read_log(reader: &mut Reader) -> Read<Log> {
    let format = reader.required("log.format", value::choice);
    let filter = reader.required("log.filter", value::log_filter);
    let format = if format? == "json" { LogFormat::Json } else { LogFormat::Text };
    Ok(Log { format, filter: filter? })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::path::Path;
    use std::time::Duration;

    use secrecy::ExposeSecret as _;

    use super::super::settings::SETTINGS;
    use super::*;

    const PROVIDER: &str = r#"
[oauth.providers."Zoho Oauth"]
authorize_url = "https://accounts.example/oauth/v2/auth"
token_url = "https://accounts.example/oauth/v2/token"
client_id = "1000.ABC"
client_secret = "open sesame"
"#;

    fn inputs(file: Option<&Path>, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Inputs {
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Inputs {
            file: file.map(Path::to_owned),
            variables: variables.iter().map(pair).collect(),
            overrides: flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn load_file(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mortise.toml");
        std::fs::write(&path, text).expect("the file is written");
        Config::load(&inputs(Some(&path), variables, &[]))
    }

    fn faults(result: Result<Config, ConfigError>) -> Vec<String> {
        let error = result.expect_err("the configuration is refused");
        error
            .faults()
            .iter()
            .map(|fault| {
                let text = fault.to_string();
                // The folder is another one each time.
                text.split_once("mortise.toml")
                    .map_or(text.clone(), |(_, rest)| format!("mortise.toml{rest}"))
            })
            .collect()
    }

    #[test]
    fn denied_scopes_are_scopes_or_beginnings_of_scopes() {
        let text =
            "[catalogue]\ndenied_scopes = [\"Desk.settings.READ\", \"Desk.organization.*\"]\n";
        let config = load_file(text, &[]).expect("scopes");
        assert_eq!(config.catalogue.denied_scopes, ["Desk.settings.READ", "Desk.organization.*"]);
        let variables = [("MORTISE_CATALOGUE__DENIED_SCOPES", "Desk.a.ALL,Desk.b.*")];
        let config = load_file("", &variables).expect("scopes");
        assert_eq!(config.catalogue.denied_scopes, ["Desk.a.ALL", "Desk.b.*"]);
        for wrong in ["", "Desk.*.READ", "Desk.a READ", "a,b", "**", "a\\\"b"] {
            let text = format!("[catalogue]\ndenied_scopes = [\"{wrong}\"]\n");
            let faults = faults(load_file(&text, &[]));
            assert!(
                faults.len() == 1 && faults[0].contains("catalogue.denied_scopes"),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn nothing_needs_to_be_configured() {
        let config = Config::load(&Inputs::default()).expect("the defaults hold");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080/");
        assert_eq!(config.database.url.to_string(), "sqlite://data/mortise.db");
        assert_eq!(config.keys.master_file, Path::new("data/master.key"));
        assert_eq!(config.delivery.deadline, Duration::from_secs(10));
        let minutes = [1, 5, 30, 120].map(|minutes| Duration::from_secs(minutes * 60));
        assert_eq!(config.delivery.schedule, minutes);
        assert_eq!(config.limits.package_bytes, 20_000_000);
        assert_eq!(config.limits.event_body_bytes, 8 << 20);
        assert!(config.egress.require_https && config.egress.allow.is_empty());
        assert!(config.catalogue.denied_scopes.is_empty());
        assert!(config.warnings().is_empty());
    }

    #[test]
    fn every_setting_of_the_list_is_read() {
        let variables = [("MORTISE_OAUTH__PROVIDERS__X__CLIENT_ID", "1")];
        let layers = Layers::gather(&inputs(None, &variables, &[])).expect("no file is read");
        let mut reader = Reader::new(layers);
        let _ = read(&mut reader);
        let listed: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        assert_eq!(reader.read, listed);
        assert_eq!(listed.len(), SETTINGS.len(), "no key stands twice");
    }

    #[test]
    fn flags_beat_variables_beat_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mortise.toml");
        std::fs::write(
            &path,
            "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\nlog.format = \"json\"\n",
        )
        .expect("the file is written");
        let config = Config::load(&inputs(
            Some(&path),
            &[("MORTISE_LISTEN", "127.0.0.1:2"), ("MORTISE_DATA_DIR", "variable"), ("HOME", "/x")],
            &[("listen", "127.0.0.1:3")],
        ))
        .expect("all is well");
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.data_dir, Path::new("variable"));
        assert_eq!(config.database.url.to_string(), "sqlite://variable/mortise.db");
        assert_eq!(config.log.format, LogFormat::Json);
    }

    #[test]
    fn all_faults_are_named_at_once_each_with_its_place() {
        let text = "listn = \"127.0.0.1:1\"\n\n[delivery]\ndeadline = \"10\"\nschedule = [\"1m\", \"soon\"]\n[limits]\nconnections = \"many\"\n";
        let found = faults(load_file(text, &[("MORTISE_DATABSE__URL", "sqlite://x")]));
        assert_eq!(
            found,
            [
                "mortise.toml:1:1: `listn` is not a setting; did you mean `listen`?",
                "environment variable MORTISE_DATABSE__URL: `databse.url` is not a setting; did you mean `MORTISE_DATABASE__URL`?",
                "mortise.toml:4:1: `delivery.deadline` is \"10\", but must be a duration from 1s to 1m, such as `500ms`, `10s`, `5m`, `2h` or `30d`",
                "mortise.toml:5:1: `delivery.schedule` must be a list of 1 to 20 values, each a duration from 1s to 7d, such as `500ms`, `10s`, `5m`, `2h` or `30d`; entry 2 is \"soon\"",
                "mortise.toml:7:1: `limits.connections` is \"many\", but must be a whole number from 1 to 1000000",
            ]
        );
    }

    #[test]
    fn broken_files_say_where() {
        let found = faults(load_file("listen = \"127.0.0.1:1\"\ndata_dir = \n", &[]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("mortise.toml:2:"), "{found:?}");
        let missing = inputs(Some(Path::new("/nowhere/mortise.toml")), &[], &[]);
        let error = Config::load(&missing).expect_err("there is no such file");
        assert!(error.to_string().contains("/nowhere/mortise.toml"), "{error}");
    }

    #[test]
    fn a_group_is_no_value_and_a_value_no_group() {
        let found = faults(load_file("database = \"x\"\n[listen]\nport = 1\n[nonsense]\n", &[]));
        assert!(found[0].contains("`database` is a group of settings: database.url"), "{found:?}");
        assert!(found[1].contains("`nonsense` is not a setting"), "{found:?}");
        assert!(found[2].contains("`listen` is a value of type table"), "{found:?}");
    }

    #[test]
    fn providers_come_from_file_and_environment_together() {
        let variables = [
            ("MORTISE_OAUTH__PROVIDERS__ZOHO OAUTH__CLIENT_SECRET", "from the variable"),
            (
                "MORTISE_OAUTH__PROVIDERS__ZOHO OAUTH__API_ORIGINS",
                "https://a.example,http://b.example:81",
            ),
        ];
        let config = load_file(PROVIDER, &variables).expect("all is well");
        let provider = &config.oauth.providers["Zoho Oauth"];
        assert_eq!(config.oauth.providers.len(), 1);
        assert_eq!(provider.client_secret.expose_secret(), "from the variable");
        assert_eq!(provider.token_scheme, "Zoho-oauthtoken");
        assert_eq!(provider.api_origins[1].to_string(), "http://b.example:81");
        assert_eq!(config.warnings().len(), 1, "the plain origin is warned about");
    }

    #[test]
    fn a_provider_needs_its_four_values() {
        let found = faults(load_file("[oauth.providers.a]\nclient_id = \"1\"\n", &[]));
        assert_eq!(
            found,
            [
                "mortise.toml:2:1: `oauth.providers.a.authorize_url` is missing",
                "mortise.toml:2:1: `oauth.providers.a.token_url` is missing",
                "mortise.toml:2:1: `oauth.providers.a.client_secret` is missing",
            ]
        );
    }

    #[test]
    fn secrets_are_printed_nowhere() {
        let config = load_file(
            PROVIDER,
            &[
                ("MORTISE_DATABASE__URL", "postgres://me:hunter2@db/mortise"),
                ("MORTISE_EGRESS__PROXY", "http://me:hunter2@proxy:3128"),
                ("MORTISE_MARKETPLACE__SIGNING_SECRET", "hunter2 hunter2 hunter2 hunter2"),
            ],
        )
        .expect("all is well");
        let printed = format!("{config:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("sesame"), "{printed}");
        let refused = faults(load_file(
            "",
            &[
                ("MORTISE_DATABASE__URL", "mysql://me:hunter2@db/mortise"),
                ("MORTISE_EGRESS__PROXY", "socks5://me:hunter2@proxy:3128"),
                ("MORTISE_MARKETPLACE__SIGNING_SECRET", "hunter2"),
                ("MORTISE_OAUTH__PROVIDERS__A__CLIENT_SECRET", " hunter2"),
                ("MORTISE_HOST__API_BASE", "https://desk.example"),
            ],
        ));
        assert!(
            refused.len() >= 4 && refused.iter().all(|text| !text.contains("hunter2")),
            "{refused:?}"
        );
    }

    #[test]
    fn an_empty_variable_takes_back_what_the_file_says() {
        let text = "[notices]\nurl = \"https://notices.example\"\nsigning_secret = \"a plain text of many letters\"\n[egress]\nallow = [\"10.0.0.0/8\"]\n";
        let config = load_file(text, &[]).expect("all is well");
        assert!(config.notices.url.is_some() && config.egress.allow.len() == 1);
        let variables = [("MORTISE_NOTICES__URL", ""), ("MORTISE_EGRESS__ALLOW", "")];
        let config = load_file(text, &variables).expect("all is well");
        assert!(config.notices.url.is_none() && config.egress.allow.is_empty());
        assert!(load_file(text, &[("MORTISE_LISTEN", "")]).is_err(), "there is no server without");
    }

    #[test]
    fn plain_http_and_open_listeners_are_warned_about() {
        let variables = [
            ("MORTISE_LISTEN", "0.0.0.0:8080"),
            ("MORTISE_HOST__API_BASE", "http://desk.example"),
            ("MORTISE_SERVER__TRUSTED_PROXIES", "0.0.0.0/0"),
        ];
        let config = Config::load(&inputs(None, &variables, &[])).expect("all is well");
        let warned: Vec<_> =
            config.warnings().iter().filter_map(|fault| fault.key.clone()).collect();
        assert_eq!(warned, ["server.trusted_proxies", "host.api_base", "public_url"]);
        assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080/");
    }

    #[test]
    fn the_public_url_follows_the_bound_port_unless_it_is_set() {
        let bound: SocketAddr = "[::1]:4711".parse().expect("an address");
        let derived = Config::load(&inputs(None, &[], &[("listen", "[::]:0")])).expect("fine");
        assert_eq!(derived.bound_to(bound).public_url.as_str(), "http://[::1]:4711/");
        let flags = [("listen", "[::]:0"), ("public_url", "https://desk.example")];
        let set = Config::load(&inputs(None, &[], &flags)).expect("fine");
        assert_eq!(set.bound_to(bound).public_url.as_str(), "https://desk.example/");
    }

    #[test]
    fn contradictions_are_refused() {
        let flags = [
            ("delivery.breaker.pause", "1h"),
            ("metrics.listen", "127.0.0.1:8080"),
            ("public_url", "https://desk.example/path"),
            ("egress.allow", "169.254.0.0/16"),
        ];
        let found = faults(Config::load(&inputs(None, &[], &flags)));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|text| text.contains("link-local")), "{found:?}");
        let found = faults(Config::load(&inputs(None, &[], &flags[1..2])));
        assert!(found[0].contains("must differ from `listen`"), "{found:?}");
    }

    #[test]
    fn two_variables_for_one_key_are_refused() {
        let variables = [("MORTISE_LISTEN", "127.0.0.1:1"), ("MORTISE_listen", "127.0.0.1:2")];
        let found = faults(Config::load(&inputs(None, &variables, &[])));
        assert!(found[0].contains("MORTISE_LISTEN too"), "{found:?}");
    }

    #[test]
    fn other_variables_with_our_prefix_are_known() {
        let variables = [("MORTISE_CRASH_AT", "x"), ("MORTISE_CONFIG", "/nowhere")];
        assert!(Config::load(&inputs(None, &variables, &[])).is_ok());
    }
}
