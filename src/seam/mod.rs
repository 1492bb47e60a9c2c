//! The seam between the program and the world: the clock, randomness and crash points.
//!
//! Everything that would make a run unrepeatable is reached through here, so that a test can drive
//! it. Outgoing calls have their own door, the `egress` room.

mod clock;
mod crash;
mod randomness;

pub use clock::{Clock, Timestamp};
pub use crash::crash_point;
pub use randomness::{Randomness, RandomnessExhausted};

/// What every room receives to touch the world.
#[derive(Clone, Debug, Default)]
pub struct Seam {
    /// The time of day and the passage of time.
    pub clock: Clock,
    /// Random bytes and time-ordered ids.
    pub randomness: Randomness,
}
