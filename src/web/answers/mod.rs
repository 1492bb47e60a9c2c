//! What the API answers, as pages read it. What a page does not show is not read.

mod catalogue;
mod deliveries;
mod installations;
mod operation;
mod own;
mod rules;
mod webhooks;

use serde::Deserialize;

pub(super) use catalogue::{Diagnostic, EventType, Expiring, Extension, SigningSecret};
pub(super) use deliveries::{Delivery, Event, Request};
pub(super) use installations::{Installation, Transition, Upgrade};
pub(super) use operation::{
    AuditLink, Job, JournalEntry, LastPass, Notice, Operation, Report, Token,
};
pub(super) use own::{Authentication, Own, Written};
pub(super) use rules::{Condition, Conditions, Placeholders, Rule};
pub(super) use webhooks::{Statistics, Trial, Webhook, span};

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) next_cursor: Option<String>,
}
