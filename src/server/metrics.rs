//! `metrics.listen`: a listener of its own that serves `/metrics` and nothing else, without a token.
//! It is for an address that only the operator's own machines reach.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listener::{Listener, ListenerOptions};
use crate::api::{ApiState, metrics_response};
use crate::config::Limits;
use crate::seam::Clock;

/// How many scrapers are connected at the most.
const CONNECTIONS: usize = 64;

/// The listener of metrics, while it runs.
#[derive(Debug)]
pub(super) struct MetricsListener {
    pub(super) address: SocketAddr,
    serving: JoinHandle<usize>,
}

impl MetricsListener {
    /// Serves on a bound socket until told to stop.
    pub(super) fn start(
        listener: Listener,
        state: &ApiState,
        limits: &Limits,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let address = listener.address();
        let router = Router::new().route("/metrics", get(metrics)).with_state(state.clone());
        let options = ListenerOptions { connections: CONNECTIONS, ..ListenerOptions::from(limits) };
        let serving = tokio::spawn(listener.serve(router, options, clock, stop));
        tracing::info!(%address, "metrics are served without a token");
        Self { address, serving }
    }

    /// Waits until it has ended, which it was told to.
    pub(super) async fn ended(self) {
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the listener of metrics ended badly");
        }
    }
}

async fn metrics(State(state): State<ApiState>) -> Response {
    match metrics_response(&state).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}
