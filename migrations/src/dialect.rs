//! What the two dialects of SQL write differently.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

/// The words in braces, and what they mean in PostgreSQL and in SQLite.
const WORDS: &[(&str, &str, &str)] = &[
    ("{uuid}", "uuid", "blob"),
    ("{bytes}", "bytea", "blob"),
    ("{long}", "bigint", "integer"),
    ("{short}", "smallint", "integer"),
    // Rows that are inserted once and then updated once or twice in place: room on each page
    // keeps those updates off the indexes (HOT).
    (
        "{updated in place}",
        "with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, \
         autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)",
        "without rowid",
    ),
    ("{insert only}", "with (autovacuum_vacuum_insert_scale_factor = 0.05)", ""),
    ("{small and busy}", "with (fillfactor = 50, autovacuum_vacuum_threshold = 50)", ""),
    ("{clustered}", "", "without rowid"),
];

/// Runs statements after putting in the words of the connection's dialect.
pub(crate) async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
    for statement in statements {
        let mut text = (*statement).to_owned();
        for (word, in_postgres, in_sqlite) in WORDS {
            text = text.replace(word, if postgres { in_postgres } else { in_sqlite });
        }
        connection.execute_unprepared(&text).await?;
    }
    Ok(())
}
