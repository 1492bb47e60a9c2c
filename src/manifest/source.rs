//! A package as it arrives: a folder, a zip archive, or two JSON texts.
//!
//! Nothing is unpacked to disk. Reading is bounded by what is read, not by what a header claims.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Cursor, ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::diagnostic::{MANIFEST_FILE, RESOURCES_FILE};

/// The most files of a package (the reference's own limit).
pub const MAX_FILES: usize = 250;
/// The largest file of a package, in bytes (the reference's own limit).
pub const MAX_FILE_BYTES: u64 = 5_000_000;
/// The largest package, packed and unpacked, in bytes (the reference's own limit).
pub const MAX_TOTAL_BYTES: u64 = 20_000_000;
/// The largest manifest or resource file that is parsed, in bytes.
pub const MAX_JSON_BYTES: u64 = 1_000_000;
/// The highest ratio of unpacked to packed size; real text stays below 30.
const MAX_RATIO: u64 = 200;
/// Files below this are never a decompression bomb, whatever their ratio.
const RATIO_FREE_BYTES: u64 = 100_000;

/// Why a package can't even be read.
#[derive(Debug, thiserror::Error)]
pub enum UnusablePackage {
    /// A file or folder could not be read.
    #[error("{path} cannot be read: {source}; check that it exists and may be read")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Not a folder and not a zip archive.
    #[error("{path} is neither a folder nor a .zip file; give one of the two")]
    UnknownForm {
        /// The path.
        path: PathBuf,
    },
    /// The archive is damaged, or not one.
    #[error("the archive cannot be read: {reason}; pack it again as a plain zip")]
    NotZip {
        /// What is wrong.
        reason: String,
    },
    /// More files than [`MAX_FILES`].
    #[error("the package has more than {MAX_FILES} files; leave out what the app does not load")]
    TooManyFiles,
    /// A file is larger than [`MAX_FILE_BYTES`].
    #[error("{name} is larger than {limit} bytes; make it smaller")]
    FileTooLarge {
        /// The name inside of the package.
        name: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The package is larger than [`MAX_TOTAL_BYTES`].
    #[error("the package is larger than {MAX_TOTAL_BYTES} bytes; make it smaller")]
    TooLarge,
    /// A file unpacks to much more than it was packed to.
    #[error("{name} unpacks to more than {MAX_RATIO} times its packed size; it is refused")]
    Bomb {
        /// The name inside of the package.
        name: String,
    },
    /// A name that leaves the package, or that means different things on different systems.
    #[error("the entry {name:?} is absolute, leaves the package or is not plain; rename it")]
    UnsafeName {
        /// The name inside of the package.
        name: String,
    },
    /// Two entries of the same name.
    #[error("the entry {name:?} stands in the archive twice; pack it once")]
    DuplicateName {
        /// The name inside of the package.
        name: String,
    },
    /// A symbolic link.
    #[error("{name} is a symbolic link or no plain file; packages hold plain files only")]
    NotPlain {
        /// The name inside of the package.
        name: String,
    },
    /// An encrypted entry.
    #[error("{name} is encrypted; pack it without a password")]
    Encrypted {
        /// The name inside of the package.
        name: String,
    },
}

/// One of the two JSON files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text {
    /// The package doesn't have it.
    Missing,
    /// It isn't UTF-8 from this byte on.
    NotUnicode(usize),
    /// Its text.
    Present(String),
}

impl Text {
    fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Present(text),
            Err(error) => Self::NotUnicode(error.utf8_error().valid_up_to()),
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Present(text) => Some(text),
            Self::Missing | Self::NotUnicode(_) => None,
        }
    }
}

/// A package: the texts of its two JSON files and the names of all of its files.
#[derive(Debug, Clone)]
pub struct PackageSource {
    pub(crate) manifest: Text,
    pub(crate) resources: Text,
    /// Absent where only JSON was sent.
    files: Option<BTreeSet<String>>,
}

impl PackageSource {
    /// The two texts as JSON; there are no files, so rules about files are left out, and the
    /// lines of the vendor's own files are unknown.
    pub fn from_json(manifest: &str, resources: &str) -> Self {
        Self {
            manifest: Text::Present(manifest.to_owned()),
            resources: Text::Present(resources.to_owned()),
            files: None,
        }
    }

