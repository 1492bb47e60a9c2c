//! Accepting events: matched, placed, written in a group, and only then answered.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::input::EventInput;
use crate::delivery::Dispatcher;
use crate::identifier::DepartmentId;
use crate::seam::{Seam, Timestamp};
use crate::store::StoreError;
use crate::store::committer::{
    Committer, EVENT_OVERHEAD, NewDelivery, NewEvent, NewMark, NoRoom, Placement, Written,
};
use crate::telemetry::traces;
use crate::webhook::matching::{Facts, passes};
use crate::webhook::{OrgRoutes, Routing};

/// How accepting is done.
#[derive(Clone, Copy, Debug)]
pub struct IntakeOptions {
    /// How long a caller waits for the disk before it is told to come back.
    pub patience: Duration,
}

/// Accepts events. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Intake {
    routing: Routing,
    dispatcher: Dispatcher,
    committer: Committer,
    seam: Seam,
    options: IntakeOptions,
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedEvent {
    /// The caller's id, or ours.
    pub event_id: String,
    /// How many deliveries it made.
    pub deliveries: usize,
    /// Whether an event with this id was there before.
    pub is_duplicate: bool,
}

/// All events of a request, on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// In the order of the request.
    pub events: Vec<AcceptedEvent>,
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// No room right now.
    #[error("no room for more events right now")]
    NoRoom,
    /// One org has its share of the room.
    #[error("org {org_id} has too many events waiting to be written; the others go on")]
    OrgFlood {
        /// The org.
        org_id: String,
    },
    /// The database does not answer in time. What was sent may yet be accepted; an `eventId` makes
    /// sending it again harmless.
    #[error("the database does not answer in time")]
    TooSlow,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NoRoom> for IntakeError {
    fn from(refusal: NoRoom) -> Self {
        match refusal {
            NoRoom::AtAll => Self::NoRoom,
            NoRoom::ForOrg(org) => Self::OrgFlood { org_id: org.to_string() },
        }
    }
}

/// The endpoints whose deliveries wait in memory.
fn lanes_in_memory(events: &[NewEvent]) -> Vec<Uuid> {
    let mut lanes: Vec<Uuid> = events
        .iter()
        .flat_map(|event| &event.deliveries)
        .filter(|delivery| delivery.placement == Placement::Memory)
        .map(|delivery| delivery.endpoint_id)
        .collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

/// The one field of a payload that intake may need.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadDepartment {
    #[serde(default)]
    department_id: Option<serde_json::Value>,
}

/// The department that a payload names.
pub(super) fn payload_department(payload: &[u8]) -> Option<String> {
    let read: PayloadDepartment = serde_json::from_slice(payload).ok()?;
    let id = match read.department_id? {
        serde_json::Value::String(id) => id,
        serde_json::Value::Number(id) => id.to_string(),
        _ => return None,
    };
    // What cannot be a department of the host is none.
    DepartmentId::new(id).ok().map(String::from)
}

impl Intake {
    /// Puts the parts together.
    pub fn new(
        routing: Routing,
        dispatcher: Dispatcher,
        committer: Committer,
        seam: Seam,
        options: IntakeOptions,
    ) -> Self {
        Self { routing, dispatcher, committer, seam, options }
    }

