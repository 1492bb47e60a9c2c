//! The pages: visits are found by whose they are, so that they end when somebody leaves.

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
    "create index page_sessions_subject on page_sessions (org_id, subject)",
    "create index portal_links_subject on portal_links (org_id, subject)",
];
