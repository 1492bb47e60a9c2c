//! Integration tests: one binary, driven from outside.

mod ground;
mod support;
