//! What is wrong with one installation, and what a repair does about it. Pure: the facts go in, the
//! judgements come out.

use uuid::Uuid;

use super::desired::{desired, differences};
use super::drift::DriftKind;
use super::facts::Facts;
use crate::crypto::KeyRing;
use crate::lifecycle::applying::extension_webhook;
use crate::lifecycle::state::Phase;
use crate::oauth;
use crate::oauth::exchanges::GIVE_UP_AFTER;
use crate::seam::Timestamp;
use crate::store::entity::{connection, endpoint, webhook};
use crate::webhook::provisioning::NewExtensionWebhook;

/// How long after it is given up an exchange may still be there.
const SPARE: std::time::Duration = std::time::Duration::from_hours(1);

/// Exchanges from before this are finished by nobody any more.
pub(super) fn given_up(now: Timestamp) -> Timestamp {
    now.minus(GIVE_UP_AFTER + SPARE)
}

/// What a repair does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Nothing here can: somebody must look.
    Report,
    /// The row says that the installation ended.
    End,
    /// The webhook goes, with what is queued for it.
    RemoveWebhook(Uuid),
    /// The webhook is written as it should be, under its id; a new one where none is known.
    RestoreWebhook(Option<Uuid>, Box<NewExtensionWebhook>),
    /// The endpoint row is written as it should be.
    RestoreEndpoint(Uuid, &'static str),
    /// What is remembered of webhooks goes.
    Forget,
    /// Tokens go into the revocation job.
    RevokeConnections,
    /// The connection is said to be broken, with the reason; where it has no row, the installation
    /// says so alone.
    BreakConnection(Option<Uuid>, &'static str),
    /// The upgrade that waits is settled, and what came with it goes.
    SettleUpgrades,
    /// Exchanges that nobody finishes any more go.
    DropExchanges,
    /// The erasure is entered, at the date of the policy.
    ScheduleErasure,
    /// Sealed parameters go.
    WipeSecrets,
    /// States of authorisations go.
    DropRequests,
    /// The clean-up is said to be so.
    SetCleanup(&'static str),
}

impl Step {
    fn action(&self) -> &'static str {
        match self {
            Self::Report => "none: it must be looked at",
            Self::End => "the installation is marked as uninstalled",
            Self::RemoveWebhook(_) => "the webhook is removed, with what is queued for it",
            Self::RestoreWebhook(Some(_), _) => "the webhook is restored in place",
            Self::RestoreWebhook(None, _) => "the webhook is provisioned",
            Self::RestoreEndpoint(..) => "the row is restored in place",
            Self::Forget => "the record is removed",
            Self::RevokeConnections => "the tokens go into the revocation job",
            Self::BreakConnection(..) => "the connection is marked as broken: authorise it again",
            Self::SettleUpgrades => "the upgrade is settled, and what came with it is removed",
            Self::DropExchanges => "the exchanges are removed",
            Self::ScheduleErasure => "the erasure is scheduled",
            Self::WipeSecrets => "the secrets are removed",
            Self::DropRequests => "the states are removed",
            Self::SetCleanup(_) => "the clean-up is marked as it is",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) kind: DriftKind,
    pub(super) subject: String,
    pub(super) detail: String,
    pub(super) step: Step,
}

impl Judgement {
    /// What a repair does, in words.
    pub(super) fn action(&self) -> &'static str {
        self.step.action()
    }

    /// Whether a repair does anything.
    pub(super) fn can_be_repaired(&self) -> bool {
        !matches!(self.step, Step::Report)
    }
}

struct Judge<'f> {
    facts: &'f Facts,
    now: Timestamp,
    found: Vec<Judgement>,
}

/// Judges one installation.
pub(super) fn judge(facts: &Facts, now: Timestamp) -> Vec<Judgement> {
    let mut judge = Judge { facts, now, found: Vec::new() };
    let row = &facts.row;
    let Some(phase) = Phase::from_name(&row.state) else {
        let detail = format!("its state is `{}`, which this release does not know", row.state);
        judge.note_installation(DriftKind::StateUnreadable, detail, Step::Report);
        return judge.found;
    };
    let is_live = row.live == 1;
    if is_live != phase.is_live() {
        let detail = format!("its state is `{}`, and it is said to live: {is_live}", row.state);
        judge.note_installation(DriftKind::StateContradiction, detail, Step::End);
    }
    if is_live && phase.is_live() {
        judge.living(phase);
    } else {
        judge.ended();
    }
    judge.found
}

