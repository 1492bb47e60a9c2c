//! A lane: what waits in memory for one endpoint, and what is known of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::breaker::Breaker;
use super::pacer::Pacer;
use crate::seam::Timestamp;
use crate::store::committer::Place;
use crate::telemetry::traces::{OpenSpan, Trace};

/// How many first attempts may go ahead of a waiting retry.
pub(super) const AHEAD_LIMIT: u8 = 7;

/// How many times its cap a quick lane takes from the table at once.
const QUICK_WINDOW: usize = 8;

/// An event as deliveries need it; shared by all of them.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) org_id: Arc<str>,
    pub(super) event_type: Arc<str>,
    /// Milliseconds since the epoch.
    pub(super) event_time: i64,
    pub(super) payload: Bytes,
    pub(super) previous: Option<Bytes>,
    /// What of it only some dialects tell.
    pub(super) circumstances: Circumstances,
}

/// What surrounds an event.
#[derive(Debug, Default)]
pub(super) struct Circumstances {
    pub(super) department_id: Option<String>,
    pub(super) automation: bool,
    /// Who caused it, as JSON.
    pub(super) actor: Option<String>,
    /// Of which trace it is, where this node knows one.
    pub(super) trace: Option<Trace>,
}

/// What kind of endpoint a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A webhook.
    Webhook,
    /// A webhook whose deliveries go one after the other.
    OrderedWebhook,
    /// What third parties post to an extension. It has no webhook whose health could be kept.
    Incoming,
    /// The callbacks of an installation, which go one after the other too.
    Callback,
}

impl Kind {
    pub(super) fn is_ordered(self) -> bool {
        matches!(self, Self::OrderedWebhook | Self::Callback)
    }

    /// Whether there is a webhook behind it, with a health and somebody who can reactivate it.
    pub(super) fn has_webhook(self) -> bool {
        matches!(self, Self::Webhook | Self::OrderedWebhook)
    }
}

/// A delivery that this node holds and is to try.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) endpoint_id: Uuid,
    pub(super) generation: i32,
    pub(super) attempts_before: i32,
    pub(super) is_replay: bool,
    pub(super) kind: Kind,
    pub(super) content: Arc<Content>,
    /// What it tells of, where that is not just its event.
    pub(super) variant: Option<Arc<str>>,
    /// Until when a row that came from the table is ours; rows from memory are ours for good.
    pub(super) lease_until: Option<Timestamp>,
    /// Goes on with the result, and is given back when that is on disk.
    pub(super) place: Option<Place>,
    /// The attempt under way, where it is traced.
    pub(super) span: Option<OpenSpan>,
}

/// The lane of one endpoint.
#[expect(clippy::struct_excessive_bools, reason = "each of them is a fact of its own")]
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// First attempts go ahead of retries.
    pub(super) first: VecDeque<Job>,
    pub(super) retries: VecDeque<Job>,
    /// First attempts that went ahead of waiting retries, one after the other.
    pub(super) ahead: u8,
    pub(super) in_flight: usize,
    pub(super) is_ready: bool,
    pub(super) breaker: Breaker,
    /// The last attempt succeeded, and quickly.
    pub(super) is_quick: bool,
    /// More waits in the table than memory took.
    pub(super) has_more_in_table: bool,
    pub(super) cancel: CancellationToken,
    /// How many requests may be under way; nothing where it is as for all.
    pub(super) cap: Option<usize>,
    /// The rate, where it has one.
    pub(super) pacer: Option<Pacer>,
    /// The org whose own webhooks have their rate together, where it is one of them.
    pub(super) shared: Option<Arc<str>>,
    /// Whether it waits for its turn among them.
    pub(super) waits_in_turn: bool,
    /// Until when the lane waits for a token of its own.
    pub(super) paced_until: Option<Timestamp>,
    /// Places in memory that were promised just now, and when the last one was: what is accepted
    /// together is placed before any of it arrives here.
    pub(super) promised: (Timestamp, usize),
}

impl Lane {
    pub(super) fn queued(&self) -> usize {
        self.first.len() + self.retries.len()
    }

    /// First attempts go ahead of old retries, but not for ever.
    pub(super) fn pop(&mut self) -> Option<Job> {
        if self.ahead >= AHEAD_LIMIT
            && let Some(retry) = self.retries.pop_front()
        {
            self.ahead = 0;
            return Some(retry);
        }
        let Some(first) = self.first.pop_front() else { return self.retries.pop_front() };
        self.ahead = if self.retries.is_empty() { 0 } else { self.ahead.saturating_add(1) };
        Some(first)
    }

    /// Whether nothing is lost with the lane: it is idle, and a new one would be the same. One with
    /// terms of its own stays while its webhook delivers.
    pub(super) fn is_spent(&self) -> bool {
        self.in_flight == 0
            && self.queued() == 0
            && !self.has_more_in_table
            && self.breaker.is_fresh()
            && !self.is_ready
            && self.cap.is_none()
            && self.pacer.is_none()
            && self.shared.is_none()
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.first.front().or_else(|| self.retries.front()).is_some_and(|job| job.kind.is_ordered())
    }

    /// How many jobs memory takes from the table at once: a quick endpoint is through with them
    /// long before their lease ends.
    pub(super) fn window(&self, cap: usize) -> usize {
        if self.is_quick { cap.saturating_mul(QUICK_WINDOW) } else { cap }
    }
}

/// What came of a job, as far as its lane cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneOutcome {
    /// The endpoint took it.
    Success,
    /// The endpoint did not.
    Failure,
    /// It was not tried.
    Untried,
}

/// What follows from the end of a job.
#[derive(Debug, Default)]
pub(super) struct AfterJob {
    /// The breaker opened: what waited in memory goes back to the table until then.
    pub(super) paused: Option<(Timestamp, Vec<Job>)>,
    /// The breaker closed.
    pub(super) resumed: bool,
    /// The lane ran low while more waits in the table.
    pub(super) wants_refill: bool,
    /// Whoever waits for this lane to get shorter may look again.
    pub(super) is_short: bool,
}

/// A job whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) job: Job,
    /// Ends the attempt where its endpoint stops delivering.
    pub(super) cancel: CancellationToken,
}
