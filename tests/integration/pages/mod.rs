//! The pages over HTTP, as a browser without JavaScript sees them.

mod errands;
mod hostile;
mod locked;
mod own;
mod recipes;
mod round_trips;
mod rules;
mod sessions;
mod speed;
pub(crate) mod visitor;
