//! Webhooks: whose they are, how they do, and what came of trying them.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::Own;
use crate::web::chart::{Bucket, Chart};
use crate::web::parts::{
    Copy, Count, Moment, State, Text, counted, duration, or_default, percent, pretty_text,
};

/// A webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "it is what the API answers")]
pub(in crate::web) struct Webhook {
    pub(in crate::web) id: Uuid,
    pub(in crate::web) org_id: String,
    pub(in crate::web) name: Text,
    pub(in crate::web) description: Text,
    pub(in crate::web) url: String,
    pub(in crate::web) subscriptions: Value,
    pub(in crate::web) is_enabled: bool,
    #[serde(default)]
    pub(in crate::web) ordered: bool,
    pub(in crate::web) locked: bool,
    pub(in crate::web) health: Health,
    pub(in crate::web) created_by: Text,
    pub(in crate::web) created_time: Moment,
    pub(in crate::web) modified_time: Moment,
    pub(in crate::web) extension: Option<Owner>,
    #[serde(default)]
    pub(in crate::web) delivery: Option<Terms>,
    #[serde(default)]
    pub(in crate::web) ignore_source_id: Text,
    #[serde(default, deserialize_with = "or_default")]
    include_events_from: Vec<String>,
    #[serde(default)]
    is_development: bool,
    /// What only an org's own has.
    #[serde(flatten)]
    pub(in crate::web) own: Option<Own>,
}

/// An event type with what is asked of it.
#[derive(Debug)]
pub(in crate::web) struct Subscribed {
    pub(in crate::web) name: String,
    pub(in crate::web) options: String,
}

impl Webhook {
    pub(in crate::web) fn title(&self) -> String {
        self.name.or_text("Webhook without a name").to_owned()
    }

    /// Whose it is, in words.
    pub(in crate::web) fn owner(&self) -> String {
        match &self.extension {
            Some(owner) => owner.extension_name.or_text(&owner.extension_key).to_owned(),
            None if self.is_development => {
                "The org's own; the org is for development: private addresses and plain http are allowed"
                    .to_owned()
            }
            None => "The org's own".to_owned(),
        }
    }

    /// Whether it gets events that automation caused.
    pub(in crate::web) fn gets_automation(&self) -> bool {
        self.include_events_from.iter().any(|from| from == "AUTOMATION")
    }

    /// Whether nothing of what comes is sent until somebody makes it live again.
    pub(in crate::web) fn is_off(&self) -> bool {
        self.health.state.is_named("gone") || self.health.state.is_named("disabled")
    }

    pub(in crate::web) fn url_copy(&self) -> Copy {
        Copy::new(&self.url, "the address")
    }

    pub(in crate::web) fn id_copy(&self) -> Copy {
        Copy::new(self.id.to_string(), "the webhook's id")
    }

    /// What it subscribes to: an object by event type, or a list of names.
    pub(in crate::web) fn subscribed(&self) -> Vec<Subscribed> {
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
pub(in crate::web) struct Owner {
    pub(in crate::web) extension_key: String,
    pub(in crate::web) extension_name: Text,
    pub(in crate::web) version: Text,
    pub(in crate::web) installation_id: Option<Uuid>,
}

/// How an endpoint does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Health {
    pub(in crate::web) state: State,
    pub(in crate::web) since: Moment,
    pub(in crate::web) reason: Text,
    pub(in crate::web) last_error: Text,
    pub(in crate::web) last_success_at: Moment,
    pub(in crate::web) last_failure_at: Moment,
    #[serde(default)]
    pub(in crate::web) consecutive_failures: i64,
    #[serde(default)]
    pub(in crate::web) paused_until: Moment,
}

/// The terms of delivery.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Terms {
    pub(in crate::web) schedule: Vec<u64>,
    pub(in crate::web) deadline_seconds: u64,
    concurrency: u64,
    pub(in crate::web) rate_per_minute: Option<u64>,
}

impl Terms {
    /// How often and when it is tried, in words.
    pub(in crate::web) fn attempts(&self) -> String {
        let waits: Vec<String> = self.schedule.iter().map(|seconds| span(*seconds)).collect();
        if waits.is_empty() {
            return "once".to_owned();
        }
        format!("{} times: at once, then after {}", waits.len() + 1, waits.join(", "))
    }

