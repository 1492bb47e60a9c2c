//! The pages over HTTP, as a browser without JavaScript sees them.

mod behind_tls;
mod errands;
mod hostile;
mod live;
mod locked;
mod orgs;
mod own;
mod recipes;
mod requests;
mod round_trips;
mod rules;
mod sessions;
mod speed;
mod tenants;
pub(crate) mod visitor;