    /// A folder, or a file whose name ends in `.zip`.
    pub fn from_path(path: &Path) -> Result<Self, UnusablePackage> {
        if path.is_dir() {
            return Self::from_folder(path);
        }
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip")) {
            return Err(UnusablePackage::UnknownForm { path: path.to_owned() });
        }
        match read_file(path, MAX_TOTAL_BYTES)? {
            Some(bytes) => Self::from_zip(&bytes),
            None => Err(UnusablePackage::TooLarge),
        }
    }

    /// A vendor's working folder: the two JSON files and everything below `app/`. Other files are
    /// no part of the package, nor are names that start with a dot.
    pub fn from_folder(folder: &Path) -> Result<Self, UnusablePackage> {
        let mut files = BTreeSet::new();
        let mut total = 0;
        let mut json = |name: &str| -> Result<Text, UnusablePackage> {
            let path = folder.join(name);
            match std::fs::symlink_metadata(&path) {
                Ok(kind) if kind.is_file() => {}
                Ok(_) => return Err(UnusablePackage::NotPlain { name: name.to_owned() }),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Text::Missing),
                Err(source) => return Err(UnusablePackage::Unreadable { path, source }),
            }
            let bytes = read_file(&path, MAX_JSON_BYTES)?.ok_or_else(|| {
                UnusablePackage::FileTooLarge { name: name.to_owned(), limit: MAX_JSON_BYTES }
            })?;
            total += bytes.len() as u64;
            files.insert(name.to_owned());
            Ok(Text::from_bytes(bytes))
        };
        let manifest = json(MANIFEST_FILE)?;
        let resources = json(RESOURCES_FILE)?;
        let app = std::fs::symlink_metadata(folder.join("app"));
        let mut open = match app {
            Ok(kind) if kind.is_dir() => vec!["app".to_owned()],
            Ok(_) => return Err(UnusablePackage::NotPlain { name: "app".to_owned() }),
            Err(_) => Vec::new(),
        };
        let mut seen = 0_usize;
        while let Some(inside) = open.pop() {
            let path = folder.join(&inside);
            let unreadable = |source| UnusablePackage::Unreadable { path: path.clone(), source };
            for entry in std::fs::read_dir(&path).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                // Folders count too, so that a tree of empty ones ends.
                seen += 1;
                if files.len() > MAX_FILES || seen > MAX_FILES * 4 {
                    return Err(UnusablePackage::TooManyFiles);
                }
                let own = entry.file_name();
                let name = format!("{inside}/{}", own.to_string_lossy());
                if own.to_str().is_none() {
                    return Err(UnusablePackage::UnsafeName { name });
                }
                if own.to_string_lossy().starts_with('.') {
                    continue;
                }
                // Of the entry itself: a link is not followed.
                let kind = entry.metadata().map_err(unreadable)?;
                if kind.is_dir() {
                    open.push(name);
                } else if kind.is_file() {
                    if kind.len() > MAX_FILE_BYTES {
                        return Err(UnusablePackage::FileTooLarge { name, limit: MAX_FILE_BYTES });
                    }
                    total += kind.len();
                    files.insert(name);
                } else {
                    return Err(UnusablePackage::NotPlain { name });
                }
            }
        }
        if files.len() > MAX_FILES {
            return Err(UnusablePackage::TooManyFiles);
        }
        if total > MAX_TOTAL_BYTES {
            return Err(UnusablePackage::TooLarge);
        }
        Ok(Self { manifest, resources, files: Some(files) })
    }

    /// A zip archive.
    pub fn from_zip(bytes: &[u8]) -> Result<Self, UnusablePackage> {
        if bytes.len() as u64 > MAX_TOTAL_BYTES {
            return Err(UnusablePackage::TooLarge);
        }
        let broken =
            |error: zip::result::ZipError| UnusablePackage::NotZip { reason: error.to_string() };
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if archive.has_duplicate_names() {
            return Err(UnusablePackage::DuplicateName { name: "(in the directory)".to_owned() });
        }
        // Folders are entries too, and no files: an archive may hold as many again.
        if archive.len() > MAX_FILES * 2 {
            return Err(UnusablePackage::TooManyFiles);
        }
        let mut files = BTreeSet::new();
        let mut folded = BTreeSet::new();
        let (mut manifest, mut resources) = (Text::Missing, Text::Missing);
        let mut total = 0_u64;
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(broken)?;
            let name = plain_name(entry.name_raw(), entry.is_dir())?;
            if entry.is_symlink() {
                return Err(UnusablePackage::NotPlain { name });
            }
            if entry.encrypted() {
                return Err(UnusablePackage::Encrypted { name });
            }
            let is_folder = entry.is_dir();
            let (packed, claimed) = (entry.compressed_size(), entry.size());
            // Systems that ignore case would write one over the other.
            if !folded.insert(name.to_lowercase()) {
                return Err(UnusablePackage::DuplicateName { name });
            }
            // A raw entry is not unpacked; it is opened anew below.
            drop(entry);
            if is_folder {
                continue;
            }
            let json = name == MANIFEST_FILE || name == RESOURCES_FILE;
            let limit = if json { MAX_JSON_BYTES } else { MAX_FILE_BYTES };
            if claimed > limit {
                return Err(UnusablePackage::FileTooLarge { name, limit });
            }
            let mut content = Vec::new();
            let opened = archive.by_index(index).map_err(broken)?;
            opened
                .take(limit + 1)
                .read_to_end(&mut content)
                .map_err(|error| UnusablePackage::NotZip { reason: format!("{name}: {error}") })?;
            let size = content.len() as u64;
            if size > limit {
                return Err(UnusablePackage::FileTooLarge { name, limit });
            }
            if size > RATIO_FREE_BYTES && size / packed.max(1) > MAX_RATIO {
                return Err(UnusablePackage::Bomb { name });
            }
            total += size;
            if total > MAX_TOTAL_BYTES {
                return Err(UnusablePackage::TooLarge);
            }
            match name.as_str() {
                MANIFEST_FILE => manifest = Text::from_bytes(content),
                RESOURCES_FILE => resources = Text::from_bytes(content),
                _ => {}
            }
            files.insert(name);
            if files.len() > MAX_FILES {
                return Err(UnusablePackage::TooManyFiles);
            }
        }
        Ok(Self { manifest, resources, files: Some(files) })
    }

    /// The text of `plugin-manifest.json`, if there is one and it is UTF-8.
    pub fn manifest_text(&self) -> Option<&str> {
        self.manifest.as_str()
    }

    /// The text of `resources.json`, if there is one and it is UTF-8.
    pub fn resources_text(&self) -> Option<&str> {
        self.resources.as_str()
    }

    /// The names of the package's files, with `/` between folders; absent where only JSON was sent.
    pub fn files(&self) -> Option<&BTreeSet<String>> {
        self.files.as_ref()
    }

    /// Whether lines and columns are those of the vendor's own files.
    pub(crate) fn has_lines(&self) -> bool {
        self.files.is_some()
    }
}

