//! Integration tests: one binary, driven from outside.

mod access;
mod authorization;
mod callbacks;
mod catalogue;
mod cli;
mod connections;
mod connectors;
mod delivery;
mod delivery_control;
mod delivery_terms;
mod events;
mod faults;
mod ground;
mod history;
mod installations;
mod keys;
mod leaving;
mod locked_webhooks;
mod many_nodes;
mod notices;
mod recovery;
mod repeated_requests;
mod rollouts;
mod sending_again;
mod support;
mod upgrades;
