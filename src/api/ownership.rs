//! Who may do something with a webhook: an extension's is its vendor's and the operator's.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::access::Caller;
use super::problem::{Code, Problem};
use super::role::Role;
use super::services::endpoint_scope;
use super::state::ApiState;
use crate::identifier::WebhookId;
use crate::webhook::Endpoint;

/// The refusal of an administrator who would touch an extension's webhook.
pub(super) fn locked(extension_key: &str, installation_id: Option<Uuid>) -> Problem {
    Problem::new(Code::Forbidden)
        .kind("webhook-locked", "The webhook belongs to an extension")
        .detail(format!("Only the vendor of {extension_key} and the operator can do this."))
        .with(
            "lockedBy",
            json!({ "extensionKey": extension_key, "installationId": installation_id }),
        )
}

/// A webhook that the caller may send to. Asked before a body is read.
pub(super) async fn own_webhook(
    state: &ApiState,
    caller: &Caller,
    id: WebhookId,
) -> Result<Arc<Endpoint>, Problem> {
    let scope = endpoint_scope(state.store(), caller).await?;
    let endpoint = state
        .services()?
        .routing
        .endpoint(id.0)
        .filter(|endpoint| scope.covers(endpoint))
        .ok_or_else(|| Problem::not_found("webhook"))?;
    match (&endpoint.owner, caller.role) {
        (Some(owner), Role::Admin) => {
            Err(locked(&owner.extension_key, Some(owner.installation_id)))
        }
        _ => Ok(endpoint),
    }
}
