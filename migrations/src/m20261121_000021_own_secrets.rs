//! Own webhooks: former signing secrets that sign a while longer, and who fetches an access token.

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
    // Those that were replaced with an overlap; each signs until it expires, and then it goes.
    "create table own_webhook_former_secrets (
        id {uuid} primary key,
        webhook_id {uuid} not null,
        sealed_secret {bytes} not null,
        expires_at {long} not null
    )",
    "create index own_webhook_former_secrets_of_webhook
        on own_webhook_former_secrets (webhook_id, expires_at)",
    "create index own_webhook_former_secrets_by_age on own_webhook_former_secrets (expires_at)",
    // While a node fetches an access token for a webhook; the others take what it keeps.
    "create table own_webhook_token_claims (
        id {uuid} primary key,
        claim {uuid} not null,
        claimed_until {long} not null
    )",
];
