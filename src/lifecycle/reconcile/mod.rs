//! The reconciler: compares what is there with what should be, and puts right what differs.
//!
//! What should be follows from the installations, the versions that serve them and what earlier
//! versions left. Pages are read without locks; whatever looks wrong is looked at
//! again under its installation's lock, so that a step that runs beside is neither reported nor
//! undone. A repair is in place: ids, secrets and history stay. Something is made anew only where
//! its absence was seen in the very transaction that makes it.

mod desired;
mod drift;
mod ending;
mod facts;
mod judge;
mod leftovers;
mod pass;
mod repair;
mod turns;

pub(super) use desired::{forget, remember};
pub use drift::{DriftKind, Finding, Report};
pub use pass::{NoPosition, PassLimits, PassPosition, Reconciler, ReconcilerParts};
pub use turns::{last_report, run as run_reconciler};
