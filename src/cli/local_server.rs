//! The server that runs on this machine's SQLite file, for commands that cannot open it
//! themselves. It is called where it listens, as the holder of `operator.token`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use super::output::CliError;
use crate::api::extract::IDEMPOTENCY_KEY;
use crate::api::token_store::{OPERATOR_TOKEN_FILE, TokenValue};
use crate::config::Config;
use crate::seam::Seam;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 4 << 20;

/// A server on this machine.
#[derive(Debug)]
pub(crate) struct LocalServer {
    address: SocketAddr,
    token: TokenValue,
    seam: Seam,
}

impl LocalServer {
    /// The server of a configuration.
    pub(crate) fn of(config: &Config, seam: Seam) -> Result<Self, CliError> {
        if config.listen.port() == 0 {
            return Err(CliError::unusable(
                "`listen` has port 0, so the running server is unknown",
            )
            .hint("name its address with --listen"));
        }
        let file = config.data_dir.join(OPERATOR_TOKEN_FILE);
        Ok(Self { address: reachable(config.listen), token: read_token(&file)?, seam })
    }

    /// Calls a path; gives back what a success answered, nothing where it had no body.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<T>, CliError> {
        let exchange = self.exchange(method, path, body);
        let (status, body) = tokio::time::timeout(CALL_LIMIT, exchange)
            .await
            .map_err(|_| self.failed("it did not answer in time"))??;
        if !status.is_success() {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            let detail = problem["detail"].as_str().unwrap_or("it gave no reason");
            return Err(CliError::failed(format_args!("the server refused ({status}): {detail}")));
        }
        if body.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| self.failed(format_args!("its answer is not understood: {error}")))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), CliError> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        if method == Method::POST {
            request = request.header(IDEMPOTENCY_KEY, self.seam.randomness.id().to_string());
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| self.failed(error))?;
        let stream = TcpStream::connect(self.address).await.map_err(|error| {
            self.failed(error).hint(
                "a process holds the database, but no server answers where `listen` says: give the \
                 server's own --config or --listen, or stop that process",
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.failed(error))?;
        let answered = async {
            let response =
                sender.send_request(request).await.map_err(|error| self.failed(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT)
                .collect()
                .await
                .map_err(|error| self.failed(error))?;
            Ok((status, body.to_bytes()))
        };
        // The connection works only while it is polled.
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            ended = connection => match ended {
                Ok(()) => answered.await,
                Err(error) => Err(self.failed(error)),
            },
        }
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
