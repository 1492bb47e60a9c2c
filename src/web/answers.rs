//! What the API answers, as pages read it. What a page does not show is not read.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::chart::{Bucket, Chart, Phases};
use super::parts::{
    Copy, Count, Moment, State, Text, duration, or_default, percent, pretty, pretty_text,
};
use super::words;

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

/// An installation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Installation {
    pub(super) installation_id: Uuid,
    pub(super) extension_key: String,
    pub(super) extension_name: String,
    pub(super) version: String,
    pub(super) org_id: String,
    pub(super) generation: i64,
    pub(super) state: State,
    pub(super) suspended_by: Vec<String>,
    pub(super) department_ids: Option<Vec<String>>,
    pub(super) config: Value,
    pub(super) installed_by: Text,
    #[serde(deserialize_with = "or_default")]
    pub(super) required_scopes: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) granted_scopes: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) pending_scopes: Vec<String>,
    pub(super) connection: ConnectionHealth,
    pub(super) connections: Vec<Connection>,
    pub(super) vendor_setup: String,
    pub(super) cleanup: String,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) waiting_upgrade: Option<WaitingUpgrade>,
    pub(super) created_time: Moment,
    pub(super) authorized_time: Moment,
    pub(super) upgraded_time: Moment,
    pub(super) uninstalled_time: Moment,
    pub(super) erase_time: Moment,
    pub(super) erased_time: Moment,
}

impl Installation {
    /// Whether it can still be taken out.
    pub(super) fn is_live(&self) -> bool {
        !self.state.is_named("uninstalled") && !self.state.is_named("erased")
    }

    /// Whether a role holds it suspended.
    pub(super) fn is_held_by(&self, holder: &str) -> bool {
        self.suspended_by.iter().any(|name| name == holder)
    }

    /// Who holds it suspended, in a row.
    pub(super) fn holders(&self) -> String {
        self.suspended_by.join(", ")
    }

    /// Its departments in words.
    pub(super) fn departments(&self) -> String {
        match &self.department_ids {
            None => "all departments".to_owned(),
            Some(ids) => ids.join(", "),
        }
    }

    /// Who granted the connection to the host, else who installed it.
    pub(super) fn consented_by(&self) -> &Text {
        let granted = self.connections.iter().find(|one| one.granted_by.is_known());
        granted.map_or(&self.installed_by, |one| &one.granted_by)
    }

    /// When that was.
    pub(super) fn consented_at(&self) -> &Moment {
        if self.authorized_time.is_known() { &self.authorized_time } else { &self.created_time }
    }

    /// The worst health of its webhooks.
    pub(super) fn worst_health(&self) -> Option<&State> {
        let states = self.webhooks.iter().map(|webhook| &webhook.health.state);
        states.max_by_key(|state| !state.is_named("ok"))
    }

    pub(super) fn id_copy(&self) -> Copy {
        Copy::new(self.installation_id.to_string(), "the installation's id")
    }

    pub(super) fn config_text(&self) -> String {
        pretty(&self.config)
    }

    pub(super) fn has_config(&self) -> bool {
        self.config.as_object().is_some_and(|members| !members.is_empty())
    }

    pub(super) fn setup_state(&self) -> State {
        State::new(if self.vendor_setup == "ok" { "done" } else { &self.vendor_setup })
    }
}

/// How the connection to the host does.
#[derive(Debug, Deserialize)]
pub(super) struct ConnectionHealth {
    pub(super) health: State,
    pub(super) reason: Text,
}

/// A connection.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connection {
    pub(super) name: String,
    pub(super) display_name: Text,
    pub(super) service: String,
    pub(super) health: State,
    pub(super) reason: Text,
    #[serde(deserialize_with = "or_default")]
    pub(super) scopes: Vec<String>,
    pub(super) granted_by: Text,
    pub(super) user_id: Text,
    pub(super) since: Moment,
    pub(super) expires_at: Moment,
}

/// An upgrade that waits for consent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitingUpgrade {
    pub(super) consent_id: Uuid,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) plan: Plan,
    pub(super) growth: Vec<Growth>,
    pub(super) authorization_required: bool,
    pub(super) since: Moment,
    pub(super) deadline: Moment,
}

