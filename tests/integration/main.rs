//! Integration tests: one binary, driven from outside.

mod access;
mod authorization;
mod catalogue;
mod cli;
mod ground;
mod installations;
mod locked_webhooks;
mod many_nodes;
mod repeated_requests;
mod support;
