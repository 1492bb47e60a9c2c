//! Events: what the host may send, how it is accepted, and why it went where it went.

pub mod catalogue;
mod definitions;
mod explain;
mod input;
mod intake;
pub mod placeholders;
#[cfg(test)]
mod reference;

pub use explain::{Explanation, Verdict, WebhookVerdict, explain, explain_made_up};
pub use input::{EventActor, EventFault, EventInput, Fault, ParseError, parse, parse_enveloped};
pub use intake::{Accepted, AcceptedEvent, Intake, IntakeError, IntakeOptions};
