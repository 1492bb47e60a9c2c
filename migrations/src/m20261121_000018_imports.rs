//! What was imported from other systems, and which orgs are for development.

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
    // By what a definition is recognised that was imported before: the id that the other system gave
    // it. `part` tells a webhook by what it is connected to from a trigger and an automation. A row
    // goes with what it stands for. Written under the lock of the org's plan.
    "create table imported_definitions (
        org_id text not null,
        source text not null,
        part text not null,
        source_id text not null,
        target_id {uuid} not null,
        imported_by text not null,
        imported_at {long} not null,
        primary key (org_id, source, part, source_id)
    )",
    "create index imported_definitions_of_target on imported_definitions (target_id)",
    // Orgs whose own webhooks may call private addresses and plain http. Written under the lock of
    // the org's plan.
    "create table development_orgs (
        org_id text primary key,
        marked_by text not null,
        marked_at {long} not null
    )",
];
