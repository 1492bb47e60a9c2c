//! Events: which there are, how they come in and whom they go to.

pub mod catalogue;
mod definitions;
