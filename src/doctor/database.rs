//! Whether the database can be used, and what is in it holds together.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait, Statement};

use super::Check;
use super::configuration::database_name;
use crate::audit::{self, AuditPosition};
use crate::config::Config;
use crate::crypto::{KeyStoreError, Keys, open_keys};
use crate::rotation::examine_sealed;
use crate::seam::{Seam, Timestamp};
use crate::store::entity::setting;
use crate::store::{Nodes, Store, StoreError, hold};

/// From which difference between clocks somebody should look.
const CLOCK_WARNING: Duration = Duration::from_secs(2);

/// From which difference leases are judged wrongly.
const CLOCK_PROBLEM: Duration = Duration::from_mins(1);

/// How long a dead node may be in the table before nobody seems to look.
const LONG_DEAD: Duration = Duration::from_mins(5);

/// How many broken chains are named.
const MOST_CHAINS: usize = 20;

/// How many faults of the file are named.
const MOST_FAULTS: usize = 20;

/// What to do with a broken file.
const BROKEN: &str = "put the backup in place once more, where neither `mortise.db-wal` nor \
                      `mortise.db-shm` of the former file lies beside it";

const KEYS: &str = "keys";

/// How much of the audit is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuditLimits {
    /// How many links.
    pub(super) links: u64,
    /// For how long; no bound where it is nothing.
    pub(super) time: Option<Duration>,
}

pub(super) async fn examine(
    config: &Config,
    store: &Store,
    seam: &Seam,
    limits: AuditLimits,
) -> (Vec<Check>, AuditStretch) {
    let nothing = AuditStretch::default();
    let mut checks = Vec::new();
    match migrations(config, store).await {
        Ok(check) => checks.push(check),
        Err(error) => {
            checks.push(Check::problem(
                "database",
                format!("{}: {error}", database_name(config)),
                "see that it runs, that `database.url` is right, and that this user may use it",
            ));
            return (checks, nothing);
        }
    }
    if checks.iter().any(|check| check.status != super::Status::Ok) {
        // On another schema nothing else could be read for sure.
        return (checks, nothing);
    }
    checks.extend(keys(config, store, seam).await);
    let (audit, stretch) = match audit_chains(store, None, limits, seam).await {
        Ok((check, stretch)) => (Ok(check), stretch),
        Err(error) => (Err(error), nothing),
    };
    for check in [clock(store, seam).await, nodes(store, seam).await, audit, held(store).await] {
        checks.push(check.unwrap_or_else(|error| unreadable(&error)));
    }
    (checks, stretch)
}

pub(super) fn unreadable(error: &StoreError) -> Check {
    Check::problem(
        "database",
        format!("it cannot be read: {error}"),
        "see what the database's own log says",
    )
}

async fn migrations(config: &Config, store: &Store) -> Result<Check, StoreError> {
    let pending = store.pending_migrations().await?;
    if pending.is_empty() {
        return Ok(Check::ok("database", format!("{}, schema up to date", database_name(config))));
    }
    Ok(Check::problem(
        "database",
        format!("{} migrations are not applied, the first is {}", pending.len(), pending[0]),
        "run `mortise migrate up`, or start a server",
    ))
}

async fn keys(config: &Config, store: &Store, seam: &Seam) -> Vec<Check> {
    let kept = setting::Entity::find_by_id("master_key_fingerprint").one(store.reader()).await;
    match kept {
        Ok(None) => {
            return vec![Check::warning(
                KEYS,
                "the database has no keys yet",
                "start a server: it makes them",
            )];
        }
        Ok(Some(_)) => {}
        Err(error) => {
            let advice = "see what the database's own log says";
            return vec![Check::problem(KEYS, StoreError::from(error).to_string(), advice)];
        }
    }
    match open_keys(store, &config.keys.master_file, seam).await {
        Ok(keys) => {
            let opens = "the master key is the database's, and every data key opens";
            vec![Check::ok(KEYS, opens), sealed(store, &keys).await]
        }
        Err(
            error @ (KeyStoreError::OtherMasterKey { .. } | KeyStoreError::MasterKeyMissing { .. }),
        ) => vec![Check::problem(
            KEYS,
            error.to_string(),
            "bring the master key that belongs to this database",
        )],
        Err(error) => vec![Check::problem(
            KEYS,
            error.to_string(),
            "restore the keys' rows from the backup: what is sealed with them is lost otherwise",
        )],
    }
}

