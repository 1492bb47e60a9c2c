//! See `bodies/proofs.rs`.

#![no_main]

#[path = "../bodies/proofs.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
