//! The database schema of Mortise, step by step.
//!
//! One text serves both databases: words in braces stand for what the dialects write differently
//! (see `dialect`). Times are microseconds since the epoch in a 64-bit integer, ids are UUIDs
//! (16-byte blobs in SQLite; `hex(id)` shows them), documents are JSON text.
//!
//! Every step runs in a transaction of its own. A release works on its own schema and on that of
//! the next one, so that nodes can be replaced one by one: a step adds, and only a later release
//! takes away what the former no longer reads.

use sea_orm_migration::prelude::*;

mod dialect;
mod m20261121_000001_platform;
mod m20261121_000002_catalogue;
mod m20261121_000003_lifecycle;
mod m20261121_000004_delivery;
mod m20261121_000005_recovery;
mod m20261121_000006_order;
mod m20261121_000007_delivery_options;
mod m20261121_000008_upgrade;
mod m20261121_000009_connections;
mod m20261121_000010_platform_steps;
mod m20261121_000011_reconciler;
mod m20261121_000012_invoke;
mod m20261121_000013_data_keys;
mod m20261121_000014_own_webhooks;
mod m20261121_000015_pages;
mod m20261121_000016_rules;
mod m20261121_000017_tools;
mod m20261121_000018_imports;
mod m20261121_000019_grants;
mod m20261121_000020_visits;
mod m20261121_000021_own_secrets;

/// All steps, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_platform::Migration),
            Box::new(m20261121_000002_catalogue::Migration),
            Box::new(m20261121_000003_lifecycle::Migration),
            Box::new(m20261121_000004_delivery::Migration),
            Box::new(m20261121_000005_recovery::Migration),
            Box::new(m20261121_000006_order::Migration),
            Box::new(m20261121_000007_delivery_options::Migration),
            Box::new(m20261121_000008_upgrade::Migration),
            Box::new(m20261121_000009_connections::Migration),
            Box::new(m20261121_000010_platform_steps::Migration),
            Box::new(m20261121_000011_reconciler::Migration),
            Box::new(m20261121_000012_invoke::Migration),
            Box::new(m20261121_000013_data_keys::Migration),
            Box::new(m20261121_000014_own_webhooks::Migration),
            Box::new(m20261121_000015_pages::Migration),
            Box::new(m20261121_000016_rules::Migration),
            Box::new(m20261121_000017_tools::Migration),
            Box::new(m20261121_000018_imports::Migration),
            Box::new(m20261121_000019_grants::Migration),
            Box::new(m20261121_000020_visits::Migration),
            Box::new(m20261121_000021_own_secrets::Migration),
        ]
    }
}
