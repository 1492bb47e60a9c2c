//! Rows of what was imported, and of orgs that are for development.
#![expect(
    unreachable_pub,
    reason = "the derive writes public items; the room re-exports none of them"
)]

/// By what a definition is recognised that was imported before.
pub(crate) mod imported_definition {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "imported_definitions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub org_id: String,
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub source: String,
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub part: String,
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub source_id: String,
        pub target_id: Uuid,
        #[sea_orm(column_type = "Text")]
        pub imported_by: String,
        pub imported_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An org whose own webhooks may call private addresses and plain http.
pub(crate) mod development_org {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "development_orgs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub org_id: String,
        #[sea_orm(column_type = "Text")]
        pub marked_by: String,
        pub marked_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
