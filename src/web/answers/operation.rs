//! What is told, done and looked after: notices, jobs, the journal, queues, tokens, the audit.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::span;
use crate::seam::Timestamp;
use crate::web::parts::{Count, Moment, State, Text, counted, duration, or_default, pretty};

/// A notice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Notice {
    pub(in crate::web) id: Uuid,
    pub(in crate::web) kind: String,
    pub(in crate::web) installation_id: Option<Uuid>,
    pub(in crate::web) webhook_id: Option<Uuid>,
    pub(in crate::web) message: String,
    pub(in crate::web) count: i64,
    pub(in crate::web) last_time: Moment,
    pub(in crate::web) resolved_time: Moment,
}

impl Notice {
    /// Where to look.
    pub(in crate::web) fn href(&self) -> Option<String> {
        let installation = self.installation_id.map(|id| format!("/pages/installations/{id}"));
        let webhook = self.webhook_id.map(|id| format!("/pages/webhooks/{id}"));
        if self.kind.starts_with("webhook.") { webhook.or(installation) } else { installation }
    }
}

/// A job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Job {
    pub(in crate::web) job_id: Uuid,
    pub(in crate::web) kind: String,
    #[serde(default)]
    pub(in crate::web) webhook_id: Option<Uuid>,
    pub(in crate::web) extension_key: Text,
    pub(in crate::web) state: State,
    pub(in crate::web) reason: Text,
    pub(in crate::web) total: Option<i64>,
    #[serde(default)]
    pub(in crate::web) total_is_estimate: bool,
    pub(in crate::web) processed: i64,
    #[serde(default)]
    pub(in crate::web) requeued: i64,
    #[serde(default)]
    pub(in crate::web) upgraded: i64,
    #[serde(default)]
    skipped: Value,
    pub(in crate::web) created_by: String,
    pub(in crate::web) created_at: Moment,
    pub(in crate::web) started_at: Moment,
    pub(in crate::web) finished_at: Moment,
}

impl Job {
    pub(in crate::web) fn what(&self) -> &str {
        match self.kind.as_str() {
            "recover" => "Sending again",
            "release" => "Letting go what was held",
            "rollout" => "Rolling a version out",
            other => other,
        }
    }

    pub(in crate::web) fn is_over(&self) -> bool {
        ["done", "cancelled", "failed"].iter().any(|state| self.state.is_named(state))
    }

    /// How far it is, of the total, for a progress bar.
    pub(in crate::web) fn most(&self) -> i64 {
        self.total.unwrap_or(0).max(self.processed).max(1)
    }

    /// What was looked at and not sent, with the reason.
    pub(in crate::web) fn skipped(&self) -> Vec<(String, String)> {
        let members: BTreeMap<String, Value> =
            serde_json::from_value(self.skipped.clone()).unwrap_or_default();
        members.into_iter().map(|(reason, count)| (reason, count.to_string())).collect()
    }
}

/// A lifecycle event of the journal.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct JournalEntry {
    pub(in crate::web) id: Uuid,
    pub(in crate::web) extension_key: String,
    callback: Value,
    pub(in crate::web) state: State,
    attempts_made: i64,
    pub(in crate::web) last_attempt: Option<JournalAttempt>,
    pub(in crate::web) time: Moment,
}

/// The last attempt at a callback.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct JournalAttempt {
    pub(in crate::web) status: Option<i64>,
    pub(in crate::web) error: Text,
}

impl JournalEntry {
    /// How often it was tried, in words.
    pub(in crate::web) fn attempts(&self) -> String {
        counted(self.attempts_made, "attempt", "attempts")
    }

    pub(in crate::web) fn event(&self) -> &str {
        self.callback.get("event").and_then(Value::as_str).unwrap_or("–")
    }

    pub(in crate::web) fn org(&self) -> String {
        match self.callback.get("orgId") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => "–".to_owned(),
        }
    }

    pub(in crate::web) fn installation(&self) -> Option<&str> {
        self.callback.get("installationId").and_then(Value::as_str)
    }

    pub(in crate::web) fn body(&self) -> String {
        pretty(&self.callback)
    }

    pub(in crate::web) fn can_be_sent_again(&self) -> bool {
        !self.callback.is_null() && !self.state.is_named("pending")
    }
}