/// What happens to the resources.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Plan {
    pub(super) create: Vec<Planned>,
    pub(super) update: Vec<Planned>,
    pub(super) delete: Vec<Planned>,
    pub(super) unchanged: Vec<Planned>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// What happens to one resource.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Planned {
    pub(super) kind: String,
    pub(super) resource_name: String,
    #[serde(default)]
    pub(super) changes: Vec<Change>,
}

/// A change within a resource.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    pub(super) pointer: String,
    pub(super) before: Value,
    pub(super) after: Value,
}

impl Change {
    pub(super) fn former(&self) -> Option<String> {
        (!self.before.is_null()).then(|| self.before.to_string())
    }

    pub(super) fn next(&self) -> Option<String> {
        (!self.after.is_null()).then(|| self.after.to_string())
    }
}

/// One thing that a version asks for and the one before did not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct Growth {
    kind: String,
    service_name: String,
    scope: String,
    event_type: String,
    host: String,
    name: String,
}

impl Growth {
    /// What it is, in words.
    pub(super) fn what(&self) -> &str {
        match self.kind.as_str() {
            "connection" => "A connection to",
            "scope" => "A permission",
            "event" => "An event that it gets from now on",
            "callbackHost" => "A host that data is sent to",
            "secretParameter" => "A secret that you are asked for",
            other => other,
        }
    }

    /// Which one.
    pub(super) fn which(&self) -> &str {
        let all = [&self.scope, &self.event_type, &self.host, &self.name, &self.service_name];
        all.into_iter().find(|text| !text.is_empty()).map_or("", String::as_str)
    }
}

/// What differs between two versions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Upgrade {
    pub(super) plan: Plan,
    pub(super) growth: Vec<Growth>,
    pub(super) consent_required: bool,
}

/// A step of the history.
#[derive(Debug, Deserialize)]
pub(super) struct Transition {
    pub(super) at: Moment,
    pub(super) actor: String,
    pub(super) address: Text,
    command: String,
    pub(super) to: State,
    pub(super) generation: i64,
    pub(super) reason: Text,
}

impl Transition {
    pub(super) fn what(&self) -> String {
        words::command(&self.command)
    }
}

/// A webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "it is what the API answers")]
pub(super) struct Webhook {
    pub(super) id: Uuid,
    pub(super) org_id: String,
    pub(super) name: Text,
    pub(super) description: Text,
    pub(super) url: String,
    pub(super) subscriptions: Value,
    pub(super) is_enabled: bool,
    #[serde(default)]
    pub(super) ordered: bool,
    pub(super) locked: bool,
    pub(super) health: Health,
    pub(super) created_by: Text,
    pub(super) created_time: Moment,
    pub(super) modified_time: Moment,
    pub(super) extension: Option<Owner>,
    #[serde(default)]
    pub(super) delivery: Option<Terms>,
    #[serde(default)]
    is_development: bool,
}

/// An event type with what is asked of it.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) name: String,
    pub(super) options: String,
}

impl Webhook {
    pub(super) fn title(&self) -> String {
        self.name.or_text("Webhook without a name").to_owned()
    }

    /// Whose it is, in words.
    pub(super) fn owner(&self) -> String {
        match &self.extension {
            Some(owner) => owner.extension_name.or_text(&owner.extension_key).to_owned(),
            None if self.is_development => {
                "The org's own; the org is for development: private addresses and plain http are allowed"
                    .to_owned()
            }
            None => "The org's own".to_owned(),
        }
    }

    pub(super) fn url_copy(&self) -> Copy {
        Copy::new(&self.url, "the address")
    }

    pub(super) fn id_copy(&self) -> Copy {
        Copy::new(self.id.to_string(), "the webhook's id")
    }

