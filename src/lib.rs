//! Mortise manages the whole life of a help desk's extensions.
//!
//! The rooms, from the top floor down; imports run downwards only:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`crypto`] | key ring, sealing, securityContext, signatures, tokens |
//! | [`identifier`] | newtypes for every id |
//! | [`seam`] | clock, randomness, crash points: what a test must be able to drive |

pub mod crypto;
pub mod identifier;
pub mod seam;
