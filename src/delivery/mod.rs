//! Delivery: what was accepted reaches its webhook, whatever happens on the way.
//!
//! Intake hands over in memory what was just committed (`Dispatcher::hand_over`); the table is
//! read only for retries that fall due, for what found no room, and for what a dead node left
//! (the room `refill`). Each webhook has a lane of its own with a cap, so that one that hangs holds its
//! own slots and nothing else.

mod attempt;
mod attempt_span;
mod automations;
mod breaker;
mod callbacks;
mod concealing;
mod disabling;
mod dispatcher;
mod endpoint_grants;
mod endpoint_tokens;
mod hint;
mod history;
mod jwt_cache;
mod lane;
mod lanes;
mod node;
mod outcome;
mod own_request;
mod own_trial;
mod pacer;
mod pulse;
mod reactivation;
mod recovery;
mod recovery_steps;
mod refill;
mod request_view;
mod retention;
pub mod retry;
mod set_clock;
mod shared_rate;
mod statistics;
mod tally;
mod tap;
mod token_claims;
mod trial;
mod views;

pub use breaker::BreakerPolicy;
pub(crate) use callbacks::without_words;
pub use callbacks::{Callback, declared_name, enqueue as enqueue_callback};
pub use dispatcher::{DeliveryOptions, Dispatcher};
pub use hint::status_hint;
#[doc(hidden)]
pub use history::plans as history_plans;
pub use history::{DeliveryPage, list};
pub use node::NodeLease;
pub use reactivation::{Reactivated, held_count};
pub use recovery::{
    CancelRefusal, JOB_STATES, JobFilter, JobView, Recoveries, RecoveryRefusal, RecoveryRequest,
    find_job, list_jobs,
};
pub use request_view::RequestView;
#[doc(hidden)]
pub use retention::plans as retention_plans;
pub use retention::{Retention, run as run_retention};
pub use statistics::{
    AnswerTimes, EndpointNote, HourView, MOST_COUNTED, MOST_COUNTED_IN_ALL, OperationView,
    StatisticsView,
};
pub(crate) use tap::{LARGEST_BODY, Tap, TapOf, TappedRequest, Taps};
pub(crate) use trial::is_credential;
pub use trial::{
    PING_EVENT, Party, Trial, TrialEvent, TrialOutcome, TrialRequest, TrialResponse, UnsavedWebhook,
};
pub use views::{
    AttemptView, DeliveryFilter, DeliveryView, EndpointScope, RequeueRefusal, WantedEvent,
    endpoint_of, find, of_event, requeue,
};
