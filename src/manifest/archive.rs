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
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::super::code;
    use super::*;

    fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            let options =
                SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
            writer.start_file(*name, options).expect("a file");
            writer.write_all(content).expect("bytes");
        }
        writer.finish().expect("a zip").into_inner()
    }

    fn findings(bytes: &[u8]) -> Vec<String> {
        let source = read(bytes, &Limits::default()).expect("a zip");
        source.findings.iter().map(|finding| format!("{finding:?}")).collect()
    }

    fn assert_one(bytes: &[u8], code: &str) {
        let findings = findings(bytes);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains(code), "{findings:?}");
    }

    #[test]
    fn texts_are_unpacked_in_memory() {
        let bytes = pack(&[("resources.json", b"{}"), ("app/img/a.png", b"png")]);
        let source = read(&bytes, &Limits::default()).expect("a zip");
        assert!(source.findings.is_empty());
        assert_eq!(source.content("resources.json"), Some(&b"{}"[..]));
        assert!(source.files.contains_key("app/img/a.png"));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bytes = pack(&[("app/a.js", &vec![b' '; 4_000_000])]);
        assert!(bytes.len() < 20_000);
        assert_one(&bytes, code::PACKAGE_COMPRESSION_RATIO);
        let source = read(&bytes, &Limits::default()).expect("a zip");
        assert_eq!(source.content("app/a.js"), None);
    }

    #[test]
    fn a_lie_about_the_size_is_found_out() {
        let mut bytes = pack(&[("app/a.js", &b"0123456789".repeat(50))]);
        let end =
            bytes.windows(4).position(|window| window == DIRECTORY_ENTRY).expect("a directory");
        bytes[end + 24..end + 28].copy_from_slice(&10_u32.to_le_bytes());
        bytes[22..26].copy_from_slice(&10_u32.to_le_bytes());
        match read(&bytes, &Limits::default()) {
            Ok(_) => assert_one(&bytes, code::PACKAGE_UNREADABLE),
            Err(error) => assert!(matches!(error, UnusablePackage::NotAZip { .. }), "{error}"),
        }
    }

    #[test]
    fn the_same_name_twice_is_found() {
        let bytes = pack(&[("app/a.js", b"one"), ("app/b.js", b"two")]);
        let twice: Vec<u8> = {
            let text = bytes.windows(8).enumerate();
            let places: Vec<_> =
                text.filter(|(_, window)| *window == b"app/b.js").map(|(at, _)| at).collect();
            let mut bytes = bytes.clone();
            for at in places {
                bytes[at..at + 8].copy_from_slice(b"app/a.js");
            }
            bytes
        };
        assert_one(&twice, code::PACKAGE_DUPLICATE_ENTRY);
    }

    #[test]
    fn symbolic_links_and_ways_out_are_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default();
        writer.add_symlink("app/a.js", "/etc/passwd", options).expect("a link");
        assert_one(&writer.finish().expect("a zip").into_inner(), code::PACKAGE_SYMLINK);

        let bytes = pack(&[("app/xx/passwd", b"x")]);
        let mut evil = bytes;
        let places: Vec<_> = (evil.windows(6).enumerate())
            .filter(|(_, window)| *window == b"app/xx")
            .map(|(at, _)| at)
            .collect();
        for at in places {
            evil[at..at + 6].copy_from_slice(b"app/..");
        }
        assert_one(&evil, code::PACKAGE_ENTRY_PATH);
    }

    #[test]
    fn what_is_no_zip_is_unusable() {
        for bytes in [&b""[..], b"PK", b"PK\x03\x04 and so on", b"{}"] {
            let error = read(bytes, &Limits::default()).expect_err("no zip");
            assert!(matches!(error, UnusablePackage::NotAZip { .. }), "{error}");
        }
        let limits = Limits { total_bytes: 3, ..Limits::default() };
        assert!(matches!(read(b"PK__", &limits), Err(UnusablePackage::TooLarge { limit: 3 })));
        let many: Vec<_> = (0..30).map(|number| format!("{number}.js")).collect();
        let files: Vec<_> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let limits = Limits { entries: 20, ..Limits::default() };
        assert!(matches!(
            read(&pack(&files), &limits),
            Err(UnusablePackage::TooManyEntries { limit: 20 })
        ));
    }

    proptest! {
        #[test]
        fn damaged_zips_never_panic(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut bytes = pack(&[("app/a.js", b"some text"), ("resources.json", b"{}")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut % 40));
            let _outcome = read(&bytes, &Limits::default());
        }
    }
}
