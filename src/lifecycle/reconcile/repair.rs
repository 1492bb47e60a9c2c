//! One installation under its lock: what was found without it is looked at again, and put right in
//! one transaction with its history and audit rows.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;
use uuid::Uuid;

use super::desired;
use super::drift::Finding;
use super::ending;
use super::facts::{Facts, MOST_CONNECTIONS, Versions, connections_of, gather};
use super::judge::{Judgement, Step, given_up, judge, judge_tokens};
use super::pass::Reconciler;
use crate::audit::{self, Actor, Entry};
use crate::lifecycle::LifecycleError;
use crate::lifecycle::erasure;
use crate::lifecycle::service::state_of;
use crate::lifecycle::state::Phase;
use crate::manifest::ProvisionedWebhook;
use crate::oauth;
use crate::seam::Timestamp;
use crate::seam::crash_point;
use crate::store::entity::{connection, installation, transition};
use crate::store::{RoutingChange, UnitOfWork};
use crate::webhook::provisioning::NewExtensionWebhook;
use crate::webhook::restoring::{self, Tenant};

/// How many findings one audit row names.
const MOST_AUDITED: usize = 20;

impl Reconciler {
    /// Looks at an installation under its lock and, where asked to, repairs it. Says what was found.
    pub(super) async fn examine(
        &self,
        id: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Vec<Finding>, LifecycleError> {
        let inner = &self.inner;
        let work = inner.store.begin().await?;
        let row =
            installation::Entity::find_by_id(id).lock_exclusive().one(work.connection()).await?;
        let Some(row) = row else {
            work.rollback().await?;
            return Ok(Vec::new());
        };
        // A refresh changes these without the installation's lock.
        connection::Entity::find()
            .filter(connections_of(std::slice::from_ref(&row)))
            .order_by_asc(connection::Column::Id)
            .limit(MOST_CONNECTIONS)
            .lock_exclusive()
            .all(work.connection())
            .await?;
        let mut versions = Versions::new();
        let mut facts = gather(work.connection(), vec![row], &mut versions).await?;
        let Some(facts) = facts.pop() else {
            work.rollback().await?;
            return Ok(Vec::new());
        };
        let now = inner.seam.clock.now();
        let judgements = judge(&facts, now);
        self.finish(work, &facts, &judgements, repair, actor, now).await
    }

    /// Looks at the tokens of a connection under its lock and that of its installation and, where
    /// asked to, breaks it.
    pub(super) async fn examine_tokens(
        &self,
        installation_id: Uuid,
        id: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Vec<Finding>, LifecycleError> {
        let inner = &self.inner;
        let work = inner.store.begin().await?;
        let row = installation::Entity::find_by_id(installation_id)
            .filter(installation::Column::Live.eq(1))
            .filter(installation::Column::State.eq(Phase::Active.name()))
            .lock_exclusive()
            .one(work.connection())
            .await?;
        let held =
            connection::Entity::find_by_id(id).lock_exclusive().one(work.connection()).await?;
        let (Some(row), Some(held)) = (row, held) else {
            work.rollback().await?;
            return Ok(Vec::new());
        };
        // What was read under the lock was sealed with a key that is there by now.
        self.read_keys().await?;
        let now = inner.seam.clock.now();
        let judgements = Vec::from_iter(judge_tokens(&held, &inner.keys.ring, now));
        let mut versions = Versions::new();
        let mut facts = gather(work.connection(), vec![row], &mut versions).await?;
        let Some(mut facts) = facts.pop() else {
            work.rollback().await?;
            return Ok(Vec::new());
        };
        facts.connections = vec![held];
        self.finish(work, &facts, &judgements, repair, actor, now).await
    }

    /// Puts right what was found, where asked to. Says what was found.
    async fn finish(
        &self,
        mut work: UnitOfWork,
        facts: &Facts,
        judgements: &[Judgement],
        repair: bool,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Finding>, LifecycleError> {
        let is_work = judgements.iter().any(Judgement::can_be_repaired);
        let findings = findings_of(&facts.row, judgements, repair);
        if !repair || !is_work {
            work.rollback().await?;
            return Ok(findings);
        }
        self.put_right(&mut work, facts, judgements, actor, now).await?;
        self.record(&work, facts, &findings, actor, now).await?;
        crash_point("reconcile.before-commit");
        let revision = work.commit(now).await?;
        crash_point("reconcile.after-commit");
        if let Some(live) = &self.inner.live {
            live.routing.settle(revision).await?;
            live.dispatcher.poke();
            live.revocations.poke();
        }
        Ok(findings)
    }

    async fn put_right(
        &self,
        work: &mut UnitOfWork,
        facts: &Facts,
        judgements: &[Judgement],
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        let mut row = facts.row.clone();
        // What goes first makes room for what is restored: names are unique within an installation.
        for judgement in judgements {
            if let Step::RemoveWebhook(id) = judgement.step {
                restoring::remove_one(&inner.authority, &inner.store, work, id).await?;
            }
        }
        let mut restored = Vec::new();
        for judgement in judgements {
            match &judgement.step {
                Step::Report | Step::RemoveWebhook(_) | Step::BreakConnection(Some(_), _) => {}
                Step::RestoreWebhook(id, wanted) => {
                    let id = id.unwrap_or_else(|| inner.seam.randomness.id());
                    if !restored.contains(&id) {
                        restoring::restore(&inner.authority, work, id, wanted, now).await?;
                        self.remember(work, id, facts, wanted).await?;
                        restored.push(id);
                    }
                }
                Step::RestoreEndpoint(id, lane) => {
                    let tenant = Tenant {
                        org_id: &row.org_id,
                        installation_id: row.id,
                        extension_key: &row.extension_key,
                    };
                    restoring::restore_endpoint(work, *id, lane, tenant, now).await?;
                }
                Step::Forget => desired::forget(work, row.id).await?,
                Step::RevokeConnections => {
                    let ring = &inner.keys.ring;
                    let waiting =
                        oauth::forget_connections(ring, work, row.id, now, &inner.seam).await?;
                    if row.live == 0 {
                        let cleanup = if waiting == 0 { "done" } else { "pending" };
                        cleanup.clone_into(&mut row.cleanup);
                    }
                }
                Step::BreakConnection(None, reason) => {
                    "broken".clone_into(&mut row.connection_health);
                    row.connection_reason = Some((*reason).to_owned());
                }
                Step::SettleUpgrades => ending::settle_upgrades(work, &mut row, actor, now).await?,
                Step::DropExchanges => {
                    ending::drop_exchanges(work, row.id, given_up(now)).await?;
                }
                Step::ScheduleErasure => {
                    erasure::schedule(work, &mut row, inner.erase_after, now).await?;
                    ending::journal_end(work, &row).await?;
                }
                Step::WipeSecrets => {
                    row.sealed_config = None;
                    row.request_digest = Vec::new();
                }
                Step::DropRequests => oauth::authorization::drop_states(work, row.id).await?,
                Step::SetCleanup(cleanup) => (*cleanup).clone_into(&mut row.cleanup),
                Step::End => {
                    Phase::Uninstalled.name().clone_into(&mut row.state);
                    row.live = 0;
                    row.suspended_by = 0;
                    row.uninstalled_at = row.uninstalled_at.or(Some(now.micros()));
                    "none".clone_into(&mut row.connection_health);
                    ending::settle_upgrades(work, &mut row, actor, now).await?;
                    erasure::schedule(work, &mut row, inner.erase_after, now).await?;
                    let declared = facts.declared.as_deref();
                    ending::tell_end(work, &mut row, declared, now, &inner.seam).await?;
                    work.routing_changed(RoutingChange::Installation(row.id.to_string()));
                }
            }
        }
        if row.live == 0 {
            desired::forget(work, row.id).await?;
        }
        if row.live == 0 {
            let ends = judgements.iter().any(|one| matches!(one.step, Step::End));
            ending::resolve_notices(work, row.id, ends, now).await?;
        }
        // A webhook is shown with its installation: whoever reads what changed must see it.
        row.updated_at = now.micros();
        let mut active: installation::ActiveModel = row.clone().into();
        active = active.reset_all();
        active.id = Unchanged(row.id);
        active.update(work.connection()).await?;
        self.break_connections(work, &row, facts, judgements, actor).await?;
        work.installation_changed(row.id);
        work.routing_changed(RoutingChange::Org(facts.row.org_id.clone()));
        Ok(())
    }

    /// Breaks connections as they break by themselves; each writes the installation.
    async fn break_connections(
        &self,
        work: &UnitOfWork,
        row: &installation::Model,
        facts: &Facts,
        judgements: &[Judgement],
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        for judgement in judgements {
            if let Step::BreakConnection(Some(id), reason) = judgement.step
                && let Some(broken) = facts.connections.iter().find(|one| one.id == id)
            {
                let (ring, board, seam) = (&inner.keys.ring, &inner.board, &inner.seam);
                oauth::break_connection(ring, board, work, row, broken, reason, actor, seam)
                    .await?;
            }
        }
        Ok(())
    }

    /// What was restored is what is remembered from now on.
    async fn remember(
        &self,
        work: &UnitOfWork,
        id: Uuid,
        facts: &Facts,
        wanted: &NewExtensionWebhook,
    ) -> Result<(), LifecycleError> {
        let Some(declared) = &facts.declared else { return Ok(()) };
        let Some(resource) = &declared.webhook else { return Ok(()) };
        let bare = resource.provision(None);
        let provisioned = ProvisionedWebhook {
            description: wanted.description.clone(),
            include_events_from: wanted
                .include_events_from
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default(),
            ordered: wanted.ordered,
            delivery: wanted.delivery.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            ..bare
        };
        desired::remember(work, id, &facts.row, &provisioned).await
    }

    async fn record(
        &self,
        work: &UnitOfWork,
        facts: &Facts,
        findings: &[Finding],
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), LifecycleError> {
        let seam = &self.inner.seam;
        let from = state_of(&facts.row).name();
        let row = installation::Entity::find_by_id(facts.row.id).one(work.connection()).await?;
        let to = row.as_ref().map_or(from, |row| state_of(row).name());
        let mut kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.as_str()).collect();
        kinds.dedup();
        transition::Entity::insert(transition::ActiveModel {
            id: Set(seam.randomness.id()),
            installation_id: Set(facts.row.id),
            at: Set(now.micros()),
            actor: Set(actor.name.clone()),
            address: Set(actor.address.map(|address| address.to_string())),
            command: Set("reconcile".to_owned()),
            from_state: Set(Some(from.to_owned())),
            to_state: Set(to.to_owned()),
            generation: Set(facts.row.generation),
            reason: Set(Some(kinds.join(", "))),
        })
        .exec_without_returning(work.connection())
        .await?;
        work.transitioned("reconcile", to);
        let before: Vec<_> = facts
            .webhooks
            .iter()
            .map(|row| {
                json!({
                    "id": row.id, "orgId": row.org_id, "installationId": row.installation_id,
                    "extensionKey": row.extension_key, "generation": row.generation,
                    "url": row.url, "subscriptions": row.subscriptions,
                    "isEnabled": row.is_enabled,
                })
            })
            .take(MOST_AUDITED)
            .collect();
        let told: Vec<_> = findings
            .iter()
            .take(MOST_AUDITED)
            .map(|one| json!({ "kind": one.kind, "subject": one.subject, "detail": one.detail }))
            .collect();
        let entry = Entry {
            chain: &facts.row.org_id,
            action: "installation.reconcile",
            subject: format!("installation:{}", facts.row.id),
            detail: Some(json!({
                "extensionKey": facts.row.extension_key,
                "generation": facts.row.generation,
                "from": from,
                "to": to,
                "findings": told,
                "webhooksBefore": before,
            })),
        };
        audit::append(work, entry, actor, now, &seam.randomness).await?;
        Ok(())
    }
}

fn findings_of(row: &installation::Model, judgements: &[Judgement], repair: bool) -> Vec<Finding> {
    judgements
        .iter()
        .map(|judgement| Finding {
            kind: judgement.kind.name().to_owned(),
            subject: judgement.subject.clone(),
            org_id: Some(row.org_id.clone()),
            extension_key: Some(row.extension_key.clone()),
            installation_id: Some(row.id),
            detail: judgement.detail.clone(),
            action: judgement.action().to_owned(),
            repaired: repair && judgement.can_be_repaired(),
        })
        .collect()
}
