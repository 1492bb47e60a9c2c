//! Integration tests: one binary, driven from outside.

mod support;