    /// What it subscribes to: an object by event type, or a list of names.
    pub(super) fn subscribed(&self) -> Vec<Subscribed> {
        match &self.subscriptions {
            Value::Object(members) => members
                .iter()
                .map(|(name, options)| Subscribed {
                    name: name.clone(),
                    options: if options.is_null() { String::new() } else { options.to_string() },
                })
                .collect(),
            Value::Array(names) => names
                .iter()
                .map(|name| Subscribed {
                    name: name.as_str().map_or_else(|| name.to_string(), str::to_owned),
                    options: String::new(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The extension that owns a webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) extension_key: String,
    pub(super) extension_name: Text,
    pub(super) version: Text,
    pub(super) installation_id: Option<Uuid>,
}

/// How an endpoint does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Health {
    pub(super) state: State,
    pub(super) since: Moment,
    pub(super) reason: Text,
    pub(super) last_error: Text,
    pub(super) last_success_at: Moment,
    pub(super) last_failure_at: Moment,
    #[serde(default)]
    pub(super) consecutive_failures: i64,
    #[serde(default)]
    pub(super) paused_until: Moment,
}

/// The terms of delivery.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Terms {
    pub(super) schedule: Vec<u64>,
    pub(super) deadline_seconds: u64,
    pub(super) concurrency: u64,
    pub(super) rate_per_minute: Option<u64>,
}

impl Terms {
    /// How often and when it is tried, in words.
    pub(super) fn attempts(&self) -> String {
        let waits: Vec<String> = self.schedule.iter().map(|seconds| span(*seconds)).collect();
        if waits.is_empty() {
            return "once".to_owned();
        }
        format!("{} times: at once, then after {}", waits.len() + 1, waits.join(", "))
    }
}

/// A span of seconds as people say it.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A webhook in figures.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    time: Moment,
    last24_hours: Span,
    last30_days: Span,
    hours: Vec<Hour>,
    answer_times: Option<Times>,
    pub(super) waiting: Count,
    pub(super) held: Count,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    succeeded: i64,
    failed: i64,
    success_rate: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Hour {
    time: Moment,
    succeeded: i64,
    failed: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    sample: usize,
    p50_ms: f64,
    p95_ms: f64,
}

impl Statistics {
    fn chart(&self, spans: usize, hours_each: i64) -> Chart {
        let hours: Vec<_> = self
            .hours
            .iter()
            .filter_map(|hour| {
                let bucket = Bucket { succeeded: hour.succeeded, failed: hour.failed };
                Some((hour.time.timestamp()?, bucket))
            })
            .collect();
        let now = self.time.timestamp().unwrap_or_default();
        Chart::new(&hours, now, spans, hours_each)
    }

    pub(super) fn day(&self) -> Chart {
        self.chart(24, 1)
    }

    pub(super) fn month(&self) -> Chart {
        self.chart(30, 24)
    }

    pub(super) fn day_rate(&self) -> String {
        percent(self.last24_hours.success_rate)
    }

    pub(super) fn month_rate(&self) -> String {
        percent(self.last30_days.success_rate)
    }

    /// How many attempts the rate of the day is of.
    pub(super) fn day_attempts(&self) -> i64 {
        self.last24_hours.succeeded.saturating_add(self.last24_hours.failed)
    }

    pub(super) fn half(&self) -> String {
        self.answer_times.as_ref().map_or_else(|| "–".to_owned(), |times| duration(times.p50_ms))
    }

    pub(super) fn most(&self) -> String {
        self.answer_times.as_ref().map_or_else(|| "–".to_owned(), |times| duration(times.p95_ms))
    }

    pub(super) fn sample(&self) -> usize {
        self.answer_times.as_ref().map_or(0, |times| times.sample)
    }
}

/// A delivery.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    pub(super) id: Uuid,
    pub(super) event_id: String,
    pub(super) event_type: String,
    pub(super) webhook_id: Uuid,
    pub(super) org_id: String,
    pub(super) installation_id: Option<Uuid>,
    pub(super) extension_key: Text,
    pub(super) state: State,
    pub(super) next_attempt_time: Moment,
    pub(super) created_time: Moment,
    pub(super) attempts_made: i64,
    pub(super) attempts: Vec<Attempt>,
}

impl Delivery {
    pub(super) fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    pub(super) fn id_copy(&self) -> Copy {
        Copy::new(self.id.to_string(), "the delivery's id")
    }

    pub(super) fn event_copy(&self) -> Copy {
        Copy::new(&self.event_id, "the event's id")
    }

