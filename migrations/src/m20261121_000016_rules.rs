//! Triggers and automations of orgs: when one of their own webhooks is called, and with what.

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
    // `kind` is trigger or automation. `conditions`, `unless` and `content` are JSON; the last two
    // of `after_minutes` and `unless` are an automation's. Written under the lock of the org's plan.
    "create table webhook_rules (
        id {uuid} primary key,
        org_id text not null,
        kind text not null,
        webhook_id {uuid} not null,
        name text not null,
        position integer not null,
        is_active integer not null,
        conditions text not null,
        content text not null,
        after_minutes integer,
        unless text,
        created_by text not null,
        created_at {long} not null,
        modified_by text not null,
        modified_at {long} not null
    )",
    "create index webhook_rules_of_org on webhook_rules (org_id, kind, position, id)",
    "create index webhook_rules_of_webhook on webhook_rules (webhook_id, position, id)",
    // What an automation waits not to happen, when it has happened: written with the event, asked
    // for when the automation's delivery is due, and gone when no delivery can be waiting any more.
    "create table automation_marks (
        event_id {uuid} not null,
        rule_id {uuid} not null,
        subject text not null,
        at {long} not null,
        primary key (rule_id, subject, event_id)
    ) {insert only}",
    "create index automation_marks_by_age on automation_marks (at)",
];
