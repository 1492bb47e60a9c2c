//! Events: what the host may send, how it is accepted, and why it went where it went.

pub mod catalogue;
mod explain;
mod input;
mod intake;

pub use explain::{Explanation, Verdict, explain, explain_made_up};
pub use input::{EventFault, EventInput, Fault, parse};
pub use intake::{Accepted, AcceptedEvent, Intake, IntakeError, IntakeOptions};
