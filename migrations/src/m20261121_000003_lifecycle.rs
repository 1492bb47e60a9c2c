//! Installations, their connections and what is still to be done for them.

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
    "create table installation_generations (
        org_id text not null,
        extension_key text not null,
        generation integer not null,
        primary key (org_id, extension_key)
    )",
    "create table installations (
        id {uuid} primary key,
        org_id text not null,
        extension_key text not null,
        version_id {uuid} not null,
        generation integer not null,
        live integer not null,
        state text not null,
        suspended_by integer not null,
        installed_by text,
        department_ids text,
        config text not null,
        sealed_config {bytes},
        request_digest {bytes} not null,
        target_digest text not null,
        return_url text,
        granted_scopes text,
        connection_health text not null,
        connection_reason text,
        callback_sequence {long} not null,
        cleanup text not null,
        created_at {long} not null,
        authorized_at {long},
        uninstalled_at {long},
        updated_at {long} not null
    )",
    "create unique index installations_live on installations (org_id, extension_key) where live = 1",
    "create index installations_org on installations (org_id, id)",
    "create index installations_extension on installations (extension_key, id)",
    "create table transitions (
        id {uuid} primary key,
        installation_id {uuid} not null,
        at {long} not null,
        actor text not null,
        address text,
        command text not null,
        from_state text,
        to_state text not null,
        generation integer not null,
        reason text
    )",
    "create index transitions_installation on transitions (installation_id, id)",
    // A browser on its way to the provider and back; only digests of what it carries are kept.
    "create table authorization_requests (
        state_digest {bytes} primary key,
        installation_id {uuid} not null,
        generation integer not null,
        connection text not null,
        target_digest text not null,
        sealed_verifier {bytes} not null,
        sealed_url {bytes} not null,
        start_digest {bytes} not null unique,
        browser_digest {bytes},
        return_url text,
        created_at {long} not null,
        expires_at {long} not null,
        consumed_at {long}
    )",
    "create index authorization_requests_installation on authorization_requests (installation_id, created_at)",
    "create index authorization_requests_expiry on authorization_requests (expires_at)",
    "create table connections (
        id {uuid} primary key,
        installation_id {uuid} not null,
        name text not null,
        service_name text not null,
        sealed_access_token {bytes} not null,
        sealed_refresh_token {bytes},
        access_expires_at {long},
        scopes text not null,
        granted_by text,
        created_at {long} not null,
        updated_at {long} not null
    )",
    "create unique index connections_identity on connections (installation_id, name)",
    // Tokens that live on only to be revoked.
    "create table revocations (
        id {uuid} primary key,
        installation_id {uuid} not null,
        service_name text not null,
        token_kind text not null,
        sealed_token {bytes} not null,
        due_at {long} not null,
        give_up_at {long} not null,
        attempts integer not null,
        last_error text,
        created_at {long} not null
    )",
    "create index revocations_due on revocations (due_at)",
    "create index revocations_installation on revocations (installation_id)",
];
