//! Opening the database, and the transaction that a change is made in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mortise_migrations::Migrator;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    AccessMode, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseBackend,
    DatabaseConnection, DatabaseTransaction, EntityTrait, IsolationLevel, QueryFilter, QueryTrait,
    SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, Statement,
    TransactionOptions, TransactionTrait, Value,
};
use sea_orm_migration::MigratorTrait;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::entity::{routing, routing_change};
use super::error::StoreError;
use super::positions::{Journalled, Noted};
use super::writes::{self, ChainEnd, KeptBack};
use crate::seam::Timestamp;
use crate::telemetry::METRICS;

/// The key of the advisory lock under which one node at a time migrates.
const MIGRATION_LOCK: i64 = 0x006d_6f72_7469_7365;

/// The channel on which PostgreSQL says that routing changed.
pub(crate) const ROUTING_CHANNEL: &str = "mortise_routing";

/// How many changes of routing one statement writes.
const MOST_TOGETHER: usize = 100;

/// Which database it is, and how to reach it.
#[derive(Clone, Debug)]
pub enum Backend {
    /// One file, which one process owns by lock.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A server that any number of nodes share.
    Postgres {
        /// Where and as whom; prints no password.
        options: Box<PgConnectOptions>,
    },
}

/// How to open the database.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Which database.
    pub backend: Backend,
    /// Connections for ordinary work (PostgreSQL) or for reading (SQLite).
    pub max_connections: u32,
    /// Whether to bring the schema up to date.
    pub migrate: bool,
}

/// The open database. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    /// SQLite has one writer: whoever holds this may begin a write transaction, in turn.
    write_turn: Option<Arc<Mutex<()>>>,
    _lock: Option<Arc<File>>,
}

