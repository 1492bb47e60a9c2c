//! A package as it comes in: a folder, a zip, a JSON body or a text.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::Finding;
use super::intake::Intake;
use super::{archive, folder};

/// The name of the manifest in a package.
pub const MANIFEST_FILE: &str = "plugin-manifest.json";
/// The name of the resources in a package.
pub const RESOURCES_FILE: &str = "resources.json";

/// How much a package may hold. The defaults are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most files of a package.
    pub files: usize,
    /// The most bytes of one file.
    pub file_bytes: u64,
    /// The most bytes of all files together, and of a zip.
    pub total_bytes: u64,
    /// How many times its packed size a file of a zip may have, where it is larger than
    /// [`Limits::RATIO_FROM_BYTES`].
    pub compression_ratio: u64,
    /// The most entries of a folder or zip, files or not, that are looked at at all.
    pub entries: usize,
}

impl Limits {
    /// Smaller files may be packed as well as they can.
    pub const RATIO_FROM_BYTES: u64 = 100_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 250,
            file_bytes: 5_000_000,
            total_bytes: 20_000_000,
            compression_ratio: 200,
            entries: 10_000,
        }
    }
}

/// Why there is nothing to check. Everything that is wrong inside of a package is a diagnostic
/// instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnusablePackage {
    /// There is no such file or folder.
    #[error("{path}: there is no such file or folder")]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The bytes are no zip.
    #[error("this is not a sound zip file: {reason}; pack the extension again")]
    NotAZip {
        /// What is wrong with it.
        reason: String,
    },
    /// It is too long to be read.
    #[error("the package is longer than {limit} bytes; leave out what the extension does not need")]
    TooLarge {
        /// The most bytes.
        limit: u64,
    },
    /// It has too many entries to be looked at.
    #[error("the package has more than {limit} entries; is this the folder of the extension?")]
    TooManyEntries {
        /// The most entries.
        limit: usize,
    },
    /// It is neither a folder nor a file.
    #[error("{path} is neither a folder nor a file; name an extension's folder or zip")]
    NeitherFolderNorFile {
        /// What was asked for.
        path: PathBuf,
    },
    /// The text is neither a package nor a manifest.
    #[error("the input is neither a zip nor UTF-8 text")]
    NotText,
}

/// One file of a package.
#[derive(Clone, Debug)]
pub(crate) struct PackageFile {
    /// The bytes, where a rule looks into the file.
    pub(crate) content: Option<Vec<u8>>,
}

/// A package to check.
#[derive(Clone, Debug)]
pub struct PackageSource {
    /// Files by their path from the package's root.
    pub(crate) files: BTreeMap<String, PackageFile>,
    /// Whether the package's files are all known: then rules about files apply.
    pub(crate) has_files: bool,
    /// Whether the texts are those of files: then lines and columns are told.
    pub(crate) has_positions: bool,
    /// What was found wrong while reading.
    pub(crate) findings: Vec<Finding>,
}

impl PackageSource {
    /// Reads a folder, or a file that is a zip or a manifest.
    pub fn from_path(path: &Path, limits: &Limits) -> Result<Self, UnusablePackage> {
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => UnusablePackage::NotFound { path: path.into() },
            _ => UnusablePackage::Unreadable { path: path.into(), source },
        };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Self::from_folder(path, limits);
        }
        if !metadata.is_file() {
            return Err(UnusablePackage::NeitherFolderNorFile { path: path.into() });
        }
        let file = std::fs::File::open(path).map_err(unreadable)?;
        Self::from_bytes(&read_bounded(file, path, limits.total_bytes)?, limits)
    }

    /// Reads the folder of an extension. Symbolic links are not followed; `.git` and
    /// `node_modules` at its root are left out, because no packaging tool packs them.
    pub fn from_folder(path: &Path, limits: &Limits) -> Result<Self, UnusablePackage> {
        folder::read(path, limits)
    }

    /// Reads a zip without unpacking it anywhere. What it says about itself is not believed:
    /// nothing grows beyond the limits.
    pub fn from_zip(bytes: &[u8], limits: &Limits) -> Result<Self, UnusablePackage> {
        archive::read(bytes, limits)
    }

    /// Takes the two parts of a JSON body. There are no files, so rules about files are left out
    /// and no lines are known.
    pub fn from_json(manifest: &str, resources: &str) -> Self {
        let texts = [(MANIFEST_FILE, manifest), (RESOURCES_FILE, resources)];
        Self { has_positions: false, ..Self::of_texts(&texts) }
    }

    /// Takes a text: the JSON body of the API (an object with `manifest` and `resources`), or
    /// just the text of a `plugin-manifest.json`, whose lines are then known.
    pub fn from_text(text: &str) -> Self {
        #[derive(serde::Deserialize)]
        struct Body<'t> {
            #[serde(borrow)]
            manifest: &'t serde_json::value::RawValue,
            #[serde(borrow, default)]
            resources: Option<&'t serde_json::value::RawValue>,
        }
        match serde_json::from_str::<Body<'_>>(text) {
            Ok(body) => {
                let resources = body.resources.map_or("{}", serde_json::value::RawValue::get);
                Self::from_json(body.manifest.get(), resources)
            }
            Err(_) => Self::of_texts(&[(MANIFEST_FILE, text)]),
        }
    }

    /// Takes bytes: a zip, or a text as [`PackageSource::from_text`] does.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, UnusablePackage> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limits.total_bytes {
            return Err(UnusablePackage::TooLarge { limit: limits.total_bytes });
        }
        if bytes.starts_with(b"PK") {
            return Self::from_zip(bytes, limits);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::from_text(text)),
            // A manifest in another encoding is located like every other fault.
            Err(_) if bytes.iter().any(|byte| b"{[".contains(byte)) => {
                let mut source = Self::of_texts(&[]);
                let file = PackageFile { content: Some(bytes.to_vec()) };
                source.files.insert(MANIFEST_FILE.into(), file);
                Ok(source)
            }
            Err(_) => Err(UnusablePackage::NotText),
        }
    }

    /// Reads the standard input, or any other stream, to its end.
    pub fn from_reader(reader: impl Read, limits: &Limits) -> Result<Self, UnusablePackage> {
        let bytes = read_bounded(reader, Path::new("the input"), limits.total_bytes)?;
        Self::from_bytes(&bytes, limits)
    }

    fn of_texts(texts: &[(&str, &str)]) -> Self {
        let file = |text: &str| PackageFile { content: Some(text.as_bytes().to_vec()) };
        Self {
            files: texts.iter().map(|&(name, text)| (name.to_owned(), file(text))).collect(),
            has_files: false,
            has_positions: true,
            findings: Vec::new(),
        }
    }

    pub(super) fn of_intake(intake: Intake) -> Self {
        Self {
            files: intake.files,
            has_files: true,
            has_positions: true,
            findings: intake.findings,
        }
    }

    /// The bytes of a file, where they were read.
    pub fn content(&self, file: &str) -> Option<&[u8]> {
        self.files.get(file)?.content.as_deref()
    }
}

/// Reads to the end, but no more than the limit.
pub(super) fn read_bounded(
    reader: impl Read,
    path: &Path,
    limit: u64,
) -> Result<Vec<u8>, UnusablePackage> {
    let mut bytes = Vec::new();
    let taken = reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    let taken =
        taken.map_err(|source| UnusablePackage::Unreadable { path: path.into(), source })?;
    if u64::try_from(taken).unwrap_or(u64::MAX) > limit {
        return Err(UnusablePackage::TooLarge { limit });
    }
    Ok(bytes)
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
