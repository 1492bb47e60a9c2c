//! Integration tests: one binary, driven from outside.

mod catalogue;
mod ground;
mod many_nodes;
mod support;