/// Whether SQLite finds its file whole. Reads all of it.
///
/// A backup that is put beside the `-wal` of the file before it is the way to a broken one: SQLite
/// takes that for its own and writes the old pages over the new ones.
pub(super) async fn whole(store: &Store) -> Option<Check> {
    const NAME: &str = "database file";
    if store.dialect() != DatabaseBackend::Sqlite {
        return None;
    }
    let sql = format!("pragma quick_check({MOST_FAULTS})");
    let found = store.reader().query_all_raw(Statement::from_string(store.dialect(), sql)).await;
    let found: Result<Vec<String>, _> =
        found.and_then(|rows| rows.iter().map(|row| row.try_get_by_index(0)).collect());
    let (detail, advice) = match found {
        Ok(lines) if lines == ["ok"] => return Some(Check::ok(NAME, "SQLite finds it whole")),
        Ok(lines) => (lines.join("; "), BROKEN),
        Err(error) => (format!("it cannot be read through: {error}"), BROKEN),
    };
    Some(Check::problem(NAME, detail, advice))
}

/// Opens everything that is sealed.
async fn sealed(store: &Store, keys: &Keys) -> Check {
    const NAME: &str = "sealed values";
    let examined = match examine_sealed(store, keys).await {
        Ok(examined) => examined,
        Err(error) => {
            let advice = "see what the database's own log says";
            return Check::problem(NAME, format!("they cannot be read: {error}"), advice);
        }
    };
    if !examined.unreadable.is_empty() {
        let named: Vec<String> = examined
            .unreadable
            .iter()
            .map(|(column, count)| format!("{count} in {column}"))
            .collect();
        return Check::problem(
            NAME,
            format!("some do not open: {}", named.join(", ")),
            "somebody changed them below Mortise: restore the rows, or make them anew (authorise again, \
             publish again, rotate the secret)",
        );
    }
    let beyond = if examined.is_cut { "; there are more, which were not looked at" } else { "" };
    Check::ok(NAME, format!("{} open{beyond}", examined.opened))
}

/// Compares the clock of this machine with that of the database, and with what was written last.
async fn clock(store: &Store, seam: &Seam) -> Result<Check, StoreError> {
    const NAME: &str = "clock";
    let before = seam.clock.now();
    let theirs: i64 = if store.dialect() == DatabaseBackend::Postgres {
        number(store, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
            .await?
            .unwrap_or_else(|| before.micros())
    } else {
        before.micros()
    };
    let after = seam.clock.now();
    // Somewhere between the two it was read.
    let theirs = Timestamp::from_micros(theirs);
    let apart = if theirs < before { before.since(theirs) } else { theirs.since(after) };
    let written = number(store, "select max(at) from routing_changes").await?;
    let ahead = written.map_or(Duration::ZERO, |at| Timestamp::from_micros(at).since(after));
    let advice = "set the clocks by NTP on every machine, the database's too";
    if apart >= CLOCK_PROBLEM || ahead >= CLOCK_PROBLEM {
        let detail = format!(
            "the database's clock differs by {apart:.1?}; what was written last lies {ahead:.1?} ahead"
        );
        return Ok(Check::problem(NAME, detail, advice));
    }
    if apart >= CLOCK_WARNING {
        return Ok(Check::warning(
            NAME,
            format!("the database's clock differs by {apart:.1?}"),
            advice,
        ));
    }
    Ok(Check::ok(NAME, "it agrees with the database's"))
}

async fn number(store: &Store, sql: &str) -> Result<Option<i64>, StoreError> {
    let statement = Statement::from_string(store.dialect(), sql);
    let row = store.reader().query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()?.flatten())
}

