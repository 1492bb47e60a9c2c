//! Rows of the journal of callbacks and of erasures.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// A lifecycle callback in the order in which they became visible.
pub(crate) mod journal {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "journal")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub position: i64,
        pub delivery_id: Uuid,
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        #[sea_orm(column_type = "Text")]
        pub event: String,
        pub at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What is to be erased of an installation, and how far that is.
pub(crate) mod erasure {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "erasures")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub installation_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub extension_key: String,
        #[sea_orm(column_type = "Text")]
        pub cause: String,
        pub requested_at: i64,
        pub due_at: i64,
        pub pending: Option<i16>,
        #[sea_orm(column_type = "Text")]
        pub stage: String,
        #[sea_orm(column_type = "Text")]
        pub position: String,
        #[sea_orm(column_type = "Text")]
        pub counts: String,
        pub next_at: i64,
        pub started_at: Option<i64>,
        pub finished_at: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
