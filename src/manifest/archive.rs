//! Reads a zip, believing nothing that it says about itself.

use std::collections::HashSet;
use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::intake::{Admission, Entry, EntryKind, Intake};
use super::source::{Limits, PackageSource, UnusablePackage, length};

/// What each entry of the central directory begins with (APPNOTE 4.3.12).
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
/// How long an entry is without its name, extra field and comment.
const DIRECTORY_ENTRY_LENGTH: usize = 46;

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<PackageSource, UnusablePackage> {
    if length(bytes) > limits.total_bytes {
        return Err(UnusablePackage::TooLarge { limit: limits.total_bytes });
    }
    // Counted before anything is built from them, so that the directory cannot fill the memory.
    let entries = bytes.windows(DIRECTORY_ENTRY.len()).filter(|window| *window == DIRECTORY_ENTRY);
    if entries.take(limits.entries + 1).count() > limits.entries {
        return Err(UnusablePackage::TooManyEntries { limit: limits.entries });
    }
    let not_a_zip =
        |error: zip::result::ZipError| UnusablePackage::NotAZip { reason: error.to_string() };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(not_a_zip)?;
    let mut intake = Intake::new(*limits);

    let duplicates = duplicate_names(bytes, archive.central_directory_start());
    for name in &duplicates {
        intake.duplicate(&String::from_utf8_lossy(name));
    }
    if duplicates.is_empty() {
        archive.validate_header_consistency().map_err(not_a_zip)?;
    }
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(not_a_zip)?;
        if raw.is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(raw.name_raw()).into_owned();
        let kind = if raw.encrypted() {
            EntryKind::Encrypted
        } else if raw.is_symlink() {
            EntryKind::SymbolicLink
        } else {
            EntryKind::File
        };
        let (size, packed) = (raw.size(), Some(raw.compressed_size()));
        drop(raw);
        if intake.admit(&Entry { name: &name, kind, size, packed }) == Admission::Wanted {
            match unpack(&mut archive, index, size) {
                Ok(content) => intake.keep(&name, content),
                Err(reason) => intake.unreadable(&name, &reason),
            }
        }
    }
    Ok(PackageSource::of_intake(intake.close()))
}

/// Unpacks one entry, to no more than the size that was admitted.
fn unpack(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    size: u64,
) -> Result<Vec<u8>, String> {
    let file = archive.by_index(index).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    let taken = file.take(size.saturating_add(1)).read_to_end(&mut content);
    taken.map_err(|error| error.to_string())?;
    if length(&content) == size {
        Ok(content)
    } else {
        Err(format!("it does not unpack to the {size} bytes that the zip names"))
    }
}

/// The names that the central directory holds more than once. The reader of the archive keeps
/// only the last of them, and other programs another.
fn duplicate_names(bytes: &[u8], start: u64) -> Vec<&[u8]> {
    let mut seen = HashSet::new();
    let mut duplicates = Vec::new();
    let mut rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or(&[]);
    while rest.starts_with(&DIRECTORY_ENTRY) && rest.len() >= DIRECTORY_ENTRY_LENGTH {
        let field = |at: usize| usize::from(u16::from_le_bytes([rest[at], rest[at + 1]]));
        let (name, extra, comment) = (field(28), field(30), field(32));
        let name_end = DIRECTORY_ENTRY_LENGTH + name;
        let Some(name) = rest.get(DIRECTORY_ENTRY_LENGTH..name_end) else { break };
        if !seen.insert(name) && !duplicates.contains(&name) {
            duplicates.push(name);
        }
        rest = rest.get(name_end + extra + comment..).unwrap_or(&[]);
    }
    duplicates
}

#[cfg(test)]
mod tests;
