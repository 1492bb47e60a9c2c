//! Integration tests: one binary, driven from outside.

mod callbacks;
mod delivery;
mod delivery_control;
mod events;
mod recovery;
mod support;
