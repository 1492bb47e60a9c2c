//! What came to inspectors is found by the webhook that sent it, so that it is erased with the rest.

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
    "alter table inspected_requests add column webhook_id {uuid}",
    "create index inspected_requests_webhook on inspected_requests (webhook_id)",
];
