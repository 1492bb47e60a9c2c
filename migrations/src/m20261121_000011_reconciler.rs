//! What the reconciler compares with, its turn among the nodes, and what it found.

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
         or cleanup = 'pending' or state in ('pendingAuthorization', 'active'))",
    // One node takes the periodic turn.
    "create table reconcile_turns (
        singleton integer primary key check (singleton = 1),
        next_at {long} not null
    ) {small and busy}",
    "insert into reconcile_turns (singleton, next_at) values (1, 0)",
    // The last passes that were allowed to repair; the report is bounded JSON.
    "create table reconcile_runs (
        id {uuid} primary key,
        requested_by text not null,
        report text not null
    )",
];