impl Store {
    /// Opens the database and, where asked to, brings its schema up to date, one node at a time.
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        match &options.backend {
            Backend::Sqlite { path } => Self::open_sqlite(path, options).await,
            Backend::Postgres { options: connect } => Self::open_postgres(connect, options).await,
        }
    }

    async fn open_sqlite(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let lock = lock_file(path)?;
        make_private(path)?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true)
            .statement_cache_capacity(256)
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "MEMORY")
            .pragma("journal_size_limit", "67108864")
            // What is erased is overwritten, not only forgotten.
            .pragma("secure_delete", "ON");
        // The file and its journal mode must exist before anybody reads: see docs/ARCHITECTURE.md.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(connect.clone())
            .await?;
        let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(writer);
        if options.migrate {
            Migrator::up(&writer, None).await?;
        }
        let reader = SqlitePoolOptions::new()
            .max_connections(Ord::max(options.max_connections, 2))
            .test_before_acquire(false)
            .connect_with(connect.read_only(true).pragma("query_only", "ON"))
            .await?;
        Ok(Self {
            backend: options.backend.clone(),
            reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
            writer,
            write_turn: Some(Arc::new(Mutex::new(()))),
            _lock: Some(Arc::new(lock)),
        })
    }

    async fn open_postgres(
        connect: &PgConnectOptions,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        // Two pools: whoever holds a transaction may read beside it, and must never wait for a
        // connection that another such holder has.
        let half = Ord::max(options.max_connections.saturating_sub(1) / 2, 2);
        let pool = |size| {
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(Duration::from_secs(5))
                .connect_with(connect.clone())
        };
        let writer = pool(half).await?;
        if options.migrate {
            migrate_postgres(&writer).await?;
        }
        let reader = pool(half).await?;
        Ok(Self {
            backend: options.backend.clone(),
            reader: SqlxPostgresConnector::from_sqlx_postgres_pool(reader),
            writer: SqlxPostgresConnector::from_sqlx_postgres_pool(writer),
            write_turn: None,
            _lock: None,
        })
    }

    /// Which database it is.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The dialect of SQL that it speaks.
    pub(crate) fn dialect(&self) -> DatabaseBackend {
        match self.backend {
            Backend::Postgres { .. } => DatabaseBackend::Postgres,
            Backend::Sqlite { .. } => DatabaseBackend::Sqlite,
        }
    }

    /// The connections for reading outside of a transaction.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// Begins a transaction that only reads, and sees the database as it is at its first statement.
    pub(crate) async fn begin_reading(&self) -> Result<DatabaseTransaction, StoreError> {
        let options = match self.backend {
            Backend::Postgres { .. } => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
            // A read transaction of SQLite is a snapshot by itself.
            Backend::Sqlite { .. } => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
                ..TransactionOptions::default()
            },
        };
        Ok(self.reader.begin_with_options(options).await?)
    }

    /// Begins a transaction that may write. Nothing slow may happen while it is open.
    pub async fn begin(&self) -> Result<UnitOfWork, StoreError> {
        let turn = match &self.write_turn {
            Some(turn) => Some(Arc::clone(turn).lock_owned().await),
            None => None,
        };
        let transaction = self
            .writer
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            })
            .await?;
        Ok(UnitOfWork {
            transaction,
            changes: Vec::new(),
            noted: std::sync::Mutex::default(),
            kept_back: std::sync::Mutex::default(),
            steps: std::sync::Mutex::default(),
            _turn: turn,
        })
    }

    /// Brings everything that was written into the file and empties SQLite's journal, so that no
    /// former content of a page is left in it. Returns whether that was done: a reader may be in the
    /// way. PostgreSQL has nothing of the kind.
    pub(crate) async fn empty_journal(&self) -> Result<bool, StoreError> {
        let Some(turn) = &self.write_turn else { return Ok(true) };
        let _mine = turn.lock().await;
        // Whoever reads holds nobody up for longer than a moment.
        self.writer.execute_unprepared("pragma busy_timeout = 200").await?;
        let emptied = self
            .writer
            .query_one_raw(Statement::from_string(
                DatabaseBackend::Sqlite,
                "pragma wal_checkpoint(truncate)",
            ))
            .await;
        self.writer.execute_unprepared("pragma busy_timeout = 10000").await?;
        let busy: i64 = match emptied? {
            Some(row) => row.try_get_by_index(0)?,
            None => 1,
        };
        Ok(busy == 0)
    }

    /// The connections for one statement that commits by itself, on PostgreSQL: a transaction
    /// around it would be three trips more.
    pub(crate) fn autocommit(&self) -> Option<&DatabaseConnection> {
        self.write_turn.is_none().then_some(&self.writer)
    }

    /// The turn-taking of SQLite's writers; none on PostgreSQL.
    pub(crate) fn write_turn(&self) -> Option<Arc<Mutex<()>>> {
        self.write_turn.clone()
    }

    /// The pool for reading, for what PostgreSQL alone can do.
    pub(crate) fn postgres(&self) -> Option<&PgPool> {
        matches!(self.backend, Backend::Postgres { .. })
            .then(|| self.reader.get_postgres_connection_pool())
    }

    /// Answers whether the database can be read now.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.reader.ping().await.map_err(StoreError::from)
    }

    /// The names of the migrations that are not applied yet.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let pending = Migrator::get_pending_migrations(&self.writer).await?;
        Ok(pending.iter().map(|migration| migration.name().to_owned()).collect())
    }

    /// The names of the migrations that are applied, in order.
    pub async fn applied_migrations(&self) -> Result<Vec<String>, StoreError> {
        let applied = Migrator::get_applied_migrations(&self.writer).await?;
        Ok(applied.iter().map(|migration| migration.name().to_owned()).collect())
    }

    /// Closes all connections.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.reader.clone().close().await?;
        self.writer.clone().close().await?;
        Ok(())
    }
}

