//! The doctor: whether everything that a server stands on is as it should be, and the way back after
//! a restored backup.
//!
//! Checks read only. What they find is said with what to do about it; what the reconciler can repair
//! is its business.

mod configuration;
mod database;
mod files;
mod marketplace;
mod restore;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use marketplace::{Listed, MarketplaceList, UnreadableList};
pub use restore::{AfterRestore, RestoreError, RestoreReport, after_restore, release};

use self::database::AuditLimits;
pub use self::database::AuditStretch;
use crate::audit::AuditPosition;
use crate::config::Config;
use crate::seam::Seam;
use crate::store::Store;

/// What the notice of a hold is about.
pub const HOLD_SUBJECT: &str = "deliveries";

/// What a check came to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It is as it should be.
    Ok,
    /// It works, and somebody should look.
    Warning,
    /// It is not as it must be.
    Problem,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What was looked at, such as `keys`.
    pub name: String,
    /// What it came to.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do; nothing where nothing is to be done.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, detail: detail.into(), advice: None }
    }

    fn warning(name: &str, detail: impl Into<String>, advice: &str) -> Self {
        let status = Status::Warning;
        Self { status, advice: Some(advice.to_owned()), ..Self::ok(name, detail) }
    }

    fn problem(name: &str, detail: impl Into<String>, advice: &str) -> Self {
        let status = Status::Problem;
        Self { status, advice: Some(advice.to_owned()), ..Self::ok(name, detail) }
    }
}

/// Checks the configuration and what it names on this machine.
pub fn examine_machine(config: &Config) -> Vec<Check> {
    let mut checks = configuration::examine(config);
    checks.extend(files::examine(config));
    checks
}

/// How many links of the audit one answer looks at, at the most.
pub const MOST_LINKS: u64 = 100_000;

/// How long one answer may read the audit: callers wait longer.
const AUDIT_TIME: Duration = Duration::from_secs(8);

/// Checks everything, the whole audit too.
pub async fn examine(config: &Config, store: &Store, seam: &Seam) -> Vec<Check> {
    let mut checks = examine_machine(config);
    checks.extend(database::whole(store).await);
    let limits = AuditLimits { links: u64::MAX, time: None };
    checks.extend(database::examine(config, store, seam, limits).await.0);
    checks
}

/// Why a restored file must not be used; nothing where it is whole, or the database is not a file.
pub async fn broken_file(store: &Store) -> Option<Check> {
    database::whole(store).await.filter(|check| check.status != Status::Ok)
}

/// Checks everything, and of the audit as much as an answer has time for: says where to go on.
pub async fn examine_briefly(
    config: &Config,
    store: &Store,
    seam: &Seam,
    links: u64,
) -> (Vec<Check>, AuditStretch) {
    let mut checks = examine_machine(config);
    let limits = AuditLimits { links, time: Some(AUDIT_TIME) };
    let (more, stretch) = database::examine(config, store, seam, limits).await;
    checks.extend(more);
    (checks, stretch)
}

/// Goes on with the audit where an answer stopped.
pub(crate) async fn examine_audit(
    store: &Store,
    seam: &Seam,
    after: &AuditPosition,
    links: u64,
) -> (Vec<Check>, AuditStretch) {
    let limits = AuditLimits { links, time: Some(AUDIT_TIME) };
    match database::audit_chains(store, Some(after), limits, seam).await {
        Ok((check, stretch)) => (vec![check], stretch),
        Err(error) => (vec![database::unreadable(&error)], AuditStretch::default()),
    }
}
