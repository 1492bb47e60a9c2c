//! Real servers on the loopback interface, for `mortise demo`, `mortise listen` and the tests: an
//! authorisation server that also plays the host's API, a vendor's receiver, and a browser.
//!
//! They speak real HTTP over real sockets, so that what is tested against them is what happens
//! outside. `serve` starts none of them.

mod authorization_endpoints;
mod authorization_page;
mod authorization_server;
mod browser;
mod grants;
mod received;
mod sample_vendor;
mod signatures;

use std::net::SocketAddr;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use authorization_server::{
    ApiCall, Conduct, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
};
pub use browser::{Browser, Decision, Page, ProviderAnswer};
pub use grants::{IssuedToken, TokenKind};
pub use received::Received;
pub use sample_vendor::{Behaviour, SampleVendor, SampleVendorOptions};
pub use signatures::{Check, Secrets, Verification, hash_of, verify};

/// What can go wrong with the development servers and the browser.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    /// The listener could not be opened.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The browser got no answer.
    #[error("the browser got no answer from {url}: {error}")]
    Request {
        /// The address, without its query.
        url: String,
        /// What went wrong.
        #[source]
        error: reqwest::Error,
    },
    /// An answer was not what the browser can go on with.
    #[error("the browser cannot go on at {url}: {problem}")]
    Unexpected {
        /// The address, without its query.
        url: String,
        /// What was missing.
        problem: String,
    },
    /// The time was up.
    #[error("waited {milliseconds} ms for {wanted} requests, {got} came")]
    TimedOut {
        /// How long was waited.
        milliseconds: u128,
        /// How many were wanted.
        wanted: usize,
        /// How many came.
        got: usize,
    },
}

/// A task that serves until this is dropped.
#[derive(Debug)]
struct Background {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Background {
    fn new(stop: CancellationToken, task: JoinHandle<()>) -> Self {
        Self { stop, task: Some(task) }
    }

    /// Tells the task to stop and waits for it.
    async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // A task that panicked has stopped too, and its panic has been printed.
            let _ = task.await;
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Opens a listener on the loopback interface; port 0 takes a free one.
async fn listen(port: u16) -> Result<(tokio::net::TcpListener, SocketAddr), DevelopmentError> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let failed = |error| DevelopmentError::Listen { address, error };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests;
