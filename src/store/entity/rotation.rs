//! Rows of rotations of data keys.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A rotation of a data key, and how far it is.
pub(crate) mod key_rotation {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "key_rotations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub purpose: String,
        pub key_id: i32,
        #[sea_orm(column_type = "Text")]
        pub state: String,
        pub running: Option<i32>,
        pub overlap_seconds: i64,
        pub place: i32,
        #[sea_orm(column_type = "Text")]
        pub position: String,
        pub pass: i32,
        pub pass_started_at: Option<i64>,
        pub pass_found: i64,
        pub total: Option<i64>,
        pub processed: i64,
        pub resealed: i64,
        pub unreadable: i64,
        pub steps: i64,
        #[sea_orm(column_type = "Text", nullable)]
        pub reason: Option<String>,
        #[sea_orm(column_type = "Text")]
        pub created_by: String,
        pub created_at: i64,
        pub activated_at: Option<i64>,
        pub activated_revision: Option<i64>,
        pub finished_at: Option<i64>,
        pub next_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
