//! What people granted for the endpoints of own webhooks (OAuth 2.0 authorisation code), and why a
//! delivery was not made.

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
    // One for each webhook that somebody authorised. `settings_digest` says of which settings it is.
    // Whoever refreshes claims the row first: a refresh token may be good for one use.
    "create table own_webhook_grants (
        id {uuid} primary key,
        settings_digest text not null,
        sealed_tokens {bytes} not null,
        expires_at {long},
        refreshed_at {long} not null,
        claimed_until {long},
        broken_reason text,
        granted_by text not null,
        granted_at {long} not null
    )",
    // Authorisations that were begun. The link works once, and the state is bound to the browser that
    // used it.
    "create table own_webhook_authorizations (
        id {uuid} primary key,
        webhook_id {uuid} not null,
        settings_digest text not null,
        state_digest {bytes} not null unique,
        link_digest {bytes} not null unique,
        cookie_digest {bytes},
        sealed_request {bytes} not null,
        begun_by text not null,
        expires_at {long} not null
    )",
    "create index own_webhook_authorizations_of_webhook
        on own_webhook_authorizations (webhook_id, expires_at)",
    "create index own_webhook_authorizations_by_age on own_webhook_authorizations (expires_at)",
    // Why a delivery was given up that nobody tried: few among many, so in a table of their own.
    "create table delivery_reasons (
        delivery_id {uuid} primary key,
        reason text not null
    )",
];
