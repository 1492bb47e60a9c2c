//! The order in which changes became visible, the journal of callbacks, and erasure.

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
    // The last position given out. Its row is locked from the end of a transaction to its commit,
    // so that positions become visible in their order: whoever reads on from one misses nothing.
    "create table change_positions (
        singleton integer primary key,
        last {long} not null
    ) {small and busy}",
    "insert into change_positions (singleton, last)
     select 1, count(*) from deliveries d join endpoints e on e.id = d.endpoint_id
     where e.lane = 'lifecycle'",
    // Every lifecycle callback, by its position. The body and the attempts stay where they are.
    "create table journal (
        position {long} primary key,
        delivery_id {uuid} not null,
        installation_id {uuid} not null,
        extension_key text not null,
        event text not null,
        at {long} not null
    )",
    "insert into journal (position, delivery_id, installation_id, extension_key, event, at)
     select row_number() over (order by d.id), d.id, e.id, coalesce(e.extension_key, ''),
            coalesce((select v.event_type from events v where v.id = d.event_id), ''), d.created_at
     from deliveries d join endpoints e on e.id = d.endpoint_id where e.lane = 'lifecycle'",
    "create unique index journal_delivery on journal (delivery_id)",
    "create index journal_extension on journal (extension_key, position)",
    "create index journal_installation on journal (installation_id, event, position)",
    "create index journal_age on journal (at)",
    "alter table installations add column change_position {long} not null default 0",
    // When what is kept of an uninstalled installation is erased, and was.
    "alter table installations add column erase_at {long}",
    "alter table installations add column erased_at {long}",
    "create index installations_changes on installations (change_position, id)",
    "create index installations_extension_changes
        on installations (extension_key, change_position, id)",
    "create index installations_org_changes on installations (org_id, change_position, id)",
    // The kill switch has bits of its own, above those of single installations.
    "update installations set suspended_by = suspended_by * 16 where suspended_by <> 0",
    "create table erasures (
        installation_id {uuid} primary key,
        org_id text not null,
        extension_key text not null,
        cause text not null,
        requested_at {long} not null,
        due_at {long} not null,
        pending {short},
        stage text not null,
        position text not null,
        counts text not null,
        next_at {long} not null,
        started_at {long},
        finished_at {long}
    )",
    "create index erasures_next on erasures (next_at) where pending is not null",
    // 30 days, as the policy has it where nothing else is configured.
    "update installations set erase_at = uninstalled_at + 2592000000000
     where live = 0 and state = 'uninstalled' and uninstalled_at is not null",
    "insert into erasures (installation_id, org_id, extension_key, cause,
        requested_at, due_at, pending, stage, position, counts, next_at)
     select id, org_id, extension_key, 'policy', uninstalled_at, erase_at, 1,
            'config', '', '{}', erase_at
     from installations where erase_at is not null",
    // What an erasure takes out of an org's chain is found by its subject.
    "create index audit_subject on audit (chain, subject, sequence)",
    "create index notices_installation on notices (installation_id)
        where installation_id is not null",
];
