//! Integration tests: one binary, driven from outside.

mod ground;
mod many_nodes;
mod support;
