//! What outlived its installation: found from the side of what is left, so that what ended long ago
//! and wholly is not read again in every pass.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value,
};
use serde_json::json;
use uuid::Uuid;

use super::drift::{DriftKind, Finding, Report};
use super::judge::given_up;
use super::pass::Reconciler;
use crate::audit::{self, Actor, Entry, PLATFORM_CHAIN};
use crate::lifecycle::LifecycleError;
use crate::oauth;
use crate::seam::Timestamp;
use crate::store::entity::{
    authorization_request, connection, endpoint, endpoint_state, installation, revocation, webhook,
};
use crate::store::{StoreError, claims};
use crate::webhook::restoring;

/// How many deliveries of a webhook that is no more are cancelled in one transaction.
const STEP: u32 = 5_000;

/// How many rows one statement reads.
const PAGE: u64 = 500;

/// How long an expired state may lie about: each next authorisation sweeps them.
const EXPIRED_FOR: std::time::Duration = std::time::Duration::from_hours(1);

/// Installations that ended with something left, after `$1`; exchanges from
/// before `$2`. By installation, so that each is looked at once.
const ENDED: &str = "
    select id from installations where live = 0 and (sealed_config is not null
         or length(request_digest) > 0 or cleanup = 'pending'
         or state in ('pendingAuthorization', 'active')
         or waiting_upgrade_id is not null or (erase_at is null and erased_at is null))
         and id > $1
    union select i.id from webhooks w join installations i on i.id = w.installation_id
         where i.live = 0 and i.id > $1
    -- Moved to another owner: the one that its endpoint names may have ended.
    union select i.id from webhooks w join endpoints e on e.id = w.id
         join installations i on i.id = e.installation_id where i.live = 0 and i.id > $1
    union select i.id from provisioned_webhooks p
         join installations i on i.id = p.installation_id where i.live = 0 and i.id > $1
    union select i.id from connections c join installations i on i.id = c.installation_id
         where i.live = 0 and c.health <> 'ended' and i.id > $1
    union select i.id from authorization_requests a
         join installations i on i.id = a.installation_id where i.live = 0 and i.id > $1
    union select i.id from revocations r join installations i on i.id = r.installation_id
         where i.live = 0 and i.cleanup <> 'pending' and i.id > $1
    union select i.id from upgrades u join installations i on i.id = u.installation_id
         where i.live = 0 and u.waiting is not null and i.id > $1
    union select i.id from token_exchanges x join installations i on i.id = x.installation_id
         where i.live = 0 and x.started_at < $2 and i.id > $1
    order by 1 limit 500";

/// Extension webhooks that belong to nobody: neither they nor their endpoint name an installation.
const OWNERLESS: &str = "select w.id from webhooks w
    left join installations i on i.id = w.installation_id
    left join endpoints e on e.id = w.id
    left join installations o on o.id = e.installation_id
    left join provisioned_webhooks p on p.webhook_id = w.id
    left join installations r on r.id = p.installation_id
    where (w.installation_id is not null or w.kind = 'extension')
      and i.id is null and o.id is null and r.id is null and w.id > $1 order by w.id limit 500";

/// What delivering knows of webhooks that are no more.
const STATES: &str = "select s.endpoint_id from endpoint_states s
    left join webhooks w on w.id = s.endpoint_id left join endpoints e on e.id = s.endpoint_id
    where w.id is null and (e.id is null or e.lane = 'webhook') and s.endpoint_id > $1
    order by s.endpoint_id limit 500";

/// Tokens of installations that never were.
const CONNECTIONS: &str = "select c.id from connections c
    left join installations i on i.id = c.installation_id
    where i.id is null and c.id > $1 order by c.id limit 500";

fn orphan(kind: DriftKind, subject: String, detail: &str, action: &str, repaired: bool) -> Finding {
    Finding {
        kind: kind.name().to_owned(),
        subject,
        org_id: None,
        extension_key: None,
        installation_id: None,
        detail: detail.to_owned(),
        action: action.to_owned(),
        repaired,
    }
}

/// After what the next page begins: nothing where this was the last.
fn next(ids: &[Uuid]) -> Option<Uuid> {
    if (ids.len() as u64) < PAGE { None } else { ids.last().copied() }
}

impl Reconciler {
    /// A page of installations that ended with something left.
    pub(super) async fn ended(
        &self,
        report: &mut Report,
        after: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let store = &self.inner.store;
        let limit = given_up(self.inner.seam.clock.now()).micros();
        let values: [Value; 2] = [after.into(), limit.into()];
        let statement = Statement::from_sql_and_values(store.dialect(), ENDED, values);
        let rows = store.reader().query_all_raw(statement).await?;
        let ids: Vec<Uuid> =
            rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
        let next = next(&ids);
        for id in ids {
            self.examine_into(report, id, repair, actor).await?;
        }
        Ok(next)
    }

