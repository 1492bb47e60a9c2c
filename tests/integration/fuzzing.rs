//! The fuzz targets on the ordinary compiler: each gets its seeds, whole and changed, from a stream
//! of random numbers that its seed fixes. `fuzz/README.md` says how they run for hours.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../../fuzz/bodies/addresses.rs"]
mod addresses;
#[path = "../../fuzz/bodies/archive.rs"]
mod archive;
#[path = "../../fuzz/bodies/check.rs"]
mod check;
#[path = "../../fuzz/bodies/headers.rs"]
mod headers;
#[path = "../../fuzz/bodies/proofs.rs"]
mod proofs;
#[path = "../../fuzz/bodies/signatures.rs"]
mod signatures;
#[path = "../../fuzz/bodies/templates.rs"]
mod templates;

/// How many inputs a target gets, of ordinary speed and of slow ones, unless
/// `MORTISE_TEST_FUZZ_CASES` says more.
const CASES: u32 = 5_000;
const SLOW_CASES: u32 = 1_000;

/// What is put into an input, beside single bytes and pieces of other seeds.
const WORDS: &[&str] = &[
    "\u{1}",
    "\u{0}",
    "\r\n",
    "\"",
    "\\",
    "{{",
    "}}",
    "{{payload.x}}",
    "{{ticket.id}}",
    "]]>",
    "<!--",
    "&",
    "=",
    "%2e%2e",
    "..",
    "/",
    "//",
    "@",
    ":",
    "#",
    "?",
    "[",
    "]",
    "{",
    "}",
    ",",
    "null",
    "1e999",
    "-0",
    "\u{202e}",
    "\u{feff}",
    "https://",
    "127.1",
    "0x7f000001",
    "[::1]",
    "orgId=",
    "securityContext=",
    "&requestType=",
    "&headers=",
    "v1,",
    "v1a,",
    "PK\u{3}\u{4}",
    "{{installationId}}",
];

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    Cut(Index, usize),
    Word(Index, &'static str),
    Piece(Index, Vec<u8>, Index, usize),
    Again(Index, usize),
}

impl Change {
    fn make(self, bytes: &mut Vec<u8>) {
        let place = |index: Index, length: usize| index.index(length + 1);
        let range =
            |bytes: &[u8], from: usize, length: usize| from..(from + length).min(bytes.len());
        match self {
            Self::Byte(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Self::Byte(_, byte) => bytes.push(byte),
            Self::Cut(at, length) => {
                let range = range(bytes, place(at, bytes.len()), length);
                bytes.drain(range);
            }
            Self::Word(at, word) => {
                let at = place(at, bytes.len());
                bytes.splice(at..at, word.bytes());
            }
            Self::Piece(at, other, from, length) => {
                let at = place(at, bytes.len());
                let piece = other[range(&other, place(from, other.len()), length)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Again(at, length) => {
                let at = place(at, bytes.len());
                let piece = bytes[range(bytes, at, length)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn changes(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (at(), 1..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (at(), select(WORDS)).prop_map(|(at, word)| Change::Word(at, word)),
        (at(), select(seeds), at(), 1..80_usize)
            .prop_map(|(at, other, from, length)| Change::Piece(at, other, from, length)),
        (at(), 1..60_usize).prop_map(|(at, length)| Change::Again(at, length)),
    ]
}

/// Runs a target on its seeds, and on what random changes make of them.
fn fuzz(target: &str, ordinary: u32, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the target has seeds")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let seeds: Vec<Vec<u8>> =
        files.iter().map(|path| std::fs::read(path).expect("a seed")).collect();
    assert!(seeds.len() > 2, "{target} has seeds");
    for seed in &seeds {
        body(seed);
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let cases = number("MORTISE_TEST_FUZZ_CASES").unwrap_or(ordinary);
    let stream = number("MORTISE_TEST_FUZZ_STREAM").unwrap_or(1);
    let mut start = [7_u8; 32];
    start[..4].copy_from_slice(&stream.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &start));
    let inputs = (select(seeds.clone()), vec(changes(seeds), 1..8));
    let outcome = runner.run(&inputs, |(mut bytes, changes)| {
        for change in changes {
            change.make(&mut bytes);
        }
        body(&bytes);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{target}, stream {stream}: {failure}");
    }
}

#[test]
fn packages() {
    fuzz("check", SLOW_CASES, check::run);
}

#[test]
fn archives() {
    fuzz("archive", SLOW_CASES, archive::run);
}

#[test]
fn callback_addresses() {
    fuzz("addresses", CASES, addresses::run);
}

#[test]
fn custom_headers() {
    fuzz("headers", CASES, headers::run);
}

#[test]
fn received_signatures() {
    fuzz("signatures", CASES, signatures::run);
}

#[test]
fn proofs_of_calls() {
    fuzz("proofs", CASES, proofs::run);
}

#[test]
fn rendered_templates() {
    fuzz("templates", CASES, templates::run);
}
