//! The HTTP API: one file a resource, and the ground that all of them stand on.
//!
//! A request passes one layer, in [`correlation`]: an id for it and for its problems, the catching
//! of panics, [`access`] (who calls, and whether the table in [`routes`] lets them); then its
//! handler. Handlers take [`extract`]ors, answer [`problem`]s, list with [`paging`] and
//! keep answers for repeated requests with [`answers`].

pub mod access;
mod administration;
pub mod answers;
mod assist_pings;
mod assist_webhooks;
mod asyncapi;
mod browser;
mod callbacks;
mod catalogue;
pub mod client_address;
mod connections;
pub mod correlation;
mod cures;
mod deliveries;
mod descriptions;
mod development_orgs;
mod document;
mod effect;
mod event_types;
mod events;
pub mod extract;
mod faults;
mod figures;
pub(crate) mod handler;
pub mod health;
mod holds;
mod imports;
mod incoming;
mod incoming_rates;
mod inspectors;
mod installations;
mod installed_extensions;
mod invoke;
mod jobs;
mod journal;
pub(crate) mod keys;
mod listeners;
mod metrics;
mod notices;
pub mod openapi;
mod own_shapes;
mod own_webhooks;
mod ownership;
pub mod page_sessions;
pub mod paging;
mod plans;
mod portal_links;
mod portal_sessions;
pub mod problem;
mod properties;
mod rates;
mod reader_places;
pub(crate) mod reading;
mod recipes;
pub(crate) mod reconcile;
pub mod role;
mod rollouts;
pub mod routes;
mod rules;
mod services;
mod shapes;
pub mod state;
mod subject;
pub mod token_store;
pub mod tokens;
mod trial_templates;
mod trials;
mod upgrades;
mod url_check;
mod user_tokens;
mod webhook_authorizations;
mod webhook_secrets;
mod webhooks;

#[cfg(test)]
mod client_contract;
#[cfg(test)]
pub(crate) mod testing;

pub use access::Caller;
pub use answers::{AnswerGuard, AnswerKey, AnswerScope, Answers, Begun, StoredAnswer};
pub(crate) use catalogue::invalid_package;
pub use client_address::{ClientAddress, TrustedProxies};
pub use extract::{Idempotent, Json, Path, Query, RawBody};
pub use incoming_rates::IncomingRates;
pub use metrics::Scrapes;
pub(crate) use metrics::respond as metrics_response;
pub use openapi::{ApiRouter, application, application_with_pages};
pub use paging::{Cursor, Limit, Page};
pub use problem::{Code, FieldError, FieldErrorKind, Problem};
pub use rates::TrialRates;
pub use reader_places::ReaderPlaces;
pub use role::{Role, Scope, Scopes};
pub use services::Services;
pub use state::{ApiParts, ApiState};

/// The routes of all rooms, beside the ground.
pub fn rooms() -> ApiRouter {
    ApiRouter::new()
        .merge(catalogue::router())
        .merge(callbacks::router())
        .merge(connections::router())
        .merge(upgrades::router())
        .merge(rollouts::router())
        .merge(browser::router())
        .merge(installations::router())
        .merge(holds::router())
        .merge(journal::router())
        .merge(webhooks::router())
        .merge(own_webhooks::router())
        .merge(webhook_authorizations::router())
        .merge(webhook_secrets::router())
        .merge(imports::router())
        .merge(assist_webhooks::router())
        .merge(assist_pings::router())
        .merge(plans::router())
        .merge(development_orgs::router())
        .merge(events::router())
        .merge(event_types::router())
        .merge(rules::router())
        .merge(recipes::router())
        .merge(deliveries::router())
        .merge(jobs::router())
        .merge(trials::router())
        .merge(notices::router())
        .merge(descriptions::router())
        .merge(reading::router())
        .merge(keys::router())
        .merge(reconcile::router())
        .merge(invoke::router())
        .merge(installed_extensions::router())
        .merge(properties::router())
        .merge(user_tokens::router())
        .merge(incoming::router())
        .merge(inspectors::router())
        .merge(listeners::router())
        .merge(metrics::router())
        .merge(administration::router())
        .merge(figures::router())
        .merge(portal_links::router())
        .merge(portal_sessions::router())
}