/// Takes the lock that says that this process owns the SQLite file.
fn lock_file(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |source| StoreError::File { path: lock_path.display().to_string(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StoreError::Locked { path: path.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes the file where there is none, for this user alone: payloads are in it. SQLite gives the
/// files beside it the same mode, and takes an empty file for an empty database.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_made) => Ok(()),
        Err(source) => Err(StoreError::File { path: path.display().to_string(), source }),
    }
}

/// Migrates under an advisory lock, so that nodes that start together do it one after the other.
async fn migrate_postgres(pool: &PgPool) -> Result<(), StoreError> {
    let mut holder = pool.acquire().await?;
    sqlx::query("select pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut *holder).await?;
    let migrated =
        Migrator::up(&SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone()), None).await;
    sqlx::query("select pg_advisory_unlock($1)").bind(MIGRATION_LOCK).execute(&mut *holder).await?;
    migrated.map_err(StoreError::from)
}

/// What a routing change touched, so that every node reloads just that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingChange {
    /// The webhooks of an org.
    Org(String),
    /// An installation and the lane of its callbacks.
    Installation(String),
    /// Every installation of an extension, or its secrets.
    Extension(String),
    /// An API token.
    Token(String),
    /// The keys that sign and seal for the platform.
    Keys,
    /// A webhook that works again, as somebody says: nothing pauses it any more.
    Endpoint(String),
}

impl RoutingChange {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Org(subject) => ("org", subject),
            Self::Installation(subject) => ("installation", subject),
            Self::Extension(subject) => ("extension", subject),
            Self::Token(subject) => ("token", subject),
            Self::Keys => ("keys", ""),
            Self::Endpoint(subject) => ("endpoint", subject),
        }
    }

    /// Reads what [`RoutingChange::parts`] wrote; nothing for a kind that a later release added.
    pub(crate) fn read(kind: &str, subject: String) -> Option<Self> {
        Some(match kind {
            "org" => Self::Org(subject),
            "installation" => Self::Installation(subject),
            "extension" => Self::Extension(subject),
            "token" => Self::Token(subject),
            "keys" => Self::Keys,
            "endpoint" => Self::Endpoint(subject),
            _ => return None,
        })
    }
}

/// The revision of routing that a transaction made; every node must reach it before its effect is
/// told to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "an answer may go out only after routing has settled"]
pub struct RoutingRevision(pub(crate) Option<i64>);

