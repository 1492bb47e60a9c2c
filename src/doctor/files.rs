//! Whether files with secrets in them are their owner's alone.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Check;
use crate::config::{Config, DatabaseUrl, OPERATOR_TOKEN_FILE};
use crate::crypto::lets_others_in;

pub(super) fn examine(config: &Config) -> Vec<Check> {
    let mut files: Vec<(PathBuf, bool)> = vec![
        (config.keys.master_file.clone(), true),
        (config.data_dir.join(OPERATOR_TOKEN_FILE), false),
    ];
    if let DatabaseUrl::Sqlite(path) = &config.database.url {
        for ending in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            files.push((PathBuf::from(name), false));
        }
    }
    let mut checks: Vec<Check> =
        files.iter().filter_map(|(file, is_needed)| file_check(file, *is_needed)).collect();
    if checks.is_empty() {
        checks.push(Check::ok("files", "files with secrets are their owner's alone"));
    }
    checks
}

fn file_check(file: &Path, is_needed: bool) -> Option<Check> {
    const NAME: &str = "files";
    let shown = file.display();
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && !is_needed => return None,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(Check::problem(
                NAME,
                format!("{shown} is not there"),
                "bring it back from the backup: without the master key no secret can be opened",
            ));
        }
        Err(error) => {
            return Some(Check::problem(
                NAME,
                format!("{shown} cannot be looked at: {error}"),
                "run this as the user that the server runs as",
            ));
        }
    };
    if !lets_others_in(&metadata) {
        return None;
    }
    let mode = metadata.permissions().mode();
    Some(Check::problem(
        NAME,
        format!("{shown} has the mode {:o}: others can use it", mode & 0o777),
        "take their rights away: chmod 600",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn what_others_can_read_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key");
        assert_eq!(file_check(&file, false), None);
        assert_eq!(file_check(&file, true).unwrap().status, Status::Problem);
        std::fs::write(&file, "secret").unwrap();
        for (mode, is_fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(file_check(&file, true).is_none(), is_fine, "{mode:o}");
        }
    }
}
