//! Deliveries with their attempts, and the events that they are of.
#![expect(clippy::struct_field_names, reason = "members are named as the API names them")]

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::web::chart::Phases;
use crate::web::parts::{Copy, Moment, State, Text, duration, pretty, pretty_text};
use crate::web::words;

/// A delivery.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Delivery {
    pub(in crate::web) id: Uuid,
    pub(in crate::web) event_id: String,
    pub(in crate::web) event_type: String,
    #[serde(default)]
    event_name: Text,
    pub(in crate::web) webhook_id: Uuid,
    pub(in crate::web) org_id: String,
    pub(in crate::web) installation_id: Option<Uuid>,
    pub(in crate::web) extension_key: Text,
    pub(in crate::web) state: State,
    pub(in crate::web) next_attempt_time: Moment,
    pub(in crate::web) created_time: Moment,
    pub(in crate::web) attempts_made: i64,
    pub(in crate::web) attempts: Vec<Attempt>,
}

impl Delivery {
    /// What the webhook's dialect calls the event, where that is another name; the rule that sent
    /// it, for those of triggers and automations.
    pub(in crate::web) fn told_as(&self) -> Option<&str> {
        let name = self.event_name.as_str().split(':').next().unwrap_or_default();
        (!name.is_empty() && name != self.event_type).then_some(name)
    }

    pub(in crate::web) fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    pub(in crate::web) fn id_copy(&self) -> Copy {
        Copy::new(self.id.to_string(), "the delivery's id")
    }

    pub(in crate::web) fn event_copy(&self) -> Copy {
        Copy::new(&self.event_id, "the event's id")
    }

    /// The event's page.
    pub(in crate::web) fn event_href(&self) -> String {
        crate::web::visit::with_query(
            &format!("/pages/events/{}", crate::web::visit::segment(&self.event_id)),
            &[("org", &self.org_id)],
        )
    }
}

/// One attempt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Attempt {
    pub(in crate::web) number: i64,
    pub(in crate::web) time: Moment,
    pub(in crate::web) status: Option<i64>,
    pub(in crate::web) error: Text,
    pub(in crate::web) message: Text,
    pub(in crate::web) hint: Text,
    duration_ms: f64,
    /// Whether somebody had it sent again.
    #[serde(default)]
    pub(in crate::web) replay: bool,
    /// Placeholders that had no value.
    #[serde(default)]
    pub(in crate::web) empty_placeholders: Vec<String>,
    phases: PhaseTimes,
    pub(in crate::web) address: Text,
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
    pub(in crate::web) fn duration(&self) -> String {
        duration(self.duration_ms)
    }

    pub(in crate::web) fn phases(&self) -> Vec<crate::web::chart::Phase> {
        Phases {
            dns: self.phases.dns,
            connect: self.phases.connect,
            first_byte: self.phases.first_byte,
            body: self.phases.body,
        }
        .parts()
    }

    pub(in crate::web) fn is_success(&self) -> bool {
        !self.error.is_known() && self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// What it came to, in words.
    pub(in crate::web) fn outcome(&self) -> String {
        match (self.status, self.error.is_known()) {
            (Some(status), _) => format!("answered {status}"),
            (None, true) => words::error(self.error.as_str())
                .map_or_else(|| format!("no answer ({})", self.error), str::to_owned),
            (None, false) => "no answer".to_owned(),
        }
    }

    pub(in crate::web) fn headers(&self) -> &[(String, String)] {
        &self.response.headers
    }

    pub(in crate::web) fn body(&self) -> String {
        pretty_text(self.response.body.as_str())
    }

    pub(in crate::web) fn has_body(&self) -> bool {
        self.response.body.is_known()
    }

    pub(in crate::web) fn is_truncated(&self) -> bool {
        self.response.truncated
    }
}

/// What a delivery is sent as.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Request {
    pub(in crate::web) method: String,
    pub(in crate::web) url: Text,
    pub(in crate::web) headers: Vec<(String, String)>,
    body: Option<String>,
    pub(in crate::web) truncated: bool,
    pub(in crate::web) length: usize,
}

impl Request {
    pub(in crate::web) fn body(&self) -> Option<String> {
        self.body.as_deref().map(pretty_text)
    }
}

/// An event, and what became of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Event {
    pub(in crate::web) event_id: String,
    pub(in crate::web) event_type: String,
    pub(in crate::web) org_id: String,
    pub(in crate::web) department_id: Text,
    pub(in crate::web) event_time: Moment,
    pub(in crate::web) accepted_time: Moment,
    pub(in crate::web) origin: String,
    pub(in crate::web) source_id: Text,
    payload: Value,
    pub(in crate::web) webhooks: Vec<Verdict>,
}

impl Event {
    pub(in crate::web) fn payload_text(&self) -> String {
        pretty(&self.payload)
    }
}

/// Whether an event went to a webhook.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct Verdict {
    pub(in crate::web) webhook_id: Uuid,
    pub(in crate::web) extension_key: Text,
    pub(in crate::web) matched: bool,
    pub(in crate::web) rule: Text,
    pub(in crate::web) reason: Text,
    pub(in crate::web) delivery: Option<Delivery>,
}
