//! See `bodies/addresses.rs`.

#![no_main]

#[path = "../bodies/addresses.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
