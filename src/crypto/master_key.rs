//! The master key: the one secret that is kept outside of the database.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::CryptoError;
use crate::seam::Randomness;

/// Length of the key in bytes.
const LENGTH: usize = 32;
/// A file longer than this holds something else; it is not read to the end.
const LONGEST_FILE: u64 = 1_024;
/// Sets our derivations apart from any other use of the same bytes.
const SALT: &[u8] = b"mortise master key v1";

/// The key-encryption key: it wraps data keys and does nothing else.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; LENGTH]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey([hidden])")
    }
}

impl MasterKey {
    /// Reads the key from a file that holds one line: 32 bytes in base64.
    ///
    /// # Errors
    /// Where the file is missing, malformed, or may be used by others than its owner.
    pub fn load(path: &Path) -> Result<Self, CryptoError> {
        let failed = |source| CryptoError::MasterKeyFile { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = exposing_mode(&file).map_err(failed)?;
        if let Some(mode) = mode {
            return Err(CryptoError::MasterKeyExposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(LENGTH * 2));
        file.take(LONGEST_FILE).read_to_end(&mut text).map_err(failed)?;
        Self::decode(&text).ok_or_else(|| CryptoError::MasterKeyMalformed { path: path.to_owned() })
    }

    /// Makes a new key and writes it to a file with mode 0600, in a folder that is made where
    /// there is none.
    ///
    /// The file appears complete or not at all, and an existing one is never replaced: of several
    /// processes that start at once, one makes the key and the others fail with `AlreadyExists`
    /// and can [`MasterKey::load`] it.
    pub fn create(path: &Path, randomness: &Randomness) -> Result<Self, CryptoError> {
        let failed = |source| CryptoError::MasterKeyFile { path: path.to_owned(), source };
        let key = Self::generate(randomness)?;
        let line = Zeroizing::new(format!("{}\n", STANDARD.encode(key.0.as_slice())));
        let draft = draft_path(path, randomness)?;
        // On PostgreSQL nothing else has made the data folder by now.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let written = write_private(&draft, line.as_bytes())
            .and_then(|()| fs::hard_link(&draft, path))
            .and_then(|()| sync_directory(path));
        let removed = fs::remove_file(&draft);
        written.map_err(failed)?;
        removed.map_err(failed)?;
        Ok(key)
    }

    /// Makes a new key in memory only.
    pub fn generate(randomness: &Randomness) -> Result<Self, CryptoError> {
        let bytes = randomness.bytes::<LENGTH>().map_err(|_| CryptoError::Randomness)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// Tells keys apart without giving anything away: 16 bytes in hex, derived one-way.
    pub fn fingerprint(&self) -> Result<String, CryptoError> {
        let failed =
            |_| CryptoError::Library { operation: "deriving the master key's fingerprint" };
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(self.0.as_slice());
        let mut bytes = [0_u8; 16];
        key.expand(&[b"fingerprint"], FingerprintLength)
            .and_then(|material| material.fill(&mut bytes))
            .map_err(failed)?;
        Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The AEAD key that wraps data keys.
    pub(super) fn wrapping_key(&self) -> Result<LessSafeKey, CryptoError> {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(self.0.as_slice());
        let material = key
            .expand(&[b"wrap data keys"], &AES_256_GCM)
            .map_err(|_| CryptoError::Library { operation: "deriving the wrapping key" })?;
        Ok(LessSafeKey::new(UnboundKey::from(material)))
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let line = text.trim_ascii();
        let bytes = Zeroizing::new(STANDARD.decode(line).ok()?);
        let key: [u8; LENGTH] = bytes.as_slice().try_into().ok()?;
        Some(Self(Zeroizing::new(key)))
    }
}

struct FingerprintLength;

impl hkdf::KeyType for FingerprintLength {
    fn len(&self) -> usize {
        16
    }
}

/// A name beside the target, so that the link stays on one file system.
fn draft_path(path: &Path, randomness: &Randomness) -> Result<PathBuf, CryptoError> {
    let bytes = randomness.bytes::<8>().map_err(|_| CryptoError::Randomness)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", u64::from_be_bytes(bytes)));
    Ok(path.with_file_name(name))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the new name durable: without it a power cut could leave data sealed under a lost key.
fn sync_directory(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// The permission bits, where they let others in than they should.
#[cfg(unix)]
fn exposing_mode(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata()?;
    Ok(lets_others_in(&metadata).then(|| metadata.permissions().mode() & 0o7777))
}

/// Whether others than they should can use a file with secrets.
#[cfg(unix)]
pub(crate) fn lets_others_in(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    // Where the system does not say who we are the strict rule holds.
    let own_user = std::fs::metadata("/proc/self").ok().map(|own| own.uid());
    is_exposing(metadata.permissions().mode(), metadata.uid(), own_user)
}

/// Whether a mode lets others in. A file of our own is ours alone; one that root hands to a group,
/// as Kubernetes mounts secrets for the group of a pod, may be read by that group.
#[cfg(unix)]
fn is_exposing(mode: u32, owner: u32, own_user: Option<u32>) -> bool {
    let is_handed_over = owner == 0 && own_user.is_some_and(|user| user != 0);
    let allowed = if is_handed_over { 0o040 } else { 0 };
    mode & 0o077 & !allowed != 0
}

/// Elsewhere the folder's access list is the operator's business.
#[cfg(not(unix))]
fn exposing_mode(_file: &File) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn randomness() -> Randomness {
        Randomness::default()
    }

    #[test]
    fn a_created_key_is_private_complete_and_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("not/there/yet");
        let path = folder.join("master.key");
        let made = MasterKey::create(&path, &randomness()).unwrap();
        let loaded = MasterKey::load(&path).unwrap();
        assert_eq!(made.fingerprint().unwrap(), loaded.fingerprint().unwrap());
        assert_eq!(made.0, loaded.0);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn an_existing_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::create(&path, &randomness()).unwrap();
        let before = fs::read(&path).unwrap();
        let error = MasterKey::create(&path, &randomness()).unwrap_err();
        assert!(
            matches!(&error, CryptoError::MasterKeyFile { source, .. } if source.kind() == io::ErrorKind::AlreadyExists),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::create(&path, &randomness()).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = MasterKey::load(&path).unwrap_err();
            assert!(
                matches!(error, CryptoError::MasterKeyExposed { mode: seen, .. } if seen == mode)
            );
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        MasterKey::load(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn roots_file_may_be_handed_to_a_group_and_no_other() {
        let (root, pod) = (0, Some(65_532));
        for mode in [0o400, 0o440, 0o600, 0o640] {
            assert!(!is_exposing(mode, root, pod), "{mode:o}");
        }
        for mode in [0o444, 0o460, 0o644, 0o660, 0o450] {
            assert!(is_exposing(mode, root, pod), "{mode:o}");
        }
        assert!(is_exposing(0o440, 65_532, pod), "our own needs no group");
        assert!(is_exposing(0o440, root, Some(0)), "as root it is our own");
        assert!(is_exposing(0o440, root, None));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(matches!(MasterKey::load(&path), Err(CryptoError::MasterKeyFile { .. })));
        for text in ["", "\n", "short", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])] {
            let _ = fs::remove_file(&path);
            write_private(&path, text.as_bytes()).unwrap();
            let error = MasterKey::load(&path).unwrap_err();
            assert!(matches!(error, CryptoError::MasterKeyMalformed { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_fingerprint_is_stable_and_not_the_key() {
        let key = MasterKey(Zeroizing::new([7; LENGTH]));
        let fingerprint = key.fingerprint().unwrap();
        assert_eq!(fingerprint, key.clone().fingerprint().unwrap());
        assert_eq!(fingerprint.len(), 32);
        assert!(!fingerprint.contains("0707"));
        let other = MasterKey(Zeroizing::new([8; LENGTH]));
        assert_ne!(fingerprint, other.fingerprint().unwrap());
        assert_eq!(format!("{key:?}"), "MasterKey([hidden])");
    }
}