/// A transaction that may write. Dropped without a commit it leaves nothing.
#[derive(Debug)]
pub struct UnitOfWork {
    transaction: DatabaseTransaction,
    changes: Vec<RoutingChange>,
    noted: std::sync::Mutex<Noted>,
    kept_back: std::sync::Mutex<KeptBack>,
    steps: std::sync::Mutex<Vec<(&'static str, &'static str)>>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl UnitOfWork {
    /// What statements run on.
    pub(crate) fn connection(&self) -> &DatabaseTransaction {
        &self.transaction
    }

    /// Writes at the commit, with everything else that may wait so long: an insert, of which nothing
    /// in this transaction reads the row. Whoever reads it all the same calls [`UnitOfWork::flush`]
    /// before.
    pub(crate) fn write_later(&self, query: &impl QueryTrait) {
        let mut kept = self.kept_back.lock().unwrap_or_else(PoisonError::into_inner);
        kept.keep(query, self.transaction.get_database_backend());
    }

    /// Makes the writes that were to be made later.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let statements = {
            let mut kept = self.kept_back.lock().unwrap_or_else(PoisonError::into_inner);
            kept.take(self.transaction.get_database_backend())
        };
        writes::make(&self.transaction, statements).await
    }

    /// The end of a chain of the audit whose head this transaction holds; nothing where it does not.
    pub(crate) fn chain_end(&self, chain: &str) -> Option<ChainEnd> {
        self.kept_back.lock().unwrap_or_else(PoisonError::into_inner).chain_end(chain)
    }

    /// Says where a chain ends now, whose head this transaction holds.
    pub(crate) fn set_chain_end(&self, chain: &str, end: ChainEnd) {
        self.kept_back.lock().unwrap_or_else(PoisonError::into_inner).set_chain_end(chain, end);
    }

    /// Says that the transaction changes routing.
    pub fn routing_changed(&mut self, change: RoutingChange) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Says that the transaction changes an installation: it gets a new place among the changes. Its
    /// row must be locked by the transaction already.
    pub(crate) fn installation_changed(&self, id: uuid::Uuid) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.installations.contains(&id) {
            noted.installations.push(id);
        }
    }

    /// Says that the transaction changes all live installations of an extension.
    pub(crate) fn extension_changed(&self, key: &str) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extensions.push(key.to_owned());
    }

    /// Says that the transaction takes a step of an installation, to be counted once it stands.
    pub(crate) fn transitioned(&self, command: &'static str, to: &'static str) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push((command, to));
    }

    /// Says that the transaction wrote a lifecycle callback: it gets its place in the journal.
    pub(crate) fn journalled(&self, entry: Journalled) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).journal.push(entry);
    }

    /// Commits. What comes back must be settled with routing before the caller is answered.
    pub async fn commit(mut self, now: Timestamp) -> Result<RoutingRevision, StoreError> {
        self.flush().await?;
        let noted = std::mem::take(self.noted.get_mut().unwrap_or_else(PoisonError::into_inner));
        noted.write(&self.transaction).await?;
        let changes = std::mem::take(&mut self.changes);
        let revision =
            if changes.is_empty() { None } else { Some(self.write_changes(&changes, now).await?) };
        let steps = std::mem::take(self.steps.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.transaction.commit().await?;
        for (command, to) in steps {
            METRICS.transitions.add([command, to], 1);
        }
        Ok(RoutingRevision(revision))
    }

    /// Takes it all back.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.transaction.rollback().await.map_err(StoreError::from)
    }

    async fn write_changes(
        &self,
        changes: &[RoutingChange],
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        // The row is held until the commit, so revisions become visible in their order.
        let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
        if self.transaction.get_database_backend() == DatabaseBackend::Postgres
            && changes.len() <= MOST_TOGETHER
        {
            return self.write_changes_together(changes, count, now).await;
        }
        routing::Entity::update_many()
            .col_expr(routing::Column::Revision, Expr::col(routing::Column::Revision).add(count))
            .filter(routing::Column::Singleton.eq(1))
            .exec(&self.transaction)
            .await?;
        let newest = routing::Entity::find_by_id(1)
            .one(&self.transaction)
            .await?
            .ok_or(StoreError::Corrupt { what: "routing row" })?
            .revision;
        let first = newest - count + 1;
        let rows = changes.iter().zip(first..).map(|(change, revision)| {
            let (kind, subject) = change.parts();
            routing_change::ActiveModel {
                revision: Set(revision),
                kind: Set(kind.to_owned()),
                subject: Set(subject.to_owned()),
                at: Set(now.micros()),
            }
        });
        routing_change::Entity::insert_many(rows).exec_without_returning(&self.transaction).await?;
        if self.transaction.get_database_backend() == DatabaseBackend::Postgres {
            self.transaction.execute_unprepared(&format!("notify {ROUTING_CHANNEL}")).await?;
        }
        Ok(newest)
    }

    /// The same in one round trip to PostgreSQL.
    async fn write_changes_together(
        &self,
        changes: &[RoutingChange],
        count: i64,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let mut values: Vec<Value> = vec![count.into(), now.micros().into()];
        let mut rows = Vec::with_capacity(changes.len());
        for (change, number) in changes.iter().zip(1_i64..) {
            let (kind, subject) = change.parts();
            let first = values.len() + 1;
            rows.push(format!("(${first}, ${}, ${})", first + 1, first + 2));
            values.extend([number.into(), kind.into(), subject.into()]);
        }
        let sql = format!(
            "with counted as (
                 update routing set revision = revision + $1 where singleton = 1 returning revision
             ), written as (
                 insert into routing_changes (revision, kind, subject, at)
                 select counted.revision - $1 + change.number, change.kind, change.subject, $2
                 from counted, (values {}) as change (number, kind, subject)
             )
             select revision, pg_notify('{ROUTING_CHANNEL}', '') from counted",
            rows.join(", ")
        );
        let backend = self.transaction.get_database_backend();
        let row = self
            .transaction
            .query_one_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?
            .ok_or(StoreError::Corrupt { what: "routing row" })?;
        Ok(row.try_get_by_index(0)?)
    }
}
