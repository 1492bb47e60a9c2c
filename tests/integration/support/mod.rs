//! What integration tests stand on.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod delivery_world;
pub(crate) mod ground;
pub(crate) mod invoke_world;
pub(crate) mod load;
pub(crate) mod own_world;
pub(crate) mod package;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod server;
pub(crate) mod statements;
pub(crate) mod tls_receiver;

/// Lists each test twice: on SQLite and on PostgreSQL. A test is a function of its backend.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let backend = $crate::support::server::Backend::Sqlite;
                    Box::pin(super::$name(backend)).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(database) = $crate::support::postgres::migrated_database().await else {
                        return;
                    };
                    let backend = $crate::support::server::Backend::Postgres(database);
                    Box::pin(super::$name(backend)).await;
                }
            )+
        }
    };
}
pub(crate) use on_both;
