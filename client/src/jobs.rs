//! Jobs: deliveries sent again, versions rolled out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::Call;
use super::catalogue::Nothing;
use super::client::Client;
use super::error::Error;
use super::identifiers::{ExtensionKey, InstallationId, JobId, OrgId, WebhookId};
use super::operation;
use super::page::Pages;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum JobState {
    /// It has not begun.
    Queued,
    /// It goes on.
    Running,
    /// It did what it could.
    Done,
    /// Somebody called it off.
    Cancelled,
    /// It could not go on.
    Failed,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

impl JobState {
    /// Whether nothing more happens.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Other => "other",
        }
    }
}

/// A job of either kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Job {
    /// It sends deliveries again.
    Recovery(RecoveryJob),
    /// It rolls a version out.
    Rollout(RolloutJob),
}

impl Job {
    /// Its id.
    pub fn id(&self) -> JobId {
        match self {
            Self::Recovery(job) => job.job_id,
            Self::Rollout(job) => job.job_id,
        }
    }

    /// Its state.
    pub fn state(&self) -> JobState {
        match self {
            Self::Recovery(job) => job.state,
            Self::Rollout(job) => job.state,
        }
    }
}

/// A job that sends deliveries again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecoveryJob {
    /// Its id.
    pub job_id: JobId,
    /// `recover`, or `release` where a reactivation made it.
    pub kind: String,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The org.
    pub org_id: OrgId,
    /// The extension that owns the webhook.
    pub extension_key: Option<ExtensionKey>,
    /// Its state.
    pub state: JobState,
    /// Why it ended, where it is not done.
    pub reason: Option<String>,
    /// Which deliveries.
    pub filter: RecoveryFilter,
    /// How many in a second.
    pub per_second: u32,
    /// How many there are, as far as that is known.
    pub total: Option<u64>,
    /// Whether that is an estimate.
    pub total_is_estimate: bool,
    /// How many were looked at.
    pub processed: u64,
    /// How many are on their way again.
    pub requeued: u64,
    /// How many were passed over, by reason.
    pub skipped: Value,
    /// Who asked for it.
    pub created_by: String,
    /// When, RFC 3339.
    pub created_at: Option<String>,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// Which deliveries a job sends again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecoveryFilter {
    /// Made at this moment or later.
    pub since: Option<String>,
    /// Made before this moment.
    pub until: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Whose last answer had this status.
    pub status_code: Option<u16>,
}

/// A job that rolls a version out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RolloutJob {
    /// Its id.
    pub job_id: JobId,
    /// `rollout`.
    pub kind: String,
    /// The extension.
    pub extension_key: ExtensionKey,
    /// The version.
    pub version: String,
    /// Its state.
    pub state: JobState,
    /// Why it ended, where it is not done.
    pub reason: Option<String>,
    /// Which installations.
    pub filter: RolloutFilter,
    /// Whether it only counts.
    pub dry_run: bool,
    /// How many in a second.
    pub per_second: u32,
    /// How many there are.
    pub total: Option<u64>,
    /// How many were looked at.
    pub processed: u64,
    /// How many have the version now.
    pub upgraded: u64,
    /// How many had it before.
    pub unchanged: u64,
    /// How many wait for consent.
    pub waiting_for_consent: u64,
    /// How many were passed over.
    pub skipped: u64,
    /// For how many consent came too late.
    pub lapsed: u64,
    /// How many failed.
    pub failed: u64,
    /// The first of those; only where the job is asked for by itself.
    pub failures: Option<Vec<RolloutFailure>>,
    /// Who asked for it.
    pub created_by: String,
    /// When, RFC 3339.
    pub created_at: Option<String>,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// Which installations a version is rolled out over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RolloutFilter {
    /// In these orgs; none: all.
    pub org_ids: Option<Vec<String>>,
    /// Served by these versions; none: any.
    pub from_versions: Option<Vec<String>>,
}

/// An installation that could not be upgraded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RolloutFailure {
    /// The installation.
    pub installation_id: InstallationId,
    /// Why.
    pub reason: String,
}

/// Which jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JobFilter {
    /// Of this webhook.
    pub webhook_id: Option<WebhookId>,
    /// In this state.
    pub state: Option<JobState>,
    /// How many on a page, up to 200.
    pub limit: Option<u16>,
}

impl Client {
    /// Lists jobs, the latest first.
    pub fn jobs(&self, filter: &JobFilter) -> Pages<Job> {
        Pages::of(self, operation::JOBS, &[], filter)
    }

    /// Shows a job.
    pub async fn job(&self, id: JobId) -> Result<Job, Error> {
        self.send(Call::new(self, operation::JOB, &[&id])?).await
    }

    /// Calls a job off; what it did stays done.
    pub async fn cancel_job(&self, id: JobId) -> Result<Job, Error> {
        self.send(Call::new(self, operation::CANCEL_JOB, &[&id])?.json(&Nothing {})?).await
    }
}
