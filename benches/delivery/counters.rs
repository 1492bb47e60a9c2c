//! What a database counted: commits, rows, bytes of log.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use serde::Serialize;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::Outcome;

/// Where the counts stand.
#[derive(Clone, Debug)]
pub(crate) enum Counters {
    /// In PostgreSQL's statistics.
    Postgres {
        /// The address of the database.
        url: String,
        /// Whether `pg_stat_statements` is there.
        with_statements: bool,
    },
    /// In the index of SQLite's write-ahead log, which counts transactions that wrote.
    Sqlite {
        /// The database file.
        file: PathBuf,
    },
}

/// Counts since the database was made.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Transactions; a statement on its own is one, and one round trip.
    pub(crate) commits: u64,
    pub(crate) rows_inserted: u64,
    pub(crate) rows_updated: u64,
    /// Updates that touched no index.
    pub(crate) rows_updated_hot: u64,
    pub(crate) log_bytes: u64,
}

impl Counts {
    /// What was counted since.
    pub(crate) fn until(&self, later: &Self) -> Self {
        Self {
            commits: later.commits.wrapping_sub(self.commits),
            rows_inserted: later.rows_inserted.wrapping_sub(self.rows_inserted),
            rows_updated: later.rows_updated.wrapping_sub(self.rows_updated),
            rows_updated_hot: later.rows_updated_hot.wrapping_sub(self.rows_updated_hot),
            log_bytes: later.log_bytes.wrapping_sub(self.log_bytes),
        }
    }
}

/// Where the number of transactions stands in the index of the log (SQLite's WAL-index format).
const TRANSACTIONS_AT: u64 = 8;

impl Counters {
    /// Reads them.
    pub(crate) async fn read(&self) -> Outcome<Counts> {
        match self {
            Self::Postgres { url, .. } => {
                let mut connection = PgConnection::connect(url).await?;
                let row: (i64, i64, i64, i64, i64) = sqlx::query_as(
                    "select (select xact_commit from pg_stat_database
                             where datname = current_database()),
                            coalesce(sum(n_tup_ins), 0)::bigint,
                            coalesce(sum(n_tup_upd), 0)::bigint,
                            coalesce(sum(n_tup_hot_upd), 0)::bigint,
                            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint
                     from pg_stat_user_tables",
                )
                .fetch_one(&mut connection)
                .await?;
                let [commits, rows_inserted, rows_updated, rows_updated_hot, log_bytes] =
                    [row.0, row.1, row.2, row.3, row.4].map(i64::cast_unsigned);
                Ok(Counts { commits, rows_inserted, rows_updated, rows_updated_hot, log_bytes })
            }
            Self::Sqlite { file } => {
                let mut index = file.clone().into_os_string();
                index.push("-shm");
                let mut index = std::fs::File::open(index)?;
                index.seek(SeekFrom::Start(TRANSACTIONS_AT))?;
                let mut bytes = [0; 4];
                index.read_exact(&mut bytes)?;
                Ok(Counts { commits: u64::from(u32::from_ne_bytes(bytes)), ..Counts::default() })
            }
        }
    }

    /// Begins to count statements anew.
    pub(crate) async fn reset_statements(&self) -> Outcome<()> {
        if let Self::Postgres { url, with_statements: true } = self {
            let mut connection = PgConnection::connect(url).await?;
            connection.execute("select pg_stat_statements_reset()").await?;
        }
        Ok(())
    }

    /// The statements that took the most time, a line each: calls, rows, milliseconds, text.
    pub(crate) async fn statements(&self) -> Outcome<Vec<String>> {
        let Self::Postgres { url, with_statements: true } = self else { return Ok(Vec::new()) };
        let mut connection = PgConnection::connect(url).await?;
        let rows: Vec<(i64, i64, f64, String)> = sqlx::query_as(
            "select calls, rows, total_exec_time, regexp_replace(query, '\\s+', ' ', 'g')
             from pg_stat_statements order by total_exec_time desc limit 12",
        )
        .fetch_all(&mut connection)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(calls, rows, millis, text)| {
                format!("{calls:>8} {rows:>9} {millis:>10.1} {text:.160}")
            })
            .collect())
    }
}