    async fn ids(&self, sql: &str, after: Uuid) -> Result<Vec<Uuid>, LifecycleError> {
        let store = &self.inner.store;
        let values: [Value; 1] = [after.into()];
        let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
        let rows = store.reader().query_all_raw(statement).await?;
        Ok(rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?)
    }

    /// One audit row for what belongs to no installation.
    async fn note_removed(
        &self,
        work: &crate::store::UnitOfWork,
        finding: &Finding,
        chain: Option<&str>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let entry = Entry {
            chain: chain.unwrap_or(PLATFORM_CHAIN),
            action: "reconcile.removed",
            subject: finding.subject.clone(),
            detail: Some(json!({ "kind": finding.kind, "detail": finding.detail })),
        };
        audit::append(work, entry, actor, now, &self.inner.seam.randomness).await
    }

    async fn settle(&self, work: crate::store::UnitOfWork) -> Result<(), LifecycleError> {
        let revision = work.commit(self.inner.seam.clock.now()).await?;
        if let Some(live) = &self.inner.live {
            live.routing.settle(revision).await?;
        }
        Ok(())
    }

    /// A page of webhooks that no installation ever had.
    pub(super) async fn ownerless(
        &self,
        report: &mut Report,
        after: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let inner = &self.inner;
        let ids = self.ids(OWNERLESS, after).await?;
        let next = next(&ids);
        for id in ids {
            // Read again, after whoever might own it: a step that runs beside is seen whole.
            let row = webhook::Entity::find_by_id(id).one(inner.store.reader()).await?;
            let Some(row) = row else { continue };
            if self.has_installation(row.installation_id).await? {
                continue;
            }
            let finding = Finding {
                org_id: Some(row.org_id.clone()),
                extension_key: row.extension_key.clone(),
                installation_id: row.installation_id,
                ..orphan(
                    DriftKind::WebhookZombie,
                    format!("webhook:{id}"),
                    "it belongs to no installation",
                    "the webhook is removed, with what is queued for it",
                    repair,
                )
            };
            if repair {
                let now = inner.seam.clock.now();
                let mut work = inner.store.begin().await?;
                restoring::remove_one(&inner.authority, &inner.store, &mut work, id).await?;
                self.note_removed(&work, &finding, Some(&row.org_id), actor, now).await?;
                self.settle(work).await?;
            }
            report.add(finding);
        }
        Ok(next)
    }

    /// Removes what delivering wrote of a webhook a moment after its end. That is no drift: nothing
    /// reads it, and so it is not reported.
    pub(super) async fn sweep_states(
        &self,
        after: Uuid,
        repair: bool,
    ) -> Result<Option<Uuid>, LifecycleError> {
        if !repair {
            return Ok(None);
        }
        let ids = self.ids(STATES, after).await?;
        let next = next(&ids);
        if !ids.is_empty() {
            let work = self.inner.store.begin().await?;
            endpoint_state::Entity::delete_many()
                .filter(endpoint_state::Column::EndpointId.is_in(ids))
                .exec(work.connection())
                .await?;
            self.settle(work).await?;
        }
        Ok(next)
    }

    async fn has_installation(&self, id: Option<Uuid>) -> Result<bool, LifecycleError> {
        let Some(id) = id else { return Ok(false) };
        let found = installation::Entity::find_by_id(id).one(self.inner.store.reader()).await?;
        Ok(found.is_some())
    }

    /// A page of tokens that no installation ever had.
    pub(super) async fn ownerless_connections(
        &self,
        report: &mut Report,
        after: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let inner = &self.inner;
        let ids = self.ids(CONNECTIONS, after).await?;
        let next = next(&ids);
        for id in ids {
            let row = connection::Entity::find_by_id(id).one(inner.store.reader()).await?;
            let Some(row) = row else { continue };
            if self.has_installation(Some(row.installation_id)).await? {
                continue;
            }
            let finding = Finding {
                installation_id: Some(row.installation_id),
                ..orphan(
                    DriftKind::ConnectionZombie,
                    format!("connection:{id}"),
                    "the tokens belong to no installation",
                    "the tokens go into the revocation job",
                    repair,
                )
            };
            if repair {
                let now = inner.seam.clock.now();
                let work = inner.store.begin().await?;
                let ring = &inner.keys.ring;
                let id = row.installation_id;
                oauth::forget_connections(ring, &work, id, now, &inner.seam).await?;
                self.note_removed(&work, &finding, None, actor, now).await?;
                self.settle(work).await?;
                if let Some(live) = &inner.live {
                    live.revocations.poke();
                }
            }
            report.add(finding);
        }
        Ok(next)
    }

