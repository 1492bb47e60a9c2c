//! A development authorisation server (OAuth 2.0 with PKCE) that also plays the host's API.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

use super::authorization_endpoints::router;
use super::grants::{Consent, Grants, IssuedToken};
use super::{Background, Decision, DevelopmentError};
use crate::seam::{Seam, Timestamp};

/// How a development authorisation server is set up.
#[derive(Clone, Debug)]
pub struct DevelopmentAuthorizationServerOptions {
    /// Clock and randomness.
    pub seam: Seam,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The one client's id.
    pub client_id: String,
    /// The one client's secret.
    pub client_secret: String,
    /// Where answers may be sent; where there is none yet, none can be.
    pub redirect_uris: Vec<String>,
}

impl Default for DevelopmentAuthorizationServerOptions {
    fn default() -> Self {
        Self {
            seam: Seam::default(),
            port: 0,
            client_id: "mortise-development".to_owned(),
            client_secret: "development-client-secret".to_owned(),
            redirect_uris: Vec::new(),
        }
    }
}

/// How the server behaves; can be changed while it runs.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to behave by itself")]
pub struct Conduct {
    /// Answer the consent page without asking.
    pub auto: Option<Decision>,
    /// Grant at most these scopes, whatever was asked for.
    pub grant_only: Option<Vec<String>>,
    /// Leave `scope` out of token answers, which means "as asked".
    pub omit_scope: bool,
    /// Say `iss` in the authorisation answer (RFC 9207).
    pub announce_issuer: bool,
    /// Say this `iss` and not the true one.
    pub false_issuer: Option<String>,
    /// Hand out refresh tokens.
    pub issue_refresh_tokens: bool,
    /// How long access tokens live.
    pub access_token_lifetime: Duration,
    /// How long the token endpoint thinks before it does anything.
    pub token_delay: Duration,
    /// How long the token endpoint thinks after it has issued tokens and before it answers.
    pub token_answer_delay: Duration,
    /// So many answers of the token endpoint are lost: tokens are issued, and the answer is a 503.
    pub lost_token_answers: u32,
    /// A former refresh token is good until its successor is used (FAPI 2.0).
    pub resilient_refresh: bool,
    /// A new consent brings the refresh token of the former one again.
    pub repeat_refresh_token: bool,
    /// A refresh grants at most these scopes.
    pub narrow_refresh: Option<Vec<String>>,
    /// The next requests to the token endpoint fail with these statuses.
    pub token_failures: VecDeque<u16>,
    /// How long the revocation endpoint thinks before it does anything.
    pub revocation_delay: Duration,
    /// The next requests to the revocation endpoint fail with these statuses.
    pub revocation_failures: VecDeque<u16>,
    /// The API answers these statuses next, whatever the token.
    pub api_failures: VecDeque<u16>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            auto: None,
            grant_only: None,
            omit_scope: false,
            announce_issuer: true,
            false_issuer: None,
            issue_refresh_tokens: true,
            access_token_lifetime: Duration::from_hours(1),
            token_delay: Duration::ZERO,
            token_answer_delay: Duration::ZERO,
            lost_token_answers: 0,
            resilient_refresh: false,
            repeat_refresh_token: false,
            narrow_refresh: None,
            token_failures: VecDeque::new(),
            revocation_delay: Duration::ZERO,
            revocation_failures: VecDeque::new(),
            api_failures: VecDeque::new(),
        }
    }
}

/// A call to the API that the server plays.
#[derive(Clone, Debug)]
pub struct ApiCall {
    /// The method.
    pub method: String,
    /// Path and query as they came.
    pub path_and_query: String,
    /// The headers, in the order of HTTP's own map.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: bytes::Bytes,
    /// Whether a live token came with it.
    pub authorized: bool,
    /// The status that was answered.
    pub status: u16,
}

/// A consent page that waits for its answer.
pub(crate) struct Ticket {
    pub(crate) redirect: Url,
    pub(crate) state: String,
    pub(crate) consent: Consent,
    pub(crate) expires: Timestamp,
}

