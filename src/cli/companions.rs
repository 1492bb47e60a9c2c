//! What `mortise serve --development` runs beside the server, and how the server is told of it.

use std::time::Duration;

use clap::Args;

use super::output::CliError;
use crate::development::{
    Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
    DevelopmentError, SampleVendor, SampleVendorOptions,
};
use crate::oauth::DEFAULT_SERVICE;
use crate::server::RunningServer;

/// The ports of `--development`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CompanionPorts {
    /// The port of the authorisation server; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8181, requires = "development")]
    provider_port: u16,
    /// The port of the vendor's receiver; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8182, requires = "development")]
    vendor_port: u16,
}

/// An authorisation server and a vendor's receiver, on the loopback interface.
#[derive(Debug)]
pub(crate) struct Companions {
    provider: DevelopmentAuthorizationServer,
    vendor: SampleVendor,
}

impl Companions {
    /// Starts both.
    pub(crate) async fn start(ports: CompanionPorts) -> Result<Self, CliError> {
        let provider =
            DevelopmentAuthorizationServer::start(DevelopmentAuthorizationServerOptions {
                port: ports.provider_port,
                ..DevelopmentAuthorizationServerOptions::default()
            })
            .await
            .map_err(CliError::failed)?;
        provider.conduct(|conduct| conduct.auto = Some(Decision::Approve));
        let options =
            SampleVendorOptions { port: ports.vendor_port, ..SampleVendorOptions::default() };
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
            // Receivers that are tried out listen here too, at ports of their own.
            ("egress.allow".to_owned(), "127.0.0.1/32".to_owned()),
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
