//! Webhooks: where they call, who may change them, what bounds them.

mod callback_url;

pub use callback_url::{append_context, mask_context};
