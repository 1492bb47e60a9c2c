//! Upgrades that wait for consent, and rollouts over all installations of an extension.

use sea_orm_migration::prelude::*;

use crate::dialect;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, UP).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const UP: &[&str] = &[
    // The consent that waits, the version before the serving one, and when that changed.
    "alter table installations add column waiting_upgrade_id {uuid}",
    "alter table installations add column former_version_id {uuid}",
    "alter table installations add column upgraded_at {long}",
    // What was shown to whoever is to agree, and what came of it. `waiting` is 1 or null.
    "create table upgrades (
        id {uuid} primary key,
        installation_id {uuid} not null,
        from_version_id {uuid} not null,
        version_id {uuid} not null,
        digest text not null,
        plan text not null,
        growth text not null,
        needs_authorization {short} not null,
        sealed_config {bytes},
        rollout_id {uuid},
        state text not null,
        waiting {short},
        requested_by text not null,
        deadline {long},
        created_at {long} not null,
        settled_at {long},
        settled_by text
    )",
    "create unique index upgrades_waiting on upgrades (installation_id) where waiting is not null",
    "create index upgrades_deadline on upgrades (deadline)
     where waiting is not null and deadline is not null",
    "create index upgrades_installation on upgrades (installation_id)",
    "create index upgrades_version on upgrades (version_id) where waiting is not null",
    "create index upgrades_rollout on upgrades (rollout_id, state) where rollout_id is not null",
    "create index extension_versions_withdrawn on extension_versions (withdrawn_at)
     where withdrawn_at is not null",
    // A rollout is one row; its steps lock it, so that it may run on any node and on one at a time.
    "create table rollout_jobs (
        id {uuid} primary key,
        extension_key text not null,
        version_id {uuid} not null,
        version text not null,
        state text not null,
        running {short},
        dry_run {short} not null,
        per_second integer not null,
        update_before {long},
        org_ids text,
        from_versions text,
        position {uuid} not null,
        total {long},
        upgraded {long} not null,
        waiting {long} not null,
        unchanged {long} not null,
        failed {long} not null,
        skipped {long} not null,
        reason text,
        created_by text not null,
        created_at {long} not null,
        started_at {long},
        finished_at {long},
        next_at {long} not null
    ) {small and busy}",
    "create unique index rollout_jobs_running on rollout_jobs (extension_key)
     where running is not null and dry_run = 0",
    "create index rollout_jobs_next on rollout_jobs (next_at) where running is not null",
    "create index rollout_jobs_extension on rollout_jobs (extension_key, id)",
    // Which installations had their turn: none has it twice, whatever their order.
    "create table rollout_items (
        rollout_id {uuid} not null,
        installation_id {uuid} not null,
        outcome text not null,
        reason text,
        at {long} not null,
        primary key (rollout_id, installation_id)
    ) {clustered}",
    "create index rollout_items_failed on rollout_items (rollout_id, installation_id)
     where outcome = 'failed'",
];