impl Judge<'_> {
    fn note(&mut self, kind: DriftKind, subject: String, detail: String, step: Step) {
        self.found.push(Judgement { kind, subject, detail, step });
    }

    fn note_installation(&mut self, kind: DriftKind, detail: String, step: Step) {
        self.note(kind, format!("installation:{}", self.facts.row.id), detail, step);
    }

    fn ended(&mut self) {
        let facts = self.facts;
        let row = &facts.row;
        for webhook in &facts.webhooks {
            self.note(
                DriftKind::WebhookZombie,
                format!("webhook:{}", webhook.id),
                "it is still there after the end of its installation".to_owned(),
                Step::RemoveWebhook(webhook.id),
            );
        }
        if facts.webhooks.is_empty() && !facts.remembered.is_empty() {
            let detail = "the record of its webhook is still there".to_owned();
            self.note_installation(DriftKind::WebhookZombie, detail, Step::Forget);
        }
        for connection in &facts.connections {
            self.note(
                DriftKind::ConnectionZombie,
                format!("connection:{}", connection.id),
                format!("the tokens of {} outlived the installation", connection.name),
                Step::RevokeConnections,
            );
        }
        if row.sealed_config.is_some() || !row.request_digest.is_empty() {
            let detail = "sealed parameters are still there".to_owned();
            self.note_installation(DriftKind::SecretZombie, detail, Step::WipeSecrets);
        }
        if facts.requests > 0 {
            let detail = format!("{} states of its authorisation are there", facts.requests);
            self.note_installation(DriftKind::AuthorizationZombie, detail, Step::DropRequests);
        }
        if facts.upgrades > 0 || row.waiting_upgrade_id.is_some() {
            let detail = "an upgrade waits for consent that nobody can give".to_owned();
            self.note_installation(DriftKind::UpgradeZombie, detail, Step::SettleUpgrades);
        }
        let limit = given_up(self.now).micros();
        let abandoned = facts.exchanges.iter().filter(|began| **began < limit).count();
        if abandoned > 0 {
            let detail = format!("{abandoned} exchanges of a code were never finished");
            self.note_installation(DriftKind::ExchangeZombie, detail, Step::DropExchanges);
        }
        let is_kept = row.live == 0 && row.state == Phase::Uninstalled.name();
        if is_kept && row.erased_at.is_none() && (row.erase_at.is_none() || !facts.has_erasure) {
            let detail = "what is kept of it would never be erased".to_owned();
            self.note_installation(DriftKind::ErasureMissing, detail, Step::ScheduleErasure);
        }
        if !facts.connections.is_empty() {
            return;
        }
        // Each code that is being exchanged may bring tokens: clean-up waits for it too.
        let awaited = facts.revocations + facts.exchanges.len() - abandoned;
        if row.cleanup == "pending" && awaited == 0 {
            let detail = "its clean-up is pending, and no token waits to be revoked".to_owned();
            self.note_installation(DriftKind::CleanupStuck, detail, Step::SetCleanup("done"));
        } else if row.cleanup != "pending" && awaited > 0 {
            let detail = format!("{awaited} tokens wait to be revoked");
            self.note_installation(DriftKind::CleanupHidden, detail, Step::SetCleanup("pending"));
        }
    }

    fn living(&mut self, phase: Phase) {
        let facts = self.facts;
        let Some(declared) = facts.declared.clone() else {
            let detail = "the version that serves it is missing or cannot be read".to_owned();
            self.note_installation(DriftKind::StateUnreadable, detail, Step::Report);
            return;
        };
        if !self.has_endpoint(facts.row.id, "lifecycle") {
            self.note(
                DriftKind::EndpointEdited,
                format!("endpoint:{}", facts.row.id),
                "the lane of its callbacks is missing or another tenant's".to_owned(),
                Step::RestoreEndpoint(facts.row.id, "lifecycle"),
            );
        }
        let is_active = phase == Phase::Active;
        let chosen = match &declared.webhook {
            Some(resource) if is_active => self.declared_webhook(resource),
            _ => None,
        };
        let wanted_url = declared.webhook.as_ref().map(|resource| resource.url.to_string());
        for webhook in &facts.webhooks {
            if chosen != Some(webhook.id) && !self.is_of_another(webhook) {
                self.surplus(webhook, is_active, wanted_url.as_deref());
            }
        }
        self.connections(is_active, declared.authorises);
    }

    /// Compares the declared webhook; says which row is the one.
    fn declared_webhook(&mut self, resource: &crate::manifest::WebhookResource) -> Option<Uuid> {
        let facts = self.facts;
        let name = resource.resource_name.replace('\0', "\u{fffd}");
        let remembered = facts.remembered.iter().find(|one| one.resource_name == name);
        let own = |one: &&webhook::Model| one.installation_id == Some(facts.row.id);
        let row = remembered
            .and_then(|known| facts.webhooks.iter().find(|one| one.id == known.webhook_id))
            .or_else(|| {
                let named = |one: &&webhook::Model| one.resource_name.as_ref() == Some(&name);
                facts.webhooks.iter().filter(own).find(named)
            })
            .or_else(|| {
                // Moved or renamed: its endpoint still says whose it is.
                facts.webhooks.iter().find(|one| {
                    self.endpoint(one.id)
                        .is_some_and(|endpoint| endpoint.installation_id == Some(facts.row.id))
                })
            });
        let wanted = desired(resource, &facts.row, remembered, row);
        let wanted = extension_webhook(&facts.row, &wanted);
        let Some(row) = row else {
            let id = remembered.map(|known| known.webhook_id).or_else(|| self.lost_endpoint());
            let subject = match id {
                Some(id) => format!("webhook:{id}"),
                None => format!("installation:{}", facts.row.id),
            };
            let detail = format!("it has no webhook `{name}`");
            let step = Step::RestoreWebhook(id, Box::new(wanted));
            self.note(DriftKind::WebhookMissing, subject, detail, step);
            return id;
        };
        let id = row.id;
        for (kind, columns) in differences(&wanted, row) {
            let detail = format!("not as provisioned: {}", columns.join(", "));
            let step = Step::RestoreWebhook(Some(id), Box::new(wanted.clone()));
            self.note(kind, format!("webhook:{id}"), detail, step);
        }
        if !self.has_endpoint(id, "webhook") {
            self.note(
                DriftKind::EndpointEdited,
                format!("endpoint:{id}"),
                "the row is missing or another tenant's".to_owned(),
                Step::RestoreEndpoint(id, "webhook"),
            );
        }
        Some(id)
    }

    /// The id of a webhook whose row was lost, where only one can be meant.
    fn lost_endpoint(&self) -> Option<Uuid> {
        let facts = self.facts;
        let mut lost = facts.endpoints.iter().filter(|one| {
            one.lane == "webhook"
                && one.installation_id == Some(facts.row.id)
                && !facts.webhooks.iter().any(|webhook| webhook.id == one.id)
        });
        match (lost.next(), lost.next()) {
            (Some(one), None) => Some(one.id),
            _ => None,
        }
    }

    fn endpoint(&self, id: Uuid) -> Option<&endpoint::Model> {
        self.facts.endpoints.iter().find(|one| one.id == id)
    }

    fn has_endpoint(&self, id: Uuid, lane: &str) -> bool {
        let row = &self.facts.row;
        self.endpoint(id).is_some_and(|one| {
            one.lane == lane
                && one.org_id == row.org_id
                && one.installation_id == Some(row.id)
                && one.extension_key.as_ref() == Some(&row.extension_key)
        })
    }

    /// Whether the webhook was moved here from another installation, which is where it is put right.
    fn is_of_another(&self, webhook: &webhook::Model) -> bool {
        let id = self.facts.row.id;
        self.endpoint(webhook.id)
            .and_then(|endpoint| endpoint.installation_id)
            .is_some_and(|owner| owner != id)
            && !self.facts.remembered.iter().any(|known| known.webhook_id == webhook.id)
    }

    fn surplus(&mut self, webhook: &webhook::Model, is_active: bool, url: Option<&str>) {
        let (kind, detail) = match url {
            _ if !is_active => {
                (DriftKind::WebhookExtra, "the installation is not authorised".to_owned())
            }
            Some(url) if url == webhook.url => (
                DriftKind::WebhookDuplicate,
                "the declared address has a second webhook".to_owned(),
            ),
            _ => {
                let name = webhook.resource_name.as_deref().unwrap_or_default();
                (DriftKind::WebhookExtra, format!("its version declares no webhook `{name}`"))
            }
        };
        let step = Step::RemoveWebhook(webhook.id);
        self.note(kind, format!("webhook:{}", webhook.id), detail, step);
    }

    fn connections(&mut self, is_active: bool, authorises: bool) {
        let facts = self.facts;
        let main = facts.connections.iter().find(|one| oauth::is_main_connection(&facts.row, one));
        if !is_active {
            if let Some(main) = main {
                self.note(
                    DriftKind::ConnectionZombie,
                    format!("connection:{}", main.id),
                    "tokens are there before the authorisation".to_owned(),
                    Step::RevokeConnections,
                );
            }
            return;
        }
        if authorises && main.is_none() && facts.row.connection_health != "broken" {
            let detail = "it is authorised, and has no tokens".to_owned();
            let step = Step::BreakConnection(None, "the tokens are missing");
            self.note_installation(DriftKind::ConnectionMissing, detail, step);
        }
    }
}

/// Judges the tokens of a connection of an active installation. A broken one has none, and says so
/// where it is shown; of one that is over they are being revoked.
pub(super) fn judge_tokens(
    connection: &connection::Model,
    ring: &KeyRing,
    now: Timestamp,
) -> Option<Judgement> {
    if connection.health != "ok" {
        return None;
    }
    let id = connection.id;
    let whose = match connection.user_id.as_str() {
        "" => connection.name.clone(),
        user => format!("{} of user {user}", connection.name),
    };
    let found = |kind, detail, reason| {
        let (subject, step) = (format!("connection:{id}"), Step::BreakConnection(Some(id), reason));
        Some(Judgement { kind, subject, detail, step })
    };
    let is_over = connection.access_expires_at.is_some_and(|at| at <= now.micros());
    if !oauth::is_connection_readable(ring, connection) {
        let detail = format!("the tokens of {whose} cannot be unsealed");
        found(DriftKind::ConnectionUnreadable, detail, "the tokens cannot be read")
    } else if is_over && connection.sealed_refresh_token.is_none() {
        let detail = format!("the token of {whose} has expired, without a refresh");
        found(DriftKind::ConnectionExpired, detail, "the token has expired")
    } else {
        None
    }
}
