//! What the reconciler compares with, its turn among the nodes, and what it found.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

use crate::dialect;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        dialect::run(manager, UP).await?;
        let guard = match manager.get_database_backend() {
            DatabaseBackend::Postgres => GUARD_OF_POSTGRES,
            _ => GUARD_OF_SQLITE,
        };
        dialect::run(manager, guard).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const UP: &[&str] = &[
    // What lifecycle provisioned, apart from the webhook itself: what was changed below it shows,
    // and what was lost can be made again under its id. Written in the webhook's own transaction.
    "create table provisioned_webhooks (
        webhook_id {uuid} primary key,
        installation_id {uuid} not null,
        resource_name text not null,
        version_id {uuid} not null,
        document text not null
    )",
    "create index provisioned_webhooks_installation on provisioned_webhooks (installation_id)",
    // Pages of what lives, and of what ended but is not wholly gone: neither reads the others.
    "create index installations_alive on installations (id) where live = 1",
    "create index installations_leftover on installations (id)
     where live = 0 and (sealed_config is not null or length(request_digest) > 0
         or cleanup = 'pending' or state in ('pendingAuthorization', 'active')
         or waiting_upgrade_id is not null or (erase_at is null and erased_at is null))",
    // Codes that are being exchanged, until the tokens are stored or discarded.
    "create table token_exchanges (
        id {uuid} primary key,
        installation_id {uuid} not null,
        service_name text not null,
        declared_in {uuid},
        sealed {bytes} not null,
        started_at {long} not null
    ) {small and busy}",
    "create index token_exchanges_age on token_exchanges (started_at)",
    "create index token_exchanges_installation on token_exchanges (installation_id)",
    // One node takes the periodic turn.
    "create table reconcile_turns (
        singleton integer primary key check (singleton = 1),
        next_at {long} not null,
        position text not null default ''
    ) {small and busy}",
    "insert into reconcile_turns (singleton, next_at) values (1, 0)",
    // The last passes that were allowed to repair; the report is bounded JSON.
    "create table reconcile_runs (
        id {uuid} primary key,
        requested_by text not null,
        report text not null
    )",
];

/// The audit only grows: what is there is changed by erasure alone (its salt goes, its digests stay),
/// and goes only where its chain's head says that it was pruned.
const GUARD_OF_SQLITE: &[&str] = &[
    "create trigger audit_is_not_changed before update on audit
     when not (new.chain = old.chain and new.sequence = old.sequence and new.salt is null
         and new.content_digest = old.content_digest and new.digest = old.digest)
     begin select raise(abort, 'the audit is append-only'); end",
    "create trigger audit_is_not_removed before delete on audit
     when not exists (select 1 from audit_heads h
         where h.chain = old.chain and h.pruned_sequence >= old.sequence)
     begin select raise(abort, 'the audit is append-only'); end",
];

const GUARD_OF_POSTGRES: &[&str] = &[
    "create function audit_guard() returns trigger language plpgsql as $$
     begin
         if tg_op = 'UPDATE' then
             if new.chain = old.chain and new.sequence = old.sequence and new.salt is null
                 and new.content_digest = old.content_digest and new.digest = old.digest then
                 return new;
             end if;
         elsif exists (select 1 from audit_heads h
             where h.chain = old.chain and h.pruned_sequence >= old.sequence) then
             return old;
         end if;
         raise exception 'the audit is append-only';
     end $$",
    "create trigger audit_is_append_only before update or delete on audit
     for each row execute function audit_guard()",
];
