//! See `bodies/templates.rs`.

#![no_main]

#[path = "../bodies/templates.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
