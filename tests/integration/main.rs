//! Integration tests: one binary, driven from outside.

mod cli;
mod many_nodes;
mod support;
