//! What `mortise serve --development` runs beside the server, and how the server is told of it.

use std::time::Duration;

use super::output::CliError;
use crate::development::{
    Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
    DevelopmentError, SampleVendor, SampleVendorOptions,
};
use crate::oauth::DEFAULT_SERVICE;
use crate::server::RunningServer;

/// The port of the authorisation server.
const PROVIDER_PORT: u16 = 8181;
/// The port of the vendor's receiver.
const VENDOR_PORT: u16 = 8182;

/// An authorisation server and a vendor's receiver, on the loopback interface.
#[derive(Debug)]
pub(crate) struct Companions {
    provider: DevelopmentAuthorizationServer,
    vendor: SampleVendor,
}

impl Companions {
    /// Starts both.
    pub(crate) async fn start() -> Result<Self, CliError> {
        let provider =
            DevelopmentAuthorizationServer::start(DevelopmentAuthorizationServerOptions {
                port: PROVIDER_PORT,
                ..DevelopmentAuthorizationServerOptions::default()
            })
            .await
            .map_err(CliError::failed)?;
        provider.conduct(|conduct| conduct.auto = Some(Decision::Approve));
        let options = SampleVendorOptions { port: VENDOR_PORT, ..SampleVendorOptions::default() };
        let vendor = SampleVendor::start(options).await.map_err(CliError::failed)?;
        Ok(Self { provider, vendor })
    }

    /// The settings that make a server use both.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let service = |name: &str, value: &str| {
            (format!("oauth.providers.{DEFAULT_SERVICE}.{name}"), value.to_owned())
        };
        let provider = &self.provider;
        vec![
            service("authorize_url", &provider.authorize_url()),
            service("token_url", &provider.token_url()),
            service("revoke_url", &provider.revoke_url()),
            service("issuer", provider.issuer()),
            service("client_id", provider.client_id()),
            service("client_secret", provider.client_secret()),
            ("host.api_base".to_owned(), provider.issuer().to_owned()),
            ("egress.require_https".to_owned(), "false".to_owned()),
            ("egress.allow".to_owned(), format!("127.0.0.1/32:{}", self.vendor.address().port())),
        ]
    }

    /// Lets the authorisation server send browsers back to the server that runs.
    pub(crate) fn join(&self, running: &RunningServer) {
        let public_url = running.config().public_url.as_str().trim_end_matches('/');
        self.provider.register_redirect_uri(format!("{public_url}/oauth/callback"));
        tracing::info!(
            provider = self.provider.issuer(),
            vendor = %self.vendor.url(""),
            "for development: consent is given by itself; every request to the vendor is logged"
        );
    }

    /// Logs what the vendor receives. Never ends where there is nothing to watch.
    pub(crate) async fn watch(companions: Option<&Self>) {
        let Some(Self { vendor, .. }) = companions else { return std::future::pending().await };
        loop {
            match vendor.next(Duration::from_hours(1)).await {
                Ok(received) => tracing::info!(
                    event = received.event_name(),
                    request = %format_args!("{} {}", received.method, received.masked_target()),
                    id = received.header("webhook-id").unwrap_or_default(),
                    "the vendor received"
                ),
                Err(DevelopmentError::TimedOut { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, "what the vendor receives cannot be logged");
                    return std::future::pending().await;
                }
            }
        }
    }
}
