//! Webhooks, events and their deliveries.

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
    "create table webhooks (
        id {uuid} primary key,
        org_id text not null,
        kind text not null,
        installation_id {uuid},
        extension_key text,
        resource_name text,
        generation integer not null,
        name text,
        description text,
        url text not null,
        subscriptions text not null,
        ignore_source_id text,
        include_events_from text,
        is_enabled integer not null,
        ordered integer not null,
        dialect text not null,
        created_by text,
        created_at {long} not null,
        modified_at {long} not null
    )",
    "create index webhooks_org on webhooks (org_id, id)",
    "create index webhooks_extension on webhooks (extension_key)",
    "create unique index webhooks_resource on webhooks (installation_id, resource_name)",
    // Where deliveries go or went: outlives its webhook, so that history keeps its tenant, and
    // holds neither an address nor a secret. Lifecycle callbacks have one of the id of their
    // installation.
    "create table endpoints (
        id {uuid} primary key,
        org_id text not null,
        lane text not null,
        installation_id {uuid},
        extension_key text,
        created_at {long} not null
    )",
    "create index endpoints_org on endpoints (org_id, id)",
    "create index endpoints_extension on endpoints (extension_key, id)",
    "create index endpoints_installation on endpoints (installation_id)",
    // What delivering found out about an endpoint; written by delivery, never by lifecycle.
    "create table endpoint_states (
        endpoint_id {uuid} primary key,
        health text not null,
        breaker_until {long},
        consecutive_failures integer not null,
        last_success_at {long},
        last_failure_at {long},
        last_error text,
        updated_at {long} not null
    )",
    "create table events (
        id {uuid} primary key,
        org_id text not null,
        event_type text not null,
        department_id text,
        event_time {long} not null,
        origin {short} not null,
        source_id text,
        actor text,
        event_key text,
        accepted_at {long} not null,
        payload {bytes} not null,
        previous {bytes}
    ) {insert only}",
    // Ids that callers gave to their events; the first one wins.
    "create table event_keys (
        org_id text not null,
        event_key text not null,
        event_id {uuid} not null,
        deliveries integer not null,
        accepted_at {long} not null,
        primary key (org_id, event_key)
    ) {clustered}",
    "create index event_keys_age on event_keys (accepted_at)",
    // The first attempt lives in the row. `due_at` is set only while a row waits for somebody to
    // claim it, `ordered` only while a row of an ordered endpoint is unresolved: an ordinary
    // delivery touches no index after its insert.
    "create table deliveries (
        id {uuid} primary key,
        event_id {uuid} not null,
        endpoint_id {uuid} not null,
        generation integer not null,
        state {short} not null,
        due_at {long},
        claim {long},
        ordered {short},
        replay {short} not null default 0,
        attempts integer not null default 0,
        created_at {long} not null,
        first_at {long},
        first_status integer,
        first_micros {long},
        first_error text,
        first_detail text
    ) {updated in place}",
    "create index deliveries_history on deliveries (endpoint_id, id)",
    "create index deliveries_due on deliveries (endpoint_id, due_at) where due_at is not null",
    // What is held waits for nobody's due time, so that this is the one way to find what is too old.
    "create index deliveries_held on deliveries (id) where due_at = 9223372036854775807",
    "create index deliveries_ordered on deliveries (endpoint_id, id) where ordered is not null",
    // Attempts from the second on.
    "create table attempts (
        delivery_id {uuid} not null,
        number integer not null,
        at {long} not null,
        status integer,
        micros {long} not null,
        error text,
        detail text,
        primary key (delivery_id, number)
    ) {clustered}",
];