    /// The event's page.
    pub(super) fn event_href(&self) -> String {
        super::visit::with_query(
            &format!("/pages/events/{}", super::visit::segment(&self.event_id)),
            &[("org", &self.org_id)],
        )
    }
}

/// One attempt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub(super) number: i64,
    pub(super) time: Moment,
    pub(super) status: Option<i64>,
    pub(super) error: Text,
    pub(super) message: Text,
    pub(super) hint: Text,
    duration_ms: f64,
    phases: PhaseTimes,
    pub(super) address: Text,
    response: Response,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PhaseTimes {
    #[serde(rename = "dnsMicros")]
    dns: Option<u32>,
    #[serde(rename = "connectMicros")]
    connect: Option<u32>,
    #[serde(rename = "firstByteMicros")]
    first_byte: Option<u32>,
    #[serde(rename = "bodyMicros")]
    body: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    headers: Vec<(String, String)>,
    body: Text,
    truncated: bool,
}

impl Attempt {
    pub(super) fn duration(&self) -> String {
        duration(self.duration_ms)
    }

    pub(super) fn phases(&self) -> Vec<super::chart::Phase> {
        Phases {
            dns: self.phases.dns,
            connect: self.phases.connect,
            first_byte: self.phases.first_byte,
            body: self.phases.body,
        }
        .parts()
    }

    pub(super) fn is_success(&self) -> bool {
        !self.error.is_known() && self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// What it came to, in words.
    pub(super) fn outcome(&self) -> String {
        match (self.status, self.error.is_known()) {
            (Some(status), _) => format!("answered {status}"),
            (None, true) => words::error(self.error.as_str())
                .map_or_else(|| format!("no answer ({})", self.error), str::to_owned),
            (None, false) => "no answer".to_owned(),
        }
    }

    pub(super) fn headers(&self) -> &[(String, String)] {
        &self.response.headers
    }

    pub(super) fn body(&self) -> String {
        pretty_text(self.response.body.as_str())
    }

    pub(super) fn has_body(&self) -> bool {
        self.response.body.is_known()
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.response.truncated
    }
}

/// What a delivery is sent as.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: Text,
    pub(super) headers: Vec<(String, String)>,
    body: Option<String>,
    pub(super) truncated: bool,
    pub(super) length: usize,
}

impl Request {
    pub(super) fn body(&self) -> Option<String> {
        self.body.as_deref().map(pretty_text)
    }
}

/// An event, and what became of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) event_id: String,
    pub(super) event_type: String,
    pub(super) org_id: String,
    pub(super) department_id: Text,
    pub(super) event_time: Moment,
    pub(super) accepted_time: Moment,
    pub(super) origin: String,
    pub(super) source_id: Text,
    payload: Value,
    pub(super) webhooks: Vec<Verdict>,
}

impl Event {
    pub(super) fn payload_text(&self) -> String {
        pretty(&self.payload)
    }
}

/// Whether an event went to a webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    pub(super) webhook_id: Uuid,
    pub(super) extension_key: Text,
    pub(super) matched: bool,
    pub(super) rule: Text,
    pub(super) reason: Text,
    pub(super) delivery: Option<Delivery>,
}

/// A notice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notice {
    pub(super) id: Uuid,
    pub(super) kind: String,
    pub(super) installation_id: Option<Uuid>,
    pub(super) webhook_id: Option<Uuid>,
    pub(super) message: String,
    pub(super) count: i64,
    pub(super) last_time: Moment,
    pub(super) resolved_time: Moment,
}

impl Notice {
    /// Where to look.
    pub(super) fn href(&self) -> Option<String> {
        let installation = self.installation_id.map(|id| format!("/pages/installations/{id}"));
        let webhook = self.webhook_id.map(|id| format!("/pages/webhooks/{id}"));
        if self.kind.starts_with("webhook.") { webhook.or(installation) } else { installation }
    }
}

/// An extension.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Extension {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) vendor: String,
    pub(super) suspended: bool,
    pub(super) suspended_reason: Text,
    pub(super) created_time: Moment,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) versions: Vec<Version>,
}

/// A version of an extension.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) created_time: Moment,
    pub(super) withdrawn_time: Moment,
}

impl Version {
    pub(super) fn state(&self) -> State {
        State::new(if self.withdrawn_time.is_known() { "withdrawn" } else { "published" })
    }
}