    /// How many requests go at a time, in words.
    pub(in crate::web) fn at_a_time(&self) -> String {
        let most = i64::try_from(self.concurrency).unwrap_or(i64::MAX);
        counted(most, "request", "requests")
    }
}

/// A span of seconds as people say it.
pub(in crate::web) fn span(seconds: u64) -> String {
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
pub(in crate::web) struct Statistics {
    time: Moment,
    last24_hours: Span,
    last30_days: Span,
    hours: Vec<Hour>,
    answer_times: Option<Times>,
    pub(in crate::web) waiting: Count,
    pub(in crate::web) held: Count,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    succeeded: i64,
    failed: i64,
    success_rate: Option<f64>,
}

impl Span {
    fn attempts(&self) -> String {
        counted(self.succeeded.saturating_add(self.failed), "attempt", "attempts")
    }
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

    pub(in crate::web) fn day(&self) -> Chart {
        self.chart(24, 1)
    }

    pub(in crate::web) fn month(&self) -> Chart {
        self.chart(30, 24)
    }

    pub(in crate::web) fn day_rate(&self) -> String {
        percent(self.last24_hours.success_rate)
    }

    pub(in crate::web) fn month_rate(&self) -> String {
        percent(self.last30_days.success_rate)
    }

    /// How many attempts the rate of the day is of.
    pub(in crate::web) fn day_attempts(&self) -> String {
        self.last24_hours.attempts()
    }

    /// The same of the month.
    pub(in crate::web) fn month_attempts(&self) -> String {
        self.last30_days.attempts()
    }

    pub(in crate::web) fn half(&self) -> String {
        self.answer_times.as_ref().map_or_else(|| "–".to_owned(), |times| duration(times.p50_ms))
    }

    pub(in crate::web) fn most(&self) -> String {
        self.answer_times.as_ref().map_or_else(|| "–".to_owned(), |times| duration(times.p95_ms))
    }

    /// Of how many answers the times are, in words.
    pub(in crate::web) fn sample(&self) -> String {
        match self.answer_times.as_ref().map_or(0, |times| times.sample) {
            0 => "none answered yet".to_owned(),
            1 => "of the only one answered".to_owned(),
            many => format!("of the last {many} answered"),
        }
    }
}

/// What came of a test or ping.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Trial {
    pub(in crate::web) outcome: State,
    pub(in crate::web) by: String,
    pub(in crate::web) hint: Text,
    pub(in crate::web) error: Text,
    pub(in crate::web) request: TrialRequest,
    pub(in crate::web) response: Option<TrialResponse>,
    duration_ms: f64,
}

impl Trial {
    /// What came of it and whose doing that is, in words.
    pub(in crate::web) fn what(&self) -> &'static str {
        let by_mortise = self.by == "mortise";
        if self.outcome.is_named("delivered") {
            "The endpoint took it."
        } else if self.outcome.is_named("refused") {
            "Nothing was sent: this address may not be called."
        } else if self.response.is_some() {
            "The endpoint answered, but not with success."
        } else if by_mortise {
            "This server could not send it."
        } else {
            "No answer came from the endpoint."
        }
    }

    pub(in crate::web) fn duration(&self) -> String {
        duration(self.duration_ms)
    }
}

/// The request of a test.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct TrialRequest {
    pub(in crate::web) method: String,
    pub(in crate::web) url: String,
    pub(in crate::web) headers: Vec<(String, String)>,
    body: String,
}

impl TrialRequest {
    pub(in crate::web) fn body(&self) -> String {
        pretty_text(&self.body)
    }
}

/// The answer to a test.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct TrialResponse {
    pub(in crate::web) status: u16,
    pub(in crate::web) headers: Vec<(String, String)>,
    body: String,
    pub(in crate::web) truncated: bool,
}

impl TrialResponse {
    pub(in crate::web) fn body(&self) -> String {
        pretty_text(&self.body)
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
            ignore_source_id: Text::default(),
            include_events_from: Vec::new(),
            own: None,
        };
        let names = |value: Value| {
            webhook(value).subscribed().into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(serde_json::json!({"A": null, "B": {"fields": ["x"]}})), ["A", "B"]);
        assert_eq!(names(serde_json::json!(["C"])), ["C"]);
        assert!(names(Value::Null).is_empty());
    }
}
