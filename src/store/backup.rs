//! A copy of the SQLite file while its server runs.
//!
//! `VACUUM INTO` reads in one transaction of its own: the copy is what was committed at one moment,
//! and nobody who writes waits for it (<https://www.sqlite.org/lang_vacuum.html>). It is looked
//! through before it gets its name, so that a copy that is there is one that can be opened.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind::PermissionDenied, ErrorKind::Unsupported};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::seam::Randomness;

/// For how long a copy waits where the database is busy.
const BUSY: Duration = Duration::from_secs(10);

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("there is no database at {path}")]
    Nothing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A copy overwrites nothing.
    #[error("{path} is there already; a backup overwrites nothing")]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    File {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("the database cannot be copied")]
    Refused(#[from] rusqlite::Error),
    /// The copy is damaged, and so may be what it was made of.
    #[error("the copy is damaged, and was removed: {found}; look at the database itself")]
    Damaged {
        /// What SQLite's check says.
        found: String,
    },
}

/// Copies the SQLite file `database` to `target`, which must not be there yet. Returns how many
/// bytes the copy has. Takes as long as reading the file and writing it; call it where that may
/// block. `begun` is told of the file that grows meanwhile and gets the target's name at the end.
pub fn copy(database: &Path, target: &Path, begun: impl FnOnce(&Path)) -> Result<u64, BackupError> {
    if !database.exists() {
        return Err(BackupError::Nothing { path: database.to_owned() });
    }
    if target.exists() {
        return Err(BackupError::Exists { path: target.to_owned() });
    }
    let part = part_of(target)?;
    // Made here and now, so that it is nobody else's from the first byte on.
    let made = private(&part).map_err(|source| BackupError::File { path: part.clone(), source })?;
    begun(&part);
    let copied = fill(database, &part, &made).and_then(|()| {
        name(&part, target).map_err(|(path, source)| BackupError::File { path, source })
    });
    if copied.is_err() {
        // The reason matters more than a rest that cannot be removed.
        let _rest = std::fs::remove_file(&part);
    }
    copied?;
    let length = std::fs::metadata(target)
        .map_err(|source| BackupError::File { path: target.to_owned(), source })?;
    Ok(length.len())
}

/// Copies into the empty file `part`, and looks through what came of it.
fn fill(database: &Path, part: &Path, made: &File) -> Result<(), BackupError> {
    let connection = Connection::open_with_flags(
        database,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    let text = part.to_str().ok_or_else(|| BackupError::File {
        path: part.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not text"),
    })?;
    connection.execute("vacuum into ?1", [text])?;
    let copy = Connection::open_with_flags(part, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found: String = copy.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(BackupError::Damaged { found });
    }
    made.sync_all().map_err(|source| BackupError::File { path: part.to_owned(), source })
}

/// Gives the finished copy its name; nothing that came there meanwhile is overwritten.
fn name(part: &Path, target: &Path) -> Result<(), (PathBuf, io::Error)> {
    match std::fs::hard_link(part, target) {
        Ok(()) => std::fs::remove_file(part).map_err(|source| (part.to_owned(), source))?,
        // File systems without links: the name is taken first, then given to the copy.
        Err(error) if matches!(error.kind(), Unsupported | PermissionDenied) => {
            private(target).map_err(|source| (target.to_owned(), source))?;
            std::fs::rename(part, target).map_err(|source| (part.to_owned(), source))?;
        }
        Err(source) => return Err((target.to_owned(), source)),
    }
    // The name itself is on disk only with its folder.
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| (folder.to_owned(), source))
}

/// A name beside the target that nobody can have prepared, and no other copy has.
fn part_of(target: &Path) -> Result<PathBuf, BackupError> {
    let random = Randomness::default().bytes::<8>().map_err(|error| BackupError::File {
        path: target.to_owned(),
        source: io::Error::other(error),
    })?;
    let mut name = OsString::from(target);
    name.push(format!(".{:016x}.part", u64::from_be_bytes(random)));
    Ok(PathBuf::from(name))
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(folder: &Path) -> (PathBuf, Connection) {
        let path = folder.join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("create table t (n integer); insert into t values (1)").unwrap();
        (path, connection)
    }

    fn rows(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("select count(*) from t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_was_committed_is_copied_while_another_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut writer) = database(folder.path());
        let target = folder.path().join("copy.db");
        // Begun, and not committed: no part of the copy, and in nobody's way.
        let transaction = writer.transaction().unwrap();
        transaction.execute("insert into t values (2)", []).unwrap();
        let mut growing = None;
        let bytes = copy(&path, &target, |part| growing = Some(part.to_owned())).unwrap();
        transaction.commit().unwrap();
        let growing = growing.unwrap();
        assert!(growing.starts_with(folder.path()) && !growing.exists(), "it has its name now");
        assert_eq!(bytes, std::fs::metadata(&target).unwrap().len());
        assert_eq!((rows(&target), rows(&path)), (1, 2));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&target).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "others read no secret, even a sealed one");
        }
        assert_eq!(parts(folder.path()), 0);
    }

    fn parts(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.strip_suffix(".part").is_some()).count()
    }

    #[test]
    fn nothing_is_overwritten_and_a_rest_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _writer) = database(folder.path());
        let target = folder.path().join("copy.db");
        // The rest of one that was interrupted, or what somebody has prepared for us.
        let rest = folder.path().join("copy.db.part");
        std::fs::write(&rest, "not ours").unwrap();
        copy(&path, &target, |_| {}).unwrap();
        assert_eq!(std::fs::read(&rest).unwrap(), b"not ours");
        assert_ne!(part_of(&target).unwrap(), part_of(&target).unwrap());
        let before = std::fs::read(&target).unwrap();
        assert!(matches!(copy(&path, &target, |_| {}), Err(BackupError::Exists { .. })));
        assert_eq!(std::fs::read(&target).unwrap(), before);
        let nowhere = folder.path().join("nowhere.db");
        let missing = copy(&nowhere, &folder.path().join("other.db"), |_| {});
        assert!(matches!(missing, Err(BackupError::Nothing { .. })));
    }

    #[test]
    fn what_is_no_database_leaves_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        let target = folder.path().join("copy.db");
        assert!(matches!(copy(&path, &target, |_| {}), Err(BackupError::Refused(_))));
        assert!(!target.exists());
        assert_eq!(parts(folder.path()), 0);
    }
}
