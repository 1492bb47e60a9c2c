//! The request inspector: an address of this server's own that takes any request and answers as its
//! owner chose, so that a payload can be seen without a third party's bin.
//!
//! The address is unguessable and ends; of what came the last [`KEPT`] requests are kept for
//! [`KEPT_FOR`]. It is open to the internet: everything that comes is bounded before it is kept, and
//! what is answered cannot act in the name of this origin (see `inspector/answer.rs`).

mod answer;
mod gate;
mod judging;
mod keeping;

pub use answer::{AnswerWish, ChosenAnswer, InvalidAnswer, guard};
pub use gate::{InspectorGate, PER_MINUTE, UNDER_WAY};
pub use judging::{SignatureVerdict, judge};
pub use keeping::{
    BODY_KEPT, BODY_LIMIT, InspectedView, InspectorAddress, InspectorError, InspectorOwner,
    InspectorView, KEPT, KEPT_FOR, LONGEST_LIFE, MOST_INSPECTORS, NewInspector, Received, find,
    list, make, open_to, read, remove, requests, run_pruning, take,
};

/// Below which path of this server inspectors are.
pub const PATH: &str = "/inspect/";
