//! What every room stands on: keys, tokens, kept answers, nodes, routing, audit.

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
    "create table settings (
        name text primary key,
        value text not null
    )",
    // Keys that seal everything else, each wrapped by the master key, which is never here.
    "create table data_keys (
        id integer primary key,
        purpose text not null,
        wrapped {bytes} not null,
        created_at {long} not null
    )",
    "create table api_tokens (
        id {uuid} primary key,
        digest {bytes} not null unique,
        role text not null,
        org_id text,
        vendor text,
        scopes text not null,
        name text,
        created_at {long} not null,
        expires_at {long},
        revoked_at {long}
    )",
    // Answers kept for an idempotency key or a webhook-id, written with the effect itself.
    "create table kept_answers (
        scope {bytes} primary key,
        fingerprint {bytes} not null,
        status integer not null,
        sealed {bytes} not null,
        created_at {long} not null
    )",
    "create index kept_answers_age on kept_answers (created_at)",
    // A running process: its lease, how far its routing is, and where its claims begin.
    "create table nodes (
        epoch {long} primary key,
        started_at {long} not null,
        lease_until {long} not null,
        applied_revision {long} not null,
        low_water {uuid} not null
    ) {small and busy}",
    "create table routing (
        singleton integer primary key check (singleton = 1),
        revision {long} not null,
        next_epoch {long} not null
    ) {small and busy}",
    "insert into routing (singleton, revision, next_epoch) values (1, 0, 1)",
    "create table routing_changes (
        revision {long} primary key,
        kind text not null,
        subject text not null,
        at {long} not null
    )",
    "create table audit_heads (
        chain text primary key,
        sequence {long} not null,
        digest {bytes} not null
    )",
    // A chain per org. The digest covers a salted digest of the content, so that content which
    // must be erased can be, and the chain still holds.
    "create table audit (
        chain text not null,
        sequence {long} not null,
        at {long} not null,
        actor text not null,
        address text,
        action text not null,
        subject text not null,
        detail text,
        salt {bytes},
        content_digest {bytes} not null,
        digest {bytes} not null,
        primary key (chain, sequence)
    )",
];
