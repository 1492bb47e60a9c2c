//! Reads the folder of an extension.

use std::fs::{self, FileType};
use std::path::Path;

use super::intake::{Admission, Entry, EntryKind, Intake};
use super::source::{Limits, PackageSource, UnusablePackage, read_bounded};

/// Folders at the root that no packaging tool packs.
const LEFT_OUT: [&str; 2] = [".git", "node_modules"];
/// Folders in folders deeper than this are not entered.
const DEEPEST: usize = 32;

pub(super) fn read(root: &Path, limits: &Limits) -> Result<PackageSource, UnusablePackage> {
    let mut intake = Intake::new(*limits);
    let mut seen = 0;
    // Folders that are still to be read, each with its path in the package.
    let mut waiting = vec![(root.to_path_buf(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = waiting.pop() {
        let unreadable = |source| UnusablePackage::Unreadable { path: folder.clone(), source };
        let entries = fs::read_dir(&folder).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => UnusablePackage::NotFound { path: folder.clone() },
            _ => unreadable(source),
        })?;
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            seen += 1;
            if seen > limits.entries {
                return Err(UnusablePackage::TooManyEntries { limit: limits.entries });
            }
            let own_name = entry.file_name();
            let own_name = own_name.to_string_lossy();
            let name = format!("{prefix}{own_name}");
            let file_type = entry.file_type().map_err(unreadable)?;
            if file_type.is_dir() {
                let left_out = depth == 0 && LEFT_OUT.contains(&own_name.as_ref());
                if depth == DEEPEST {
                    intake.unreadable(&name, "folders are nested too deep");
                } else if !left_out {
                    waiting.push((entry.path(), format!("{name}/"), depth + 1));
                }
                continue;
            }
            take(&mut intake, &entry.path(), &name, file_type, limits)?;
        }
    }
    Ok(PackageSource::of_intake(intake.close()))
}

fn take(
    intake: &mut Intake,
    path: &Path,
    name: &str,
    file_type: FileType,
    limits: &Limits,
) -> Result<(), UnusablePackage> {
    let unreadable = |source| UnusablePackage::Unreadable { path: path.into(), source };
    let kind = if file_type.is_symlink() {
        EntryKind::SymbolicLink
    } else if file_type.is_file() {
        EntryKind::File
    } else {
        EntryKind::Special
    };
    let size = fs::symlink_metadata(path).map_err(unreadable)?.len();
    if intake.admit(&Entry { name, kind, size, packed: None }) == Admission::Wanted {
        let file = fs::File::open(path).map_err(unreadable)?;
        intake.keep(name, read_bounded(file, path, limits.file_bytes)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::source::MANIFEST_FILE;
    use super::*;

    #[test]
    fn files_are_known_by_their_path_in_the_package() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for (name, text) in
            [(MANIFEST_FILE, "{}"), ("app/a/b.js", "x"), (".git/config", "x"), ("app/p.png", "x")]
        {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        let source = PackageSource::from_folder(root, &Limits::default()).expect("a package");
        assert_eq!(
            source.files.keys().collect::<Vec<_>>(),
            ["app/a/b.js", "app/p.png", MANIFEST_FILE]
        );
        assert_eq!(source.content("app/a/b.js"), Some(&b"x"[..]));
        assert_eq!(source.content("app/p.png"), None);
        assert!(source.findings.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_are_told_and_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("app")).expect("a folder");
        std::os::unix::fs::symlink("/etc", folder.path().join("app/etc")).expect("a link");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("app/x.txt")).expect("a link");
        let source =
            PackageSource::from_folder(folder.path(), &Limits::default()).expect("a package");
        assert_eq!(source.findings.len(), 2);
        assert!(source.files.is_empty());
    }

    #[test]
    fn what_is_not_there_is_unusable() {
        let missing = Path::new("/no/such/folder");
        assert!(matches!(
            PackageSource::from_folder(missing, &Limits::default()),
            Err(UnusablePackage::NotFound { .. })
        ));
        assert!(matches!(
            PackageSource::from_path(missing, &Limits::default()),
            Err(UnusablePackage::NotFound { .. })
        ));
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..11 {
            fs::write(folder.path().join(number.to_string()), "").expect("a file");
        }
        assert!(matches!(
            PackageSource::from_folder(folder.path(), &Limits { entries: 10, ..Limits::default() }),
            Err(UnusablePackage::TooManyEntries { limit: 10 })
        ));
    }
}
