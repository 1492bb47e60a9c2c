//! Tools for vendors: inspectors with what they were sent, and listeners with the deliveries that
//! they were shown.

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
    // Addresses that take any request and answer as they were told. Only a digest of the address's
    // secret is kept; without org and vendor it is the operator's.
    "create table inspectors (
        id {uuid} primary key,
        digest {bytes} not null unique,
        org_id text,
        vendor text,
        name text,
        webhook_id {uuid},
        answer text not null,
        received {long} not null,
        created_at {long} not null,
        created_by text not null,
        expires_at {long} not null
    )",
    "create index inspectors_org on inspectors (org_id, id)",
    "create index inspectors_vendor on inspectors (vendor, id)",
    "create index inspectors_expires on inspectors (expires_at)",
    "create index inspectors_webhook on inspectors (webhook_id)",
    // What came: the last ones of each inspector, for a day.
    "create table inspected_requests (
        inspector_id {uuid} not null,
        sequence {long} not null,
        at {long} not null,
        method text not null,
        path text not null,
        query text,
        headers text not null,
        headers_dropped integer not null,
        body {bytes} not null,
        body_bytes {long} not null,
        answered integer not null,
        signature text not null,
        signature_reason text,
        primary key (inspector_id, sequence)
    ) {insert only}",
    "create index inspected_requests_at on inspected_requests (at)",
    // Tokens that end soon are told of.
    "create index api_tokens_expires on api_tokens (expires_at)",
    // Who listens to deliveries as they are made, for as long as somebody reads.
    "create table listeners (
        id {uuid} primary key,
        token_id {uuid} not null,
        webhook_id {uuid},
        installation_id {uuid},
        extension_key text,
        org_id text,
        tapped {long} not null,
        dropped {long} not null,
        created_at {long} not null,
        expires_at {long} not null
    )",
    "create index listeners_token on listeners (token_id)",
    "create index listeners_expires on listeners (expires_at)",
    // Copies of requests for listeners; without securityContext, which is put in when they are read.
    "create table tapped_deliveries (
        listener_id {uuid} not null,
        sequence {long} not null,
        at {long} not null,
        delivery_id {uuid} not null,
        webhook_id {uuid} not null,
        org_id text not null,
        event_type text not null,
        attempt integer not null,
        method text not null,
        url text not null,
        headers text not null,
        body {bytes},
        body_bytes {long} not null,
        answered integer,
        answer_error text,
        answer_micros {long},
        primary key (listener_id, sequence)
    ) {insert only}",
    "create index tapped_deliveries_at on tapped_deliveries (at)",
];
