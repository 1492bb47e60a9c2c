//! The HTTP client of commands that call a Mortise server. Its address is the user's own, so that it
//! is called as it is: no vetting, no proxy of deliveries.

use std::path::PathBuf;
use std::time::Duration;

use super::answer::SendError;
use super::client::{CONNECT, EgressError, EgressOptions, IDLE, TlsProfile, chain};
use super::library::stage_of;
use super::probe::Probe;
use super::tls::client_config;

/// A client that trusts the system's certificates and those of a file (PEM), says which certificate
/// it refused and why, and follows no redirects: a token would go with it.
#[expect(clippy::disallowed_methods, reason = "this is the door that the rule keeps shut")]
pub fn api_client(ca_file: Option<PathBuf>) -> Result<reqwest::Client, EgressError> {
    let options = EgressOptions { ca_file, ..EgressOptions::default() };
    let tls = client_config(&options, &TlsProfile::default())?;
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| EgressError::Client(chain(&error)))
}

/// Tells why such a client had no answer: its class, what was seen, and what to look at.
pub fn told_of(error: &reqwest::Error) -> SendError {
    let (port, is_https) = error.url().map_or((0, false), |url| {
        (url.port_or_known_default().unwrap_or_default(), url.scheme() == "https")
    });
    Probe::new(port, is_https).failed(error, stage_of(error), Duration::ZERO)
}