/// Reads a whole file; `None` if it is larger than the limit.
fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, UnusablePackage> {
    let unreadable = |source| UnusablePackage::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// The name of an entry, if it stays inside of the package on every system.
fn plain_name(raw: &[u8], is_folder: bool) -> Result<String, UnusablePackage> {
    let refused =
        || UnusablePackage::UnsafeName { name: String::from_utf8_lossy(raw).into_owned() };
    let name = std::str::from_utf8(raw).map_err(|_| refused())?;
    let inner = if is_folder { name.strip_suffix('/').unwrap_or(name) } else { name };
    let plain = !inner.is_empty()
        && !inner.contains(['\\', ':'])
        && !inner.chars().any(char::is_control)
        && inner.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain { Ok(inner.to_owned()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).expect("start");
            writer.write_all(content).expect("write");
        }
        writer.finish().expect("finish").into_inner()
    }

    #[test]
    fn a_plain_archive_is_read() {
        let bytes = archive(&[
            (MANIFEST_FILE, b"{}".to_vec()),
            (RESOURCES_FILE, vec![0xff]),
            ("app/widget.html", b"x".to_vec()),
        ]);
        let source = PackageSource::from_zip(&bytes).expect("read");
        assert_eq!(source.manifest_text(), Some("{}"));
        assert_eq!(source.resources, Text::NotUnicode(0));
        assert_eq!(source.files().map(BTreeSet::len), Some(3));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_s_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = PackageSource::from_folder(folder.path()).expect("read");
        assert_eq!(source.manifest, Text::Missing);
        std::os::unix::fs::symlink("/", folder.path().join("app")).expect("link");
        let refused = PackageSource::from_folder(folder.path());
        assert!(matches!(refused, Err(UnusablePackage::NotPlain { .. })));
    }

    #[test]
    fn unsafe_names_are_refused() {
        for name in ["../x", "/x", "a/../b", "a\\b", "C:x", "a//b", "./a", "a\u{0}b"] {
            assert!(plain_name(name.as_bytes(), false).is_err(), "{name}");
        }
        assert_eq!(plain_name(b"app/img/", true).expect("plain"), "app/img");
        let refused = PackageSource::from_zip(&archive(&[("../x", vec![])]));
        assert!(matches!(refused, Err(UnusablePackage::UnsafeName { .. })));
    }

    #[test]
    fn links_duplicates_bombs_and_excess_are_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("app", "/etc", SimpleFileOptions::default()).expect("link");
        let linked = writer.finish().expect("finish").into_inner();
        assert!(matches!(PackageSource::from_zip(&linked), Err(UnusablePackage::NotPlain { .. })));
        let twice = archive(&[("app/a", vec![]), ("app/A", vec![])]);
        assert!(matches!(
            PackageSource::from_zip(&twice),
            Err(UnusablePackage::DuplicateName { .. })
        ));
        let bomb = archive(&[("app/zeros", vec![0; 4_000_000])]);
        assert!(matches!(PackageSource::from_zip(&bomb), Err(UnusablePackage::Bomb { .. })));
        let large = archive(&[("app/zeros", vec![0; 5_000_001])]);
        assert!(matches!(
            PackageSource::from_zip(&large),
            Err(UnusablePackage::FileTooLarge { .. })
        ));
        let names: Vec<_> = (0..=MAX_FILES).map(|n| (format!("app/{n}"), vec![])).collect();
        let many: Vec<_> =
            names.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        assert!(matches!(
            PackageSource::from_zip(&archive(&many)),
            Err(UnusablePackage::TooManyFiles)
        ));
        assert!(matches!(PackageSource::from_zip(b"PK"), Err(UnusablePackage::NotZip { .. })));
    }
}
