//! Rows of upgrades that wait or waited for consent, and of rollouts.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// An upgrade that waits for consent, or waited for it.
pub(crate) mod upgrade {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "upgrades")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub installation_id: Uuid,
        pub from_version_id: Uuid,
        pub version_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub digest: String,
        #[sea_orm(column_type = "Text")]
        pub plan: String,
        #[sea_orm(column_type = "Text")]
        pub growth: String,
        pub needs_authorization: i16,
        pub sealed_config: Option<Vec<u8>>,
        pub rollout_id: Option<Uuid>,
        #[sea_orm(column_type = "Text")]
        pub state: String,
        pub waiting: Option<i16>,
        #[sea_orm(column_type = "Text")]
        pub requested_by: String,
        pub deadline: Option<i64>,
        pub created_at: i64,
        pub settled_at: Option<i64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub settled_by: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A rollout: a version for all installations of an extension.
pub(crate) mod rollout_job {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "rollout_jobs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        pub version_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub version: String,
        #[sea_orm(column_type = "Text")]
        pub state: String,
        pub running: Option<i16>,
        pub dry_run: i16,
        pub per_second: i32,
        pub update_before: Option<i64>,
        #[sea_orm(column_type = "Text", nullable)]
        pub org_ids: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub from_versions: Option<String>,
        pub position: Uuid,
        pub total: Option<i64>,
        pub upgraded: i64,
        pub waiting: i64,
        pub unchanged: i64,
        pub failed: i64,
        pub skipped: i64,
        #[sea_orm(column_type = "Text", nullable)]
        pub reason: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub created_by: String,
        pub created_at: i64,
        pub started_at: Option<i64>,
        pub finished_at: Option<i64>,
        pub next_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An installation that had its turn in a rollout.
pub(crate) mod rollout_item {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "rollout_items")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub rollout_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub outcome: String,
        #[sea_orm(column_type = "Text", nullable)]
        pub reason: Option<String>,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
