//! Integration tests: one binary, driven from outside.

mod callbacks;
mod delivery;
mod delivery_control;
mod events;
mod ground;
mod many_nodes;
mod recovery;
mod support;
