//! Integration tests: one binary, driven from outside.

mod catalogue;
mod cli;
mod ground;
mod many_nodes;
mod support;