/// What the server remembers.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) grants: Grants,
    pub(crate) tickets: HashMap<String, Ticket>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) conduct: Conduct,
    pub(crate) calls: VecDeque<ApiCall>,
    pub(crate) token_requests: u64,
    pub(crate) revocation_requests: u64,
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) seam: Seam,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) book: Mutex<Book>,
}

impl Shared {
    /// The book; a panic elsewhere leaves it as it was, which is good enough to go on.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running development authorisation server; it stops when this is dropped.
pub struct DevelopmentAuthorizationServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    background: Background,
}

impl std::fmt::Debug for DevelopmentAuthorizationServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DevelopmentAuthorizationServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl DevelopmentAuthorizationServer {
    /// Starts the server on the loopback interface.
    pub async fn start(
        options: DevelopmentAuthorizationServerOptions,
    ) -> Result<Self, DevelopmentError> {
        let (listener, address) = super::listen(options.port).await?;
        let shared = Arc::new(Shared {
            seam: options.seam,
            issuer: format!("http://{address}"),
            client_id: options.client_id,
            client_secret: options.client_secret,
            book: Mutex::new(Book { redirect_uris: options.redirect_uris, ..Book::default() }),
        });
        let stop = CancellationToken::new();
        let router = router(Arc::clone(&shared));
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await
            {
                tracing::error!(%error, "the development authorisation server stopped");
            }
        });
        Ok(Self { address, shared, background: Background::new(stop, task) })
    }

    /// Stops the server and waits until its connections are closed.
    pub async fn stop(mut self) {
        self.background.stop().await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its issuer identifier, which is its origin and the origin of the API that it plays.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// The authorisation endpoint.
    pub fn authorize_url(&self) -> String {
        format!("{}/authorize", self.shared.issuer)
    }

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.shared.issuer)
    }

    /// The revocation endpoint.
    pub fn revoke_url(&self) -> String {
        format!("{}/revoke", self.shared.issuer)
    }

    /// The client's id.
    pub fn client_id(&self) -> &str {
        &self.shared.client_id
    }

    /// The client's secret.
    pub fn client_secret(&self) -> &str {
        &self.shared.client_secret
    }

    /// Lets answers go to one more address.
    pub fn register_redirect_uri(&self, uri: impl Into<String>) {
        self.shared.book().redirect_uris.push(uri.into());
    }

    /// Changes how the server behaves from now on.
    pub fn conduct(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.shared.book().conduct);
    }

    /// Whether a token could be used now.
    pub fn is_live(&self, token: &str) -> bool {
        self.shared.book().grants.live(token, self.shared.seam.clock.now()).is_some()
    }

    /// All tokens that were issued, in order.
    pub fn issued_tokens(&self) -> Vec<IssuedToken> {
        self.shared.book().grants.issued()
    }

    /// The tokens that could be used now, in the order of their issue.
    pub fn live_tokens(&self) -> Vec<IssuedToken> {
        let now = self.shared.seam.clock.now();
        let book = self.shared.book();
        let mut issued = book.grants.issued();
        issued.retain(|token| book.grants.live(&token.token, now).is_some());
        issued
    }

    /// Revokes every token, as a user does who withdraws the consent at the provider.
    pub fn revoke_all(&self) {
        self.shared.book().grants.revoke_all();
    }

    /// Loses a token, as a server does whose write did not last.
    pub fn forget(&self, token: &str) {
        self.shared.book().grants.forget(token);
    }

    /// How many requests the token endpoint got.
    pub fn token_requests(&self) -> u64 {
        self.shared.book().token_requests
    }

    /// How many requests the revocation endpoint got.
    pub fn revocation_requests(&self) -> u64 {
        self.shared.book().revocation_requests
    }

    /// The calls that the API got, the oldest first; the last 10,000 are kept.
    pub fn api_calls(&self) -> Vec<ApiCall> {
        self.shared.book().calls.iter().cloned().collect()
    }
}