/// A webhook that the operator should look at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Note {
    pub(in crate::web) webhook_id: Uuid,
    pub(in crate::web) org_id: String,
    pub(in crate::web) extension_key: Text,
    pub(in crate::web) health: State,
    pub(in crate::web) paused_until: Moment,
    pub(in crate::web) last_error: Text,
    pub(in crate::web) attempts: i64,
    failed: i64,
    average_ms: f64,
}

impl Note {
    /// How many attempts were not taken, in words.
    pub(in crate::web) fn failed_of(&self) -> String {
        format!("{} of {} not taken", self.failed, counted(self.attempts, "attempt", "attempts"))
    }

    pub(in crate::web) fn average(&self) -> String {
        duration(self.average_ms)
    }
}

/// How delivering does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Operation {
    pub(in crate::web) under_way: usize,
    pub(in crate::web) in_memory: usize,
    pub(in crate::web) in_table: Count,
    waiting_webhooks: usize,
    lag_seconds: Option<u64>,
    pub(in crate::web) unwell: Vec<Note>,
    pub(in crate::web) unwell_count: Count,
    pub(in crate::web) paused: Vec<Note>,
    pub(in crate::web) paused_count: Count,
    pub(in crate::web) slowest: Vec<Note>,
    pub(in crate::web) most_failed: Vec<Note>,
}

impl Operation {
    /// In how many webhooks something waits, in words.
    pub(in crate::web) fn waiting(&self) -> String {
        let count = i64::try_from(self.waiting_webhooks).unwrap_or(i64::MAX);
        counted(count, "webhook or lane", "webhooks and lanes")
    }

    pub(in crate::web) fn lag(&self) -> String {
        self.lag_seconds.map_or_else(|| "none".to_owned(), span)
    }
}

/// An API token.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Token {
    pub(in crate::web) id: Uuid,
    pub(in crate::web) role: String,
    pub(in crate::web) org_id: Text,
    pub(in crate::web) vendor: Text,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::web) scopes: Vec<String>,
    pub(in crate::web) name: Text,
    pub(in crate::web) created_at: Moment,
    pub(in crate::web) expires_at: Moment,
    pub(in crate::web) revoked_at: Moment,
    /// The value, where it was just made.
    #[serde(default)]
    pub(in crate::web) token: Text,
}

impl Token {
    /// Whether it is this one.
    pub(in crate::web) fn is(&self, id: Uuid) -> bool {
        self.id == id
    }

    /// Whether it still opens anything.
    pub(in crate::web) fn state(&self, now: Timestamp) -> State {
        State::new(match self.expires_at.timestamp() {
            _ if self.revoked_at.is_known() => "revoked",
            Some(end) if end <= now => "ended",
            _ => "live",
        })
    }
}

/// What the reconciler found last.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct LastPass {
    pub(in crate::web) requested_by: Text,
    pub(in crate::web) report: Option<Report>,
    pub(in crate::web) held_since: Moment,
}

/// A report of the reconciler.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Report {
    pub(in crate::web) started_time: Moment,
    pub(in crate::web) finished_time: Moment,
    pub(in crate::web) complete: bool,
    installations: i64,
    found: i64,
    repaired: i64,
    pub(in crate::web) findings: Vec<Finding>,
}

impl Report {
    /// What was looked at, in words.
    pub(in crate::web) fn compared(&self) -> String {
        counted(self.installations, "installation", "installations")
    }

    /// What was found, in words.
    pub(in crate::web) fn outcome(&self) -> String {
        match self.found {
            0 => "nothing".to_owned(),
            found => {
                format!("{}, {} repaired", counted(found, "finding", "findings"), self.repaired)
            }
        }
    }
}

/// Something that was not as it should be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Finding {
    pub(in crate::web) kind: String,
    pub(in crate::web) subject: String,
    pub(in crate::web) org_id: Text,
    pub(in crate::web) installation_id: Option<Uuid>,
    pub(in crate::web) detail: String,
    pub(in crate::web) action: String,
    pub(in crate::web) repaired: bool,
}

/// A link of the audit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct AuditLink {
    pub(in crate::web) org_id: String,
    pub(in crate::web) sequence: i64,
    pub(in crate::web) time: Moment,
    pub(in crate::web) actor: String,
    pub(in crate::web) address: Text,
    pub(in crate::web) action: String,
    pub(in crate::web) subject: String,
    detail: Value,
}

impl AuditLink {
    pub(in crate::web) fn detail(&self) -> String {
        if self.detail.is_null() { String::new() } else { self.detail.to_string() }
    }
}
