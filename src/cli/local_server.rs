//! The server that runs on this machine's SQLite file, for commands that cannot open it
//! themselves. It is called where it listens, as the holder of `operator.token`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use http::Method;
use mortise_client::{Client, Error};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::output::CliError;
use super::remote_server::{RETRIES, USER_AGENT, words};
use crate::api::token_store::{OPERATOR_TOKEN_FILE, TokenValue};
use crate::config::Config;
use crate::egress::api_client;

/// A server on this machine.
#[derive(Debug)]
pub(crate) struct LocalServer {
    address: SocketAddr,
    client: Client,
}

impl LocalServer {
    /// The server of a configuration.
    pub(crate) fn of(config: &Config) -> Result<Self, CliError> {
        if config.listen.port() == 0 {
            return Err(CliError::unusable(
                "`listen` has port 0, so the running server is unknown",
            )
            .hint("name its address with --listen"));
        }
        let token = read_token(&config.data_dir.join(OPERATOR_TOKEN_FILE))?;
        let address = reachable(config.listen);
        let client = Client::builder(&format!("http://{address}"), token.expose())
            .map_err(CliError::unusable)?
            .http_client(api_client(None).map_err(CliError::unusable)?)
            .user_agent(USER_AGENT)
            .retries(RETRIES)
            .build()
            .map_err(CliError::unusable)?;
        Ok(Self { address, client })
    }

    /// Calls a path; gives back what a success answered, nothing where it had no body.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<T>, CliError> {
        self.client.call(method, path, body.as_ref()).await.map_err(|error| match &error {
            Error::Unreachable(cause) if cause.is_connect() => self.failed(words(&error)).hint(
                "a process holds the database, but no server answers where `listen` says: give the \
                 server's own --config or --listen, or stop that process",
            ),
            Error::Refused(_) => CliError::failed(words(&error)),
            _ => self.failed(words(&error)),
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> CliError {
        CliError::failed(format_args!("the server at {} cannot be used: {error}", self.address))
    }
}

/// The address to call for one that is listened on: "everywhere" is reached on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn read_token(file: &Path) -> Result<TokenValue, CliError> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        CliError::unusable(format_args!("the operator token {shown} cannot be read: {error}")).hint(
            "a running server holds the database; its first start left the token in `data_dir`",
        )
    })?;
    TokenValue::parse(text.trim())
        .ok_or_else(|| CliError::unusable(format_args!("{shown} holds no token of this server")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_reached_here() {
        for (listen, called) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), called.parse().unwrap());
        }
    }
}
