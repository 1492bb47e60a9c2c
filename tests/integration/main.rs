//! Integration tests: one binary, driven from outside.

mod access;
mod authorization;
mod callbacks;
mod catalogue;
mod cli;
mod delivery;
mod delivery_control;
mod events;
mod faults;
mod ground;
mod installations;
mod locked_webhooks;
mod many_nodes;
mod recovery;
mod repeated_requests;
mod support;
