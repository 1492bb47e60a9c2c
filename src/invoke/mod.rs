//! The vendor's way back in: `POST /invoke`, with the securityContext that came with an event or a
//! callback.
//!
//! A call is believed by what it brings ([`Proof`]), never by a bearer token. Where it may go, and
//! which credential goes along, is one pure rule over origins. The installation is known in memory
//! and dead there before "uninstalled" is answered; see `directory`.

mod answer;
mod credentials;
mod directory;
mod error;
mod headers;
mod ledger;
mod masking;
mod memory;
mod own;
mod placeholders;
mod places;
mod prepared;
mod proof;
mod record_quota;
mod refusals;
mod request;
mod service;
mod storage_rates;
mod target;
mod tenant;

pub use answer::InvokeAnswer;
pub use error::InvokeError;
pub use headers::InvalidHeaders;
pub use ledger::{InvocationView, invocations};
pub use own::StoredValues;
pub use placeholders::Unfillable;
pub use proof::Proof;
pub use request::{Ambiguous, InvokeRequest};
pub use service::{Invoke, InvokeOptions, InvokeParts, InvokeWriter};
pub use storage_rates::StorageRates;
pub use target::Unreachable;