    /// States that expired long ago.
    pub(super) async fn expired_states(
        &self,
        report: &mut Report,
        repair: bool,
        actor: &Actor,
    ) -> Result<(), LifecycleError> {
        let inner = &self.inner;
        let now = inner.seam.clock.now();
        let is_old = authorization_request::Column::ExpiresAt.lte(now.minus(EXPIRED_FOR).micros());
        let count = authorization_request::Entity::find()
            .filter(is_old.clone())
            .count(inner.store.reader())
            .await?;
        if count == 0 {
            return Ok(());
        }
        let detail = format!("{count} states expired more than an hour ago");
        let finding = orphan(
            DriftKind::AuthorizationExpired,
            "authorizations".to_owned(),
            &detail,
            "the states are removed",
            repair,
        );
        if repair {
            let work = inner.store.begin().await?;
            authorization_request::Entity::delete_many()
                .filter(is_old)
                .exec(work.connection())
                .await?;
            self.note_removed(&work, &finding, None, actor, now).await?;
            self.settle(work).await?;
        }
        report.add(finding);
        Ok(())
    }

    /// A page of tokens to revoke: those that cannot be unsealed.
    pub(super) async fn unreadable_revocations(
        &self,
        report: &mut Report,
        after: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let inner = &self.inner;
        let rows = revocation::Entity::find()
            .filter(revocation::Column::Id.gt(after))
            .order_by_asc(revocation::Column::Id)
            .limit(PAGE)
            .all(inner.store.reader())
            .await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let next = next(&ids);
        self.read_keys().await?;
        for row in rows {
            if oauth::is_revocation_readable(&inner.keys.ring, &row) {
                continue;
            }
            // A rotation may have sealed it anew since, and retired the key that it was read under.
            let row = revocation::Entity::find_by_id(row.id).one(inner.store.reader()).await?;
            self.read_keys().await?;
            let Some(row) = row else { continue };
            if oauth::is_revocation_readable(&inner.keys.ring, &row) {
                continue;
            }
            let finding = Finding {
                installation_id: Some(row.installation_id),
                ..orphan(
                    DriftKind::RevocationUnreadable,
                    format!("revocation:{}", row.id),
                    "its token cannot be unsealed, so it can never be revoked",
                    "the job is removed",
                    repair,
                )
            };
            if repair {
                let now = inner.seam.clock.now();
                let work = inner.store.begin().await?;
                revocation::Entity::delete_by_id(row.id).exec(work.connection()).await?;
                self.note_removed(&work, &finding, None, actor, now).await?;
                self.settle(work).await?;
                // Its installation's clean-up may have waited for nothing else.
                report.add(finding);
                self.examine_into(report, row.installation_id, repair, actor).await?;
            } else {
                report.add(finding);
            }
        }
        Ok(next)
    }

    /// A page of endpoints that deliveries wait for: those of webhooks that are no more.
    pub(super) async fn queued(
        &self,
        report: &mut Report,
        after: Uuid,
        repair: bool,
        actor: &Actor,
    ) -> Result<Option<Uuid>, LifecycleError> {
        let inner = &self.inner;
        let ids = claims::waiting_endpoint_ids(&inner.store, after, PAGE).await?;
        let next = next(&ids);
        // What is sent to is read first: a webhook that comes into being meanwhile is seen.
        let endpoints = endpoint::Entity::find()
            .filter(endpoint::Column::Id.is_in(ids.iter().copied()))
            .all(inner.store.reader())
            .await?;
        let webhooks: BTreeSet<Uuid> = webhook::Entity::find()
            .select_only()
            .column(webhook::Column::Id)
            .filter(webhook::Column::Id.is_in(ids.iter().copied()))
            .into_tuple()
            .all(inner.store.reader())
            .await?
            .into_iter()
            .collect();
        for id in ids {
            let owner = endpoints.iter().find(|one| one.id == id);
            if webhooks.contains(&id) || owner.is_some_and(|one| one.lane != "webhook") {
                continue;
            }
            let mut finding = Finding {
                org_id: owner.map(|one| one.org_id.clone()),
                extension_key: owner.and_then(|one| one.extension_key.clone()),
                installation_id: owner.and_then(|one| one.installation_id),
                ..orphan(
                    DriftKind::DeliveryZombie,
                    format!("webhook:{id}"),
                    "deliveries are queued for a webhook that is no more",
                    "they are cancelled",
                    repair,
                )
            };
            if repair {
                let now = inner.seam.clock.now();
                let mut work = inner.store.begin().await?;
                let mut count = 0;
                loop {
                    let step = claims::cancel_unresolved(&inner.store, &work, id, STEP).await?;
                    count += step;
                    if step < u64::from(STEP) {
                        break;
                    }
                    self.settle(work).await?;
                    work = inner.store.begin().await?;
                }
                finding.detail =
                    format!("{count} deliveries are queued for a webhook that is no more");
                let chain = owner.map(|one| one.org_id.as_str());
                self.note_removed(&work, &finding, chain, actor, now).await?;
                self.settle(work).await?;
            }
            report.add(finding);
        }
        Ok(next)
    }
}
