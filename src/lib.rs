//! Mortise manages the whole life of a help desk's extensions.
//!
//! The rooms, from the top floor down; imports run downwards only:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`crypto`] | key ring, sealing, securityContext, signatures, tokens |
//! | [`dialect`] | one file a wire format |
//! | [`egress`] | the only door out: vetting, deadlines, caps |
//! | [`identifier`] | newtypes for every id |
//! | [`seam`] | clock, randomness, crash points: what a test must be able to drive |
//! | [`webhook`] | webhooks: callback URL |

pub mod crypto;
pub mod dialect;
pub mod egress;
pub mod identifier;
pub mod seam;
pub mod webhook;
