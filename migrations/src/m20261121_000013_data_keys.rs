//! Rotation of data keys: which of them seals, who knows them, and the jobs that seal anew.

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
    // 0 for a key that opens only: every node must know it before anybody seals with it.
    "alter table data_keys add column seals integer not null default 1",
    // Up to which data key this node has all in its memory; 0 from a release that cannot tell.
    "alter table nodes add column known_data_key integer not null default 0",
    // A rotation is one row; its steps lock it, so that they run on any node and on one at a time.
    // `running` is 1 or null.
    "create table key_rotations (
        id {uuid} primary key,
        purpose text not null,
        key_id integer not null,
        state text not null,
        running integer,
        overlap_seconds {long} not null,
        place integer not null,
        position text not null,
        pass integer not null,
        pass_started_at {long},
        pass_found {long} not null,
        total {long},
        processed {long} not null,
        resealed {long} not null,
        unreadable {long} not null,
        steps {long} not null,
        reason text,
        created_by text not null,
        created_at {long} not null,
        activated_at {long},
        activated_revision {long},
        finished_at {long},
        next_at {long} not null
    ) {small and busy}",
    "create unique index key_rotations_running on key_rotations (purpose) where running is not null",
];
