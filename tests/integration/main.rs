//! Integration tests: one binary, driven from outside.

mod many_nodes;
mod support;
