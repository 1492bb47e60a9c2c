//! Notifications of PostgreSQL: a hint that something changed, never the only sign of it.

use sqlx::postgres::PgListener;

use super::database::{ROUTING_CHANNEL, Store};

/// Tells when routing may have changed. On SQLite, and where listening is not possible (behind a
/// transaction-pooling proxy, say), it never tells, and polling does it alone.
#[derive(Debug)]
pub(crate) struct RoutingNotifications {
    listener: Option<PgListener>,
}

/// Listens to changes of routing.
pub(crate) async fn listen_to_routing(store: &Store) -> RoutingNotifications {
    let Some(pool) = store.postgres() else { return RoutingNotifications { listener: None } };
    let listening = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(ROUTING_CHANNEL).await?;
        Ok::<_, sqlx::Error>(listener)
    };
    match listening.await {
        Ok(listener) => RoutingNotifications { listener: Some(listener) },
        Err(error) => {
            tracing::warn!(%error, "cannot listen to notifications; polling instead");
            RoutingNotifications { listener: None }
        }
    }
}

impl RoutingNotifications {
    /// Waits for the next sign. After a lost connection it gives one too, since others may have
    /// been missed.
    pub(crate) async fn next(&mut self) {
        match &mut self.listener {
            Some(listener) => {
                if let Err(error) = listener.try_recv().await {
                    tracing::debug!(%error, "notifications are interrupted");
                    // Whoever polls goes on; this only keeps an outage from becoming a busy loop.
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending::<()>().await,
        }
    }
}
