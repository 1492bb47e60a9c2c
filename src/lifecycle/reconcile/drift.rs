//! Kinds of drift, and what a pass tells of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many findings a report lists; the counts are of all of them.
const MOST_LISTED: usize = 500;

/// Defines the kinds: variant, name in answers, meaning.
macro_rules! kinds {
    ($($variant:ident, $name:literal, $meaning:literal;)+) => {
        /// How what is there can differ from what should be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DriftKind {
            $(#[doc = $meaning] $variant,)+
        }

        impl DriftKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in answers.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

kinds! {
    WebhookMissing, "webhook.missing",
        "An active installation lacks a webhook that its version declares.";
    WebhookExtra, "webhook.extra",
        "An installation has a webhook that its version does not declare, or has one before it is authorised.";
    WebhookDuplicate, "webhook.duplicate",
        "An installation has a second webhook with the address of the declared one.";
    WebhookEdited, "webhook.edited",
        "A column of an extension's webhook is not what the version would provision.";
    WebhookUrl, "webhook.wrong-url",
        "The address of an extension's webhook is not the declared one.";
    WebhookDisabled, "webhook.disabled",
        "An extension's webhook is switched off below the API.";
    WebhookOwner, "webhook.wrong-owner",
        "An extension's webhook names another org, extension or installation than its own.";
    WebhookContext, "webhook.wrong-generation",
        "An extension's webhook has another generation, and so another securityContext, than its installation.";
    WebhookZombie, "webhook.zombie",
        "A webhook outlived its installation.";
    EndpointEdited, "endpoint.edited",
        "The row that gives deliveries their tenant is missing, or names another one.";
    DeliveryZombie, "delivery.zombie",
        "Deliveries are queued for a webhook that is no more.";
    ConnectionMissing, "connection.missing",
        "An active installation with an authorisation has no tokens.";
    ConnectionUnreadable, "connection.unreadable",
        "Tokens cannot be unsealed.";
    ConnectionExpired, "connection.expired",
        "An access token has expired and there is none to refresh it with.";
    ConnectionZombie, "connection.zombie",
        "Tokens belong to no authorised installation.";
    SecretZombie, "secret.zombie",
        "Sealed parameters outlived their installation.";
    AuthorizationZombie, "authorization.zombie",
        "States of an authorisation outlived their installation.";
    AuthorizationExpired, "authorization.expired",
        "States of an authorisation expired long ago and are still there.";
    UpgradeZombie, "upgrade.zombie",
        "An upgrade waits for an installation that ended.";
    ExchangeZombie, "exchange.zombie",
        "An exchange of a code that nobody finished outlived its installation.";
    ErasureMissing, "erasure.missing",
        "An installation ended, and the erasure of what is kept of it is not scheduled.";
    RevocationUnreadable, "revocation.unreadable",
        "A token that is to be revoked cannot be unsealed.";
    CleanupStuck, "cleanup.stuck",
        "A clean-up is said to be pending, and nothing of it is left to do.";
    CleanupHidden, "cleanup.hidden",
        "A clean-up is said to be done, and tokens still wait to be revoked.";
    StateContradiction, "installation.contradiction",
        "An installation is said to live in a state that is an end, or the other way round.";
    StateUnreadable, "installation.unreadable",
        "The state or the version of an installation cannot be read by this release.";
    RoutingStale, "routing.stale",
        "What this node routes by is not what the database says.";
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The kind, such as `webhook.missing`.
    pub kind: String,
    /// What it is about, such as `webhook:0198…`.
    pub subject: String,
    /// The org.
    pub org_id: Option<String>,
    /// The extension.
    pub extension_key: Option<String>,
    /// The installation.
    pub installation_id: Option<Uuid>,
    /// What is wrong; never a secret.
    pub detail: String,
    /// What a repair does about it.
    pub action: String,
    /// Whether this pass repaired it.
    pub repaired: bool,
}

/// What a pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it began (RFC 3339).
    pub started_time: String,
    /// When it ended.
    pub finished_time: String,
    /// Whether it was allowed to repair.
    pub repair: bool,
    /// Whether it came to the end; otherwise `next` goes on.
    pub complete: bool,
    /// Where a pass that ran out of time goes on: give it as `after`.
    pub next: Option<String>,
    /// How many live installations were compared.
    pub installations: u64,
    /// How many things were found.
    pub found: u64,
    /// How many of them were repaired.
    pub repaired: u64,
    /// How many installations were left for the next pass, since others were changing them.
    pub skipped: u64,
    /// How many were found of each kind.
    pub counts: BTreeMap<String, u64>,
    /// What was found, up to 500.
    pub findings: Vec<Finding>,
    /// The orgs of which something was found: their routing is compared in the next pass.
    #[serde(skip)]
    pub(super) touched: BTreeSet<String>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.found += 1;
        self.repaired += u64::from(finding.repaired);
        *self.counts.entry(finding.kind.clone()).or_default() += 1;
        self.touched.extend(finding.org_id.clone());
        if self.findings.len() < MOST_LISTED {
            self.findings.push(finding);
        }
    }

    /// Adds what the continuation of a pass found.
    pub fn join(&mut self, next: Self) {
        self.finished_time = next.finished_time;
        self.complete = next.complete;
        self.next = next.next;
        self.installations += next.installations;
        self.found += next.found;
        self.repaired += next.repaired;
        self.skipped += next.skipped;
        for (kind, count) in next.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        let room = MOST_LISTED.saturating_sub(self.findings.len());
        self.findings.extend(next.findings.into_iter().take(room));
    }

    /// The counts in words.
    pub fn summary(&self) -> String {
        if self.found == 0 {
            return format!("{} live installations, nothing to repair", self.installations);
        }
        let kinds: Vec<String> =
            self.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{} found, {} repaired: {}", self.found, self.repaired, kinds.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_reports_are_bounded() {
        let mut names: Vec<_> = DriftKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DriftKind::ALL.len());
        let mut report = Report::default();
        for number in 0..2_000 {
            report.add(Finding {
                kind: "webhook.missing".to_owned(),
                subject: number.to_string(),
                org_id: None,
                extension_key: None,
                installation_id: None,
                detail: String::new(),
                action: String::new(),
                repaired: number % 2 == 0,
            });
        }
        assert_eq!((report.found, report.repaired, report.findings.len()), (2_000, 1_000, 500));
        assert_eq!(report.summary(), "2000 found, 1000 repaired: 2000 webhook.missing");
    }
}
