//! What can go wrong with the database.

use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or has no free connection; the same call may work later.
    #[error("the database cannot be reached")]
    Unavailable(#[source] DbErr),
    /// Another writer was there first.
    #[error("another change came first")]
    Conflict,
    /// A text holds what the database cannot keep: a NUL character.
    #[error("a text holds a NUL character, which cannot be kept or looked for")]
    UnfitText,
    /// The database has what this program does not expect, or refused a statement.
    #[error("the database refused a statement")]
    Refused(#[source] DbErr),
    /// The schema is one that this release cannot work with.
    #[error("{0}")]
    OtherSchema(String),
    /// Another process holds the SQLite file.
    #[error(
        "another process serves the database {path}: only one process may open it; stop that one, \
         or use PostgreSQL for many nodes"
    )]
    Locked {
        /// The file that is held.
        path: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    File {
        /// What was touched.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A stored document cannot be read.
    #[error("a stored {what} cannot be read")]
    Corrupt {
        /// What it was to be.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether two transactions met, and this one gave way: the same again, from its beginning, may
    /// well succeed.
    pub fn is_contention(&self) -> bool {
        let Self::Unavailable(
            DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)),
        ) = self
        else {
            return false;
        };
        match &**cause {
            sqlx::Error::Database(cause) => {
                cause.code().is_some_and(|code| CONTENTION.contains(&code.as_ref()))
            }
            _ => false,
        }
    }
}

/// PostgreSQL's codes for a serialisation failure and a deadlock.
const CONTENTION: [&str; 2] = ["40001", "40P01"];

/// PostgreSQL's code for a text with a NUL character.
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return Self::Conflict;
        }
        // Nothing but the migrations says something in words of its own.
        if let DbErr::Custom(what) = error {
            return Self::OtherSchema(what);
        }
        let unavailable = match &error {
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => true,
            DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => is_passing(cause),
            _ => false,
        };
        if let DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) = &error
            && let sqlx::Error::Database(cause) = &**cause
            && cause.code().as_deref() == Some(CHARACTER_NOT_IN_REPERTOIRE)
        {
            return Self::UnfitText;
        }
        if unavailable { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        DbErr::Exec(RuntimeErr::SqlxError(error.into())).into()
    }
}

/// Whether a code of PostgreSQL (five characters) or of SQLite (a shorter number) says so.
fn is_passing_code(code: &str) -> bool {
    if code.len() == 5 {
        // Connection exceptions, resources, operator intervention, system errors, serialisation
        // failure and deadlock.
        return ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
            || ["40001", "40P01"].contains(&code);
    }
    // Busy, locked, I/O error, full; what is above the lowest byte says more of the same.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
}

/// Whether an error says nothing of the statement: the connection broke, the server is starting or
/// stopping, the disk is full, or two transactions met.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(cause) => cause.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_pass_are_told_from_those_that_stay() {
        // Full, I/O error while writing, syncing and truncating, busy with and without more.
        for code in ["13", "778", "1034", "1546", "5", "261", "517", "53100", "57P01", "58030"] {
            assert!(is_passing_code(code), "{code}");
        }
        for code in ["19", "2067", "11", "23505", "42601", "22021", "", "x"] {
            assert!(!is_passing_code(code), "{code}");
        }
    }
}
