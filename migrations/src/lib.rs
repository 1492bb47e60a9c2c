//! The database schema of Mortise, step by step.
//!
//! One text serves both databases: words in braces stand for what the dialects write differently
//! (see `dialect`). Times are microseconds since the epoch in a 64-bit integer, ids are UUIDs
//! (16-byte blobs in SQLite; `hex(id)` shows them), documents are JSON text.
//!
//! Every step runs in a transaction of its own. A release works on its own schema and on that of
//! the next one, so that nodes can be replaced one by one, and brought back: a step adds, and only a
//! later release takes away what the former no longer reads. Steps that a program does not know are
//! a later release's: it works on with them, unless their name says that it cannot
//! ([`ENDS_FORMER`]).

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{EntityTrait, QueryOrder};
use sea_orm_migration::seaql_migrations;

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
mod m20261122_000024_inspected_webhooks;

/// The end of the name of a step that takes away, or forbids, what releases need that do not know
/// the step: they refuse to start on a database that has it. Every other step only adds.
pub const ENDS_FORMER: &str = "_ends_former_releases";

/// How many steps the last release had, whose programs may still run on a database, or be brought
/// back to it. Every later step only adds to what these made; a test holds them to that.
///
/// Whoever releases a version sets it to the number of steps that version has.
pub const STEPS_OF_LAST_RELEASE: u32 = 20;

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
            Box::new(m20261122_000024_inspected_webhooks::Migration),
        ]
    }

    /// The steps that are applied, without those of later releases: to be brought back, a program
    /// must start where its successor has been.
    async fn get_migration_models<C>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr>
    where
        C: ConnectionTrait,
    {
        Self::install(db).await?;
        let mut applied = seaql_migrations::Entity::find()
            .order_by_asc(seaql_migrations::Column::Version)
            .all(db)
            .await?;
        let known = Self::migrations();
        let mut endings = Vec::new();
        applied.retain(|step| {
            let is_known = known.iter().any(|known| known.name() == step.version);
            if !is_known && step.version.ends_with(ENDS_FORMER) {
                endings.push(step.version.clone());
            }
            is_known
        });
        if endings.is_empty() {
            return Ok(applied);
        }
        Err(DbErr::Custom(format!(
            "a later release changed the schema in a way that this one cannot work with ({}): start \
             that release again, or one after it",
            endings.join(", ")
        )))
    }
}
