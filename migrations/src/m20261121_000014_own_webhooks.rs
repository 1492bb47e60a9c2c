//! The orgs' own webhooks: what they have beside an extension's, their plans, and what a delivery
//! of one tells of where its dialect has names of its own.

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
    // One for each row of `webhooks` without an installation. `alias` is its id as a number, for
    // those that cannot take another; `settings` is JSON without anything secret.
    "create table own_webhooks (
        id {uuid} primary key,
        alias {long} not null unique,
        connection text not null,
        while_disabled text not null,
        settings text not null,
        sealed_secret {bytes} not null,
        sealed_credentials {bytes},
        credentials_expire_at {long},
        expiry_told_at {long},
        disabled_at {long},
        disabled_reason text
    )",
    // What may be queued too long, and what is to be told of: both few among many.
    "create index own_webhooks_disabled on own_webhooks (disabled_at, id)
        where disabled_at is not null",
    "create index own_webhooks_expiry on own_webhooks (credentials_expire_at, id)
        where credentials_expire_at is not null and expiry_told_at is null",
    // Access tokens for endpoints: what can be fetched again is in a table that can be emptied.
    // `settings_digest` says of which settings a token is.
    "create table own_webhook_tokens (
        id {uuid} primary key,
        settings_digest text not null,
        sealed_access_token {bytes} not null,
        expires_at {long},
        fetched_at {long} not null
    )",
    // Its row is locked by everything that changes an org's own webhooks, so that they are counted
    // as they are. Null: as for everybody.
    "create table org_plans (
        org_id text primary key,
        webhooks integer,
        webhooks_per_event integer,
        invocations_per_minute integer,
        dialects text,
        modified_by text,
        modified_at {long} not null
    )",
    // The name that a delivery tells of, where the webhook's dialect has names of its own, or what
    // made it. In a table of its own, so that others' deliveries are written as before.
    "create table delivery_variants (
        delivery_id {uuid} primary key,
        variant text not null
    ) {insert only}",
];