    /// Accepts the events of one request, all or none. `derived_key` gives a key to events that
    /// came without an id, so that a repeated request is found to be one.
    pub async fn accept(
        &self,
        inputs: Vec<EventInput>,
        derived_key: Option<&str>,
    ) -> Result<Accepted, IntakeError> {
        let mut names = Vec::with_capacity(inputs.len());
        let mut events = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            let caller_id = input.event_id.clone();
            let key =
                caller_id.clone().or_else(|| derived_key.map(|key| format!("\u{1}{key}:{index}")));
            let event = self.prepare(input, key);
            names.push((caller_id, event.id, event.deliveries.len()));
            events.push(event);
        }
        if events.is_empty() {
            return Ok(Accepted { events: Vec::new() });
        }
        let lanes = lanes_in_memory(&events);
        let written = self.committer.intake(events)?;
        let written = tokio::select! {
            written = written => written.map_err(|_| IntakeError::TooSlow)??,
            () = self.seam.clock.sleep(self.options.patience) => return Err(IntakeError::TooSlow),
        };
        // What was accepted is on disk: all that this puts off is the answer, and so the next request.
        self.dispatcher.pace(&lanes).await;
        let events =
            names.into_iter().zip(written).map(|((caller_id, id, deliveries), written)| {
                // A repeat of a request is answered as the request was.
                let is_repeat = caller_id.is_none();
                match written {
                    Written::New => AcceptedEvent {
                        event_id: caller_id.unwrap_or_else(|| id.to_string()),
                        deliveries,
                        is_duplicate: false,
                    },
                    Written::Duplicate { event_id, deliveries } => AcceptedEvent {
                        event_id: caller_id.unwrap_or_else(|| event_id.to_string()),
                        deliveries: usize::try_from(deliveries).unwrap_or(0),
                        is_duplicate: !is_repeat,
                    },
                }
            });
        Ok(Accepted { events: events.collect() })
    }

    /// Matches an event and finds places for its deliveries.
    fn prepare(&self, input: EventInput, event_key: Option<String>) -> NewEvent {
        let now = self.seam.clock.now();
        let id = self.seam.randomness.id();
        let department =
            input.department_id.map(String::from).or_else(|| payload_department(&input.payload));
        let (deliveries, marks) = match self.routing.org(input.org_id.as_str()) {
            Some(routes) => {
                let mut facts = Facts::new(&input.payload, input.previous.as_deref());
                facts.department_id = department.as_deref();
                facts.source_id = input.source_id.as_deref();
                facts.automation = input.automation;
                let bytes = EVENT_OVERHEAD
                    + input.payload.len()
                    + input.previous.as_ref().map_or(0, bytes::Bytes::len);
                let marks = routes.marks(input.event_type, &facts);
                let marks =
                    marks.into_iter().map(|(rule_id, subject)| NewMark { rule_id, subject });
                (self.fan_out(&routes, input.event_type, &facts, bytes, now), marks.collect())
            }
            None => (Vec::new(), Vec::new()),
        };
        if let Some(trace) = traces::current().filter(|_| !deliveries.is_empty()) {
            self.dispatcher.traces().remember(id, trace);
        }
        NewEvent {
            id,
            org_id: Arc::from(input.org_id.as_str()),
            event_type: Arc::from(input.event_type),
            department_id: department,
            event_time: input.event_time.unwrap_or_else(|| now.millis()),
            automation: input.automation,
            source_id: input.source_id,
            actor: input.actor.and_then(|actor| serde_json::to_string(&actor).ok()),
            event_key,
            accepted_at: now,
            payload: input.payload,
            previous: input.previous,
            deliveries,
            marks,
        }
    }

    fn fan_out(
        &self,
        routes: &OrgRoutes,
        event_type: &str,
        facts: &Facts<'_>,
        bytes: usize,
        now: Timestamp,
    ) -> Vec<NewDelivery> {
        routes
            .subscriptions(event_type)
            .iter()
            .filter(|subscription| {
                // Suspended, or off: no new deliveries are made.
                subscription.endpoint.passage.makes_deliveries()
                    && passes(&subscription.filter, facts).is_ok()
                    && subscription.tells_of(event_type, facts)
            })
            .map(|subscription| {
                let endpoint = &subscription.endpoint;
                let id: Uuid = self.seam.randomness.id();
                let wait = subscription.rule.as_ref().and_then(|rule| rule.after);
                let (placement, place) = match wait {
                    Some(wait) => (Placement::Later(now.plus(wait)), None),
                    None => self.dispatcher.place(endpoint, id, bytes),
                };
                NewDelivery {
                    id,
                    endpoint_id: endpoint.id,
                    generation: endpoint.generation,
                    placement,
                    place,
                    variant: subscription.name.clone(),
                }
            })
            .collect()
    }
}