/// A diagnostic of a package.
#[derive(Debug, Deserialize)]
pub(super) struct Diagnostic {
    pub(super) code: String,
    pub(super) severity: State,
    #[serde(default)]
    pub(super) file: String,
    #[serde(default)]
    pub(super) pointer: String,
    #[serde(default)]
    pub(super) line: Option<u32>,
    #[serde(default)]
    pub(super) column: Option<u32>,
    pub(super) message: String,
    #[serde(default)]
    pub(super) suggestion: Text,
}

/// What signs deliveries.
#[derive(Debug, Deserialize)]
pub(super) struct SigningSecret {
    pub(super) secret: String,
    pub(super) expiring: Vec<Expiring>,
}

/// A former secret that still signs.
#[derive(Debug, Deserialize)]
pub(super) struct Expiring {
    pub(super) until: Moment,
}

/// A job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) job_id: Uuid,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) webhook_id: Option<Uuid>,
    pub(super) extension_key: Text,
    pub(super) state: State,
    pub(super) reason: Text,
    pub(super) total: Option<i64>,
    #[serde(default)]
    pub(super) total_is_estimate: bool,
    pub(super) processed: i64,
    #[serde(default)]
    pub(super) requeued: i64,
    #[serde(default)]
    pub(super) upgraded: i64,
    #[serde(default)]
    skipped: Value,
    pub(super) created_by: String,
    pub(super) created_at: Moment,
    pub(super) started_at: Moment,
    pub(super) finished_at: Moment,
}

impl Job {
    pub(super) fn what(&self) -> &str {
        match self.kind.as_str() {
            "recover" => "Sending again",
            "release" => "Letting go what was held",
            "rollout" => "Rolling a version out",
            other => other,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        ["done", "cancelled", "failed"].iter().any(|state| self.state.is_named(state))
    }

    /// How far it is, of the total, for a progress bar.
    pub(super) fn most(&self) -> i64 {
        self.total.unwrap_or(0).max(self.processed).max(1)
    }

    /// What was looked at and not sent, with the reason.
    pub(super) fn skipped(&self) -> Vec<(String, String)> {
        let members: BTreeMap<String, Value> =
            serde_json::from_value(self.skipped.clone()).unwrap_or_default();
        members.into_iter().map(|(reason, count)| (reason, count.to_string())).collect()
    }
}

/// A lifecycle event of the journal.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JournalEntry {
    pub(super) id: Uuid,
    pub(super) extension_key: String,
    callback: Value,
    pub(super) state: State,
    pub(super) attempts_made: i64,
    pub(super) last_attempt: Option<JournalAttempt>,
    pub(super) time: Moment,
}

/// The last attempt at a callback.
#[derive(Debug, Deserialize)]
pub(super) struct JournalAttempt {
    pub(super) status: Option<i64>,
    pub(super) error: Text,
}

impl JournalEntry {
    pub(super) fn event(&self) -> &str {
        self.callback.get("event").and_then(Value::as_str).unwrap_or("–")
    }

    pub(super) fn org(&self) -> String {
        match self.callback.get("orgId") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => "–".to_owned(),
        }
    }

    pub(super) fn installation(&self) -> Option<&str> {
        self.callback.get("installationId").and_then(Value::as_str)
    }

    pub(super) fn body(&self) -> String {
        pretty(&self.callback)
    }

    pub(super) fn can_be_sent_again(&self) -> bool {
        !self.callback.is_null() && !self.state.is_named("pending")
    }
}

/// What came of a test or ping.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trial {
    pub(super) outcome: State,
    pub(super) by: String,
    pub(super) hint: Text,
    pub(super) error: Text,
    pub(super) request: TrialRequest,
    pub(super) response: Option<TrialResponse>,
    duration_ms: f64,
}

impl Trial {
    pub(super) fn duration(&self) -> String {
        duration(self.duration_ms)
    }
}

/// The request of a test.
#[derive(Debug, Deserialize)]
pub(super) struct TrialRequest {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    body: String,
}

impl TrialRequest {
    pub(super) fn body(&self) -> String {
        pretty_text(&self.body)
    }
}

/// The answer to a test.
#[derive(Debug, Deserialize)]
pub(super) struct TrialResponse {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    body: String,
    pub(super) truncated: bool,
}

impl TrialResponse {
    pub(super) fn body(&self) -> String {
        pretty_text(&self.body)
    }
}

