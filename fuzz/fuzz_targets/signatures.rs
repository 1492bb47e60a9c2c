//! See `bodies/signatures.rs`.

#![no_main]

#[path = "../bodies/signatures.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
