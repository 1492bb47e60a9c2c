//! The vendor's way back in: what was called, ids that were used, and what extensions keep here.

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
    // Who called what through invoke, without queries, headers or bodies. Pruned by age and number.
    "create table invocations (
        id {uuid} primary key,
        installation_id {uuid} not null,
        at {long} not null,
        method text not null,
        host text not null,
        path text not null,
        connection text,
        status integer,
        error text,
        micros {long} not null
    ) {insert only}",
    "create index invocations_installation on invocations (installation_id, id)",
    // The `webhook-id` of signed calls: each is used once.
    "create table invoke_message_ids (
        extension_key text not null,
        message_id text not null,
        used_at {long} not null,
        primary key (extension_key, message_id)
    ) {clustered}",
    "create index invoke_message_ids_age on invoke_message_ids (used_at)",
    // Extensions that signed a call once: from then on all must be.
    "create table invoke_signers (
        extension_key text primary key,
        since {long} not null
    )",
    // Versions whose `secret` counts for a while after the installation has moved on.
    "create table former_versions (
        installation_id {uuid} not null,
        version_id {uuid} not null,
        until {long} not null,
        primary key (installation_id, version_id)
    )",
    "create index former_versions_until on former_versions (until)",
    "create table extension_storage (
        installation_id {uuid} not null,
        storage_key text not null,
        queriable_value text,
        value text not null,
        updated_at {long} not null,
        primary key (installation_id, storage_key)
    )",
    "create index extension_storage_queriable
     on extension_storage (installation_id, queriable_value, storage_key)",
    "create table extension_properties (
        extension_key text not null,
        name text not null,
        value text,
        sealed_value {bytes},
        updated_at {long} not null,
        updated_by text not null,
        primary key (extension_key, name)
    )",
    // The keys by which third parties post for a user; only digests are kept.
    "create table user_tokens (
        id {uuid} primary key,
        installation_id {uuid} not null,
        org_id text not null,
        extension_key text not null,
        user_id text not null,
        digest {bytes} not null unique,
        created_at {long} not null,
        created_by text not null
    )",
    "create unique index user_tokens_user on user_tokens (installation_id, user_id)",
    "create index user_tokens_org on user_tokens (org_id, user_id)",
    // Where what third parties post goes; the lane of an installation beside its webhook.
    "create table incoming_lanes (
        id {uuid} primary key,
        installation_id {uuid} not null unique,
        org_id text not null
    )",
    "create index incoming_lanes_org on incoming_lanes (org_id, id)",
];