async fn nodes(store: &Store, seam: &Seam) -> Result<Check, StoreError> {
    const NAME: &str = "nodes";
    let now = seam.clock.now();
    let standing = Nodes::new(store.clone()).standing(now, LONG_DEAD).await?;
    if standing.long_dead > 0 && standing.live > 0 {
        return Ok(Check::problem(
            NAME,
            format!(
                "{} nodes died more than {} minutes ago, and nobody took over their work",
                standing.long_dead,
                LONG_DEAD.as_secs() / 60
            ),
            "see in the logs of the nodes why they cannot write",
        ));
    }
    Ok(Check::ok(NAME, format!("{} live", standing.live)))
}

/// How much of the audit was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditStretch {
    /// How many chains were read to their end.
    pub chains: u64,
    /// Where to go on; nothing where all were read.
    pub next: Option<String>,
}

pub(super) async fn audit_chains(
    store: &Store,
    after: Option<&AuditPosition>,
    limits: AuditLimits,
    seam: &Seam,
) -> Result<(Check, AuditStretch), StoreError> {
    const NAME: &str = "audit";
    let began = seam.clock.instant();
    let is_over = || limits.time.is_some_and(|limit| began.elapsed() >= limit);
    let done = audit::verify_stretch(store, after, limits.links, is_over, MOST_CHAINS).await?;
    let count = done.chains;
    let next = done.next.map(|position| position.to_string());
    let is_complete = next.is_none();
    let stretch = AuditStretch { chains: count, next };
    if done.broken == 0 && is_complete {
        return Ok((Check::ok(NAME, format!("{count} chains hold")), stretch));
    }
    if done.broken == 0 {
        let detail = format!("{count} chains hold, and not all were read");
        let advice = "go on with `auditAfter`, or run `mortise doctor`, which reads all";
        return Ok((Check::warning(NAME, detail, advice), stretch));
    }
    let named: Vec<String> = done
        .named
        .iter()
        .map(|(chain, link)| {
            let chain = if chain.is_empty() { "the platform" } else { chain.as_str() };
            format!("{chain} at {}: {}", link.sequence, link.reason)
        })
        .collect();
    let check = Check::problem(
        NAME,
        format!("{} of {count} chains are broken: {}", done.broken, named.join("; ")),
        "somebody changed the audit below Mortise: compare the rows with the last good backup",
    );
    Ok((check, stretch))
}

async fn held(store: &Store) -> Result<Check, StoreError> {
    const NAME: &str = "deliveries";
    Ok(match hold::held(store).await? {
        None => Check::ok(NAME, "they are not held back"),
        Some(hold) => Check::problem(
            NAME,
            format!("nothing is delivered since {}: {}", hold.since(), hold.reason),
            "when the findings are dealt with, run `mortise doctor --release`",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;
    use crate::doctor::Status;
    use crate::store::{Backend, StoreOptions};

    #[tokio::test]
    async fn a_file_that_another_ones_log_ran_over_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let options = StoreOptions {
            backend: Backend::Sqlite { path: path.clone() },
            max_connections: 2,
            migrate: true,
        };
        let store = Store::open(&options).await.unwrap();
        assert_eq!(whole(&store).await.map(|check| check.status), Some(Status::Ok));
        store.close().await.unwrap();
        drop(store);
        // Pages of another layout over those that are there, as a log that is not this file's.
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        let pages = file.metadata().unwrap().len() / 4_096;
        for page in pages - 3..pages {
            file.seek(SeekFrom::Start(page * 4_096)).unwrap();
            file.write_all(&[0x0d; 512]).unwrap();
        }
        drop(file);
        let store = Store::open(&StoreOptions { migrate: false, ..options }).await.unwrap();
        let found = whole(&store).await.unwrap();
        assert_eq!(found.status, Status::Problem, "{}", found.detail);
        assert!(found.advice.unwrap().contains("mortise.db-wal"));
        store.close().await.unwrap();
    }
}
