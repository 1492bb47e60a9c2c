//! The catalogue: extensions, their versions and signing secrets.

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
    "create table extensions (
        id {uuid} primary key,
        extension_key text not null unique,
        vendor text not null,
        name text not null,
        suspended_by integer not null,
        suspended_at {long},
        suspended_reason text,
        created_at {long} not null
    )",
    "create index extensions_vendor on extensions (vendor, id)",
    // The manifest is kept without its secrets, which are sealed beside it.
    "create table extension_versions (
        id {uuid} primary key,
        extension_key text not null,
        version text not null,
        name text not null,
        digest text not null,
        manifest text not null,
        resources text not null,
        sealed_secrets {bytes},
        required_scopes text not null,
        warnings text not null,
        withdrawn_at {long},
        created_at {long} not null
    )",
    "create unique index extension_versions_identity on extension_versions (extension_key, version)",
    "create table signing_secrets (
        id {uuid} primary key,
        extension_key text not null,
        sealed {bytes} not null,
        created_at {long} not null,
        expires_at {long}
    )",
    "create index signing_secrets_extension on signing_secrets (extension_key)",
];
