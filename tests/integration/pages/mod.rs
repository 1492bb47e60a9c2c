//! The pages over HTTP, as a browser without JavaScript sees them.

mod errands;
mod hostile;
mod locked;
mod sessions;
mod speed;
pub(crate) mod visitor;
