//! The rooms of a server without its loops: for a command that takes steps while no server runs.

use std::sync::Arc;

use super::rooms::{delivery_options, open_egress};
use super::wiring::StartError;
use crate::config::Config;
use crate::crypto::Keys;
use crate::delivery::{Dispatcher, NodeLease};
use crate::lifecycle::{Lifecycle, LifecycleOptions, Reconciler, ReconcilerParts};
use crate::notice::Board;
use crate::oauth::{Connections, Providers, Revocations};
use crate::seam::Seam;
use crate::store::Store;
use crate::webhook::{DeliveryBounds, ExtensionAuthority, Routing, RoutingOptions};

/// What a command works with. Nothing is delivered by it.
#[derive(Debug)]
pub(crate) struct Workbench {
    /// Steps of installations.
    pub(crate) lifecycle: Lifecycle,
    /// Where notices are written.
    pub(crate) board: Board,
    routing: Routing,
    lease: NodeLease,
    store: Store,
}

/// The reconciler of a database on which this process runs no server.
pub fn reconciler(config: &Config, store: &Store, keys: &Keys, seam: &Seam) -> Reconciler {
    Reconciler::new(ReconcilerParts {
        store: store.clone(),
        keys: keys.clone(),
        authority: ExtensionAuthority::for_server(),
        board: board(config, seam),
        seam: seam.clone(),
        erase_after: config.installations.erase_after,
    })
}

/// The board as the configuration has it.
pub(crate) fn board(config: &Config, seam: &Seam) -> Board {
    Board::new(seam.clone(), config.notices.url.is_some())
}

impl Workbench {
    /// Puts the rooms together, and enters among the nodes for as long as it is open.
    pub(crate) async fn open(
        config: &Config,
        store: &Store,
        keys: &Keys,
        seam: &Seam,
    ) -> Result<Self, StartError> {
        let egress = open_egress(config, seam)?;
        let options = RoutingOptions {
            bounds: DeliveryBounds::of(&config.delivery),
            ed25519: config.delivery.ed25519,
        };
        let routing = Routing::load(store, keys, &egress, &seam.clock, options).await?;
        let board = board(config, seam);
        let options = delivery_options(config, &board);
        let lease = NodeLease::acquire(store, seam, options.queue_bytes)
            .await
            .map_err(StartError::Nodes)?;
        let dispatcher = Dispatcher::new(
            store.clone(),
            routing.clone(),
            egress.clone(),
            keys.clone(),
            seam.clone(),
            lease.clone(),
            options,
        );
        let providers = Providers::new(
            config.oauth.providers.clone(),
            &config.public_url,
            store.clone(),
            keys.ring.clone(),
            egress.clone(),
            seam.clock.clone(),
        );
        let connections = Connections::new(
            store.clone(),
            keys.ring.clone(),
            providers.clone(),
            board.clone(),
            seam.clone(),
        );
        let revocations = Arc::new(Revocations::new(
            store.clone(),
            keys.ring.clone(),
            providers.clone(),
            seam.clone(),
        ));
        let lifecycle = Lifecycle::new(
            store.clone(),
            keys.clone(),
            routing.clone(),
            dispatcher,
            providers,
            revocations,
            connections,
            ExtensionAuthority::for_server(),
            board.clone(),
            config.public_url.clone(),
            config.marketplace.return_urls.clone(),
            seam.clone(),
            LifecycleOptions { erase_after: config.installations.erase_after, egress },
        );
        Ok(Self { lifecycle, board, routing, lease, store: store.clone() })
    }

    /// Leaves the nodes.
    pub(crate) async fn close(self) {
        if let Err(error) = self.lease.release(&self.store).await {
            tracing::warn!(%error, "this process could not take itself out of the nodes");
        }
        self.routing.detach();
    }
}
