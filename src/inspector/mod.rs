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
mod known;

pub use answer::{AnswerWish, ChosenAnswer, InvalidAnswer, guard};
pub use gate::{InspectorGate, InspectorPlace, PER_MINUTE, UNDER_WAY, UNDER_WAY_OF_OWNER};
pub use judging::{SignatureVerdict, judge};
pub use keeping::{
    BODY_KEPT, BODY_LIMIT, InspectedView, InspectorAddress, InspectorError, InspectorOwner,
    InspectorView, KEPT, KEPT_FOR, LONGEST_LIFE, MOST_INSPECTORS, NewInspector, Received, find,
    list, make, open_to, read, remove, requests, run_pruning, take,
};

pub use known::KnownInspectors;

/// Below which path of this server inspectors are.
pub const PATH: &str = "/inspect/";
