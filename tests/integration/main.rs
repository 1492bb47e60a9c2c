//! Integration tests: one binary, driven from outside.

mod access;
mod authorization;
mod callbacks;
mod catalogue;
mod cli;
mod delivery;
mod delivery_control;
mod delivery_terms;
mod events;
mod examples;
mod faults;
mod ground;
mod history;
mod incoming;
mod installations;
mod invoke;
mod keys;
mod locked_webhooks;
mod many_nodes;
mod notices;
mod properties;
mod recovery;
mod repeated_requests;
mod sending_again;
mod storage;
mod support;
