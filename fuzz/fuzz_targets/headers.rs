//! See `bodies/headers.rs`.

#![no_main]

#[path = "../bodies/headers.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
