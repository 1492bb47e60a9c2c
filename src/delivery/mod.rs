//! Delivery: what was accepted reaches its webhook, whatever happens on the way.
//!
//! Intake hands over in memory what was just committed (`Dispatcher::hand_over`); the table is
//! read only for retries that fall due, for what found no room, and for what a dead node left
//! (the room `refill`). Each webhook has a lane of its own with a cap, so that one that hangs holds its
//! own slots and nothing else.

mod attempt;
mod breaker;
mod callbacks;
mod dispatcher;
mod lane;
mod node;
mod outcome;
mod refill;
mod retention;
pub mod retry;
mod set_clock;
mod views;

pub use breaker::BreakerPolicy;
pub use callbacks::{Callback, declared_name, enqueue as enqueue_callback};
pub use dispatcher::{DeliveryOptions, Dispatcher};
pub use node::NodeLease;
pub use retention::{Retention, run as run_retention};
pub use views::{
    AttemptView, DeliveryFilter, DeliveryView, EndpointScope, RequeueRefusal, find, list, of_event,
    requeue,
};
