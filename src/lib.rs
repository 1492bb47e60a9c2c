//! Mortise manages the whole life of a help desk's extensions.
//!
//! The rooms, from the top floor down; imports run downwards only:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`config`] | file, environment and flags become one checked value |
//! | [`development`] | real servers on the loopback interface for the demo and the tests |
//! | [`event`] | catalogue of event types with samples, intake, matching |
//! | [`identifier`] | newtypes for every id |
//! | [`seam`] | clock, randomness, crash points: what a test must be able to drive |

pub mod config;
pub mod development;
pub mod event;
pub mod identifier;
pub mod seam;
