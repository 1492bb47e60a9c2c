//! What a webhook wishes of delivery, and the signing keys of the platform with their rotation.

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
    // JSON; null where the webhook leaves everything to the operator.
    "alter table webhooks add column delivery text",
    // Several of one purpose while a rotation overlaps: the newest signs, all are published until
    // they expire.
    "create table signing_keys (
        id {uuid} primary key,
        purpose text not null,
        sealed {bytes} not null,
        created_at {long} not null,
        expires_at {long}
    )",
];
