//! Sending again in bulk, the health of webhooks over time, and notices.

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
    // Since when the health is what it is, and why in words.
    "alter table endpoint_states add column health_since {long}",
    "alter table endpoint_states add column reason text",
    // What was held before this id stays held although the webhook is live again.
    "alter table endpoint_states add column keeps_held_before {uuid}",
    "update endpoint_states set health_since = coalesce(last_failure_at, updated_at)
     where health <> 'ok'",
    "create index endpoint_states_failing on endpoint_states (health_since)
     where health = 'failing'",
    // What is held, in order of acceptance: partial, so that ordinary deliveries never touch it.
    // 9223372036854775807 is held until its webhook is live again, …806 until somebody asks.
    "create index deliveries_kept on deliveries (endpoint_id, id)
     where due_at >= 9223372036854775806",
    "create index deliveries_kept_age on deliveries (id) where due_at >= 9223372036854775806",
    "create index audit_age on audit (at)",
    // The last link of a chain that was removed since it was too old: the next one follows from it.
    "alter table audit_heads add column pruned_sequence {long}",
    "alter table audit_heads add column pruned_digest {bytes}",
    // A job is one row; its steps lock it, so that a job may run on any node and on one at a time.
    "create table recovery_jobs (
        id {uuid} primary key,
        webhook_id {uuid} not null,
        org_id text not null,
        extension_key text,
        kind text not null,
        state text not null,
        running {short},
        wanted_state {short} not null,
        event_type text,
        status_code integer,
        since {long},
        until {long},
        per_second integer not null,
        position {uuid} not null,
        upper {uuid} not null,
        total {long},
        total_is_estimate {short} not null,
        processed {long} not null,
        requeued {long} not null,
        skipped text not null,
        reason text,
        created_by text not null,
        created_at {long} not null,
        started_at {long},
        finished_at {long},
        next_at {long} not null
    ) {small and busy}",
    "create unique index recovery_jobs_running on recovery_jobs (webhook_id)
     where running is not null",
    "create index recovery_jobs_next on recovery_jobs (next_at) where running is not null",
    "create index recovery_jobs_webhook on recovery_jobs (webhook_id, id)",
    "create index recovery_jobs_org on recovery_jobs (org_id, id)",
    "create index recovery_jobs_extension on recovery_jobs (extension_key, id)",
    "create table notices (
        id {uuid} primary key,
        kind text not null,
        subject text not null,
        org_id text not null,
        extension_key text,
        installation_id {uuid},
        webhook_id {uuid},
        message text not null,
        occurrences {long} not null,
        first_at {long} not null,
        last_at {long} not null,
        resolved_at {long}
    )",
    "create unique index notices_subject on notices (kind, subject)",
    "create index notices_age on notices (last_at, id)",
    "create index notices_org on notices (org_id, last_at, id)",
    "create index notices_extension on notices (extension_key, last_at, id)",
    // Who has seen a notice, and how often it had happened by then: once more shows it again.
    "create table notice_dismissals (
        notice_id {uuid} not null,
        audience text not null,
        occurrences {long} not null,
        at {long} not null,
        actor text not null,
        primary key (notice_id, audience)
    ) {clustered}",
    // Notices on their way to `notices.url`.
    "create table notice_outbox (
        id {uuid} primary key,
        body text not null,
        attempts integer not null,
        due_at {long} not null,
        created_at {long} not null
    )",
    "create index notice_outbox_due on notice_outbox (due_at)",
];
