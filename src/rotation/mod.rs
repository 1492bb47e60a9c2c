//! Data keys that take each other's place while everything runs.
//!
//! A rotation makes a new key that every node learns before anybody seals with it, has everything
//! sealed anew, and deletes the old key when nothing is sealed with it any more. It is a row of
//! `key_rotations`: any node takes its steps, a crash loses and repeats nothing.

mod columns;
mod examining;
mod job;
mod steps;

pub(crate) use examining::examine_sealed;
pub use job::{RotationError, RotationState, RotationView, Rotations};
