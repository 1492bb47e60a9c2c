//! Connections beyond the first authorisation: what a browser was sent for, refreshing, whose a
//! connection is, and orgs that close.

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
    // What a browser was sent for. A user that is not named is the empty text, here and below: two
    // nulls would not be the same user to a unique index.
    "alter table authorization_requests add column purpose text not null default 'install'",
    "alter table authorization_requests add column consent_id {uuid}",
    "alter table authorization_requests add column user_id text not null default ''",
    "alter table authorization_requests add column service_name text",
    "alter table authorization_requests add column scopes text",
    // The version whose manifest declares the provider; null where the operator does.
    "alter table authorization_requests add column declared_in {uuid}",
    "alter table authorization_requests add column granted_by text",
    "create index authorization_requests_purpose on authorization_requests
        (installation_id, purpose, connection, user_id, created_at)",
    "alter table connections add column user_id text not null default ''",
    "alter table connections add column declared_in {uuid}",
    // What was asked for: less than that at a refresh breaks the connection.
    "alter table connections add column asked text",
    // Whether users without a connection of their own use this one.
    "alter table connections add column shared integer not null default 1",
    // Grows with every change of the tokens.
    "alter table connections add column version {long} not null default 1",
    "alter table connections add column health text not null default 'ok'",
    "alter table connections add column reason text",
    // The refresh token before the present one, until that was first used with success.
    "alter table connections add column sealed_former_refresh_token {bytes}",
    // Who refreshes, and until when nobody else does: written before the call is made.
    "alter table connections add column claimed_by {uuid}",
    "alter table connections add column claimed_until {long}",
    "alter table connections add column refresh_due_at {long}",
    "alter table connections add column refresh_failures integer not null default 0",
    "drop index connections_identity",
    "create unique index connections_identity on connections (installation_id, name, user_id)",
    // What a user granted, and what is his own: looked up when he leaves.
    "create index connections_granter on connections (granted_by)",
    "create index connections_user on connections (user_id)",
    "create index connections_refresh on connections (refresh_due_at)
        where refresh_due_at is not null",
    "alter table revocations add column declared_in {uuid}",
    // Whose a personal installation is.
    "alter table installations add column user_id text not null default ''",
    "drop index installations_live",
    "create unique index installations_live on installations (org_id, extension_key, user_id)
        where live = 1",
    "create table org_closures (
        org_id text primary key,
        actor text not null,
        address text,
        requested_at {long} not null,
        uninstalled {long} not null,
        last_error text,
        finished_at {long}
    )",
    "create index org_closures_open on org_closures (requested_at) where finished_at is null",
];