/// An event type.
#[derive(Debug, Deserialize)]
pub(super) struct EventType {
    pub(super) name: String,
    pub(super) label: String,
}

/// A webhook that the operator should look at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    pub(super) webhook_id: Uuid,
    pub(super) org_id: String,
    pub(super) extension_key: Text,
    pub(super) health: State,
    pub(super) paused_until: Moment,
    pub(super) last_error: Text,
    pub(super) attempts: i64,
    pub(super) failed: i64,
    average_ms: f64,
}

impl Note {
    pub(super) fn average(&self) -> String {
        duration(self.average_ms)
    }
}

/// How delivering does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) under_way: usize,
    pub(super) in_memory: usize,
    pub(super) in_table: Count,
    pub(super) waiting_webhooks: usize,
    lag_seconds: Option<u64>,
    pub(super) unwell: Vec<Note>,
    pub(super) paused: Vec<Note>,
    pub(super) slowest: Vec<Note>,
    pub(super) most_failed: Vec<Note>,
}

impl Operation {
    pub(super) fn lag(&self) -> String {
        self.lag_seconds.map_or_else(|| "none".to_owned(), span)
    }
}

/// An API token.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token {
    pub(super) id: Uuid,
    pub(super) role: String,
    pub(super) org_id: Text,
    pub(super) vendor: Text,
    #[serde(deserialize_with = "or_default")]
    pub(super) scopes: Vec<String>,
    pub(super) name: Text,
    pub(super) created_at: Moment,
    pub(super) expires_at: Moment,
    pub(super) revoked_at: Moment,
    /// The value, where it was just made.
    #[serde(default)]
    pub(super) token: Text,
}

impl Token {
    pub(super) fn state(&self) -> State {
        State::new(if self.revoked_at.is_known() { "revoked" } else { "live" })
    }
}

/// What the reconciler found last.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastPass {
    pub(super) requested_by: Text,
    pub(super) report: Option<Report>,
    pub(super) held_since: Moment,
}

/// A report of the reconciler.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) started_time: Moment,
    pub(super) finished_time: Moment,
    pub(super) complete: bool,
    pub(super) installations: u64,
    pub(super) found: u64,
    pub(super) repaired: u64,
    pub(super) findings: Vec<Finding>,
}

/// Something that was not as it should be.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) kind: String,
    pub(super) subject: String,
    pub(super) org_id: Text,
    pub(super) installation_id: Option<Uuid>,
    pub(super) detail: String,
    pub(super) action: String,
    pub(super) repaired: bool,
}

/// A link of the audit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditLink {
    pub(super) org_id: String,
    pub(super) sequence: i64,
    pub(super) time: Moment,
    pub(super) actor: String,
    pub(super) address: Text,
    pub(super) action: String,
    pub(super) subject: String,
    detail: Value,
}

impl AuditLink {
    pub(super) fn detail(&self) -> String {
        if self.detail.is_null() { String::new() } else { self.detail.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_the_unit_that_people_would_use() {
        let said: Vec<_> = [5, 60, 300, 7_200, 200_000].map(span).into();
        assert_eq!(said, ["5 s", "60 s", "5 min", "2 h", "2 days"]);
    }

    #[test]
    fn subscriptions_of_every_shape_are_listed() {
        let webhook = |subscriptions: Value| Webhook {
            is_development: false,
            id: Uuid::nil(),
            org_id: String::new(),
            name: Text::default(),
            description: Text::default(),
            url: String::new(),
            subscriptions,
            is_enabled: true,
            ordered: false,
            locked: false,
            health: serde_json::from_value(serde_json::json!({
                "state": "ok", "since": null, "reason": null, "lastError": null,
                "lastSuccessAt": null, "lastFailureAt": null,
            }))
            .unwrap(),
            created_by: Text::default(),
            created_time: Moment::default(),
            modified_time: Moment::default(),
            extension: None,
            delivery: None,
        };
        let names = |value: Value| {
            webhook(value).subscribed().into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(serde_json::json!({"A": null, "B": {"fields": ["x"]}})), ["A", "B"]);
        assert_eq!(names(serde_json::json!(["C"])), ["C"]);
        assert!(names(Value::Null).is_empty());
    }
}
