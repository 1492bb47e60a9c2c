//! The pages: links that open them, sessions, and how many attempts each endpoint had in an hour.

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
    // One-time links into the pages, by the digest of what is secret in them. They and the sessions
    // that they lead to end with the token that asked for them.
    "create table portal_links (
        id {uuid} primary key,
        digest {bytes} not null unique,
        role text not null,
        org_id text,
        vendor text,
        subject text not null,
        display_name text,
        token_id {uuid} not null,
        created_at {long} not null,
        expires_at {long} not null,
        used_at {long}
    )",
    "create index portal_links_expiry on portal_links (expires_at)",
    // Who looks at the pages. Without a subject it is the holder of the token itself.
    "create table page_sessions (
        id {uuid} primary key,
        digest {bytes} not null unique,
        role text not null,
        org_id text,
        vendor text,
        scopes text not null,
        subject text,
        display_name text,
        token_id {uuid} not null,
        created_at {long} not null,
        expires_at {long} not null
    )",
    "create index page_sessions_expiry on page_sessions (expires_at)",
    // Attempts by endpoint and hour since the epoch: counted in memory, added every few seconds for
    // all endpoints in one statement.
    "create table endpoint_hours (
        endpoint_id {uuid} not null,
        hour {long} not null,
        succeeded {long} not null,
        failed {long} not null,
        micros {long} not null,
        primary key (endpoint_id, hour)
    ) {small and busy}",
    "create index endpoint_hours_age on endpoint_hours (hour)",
    // The few that the operator looks at.
    "create index endpoint_states_unwell on endpoint_states (endpoint_id) where health <> 'ok'",
    "create index endpoint_states_paused on endpoint_states (endpoint_id)
     where breaker_until is not null",
];
