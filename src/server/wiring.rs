//! What a server is wired from, in the order in which it starts and stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listener::{ListenError, Listener, ListenerOptions};
use super::metrics::MetricsListener;
use super::rooms::Rooms;
use crate::api::token_store::{TokenError, make_first_operator_token};
use crate::api::{
    ApiParts, ApiState, TrustedProxies, application, application_with_pages, page_sessions, rooms,
};
use crate::config::{Config, DatabaseUrl};
use crate::crypto::{KeyStoreError, open_keys};
use crate::oauth::Connections;
use crate::seam::Seam;
use crate::store::{Backend, Store, StoreError, StoreOptions};
use crate::web;
use crate::webhook::RoutingError;

/// How often kept answers that are too old are removed.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened.
    #[error("the database {url} cannot be opened: {source}")]
    Store {
        /// Which; without its password.
        url: String,
        /// Why.
        source: StoreError,
    },
    /// `database.url` is not what the driver takes.
    #[error("`database.url` is not a PostgreSQL URL that can be used: {0}")]
    DatabaseUrl(String),
    /// The schema is older than this program, which was told not to migrate.
    #[error(
        "the database lacks {} migration(s), the first is {}: run `mortise migrate up`, or set \
         `database.migrate`", .0.len(), .0.first().map_or("", String::as_str)
    )]
    PendingMigrations(Vec<String>),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The first operator token cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The door out cannot be opened.
    #[error("egress cannot be set up: {0}")]
    Egress(String),
    /// The marketplace's secret cannot be used.
    #[error("marketplace.signing_secret cannot be used: {0}")]
    MarketplaceSecret(String),
    /// The secret that signs notices cannot be used.
    #[error("notices.signing_secret cannot be used: {0}")]
    NoticesSecret(String),
    /// Routing cannot be read.
    #[error("the webhooks cannot be read: {0}")]
    Routing(#[from] RoutingError),
    /// This process cannot enter itself among the nodes.
    #[error("this node cannot be entered in the database: {0}")]
    Nodes(#[source] StoreError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// How the configuration says that the database is opened.
pub fn store_options(config: &Config) -> Result<StoreOptions, StartError> {
    let backend = match &config.database.url {
        DatabaseUrl::Sqlite(path) => Backend::Sqlite { path: path.clone() },
        DatabaseUrl::Postgres(url) => {
            let options: PgConnectOptions = url
                .expose()
                .parse()
                .map_err(|error: sqlx::Error| StartError::DatabaseUrl(error.to_string()))?;
            Backend::Postgres { options: Box::new(options) }
        }
    };
    Ok(StoreOptions {
        backend,
        max_connections: config.database.max_connections,
        migrate: config.database.migrate,
    })
}

/// Starts a server. When this returns, requests are served.
pub async fn start(config: Config, seam: Seam) -> Result<RunningServer, StartError> {
    let store = open_store(&config).await?;
    let keys = open_keys(&store, &config.keys.master_file, &seam).await?;
    if keys.master_key_is_new {
        tracing::info!(
            file = %config.keys.master_file.display(),
            "made the master key: keep a copy of it apart from the database's"
        );
    }
    if let Some(file) = make_first_operator_token(&store, &seam, &config.data_dir).await? {
        tracing::info!(file = %file.display(), "made the first operator token");
    }
    let proxies = TrustedProxies::new(&config.server.trusted_proxies);
    let listener = Listener::bind(config.listen).await?.behind(proxies);
    let address = listener.address();
    let metrics_listener = match config.metrics.listen {
        Some(address) => Some(Listener::bind(address).await?),
        None => None,
    };
    let config = Arc::new(config.bound_to(address));
    let state = ApiState::new(ApiParts {
        store: store.clone(),
        keys: keys.clone(),
        config: Arc::clone(&config),
        seam: seam.clone(),
    });
    let work = Rooms::open(&config, &store, &keys, &state, &seam).await?;
    let stop = state.ending().clone();
    let api = application(state.clone(), rooms());
    let pages = web::router(state.clone(), api, stop.clone());
    let router = application_with_pages(state.clone(), rooms(), pages);
    let metrics = metrics_listener.map(|listener| {
        let (limits, clock) = (&config.limits, seam.clock.clone());
        MetricsListener::start(listener, &state, limits, clock, stop.clone())
    });
    let options = ListenerOptions::from(&config.limits);
    let serving = tokio::spawn(listener.serve(router, options, seam.clock.clone(), stop.clone()));
    let pruning = tokio::spawn(prune(state.clone(), stop.clone()));
    tracing::info!(%address, public_url = %config.public_url, "Mortise is ready");
    Ok(RunningServer { config, address, store, state, work, stop, serving, pruning, metrics })
}

async fn open_store(config: &Config) -> Result<Store, StartError> {
    let options = store_options(config)?;
    let failed = |source| StartError::Store { url: config.database.url.to_string(), source };
    let store = Store::open(&options).await.map_err(failed)?;
    if !options.migrate {
        let pending = store.pending_migrations().await.map_err(failed)?;
        if !pending.is_empty() {
            return Err(StartError::PendingMigrations(pending));
        }
    }
    Ok(store)
}

async fn prune(state: ApiState, stop: CancellationToken) {
    let clock = state.seam().clock.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(PRUNE_EVERY) => {}
        }
        if let Err(error) = state.answers().prune(clock.now()).await {
            tracing::warn!(%error, "old answers could not be removed; tried again in an hour");
        }
        if let Err(error) = page_sessions::prune(state.store(), clock.now()).await {
            tracing::warn!(%error, "old sessions could not be removed; tried again in an hour");
        }
    }
}

/// A server that runs.
#[derive(Debug)]
#[must_use = "a server that is dropped goes on without anybody to stop it"]
pub struct RunningServer {
    config: Arc<Config>,
    address: SocketAddr,
    store: Store,
    state: ApiState,
    work: Rooms,
    stop: CancellationToken,
    serving: JoinHandle<usize>,
    pruning: JoinHandle<()>,
    metrics: Option<MetricsListener>,
}

impl RunningServer {
    /// The address that was really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The configuration, with that address in it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The address of `metrics.listen` that was really bound.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// The connections of installations: who hands out access tokens.
    pub fn connections(&self) -> &Connections {
        &self.work.connections
    }

    /// Waits until the server ends, which it does only when something broke: the listener, or
    /// this node's lease, whose work another node then has taken over.
    pub async fn wait(&mut self) {
        tokio::select! {
            ended = &mut self.serving => if let Err(error) = ended {
                tracing::error!(%error, "the listener ended");
            },
            () = self.work.lost.cancelled() => {}
        }
    }

    /// Stops: takes nothing new, lets requests finish, closes the database.
    pub async fn stop(self) {
        self.stop.cancel();
        if !self.serving.is_finished() {
            match self.serving.await {
                Ok(0) => {}
                Ok(cut) => tracing::warn!(connections = cut, "the drain took too long; cut off"),
                Err(error) => tracing::error!(%error, "the listener ended badly"),
            }
        }
        if let Err(error) = self.pruning.await {
            tracing::error!(%error, "the removal of old answers ended badly");
        }
        if let Some(metrics) = self.metrics {
            metrics.ended().await;
        }
        drop(self.state);
        self.work.close().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }
}
