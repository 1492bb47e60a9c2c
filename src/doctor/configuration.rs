//! Whether the configuration makes sense as a whole; that each value keeps its rule was checked when
//! it was read.

use super::Check;
use crate::config::{Config, DatabaseUrl};

pub(super) fn examine(config: &Config) -> Vec<Check> {
    let mut checks: Vec<Check> = config
        .warnings()
        .iter()
        .map(|warning| {
            Check::warning(
                "configuration",
                warning.to_string(),
                "change it, unless this is meant; docs/configuration.md says what it does",
            )
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok("configuration", "it is read, and every value keeps its rule"));
    }
    checks.push(public_url(config));
    checks.push(providers(config));
    checks
}

fn public_url(config: &Config) -> Check {
    const NAME: &str = "publicUrl";
    let url = &config.public_url;
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if is_here {
        return Check::warning(
            NAME,
            format!("`{url}` is reached on this machine only"),
            "set `public_url` to the origin that browsers, marketplaces and providers use",
        );
    }
    if url.scheme() != "https" {
        return Check::warning(
            NAME,
            format!("`{url}` is plain http: codes and cookies go unencrypted"),
            "put TLS in front of the server and set `public_url` to its https origin",
        );
    }
    Check::ok(NAME, url.to_string())
}

fn providers(config: &Config) -> Check {
    const NAME: &str = "providers";
    let providers = &config.oauth.providers;
    if providers.is_empty() {
        return Check::warning(
            NAME,
            "none is configured: extensions with an authorisation cannot be installed",
            "set `oauth.providers.<serviceName>.…`",
        );
    }
    let without: Vec<&str> = providers
        .iter()
        .filter(|(_, provider)| provider.revoke_url.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !without.is_empty() {
        return Check::warning(
            NAME,
            format!("no `revoke_url`: {}", without.join(", ")),
            "set it where the provider has one, or tokens outlive their installations there",
        );
    }
    let names: Vec<&str> = providers.keys().map(String::as_str).collect();
    Check::ok(NAME, names.join(", "))
}

/// The database in a few words, without its password.
pub(super) fn database_name(config: &Config) -> String {
    match &config.database.url {
        DatabaseUrl::Sqlite(path) => format!("SQLite, {}", path.display()),
        DatabaseUrl::Postgres(_) => format!("PostgreSQL, {}", config.database.url),
    }
}
