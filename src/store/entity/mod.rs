//! The entities: a table's row each, as the migrations lay them.

mod catalogue;
mod connections;
mod deliveries;
mod grants;
mod imports;
mod invoke;
mod lifecycle;
mod own_webhooks;
mod pages;
mod platform;
mod platform_steps;
mod reconciler;
mod recovery;
mod rotation;
mod rules;
mod tools;
mod upgrades;

pub(crate) use catalogue::{extension, extension_version, signing_secret};
pub(crate) use connections::org_closure;
pub(crate) use deliveries::{
    attempt, delivery, endpoint, endpoint_state, event, event_key, webhook,
};
pub(crate) use grants::{delivery_reason, own_webhook_authorization, own_webhook_grant};
pub(crate) use imports::{development_org, imported_definition};
pub(crate) use invoke::{
    extension_property, extension_storage, former_version, incoming_lane, invocation,
    invoke_message_id, invoke_signer, user_token,
};
pub(crate) use lifecycle::{
    authorization_request, connection, installation, installation_generation, revocation,
    transition,
};
pub(crate) use own_webhooks::{
    delivery_variant, org_plan, own_webhook, own_webhook_former_secret, own_webhook_token,
    own_webhook_token_claim,
};
pub(crate) use pages::{page_session, portal_link};
pub(crate) use platform::{
    api_token, audit, audit_head, data_key, kept_answer, routing, routing_change, setting,
    signing_key,
};
pub(crate) use platform_steps::{erasure, journal};
pub(crate) use reconciler::{provisioned_webhook, reconcile_run, token_exchange};
pub(crate) use recovery::{notice, notice_dismissal, notice_outbox, recovery_job};
pub(crate) use rotation::key_rotation;
pub(crate) use rules::{automation_mark, webhook_rule};
pub(crate) use tools::{inspected_request, inspector, listener, tapped_delivery};
pub(crate) use upgrades::{rollout_item, rollout_job, upgrade};
