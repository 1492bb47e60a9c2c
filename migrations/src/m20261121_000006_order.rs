//! The order of acceptance for endpoints that want it.

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
    // The last number given to a delivery of an ordered endpoint. Its row is locked until the
    // commit, so that numbers become visible in their order, whichever node gave them.
    "create table endpoint_sequences (
        endpoint_id {uuid} primary key,
        last {long} not null
    ) {small and busy}",
    "alter table deliveries add column sequence {long} not null default 0",
    "create index deliveries_sequence on deliveries (endpoint_id, sequence, id)
        where ordered is not null",
    "drop index deliveries_ordered",
];
