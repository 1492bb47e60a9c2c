//! Archives of people who mean no good.

use std::io::Write;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::super::code;
use super::*;

fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
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
    let end = bytes.windows(4).position(|window| window == DIRECTORY_ENTRY).expect("a directory");
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

/// An entry as its local header and the directory tell it; what they say need not be true.
struct Raw<'e> {
    /// The name in the local header, and the one in the directory.
    names: [&'e str; 2],
    /// The packed and unpacked size that both tell.
    sizes: [u32; 2],
    content: &'e [u8],
    /// Where the directory says that the local header is, where that is a lie.
    offset: Option<u32>,
}

impl<'e> Raw<'e> {
    fn new(name: &'e str, content: &'e [u8]) -> Self {
        let size = u32::try_from(content.len()).expect("small");
        Self { names: [name, name], sizes: [size, size], content, offset: None }
    }
}

/// CRC-32 of ISO 3309, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 }
        })
    })
}

/// The fields that a local header and an entry of the directory share.
fn shared_fields(entry: &Raw<'_>, name: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    fields.extend([20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
    for number in [checksum(entry.content), entry.sizes[0], entry.sizes[1]] {
        fields.extend(number.to_le_bytes());
    }
    fields.extend(u16::try_from(name.len()).expect("short").to_le_bytes());
    fields.extend([0, 0]);
    fields
}

fn local(entry: &Raw<'_>) -> Vec<u8> {
    let header = [&b"PK\x03\x04"[..], &shared_fields(entry, entry.names[0])].concat();
    [&header, entry.names[0].as_bytes(), entry.content].concat()
}

/// An archive of stored entries, to the letter of what they say.
fn raw_zip(entries: &[Raw<'_>]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let start = u32::try_from(bytes.len()).expect("small");
        // An entry that lies about its place has no bytes of its own.
        if entry.offset.is_none() {
            bytes.extend(local(entry));
        }
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(shared_fields(entry, entry.names[1]));
        directory.extend([0; 10]);
        directory.extend(entry.offset.unwrap_or(start).to_le_bytes());
        directory.extend(entry.names[1].as_bytes());
    }
    let start = u32::try_from(bytes.len()).expect("small");
    let length = u32::try_from(directory.len()).expect("small");
    let count = u16::try_from(entries.len()).expect("few").to_le_bytes();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}

fn assert_unusable(bytes: &[u8], what: &str) {
    match read(bytes, &Limits::default()) {
        Err(UnusablePackage::NotAZip { .. }) => {}
        outcome => panic!("{what}: {outcome:?}"),
    }
}

#[test]
fn an_honest_archive_of_this_kind_is_read() {
    let bytes = raw_zip(&[Raw::new("resources.json", b"{}"), Raw::new("app/a.js", b"1")]);
    let source = read(&bytes, &Limits::default()).expect("a zip");
    assert!(source.findings.is_empty(), "{:?}", source.findings);
    assert_eq!(source.content("resources.json"), Some(&b"{}"[..]));
    assert_eq!(source.content("app/a.js"), Some(&b"1"[..]));
}

#[test]
fn paths_in_disguise_are_refused() {
    for name in [
        "../a.js",
        "app/../../a.js",
        "/etc/passwd.js",
        "C:\\a.js",
        "app\\a.js",
        "..\\a.js",
        "app//a.js",
        "./a.js",
        "app/a\0.js",
        "app/a\nb.js",
    ] {
        let bytes = raw_zip(&[Raw::new(name, b"x")]);
        match read(&bytes, &Limits::default()) {
            Ok(source) => {
                assert!(source.files.is_empty(), "{name:?}");
                assert_one(&bytes, code::PACKAGE_ENTRY_PATH);
            }
            Err(UnusablePackage::NotAZip { .. }) => {}
            Err(error) => panic!("{name:?}: {error}"),
        }
    }
}

#[test]
fn entries_that_share_bytes_are_refused() {
    // One directory entry more that points into the content of the first.
    let inner = Raw::new("app/inner.js", b"inside");
    let content = [b"0123456789".as_slice(), &local(&inner)].concat();
    let outer = Raw::new("app/outer.js", &content);
    let offset = 30 + outer.names[0].len() + 10;
    let nested = Raw { offset: u32::try_from(offset).ok(), ..Raw::new("app/inner.js", b"inside") };
    assert_unusable(&raw_zip(&[outer, nested]), "nested");
    // Two entries for the same bytes.
    let again = Raw { offset: Some(0), ..Raw::new("app/a.js", b"same") };
    let twice = raw_zip(&[Raw::new("app/a.js", b"same"), again]);
    assert_one(&twice, code::PACKAGE_DUPLICATE_ENTRY);
    // The second begins where the first has not ended yet.
    let long = Raw { sizes: [60, 60], ..Raw::new("app/a.js", b"short") };
    assert_unusable(&raw_zip(&[long, Raw::new("app/b.js", b"other")]), "overlapping");
}

#[test]
fn what_directory_and_headers_tell_differently_is_refused() {
    let renamed = Raw { names: ["app/a.js", "app/b.js"], ..Raw::new("", b"x") };
    assert_unusable(&raw_zip(&[renamed]), "another name");
    let far = Raw { offset: Some(100_000), ..Raw::new("app/a.js", b"x") };
    assert_unusable(&raw_zip(&[Raw::new("app/b.js", b"x"), far]), "behind the end");
    for sizes in [[1, 4_000_000_000], [4_000_000_000, 1], [5, 50], [5, 1]] {
        let lying = Raw { sizes, ..Raw::new("app/a.js", b"12345") };
        let bytes = raw_zip(&[lying]);
        match read(&bytes, &Limits::default()) {
            Ok(source) => {
                assert!(!source.findings.is_empty(), "{sizes:?}");
                assert_eq!(source.content("app/a.js"), None, "{sizes:?}");
            }
            Err(error) => assert!(matches!(error, UnusablePackage::NotAZip { .. }), "{error}"),
        }
    }
}

#[test]
fn an_archive_in_an_archive_stays_closed() {
    let inner = raw_zip(&[Raw::new("../evil.js", b"x")]);
    let bytes = pack(&[("app/inner.zip", &inner)]);
    let source = read(&bytes, &Limits::default()).expect("a zip");
    assert!(source.findings.is_empty(), "{:?}", source.findings);
    assert_eq!(source.content("app/inner.zip"), None);
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
